"""Distributions as the outlines of small charts: histograms as bars, densities as curves, both as SVG paths.

A path is drawn in a box of `WIDTH` x `HEIGHT` units with the value axis from left to right; templates put it in place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["GRID", "HEIGHT", "WIDTH", "Histogram", "Scale", "curve_path", "density", "histogram"]

WIDTH, HEIGHT = 200, 48
_BINS = (8, 32)  # the fewest and the most of a histogram
GRID = 96  # points of a density curve

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """The value axis of a chart: from ``low`` to ``high``, logarithmic or not."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: ArrayLike, *, log: bool = False) -> Scale:
        """The scale that just holds all values; of a logarithmic one, those above 0."""
        found = np.asarray(values, dtype=np.float64)
        found = found[found > 0] if log else found
        if not found.size:
            return cls(0.1, 1.0, log=True) if log else cls(0.0, 1.0)
        low, high = float(found.min()), float(found.max())
        if low == high:
            return cls(low / 2, high * 2, log=True) if log else cls(low - 0.5, high + 0.5)
        return cls(low, high, log)

    def share(self, values: ArrayLike) -> Floats:
        """Where values lie, 0 at the low end and 1 at the high one."""
        found = np.asarray(values, dtype=np.float64)
        if self.log:
            found = np.log(np.maximum(found, self.low / 10) / self.low) / np.log(self.high / self.low)
        else:
            found = (found - self.low) / (self.high - self.low)
        return np.asarray(found)

    def at(self, share: float) -> float:
        """The value at a share of the axis."""
        if self.log:
            return float(self.low * (self.high / self.low) ** share)
        return self.low + share * (self.high - self.low)


@dataclass(frozen=True)
class Histogram:
    """A histogram: the path of its bars, its scale, and what it says in words."""

    path: str
    scale: Scale
    samples: int
    median: float | None
    median_x: float


def histogram(values: ArrayLike, scale: Scale) -> Histogram:
    """Histogram of values (N,) over a scale, the highest bar as high as the box."""
    found = np.asarray(values, dtype=np.float64)
    if not found.size:
        return Histogram("", scale, 0, None, 0.0)
    bins = int(np.clip(2 * np.sqrt(found.size), *_BINS))
    counts, _ = np.histogram(np.clip(scale.share(found), 0, 1), bins=bins, range=(0, 1))
    step = WIDTH / bins
    bars = [
        f"M{k * step:.2f} {HEIGHT}v{-max(HEIGHT * count / counts.max(), 0.6):.2f}h{step - 0.8:.2f}V{HEIGHT}z"
        for k, count in enumerate(counts)
        if count
    ]
    median = float(np.median(found))
    return Histogram("".join(bars), scale, len(found), median, WIDTH * float(np.clip(scale.share(median), 0, 1)))


def density(shares: ArrayLike) -> Floats:
    """Density of values given as shares (N,) of the axis, at `GRID` points of it; its mean over the axis is 1.

    A Gaussian kernel of Silverman's width, mirrored at both ends of the axis. All 0 for fewer than 2 values.
    """
    found = np.clip(np.asarray(shares, dtype=np.float64), 0, 1)
    if len(found) < 2:
        return np.zeros(GRID)
    quarter, three = np.quantile(found, (0.25, 0.75))
    spread = min(float(found.std()), float(three - quarter) / 1.349) or float(found.std())
    width = max(0.9 * spread * len(found) ** -0.2, 0.015)
    mirrored = np.concatenate([found, -found, 2 - found])
    kernels = np.exp(-0.5 * ((np.linspace(0, 1, GRID)[:, None] - mirrored) / width) ** 2)
    return np.asarray(kernels.sum(axis=1) / (len(found) * width * np.sqrt(2 * np.pi)))


def curve_path(density: Floats, top: float) -> str:
    """Outline of a density, as high as the box where it reaches ``top``; nothing where it is 0 everywhere."""
    if not density.any():
        return ""
    xs, ys = np.linspace(0, WIDTH, GRID), HEIGHT * (1 - density / top)
    points = "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))
    return f"M0 {HEIGHT}L{points}L{WIDTH} {HEIGHT}z"
