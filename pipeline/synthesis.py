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

from manifests.fields import FIELDS, FieldSpec
from manifests.hashing import canonical_json, code_version, sha256_bytes
from manifests.layout import DATA
from manifests.records import CommitRecord, PlanRow, SampleRecord, SampleStatus, SourceRecord
from manifests.seeds import Stage, stream
from physics.mechanism import Crack
from physics.placement import (
    Placement,
    Window,
    crack_window,
    field_window,
    place_crack,
    place_fields,
    place_grain,
    roughness_tile,
)
from physics.registry import MECHANISMS
from pipeline.bank import StoredTrajectory, load_trajectory
from pipeline.planning import DrawnPlacement, draw_placement, opening_width, trace_outline
from pipeline.recipe import Recipe, config_sha256
from pipeline.store import ArraySpec, commit, create_array, read_rows, write_shard
from refine.passes import CrackArrays, DefectInputs, OpticsArrays, ReliefArrays, refine_defects
from refine.relief import PRODUCT_REFLECTANCE

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
    """One sample: its record, image (S, S, C) uint8, mask (S, S) bool, fields (S, S) float16 by name."""

    record: SampleRecord
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    fields: Mapping[str, NDArray[np.float16]]


@dataclass(frozen=True)
class _Ingredients:
    """All that a sample is made from."""

    row: PlanRow
    source: NDArray[np.uint8]
    foreground: NDArray[np.bool_]
    record: SourceRecord
    trajectory: StoredTrajectory


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
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    contrast: float
    residual: float
    iterations: int


def sample_fields(recipe: Recipe) -> tuple[FieldSpec, ...]:
    """Fields that the samples of a corpus may have: those of the mechanisms that take part, in a fixed order."""
    wanted = {name for mechanism in recipe.mechanism_weights() for name in MECHANISMS[mechanism].fields}
    return tuple(spec for name, spec in FIELDS.items() if name in wanted)


def create_sample_arrays(out: Path, recipe: Recipe, key: str, *, count: int, channels: int, per_shard: int) -> None:
    """Lay out the arrays of one category's samples."""
    shape = (count, recipe.size, recipe.size)
    about = {
        "image": ("uint8", (*shape, channels), "grey levels", "picture with the defect"),
        "mask": ("uint8", shape, "1", f"0 normal, {MASK_VALUE} visibly changed"),
    }
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
        "mask": np.stack([sample.mask for sample in made]).astype(np.uint8) * MASK_VALUE,
    }
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
        results: dict[int, _Result] = {}
        pending = opened
        for attempt in range(spec.recipe.label.attempts):
            for result in _attempt(spec.recipe, pending, attempt, seconds):
                results[result.placed.ingredients.row.index] = result
            pending = [i for i in opened if results[i.row.index].status is not SampleStatus.OK]
            if not pending:
                break
        start = time.perf_counter()
        for ingredients in opened:
            yield _finish(spec.recipe, results[ingredients.row.index])
        seconds["finish"] += time.perf_counter() - start


