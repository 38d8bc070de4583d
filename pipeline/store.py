"""The store: Zarr v3 arrays in shards, and the commit protocol that makes a shard whole or not there.

write shard files under private names -> fsync -> rename into place -> fsync folders -> commit record by temporary file,
fsync, rename.

A chunk is one row (one picture), zstd-compressed with a checksum; a shard is one file; an array is padded to whole
shards and the true count kept in its attributes. No two writers meet in a file; `pipeline.single_writer` says which of
two that make the same shard is heard.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer
from zarr.codecs import ZstdCodec

from manifests import layout
from manifests.corpus import read_array
from manifests.durable import TEMPORARY_SUFFIX, fsync_folders, fsync_path, write_atomic
from manifests.errors import CorpusError, OutputError
from manifests.hashing import canonical_json, code_version, sha256_bytes
from manifests.records import SCHEMA_VERSION, AnyCommit, CommitRecord, FileRecord, RowT, parse_commit
from manifests.shards import encode_shard, layout_of
from pipeline.recipe import Recipe, config_sha256
from pipeline.stage_clock import timed

__all__ = [
    "ArraySpec",
    "Identity",
    "StagedFile",
    "adopt_shard",
    "commit",
    "create_array",
    "differences",
    "discard_staged",
    "holds_files",
    "is_laid_out",
    "lock_output",
    "mark_unfinished",
    "metadata_files",
    "open_output",
    "output_errors",
    "place_shard",
    "prune_arrays",
    "read_commit",
    "read_commits",
    "read_identity",
    "read_rows",
    "read_valid_commits",
    "retract",
    "shard_files",
    "stage_shard",
    "sweep",
    "sweep_staging",
    "sweep_temporaries",
]

read_rows = read_array
_STAGING = PurePosixPath(layout.LOG, "writing")  # no part of the corpus, on the same file system


@dataclass(frozen=True)
class ArraySpec:
    """An array to lay out: ``shape`` with the true count of rows first, and its attributes as (name, value).

    ``used`` are the rows that hold anything, where they are not the first of the array without a gap.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    shard_rows: int
    attributes: tuple[tuple[str, str], ...]
    used: tuple[range, ...] = ()

    @property
    def padded(self) -> int:
        """Rows with the last shard filled up."""
        last = self.used[-1].stop if self.used else self.shape[0]
        return -(-last // self.shard_rows) * self.shard_rows

    @property
    def counted(self) -> dict[str, Any]:
        """Attributes that tell the true rows: ``rows`` only where there is a gap between them."""
        gaps = {"rows": [[rows.start, rows.stop] for rows in self.used]} if len(self.used) > 1 else {}
        return {"count": self.shape[0], **gaps}


@dataclass(frozen=True)
class StagedFile:
    """A file of a shard that is whole and on disk, but under a private name: ``record`` says where it belongs."""

    temporary: Path
    record: FileRecord


class Identity(BaseModel):
    """config.json: what an output folder is for, and by how many samples it was extended."""

    schema_version: int
    code_version: str
    config: Recipe
    config_sha256: str
    extensions: tuple[Annotated[int, Field(ge=1)], ...] = ()

    @model_serializer(mode="wrap")
    def _leave_out_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A corpus that was never extended says nothing of extensions."""
        content: dict[str, Any] = handler(self)
        return {key: value for key, value in content.items() if key != "extensions" or value}

    @classmethod
    def of(cls, recipe: Recipe, extensions: Sequence[int] = ()) -> Self:
        """Of a corpus that this code begins."""
        return cls(
            schema_version=SCHEMA_VERSION,
            code_version=code_version(),
            config=recipe,
            config_sha256=config_sha256(recipe),
            extensions=tuple(extensions),
        )

    @property
    def total(self) -> int:
        """Samples in all."""
        return self.config.count + sum(self.extensions)

    def to_bytes(self) -> bytes:
        """The file."""
        return canonical_json(self.model_dump(mode="json")) + b"\n"

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return self.config


def create_array(out: Path, root: str, key: str, spec: ArraySpec, *, zstd_level: int) -> None:
    """Lay out an array and the groups above it; doing it again changes nothing.

    Parameters
    ----------
    out : Path
        The corpus folder.
    root : str
        ``"data"`` or ``"bank"``.
    key : str
        Group below it: ``<dataset>/<category>`` or the mechanism.
    spec : ArraySpec
        Shape, type, shards and attributes.
    zstd_level : int
        Compression level.
    """
    with output_errors(out):
        _create_groups(out, root, key)
        inner = spec.shape[1:]
        store = zarr.storage.MemoryStore()
        zarr.create_array(
            store,
            shape=(spec.padded, *inner),
            dtype=spec.dtype,
            chunks=(1, *inner),
            shards=(spec.shard_rows, *inner),
            compressors=ZstdCodec(level=zstd_level, checksum=True),
            fill_value=0,
            attributes={**spec.counted, **dict(spec.attributes)},
            config={"write_empty_chunks": True},
        )
        _put_metadata(out / root / key / spec.name, store)


def _create_groups(out: Path, root: str, key: str) -> None:
    folder = out / root
    for part in ("", *key.split("/")):
        folder = folder / part if part else folder
        if not (folder / "zarr.json").is_file():
            store = zarr.storage.MemoryStore()
            zarr.create_group(store)
            _put_metadata(folder, store)


def _put_metadata(folder: Path, store: zarr.storage.MemoryStore) -> None:
    """Write what zarr put in memory as zarr.json, unless the same is there already."""
    data = store._store_dict["zarr.json"].to_bytes()
    path = folder / "zarr.json"
    if path.is_file() and path.read_bytes() == data:
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data)


def stage_shard(
    out: Path, root: str, key: str, arrays: Mapping[str, NDArray[np.generic]], *, shard: int
) -> tuple[StagedFile, ...]:
    """Write one shard of each array under a private name, force it to disk, and hash it.

    Parameters
    ----------
    out, root, key
        As for `create_array`, which must have laid out the arrays.
    arrays : mapping of str to array
        By name; rows of this shard, at most as many as a shard holds.
    shard : int
        Number of the shard along the first axis.

    Returns
    -------
    tuple of StagedFile
        One for each array.

    Raises
    ------
    OutputError
        The disk is full or refuses; nothing is left behind.
    TypeError
        The rows are of another type or shape than the array's: a cast would wrap, a grey picture be copied to all
        channels, without a word.
    """
    staged: list[StagedFile] = []
    try:
        with output_errors(out):
            (out / _STAGING).mkdir(parents=True, exist_ok=True)
            for name, values in arrays.items():
                relative, data = _encoded(out, root, key, name, values, shard)
                temporary = out / _STAGING / f"{os.getpid()}-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
                with timed("write_hash"):
                    record = FileRecord(path=relative, bytes=len(data), sha256=sha256_bytes(data))
                staged.append(StagedFile(temporary, record))
                with timed("write_fsync"):
                    temporary.write_bytes(data)
                    fsync_path(temporary)
    except BaseException:
        discard_staged(staged)
        raise
    return tuple(staged)


def _encoded(out: Path, root: str, key: str, name: str, values: NDArray[np.generic], shard: int) -> tuple[str, bytes]:
    """Path of a shard's file, and its content."""
    found = layout_of(json.loads((out / root / key / name / "zarr.json").read_bytes()))
    if found is None or (values.dtype, values.shape[1:]) != (found.dtype, found.shape):
        held = "rows of another program" if found is None else f"rows of {found.dtype} {found.shape}"
        raise TypeError(f"{root}/{key}/{name}: holds {held}, got {values.dtype} {values.shape[1:]}")
    with timed("write_compress"):
        data = encode_shard(found, values)
    return layout.shard_file(root, key, name, shard, values.ndim), data


def place_shard(out: Path, staged: Sequence[StagedFile]) -> tuple[FileRecord, ...]:
    """Rename the files of a shard into place, over what may lie there."""
    with output_errors(out), timed("write_fsync"):
        targets = [out / file.record.path for file in staged]
        for file, target in zip(staged, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            file.temporary.replace(target)
        fsync_folders(targets, out)  # many share theirs: each is forced once
    return tuple(file.record for file in staged)


def discard_staged(staged: Sequence[StagedFile]) -> None:
    """Remove what was not placed."""
    for file in staged:
        file.temporary.unlink(missing_ok=True)


@timed("write_record")
def commit(out: Path, record: AnyCommit) -> None:
    """Say, last of all, that a shard is whole."""
    with output_errors(out):
        folder = out / layout.COMMITS
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / record.commit_name, record.to_bytes())


def adopt_shard(
    out: Path, other: Path, identity: CommitRecord[RowT], row_type: type[RowT], *, paths: Set[str], rows: int
) -> CommitRecord[RowT] | None:
    """Copy a shard that another corpus or bank holds, if it was computed from the same; None if there is none.

    Parameters
    ----------
    out, other : Path
        Folder to fill, whose arrays are laid out, and folder to copy from.
    identity : CommitRecord
        What the shard's record is to be, but for its files and rows.
    row_type : type
        Of its rows.
    paths : set of str
        Files that the shard consists of, relative to the folder.
    rows : int
        How many rows its record has.
    """
    try:
        record = parse_commit((other / layout.COMMITS / identity.commit_name).read_bytes(), row_type)
    except (ValidationError, OSError):
        return None
    ours = (identity.stage, identity.key, identity.shard, identity.inputs_sha256)
    if (record.stage, record.key, record.shard, record.inputs_sha256) != ours:
        return None
    if {file.path for file in record.files} != paths or len(record.rows) != rows:
        return None
    with output_errors(out):
        for file in record.files:
            target = out / file.path  # one of ours, as was just seen
            try:
                data = layout.safe_join(other, file.path).read_bytes()
            except (ValueError, OSError):
                return None
            if sha256_bytes(data) != file.sha256:
                return None
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(target, data)
            fsync_folders(target, out)
    adopted = identity.model_copy(update={"files": record.files, "rows": record.rows})
    commit(out, adopted)
    return adopted


def read_valid_commits(out: Path, stage: str, row_type: type[RowT], recipe: Recipe) -> Iterator[CommitRecord[RowT]]:
    """Records of a stage that can be trusted: of this config and code, with all files there in their size."""
    sha256, version = config_sha256(recipe), code_version()
    for record in read_commits(out, stage, row_type):
        if record.config_sha256 == sha256 and record.code_version == version and holds_files(out, record):
            yield record


def holds_files(out: Path, record: AnyCommit) -> bool:
    """Whether all files of a record are there in their size."""
    return all(_is_there(out, file) for file in record.files)


def read_commits(out: Path, stage: str, row_type: type[RowT]) -> Iterator[CommitRecord[RowT]]:
    """Records of a stage, of whatever config and code; one that cannot be read or has another's name is left out."""
    for path in sorted((out / layout.COMMITS).glob(f"{stage}--*.json")):
        try:
            record = parse_commit(path.read_bytes(), row_type)
        except (ValidationError, OSError):
            continue
        if path.name == record.commit_name:
            yield record


def read_commit(out: Path, name: str, row_type: type[RowT]) -> CommitRecord[RowT]:
    """The record of this name, which was there a moment ago.

    Raises
    ------
    CorpusError
        It cannot be read any more.
    """
    path = out / layout.COMMITS / name
    try:
        return parse_commit(path.read_bytes(), row_type)
    except (ValidationError, OSError) as error:
        raise CorpusError(f"{path}: cannot be read ({str(error).splitlines()[0]}); run generate again") from None


def _is_there(out: Path, file: FileRecord) -> bool:
    try:
        path = layout.safe_join(out, file.path)
        return path.is_file() and path.stat().st_size == file.bytes
    except (ValueError, OSError):
        return False


def shard_files(out: Path) -> set[str]:
    """Every file below data/ and bank/ that is not array or group metadata, relative to ``out``."""
    found = set()
    for root in (layout.DATA, layout.BANK):
        for path in (out / root).rglob("*"):
            if path.is_file() and path.name != "zarr.json":
                found.add(path.relative_to(out).as_posix())
    return found


def metadata_files(out: Path) -> set[str]:
    """Every zarr.json, relative to ``out``."""
    return {
        path.relative_to(out).as_posix()
        for root in (layout.DATA, layout.BANK)
        for path in (out / root).rglob("zarr.json")
    }


def is_laid_out(out: Path, root: str, key: str, names: Sequence[str]) -> bool:
    """Whether these arrays of a group, and all groups above them, have their metadata."""
    group = PurePosixPath(root, key)
    folders = [group, *group.parents[:-1], *(group / name for name in names)]
    return all((out / folder / "zarr.json").is_file() for folder in folders)


def sweep(out: Path, keep_files: set[str], keep_commits: set[str]) -> int:
    """Remove shard files, commit records and temporary files that are not to be kept; how many went.

    Touches data/, bank/, commits/ and temporary files at the top; of log/ only shards that were never placed.
    """
    with output_errors(out):
        sweep_staging(out / layout.LOG)
        commits = {p.name for p in (out / layout.COMMITS).glob("*")} - keep_commits
        gone = [out / layout.COMMITS / name for name in sorted(commits)]
        gone += [out / path for path in sorted(shard_files(out) - keep_files)]
        gone += sorted(out.glob(f"*{TEMPORARY_SUFFIX}"))
        if gone:
            mark_unfinished(out)
        for path in gone:
            path.unlink(missing_ok=True)
    return len(gone)


def sweep_staging(log: Path) -> None:
    """Remove shards that were never placed from a log folder."""
    for path in (log / _STAGING.name).glob(f"*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


def sweep_temporaries(out: Path) -> None:
    """Remove temporary files that killed writers left beside finished ones."""
    with output_errors(out):
        for root in (layout.DATA, layout.BANK, layout.COMMITS):
            for path in (out / root).rglob(f"*{TEMPORARY_SUFFIX}"):
                path.unlink(missing_ok=True)


def retract(out: Path, names: Iterable[str]) -> None:
    """Remove commit records for good, before the files that they name change: no crash brings them back."""
    with output_errors(out):
        for name in names:
            (out / layout.COMMITS / name).unlink(missing_ok=True)
        fsync_path(out / layout.COMMITS)


def prune_arrays(out: Path) -> None:
    """Remove arrays and groups that hold no shard."""
    live = {str(parent) for file in shard_files(out) for parent in PurePosixPath(file).parents}
    for root in (layout.DATA, layout.BANK):
        for folder in sorted(path for path in (out / root).rglob("*") if path.is_dir()):
            if folder.is_dir() and folder.relative_to(out).as_posix() not in live:
                shutil.rmtree(folder)


def mark_unfinished(out: Path) -> None:
    """Take away what says that the corpus is finished, before a shard of it is made anew."""
    for name in (layout.CORPUS, layout.MANIFEST):
        (out / name).unlink(missing_ok=True)
    fsync_path(out)


def open_output(out: Path, recipe: Recipe, extensions: Sequence[int] = ()) -> None:
    """Make OUT, or make sure that it is ours: empty, or begun with the same recipe and code.

    ``extensions`` are those of a new folder; one that was begun keeps its own.

    Raises
    ------
    OutputError
        OUT holds something else, another recipe's corpus, another code version's, or cannot be written.
    """
    with output_errors(out):
        if out.exists() and not out.is_dir():
            raise OutputError(f"{out}: is a file; give a folder")
        present = sorted(p.name for p in out.iterdir()) if out.is_dir() else []
        if (out / layout.CONFIG).is_file():
            _same_identity(out, recipe)
        elif [name for name in present if name != layout.LOG and not _is_unfinished_identity(name)]:
            raise OutputError(
                f"{out}: holds something else ({', '.join(present[:3])}{', …' if len(present) > 3 else ''}); "
                "give a new or empty folder"
            )
        _refuse_links(out)
        out.mkdir(parents=True, exist_ok=True)
        (out / layout.LOG).mkdir(exist_ok=True)
        if not (out / layout.CONFIG).is_file():
            with lock_output(out):  # two that begin at once with two recipes: the second must not change the first's
                _begin(out, recipe, extensions)
        (out / layout.COMMITS).mkdir(exist_ok=True)


def _begin(out: Path, recipe: Recipe, extensions: Sequence[int]) -> None:
    """Write config.json, unless another process just did."""
    if (out / layout.CONFIG).is_file():
        _same_identity(out, recipe)
        return
    write_atomic(out / layout.CONFIG, Identity.of(recipe, extensions).to_bytes())


def _refuse_links(out: Path) -> None:
    """Within a corpus nothing leads elsewhere: what lies there would be neither kept, swept nor hashed."""
    for root in (layout.DATA, layout.BANK, layout.COMMITS):
        for path in (out / root, *(out / root).rglob("*")):
            if path.is_symlink():
                raise OutputError(
                    f"{path}: is a symbolic link; put what it points to in its place (the corpus folder may be a link)"
                )


def _is_unfinished_identity(name: str) -> bool:
    """What a run leaves that was killed while it wrote its very first file."""
    return name.startswith(layout.CONFIG) and name.endswith(TEMPORARY_SUFFIX)


def read_identity(out: Path) -> Identity:
    """config.json of a corpus.

    Raises
    ------
    CorpusError
        There is none, or it is damaged.
    """
    path = out / layout.CONFIG
    try:
        return Identity.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise CorpusError(
            f"{out}: not a corpus (no {layout.CONFIG} in it); give the folder that generate wrote"
        ) from None
    except (OSError, ValidationError) as error:
        raise CorpusError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None


def _same_identity(out: Path, recipe: Recipe) -> None:
    try:
        stored = json.loads((out / layout.CONFIG).read_bytes())
        theirs, version = stored["config"], stored["code_version"]
    except (ValueError, KeyError, TypeError):
        raise OutputError(f"{out / layout.CONFIG}: is damaged; give a new folder") from None
    if version != code_version():  # asked first: another version may have other settings
        raise OutputError(
            f"{out}: was begun by code version {version}, this is {code_version()}; "
            "finish it with that version, or give a new folder"
        )
    found = list(differences(theirs, recipe.model_dump(mode="json"), "there", "here"))
    if found:
        shown = "; ".join(found[:5]) + ("; …" if len(found) > 5 else "")
        raise OutputError(f"{out}: was begun with another recipe ({shown}); use that recipe to go on, or a new folder")


def differences(first: object, second: object, there: str, here: str, where: str = "") -> Iterator[str]:
    """Settings in which two recipes as JSON differ: ``seed is 0 there and 1 here``."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted(first.keys() | second.keys()):
            inner = f"{where}.{key}" if where else key
            yield from differences(first.get(key), second.get(key), there, here, inner)
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for k, (a, b) in enumerate(zip(first, second, strict=True)):
            yield from differences(a, b, there, here, f"{where}.{k}")
    elif first != second:
        yield f"{where} is {json.dumps(first)} {there} and {json.dumps(second)} {here}"


@contextmanager
def lock_output(out: Path) -> Iterator[None]:
    """Hold OUT for this process; the kernel lets go when the process ends, however it ends.

    Raises
    ------
    OutputError
        Another process is writing here.
    """
    path = out / layout.LOG / "lock"
    with output_errors(out), path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise OutputError(
                f"{out}: another maphc2f (process {stream.read().strip() or 'unknown'}) is writing here; wait for it"
            ) from None
        stream.seek(0)
        stream.truncate()
        stream.write(str(os.getpid()))
        stream.flush()
        yield


_MAKE_ROOM = "finished shards are safe: make room, then run the same command again"
_WRITABLE = "give a folder that can be written to"
_LOCKING = "give a folder on a local disk"
_REFUSALS = {
    errno.ENOSPC: ("the disk is full", _MAKE_ROOM),
    errno.EDQUOT: ("the disk quota is used up", _MAKE_ROOM),
    errno.EFBIG: ("a file grew over the size limit", "finished shards are safe: raise the limit, see `ulimit -f`"),
    errno.EROFS: ("the file system is read-only", _WRITABLE),
    errno.EACCES: ("permission is denied", _WRITABLE),
    errno.EPERM: ("permission is denied", _WRITABLE),
    errno.EIO: ("the disk reports an error", "finished shards are safe: check the disk"),
    errno.ENOTDIR: ("a part of the path is a file", "give another path"),
    errno.ENOENT: ("the system finds no such file or folder", "give a path where files can be made"),
    errno.EEXIST: ("a file of that name is in the way", "give another folder, or rename the category"),
    errno.EISDIR: ("a folder of that name is in the way", "give another path"),
    errno.ENAMETOOLONG: ("the path is too long", "give a shorter one"),
    errno.ENOLCK: ("the file system has no locks", _LOCKING),
    errno.ENOSYS: ("the file system has no locks", _LOCKING),
    errno.EOPNOTSUPP: ("the file system has no locks", _LOCKING),
}


@contextmanager
def output_errors(out: Path) -> Iterator[None]:
    """Turn a refusal of the system into one clear line.

    Raises
    ------
    OutputError
        For a full or read-only disk, missing permission and the like.
    """
    try:
        yield
    except OSError as error:
        refusal = _REFUSALS.get(error.errno or 0)
        if refusal is None:
            raise
        what, remedy = refusal
        if remedy == _MAKE_ROOM:
            existing = next(p for p in (out, *out.absolute().parents) if p.exists())
            what += f" ({shutil.disk_usage(existing).free / 1e6:,.0f} MB free)"
        raise OutputError(f"{error.filename or out}: cannot be written, {what}; {remedy}") from None
