"""Tasks on a Dask cluster that the user has started: the same code as at home, on a folder that all of it shares.

Before any work, the scheduler and every worker are asked what they run and what they see; a worker that joins later is
asked before its first task. A scheduler that is restarted is waited for, and what was under way is submitted again:
shards that were finished meanwhile are found finished. The workers belong to the user: their signals, threads and
lives are left alone.

Dask's own configuration holds one setting, ``maphc2f.patience``: how long to wait for a scheduler that went away, by
default ``120s`` (environment: ``DASK_MAPHC2F__PATIENCE``).
"""

from __future__ import annotations

import json
import platform
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Generic, TypeVar

from dask import config as dask_config
from dask.utils import parse_timedelta
from distributed import Client, Worker, WorkerPlugin

from manifests import layout
from manifests.errors import InputError, MaphError
from manifests.hashing import code_version
from pipeline.executor import Note, TaskLoop, Warm, quiet_dask

__all__ = ["ClusterExecutor"]

SpecT = TypeVar("SpecT")
ResultT = TypeVar("ResultT")
_DEVICE_RESOURCE = "GPU"
_CONNECT_S = 10.0
_ASK_S = 60.0
_RETRY_S = 0.5
_GO_ON = "finished shards are kept: run the same command again to go on"
# what the bytes of a corpus may depend on; and Dask, whose releases do not talk to one another
_LIBRARIES: tuple[str, ...] = (
    *("numpy", "scipy", "torch", "numba", "zarr", "numcodecs", "scikit-image", "pillow", "pywavelets"),
    *("pydantic", "pyarrow", "dask", "distributed"),
)

Software = tuple[tuple[str, str], ...]


@cache
def _software() -> Software:
    """What this process runs, as (name, version); builds of one torch for CPU and GPU are one version."""
    found = [("maphc2f code", code_version()), ("Python", ".".join(platform.python_version_tuple()[:2]))]
    for name in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found.append((name, metadata.version(name).partition("+")[0]))
    return tuple(found)


def _make_question() -> Callable[[str], tuple[Software, bool]]:
    """A function that travels by value: where maphc2f is not installed it can still say so."""

    def answer(token: str) -> tuple[Software, bool]:
        from pathlib import Path

        try:
            from pipeline.cluster import _software
        except ImportError as error:
            return (("maphc2f code", f"none ({error})"),), False
        return _software(), Path(token).is_file()

    return answer


@dataclass(frozen=True)
class _OnWorker(Generic[SpecT, ResultT]):
    """A stage's function as it is sent to a worker, which may have joined after all others were asked."""

    function: Callable[[SpecT], ResultT]
    software: Software
    out: Path

    def __call__(self, spec: SpecT) -> ResultT:
        if self.software != _software():
            raise InputError(_mismatch(f"worker on {platform.node()}", _software(), self.software))
        if not (self.out / layout.CONFIG).is_file():
            raise InputError(_unseen(f"worker on {platform.node()}", self.out))
        return self.function(spec)


class _WarmGuest(WorkerPlugin):  # type: ignore[misc]  # Dask ships no types
    """Loads what tasks need, once for each worker, and changes nothing else of it."""

    def __init__(self, warm: Warm) -> None:
        self._warm = warm

    def setup(self, worker: Worker) -> None:
        self._warm(0)  # what a worker of the user's may see of devices is the user's to say: CUDA_VISIBLE_DEVICES


