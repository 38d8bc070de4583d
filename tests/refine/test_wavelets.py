"""The wavelet transform is PyWavelets': every discrete wavelet, every mode, every size, and back again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import Tensor

from refine.wavelets import MODES, WAVELETS, Details, Pyramid, dwt2, idwt2, max_level, wavedec2, waverec2

SHAPES = ((33, 40), (7, 12), (5, 4), (2, 3))  # odd and even, and shorter than most filters
# relative to the largest number at hand: where a short signal goes on smoothly for a long filter, that is thousands;
# the longest filters sum a hundred products whose signs alternate
ROUNDING = {torch.float32: 3e-6, torch.float64: 1e-12}


def assert_close(
    found: NDArray[np.float64], wanted: NDArray[np.float64], dtype: torch.dtype, *, scale: float = 1.0
) -> None:
    largest = max(scale, float(np.abs(wanted).max(initial=0.0)))
    assert_allclose(found, wanted, rtol=0, atol=ROUNDING[dtype] * largest)


def sub_bands(details: Details) -> list[NDArray[np.float64]]:
    return [band.cpu().double().numpy() for band in (details.horizontal, details.vertical, details.diagonal)]


def test_all_discrete_wavelets_and_all_modes_of_pywavelets_are_offered():
    assert set(WAVELETS) == set(pywt.wavelist(kind="discrete"))
    assert set(MODES) == set(pywt.Modes.modes)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_one_level_there_and_back_is_that_of_pywavelets(wavelet, rng, device, dtype):
    for mode in MODES:
        for shape in SHAPES:
            picture = rng.standard_normal((2, 1, *shape))
            low, details = dwt2(torch.from_numpy(picture).to(device, dtype), wavelet=wavelet, mode=mode)
            expected_low, expected = pywt.dwt2(picture, wavelet, mode, axes=(-2, -1))
            scale = max(float(np.abs(values).max()) for values in (picture, expected_low, *expected))
            assert_close(low.cpu().double().numpy(), expected_low, dtype, scale=scale)
            for found, wanted in zip(sub_bands(details), expected, strict=True):
                assert_close(found, wanted, dtype, scale=scale)
            back = idwt2(low, details, wavelet=wavelet, mode=mode).cpu().double().numpy()
            assert_close(
                back, pywt.idwt2((expected_low, expected), wavelet, mode, axes=(-2, -1)), dtype, scale=10 * scale
            )


@st.composite
def transforms(draw) -> tuple[str, str, NDArray[np.float64], int]:
    """Wavelet, mode, pictures (B, C, H, W), levels."""
    shape = draw(st.tuples(st.integers(1, 3), st.sampled_from((1, 3)), st.integers(2, 50), st.integers(2, 50)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    wavelet, mode = draw(st.sampled_from(WAVELETS)), draw(st.sampled_from(MODES))
    return wavelet, mode, rng.standard_normal(shape), draw(st.integers(1, 4))


@given(transforms())
@settings(deadline=None, max_examples=150)
def test_what_is_taken_apart_is_put_together_again(device, dtype, transform):
    wavelet, mode, picture, levels = transform
    if wavelet == "dmey":  # PyWavelets' own filter is an approximation, good to 1e-6 or so
        return
    given_picture = torch.from_numpy(picture).to(device, dtype)
    pyramid = wavedec2(given_picture, wavelet=wavelet, mode=mode, levels=levels)
    assert len(pyramid.details) == levels
    back = waverec2(pyramid, wavelet=wavelet, mode=mode)
    scale = 30 * max(float(band.abs().max()) for d in pyramid.details for band in vars(d).values())
    assert_close(
        back.cpu().double().numpy(), picture, dtype, scale=max(scale, float(pyramid.approximation.abs().max()))
    )


@given(transforms())
@settings(deadline=None, max_examples=80)
def test_several_levels_are_those_of_pywavelets(device, transform):
    wavelet, mode, picture, levels = transform
    pyramid = wavedec2(torch.from_numpy(picture).to(device), wavelet=wavelet, mode=mode, levels=levels)
    low = picture
    expected = []
    for _ in range(levels):  # step by step, for wavedec2 warns of many levels
        low, details = pywt.dwt2(low, wavelet, mode, axes=(-2, -1))
        expected.append(details)
    scale = 10 * float(np.abs(low).max())
    assert_close(pyramid.approximation.cpu().numpy(), low, torch.float64, scale=scale)
    for found, wanted in zip(pyramid.details, reversed(expected), strict=True):
        for band, other in zip(sub_bands(found), wanted, strict=True):
            assert_close(band, other, torch.float64, scale=scale)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "sym5", "bior4.4"])
@pytest.mark.parametrize("mode", MODES)
def test_nothing_for_the_approximation_is_zeros(wavelet, mode, rng, device, dtype):
    picture = torch.from_numpy(rng.standard_normal((2, 3, 21, 30))).to(device, dtype)
    low, details = dwt2(picture, wavelet=wavelet, mode=mode)
    without = idwt2(None, details, wavelet=wavelet, mode=mode)
    zeros = idwt2(torch.zeros_like(low), details, wavelet=wavelet, mode=mode)
    assert torch.equal(without, zeros)


@pytest.mark.parametrize("mode", ["symmetric", "periodization", "smooth", "antireflect"])
def test_the_transform_and_its_inverse_have_gradients(mode, rng, device):
    picture = torch.from_numpy(rng.standard_normal((1, 1, 7, 6))).to(device).requires_grad_()

    def there(values: Tensor) -> tuple[Tensor, ...]:
        pyramid = wavedec2(values, wavelet="db2", mode=mode, levels=2)
        return (pyramid.approximation, *(d.diagonal for d in pyramid.details))

    def back(values: Tensor) -> Tensor:
        pyramid = wavedec2(values, wavelet="db2", mode=mode, levels=2)
        halved = tuple(Details(0.5 * d.horizontal, d.vertical, d.diagonal) for d in pyramid.details)
        return waverec2(Pyramid(pyramid.approximation, halved, pyramid.shape), wavelet="db2", mode=mode)

    assert torch.autograd.gradcheck(there, picture)
    assert torch.autograd.gradcheck(back, picture)


@pytest.fixture
def one_thread_after() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("wavelet", ["db2", "bior4.4"])
@pytest.mark.parametrize("side", [51, 128])
def test_a_picture_s_bits_do_not_depend_on_its_batch_or_on_threads(wavelet, side, rng, dtype, one_thread_after):
    pictures = torch.from_numpy(rng.random((6, 3, side, side))).to(dtype)
    torch.set_num_threads(1)
    whole = wavedec2(pictures, wavelet=wavelet, mode="symmetric", levels=2)
    back = waverec2(whole, wavelet=wavelet, mode="symmetric")
    for threads, chosen in ((1, [0]), (1, [5]), (2, [3, 1]), (3, [0, 1, 2, 3, 4])):
        torch.set_num_threads(threads)
        part = wavedec2(pictures[chosen], wavelet=wavelet, mode="symmetric", levels=2)
        again = waverec2(part, wavelet=wavelet, mode="symmetric")
        for place, k in enumerate(chosen):
            assert torch.equal(part.details[-1].diagonal[place], whole.details[-1].diagonal[k])
            assert torch.equal(part.approximation[place], whole.approximation[k])
            assert torch.equal(again[place], back[k])


@pytest.mark.parametrize("shape", [(256, 256), (51, 48), (7, 300), (2, 2)])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior6.8", "dmey"])
def test_the_deepest_level_is_that_of_pywavelets(shape, wavelet):
    assert max_level(shape, wavelet) == pywt.dwtn_max_level(shape, wavelet)


@pytest.mark.parametrize(
    ("given_names", "message"),
    [
        ({"wavelet": "db222", "mode": "symmetric"}, "no wavelet 'db222'; did you mean 'db22'"),
        ({"wavelet": "morl", "mode": "symmetric"}, "no wavelet 'morl'"),
        ({"wavelet": "db2", "mode": "symetric"}, "no mode 'symetric'; did you mean 'symmetric'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(given_names, message):
    picture = torch.zeros((1, 1, 8, 8))
    with pytest.raises(ValueError, match=message):
        dwt2(picture, **given_names)
