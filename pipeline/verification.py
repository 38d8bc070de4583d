"""Is a stored corpus what it says it is? Every file is hashed again, every chunk decoded, every count taken.

Checked, and each problem named with its file or sample:

- config.json is whole; every file that corpus.json lists has the size and sha256 given there;
- every commit record parses, belongs to this config, and its files have the recorded size and sha256;
- every shard of the plan has a record that was made from these plan rows and sources, and the bank is complete;
- no file lies about that neither corpus.json nor a record names; log/ is left out;
- every chunk decodes; the bytes of each image and mask hash to what the record says;
- what the record says of a mask, of the whole and of each defect (area, bounding box), is so, and an accepted one keeps
  the configured area bounds;
- against the stored source, counted again and compared with the record: nothing changed off the part nor outside the
  windows of the defects, no visible change outside the mask, every mask pixel within one pixel of a visible change, the
  mask on the foreground, no two defects touching; failed samples equal to their source;
- stages that are kept equal the source off the part and outside the windows of the defects;
- inventory and manifest equal the records row for row, and corpus.json says what follows from the records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from scipy import ndimage

from manifests import layout
from manifests.corpus import CorpusInfo, Picture
from manifests.errors import CorpusError
from manifests.hashing import canonical_json, code_version, sha256_bytes, sha256_file
from manifests.object_store import Place
from manifests.records import (
    COMMIT_PARSERS,
    SCHEMA_VERSION,
    AnyCommit,
    BankRecord,
    DefectRecord,
    FileRecord,
    PlannedDefect,
    PlanRow,
    RowT,
    SampleRecord,
    SampleStatus,
    SourceRecord,
    SourceStatus,
)
from manifests.tables import Rows, completed, from_table, read_table, to_table
from physics.placement import Window
from physics.registry import MECHANISMS
from pipeline.executor import Executor, make_executor
from pipeline.finalise import summarise
from pipeline.invariants import changed_pixels, count_picture, visible_change
from pipeline.mirror import Lent, looked_into
from pipeline.planning import bank_ranges
from pipeline.recipe import Recipe, config_sha256
from pipeline.sharing import shards_of
from pipeline.store import Identity, metadata_files, read_identity, read_rows
from pipeline.synthesis import SampleSpec, sample_arrays, sample_fields
from refine.passes import settle_process

__all__ = ["Problem", "VerificationReport", "corpus_files", "verify_corpus"]

_PROMISES = {
    "unlabelled_px": "changed visibly outside the mask",
    "unseen_px": "of the mask with no visible change within one pixel",
    "outside_px": "changed off the part or away from the defects",
    "off_part_px": "of the mask lie off the part",
    "touching_px": "of one defect touch another",
}
_OF_LEADING = (*PlannedDefect.model_fields, "status", "attempts", "extent", "center_y", "center_x", "severity")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the file or sample, and what."""

    where: str
    what: str

    def __str__(self) -> str:
        """``where: what``."""
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class VerificationReport:
    """What was looked at, and every problem found."""

    files: int
    bytes: int
    samples: int
    problems: tuple[Problem, ...]


def verify_corpus(
    out: Place, *, workers: int = 1, advance: Callable[[int, int], None] | None = None
) -> VerificationReport:
    """Check a finished corpus from its files up.

    Parameters
    ----------
    out : Path or ObjectPath
        The corpus folder, or its prefix in a bucket: its shards are then read one after another.
    workers : int
        Processes that check a folder's shards.
    advance : callable, optional
        Called with (done, total) commit records as they are checked.

    Raises
    ------
    CorpusError
        The folder is not a corpus at all.
    StorageError
        The object store cannot be reached, or refuses.
    """
    with looked_into(out) as (folder, lent):
        executor = make_executor(workers if isinstance(out, Path) else 1, warm=_settle)
        try:
            report = _verify(folder, partial(_check_all, executor, lent), advance)
        finally:
            executor.close()
    named = tuple(
        Problem(*(text.replace(str(folder), str(out)) for text in (problem.where, problem.what)))
        for problem in report.problems
    )
    return replace(report, problems=named)


def _settle(number: int) -> None:
    """Make the process that checks ready."""
    settle_process(1)


