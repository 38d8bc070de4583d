"""How fast the solvers are: beside py-pde on the same equations, beside the memory, and in ms per usable snapshot.

Run with::

    python -m benchmarks.solvers                       # prints tables
    python -m benchmarks.solvers --write docs/solver-speed.md

All on one thread. py-pde is a developer's dependency (``pip install -e '.[dev]'``). Peers are timed in turn with ours
and medians are taken, so a busy machine slows both alike; quote the ratios, not the seconds.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # before Numba is imported: py-pde would use more

import numpy as np
from numba import njit
from rich.console import Console
from rich.table import Table

from physics import _fracture_kernels, _pitting_kernels
from physics.mechanism import Mechanism, Trajectory
from physics.placement import Placement, Window, field_window, place_crack, place_fields, roughness_tile
from physics.registry import MECHANISMS

if TYPE_CHECKING:
    from pde import PDE, ScalarField

# What a trajectory solves, with coefficients that vary from place to place, as a user of py-pde writes it.
DAMAGE_EQUATION = "2 * (gc * laplace(d) + dot(gradient(gc), gradient(d))) - gc * d / 2 + 2 * psi * (1 - d)"
ION_EQUATION = "laplace(c)"
EXPLICIT_ALPHA = 0.2  # D dt / h^2 of an explicit step; 0.25 is the limit of stability
IMPLICIT_ALPHA = 4.0  # of our implicit step, as the pitting runs take it: 1.5 to 25


@dataclass(frozen=True)
class Comparison:
    """Seconds a step of one equation, ours and py-pde's, medians; how many of its steps one of ours stands for; and
    seconds of one solve with new parameters.
    """

    name: str
    cells: int
    ours_s: float
    peer_s: float
    worth: float
    ours_solve_s: float
    peer_solve_s: float


@dataclass(frozen=True)
class SnapshotCost:
    """Milliseconds of one mechanism: simulating, usable snapshots of a trajectory, drawing one on a picture, and both
    together for one usable snapshot.
    """

    name: str
    trajectory_ms: float
    usable: float
    drawing_ms: float

    @property
    def snapshot_ms(self) -> float:
        return self.trajectory_ms / self.usable + self.drawing_ms


def interleaved(*jobs: Callable[[], object], rounds: int) -> list[float]:
    """Median seconds of each job, taken in turn; one uncounted round first."""
    spent: list[list[float]] = [[] for _ in jobs]
    for k in range(rounds + 1):
        for job, times in zip(jobs, spent, strict=True):
            start = time.perf_counter()
            job()
            if k:
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in spent]


def damage_sweeps(cells: int, sweeps: int) -> Callable[[], object]:
    """Our relaxation of the AT2 damage equation, as in a trajectory: heterogeneous toughness, bounds, float32."""
    rng = np.random.default_rng(0)
    m = cells + 1
    damage = rng.random((m, m), dtype=np.float32)
    floor, psi = np.zeros_like(damage), rng.random((m, m), dtype=np.float32)
    toughness = 0.5 + rng.random((m, m), dtype=np.float32)
    scratch = np.zeros((3, m, m), dtype=np.float32)
    one = np.float32(1.0)
    tensor = (1.0, 1.0, 0.0)

    def job() -> None:
        _fracture_kernels.relax_damage(
            damage, floor, psi, toughness, 2.0 * one, tensor, 0.0 * one, -one, sweeps, scratch
        )

    return job


def ion_steps(cells: int, steps: int) -> Callable[[], object]:
    """Our implicit step of the diffusion of ions."""
    c = np.random.default_rng(0).random((cells, cells))
    c = c.astype(np.float32)
    lower, pivot = np.zeros(cells, dtype=np.float32), np.zeros(cells, dtype=np.float32)

    def job() -> None:
        for _ in range(steps):
            _pitting_kernels.diffuse(c, np.float32(IMPLICIT_ALPHA), (0, cells, 0, cells), lower, pivot)

    return job


def peer_problem(equation: str, name: str, cells: int) -> tuple[PDE, ScalarField]:
    """The equation in py-pde, on one thread, and a start."""
    import pde

    pde.config["backend"]["numba"]["multithreading"] = "never"
    grid = pde.CartesianGrid([[0, cells], [0, cells]], [cells, cells])
    rng = np.random.default_rng(0)
    consts = {key: pde.ScalarField(grid, 0.5 + rng.random((cells, cells))) for key in ("gc", "psi") if key in equation}
    return pde.PDE({name: equation}, consts=consts), pde.ScalarField(grid, rng.random((cells, cells)))


def peer_steps(equation: str, name: str, cells: int, steps: int) -> Callable[[], object]:
    """py-pde's explicit Euler step, compiled by Numba, its default backend."""
    import pde

    problem, state = peer_problem(equation, name, cells)
    step = EXPLICIT_ALPHA / 2  # the damage diffuses with l = 2
    stepper = pde.ExplicitSolver(problem).make_stepper(state, dt=step)
    return lambda: stepper(state, 0.0, steps * step)


