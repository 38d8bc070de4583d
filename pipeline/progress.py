"""How far a long job is, told to whoever listens, and what it raises when it was asked to stop."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Interrupted", "Progress", "SilentProgress"]


class Interrupted(Exception):  # noqa: N818  (not an error: the user asked)
    """The run was asked to stop; what is finished is kept."""


class Progress(Protocol):
    """Hears how far a run is."""

    def stage(self, name: str, total: int, done: int) -> None:
        """A stage begins: ``total`` items, of which ``done`` are kept from an earlier run."""

    def advance(self, items: int, failures: int) -> None:
        """So many more items of the stage are finished; so many of them failed."""

    def note(self, text: str) -> None:
        """Something worth a line."""


class SilentProgress:
    """Tells nobody."""

    def stage(self, name: str, total: int, done: int) -> None:
        """See `Progress`."""

    def advance(self, items: int, failures: int) -> None:
        """See `Progress`."""

    def note(self, text: str) -> None:
        """See `Progress`."""