def _check_all(executor: Executor, lent: Lent, wanted: Sequence[_Wanted]) -> Iterator[_Checked]:
    pairs = executor.run(partial(_check_record, lent), wanted, stop=lambda: False)
    return (checked for _, checked in pairs)


@dataclass(frozen=True)
class _Wanted:
    """A commit record to check, by its file's name; ``metadata`` are arrays and groups that cannot be read."""

    out: Path
    identity: Identity
    name: str
    metadata: frozenset[str]


@dataclass(frozen=True)
class _Checked:
    """What was found of a commit record, and what later checks need of it: all but samples, whose rows are a table."""

    name: str
    problems: tuple[Problem, ...] = ()
    commit: AnyCommit | None = None
    samples: pa.Table | None = None
    readable: bool = False

    @property
    def ids(self) -> list[str]:
        """Of its samples."""
        return [] if self.samples is None else self.samples["id"].to_pylist()

    @property
    def looked_at(self) -> int:
        """Samples whose arrays could be read."""
        return self.samples.num_rows if self.readable and self.samples is not None else 0


def _verify(
    out: Path,
    check: Callable[[Sequence[_Wanted]], Iterable[_Checked]],
    advance: Callable[[int, int], None] | None,
) -> VerificationReport:
    identity = read_identity(out)
    problems = list(_check_identity(out, identity))
    if problems:  # nothing else can be judged by it
        return VerificationReport(files=1, bytes=0, samples=0, problems=tuple(problems))
    info = _read_info(out, problems)
    listed = info.files if info else []
    broken_tables = list(_check_files(out, layout.CORPUS, listed))
    problems.extend(broken_tables)
    metadata = frozenset(problem.where.removesuffix("/zarr.json") for problem in broken_tables)
    wanted = [_Wanted(out, identity, path.name, metadata) for path in _record_files(out)]
    checked: list[_Checked] = []
    for one in check(wanted):
        checked.append(one)
        if advance is not None:
            advance(len(checked), len(wanted))
    kept = _Kept(sorted(checked, key=lambda one: one.name))
    problems.extend(problem for one in kept.checked for problem in one.problems)
    problems.extend(_check_strays(out, kept.commits, info))
    if not {problem.where for problem in broken_tables} & {layout.PLAN, layout.INVENTORY, layout.MANIFEST}:
        problems.extend(_check_tables(out, identity, kept, info))
    files = [*listed, *(file for commit in kept.commits for file in commit.files)]
    return VerificationReport(
        files=len(files),
        bytes=sum(file.bytes for file in files),
        samples=sum(one.looked_at for one in kept.checked),
        problems=tuple(problems),
    )


@dataclass(frozen=True)
class _Kept:
    """All records, by name."""

    checked: Sequence[_Checked]

    @property
    def commits(self) -> list[AnyCommit]:
        """Those that could be read; without the rows of samples."""
        return [one.commit for one in self.checked if one.commit is not None]

    def rows(self, row_type: type[RowT]) -> list[RowT]:
        """All rows of a type, but for samples."""
        return [row for commit in self.commits for row in commit.rows if isinstance(row, row_type)]

    def samples(self) -> pa.Table:
        """Rows of all samples, in order of index."""
        tables = [one.samples for one in self.checked if one.samples is not None]
        return pa.concat_tables([to_table([], SampleRecord), *tables]).sort_by("index")


def corpus_files(out: Path) -> list[FileRecord]:
    """Every file that a finished corpus consists of, by path; no file is looked at but those that list others.

    Raises
    ------
    CorpusError
        The corpus is not finished, or a record of it is damaged.
    """
    problems: list[Problem] = []
    info = _read_info(out, problems)
    identity = read_identity(out)
    records = (_read_commit(out, path.name, identity, problems) for path in _record_files(out))
    files = {file.path: file for record in records if record is not None for file in record.files}
    if info is None or problems:
        raise CorpusError(f"{out}: {problems[0]}")
    path = out / layout.CORPUS
    own = FileRecord(path=layout.CORPUS, bytes=path.stat().st_size, sha256=sha256_file(path))
    return sorted([*files.values(), *info.files, own], key=lambda file: file.path)


