"""From a trajectory in its own square to fields on a picture: turn, mirror, scale, shift, and roughness below the grid.

The crack's centre line is a graph of segments, so it is drawn directly at the picture's resolution: crisp lips at
64 px or 1024 px, tapering to the tip. Below the grid the toughness goes on with the same power law; its effect, a
fractal wiggle of the path and ragged lips, is taken from a tile of correlated noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from manifests.fields import FIELDS
from manifests.seeds import Stage, stream
from physics import _placement_kernels as kernels
from physics.random_fields import power_law_field

__all__ = [
    "CrackFields",
    "Placement",
    "Window",
    "crack_window",
    "field_window",
    "inner_window",
    "noise_tile",
    "place_crack",
    "place_fields",
    "place_grain",
    "place_noise",
    "roughness_tile",
]

_TILE = 512
_WIGGLE_CELLS = 0.25  # standard deviation of the path's wiggle, in grid spacings of the simulation
_LARGEST_CELL_PX = 10.0  # beyond, the tile has no waves long enough for a cell
_LONGEST_WAVE_PX = 24.0
_BEYOND_EDGE = 0.15  # of the side of the square
_FAINT = 0.01  # of a field's peak: below, it counts as nothing when a window is chosen
_WINDOW_SIDES = (48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 512, 640, 768, 1024, 1536, 2048, 3072)


@dataclass(frozen=True)
class Placement:
    """Where a trajectory's square lies on a picture of side S pixels.

    Attributes
    ----------
    center : (float, float)
        Centre (y, x) of the square, pixels.
    side : float
        Side of the square, pixels.
    dihedral : int
        0..7: quarter turns (value % 4), mirrored left-right before turning if value >= 4.
    angle_deg : float
        Further turn, degrees, counter-clockwise as seen.
    """

    center: tuple[float, float]
    side: float
    dihedral: int
    angle_deg: float

    def forward(self) -> NDArray[np.float64]:
        """(2, 2) matrix from (y, x) relative to the square's centre, in sides, to pixels."""
        turn = np.deg2rad(self.angle_deg) + 0.5 * np.pi * (self.dihedral % 4)
        c, s = np.cos(turn), np.sin(turn)
        rotation = np.array([[c, -s], [s, c]])  # rows and columns are (y, x), y down: counter-clockwise as seen
        mirror = np.diag([1.0, -1.0 if self.dihedral >= 4 else 1.0])
        return np.asarray(self.side * rotation @ mirror)


@dataclass(frozen=True)
class Window:
    """Square part of a picture: first row and column, and side, pixels."""

    y: int
    x: int
    side: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the picture."""
        return slice(self.y, self.y + self.side), slice(self.x, self.x + self.side)

    def part(self, inner: Window) -> tuple[slice, slice]:
        """Rows and columns of this window at which a window within it lies."""
        y, x = inner.y - self.y, inner.x - self.x
        return slice(y, y + inner.side), slice(x, x + inner.side)


@dataclass(frozen=True)
class CrackFields:
    """Fields of one crack on a window of side W, each (W, W) float32.

    ``distance``: signed distance to the nearest lip, pixels, negative inside, at most the reach asked for;
    ``opening``: local width of the nearest crack, pixels, 0 out of reach;
    ``grain``: the roughness noise that was used, mean 0, variance 1.
    """

    distance: NDArray[np.float32]
    opening: NDArray[np.float32]
    grain: NDArray[np.float32]


@lru_cache(maxsize=4)
def roughness_tile(seed: int) -> NDArray[np.float32]:
    """Periodic noise (3, 512, 512), variance 1, amplitude spectrum k^-1.6 with waves of at most 24 pixels."""
    rng = stream(seed, Stage.ROUGHNESS)
    low = 2 * np.pi / _LONGEST_WAVE_PX
    layers = [power_law_field((_TILE, _TILE), rng, exponent=1.6, low=low) for _ in range(3)]
    tile = np.stack(layers).astype(np.float32)
    tile.setflags(write=False)
    return tile


@lru_cache(maxsize=4)
def noise_tile(seed: int) -> NDArray[np.float32]:
    """Periodic white noise (3, 512, 512), mean 0, variance 1: what a camera's noise is made of, one layer a channel."""
    tile = stream(seed, Stage.NOISE).standard_normal((3, _TILE, _TILE), dtype=np.float32)
    tile.setflags(write=False)
    return tile


