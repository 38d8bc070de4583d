"""The reader of a stored corpus: samples by position, by shard or by filter, with nothing but NumPy, Zarr and Arrow.

Examples
--------
>>> corpus = Corpus("out")                        # doctest: +SKIP
>>> sample = corpus[0]                            # doctest: +SKIP
>>> sample.image.shape, sample.mask.dtype         # doctest: +SKIP
((256, 256, 3), dtype('uint8'))
>>> sample.fields["opening"].unit                 # doctest: +SKIP
'px'
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self, cast, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zarr
from numpy.typing import DTypeLike, NDArray
from obstore.exceptions import BaseError
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer
from zarr.storage import ObjectStore

from manifests import layout
from manifests.errors import CorpusError, StorageError
from manifests.hashing import sha256_bytes
from manifests.object_store import ObjectPath, Place, explained, place_of, s3_store
from manifests.records import SCHEMA_VERSION, FileRecord, SampleRecord, SampleStatus
from manifests.selection import matching
from manifests.shards import ShardLayout, layout_of, read_shard_rows, threads_are_safe
from manifests.tables import completed, from_table, parse_table, read_or_refuse

__all__ = [
    "Corpus",
    "CorpusCounts",
    "CorpusInfo",
    "DistributionInfo",
    "Field",
    "InvariantCounts",
    "LicenceInfo",
    "MechanismInfo",
    "Picture",
    "Sample",
    "ScoreInfo",
    "Spread",
    "read_array",
    "read_array_rows",
]

_ZARRS = "zarrs.ZarrsCodecPipeline"  # decodes the rows of a shard side by side, on the threads of its process
_LONG_RUN = 32  # rows from which on that is worth it
_FEW = 8  # rows of a shard in a bucket that are worth a request each; of more, the whole shard is fetched

Picture = NDArray[np.uint8] | NDArray[np.uint16]


class _Info(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Version(BaseModel):
    """Of corpus.json only that which says how to read the rest."""

    schema_version: int


class Spread(_Info):
    """How a figure is spread over the accepted samples."""

    least: float
    p05: float
    median: float
    mean: float
    p95: float
    most: float


class LicenceInfo(_Info):
    """Licence of the sources of one category, and how many there are."""

    dataset: str
    category: str
    licence: str
    sources: int


class MechanismInfo(_Info):
    """A mechanism of the corpus, the fields that its samples have, and whether it is a simulation."""

    title: str
    summary: str
    fields: list[str]
    physical: bool = True


class DistributionInfo(_Info):
    """A distribution that the recipe asked for, beside what came out of it.

    ``asked`` and ``got`` are the values below which 5, 25, 50, 75 and 95 % lie; ``distance`` is the largest gap between
    the two cumulative distributions (Kolmogorov and Smirnov), 0..1.
    """

    mechanism: str
    quantity: str  # area, severity, width
    unit: str
    asked: list[float]
    got: list[float]
    distance: float
    samples: int


class InvariantCounts(_Info):
    """What the corpus promises of its pictures, counted over all of them; verification counts again, from the pixels.

    All but ``samples``, ``mask_px``, ``faint_px`` and ``faint_share`` are 0 in a sound corpus.
    """

    samples: int  # looked at: all, failed ones included
    mask_px: int
    changed_outside_support_px: int  # outside npcF's support the picture is its photograph, bit for bit
    unlabelled_px: int  # visibly changed outside the mask
    unseen_px: int  # in the mask, with no visible change within one pixel
    off_part_px: int  # in the mask, off the part
    faint_px: int  # outside the mask, changed by less than label.visible_threshold: the rim of a blur or of a shadow
    faint_share: float  # faint_px / mask_px
    empty_masks: int  # accepted samples with no pixel in the mask
    out_of_bounds: int  # accepted samples with an area outside the bounds of `label`, of a defect or of the whole
    instances_touching: int  # samples in which one defect's mask comes within one pixel of another's


class CorpusCounts(_Info):
    """What the corpus holds, counted from its records."""

    total: int
    by_status: dict[str, int]
    by_category: dict[str, dict[str, int]]  # "<dataset>/<category>" -> status -> samples
    by_mechanism: dict[str, int]  # of the first defect that was planned
    defects: dict[str, int]  # mechanism -> defects that are in the pictures
    sources: dict[str, int]  # status -> photographs
    trajectories: dict[str, int]  # mechanism -> simulations


class ScoreInfo(_Info):
    """A table of scores beside the manifest: columns id, quality and weight, of every accepted sample."""

    path: str
    sqe_sha256: str  # of the estimator's weights
    samples: int


class CorpusInfo(_Info):
    """corpus.json: what the corpus is, for people and programs.

    Shortened::

        {"schema_version": 1, "name": "demo", "counts": {"total": 320, "by_status": {"ok": 320}, …},
         "invariants": {"samples": 320, "unlabelled_px": 0, "faint_share": 0.04, …},
         "statistics": {"area_fraction": {"median": 0.006, …}, …}, "licences": [{"dataset": "builtin", …}], …}
    """

    schema_version: int
    name: str
    config: dict[str, Any]  # the recipe as JSON: a reader needs no knowledge of its keys
    config_sha256: str
    code_version: str
    extensions: list[int] = []  # samples that each extension added to those of the recipe, the oldest first
    counts: CorpusCounts
    invariants: InvariantCounts
    mechanisms: dict[str, MechanismInfo]
    statistics: dict[str, Spread]
    distributions: list[DistributionInfo]
    licences: list[LicenceInfo]
    sqe_sha256: str = ""  # of the estimator that made the column sqe; "" if nothing was scored
    scores: list[ScoreInfo] = []  # by other estimators, later
    files: list[FileRecord] = []  # every file of the corpus that no commit record names, this one left out

    @model_serializer(mode="wrap")
    def _leave_out_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A corpus that was never extended says nothing of extensions."""
        content: dict[str, Any] = handler(self)
        return {key: value for key, value in content.items() if key != "extensions" or value}


