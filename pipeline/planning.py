"""The plan: one row for every sample, before anything is computed.

Totals are exact: samples are shared over categories and mechanisms by the largest remainder. Sources are used in
turn, so that a shard reads neighbouring ones; a shard draws from a few trajectories, read once. Sources and
trajectories fall into the same number of groups, and a sample joins only a source and a trajectory of one group, so
that a split by group shares neither. On one source no snapshot comes twice in the same turn, and the bank is made
large enough for that. A sample's first defect follows these totals; the mechanisms of further ones are drawn by weight.
Foreign material comes from photographs of the sample's own group.
A corpus that was extended is planned in segments, the recipe's own count first and then each extension: every segment
has its own trajectories, and its rows begin a shard in every category, so nothing before it changes, and no state that
an earlier segment used comes again.
The recipe's sampling policy, if it has one, multiplies the weights, draws some quarters of the areas and severities
more often than others, and the border of a picture more often than its inside, or less.

References
----------
Largest remainder (Hamilton) method of apportionment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import ndimage

from manifests.config import AUTO
from manifests.distributions import Distribution
from manifests.errors import ConfigError
from manifests.policy import PlacePolicy
from manifests.records import PlannedDefect, PlanRow, SourceRecord, plan_row_id
from manifests.seeds import Stage, name_key, seed_path, stream
from manifests.tables import Rows, to_table
from physics.mechanism import MechanismParams
from physics.placement import Placement
from physics.registry import MECHANISMS
from pipeline.recipe import Recipe

__all__ = [
    "BANK_SHARD",
    "CategoryRows",
    "CategorySources",
    "DrawnPlacement",
    "Outline",
    "allocate",
    "bank_ranges",
    "bank_sizes",
    "bank_stream",
    "category_rows",
    "draw_placement",
    "enters_at_edge",
    "make_plan",
    "opening_width",
    "plan_segments",
    "samples_by_category",
    "samples_by_segment",
    "shard_rows",
    "trace_outline",
]

BANK_SHARD = 16  # trajectories in one shard of the bank
_SHARD_BYTES = 50_000_000
_SHARD_MOST, _SHARD_LEAST = 256, 32  # pictures in a shard, where a corpus has so many
_SHARDS_TO_SHARE = 32  # of a corpus that has enough samples: what workers can share out evenly
_DEFECTS_PER_TRAJECTORY = 24
_TRAJECTORIES_PER_SHARD = 60
_TURNS = 8
_BANK_LEAST, _BANK_MOST = 20, 2000
_OUTLINE_POINTS = 256
_TILT_DEG = 45.0  # with the turns by quarters every direction is as likely
_ENTRY_TILT_DEG = 35.0  # how far from square to the part's edge a crack may enter
_EDGE_TILT_DEG = 4.0  # the same for a surface whose free edge is that of the part
_ENTRY_OVERLAP = 0.04  # share of the square that lies beyond the edge, so that the mouth is cut by it
_PLACE_TRIES = 64
_ANYWHERE = PlacePolicy()


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


@dataclass(frozen=True)
class CategoryRows:
    """Where a category's samples lie in its arrays: how many rows a shard has, and the rows of each segment."""

    per_shard: int
    segments: tuple[range, ...]

    @property
    def used(self) -> tuple[range, ...]:
        """Rows that hold a sample."""
        return tuple(rows for rows in self.segments if rows)


def plan_segments(recipe: Recipe, extensions: Sequence[int]) -> list[Recipe]:
    """The recipe, and for each extension the recipe of so many samples: what is planned by itself, in order."""
    return [recipe, *(recipe.model_copy(update={"count": count}) for count in extensions)]