def _open(
    spec: SampleSpec, rows: Sequence[PlanRow], bank: dict[tuple[str, int], StoredTrajectory]
) -> list[_Ingredients]:
    pictures = _read_by_row(spec, "source", {row.source for row in rows})
    parts = _read_by_row(spec, "foreground", {row.source for row in rows})
    for mechanism, trajectory in sorted({(row.mechanism, row.trajectory) for row in rows} - bank.keys()):
        bank[mechanism, trajectory] = load_trajectory(spec.out, spec.recipe, mechanism, trajectory)
    return [
        _Ingredients(
            row,
            pictures[row.source],
            parts[row.source] > 0,
            spec.sources[row.source],
            bank[row.mechanism, row.trajectory],
        )
        for row in rows
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
        by_kind.setdefault((ingredients.row.mechanism, placed.window.side), []).append(placed)
    seconds["physics"] += time.perf_counter() - start
    for (_, side), group in sorted(by_kind.items()):
        step = max(1, _BATCH_PIXELS // side**2)
        for first in range(0, len(group), step):
            yield from _refine(recipe, group[first : first + step], seconds)


def _place(recipe: Recipe, ingredients: _Ingredients, attempt: int) -> _Placed:
    """Where the defect goes at this attempt, and its fields on the window that holds it."""
    row, trajectory = ingredients.row, ingredients.trajectory
    rng = stream(recipe.seed, Stage.SAMPLE, row.index, attempt)
    drawn = _planned(row) if attempt == 0 else _drawn_again(recipe, ingredients, rng)
    area = row.asked_area if attempt < recipe.label.attempts // 2 else recipe.params(row.mechanism).area.draw(rng)
    look = _draw_look(recipe, rng, channels=ingredients.source.shape[2])
    offset = (int(rng.integers(0, 1 << 30)), int(rng.integers(0, 1 << 30)))
    drawn, extent = _sized(recipe, trajectory, row.snapshot, drawn, area)
    placement = drawn.on_picture(recipe.size, extent)
    crack = trajectory.crack_at(row.snapshot)
    distance: NDArray[np.float32] | None = None
    if crack is not None:
        window, fields, distance = _place_crack(recipe, row.mechanism, crack, placement, drawn, look, offset)
    else:
        window, fields = _place_relief(recipe, trajectory, row.snapshot, placement, offset)
    grain = place_grain(roughness_tile(recipe.seed), offset, window)
    return _Placed(ingredients, attempt, drawn, extent, window, fields, distance, grain, look)


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


def _planned(row: PlanRow) -> DrawnPlacement:
    return DrawnPlacement(row.dihedral, row.angle_deg, row.from_edge, row.anchor_y, row.anchor_x, row.width)


def _drawn_again(recipe: Recipe, ingredients: _Ingredients, rng: np.random.Generator) -> DrawnPlacement:
    """Another place; trajectory, snapshot and turn stay, so that none comes twice on one source."""
    row = ingredients.row
    return draw_placement(
        rng,
        ingredients.foreground,
        trace_outline(ingredients.foreground),
        dihedral=row.dihedral,
        from_edge=row.from_edge,
        width=opening_width(recipe.params(row.mechanism)),
    )


def _refine(recipe: Recipe, batch: Sequence[_Placed], seconds: defaultdict[str, float]) -> Iterator[_Result]:
    """Refine a batch of windows of one mechanism and size, and judge each."""
    parts = [placed.ingredients.foreground[placed.window.slices] for placed in batch]
    inputs = DefectInputs(
        source=np.stack([placed.ingredients.source[placed.window.slices] for placed in batch]),
        foreground=np.stack(parts),
        grain=np.stack([placed.grain for placed in batch]),
        optics=_optics([placed.ingredients.record for placed in batch]),
        crack=_crack_arrays(batch),
        relief=_relief_arrays(batch),
    )
    refined = refine_defects(inputs, npcf=recipe.npcf, label=recipe.label)
    for name, spent in refined.seconds.items():
        seconds[name] += spent
    for k, placed in enumerate(batch):
        residual = float(refined.residual[k])
        is_there = bool((placed.affected() & parts[k]).any())
        yield _Result(
            placed=placed,
            status=_judge(recipe, refined.mask[k], residual, is_there=is_there),
            image=refined.image[k],
            mask=refined.mask[k],
            contrast=float(refined.contrast[k]),
            residual=residual,
            iterations=int(refined.iterations[k]),
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
        directional=np.array([r.light_directional for r in records], dtype=np.float32),
        blur_px=np.array([r.blur_px for r in records], dtype=np.float32),
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


def _finish(recipe: Recipe, result: _Result) -> MadeSample:
    """The whole picture and its record; a sample that failed goes back to its source."""
    ingredients = result.placed.ingredients
    image = ingredients.source.copy()
    mask = np.zeros(ingredients.foreground.shape, dtype=bool)
    fields: dict[str, NDArray[np.float16]] = {}
    if result.status is SampleStatus.OK:
        image[result.placed.window.slices] = result.image
        mask[result.placed.window.slices] = result.mask
        fields = _whole_fields(recipe, result.placed)
    return MadeSample(_record(result, image, mask), image, mask, fields)


def _whole_fields(recipe: Recipe, placed: _Placed) -> dict[str, NDArray[np.float16]]:
    """Fields on the whole picture, as they are stored: nothing off the part."""
    foreground = placed.ingredients.foreground
    if placed.distance is None:
        return {name: _on_picture(values, placed.window, foreground) for name, values in placed.fields.items()}
    opening = np.where(placed.distance < 0, placed.fields["opening"], 0)
    whole = {"opening": _on_picture(opening, placed.window, foreground)}
    beside = placed.ingredients.trajectory.fields_at(placed.ingredients.row.snapshot)
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


def _record(result: _Result, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> SampleRecord:
    placed, row = result.placed, result.placed.ingredients.row
    trajectory = placed.ingredients.trajectory
    crack = trajectory.crack_at(row.snapshot)
    length = float(crack.length()[0]) if crack is not None else 0.0
    lengths = [values for name, values in placed.fields.items() if name in ("depth", "height")]
    center = placed.drawn.on_picture(mask.shape[0], placed.extent).center
    y0, x0, y1, x1 = _bounding_box(mask)
    outcome = {
        "angle_deg": placed.drawn.angle_deg,
        "anchor_y": placed.drawn.anchor_y,
        "anchor_x": placed.drawn.anchor_x,
        "width": placed.drawn.width,
        "extent": placed.extent,
        "center_y": center[0] / mask.shape[0],
        "center_x": center[1] / mask.shape[0],
        "status": result.status,
        "attempts": placed.attempt + 1,
        "area_px": int(mask.sum()),
        "area_fraction": float(mask.mean()),
        "severity": float(trajectory.severity[row.snapshot]),
        "length_px": length * placed.extent * mask.shape[0],
        "relief_px": max((float(np.abs(values).max()) for values in lengths), default=0.0),
        "contrast": result.contrast,
        "residual": result.residual,
        "iterations": result.iterations,
        "bbox_y0": y0,
        "bbox_x0": x0,
        "bbox_y1": y1,
        "bbox_x1": x1,
        "image_sha256": sha256_bytes(image.data),
        "mask_sha256": sha256_bytes((mask.astype(np.uint8) * MASK_VALUE).data),
    }
    return SampleRecord.model_validate(row.model_dump() | outcome)


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    if not mask.any():
        return 0, 0, 0, 0
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
