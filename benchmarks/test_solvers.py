"""The benchmark of the solvers works, py-pde included; its figures are not judged here."""

from __future__ import annotations

import warnings

from benchmarks import solvers


def test_solver_benchmark_measures_everything() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the peer's
        comparisons = solvers.compare(cells=32, steps=3, rounds=1, equations=1)
    costs = solvers.snapshot_costs(trajectories=1, size=64)
    page = solvers.markdown(solvers.tables(comparisons, solvers.roofline(rounds=1), costs))
    assert all(min(c.ours_s, c.peer_s, c.ours_solve_s, c.peer_solve_s) > 0 for c in comparisons)
    assert all(cost.snapshot_ms > 0 and cost.usable >= 10 for cost in costs)
    assert all(cost.name in page for cost in costs)
