"""The wavelet transform is PyWavelets': every discrete wavelet, every mode, every size, and back again."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import Tensor

from manifests.config import WaveletMode
from refine.wavelets import (
    MODES,
    WAVELETS,
    Details,
    Pyramid,
    dwt2,
    idwt2,
    max_level,
    wavedec2,
    waverec2,
    waverec2_details,
)

Array = NDArray[np.float64]

SHAPE = (33, 6)  # odd and even; longer than many filters, shorter than most
# of one level, relative to the largest value at hand; a hundred products are summed for the longest filters
ROUNDING = {torch.float32: 3e-6, torch.float64: 1e-14}
# of several: where long filters make short signals go on smoothly, values cancel that are a thousand times as large
CANCELLATION = 1e-10
# as far as PyWavelets' filters invert each other: sym20 is tabulated to ten digits
INVERSION = {torch.float32: 3e-6, torch.float64: 1e-10}
ONE_SAMPLE_REFUSED = ("reflect", "antireflect")  # by PyWavelets


def as_array(values: Tensor) -> Array:
    return np.asarray(values.detach().cpu().double().numpy())


def bands(details: Details) -> tuple[Tensor, Tensor, Tensor]:
    return details.horizontal, details.vertical, details.diagonal


def largest(values: Sequence[Array]) -> float:
    return max([1.0, *(float(np.abs(v).max()) for v in values)])


def assert_close(found: Tensor, wanted: Array, rounding: float, *, scale: float) -> None:
    assert tuple(found.shape) == wanted.shape
    assert_allclose(as_array(found), wanted, rtol=0, atol=rounding * scale)


def assert_one_level_is_pywavelets(picture: Tensor, wavelet: str, mode: str) -> None:
    rounding = ROUNDING[picture.dtype]
    taps = pywt.Wavelet(wavelet).dec_len
    low, details = dwt2(picture, wavelet=wavelet, mode=mode)
    wanted_low, wanted = pywt.dwt2(as_array(picture), wavelet, mode)
    scale = largest([wanted_low, *wanted]) * (taps if mode == "smooth" else 1)  # a slope goes on over so many samples
    for found, values in zip((low, *bands(details)), (wanted_low, *wanted), strict=True):
        assert found.dtype == picture.dtype
        assert_close(found, values, rounding, scale=scale)
    wanted_back = pywt.idwt2((wanted_low, wanted), wavelet, mode)
    assert_close(idwt2(low, details, wavelet=wavelet, mode=mode), wanted_back, rounding, scale=scale)


def test_all_discrete_wavelets_and_all_modes_of_pywavelets_are_offered():
    assert pywt.wavelist(kind="discrete") == list(WAVELETS)
    assert set(MODES) == set(pywt.Modes.modes)


def test_modes_are_those_that_a_recipe_may_name():
    assert get_args(WaveletMode) == MODES


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_one_level_there_and_back_is_that_of_pywavelets(wavelet, rng, device, dtype):
    for mode in MODES:
        picture = torch.from_numpy(rng.standard_normal((2, 1, *SHAPE))).to(device, dtype)
        assert_one_level_is_pywavelets(picture, wavelet, mode)


@dataclass(frozen=True)
class Case:
    """A transform and pictures (B, C, H, W)."""

    wavelet: str
    mode: str
    shape: tuple[int, int, int, int]
    seed: int

    def picture(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        values = np.random.default_rng(self.seed).standard_normal(self.shape)
        return torch.from_numpy(values).to(device, dtype)


@st.composite
def cases(draw: st.DrawFn, *, least: int = 1) -> Case:
    wavelet, mode = draw(st.sampled_from(WAVELETS)), draw(st.sampled_from(MODES))
    shortest = max(least, 2 if mode in ONE_SAMPLE_REFUSED else 1)
    side = st.integers(shortest, 40)
    shape = draw(st.tuples(st.integers(1, 3), st.sampled_from((1, 3)), side, side))
    return Case(wavelet, mode, shape, draw(st.integers(0, 2**32 - 1)))


@given(case=cases())
@settings(deadline=None, max_examples=150)
def test_one_level_of_any_picture_is_that_of_pywavelets(device, dtype, case):
    assert_one_level_is_pywavelets(case.picture(device, dtype), case.wavelet, case.mode)


@given(case=cases(least=8), levels=st.integers(0, 3))
@settings(deadline=None, max_examples=80)
def test_several_levels_are_those_of_pywavelets(device, case, levels):
    picture = case.picture(device, torch.float64)
    pyramid = wavedec2(picture, wavelet=case.wavelet, mode=case.mode, levels=levels)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Level value of .* is too high")  # that is asked on purpose
        low, *wanted = pywt.wavedec2(as_array(picture), case.wavelet, case.mode, level=levels)
    everything = [low, *(band for level in wanted for band in level)]
    found = [pyramid.approximation, *(band for level in pyramid.details for band in bands(level))]
    scale = largest(everything)
    for band, values in zip(found, everything, strict=True):
        assert_close(band, values, CANCELLATION, scale=scale)
    back = pywt.waverec2([low, *wanted], case.wavelet, case.mode)
    rebuilt = waverec2(pyramid, wavelet=case.wavelet, mode=case.mode)
    # PyWavelets leaves the row or column that makes an odd picture even
    assert_close(rebuilt, back[:, :, : case.shape[2], : case.shape[3]], CANCELLATION, scale=scale)


@given(case=cases(), levels=st.integers(0, 3))
@settings(deadline=None, max_examples=80)
def test_what_is_taken_apart_is_put_together_again(device, dtype, case, levels):
    picture = case.picture(device, dtype)
    pyramid = wavedec2(picture, wavelet=case.wavelet, mode=case.mode, levels=levels)
    assert len(pyramid.details) == levels
    scale = largest([as_array(b) for b in (pyramid.approximation, *(b for d in pyramid.details for b in bands(d)))])
    # Meyer's wavelet has no end: its filter of 102 taps, cut off, inverts itself to a hundredth only
    inversion = 2e-2 if case.wavelet == "dmey" else INVERSION[dtype]
    rebuilt = waverec2(pyramid, wavelet=case.wavelet, mode=case.mode)
    assert_close(rebuilt, as_array(picture), inversion, scale=scale)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wavelet", ["haar", "db2", "coif3"])
def test_a_row_of_one_sample_goes_on_as_that_sample_where_pywavelets_refuses_it(wavelet, mode, rng, device, dtype):
    picture = torch.from_numpy(rng.standard_normal((2, 1, 1, 9))).to(device, dtype)
    if mode not in ONE_SAMPLE_REFUSED:
        assert_one_level_is_pywavelets(picture, wavelet, mode)
        return
    found, details = dwt2(picture, wavelet=wavelet, mode=mode)
    assert_close(idwt2(found, details, wavelet=wavelet, mode=mode)[:, :, :1, :9], as_array(picture), 1e-5, scale=1.0)
    with pytest.raises(ValueError, match="greater than 1"):
        pywt.dwt2(as_array(picture), wavelet, mode)
    column, even = (dwt2(picture[..., :1], wavelet=wavelet, mode=m)[0] for m in (mode, "constant"))
    assert torch.equal(column, even)


@pytest.mark.parametrize("mode", MODES)
def test_short_floats_come_back_to_their_rounding(mode, rng, device):
    picture = torch.from_numpy(rng.random((2, 3, 31, 24))).to(device, torch.bfloat16)
    low, details = dwt2(picture, wavelet="db2", mode=mode)
    back = idwt2(low, details, wavelet="db2", mode=mode)
    assert back.dtype == torch.bfloat16
    roundings = 4 * 4  # a column and a row pass there and back, four sums in each; of 2^-8 at most
    scale = largest([as_array(low)])
    assert_close(back[:, :, :31], as_array(picture), roundings * 2**-8, scale=scale)


@pytest.mark.parametrize("wavelet", ["haar", "db4", "sym8", "coif2"])
def test_an_orthogonal_transform_keeps_the_energy(wavelet, rng, device, dtype):
    picture = torch.from_numpy(rng.standard_normal((2, 3, 64, 48))).to(device, dtype)
    pyramid = wavedec2(picture, wavelet=wavelet, mode="periodization", levels=3)
    parts = [pyramid.approximation, *(band for level in pyramid.details for band in bands(level))]
    energy = sum(np.square(as_array(part)).sum(axis=(1, 2, 3)) for part in parts)
    assert_allclose(energy, np.square(as_array(picture)).sum(axis=(1, 2, 3)), rtol=ROUNDING[dtype] * 100)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "sym5", "bior4.4"])
@pytest.mark.parametrize("mode", MODES)
def test_nothing_for_the_approximation_is_zeros(wavelet, mode, rng, device, dtype):
    picture = torch.from_numpy(rng.standard_normal((2, 3, 21, 30))).to(device, dtype)
    pyramid = wavedec2(picture, wavelet=wavelet, mode=mode, levels=2)
    zeros = torch.zeros_like(pyramid.approximation)
    without = idwt2(None, pyramid.details[0], wavelet=wavelet, mode=mode)
    assert torch.equal(without, idwt2(zeros, pyramid.details[0], wavelet=wavelet, mode=mode))
    change = waverec2_details(pyramid.details, shape=pyramid.shape, wavelet=wavelet, mode=mode)
    assert change.shape == picture.shape
    assert torch.equal(change, waverec2(replace(pyramid, approximation=zeros), wavelet=wavelet, mode=mode))


@pytest.mark.parametrize("mode", MODES)
def test_the_transform_and_its_inverse_have_gradients(mode, rng, device):
    picture = torch.from_numpy(rng.standard_normal((1, 1, 3, 6))).to(device).requires_grad_()

    def there(values: Tensor) -> tuple[Tensor, ...]:
        pyramid = wavedec2(values, wavelet="db2", mode=mode, levels=2)
        return (pyramid.approximation, *(band for level in pyramid.details for band in bands(level)))

    def back(*values: Tensor) -> Tensor:
        details = (Details(*values[1:4]), Details(*values[4:]))
        return waverec2(Pyramid(values[0], details, (3, 6)), wavelet="db2", mode=mode)

    coefficients = tuple(band.detach().clone().requires_grad_() for band in there(picture))
    assert torch.autograd.gradcheck(there, picture)
    assert torch.autograd.gradcheck(back, coefficients)


def test_gradients_are_had_after_the_same_transform_in_inference_mode(rng, device, dtype):
    picture = torch.from_numpy(rng.standard_normal((1, 1, 37, 41))).to(device, dtype)
    with torch.inference_mode():
        dwt2(picture, wavelet="db3", mode="antireflect")
    low, _ = dwt2(picture.requires_grad_(), wavelet="db3", mode="antireflect")
    (gradient,) = torch.autograd.grad(low.sum(), picture)
    assert torch.isfinite(gradient).all()


@pytest.fixture
def threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def everything_of(picture: Tensor, wavelet: str, mode: str) -> list[Tensor]:
    """Of two levels there and back, each (B, ...)."""
    pyramid = wavedec2(picture, wavelet=wavelet, mode=mode, levels=2)
    coefficients = [pyramid.approximation, *(band for level in pyramid.details for band in bands(level))]
    change = waverec2_details(pyramid.details, shape=pyramid.shape, wavelet=wavelet, mode=mode)
    return [*coefficients, waverec2(pyramid, wavelet=wavelet, mode=mode), change]


@pytest.mark.parametrize("mode", ["symmetric", "smooth", "periodization"])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior4.4"])
@pytest.mark.parametrize("shape", [(51, 37), (128, 96), (9, 259)])
@pytest.mark.usefixtures("threads_restored")
def test_a_picture_s_bits_do_not_depend_on_its_batch_or_on_threads(wavelet, mode, shape, rng, device, dtype):
    pictures = torch.from_numpy(rng.random((6, 3, *shape))).to(device, dtype)
    torch.set_num_threads(1)
    whole = everything_of(pictures, wavelet, mode)
    for threads, chosen in ((1, [0]), (1, [5]), (2, [3, 1]), (3, [0, 1, 2, 3, 4]), (2, [0, 1, 2, 3, 4, 5])):
        torch.set_num_threads(threads)
        for part, reference in zip(everything_of(pictures[chosen], wavelet, mode), whole, strict=True):
            assert torch.equal(part, reference[chosen])


@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior4.4"])
def test_a_picture_s_bits_do_not_depend_on_how_it_lies_in_memory(wavelet, rng, device, dtype):
    picture = torch.from_numpy(rng.random((2, 3, 53, 46))).to(device, dtype)
    wanted = everything_of(picture, wavelet, "symmetric")
    wide = torch.zeros((2, 3, 53, 60), device=device, dtype=dtype)
    wide[..., 5:51] = picture
    transposed = picture.transpose(2, 3).contiguous().transpose(2, 3)
    for same in (picture.contiguous(memory_format=torch.channels_last), wide[..., 5:51], transposed):
        for found, values in zip(everything_of(same, wavelet, "symmetric"), wanted, strict=True):
            assert torch.equal(found, values)


@pytest.mark.parametrize("shape", [(256, 256), (51, 48), (7, 300), (2, 2), (1, 9)])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior6.8", "dmey"])
def test_the_deepest_level_is_that_of_pywavelets(shape, wavelet):
    assert max_level(shape, wavelet) == pywt.dwtn_max_level(shape, wavelet)


@pytest.mark.parametrize(
    ("given_names", "message"),
    [
        ({"wavelet": "db222", "mode": "symmetric"}, "no wavelet 'db222'; did you mean 'db22'"),
        ({"wavelet": "xyz", "mode": "symmetric"}, "no wavelet 'xyz'; there are bior1.1, bior1.3"),
        ({"wavelet": "db2", "mode": "symetric"}, "no mode 'symetric'; did you mean 'symmetric'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(given_names, message):
    picture = torch.zeros((1, 1, 8, 8))
    _, details = dwt2(picture, wavelet="db2", mode="symmetric")
    for call in (
        lambda: dwt2(picture, **given_names),
        lambda: idwt2(None, details, **given_names),
        lambda: wavedec2(picture, **given_names, levels=1),
        lambda: waverec2(Pyramid(picture, (), (8, 8)), **given_names),
        lambda: waverec2_details((details,), shape=(8, 8), **given_names),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match=r"must be \(B, C, H, W\)"):
        dwt2(torch.zeros((8, 8)), wavelet="db2", mode="symmetric")
    with pytest.raises(ValueError, match="H, W >= 1"):
        dwt2(torch.zeros((1, 1, 0, 8)), wavelet="db2", mode="symmetric")
    with pytest.raises(TypeError, match=r"floating point, got torch\.uint8"):
        dwt2(torch.zeros((1, 1, 8, 8), dtype=torch.uint8), wavelet="db2", mode="symmetric")
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        wavedec2(torch.zeros((1, 1, 8, 8)), wavelet="db2", mode="symmetric", levels=-1)


def test_sub_bands_that_no_transform_gives_are_refused():
    low, details = dwt2(torch.zeros((1, 1, 8, 8)), wavelet="db4", mode="symmetric")
    with pytest.raises(ValueError, match="must be of one shape"):
        idwt2(low[..., :-1], details, wavelet="db4", mode="symmetric")
    small = torch.zeros((1, 1, 3, 7))
    with pytest.raises(ValueError, match=r"h, w >= 4 .* got \(1, 1, 3, 7\)"):
        idwt2(None, Details(small, small, small), wavelet="db4", mode="symmetric")
    with pytest.raises(ValueError, match="at least one"):
        waverec2_details((), shape=(8, 8), wavelet="db4", mode="symmetric")
