"""Moving sums and maxima against SciPy's filters."""

from __future__ import annotations

import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from refine.stencils import box_maximum, box_mean, box_sum, central_gradient, cross_maximum, halved

SIDES = (1, 3, 5, 7, 9, 13, 17, 25)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("shape", [(40, 33), (30, 1), (1, 30)])
def test_means_sums_and_maxima_are_those_of_scipy(side, shape, rng, device, dtype, tolerance):
    values = rng.standard_normal(shape)
    field = torch.from_numpy(values).to(device, dtype)[None, None]
    mean = ndimage.uniform_filter(values, side, mode="nearest")
    assert_allclose(box_mean(field, side)[0, 0].cpu(), mean, atol=tolerance.rounding)
    total = ndimage.uniform_filter(values, side, mode="constant") * side**2
    assert_allclose(box_sum(field, side)[0, 0].cpu(), total, atol=side**2 * tolerance.rounding)
    exact, cross = field[0, 0].cpu().numpy(), ndimage.generate_binary_structure(2, 1)
    found = cross_maximum(field)[0, 0].cpu()
    assert_array_equal(found, ndimage.maximum_filter(exact, footprint=cross, mode="nearest"))
    assert_array_equal(box_maximum(field, side)[0, 0].cpu(), ndimage.maximum_filter(exact, side, mode="nearest"))


@pytest.mark.parametrize("side", SIDES)
def test_counts_of_flags_are_whole(side, rng, device):
    flags = torch.from_numpy(rng.random((2, 1, 30, 31)) < 0.3).to(device)
    found = box_sum(flags.float(), side).cpu()
    assert torch.equal(found, found.round())


def test_each_map_of_a_batch_is_its_own_to_the_last_bit(rng, device, dtype):
    fields = torch.from_numpy(rng.standard_normal((5, 2, 37, 41))).to(device, dtype)
    for operator in (box_mean, box_sum, box_maximum):
        whole = operator(fields, 9)
        for k in range(5):
            assert torch.equal(operator(fields[k : k + 1], 9)[0], whole[k])


def test_the_gradient_of_a_plane_is_its_slope(device, dtype, tolerance):
    y, x = torch.meshgrid(torch.arange(12.0).double(), torch.arange(15.0).double(), indexing="ij")
    plane = (0.3 * y - 0.7 * x).to(device, dtype)[None]
    down, right = central_gradient(plane)
    assert_allclose(down[0, 1:-1].cpu(), 0.3, atol=10 * tolerance.rounding)
    assert_allclose(right[0, :, 1:-1].cpu(), -0.7, atol=10 * tolerance.rounding)


@pytest.mark.parametrize("shape", [(8, 6), (7, 6), (8, 5), (1, 1)])
def test_halves_are_the_means_of_their_cells(shape, rng, device, dtype, tolerance):
    field = torch.from_numpy(rng.standard_normal((2, 3, *shape))).to(device, dtype)
    expected = torch.nn.functional.avg_pool2d(field, 2, ceil_mode=True, count_include_pad=False)
    assert_allclose(halved(field).cpu(), expected.cpu(), atol=10 * tolerance.rounding)
