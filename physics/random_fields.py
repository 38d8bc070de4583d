"""Gaussian random fields by spectral synthesis: material that varies from place to place.

White noise is filtered in Fourier space: a Gaussian correlation for the grain, a power law k^-p for the slow drift
and for the roughness below the grid.

References
----------
Lang & Potthoff, "Fast simulation of Gaussian random fields", Monte Carlo Methods Appl. 17 (2011).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["gaussian_field", "power_law_field"]


def gaussian_field(shape: tuple[int, int], rng: np.random.Generator, *, correlation: float) -> NDArray[np.float64]:
    """Periodic field of mean 0 and variance 1 whose correlation falls to 1/e at ``correlation`` grid spacings.

    Returns
    -------
    (ny, nx) float64, without unit.
    """
    k = _wave_numbers(shape)
    return _synthesise(np.exp(-0.5 * (0.5 * correlation * k) ** 2), shape, rng)


def power_law_field(
    shape: tuple[int, int], rng: np.random.Generator, *, exponent: float, low: float = 0.0
) -> NDArray[np.float64]:
    """Periodic field of mean 0 and variance 1 with amplitude spectrum k^-exponent above the wave number ``low``.

    ``low`` is in radians a grid spacing; waves longer than 2 pi / low are left out.

    Returns
    -------
    (ny, nx) float64, without unit.
    """
    k = _wave_numbers(shape)
    amplitude = np.where(k > low, np.maximum(k, 1e-12) ** -exponent, 0.0)
    return _synthesise(amplitude, shape, rng)


def _wave_numbers(shape: tuple[int, int]) -> NDArray[np.float64]:
    ky = 2 * np.pi * np.fft.fftfreq(shape[0])[:, None]
    kx = 2 * np.pi * np.fft.rfftfreq(shape[1])[None, :]
    return np.asarray(np.hypot(ky, kx), dtype=np.float64)


def _synthesise(
    amplitude: NDArray[np.float64], shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float64]:
    amplitude = amplitude.copy()
    amplitude[0, 0] = 0.0
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * amplitude, s=shape)
    return np.asarray(field / field.std(), dtype=np.float64)
