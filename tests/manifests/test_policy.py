"""A sampling policy: shares map onto shares, quarters come as often as they are asked to, bad files are one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from manifests.distributions import Distribution
from manifests.errors import ConfigError
from manifests.policy import (
    QUARTERS,
    MechanismPolicy,
    PlacePolicy,
    QuarteredDistribution,
    Quarters,
    SamplingPolicy,
    at_border,
    read_policy,
    share_through,
)

factor = st.floats(0.05, 20)
quarters = st.tuples(factor, factor, factor, factor)
shares = st.floats(0.0, 1.0)
UNEVEN: Quarters = (4.0, 2.0, 1.0, 1.0)


@given(factors=quarters, pair=st.tuples(shares, shares))
def test_shares_map_onto_shares_and_never_back(factors: Quarters, pair: tuple[float, float]) -> None:
    low, high = sorted(pair)
    assert share_through(factors, 0.0) == 0.0
    assert 0.0 <= share_through(factors, low) <= share_through(factors, high) <= 1.0
    assert share_through(factors, 1.0) == 1.0


@given(factors=quarters)
def test_every_quarter_gets_its_part_of_the_shares(factors: Quarters) -> None:
    ends = np.cumsum(factors) / np.sum(factors)
    assert_allclose([share_through(factors, float(end)) for end in ends], [0.25, 0.5, 0.75, 1.0], rtol=1e-9)


@given(even=factor, share=shares)
def test_equal_factors_give_the_share_back_bit_for_bit(even: float, share: float) -> None:
    factors: Quarters = (even, even, even, even)
    assert share_through(factors, share) == share
    asked = Distribution(kind="loguniform", low=0.001, high=0.1)
    assert QuarteredDistribution(asked, factors).quantile(share) == asked.quantile(share)


@given(factors=quarters, share=shares)
def test_share_below_a_quantile_is_the_share(factors: Quarters, share: float) -> None:
    asked = QuarteredDistribution(Distribution(kind="loguniform", low=0.001, high=0.1), factors)
    assert_allclose(float(asked.cdf(asked.quantile(share))), share, atol=1e-9)


def test_draws_fall_into_the_quarters_as_asked_and_cost_one_variate(rng: np.random.Generator) -> None:
    base = Distribution(kind="loguniform", low=0.001, high=0.1)
    asked, number = QuarteredDistribution(base, UNEVEN), 20_000
    position = rng.bit_generator.state
    drawn = [asked.draw(rng) for _ in range(number)]
    after = rng.bit_generator.state
    rng.bit_generator.state = position
    rng.random(number)
    assert rng.bit_generator.state == after
    got, _ = np.histogram(base.cdf(drawn), bins=QUARTERS, range=(0, 1))
    expected = np.array(UNEVEN) / sum(UNEVEN)
    assert_allclose(got / number, expected, atol=4 * 0.5 / np.sqrt(number))


@pytest.mark.parametrize(
    ("anchor", "border"), [((0.5, 0.5), False), ((0.21, 0.79), False), ((0.19, 0.5), True), ((0.5, 0.81), True)]
)
def test_border_is_a_fifth_of_the_side(anchor: tuple[float, float], border: bool) -> None:
    assert at_border(*anchor) == border


def test_favoured_place_is_always_accepted_and_the_other_in_proportion() -> None:
    place = PlacePolicy(border=0.5, inside=2.0)
    assert (place.acceptance(0.1, 0.5), place.acceptance(0.5, 0.5)) == (0.25, 1.0)


def test_only_proportions_of_factors_count_and_what_is_not_named_has_1() -> None:
    both = {"dent": MechanismPolicy(factor=3), "warp": MechanismPolicy(factor=3)}
    policy = SamplingPolicy(corpus="last", samples=9, mechanisms=both)
    assert policy.factors(["dent", "warp"]) == {"dent": 1.0, "warp": 1.0}
    assert policy.factors(["dent", "craze"]) == {"dent": 3.0, "craze": 1.0}


def test_policy_survives_its_file(tmp_path: Path) -> None:
    policy = SamplingPolicy(corpus="last", samples=9, mechanisms={"dent": MechanismPolicy(factor=3, area=UNEVEN)})
    path = tmp_path / "policy.json"
    path.write_text(policy.model_dump_json(indent=1), encoding="utf-8")
    assert read_policy(path) == policy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"corpus": ', "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[1]", "expected a mapping of settings"),
        (b'{"corpus": "a", "sampels": 1, "mechanisms": {}}', "unknown key 'sampels'; did you mean 'samples'"),
        (b'{"corpus": "a", "samples": 1, "mechanisms": {"dent": {"factor": 0}}}', "mechanisms.dent.factor: "),
        (b'{"corpus": "a", "samples": 1, "mechanisms": {"dent": {"area": [1, 2]}}}', "mechanisms.dent.area.2: "),
    ],
)
def test_file_that_is_no_policy_is_refused_in_one_line(text: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        read_policy(path)
    assert str(caught.value).startswith(f"policy {path}: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_policy(tmp_path / "nowhere.json")