def _check_record(lent: Lent, wanted: _Wanted) -> _Checked:
    """What is wrong with a record and its shard."""
    problems: list[Problem] = []
    commit = _read_commit(wanted.out, wanted.name, wanted.identity, problems)
    if commit is None:
        return _Checked(wanted.name, tuple(problems))
    with lent(commit.files):
        found, readable = _check_commit(wanted.out, wanted.identity.recipe, commit, wanted.metadata)
    problems.extend(found)
    rows = [row for row in commit.rows if isinstance(row, SampleRecord)]
    samples = to_table(rows, SampleRecord) if rows else None
    slim = commit.model_copy(update={"rows": ()}) if rows else commit
    return _Checked(wanted.name, tuple(problems), slim, samples, readable)


def _check_commit(out: Path, recipe: Recipe, commit: AnyCommit, metadata: Set[str]) -> tuple[list[Problem], bool]:
    """What is wrong with a shard, and whether its arrays could be read at all."""
    broken = list(_check_files(out, _name(commit), commit.files))
    if broken or not metadata.isdisjoint(_arrays(commit)):
        return broken, False
    check = _check_shard(out, recipe, commit) if commit.stage == "samples" else _check_decodes(out, commit)
    return list(check), True


def _check_identity(out: Path, identity: Identity) -> Iterator[Problem]:
    stored = (out / layout.CONFIG).read_bytes()
    whole = stored == canonical_json(identity.model_dump(mode="json")) + b"\n"
    if not whole or identity.config_sha256 != config_sha256(identity.recipe):
        yield Problem(layout.CONFIG, "was edited or is damaged: restore it from a copy")
    elif identity.schema_version != SCHEMA_VERSION:
        yield Problem(layout.CONFIG, f"has schema version {identity.schema_version}, expected {SCHEMA_VERSION}")


def _as_written(record: BaseModel) -> bytes:
    """The bytes of a file that a record was read from; an older program left out what it did not know of."""
    return canonical_json(record.model_dump(mode="json", exclude_unset=True)) + b"\n"


def _read_info(out: Path, problems: list[Problem]) -> CorpusInfo | None:
    try:
        stored = (out / layout.CORPUS).read_bytes()
        info = CorpusInfo.model_validate_json(stored)
    except FileNotFoundError:
        problems.append(Problem(layout.CORPUS, "is missing: the corpus is not finished; run generate again"))
        return None
    except (OSError, ValidationError) as error:
        problems.append(Problem(layout.CORPUS, f"cannot be read ({_first_line(error)}); run generate again"))
        return None
    if stored != _as_written(info):
        problems.append(Problem(layout.CORPUS, "is not in canonical form: it was edited; run generate again"))
    return info


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _name(commit: AnyCommit) -> str:
    return f"{layout.COMMITS}/{commit.commit_name}"


def _record_files(out: Path) -> list[Path]:
    folder = out / layout.COMMITS
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _read_commit(out: Path, name: str, identity: Identity, problems: list[Problem]) -> AnyCommit | None:
    """The record of this name, if it can be read."""
    path, where = out / layout.COMMITS / name, f"{layout.COMMITS}/{name}"
    if name.split("--")[0] not in COMMIT_PARSERS or path.suffix != ".json":
        problems.append(Problem(where, "is not a commit record; remove it, or run generate again to sweep it"))
        return None
    try:
        commit = COMMIT_PARSERS[name.split("--")[0]](path.read_bytes())
    except (ValidationError, OSError) as error:
        what = f"cannot be read as a commit record ({_first_line(error)}); remove it and run generate again"
        problems.append(Problem(where, what))
        return None
    if commit.commit_name != name:
        problems.append(Problem(where, f"holds the record of {commit.stage} {commit.key} shard {commit.shard}"))
    if path.read_bytes() != _as_written(commit):
        problems.append(Problem(where, "is not in canonical form: it was edited"))
    if (commit.config_sha256, commit.code_version) != (config_sha256(identity.recipe), identity.code_version):
        problems.append(Problem(where, "was made with another config or code version than config.json says"))
    return commit


