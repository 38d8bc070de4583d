"""Fitting to a square: what each policy keeps, and how finely it resamples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from manifests.config import FitPolicy
from pipeline.sources.fitting import fit, fit_mask

POLICIES: tuple[FitPolicy, ...] = ("crop", "pad", "stretch")


@given(
    height=st.integers(16, 90),
    width=st.integers(16, 90),
    channels=st.sampled_from([1, 3]),
    size=st.integers(32, 64),
    policy=st.sampled_from(POLICIES),
)
@settings(max_examples=60, deadline=None)
def test_fit_gives_the_size_and_keeps_a_flat_picture_flat(
    height: int, width: int, channels: int, size: int, policy: FitPolicy
) -> None:
    image, valid = fit(np.full((height, width, channels), 77, np.uint8), size=size, policy=policy)
    assert_array_equal(image, np.full((size, size, channels), 77))
    assert image.flags.c_contiguous
    assert valid.shape == (size, size)
    if policy == "pad":
        side = max(1, round(min(height, width) * size / max(height, width)))
        assert valid.sum() == side * size
    else:
        assert valid.all()


@pytest.mark.parametrize("policy", POLICIES)
def test_picture_of_the_right_size_is_left_alone(policy: FitPolicy, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    assert_array_equal(fit(pixels, size=48, policy=policy)[0], pixels)


def test_crop_takes_the_middle(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (48, 80, 1), dtype=np.uint8)
    assert_array_equal(fit(pixels, size=48, policy="crop")[0], pixels[:, 16:64])


def test_pad_repeats_the_edge_and_marks_it(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (40, 64, 3), dtype=np.uint8)
    image, valid = fit(pixels, size=64, policy="pad")
    assert_array_equal(image[12:52], pixels)
    assert_array_equal(image[:12], np.broadcast_to(pixels[:1], (12, 64, 3)))
    assert_array_equal(image[52:], np.broadcast_to(pixels[-1:], (12, 64, 3)))
    assert_array_equal(valid.all(axis=1), np.r_[[False] * 12, [True] * 40, [False] * 12])


def test_reduction_is_antialiased() -> None:
    x = np.arange(512)
    stripes = np.round(128 + 100 * np.sin(2 * np.pi * 0.45 * x)).astype(np.uint8)
    image, _ = fit(np.tile(stripes, (512, 1))[..., None], size=128, policy="stretch")
    assert_allclose(image[:, 4:-4].astype(float), 128, atol=3)


def test_step_overshoots_by_at_most_5_percent() -> None:
    step = np.full((512, 512, 1), 60, np.uint8)
    step[:, 257:] = 200
    image, _ = fit(step, size=256, policy="stretch")
    assert int(image.max()) - 200 <= 0.05 * 140
    assert 60 - int(image.min()) <= 0.05 * 140


@pytest.mark.parametrize("policy", POLICIES)
def test_mask_is_fitted_as_its_picture_is(policy: FitPolicy) -> None:
    mask = np.zeros((120, 200), np.bool_)
    mask[30:80, 60:150] = True
    image, valid = fit(np.where(mask, np.uint8(255), np.uint8(0))[..., None], size=64, policy=policy)
    fitted = fit_mask(mask, size=64, policy=policy)
    disagree = fitted ^ ((image[..., 0] >= 128) & valid)
    assert disagree.mean() < 0.01
    assert fitted.any()


@pytest.mark.parametrize("policy", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_picture_is_fitted_as_its_8_bit_one_and_finer(
    policy: FitPolicy, channels: int, rng: np.random.Generator
) -> None:
    coarse = rng.integers(20, 235, (60, 90, channels)).astype(np.uint8)
    narrow, valid = fit(coarse, size=48, policy=policy)
    wide, same = fit(coarse.astype(np.uint16) * 257, size=48, policy=policy)
    assert wide.dtype == np.uint16
    assert_array_equal(valid, same)
    # 8 bits are rounded after each direction; the kernel's negative lobes magnify the first error by 1.25 at most
    assert_allclose(wide / 257, narrow, atol=0.5 + 0.5 * 1.25)
    assert len(np.unique(wide)) > 256, "values between those of 8 bits"


def test_16_bit_step_is_cut_at_black_and_white() -> None:
    step = np.zeros((64, 64, 1), np.uint16)
    step[:, 32:] = 65535
    image, _ = fit(step, size=40, policy="crop")
    assert (image[0, 0], image[0, -1]) == (0, 65535)
    assert image.dtype == np.uint16
