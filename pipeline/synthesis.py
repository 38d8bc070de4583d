"""Third stage: shards of samples, from plan rows to arrays on disk and their commit records.

Defects go through physics (fields on a window of the picture), the refinement passes, and the acceptance test, in
batches of windows of one size. What fails is drawn again at another place, a bounded number of times; a picture's
first defect is settled before its second, which keeps clear of it, and so on. What still fails is left out; a sample
without any defect keeps its place in the shard as an unchanged normal with an empty mask and a status that says why.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.config import AUTO
from manifests.corpus import Picture
from manifests.fields import FIELDS, FieldSpec
from manifests.hashing import canonical_json, code_version, sha256_bytes
from manifests.layout import DATA, INSTANCE, SAMPLE_ARRAYS, commit_name, stage_array
from manifests.records import CommitRecord, PlannedDefect, PlanRow, SampleRecord, SampleStatus, SourceRecord
from physics.registry import MECHANISMS
from pipeline.attempt import Ingredients, Result, attempt_defects
from pipeline.bank import StoredTrajectory, load_trajectory
from pipeline.composition import MASK_VALUE, MadeSample, compose, compose_crashed, taken_place
from pipeline.foreign import Donor
from pipeline.recipe import Recipe, config_sha256
from pipeline.scoring import quality_of
from pipeline.single_writer import finished_shard, publish_shard
from pipeline.stage_clock import timed
from pipeline.store import ArraySpec, create_array, read_rows, stage_shard
from refine.devices import current_device

__all__ = [
    "MASK_VALUE",
    "MadeSample",
    "SampleSpec",
    "ShardResult",
    "crashed",
    "create_sample_arrays",
    "keeps_instances",
    "made_together",
    "make_samples",
    "sample_arrays",
    "sample_fields",
    "stacked_arrays",
    "store_made",
    "store_samples",
]

_PIXELS_AT_ONCE = 256 * 256 * 256  # of the samples that are open at a time: bounds memory, and fills the batches
_WORTH_TOGETHER = 64  # samples: batches of fewer are slow


@dataclass(frozen=True)
class SampleSpec:
    """One shard to make: consecutive rows of one category's plan, and the records of the sources they use."""

    out: Path
    recipe: Recipe
    rows: Sequence[PlanRow]
    sources: Mapping[int, SourceRecord]

    @cached_property
    def _first(self) -> PlanRow:
        return self.rows[0]  # made from a table each time

    @property
    def key(self) -> str:
        """``<dataset>/<category>``."""
        return f"{self._first.dataset}/{self._first.category}"

    @property
    def shard(self) -> int:
        """Number of the shard within the category."""
        return self._first.shard

    @property
    def commit_name(self) -> str:
        """File name of the shard's record."""
        return commit_name("samples", self.key, self.shard)

    @property
    def inputs_sha256(self) -> str:
        """Identity of what the shard is made from: its plan rows, and what is known of their sources."""
        records = [*self.rows, *(self.sources[index] for index in sorted(self.sources))]
        return sha256_bytes(canonical_json([record.model_dump(mode="json") for record in records]))

    @property
    def identity(self) -> CommitRecord[SampleRecord]:
        """The shard's record but for its files and rows."""
        return CommitRecord[SampleRecord](
            stage="samples",
            key=self.key,
            shard=self.shard,
            config_sha256=config_sha256(self.recipe),
            code_version=code_version(),
            inputs_sha256=self.inputs_sha256,
            files=(),
            rows=(),
        )


@dataclass(frozen=True)
class ShardResult:
    """A finished shard's record; and the device that made it, for the log alone."""

    record: CommitRecord[SampleRecord]
    device: str


def sample_fields(recipe: Recipe) -> tuple[FieldSpec, ...]:
    """Fields that the samples of a corpus may have: those of the mechanisms that take part, in a fixed order."""
    wanted = {name for mechanism in recipe.mechanism_weights() for name in MECHANISMS[mechanism].fields}
    return tuple(spec for name, spec in FIELDS.items() if name in wanted)


def keeps_instances(recipe: Recipe) -> bool:
    """Whether a picture may have several defects, so that it is stored which pixel is whose."""
    return recipe.placement.defects[1] > 1


