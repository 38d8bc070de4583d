"""From a trajectory in its own square to fields on a picture: turn, mirror, scale, shift, and roughness below the grid.

The crack's centre line is a graph of segments, so it is drawn directly at the picture's resolution: crisp lips at
64 px or 1024 px, tapering to the tip. Below the grid the toughness goes on with the same power law; its effect, a
fractal wiggle of the path and ragged lips, is taken from a tile of correlated noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from physics import _placement_kernels as kernels
from physics.random_fields import power_law_field

__all__ = ["CrackFields", "Placement", "place_crack", "roughness_tile"]

_TILE = 512
_WIGGLE_CELLS = 0.35  # standard deviation of the path's wiggle, in grid spacings of the simulation
_LONGEST_WAVE_PX = 24.0


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
class CrackFields:
    """Fields of one crack on a picture, each (S, S) float32.

    ``distance``: signed distance to the nearest lip, pixels, negative inside, at most ``reach``;
    ``opening``: local width of the nearest crack, pixels, 0 out of reach; ``damage``: phase field, 0..1;
    ``grain``: the roughness noise that was used, mean 0, variance 1.
    """

    distance: NDArray[np.float32]
    opening: NDArray[np.float32]
    damage: NDArray[np.float32]
    grain: NDArray[np.float32]


@lru_cache(maxsize=4)
def roughness_tile(seed: int) -> NDArray[np.float32]:
    """Periodic noise (3, 512, 512), variance 1, amplitude spectrum k^-1.2 with waves of at most 24 pixels."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(99,))))
    low = 2 * np.pi / _LONGEST_WAVE_PX
    layers = [power_law_field((_TILE, _TILE), rng, exponent=1.2, low=low) for _ in range(3)]
    tile = np.stack(layers).astype(np.float32)
    tile.setflags(write=False)
    return tile


def place_crack(
    damage: NDArray[np.float32],
    segments: NDArray[np.float32],
    opening: NDArray[np.float32],
    placement: Placement,
    *,
    size: int,
    width_px: float,
    roughness: float,
    reach_px: float,
    tile: NDArray[np.float32],
    tile_offset: tuple[int, int],
) -> CrackFields:
    """Draw one snapshot on a picture.

    Parameters
    ----------
    damage : (n, n) float32
        Phase field of the snapshot.
    segments, opening : (M, 4), (M, 2) float32
        As in `physics.fracture.Trajectory`, one snapshot.
    size : int
        Side S of the picture, pixels.
    width_px : float
        Widest opening, pixels.
    roughness : float
        Standard deviation of the lips' raggedness / local half width.
    reach_px : float
        How far beyond the lips distance and opening are wanted, pixels.
    tile, tile_offset
        From `roughness_tile`, and where on it this picture lies.
    """
    forward = placement.forward()
    center = np.asarray(placement.center)
    ends = (segments.reshape(-1, 2, 2).astype(np.float64) - 0.5) @ forward.T + center
    noise = _window(tile, tile_offset, size)
    wiggle = _WIGGLE_CELLS * placement.side / damage.shape[0]
    distance = np.full((size, size), reach_px, dtype=np.float32)
    width = np.zeros((size, size), dtype=np.float32)
    kernels.draw_segments(
        ends.reshape(-1, 4), opening * np.float32(width_px), noise[:2] * np.float32(wiggle), reach_px, distance, width
    )
    distance -= roughness * 0.5 * width * noise[2]
    np.minimum(distance, reach_px, out=distance)
    backward = np.linalg.inv(forward)
    field = np.empty((size, size), dtype=np.float32)
    kernels.sample_bilinear(damage, backward, 0.5 - backward @ center, field)
    return CrackFields(distance=distance, opening=width, damage=field, grain=noise[2])


def _window(tile: NDArray[np.float32], offset: tuple[int, int], size: int) -> NDArray[np.float32]:
    rows = (offset[0] + np.arange(size)) % tile.shape[1]
    columns = (offset[1] + np.arange(size)) % tile.shape[2]
    return np.ascontiguousarray(tile[:, rows[:, None], columns[None, :]])