def _check_files(out: Path, list_name: str, files: Iterable[FileRecord]) -> Iterator[Problem]:
    """Files as listed, by size and hash."""
    for file in files:
        try:
            path = layout.safe_join(out, file.path)
        except ValueError as error:
            yield Problem(list_name, str(error))
            continue
        if not path.is_file():
            yield Problem(file.path, f"is missing, {list_name} lists it; run generate again")
        elif path.stat().st_size != file.bytes:
            size = path.stat().st_size
            yield Problem(file.path, f"has {size} bytes, {list_name} says {file.bytes}; run generate again")
        elif sha256_file(path) != file.sha256:
            yield Problem(
                file.path,
                f"has other content than {list_name} says (sha256 differs); remove it and run generate again",
            )


def _arrays(commit: AnyCommit) -> set[str]:
    """Arrays and groups that a shard is part of, and those that are read with it."""
    root = f"{layout.BANK if commit.stage == 'bank' else layout.DATA}/{commit.key}"
    beside = layout.SOURCE_ARRAYS if commit.stage == "samples" else ()
    names = {file.path.removeprefix(f"{root}/").split("/")[0] for file in commit.files}
    return {f"{root}/{name}" for name in (*names, *beside)}


def _check_decodes(out: Path, commit: AnyCommit) -> Iterator[Problem]:
    root = layout.BANK if commit.stage == "bank" else layout.DATA
    per_array: dict[str, int] = {}
    for file in commit.files:
        name = file.path.removeprefix(f"{root}/{commit.key}/").split("/")[0]
        per_array[name] = per_array.get(name, 0) + 1
    rows = [row for row in commit.rows if not (isinstance(row, SourceRecord) and row.index < 0)]
    first = rows[0].trajectory if rows and isinstance(rows[0], BankRecord) else 0
    for name in per_array:
        try:
            for k in range(len(rows)):
                read_rows(out, root, commit.key, name, first + k, first + k + 1)
        except CorpusError as error:
            yield Problem(f"{root}/{commit.key}/{name}", str(error))


def _check_shard(out: Path, recipe: Recipe, commit: AnyCommit) -> Iterator[Problem]:
    """All samples of a shard, arrays against record and invariants."""
    rows = [row for row in commit.rows if isinstance(row, SampleRecord)]
    if not rows or [row.row for row in rows] != list(range(rows[0].row, rows[0].row + len(rows))):
        yield Problem(_name(commit), "its rows do not follow one another; remove it and run generate again")
        return
    start, stop = rows[0].row, rows[-1].row + 1
    try:
        arrays = {name: read_rows(out, layout.DATA, commit.key, name, start, stop) for name in sample_arrays(recipe)}
        pictures = {
            k: (
                read_rows(out, layout.DATA, commit.key, "source", k, k + 1)[0],
                read_rows(out, layout.DATA, commit.key, "foreground", k, k + 1)[0] > 0,
            )
            for k in sorted({row.source for row in rows})
        }
    except CorpusError as error:
        yield Problem(commit.key, str(error))
        return
    for k, row in enumerate(rows):
        stored = _Stored(row, recipe, {name: values[k] for name, values in arrays.items()}, *pictures[row.source])
        for what in stored.problems():
            yield Problem(f"sample {row.id} ({commit.key} row {row.row})", what)