def sample_arrays(recipe: Recipe) -> tuple[str, ...]:
    """Names of all arrays that a sample has a row in."""
    instance = (INSTANCE,) if keeps_instances(recipe) else ()
    stages = tuple(stage_array(stage) for stage in dict.fromkeys(recipe.store.stages))
    return (*SAMPLE_ARRAYS, *instance, *stages, *(field.name for field in sample_fields(recipe)))


def create_sample_arrays(
    out: Path, recipe: Recipe, key: str, *, count: int, per_shard: int, used: tuple[range, ...] = ()
) -> None:
    """Lay out the arrays of one category's samples, of the type of its photographs, which are stored before.

    ``used`` are the rows that hold a sample, where they are not the first ``count``.
    """
    photograph = read_rows(out, DATA, key, "source", 0, 1)
    plane = (count, recipe.size, recipe.size)
    picture, pixel = (*plane, photograph.shape[3]), photograph.dtype.name
    about = {
        "image": (pixel, picture, "grey levels", "picture with its defects"),
        "mask": ("uint8", plane, "1", f"0 normal, {MASK_VALUE} visibly changed"),
        INSTANCE: ("uint8", plane, "1", "0 normal, k visibly changed by the k-th defect"),
    }
    for stage in recipe.store.stages:
        about[stage_array(stage)] = (pixel, picture, "grey levels", f"picture after the stage {stage}")
    about |= {field.name: ("float16", plane, field.unit, field.meaning) for field in sample_fields(recipe)}
    for name in sample_arrays(recipe):
        dtype, shape, unit, meaning = about[name]
        spec = ArraySpec(
            name=name,
            shape=shape,
            dtype=dtype,
            shard_rows=per_shard,
            attributes=(("unit", unit), ("meaning", meaning)),
            used=used,
        )
        create_array(out, DATA, key, spec, zstd_level=recipe.store.zstd_level)


