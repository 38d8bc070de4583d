"""One step of a partial differential equation beside `py-pde`, on one thread: ions that diffuse, 256 x 256 cells.

Both advance the same time, D dt / h^2 = 4: ours in one implicit step, py-pde, compiled by Numba, in 20 explicit
ones of 0.2 (0.25 is the limit of stability; a step costs the same whatever its length).
`python -m benchmarks.solvers` compares more equations, and whole solves.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # before Numba is imported: py-pde would use more

import pytest

from benchmarks.solvers import EXPLICIT_ALPHA, IMPLICIT_ALPHA, ION_EQUATION, damage_sweeps, ion_steps, peer_steps

CELLS = 256

Benchmark = Callable[..., Any]


def test_diffusion_of_ions(benchmark: Benchmark) -> None:
    benchmark(ion_steps(CELLS, 1))


def test_diffusion_of_ions_by_py_pde(benchmark: Benchmark) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer's own
        job = peer_steps(ION_EQUATION, "c", CELLS, round(IMPLICIT_ALPHA / EXPLICIT_ALPHA))
        job()
        benchmark(job)


@pytest.mark.parametrize("cells", [128, 256, 512])
def test_twenty_sweeps_of_the_damage_equation(benchmark: Benchmark, cells: int) -> None:
    job = damage_sweeps(cells, 20)
    job()
    benchmark(job)