@dataclass(frozen=True)
class _Stored:
    """One sample as it lies in the store: its record, its rows of all arrays by name, its photograph and its part."""

    row: SampleRecord
    recipe: Recipe
    arrays: Mapping[str, NDArray[Any]]
    source: Picture
    foreground: NDArray[np.bool_]

    @property
    def image(self) -> Picture:
        return self.arrays["image"]

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        return np.asarray(self.arrays["mask"] > 0)

    @cached_property
    def instance(self) -> NDArray[np.uint8]:
        """As stored; where a picture has one defect at most, it has all of the mask."""
        numbers = [defect.instance for defect in self.row.defects if defect.instance]
        only = np.where(self.inside, numbers[0] if numbers else 0, 0).astype(np.uint8)
        return self.arrays.get(layout.INSTANCE, only)

    @cached_property
    def windows(self) -> list[tuple[slice, slice]]:
        """Where the defects that are there were worked on."""
        return [
            Window(defect.window_y, defect.window_x, defect.window_side).slices
            for defect in self.row.defects
            if defect.instance
        ]

    def problems(self) -> Iterator[str]:
        """All that is wrong with it."""
        yield from self._mask_problems()
        yield from self._defect_problems()
        yield from self._stage_problems()
        yield from self._field_problems()
        if self.row.status is not SampleStatus.OK and (
            self.inside.any() or not np.array_equal(self.image, self.source)
        ):
            yield f"status is {self.row.status}, but the picture is not its unchanged source"
        elif found := "; ".join(self._broken_promises()):
            yield found

    def _mask_problems(self) -> Iterator[str]:
        row, mask, inside = self.row, self.arrays["mask"], self.inside
        if sha256_bytes(np.ascontiguousarray(self.image).data) != row.image_sha256:
            yield "image differs from the record's sha256"
        if sha256_bytes(np.ascontiguousarray(mask).data) != row.mask_sha256:
            yield "mask differs from the record's sha256"
        if not np.isin(mask, (0, 255)).all():
            yield "mask holds values other than 0 and 255"
        if int(inside.sum()) != row.area_px or _box_of(row) != _box(inside):
            yield f"mask covers {int(inside.sum())} px in {_box(inside)}, the record says {row.area_px}"
        label = self.recipe.label
        if row.status is SampleStatus.OK and not label.min_area <= inside.mean() <= label.max_area:
            yield f"mask covers {inside.mean():.2e} of the picture, outside [{label.min_area}, {label.max_area}]"

    def _defect_problems(self) -> Iterator[str]:
        """Each defect's own mask, and whether the record's own columns are those of the first that is there."""
        row, instance = self.row, self.instance
        if not np.array_equal(instance > 0, self.inside):
            yield "the instance array and the mask do not cover the same pixels"
        there = {number: defect for number, defect in enumerate(row.defects, start=1) if defect.instance}
        if any(defect.instance != number for number, defect in there.items()):
            yield "the record numbers its defects in another order"
        if any((defect.status is SampleStatus.OK) != (defect.instance > 0) for defect in row.defects):
            yield "the record says of a defect that it failed and is there, or neither"
        if strange := set(np.unique(instance).tolist()) - {0, *there}:
            yield f"the instance array has a defect {min(strange)} that the record does not know"
        for number, defect in there.items():
            mine = np.asarray(instance == number)
            if int(mine.sum()) != defect.area_px or _box_of(defect) != _box(mine):
                yield f"defect {number} covers {int(mine.sum())} px in {_box(mine)}, the record says {defect.area_px}"
        leading = next(iter(there.values()), row.defects[0] if row.defects else None)
        if leading is None or any(getattr(row, name) != getattr(leading, name) for name in _OF_LEADING):
            yield "the record's columns are not those of its first defect"
        if any(defect.physical != MECHANISMS[defect.mechanism].physical for defect in row.defects):
            yield "the record calls physical what is not, or the other way round"
        if len(row.defects) > 1 and any(not self._is_allowed(defect) for defect in there.values()):
            yield "a defect's area is outside the bounds of label"

    def _is_allowed(self, defect: DefectRecord) -> bool:
        label = self.recipe.label
        return label.min_area <= defect.area_px / self.inside.size <= label.max_area

    def _stage_problems(self) -> Iterator[str]:
        allowed = np.zeros_like(self.foreground)
        for window in self.windows:
            allowed[window] = self.foreground[window]
        for stage in self.recipe.store.stages:
            changed = changed_pixels(self.arrays[layout.stage_array(stage)], self.source)
            if (changed & ~allowed).any():
                yield f"stage {stage} differs from the photograph on {(changed & ~allowed).sum()} px off its defects"

    def _field_problems(self) -> Iterator[str]:
        known = {name for d in self.row.defects if d.instance for name in MECHANISMS[d.mechanism].fields}
        named = ", ".join(dict.fromkeys(defect.mechanism for defect in self.row.defects))
        for name in (spec.name for spec in sample_fields(self.recipe)):
            values = self.arrays[name]
            if not np.isfinite(values).all() or ((values != 0) & ~self.foreground).any():
                yield f"the {name} field is not finite or lies off the part"
            if name not in known and values.any():
                yield f"the {name} field is not empty, though {named} ({self.row.status}) has none"

    def _broken_promises(self) -> Iterator[str]:
        found = count_picture(
            self.image,
            self.instance,
            source=self.source,
            foreground=self.foreground,
            windows=self.windows,
            threshold=self.recipe.label.visible_threshold,
        )
        for name, what in _PROMISES.items():
            if number := getattr(found, name):
                yield f"{number} px {what}"
        wrong = [name for name, number in asdict(found).items() if number != getattr(self.row, name)]
        if wrong:
            yield f"the record counts {', '.join(wrong)} otherwise"
        if self.row.status is SampleStatus.OK:
            yield from self._wrong_contrasts()

    def _wrong_contrasts(self) -> Iterator[str]:
        """Mean changes that the records give otherwise; rounding apart, since they were averaged in another order."""
        change, visible = visible_change(self.image, self.source, self.recipe.label.visible_threshold)
        parts = {
            f"defect {d.instance}": (d.contrast, self.instance == d.instance) for d in self.row.defects if d.instance
        }
        for name, (told, where) in {"the record": (self.row.contrast, self.inside), **parts}.items():
            seen = change[visible & where]
            if seen.size and not np.isclose(told, seen.mean(), rtol=1e-9):
                yield f"{name} has a contrast of {seen.mean():.2f} grey levels, not {told:.2f}"


