"""Random fields against what they state of themselves: moments, correlation, spectrum, period, and their seed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from physics.random_fields import gaussian_field, power_law_field

SHAPES = [(64, 64), (33, 50), (50, 33), (7, 128)]


def autocorrelation(field: NDArray[np.float64]) -> NDArray[np.float64]:
    """Periodic, 1 at no lag."""
    product = np.fft.ifft2(np.abs(np.fft.fft2(field)) ** 2).real
    return np.asarray(product / product[0, 0])


def radial_amplitude(field: NDArray[np.float64], k: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square Fourier amplitude in rings about each wave number of k, radians a grid spacing."""
    frequency = [2 * np.pi * np.fft.fftfreq(n) for n in field.shape]
    radius = np.hypot(frequency[0][:, None], frequency[1])
    power = np.abs(np.fft.fft2(field)) ** 2
    return np.sqrt([power[np.abs(radius - one) < 0.1 * one].mean() for one in k])


@pytest.mark.parametrize("shape", SHAPES)
def test_mean_is_0_and_variance_1(shape, rng):
    for field in (gaussian_field(shape, rng, correlation=2.0), power_law_field(shape, rng, exponent=1.2)):
        assert field.shape == shape
        assert field.dtype == np.float64
        assert_allclose(field.mean(), 0, atol=1e-12)
        assert_allclose(field.std(), 1, rtol=1e-12)


@pytest.mark.parametrize("correlation", [1.2, 2.0, 4.0, 9.0])
def test_correlation_falls_to_1_over_e_at_the_stated_length(correlation, rng):
    rings = np.mean(
        [autocorrelation(gaussian_field((256, 256), rng, correlation=correlation)) for _ in range(6)], axis=0
    )
    lags = np.arange(4 * int(np.ceil(correlation)))
    along = 0.5 * (rings[0, lags] + rings[lags, 0])
    assert_allclose(along, np.exp(-((lags / correlation) ** 2)), rtol=0, atol=0.04)
    near = round(correlation)
    assert_allclose(near / np.sqrt(-np.log(along[near])), correlation, rtol=0.06)


def test_correlation_is_the_same_in_all_directions(rng):
    rings = np.mean([autocorrelation(gaussian_field((128, 96), rng, correlation=5.0)) for _ in range(20)], axis=0)
    assert_allclose([rings[0, 5], rings[5, 0], rings[3, 4], rings[4, -3]], np.exp(-1), rtol=0, atol=0.05)


@pytest.mark.parametrize("exponent", [0.0, 1.2, 1.6, 2.5])
def test_amplitude_falls_with_the_stated_power_of_the_wave_number(exponent, rng):
    k = np.geomspace(0.15, 2.5, 8)
    amplitude = np.mean(
        [radial_amplitude(power_law_field((256, 256), rng, exponent=exponent), k) for _ in range(3)], axis=0
    )
    slope, _ = np.polyfit(np.log(k), np.log(amplitude), 1)
    assert_allclose(slope, -exponent, atol=0.06)


def test_waves_longer_than_asked_for_are_left_out(rng):
    low = 2 * np.pi / 16
    field = power_law_field((96, 128), rng, exponent=1.2, low=low)
    frequency = [2 * np.pi * np.fft.fftfreq(n) for n in field.shape]
    k = np.hypot(frequency[0][:, None], frequency[1])
    power = np.abs(np.fft.fft2(field)) ** 2
    assert power[k <= low].sum() < 1e-20 * power.sum()
    assert np.all(power[k > low] > 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_fields_are_periodic(shape, rng):
    field = gaussian_field(shape, rng, correlation=3.0)
    for axis in (0, 1):
        # a seam would be a step as large as the field itself, where neighbours differ by a third of it
        seam = np.take(field, 0, axis=axis) - np.take(field, -1, axis=axis)
        inside = np.diff(field, axis=axis)
        assert np.sqrt((seam**2).mean()) < 2 * np.sqrt((inside**2).mean())


def test_values_are_normally_distributed(rng):
    values = gaussian_field((256, 256), rng, correlation=1.5)
    assert_allclose(np.quantile(values, [0.0228, 0.1587, 0.5, 0.8413, 0.9772]), [-2, -1, 0, 1, 2], atol=0.06)


def test_a_field_is_its_generator_s_own():
    for make in (
        lambda rng: gaussian_field((40, 40), rng, correlation=2.0),
        lambda rng: power_law_field((40, 40), rng, exponent=1.2),
    ):
        first = make(np.random.default_rng(7))
        assert_array_equal(make(np.random.default_rng(7)), first)
        assert np.abs(make(np.random.default_rng(8)) - first).max() > 0.5
