"""What every picture of a corpus promises, counted pixel by pixel from the finished arrays.

With D the largest difference over the channels between a picture and its photograph, in grey levels of 255, and t the
threshold of visibility (`manifests.config.LabelConfig`):

- D = 0 outside the support of the passes, so off the part and outside the windows of the defects;
- D < t outside the mask: no unlabelled change;
- D >= t within one pixel of every pixel of the mask: no invisible label;
- the mask lies on the part, its areas within the bounds, and no two defects touch.

Where 0 < D < t outside the mask the change is faint, and counted: the rim of a blur or of a shadow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from manifests.config import LabelConfig
from manifests.corpus import InvariantCounts, Picture
from pipeline.sample_columns import SampleColumns

__all__ = [
    "PictureCounts",
    "changed_pixels",
    "count_picture",
    "sum_invariants",
    "touching",
    "visible_change",
]

_NEAR = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class PictureCounts:
    """Pixels of one picture; the names are those of `manifests.records.SampleRecord`."""

    faint_px: int
    unlabelled_px: int
    unseen_px: int
    outside_px: int
    off_part_px: int
    touching_px: int


def visible_change(image: Picture, source: Picture, threshold: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Largest change over the channels, grey levels of 255, and whether it reaches the threshold, both (S, S).

    Parameters
    ----------
    image, source : (S, S, C) uint8 or uint16
        Of one type.
    threshold : int
        Grey levels of 255.
    """
    step = 257 if image.dtype == np.uint16 else 1
    by_channel = np.abs(image.astype(np.int32) - source.astype(np.int32))
    change = reduce(np.maximum, np.moveaxis(by_channel, -1, 0))  # ten times as fast as a maximum along a short axis
    return change / step, change >= threshold * step


def changed_pixels(image: Picture, source: Picture) -> NDArray[np.bool_]:
    """Where two pictures (S, S, C) differ in any channel, (S, S)."""
    return np.asarray(reduce(np.logical_or, np.moveaxis(image != source, -1, 0)))


def touching(instance: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels (S, S) of a defect within one pixel of another; ``instance`` (S, S) is 0 normal, k the k-th defect."""
    highest = ndimage.maximum_filter(instance, size=3, mode="constant", cval=0)
    lowest = ndimage.minimum_filter(np.where(instance > 0, instance, 255), size=3, mode="constant", cval=255)
    return np.asarray((instance > 0) & ((highest > instance) | (lowest < instance)))


def count_picture(
    image: Picture,
    instance: NDArray[np.uint8],
    *,
    source: Picture,
    foreground: NDArray[np.bool_],
    windows: Sequence[tuple[slice, slice]],
    threshold: int,
) -> PictureCounts:
    """Count one picture.

    Parameters
    ----------
    image, source : (S, S, C) uint8 or uint16
        Of one type.
    instance : (S, S) uint8
        0 normal, k in the mask of the k-th defect.
    foreground : (S, S) bool
        Where the part is.
    windows : sequence of (slice, slice)
        Rows and columns that the defects were worked on in.
    threshold : int
        Grey levels of 255 from which on a change is visible.
    """
    change, visible = visible_change(image, source, threshold)
    changed, mask = change > 0, instance > 0
    allowed = np.zeros_like(mask)
    for window in windows:
        allowed[window] = foreground[window]
    near = ndimage.binary_dilation(visible, structure=_NEAR)
    return PictureCounts(
        faint_px=int((changed & ~visible & ~mask).sum()),
        unlabelled_px=int((visible & ~mask).sum()),
        unseen_px=int((mask & ~near).sum()),
        outside_px=int((changed & ~allowed).sum()),
        off_part_px=int((mask & ~foreground).sum()),
        touching_px=int(touching(instance).sum()),
    )


def sum_invariants(rows: SampleColumns, label: LabelConfig, *, picture_px: int) -> InvariantCounts:
    """Invariants of a whole corpus from its records; ``picture_px`` is the number of pixels of a picture."""
    counts = rows.counts
    mask_px, faint_px = int(counts["area_px"].sum()), int(counts["faint_px"].sum())
    return InvariantCounts(
        samples=len(rows),
        mask_px=mask_px,
        changed_outside_support_px=int(counts["outside_px"].sum()),
        unlabelled_px=int(counts["unlabelled_px"].sum()),
        unseen_px=int(counts["unseen_px"].sum()),
        off_part_px=int(counts["off_part_px"].sum()),
        faint_px=faint_px,
        faint_share=faint_px / mask_px if mask_px else 0.0,
        empty_masks=int((counts["area_px"][rows.accepted] == 0).sum()),
        out_of_bounds=int(_out_of_bounds(rows, label, picture_px)[rows.accepted].sum()),
        instances_touching=int((counts["touching_px"] > 0).sum()),
    )


def _out_of_bounds(rows: SampleColumns, label: LabelConfig, picture_px: int) -> NDArray[np.bool_]:
    """(N,) where a defect, or all defects of a sample together, have an area that is not allowed."""
    area = rows.present["area_px"] / picture_px
    out = rows.counts["area_px"] / picture_px > label.max_area
    out[rows.present["sample"][(area < label.min_area) | (area > label.max_area)]] = True
    return out
