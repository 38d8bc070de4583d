"""The label's two promises, on pictures of any content: no unlabelled change, no invisible label."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import ndimage

from refine.label import Labelled, label_change

Picture = NDArray[np.uint8] | NDArray[np.uint16]
SQUARE = np.ones((3, 3), dtype=bool)
THRESHOLD = 8


def label(
    source: NDArray[np.uint8],
    refined: NDArray[np.float64],
    support: NDArray[np.bool_],
    device: torch.device,
    *,
    threshold: int = THRESHOLD,
) -> Labelled:
    """Label one picture (C, H, W); the batch of one is taken away again."""
    found = label_change(
        torch.from_numpy(source)[None].to(device),
        torch.from_numpy(refined)[None].to(device),
        torch.from_numpy(support)[None].to(device),
        threshold=threshold,
    )
    return Labelled(**{field.name: getattr(found, field.name)[0].cpu() for field in fields(Labelled)})


def white(source: NDArray[np.unsignedinteger]) -> int:
    return int(np.iinfo(source.dtype).max)


def difference(image: NDArray[np.unsignedinteger], source: NDArray[np.unsignedinteger]) -> NDArray[np.float64]:
    """Largest over the channels, in grey levels of 255."""
    return np.abs(image.astype(int) - source.astype(int)).max(axis=0) / (white(source) // 255)


def visible(image: Picture, source: Picture, *, threshold: int = THRESHOLD) -> NDArray[np.bool_]:
    return np.asarray(difference(image, source) >= threshold)


@st.composite
def pictures(draw) -> tuple[Picture, NDArray[np.float64], NDArray[np.bool_], int]:
    """Source of 8 or 16 bits, refined picture, support and threshold; changes of every size, crumbs to the whole."""
    channels, height, width = draw(st.sampled_from((1, 3))), draw(st.integers(1, 16)), draw(st.integers(1, 16))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (channels, height, width)
    source = draw(st.sampled_from((rng.integers(0, 256, shape), rng.choice([0, 255], shape), np.full(shape, 128))))
    density = draw(st.sampled_from((0.02, 0.1, 0.3, 0.6, 1.0)))
    strength = draw(st.sampled_from((10.0, 60.0, 400.0)))
    change = strength * rng.standard_normal(shape) * (rng.random(shape[1:]) < density)
    support = draw(hnp.arrays(bool, shape[1:]) | st.just(np.ones(shape[1:], dtype=bool)))
    threshold = draw(st.sampled_from((1, 2, 8, 40, 128)))
    if draw(st.booleans()):
        return source.astype(np.uint8), (source + change) / 255, support, threshold
    fine = np.clip(source * 257 + rng.integers(-128, 129, shape), 0, 65535)
    return fine.astype(np.uint16), (fine / 257 + change) / 255, support, threshold


@given(pictures())
@settings(deadline=None, max_examples=100)
def test_no_change_is_left_unlabelled(device, picture):
    source, refined, support, threshold = picture
    found = label(source, refined, support, device, threshold=threshold)
    changed = visible(found.image.numpy(), source, threshold=threshold)
    assert not np.any(changed & ~found.mask.numpy())


@given(pictures())
@settings(deadline=None, max_examples=100)
def test_no_label_is_invisible(device, picture):
    source, refined, support, threshold = picture
    found = label(source, refined, support, device, threshold=threshold)
    changed = visible(found.image.numpy(), source, threshold=threshold)
    assert not np.any(found.mask.numpy() & ~ndimage.binary_dilation(changed, SQUARE))


@given(pictures())
@settings(deadline=None, max_examples=100)
def test_outside_the_support_nothing_happens(device, picture):
    source, refined, support, threshold = picture
    found = label(source, refined, support, device, threshold=threshold)
    assert_array_equal(found.image.numpy()[:, ~support], source[:, ~support])
    assert not found.mask.numpy()[~support].any()


@given(pictures())
@settings(deadline=None, max_examples=100)
def test_what_is_kept_is_the_refined_picture_to_the_nearest_grey_level(device, picture):
    source, refined, support, threshold = picture
    image = label(source, refined, support, device, threshold=threshold).image.numpy()
    nearest = np.rint(np.clip(refined, 0, 1) * white(source)).astype(source.dtype)
    put_back = (image == source).all(axis=0)
    assert_array_equal(image[:, ~put_back], nearest[:, ~put_back])
    # only crumbs go back: a pixel that was visibly changed, with at most two others about it
    was = visible(nearest, source, threshold=threshold) & support
    about = ndimage.convolve(was.astype(int), np.ones((5, 5), dtype=int), mode="constant")
    crumbs = was & (about < 4)
    assert_array_equal(put_back & was, crumbs)
    assert_array_equal(visible(image, source, threshold=threshold), was & ~crumbs)


@given(pictures())
@settings(deadline=None, max_examples=100)
def test_what_is_promised_is_also_counted(device, picture):
    source, refined, support, threshold = picture
    found = label(source, refined, support, device, threshold=threshold)
    apart, mask = difference(found.image.numpy(), source), found.mask.numpy()
    assert int(found.faint_px) == int(np.sum((apart > 0) & (apart < threshold) & ~mask))
    assert int(found.unlabelled_px) == int(found.unseen_px) == int(found.outside_px) == 0
    seen = apart[mask & (apart >= threshold)]
    assert_allclose(float(found.contrast), seen.mean() if seen.size else 0.0, rtol=1e-12)


@given(pictures(), st.integers(1, 8))
@settings(deadline=None, max_examples=60)
def test_a_change_that_nobody_sees_is_taken_back_outside_the_mask(device, picture, below):
    source, refined, support, threshold = picture
    arrays = (torch.from_numpy(a)[None].to(device) for a in (source, refined, support))
    found = label_change(*arrays, threshold=threshold, restored_below=min(below, threshold))
    kept = label(source, refined, support, device, threshold=threshold)
    mask, image = found.mask[0].cpu().numpy(), found.image[0].cpu().numpy()
    assert_array_equal(mask, kept.mask.numpy())
    apart = difference(image, source)
    assert not np.any((apart > 0) & (apart < min(below, threshold)) & ~mask)
    assert_array_equal(image[:, mask], kept.image.numpy()[:, mask])


@given(pictures(), st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_a_change_outside_the_mask_fades_within_a_few_pixels(device, picture, reach):
    source, refined, support, threshold = picture
    arrays = (torch.from_numpy(a)[None].to(device) for a in (source, refined, support))
    found = label_change(*arrays, threshold=threshold, fade_px=reach)
    kept = label(source, refined, support, device, threshold=threshold)
    mask, image = found.mask[0].cpu().numpy(), found.image[0].cpu().numpy()
    assert_array_equal(mask, kept.mask.numpy())
    assert_array_equal(image[:, mask], kept.image.numpy()[:, mask])
    far = ~ndimage.binary_dilation(mask, SQUARE, iterations=reach) if reach else ~mask
    assert_array_equal(image[:, far], source[:, far])
    assert np.all(difference(image, source) <= difference(kept.image.numpy(), source))


def test_one_change_has_one_label_in_8_and_in_16_bits(rng, device):
    source = rng.integers(0, 256, (3, 20, 21), dtype=np.uint8)
    refined = np.clip(source / 255 + 0.1 * rng.standard_normal((1, 20, 21)), 0, 1)
    refined = np.rint(refined * 255) / 255  # a whole number of grey levels, so that rounding decides nothing
    support = rng.random((20, 21)) < 0.9
    coarse = label(source, refined, support, device)
    fine = label(source.astype(np.uint16) * 257, refined, support, device)
    assert_array_equal(fine.mask.numpy(), coarse.mask.numpy())
    assert_array_equal(fine.image.numpy(), coarse.image.numpy().astype(np.uint16) * 257)
    assert float(fine.contrast) == float(coarse.contrast)


def changed_at(*pixels: tuple[int, int], by: int = 60, side: int = 9) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """An even grey picture, and the same with some pixels brighter."""
    source = np.full((1, side, side), 100, dtype=np.uint8)
    refined = source.astype(np.float64)
    for pixel in pixels:
        refined[0][pixel] += by
    return source, refined / 255


EVERYWHERE = np.ones((9, 9), dtype=bool)


@pytest.mark.parametrize("pixels", [[(4, 4)], [(4, 4), (5, 5)], [(0, 0), (0, 1), (1, 0)], [(8, 8), (6, 8), (8, 6)]])
def test_crumbs_are_put_back(pixels, device):
    source, refined = changed_at(*pixels)
    found = label(source, refined, EVERYWHERE, device)
    assert_array_equal(found.image.numpy(), source)
    assert not found.mask.numpy().any()
    assert float(found.contrast) == 0


@pytest.mark.parametrize("pixels", [[(4, 4), (4, 5), (5, 4), (5, 5)], [(0, 0), (0, 1), (1, 0), (1, 1)]])
def test_four_pixels_together_are_kept(pixels, device):
    source, refined = changed_at(*pixels)
    found = label(source, refined, EVERYWHERE, device)
    assert_array_equal(np.argwhere(found.mask.numpy()), pixels)
    assert_array_equal(found.image.numpy()[0], np.rint(refined[0] * 255))


@pytest.mark.parametrize("turns", range(4))
def test_a_change_along_the_border_is_labelled_up_to_the_border(turns, device):
    source, refined = changed_at(*((y, x) for y in (0, 1) for x in range(9)))
    found = label(source, np.rot90(refined, turns, axes=(1, 2)).copy(), EVERYWHERE, device)
    expected = np.zeros((9, 9), dtype=bool)
    expected[:2] = True
    assert_array_equal(found.mask.numpy(), np.rot90(expected, turns))


def test_pinholes_are_filled_and_nothing_grows(device):
    ring = [(y, x) for y in (3, 4, 5) for x in (3, 4, 5) if (y, x) != (4, 4)]
    found = label(*changed_at(*ring), EVERYWHERE, device)
    assert_array_equal(np.argwhere(found.mask.numpy()), [(y, x) for y in (3, 4, 5) for x in (3, 4, 5)])


def test_a_change_of_the_threshold_is_visible_and_one_below_is_not(device):
    band = [(y, x) for y in (4, 5) for x in range(1, 8)]
    at, below = (label(*changed_at(*band, by=by), EVERYWHERE, device) for by in (THRESHOLD, THRESHOLD - 1))
    assert_array_equal(np.argwhere(at.mask.numpy()), band)
    assert int(below.mask.sum()) == 0
    assert float(at.contrast) == THRESHOLD
    assert_array_equal(below.image.numpy()[0][4:6, 1:8], 100 + THRESHOLD - 1)  # kept, as it cannot be seen


@pytest.mark.parametrize(("dark", "light"), [(0, 255), (255, 0)])
def test_the_largest_change_there_is_does_not_wrap_around(dark, light, device):
    source = np.full((3, 9, 9), dark, dtype=np.uint8)
    found = label(source, np.full((3, 9, 9), light / 255), EVERYWHERE, device)
    assert_array_equal(found.image.numpy(), light)
    assert found.mask.numpy().all()
    assert_allclose(float(found.contrast), 255)


def test_values_out_of_range_are_clipped(device):
    source = np.full((1, 9, 9), 100, dtype=np.uint8)
    refined = np.where(np.arange(9) < 5, -0.7, 1.9) * np.ones((1, 9, 1))
    found = label(source, refined, EVERYWHERE, device)
    assert_array_equal(found.image.numpy()[0], np.where(np.arange(9) < 5, 0, 255) * np.ones((9, 1)))


def test_a_change_of_one_channel_is_a_change(device):
    source = np.full((3, 9, 9), 100, dtype=np.uint8)
    refined = source / 255
    refined[2, 2:7, 4:6] += 30 / 255
    found = label(source, refined, EVERYWHERE, device)
    assert_array_equal(np.argwhere(found.mask.numpy()), [(y, x) for y in range(2, 7) for x in (4, 5)])
    assert_allclose(float(found.contrast), 30)


def test_each_picture_of_a_batch_is_labelled_by_itself(rng, device):
    source = rng.integers(0, 256, (5, 3, 12, 13), dtype=np.uint8)
    refined = source / 255 + 0.2 * rng.standard_normal((5, 3, 12, 13)) * (rng.random((5, 1, 12, 13)) < 0.2)
    support = rng.random((5, 12, 13)) < 0.8
    together = label_change(*(torch.from_numpy(a).to(device) for a in (source, refined, support)), threshold=THRESHOLD)
    for k in range(5):
        alone = label(source[k], refined[k], support[k], device)
        assert_array_equal(together.image[k].cpu().numpy(), alone.image.numpy())
        assert_array_equal(together.mask[k].cpu().numpy(), alone.mask.numpy())
        assert float(together.contrast[k]) == float(alone.contrast)


def weak_field(
    share: float, *, side: int = 40, level: int = THRESHOLD
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A grey picture, and the same with this share of its pixels changed by ``level``, scattered."""
    source = np.full((1, side, side), 100, dtype=np.uint8)
    some = np.random.default_rng(8).random((side, side)) < share
    return source, (source + level * some) / 255


