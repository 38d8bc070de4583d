"""The finished sample: a photograph with all of its defects that found a place, their fields, and the record.

Defects lie apart, so the picture is their union: each pixel is the photograph's or one defect's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from manifests.corpus import Picture
from manifests.hashing import sha256_bytes
from manifests.records import DefectRecord, PlannedDefect, PlanRow, SampleRecord, SampleStatus
from physics.placement import Window, field_window, place_fields
from physics.registry import MECHANISMS
from pipeline.attempt import Ingredients, Placed, Refined, Result
from pipeline.half_precision import to_half
from pipeline.invariants import changed_pixels, touching, visible_change
from pipeline.recipe import Recipe

__all__ = ["MASK_VALUE", "MadeSample", "compose", "compose_crashed", "taken_place"]

MASK_VALUE = 255
_APART_PX = 2  # unchanged pixels between two defects, at least


@dataclass(frozen=True)
class MadeSample:
    """One sample.

    Attributes
    ----------
    record : SampleRecord
        Its row of the manifest.
    image : (S, S, C) uint8 or uint16
        The picture, of the source's type.
    instance : (S, S) uint8
        0 normal, k visibly changed by the k-th planned defect.
    fields : mapping of str to (S, S) float16
        Of the defects that are there, by name.
    stages : mapping of str to (S, S, C)
        Those that the recipe keeps, as the image.
    """

    record: SampleRecord
    image: Picture
    instance: NDArray[np.uint8]
    fields: Mapping[str, NDArray[np.float16]]
    stages: Mapping[str, Picture]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Where the change is visible, (S, S)."""
        return np.asarray(self.instance > 0)


@dataclass(frozen=True)
class _There:
    """A defect that is in the picture: its number in the instance array, and what came of its last attempt."""

    number: int
    placed: Placed
    refined: Refined


def _those_there(results: Sequence[Result]) -> list[_There]:
    return [
        _There(number, result.placed, result.refined)
        for number, result in enumerate(results, start=1)
        if result.status is SampleStatus.OK and result.refined is not None
    ]


def taken_place(results: Sequence[Result]) -> tuple[NDArray[np.bool_], int]:
    """Where the defects made so far leave no place for another, (S, S), and the pixels of their masks."""
    taken = np.zeros(results[0].placed.ingredients.foreground.shape, dtype=bool)
    area_px = 0
    for defect in _those_there(results):
        changed = changed_pixels(defect.refined.image, defect.placed.source)
        taken[defect.placed.window.slices] |= changed | defect.refined.mask
        area_px += int(defect.refined.mask.sum())
    square = np.ones((2 * _APART_PX + 1, 2 * _APART_PX + 1), dtype=bool)
    return np.asarray(ndimage.binary_dilation(taken, structure=square)), area_px


def compose(recipe: Recipe, results: Sequence[Result]) -> MadeSample:
    """The whole picture and its record; a sample without any accepted defect goes back to its source.

    Parameters
    ----------
    recipe : Recipe
        What is kept, and what is visible.
    results : sequence of Result
        The last attempt at each planned defect, in that order.
    """
    ingredients = results[0].placed.ingredients
    there = _those_there(results)
    image = ingredients.source.copy()
    stages: dict[str, Picture] = {stage: ingredients.source.copy() for stage in recipe.store.stages}
    instance = np.zeros(ingredients.foreground.shape, dtype=np.uint8)
    fields: dict[str, NDArray[np.float16]] = {}
    for defect in there:
        _lay(image, defect, defect.refined.image)
        for stage, picture in stages.items():
            _lay(picture, defect, defect.refined.stages[stage])
        instance[defect.placed.window.slices][defect.refined.mask] = defect.number
        for name, values in _whole_fields(recipe, defect.placed).items():
            fields[name] = _stronger(fields[name], values) if name in fields else values
    defects = tuple(_defect_record(number, result) for number, result in enumerate(results, start=1))
    contrast = _leading(defects).contrast
    if len(there) > 1:
        contrast = _mean_contrast(image, ingredients.source, instance > 0, recipe.label.visible_threshold)
    counted = {name: sum(getattr(defect.refined, name) for defect in there) for name in _COUNTED}
    record = _record(ingredients, defects, image, instance, contrast=contrast, counted=counted)
    return MadeSample(record, image, instance, fields, stages)


