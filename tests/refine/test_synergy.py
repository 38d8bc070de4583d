"""Boundary synergy blocks: each does what its name says on sub-bands whose answer is known, and can be learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from refine.synergy import (
    EdgeBlock,
    EnergyBlock,
    GrainBlock,
    LevelStatistics,
    at_next_level,
    level_statistics,
    outline_step,
)
from refine.wavelets import dwt2

HEIGHT, WIDTH = 40, 44


def noise(rng: np.random.Generator, device: torch.device, dtype: torch.dtype, *, channels: int = 3) -> Tensor:
    values = 0.1 * rng.standard_normal((2, channels, 3, HEIGHT, WIDTH))
    return torch.from_numpy(values).to(device, dtype)


def everywhere(value: float, like: Tensor) -> Tensor:
    return torch.full((len(like), 1, HEIGHT, WIDTH), value, dtype=like.dtype, device=like.device)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_transfer_is_the_share_of_the_grain_that_is_left(share, rng, device, dtype):
    own = noise(rng, device, dtype)
    found = level_statistics(own, share * own, everywhere(1.0, own), everywhere(-2.0, own))
    assert_allclose(found.transfer.cpu(), share, atol=2e-3)
    assert_allclose(found.energy.mean().cpu(), 0.01, rtol=0.1)


def test_an_outline_hardly_changes_the_transfer(rng, device, dtype):
    own = noise(rng, device, dtype)
    outline = torch.zeros_like(own)
    outline[..., 20] = 3.0  # thirty times the grain
    found = level_statistics(own, 0.6 * own + outline, everywhere(1.0, own), everywhere(-2.0, own)).transfer
    assert float((found[..., 17:24] - 0.6).abs().mean()) < 0.15


def test_grain_on_the_other_side_of_the_outline_does_not_count(rng, device, dtype):
    own = noise(rng, device, dtype)
    across = torch.linspace(-10, 10, WIDTH, dtype=dtype, device=device).expand(len(own), 1, HEIGHT, WIDTH)
    result = torch.where((across < 0)[:, None], 0.2 * own, own)
    found = level_statistics(own, result, everywhere(1.0, own), across).transfer
    expected = torch.where(across < 0, 0.2, 1.0).expand_as(found)
    assert_allclose(found.cpu(), expected.cpu(), atol=5e-3)


def test_energy_block_asks_for_the_grain_that_is_missing_under_this_light(rng, device, dtype):
    own = noise(rng, device, dtype)
    block = EnergyBlock(1.0).to(device)
    for transfer, brightness, expected in ((0.0, 1.0, 1.0), (0.25, 0.75, 0.5), (0.5, 0.4, 0.0), (1.0, 1.0, 0.0)):
        level = level_statistics(own, transfer * own, everywhere(brightness, own), everywhere(-2.0, own))
        assert_allclose(block(level).detach().cpu(), expected, atol=2e-3)


def test_with_the_amount_that_is_asked_for_the_energy_is_that_of_the_material(rng, device, dtype):
    own = noise(rng, device, dtype)
    result = 0.2 * own
    amount = (
        EnergyBlock(1.0).to(device)(level_statistics(own, result, everywhere(1.0, own), everywhere(-2.0, own))).detach()
    )
    matched = result + amount[:, None] * own
    assert_allclose(float((matched**2).mean() / (own**2).mean()), 1.0, rtol=0.03)


def test_grain_runs_on_farther_along_its_own_direction(rng, device, dtype):
    grooves = torch.zeros((1, 1, 3, HEIGHT, WIDTH), device=device, dtype=dtype)
    grooves[:, :, 1] = torch.from_numpy(rng.standard_normal((HEIGHT, WIDTH))).to(
        device, dtype
    )  # upright: gradients run right
    isotropic = noise(rng, device, dtype)
    depth_px = -4.0
    block = GrainBlock(1.0, 6.0).to(device)
    along = block(grooves, everywhere(depth_px, grooves)).detach().cpu().numpy()
    even = block(isotropic, everywhere(depth_px, isotropic)).detach().cpu().numpy()
    assert np.all(along[:, 1] > 0.75)
    assert np.all(along[:, 0] < 0.2)
    assert even.mean() < 0.5


def test_outside_the_outline_all_grain_belongs_to_the_material(rng, device, dtype):
    own = noise(rng, device, dtype)
    for distance in (0.0, 3.0, 50.0):
        assert_allclose(GrainBlock(1.0, 6.0).to(device)(own, everywhere(distance, own)).detach().cpu(), 1.0)


def steps(sigma: float, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Steps (8, 1, 64, 64) of this width at places between the pixels, upright and slanting, and their distances."""
    x = torch.arange(64, dtype=torch.float64) - 32
    shift = torch.arange(4, dtype=torch.float64)[:, None, None] / 4
    across = torch.cat([(x + shift).expand(-1, 64, -1), (x + x[:, None]) / 2**0.5 + shift])
    values = 0.5 * (1 + torch.erf(across / (sigma * 2**0.5)))
    return values[:, None].to(device, dtype), across[:, None].to(device, dtype)


