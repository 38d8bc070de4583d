"""What helped, as a sampling policy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bisqad.policy import sampling_policy
from manifests.policy import MechanismPolicy, PlacePolicy, read_policy
from manifests.records import SampleRecord


def records(count: int = 240) -> list[SampleRecord]:
    """Two mechanisms in turn; areas and severities rise; every fourth sample lies at the border."""
    return [
        SampleRecord.model_construct(
            id=f"{k:016x}",
            mechanism=("fracture", "pitting")[k % 2],
            asked_area=0.001 * (1 + k),
            asked_severity=k / count,
            anchor_y=0.1 if k % 8 < 2 else 0.5,
            anchor_x=0.5,
            from_edge=False,
        )
        for k in range(count)
    ]


@pytest.mark.parametrize("weight", [1.0, 0.01, 250.0])
def test_equal_weights_change_nothing(weight: float) -> None:
    policy = sampling_policy(records(), np.full(240, weight), corpus="demo")
    assert (policy.corpus, policy.samples) == ("demo", 240)
    assert policy.mechanisms == {name: MechanismPolicy() for name in ("fracture", "pitting")}


def test_a_mechanism_of_twice_the_weight_gets_a_larger_factor_and_the_rest_stays() -> None:
    weights = np.where(np.arange(240) % 2 == 0, 2.0, 1.0)
    found = sampling_policy(records(), weights, corpus="demo").mechanisms
    assert found["fracture"].factor > 1.2
    assert found["pitting"].factor < 0.8
    assert found["fracture"].area == found["pitting"].severity == (1.0, 1.0, 1.0, 1.0)
    assert found["fracture"].place == PlacePolicy()


def test_factors_keep_the_mean_over_samples_where_mechanisms_are_as_many() -> None:
    weights = np.random.default_rng(1).uniform(0.2, 3, 240)
    found = sampling_policy(records(), weights, corpus="demo").mechanisms
    assert np.mean([m.factor for m in found.values()]) == pytest.approx(1, abs=1e-3)
    for mechanism in found.values():
        assert np.mean(mechanism.area) == pytest.approx(1, abs=1e-3)
        assert np.mean(mechanism.severity) == pytest.approx(1, abs=1e-3)


def test_the_quarter_and_the_place_that_helped_are_told() -> None:
    number = np.arange(240)
    weights = np.where(number >= 180, 3.0, 1.0) * np.where(number % 8 < 2, 2.0, 1.0)
    found = sampling_policy(records(), weights, corpus="demo").mechanisms["pitting"]
    assert max(found.area) == found.area[3] > 1.2
    assert found.area == found.severity
    assert found.place.border > 1 > found.place.inside


def test_few_samples_are_drawn_towards_1() -> None:
    def factor(count: int) -> float:
        weights = np.where(np.arange(count) % 2 == 0, 1.5, 0.5)
        return sampling_policy(records(count), weights, corpus="demo").mechanisms["fracture"].factor

    assert 1 < factor(4) < factor(40) < factor(400) < 1.5


def test_a_weight_beyond_all_bounds_gives_a_policy_that_can_be_read(tmp_path: Path) -> None:
    weights = np.where(np.arange(4000) % 2 == 0, 1e9, 1e-9)
    policy = sampling_policy(records(4000), weights, corpus="demo")
    (tmp_path / "policy.json").write_text(policy.model_dump_json())
    assert read_policy(tmp_path / "policy.json") == policy


def test_defects_that_come_in_from_an_edge_say_nothing_of_places() -> None:
    given = [record.model_copy(update={"from_edge": record.anchor_y < 0.2}) for record in records()]
    weights = np.array([3.0 if record.from_edge else 1.0 for record in given])
    found = sampling_policy(given, weights, corpus="tiles")
    assert {policy.place.border for policy in found.mechanisms.values()} == {1.0}
    assert found.mechanisms["fracture"].factor == pytest.approx(1.0, abs=0.2)
