"""Where work runs: in this process, or on Dask workers. Stages know neither.

The executor takes a picklable function and specs, keeps a small window of them under way, and yields results as they
come. Ctrl-C once: nothing more is started, what runs is finished and yielded. Twice: everything stops at once.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from multiprocessing import resource_tracker
from types import FrameType, TracebackType
from typing import Any, Protocol, Self, TypeVar

from dask import config as dask_config
from distributed import Client, LocalCluster, WorkerPlugin, as_completed
from distributed.scheduler import KilledWorker

from manifests.errors import MaphError

__all__ = ["DaskExecutor", "Executor", "Interruption", "SerialExecutor", "make_executor"]

SpecT = TypeVar("SpecT")
ResultT = TypeVar("ResultT")
_WINDOW = 2  # tasks under way for each worker: one runs, one waits
_ONE_THREAD = dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_PR_SET_PDEATHSIG = 1  # prctl(2)


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

    workers: int

    def run(
        self, function: Callable[[SpecT], ResultT], specs: Iterable[SpecT], *, stop: Callable[[], bool]
    ) -> Iterator[tuple[SpecT, ResultT]]:
        """Yield results as they come; start nothing more once ``stop()`` is true or a task has failed.

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
        self, function: Callable[[SpecT], ResultT], specs: Iterable[SpecT], *, stop: Callable[[], bool]
    ) -> Iterator[tuple[SpecT, ResultT]]:
        """See `Executor.run`."""
        for spec in specs:
            if stop():
                return
            yield spec, function(spec)

    def close(self) -> None:
        """Nothing to end."""


class _WarmWorker(WorkerPlugin):  # type: ignore[misc]  # Dask ships no types
    """Makes a worker leave signals to its parent, die with it, and load what tasks need once."""

    def __init__(self, warm: Callable[[], None]) -> None:
        self._warm = warm

    def setup(self, worker: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):  # a terminal or a batch system sends them to the whole group
            signal.signal(number, signal.SIG_IGN)
        if sys.platform == "linux":
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        self._warm()


class DaskExecutor:
    """Worker processes of a Dask LocalCluster: spawned, one thread each."""

    def __init__(self, workers: int, *, warm: Callable[[], None]) -> None:
        self.workers = workers
        self._settled = True
        _quiet_dask()
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

    def run(
        self, function: Callable[[SpecT], ResultT], specs: Iterable[SpecT], *, stop: Callable[[], bool]
    ) -> Iterator[tuple[SpecT, ResultT]]:
        """See `Executor.run`."""
        waiting = iter(specs)
        under_way: dict[str, SpecT] = {}
        pool = as_completed(loop=self._client.loop)
        failure: BaseException | None = None

        def top_up() -> None:
            while failure is None and not stop() and len(under_way) < _WINDOW * self.workers:
                try:
                    spec = next(waiting)
                except StopIteration:
                    return
                future = self._client.submit(function, spec, pure=False)
                under_way[future.key] = spec
                pool.add(future)

        self._settled = False
        top_up()
        while under_way:
            future = next(pool)
            spec = under_way.pop(future.key)
            error = future.exception()
            if error is None:
                yield spec, future.result()
            elif failure is None:
                failure = _explained(error)
            del future
            top_up()
        self._settled = True
        if failure is not None:
            raise failure

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


def _quiet_dask() -> None:
    """No log lines of Dask's own in the user's terminal; no second guess at a task that kills its worker."""
    dask_config.set(
        {
            "distributed.scheduler.allowed-failures": 3,
            "distributed.comm.timeouts.connect": "60s",
            "distributed.worker.multiprocessing-method": "spawn",
            "distributed.logging.distributed": "critical",
        }
    )
    logging.getLogger("distributed").setLevel(logging.CRITICAL)


def make_executor(workers: int, *, warm: Callable[[], None]) -> Executor:
    """Serial for one worker, Dask processes for more.

    Parameters
    ----------
    workers : int
        Processes that compute, at least 1.
    warm : callable
        Run once in each computing process before its first task; picklable.
    """
    if workers == 1:
        os.environ.update({name: value for name, value in _ONE_THREAD.items() if name not in os.environ})
        warm()
        return SerialExecutor()
    return DaskExecutor(workers, warm=warm)