def crack_window(
    segments: NDArray[np.float32],
    opening: NDArray[np.float32],
    placement: Placement,
    *,
    size: int,
    cell_px: float,
    width_px: float,
    reach_px: float,
) -> Window:
    """Smallest of a few window sizes that holds all that a crack can change of a picture of side ``size``.

    Few sizes, so that cracks can be worked on in batches.
    """
    ends = _on_picture(segments[(opening > 0).any(axis=1)], placement).reshape(-1, 2)
    return _smallest_window(ends, size=size, margin=reach_px + 0.5 * width_px + 4 * _wiggle_px(cell_px))


def field_window(
    fields: Mapping[str, NDArray[np.float32]],
    placement: Placement,
    *,
    size: int,
    reach_px: float,
    open_left: bool = False,
) -> Window:
    """Smallest of a few window sizes that holds all cells where a field (n, n) is more than 1 % of its peak.

    ``open_left`` as for `place_fields`.
    """
    n = next(iter(fields.values())).shape[0]
    there = np.zeros((n, n), dtype=bool)
    for values in fields.values():
        magnitude = np.abs(values)
        there |= magnitude > _FAINT * float(magnitude.max())
    rows, columns = np.nonzero(there.any(axis=1))[0], np.nonzero(there.any(axis=0))[0]
    if not len(rows):
        return _smallest_window(np.zeros((0, 2)), size=size, margin=0.0)
    y, x = np.array([rows[0], rows[-1] + 1]) / n - 0.5, np.array([columns[0], columns[-1] + 1]) / n - 0.5
    if open_left and columns[0] == 0:
        x[0] -= _BEYOND_EDGE
    corners = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    ends = corners @ placement.forward().T + np.asarray(placement.center)
    return _smallest_window(ends, size=size, margin=reach_px)


def inner_window(there: NDArray[np.bool_], window: Window, *, reach_px: float) -> Window:
    """Smallest of a few window sizes, within this window, that holds all flags (W, W) on it and what is near them.

    Without a flag it is the window itself.
    """
    rows, columns = np.nonzero(there.any(axis=1))[0], np.nonzero(there.any(axis=0))[0]
    if not len(rows):
        return window
    ends = np.array([[rows[0], columns[0]], [rows[-1] + 1, columns[-1] + 1]], dtype=np.float64)
    found = _smallest_window(ends, size=window.side, margin=reach_px)
    return Window(window.y + found.y, window.x + found.x, found.side)


