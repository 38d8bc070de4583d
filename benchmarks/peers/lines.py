"""Random polylines and free-form strokes: what is drawn as "cracks" or "scratches" where nothing is simulated.

Polyline: a walk of equal steps whose direction changes by a normal angle each time, drawn with one width, with
optional side branches. Free-form stroke: the irregular masks of image inpainting, thick lines with round joints.

References
----------
Yu et al., "Free-form image inpainting with gated convolution", ICCV 2019: algorithm 1, the strokes.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.peers.target import Masks, Peer, Target, log_uniform

__all__ = ["POLYLINES", "STROKES", "draw_polylines", "draw_strokes"]

_FINE = 4  # drawn larger and cut at one half of the mean, so that widths below a pixel's step differ


def draw_polylines(
    target: Target, rng: np.random.Generator, count: int, side: int, *, turn_deg: float, branches: float
) -> Masks:
    """Random walks with the real lengths and widths.

    Parameters
    ----------
    target, rng, count, side
        Sizes to meet, stream, number of masks and side of the pictures in pixels.
    turn_deg : float
        Standard deviation of the turn at each step.
    branches : float
        Side branches, on average.
    """
    masks = []
    for _ in range(count):
        length, width = log_uniform(rng, target.length) * side, log_uniform(rng, target.width) * side
        start, heading = rng.uniform(0, side, size=2), rng.uniform(0, 2 * np.pi)
        main = _walk(rng, start, heading, length, turn_deg)
        paths = [main]
        for _ in range(rng.poisson(branches)):
            root = main[rng.integers(1, len(main))]
            away = heading + rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)
            paths.append(_walk(rng, root, away, length * rng.uniform(0.2, 0.5), turn_deg))
        masks.append(_drawn(paths, width, side))
    return masks


def draw_strokes(target: Target, rng: np.random.Generator, count: int, side: int, *, vertices: int) -> Masks:
    """Free-form strokes: long straight pieces that turn back and forth, in the real lengths and widths."""
    masks = []
    for _ in range(count):
        length, width = log_uniform(rng, target.length) * side, log_uniform(rng, target.width) * side
        points, heading = [rng.uniform(0, side, size=2)], rng.uniform(0, 2 * np.pi)
        number = int(rng.integers(2, vertices + 1))
        for k in range(number):
            turn = rng.uniform(0.1 * np.pi, 0.5 * np.pi)  # alternating: forth, and back
            heading = heading + (turn if k % 2 else -turn)
            points.append(points[-1] + length / number * np.array([np.sin(heading), np.cos(heading)]))
        masks.append(_drawn([np.array(points)], width, side))
    return masks


def _walk(
    rng: np.random.Generator, start: NDArray[np.float64], heading: float, length: float, turn_deg: float
) -> NDArray[np.float64]:
    steps = max(4, round(length / 8))
    angles = heading + np.cumsum(rng.normal(0, np.deg2rad(turn_deg), size=steps))
    moves = np.column_stack([np.sin(angles), np.cos(angles)]) * length / steps
    return np.vstack([start, start + np.cumsum(moves, axis=0)])


def _drawn(paths: list[NDArray[np.float64]], width: float, side: int) -> NDArray[np.bool_]:
    canvas = Image.new("L", (side * _FINE, side * _FINE))
    pen = ImageDraw.Draw(canvas)
    for path in paths:
        points = [(float(x * _FINE), float(y * _FINE)) for y, x in path]
        for p, q in pairwise(points):
            pen.line([p, q], fill=255, width=max(1, round(width * _FINE)))
        radius = 0.5 * width * _FINE
        for x, y in points:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
    return np.asarray(canvas.resize((side, side), Image.Resampling.BOX)) >= 128


POLYLINES = Peer(
    "random polylines",
    draw_polylines,
    [{"turn_deg": turn, "branches": branches} for turn in (5, 12, 25) for branches in (0.0, 0.3, 1.0)],
)
STROKES = Peer("free-form strokes", draw_strokes, [{"vertices": n} for n in (2, 4, 8)])
