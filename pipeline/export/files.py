"""The files of one part: each appears whole, all are forced to disk together, and every one is hashed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from manifests.durable import TEMPORARY_SUFFIX, fsync_folders, fsync_path
from manifests.errors import OutputError
from manifests.hashing import sha256_bytes, sha256_file
from manifests.layout import safe_join
from manifests.records import FileRecord

__all__ = ["PartFiles"]


class PartFiles:
    """Files written below a folder; `settle` forces them to disk at once, which is faster than one by one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._records: dict[str, FileRecord] = {}

    def put(self, relative: str, data: bytes) -> None:
        """Write a file from memory; raises OutputError for a path that leaves the folder."""
        with self._renamed(relative) as temporary:
            temporary.write_bytes(data)
        self._records[relative] = FileRecord(path=relative, bytes=len(data), sha256=sha256_bytes(data))

    @contextmanager
    def open(self, relative: str) -> Iterator[BinaryIO]:
        """Write a file as a stream; raises OutputError for a path that leaves the folder."""
        with self._renamed(relative) as temporary:
            with temporary.open("wb") as stream:
                yield stream
            record = FileRecord(path=relative, bytes=temporary.stat().st_size, sha256=sha256_file(temporary))
        self._records[relative] = record

    @contextmanager
    def _renamed(self, relative: str) -> Iterator[Path]:
        try:
            path = safe_join(self._root, relative)
        except ValueError as error:
            raise OutputError(f"{error}; give a folder without links, and categories plain names") from None
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def settle(self) -> tuple[FileRecord, ...]:
        """Force all files, and the folders above them, to disk; their records by path."""
        paths = {relative: safe_join(self._root, relative) for relative in sorted(self._records)}
        for path in paths.values():
            fsync_path(path)
        root = Path(os.path.realpath(self._root))
        for folder in sorted({path.parent for path in paths.values()}):
            fsync_folders(folder / "file", root)
        return tuple(self._records[relative] for relative in paths)
