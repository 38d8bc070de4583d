"""The store: Zarr v3 arrays in shards, and the commit protocol that makes a shard whole or not there.

write shard files -> fsync files and folders -> sha256 -> commit record by temporary file, fsync, rename.

A chunk is one row (one picture), zstd-compressed with a checksum; a shard is one file; an array is padded to whole
shards and the true count kept in its attributes. Each shard is written by one task, so no two writers meet in a file.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from zarr.codecs import ZstdCodec

from manifests import layout
from manifests.corpus import read_array
from manifests.durable import TEMPORARY_SUFFIX, fsync_folders, fsync_path, write_atomic
from manifests.errors import CorpusError, OutputError
from manifests.hashing import canonical_json, code_version, sha256_bytes, sha256_file
from manifests.records import SCHEMA_VERSION, AnyCommit, CommitRecord, FileRecord, RowT, parse_commit
from pipeline.recipe import Recipe, config_sha256
from pipeline.stage_clock import timed

__all__ = [
    "ArraySpec",
    "Identity",
    "adopt_shard",
    "commit",
    "create_array",
    "is_laid_out",
    "lock_output",
    "mark_unfinished",
    "metadata_files",
    "open_output",
    "output_errors",
    "prune_arrays",
    "read_commits",
    "read_identity",
    "read_rows",
    "read_valid_commits",
    "shard_files",
    "sweep",
    "write_atomic",
    "write_shard",
]

read_rows = read_array


@dataclass(frozen=True)
class ArraySpec:
    """An array to lay out: ``shape`` with the true count of rows first, and its attributes as (name, value)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    shard_rows: int
    attributes: tuple[tuple[str, str], ...]