def made_together(recipe: Recipe, specs: Sequence[SampleSpec], *, workers: int) -> list[tuple[SampleSpec, ...]]:
    """Shards in groups that are made at once: small ones fill the batches only together.

    Groups become smaller towards the end, so that several workers end at the same time. A size of shards that was asked
    for is kept as the unit of work.
    """
    if recipe.store.shard_images != AUTO:
        return [(spec,) for spec in specs]
    left = sum(len(spec.rows) for spec in specs)
    least = min(_WORTH_TOGETHER, -(-left // workers))
    groups: list[tuple[SampleSpec, ...]] = []
    most = size = 0
    for spec in specs:
        if groups and size + len(spec.rows) <= most:
            groups[-1] = (*groups[-1], spec)
        else:
            share = left if workers == 1 else max(least, 3 * left // (4 * workers))
            most, size = min(_PIXELS_AT_ONCE // recipe.size**2, share), 0
            groups.append((spec,))
        size += len(spec.rows)
        left -= len(spec.rows)
    return groups


def store_samples(specs: Sequence[SampleSpec]) -> list[ShardResult]:
    """Make some shards of a corpus together and write them, each with its record last.

    Those that are there already, written by a worker that was lost before it could say so, are left as they are.
    """
    return store_made(specs, make_samples)


def store_made(
    specs: Sequence[SampleSpec], make: Callable[[Sequence[SampleSpec]], Iterator[MadeSample]]
) -> list[ShardResult]:
    """As `store_samples`, the samples made by ``make``, which has the signature of `make_samples`."""
    there = [finished_shard(spec.out, spec.identity) for spec in specs]
    missing = [spec for spec, record in zip(specs, there, strict=True) if record is None]
    results = [ShardResult(record, current_device()) for record in there if record is not None]
    made = make(missing) if missing else iter(())
    return results + [_store_shard(spec, list(itertools.islice(made, len(spec.rows)))) for spec in missing]


def _store_shard(spec: SampleSpec, made: Sequence[MadeSample]) -> ShardResult:
    with timed("write_stack"):
        arrays = stacked_arrays(spec.recipe, made)
    staged = stage_shard(spec.out, DATA, spec.key, arrays, shard=spec.shard)
    rows = tuple(sample.record for sample in made)
    record = publish_shard(spec.out, staged, spec.identity.model_copy(update={"rows": rows}))
    return ShardResult(record, current_device())


def stacked_arrays(recipe: Recipe, made: Sequence[MadeSample]) -> dict[str, NDArray[Any]]:
    """Rows of samples in every array of the store, by name, in the order and type that they are stored in."""
    arrays: dict[str, NDArray[Any]] = {
        "image": np.stack([sample.image for sample in made]),
        "mask": np.stack([sample.mask for sample in made]).astype(np.uint8) * MASK_VALUE,
    }
    if keeps_instances(recipe):
        arrays[INSTANCE] = np.stack([sample.instance for sample in made])
    for stage in recipe.store.stages:
        arrays[stage_array(stage)] = np.stack([sample.stages[stage] for sample in made])
    return arrays | {field.name: _stack_field(made, field.name, recipe.size) for field in sample_fields(recipe)}


def _stack_field(made: Sequence[MadeSample], name: str, size: int) -> NDArray[np.float16]:
    stacked = np.zeros((len(made), size, size), dtype=np.float16)
    for k, sample in enumerate(made):
        if name in sample.fields:
            stacked[k] = sample.fields[name]
    return stacked


def make_samples(
    specs: Sequence[SampleSpec], *, trajectories: Mapping[tuple[str, int], StoredTrajectory] | None = None
) -> Iterator[MadeSample]:
    """Make the samples of some shards of a corpus, in order.

    ``trajectories`` by mechanism and number go before those of the stored bank.
    """
    recipe = specs[0].recipe
    bank = dict(trajectories or {})
    at_once = max(1, _PIXELS_AT_ONCE // recipe.size**2)
    wanted_rows = [(spec, row) for spec in specs for row in spec.rows]
    for first in range(0, len(wanted_rows), at_once):
        chosen = wanted_rows[first : first + at_once]
        rows = [row for _, row in chosen]
        with timed("read"):
            opened = _open(chosen, bank)
        yield from _finished(recipe, opened, rows)


def _made(recipe: Recipe, opened: _Opened, rows: Sequence[PlanRow], *, drawn_before: int) -> dict[int, list[Result]]:
    """The defects of samples by the samples' index: all first ones, then all second ones, and so on."""
    made: dict[int, list[Result]] = {row.index: [] for row in rows}
    for number in range(max(len(row.planned()) for row in rows)):
        wanted = [opened.defect(row, number, made[row.index]) for row in rows if number < len(row.planned())]
        for result in _settle(recipe, wanted, drawn_before):
            made[result.placed.ingredients.row.index].append(result)
    return made


def crashed(spec: SampleSpec, row: PlanRow) -> MadeSample:
    """The sample of a row of a shard whose making ends the process that makes it."""
    opened = _open([(spec, row)], {})
    ingredients = [opened.defect(row, number, ()) for number in range(len(row.planned()))]
    return compose_crashed(spec.recipe, ingredients)


def _finished(recipe: Recipe, opened: _Opened, rows: Sequence[PlanRow]) -> list[MadeSample]:
    """Samples with their quality; poor ones are drawn again as the recipe has it, and then dropped."""
    redraws = recipe.sqe.redraws if recipe.sqe.enabled and recipe.sqe.below == "redraw" else 0
    finished: dict[int, MadeSample] = {}
    pending = list(rows)
    for again in range(redraws + 1):
        made = _made(recipe, opened, pending, drawn_before=again * recipe.label.attempts)
        finished |= _composed(recipe, made)
        pending = [row for row in pending if _is_poor(recipe, finished[row.index])]
        if not pending:
            break
    dropped = {row.index: [replace(one, status=SampleStatus.POOR) for one in made[row.index]] for row in pending}
    if dropped:
        finished |= _composed(recipe, dropped)
    return [finished[row.index] for row in rows]


def _composed(recipe: Recipe, made: Mapping[int, Sequence[Result]]) -> dict[int, MadeSample]:
    """Whole pictures by the samples' index, scored where they hold a defect."""
    with timed("finish"):
        found = {index: compose(recipe, results) for index, results in made.items()}
    with timed("sqe"):
        scored = [k for k, sample in found.items() if recipe.sqe.enabled and sample.record.status is SampleStatus.OK]
        ingredients = {k: made[k][0].placed.ingredients for k in scored}
        judged = [(found[k].image, found[k].mask, ingredients[k].source, ingredients[k].foreground) for k in scored]
        for k, quality in zip(scored, quality_of(judged), strict=True):
            found[k] = replace(found[k], record=found[k].record.model_copy(update={"sqe": quality}))
    return found


def _is_poor(recipe: Recipe, sample: MadeSample) -> bool:
    return recipe.sqe.enabled and sample.record.status is SampleStatus.OK and sample.record.sqe < recipe.sqe.least


def _settle(recipe: Recipe, wanted: Sequence[Ingredients], drawn_before: int) -> list[Result]:
    """Draw each of these defects until it is accepted, is hopeless, or has failed as often as is allowed; in order."""
    results: dict[int, Result] = {}
    pending: Sequence[Ingredients] = wanted
    for attempt in range(drawn_before, drawn_before + recipe.label.attempts):
        for result in attempt_defects(recipe, pending, attempt):
            results[result.placed.ingredients.row.index] = result
        failed = [results[i.row.index] for i in wanted if results[i.row.index].status is not SampleStatus.OK]
        pending = [r.ingredients_again(recipe.label.least_visibility) for r in failed if not r.is_hopeless]
        if not pending:
            break
    return [results[i.row.index] for i in wanted]


@dataclass(frozen=True)
class _Opened:
    """What the samples of some rows are made from, in memory, by category and number; trajectories."""

    pictures: Mapping[tuple[str, int], Picture]
    parts: Mapping[tuple[str, int], NDArray[np.bool_]]
    sources: Mapping[tuple[str, int], SourceRecord]
    bank: Mapping[tuple[str, int], StoredTrajectory]

    def defect(self, row: PlanRow, number: int, before: Sequence[Result]) -> Ingredients:
        """What one defect of a sample is made from; ``before`` are those that were made first."""
        planned, place = row.planned()[number], (f"{row.dataset}/{row.category}", row.source)
        taken, taken_px = taken_place(before) if before else (None, 0)
        return Ingredients(
            row=row,
            number=number,
            source=self.pictures[place],
            foreground=self.parts[place],
            donor=self._donor(place[0], planned),
            record=self.sources[place],
            trajectory=self.bank[planned.mechanism, planned.trajectory],
            taken=taken,
            taken_px=taken_px,
        )

    def _donor(self, key: str, planned: PlannedDefect) -> Donor | None:
        """The photograph that foreign material is taken from, where there is one."""
        if planned.donor < 0:
            return None
        return Donor(self.pictures[key, planned.donor], self.parts[key, planned.donor])


def _open(chosen: Sequence[tuple[SampleSpec, PlanRow]], bank: dict[tuple[str, int], StoredTrajectory]) -> _Opened:
    recipe, out = chosen[0][0].recipe, chosen[0][0].out
    sources = {(spec.key, k): spec.sources[k] for spec, row in chosen for k in row.photographs()}
    pictures, parts = _read_by_row(out, "source", sources), _read_by_row(out, "foreground", sources)
    wanted = {(defect.mechanism, defect.trajectory) for _, row in chosen for defect in row.planned()}
    for mechanism, trajectory in sorted(wanted - bank.keys()):
        bank[mechanism, trajectory] = load_trajectory(out, recipe, mechanism, trajectory)
    return _Opened(pictures, {place: part > 0 for place, part in parts.items()}, sources, bank)


def _read_by_row(out: Path, name: str, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], NDArray[Any]]:
    """Rows of an array by category and number; neighbours are read at once."""
    by_category: defaultdict[str, list[int]] = defaultdict(list)
    for key, number in sorted(wanted):
        by_category[key].append(number)
    found: dict[tuple[str, int], NDArray[Any]] = {}
    for key, numbers in by_category.items():
        for run in np.split(np.array(numbers), np.nonzero(np.diff(numbers) > 1)[0] + 1):
            block = read_rows(out, DATA, key, name, int(run[0]), int(run[-1]) + 1)
            found.update(zip([(key, number) for number in run.tolist()], block, strict=True))
    return found
