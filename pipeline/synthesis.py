"""Third stage: one shard of samples, from plan rows to arrays on disk and their commit record.

Samples go through physics (fields on a window of the picture), the refinement passes, and the acceptance test, in
batches of windows of one size. What fails is drawn again at another place, a bounded number of times; what still
fails keeps its place in the shard as an unchanged normal with an empty mask and a status that says why.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from manifests.fields import FIELDS, FieldSpec
from manifests.hashing import canonical_json, code_version, sha256_bytes
from manifests.layout import DATA, INSTANCE, stage_array
from manifests.records import (
    CommitRecord,
    DefectRecord,
    PlannedDefect,
    PlanRow,
    SampleRecord,
    SampleStatus,
    SourceRecord,
)
from manifests.seeds import Stage, stream
from physics.mechanism import Crack
from physics.placement import (
    Placement,
    Window,
    crack_window,
    field_window,
    noise_tile,
    place_crack,
    place_fields,
    place_grain,
    place_noise,
    roughness_tile,
)
from physics.registry import MECHANISMS
from pipeline.bank import StoredTrajectory, load_trajectory
from pipeline.planning import DrawnPlacement, draw_placement, opening_width, trace_outline
from pipeline.recipe import Recipe, config_sha256
from pipeline.store import ArraySpec, commit, create_array, read_rows, write_shard
from refine.passes import CrackArrays, DefectInputs, OpticsArrays, RefinedBatch, ReliefArrays, refine_defects
from refine.scene import PRODUCT_REFLECTANCE

__all__ = [
    "MASK_VALUE",
    "SampleSpec",
    "ShardResult",
    "create_sample_arrays",
    "make_samples",
    "sample_fields",
    "store_samples",
]

MASK_VALUE = 255
_ROWS_AT_ONCE = 64  # samples that are open at a time: bounds memory
_BATCH_PIXELS = 4 * 256 * 256  # pixels in one batch of windows: what a core's cache still holds
_OUTLINE_WIGGLE_CELLS = 0.25
_SHAPE = ("depth", "height")  # what says where a changed surface is; product and displacement reach beyond
_NO_RELIEF = ("opening", "damage")
_REACH_PX = 4  # fields reach this far beyond npcF's support
_APART_PX = 2  # between the changed pixels of two defects of one picture

Picture = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class SampleSpec:
    """One shard to make: consecutive rows of one category's plan, and the records of the sources they use."""

    out: Path
    recipe: Recipe
    rows: tuple[PlanRow, ...]
    sources: Mapping[int, SourceRecord]

    @property
    def key(self) -> str:
        """``<dataset>/<category>``."""
        return f"{self.rows[0].dataset}/{self.rows[0].category}"

    @property
    def shard(self) -> int:
        """Number of the shard within the category."""
        return self.rows[0].shard

    @property
    def inputs_sha256(self) -> str:
        """Identity of what the shard is made from: its plan rows, and what is known of their sources."""
        records = [*self.rows, *(self.sources[index] for index in sorted(self.sources))]
        return sha256_bytes(canonical_json([record.model_dump(mode="json") for record in records]))


@dataclass(frozen=True)
class ShardResult:
    """A finished shard's record, and seconds spent by stage: for the log alone."""

    record: CommitRecord[SampleRecord]
    seconds: dict[str, float]


@dataclass(frozen=True)
class MadeSample:
    """One sample.

    ``image`` and each of ``stages`` (S, S, C) as the source; ``instance`` (S, S) uint8, 0 normal, k the k-th defect;
    ``fields`` (S, S) float16 by name.
    """

    record: SampleRecord
    image: Picture
    instance: NDArray[np.uint8]
    fields: Mapping[str, NDArray[np.float16]]
    stages: Mapping[str, Picture]


@dataclass(frozen=True)
class _Ingredients:
    """All that one defect of a sample is made from; ``number`` is its place among them, 0 for the first."""

    row: PlanRow
    number: int
    planned: PlannedDefect
    source: Picture
    foreground: NDArray[np.bool_]
    record: SourceRecord
    trajectory: StoredTrajectory

    @property
    def key(self) -> tuple[int, int]:
        """Sample and number of the defect."""
        return self.row.index, self.number


@dataclass(frozen=True)
class _Look:
    """What one sample draws from the ranges of `manifests.config.RenderConfig`."""

    depth_to_width: float
    lip_slope: float
    debris: float
    glint: float
    roughness: float
    gloss: float
    gloss_exponent: float
    pit_floor: float
    product: tuple[float, ...]


