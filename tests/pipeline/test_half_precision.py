"""The conversion to float16 is NumPy's, bit for bit, on every kind of value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from pipeline.half_precision import to_half


def by_numpy(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    with np.errstate(all="ignore"):
        return values.astype(np.float16).view(np.uint16)


def test_every_half_number_comes_back_and_so_do_its_neighbours() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    exact = halves[np.isfinite(halves)].astype(np.float32)
    assert_array_equal(to_half(exact).view(np.uint16), by_numpy(exact))
    for direction in (np.float32(-np.inf), np.float32(np.inf)):
        beside = np.nextafter(exact, direction)
        assert_array_equal(to_half(beside).view(np.uint16), by_numpy(beside))


def test_every_tie_goes_to_the_even_number_as_numpy_has_it() -> None:
    positive = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    ties = (0.5 * (positive[1:] + positive[:-1])).astype(np.float32)
    for sign in (np.float32(1), np.float32(-1)):
        assert_array_equal(to_half(sign * ties).view(np.uint16), by_numpy(sign * ties))


def test_random_bits_convert_as_numpy_has_them() -> None:
    bits = np.random.default_rng(5).integers(0, 1 << 32, size=2_000_003, dtype=np.uint32)
    values = bits.view(np.float32)
    values = values[~np.isnan(values)]
    assert_array_equal(to_half(values).view(np.uint16), by_numpy(values))


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=20))
def test_any_numbers_convert_as_numpy_has_them(numbers: list[float]) -> None:
    values = np.array(numbers, dtype=np.float32)
    assert_array_equal(to_half(values).view(np.uint16), by_numpy(values))


def test_overflow_is_infinite_and_nan_stays_nan() -> None:
    found = to_half(np.array([65504.0, 65519.99, 65520.0, 1e30, -np.inf, np.nan], dtype=np.float32))
    assert_array_equal(found, np.array([65504.0, 65504.0, np.inf, np.inf, -np.inf, np.nan], dtype=np.float16))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5, 1, 7)])
def test_shape_is_kept_and_strides_do_not_matter(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    assert to_half(values).shape == shape
    assert_array_equal(to_half(values.T), values.T.astype(np.float16))


def test_doubles_are_refused_for_they_would_be_rounded_twice() -> None:
    with pytest.raises(TypeError, match="expected float32, got float64"):
        to_half(np.zeros(3))  # type: ignore[arg-type]
