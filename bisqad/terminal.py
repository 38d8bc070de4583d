"""Progress of a training run: what it reports to, in a terminal or nowhere."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console

from manifests.console import ConsoleProgress

__all__ = ["Progress", "Silent", "TerminalProgress"]


class Progress(Protocol):
    """Told how far a run is."""

    def stage(self, name: str, total: int) -> None:
        """A stage begins."""

    def advance(self, done: int, total: int) -> None:
        """Items of it are done."""


class Silent:
    """Progress that nobody looks at."""

    def stage(self, name: str, total: int) -> None:
        """A stage begins."""

    def advance(self, done: int, total: int) -> None:
        """Items of it are done."""


class TerminalProgress:
    """Shows how far a run is; implements `Progress`, whose stages tell how much is done in all."""

    def __init__(self, console: Console) -> None:
        self._shown = ConsoleProgress(console)
        self._done = 0

    def __enter__(self) -> Self:
        self._shown.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.__exit__(kind, error, trace)

    def stage(self, name: str, total: int) -> None:
        """A stage begins."""
        self._done = 0
        self._shown.stage(name, total, 0)

    def advance(self, done: int, total: int) -> None:
        """Items of the stage are done, of the total that it was begun with."""
        self._shown.advance(done - self._done, 0)
        self._done = done