def compose_crashed(recipe: Recipe, ingredients: Sequence[Ingredients]) -> MadeSample:
    """The unchanged photograph, with a record that says that the sample could not be made.

    Nothing is computed for it beyond what was read: any of it may be what ends the process.

    Parameters
    ----------
    recipe : Recipe
        What is kept.
    ingredients : sequence of Ingredients
        Of each planned defect, in that order.
    """
    first = ingredients[0]
    image, instance = first.source.copy(), np.zeros(first.foreground.shape, dtype=np.uint8)
    defects = tuple(_crashed_defect(one) for one in ingredients)
    record = _record(first, defects, image, instance, contrast=0.0, counted=dict.fromkeys(_COUNTED, 0))
    return MadeSample(record, image, instance, {}, {stage: first.source.copy() for stage in recipe.store.stages})


def _crashed_defect(ingredients: Ingredients) -> DefectRecord:
    planned = ingredients.planned
    figures = ("length_px", "relief_px", "contrast", "visibility", "residual")
    whole = ("cycles", "instance", "window_y", "window_x", "window_side")
    return DefectRecord(
        **planned.model_dump(),
        **_measures(np.zeros((1, 1), dtype=bool)),
        **dict.fromkeys(figures, 0.0),
        **dict.fromkeys(whole, 0),
        status=SampleStatus.CRASHED,
        physical=MECHANISMS[planned.mechanism].physical,
        attempts=1,
        extent=0.0,
        center_y=planned.anchor_y,
        center_x=planned.anchor_x,
        severity=float(ingredients.trajectory.severity[planned.snapshot]),
    )


def _lay(picture: Picture, defect: _There, window: Picture) -> None:
    """Put what a defect's window changes on the picture."""
    np.copyto(picture[defect.placed.window.slices], window, where=window != defect.placed.source)


def _stronger(one: NDArray[np.float16], other: NDArray[np.float16]) -> NDArray[np.float16]:
    """The larger in magnitude, pixel by pixel: faint tails of two defects may meet where neither is seen."""
    return np.where(np.abs(other) > np.abs(one), other, one)


def _whole_fields(recipe: Recipe, placed: Placed) -> dict[str, NDArray[np.float16]]:
    """Fields on the whole picture, as they are stored: nothing off the part."""
    foreground = placed.ingredients.foreground
    if placed.distance is None:
        whole = placed.whole_window
        return {name: _on_picture(values, whole, foreground) for name, values in placed.whole_fields.items()}
    opening = np.where(placed.distance < 0, placed.fields["opening"], 0)
    stored = {"opening": _on_picture(opening, placed.window, foreground)}
    beside = placed.ingredients.trajectory.fields_at(placed.ingredients.planned.snapshot)
    if beside:  # it reaches farther than what is seen of it
        placement = placed.drawn.on_picture(recipe.size, placed.extent)
        window = field_window(beside, placement, size=recipe.size, reach_px=0.0)
        found = place_fields(beside, placement, window)
        stored |= {name: _on_picture(values, window, foreground) for name, values in found.items()}
    return stored


def _on_picture(values: NDArray[np.float32], window: Window, foreground: NDArray[np.bool_]) -> NDArray[np.float16]:
    stored = np.zeros(foreground.shape, dtype=np.float16)
    stored[window.slices] = to_half(np.where(foreground[window.slices], values, np.float32(0)))
    return stored


_COUNTED = ("faint_px", "unlabelled_px", "unseen_px", "outside_px")


def _leading(defects: Sequence[DefectRecord]) -> DefectRecord:
    """The first that is in the picture, or the first planned where none is."""
    return next((defect for defect in defects if defect.instance), defects[0])


