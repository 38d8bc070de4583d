"""Flags and sums over channels: the same as torch's own, bit by bit."""

from __future__ import annotations

import pytest
import torch
from numpy.testing import assert_allclose

from refine.flags import below, channel_maximum, channel_mean, chosen, from_bytes, is_below, numbers


@pytest.fixture
def values(rng, device, dtype):
    return torch.from_numpy(rng.standard_normal((2, 3, 17, 23))).to(device, dtype)


def test_comparisons_are_those_of_torch(values):
    other = values.flip(0)
    other[0] = values[0]
    for bound in (0.25, other):
        expected = values < bound
        assert torch.equal(is_below(values, bound), expected)
        assert torch.equal(below(values, bound), expected.to(values.dtype))
        assert torch.equal(numbers(expected, values.dtype), expected.to(values.dtype))
        assert torch.equal(from_bytes(expected.to(torch.uint8)), expected)


def test_a_choice_is_that_of_torch_to_the_last_bit(values):
    flags = values[:, 0] < 0.3
    for there, elsewhere in ((values, 1e6 * values.flip(1)), (values, torch.ones_like(values))):
        assert torch.equal(chosen(flags, there, elsewhere), torch.where(flags[:, None], there, elsewhere))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_means_and_maxima_over_channels_are_those_of_torch(channels, values, tolerance):
    part = values[:, :channels]
    assert_allclose(channel_mean(part).cpu(), part.mean(dim=1, keepdim=True).cpu(), atol=10 * tolerance.rounding)
    assert torch.equal(channel_maximum(part), part.amax(dim=1, keepdim=True))
