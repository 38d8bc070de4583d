"""Progress in a terminal: a bar for each stage of a run; plain lines where there is no terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["TerminalProgress"]


class TerminalProgress:
    """Shows how far a run is; implements `bisqad.run.Progress`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._name, self._started = "", 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end_stage()
        self._bars.stop()

    def stage(self, name: str, total: int) -> None:
        """A stage begins."""
        self._end_stage()
        self._name, self._started = name, time.monotonic()
        self._task = self._bars.add_task(name, total=total)
        if not self._console.is_terminal:
            self._console.print(f"{name}: {total:,}" if total else name)

    def advance(self, done: int, total: int) -> None:
        """Items of the stage are done."""
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total)

    def _end_stage(self) -> None:
        if self._task is not None and not self._console.is_terminal:
            self._console.print(f"{self._name}: finished in {time.monotonic() - self._started:.1f} s")
        self._task = None
