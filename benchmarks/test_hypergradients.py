"""The benchmark of the hypergradients works at small size; its times are not judged here."""

from __future__ import annotations

from benchmarks import hypergradients


def test_hypergradient_benchmark_measures_every_method() -> None:
    size = hypergradients.QUICK
    runs = hypergradients.compare(size, seed=0)
    made = hypergradients.table([runs], [hypergradients.references(size, seed=0)])
    page = hypergradients.markdown(made, size, 1)
    assert [run.name for run in runs] == [method.name for method in hypergradients.METHODS]
    assert all(len(run.step_s) == len(run.auroc) == size.upper_steps for run in runs)
    assert all(0 < run.effective_share <= 1 for run in runs)
    assert all(run.name in page for run in runs)
