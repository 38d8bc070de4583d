"""The camera: its point spread against SciPy, the coding of light against its law, and noise where it is missing."""

from __future__ import annotations

import pytest
import torch
from numpy.testing import assert_allclose
from scipy import ndimage

from refine.camera import GAMMA, add_noise, expose, gaussian_blur, power, radiance


def test_blur_agrees_with_scipy(rng, device, dtype):
    sigmas = [0.45, 0.7, 1.0, 1.6]
    fields = rng.random((len(sigmas), 2, 31, 44))
    found = gaussian_blur(
        torch.from_numpy(fields).to(device=device, dtype=dtype), torch.tensor(sigmas, device=device, dtype=dtype)
    )
    expected = [
        ndimage.gaussian_filter(field, (0, sigma, sigma), mode="nearest", radius=(0, 4, 4))
        for field, sigma in zip(fields, sigmas, strict=True)
    ]
    assert_allclose(found.cpu().double().numpy(), expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-14)


def test_blur_keeps_an_even_field_and_works_on_few_pixels(device, dtype, tolerance):
    field = torch.full((2, 1, 2, 3), 0.7, device=device, dtype=dtype)
    found = gaussian_blur(field, torch.tensor([0.5, 1.6], device=device, dtype=dtype))
    assert_allclose(found.cpu().double().numpy(), field.cpu().double().numpy(), rtol=0, atol=tolerance.rounding)


def test_values_and_radiance_are_each_other_s_inverse(device, dtype, tolerance):
    values = torch.linspace(0.01, 1, 50, device=device, dtype=dtype)
    assert_allclose(power(radiance(values), 1 / GAMMA).cpu(), values.cpu(), atol=tolerance.rounding)
    assert_allclose(radiance(values).cpu(), values.cpu().double() ** 2.2, atol=tolerance.rounding)


def exposed(source, factor, light, *, blur=0.5, brightest=0.9):
    many = {"dtype": source.dtype, "device": source.device}
    batch, channels = source.shape[:2]
    bright = torch.full((batch, channels), brightest, **many)
    return expose(radiance(source), factor, light, radiance(bright), torch.full((batch,), blur, **many))


def test_light_that_is_not_changed_gives_the_photograph_back(rng, device, dtype, tolerance):
    source = torch.from_numpy(rng.random((2, 3, 20, 21))).to(device, dtype)
    found = exposed(source, torch.ones_like(source), torch.zeros_like(source[:, :1]))
    assert_allclose(found.cpu(), source.cpu(), atol=2 * tolerance.rounding)


@pytest.mark.parametrize(("factor", "light"), [(0.25, 0.0), (1.0, 0.3), (0.5, 0.1)])
def test_light_is_multiplied_and_added_before_it_is_coded(factor, light, device, dtype, tolerance):
    source = torch.full((1, 1, 16, 16), 0.5, device=device, dtype=dtype)
    found = exposed(source, torch.full_like(source, factor), torch.full_like(source, light))
    expected = (factor * 0.5**2.2 + light * 0.9**2.2) ** (1 / 2.2)
    assert_allclose(found.cpu(), expected, atol=2 * tolerance.rounding)


def test_the_point_spread_blurs_light_and_not_its_code(device, dtype):
    # a screen that is half open: at its edge the mean of the light is seen, which is brighter than that of the values
    source = torch.full((1, 1, 32, 32), 0.8, device=device, dtype=dtype)
    screen = torch.ones_like(source)
    screen[..., 16:] = 0.0
    found = exposed(source, screen, torch.zeros_like(source), blur=1.5)
    at_edge = found[0, 0, 16, 15:17].double() ** 2.2
    assert_allclose(float(at_edge.mean()), 0.5 * 0.8**2.2, rtol=1e-3)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.9])
def test_noise_is_made_up_to_that_of_the_camera(kept, rng, device, dtype):
    sigma = 0.02
    own = sigma * rng.standard_normal((1, 3, 200, 200))
    noise = torch.from_numpy(rng.standard_normal((1, 3, 200, 200))).to(device, dtype)
    picture = torch.from_numpy(0.4 + kept * own).to(device, dtype)
    share = torch.full((1, 200, 200), kept, device=device, dtype=dtype)
    found = add_noise(picture, share, noise, torch.tensor([sigma], device=device, dtype=dtype))
    assert_allclose(float(found.std()), sigma, rtol=0.02)


def test_where_the_photograph_s_noise_is_whole_none_is_added(rng, device, dtype):
    picture = torch.from_numpy(rng.random((1, 1, 30, 30))).to(device, dtype)
    noise = torch.ones((1, 3, 30, 30), device=device, dtype=dtype)
    whole = torch.ones((1, 30, 30), device=device, dtype=dtype)
    before = picture.clone()
    assert torch.equal(add_noise(picture, whole, noise, torch.tensor([0.1], device=device, dtype=dtype)), before)


def test_extremes_of_light_are_finite(device):
    source = torch.tensor([0.0, 1e-30, 0.5, 1.0], device=device).reshape(1, 1, 2, 2)
    for factor in (0.0, 1.0, 1e6):
        found = exposed(source, torch.full_like(source, factor), torch.full_like(source, factor))
        assert torch.isfinite(found).all()
    unchanged = exposed(source, torch.ones_like(source), 0 * source, brightest=0.0)
    assert_allclose(unchanged.cpu(), source.cpu(), atol=1e-5)
