"""Pressure and plastic depth of a rigid body pressed into an elastic-perfectly plastic half-space, by CG and FFT.

A pressure p on the surface moves it down by u = K p, Love's influence of uniformly loaded squares, a convolution. The
body, whose surface is the gap h(x) above the flat one, goes down by delta; then the pressure minimises

    1/2 p . K p + p . (h + w - delta)      with  0 <= p <= H,

w being the plastic depth so far: in contact the gap closes, elsewhere nothing pulls, and no place bears more than the
hardness H. Where it would have to, the material gives way, and w grows by what the body still goes in. Unloading is
elastic, so w is the imprint that stays.

Units: the spacing of the grid is that of the caller, pressures are in E* = E / (1 - nu^2).

References
----------
Love, "The stress produced in a semi-infinite solid by pressure on part of the boundary", Phil. Trans. A 228 (1929).
Polonsky & Keer, "A numerical method for solving rough contact problems ...", Wear 231 (1999).
Almqvist, Sahlin, Larsson & Glavatskih, "On the dry elasto-plastic contact of nominally flat surfaces", Tribology Int.
40 (2007).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

__all__ = ["Contact", "deflection", "influence", "press"]

Real = NDArray[np.floating]


@dataclass(frozen=True)
class Contact:
    """State of a body pressed into a surface.

    Attributes
    ----------
    pressure : (n, n) float
        In E*, 0 out of contact, at most the hardness.
    plastic : (n, n) float
        Depth of the imprint that stays, in the caller's unit of length.
    depth : float
        How far the body has gone down.
    residual : float
        Largest error of the gap in contact / depth, before the material gave way.
    iterations : int
        Of the conjugate gradients.
    """

    pressure: Real
    plastic: Real
    depth: float
    residual: float
    iterations: int

    def force(self, spacing: float) -> float:
        """Total force, in E* times the square of the unit of length."""
        return float(self.pressure.sum(dtype=np.float64) * spacing * spacing)


@lru_cache(maxsize=32)
def influence(cells: int) -> NDArray[np.float64]:
    """Deflection (2 n, 2 n) by unit pressure on the square at [0, 0], spacing and E* being 1; negative offsets wrap.

    Love's formula for a square of side 1 seen from the middle of another.
    """
    offset = fft.fftfreq(2 * cells, 1.0 / (2 * cells))
    y, x = np.meshgrid(offset, offset, indexing="ij")

    def corner(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(y * np.arcsinh(x / np.abs(y)) + x * np.arcsinh(y / np.abs(x)))

    lower, upper = y - 0.5, y + 0.5
    left, right = x - 0.5, x + 0.5
    total = corner(upper, right) - corner(upper, left) - corner(lower, right) + corner(lower, left)
    return np.asarray(total / np.pi)


@lru_cache(maxsize=64)
def _spectrum(cells: int, spacing: float, dtype: str) -> NDArray[np.floating]:
    """Transform of the influence for a grid; it is real, the influence being even."""
    return np.asarray(fft.rfft2(spacing * influence(cells)).real, dtype=dtype)


def deflection(pressure: Real, *, spacing: float) -> Real:
    """Elastic deflection (n, n), downwards, under a pressure (n, n) in E*; nothing presses beyond the grid."""
    n = len(pressure)
    padded = fft.rfft2(pressure, s=(2 * n, 2 * n), workers=1)
    padded *= _spectrum(n, spacing, pressure.dtype.name)
    return np.asarray(fft.irfft2(padded, s=(2 * n, 2 * n), workers=1)[:n, :n])


def press(
    gap: Real,
    *,
    depth: float,
    hardness: Real | float,
    spacing: float,
    before: Contact | None = None,
    tolerance: float = 1e-3,
    limit: int = 200,
) -> Contact:
    """Press a body down to ``depth``.

    Parameters
    ----------
    gap : (n, n) float
        Height of the body's surface above the flat one when its lowest point touches, >= 0.
    depth : float
        How far it goes down, > 0, in the unit of ``gap``.
    hardness : (n, n) float or float
        Largest pressure, in E*; infinite for an elastic surface.
    spacing : float
        Side of a cell.
    before : Contact, optional
        An earlier state of the same indentation: its plastic depth stays, its pressure is the first guess.
    tolerance : float
        Error of the gap in contact / depth at which the pressure is good enough.
    limit : int
        Bound on the iterations.

    Raises
    ------
    ValueError
        ``gap`` is not square, or ``depth`` not positive.
    """
    if gap.ndim != 2 or gap.shape[0] != gap.shape[1]:
        raise ValueError(f"gap must be square, got the shape {gap.shape}")
    if not depth > 0:
        raise ValueError(f"depth must be positive, got {depth}")
    plastic = np.zeros_like(gap) if before is None else before.plastic
    cap = np.broadcast_to(np.asarray(hardness, dtype=gap.dtype), gap.shape)
    room = gap + plastic - gap.dtype.type(depth)  # what the surface must go down by, with the sign turned
    guess = np.zeros_like(gap) if before is None else before.pressure
    pressure, opening, error, iterations = _minimise(room, cap, guess, spacing, tolerance * depth, limit)
    # where the surface bears all it can and the body still lies deeper, the material gives way
    given = np.where(pressure >= cap, np.maximum(-opening, 0), 0).astype(gap.dtype)
    return Contact(pressure, plastic + given, depth, error / depth, iterations)


def _minimise(
    room: Real, cap: Real, guess: Real, spacing: float, tolerance: float, limit: int
) -> tuple[Real, Real, float, int]:
    """Conjugate gradients projected on 0 <= p <= cap: (pressure, gap left, largest error of the gap, iterations)."""
    pressure = np.clip(np.where(room < 0, guess, 0), 0, cap)
    if not pressure.any():
        pressure = np.clip(np.maximum(-room, 0) / spacing * 0.1, 0, cap).astype(room.dtype)
    direction = np.zeros_like(room)
    opening = deflection(pressure, spacing=spacing) + room
    norm_before, error = 1.0, np.inf
    bound_before: NDArray[np.bool_] | None = None
    for iteration in range(limit):
        # at a bound, a cell moves only if the gap pushes it back inside
        bound = ((pressure <= 0) & (opening >= 0)) | ((pressure >= cap) & (opening <= 0))
        free = ~bound
        error = float(np.abs(np.where(free, opening, 0)).max())
        if error <= tolerance:
            return pressure, opening, error, iteration
        slope = np.where(free, -opening, 0)
        norm = float(np.vdot(slope, slope))
        same = bound_before is not None and np.array_equal(bound, bound_before)
        direction = slope + (direction * room.dtype.type(norm / norm_before) if same else 0)
        direction = np.where(free, direction, 0)
        image = deflection(direction, spacing=spacing)
        curvature = float(np.vdot(direction, image))
        step = float(np.vdot(slope, direction)) / curvature
        moved = pressure + room.dtype.type(step) * direction
        pressure = np.clip(moved, 0, cap)
        if (pressure == moved).all():
            opening = opening + room.dtype.type(step) * image
        else:
            opening = deflection(pressure, spacing=spacing) + room
        norm_before, bound_before = norm, bound
    return pressure, opening, error, limit
