"""Figures of docs/physics.md: one simulation of every mechanism at four states, with a section through it.

    python -m benchmarks.physics_figures            # writes docs/pictures/physics-<mechanism>.png

What is drawn is what the solvers give, from a fixed seed, without any photograph.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from physics.mechanism import Trajectory
from physics.registry import MECHANISMS

SEEDS = {"fracture": 12, "craze": 3, "pitting": 8, "dent": 2, "warp": 4}
STATES = 4
_INK, _ACCENT = "#202124", "#b3261e"
_LOAD = {"fracture": "load_griffith", "craze": "shrinkage_load"}  # fact of the trajectory
_SURFACE = {"pitting": ("depth", -1.0), "dent": ("height", 1.0), "warp": ("height", 1.0)}  # field, sign of up


def figure(name: str, *, seed: int, grid: int | None = None) -> Figure:
    """States of a simulated trajectory side by side, and a curve that tells how it grew."""
    mechanism = MECHANISMS[name]
    params = mechanism.params() if grid is None else mechanism.params(grid=grid)
    trajectory = mechanism.simulate(params, np.random.default_rng(seed))
    chosen = np.unique(np.linspace(len(trajectory.severity) // 6, len(trajectory.severity) - 1, STATES).astype(int))
    drawn = Figure(figsize=(11, 2.5), layout="constrained")
    axes = drawn.subplots(1, STATES + 1, width_ratios=[1] * STATES + [1.35])
    for ax, state in zip(axes, chosen, strict=False):
        ax.set(xticks=[], yticks=[], aspect="equal")
        ax.set_title(f"severity {trajectory.severity[state]:.2f}", fontsize=9, color=_INK)
    if name in _SURFACE:
        _draw_surface(axes, trajectory, chosen, *_SURFACE[name])
    else:
        _draw_cracks(axes, trajectory, chosen, _LOAD[name])
    for side in ("top", "right"):
        axes[-1].spines[side].set_visible(False)
    axes[-1].tick_params(labelsize=8)
    return drawn


def _draw_surface(
    axes: Sequence[mpl.axes.Axes], trajectory: Trajectory, chosen: NDArray[np.int_], field: str, up: float
) -> None:
    """Relief in colours of one scale, and sections through its extreme."""
    values = up * trajectory.fields[field].astype(np.float64)
    reach = float(np.abs(values[chosen[-1]]).max())
    row = int(np.unravel_index(np.abs(values[chosen[-1]]).argmax(), values.shape[1:])[0])
    across = (np.arange(values.shape[2]) + 0.5) / values.shape[2]
    for number, (ax, state) in enumerate(zip(axes, chosen, strict=False)):
        shown = ax.imshow(values[state], cmap="RdBu_r", vmin=-reach, vmax=reach, extent=(0, 1, 1, 0))
        ax.axhline((row + 0.5) / values.shape[1], color=_INK, lw=0.5, ls=":")
        shade = 0.75 - 0.75 * (number + 1) / len(chosen)
        axes[-1].plot(across, 100 * values[state, row], color=str(shade), lw=1)
    bar = axes[len(chosen) - 1].figure.colorbar(shown, ax=axes[len(chosen) - 1], shrink=0.8)
    bar.ax.tick_params(labelsize=7)
    axes[-1].set_title("section, % of the side", fontsize=9, color=_INK)
    axes[-1].set_xlabel("across the square, sides", fontsize=8)


def _draw_cracks(axes: Sequence[mpl.axes.Axes], trajectory: Trajectory, chosen: NDArray[np.int_], load: str) -> None:
    """Damage in grey, traced cracks at their relative width, and the load at which each length was open."""
    crack = trajectory.crack
    if crack is None:
        raise ValueError("expected a mechanism that opens cracks")
    ends = crack.segments.reshape(-1, 2, 2)[:, :, ::-1]
    for ax, state in zip(axes, chosen, strict=False):
        damage = trajectory.fields.get("damage")
        if damage is not None:
            ax.imshow(damage[state], cmap="Greys", vmin=0, vmax=1.6, extent=(0, 1, 1, 0))
        width = crack.opening[state].mean(axis=1)
        is_open = width > 0
        lines = LineCollection(list(ends[is_open]), linewidths=0.4 + 2.2 * width[is_open], colors=_ACCENT)
        ax.add_collection(lines)
        ax.set(xlim=(0, 1), ylim=(1, 0))
    axes[-1].plot(crack.length(), trajectory.facts[load], color=_ACCENT, marker="o", ms=3, lw=1)
    axes[-1].set_title("load, Griffith units", fontsize=9, color=_INK)
    axes[-1].set_xlabel("open length, sides", fontsize=8)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--out", type=Path, default=root / "docs" / "pictures", help="folder of the pictures")
    parser.add_argument("--grid", type=int, help="cells a side; default: the mechanism's own")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, seed in SEEDS.items():
        path = options.out / f"physics-{name}.png"
        figure(name, seed=seed, grid=options.grid).savefig(path, dpi=110, metadata={"Software": None})
        print(path)


if __name__ == "__main__":
    main()
