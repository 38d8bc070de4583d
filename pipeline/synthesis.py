"""Third stage: one shard of samples, from plan rows to arrays on disk and their commit record.

A batch goes through physics (fields on the picture's grid), the refinement passes, and the acceptance test. What
fails is drawn again at another place, a bounded number of times; what still fails keeps its place in the shard as an
unchanged normal with an empty mask and a status that says why.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manifests.config import LabelConfig, Recipe, config_sha256
from manifests.hashing import canonical_json, code_version, sha256_bytes
from manifests.layout import DATA
from manifests.records import CommitRecord, PlanRow, SampleRecord, SampleStatus
from manifests.seeds import Stage, stream
from physics.fracture import starts_at_edge
from physics.placement import CrackFields, place_crack, roughness_tile
from pipeline.bank import StoredTrajectory, load_trajectory
from pipeline.planning import DrawnPlacement, draw_placement, trace_outline
from pipeline.store import ArraySpec, commit, create_array, read_rows, write_shard
from refine.passes import CrackInputs, RefinedBatch, refine_cracks

__all__ = ["MASK_VALUE", "SampleSpec", "ShardResult", "create_sample_arrays", "make_samples", "store_samples"]

MASK_VALUE = 255
_BATCH = 16
_REACH_PX = 4  # fields reach this far beyond npcF's support


@dataclass(frozen=True)
class SampleSpec:
    """One shard to make: consecutive rows of one category's plan."""

    out: Path
    recipe: Recipe
    rows: tuple[PlanRow, ...]

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
        """Identity of what the shard is made from: its plan rows."""
        return sha256_bytes(canonical_json([row.model_dump(mode="json") for row in self.rows]))


@dataclass(frozen=True)
class ShardResult:
    """A finished shard's record, and seconds spent by stage: for the log alone."""

    record: CommitRecord[SampleRecord]
    seconds: dict[str, float]


@dataclass
class _Draft:
    """A sample on its way: its plan row, the attempt it is at, and what it has come to."""

    row: PlanRow
    source: NDArray[np.uint8]
    foreground: NDArray[np.bool_]
    trajectory: StoredTrajectory
    lengths: float
    attempt: int = 0
    drawn: DrawnPlacement | None = None
    image: NDArray[np.uint8] | None = None
    mask: NDArray[np.bool_] | None = None
    opening: NDArray[np.float16] | None = None
    damage: NDArray[np.float16] | None = None
    status: SampleStatus = SampleStatus.OFF_FOREGROUND
    figures: dict[str, float] = field(default_factory=dict)


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
    seconds: Counter[str] = Counter()
    made = list(make_samples(spec, seconds))
    start = time.perf_counter()
    arrays = {
        "image": np.stack([draft.image for draft, _ in made if draft.image is not None]),
        "mask": np.stack([draft.mask for draft, _ in made if draft.mask is not None]).astype(np.uint8) * MASK_VALUE,
        "opening": np.stack([draft.opening for draft, _ in made if draft.opening is not None]),
        "damage": np.stack([draft.damage for draft, _ in made if draft.damage is not None]),
    }
    record = CommitRecord[SampleRecord](
        stage="samples",
        key=spec.key,
        shard=spec.shard,
        config_sha256=config_sha256(spec.recipe),
        code_version=code_version(),
        inputs_sha256=spec.inputs_sha256,
        files=write_shard(spec.out, DATA, spec.key, arrays, shard=spec.shard),
        rows=tuple(row for _, row in made),
    )
    commit(spec.out, record)
    seconds["write"] += time.perf_counter() - start
    return ShardResult(record=record, seconds=dict(seconds))


def make_samples(spec: SampleSpec, seconds: Counter[str]) -> Iterator[tuple[_Draft, SampleRecord]]:
    """Make the samples of a shard, in order, batch by batch; adds to ``seconds`` by stage."""
    for first in range(0, len(spec.rows), _BATCH):
        start = time.perf_counter()
        drafts = _open(spec, spec.rows[first : first + _BATCH])
        seconds["read"] += time.perf_counter() - start
        pending = drafts
        for attempt in range(spec.recipe.label.attempts):
            for draft in pending:
                draft.attempt = attempt
            _attempt(spec.recipe, pending, seconds)
            pending = [draft for draft in pending if draft.status is not SampleStatus.OK]
            if not pending:
                break
        for draft in drafts:
            yield draft, _close(draft)


def _open(spec: SampleSpec, rows: Sequence[PlanRow]) -> list[_Draft]:
    pictures: dict[int, tuple[NDArray[np.uint8], NDArray[np.bool_]]] = {}
    for source in sorted({row.source for row in rows}):
        image = read_rows(spec.out, DATA, spec.key, "source", source, source + 1)[0]
        foreground = read_rows(spec.out, DATA, spec.key, "foreground", source, source + 1)[0] > 0
        pictures[source] = (image, foreground)
    bank = {t: load_trajectory(spec.out, t) for t in sorted({row.trajectory for row in rows})}
    return [
        _Draft(row, *pictures[row.source], bank[row.trajectory], lengths=_length(bank[row.trajectory], -1, 1.0))
        for row in rows
    ]


def _length(trajectory: StoredTrajectory, snapshot: int, side: float) -> float:
    """Length of the open part of a crack whose square has this side."""
    is_open = (trajectory.opening[snapshot] > 0).any(axis=1)
    ends = trajectory.segments[is_open].reshape(-1, 2, 2)
    return float(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).sum() * side)