class ClusterExecutor(TaskLoop):
    """The workers of a scheduler that runs already.

    Parameters
    ----------
    scheduler : str
        Address, such as ``tcp://host:8786``, or a scheduler file.
    out : Path
        The corpus folder, absolute: scheduler, workers and this process must see it under this path.
    warm : callable
        Run once in each worker process; picklable.
    note : callable
        Is told what is worth a line.

    Raises
    ------
    InputError
        No scheduler is there, or it or a worker runs other software, or does not see the folder.
    """

    def __init__(self, scheduler: str, *, out: Path, warm: Warm, note: Note) -> None:
        super().__init__(note)
        self._scheduler, self._out, self._warm = scheduler, out, warm
        self._patience_s = parse_timedelta(dask_config.get("maphc2f.patience", "120s"))
        self._name = f"maphc2f-{secrets.token_hex(4)}"
        self._threads = 0  # of all workers
        self._devices = 0.0  # where workers say that they have some, only those get tasks that use one
        self._id = ""
        quiet_dask()
        try:
            self._connect(lambda: False)
        except (OSError, TimeoutError) as error:
            raise InputError(
                f"--scheduler {scheduler}: no scheduler answers ({_first_line(error)}); start `dask scheduler` and "
                "`dask worker --nthreads 1`, see docs/cluster.md"
            ) from None

    @property
    def workers(self) -> int:
        """Processes that compute now."""
        return max(1, self._threads)

    def close(self) -> None:
        """Leave the cluster; tasks that nobody waits for any more are dropped, those that run are finished."""
        with suppress(OSError, TimeoutError):
            if self._client.status == "running":
                self._client.unregister_worker_plugin(self._name)
        self._drop_client()

    def _connect(self, stop: Callable[[], bool]) -> None:
        """Connect, wait for a worker, ask everyone, and warm the workers."""
        self._client = Client(_address(self._scheduler), set_as_default=False, timeout=_CONNECT_S, name="maphc2f")
        try:
            self._id = self._count()
            if not self._threads:
                self._note(f"waiting for workers at {self._scheduler}; Ctrl-C stops")
            while not self._threads and not stop():
                time.sleep(_RETRY_S)
                self._count()
            self._ask()
            self._client.register_plugin(_WarmGuest(self._warm), name=self._name)
        except BaseException:
            self._drop_client()
            raise

    def _drop_client(self) -> None:
        with suppress(OSError, TimeoutError):
            self._client.close(timeout=_CONNECT_S)

    def _count(self) -> str:
        """See what workers there are; the scheduler's id, which no other has."""
        info = self._client.sync(self._client.scheduler.identity, n_workers=-1, callback_timeout=_CONNECT_S)
        workers = info["workers"].values()
        self._threads = sum(worker["nthreads"] for worker in workers)
        self._devices = sum(worker["resources"].get(_DEVICE_RESOURCE, 0) for worker in workers)
        return str(info["id"])

    def _ask(self) -> None:
        """Refuse a scheduler or a worker that runs something else, or does not see the folder."""
        token = self._out / layout.LOG / f"seen-{self._name}"
        token.write_text("scheduler and workers must see this file\n", encoding="utf-8")
        question = _make_question()
        try:
            answers = {"scheduler": (self._client.run_on_scheduler(question, str(token))[0], True)}
            found = self._client.run(question, str(token), on_error="return")
        finally:
            token.unlink(missing_ok=True)
        answers |= {f"worker {address}": answer for address, answer in found.items() if isinstance(answer, tuple)}
        for who, (software, sees) in sorted(answers.items()):
            if software != _software():
                raise InputError(_mismatch(who, software, _software()))
            if not sees:
                raise InputError(_unseen(who, self._out))

    def _slots(self, *, on_device: bool) -> int:
        return int(self._devices) if on_device and self._devices else self._threads

    def _resources(self, *, on_device: bool) -> dict[str, float] | None:
        return {_DEVICE_RESOURCE: 1} if on_device and self._devices else None

    def _wrapped(self, function: Callable[[SpecT], ResultT]) -> Callable[[SpecT], ResultT]:
        return _OnWorker(function, _software(), self._out)

    def _look(self, stop: Callable[[], bool]) -> bool:
        there = self._is_there()
        if not there:
            self._restore(stop)
        return there

    def _is_there(self) -> bool:
        """Whether the scheduler is the one that was connected to."""
        if self._client.status != "running":
            return False
        had_some = bool(self._threads)
        try:
            if self._count() != self._id:  # Dask's client has found the next one by itself
                return False
        except TimeoutError:
            return True  # it is busy: a connection that is lost says so
        except OSError:
            return False
        if had_some and not self._threads:
            self._note(f"no worker is left at {self._scheduler}; waiting for one")
        return True

    def _restore(self, stop: Callable[[], bool]) -> None:
        """Wait for a scheduler at the same place, and connect to it."""
        self._note(f"the scheduler {self._scheduler} is gone; waiting {self._patience_s:.0f} s for it")
        self._drop_client()
        deadline = time.monotonic() + self._patience_s
        while not stop():
            try:
                self._connect(stop)
            except (OSError, TimeoutError):
                if time.monotonic() > deadline:
                    raise MaphError(
                        f"the scheduler {self._scheduler} went away and did not come back in "
                        f"{self._patience_s:.0f} s; {_GO_ON}"
                    ) from None
                time.sleep(_RETRY_S)
            else:
                self._note(f"the scheduler {self._scheduler} is back")
                return


def _address(scheduler: str) -> str:
    """Where a scheduler is, given its address or its file; the file of one that was restarted says something new."""
    if "://" in scheduler:
        return scheduler
    try:
        return str(json.loads(Path(scheduler).read_bytes())["address"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"--scheduler {scheduler}: is no scheduler file; give the one of `dask scheduler --scheduler-file`"
        ) from None


def _mismatch(who: str, theirs: Software, ours: Software) -> str:
    there, here = dict(theirs), dict(ours)
    differing = [
        f"{name} {there.get(name, 'none')} there, {here.get(name, 'none')} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
    return f"{who}: runs other software ({'; '.join(differing[:3])}); install the same on all, or the bytes may differ"


def _unseen(who: str, out: Path) -> str:
    return f"{who}: does not see {out}; give a folder that all machines share under one path"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
