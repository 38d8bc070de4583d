"""Sampling policies: their file, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from manifests.errors import ConfigError
from manifests.policy import MechanismPolicy, PlacePolicy, SamplingPolicy, read_policy

FACTORS = st.floats(0.05, 20)
QUARTERS = st.tuples(FACTORS, FACTORS, FACTORS, FACTORS)
MECHANISMS = st.builds(
    MechanismPolicy,
    factor=FACTORS,
    area=QUARTERS,
    severity=QUARTERS,
    place=st.builds(PlacePolicy, border=FACTORS, inside=FACTORS),
)
POLICIES = st.builds(
    SamplingPolicy,
    corpus=st.text(max_size=20),
    samples=st.integers(0, 10**6),
    mechanisms=st.dictionaries(st.text(min_size=1, max_size=10), MECHANISMS, max_size=4),
)


@given(policy=POLICIES)
def test_a_policy_comes_back_from_its_file(policy: SamplingPolicy, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "policy.json"
    path.write_bytes(policy.model_dump_json(indent=1).encode())
    assert read_policy(path) == policy


def test_what_is_not_told_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"corpus": "demo", "samples": 3, "mechanisms": {"dent": {}}}')
    assert read_policy(tmp_path / "p.json").mechanisms["dent"] == MechanismPolicy(
        factor=1.0, area=(1.0,) * 4, severity=(1.0,) * 4, place=PlacePolicy(border=1.0, inside=1.0)
    )


def _with(**mechanism: object) -> bytes:
    return json.dumps({"corpus": "demo", "samples": 3, "mechanisms": {"dent": mechanism}}).encode()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "policy"),
        (b"\xff\xfe\x00", "policy"),
        (b"[]", "policy"),
        (b'{"corpus": "demo", "samples": 3}', "mechanisms"),
        (b'{"corpus": "demo", "samples": 3, "mechanisms": {}, "schema_version": 2}', "schema_version"),
        (b'{"corpus": "demo", "samples": -1, "mechanisms": {}}', "samples"),
        (_with(factor=0), "factor"),
        (_with(factor=21), "factor"),
        (_with(factor=float("nan")), "factor"),
        (_with(area=[1, 1, 1]), "area"),
        (_with(place={"corner": 1}), "corner"),
        (_with(weight=1), "weight"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "policy.json").write_bytes(data)
    with pytest.raises(ConfigError, match=told) as error:
        read_policy(tmp_path / "policy.json")
    assert str(error.value).startswith(f"policy {tmp_path / 'policy.json'}: ")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused_with_who_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bisqad train"):
        read_policy(tmp_path / "none.json")


def test_a_policy_cannot_be_changed() -> None:
    policy = SamplingPolicy(corpus="demo", samples=1, mechanisms={})
    with pytest.raises(ValidationError):
        policy.samples = 2
