"""One draw of one defect: where it goes, its fields there, the refinement passes on its window, and the verdict.

Every defect is worked on by itself, on the unchanged photograph, in the smallest window that holds what is seen of it;
windows with the same fields and of one size go through the passes together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from manifests.corpus import Picture
from manifests.errors import MaphError
from manifests.records import PlannedDefect, PlanRow, SampleStatus, SourceRecord
from manifests.seeds import Stage, stream
from physics.mechanism import Crack
from physics.placement import (
    Placement,
    Window,
    crack_window,
    field_window,
    inner_window,
    noise_tile,
    place_crack,
    place_fields,
    place_grain,
    place_noise,
    roughness_tile,
)
from physics.registry import MECHANISMS
from pipeline.bank import StoredTrajectory
from pipeline.foreign import Donor, Material, covered, draw_material
from pipeline.invariants import changed_pixels
from pipeline.planning import DrawnPlacement, draw_placement, opening_width, trace_outline
from pipeline.recipe import Recipe
from pipeline.stage_clock import share_out, timed
from refine.devices import OutOfMemory, current_device, shrink_batches, values_at_once
from refine.passes import (
    CrackArrays,
    DefectInputs,
    ForeignArrays,
    OpticsArrays,
    RefinedBatch,
    ReliefArrays,
    refine_defects,
)
from refine.relief import SHADE_REACH_PX, SLOPING
from refine.scene import PRODUCT_REFLECTANCE

__all__ = ["Ingredients", "Placed", "Refined", "Result", "attempt_defects", "place"]

_BATCH_VALUES = 8 * 256 * 256  # pixels x channels in one batch of windows: what a core's cache still holds
_BYTES_A_VALUE = 400  # at the peak of the passes: 293 counted over live tensors, and room for workspaces
_OUTLINE_WIGGLE_CELLS = 0.25
_SHAPE = ("depth", "height", "cover")  # what says where a defect is; product and displacement reach beyond
_NO_RELIEF = ("opening", "damage", "cover")
_NO_HEIGHT = ("product", "cover")
_DRAWS_AS_ASKED = 2  # of a defect; later ones are of another area
_STEEPEST = 4.5  # largest factor on a relief, for materials whose texture hides the asked one
_STEEPEST_DRAWS = 3  # places at which a relief may be as steep as that, and hidden, before it is given up
_AIMED_VISIBILITY = 1.5  # times the least one: what the next draw of a hidden relief is made to reach
_UNSEEN_STEEPER = 2.5  # factor after a draw of which nothing at all was seen
_UNSEEN = (SampleStatus.HIDDEN, SampleStatus.INVISIBLE)
_LEVEL = 0.01  # a slope that changes no picture by as much as 2 grey levels
_REACH_PX = 4  # fields reach this far beyond npcF's support

_Kind = tuple[tuple[str, ...], int, int, str]


@dataclass(frozen=True)
class Ingredients:
    """All that one defect of a sample is made from.

    Attributes
    ----------
    row : PlanRow
        Of the sample.
    number : int
        Which of its planned defects, from 0.
    source : (S, S, C) uint8 or uint16
        The photograph, without the sample's other defects.
    foreground : (S, S) bool
        Where the part is.
    record : SourceRecord
        Of the photograph.
    trajectory : StoredTrajectory
        That the defect is a state of.
    donor : Donor, optional
        Where a reference generator takes its material from.
    taken : (S, S) bool, optional
        Where the defects before it leave no place.
    taken_px : int
        Pixels of their masks.
    steepness : (float, float)
        Range of the factor on its relief: above 1 where the material hid an earlier draw.
    steepest_draws : int
        Earlier draws that were as steep as can be, and hidden.
    """

    row: PlanRow
    number: int
    source: Picture
    foreground: NDArray[np.bool_]
    record: SourceRecord
    trajectory: StoredTrajectory
    donor: Donor | None = None
    taken: NDArray[np.bool_] | None = None
    taken_px: int = 0
    steepness: tuple[float, float] = (1.0, 1.0)
    steepest_draws: int = 0

    @property
    def planned(self) -> PlannedDefect:
        """The defect as planned."""
        return self.row.planned()[self.number]


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
class Placed:
    """One attempt at a defect: where it goes, its fields there, and its appearance.

    ``steepness`` is the factor on its relief that the fields have. ``distance`` to a crack's lips, ``fields`` and
    ``grain`` are (W, W) on the window that is worked on, ``noise`` (3, W, W); lengths in pixels. ``whole_fields`` lie
    on ``whole_window``, which also holds what nobody sees of them. ``material`` is what a reference generator puts in.
    """

    ingredients: Ingredients
    attempt: int
    drawn: DrawnPlacement
    extent: float
    steepness: float
    window: Window
    fields: Mapping[str, NDArray[np.float32]]
    whole_window: Window
    whole_fields: Mapping[str, NDArray[np.float32]]
    distance: NDArray[np.float32] | None
    grain: NDArray[np.float32]
    noise: NDArray[np.float32]
    look: _Look
    material: Material | None = None

    @property
    def kind(self) -> _Kind:
        """What a batch has in common: fields and kind of material, side of the window, channels and type of picture."""
        source = self.ingredients.source
        foreign = (self.material.kind,) if self.material is not None else ()
        return (*sorted(self.fields), *foreign), self.window.side, source.shape[2], source.dtype.name

    @property
    def source(self) -> Picture:
        """The photograph on the window, (W, W, C)."""
        return self.ingredients.source[self.window.slices]

    @property
    def foreground(self) -> NDArray[np.bool_]:
        """Where the part is on the window, (W, W)."""
        return self.ingredients.foreground[self.window.slices]

    def affected(self) -> NDArray[np.bool_]:
        """Where on the part the defect is, (W, W): in an opening, or where the surface moved by 1/20 of the most, or is
        covered.
        """
        there = np.zeros((self.window.side, self.window.side), dtype=bool)
        if self.distance is not None:
            return (self.distance < 0) & self.foreground
        for name in _SHAPE:
            if name in self.fields:
                magnitude = np.abs(self.fields[name])
                there |= magnitude > 0.05 * float(magnitude.max())
        return there & self.foreground

    def meets_another(self, pixels: NDArray[np.bool_]) -> bool:
        """Whether any of these pixels of the window is too near to another defect of the picture."""
        taken = self.ingredients.taken
        return taken is not None and bool((taken[self.window.slices] & pixels).any())


@dataclass(frozen=True)
class Refined:
    """One window after the passes: ``image`` and each of ``stages`` (W, W, C), ``mask`` (W, W), and figures of
    `refine.passes.RefinedBatch`.
    """

    image: Picture
    mask: NDArray[np.bool_]
    stages: Mapping[str, Picture]
    finished: bool
    contrast: float
    visibility: float
    residual: float
    cycles: int
    faint_px: int
    unlabelled_px: int
    unseen_px: int
    outside_px: int


@dataclass(frozen=True)
class Result:
    """What came of an attempt; ``refined`` is None where it did not come to the passes."""

    placed: Placed
    status: SampleStatus
    refined: Refined | None

    @property
    def is_hopeless(self) -> bool:
        """The material hides the relief however steep it is."""
        return self._hidden_as_steep_as_can_be and self.placed.ingredients.steepest_draws + 1 >= _STEEPEST_DRAWS

    @property
    def _hidden_as_steep_as_can_be(self) -> bool:
        is_relief = self.placed.distance is None and self.placed.material is None
        return is_relief and self.status in _UNSEEN and self.placed.steepness >= _STEEPEST

    def ingredients_again(self, least_visibility: float) -> Ingredients:
        """For the next draw: a relief that the material hid is made steeper, as far as is missing of its visibility."""
        ingredients = self.placed.ingredients
        if self.refined is None or self.status not in _UNSEEN:
            return ingredients
        seen = self.refined.visibility
        factor = _AIMED_VISIBILITY * least_visibility / seen if seen > 0 else _UNSEEN_STEEPER
        return replace(
            ingredients,
            steepness=(min(self.placed.steepness * factor, _STEEPEST), _STEEPEST),
            steepest_draws=ingredients.steepest_draws + self._hidden_as_steep_as_can_be,
        )


def attempt_defects(recipe: Recipe, pending: Sequence[Ingredients], attempt: int) -> Iterator[Result]:
    """Draw each of some defects once: place, refine, judge.

    Parameters
    ----------
    recipe : Recipe
        Mechanisms, passes, label.
    pending : sequence of Ingredients
        At most one defect of a sample, or two would not know of one another.
    attempt : int
        How many draws there were before.
    """
    by_kind: dict[_Kind, list[Placed]] = {}
    for ingredients in pending:
        with timed(f"place_{ingredients.planned.mechanism}"):
            placed = place(recipe, ingredients, attempt)
            crowded = placed.meets_another(placed.affected())
        if crowded:
            yield Result(placed, SampleStatus.CROWDED, None)
        else:
            by_kind.setdefault(placed.kind, []).append(placed)
    for (_, side, channels, _), group in sorted(by_kind.items(), key=lambda item: item[0]):
        first = 0
        while first < len(group):
            values = values_at_once(_BATCH_VALUES, bytes_a_value=_BYTES_A_VALUE)
            batch = group[first : first + max(1, values // (side**2 * channels))]
            results = _refine(recipe, batch)
            if results is None:  # too much for the device's memory
                shrink_batches(len(batch) * side**2 * channels // 2)
                continue
            yield from results
            first += len(batch)


def place(recipe: Recipe, ingredients: Ingredients, attempt: int) -> Placed:
    """Where the defect goes at this attempt, and its fields on the window that holds it."""
    planned, trajectory = ingredients.planned, ingredients.trajectory
    position = (attempt, ingredients.number) if ingredients.number else (attempt,)
    rng = stream(recipe.seed, Stage.SAMPLE, ingredients.row.index, *position)
    drawn = _as_planned(planned) if attempt == 0 else _drawn_again(recipe, ingredients, rng)
    as_asked = attempt < _DRAWS_AS_ASKED
    area = planned.asked_area if as_asked else recipe.asked_area(planned.mechanism).draw(rng)
    look = _draw_look(recipe, rng, channels=ingredients.source.shape[2])
    offset = (int(rng.integers(0, 1 << 30)), int(rng.integers(0, 1 << 30)))
    steepness = float(rng.uniform(*ingredients.steepness))
    drawn, extent = _sized(recipe, trajectory, planned.snapshot, drawn, area)
    placement = drawn.on_picture(recipe.size, extent)
    crack = trajectory.crack_at(planned.snapshot)
    distance: NDArray[np.float32] | None = None
    if crack is not None:
        whole, fields, distance = _place_crack(recipe, planned.mechanism, crack, placement, drawn, look, offset)
        window, whole_fields = whole, fields
    else:
        whole, whole_fields = _place_relief(recipe, trajectory, planned, placement, offset)
        whole_fields = _steeper(whole_fields, steepness)
        window = _seen_window(recipe, whole, whole_fields)
        fields = {name: values[whole.part(window)] for name, values in whole_fields.items()}
    foreign, material = MECHANISMS[planned.mechanism].foreign, None
    if foreign is not None:
        fields = whole_fields = covered(foreign, fields)
        channels = ingredients.source.shape[2]
        material = draw_material(foreign, rng, fields["cover"], window, ingredients.donor, channels=channels)
    grain = place_grain(roughness_tile(recipe.seed), offset, window)
    noise = place_noise(noise_tile(recipe.seed), offset, window)
    return Placed(
        ingredients,
        attempt,
        drawn,
        extent,
        steepness,
        window,
        fields,
        whole,
        whole_fields,
        distance,
        grain,
        noise,
        look,
        material,
    )


def _as_planned(defect: PlannedDefect) -> DrawnPlacement:
    return DrawnPlacement(
        defect.dihedral, defect.angle_deg, defect.from_edge, defect.anchor_y, defect.anchor_x, defect.width
    )


def _drawn_again(recipe: Recipe, ingredients: Ingredients, rng: np.random.Generator) -> DrawnPlacement:
    """Another place; trajectory, snapshot and turn stay, so that none comes twice on one source."""
    planned = ingredients.planned
    return draw_placement(
        rng,
        ingredients.foreground,
        trace_outline(ingredients.foreground),
        dihedral=planned.dihedral,
        from_edge=planned.from_edge,
        width=opening_width(recipe.params(planned.mechanism)),
        tilt_deg=MECHANISMS[planned.mechanism].tilt_deg,
        policy=recipe.policy_of(planned.mechanism).place,
    )


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
    recipe: Recipe, trajectory: StoredTrajectory, planned: PlannedDefect, placement: Placement, offset: tuple[int, int]
) -> tuple[Window, dict[str, NDArray[np.float32]]]:
    """Window and fields of a mechanism that changes the surface."""
    fields = trajectory.fields_at(planned.snapshot)
    reach_px = float(recipe.npcf.support_px + _REACH_PX)
    window = field_window(fields, placement, size=recipe.size, reach_px=reach_px, open_left=planned.from_edge)
    cell_px = placement.side / recipe.params(trajectory.mechanism).grid
    placed = place_fields(
        fields,
        placement,
        window,
        wiggle_px=_OUTLINE_WIGGLE_CELLS * cell_px if "depth" in fields else 0.0,  # lost material has a ragged outline
        tile=roughness_tile(recipe.seed),
        tile_offset=offset,
        open_left=planned.from_edge,
    )
    return window, placed


def _seen_window(recipe: Recipe, whole: Window, fields: Mapping[str, NDArray[np.float32]]) -> Window:
    """Where a moved surface can be seen: where it slopes, as far as shades reach.

    A sheet is strained and tilted far beyond that. One that slopes nowhere is moved as a whole.
    """
    if "displacement_y" not in fields:
        return whole
    surface = fields["height"]
    steps = [np.abs(np.diff(surface, axis=axis, append=np.take(surface, [-1], axis=axis))) for axis in (0, 1)]
    slope = np.maximum(*steps)
    if slope.max() <= SLOPING:
        return whole
    reach_px = SHADE_REACH_PX + recipe.npcf.support_px + _REACH_PX
    return inner_window(slope > _LEVEL, whole, reach_px=reach_px)


def _steeper(fields: dict[str, NDArray[np.float32]], factor: float) -> dict[str, NDArray[np.float32]]:
    """The surface of a thicker sheet, a sharper body, a deeper pit: heights are free to scale, their cover is not."""
    return {name: values if name in _NO_HEIGHT else values * np.float32(factor) for name, values in fields.items()}


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


def _refine(recipe: Recipe, batch: Sequence[Placed]) -> list[Result] | None:
    """Refine a batch of windows of one mechanism and size, and judge each; None where memory is too short for it.

    Raises
    ------
    MaphError
        Memory is too short for a single window.
    """
    with timed("refine"):
        made = _passed(recipe, batch)
    if made is None:
        return None
    share_out("refine", made.seconds)
    with timed("judge"):
        results = []
        for k, placed in enumerate(batch):
            refined = _one_of(made, k)
            results.append(Result(placed, _judge(recipe, placed, refined), refined))
    return results


def _passed(recipe: Recipe, batch: Sequence[Placed]) -> RefinedBatch | None:
    inputs = DefectInputs(
        source=cast("Picture", np.stack([placed.source for placed in batch])),
        foreground=np.stack([placed.foreground for placed in batch]),
        grain=np.stack([placed.grain for placed in batch]),
        noise=np.stack([placed.noise for placed in batch]),
        optics=_optics([placed.ingredients.record for placed in batch]),
        crack=_crack_arrays(batch),
        relief=_relief_arrays(batch),
        foreign=_foreign_arrays(batch),
    )
    try:
        return refine_defects(
            inputs,
            npcf=recipe.npcf,
            npcfpp=recipe.npcfpp,
            label=recipe.label,
            stages=recipe.store.stages,
            least_visibility=recipe.label.least_visibility,
        )
    except OutOfMemory:
        if len(batch) > 1:
            return None
        raise MaphError(
            f"{current_device()}: has too little free memory for one window of {batch[0].window.side} px; "
            "finished shards are safe: end other work on it, or go on with --device cpu"
        ) from None


def _one_of(batch: RefinedBatch, k: int) -> Refined:
    return Refined(
        image=batch.image[k],
        mask=batch.mask[k],
        stages={name: pictures[k] for name, pictures in batch.stages.items()},
        finished=bool(batch.finished[k]),
        contrast=float(batch.contrast[k]),
        visibility=float(batch.visibility[k]),
        residual=float(batch.residual[k]),
        cycles=int(batch.cycles[k]),
        faint_px=int(batch.faint_px[k]),
        unlabelled_px=int(batch.unlabelled_px[k]),
        unseen_px=int(batch.unseen_px[k]),
        outside_px=int(batch.outside_px[k]),
    )


def _crack_arrays(batch: Sequence[Placed]) -> CrackArrays | None:
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


def _relief_arrays(batch: Sequence[Placed]) -> ReliefArrays | None:
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


def _foreign_arrays(batch: Sequence[Placed]) -> ForeignArrays | None:
    materials = [placed.material for placed in batch if placed.material is not None]
    if not materials:
        return None
    return ForeignArrays(
        kind=materials[0].kind,
        cover=np.stack([placed.fields["cover"] for placed in batch]),
        donor=np.stack([material.pixels for material in materials]),
        jitter=np.array([material.jitter for material in materials], dtype=np.float32),
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


def _judge(recipe: Recipe, placed: Placed, refined: Refined) -> SampleStatus:
    label, picture_px = recipe.label, recipe.size**2
    area_px = int(refined.mask.sum())
    if not placed.affected().any():
        return SampleStatus.OFF_FOREGROUND
    if not refined.finished:
        return SampleStatus.HIDDEN if refined.visibility > 0 else SampleStatus.INVISIBLE
    if refined.residual > recipe.npcf.tolerance:
        return SampleStatus.NOT_CONVERGED
    if area_px == 0:
        return SampleStatus.INVISIBLE
    if area_px / picture_px < label.min_area:
        return SampleStatus.AREA_BELOW
    if (area_px + placed.ingredients.taken_px) / picture_px > label.max_area:
        return SampleStatus.AREA_ABOVE
    if placed.meets_another(refined.mask | changed_pixels(refined.image, placed.source)):
        return SampleStatus.CROWDED
    if refined.visibility < label.least_visibility:
        return SampleStatus.HIDDEN
    return SampleStatus.OK