@dataclass(frozen=True)
class _Placed:
    """One attempt at a sample: where the defect goes, its fields there, and its appearance.

    ``distance`` to a crack's lips and the fields are (W, W) on the window, pixels.
    """

    ingredients: _Ingredients
    attempt: int
    drawn: DrawnPlacement
    extent: float
    window: Window
    fields: Mapping[str, NDArray[np.float32]]
    distance: NDArray[np.float32] | None
    grain: NDArray[np.float32]
    noise: NDArray[np.float32]
    look: _Look

    def affected(self) -> NDArray[np.bool_]:
        """Where the defect is, (W, W): in an opening, or where the surface moved by a twentieth of the most."""
        there = np.zeros((self.window.side, self.window.side), dtype=bool)
        if self.distance is not None:
            return self.distance < 0
        for name in _SHAPE:
            if name in self.fields:
                magnitude = np.abs(self.fields[name])
                there |= magnitude > 0.05 * float(magnitude.max())
        return there


@dataclass(frozen=True)
class _Result:
    """What came of an attempt, on its window."""

    placed: _Placed
    status: SampleStatus
    image: Picture
    mask: NDArray[np.bool_]
    stages: Mapping[str, Picture]
    contrast: float
    residual: float
    cycles: int
    counts: Mapping[str, int]

    def changed(self) -> NDArray[np.bool_]:
        """Pixels of the window that are not the photograph's."""
        source = self.placed.ingredients.source[self.placed.window.slices]
        return np.asarray((self.image != source).any(axis=2))


def sample_fields(recipe: Recipe) -> tuple[FieldSpec, ...]:
    """Fields that the samples of a corpus may have: those of the mechanisms that take part, in a fixed order."""
    wanted = {name for mechanism in recipe.mechanism_weights() for name in MECHANISMS[mechanism].fields}
    return tuple(spec for name, spec in FIELDS.items() if name in wanted)


def create_sample_arrays(out: Path, recipe: Recipe, key: str, *, count: int, channels: int, per_shard: int) -> None:
    """Lay out the arrays of one category's samples."""
    shape = (count, recipe.size, recipe.size)
    depth = f"uint{recipe.bit_depth}"
    about = {
        "image": (depth, (*shape, channels), "grey levels", "picture with the defect"),
        "mask": ("uint8", shape, "1", f"0 normal, {MASK_VALUE} visibly changed"),
    }
    if recipe.placement.defects[1] > 1:
        about[INSTANCE] = ("uint8", shape, "1", "0 normal, k visibly changed by the k-th defect")
    for stage in recipe.store.stages:
        about[stage_array(stage)] = (depth, (*shape, channels), "grey levels", f"the picture after the stage {stage}")
    about |= {field.name: ("float16", shape, field.unit, field.meaning) for field in sample_fields(recipe)}
    for name, (dtype, whole, unit, meaning) in about.items():
        spec = ArraySpec(
            name=name,
            shape=whole,
            dtype=dtype,
            shard_rows=per_shard,
            attributes=(("unit", unit), ("meaning", meaning)),
        )
        create_array(out, DATA, key, spec, zstd_level=recipe.store.zstd_level)


def store_samples(spec: SampleSpec) -> ShardResult:
    """Make one shard and write it; the record last."""
    seconds: defaultdict[str, float] = defaultdict(float)
    made = list(make_samples(spec, seconds))
    start = time.perf_counter()
    arrays: dict[str, NDArray[Any]] = {
        "image": np.stack([sample.image for sample in made]),
        "mask": np.stack([sample.instance > 0 for sample in made]).astype(np.uint8) * MASK_VALUE,
    }
    if spec.recipe.placement.defects[1] > 1:
        arrays[INSTANCE] = np.stack([sample.instance for sample in made])
    for stage in spec.recipe.store.stages:
        arrays[stage_array(stage)] = np.stack([sample.stages[stage] for sample in made])
    arrays |= {field.name: _stack_field(made, field.name, spec.recipe.size) for field in sample_fields(spec.recipe)}
    record = CommitRecord[SampleRecord](
        stage="samples",
        key=spec.key,
        shard=spec.shard,
        config_sha256=config_sha256(spec.recipe),
        code_version=code_version(),
        inputs_sha256=spec.inputs_sha256,
        files=write_shard(spec.out, DATA, spec.key, arrays, shard=spec.shard),
        rows=tuple(sample.record for sample in made),
    )
    commit(spec.out, record)
    seconds["write"] += time.perf_counter() - start
    return ShardResult(record=record, seconds=dict(seconds))


