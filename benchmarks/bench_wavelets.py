"""The wavelet transform beside PyWavelets' own, for pytest-benchmark: ``make bench``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import pywt
import torch

from refine.wavelets import wavedec2, waverec2

BATCH, SIDE, LEVELS = 4, 256, 2


def pictures(channels: int) -> np.ndarray:
    return np.random.default_rng(1).random((BATCH, channels, SIDE, SIDE), dtype=np.float32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("wavelet", ["db2", "bior4.4"])
def test_ours_there_and_back(benchmark: Callable[..., torch.Tensor], wavelet: str, channels: int) -> None:
    given = torch.from_numpy(pictures(channels))
    torch.set_num_threads(1)

    def both() -> torch.Tensor:
        return waverec2(
            wavedec2(given, wavelet=wavelet, mode="symmetric", levels=LEVELS), wavelet=wavelet, mode="symmetric"
        )

    torch.testing.assert_close(benchmark(both), given, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("wavelet", ["db2", "bior4.4"])
def test_pywavelets_there_and_back(benchmark: Callable[..., np.ndarray], wavelet: str, channels: int) -> None:
    given = pictures(channels)

    def both() -> np.ndarray:
        found = pywt.wavedec2(given, wavelet, "symmetric", level=LEVELS, axes=(-2, -1))
        return pywt.waverec2(found, wavelet, "symmetric", axes=(-2, -1))

    np.testing.assert_allclose(benchmark(both), given, rtol=0, atol=1e-5)
