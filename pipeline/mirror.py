"""A corpus in a bucket, worked on through a folder of this machine by the same code as one on disk.

A run keeps a *mirror*: a private folder with every small file of the corpus (recipe, tables, records, metadata), the
sources for real, and for every other shard a stand-in: a sparse file of its size. What the run writes or removes there
is then put or removed in the bucket, what says that the corpus is finished being removed first and put last.

A task gets what it needs from the bucket, works in a scratch folder, and puts files, then its commit record where none
is: the first one wins, and who comes second must have made the same. Sources and trajectories are fetched once a
machine into a cache, known and checked by their sha256.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from manifests import layout
from manifests.durable import link_or_copy
from manifests.errors import CorpusError, MaphError, OutputError
from manifests.hashing import sha256_bytes, sha256_file
from manifests.object_store import ObjectPath, Place
from manifests.records import FileRecord
from pipeline.bank import PER_SHARD, BankSpec
from pipeline.inventory import SourcesSpec
from pipeline.lease import LEASE, Lease, still_holds
from pipeline.store import output_errors, sweep_staging
from pipeline.synthesis import SampleSpec

if TYPE_CHECKING:
    from pipeline.executor import Executor  # loads Dask, which verification can do without

__all__ = ["Lent", "Site", "cache_folder", "looked_into", "worked_on"]

SpecT = TypeVar("SpecT")
ResultT = TypeVar("ResultT")
Lent = Callable[[Sequence[FileRecord]], AbstractContextManager[None]]  # in it these files are there for real

_METADATA = "zarr.json"
_CRASHES = ("crashes.jsonl", "crashes.txt")  # see pipeline.apart
_LOGS = (".jsonl", "crashes.txt")
_AT_ONCE = 8  # objects of one task under way
_CACHED_S = 7 * 86400.0  # what was not used for so long leaves the cache
_FIRST_TO_GO = (layout.CORPUS, layout.MANIFEST)
_LAST_TO_COME = (layout.MANIFEST, layout.CORPUS)


@dataclass(frozen=True)
class Site:
    """Where a run works: a folder, and what is to be done with its executor."""

    folder: Path
    executor: Callable[[Executor], Executor] = lambda executor: executor


@contextmanager
def worked_on(place: Place) -> Iterator[Site]:
    """The folder to make a corpus in; of one in a bucket, the mirror, with the lease held and all put at the end.

    Raises
    ------
    OutputError
        The prefix holds something else, or another run works there.
    StorageError
        The store cannot be reached or refuses.
    """
    if isinstance(place, Path):
        yield Site(place)
        return
    _refuse_others(place)
    _prune_cache()
    with Lease(place) as lease, _mirror_of(place) as mirror:
        sweep_staging(_kept_log(place))
        mirror.pull()
        try:
            yield Site(mirror.folder, partial(_PublishingExecutor, mirror, lease))
        except Exception:  # what is finished is kept; what went wrong is what matters
            with suppress(MaphError):
                mirror.publish(lease, log=True)
            raise
        mirror.publish(lease, log=True)


@contextmanager
def looked_into(place: Place, *, stages: Sequence[str] = ()) -> Iterator[tuple[Path, Lent]]:
    """A corpus to be read: its folder, and a context in which given files of it are there for real.

    Parameters
    ----------
    place : Path or ObjectPath
        The corpus.
    stages : sequence of str
        Whose shards are there for real all the time, sources apart, which always are.
    """
    if isinstance(place, Path):
        yield place, _at_hand
        return
    with _mirror_of(place) as mirror:
        mirror.pull(stages=("sources", *stages), checked=False)
        yield mirror.folder, mirror.lent


def _at_hand(files: Sequence[FileRecord]) -> AbstractContextManager[None]:
    """As `Lent`, of a folder."""
    return nullcontext()


def _refuse_others(place: ObjectPath) -> None:
    """Before anything is put there."""
    names = [name for name in place.names() if name != layout.LOG]
    if names and layout.CONFIG not in names:
        raise OutputError(
            f"{place}: holds something else ({', '.join(names[:3])}{', …' if len(names) > 3 else ''}); "
            "give a new or empty prefix"
        )


@contextmanager
def _mirror_of(place: ObjectPath) -> Iterator[_Mirror]:
    with _scratch(place, None) as folder:
        yield _Mirror(place, folder)


@contextmanager
def _scratch(place: ObjectPath, within: Path | None) -> Iterator[Path]:
    """A folder of this machine for a while; what its disk refuses is one clear line."""
    with tempfile.TemporaryDirectory(prefix="maphc2f-", dir=within) as name:
        folder = Path(name)
        with output_errors(folder), _named(place, folder):
            yield folder


@contextmanager
def _named(place: ObjectPath, folder: Path) -> Iterator[None]:
    """Messages name the place that the user gave, not the folder that it is worked on through."""
    try:
        yield
    except MaphError as error:
        if str(folder) not in str(error) or "cannot be written" in str(error):  # a full disk is this machine's
            raise
        raise type(error)(str(error).replace(str(folder), str(place))) from None


class _Files(BaseModel):
    """What is read of a commit record."""

    model_config = ConfigDict(extra="ignore")
    files: tuple[FileRecord, ...]


def _files_of(record: bytes) -> tuple[FileRecord, ...]:
    try:
        return _Files.model_validate_json(record).files
    except ValueError:
        return ()  # damaged: swept, or found by verification


def _is_shard(name: str) -> bool:
    parts = name.split("/")
    return parts[0] in {layout.DATA, layout.BANK} and parts[-1] != _METADATA


class _Mirror:
    """The folder of a prefix; ``_there`` has what the bucket holds: the hash of a small file, "" for a shard."""

    def __init__(self, place: ObjectPath, folder: Path) -> None:
        self.place, self.folder = place, folder
        self._there: dict[str, str] = {}
        self._real: set[str] = set()  # shards that are no stand-ins

    def pull(self, *, stages: Sequence[str] = ("sources",), checked: bool = True) -> None:
        """Bring what the bucket holds; shards of these stages for real, all others as stand-ins."""
        sizes = self.place.sizes()
        sizes.pop(LEASE, None)
        targets = {name: self._path(name) for name in sizes}
        small = [name for name in sizes if not _is_shard(name)]
        _in_parallel(lambda name: _write(targets[name], _get(self.place / name)), small)
        self._there = {name: sha256_file(targets[name]) for name in small}
        for name in sizes.keys() - self._there.keys():
            _stand_in(targets[name], sizes[name])
            self._there[name] = ""
        for path in sorted((self.folder / layout.COMMITS).glob("*")):
            if path.name.split("--")[0] in stages:
                self._bring([f for f in _files_of(path.read_bytes()) if sizes.get(f.path) == f.bytes], checked)

    def _bring(self, files: Sequence[FileRecord], checked: bool) -> None:
        self._real.update(file.path for file in files)
        if checked:
            fetch(self.place, files, self.folder)
        else:
            _in_parallel(lambda f: _write(self._path(f.path), _get(self.place / f.path)), files)

    def _path(self, name: str) -> Path:
        try:
            return layout.safe_join(self.folder, name)
        except ValueError as error:
            raise OutputError(f"{self.place}: {error}; remove that object") from None

    @contextmanager
    def lent(self, files: Sequence[FileRecord]) -> Iterator[None]:
        """These files for real, as the bucket has them; then stand-ins again."""
        held = [file for file in files if file.path in self._there and file.path not in self._real]
        self._bring(held, checked=False)
        yield
        self._real.difference_update(file.path for file in held)
        for file in held:
            _stand_in(self._path(file.path), self._path(file.path).stat().st_size)

    def publish(self, lease: Lease, *, log: bool = False) -> None:
        """Make the bucket hold what the folder holds: removals first, then small files, what says "finished" last."""
        lease.must_hold()
        if log:
            self._take_crashes()
        present = {path.relative_to(self.folder).as_posix(): path for path in _files_below(self.folder)}
        gone = self._there.keys() - present.keys()
        for some in ([n for n in _FIRST_TO_GO if n in gone], _under(layout.COMMITS, gone), sorted(gone)):
            self.remove([name for name in some if name in self._there])
        changed = {name: data for name, data in self._small(present, log=log) if self._is_new(name, data)}
        last = [name for name in _LAST_TO_COME if name in changed]
        if layout.CONFIG in changed:  # the corpus begins with it
            _create(self.place / layout.CONFIG, changed[layout.CONFIG])
        rest = changed.keys() - {layout.CONFIG, *last}
        _in_parallel(lambda name: (self.place / name).write(changed[name]), sorted(rest))
        for name in last:
            (self.place / name).write(changed[name])
        self._there |= {name: sha256_bytes(data) for name, data in changed.items()}

    def _take_crashes(self) -> None:
        """What tasks noted of deaths goes from this machine's log of them to that of the corpus."""
        for name in _CRASHES:
            noted = _kept_log(self.place) / name
            if noted.is_file() and noted.stat().st_size:
                with self._path(f"{layout.LOG}/{name}").open("ab") as stream:
                    stream.write(noted.read_bytes())
                noted.unlink()

    def _small(self, present: Mapping[str, Path], *, log: bool) -> Iterator[tuple[str, bytes]]:
        """Files of a run that are put by it, not by a task: neither shards nor, but at the end, the log."""
        for name, path in present.items():
            if _is_shard(name) or (name.startswith(f"{layout.LOG}/") and not (log and name.endswith(_LOGS))):
                continue
            yield name, path.read_bytes()

    def _is_new(self, name: str, data: bytes) -> bool:
        return self._there.get(name) != sha256_bytes(data)

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects and what stands for them."""
        self.place.remove(names)
        for name in names:
            self._there.pop(name, None)
            self._path(name).unlink(missing_ok=True)

    def task(self, spec: SpecT, lease: Lease) -> _Task[SpecT]:
        """A task that can run on any machine."""
        arrays, records = _needs(spec)
        metadata = [path for array in arrays for path in sorted(self.folder.glob(f"{array}/{_METADATA}"))]
        return _Task(
            place=self.place,
            token=lease.token,
            spec=spec,
            inputs=tuple(f for name in records for f in _files_of(self._path(name).read_bytes())),
            metadata={path.relative_to(self.folder).as_posix(): path.read_bytes() for path in metadata},
        )

    def redo(self, specs: Iterable[object]) -> None:
        """Take away the records of shards that are to be made although they are there: made from something else."""
        names = [f"{layout.COMMITS}/{name}" for spec in specs for name in _own_records(spec)]
        self.remove([name for name in names if name in self._there])

    def accept(self, made: _Made[Any]) -> None:
        """Take in what a task has put."""
        for name, data in {**made.metadata, **made.records}.items():
            _write(self._path(name), data)
            self._there[name] = sha256_bytes(data)
        for name, data in made.records.items():
            files = _files_of(data)
            if name.startswith(f"{layout.COMMITS}/sources--"):
                self._bring(files, checked=True)
            for file in files:
                self._there[file.path] = ""
                if file.path not in self._real:
                    _stand_in(self._path(file.path), file.bytes)


def _files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _under(folder: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(f"{folder}/"))


def _own_records(spec: object) -> list[str]:
    """File names of the records that a spec's task writes."""
    shards = (spec,) if isinstance(spec, SourcesSpec | BankSpec) else _samples(spec)
    return [shard.commit_name for shard in shards]


