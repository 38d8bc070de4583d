"""The wavelet transform beside PyWavelets' own, for pytest-benchmark: ``make bench``.

The same pictures in the same run, one thread: one level there and back, with PyWavelets picture by picture, and the
two levels of the fine pass, with PyWavelets on the whole batch at once. Run as plain tests they check that both give
the pictures back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import pywt
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from refine.wavelets import dwt2, idwt2, wavedec2, waverec2

BATCH, SIDE, LEVELS, MODE = 4, 256, 2, "symmetric"
WAVELETS = ("haar", "db2", "bior4.4", "db8")

Pictures = NDArray[np.float32]
Benchmark = Callable[..., Any]


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def pictures(request: pytest.FixtureRequest) -> Pictures:
    shape = (BATCH, request.param, SIDE, SIDE)
    return np.random.default_rng(1).random(shape, dtype=np.float32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_given_back(found: Any, pictures: Pictures) -> None:
    assert_allclose(np.asarray(found), pictures, rtol=0, atol=1e-5)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_one_level_there_and_back(benchmark: Benchmark, wavelet: str, pictures: Pictures) -> None:
    given = torch.from_numpy(pictures)

    def ours() -> torch.Tensor:
        low, details = dwt2(given, wavelet=wavelet, mode=MODE)
        return idwt2(low, details, wavelet=wavelet, mode=MODE)

    assert_given_back(benchmark(ours), pictures)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_one_level_there_and_back_by_pywavelets(benchmark: Benchmark, wavelet: str, pictures: Pictures) -> None:
    def peer() -> list[Pictures]:
        return [pywt.idwt2(pywt.dwt2(picture, wavelet, MODE), wavelet, MODE) for picture in pictures]

    assert_given_back(benchmark(peer), pictures)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_two_levels_apart(benchmark: Benchmark, wavelet: str, pictures: Pictures) -> None:
    given = torch.from_numpy(pictures)
    pyramid = benchmark(wavedec2, given, wavelet=wavelet, mode=MODE, levels=LEVELS)
    assert_given_back(waverec2(pyramid, wavelet=wavelet, mode=MODE), pictures)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_two_levels_apart_by_pywavelets(benchmark: Benchmark, wavelet: str, pictures: Pictures) -> None:
    coefficients = benchmark(pywt.wavedec2, pictures, wavelet, MODE, level=LEVELS)
    assert_given_back(pywt.waverec2(coefficients, wavelet, MODE), pictures)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_two_levels_together(benchmark: Benchmark, wavelet: str, pictures: Pictures) -> None:
    pyramid = wavedec2(torch.from_numpy(pictures), wavelet=wavelet, mode=MODE, levels=LEVELS)
    assert_given_back(benchmark(waverec2, pyramid, wavelet=wavelet, mode=MODE), pictures)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_two_levels_together_by_pywavelets(benchmark: Benchmark, wavelet: str, pictures: Pictures) -> None:
    coefficients = pywt.wavedec2(pictures, wavelet, MODE, level=LEVELS)
    assert_given_back(benchmark(pywt.waverec2, coefficients, wavelet, MODE), pictures)