@dataclass(frozen=True)
class Field:
    """A physical field on the picture's grid: ``values`` (H, W) float32, with its unit and meaning."""

    values: NDArray[np.float32]
    unit: str
    meaning: str

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """The values, so that NumPy takes a field for an array."""
        return np.array(self.values, dtype=dtype, copy=copy)


@dataclass(frozen=True)
class Sample:
    """One sample; arrays are read when first asked for.

    Attributes
    ----------
    record : SampleRecord
        Its row of the manifest.
    image : (H, W, 3 or 1) uint8, or uint16 where the recipe's bit_depth is 16
        The picture with its defects.
    mask : (H, W) uint8
        0 normal, 255 visibly changed.
    instances : (H, W) uint8
        0 normal, k visibly changed by the k-th of ``record.defects``.
    fields : mapping of str to Field
        Physical fields by name: those of the mechanisms of the sample's defects.
    stages : mapping of str to (H, W, 3 or 1) array, as the image
        Stages of the refinement that the recipe keeps, in the order of the passes: paste, render, npcf.
    source : (H, W, 3 or 1) array, as the image
        The normal photograph it was made from.
    foreground : (H, W) bool
        Where the part is.
    """

    root: Place
    record: SampleRecord
    field_names: tuple[str, ...]
    stage_names: tuple[str, ...] = ()
    keeps_instances: bool = False

    def _row(self, name: str, row: int) -> NDArray[Any]:
        key = f"{self.record.dataset}/{self.record.category}"
        if isinstance(self.root, ObjectPath) and name in layout.SOURCE_ARRAYS:
            return _shared_row(self.root, key, name, row).copy()
        return np.asarray(read_array(self.root, layout.DATA, key, name, row, row + 1)[0])

    @cached_property
    def image(self) -> Picture:
        """The picture with its defects, (H, W, C) uint8 or uint16."""
        return self._row("image", self.record.row)

    @cached_property
    def mask(self) -> NDArray[np.uint8]:
        """0 normal, 255 visibly changed, (H, W) uint8."""
        return self._row("mask", self.record.row)

    @cached_property
    def instances(self) -> NDArray[np.uint8]:
        """0 normal, k visibly changed by the k-th of ``record.defects``, (H, W) uint8."""
        if self.keeps_instances:
            return self._row(layout.INSTANCE, self.record.row)
        return np.asarray(self.mask > 0, dtype=np.uint8)

    @cached_property
    def stages(self) -> Mapping[str, Picture]:
        """Stages of the refinement that the recipe keeps, (H, W, C) as the image, in the order of the passes."""
        return {name: self._row(layout.stage_array(name), self.record.row) for name in self.stage_names}

    @cached_property
    def source(self) -> Picture:
        """The normal photograph, (H, W, C) as the image."""
        return self._row("source", self.record.source)

    @cached_property
    def foreground(self) -> NDArray[np.bool_]:
        """Where the part is, (H, W) bool."""
        return np.asarray(self._row("foreground", self.record.source) > 0)

    @cached_property
    def fields(self) -> Mapping[str, Field]:
        """Physical fields by name: those of the mechanisms of the sample's defects."""
        key = f"{self.record.dataset}/{self.record.category}"
        found = {}
        for name in self.field_names:
            attributes = _open_array(self.root, layout.DATA, key, name).attrs
            values = self._row(name, self.record.row).astype(np.float32)
            found[name] = Field(values=values, unit=str(attributes["unit"]), meaning=str(attributes["meaning"]))
        return found