def _needs(spec: object) -> tuple[list[str], list[str]]:
    """Arrays whose metadata a spec's task needs, as patterns, and records whose shards it reads."""
    if isinstance(spec, SourcesSpec):
        return [], []
    if isinstance(spec, BankSpec):
        return [f"{layout.BANK}/{spec.mechanism}/*"], []
    drawn = {(d.mechanism, d.trajectory // PER_SHARD) for s in _samples(spec) for r in s.rows for d in r.planned()}
    keys = dict.fromkeys(one.key for one in _samples(spec))
    mechanisms = sorted({mechanism for mechanism, _ in drawn})
    records = [layout.commit_name("sources", key, 0) for key in keys]
    records += [layout.commit_name("bank", mechanism, shard) for mechanism, shard in sorted(drawn)]
    arrays = [*(f"{layout.DATA}/{key}/*" for key in keys), *(f"{layout.BANK}/{name}/*" for name in mechanisms)]
    return arrays, [f"{layout.COMMITS}/{name}" for name in records]


def _samples(spec: object) -> tuple[SampleSpec, ...]:
    return cast("tuple[SampleSpec, ...]", spec)


class _PublishingExecutor:
    """An executor whose tasks work in scratch folders and put what they make in the bucket."""

    def __init__(self, mirror: _Mirror, lease: Lease, inner: Executor) -> None:
        self._mirror, self._lease, self._inner = mirror, lease, inner

    @property
    def workers(self) -> int:
        """See `Executor.workers`."""
        return self._inner.workers

    def run(
        self,
        function: Callable[[SpecT], ResultT],
        specs: Iterable[SpecT],
        *,
        stop: Callable[[], bool],
        rescue: Callable[[SpecT], ResultT] | None = None,
        on_device: bool = False,
    ) -> Iterator[tuple[SpecT, ResultT]]:
        """See `Executor.run`."""
        wanted = list(specs)
        self._mirror.publish(self._lease)
        self._mirror.redo(wanted)
        pairs = self._inner.run(
            _Work(function),
            (self._mirror.task(spec, self._lease) for spec in wanted),
            stop=lambda: stop() or self._lease.lost,
            rescue=rescue and _Work(rescue),
            on_device=on_device,
        )
        for task, made in pairs:
            self._mirror.accept(made)
            yield task.spec, made.result
        self._lease.must_hold()

    def close(self) -> None:
        """See `Executor.close`."""
        self._inner.close()


@dataclass(frozen=True)
class _Task(Generic[SpecT]):
    """What a worker needs to make shards of a corpus in a bucket."""

    place: ObjectPath
    token: str  # of the lease
    spec: SpecT
    inputs: tuple[FileRecord, ...]
    metadata: Mapping[str, bytes]


@dataclass(frozen=True)
class _Made(Generic[ResultT]):
    """What a task returned, and the small files that it put."""

    result: ResultT
    metadata: Mapping[str, bytes]
    records: Mapping[str, bytes]


@dataclass(frozen=True)
class _Work(Generic[SpecT, ResultT]):
    """A stage's function as it is run on a task: in a scratch folder; then its files are put, then its records."""

    function: Callable[[SpecT], ResultT]

    def __call__(self, task: _Task[SpecT]) -> _Made[ResultT]:
        """Run it."""
        work = cache_folder() / "work"
        work.mkdir(exist_ok=True)
        with _scratch(task.place, work) as folder:
            (folder / layout.LOG).symlink_to(_kept_log(task.place), target_is_directory=True)
            for name, data in task.metadata.items():
                _write(layout.safe_join(folder, name), data)
            fetch(task.place, task.inputs, folder)
            result = self.function(_moved(task.spec, folder))
            return _put_all(task, result, folder)


def _kept_log(place: ObjectPath) -> Path:
    """The log of all tasks of a corpus on this machine: what they noted of a death outlives their folders."""
    folder = cache_folder() / "logs" / sha256_bytes(str(place).encode())[:16]
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)  # it was used just now
    return folder


def _moved(spec: SpecT, folder: Path) -> SpecT:
    """The spec with this folder to work in."""
    if isinstance(spec, tuple):
        return cast("SpecT", tuple(_moved(one, folder) for one in spec))
    return cast("SpecT", replace(cast("Any", spec), out=folder))


def _put_all(task: _Task[SpecT], result: ResultT, folder: Path) -> _Made[ResultT]:
    metadata = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob(_METADATA))}
    metadata = {name: data for name, data in metadata.items() if task.metadata.get(name) != data}
    records = {f"{layout.COMMITS}/{p.name}": p.read_bytes() for p in sorted((folder / layout.COMMITS).iterdir())}
    files = [file for data in records.values() for file in _files_of(data)]
    _in_parallel(lambda name: (task.place / name).write(metadata[name]), metadata)
    _in_parallel(lambda file: (task.place / file.path).write(folder / file.path), files)
    if not still_holds(task.place, task.token):  # a later run may have swept what was just put
        raise OutputError(f"{task.place}: another run has taken over; finished shards are safe")
    for name, data in records.items():
        _create(task.place / name, data)
        if not name.startswith(f"{layout.COMMITS}/samples--"):
            _keep(_files_of(data), folder)
    return _Made(result, metadata, records)