def _smallest_window(points: NDArray[np.float64], *, size: int, margin: float) -> Window:
    sides = [side for side in _WINDOW_SIDES if side < size] + [size]
    if not len(points):
        return Window(0, 0, sides[0])
    low = np.clip(np.floor(points.min(axis=0) - margin), 0, size).astype(int)
    high = np.clip(np.ceil(points.max(axis=0) + margin), 0, size).astype(int)
    side = next(side for side in sides if side >= (high - low).max())
    corner = np.clip((low + high - side) // 2, 0, size - side)
    return Window(int(corner[0]), int(corner[1]), side)


def _wiggle_px(cell_px: float) -> float:
    """Standard deviation of the path's wiggle for a grid spacing of ``cell_px``."""
    return _WIGGLE_CELLS * min(cell_px, _LARGEST_CELL_PX)


def _on_picture(segments: NDArray[np.float32], placement: Placement) -> NDArray[np.float64]:
    """Ends (M, 2, 2) of segments in pixels."""
    relative = segments.reshape(-1, 2, 2).astype(np.float64) - 0.5
    return np.asarray(relative @ placement.forward().T + np.asarray(placement.center))


def place_crack(
    segments: NDArray[np.float32],
    opening: NDArray[np.float32],
    placement: Placement,
    window: Window,
    *,
    cell_px: float,
    width_px: float,
    roughness: float,
    reach_px: float,
    tile: NDArray[np.float32],
    tile_offset: tuple[int, int],
) -> CrackFields:
    """Draw one snapshot on a window of a picture.

    Parameters
    ----------
    segments, opening : (M, 4), (M, 2) float32
        As in `physics.fracture.Trajectory`, one snapshot.
    placement : Placement
        Where the square lies on the picture.
    window : Window
        From `crack_window`, or any other.
    cell_px : float
        Grid spacing of the simulation, pixels: scale of the path's wiggle.
    width_px : float
        Widest opening, pixels.
    roughness : float
        Standard deviation of the lips' raggedness / local half width.
    reach_px : float
        How far beyond the lips distance and opening are wanted, pixels.
    tile, tile_offset
        From `roughness_tile`, and where on it the picture's first pixel lies.
    """
    ends = _on_picture(segments, placement) - np.array([window.y, window.x])
    noise = _window(tile, (tile_offset[0] + window.y, tile_offset[1] + window.x), window.side)
    wiggle = np.float32(_wiggle_px(cell_px))
    distance = np.full((window.side, window.side), reach_px, dtype=np.float32)
    width = np.zeros((window.side, window.side), dtype=np.float32)
    kernels.draw_segments(
        ends.reshape(-1, 4), opening * np.float32(width_px), noise[:2], wiggle, reach_px, distance, width
    )
    kernels.roughen(distance, width, noise[2], np.float32(0.5 * roughness), np.float32(reach_px))
    return CrackFields(distance=distance, opening=width, grain=noise[2])


def place_fields(
    fields: Mapping[str, NDArray[np.float32]],
    placement: Placement,
    window: Window,
    *,
    wiggle_px: float = 0.0,
    tile: NDArray[np.float32] | None = None,
    tile_offset: tuple[int, int] = (0, 0),
    open_left: bool = False,
) -> dict[str, NDArray[np.float32]]:
    """Fields of a square on a window of a picture: in pixels where they are lengths, turned where they are vectors.

    Parameters
    ----------
    fields : mapping of str to (n, n) float32
        By the names of `manifests.fields.FIELDS`, lengths in sides of the square; both components of a displacement
        or none.
    placement, window : Placement, Window
        Where the square lies, and what is wanted of the picture.
    wiggle_px : float
        Standard deviation by which outlines are moved with the noise of ``tile``: roughness below the grid.
    tile, tile_offset
        From `roughness_tile`, and where on it the picture's first pixel lies.
    open_left : bool
        The left side is a free edge: the fields go on beyond it as they end, as far as the outline of a part may
        differ from a straight one.

    Returns
    -------
    mapping of str to (W, W) float32
        0 outside the square.
    """
    forward = placement.forward()
    backward = np.linalg.inv(forward)
    corner = np.array([window.y, window.x], dtype=np.float64)
    out = np.empty((len(fields), window.side, window.side), dtype=np.float32)
    warp = np.zeros((2, window.side, window.side), dtype=np.float32)
    if wiggle_px > 0 and tile is not None:
        warp = _window(tile, (tile_offset[0] + window.y, tile_offset[1] + window.x), window.side)[:2]
    origin = 0.5 + backward @ (corner - np.asarray(placement.center))
    beyond = _BEYOND_EDGE if open_left else 0.0
    kernels.sample_cubic(np.stack(list(fields.values())), backward, origin, warp, np.float32(wiggle_px), beyond, out)
    placed = dict(zip(fields, out, strict=True))
    for name, values in placed.items():
        if FIELDS[name].kind == "length":
            values *= np.float32(placement.side)
    if "displacement_y" in placed:
        down, right = placed["displacement_y"], placed["displacement_x"]
        turn = forward.astype(np.float32)
        placed["displacement_y"] = turn[0, 0] * down + turn[0, 1] * right
        placed["displacement_x"] = turn[1, 0] * down + turn[1, 1] * right
    return placed


def place_grain(tile: NDArray[np.float32], offset: tuple[int, int], window: Window) -> NDArray[np.float32]:
    """Noise (W, W) of variance 1 on a window, from `roughness_tile` whose pixel ``offset`` is the picture's first."""
    return np.asarray(_window(tile, (offset[0] + window.y, offset[1] + window.x), window.side)[2])


def place_noise(tile: NDArray[np.float32], offset: tuple[int, int], window: Window) -> NDArray[np.float32]:
    """Noise (3, W, W) on a window, from `noise_tile` whose pixel ``offset`` is the picture's first."""
    return _window(tile, (offset[0] + window.y, offset[1] + window.x), window.side)


def _window(tile: NDArray[np.float32], offset: tuple[int, int], side: int) -> NDArray[np.float32]:
    """Part of the periodic tile (3, T, T) as (3, side, side)."""
    out = np.empty((3, side, side), dtype=np.float32)
    kernels.copy_periodic(tile, offset[0] % _TILE, offset[1] % _TILE, out)
    return out
