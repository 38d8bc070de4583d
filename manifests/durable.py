"""Files that are whole or not there: a temporary sibling, fsync, rename, fsync of the folder."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["TEMPORARY_SUFFIX", "fsync_folders", "fsync_path", "write_atomic", "written_whole"]

TEMPORARY_SUFFIX = ".writing"


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a machine that loses power, sees the old content or the new, never half.

    The temporary name is this call's own, on a folder that several machines share too.

    Raises
    ------
    OSError
        The system refused; no temporary file is left behind.
    """
    with written_whole(path) as stream:
        stream.write(data)


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write, as `write_atomic` does, piece by piece: it appears when the block ends without an error.

    Raises
    ------
    OSError
        The system refused; no temporary file is left behind.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_path(path.parent)


def fsync_path(path: Path) -> None:
    """Force a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folders(files: Path | Iterable[Path], root: Path) -> None:
    """Force every folder from a file's, or from those of several, up to ``root`` to disk, each once, so that the paths
    themselves survive.

    Raises
    ------
    ValueError
        A file does not lie below ``root``.
    """
    paths = [files] if isinstance(files, Path) else files
    # of the path below the root: "." has itself for a parent
    folders = {folder for path in paths for folder in path.relative_to(root).parents}
    for folder in sorted(folders, reverse=True):  # the innermost first
        fsync_path(root / folder)
