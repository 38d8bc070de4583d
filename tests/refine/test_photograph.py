"""What is read off a photograph, against photographs whose light and sharpness are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtr

from refine.photograph import Optics, estimate_optics, gaussian_blur

SIZE = 128


def estimate(
    image: NDArray[np.float64], device: torch.device, dtype: torch.dtype, *, part: NDArray[np.bool_] | None = None
) -> Optics:
    """Optics of one picture (C, H, W)."""
    part = np.ones(image.shape[1:], dtype=bool) if part is None else part
    picture = torch.from_numpy(image)[None].to(device=device, dtype=dtype)
    return estimate_optics(picture, torch.from_numpy(part)[None].to(device))


def shaded_plane(angle_deg: float, *, slope: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Brightness that grows by exp(slope) a side in the direction of the angle, from the right, counter-clockwise."""
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE - 0.5
    angle = np.deg2rad(angle_deg)
    grain = 1 + 0.05 * rng.standard_normal((SIZE, SIZE))
    return (0.4 * np.exp(slope * (x * np.cos(angle) - y * np.sin(angle))) * grain)[None]


def blurred_edges(sigma: float, angle: float, *, size: int = SIZE) -> NDArray[np.float64]:
    """Four parallel edges seen through a Gaussian point spread."""
    y, x = np.mgrid[:size, :size] + 0.5
    across = x * np.cos(angle) + y * np.sin(angle)
    stripe = size / 4
    from_edge = np.abs(across % (2 * stripe) - stripe) - stripe / 2
    return 0.3 + 0.4 * ndtr(from_edge / sigma)[None]


@pytest.mark.parametrize("angle_deg", [0, 40, 90, 155, 180, 230, 270, 315])
def test_light_comes_from_where_a_shaded_plane_is_brighter(angle_deg, rng, device, dtype):
    optics = estimate(shaded_plane(angle_deg, slope=0.5, rng=rng), device, dtype)
    y, x = optics.light[0].cpu().double().numpy()
    away = (np.rad2deg(np.arctan2(-y, x)) - angle_deg + 180) % 360 - 180
    assert abs(away) < 3
    assert_allclose(np.hypot(y, x), 1, atol=1e-5)


def test_light_is_found_on_the_part_alone(rng, device, dtype):
    picture = shaded_plane(90, slope=0.6, rng=rng)
    y, x = np.mgrid[:SIZE, :SIZE]
    part = np.hypot(y - 70, x - 50) < 35
    picture[:, ~part] = shaded_plane(-90, slope=2.0, rng=rng)[:, ~part]
    light = estimate(picture, device, dtype, part=part).light[0].cpu().double().numpy()
    assert np.rad2deg(np.arccos(light @ [-1, 0])) < 5


def test_steeper_shading_means_more_directional_light(rng, device, dtype):
    shares = [
        float(estimate(shaded_plane(30, slope=slope, rng=rng), device, dtype).directional[0])
        for slope in (0.1, 0.4, 0.8, 3.0)
    ]
    assert np.all(np.diff(shares) > 0)
    assert shares[-1] == 1.0


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_an_even_picture_is_lit_from_above(value, device, dtype):
    optics = estimate(np.full((3, SIZE, SIZE), value), device, dtype)
    assert_array_equal(optics.light.cpu().numpy(), [[-1, 0]])
    assert np.isfinite(float(optics.blur_px[0]))


def test_a_part_of_one_pixel_has_finite_optics(rng, device, dtype):
    part = np.zeros((SIZE, SIZE), dtype=bool)
    part[3, 4] = True
    optics = estimate(rng.random((3, SIZE, SIZE)), device, dtype, part=part)
    for values in (optics.light, optics.directional, optics.blur_px, optics.brightest):
        assert bool(torch.isfinite(values).all())


@pytest.mark.parametrize("sigma", [0.6, 0.8, 1.0, 1.25, 1.5])
@pytest.mark.parametrize("angle", [0.2, 0.5, 0.9, 1.3, 2.2])
def test_blur_of_a_known_edge_is_found_within_a_fifth(sigma, angle, device, dtype):
    found = float(estimate(blurred_edges(sigma, angle), device, dtype).blur_px[0])
    assert_allclose(found, sigma, rtol=0.2)


@pytest.mark.parametrize("size", [64, 256])
def test_blur_is_found_at_other_sizes(size, device, dtype):
    found = float(estimate(blurred_edges(1.0, 0.5, size=size), device, dtype).blur_px[0])
    assert_allclose(found, 1.0, rtol=0.2)


def test_blur_stays_within_what_a_camera_gives(rng, device, dtype):
    noise, fog = rng.random((1, SIZE, SIZE)), blurred_edges(6.0, 0.5)
    assert float(estimate(noise, device, dtype).blur_px[0]) == pytest.approx(0.45)
    assert float(estimate(fog, device, dtype).blur_px[0]) == pytest.approx(1.6)


def test_brightest_is_the_brightest_patch_of_the_part(device, dtype):
    picture = np.full((3, SIZE, SIZE), 0.2)
    picture[:, 16:24, 40:48] = np.array([0.3, 0.6, 0.9])[:, None, None]
    picture[:, 80:, :] = 1.0  # background
    part = np.arange(SIZE)[:, None] < np.full(SIZE, 80)
    brightest = estimate(picture, device, dtype, part=part).brightest[0].cpu().double().numpy()
    assert_allclose(brightest, [0.3, 0.6, 0.9], atol=1e-6)


def test_blur_agrees_with_scipy(rng, device, dtype):
    sigmas = [0.45, 0.7, 1.0, 1.6]
    fields = rng.random((len(sigmas), 31, 44))
    found = gaussian_blur(
        torch.from_numpy(fields).to(device=device, dtype=dtype), torch.tensor(sigmas, device=device, dtype=dtype)
    )
    expected = [
        ndimage.gaussian_filter(field, sigma, mode="nearest", radius=4)
        for field, sigma in zip(fields, sigmas, strict=True)
    ]
    assert_allclose(found.cpu().double().numpy(), expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-14)


def test_blur_keeps_an_even_field_and_works_on_few_pixels(device, dtype, tolerance):
    field = torch.full((2, 2, 3), 0.7, device=device, dtype=dtype)
    found = gaussian_blur(field, torch.tensor([0.5, 1.6], device=device, dtype=dtype))
    assert_allclose(found.cpu().double().numpy(), field.cpu().double().numpy(), rtol=0, atol=tolerance.rounding)