def _attempt(recipe: Recipe, drafts: Sequence[_Draft], seconds: Counter[str]) -> None:
    """One draw for each draft: place, refine, judge."""
    start = time.perf_counter()
    placed = [_place(recipe, draft) for draft in drafts]
    seconds["physics"] += time.perf_counter() - start
    fields = [fields for fields, _ in placed]
    look = np.array([look for _, look in placed], dtype=np.float32)
    inputs = CrackInputs(
        source=np.stack([draft.source for draft in drafts]),
        foreground=np.stack([draft.foreground for draft in drafts]),
        distance=np.stack([f.distance for f in fields]),
        opening=np.stack([f.opening for f in fields]),
        grain=np.stack([f.grain for f in fields]),
        depth_to_width=look[:, 0],
        lip_slope=look[:, 1],
        debris=look[:, 2],
        glint=look[:, 3],
    )
    refined = refine_cracks(inputs, npcf=recipe.npcf, label=recipe.label)
    seconds.update(refined.seconds)
    for k, draft in enumerate(drafts):
        _judge(recipe, draft, fields[k], refined, k)


def _place(recipe: Recipe, draft: _Draft) -> tuple[CrackFields, tuple[float, float, float, float]]:
    """Fields on the picture, and the appearance: depth / width, lip slope, debris, glint."""
    row = draft.row
    rng = stream(recipe.seed, Stage.SAMPLE, row.index, draft.attempt)
    if draft.attempt == 0:
        draft.drawn = DrawnPlacement(
            row.dihedral, row.angle_deg, row.extent, row.center_y, row.center_x, row.width
        )
    else:
        from_edge = starts_at_edge(recipe.fracture, stream(recipe.seed, Stage.BANK, row.trajectory))
        outline = trace_outline(draft.foreground)
        draft.drawn = draw_placement(rng, recipe.placement, draft.foreground, outline, from_edge=from_edge)
    look = recipe.render
    drawn_look = tuple(float(rng.uniform(*r)) for r in (look.depth_to_width, look.lip_height, look.debris, look.glint))
    offset = rng.integers(0, 1 << 30, size=2)
    fields = place_crack(
        draft.trajectory.damage[row.snapshot],
        draft.trajectory.segments,
        draft.trajectory.opening[row.snapshot],
        draft.drawn.on_picture(recipe.size),
        size=recipe.size,
        width_px=draft.drawn.width * recipe.size,
        roughness=float(rng.uniform(*look.roughness)),
        reach_px=float(recipe.npcf.support_px + _REACH_PX),
        tile=roughness_tile(recipe.seed),
        tile_offset=(int(offset[0]), int(offset[1])),
    )
    return fields, (drawn_look[0], drawn_look[1], drawn_look[2], drawn_look[3])


def _judge(recipe: Recipe, draft: _Draft, fields: CrackFields, refined: RefinedBatch, k: int) -> None:
    """Take over the result of an attempt, with its status."""
    mask = refined.mask[k]
    area = int(mask.sum())
    draft.status = _status(recipe.label, area / mask.size, float(refined.residual[k]), recipe, draft, fields)
    draft.figures = {
        "contrast": float(refined.contrast[k]),
        "residual": float(refined.residual[k]),
        "iterations": float(refined.iterations[k]),
    }
    is_open = (fields.distance < 0) & draft.foreground
    draft.image, draft.mask = refined.image[k], mask
    draft.opening = np.where(is_open, fields.opening, 0).astype(np.float16)
    draft.damage = np.where(draft.foreground, fields.damage, 0).astype(np.float16)


def _status(
    label: LabelConfig, area: float, residual: float, recipe: Recipe, draft: _Draft, fields: CrackFields
) -> SampleStatus:
    if residual > recipe.npcf.tolerance:
        return SampleStatus.NOT_CONVERGED
    if not ((fields.distance < 0) & draft.foreground).any():
        return SampleStatus.OFF_FOREGROUND
    if area == 0:
        return SampleStatus.INVISIBLE
    if area < label.min_area:
        return SampleStatus.AREA_BELOW
    if area > label.max_area:
        return SampleStatus.AREA_ABOVE
    return SampleStatus.OK


def _close(draft: _Draft) -> SampleRecord:
    """The final record; a sample that failed goes back to its source."""
    if draft.drawn is None or draft.image is None or draft.mask is None:
        raise RuntimeError(f"sample {draft.row.id} was never attempted")
    if draft.status is not SampleStatus.OK:
        draft.image = draft.source.copy()
        draft.mask = np.zeros_like(draft.mask)
        draft.opening = np.zeros(draft.mask.shape, dtype=np.float16)
        draft.damage = np.zeros(draft.mask.shape, dtype=np.float16)
    side = draft.drawn.extent * draft.mask.shape[0]
    length = _length(draft.trajectory, draft.row.snapshot, side)
    y0, x0, y1, x1 = _bounding_box(draft.mask)
    placement = replace(draft.drawn)
    row = draft.row.model_dump() | {
        name: getattr(placement, name) for name in ("dihedral", "angle_deg", "extent", "center_y", "center_x", "width")
    }
    return SampleRecord.model_validate(
        row
        | {
            "status": draft.status,
            "attempts": draft.attempt + 1,
            "area_px": int(draft.mask.sum()),
            "area_fraction": float(draft.mask.mean()),
            "severity": length / (draft.lengths * side) if draft.lengths else 0.0,
            "length_px": length,
            "contrast": draft.figures["contrast"],
            "residual": draft.figures["residual"],
            "iterations": int(draft.figures["iterations"]),
            "bbox_y0": y0,
            "bbox_x0": x0,
            "bbox_y1": y1,
            "bbox_x1": x1,
            "image_sha256": sha256_bytes(np.ascontiguousarray(draft.image).data),
            "mask_sha256": sha256_bytes(np.ascontiguousarray(draft.mask.astype(np.uint8) * MASK_VALUE).data),
        }
    )


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    if not mask.any():
        return 0, 0, 0, 0
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