@pytest.mark.parametrize("sigma", [0.5, 0.7, 1.0, 1.4])
@pytest.mark.parametrize("height", [0.3, -0.6])
def test_height_and_width_of_a_step_are_found(sigma, height, device, dtype):
    values, distance = steps(sigma, dtype, device)
    step, variance, trust = outline_step(height * values, distance)
    inner = (distance.abs() < 1)[..., 16:-16, 16:-16]
    assert_allclose(step[..., 16:-16, 16:-16][inner].cpu(), height, rtol=0.02)
    found = variance[..., 16:-16, 16:-16][inner].cpu()
    assert_allclose(found, sigma**2, rtol=0.08, atol=0.02)  # along the axes and across them
    assert float(trust[..., 16:-16, 16:-16][inner].min()) > 0.7


def test_grain_takes_trust_and_not_height(rng, device, dtype):
    values, distance = steps(0.8, dtype, device)
    grainy = values + 0.15 * torch.from_numpy(rng.standard_normal(values.shape)).to(device, dtype)
    inner = (..., slice(16, -16), slice(16, -16))
    step, _, trust = outline_step(grainy, distance)
    near = (distance.abs() < 1)[inner]
    assert abs(float(step[inner][near].mean()) - 1) < 0.1
    assert float(trust[inner][near].mean()) < float(outline_step(values, distance)[2][inner][near].mean())
    nothing = outline_step(grainy - values, distance)[2]
    assert float(nothing[inner][near].mean()) < 0.6


def test_a_hairline_has_no_step(device, dtype):
    x = torch.arange(64, dtype=torch.float64) - 32.3
    distance = (x.abs() - 0.5).expand(64, 64)[None, None].to(device, dtype)
    line = torch.exp(-0.5 * (x / 0.8) ** 2).expand(64, 64)[None, None].to(device, dtype)
    assert float(outline_step(-line, distance)[2].max()) < 0.2


@pytest.mark.parametrize(("sigma", "optics"), [(1.0, 0.6), (1.4, 0.8), (0.5, 0.9)])
def test_the_edge_block_brings_a_step_to_the_width_that_the_optics_allow(sigma, optics, device, dtype):
    values, distance = steps(sigma, dtype, device)
    blur = torch.full((len(values),), optics, dtype=dtype, device=device)
    finished = values + EdgeBlock(1.0).to(device)(values, distance, blur).detach()
    aim = steps(optics, dtype, device)[0]
    inner = (..., slice(16, -16), slice(16, -16))
    before, after = (float((v - aim)[inner].abs().max()) for v in (values, finished))
    assert after < 0.25 * before


def test_without_strength_an_edge_is_left_as_it_is(device, dtype):
    values, distance = steps(1.2, dtype, device)
    blur = torch.full((len(values),), 0.5, dtype=dtype, device=device)
    assert float(EdgeBlock(0.0).to(device)(values, distance, blur).detach().abs().max()) == 0


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db4", "bior4.4"])
@pytest.mark.parametrize("shape", [(33, 40), (8, 8), (51, 50)])
def test_a_map_is_taken_to_the_places_of_the_coefficients(wavelet, shape, device, dtype, tolerance):
    rows = torch.arange(shape[0], dtype=dtype, device=device)[:, None].expand(shape)[None, None]
    _, details = dwt2(rows, wavelet=wavelet, mode="symmetric")
    size = details.horizontal.shape[-2:]
    found = at_next_level(rows, wavelet, size)
    assert found.shape[-2:] == size
    inner = found[0, 0, 4:-4, 0] if size[0] > 8 else found[0, 0, :0, 0]
    assert_allclose(inner.diff().cpu(), 2.0, atol=100 * tolerance.rounding)  # every second sample


@pytest.mark.parametrize("name", ["energy", "grain", "edge"])
def test_parameters_and_sub_bands_have_gradients(name, rng, device):
    own = noise(rng, device, torch.float64, channels=2)[:, :, :, :12, :12].contiguous()
    result = (0.4 * own + 0.02 * torch.randn_like(own)).requires_grad_()
    distance = (
        torch.linspace(-3, 3, 144, dtype=torch.float64, device=device).reshape(1, 1, 12, 12).expand(2, -1, -1, -1)
    )
    blur = torch.tensor([0.6, 0.9], dtype=torch.float64, device=device)

    def energy(strength: Tensor, values: Tensor) -> Tensor:
        block = EnergyBlock(1.0)
        level = level_statistics(own, values, torch.ones_like(distance), distance)
        return torch.func.functional_call(block, {"strength": strength}, (level,))

    def grain(reach: Tensor, values: Tensor) -> Tensor:
        return torch.func.functional_call(GrainBlock(1.0, 6.0), {"reach": reach}, (values, distance))

    def edge(strength: Tensor, values: Tensor) -> Tensor:
        change = values[:, :, 0] + 0.3 * distance
        return torch.func.functional_call(EdgeBlock(1.0), {"strength": strength}, (change, distance, blur))

    parameter = torch.tensor(0.8, dtype=torch.float64, device=device, requires_grad=True)
    assert torch.autograd.gradcheck({"energy": energy, "grain": grain, "edge": edge}[name], (parameter, result))


def test_statistics_are_those_of_each_picture_alone(rng, device, dtype):
    own, result = noise(rng, device, dtype), noise(rng, device, dtype)
    together = level_statistics(own, result, everywhere(1.0, own), everywhere(-2.0, own))
    for k in range(len(own)):
        alone = level_statistics(
            own[k : k + 1], result[k : k + 1], everywhere(1.0, own[k : k + 1]), everywhere(-2.0, own[k : k + 1])
        )
        assert isinstance(alone, LevelStatistics)
        assert torch.equal(alone.transfer[0], together.transfer[k])
        assert torch.equal(alone.energy[0], together.energy[k])