def peer_solve(equation: str, name: str, cells: int) -> Callable[[], object]:
    """A whole call of py-pde's solve, ten steps."""
    problem, state = peer_problem(equation, name, cells)
    return lambda: problem.solve(state, t_range=EXPLICIT_ALPHA * 5, dt=EXPLICIT_ALPHA / 2, tracker=None)


# label, equation, unknown, ours, how many explicit steps one of ours stands for
EQUATIONS = (
    ("AT2 damage, one sweep", DAMAGE_EQUATION, "d", damage_sweeps, 1.0),
    ("diffusion of ions, one step", ION_EQUATION, "c", ion_steps, IMPLICIT_ALPHA / EXPLICIT_ALPHA),
)


def compare(*, cells: int = 256, steps: int = 200, rounds: int = 5, equations: int = 2) -> list[Comparison]:
    """The first so many equations beside py-pde."""
    found = []
    for label, equation, name, ours, worth in EQUATIONS[:equations]:
        mine, peer = interleaved(ours(cells, steps), peer_steps(equation, name, cells, steps), rounds=rounds)
        ours(cells, 1)()
        start = time.perf_counter()
        ours(cells, 10)()
        middle = time.perf_counter()
        peer_solve(equation, name, cells)()  # it compiles anew, though it has just compiled the same equation
        solves = (middle - start, time.perf_counter() - middle)
        found.append(Comparison(label, cells, mine / steps, peer / steps, worth, *solves))
    return found


@njit(cache=True)
def _triad(a, b, out):  # type: ignore[no-untyped-def]
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            out[i, j] = a[i, j] + np.float32(0.5) * b[i, j]


