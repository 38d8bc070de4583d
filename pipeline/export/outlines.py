"""Polygons of a mask: one for every connected part, whose holes are joined to its outer ring by cuts of no width.

Rings follow the sides of pixels, a hundredth of a pixel within the mask. So a polygon gives the mask back pixel by
pixel both where a pixel counts by its centre and where coordinates are cut off to whole pixels and the outline is drawn
in, as OpenCV's ``fillPoly`` does; and enlarged as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.measure import find_contours, label, regionprops

__all__ = ["outlines"]

Ring = NDArray[np.float64]  # (n, 2) corners (y, x)
_INSIDE = 0.51  # level of the iso-contour: 0.01 pixels within the border, which lies at 0.5


def outlines(mask: NDArray[np.bool_]) -> Iterator[Ring]:
    """Polygon of every connected part (of eight neighbours) of a mask, in order of their first pixels.

    Parameters
    ----------
    mask : (H, W) bool
        What to outline.

    Yields
    ------
    (n, 2) float64
        Corners (y, x) in pixels, not closed; pixel (i, j) is the square from (i, j) to (i + 1, j + 1).
    """
    for region in regionprops(label(mask, connectivity=2)):
        inside = np.pad(region.image, 1).astype(np.float64)
        rings = find_contours(inside, _INSIDE, fully_connected="high")
        corner = np.array(region.bbox[:2]) - 1 + 0.5  # of the padding; contours run through the middles of pixels
        yield _without_straights(_joined([_with_corners(ring, inside) for ring in rings])) + corner


def _with_corners(ring: Ring, inside: NDArray[np.float64]) -> Ring:
    """A closed contour, not closed any more, that goes round the corners of pixels instead of across them."""
    first, second = ring[:-1], ring[1:]
    on_side = first[:, 0] == np.round(first[:, 0])  # of a pixel; else on its top or bottom
    y = np.where(on_side, second[:, 0], first[:, 0])
    x = np.where(on_side, first[:, 1], second[:, 1])
    corners = np.stack([y, x], axis=1)
    pixel = np.round(corners).astype(int)
    # two pixels that touch at a corner alone have nothing there to go round
    kept = (inside[pixel[:, 0], pixel[:, 1]] > 0) & (first != second).all(axis=1)
    both = np.stack([first, corners], axis=1).reshape(-1, 2)
    return np.asarray(both[np.stack([np.ones_like(kept), kept], axis=1).ravel()])


def _joined(rings: list[Ring]) -> Ring:
    """One ring of several: each is cut open and entered and left where it is nearest to those joined already."""
    rest = sorted(rings, key=lambda ring: -float(np.ptp(ring, axis=0).sum()))  # the outer one first
    joined = rest.pop(0)
    while rest:
        tree = cKDTree(joined)
        distances = [np.asarray(tree.query(ring)[0]) for ring in rest]
        nearest = min(range(len(rest)), key=lambda k: float(distances[k].min()))
        entry = int(distances[nearest].argmin())
        ring = np.roll(rest.pop(nearest), -entry, axis=0)
        leave = int(tree.query(ring[0])[1])
        joined = np.concatenate([joined[: leave + 1], ring, ring[:1], joined[leave:]])
    return joined


def _without_straights(ring: Ring) -> Ring:
    """The ring without corners at which it goes straight on; where it turns back on itself, at a cut, they stay."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    across = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    straight = np.isclose(across, 0) & ((before * after).sum(axis=1) > 0)
    return np.asarray(ring[~straight])
