"""Memory and disk traffic of a run and its workers, sampled every few seconds into OUT/log/resources.jsonl.

A thread looks at the processes from outside, by psutil: the work itself is not slowed, and no record knows of it.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from manifests import layout
from pipeline.run_log import RESOURCES

__all__ = ["ResourceMonitor"]

_EVERY_S = 2.0


class ResourceMonitor:
    """Context in which this process and those that it starts are watched.

    Parameters
    ----------
    out : Path
        The corpus folder; its log/ is there.
    every_s : float
        Seconds between two samples; one more is taken at the beginning and at the end.
    """

    def __init__(self, out: Path, *, every_s: float = _EVERY_S) -> None:
        self._path = out / layout.LOG / RESOURCES
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="maphc2f-resources", daemon=True)
        self._main = psutil.Process()
        self._written: dict[tuple[int, float], int] = {}  # by process, those that ended too
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        # a thread begins with the mask of the one that starts it: signals stay with the main thread, blocked or not
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def is_running(self) -> bool:
        """Whether it still looks."""
        return self._thread.is_alive()

    def _watch(self) -> None:
        while True:
            over = self._over.is_set()
            try:
                self._append()
            except OSError:  # a full disk is told by the run itself, which needs it more
                return
            if over:
                return
            self._over.wait(self._every_s)

    def _append(self) -> None:
        found = [self._look(process) for process in self._processes()]
        main, *workers = [memory for memory in found if memory is not None]
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "run": os.getpid(),
            "elapsed_s": round(time.monotonic() - self._began, 3),
            "main_bytes": main,
            "worker_bytes": workers,
            "written_bytes": sum(self._written.values()) if self._written else None,
        }
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def _processes(self) -> list[psutil.Process]:
        try:
            return [self._main, *self._main.children(recursive=True)]
        except psutil.Error:  # one ended while it was looked at
            return [self._main]

    def _look(self, process: psutil.Process) -> int | None:
        """Resident memory, bytes; None of a process that has ended."""
        try:
            with process.oneshot():
                if hasattr(process, "io_counters"):  # macOS has none
                    self._written[process.pid, process.create_time()] = process.io_counters().write_bytes
                return int(process.memory_info().rss)
        except psutil.AccessDenied:
            return None if process.pid != self._main.pid else 0
        except psutil.Error:
            return None