class Identity(BaseModel):
    """config.json: what an output folder is for."""

    schema_version: int
    code_version: str
    config: Recipe
    config_sha256: str

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
        padded = -(-spec.shape[0] // spec.shard_rows) * spec.shard_rows
        inner = spec.shape[1:]
        store = zarr.storage.MemoryStore()
        zarr.create_array(
            store,
            shape=(padded, *inner),
            dtype=spec.dtype,
            chunks=(1, *inner),
            shards=(spec.shard_rows, *inner),
            compressors=ZstdCodec(level=zstd_level, checksum=True),
            fill_value=0,
            attributes={"count": spec.shape[0], **dict(spec.attributes)},
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


def write_shard(
    out: Path, root: str, key: str, arrays: Mapping[str, NDArray[np.generic]], *, shard: int
) -> tuple[FileRecord, ...]:
    """Write one shard of each array, force it to disk, and hash it.

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
    tuple of FileRecord
        One for each array.

    Raises
    ------
    OutputError
        The disk is full or refuses.
    TypeError
        The rows are of another type or shape than the array's: a cast would wrap, a grey picture be copied to all
        channels, without a word.
    """
    records = []
    # open_array takes a config argument and pays it no heed (zarr 3.1): a black picture would not be stored
    with output_errors(out), zarr.config.set({"array.write_empty_chunks": True}):
        for name, values in arrays.items():
            array = zarr.open_array(out / root / key / name, mode="r+")
            if (values.dtype, values.shape[1:]) != (array.dtype, array.shape[1:]):
                held, got = f"{array.dtype} {array.shape[1:]}", f"{values.dtype} {values.shape[1:]}"
                raise TypeError(f"{root}/{key}/{name}: holds rows of {held}, got {got}")
            per_shard = array.shards[0] if array.shards else array.chunks[0]
            block = np.zeros((per_shard, *array.shape[1:]), dtype=array.dtype)
            block[: len(values)] = values
            relative = layout.shard_file(root, key, name, shard, array.ndim)
            path = out / relative
            path.unlink(missing_ok=True)  # zarr would first read a shard that is there, torn or not
            with timed("write_compress"):
                array[shard * per_shard : (shard + 1) * per_shard] = block
            with timed("write_fsync"):
                fsync_path(path)
            with timed("write_hash"):
                records.append(FileRecord(path=relative, bytes=path.stat().st_size, sha256=sha256_file(path)))
        with timed("write_fsync"):
            fsync_folders([out / record.path for record in records], out)  # many share theirs: each is forced once
    return tuple(records)


@timed("write_record")
def commit(out: Path, record: AnyCommit) -> None:
    """Say, last of all, that a shard is whole."""
    with output_errors(out):
        folder = out / layout.COMMITS
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / layout.commit_name(record.stage, record.key, record.shard), record.to_bytes())


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
    name = layout.commit_name(identity.stage, identity.key, identity.shard)
    try:
        record = parse_commit((other / layout.COMMITS / name).read_bytes(), row_type)
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


def read_valid_commits(out: Path, stage: str, row_type: type[RowT], recipe: Recipe) -> list[CommitRecord[RowT]]:
    """Records of a stage that can be trusted: of this config and code, with all files there in their size."""
    sha256, version = config_sha256(recipe), code_version()
    return [
        record
        for record in read_commits(out, stage, row_type)
        if record.config_sha256 == sha256 and record.code_version == version
        if all(_is_there(out, file) for file in record.files)
    ]


def read_commits(out: Path, stage: str, row_type: type[RowT]) -> list[CommitRecord[RowT]]:
    """Records of a stage, of whatever config and code; one that cannot be read or has another's name is left out."""
    found: list[CommitRecord[RowT]] = []
    for path in sorted((out / layout.COMMITS).glob(f"{stage}--*.json")):
        try:
            record = parse_commit(path.read_bytes(), row_type)
        except (ValidationError, OSError):
            continue
        if path.name == layout.commit_name(record.stage, record.key, record.shard):
            found.append(record)
    return found


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

    Touches data/, bank/, commits/ and temporary files at the top; never log/ nor anything else.
    """
    with output_errors(out):
        commits = {p.name for p in (out / layout.COMMITS).glob("*")} - keep_commits
        gone = [out / layout.COMMITS / name for name in sorted(commits)]
        gone += [out / path for path in sorted(shard_files(out) - keep_files)]
        gone += sorted(out.glob(f"*{TEMPORARY_SUFFIX}"))
        if gone:
            mark_unfinished(out)
        for path in gone:
            path.unlink(missing_ok=True)
    return len(gone)


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


def open_output(out: Path, recipe: Recipe) -> None:
    """Make OUT, or make sure that it is ours: empty, or begun with the same recipe and code.

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
                _begin(out, recipe)
        (out / layout.COMMITS).mkdir(exist_ok=True)


def _begin(out: Path, recipe: Recipe) -> None:
    """Write config.json, unless another process just did."""
    if (out / layout.CONFIG).is_file():
        _same_identity(out, recipe)
        return
    identity = {
        "schema_version": SCHEMA_VERSION,
        "code_version": code_version(),
        "config": recipe.model_dump(mode="json"),
        "config_sha256": config_sha256(recipe),
    }
    write_atomic(out / layout.CONFIG, canonical_json(identity) + b"\n")


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
    differences = list(_differences(theirs, recipe.model_dump(mode="json")))
    if differences:
        shown = "; ".join(differences[:5]) + ("; …" if len(differences) > 5 else "")
        raise OutputError(f"{out}: was begun with another recipe ({shown}); use that recipe to go on, or a new folder")


def _differences(theirs: object, ours: object, where: str = "") -> Iterator[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            yield from _differences(theirs.get(key), ours.get(key), f"{where}.{key}" if where else key)
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for k, (a, b) in enumerate(zip(theirs, ours, strict=True)):
            yield from _differences(a, b, f"{where}.{k}")
    elif theirs != ours:
        yield f"{where} is {json.dumps(theirs)} there and {json.dumps(ours)} here"


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
