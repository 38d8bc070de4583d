"""Progress in a terminal: a bar for each stage with rate, time left and failures; plain lines where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

__all__ = ["ConsoleProgress", "bytes_text", "duration_text"]


class _Rate(ProgressColumn):
    """Items a second since the stage began, what an earlier run left not counted."""

    def render(self, task: Task) -> Text:
        elapsed = task.finished_time if task.finished else task.elapsed
        done = task.completed - float(task.fields.get("kept", 0))
        return Text(f"{done / elapsed:.1f}/s" if elapsed and done > 0 else "-/s", style="progress.data.speed")


class ConsoleProgress:
    """Shows how far a run is: the progress that `maphc2f` and `bisqad` report to."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = RichProgress(
            TextColumn("{task.description:<13}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[trouble]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._name = ""
        self._failures = 0
        self._started = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end_stage()
        self.stop()

    def stop(self) -> None:
        """Leave the terminal to others."""
        self._bars.stop()

    def stage(self, name: str, total: int, done: int) -> None:
        """A stage begins."""
        self._end_stage()
        self._name, self._failures, self._started = name, 0, time.monotonic()
        self._task = self._bars.add_task(name, total=total, completed=done, kept=done, trouble="")
        if not self._console.is_terminal:
            kept = f" ({done:,} kept from an earlier run)" if done else ""
            self._console.print(f"{name}: {total:,}{kept}")

    def _end_stage(self) -> None:
        if self._task is not None and not self._console.is_terminal:
            trouble = f", {self._failures} not usable" if self._failures else ""
            self._console.print(f"{self._name}: finished in {duration_text(time.monotonic() - self._started)}{trouble}")
        self._task = None

    def advance(self, items: int, failures: int) -> None:
        """Items of the stage are finished."""
        self._failures += failures
        if self._task is not None:
            trouble = f"[yellow]{self._failures} not usable" if self._failures else ""
            self._bars.update(self._task, advance=items, trouble=trouble)

    def note(self, text: str) -> None:
        """A line between the bars."""
        self._console.print(text)

    def announce_stop(self) -> None:
        """First Ctrl-C."""
        self._console.print("[yellow]stopping[/yellow] after the shards under way; Ctrl-C again stops at once")

    def count(self, name: str, unit: str, *, total: int | None = None) -> Callable[[int, int], None]:
        """A function of (done, total) that drives one bar; the bar is there from the start if the total is known."""
        started = total is not None
        if total is not None:
            self.stage(f"{name} {unit}", total, 0)

        def advance(done: int, total: int) -> None:
            nonlocal started
            if not started:
                self.stage(f"{name} {unit}", total, 0)
                started = True
            if self._task is not None:
                self._bars.update(self._task, completed=done)

        return advance


def duration_text(seconds: float) -> str:
    """``42 s``, ``12 min``, ``3.4 h``."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def bytes_text(count: float) -> str:
    """``12.3 MB`` and the like, powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
