"""What a bank holds and what it cost, told from its records and the log of its runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.bank_summary import MechanismBank, summarise_bank
from pipeline.recipe import Recipe, load_recipe


@pytest.fixture
def recipe(recipe_file: Path) -> Recipe:
    return load_recipe(recipe_file, overrides={})


def runs(out: Path, *entries: dict[str, object]) -> None:
    (out / "log" / "runs.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")


def test_bank_is_told_by_mechanism_in_the_order_of_the_recipe(finished: Path, recipe: Recipe) -> None:
    found = summarise_bank(finished, recipe)
    assert [(row.mechanism, row.trajectories, row.states) for row in found] == [("fracture", 20, 6), ("pitting", 20, 4)]
    assert [row.simulated for row in found] == [20, 20]
    assert all(row.seconds > 0 for row in found)
    for row in found:
        shards = [path for path in (finished / "bank" / row.mechanism).rglob("*") if path.name != "zarr.json"]
        assert row.bytes == sum(path.stat().st_size for path in shards if path.is_file())


def test_cost_is_summed_over_runs_and_what_was_copied_cost_nothing(copied: Path, recipe: Recipe) -> None:
    runs(
        copied,
        {"simulated": {"fracture": 16}, "stage_s": {"simulate_fracture": 1.5, "samples": 9.0}},
        {"simulated": {"fracture": 4}, "stage_s": {"simulate_fracture": 0.5}},
        {"simulated": {}, "stage_s": {"read": 1.0}},
    )
    fracture, pitting = summarise_bank(copied, recipe)
    assert (fracture.simulated, fracture.seconds) == (20, 2.0)
    assert (pitting.simulated, pitting.seconds, pitting.trajectories) == (0, 0.0, 20)


@pytest.mark.parametrize("log", ["", '{"simulated": {"fracture": 1', "no JSON\n{}\n[]\n"])
def test_line_of_the_log_that_was_cut_short_is_left_out(log: str, copied: Path, recipe: Recipe) -> None:
    (copied / "log" / "runs.jsonl").write_text(log, encoding="utf-8")
    assert [(row.simulated, row.seconds) for row in summarise_bank(copied, recipe)] == [(0, 0.0)] * 2
    (copied / "log" / "runs.jsonl").unlink()
    assert len(summarise_bank(copied, recipe)) == 2


def test_mechanism_without_a_trajectory_is_not_told(copied: Path, recipe: Recipe) -> None:
    for path in (copied / "commits").glob("bank--pitting--*"):
        path.unlink()
    found = summarise_bank(copied, recipe)
    assert [row.mechanism for row in found] == ["fracture"]
    assert isinstance(found[0], MechanismBank)
