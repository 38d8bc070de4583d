"""Dents: the contact solver beside Hertz, Sneddon, Love and a direct sum, and what plasticity must keep."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from benchmarks.verification.case import Case
from physics.contact import deflection, influence, press
from physics.dent import DentParams, simulate

CELLS = 128
SPACING = 1.0 / CELLS


def cases() -> list[Case]:
    """All cases; a second or two."""
    return [
        *_hertz(),
        _cone(),
        _love(),
        _direct(),
        _elastic(),
        _fully_plastic(),
        _self_similar(),
        _converged(),
        _volume(),
    ]


def _radius(cells: int = CELLS) -> NDArray[np.float64]:
    x = (np.arange(cells) + 0.5) / cells - 0.5
    return np.hypot(x[:, None], x[None, :])


def _hertz() -> list[Case]:
    depth = 0.05
    contact = press(_radius() ** 2 / 2, depth=depth, hardness=np.inf, spacing=SPACING, tolerance=1e-5)
    a = float(np.sqrt(depth))
    statement = (
        "Ball of radius 1 side pressed 0.05 sides into an elastic half-space, 128 cells; Hertz 1882: a = sqrt(R d), "
        "F = 4/3 E* sqrt(R) d^1.5, p0 = 2 E* a / (pi R)."
    )

    def plot(axes: Axes) -> None:
        middle = CELLS // 2
        r = (np.arange(CELLS) + 0.5) / CELLS - 0.5
        axes.plot(r, contact.pressure[middle], "o", ms=3, label="solver")
        inside = np.linspace(-a, a, 200)
        axes.plot(inside, 2 * a / np.pi * np.sqrt(1 - (inside / a) ** 2), label="Hertz")
        axes.set(xlabel="distance, sides", ylabel="pressure / E*", title="pressure under a ball")
        axes.legend()

    found = float(np.sqrt(np.count_nonzero(contact.pressure) / np.pi) / CELLS)
    force, peak = contact.force(SPACING), float(contact.pressure.max())
    return [
        Case("Hertz: radius of contact", statement, "a, sides", a, found, 0.01, plot=plot),
        Case("Hertz: force", "The same.", "F / E* side^2", 4 / 3 * depth**1.5, force, 0.005),
        Case("Hertz: largest pressure", "The same.", "p0 / E*", 2 * a / np.pi, peak, 0.005),
    ]


def _cone() -> Case:
    slope, depth = 0.3, 0.06
    contact = press(slope * _radius(), depth=depth, hardness=np.inf, spacing=SPACING, tolerance=1e-5)
    return Case(
        "Sneddon: force on a cone",
        "Cone of slope 0.3, 128 cells; Sneddon 1965: F = 2 E* d^2 / (pi slope).",
        "F / E* side^2",
        2 / np.pi * depth**2 / slope,
        contact.force(SPACING),
        0.01,
    )


def _love() -> Case:
    return Case(
        "Love: deflection in the middle of a square",
        "Unit pressure on a square of side 1; Love 1929: 4 / pi ln(1 + sqrt 2).",
        "u E*",
        4 / np.pi * np.log(1 + np.sqrt(2)),
        float(influence(64)[0, 0]),
        1e-12,
    )


def _direct() -> Case:
    rng = np.random.default_rng(0)
    n = 16
    pressure, table, offsets = rng.random((n, n)), influence(n), np.arange(n)
    direct = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            direct[i, j] = sum(float(pressure[k] @ table[i - k, j - offsets]) for k in range(n))
    gap = float(np.abs(deflection(pressure, spacing=1.0) - direct).max() / direct.max())
    return Case(
        "convolution by FFT beside the direct sum",
        "Random pressure, 16 cells.",
        "largest error / largest",
        0.0,
        gap,
        1e-10,
        True,
    )


def _elastic() -> Case:
    contact = press(_radius() ** 2 / 2, depth=0.05, hardness=0.2, spacing=SPACING)
    left = float(contact.plastic.max())
    return Case(
        "below yield nothing stays", "Hertz's ball, hardness above p0.", "depth left, sides", 0.0, left, 0.0, True
    )


def _fully_plastic() -> Case:
    contact = press(0.5 * _radius(), depth=0.1, hardness=0.01, spacing=SPACING)
    mean = float(contact.pressure[contact.pressure > 0].mean())
    statement = "Cone of slope 0.5 into a material of hardness 0.01 E*, 128 cells; fully plastic: mean pressure H."
    return Case("fully plastic: mean pressure", statement, "p / E*", 0.01, mean, 0.02)


def _self_similar() -> Case:
    at = np.linspace(0.3, 3, 60)  # nearer to the tip lie only a few cells
    profiles = []
    for depth in (0.03, 0.06):
        contact = press(0.3 * _radius(256), depth=depth, hardness=0.02, spacing=1 / 256, tolerance=1e-4)
        r = (np.arange(128) + 0.5) / 256 / depth
        profiles.append(np.interp(at, r, contact.plastic[128, 128:] / depth))
    gap = float(np.abs(profiles[0] - profiles[1]).max())

    def plot(axes: Axes) -> None:
        for profile, depth in zip(profiles, (0.03, 0.06), strict=True):
            axes.plot(at, -profile, label=f"pressed {depth} sides")
        axes.set(xlabel="distance / depth", ylabel="imprint / depth", title="a cone leaves one shape")
        axes.legend()

    return Case(
        "a cone's imprint scales with its depth",
        "No length but the depth: both profiles are one. 256 cells, hardness 0.02 E*.",
        "largest gap / depth",
        0.0,
        gap,
        0.01,
        absolute=True,
        plot=plot,
    )


def _converged() -> Case:
    sizes = (32, 64, 128, 256)
    volume = []
    for cells in sizes:
        contact = press(_radius(cells) ** 2 / 0.8, depth=0.05, hardness=0.03, spacing=1 / cells, tolerance=1e-4)
        volume.append(float(contact.plastic.sum() / cells**2))

    def plot(axes: Axes) -> None:
        axes.semilogx(sizes, volume, "o-", base=2)
        axes.set(xlabel="cells a side", ylabel="volume of the imprint, sides^3", title="grid")

    statement = "Ball, hardness 0.03 E*: volume of the imprint at 128 cells beside that at 256."
    return Case(
        "the imprint does not depend on the grid", statement, "volume, sides^3", volume[3], volume[2], 0.01, plot=plot
    )


def _volume() -> Case:
    trajectory = simulate(DentParams(), np.random.default_rng(4))
    height = trajectory.fields["height"].astype(np.float64)
    imprint = -np.minimum(height, 0).sum(axis=(1, 2))
    error = float(np.abs(height.sum(axis=(1, 2)) / imprint).max())

    def plot(axes: Axes) -> None:
        row = int(np.unravel_index(height[-1].argmin(), height[-1].shape)[0])
        x = (np.arange(height.shape[2]) + 0.5) / height.shape[2]
        for k in (3, 7, 11, 15):
            axes.plot(x, height[k, row], label=f"state {k + 1}")
        axes.axhline(0, lw=0.5, color="grey")
        axes.set(xlabel="x, sides", ylabel="height, sides", title="imprint and pile-up after unloading")
        axes.legend()

    return Case(
        "pile-up holds the volume of the imprint",
        "All 16 states of a random trajectory: sum of the height / volume of the imprint.",
        "largest ratio",
        0.0,
        error,
        1e-3,
        absolute=True,
        plot=plot,
    )
