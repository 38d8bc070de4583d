"""Distributions: quantile and share undo each other, nothing leaves the bounds, and draws follow what is asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError
from scipy import stats

from manifests.distributions import Distribution, DistributionKind

KINDS: tuple[DistributionKind, ...] = ("uniform", "loguniform")
positive = st.floats(1e-6, 1e6)
shares = st.floats(0.0, 1.0)


@st.composite
def distributions(draw: st.DrawFn) -> Distribution:
    low, high = sorted((draw(positive), draw(positive)))
    return Distribution(kind=draw(st.sampled_from(KINDS)), low=low, high=high)


@given(asked=distributions(), share=shares)
def test_share_below_a_quantile_is_the_share(asked: Distribution, share: float) -> None:
    value = asked.quantile(share)
    assert asked.low <= value <= asked.high
    if asked.high > 1.01 * asked.low:  # else neighbouring numbers are too far apart to tell shares by
        assert_allclose(float(asked.cdf(value)), share, atol=1e-9)


@given(asked=distributions(), value=positive)
def test_quantile_of_a_share_below_is_the_value_within_the_bounds(asked: Distribution, value: float) -> None:
    if asked.low < asked.high:
        assert_allclose(asked.quantile(float(asked.cdf(value))), np.clip(value, asked.low, asked.high), rtol=1e-9)


@given(asked=distributions(), pair=st.tuples(shares, shares))
def test_quantiles_rise_with_the_share(asked: Distribution, pair: tuple[float, float]) -> None:
    low, high = sorted(pair)
    assert asked.quantile(low) <= asked.quantile(high)
    assert_allclose([asked.quantile(0.0), asked.quantile(1.0)], [asked.low, asked.high], rtol=1e-12)


@given(asked=distributions(), values=st.lists(st.floats(-1e7, 1e7), min_size=1, max_size=20))
def test_share_below_rises_from_0_before_the_bounds_to_1_after_them(asked: Distribution, values: list[float]) -> None:
    ordered = np.sort(np.array(values))
    found = asked.cdf(ordered)
    assert found.shape == ordered.shape
    assert found.dtype == np.float64
    assert (np.diff(found) >= 0).all()
    assert_array_equal(found[ordered < asked.low], 0.0)
    assert_array_equal(found[ordered > asked.high], 1.0)
    assert_array_equal(asked.cdf([asked.low - 1e-3 * asked.low, asked.high]), [0.0, 1.0])


@pytest.mark.parametrize("kind", KINDS)
def test_draws_follow_the_reference_distribution(kind: DistributionKind, rng: np.random.Generator) -> None:
    asked = Distribution(kind=kind, low=0.002, high=0.06)
    drawn = np.array([asked.draw(rng) for _ in range(4000)])
    reference = stats.uniform(0.002, 0.058) if kind == "uniform" else stats.loguniform(0.002, 0.06)
    assert stats.kstest(drawn, reference.cdf).pvalue > 0.001
    assert_allclose(asked.cdf(drawn), reference.cdf(drawn), atol=1e-12)


def test_decades_are_equally_often_in_a_loguniform_one() -> None:
    asked = Distribution(kind="loguniform", low=0.001, high=1.0)
    assert_allclose([asked.quantile(k / 3) for k in range(4)], [0.001, 0.01, 0.1, 1.0])
    assert_allclose(asked.cdf([0.001, 0.01, 0.1, 1.0]), np.arange(4) / 3, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_one_point_is_a_distribution_too(kind: DistributionKind, rng: np.random.Generator) -> None:
    asked = Distribution(kind=kind, low=0.25, high=0.25)
    assert {asked.draw(rng), asked.quantile(0.0), asked.quantile(1.0)} == {0.25}
    assert_array_equal(asked.cdf([0.24, 0.25, 0.26]), [0.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"low": 0.2, "high": 0.1}, "low must not be above high"),
        ({"low": 0.0, "high": 0.1}, "greater than 0"),
        ({"low": -1.0, "high": 0.1}, "greater than 0"),
        ({"low": 0.1, "high": float("inf")}, "finite"),
        ({"low": 0.1}, "Field required"),
        ({"low": 0.1, "high": 0.2, "mean": 0.15}, "Extra inputs"),
        ({"kind": "normal", "low": 0.1, "high": 0.2}, "'uniform' or 'loguniform'"),
    ],
)
def test_distribution_that_makes_no_sense_is_refused(settings: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Distribution.model_validate(settings)


def test_distribution_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Distribution(low=0.1, high=0.2).low = 0.15  # type: ignore[misc]
