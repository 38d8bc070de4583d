"""Pitting against known answers: Stefan problem, growth law, mouth speed, ion transport, metal balance, grid."""

from __future__ import annotations

from functools import cache

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from benchmarks.verification.case import Case
from physics.mechanism import Trajectory
from physics.pitting import (
    PittingParams,
    diffuse_ions,
    draw,
    grow,
    growth_law,
    mass_balance,
    open_depth,
    refine,
    spread_mouth,
    stefan_number,
)

__all__ = ["cases", "moving_boundary_depth"]

_SATURATION, _SOLID = 5.1, 143.0  # mol/L: 304 steel in its saturated salt, Csolid - Csat = 137.9
_SPECIMENS = 8


def cases() -> list[Case]:
    """All comparisons of pitting."""
    return [
        _stefan_root(),
        _stefan_depth(),
        _transport_depth(),
        _growth_law(),
        *_mouth(),
        *_ion_order(),
        _metal_balance(),
        *_grids(),
    ]


def _stefan_root() -> Case:
    return Case(
        title="Stefan number",
        statement=r"Root of $\sqrt{\pi}\,\lambda e^{\lambda^2}\mathrm{erf}\,\lambda = 5.1/137.9$.",
        quantity="lam",
        expected=0.13516,
        got=stefan_number(saturation=_SATURATION, solid=_SOLID),
        tolerance=5e-5,
    )


def _stefan_depth() -> Case:
    time, depth = open_depth(1.0, dissolution=1e4, diffusivity=1.0, saturation=_SATURATION, solid=_SOLID)
    exact = 2 * 0.135164 * np.sqrt(time)

    def plot(ax: Axes) -> None:
        ax.plot(time, exact, "k", lw=3, alpha=0.3, label="Stefan")
        ax.plot(time, depth, "C3--", label="kernel")
        ax.set(xlabel="time", ylabel="depth")
        ax.legend()

    return Case(
        title="pit depth under diffusion control",
        statement="One-phase Stefan problem, depth^2 = 4 lam^2 D t, lam = 0.13516; D = 1, t = 1, 200 steps.",
        quantity="depth^2 / (D t)",
        expected=4 * 0.135164**2,
        got=float(depth[-1] ** 2),
        tolerance=5e-3,
        plot=plot,
    )


