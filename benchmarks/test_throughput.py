"""The throughput benchmark works; its figures are not judged here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pipeline.recipe import Recipe


def test_throughput_benchmark_measures_every_stage() -> None:
    spec = importlib.util.spec_from_file_location("throughput", Path(__file__).with_name("throughput.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    recipe = Recipe.model_validate(
        {
            "count": 8,
            "size": 64,
            "sources": [{"kind": "builtin", "categories": ["coins"]}],
            "bank": {"trajectories": 10},
            "mechanisms": {"fracture": {"grid": 64, "snapshots": 6}, "pitting": {"grid": 32, "snapshots": 4}},
        }
    )
    found = module.measure(recipe, rounds=1, workers=(1,))
    assert all(found[1][stage] > 0 for stage in (*module.SAMPLE_STAGES, "wall", "samples_wall", "png"))
