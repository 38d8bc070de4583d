"""Files that are whole or not there: a temporary sibling, fsync, rename, fsync of the folder; hard links likewise."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "NO_LINKS",
    "TEMPORARY_SUFFIX",
    "fsync_folders",
    "fsync_path",
    "link_or_copy",
    "write_atomic",
    "written_whole",
]

TEMPORARY_SUFFIX = ".writing"
# how a file system says that a file can have no second name there
NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES})


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
    temporary = _temporary(path)
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


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file another name, in place of whatever has that name, or copy it where the system has no such links.

    Folders above are made; nothing is forced to disk.

    Raises
    ------
    OSError
        The system refused; no temporary file is left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        try:
            os.link(source, temporary)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # also after a rename: of two names of one file it does nothing


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