def moving_boundary_depth(
    duration: float, *, dissolution: float, diffusivity: float, saturation: float, solid: float, nodes: int = 60
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times and depths of a pit whose ions diffuse up to a clean mouth, by front-fixing finite differences.

    Independent of the kernels: x = s(t) y, c_t = D c_yy / s^2 + y s' c_y / s, c(0) = 0; the front moves at
    s' = A (1 - c / Csat) and gives (Csolid - c) s' = D c_y / s. Implicit in c, explicit in s; steps grow with s.
    """
    y = np.linspace(0.0, 1.0, nodes + 1)
    gap = 1.0 / nodes
    c = np.zeros(nodes + 1)
    depth, time = 1e-4 * diffusivity / dissolution, 0.0
    times, depths = [0.0], [depth]
    while time < duration:
        speed = dissolution * (1.0 - c[-1] / saturation)
        dt = min(duration - time + 1e-15, max(0.002 * depth / speed, 1e-9))
        lap, drift = diffusivity / (depth * gap) ** 2, y * speed / (2 * depth * gap)
        system = np.eye(nodes + 1) * (1 / dt)
        inner = np.arange(1, nodes)
        system[inner, inner] += 2 * lap
        system[inner, inner - 1] += -lap + drift[inner]
        system[inner, inner + 1] += -lap - drift[inner]
        right = c / dt
        system[0], right[0] = 0.0, 0.0
        system[0, 0] = 1.0
        # second-order one-sided flux; the front's speed is linear in c there, the product with c taken from before
        system[-1] = 0.0
        system[-1, -3:] = np.array([0.5, -2.0, 1.5]) * diffusivity / (depth * gap)
        system[-1, -1] += (solid - c[-1]) * dissolution / saturation
        right[-1] = (solid - c[-1]) * dissolution
        c = np.linalg.solve(system, right)
        depth += dt * dissolution * (1.0 - c[-1] / saturation)
        time += dt
        times.append(time)
        depths.append(depth)
    return np.array(times), np.array(depths)


def _transport_depth() -> Case:
    reference_time, reference = moving_boundary_depth(
        0.5, dissolution=1.0, diffusivity=1.0, saturation=_SATURATION, solid=_SOLID
    )
    time, depth = open_depth(0.5, dissolution=1.0, diffusivity=1.0, saturation=_SATURATION, solid=_SOLID)

    def plot(ax: Axes) -> None:
        ax.plot(reference_time, reference, "k", lw=3, alpha=0.3, label="moving boundary, resolved")
        ax.plot(time, depth, "C3--", label="kernel")
        ax.set(xlabel="time", ylabel="depth")
        ax.legend()

    return Case(
        title="pit depth under mixed control",
        statement=(
            "Against ion transport resolved down the pit (front-fixing finite differences, 60 nodes, written apart "
            "from the kernels), as control passes from activation to diffusion: D = A = 1, t = 0.5."
        ),
        quantity="depth",
        expected=float(reference[-1]),
        got=float(depth[-1]),
        tolerance=0.01,
        plot=plot,
    )


def _growth_law() -> Case:
    time, depth = open_depth(
        3.0, dissolution=0.05, diffusivity=1.0, saturation=_SATURATION, solid=_SOLID, steps=30
    )  # fmt: skip
    scale = 2 * 0.135164**2 / 0.05
    exact = growth_law(time, dissolution=0.05, depth_scale=scale)

    def plot(ax: Axes) -> None:
        ax.plot(time, exact, "k", lw=3, alpha=0.3, label="law")
        ax.plot(time, depth, "C3.", label="kernel")
        ax.set(xlabel="time", ylabel="depth")
        ax.legend()

    return Case(
        title="pit depth under its own growth law",
        statement="zd (sqrt(1 + 2 A t / zd) - 1), zd = 2 lam^2 D / A; A = 0.05, D = 1, t = 3, 30 steps.",
        quantity="depth",
        expected=float(exact[-1]),
        got=float(depth[-1]),
        tolerance=1e-3,
        plot=plot,
    )


def _centres(n: int) -> NDArray[np.float64]:
    return (np.arange(n) + 0.5) / n


def _mouth() -> list[Case]:
    n = 128
    x = _centres(n) - 0.5
    radius = np.hypot(x[:, None], x[None, :])
    phi = spread_mouth(radius - 0.1, speed=1.0, duration=0.2, steps=2 * n)
    near = np.abs(radius - 0.3) < 1.0 / n
    reached = (radius - phi)[near]
    angle = np.degrees(np.arctan2(*np.broadcast_arrays(x[:, None], x[None, :])))[near]

    def plot(ax: Axes) -> None:
        ax.plot(angle, reached, "C3.", ms=3, label="kernel")
        ax.axhline(0.3, color="k", alpha=0.3, lw=3, label="exact")
        ax.set(xlabel="direction, degrees", ylabel="radius, sides", ylim=(0.295, 0.305))
        ax.legend()

    about = "A round mouth of radius 0.1 spreads at speed 1 for 0.2; 128 x 128, 256 steps."
    return [
        Case("speed of the mouth", about, "radius, sides", 0.3, float(reached.mean()), 0.01, plot=plot),
        Case("mouth spreads alike in all directions", about, "(max - min) / mean radius", 0.0,
             float(np.ptp(reached) / reached.mean()), 0.02, absolute=True),
    ]  # fmt: skip


def _mode_error(n: int, steps: int) -> float:
    """Largest error of a decaying cosine mode."""
    x = _centres(n)
    mode = np.cos(2 * np.pi * x)[:, None] * np.cos(np.pi * x)[None, :]
    got = diffuse_ions(mode, diffusivity=0.1, duration=0.2, steps=steps)
    return float(np.abs(got - mode * np.exp(-0.1 * 5 * np.pi**2 * 0.2)).max())


def _ion_order() -> list[Case]:
    grids = np.array([32, 64, 128])
    errors = np.array([_mode_error(int(n), int(n) ** 2 // 16) for n in grids])
    counts = np.array([40, 80, 160])
    in_time = np.array([_mode_error(256, int(m)) for m in counts])

    def plot(ax: Axes) -> None:
        ax.loglog(grids, errors, "C3o-", label="kernel")
        ax.loglog(grids, errors[0] * (grids[0] / grids) ** 2.0, "k--", alpha=0.5, label="order 2")
        ax.set(xlabel="cells a side", ylabel="largest error")
        ax.legend()

    return [
        Case(
            title="diffusion of ions, order in space",
            statement="Cosine mode that decays without flux through the border; 32 to 128 cells, steps as h^2.",
            quantity="order",
            expected=2.0,
            got=float(np.log2(errors[-2] / errors[-1])),
            tolerance=0.1,
            absolute=True,
            plot=plot,
        ),
        Case(
            title="diffusion of ions, order in time",
            statement="The same on 256 cells, 40 to 160 steps: backward Euler.",
            quantity="order",
            expected=1.0,
            got=float(np.log2(in_time[-2] / in_time[-1])),
            tolerance=0.1,
            absolute=True,
        ),
    ]


def _metal_balance() -> Case:
    params = PittingParams()
    bodies = [draw(params, np.random.default_rng([5, k]), from_edge=k == 3) for k in range(4)]
    return Case(
        title="dissolved mass",
        statement="Metal dissolved = stored in ions + swept away + settled as product; four specimens on 128 x 128.",
        quantity="largest relative gap",
        expected=0.0,
        got=max(mass_balance(body).error for body in bodies),
        tolerance=1e-6,
        absolute=True,
    )


@cache
def _refined() -> tuple[tuple[Trajectory, Trajectory, Trajectory], ...]:
    """Specimens drawn on 64 cells and run on 64, 128 and 256."""
    runs = []
    for k in range(_SPECIMENS):
        params = PittingParams(grid=64)
        bodies = [(params, draw(params, np.random.default_rng([7, k]), from_edge=k == _SPECIMENS - 1))]
        for _ in range(2):
            bodies.append(refine(*bodies[-1]))
        coarse, middle, fine = (grow(*body) for body in bodies)
        runs.append((coarse, middle, fine))
    return tuple(runs)


def _gap(which: str, grid: int) -> float:
    """Mean difference from 256 cells at the same severity, relative; over specimens."""
    severity = np.linspace(0.3, 1.0, 8)

    def curve(trajectory: Trajectory) -> NDArray[np.float64]:
        peak = trajectory.area if which == "area" else trajectory.fields[which].max(axis=(1, 2))
        return np.asarray(np.interp(severity, trajectory.severity, peak), dtype=np.float64)

    return float(np.mean([np.abs(curve(run[grid]) / curve(run[2]) - 1) for run in _refined()]))


def _grids() -> list[Case]:
    tolerances = {"area": 0.05, "depth": 0.05, "product": 0.10}

    def plot(ax: Axes) -> None:
        for which in tolerances:
            ax.semilogx([64, 128], [100 * _gap(which, 0), 100 * _gap(which, 1)], "o-", label=which)
        ax.set(xlabel="cells a side", ylabel="difference from 256 cells, %")
        ax.legend()

    return [
        Case(
            title=f"grid convergence: {which}",
            statement=(
                f"{'Area' if which == 'area' else 'Largest ' + which} at the same severity, 128 against 256 cells; "
                f"mean over {_SPECIMENS} specimens that were drawn on 64 cells."
            ),
            quantity="mean relative difference",
            expected=0.0,
            got=_gap(which, 1),
            tolerance=tolerance,
            absolute=True,
            plot=plot if which == "area" else None,
        )
        for which, tolerance in tolerances.items()
    ]