def _stack_field(made: Sequence[MadeSample], name: str, size: int) -> NDArray[np.float16]:
    stacked = np.zeros((len(made), size, size), dtype=np.float16)
    for k, sample in enumerate(made):
        if name in sample.fields:
            stacked[k] = sample.fields[name]
    return stacked


def make_samples(spec: SampleSpec, seconds: defaultdict[str, float]) -> Iterator[MadeSample]:
    """Make the samples of a shard, in order; adds to ``seconds`` by stage."""
    bank: dict[tuple[str, int], StoredTrajectory] = {}
    for first in range(0, len(spec.rows), _ROWS_AT_ONCE):
        start = time.perf_counter()
        opened = _open(spec, spec.rows[first : first + _ROWS_AT_ONCE], bank)
        seconds["read"] += time.perf_counter() - start
        results = _make_defects(spec.recipe, opened, seconds)
        start = time.perf_counter()
        for row in spec.rows[first : first + _ROWS_AT_ONCE]:
            yield _finish(spec.recipe, [results[row.index, k] for k in range(1 + len(row.others))])
        seconds["finish"] += time.perf_counter() - start


def _make_defects(
    recipe: Recipe, opened: Sequence[_Ingredients], seconds: defaultdict[str, float]
) -> dict[tuple[int, int], _Result]:
    """The last attempt at each defect: what fails, or meets another defect of its picture, is drawn again elsewhere."""
    results: dict[tuple[int, int], _Result] = {}
    occupied: dict[int, NDArray[np.bool_]] = {}
    pending = opened
    for attempt in range(recipe.label.attempts):
        found = {result.placed.ingredients.key: result for result in _attempt(recipe, pending, attempt, seconds)}
        for ingredients in pending:  # in order of samples and their defects: who comes first stays
            results[ingredients.key] = _settle(found[ingredients.key], occupied, alone=not ingredients.row.others)
        pending = [i for i in opened if results[i.key].status is not SampleStatus.OK]
        if not pending:
            break
    return results


def _settle(result: _Result, occupied: dict[int, NDArray[np.bool_]], *, alone: bool) -> _Result:
    """Take the result's place on its picture, or find that it is crowded there."""
    if alone or result.status is not SampleStatus.OK:
        return result
    ingredients, window = result.placed.ingredients, result.placed.window
    taken = occupied.setdefault(ingredients.row.index, np.zeros(ingredients.foreground.shape, dtype=bool))
    changed = result.changed()
    if (taken[window.slices] & changed).any():
        return replace(result, status=SampleStatus.CROWDED)
    whole = np.zeros_like(taken)
    whole[window.slices] = changed
    side = 2 * _APART_PX + 1
    taken |= ndimage.binary_dilation(whole, structure=np.ones((side, side), dtype=bool))
    return result


def _open(
    spec: SampleSpec, rows: Sequence[PlanRow], bank: dict[tuple[str, int], StoredTrajectory]
) -> list[_Ingredients]:
    pictures = _read_by_row(spec, "source", {row.source for row in rows})
    parts = _read_by_row(spec, "foreground", {row.source for row in rows})
    planned = [(row, number, defect) for row in rows for number, defect in enumerate(row.planned())]
    for mechanism, trajectory in sorted({(d.mechanism, d.trajectory) for _, _, d in planned} - bank.keys()):
        bank[mechanism, trajectory] = load_trajectory(spec.out, spec.recipe, mechanism, trajectory)
    return [
        _Ingredients(
            row,
            number,
            defect,
            pictures[row.source],
            parts[row.source] > 0,
            spec.sources[row.source],
            bank[defect.mechanism, defect.trajectory],
        )
        for row, number, defect in planned
    ]


def _read_by_row(spec: SampleSpec, name: str, wanted: Iterable[int]) -> dict[int, NDArray[np.uint8]]:
    """Rows of an array by number; neighbours are read at once."""
    numbers = np.array(sorted(wanted))
    runs = np.split(numbers, np.nonzero(np.diff(numbers) > 1)[0] + 1)
    found: dict[int, NDArray[np.uint8]] = {}
    for run in runs:
        block = read_rows(spec.out, DATA, spec.key, name, int(run[0]), int(run[-1]) + 1)
        found.update(zip(run.tolist(), block, strict=True))
    return found


