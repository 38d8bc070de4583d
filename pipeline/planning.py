"""The plan: one row for every sample, before anything is computed.

Totals are exact: samples are shared over categories and mechanisms by the largest remainder. Sources are used in
turn, so that a shard reads neighbouring ones; a shard draws from a few trajectories, read once. Sources and
trajectories fall into the same number of groups, and a sample joins only a source and a trajectory of one group, so
that a split by group shares neither.

References
----------
Largest remainder (Hamilton) method of apportionment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from manifests.config import AUTO, PlacementConfig, Recipe
from manifests.records import PlanRow, SourceRecord, plan_row_id
from manifests.seeds import Stage, seed_path, stream
from physics.fracture import starts_at_edge
from physics.placement import Placement

__all__ = [
    "CategorySources",
    "Outline",
    "allocate",
    "bank_size",
    "draw_placement",
    "make_plan",
    "shard_rows",
    "trace_outline",
]

_SHARD_BYTES = 50_000_000
_SHARD_MOST = 256
_SAMPLES_PER_TRAJECTORY = 12
_TRAJECTORIES_PER_SHARD = 60
_BANK_LEAST, _BANK_MOST = 20, 2000
_OUTLINE_POINTS = 256
_ENTRY_TILT_DEG = 35.0  # how far from square to the part's edge a crack may enter
_ENTRY_OVERLAP = 0.04  # share of the square that lies beyond the edge, so that the mouth is cut by it
_PLACE_TRIES = 64


@dataclass(frozen=True)
class Outline:
    """Points (P, 2) on the border of a foreground, pixels (y, x), and the unit normals (P, 2) that point inwards."""

    points: NDArray[np.float64]
    inward: NDArray[np.float64]


@dataclass(frozen=True)
class CategorySources:
    """Usable sources of one category: their records in order of index, and their foregrounds (N, S, S) bool."""

    dataset: str
    category: str
    records: tuple[SourceRecord, ...]
    foreground: NDArray[np.bool_]

    @property
    def key(self) -> str:
        """``<dataset>/<category>``."""
        return f"{self.dataset}/{self.category}"


def allocate(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers that sum to ``total`` in proportion to ``weights``; ties go to the first.

    Raises
    ------
    ValueError
        No weights, a negative one, or all zero.
    """
    if not weights or min(weights) < 0 or sum(weights) <= 0:
        raise ValueError(f"weights must be non-negative and not all zero, got {list(weights)}")
    share = np.asarray(weights, dtype=np.float64) * (total / float(np.sum(weights)))
    counts = np.floor(share).astype(np.int64)
    order = np.argsort(-(share - counts), kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return [int(count) for count in counts]


def bank_size(recipe: Recipe) -> int:
    """Number of trajectories in the bank."""
    if recipe.bank.trajectories != AUTO:
        return recipe.bank.trajectories
    wanted = -(-recipe.count // _SAMPLES_PER_TRAJECTORY)
    return max(recipe.bank.groups, _BANK_LEAST, min(_BANK_MOST, wanted))


def shard_rows(recipe: Recipe, channels: int) -> int:
    """Images in one shard: about 50 MB of pictures before compression, at most 256."""
    if recipe.store.shard_images != AUTO:
        return recipe.store.shard_images
    return int(np.clip(_SHARD_BYTES // (recipe.size**2 * channels), 1, _SHARD_MOST))


def trace_outline(foreground: NDArray[np.bool_]) -> Outline:
    """Border of a foreground, the picture's own border included, thinned to at most 256 points."""
    border = foreground & ~ndimage.binary_erosion(foreground, structure=np.ones((3, 3), dtype=bool), border_value=0)
    found = np.argwhere(border)
    points = found[np.linspace(0, len(found) - 1, min(len(found), _OUTLINE_POINTS)).astype(np.int64)]
    soft = ndimage.gaussian_filter(foreground.astype(np.float32), 4.0, mode="constant")
    down, right = np.gradient(soft)
    gradient = np.stack([down, right], axis=-1)[points[:, 0], points[:, 1]].astype(np.float64)
    norm = np.linalg.norm(gradient, axis=1, keepdims=True)
    inward = np.where(norm > 1e-9, gradient / np.maximum(norm, 1e-9), np.array([1.0, 0.0]))
    return Outline(points=points.astype(np.float64) + 0.5, inward=inward)


@dataclass(frozen=True)
class DrawnPlacement:
    """A placement in units of the picture's side; fields as in `PlanRow`."""

    dihedral: int
    angle_deg: float
    extent: float
    center_y: float
    center_x: float
    width: float

    def on_picture(self, size: int) -> Placement:
        """The same in pixels."""
        center = (self.center_y * size, self.center_x * size)
        return Placement(center=center, side=self.extent * size, dihedral=self.dihedral, angle_deg=self.angle_deg)


def draw_placement(
    rng: np.random.Generator,
    config: PlacementConfig,
    foreground: NDArray[np.bool_],
    outline: Outline,
    *,
    from_edge: bool,
) -> DrawnPlacement:
    """Where a trajectory goes: on the part, or, for a crack that enters from a side, square to the part's edge.

    Parameters
    ----------
    rng : numpy.random.Generator
        The sample's stream.
    config : PlacementConfig
        Ranges of extent and width.
    foreground : (S, S) bool
        Where the part is.
    outline : Outline
        Of that foreground.
    from_edge : bool
        The trajectory's crack enters at the middle of its square's left side.
    """
    size = foreground.shape[0]
    dihedral = int(rng.integers(8))
    angle = float(rng.uniform(-45.0, 45.0))
    extent = float(rng.uniform(*config.extent))
    width = float(np.exp(rng.uniform(*np.log(config.width))))
    if from_edge and len(outline.points):
        k = int(rng.integers(len(outline.points)))
        angle = _turn_inwards(dihedral, outline.inward[k]) + angle * _ENTRY_TILT_DEG / 45.0
        forward = Placement((0.0, 0.0), extent * size, dihedral, angle).forward()
        center = outline.points[k] + forward @ np.array([0.0, 0.5 - _ENTRY_OVERLAP])
    else:
        center = _random_pixel(rng, foreground) + rng.uniform(0.0, 1.0, size=2)
    center_y, center_x = (float(c) / size for c in center)
    return DrawnPlacement(dihedral, angle, extent, center_y, center_x, width)


def _turn_inwards(dihedral: int, inward: NDArray[np.float64]) -> float:
    """Turn, degrees in [-180, 180), that brings the square's x axis onto ``inward``."""
    axis = Placement((0.0, 0.0), 1.0, dihedral, 0.0).forward() @ np.array([0.0, 1.0])
    # counter-clockwise as seen, with y down: the angle of (y, x) is atan2(-y, x)
    turn = np.arctan2(-inward[0], inward[1]) - np.arctan2(-axis[0], axis[1])
    return float((np.rad2deg(turn) + 180.0) % 360.0 - 180.0)


def _random_pixel(rng: np.random.Generator, foreground: NDArray[np.bool_]) -> NDArray[np.int64]:
    size = foreground.shape[0]
    for _ in range(_PLACE_TRIES):
        pixel = rng.integers(size, size=2)
        if foreground[pixel[0], pixel[1]]:
            return pixel
    inside = np.argwhere(foreground)
    return inside[rng.integers(len(inside))] if len(inside) else np.array([size // 2, size // 2])


def make_plan(recipe: Recipe, categories: Sequence[CategorySources], channels: dict[str, int]) -> list[PlanRow]:
    """Every sample of the corpus, in order of index.

    Parameters
    ----------
    recipe : Recipe
        Count, mechanisms, placement, groups.
    categories : sequence of CategorySources
        Each with at least one source.
    channels : dict
        1 or 3 by category key; decides the shards.
    """
    weights = [1.0 if recipe.allocation == "equal" else float(len(c.records)) for c in categories]
    rows: list[PlanRow] = []
    entering = _entering_trajectories(recipe)
    for category, count in zip(categories, allocate(recipe.count, weights), strict=True):
        rows.extend(
            _plan_category(recipe, category, count, len(rows), shard_rows(recipe, channels[category.key]), entering)
        )
    return rows


def _entering_trajectories(recipe: Recipe) -> NDArray[np.bool_]:
    """Which trajectories of the bank enter from a side, (trajectories,) bool."""
    return np.array(
        [starts_at_edge(recipe.fracture, stream(recipe.seed, Stage.BANK, t)) for t in range(bank_size(recipe))]
    )


def _plan_category(
    recipe: Recipe, category: CategorySources, count: int, first: int, per_shard: int, entering: NDArray[np.bool_]
) -> list[PlanRow]:
    outlines = [trace_outline(mask) for mask in category.foreground] if count else []
    weights = recipe.mechanism_weights()
    mechanisms = np.repeat(list(weights), allocate(count, list(weights.values())))
    groups = recipe.bank.groups
    rows = []
    pool: list[NDArray[np.int64]] = []
    for row in range(count):
        index = first + row
        rng = stream(recipe.seed, Stage.PLAN, index, 0)
        source = row % len(category.records)
        group = source % groups
        if row % per_shard == 0:
            pool = _draw_pool(stream(recipe.seed, Stage.PLAN, index, 1), len(entering), groups)
        trajectory = int(rng.choice(pool[group]))
        foreground = category.foreground[source]
        drawn = draw_placement(
            rng, recipe.placement, foreground, outlines[source], from_edge=bool(entering[trajectory])
        )
        fields: dict[str, object] = {
            "index": index,
            "dataset": category.dataset,
            "category": category.category,
            "source": source,
            "source_sha256": category.records[source].sha256,
            "mechanism": str(mechanisms[row]),
            "trajectory": trajectory,
            "snapshot": _draw_snapshot(rng, recipe),
            "group": group,
            "dihedral": drawn.dihedral,
            "angle_deg": drawn.angle_deg,
            "extent": drawn.extent,
            "center_y": drawn.center_y,
            "center_x": drawn.center_x,
            "width": drawn.width,
            "seed_path": seed_path(recipe.seed, Stage.SAMPLE, index),
        }
        place = {"id": plan_row_id(fields), "shard": row // per_shard, "row": row}
        rows.append(PlanRow.model_validate({**fields, **place}))
    return rows


def _draw_pool(rng: np.random.Generator, trajectories: int, groups: int) -> list[NDArray[np.int64]]:
    """Trajectories that one shard draws from, by group; those of group g are g, g + groups, g + 2 groups, ..."""
    members = [np.arange(group, trajectories, groups) for group in range(groups)]
    each = max(1, _TRAJECTORIES_PER_SHARD // groups)
    return [rng.choice(m, size=min(each, len(m)), replace=False) for m in members]


def _draw_snapshot(rng: np.random.Generator, recipe: Recipe) -> int:
    low, high = recipe.placement.growth
    snapshots = recipe.fracture.snapshots
    return min(snapshots - 1, int(snapshots * rng.uniform(low, high)))