def category_rows(recipe: Recipe, channels: int, counts: Sequence[int]) -> CategoryRows:
    """Rows of a category with so many samples in each segment; the first that has any decides the size of a shard.

    Shards of a small corpus are smaller, so that there are enough of them to be shared out among workers.
    """
    most = max(_SHARD_LEAST, -(-recipe.count // _SHARDS_TO_SHARE))
    per_shard = shard_rows(recipe, channels, min(most, next((count for count in counts if count), 0)))
    return CategoryRows(per_shard, _from_whole_shards(counts, per_shard))


def _from_whole_shards(counts: Sequence[int], per_shard: int) -> tuple[range, ...]:
    """Numbers of so many items in each segment, each segment from the first free shard on."""
    found: list[range] = []
    for count in counts:
        first = -(-found[-1].stop // per_shard) * per_shard if found else 0
        found.append(range(first, first + count))
    return tuple(found)


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


def samples_by_category(recipe: Recipe, usable: Sequence[int]) -> list[int]:
    """Samples of each category, from the number of its usable photographs."""
    return allocate(recipe.count, [1.0 if recipe.allocation == "equal" else float(n) for n in usable])


def samples_by_segment(recipe: Recipe, usable: Sequence[int], extensions: Sequence[int] = ()) -> list[tuple[int, ...]]:
    """Samples of each category in each segment of the plan."""
    segments = plan_segments(recipe, extensions)
    return list(zip(*(samples_by_category(segment, usable) for segment in segments), strict=True))


def bank_sizes(recipe: Recipe, usable: Sequence[int]) -> dict[str, int]:
    """Number of trajectories of each mechanism.

    Parameters
    ----------
    recipe : Recipe
        Count, mechanisms and bank.
    usable : sequence of int
        Usable photographs of each category, in the order of the plan.

    Raises
    ------
    ConfigError
        ``bank.trajectories`` is given and too small for a plan without repeats.
    """
    weights = recipe.mechanism_weights()
    most = max(
        (-(-count // n) for count, n in zip(samples_by_category(recipe, usable), usable, strict=True)), default=0
    )
    most *= recipe.placement.defects[1]
    defects = sum(recipe.placement.defects) / 2  # of a sample, on average
    sizes = {}
    for name, weight in weights.items():
        share = weight / sum(weights.values())
        per_trajectory = len(_snapshots_in_range(recipe.params(name))) * _TURNS
        # a photograph's defects may all be of one mechanism, and come from the trajectories of its own group
        needed = recipe.bank.groups * -(-most // per_trajectory)
        if recipe.bank.trajectories != AUTO:
            if recipe.bank.trajectories < needed:
                raise ConfigError(
                    f"bank.trajectories: {recipe.bank.trajectories} are too few for {most} defects on one photograph "
                    f"without a repeat; expected at least {needed}, or auto"
                )
            sizes[name] = recipe.bank.trajectories
            continue
        wanted = -(-int(recipe.count * defects * share) // _DEFECTS_PER_TRAJECTORY)
        sizes[name] = max(recipe.bank.groups, _BANK_LEAST, min(_BANK_MOST, wanted), needed)
    return sizes


def bank_ranges(recipe: Recipe, usable: Sequence[int], extensions: Sequence[int] = ()) -> dict[str, tuple[range, ...]]:
    """Trajectories of each mechanism by number: a range for each segment of the plan, errors as for `bank_sizes`."""
    sizes = [bank_sizes(segment, usable) for segment in plan_segments(recipe, extensions)]
    return {name: _from_whole_shards([size[name] for size in sizes], BANK_SHARD) for name in sizes[0]}


def _snapshots_in_range(params: MechanismParams) -> NDArray[np.int64]:
    """Snapshots whose severity lies in the range asked for; they are evenly spaced in severity."""
    first, last = (_nearest_snapshot(params, bound) for bound in (params.severity.low, params.severity.high))
    return np.arange(first, last + 1)


def _nearest_snapshot(params: MechanismParams, severity: float) -> int:
    return min(params.snapshots - 1, max(0, round(severity * params.snapshots) - 1))


def bank_stream(recipe: Recipe, mechanism: str, trajectory: int) -> np.random.Generator:
    """The stream that a trajectory of the bank is drawn from."""
    return stream(recipe.seed, Stage.BANK, name_key(mechanism), trajectory)


def enters_at_edge(recipe: Recipe, mechanism: str, trajectory: int) -> bool:
    """Whether a trajectory's defect comes in from the edge of the part; known before it is simulated."""
    return MECHANISMS[mechanism].enters(recipe.params(mechanism), bank_stream(recipe, mechanism, trajectory))


def opening_width(params: MechanismParams) -> Distribution | None:
    """Distribution of the widest opening / side of the picture, for a mechanism that opens cracks."""
    width = getattr(params, "width", None)
    return width if isinstance(width, Distribution) else None


def shard_rows(recipe: Recipe, channels: int, count: int) -> int:
    """Images in one shard of an array of ``count``: about 50 MB of pictures before compression, at most 256."""
    if recipe.store.shard_images != AUTO:
        return recipe.store.shard_images
    picture_bytes = recipe.size**2 * channels * recipe.bit_depth // 8
    return int(np.clip(_SHARD_BYTES // picture_bytes, 1, min(_SHARD_MOST, max(count, 1))))


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
    """Where a defect is put, in units of the picture's side; fields as in `PlanRow`."""

    dihedral: int
    angle_deg: float
    from_edge: bool
    anchor_y: float
    anchor_x: float
    width: float

    def on_picture(self, size: int, extent: float) -> Placement:
        """Where a square of side ``extent`` x picture lies, in pixels: its middle, or its mouth, on the anchor."""
        anchor = np.array([self.anchor_y, self.anchor_x]) * size
        if self.from_edge:
            forward = Placement((0.0, 0.0), extent * size, self.dihedral, self.angle_deg).forward()
            anchor = anchor + forward @ np.array([0.0, 0.5 - _ENTRY_OVERLAP])
        center = (float(anchor[0]), float(anchor[1]))
        return Placement(center=center, side=extent * size, dihedral=self.dihedral, angle_deg=self.angle_deg)


def draw_placement(
    rng: np.random.Generator,
    foreground: NDArray[np.bool_],
    outline: Outline,
    *,
    dihedral: int,
    from_edge: bool,
    width: Distribution | None,
    tilt_deg: float = _TILT_DEG,
    policy: PlacePolicy = _ANYWHERE,
) -> DrawnPlacement:
    """Where a trajectory goes: on the part, or, for one that comes in from a side, square to the part's edge.

    Parameters
    ----------
    rng : numpy.random.Generator
        The sample's stream.
    foreground : (S, S) bool
        Where the part is.
    outline : Outline
        Of that foreground.
    dihedral : int
        Turn of the square, 0..7.
    from_edge : bool
        The trajectory comes in through the middle of its square's left side.
    width : Distribution or None
        Of the widest opening / side of the picture; None for a mechanism that opens nothing.
    tilt_deg : float
        Largest turn beside those by quarters.
    policy : PlacePolicy
        How often the border of the picture and its inside are chosen; not for one that comes in from a side.
    """
    size = foreground.shape[0]
    angle = float(rng.uniform(-tilt_deg, tilt_deg))
    widest = width.draw(rng) if width else 0.0
    entering = from_edge and len(outline.points) > 0
    if entering:
        k = int(rng.integers(len(outline.points)))
        tilt = _ENTRY_TILT_DEG if width else _EDGE_TILT_DEG
        angle = _turn_inwards(dihedral, outline.inward[k]) + angle * tilt / _TILT_DEG
        anchor = outline.points[k]
    else:
        anchor = _random_anchor(rng, foreground, policy)
    return DrawnPlacement(dihedral, angle, entering, float(anchor[0]) / size, float(anchor[1]) / size, widest)


def _turn_inwards(dihedral: int, inward: NDArray[np.float64]) -> float:
    """Turn, degrees in [-180, 180), that brings the square's x axis onto ``inward``."""
    axis = Placement((0.0, 0.0), 1.0, dihedral, 0.0).forward() @ np.array([0.0, 1.0])
    # counter-clockwise as seen, with y down: the angle of (y, x) is atan2(-y, x)
    turn = np.arctan2(-inward[0], inward[1]) - np.arctan2(-axis[0], axis[1])
    return float((np.rad2deg(turn) + 180.0) % 360.0 - 180.0)


def _random_anchor(rng: np.random.Generator, foreground: NDArray[np.bool_], policy: PlacePolicy) -> NDArray[np.float64]:
    """A point (y, x) of the part, pixels; equal factors draw nothing beyond it."""
    size = foreground.shape[0]
    anchor = _random_point(rng, foreground)
    if policy.border == policy.inside:
        return anchor
    for _ in range(_PLACE_TRIES):  # a part may lie wholly where hardly anything is wanted
        if rng.random() < policy.acceptance(float(anchor[0]) / size, float(anchor[1]) / size):
            break
        anchor = _random_point(rng, foreground)
    return anchor


def _random_point(rng: np.random.Generator, foreground: NDArray[np.bool_]) -> NDArray[np.float64]:
    return _random_pixel(rng, foreground) + rng.uniform(0.0, 1.0, size=2)


def _random_pixel(rng: np.random.Generator, foreground: NDArray[np.bool_]) -> NDArray[np.int64]:
    size = foreground.shape[0]
    for _ in range(_PLACE_TRIES):
        pixel = rng.integers(size, size=2)
        if foreground[pixel[0], pixel[1]]:
            return pixel
    inside = np.argwhere(foreground)
    return inside[rng.integers(len(inside))] if len(inside) else np.array([size // 2, size // 2])


def make_plan(
    recipe: Recipe, categories: Sequence[CategorySources], channels: Mapping[str, int], extensions: Sequence[int] = ()
) -> Rows[PlanRow]:
    """Every sample of the corpus, in order of index; a shard's one after another.

    Parameters
    ----------
    recipe : Recipe
        Count, mechanisms, placement, groups.
    categories : sequence of CategorySources
        Each with at least one source.
    channels : mapping
        1 or 3 by category key; decides the shards.
    extensions : sequence of int
        Samples of each extension, the oldest first.
    """
    usable = [len(c.records) for c in categories]
    shares = samples_by_segment(recipe, usable, extensions)
    laid = [category_rows(recipe, channels[c.key], counts) for c, counts in zip(categories, shares, strict=True)]
    bank = bank_ranges(recipe, usable, extensions)
    tables, first = [to_table([], PlanRow)], 0
    for number in range(1 + len(extensions)):
        trajectories = {name: _Trajectories.of(recipe, name, ranges[number]) for name, ranges in bank.items()}
        for category, counts, lying in zip(categories, shares, laid, strict=True):
            share = _Share(sum(counts[:number]), lying.segments[number], lying.per_shard)
            tables.append(to_table(_plan_category(recipe, category, share, first, trajectories), PlanRow))
            first += len(share.rows)
    return Rows(pa.concat_tables(tables).combine_chunks(), PlanRow)


@dataclass(frozen=True)
class _Share:
    """A category's samples of one segment: how many earlier segments have, their rows, and how many a shard holds."""

    before: int
    rows: range
    per_shard: int


@dataclass(frozen=True)
class _Trajectories:
    """Trajectories of one mechanism that a segment may draw from, and which come in from the edge of the part."""

    numbers: range
    entering: NDArray[np.bool_]

    @classmethod
    def of(cls, recipe: Recipe, name: str, numbers: range) -> Self:
        return cls(numbers, np.array([enters_at_edge(recipe, name, t) for t in numbers], dtype=np.bool_))

    def of_group(self, group: int, groups: int) -> NDArray[np.int64]:
        """Those of group g are g, g + groups, g + 2 groups, ..."""
        first = self.numbers.start + (group - self.numbers.start) % groups
        return np.arange(first, self.numbers.stop, groups)


def _plan_category(
    recipe: Recipe, category: CategorySources, share: _Share, first: int, bank: Mapping[str, _Trajectories]
) -> list[PlanRow]:
    outlines = [trace_outline(mask) for mask in category.foreground] if share.rows else []
    mechanisms = _mix(recipe, len(share.rows), first)
    chooser = _Chooser(recipe, bank)
    rows = []
    for k, row in enumerate(share.rows):
        index, source = first + k, (share.before + k) % len(category.records)
        rng = stream(recipe.seed, Stage.PLAN, index, 0)
        if row % share.per_shard == 0:
            chooser.open_shard(stream(recipe.seed, Stage.PLAN, index, 1))
        place = _Place(source, len(category.records), category.foreground[source], outlines[source])
        defects = [
            _plan_defect(recipe, rng, chooser, name, place) for name in (mechanisms[k], *_further(recipe, index))
        ]
        fields: dict[str, object] = {
            "index": index,
            "dataset": category.dataset,
            "category": category.category,
            "source": source,
            "source_sha256": category.records[source].sha256,
            "group": source % recipe.bank.groups,
            "seed_path": seed_path(recipe.seed, Stage.SAMPLE, index),
            **defects[0].model_dump(),
            "others": [defect.model_dump() for defect in defects[1:]],
        }
        where = {"id": plan_row_id(fields), "shard": row // share.per_shard, "row": row}
        rows.append(PlanRow.model_validate({**fields, **where}))
    return rows


def _further(recipe: Recipe, index: int) -> list[str]:
    """Mechanisms of a sample's defects beyond the first."""
    low, high = recipe.placement.defects
    if high == 1:
        return []
    rng = stream(recipe.seed, Stage.PLAN, index, 3)
    weights = recipe.mechanism_weights()
    share = np.array(list(weights.values())) / sum(weights.values())
    return [str(name) for name in rng.choice(list(weights), size=int(rng.integers(low, high + 1)) - 1, p=share)]


@dataclass(frozen=True)
class _Place:
    """A photograph that a defect is put on: its row, of how many, foreground (S, S) and outline."""

    source: int
    photographs: int
    foreground: NDArray[np.bool_]
    outline: Outline


def _plan_defect(
    recipe: Recipe, rng: np.random.Generator, chooser: _Chooser, name: str, place: _Place
) -> PlannedDefect:
    params = recipe.params(name)
    severity, area = recipe.asked_severity(name).draw(rng), recipe.asked_area(name).draw(rng)
    trajectory, snapshot, dihedral = chooser.choose(rng, name, place.source, _nearest_snapshot(params, severity))
    drawn = draw_placement(
        rng,
        place.foreground,
        place.outline,
        dihedral=dihedral,
        from_edge=chooser.enters(name, trajectory),
        width=opening_width(params),
        tilt_deg=MECHANISMS[name].tilt_deg,
        policy=recipe.policy_of(name).place,
    )
    return PlannedDefect(
        mechanism=name,
        trajectory=trajectory,
        snapshot=snapshot,
        dihedral=dihedral,
        angle_deg=drawn.angle_deg,
        from_edge=drawn.from_edge,
        anchor_y=drawn.anchor_y,
        anchor_x=drawn.anchor_x,
        asked_area=area,
        asked_severity=severity,
        width=drawn.width,
        donor=_choose_donor(recipe, rng, name, place),
    )


def _choose_donor(recipe: Recipe, rng: np.random.Generator, name: str, place: _Place) -> int:
    """Row of the photograph that foreign material comes from, always of the same group; -1 where none does.

    A patch comes from the photograph itself, a clone from another one where the group has one.
    """
    foreign = MECHANISMS[name].foreign
    if foreign == "patch":
        return place.source
    if foreign != "clone":
        return -1
    of_group = np.arange(place.source % recipe.bank.groups, place.photographs, recipe.bank.groups)
    others = of_group[of_group != place.source]
    return int(rng.choice(others)) if len(others) else place.source


def _mix(recipe: Recipe, count: int, first: int) -> list[str]:
    """Mechanism of each sample of a category: exact totals, shuffled so that every shard has all of them."""
    weights = recipe.mechanism_weights()
    names = np.repeat(list(weights), allocate(count, list(weights.values())))
    return [str(name) for name in stream(recipe.seed, Stage.PLAN, first, 2).permutation(names)]


class _Chooser:
    """Chooses a trajectory, a snapshot and a turn for each sample, none twice on one source.

    A shard draws from a pool of a few trajectories, so that they are read once; only where a pool is used up does it
    reach beyond.
    """

    def __init__(self, recipe: Recipe, bank: Mapping[str, _Trajectories]) -> None:
        self._recipe = recipe
        self._bank = bank
        self._groups = recipe.bank.groups
        self._pools: dict[str, list[NDArray[np.int64]]] = {}
        self._used: dict[tuple[str, int], set[tuple[int, int, int]]] = {}

    def open_shard(self, rng: np.random.Generator) -> None:
        each = max(1, _TRAJECTORIES_PER_SHARD // (self._groups * len(self._bank)))
        self._pools = {name: self._pool(rng, name, each) for name in self._bank}

    def _pool(self, rng: np.random.Generator, name: str, each: int) -> list[NDArray[np.int64]]:
        """Trajectories by group."""
        members = [self._bank[name].of_group(group, self._groups) for group in range(self._groups)]
        return [rng.choice(m, size=min(each, len(m)), replace=False) for m in members]

    def enters(self, name: str, trajectory: int) -> bool:
        """Whether a trajectory's defect comes in from the edge of the part."""
        known = self._bank[name]
        return bool(known.entering[trajectory - known.numbers.start])

    def choose(self, rng: np.random.Generator, name: str, source: int, snapshot: int) -> tuple[int, int, int]:
        """(trajectory, snapshot, dihedral): this snapshot if it can be had, else one in the range asked for."""
        used = self._used.setdefault((name, source), set())
        group = source % self._groups
        pool = self._pools[name][group]
        for _ in range(_PLACE_TRIES):
            found = (int(rng.choice(pool)), snapshot, int(rng.integers(_TURNS)))
            if found not in used:
                used.add(found)
                return found
        free = [
            (int(t), int(k), d)
            for t in (*pool, *np.setdiff1d(self._bank[name].of_group(group, self._groups), pool))
            for k in sorted(_snapshots_in_range(self._recipe.params(name)), key=lambda k: abs(int(k) - snapshot))
            for d in range(_TURNS)
            if (int(t), int(k), d) not in used
        ]
        used.add(free[0])  # `bank_sizes` saw to it that there is one
        return free[0]
