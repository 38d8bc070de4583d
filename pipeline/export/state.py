"""The folder of an export: begun for one purpose, filled part by part, whole only when ``export.json`` is there.

::

    DEST/
    ├── …                      the format's own files
    ├── LICENCES.txt           licences of the photographs
    ├── SHA256SUMS             of every file above, as `sha256sum --check` reads it
    ├── export.json            what it is; written last
    └── unfinished/            only until then: identity.json, one commit record a part, a lock
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.durable import TEMPORARY_SUFFIX, fsync_path, write_atomic
from manifests.errors import CorpusError, OutputError
from manifests.hashing import canonical_json, sha256_file
from manifests.layout import safe_join
from manifests.records import FileRecord
from manifests.splits import Shares
from pipeline.export.contract import Fragment

__all__ = [
    "DONE",
    "SUMS",
    "UNFINISHED",
    "ExportInfo",
    "Identity",
    "MechanismCount",
    "Written",
    "begin",
    "check_sums",
    "claim",
    "clear",
    "commit",
    "read_commit",
    "sums_line",
]

DONE = "export.json"
SUMS = "SHA256SUMS"
UNFINISHED = "unfinished"
_IDENTITY = "identity.json"
ModelT = TypeVar("ModelT", bound=BaseModel)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Identity(_Model):
    """What an export is for: with the same one it holds the same bytes."""

    export_version: int = 1
    format: str
    corpus: str  # its name
    config_sha256: str  # of the corpus's recipe
    manifest_sha256: str  # of its manifest
    code_version: str  # of the program that exports
    where: str | None
    limit: int | None
    shares: Shares
    seed: int
    part_samples: int


class MechanismCount(_Model):
    """Samples of a mechanism, by their first defect, and whether it is a simulation."""

    samples: int
    physical: bool


class ExportInfo(Identity):
    """export.json: what an export is, and what is in it."""

    samples: int
    normals: int
    splits: dict[str, int]  # samples by split
    mechanisms: dict[str, MechanismCount]
    classes: list[str]  # class k is the k-th
    files: int
    bytes: int
    sums_sha256: str  # of SHA256SUMS


class Written(_Model):
    """Commit record: a part is whole. Its files, and what it leaves for the index."""

    part: int
    files: tuple[FileRecord, ...]
    fragment: Fragment


def begin(dest: Path, identity: Identity) -> None:
    """Make DEST, or make sure that it was begun for the same.

    Raises
    ------
    OutputError
        DEST holds something else, or the export of something else.
    """
    if dest.exists() and not dest.is_dir():
        raise OutputError(f"{dest}: is a file; give a folder")
    if not _is_begun(dest, identity) and dest.is_dir():
        foreign = sorted(path.name for path in dest.iterdir() if not _is_ours(path))
        if foreign:
            shown = ", ".join(foreign[:3]) + (", …" if len(foreign) > 3 else "")
            raise OutputError(f"{dest}: holds something else ({shown}); give a new or empty folder")
    (dest / UNFINISHED / "log").mkdir(parents=True, exist_ok=True)


def claim(dest: Path, identity: Identity) -> ExportInfo | None:
    """Say what DEST is for, under its lock: another may have begun since. What export.json says, if it is there.

    Raises
    ------
    OutputError
        DEST was begun for something else.
    """
    if not _is_begun(dest, identity):
        write_atomic(dest / UNFINISHED / _IDENTITY, canonical_json(identity.model_dump(mode="json")) + b"\n")
    return _read(dest / DONE, ExportInfo)


def _is_begun(dest: Path, identity: Identity) -> bool:
    begun = _read(dest / DONE, ExportInfo) or _read(dest / UNFINISHED / _IDENTITY, Identity)
    if begun is not None:
        _must_be_same(dest, begun, identity)
    return begun is not None


def _is_ours(path: Path) -> bool:
    """What a run leaves that was killed before it had written what it is for."""
    held = {inner.name for inner in path.iterdir()} if path.name == UNFINISHED and path.is_dir() else {""}
    return all(name == "log" or name.endswith(TEMPORARY_SUFFIX) for name in held)


def _read(path: Path, model: type[ModelT]) -> ModelT | None:
    try:
        return model.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError:
        raise OutputError(f"{path}: is not of an export by this program; give a new or empty folder") from None


def _must_be_same(dest: Path, begun: Identity, wanted: Identity) -> None:
    for name, ours in wanted.model_dump(mode="json").items():
        theirs = begun.model_dump(mode="json")[name]
        if theirs != ours:
            raise OutputError(
                f"{dest}: was begun for another export ({name} is {json.dumps(theirs)} there and {json.dumps(ours)} "
                "here); give a new folder, or the same options to go on"
            )


def commit(dest: Path, written: Written) -> None:
    """Say, last of all, that a part is whole."""
    write_atomic(
        dest / UNFINISHED / f"{written.part:06d}.json", canonical_json(written.model_dump(mode="json")) + b"\n"
    )


def read_commit(dest: Path, part: int) -> Written | None:
    """A part's record, if it has one and its files are there in their size."""
    try:
        written = Written.model_validate_json((dest / UNFINISHED / f"{part:06d}.json").read_bytes())
        whole = all(safe_join(dest, file.path).stat().st_size == file.bytes for file in written.files)
    except (OSError, ValueError):
        return None
    return written if whole and written.part == part else None


def clear(dest: Path) -> None:
    """Remove what only an unfinished export has, and temporary files of runs that were killed."""
    for path in sorted(dest.rglob(f"*{TEMPORARY_SUFFIX}")):
        path.unlink()
    if (dest / DONE).is_file() and (dest / UNFINISHED).is_dir():
        shutil.rmtree(dest / UNFINISHED)
        fsync_path(dest)


def sums_line(file: FileRecord) -> bytes:
    """A file's line of SHA256SUMS."""
    return f"{file.sha256}  {file.path}\n".encode()


def check_sums(dest: Path, info: ExportInfo) -> None:
    """Hold every file of a finished export to its hash.

    Raises
    ------
    CorpusError
        A file is missing or is another.
    """
    if sha256_file(dest / SUMS) != info.sums_sha256:
        raise _changed(dest / SUMS, DONE)
    for line in (dest / SUMS).read_text(encoding="utf-8").splitlines():
        sha256, relative = line.split("  ", 1)
        path = safe_join(dest, relative)
        if not path.is_file() or sha256_file(path) != sha256:
            raise _changed(path, SUMS)


def _changed(path: Path, name: str) -> CorpusError:
    return CorpusError(f"{path}: is missing or not what {name} names; remove the folder and export again")
