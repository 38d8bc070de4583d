"""Where work runs: in this process, or on Dask workers. Stages know neither.

The executor takes a picklable function and specs, keeps a small window of them under way, and yields results as they
come. Ctrl-C once: nothing more is started, what runs is finished and yielded. Twice: everything stops at once.
`pipeline.cluster` has the one for workers that the user has started.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from dask import config as dask_config
from distributed import Client, Future, LocalCluster, Worker, WorkerPlugin
from distributed.scheduler import KilledWorker

from manifests.errors import MaphError

__all__ = [
    "DaskExecutor",
    "Executor",
    "Interruption",
    "Note",
    "SerialExecutor",
    "TaskLoop",
    "Warm",
    "make_executor",
    "quiet_dask",
]

SpecT = TypeVar("SpecT")
ResultT = TypeVar("ResultT")
Warm = Callable[[int], object]  # is given the number of the process among those of its machine
Note = Callable[[str], None]  # is told what is worth a line
_WINDOW = 2  # tasks under way for each worker: one runs, one waits
_ONE_THREAD = dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_PR_SET_PDEATHSIG = 1  # prctl(2)
_RESCUE_NOTE = "a shard ended its worker again and again: its samples are made one by one, in a process that may die"
_PULSE_S = 2.0  # between two looks at the cluster
_RESULT_S = 60.0  # for a result to come over from the worker that has it


class Interruption:
    """Context in which SIGINT and SIGTERM ask to stop instead of stopping; a second one raises KeyboardInterrupt.

    Parameters
    ----------
    announce : callable, optional
        Called once, at the first signal.
    """

    def __init__(self, announce: Callable[[], None] | None = None) -> None:
        self.requested = False
        self._announce = announce
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if self._announce is not None:
            self._announce()


class Executor(Protocol):
    """Runs a function over specs and yields (spec, result) in the order of completion."""

    @property
    def workers(self) -> int:
        """Processes that compute, at least 1."""
        ...

    def run(
        self,
        function: Callable[[SpecT], ResultT],
        specs: Iterable[SpecT],
        *,
        stop: Callable[[], bool],
        rescue: Callable[[SpecT], ResultT] | None = None,
        on_device: bool = False,
    ) -> Iterator[tuple[SpecT, ResultT]]:
        """Yield results as they come; start nothing more once ``stop()`` is true or a task has failed.

        Parameters
        ----------
        function : callable
            Of one spec; picklable.
        specs : iterable
            What to run it on.
        stop : callable
            Whether a stop was asked for.
        rescue : callable, optional
            Takes the place of ``function`` for a spec that has ended its worker again and again.
        on_device : bool
            The function uses the device; where workers are known to have one, only those run it.

        Raises
        ------
        MaphError
            That of the first task that failed, after the tasks under way have been yielded.
        """
        ...

    def close(self) -> None:
        """End all workers."""
        ...


class SerialExecutor:
    """Everything in this process, one after another."""

    workers = 1

    def run(
        self,
        function: Callable[[SpecT], ResultT],
        specs: Iterable[SpecT],
        *,
        stop: Callable[[], bool],
        rescue: Callable[[SpecT], ResultT] | None = None,
        on_device: bool = False,
    ) -> Iterator[tuple[SpecT, ResultT]]:
        """See `Executor.run`; a task that ends its process ends this one."""
        for spec in specs:
            if stop():
                return
            yield spec, function(spec)

    def close(self) -> None:
        """Nothing to end."""


@dataclass(frozen=True)
class _Job(Generic[SpecT, ResultT]):
    """What a task is: a function and its spec; ``rescued`` says that the function is the one for the worst case."""

    function: Callable[[SpecT], ResultT]
    spec: SpecT
    rescued: bool = False


@dataclass(frozen=True)
class _Result(Generic[ResultT]):
    """What a task gave."""

    value: ResultT


class _Tasks(Generic[SpecT, ResultT]):
    """The tasks of one run: those to come, those under way, and the first failure."""

    def __init__(
        self,
        function: Callable[[SpecT], ResultT],
        specs: Iterable[SpecT],
        rescue: Callable[[SpecT], ResultT] | None,
        stop: Callable[[], bool],
    ) -> None:
        self.under_way: dict[Future, _Job[SpecT, ResultT]] = {}
        self.failure: BaseException | None = None
        self._new = (_Job(function, spec) for spec in specs)
        self._again: deque[_Job[SpecT, ResultT]] = deque()
        self._rescue, self._stop = rescue, stop
        self._ended: SimpleQueue[Future] = SimpleQueue()

    def next_job(self) -> _Job[SpecT, ResultT] | None:
        """What to submit now, if anything."""
        if self.failure is not None or self._stop():
            return None
        return self._again.popleft() if self._again else next(self._new, None)

    def add(self, future: Future, job: _Job[SpecT, ResultT]) -> None:
        """A job is under way."""
        self.under_way[future] = job
        future.add_done_callback(self._ended.put)

    def wait(self, seconds: float) -> Future | None:
        """One that has ended; None if none does in this time."""
        try:
            return self._ended.get(timeout=seconds)
        except Empty:
            return None

    def settle(self, job: _Job[SpecT, ResultT], error: BaseException | None) -> bool:
        """A job gave no result, because of an error or because it is lost; whether it is to be rescued now."""
        rescue = self._rescue if isinstance(error, KilledWorker) and not job.rescued else None
        if error is None:
            self._again.append(job)
        elif rescue is not None:
            self._again.append(_Job(rescue, job.spec, rescued=True))
        elif self.failure is None:
            self.failure = _explained(error)
        return rescue is not None

    def forget(self) -> None:
        """Nobody knows any more of what is under way."""
        self._again.extend(self.under_way.values())
        self.under_way.clear()
        self._ended = SimpleQueue()


class TaskLoop(ABC):
    """Tasks on the workers of a Dask scheduler, a window of them at a time; those that are lost are submitted again.

    Parameters
    ----------
    note : callable, optional
        Is told what is worth a line.
    """

    def __init__(self, note: Note | None = None) -> None:
        self._client: Client
        self._note: Note = note or (lambda text: None)
        self._settled = True

    @abstractmethod
    def _slots(self, *, on_device: bool) -> int:
        """Tasks that can run at once."""

    def _resources(self, *, on_device: bool) -> dict[str, float] | None:
        """What a worker must have for a task."""
        return None

    def _look(self, stop: Callable[[], bool]) -> bool:
        """Look after the cluster, and find it again where it went away; whether it still knows the tasks it was given.

        Raises
        ------
        MaphError
            It is gone for good.
        """
        return True

    def _wrapped(self, function: Callable[[SpecT], ResultT]) -> Callable[[SpecT], ResultT]:
        """The function as it is sent to the workers."""
        return function

    def run(
        self,
        function: Callable[[SpecT], ResultT],
        specs: Iterable[SpecT],
        *,
        stop: Callable[[], bool],
        rescue: Callable[[SpecT], ResultT] | None = None,
        on_device: bool = False,
    ) -> Iterator[tuple[SpecT, ResultT]]:
        """See `Executor.run`."""
        tasks = _Tasks(function, specs, rescue, stop)
        self._settled, looked = False, time.monotonic()
        self._top_up(tasks, on_device=on_device)
        while tasks.under_way:
            future = tasks.wait(_PULSE_S)
            lost = False
            if future is not None:
                job, outcome = tasks.under_way.pop(future), _outcome(future)
                del future
                if isinstance(outcome, _Result):
                    yield job.spec, outcome.value
                else:
                    lost = outcome is None
                    if tasks.settle(job, outcome):
                        self._note(_RESCUE_NOTE)
            if lost or time.monotonic() - looked > _PULSE_S:
                if not self._look(stop):
                    tasks.forget()
                looked = time.monotonic()
            self._top_up(tasks, on_device=on_device)
        self._settled = True
        if tasks.failure is not None:
            raise tasks.failure

    def _top_up(self, tasks: _Tasks[SpecT, ResultT], *, on_device: bool) -> None:
        """Submit as many as there is room for."""
        while len(tasks.under_way) < _WINDOW * max(1, self._slots(on_device=on_device)):
            job = tasks.next_job()
            if job is None:
                return
            resources = self._resources(on_device=on_device)
            future = self._client.submit(self._wrapped(job.function), job.spec, pure=False, resources=resources)
            tasks.add(future, job)


def _outcome(future: Future) -> _Result[Any] | BaseException | None:
    """What a future that has ended holds; None if its task is lost, or its result went with the worker that had it."""
    if future.status in ("cancelled", "lost"):
        return None
    try:
        error: BaseException | None = future.exception(timeout=_RESULT_S)
        return error if error is not None else _Result(future.result(timeout=_RESULT_S))
    except (CancelledError, OSError):  # TimeoutError is one
        return None


class _WarmWorker(WorkerPlugin):  # type: ignore[misc]  # Dask ships no types
    """Makes a worker leave signals to its parent, die with it, and load what tasks need once."""

    def __init__(self, warm: Warm) -> None:
        self._warm = warm

    def setup(self, worker: Worker) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # a terminal or a batch system sends them to the whole group
            signal.signal(number, signal.SIG_IGN)
        if sys.platform == "linux":
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        self._warm(int(worker.name))


class DaskExecutor(TaskLoop):
    """Worker processes of a Dask LocalCluster: spawned, one thread each."""

    def __init__(self, workers: int, *, warm: Warm, note: Note | None = None) -> None:
        super().__init__(note)
        self._workers = workers
        quiet_dask()
        # children inherit the blocked SIGINT, so that a Ctrl-C while they start does not reach them; here it waits
        resource_tracker.ensure_running()  # started later, it would unblock SIGINT in the thread that starts workers
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with ExitStack() as stack:  # whatever was begun is ended if the rest cannot be
                scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="maphc2f-"))
                self._cluster = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    # else port 8787, open to the network, and a folder left in /tmp that all users share
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0", "local_directory": scratch},
                    memory_limit=0,
                    local_directory=scratch,
                    silence_logs=logging.CRITICAL,
                    env=_ONE_THREAD,
                )
                stack.callback(self._cluster.close)
                self._client = stack.enter_context(Client(self._cluster, set_as_default=False))
                self._client.register_plugin(_WarmWorker(warm))
                self._stack = stack.pop_all()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)

    @property
    def workers(self) -> int:
        """Processes that compute."""
        return self._workers

    def _slots(self, *, on_device: bool) -> int:
        return self._workers

    def _look(self, stop: Callable[[], bool]) -> bool:
        if len(self._cluster.scheduler_info["workers"]) < self._workers:
            self._cluster.scale(self._workers)  # starts those anew that Dask has given up; no others
        return True

    def close(self) -> None:
        """End all workers; at once if tasks are under way that nobody waits for any more."""
        if not self._settled:
            for nanny in list(self._cluster.workers.values()):  # another thread takes out those that ended
                nanny.auto_restart = False
                with suppress(ProcessLookupError):
                    if nanny.pid is not None:
                        os.kill(nanny.pid, signal.SIGKILL)
        self._stack.close()


def _explained(error: BaseException) -> BaseException:
    if isinstance(error, KilledWorker):
        return MaphError(
            "worker processes died again and again on one shard, most often for want of memory; "
            "finished shards are safe: run again with fewer --workers"
        )
    return error


def quiet_dask() -> None:
    """No log lines of Dask's own in the user's terminal; no second guess at a task that kills its worker."""
    dask_config.set(
        {
            "distributed.scheduler.allowed-failures": 3,
            "distributed.comm.timeouts.connect": "60s",
            "distributed.deploy.lost-worker-timeout": "600s",  # on a busy machine a worker takes its time to come back
            "distributed.worker.multiprocessing-method": "spawn",
            "distributed.logging.distributed": "critical",
            "distributed.admin.low-level-log-length": 0,  # else each of the last 1,000 tasks is kept, spec and all
            # tasks do not run in a worker's main thread; heaps that glibc would give other threads are handed back to
            # the system whenever they are empty, and their pages faulted in again
            "distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX": 1,
            # what Dask measures for its dashboard takes a twentieth of a core, in processes that share two
            "distributed.worker.profile.enabled": False,
            "distributed.admin.tick.interval": "1s",
            "distributed.admin.system-monitor.interval": "10s",
            "distributed.scheduler.active-memory-manager.start": False,
        }
    )
    for name in ("distributed", "distributed.client"):  # Dask gives its client's logger a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)


def make_executor(workers: int, *, warm: Warm, note: Note | None = None) -> Executor:
    """Serial for one worker, Dask processes for more.

    Parameters
    ----------
    workers : int
        Processes that compute, at least 1.
    warm : callable
        Run once in each computing process before its first task, with the number of the process; picklable.
    note : callable, optional
        Is told what is worth a line.
    """
    if workers == 1:
        os.environ.update({name: value for name, value in _ONE_THREAD.items() if name not in os.environ})
        warm(0)
        return SerialExecutor()
    return DaskExecutor(workers, warm=warm, note=note)