def _box_of(row: SampleRecord | DefectRecord) -> tuple[int, int, int, int]:
    return row.bbox_y0, row.bbox_x0, row.bbox_y1, row.bbox_x1


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    found = ndimage.find_objects(mask.astype(np.int8))
    if not found or found[0] is None:
        return 0, 0, 0, 0
    return found[0][0].start, found[0][1].start, found[0][0].stop, found[0][1].stop


def _check_strays(out: Path, commits: Sequence[AnyCommit], info: CorpusInfo | None) -> Iterator[Problem]:
    named = {file.path for commit in commits for file in commit.files} | {layout.CONFIG, layout.CORPUS}
    if info is None:
        named |= {layout.INVENTORY, layout.PLAN, layout.MANIFEST} | metadata_files(out)
    else:
        named |= {file.path for file in info.files}
    for path in sorted(path for path in out.rglob("*") if not path.is_dir()):
        name = path.relative_to(out).as_posix()
        if name.split("/")[0] in {layout.LOG, layout.COMMITS} and info is None:
            continue
        if name.split("/")[0] != layout.LOG and name not in named:
            yield Problem(name, "is no part of this corpus: no record names it; remove it")


def _check_tables(out: Path, identity: Identity, kept: _Kept, info: CorpusInfo | None) -> Iterator[Problem]:
    try:
        inventory = from_table(read_table(out / layout.INVENTORY), SourceRecord)
        plan = Rows(completed(read_table(out / layout.PLAN), PlanRow), PlanRow)
        manifest = completed(read_table(out / layout.MANIFEST), SampleRecord)
        for rows in (plan, Rows(manifest, SampleRecord)):
            rows.validate()
    except CorpusError as error:
        yield Problem(str(out), f"is not finished or damaged ({_first_line(error)})")
        return
    sources, bank, samples = kept.rows(SourceRecord), kept.rows(BankRecord), kept.samples()
    yield from _check_rows(layout.INVENTORY, inventory, sources, key=lambda row: (row.dataset, row.category, row.path))
    if not manifest.select(samples.column_names).equals(samples):
        of_table, of_records = (from_table(table, SampleRecord) for table in (manifest, samples))
        yield from _check_rows(layout.MANIFEST, of_table, of_records, key=lambda row: row.index)
    for name, indices in ((layout.MANIFEST, manifest["index"].to_pylist()), (layout.PLAN, plan.column("index"))):
        if indices != list(range(identity.total)):
            yield Problem(name, f"its rows are not samples 0 to {identity.total - 1} in order; run generate again")
    yield from _check_bank(identity, inventory, bank)
    yield from _check_plan(out, identity, kept, plan, inventory)
    if info is not None:
        yield from _check_info(identity, info, inventory, bank, manifest)


