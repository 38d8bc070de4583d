"""The bank: what was simulated is what is read back, in shards that do not depend on one another and can be shared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from manifests.errors import CorpusError
from manifests.records import BankRecord
from manifests.seeds import name_key
from physics.mechanism import Trajectory
from physics.registry import MECHANISMS
from pipeline import bank
from pipeline.bank import PER_SHARD, BankSpec, bank_specs, create_bank, load_trajectory, store_trajectories
from pipeline.planning import bank_stream, enters_at_edge
from pipeline.recipe import Recipe, config_sha256, load_recipe
from pipeline.store import read_valid_commits
from tests.pipeline.conftest import MECHANISMS_OF_RECIPE, digest

SIZES = dict.fromkeys(MECHANISMS_OF_RECIPE, 20)
NUMBERS = {name: (range(total),) for name, total in SIZES.items()}
each_mechanism = pytest.mark.parametrize("name", MECHANISMS_OF_RECIPE)


@pytest.fixture(scope="module")
def recipe(recipe_file: Path) -> Recipe:
    return load_recipe(recipe_file, overrides={})


def with_params(recipe: Recipe, name: str, **changes: object) -> Recipe:
    """The recipe with other parameters of one mechanism."""
    plain = recipe.model_dump(mode="json")
    plain["mechanisms"][name].update(changes)
    return Recipe.model_validate(plain)


@pytest.mark.parametrize("trajectories", [10, 16, 17, 40])
def test_shards_cover_the_bank_of_every_mechanism_once(trajectories: int, recipe: Recipe, tmp_path: Path) -> None:
    sizes = {"fracture": trajectories, "pitting": 20}
    specs = bank_specs(tmp_path, recipe, {name: (range(total),) for name, total in sizes.items()})
    for name, total in sizes.items():
        mine = [spec for spec in specs if spec.mechanism == name]
        assert [t for spec in mine for t in range(spec.start, spec.stop)] == list(range(total))
        assert [spec.shard for spec in mine] == list(range(len(mine)))
        assert all(spec.start == spec.shard * PER_SHARD for spec in mine)


@each_mechanism
def test_trajectory_is_read_back_as_simulated(name: str, finished: Path, recipe: Recipe) -> None:
    for number in (0, 17, 19):
        made: Trajectory = MECHANISMS[name].simulate(recipe.params(name), bank_stream(recipe, name, number))
        stored = load_trajectory(finished, recipe, name, number)
        assert set(stored.fields) == set(MECHANISMS[name].fields) - {"opening"}
        for field, values in stored.fields.items():
            np.testing.assert_array_equal(values, made.fields[field].astype(np.float16))
        np.testing.assert_array_equal(stored.severity, made.severity)
        np.testing.assert_array_equal(stored.area, made.area)
        assert (made.crack is None) == (stored.segments is None) == (stored.crack_at(0) is None)
        if made.crack is not None:
            assert stored.segments is not None
            assert stored.opening is not None
            used = len(stored.segments)
            np.testing.assert_array_equal(stored.segments, made.crack.segments[:used])
            np.testing.assert_array_equal(stored.opening, made.crack.opening[:, :used].astype(np.float16))
            assert not made.crack.opening[-1, used:].astype(np.float16).any()


@each_mechanism
def test_defect_grows_from_snapshot_to_snapshot(name: str, finished: Path, recipe: Recipe) -> None:
    for number in range(SIZES[name]):
        stored = load_trajectory(finished, recipe, name, number)
        assert stored.severity.shape == stored.area.shape == (recipe.params(name).snapshots,)
        assert stored.severity[0] > 0.0
        assert stored.severity[-1] == pytest.approx(1.0)
        assert (np.diff(stored.severity) >= -1e-9).all()
        assert (np.diff(stored.area) >= -1e-6).all()
        cracks = [stored.crack_at(k) for k in range(len(stored.severity))]
        lengths = [float(crack.length()[0]) for crack in cracks if crack is not None]
        assert len(lengths) == (len(cracks) if name == "fracture" else 0)
        assert (np.diff(lengths) >= -1e-6).all()
        assert all(float(crack.opening.max()) == pytest.approx(1.0, abs=1e-3) for crack in cracks if crack is not None)
        for k in range(len(cracks)):
            assert set(stored.fields_at(k)) == set(stored.fields)
            assert all(values.dtype == np.float32 for values in stored.fields_at(k).values())


@each_mechanism
def test_shard_made_alone_has_the_bytes_it_has_in_the_whole_bank(
    name: str, finished: Path, recipe: Recipe, tmp_path: Path
) -> None:
    create_bank(tmp_path, recipe, NUMBERS)
    result = store_trajectories(BankSpec(tmp_path, recipe, name, 1, 16, 20))
    assert not result.adopted
    assert len(result.record.files) == len(MECHANISMS[name].fields) + (3 if name == "fracture" else 2)
    for file in result.record.files:
        assert (tmp_path / file.path).read_bytes() == (finished / file.path).read_bytes()
    record = f"commits/bank--{name}--00001.json"
    assert (tmp_path / record).read_bytes() == (finished / record).read_bytes()


def test_records_name_trajectory_group_edge_and_stream(finished: Path, recipe: Recipe) -> None:
    commits = list(read_valid_commits(finished, "bank", BankRecord, recipe))
    for name, total in SIZES.items():
        rows = [row for c in commits for row in c.rows if row.mechanism == name]
        assert [row.trajectory for row in rows] == list(range(total))
        assert [row.group for row in rows] == [k % recipe.bank.groups for k in range(total)]
        assert [row.seed_path for row in rows] == [f"0/BANK/{name_key(name)}/{k}" for k in range(total)]
        assert [row.from_edge for row in rows] == [enters_at_edge(recipe, name, k) for k in range(total)]
        assert all(len(row.severity) == len(row.area) == recipe.params(name).snapshots for row in rows)
        assert all(len(fact) in (1, len(row.severity)) for row in rows for fact in row.facts.values())
        assert len({tuple(row.facts) for row in rows}) == 1


@each_mechanism
def test_trajectory_that_was_never_made_is_an_error_not_a_defect_of_zeros(
    name: str, recipe: Recipe, tmp_path: Path
) -> None:
    create_bank(tmp_path, recipe, NUMBERS)
    with pytest.raises(CorpusError, match="shard is missing"):
        load_trajectory(tmp_path, recipe, name, 0)


# ---------------------------------------------------------------- what a shard is computed from


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"store": {"shard_images": 5, "zstd_level": 2}},
        {"bank": {"trajectories": 20, "groups": 5}},
        {"mechanisms": {"pitting": {"grid": 64, "snapshots": 4}}},
        {"mechanisms": {"pitting": {"grid": 32, "snapshots": 5}}},
        {"mechanisms": {"pitting": {"grid": 32, "snapshots": 4, "edge_share": 0.9}}},
    ],
    ids=str,
)
def test_identity_of_a_shard_changes_with_what_decides_its_bytes(
    change: dict[str, object], recipe: Recipe, tmp_path: Path
) -> None:
    other = Recipe.model_validate(recipe.model_dump(mode="json") | change)
    one, two = (BankSpec(tmp_path, r, "pitting", 0, 0, 16) for r in (recipe, other))
    assert one.inputs_sha256 != two.inputs_sha256


@each_mechanism
def test_identity_of_a_shard_is_blind_to_what_is_chosen_later(name: str, recipe: Recipe, tmp_path: Path) -> None:
    plain = recipe.model_dump(mode="json")
    plain.update(name="other", count=7, size=128, sources=[{"kind": "folder", "path": "/elsewhere"}])
    other = Recipe.model_validate(plain)
    choices: dict[str, object] = {"weight": 7.0, "area": {"low": 0.01, "high": 0.02}}
    choices["severity"] = {"low": 0.9, "high": 1.0}
    if name == "fracture":
        choices["width"] = {"low": 0.01, "high": 0.02}
    other = with_params(other, name, **choices)
    assert config_sha256(other) != config_sha256(recipe)
    one, two = (BankSpec(tmp_path, r, name, 1, 16, 20) for r in (recipe, other))
    assert one.inputs_sha256 == two.inputs_sha256
    assert BankSpec(tmp_path, recipe, name, 1, 16, 20, tmp_path / "shared").inputs_sha256 == one.inputs_sha256


def test_identity_of_a_shard_names_mechanism_and_range(recipe: Recipe, tmp_path: Path) -> None:
    specs = [
        BankSpec(tmp_path, recipe, "fracture", 0, 0, 16),
        BankSpec(tmp_path, recipe, "pitting", 0, 0, 16),
        BankSpec(tmp_path, recipe, "pitting", 0, 0, 15),
        BankSpec(tmp_path, recipe, "pitting", 1, 16, 20),
    ]
    assert len({spec.inputs_sha256 for spec in specs}) == 4


def test_identity_of_a_shard_changes_with_the_source_of_the_physics(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = BankSpec(tmp_path, recipe, "pitting", 0, 0, 16)
    before = spec.inputs_sha256
    monkeypatch.setattr(bank, "package_digest", lambda *packages: f"edited {packages}")
    assert spec.inputs_sha256 != before


# ---------------------------------------------------------------- a bank that is there already


@pytest.fixture
def shared(finished: Path, tmp_path: Path) -> Path:
    """The bank of another recipe on its own, to be adopted from or damaged."""
    folder = tmp_path / "shared"
    shutil.copytree(finished / "bank", folder / "bank")
    (folder / "commits").mkdir()
    for path in (finished / "commits").glob("bank--*"):
        shutil.copy(path, folder / "commits")
    return folder


def never(*_: object) -> None:
    pytest.fail("nothing may be simulated here")


def adopting(out: Path, recipe: Recipe, shared: Path) -> BankSpec:
    create_bank(out, recipe, NUMBERS)
    return BankSpec(out, recipe, "pitting", 1, 16, 20, shared)


def test_shard_of_another_recipe_is_adopted_with_the_same_bytes_and_its_own_record(
    shared: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = with_params(recipe.model_copy(update={"count": 99}), "pitting", weight=3.0)
    computed = store_trajectories(adopting(tmp_path / "computed", other, tmp_path / "nowhere"))
    assert not computed.adopted
    monkeypatch.setattr(type(MECHANISMS["pitting"]), "simulate", never)
    before = digest(shared)
    adopted = store_trajectories(adopting(tmp_path / "adopted", other, shared))
    assert adopted.adopted
    assert adopted.record == computed.record
    assert adopted.record.config_sha256 == config_sha256(other)
    assert digest(tmp_path / "adopted") == digest(tmp_path / "computed")
    assert digest(shared) == before


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("bank/pitting/depth/c/1/0/0/0", flip),
        ("bank/pitting/severity/c/1/0", flip),
        ("bank/pitting/product/c/1/0/0/0", cut),
        ("bank/pitting/area/c/1/0", Path.unlink),
        ("commits/bank--pitting--00001.json", cut),
        ("commits/bank--pitting--00001.json", Path.unlink),
    ],
)
def test_damaged_shard_is_not_adopted_but_computed(
    name: str, damage: Callable[[Path], None], shared: Path, finished: Path, recipe: Recipe, tmp_path: Path
) -> None:
    damage(shared / name)
    made = store_trajectories(adopting(tmp_path / "out", recipe, shared))
    assert not made.adopted
    for file in made.record.files:
        assert (tmp_path / "out" / file.path).read_bytes() == (finished / file.path).read_bytes()
    record = "commits/bank--pitting--00001.json"
    assert (tmp_path / "out" / record).read_bytes() == (finished / record).read_bytes()


def edit_record(shared: Path, key: str, value: object) -> None:
    path = shared / "commits/bank--pitting--00001.json"
    content = json.loads(path.read_bytes())
    content[key] = value
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("inputs_sha256", "0" * 64),
        ("files", []),
        ("rows", []),
        ("key", "fracture"),
        ("shard", 0),
        ("files", [{"path": "../shared/commits/bank--pitting--00000.json", "bytes": 1, "sha256": "0" * 64}]),
    ],
)
def test_record_that_does_not_prove_this_shard_is_not_adopted(
    key: str, value: object, shared: Path, recipe: Recipe, tmp_path: Path
) -> None:
    edit_record(shared, key, value)
    assert not store_trajectories(adopting(tmp_path / "out", recipe, shared)).adopted


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"mechanisms": {"fracture": {}, "pitting": {"grid": 32, "snapshots": 4, "edge_share": 0.9}}},
        {"bank": {"groups": 5}},
    ],
    ids=str,
)
def test_bank_of_another_seed_of_other_physics_or_groups_is_not_adopted(
    change: dict[str, object], shared: Path, recipe: Recipe, tmp_path: Path
) -> None:
    other = Recipe.model_validate(recipe.model_dump(mode="json") | change)
    made = store_trajectories(adopting(tmp_path / "out", other, shared))
    assert not made.adopted
    assert [row.group for row in made.record.rows] == [k % other.bank.groups for k in range(16, 20)]
