"""Visibility: a change against the texture that it is seen on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from refine.visibility import visibility

SIDE = 96


def textured(contrast: float, device: torch.device, *, channels: int = 1, seed: int = 3) -> Tensor:
    """White texture of this standard deviation, grey levels, about 120."""
    noise = np.random.default_rng(seed).standard_normal((2, 1, SIDE, SIDE)).repeat(channels, axis=1)
    return torch.from_numpy(120 + contrast * noise).float().to(device)


def square(device: torch.device, side: int = 32) -> Tensor:
    mask = torch.zeros((2, SIDE, SIDE), dtype=torch.bool, device=device)
    mask[:, 30 : 30 + side, 40 : 40 + side] = True
    return mask


def test_a_change_of_single_pixels_is_as_visible_as_it_is_larger_than_the_texture(device):
    source, mask = textured(10.0, device), square(device)
    sign = torch.from_numpy(np.random.default_rng(5).choice([-1.0, 1.0], (SIDE, SIDE))).float().to(device)
    for times in (0.5, 1.0, 2.0):
        found = visibility(source, source + times * 10 * sign * mask[:, None], mask)
        assert_allclose(found.cpu(), times * 10 / 11, rtol=0.1)


def test_a_broad_change_stands_out_from_fine_texture_more_than_a_fine_one_does(device):
    source, mask = textured(10.0, device), square(device)
    broad = visibility(source, source + 10.0 * mask[:, None], mask)
    assert float(broad.min()) > 2.5  # means over 4 x 4 pixels have a quarter of the texture


def test_an_even_patch_in_a_busy_pattern_shows_what_the_pattern_hides(device):
    source = textured(40.0, device)
    source[:, :, 26:66, 36:76] = 120.0
    mask = square(device)
    patch = float(visibility(source, source + 8.0 * mask[:, None], mask).min())
    beside = mask.roll(-30, 2)
    hidden = float(visibility(source, source + 8.0 * beside[:, None], beside).max())
    assert patch > 2
    assert hidden < 0.5 * patch


def test_an_even_surface_shows_a_few_grey_levels_clearly_and_clearer_does_not_count(device):
    source, mask = torch.full((2, 3, SIDE, SIDE), 120.0, device=device), square(device)
    for levels, expected in ((1.0, 1.0), (3.0, 3.0), (60.0, 4.0)):
        change = torch.zeros_like(source)
        change[:, 2] = levels * mask  # of one channel: a change of colour is a change
        assert_allclose(visibility(source, source + change, mask).cpu(), expected, rtol=1e-3)


def test_no_mask_and_no_change_are_invisible(device):
    source, mask = textured(5.0, device), square(device)
    assert_allclose(visibility(source, source, mask).cpu(), 0)
    assert_allclose(visibility(source, source + 20, torch.zeros_like(mask)).cpu(), 0)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 9), (33, 50)])
def test_any_size_is_measured(height, width, device):
    source = torch.full((1, 1, height, width), 50.0, device=device)
    everywhere = torch.ones((1, height, width), dtype=torch.bool, device=device)
    summed = min(1.0, height * width / 1024) ** 0.25
    assert_allclose(visibility(source, source + 2, everywhere).cpu(), 2 * summed, rtol=1e-3)


def test_a_small_spot_is_less_visible_than_a_broad_one_of_the_same_contrast(device):
    source = torch.full((2, 1, SIDE, SIDE), 120.0, device=device)
    found = {}
    for side in (4, 16, 32, 48):
        mask = square(device, side)
        found[side] = float(visibility(source, source + 2.0 * mask[:, None], mask)[0])
    assert_allclose(found[16], 2 * found[4], rtol=1e-6)  # 16 times the area
    assert_allclose(found[32], 2**0.5 * found[16], rtol=1e-6)
    assert found[48] == found[32]
    mask = square(device, 4)
    assert float(visibility(source, source + 60.0 * mask[:, None], mask)[0]) == 4  # and is seen where it has it


def test_a_picture_is_measured_the_same_in_any_batch(device):
    source, mask = textured(7.0, device, channels=3), square(device)
    source[1], mask[1] = source[1].flip(1) * 0.5, mask[1].roll(9, 0)
    image = source + 6.0 * mask[:, None]
    together = visibility(source, image, mask)
    for k in range(2):
        alone = visibility(source[k : k + 1], image[k : k + 1], mask[k : k + 1])
        assert float(alone[0]) == float(together[k])
