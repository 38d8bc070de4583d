"""Third stage: one shard of samples, from plan rows to arrays on disk and their commit record.

Samples go through physics (fields on a window of the picture), the refinement passes, and the acceptance test, in
batches of windows of one size. What fails is drawn again at another place, a bounded number of times; what still
fails keeps its place in the shard as an unchanged normal with an empty mask and a status that says why.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.config import Recipe, config_sha256
from manifests.hashing import canonical_json, code_version, sha256_bytes
from manifests.layout import DATA
from manifests.records import CommitRecord, PlanRow, SampleRecord, SampleStatus, SourceRecord
from manifests.seeds import Stage, stream
from physics.fracture import starts_at_edge
from physics.placement import CrackFields, Window, crack_window, place_crack, place_field, roughness_tile
from pipeline.bank import StoredTrajectory, load_trajectory
from pipeline.planning import DrawnPlacement, draw_placement, trace_outline
from pipeline.store import ArraySpec, commit, create_array, read_rows, write_shard
from refine.passes import CrackInputs, OpticsArrays, refine_cracks

__all__ = ["MASK_VALUE", "SampleSpec", "ShardResult", "create_sample_arrays", "make_samples", "store_samples"]

MASK_VALUE = 255
_ROWS_AT_ONCE = 64  # samples that are open at a time: bounds memory
_BATCH_PIXELS = 4 * 256 * 256  # pixels in one batch of windows: what a core's cache still holds
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
    """One sample: its record, image (S, S, C) uint8, mask (S, S) bool, opening and damage (S, S) float16."""

    record: SampleRecord
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    opening: NDArray[np.float16]
    damage: NDArray[np.float16]


@dataclass(frozen=True)
class _Ingredients:
    """All that a sample is made from."""

    row: PlanRow
    source: NDArray[np.uint8]
    foreground: NDArray[np.bool_]
    record: SourceRecord
    trajectory: StoredTrajectory


@dataclass(frozen=True)
class _Placed:
    """One attempt at a sample: where the crack goes, its fields there, and its appearance."""

    ingredients: _Ingredients
    attempt: int
    drawn: DrawnPlacement
    window: Window
    fields: CrackFields
    look: tuple[float, float, float, float]  # depth / width, lip slope, debris, glint


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


def create_sample_arrays(out: Path, recipe: Recipe, key: str, *, count: int, channels: int, per_shard: int) -> None:
    """Lay out the arrays of one category's samples."""
    shape = (count, recipe.size, recipe.size)
    about = {
        "image": ("uint8", (*shape, channels), "grey levels", "picture with the defect"),
        "mask": ("uint8", shape, "1", f"0 normal, {MASK_VALUE} visibly changed"),
        "opening": ("float16", shape, "px", "width of the crack, where it is open"),
        "damage": ("float16", shape, "1", "phase field: 0 sound, 1 broken"),
    }
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
        "opening": np.stack([sample.opening for sample in made]),
        "damage": np.stack([sample.damage for sample in made]),
    }
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


def make_samples(spec: SampleSpec, seconds: defaultdict[str, float]) -> Iterator[MadeSample]:
    """Make the samples of a shard, in order; adds to ``seconds`` by stage."""
    bank: dict[int, StoredTrajectory] = {}
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


