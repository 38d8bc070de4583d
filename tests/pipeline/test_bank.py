"""The bank: what was simulated is what is read back, in shards that do not depend on one another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.recipe import Recipe, load_recipe
from manifests.errors import CorpusError
from manifests.records import BankRecord
from manifests.seeds import Stage, stream
from physics.fracture import simulate
from pipeline.bank import PER_SHARD, BankSpec, bank_specs, create_bank, load_trajectory, store_trajectories
from pipeline.planning import bank_size
from pipeline.store import read_valid_commits


@pytest.fixture(scope="module")
def recipe(recipe_file: Path) -> Recipe:
    return load_recipe(recipe_file, overrides={})


@pytest.mark.parametrize("trajectories", [10, 16, 17, 40])
def test_shards_cover_the_bank_once(trajectories: int, tmp_path: Path) -> None:
    specs = bank_specs(tmp_path, load_recipe(None, overrides={"bank": {"trajectories": trajectories}}))
    covered = [t for spec in specs for t in range(spec.start, spec.stop)]
    assert covered == list(range(trajectories))
    assert [spec.shard for spec in specs] == list(range(len(specs)))
    assert all(spec.start == spec.shard * PER_SHARD for spec in specs)


def test_trajectory_is_read_back_as_simulated(finished: Path, recipe: Recipe) -> None:
    for number in (0, 17, 39):
        made = simulate(recipe.fracture, stream(recipe.seed, Stage.BANK, number))
        stored = load_trajectory(finished, number)
        np.testing.assert_array_equal(stored.damage, made.damage.astype(np.float16))
        used = len(stored.segments)
        np.testing.assert_array_equal(stored.segments, made.segments[:used])
        np.testing.assert_array_equal(stored.opening, made.opening[:, :used].astype(np.float16))
        assert not made.opening[-1, used:].astype(np.float16).any()


def test_crack_grows_from_snapshot_to_snapshot(finished: Path, recipe: Recipe) -> None:
    for number in range(bank_size(recipe)):
        stored = load_trajectory(finished, number)
        lengths = [stored.length_at(k) for k in range(recipe.fracture.snapshots)]
        assert lengths[0] > 0.0
        assert (np.diff(lengths) >= -1e-6).all()
        assert float(stored.opening_at(-1).min()) >= 0.0
        assert float(stored.opening_at(-1).max()) == pytest.approx(1.0, abs=1e-3)


def test_shard_made_alone_has_the_bytes_it_has_in_the_whole_bank(
    finished: Path, recipe: Recipe, tmp_path: Path
) -> None:
    create_bank(tmp_path, recipe)
    record = store_trajectories(BankSpec(tmp_path, recipe, 2, 32, 40))
    for file in record.files:
        assert (tmp_path / file.path).read_bytes() == (finished / file.path).read_bytes()
    name = "commits/bank--fracture--00002.json"
    assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


def test_records_name_trajectory_group_and_stream(finished: Path, recipe: Recipe) -> None:
    rows = [row for c in read_valid_commits(finished, "bank", BankRecord, recipe) for row in c.rows]
    assert [row.trajectory for row in rows] == list(range(40))
    assert [row.group for row in rows] == [k % recipe.bank.groups for k in range(40)]
    assert [row.seed_path for row in rows] == [f"0/BANK/{k}" for k in range(40)]
    assert all(len(row.length_cells) == len(row.load) == row.snapshots == 20 for row in rows)


def test_trajectory_that_was_never_made_is_an_error_not_a_crack_of_zeros(recipe: Recipe, tmp_path: Path) -> None:
    create_bank(tmp_path, recipe)
    with pytest.raises(CorpusError, match="shard is missing"):
        load_trajectory(tmp_path, 0)


def test_identity_of_a_shard_changes_with_seed_and_physics(recipe: Recipe, tmp_path: Path) -> None:
    other_seed = recipe.model_copy(update={"seed": 1})
    softer = recipe.model_copy(update={"fracture": recipe.fracture.model_copy(update={"edge_share": 0.25})})
    seen = {BankSpec(tmp_path, r, 0, 0, 16).inputs_sha256 for r in (recipe, other_seed, softer)}
    assert len(seen) == 3
