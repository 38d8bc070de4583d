"""Share of each cell under a rectangle that grows: the outline of a pasted patch, on any grid.

No physics: the reference generators `physics.cutpaste` and `physics.poisson` replace what lies under it. Along each of
its two axes a cell is covered by the overlap of two intervals: exact for upright rectangles, and for turned ones to a
fraction of a cell.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from physics.mechanism import MechanismParams, ParamsT, Trajectory, turn_components

__all__ = ["Rectangle", "draw_rectangle", "grow_rectangle", "refine_rectangle", "turn_rectangle"]

_LONGEST = 0.6  # longer side, in sides of the square: turned by 45 degrees it still keeps clear of the border


@dataclass(frozen=True)
class Rectangle:
    """A rectangle in the square of side 1.

    Attributes
    ----------
    middle, anchor : (float, float)
        Its centre, and the point that it grows from, (y, x).
    half : (float, float)
        Half its sides, along its first axis and across.
    axis : (float, float)
        The first axis, a unit vector (y, x).
    from_edge : bool
        It grows from the middle of the left side.
    """

    middle: tuple[float, float]
    anchor: tuple[float, float]
    half: tuple[float, float]
    axis: tuple[float, float]
    from_edge: bool


def draw_rectangle(*, aspect: float, turn: float, from_edge: bool) -> Rectangle:
    """The rectangle of which the side along the axis is ``aspect`` times the other.

    ``turn`` is the angle, radians, between axis and the square's x axis.
    """
    half = (0.5 * _LONGEST * min(1.0, aspect), 0.5 * _LONGEST * min(1.0, 1.0 / aspect))
    axis = (float(np.sin(turn)), float(np.cos(turn)))
    if not from_edge:
        return Rectangle((0.5, 0.5), (0.5, 0.5), half, axis, from_edge=False)
    middle = (0.5 + axis[0] * half[0], axis[1] * half[0])
    return Rectangle(middle, (0.5, 0.0), half, axis, from_edge=True)


def grow_rectangle(params: MechanismParams, rectangle: Rectangle) -> Trajectory:
    """The rectangle from its anchor to its full size, at areas in equal steps."""
    severity = np.arange(1, params.snapshots + 1) / params.snapshots
    cover = np.stack([_cover(rectangle, params.grid, float(scale)) for scale in np.sqrt(severity)])
    return Trajectory(
        fields={"cover": cover.astype(np.float32)},
        severity=severity,
        area=cover.mean(axis=(1, 2)),
        from_edge=rectangle.from_edge,
        facts={"length_sides": (2 * max(rectangle.half),), "aspect": (max(rectangle.half) / min(rectangle.half),)},
    )


def _cover(rectangle: Rectangle, n: int, scale: float) -> NDArray[np.float64]:
    """Share (n, n) of each cell under the rectangle at a size."""
    anchor, middle = np.array(rectangle.anchor), np.array(rectangle.middle)
    centres = (np.arange(n) + 0.5) / n
    y, x = (centres - c for c in anchor + scale * (middle - anchor))
    down, right = rectangle.axis
    along = down * y[:, None] + right * x[None, :]
    across = right * y[:, None] - down * x[None, :]
    return _overlap(along, scale * rectangle.half[0], n) * _overlap(across, scale * rectangle.half[1], n)


def _overlap(place: NDArray[np.float64], half: float, n: int) -> NDArray[np.float64]:
    """Share of a cell 1 / n long, at this place, that lies within +- half."""
    cell = 0.5 / n
    return np.asarray(n * np.clip(np.minimum(half, place + cell) - np.maximum(-half, place - cell), 0.0, None))


def turn_rectangle(rectangle: Rectangle, dihedral: int) -> Rectangle:
    """See `physics.mechanism.Mechanism`."""

    def moved(point: tuple[float, float]) -> tuple[float, float]:
        y, x = turn_components(point[0] - 0.5, point[1] - 0.5, dihedral)
        return y + 0.5, x + 0.5

    axis = turn_components(*rectangle.axis, dihedral)
    return replace(rectangle, middle=moved(rectangle.middle), anchor=moved(rectangle.anchor), axis=axis)


def refine_rectangle(params: ParamsT, rectangle: Rectangle) -> tuple[ParamsT, Rectangle]:
    """See `physics.mechanism.Mechanism`: a rectangle knows of no grid."""
    return params.model_copy(update={"grid": 2 * params.grid}), rectangle