def coherent(source: Picture, refined: NDArray[np.float64], device: torch.device, *, side: int = 7) -> Labelled:
    support = np.ones(source.shape[1:], dtype=bool)
    arrays = (torch.from_numpy(a)[None].to(device) for a in (source, refined, support))
    return label_change(*arrays, threshold=THRESHOLD, coherent_px=side)


def test_scattered_weak_changes_are_held_below_the_threshold(device):
    source, refined = weak_field(0.4)
    found = coherent(source, refined, device)
    assert not found.mask.any()
    changed = refined[0] * 255 > 100.5
    assert_array_equal(found.image[0, 0].cpu().numpy(), np.where(changed, 100 + THRESHOLD - 1, 100))


def test_weak_changes_that_lie_together_are_labelled_without_pinholes(device):
    source, refined = weak_field(0.85, level=THRESHOLD + 3)  # 9.4 grey levels in the mean
    found = coherent(source, refined, device)
    inner = found.mask[0, 4:-4, 4:-4].float()
    assert float(inner.mean()) > 0.97


def test_a_strong_change_is_labelled_however_thin_and_weak_ones_beside_it(device):
    source = np.full((1, 40, 40), 100, dtype=np.uint8)
    refined = source / 255.0
    refined[0, 20, 5:35] += 2 * THRESHOLD / 255
    refined[0, 21, 5:35] += THRESHOLD / 255
    refined[0, 30, 5:35] += THRESHOLD / 255  # weak and by itself
    mask = coherent(source, refined, device).mask[0].cpu().numpy()
    assert_array_equal(np.flatnonzero(mask.any(axis=1)), [20, 21])


@given(pictures(), st.sampled_from((3, 7)))
@settings(deadline=None, max_examples=60)
def test_coherent_labels_keep_both_promises(device, picture, side):
    source, refined, support, threshold = picture
    arrays = (torch.from_numpy(a)[None].to(device) for a in (source, refined, support))
    found = label_change(*arrays, threshold=threshold, coherent_px=side)
    image, mask = found.image[0].cpu().numpy(), found.mask[0].cpu().numpy()
    changed = visible(image, source, threshold=threshold)
    assert not np.any(changed & ~mask)
    assert not np.any(mask & ~ndimage.binary_dilation(changed, SQUARE))
    assert_array_equal(image[:, ~support], source[:, ~support])
    assert int(found.unlabelled_px) == int(found.unseen_px) == int(found.outside_px) == 0