def _check_bank(identity: Identity, inventory: Sequence[SourceRecord], bank: Sequence[BankRecord]) -> Iterator[Problem]:
    """Every trajectory that the plan may draw from is there, once."""
    usable = Counter((row.dataset, row.category) for row in inventory if row.status is SourceStatus.OK)
    for name, ranges in bank_ranges(identity.recipe, list(usable.values()), identity.extensions).items():
        held = sorted(row.trajectory for row in bank if row.mechanism == name)
        if held != [number for numbers in ranges for number in numbers]:
            wanted = " and ".join(f"{numbers.start} to {numbers.stop - 1}" for numbers in ranges)
            yield Problem(f"{layout.BANK}/{name}", f"its records hold {len(held)} trajectories, not {wanted}")


def _check_rows(
    name: str, table: Sequence[RowT], records: Sequence[RowT], *, key: Callable[[RowT], object]
) -> Iterator[Problem]:
    of_table, of_records = ({key(row): row for row in rows} for rows in (table, records))
    differing = [k for k in of_table.keys() | of_records.keys() if of_table.get(k) != of_records.get(k)]
    if differing or len(table) != len(records):
        number = max(len(differing), abs(len(table) - len(records)))
        yield Problem(name, f"{number} rows differ from the commit records; run generate again")


def _check_plan(
    out: Path,
    identity: Identity,
    kept: _Kept,
    plan: Rows[PlanRow],
    inventory: Sequence[SourceRecord],
) -> Iterator[Problem]:
    """Each shard of the plan has a record, made from these rows and sources."""
    planned = dict(shards_of(plan))
    stored = [(one.commit, one.ids) for one in kept.checked if one.commit is not None and one.commit.stage == "samples"]
    made = {(commit.key, commit.shard): commit for commit, _ in stored}
    ids = {(commit.key, commit.shard): of_record for commit, of_record in stored}
    missing = sorted(planned.keys() - made.keys())
    if missing:
        number = sum(len(planned[shard]) for shard in missing)
        first = layout.commit_name("samples", *missing[0])
        yield Problem(
            layout.PLAN, f"{number} planned samples have no commit record (first: {first}); run generate again"
        )
    for shard in sorted(made.keys() - planned.keys()):
        yield Problem(_name(made[shard]), "is not in the plan; remove it and run generate again")
    known = {(f"{row.dataset}/{row.category}", row.index): row for row in inventory}
    for shard in sorted(planned.keys() & made.keys()):
        rows, commit = list(plan[planned[shard].start : planned[shard].stop]), made[shard]
        wanted = {(shard[0], photograph) for row in rows for photograph in row.photographs()}
        sources = {place[1]: known[place] for place in wanted if place in known}
        same = SampleSpec(out, identity.recipe, tuple(rows), sources).inputs_sha256 == commit.inputs_sha256
        # another version may have hashed other inputs
        if (identity.code_version == code_version() and not same) or ids[shard] != [row.id for row in rows]:
            what = f"was made from other rows than {layout.PLAN} and {layout.INVENTORY} hold"
            yield Problem(_name(commit), f"{what}; remove it and run generate again")


def _check_info(
    identity: Identity,
    info: CorpusInfo,
    sources: Sequence[SourceRecord],
    bank: Sequence[BankRecord],
    manifest: pa.Table,
) -> Iterator[Problem]:
    """corpus.json says what the records say."""
    made = summarise(identity.recipe, sources=sources, bank=bank, samples=[manifest], extensions=identity.extensions)
    expected = made.model_copy(
        update={"files": info.files, "scores": info.scores, "code_version": identity.code_version}
    )
    if identity.code_version != code_version():  # another version may have other statistics and another estimator
        expected = expected.model_copy(update={"statistics": info.statistics, "sqe_sha256": info.sqe_sha256})
    wrong = [name for name in type(info).model_fields if getattr(info, name) != getattr(expected, name)]
    if wrong:
        yield Problem(layout.CORPUS, f"{', '.join(wrong)}: not what the commit records say; run generate again")
