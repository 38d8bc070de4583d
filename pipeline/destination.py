"""The folder that a command writes to: apart from what it is made from, and held by one process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manifests.errors import OutputError

__all__ = ["hold_folder", "overlap"]


def overlap(a: Path, b: Path) -> bool:
    """Whether two paths are one, or one lies within the other; links are followed."""
    ours, theirs = a.resolve(), b.resolve()
    return ours.is_relative_to(theirs) or theirs.is_relative_to(ours)


@contextmanager
def hold_folder(folder: Path, *, refusal: str) -> Iterator[None]:
    """Hold a folder, with no file in it to show for it; the kernel lets go when the process ends, however it ends.

    Raises
    ------
    OutputError
        Another process holds it: what ``refusal`` says.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"{folder}: {refusal}") from None
        yield
    finally:
        os.close(descriptor)
