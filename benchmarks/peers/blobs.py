"""Perlin-noise blobs, as DRAEM and its heirs draw anomalies, and the rectangles of CutPaste-Scar.

References
----------
Zavrtanik, Kristan & Skocaj, "DRAEM", ICCV 2021: Perlin noise of random octaves, turned, cut at 0.5.
Li, Sohn, Yoon & Pfister, "CutPaste", CVPR 2021: a long thin rectangle at a random angle.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmarks.peers.target import Masks, Peer, Target, log_uniform

__all__ = ["PERLIN", "PERLIN_SINGLE", "SCARS", "draw_perlin", "draw_scars", "perlin_noise"]

_TRIES = 10


def perlin_noise(rng: np.random.Generator, side: int, cells: tuple[int, int]) -> NDArray[np.float64]:
    """Perlin noise (side, side) from random gradients on (cells + 1) nodes."""
    angles = rng.uniform(0, 2 * np.pi, size=(cells[0] + 1, cells[1] + 1))
    y, x = (np.arange(side) / side * n for n in cells)
    row, column = y.astype(int)[:, None], x.astype(int)[None, :]
    v, u = (y % 1)[:, None], (x % 1)[None, :]

    def corner(dy: int, dx: int) -> NDArray[np.float64]:
        angle = angles[row + dy, column + dx]
        return np.asarray(np.sin(angle) * (v - dy) + np.cos(angle) * (u - dx))

    fade_v, fade_u = (t**3 * (t * (6 * t - 15) + 10) for t in (v, u))
    above = corner(0, 0) * (1 - fade_u) + corner(0, 1) * fade_u
    below = corner(1, 0) * (1 - fade_u) + corner(1, 1) * fade_u
    return np.asarray(np.sqrt(2) * (above * (1 - fade_v) + below * fade_v))


def draw_perlin(
    target: Target,
    rng: np.random.Generator,
    count: int,
    side: int,
    *,
    octaves: tuple[int, int],
    single: bool,
) -> Masks:
    """Noise above a threshold; of many draws the first whose area is in the real range is taken.

    Parameters
    ----------
    target, rng, count, side
        Sizes to meet, stream, number of masks and side of the pictures in pixels.
    octaves : (int, int)
        2 to a power between these is the number of cells, for either axis on its own.
    single : bool
        Keep one blob, with the area drawn from the real range, rather than all that are above 0.5.
    """
    masks = []
    while len(masks) < count:
        mask = np.zeros((side, side), dtype=bool)
        for _ in range(_TRIES):
            cells = 2 ** rng.integers(octaves[0], octaves[1] + 1, size=2)
            noise = perlin_noise(rng, side, (int(cells[0]), int(cells[1])))
            noise = ndimage.rotate(noise, rng.uniform(-90, 90), reshape=False, order=1, mode="reflect")
            mask = _one_blob(noise, log_uniform(rng, target.area)) if single else noise > 0.5
            if target.area[0] <= mask.mean() <= target.area[1]:
                break
        if mask.any():
            masks.append(mask)
    return masks


def _one_blob(noise: NDArray[np.float64], area: float) -> NDArray[np.bool_]:
    """The blob around the highest point whose area is nearest to what is asked."""
    peak = np.unravel_index(int(np.argmax(noise)), noise.shape)
    low, high = 0.0, float(noise[peak])
    blob = noise >= high
    for _ in range(12):
        middle = 0.5 * (low + high)
        labels, _ = ndimage.label(noise >= middle)
        blob = labels == labels[peak]
        low, high = (middle, high) if blob.mean() > area else (low, middle)
    return np.asarray(blob)


def draw_scars(target: Target, rng: np.random.Generator, count: int, side: int, *, by_area: bool) -> Masks:
    """Rectangles of the real lengths and widths (or, ``by_area``, lengths and areas), turned at random."""
    masks = []
    for _ in range(count):
        length = log_uniform(rng, target.length)
        width = min(log_uniform(rng, target.area) / length, length) if by_area else log_uniform(rng, target.width)
        angle, middle = rng.uniform(0, np.pi), rng.uniform(0, side, size=2)
        along = np.array([np.cos(angle), np.sin(angle)]) * length * side / 2
        across = np.array([-np.sin(angle), np.cos(angle)]) * width * side / 2
        corners = [middle + along + across, middle + along - across, middle - along - across, middle - along + across]
        canvas = Image.new("L", (side * 4, side * 4))
        ImageDraw.Draw(canvas).polygon([(float(x * 4), float(y * 4)) for x, y in corners], fill=255)
        masks.append(np.asarray(canvas.resize((side, side), Image.Resampling.BOX)) >= 128)
    return masks


PERLIN = Peer(
    "Perlin noise above 0.5 (DRAEM)",
    draw_perlin,
    [{"octaves": o, "single": False} for o in ((0, 3), (1, 4), (2, 5))],
)
PERLIN_SINGLE = Peer(
    "one Perlin blob of the real area",
    draw_perlin,
    [{"octaves": o, "single": True} for o in ((1, 3), (2, 4), (3, 5), (4, 6))],
)
SCARS = Peer("rectangles (CutPaste-Scar)", draw_scars, [{"by_area": False}, {"by_area": True}])