def _create(place: ObjectPath, data: bytes) -> None:
    """Put a file where none is; that of another writer must be the same."""
    if not place.create(data) and place.read_bytes() != data:
        raise CorpusError(f"{place}: was written by another run, with other content; start no two runs in one place")


def cache_folder() -> Path:
    """Where this machine keeps sources and trajectories of corpora in buckets, by their sha256.

    ``MAPHC2F_CACHE``, else ``maphc2f`` in the user's cache folder. It may be removed while no run is on.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(os.environ.get("MAPHC2F_CACHE") or (Path(base) if base else Path.home() / ".cache") / "maphc2f")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); set MAPHC2F_CACHE to a folder") from None
    return folder


def fetch(place: ObjectPath, files: Iterable[FileRecord], folder: Path) -> None:
    """Files of a corpus in a bucket, through the cache of this machine.

    Raises
    ------
    CorpusError
        An object is missing, or not the one of its record.
    """
    _in_parallel(lambda file: _fetch(place, file, layout.safe_join(folder, file.path)), files)


def _fetch(place: ObjectPath, file: FileRecord, target: Path) -> None:
    cached = _cached(file)
    if not (cached.is_file() and cached.stat().st_size == file.bytes):
        data = _get(place / file.path)
        if sha256_bytes(data) != file.sha256:
            raise CorpusError(
                f"{place / file.path}: has other content than its record says (sha256 differs); "
                "remove it and run the same command again"
            )
        _write(cached, data)
    os.utime(cached)  # it was used just now
    link_or_copy(cached, target)


def _get(place: ObjectPath) -> bytes:
    try:
        return place.read_bytes()
    except FileNotFoundError:
        raise CorpusError(f"{place}: is missing, though it was listed; run the same command again") from None


def _cached(file: FileRecord) -> Path:
    return cache_folder() / "objects" / file.sha256[:2] / file.sha256


def _prune_cache() -> None:
    """Remove what no run has used for long, and what killed workers left."""
    oldest = time.time() - _CACHED_S
    for path in [path for pattern in ("objects/*/*", "work/*", "logs/*") for path in cache_folder().glob(pattern)]:
        with suppress(OSError):
            if path.stat().st_mtime < oldest:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _keep(files: Sequence[FileRecord], folder: Path) -> None:
    """Put files just made in the cache: the next stage reads them."""
    for file in files:
        link_or_copy(layout.safe_join(folder, file.path), _cached(file))


def _write(path: Path, data: bytes) -> None:
    """A file of a scratch folder or of the cache: whole or not there, but not forced to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def _stand_in(path: Path, size: int) -> None:
    """A file of this size without content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # it may be a link into the cache
    with path.open("wb") as stream:
        stream.truncate(size)


def _in_parallel(function: Callable[[ResultT], object], items: Iterable[ResultT]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(function, items):
            pass