def _attempt(
    recipe: Recipe, pending: Sequence[_Ingredients], attempt: int, seconds: defaultdict[str, float]
) -> Iterator[_Result]:
    """One draw for each sample: place, refine, judge; windows of one mechanism and one size together."""
    start = time.perf_counter()
    by_kind: dict[tuple[str, int], list[_Placed]] = {}
    for ingredients in pending:
        placed = _place(recipe, ingredients, attempt)
        by_kind.setdefault((ingredients.planned.mechanism, placed.window.side), []).append(placed)
    seconds["physics"] += time.perf_counter() - start
    for (_, side), group in sorted(by_kind.items()):
        step = max(1, _BATCH_PIXELS // side**2)
        for first in range(0, len(group), step):
            yield from _refine(recipe, group[first : first + step], seconds)


def _place(recipe: Recipe, ingredients: _Ingredients, attempt: int) -> _Placed:
    """Where the defect goes at this attempt, and its fields on the window that holds it."""
    planned, trajectory = ingredients.planned, ingredients.trajectory
    position = (attempt, ingredients.number) if ingredients.number else (attempt,)
    rng = stream(recipe.seed, Stage.SAMPLE, ingredients.row.index, *position)
    drawn = _planned(planned) if attempt == 0 else _drawn_again(recipe, ingredients, rng)
    early = attempt < recipe.label.attempts // 2
    area = planned.asked_area if early else recipe.params(planned.mechanism).area.draw(rng)
    look = _draw_look(recipe, rng, channels=ingredients.source.shape[2])
    offset = (int(rng.integers(0, 1 << 30)), int(rng.integers(0, 1 << 30)))
    drawn, extent = _sized(recipe, trajectory, planned.snapshot, drawn, area)
    placement = drawn.on_picture(recipe.size, extent)
    crack = trajectory.crack_at(planned.snapshot)
    distance: NDArray[np.float32] | None = None
    if crack is not None:
        window, fields, distance = _place_crack(recipe, planned.mechanism, crack, placement, drawn, look, offset)
    else:
        window, fields = _place_relief(recipe, trajectory, planned.snapshot, placement, offset)
    grain = place_grain(roughness_tile(recipe.seed), offset, window)
    noise = place_noise(noise_tile(recipe.seed), offset, window)
    return _Placed(ingredients, attempt, drawn, extent, window, fields, distance, grain, noise, look)


def _sized(
    recipe: Recipe, trajectory: StoredTrajectory, snapshot: int, drawn: DrawnPlacement, area: float
) -> tuple[DrawnPlacement, float]:
    """Side of the square / side of the picture at which the defect has the area asked for, within the bounds.

    A crack's area is open length x width: what the bounds of the square leave over is made up by the width.
    """
    low, high = recipe.placement.extent
    share = max(float(trajectory.area[snapshot]), 1e-6)
    width = opening_width(recipe.params(trajectory.mechanism))
    if width is None:
        return drawn, float(np.clip(np.sqrt(area / share), low, high))
    extent = float(np.clip(area / (share * drawn.width), low, high))
    fitting = float(np.clip(area / (share * extent), width.low, width.high))
    return replace(drawn, width=fitting), extent


def _place_crack(
    recipe: Recipe,
    mechanism: str,
    crack: Crack,
    placement: Placement,
    drawn: DrawnPlacement,
    look: _Look,
    offset: tuple[int, int],
) -> tuple[Window, dict[str, NDArray[np.float32]], NDArray[np.float32]]:
    """Window, opening, and distance to the lips."""
    width_px, reach_px = drawn.width * recipe.size, float(recipe.npcf.support_px + _REACH_PX)
    cell_px = placement.side / recipe.params(mechanism).grid
    segments, opening = crack.segments, crack.opening[0]
    window = crack_window(
        segments, opening, placement, size=recipe.size, cell_px=cell_px, width_px=width_px, reach_px=reach_px
    )
    found = place_crack(
        segments,
        opening,
        placement,
        window,
        cell_px=cell_px,
        width_px=width_px,
        roughness=look.roughness,
        reach_px=reach_px,
        tile=roughness_tile(recipe.seed),
        tile_offset=offset,
    )
    return window, {"opening": found.opening}, found.distance


def _place_relief(
    recipe: Recipe, trajectory: StoredTrajectory, snapshot: int, placement: Placement, offset: tuple[int, int]
) -> tuple[Window, dict[str, NDArray[np.float32]]]:
    """Window and fields of a mechanism that changes the surface."""
    fields = trajectory.fields_at(snapshot)
    window = field_window(fields, placement, size=recipe.size, reach_px=float(recipe.npcf.support_px + _REACH_PX))
    cell_px = placement.side / recipe.params(trajectory.mechanism).grid
    placed = place_fields(
        fields,
        placement,
        window,
        wiggle_px=_OUTLINE_WIGGLE_CELLS * cell_px if "depth" in fields else 0.0,  # lost material has a ragged outline
        tile=roughness_tile(recipe.seed),
        tile_offset=offset,
    )
    return window, placed


def _draw_look(recipe: Recipe, rng: np.random.Generator, *, channels: int) -> _Look:
    ranges = recipe.render
    product = PRODUCT_REFLECTANCE[ranges.products[int(rng.integers(len(ranges.products)))]]
    return _Look(
        depth_to_width=float(rng.uniform(*ranges.depth_to_width)),
        lip_slope=float(rng.uniform(*ranges.lip_height)),
        debris=float(rng.uniform(*ranges.debris)),
        glint=float(rng.uniform(*ranges.glint)),
        roughness=float(rng.uniform(*ranges.roughness)),
        gloss=float(rng.uniform(*ranges.gloss)),
        gloss_exponent=float(np.exp(rng.uniform(*np.log(ranges.gloss_exponent)))),
        pit_floor=float(rng.uniform(*ranges.pit_floor)),
        product=product if channels == 3 else (float(np.mean(product)),),
    )


def _planned(defect: PlannedDefect) -> DrawnPlacement:
    return DrawnPlacement(
        defect.dihedral, defect.angle_deg, defect.from_edge, defect.anchor_y, defect.anchor_x, defect.width
    )


def _drawn_again(recipe: Recipe, ingredients: _Ingredients, rng: np.random.Generator) -> DrawnPlacement:
    """Another place; trajectory, snapshot and turn stay, so that none comes twice on one source."""
    planned = ingredients.planned
    return draw_placement(
        rng,
        ingredients.foreground,
        trace_outline(ingredients.foreground),
        dihedral=planned.dihedral,
        from_edge=planned.from_edge,
        width=opening_width(recipe.params(planned.mechanism)),
    )


def _refine(recipe: Recipe, batch: Sequence[_Placed], seconds: defaultdict[str, float]) -> Iterator[_Result]:
    """Refine a batch of windows of one mechanism and size, and judge each."""
    parts = [placed.ingredients.foreground[placed.window.slices] for placed in batch]
    inputs = DefectInputs(
        source=np.stack([placed.ingredients.source[placed.window.slices] for placed in batch]),
        foreground=np.stack(parts),
        grain=np.stack([placed.grain for placed in batch]),
        noise=np.stack([placed.noise for placed in batch]),
        optics=_optics([placed.ingredients.record for placed in batch]),
        crack=_crack_arrays(batch),
        relief=_relief_arrays(batch),
    )
    refined = refine_defects(
        inputs, npcf=recipe.npcf, npcfpp=recipe.npcfpp, label=recipe.label, stages=recipe.store.stages
    )
    for name, spent in refined.seconds.items():
        seconds[name] += spent
    for k, placed in enumerate(batch):
        is_there = bool((placed.affected() & parts[k]).any())
        status = _judge(recipe, refined.mask[k], float(refined.residual[k]), is_there=is_there)
        yield _result(placed, status, refined, k)


def _result(placed: _Placed, status: SampleStatus, refined: RefinedBatch, k: int) -> _Result:
    """What the passes made of one sample of a batch."""
    return _Result(
        placed=placed,
        status=status,
        image=refined.image[k],
        mask=refined.mask[k],
        stages={name: values[k] for name, values in refined.stages.items()},
        contrast=float(refined.contrast[k]),
        residual=float(refined.residual[k]),
        cycles=int(refined.cycles[k]),
        counts={
            "faint_px": int(refined.faint_px[k]),
            "unlabelled_px": int(refined.unlabelled_px[k]),
            "unseen_px": int(refined.unseen_px[k]),
            "outside_px": int(refined.outside_px[k]),
        },
    )


def _crack_arrays(batch: Sequence[_Placed]) -> CrackArrays | None:
    distance = [placed.distance for placed in batch if placed.distance is not None]
    if not distance:
        return None
    return CrackArrays(
        distance=np.stack(distance),
        opening=np.stack([placed.fields["opening"] for placed in batch]),
        depth_to_width=_column(placed.look.depth_to_width for placed in batch),
        lip_slope=_column(placed.look.lip_slope for placed in batch),
        debris=_column(placed.look.debris for placed in batch),
        glint=_column(placed.look.glint for placed in batch),
    )


def _relief_arrays(batch: Sequence[_Placed]) -> ReliefArrays | None:
    names = [name for name in batch[0].fields if name not in _NO_RELIEF]
    if not names:
        return None
    return ReliefArrays(
        fields={name: np.stack([placed.fields[name] for placed in batch]) for name in names},
        gloss=_column(placed.look.gloss for placed in batch),
        gloss_exponent=_column(placed.look.gloss_exponent for placed in batch),
        pit_floor=_column(placed.look.pit_floor for placed in batch),
        product=np.array([placed.look.product for placed in batch], dtype=np.float32),
    )


def _column(values: Iterable[float]) -> NDArray[np.float32]:
    return np.fromiter(values, dtype=np.float32)


def _optics(records: Sequence[SourceRecord]) -> OpticsArrays:
    return OpticsArrays(
        light=np.array([(r.light_y, r.light_x) for r in records], dtype=np.float32),
        directional=_column(r.light_directional for r in records),
        gloss=_column(r.gloss for r in records),
        blur_px=_column(r.blur_px for r in records),
        noise=_column(r.noise for r in records),
        brightest=np.array([r.brightest for r in records], dtype=np.float32),
    )


def _judge(recipe: Recipe, mask: NDArray[np.bool_], residual: float, *, is_there: bool) -> SampleStatus:
    area = int(mask.sum()) / recipe.size**2
    if not is_there:
        return SampleStatus.OFF_FOREGROUND
    if residual > recipe.npcf.tolerance:
        return SampleStatus.NOT_CONVERGED
    if area == 0:
        return SampleStatus.INVISIBLE
    if area < recipe.label.min_area:
        return SampleStatus.AREA_BELOW
    if area > recipe.label.max_area:
        return SampleStatus.AREA_ABOVE
    return SampleStatus.OK


def _finish(recipe: Recipe, results: Sequence[_Result]) -> MadeSample:
    """The whole picture and its record; a sample whose first defect failed goes back to its source."""
    ingredients = results[0].placed.ingredients
    image = ingredients.source.copy()
    stages = {stage: ingredients.source.copy() for stage in recipe.store.stages}
    instance = np.zeros(ingredients.foreground.shape, dtype=np.uint8)
    status = results[0].status
    there = [r for r in results if r.status is SampleStatus.OK] if status is SampleStatus.OK else []
    if sum(int(result.mask.sum()) for result in there) > recipe.label.max_area * instance.size:
        status, there = SampleStatus.AREA_ABOVE, []
    fields: dict[str, NDArray[np.float16]] = {}
    numbers = {}
    for number, result in enumerate(there, start=1):
        numbers[result.placed.ingredients.number] = number
        _lay(image, result.image, result.placed)
        for stage, kept in stages.items():
            _lay(kept, result.stages[stage], result.placed)
        instance[result.placed.window.slices][result.mask] = number
        for name, values in _whole_fields(recipe, result.placed).items():
            fields[name] = fields[name] + values if name in fields else values  # they lie apart
    record = _record(results, numbers, status, image, instance)
    return MadeSample(record, image, instance, fields, stages)


def _lay(picture: Picture, window: Picture, placed: _Placed) -> None:
    """Put a window's changed pixels on the picture."""
    there = picture[placed.window.slices]
    changed = (window != placed.ingredients.source[placed.window.slices]).any(axis=2)
    there[changed] = window[changed]


def _whole_fields(recipe: Recipe, placed: _Placed) -> dict[str, NDArray[np.float16]]:
    """Fields on the whole picture, as they are stored: nothing off the part."""
    foreground = placed.ingredients.foreground
    if placed.distance is None:
        return {name: _on_picture(values, placed.window, foreground) for name, values in placed.fields.items()}
    opening = np.where(placed.distance < 0, placed.fields["opening"], 0)
    whole = {"opening": _on_picture(opening, placed.window, foreground)}
    beside = placed.ingredients.trajectory.fields_at(placed.ingredients.planned.snapshot)
    if beside:  # it reaches farther than what is seen of it
        placement = placed.drawn.on_picture(recipe.size, placed.extent)
        window = field_window(beside, placement, size=recipe.size, reach_px=0.0)
        found = place_fields(beside, placement, window)
        whole |= {name: _on_picture(values, window, foreground) for name, values in found.items()}
    return whole


def _on_picture(values: NDArray[np.float32], window: Window, foreground: NDArray[np.bool_]) -> NDArray[np.float16]:
    stored = np.zeros(foreground.shape, dtype=np.float16)
    stored[window.slices] = np.where(foreground[window.slices], values, 0)
    return stored


def _record(
    results: Sequence[_Result],
    numbers: Mapping[int, int],
    status: SampleStatus,
    image: Picture,
    instance: NDArray[np.uint8],
) -> SampleRecord:
    first = results[0].placed
    mask = instance > 0
    defects = tuple(_defect_record(result, numbers.get(k, 0)) for k, result in enumerate(results))
    there = [result for k, result in enumerate(results) if k in numbers]
    outcome = {
        "angle_deg": first.drawn.angle_deg,
        "anchor_y": first.drawn.anchor_y,
        "anchor_x": first.drawn.anchor_x,
        "width": first.drawn.width,
        **{name: getattr(defects[0], name) for name in ("attempts", "extent", "center_y", "center_x", "severity")},
        "status": status,
        "length_px": defects[0].length_px,
        "relief_px": defects[0].relief_px,
        "residual": max(defect.residual for defect in defects),
        "cycles": max(defect.cycles for defect in defects),
        "area_px": int(mask.sum()),
        "area_fraction": float(mask.mean()),
        "contrast": _mean_contrast(there or results[:1]),
        **_bounding_box(mask),
        **{name: sum(result.counts[name] for result in there) for name in results[0].counts},
        "off_part_px": int((mask & ~first.ingredients.foreground).sum()),
        "image_sha256": sha256_bytes(image.data),
        "mask_sha256": sha256_bytes((mask.astype(np.uint8) * MASK_VALUE).data),
        "defects": defects,
    }
    return SampleRecord.model_validate(first.ingredients.row.model_dump() | outcome)


def _mean_contrast(results: Sequence[_Result]) -> float:
    """Of all masks together."""
    weights = [max(int(result.mask.sum()), 1) for result in results]
    return float(np.average([result.contrast for result in results], weights=weights))


def _defect_record(result: _Result, number: int) -> DefectRecord:
    placed, planned = result.placed, result.placed.ingredients.planned
    trajectory = placed.ingredients.trajectory
    crack = trajectory.crack_at(planned.snapshot)
    size = placed.ingredients.foreground.shape[0]
    heights = [values for name, values in placed.fields.items() if name in ("depth", "height")]
    center = placed.drawn.on_picture(size, placed.extent).center
    mask = np.zeros((size, size), dtype=bool)
    mask[placed.window.slices] = result.mask if number else False
    return DefectRecord(
        instance=number,
        status=result.status,
        attempts=placed.attempt + 1,
        mechanism=planned.mechanism,
        trajectory=planned.trajectory,
        snapshot=planned.snapshot,
        severity=float(trajectory.severity[planned.snapshot]),
        dihedral=planned.dihedral,
        angle_deg=placed.drawn.angle_deg,
        extent=placed.extent,
        center_y=center[0] / size,
        center_x=center[1] / size,
        width=placed.drawn.width,
        area_px=int(mask.sum()),
        length_px=(float(crack.length()[0]) if crack is not None else 0.0) * placed.extent * size,
        relief_px=max((float(np.abs(values).max()) for values in heights), default=0.0),
        contrast=result.contrast,
        residual=result.residual,
        cycles=result.cycles,
        **_bounding_box(mask),
    )


def _bounding_box(mask: NDArray[np.bool_]) -> dict[str, int]:
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    if not len(rows):
        return dict.fromkeys(("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"), 0)
    return {
        "bbox_y0": int(rows[0]),
        "bbox_x0": int(columns[0]),
        "bbox_y1": int(rows[-1]) + 1,
        "bbox_x1": int(columns[-1]) + 1,
    }
