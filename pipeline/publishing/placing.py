"""The corpus in the publication: every file linked or copied to its place, or packed where a host takes fewer files.

Each file is hashed as it is placed and compared with what the corpus says of it, so no damaged file is ever published.
A hard link costs no disk; where the file system has none, or the two folders lie on different ones, the file is copied.
An archive is an uncompressed tar with its members sorted and no trace of when and by whom it was made.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from manifests import layout
from manifests.durable import NO_LINKS, fsync_path, written_whole
from manifests.errors import CorpusError
from manifests.hashing import sha256_file
from manifests.records import FileRecord

__all__ = ["ARCHIVES", "HOSTS", "HostLimits", "is_packed", "must_pack", "pack_files", "place_files"]

ARCHIVES = "archives"
_BLOCK = 1 << 20
_PACKED = (layout.DATA, layout.BANK, layout.COMMITS)


@dataclass(frozen=True)
class HostLimits:
    """What usual hosts take: files in all and in one folder, and bytes of an archive."""

    files: int = 100_000
    folder: int = 10_000
    archive_bytes: int = 10_000_000_000


HOSTS = HostLimits()
_DOCUMENTS = 100  # of the files in all, those kept for what is not the corpus


def must_pack(paths: Sequence[str], limits: HostLimits) -> bool:
    """Whether these files are too many for usual hosts, in all or in one folder (its folders count, too)."""
    entries = {PurePosixPath(path) for path in paths}
    entries |= {parent for path in list(entries) for parent in path.parents}
    crowded = Counter(entry.parent for entry in entries if entry.name)
    return len(paths) > limits.files - _DOCUMENTS or max(crowded.values(), default=0) > limits.folder


def is_packed(path: str) -> bool:
    """Whether a file of the corpus goes into an archive, where there are archives: all but the tables at its top."""
    return PurePosixPath(path).parts[0] in _PACKED


def place_files(
    out: Path, target: Path, files: Sequence[FileRecord], *, advance: Callable[[int, int], None]
) -> dict[str, str]:
    """Link or copy files of a corpus; those that are there already, and right, are kept.

    Parameters
    ----------
    out, target : Path
        The corpus folder, and the one to fill.
    files : sequence of FileRecord
        With paths relative to both.
    advance : callable
        Told (files done, of how many).

    Returns
    -------
    dict of str to str
        sha256 by path.

    Raises
    ------
    CorpusError
        A file is missing, or is not what the corpus says.
    """
    folders: set[Path] = set()
    for done, file in enumerate(files):
        path = target / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (path.is_file() and sha256_file(path) == file.sha256):
            path.unlink(missing_ok=True)
            _place(_source(out, file), path, file)
        folders |= {target / parent for parent in PurePosixPath(file.path).parents}
        advance(done + 1, len(files))
    for folder in sorted(folders):
        fsync_path(folder)
    return {file.path: file.sha256 for file in files}


def _source(out: Path, file: FileRecord) -> Path:
    try:
        path = layout.safe_join(out, file.path)
    except ValueError as error:
        raise CorpusError(f"{out}: {error}; run `maphc2f verify {out}`") from None
    if not path.is_file():
        raise CorpusError(f"{path}: the file is missing; run `maphc2f verify {out}`")
    return path


def _place(source: Path, path: Path, file: FileRecord) -> None:
    try:
        os.link(source, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with source.open("rb") as stream, written_whole(path) as copy:
            checked = _Checked(stream, file, source)
            while block := checked.read(_BLOCK):
                copy.write(block)
            checked.finish()
        return
    if sha256_file(path) != file.sha256:
        path.unlink()
        raise _differs(source)


def _differs(source: Path) -> CorpusError:
    return CorpusError(f"{source}: differs from the sha256 that the corpus gives for it; run `maphc2f verify`")


class _Checked:
    """A stream that hashes what is read of it, and knows at the end whether it was the file."""

    def __init__(self, stream: BinaryIO, file: FileRecord, source: Path) -> None:
        self._stream, self._file, self._source = stream, file, source
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        self._digest.update(block)
        return block

    def finish(self) -> None:
        """Raise CorpusError if what was read is not the file."""
        if self._digest.hexdigest() != self._file.sha256:
            raise _differs(self._source)


def pack_files(
    out: Path,
    dest: Path,
    files: Sequence[FileRecord],
    *,
    inside: str,
    limits: HostLimits,
    advance: Callable[[int, int], None],
) -> list[str]:
    """Pack files of a corpus into archives; those that are there already are kept.

    Parameters
    ----------
    out, dest : Path
        The corpus folder, and the publication.
    files : sequence of FileRecord
        With paths relative to the corpus, sorted.
    inside : str
        Folder that the members lie in.
    limits : HostLimits
        Bytes of an archive; one file that is larger has an archive to itself.
    advance : callable
        Told (files done, of how many).

    Returns
    -------
    list of str
        Paths of the archives, relative to ``dest``.

    Raises
    ------
    CorpusError
        A file is missing, or is not what the corpus says.
    """
    names, done = [], 0
    for number, part in enumerate(_parts(files, limits.archive_bytes)):
        name = f"{ARCHIVES}/{inside}-{number:05d}.tar"
        names.append(name)
        if not (dest / name).is_file():
            _write_archive(out, dest / name, part, inside)
        done += len(part)
        advance(done, len(files))
    return names


def _parts(files: Sequence[FileRecord], most_bytes: int) -> Iterator[list[FileRecord]]:
    part: list[FileRecord] = []
    held = 0
    for file in files:
        if part and held + file.bytes > most_bytes:
            yield part
            part, held = [], 0
        part.append(file)
        held += file.bytes
    if part:
        yield part


def _write_archive(out: Path, path: Path, files: Sequence[FileRecord], inside: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        written_whole(path) as target,
        tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for file in files:
            source = _source(out, file)
            member = tarfile.TarInfo(f"{inside}/{file.path}")  # mtime, owner and group are 0
            member.size, member.mode = source.stat().st_size, 0o644
            with source.open("rb") as stream:
                checked = _Checked(stream, file, source)
                archive.addfile(member, cast("BinaryIO", checked))
                checked.finish()