class Corpus(Sequence[Sample]):
    """A finished corpus, or a filtered view of one.

    Parameters
    ----------
    path : str or Path
        The corpus folder, or ``s3://bucket/prefix``.
    statuses : str or sequence of str, optional
        Which samples are seen; by default the accepted ones. None: all, failed ones included.

    Raises
    ------
    CorpusError
        The folder is not a corpus, generate has not finished, or it is of another ``schema_version`` than is known.
    StorageError
        The object store cannot be reached, or refuses.
    ValueError
        There is no such status.
    """

    def __init__(self, path: str | Place, *, statuses: str | Sequence[str] | None = ("ok",)) -> None:
        self.path = path if isinstance(path, ObjectPath) else place_of(path)
        self.info = _read_info(self.path)
        self.table = completed(_read_listed(self.path, self.info, layout.MANIFEST), SampleRecord)
        if statuses is not None:
            wanted = [statuses] if isinstance(statuses, str) else list(statuses)
            if unknown := sorted(set(wanted) - set(SampleStatus)):  # else a slip would look like an empty corpus
                raise ValueError(f"no status {unknown[0]!r}; there are {', '.join(SampleStatus)}")
            self.table = self.table.filter(pc.is_in(self.table["status"], pa.array(wanted, pa.string())))

    @property
    def folder(self) -> Path:
        """The corpus folder, for what needs its files.

        Raises
        ------
        StorageError
            The corpus is in a bucket.
        """
        if isinstance(self.path, ObjectPath):
            raise StorageError(f"{self.path}: is in a bucket; this needs a folder: copy the corpus to a disk first")
        return self.path

    def _view(self, table: pa.Table) -> Self:
        view = object.__new__(type(self))
        view.path, view.info, view.table = self.path, self.info, table
        return view

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Sample | Self:
        if isinstance(index, slice):
            positions = pa.array(range(*index.indices(len(self))), pa.int64())
            return self._view(self.table.take(positions))
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"sample {index} of a corpus of {len(self)}")
        return self._sample(from_table(self.table.slice(position, 1), SampleRecord)[0])

    def _sample(self, record: SampleRecord) -> Sample:
        present = [defect.mechanism for defect in record.defects if defect.instance] or [record.mechanism]
        fields = {field: None for name in present for field in self.info.mechanisms[name].fields}
        kept, (_, most) = self.info.config["store"]["stages"], self.info.config["placement"]["defects"]
        stages = tuple(stage for stage in layout.STAGES if stage in kept)
        return Sample(self.path, record, tuple(fields), stages, keeps_instances=most > 1)

    def scores(self, sqe_sha256: str | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Quality and training weight of the samples seen, (N,) each, 0..1.

        Parameters
        ----------
        sqe_sha256 : str, optional
            Of the estimator, or its beginning; by default the one that scored the samples as they were made, which gave
            no weights: they are all 1.

        Raises
        ------
        CorpusError
            That estimator has not scored this corpus, or its table is damaged.
        """
        if sqe_sha256 is None:
            if not self.info.sqe_sha256:
                raise CorpusError(f"{self.path}: its samples were not scored; run `maphc2f score`")
            quality = np.asarray(self.table["sqe"].to_numpy(), dtype=np.float64)
            return quality, np.ones_like(quality)
        fitting = [score for score in self.info.scores if score.sqe_sha256.startswith(sqe_sha256)]
        if len(fitting) != 1:
            known = ", ".join(score.sqe_sha256[:12] for score in self.info.scores) or "none"
            raise CorpusError(f"{self.path}: estimator {sqe_sha256!r} is not one that scored it ({known})")
        table = _read_listed(self.path, self.info, fitting[0].path).to_pydict()
        found = dict(zip(table["id"], zip(table["quality"], table["weight"], strict=True), strict=True))
        rows = np.array([found.get(identity, (0.0, 0.0)) for identity in self.table["id"].to_pylist()]).reshape(-1, 2)
        return rows[:, 0], rows[:, 1]

    def __iter__(self) -> Iterator[Sample]:
        for _, samples in self.iter_shards():
            yield from samples

    def where(self, **columns: object) -> Self:
        """Samples whose columns equal a value, or one of a list, tuple or set of values.

        Raises
        ------
        KeyError
            There is no such column.
        """
        table = self.table
        for name, wanted in columns.items():
            if name not in table.column_names:
                raise KeyError(f"no column {name!r}; there are {', '.join(table.column_names)}")
            values = list(wanted) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
            table = table.filter(pc.is_in(table[name], pa.array(values, table.schema.field(name).type)))
        return self._view(table)

    def select(self, expression: str) -> Self:
        """Samples that an SQL expression over the columns holds for: ``sqe >= 0.5 and mechanism = 'pitting'``.

        Raises
        ------
        ConfigError
            It cannot be read, names a column that is not there, or is not true or false.
        """
        return self._view(self.table.filter(matching(self.table, expression)))

    def take(self, positions: Sequence[int]) -> Self:
        """Samples at these positions, in this order."""
        return self._view(self.table.take(pa.array(positions, pa.int64())))

    def read(self, name: str, key: str, rows: Sequence[int]) -> NDArray[Any]:
        """Rows of one array of a category, (R, ...), in the order asked for; much faster than one by one.

        Parameters
        ----------
        name : str
            ``image``, ``mask``, a field, a stage's array; of photographs ``source`` and ``foreground``.
        key : str
            ``<dataset>/<category>``.
        rows : sequence of int
            Column ``row`` of the samples, or ``source`` for the two arrays of photographs.

        Raises
        ------
        CorpusError
            There is no such array, or a shard of it is missing or damaged.
        """
        return read_array_rows(self.path, layout.DATA, key, name, rows)

    def iter_shards(self) -> Iterator[tuple[str, list[Sample]]]:
        """Samples shard by shard with the arrays of a shard read at once: (``<dataset>/<category>``, samples)."""
        shards: dict[tuple[str, int], list[SampleRecord]] = {}
        for record in from_table(self.table, SampleRecord):
            shards.setdefault((f"{record.dataset}/{record.category}", record.shard), []).append(record)
        for (key, _), records in shards.items():
            rows = [record.row for record in records]
            start, stop = min(rows), max(rows) + 1  # a view may run backwards
            blocks = {n: read_array(self.path, layout.DATA, key, n, start, stop) for n in ("image", "mask")}
            samples = []
            for record in records:
                sample = self._sample(record)
                for name, block in blocks.items():  # what the cached properties would read one by one
                    sample.__dict__[name] = block[record.row - start]
                samples.append(sample)
            yield key, samples


@lru_cache(maxsize=256)
def _shared_row(root: ObjectPath, key: str, name: str, row: int) -> NDArray[Any]:
    """A photograph or its part, which many samples share: fetched once."""
    return np.asarray(read_array(root, layout.DATA, key, name, row, row + 1)[0])


def _read_info(path: Place) -> CorpusInfo:
    try:
        data = (path / layout.CORPUS).read_bytes()
        if (found := _Version.model_validate_json(data).schema_version) != SCHEMA_VERSION:
            raise CorpusError(
                f"{path / layout.CORPUS}: cannot be read (expected schema_version {SCHEMA_VERSION}, found {found}); "
                "read it with the release that wrote it"
            )
        return CorpusInfo.model_validate_json(data)
    except FileNotFoundError:
        if (path / layout.CONFIG).is_file():
            raise CorpusError(f"{path}: this corpus is not finished; run `maphc2f generate` again to go on") from None
        raise CorpusError(
            f"{path}: not a corpus (no {layout.CORPUS} in it); give the folder that generate wrote"
        ) from None
    except (OSError, ValidationError) as error:
        raise CorpusError(f"{path / layout.CORPUS}: cannot be read ({str(error).splitlines()[0]})") from None


def _read_listed(path: Place, info: CorpusInfo, name: str) -> pa.Table:
    """A table that corpus.json names; Parquet has no checksum of its own: a flipped bit would be another value."""
    data = read_or_refuse(path / name)
    for file in info.files:
        if file.path == name and sha256_bytes(data) != file.sha256:
            raise CorpusError(f"{path / name}: is not the one that {layout.CORPUS} names; run `maphc2f verify`")
    return parse_table(path / name, data)


def _open_array(root: Place, group: str, key: str, name: str) -> Any:  # zarr.Array is generic over unexported types
    return _opened(root / f"{group}/{key}/{name}").array


@dataclass(frozen=True)
class _Opened:
    """An array, and the layout of its shards where `manifests.shards` can read them: in files of this machine."""

    array: Any
    shard_layout: ShardLayout | None


def _opened(path: Place, *, threads: bool = False) -> _Opened:
    if isinstance(path, ObjectPath):
        s3_store(path.bucket)  # refuses in a forked process
        return _opened_as_of(path, 0, 0, False)
    try:
        stamp = (path / "zarr.json").stat()
    except OSError as error:
        raise CorpusError(f"{path}: the array cannot be opened ({error.strerror})") from None
    return _opened_as_of(path, stamp.st_ino, stamp.st_mtime_ns, threads)


@lru_cache(maxsize=512)
def _opened_as_of(path: Place, inode: int, changed_ns: int, threads: bool) -> _Opened:
    """Opened once, and again when the corpus was made anew in the same place."""
    try:
        if isinstance(path, ObjectPath):
            array = zarr.open_array(ObjectStore(s3_store(path.bucket), read_only=True), path=path.key, mode="r")
        else:
            with zarr.config.set({"codec_pipeline.path": _ZARRS} if threads else {}):
                array = zarr.open_array(path, mode="r")
        shards, chunks = array.shards, array.chunks
    except BaseError as error:
        raise explained(path, error) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        # what zarr makes of damaged metadata
        raise CorpusError(f"{path}: the array cannot be opened ({type(error).__name__}: {error})") from None
    if not shards or 0 in (*shards, *chunks):
        raise CorpusError(f"{path}: the array cannot be opened (it is not stored in shards); run `maphc2f verify`")
    if isinstance(path, ObjectPath):
        return _Opened(array, None)
    return _Opened(array, layout_of(json.loads((path / "zarr.json").read_bytes())))


def read_array(root: Place, group: str, key: str, name: str, start: int, stop: int) -> NDArray[Any]:
    """Rows ``start`` to ``stop`` of an array, checked by the checksum of each chunk.

    Parameters
    ----------
    root : Path or ObjectPath
        The corpus folder.
    group : str
        ``"data"`` or ``"bank"``.
    key : str
        ``<dataset>/<category>``, or the mechanism.
    name : str
        The array.
    start, stop : int
        First row, and the one after the last.

    Raises
    ------
    CorpusError
        A shard file is missing or a chunk does not decode.
    """
    return read_array_rows(root, group, key, name, range(start, stop))


def read_array_rows(root: Place, group: str, key: str, name: str, rows: Sequence[int]) -> NDArray[Any]:
    """Rows of an array in the order asked for; else as `read_array`."""
    opened = _opened(root / f"{group}/{key}/{name}")
    array = opened.array
    per_shard, shape = array.shards[0], (len(rows), *array.shape[1:])
    by_shard: dict[int, list[int]] = {}
    for position, row in enumerate(rows):
        by_shard.setdefault(row // per_shard, []).append(position)
    files = {k: _shard_place(root, layout.shard_file(group, key, name, k, array.ndim)) for k in sorted(by_shard)}
    try:
        if isinstance(root, ObjectPath):
            return _object_rows(array, rows, by_shard)
        if isinstance(rows, range) and len(rows) >= _LONG_RUN and threads_are_safe():
            return np.asarray(_opened(root / f"{group}/{key}/{name}", threads=True).array[rows.start : rows.stop])
        if opened.shard_layout is None:
            return np.concatenate([array[row : row + 1] for row in rows]) if rows else np.empty(shape, array.dtype)
        found = np.empty(shape, dtype=array.dtype)
        for k, positions in by_shard.items():
            inside = [rows[position] - k * per_shard for position in positions]
            file = cast("Path", files[k])
            if positions == list(range(positions[0], positions[-1] + 1)):
                read_shard_rows(file, opened.shard_layout, inside, found[positions[0] : positions[-1] + 1])
            else:
                block = np.empty((len(inside), *shape[1:]), dtype=array.dtype)
                read_shard_rows(file, opened.shard_layout, inside, block)
                found[positions] = block
    except BaseError as error:
        raise explained(next(iter(files.values())), error) from None
    except (OSError, ValueError, RuntimeError) as error:
        where = f"{next(iter(files.values()))}{' or a later shard' if len(files) > 1 else ''}"
        raise CorpusError(
            f"{where}: rows {min(rows)} to {max(rows)} of {key}/{name} cannot be decoded ({_first_line(error)}); "
            "remove it and run generate again"
        ) from None
    return found


def _object_rows(array: Any, rows: Sequence[int], by_shard: Mapping[int, Sequence[int]]) -> NDArray[Any]:
    """Rows of an array in a bucket: a request each where they are few, else one for each shard that they lie in."""
    per_shard = array.shards[0]
    if isinstance(rows, range) and rows.step == 1:  # what is read of several shards is read at once
        if len(rows) <= _FEW:
            return np.asarray(array[rows.start : rows.stop])
        lowest = rows.start // per_shard * per_shard
        whole = np.asarray(array[lowest : -(-rows.stop // per_shard) * per_shard])
        return whole[rows.start - lowest : rows.stop - lowest]
    found = np.empty((len(rows), *array.shape[1:]), dtype=array.dtype)
    for k, positions in by_shard.items():
        wanted = sorted({rows[position] for position in positions})
        block = array[k * per_shard : (k + 1) * per_shard] if len(wanted) > _FEW else array.oindex[wanted]
        held = range(k * per_shard, (k + 1) * per_shard) if len(wanted) > _FEW else wanted
        found[list(positions)] = block[[held.index(rows[position]) for position in positions]]
    return found


def _shard_place(root: Place, relative: str) -> Place:
    """The file or object of a shard, which is there and lies in the corpus: zarr would give zeros for it."""
    try:
        place = root / relative if isinstance(root, ObjectPath) else _resolved(Path.cwd(), root, relative)
    except ValueError as error:
        raise CorpusError(f"{root}: {error}: a corpus is one folder; put what a link points to in its place") from None
    if not _holds(place):
        raise CorpusError(f"{place}: the shard is missing or empty; run `maphc2f verify`")
    return place


@lru_cache(maxsize=4096)
def _resolved(here: Path, root: Path, relative: str) -> Path:
    """Kept, because following links takes as long as decoding a small picture; ``root`` may be relative to ``here``."""
    return layout.safe_join(here / root, relative)


def _holds(place: Place) -> bool:
    if isinstance(place, ObjectPath):
        return _object_holds(place)
    return place.is_file() and place.stat().st_size > 0


@lru_cache(maxsize=65536)
def _object_holds(place: ObjectPath) -> bool:
    """Asked once a process: the shards of a finished corpus stay."""
    meta = place.meta()
    return meta is not None and meta.size > 0


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