def _open(spec: SampleSpec, rows: Sequence[PlanRow], bank: dict[int, StoredTrajectory]) -> list[_Ingredients]:
    pictures = _read_by_row(spec, "source", {row.source for row in rows})
    parts = _read_by_row(spec, "foreground", {row.source for row in rows})
    for trajectory in sorted({row.trajectory for row in rows} - bank.keys()):
        bank[trajectory] = load_trajectory(spec.out, trajectory)
    return [
        _Ingredients(row, pictures[row.source], parts[row.source] > 0, spec.sources[row.source], bank[row.trajectory])
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
    """One draw for each sample: place, refine, judge; windows of one size together."""
    start = time.perf_counter()
    by_side: dict[int, list[_Placed]] = {}
    for ingredients in pending:
        placed = _place(recipe, ingredients, attempt)
        by_side.setdefault(placed.window.side, []).append(placed)
    seconds["physics"] += time.perf_counter() - start
    for side, group in sorted(by_side.items()):
        step = max(1, _BATCH_PIXELS // side**2)
        for first in range(0, len(group), step):
            yield from _refine(recipe, group[first : first + step], seconds)


def _place(recipe: Recipe, ingredients: _Ingredients, attempt: int) -> _Placed:
    """Where the crack goes at this attempt, and its fields on the window that holds it."""
    row, trajectory, ranges = ingredients.row, ingredients.trajectory, recipe.render
    rng = stream(recipe.seed, Stage.SAMPLE, row.index, attempt)
    drawn = _planned(row) if attempt == 0 else _drawn_again(recipe, ingredients, rng)
    look = (
        float(rng.uniform(*ranges.depth_to_width)),
        float(rng.uniform(*ranges.lip_height)),
        float(rng.uniform(*ranges.debris)),
        float(rng.uniform(*ranges.glint)),
    )
    roughness = float(rng.uniform(*ranges.roughness))
    offset = rng.integers(0, 1 << 30, size=2)
    placement = drawn.on_picture(recipe.size)
    opening = trajectory.opening_at(row.snapshot)
    width_px, reach_px = drawn.width * recipe.size, float(recipe.npcf.support_px + _REACH_PX)
    cell_px = placement.side / recipe.fracture.grid
    window = crack_window(
        trajectory.segments,
        opening,
        placement,
        size=recipe.size,
        cell_px=cell_px,
        width_px=width_px,
        reach_px=reach_px,
    )
    fields = place_crack(
        trajectory.segments,
        opening,
        placement,
        window,
        cell_px=cell_px,
        width_px=width_px,
        roughness=roughness,
        reach_px=reach_px,
        tile=roughness_tile(recipe.seed),
        tile_offset=(int(offset[0]), int(offset[1])),
    )
    return _Placed(ingredients, attempt, drawn, window, fields, look)


def _planned(row: PlanRow) -> DrawnPlacement:
    return DrawnPlacement(row.dihedral, row.angle_deg, row.extent, row.center_y, row.center_x, row.width)


def _drawn_again(recipe: Recipe, ingredients: _Ingredients, rng: np.random.Generator) -> DrawnPlacement:
    from_edge = starts_at_edge(recipe.fracture, stream(recipe.seed, Stage.BANK, ingredients.row.trajectory))
    outline = trace_outline(ingredients.foreground)
    return draw_placement(rng, recipe.placement, ingredients.foreground, outline, from_edge=from_edge)


def _refine(recipe: Recipe, batch: Sequence[_Placed], seconds: defaultdict[str, float]) -> Iterator[_Result]:
    """Refine a batch of windows of one size and judge each."""
    look = np.array([placed.look for placed in batch], dtype=np.float32)
    parts = [placed.ingredients.foreground[placed.window.slices] for placed in batch]
    inputs = CrackInputs(
        source=np.stack([placed.ingredients.source[placed.window.slices] for placed in batch]),
        foreground=np.stack(parts),
        distance=np.stack([placed.fields.distance for placed in batch]),
        opening=np.stack([placed.fields.opening for placed in batch]),
        grain=np.stack([placed.fields.grain for placed in batch]),
        optics=_optics([placed.ingredients.record for placed in batch]),
        depth_to_width=look[:, 0],
        lip_slope=look[:, 1],
        debris=look[:, 2],
        glint=look[:, 3],
    )
    refined = refine_cracks(inputs, npcf=recipe.npcf, label=recipe.label)
    for name, spent in refined.seconds.items():
        seconds[name] += spent
    for k, placed in enumerate(batch):
        residual = float(refined.residual[k])
        is_open = bool(((placed.fields.distance < 0) & parts[k]).any())
        yield _Result(
            placed=placed,
            status=_judge(recipe, refined.mask[k], residual, is_open=is_open),
            image=refined.image[k],
            mask=refined.mask[k],
            contrast=float(refined.contrast[k]),
            residual=residual,
            iterations=int(refined.iterations[k]),
        )


def _optics(records: Sequence[SourceRecord]) -> OpticsArrays:
    return OpticsArrays(
        light=np.array([(r.light_y, r.light_x) for r in records], dtype=np.float32),
        directional=np.array([r.light_directional for r in records], dtype=np.float32),
        blur_px=np.array([r.blur_px for r in records], dtype=np.float32),
        brightest=np.array([r.brightest for r in records], dtype=np.float32),
    )


def _judge(recipe: Recipe, mask: NDArray[np.bool_], residual: float, *, is_open: bool) -> SampleStatus:
    area = int(mask.sum()) / recipe.size**2
    if not is_open:
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
    placed, ingredients = result.placed, result.placed.ingredients
    row, foreground = ingredients.row, ingredients.foreground
    image = ingredients.source.copy()
    mask = np.zeros(foreground.shape, dtype=bool)
    opening = np.zeros(foreground.shape, dtype=np.float16)
    damage = np.zeros(foreground.shape, dtype=np.float16)
    if result.status is SampleStatus.OK:
        window = placed.window.slices
        image[window] = result.image
        mask[window] = result.mask
        is_open = (placed.fields.distance < 0) & foreground[window]
        opening[window] = np.where(is_open, placed.fields.opening, 0)
        field = place_field(
            ingredients.trajectory.damage_at(row.snapshot), placed.drawn.on_picture(recipe.size), size=recipe.size
        )
        damage[...] = np.where(foreground, field, 0)
    return MadeSample(_record(result, image, mask), image, mask, opening, damage)


def _record(result: _Result, image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> SampleRecord:
    placed, row = result.placed, result.placed.ingredients.row
    trajectory = placed.ingredients.trajectory
    length, whole = trajectory.length_at(row.snapshot), trajectory.length_at(-1)
    y0, x0, y1, x1 = _bounding_box(mask)
    outcome = {
        "dihedral": placed.drawn.dihedral,
        "angle_deg": placed.drawn.angle_deg,
        "extent": placed.drawn.extent,
        "center_y": placed.drawn.center_y,
        "center_x": placed.drawn.center_x,
        "width": placed.drawn.width,
        "status": result.status,
        "attempts": placed.attempt + 1,
        "area_px": int(mask.sum()),
        "area_fraction": float(mask.mean()),
        "severity": length / whole if whole else 0.0,
        "length_px": length * placed.drawn.extent * mask.shape[0],
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