def roofline(*, rounds: int = 7) -> list[tuple[int, float, float]]:
    """(cells, seconds of one damage sweep, seconds in which the memory moves as many bytes) for a few grids."""
    found = []
    for cells in (128, 256, 512, 1024):
        a, b, out = (np.ones((cells, cells), dtype=np.float32) for _ in range(3))
        sweeps = max(8, 2_000_000 // cells**2)

        def triads(a: np.ndarray = a, b: np.ndarray = b, out: np.ndarray = out, sweeps: int = sweeps) -> None:
            for _ in range(sweeps):
                _triad(a, b, out)

        ours, triad = interleaved(damage_sweeps(cells, sweeps), triads, rounds=rounds)
        # a sweep reads damage, floor, toughness, inverse, source and the last iterate and writes one: 7; a triad 3
        found.append((cells, ours / sweeps, triad / sweeps * 7 / 3))
    return found


def snapshot_costs(*, trajectories: int = 24, size: int = 256) -> list[SnapshotCost]:
    """What a usable snapshot costs, drawing on a picture of ``size`` pixels included; seconds of the process."""
    return [_snapshot_cost(mechanism, trajectories, size) for mechanism in MECHANISMS.values() if mechanism.physical]


def _snapshot_cost(mechanism: Mechanism, trajectories: int, size: int) -> SnapshotCost:
    params = mechanism.params()
    mechanism.simulate(params, np.random.default_rng(10_000))  # compiles
    spent, drawing, usable = [], [], []
    for seed in range(trajectories):
        start = time.process_time()
        trajectory = mechanism.simulate(params, np.random.default_rng(seed))
        spent.append(time.process_time() - start)
        usable.append(_usable(trajectory))
        draw(trajectory, size)
        start = time.process_time()
        draw(trajectory, size)
        drawing.append(time.process_time() - start)
    return SnapshotCost(
        mechanism.name, 1e3 * statistics.mean(spent), statistics.mean(usable), 1e3 * statistics.mean(drawing)
    )


def _usable(trajectory: Trajectory) -> int:
    """Snapshots that differ from one another."""
    shown = trajectory.crack.opening if trajectory.crack is not None else next(iter(trajectory.fields.values()))
    return len({values.tobytes() for values in shown})


def draw(trajectory: Trajectory, size: int) -> None:
    """The last snapshot on a window of a picture, as the main job does it."""
    placement = Placement((size / 2, size / 2), 0.8 * size, 0, 20.0)
    fields = {name: values[-1] for name, values in trajectory.fields.items()}
    if trajectory.crack is not None:
        place_crack(
            trajectory.crack.segments,
            trajectory.crack.opening[-1],
            placement,
            Window(0, 0, size),
            cell_px=0.8 * size / 128,
            width_px=3.0,
            roughness=0.1,
            reach_px=10.0,
            tile=roughness_tile(0),
            tile_offset=(3, 5),
        )
    if fields:
        place_fields(fields, placement, field_window(fields, placement, size=size, reach_px=10.0))


def tables(
    comparisons: list[Comparison], sweeps: list[tuple[int, float, float]], costs: list[SnapshotCost]
) -> list[Table]:
    first = Table(
        title="beside py-pde on the same equations, with coefficients that vary from place to place, one thread"
    )
    headings = ("equation", "cells", "ours, us", "py-pde, us", "its steps for one of ours", "py-pde / ours")
    for heading in (*headings, "a solve with new parameters: ours", "the same: py-pde"):
        first.add_column(heading, justify="left" if heading == "equation" else "right")
    for c in comparisons:
        first.add_row(
            c.name,
            str(c.cells),
            f"{1e6 * c.ours_s:.0f}",
            f"{1e6 * c.peer_s:.0f}",
            f"{c.worth:.0f}",
            f"{c.worth * c.peer_s / c.ours_s:.1f}",
            f"{c.ours_solve_s:.4f} s",
            f"{c.peer_solve_s:.1f} s",
        )
    second = Table(title="one damage sweep beside the memory (float32)")
    for heading in ("cells", "sweep, us", "same bytes in a triad, us", "ratio"):
        second.add_column(heading, justify="right")
    for cells, ours, triad in sweeps:
        second.add_row(str(cells), f"{1e6 * ours:.0f}", f"{1e6 * triad:.0f}", f"{ours / triad:.1f}")
    third = Table(title="a usable snapshot on 256 x 256 pixels, process time")
    for heading in ("mechanism", "a trajectory, ms", "usable", "drawing, ms", "a usable snapshot, ms"):
        third.add_column(heading, justify="left" if heading == "mechanism" else "right")
    for cost in costs:
        third.add_row(
            cost.name,
            f"{cost.trajectory_ms:.0f}",
            f"{cost.usable:.1f}",
            f"{cost.drawing_ms:.1f}",
            f"{cost.snapshot_ms:.1f}",
        )
    third.add_row("mean", "", "", "", f"{statistics.mean(cost.snapshot_ms for cost in costs):.1f}")
    return [first, second, third]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trajectories", type=int, default=24)
    parser.add_argument("--write", type=Path, help="Markdown page to write the tables to")
    options = parser.parse_args()
    made = tables(
        compare(rounds=options.rounds),
        roofline(rounds=options.rounds),
        snapshot_costs(trajectories=options.trajectories),
    )
    for table in made:
        Console(width=140).print(table)
    if options.write:
        options.write.write_text(markdown(made), encoding="utf-8")


def markdown(made: list[Table]) -> str:
    """The tables as a page."""
    page = io.StringIO()
    page.write("# Speed of the solvers\n\nWritten by `python -m benchmarks.solvers --write docs/solver-speed.md`.\n")
    for table in made:
        page.write(f"\n**{table.title}**\n\n| {' | '.join(str(c.header) for c in table.columns)} |\n")
        page.write(f"|{'|'.join('---' if c.justify == 'left' else '--:' for c in table.columns)}|\n")
        for cells in zip(*(list(c.cells) for c in table.columns), strict=True):
            page.write(f"| {' | '.join(str(cell) for cell in cells)} |\n")
    return page.getvalue()


if __name__ == "__main__":
    main()