def _record(
    ingredients: Ingredients,
    defects: tuple[DefectRecord, ...],
    image: Picture,
    instance: NDArray[np.uint8],
    *,
    contrast: float,
    counted: Mapping[str, int],
) -> SampleRecord:
    leading = _leading(defects)
    there = [defect for defect in defects if defect.instance]
    present, mask = there or [leading], instance > 0
    return SampleRecord(
        **_plan_columns(ingredients.row),
        **{name: getattr(leading, name) for name in (*PlannedDefect.model_fields, *_OF_ONE)},
        **_measures(mask),
        **counted,
        length_px=sum(defect.length_px for defect in present),
        relief_px=max(defect.relief_px for defect in present),
        physical=all(defect.physical for defect in present),
        residual=max(defect.residual for defect in present),
        cycles=max(defect.cycles for defect in present),
        contrast=contrast,
        visibility=min(defect.visibility for defect in present),
        off_part_px=int((mask & ~ingredients.foreground).sum()),
        touching_px=int(touching(instance).sum()) if len(there) > 1 else 0,
        defects=defects,
        image_sha256=sha256_bytes(image.data),
        mask_sha256=sha256_bytes((mask.astype(np.uint8) * MASK_VALUE).data),
    )


_OF_ONE = ("status", "attempts", "extent", "center_y", "center_x", "severity")  # columns that only one defect can have


def _plan_columns(row: PlanRow) -> dict[str, object]:
    return row.model_dump(exclude={*PlannedDefect.model_fields, "others"})


def _defect_record(number: int, result: Result) -> DefectRecord:
    placed, refined = result.placed, result.refined
    planned, size = placed.ingredients.planned, placed.ingredients.foreground.shape[0]
    trajectory = placed.ingredients.trajectory
    crack = trajectory.crack_at(planned.snapshot)
    length = float(crack.length()[0]) if crack is not None else 0.0
    heights = [values for name, values in placed.whole_fields.items() if name in ("depth", "height")]
    center = placed.drawn.on_picture(size, placed.extent).center
    mask = np.zeros((size, size), dtype=bool)
    is_there = result.status is SampleStatus.OK and refined is not None
    if refined is not None and is_there:
        mask[placed.window.slices] = refined.mask
    final = {
        "angle_deg": placed.drawn.angle_deg,
        "anchor_y": placed.drawn.anchor_y,
        "anchor_x": placed.drawn.anchor_x,
        "width": placed.drawn.width,
    }
    return DefectRecord(
        **(planned.model_dump() | final),
        **_measures(mask),
        status=result.status,
        physical=MECHANISMS[planned.mechanism].physical,
        attempts=placed.attempt + 1,
        extent=placed.extent,
        center_y=center[0] / size,
        center_x=center[1] / size,
        severity=float(trajectory.severity[planned.snapshot]),
        length_px=length * placed.extent * size,
        relief_px=max((float(np.abs(values).max()) for values in heights), default=0.0),
        contrast=refined.contrast if refined else 0.0,
        visibility=refined.visibility if refined else 0.0,
        residual=refined.residual if refined else 0.0,
        cycles=refined.cycles if refined else 0,
        instance=number if is_there else 0,
        window_y=placed.window.y,
        window_x=placed.window.x,
        window_side=placed.window.side,
    )


def _mean_contrast(image: Picture, source: Picture, mask: NDArray[np.bool_], threshold: int) -> float:
    """Mean change of what visibly changed in the mask, grey levels of 255."""
    change, visible = visible_change(image, source, threshold)
    return float(change[visible & mask].mean())


def _measures(mask: NDArray[np.bool_]) -> dict[str, int | float]:
    """Area and bounding box."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    box = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1) if len(rows) else (0, 0, 0, 0)
    names = ("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1")
    return {
        "area_px": int(mask.sum()),
        "area_fraction": float(mask.mean()),
        **{name: int(value) for name, value in zip(names, box, strict=True)},
    }
