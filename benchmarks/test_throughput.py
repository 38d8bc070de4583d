"""The throughput benchmark works; its figures are not judged here."""

from __future__ import annotations

from benchmarks import throughput
from pipeline.recipe import Recipe


def test_throughput_benchmark_measures_every_stage() -> None:
    recipe = Recipe.model_validate(
        {
            "count": 8,
            "size": 64,
            "sources": [{"kind": "builtin", "categories": ["coins"]}],
            "bank": {"trajectories": 10},
            "label": {"least_visibility": 0.0},
            "mechanisms": {"fracture": {"grid": 64, "snapshots": 6}, "pitting": {"grid": 32, "snapshots": 4}},
        }
    )
    found, apart = throughput.measure(recipe, rounds=1, workers=(1,))
    assert all(found[1][stage] > 0 for stage in (*throughput.SAMPLE_STAGES, "wall", "samples_wall", "png"))
    assert apart > 0
