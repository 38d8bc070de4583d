"""What is read off a photograph, against photographs whose light and sharpness are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtr

from benchmarks.verification.photograph import Lamp, bulging_bodies, edges, lit, photographed, rough_heights
from refine.photograph import Optics, estimate_optics

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
    for values in vars(optics).values():
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


def rough_surface(
    azimuth_deg: float, *, rng: np.random.Generator, ambient: float = 0.3, gloss: float = 0.0, steepness: float = 0.25
) -> NDArray[np.float64]:
    """Photograph (1, S, S) of a randomly rough grey surface under a lamp 35 degrees above it."""
    size = 2 * SIZE
    heights = ndimage.gaussian_filter(rng.standard_normal((size, size)), 2.0, mode="wrap")
    down, right = np.gradient(heights)
    down, right = (steepness * g / right.std() for g in (down, right))
    angle, elevation = np.deg2rad(azimuth_deg), np.deg2rad(35)
    lamp = np.array([-np.sin(angle) * np.cos(elevation), np.cos(angle) * np.cos(elevation), np.sin(elevation)])
    normal = np.stack([-down, -right, np.ones_like(down)]) / np.sqrt(1 + down**2 + right**2)
    matt = np.maximum(np.tensordot(lamp, normal, 1), 0) / np.sin(elevation)
    half = lamp + np.array([0, 0, 1.0])
    highlight = np.maximum(np.tensordot(half / np.linalg.norm(half), normal, 1), 0) ** 60
    light = 0.15 * (ambient + (1 - ambient) * matt) + gloss * highlight
    return np.clip(light, 1e-4, 1)[None] ** (1 / 2.2)


@pytest.mark.parametrize("azimuth_deg", [20, 60, 90, 130, 160])
def test_light_from_above_is_read_off_the_texture_of_a_rough_surface(azimuth_deg, rng, device, dtype):
    y, x = estimate(rough_surface(azimuth_deg, rng=rng), device, dtype).light[0].cpu().double().numpy()
    away = (np.rad2deg(np.arctan2(-y, x)) - azimuth_deg + 180) % 360 - 180
    assert abs(away) < 25


@pytest.mark.parametrize("azimuth_deg", [-150, -70, 20, 100])
@pytest.mark.parametrize("steepness", [0.1, 0.5])
def test_bulging_bodies_tell_light_from_below_too(azimuth_deg, steepness, rng, device, dtype):
    bodies = bulging_bodies(rng, slope=steepness)
    picture = photographed(lit(bodies, Lamp(azimuth_deg)), rng)
    y, x = estimate(picture, device, dtype).light[0].cpu().double().numpy()
    away = (np.rad2deg(np.arctan2(-y, x)) - azimuth_deg + 180) % 360 - 180
    assert abs(away) < 12


def test_slope_of_brightness_tells_which_end_of_the_axis_is_lit(rng, device, dtype):
    shallow = lit(rough_heights(rng, slope=0.1), Lamp(-120))
    y, x = (np.mgrid[: 2 * SIZE, : 2 * SIZE] + 0.5) / (2 * SIZE) - 0.5
    nearer = np.exp(1.5 * (x * np.cos(np.deg2rad(-120)) - y * np.sin(np.deg2rad(-120))))
    light = estimate(photographed(shallow * nearer, rng), device, dtype).light[0].cpu().double().numpy()
    assert np.rad2deg(np.arctan2(-light[0], light[1])) == pytest.approx(-120, abs=6)


def test_bricks_say_nothing_of_the_light(rng, device, dtype):
    y, x = np.mgrid[: 2 * SIZE, : 2 * SIZE]
    course = y // 24
    joint = (y % 24 < 3) | ((x + 28 * (course % 2)) % 56 < 3)
    wall = ndimage.gaussian_filter(np.where(joint, 0.35, 0.12), 0.8) * (1 + 0.03 * rng.standard_normal(y.shape))
    optics = estimate(wall[None] ** (1 / 2.2), device, dtype)
    assert optics.light[0].cpu().double().numpy() @ [-1, 0] > 0.999
    assert float(optics.gloss[0]) == 0  # bright joints are no highlights
    assert float(optics.directional[0]) < 0.45


def test_dark_spots_of_the_material_are_no_shadows(rng, device, dtype):
    spots = ndimage.gaussian_filter(rng.standard_normal((2 * SIZE, 2 * SIZE)), 1.5, mode="wrap")
    picture = np.where(spots > 1.8 * spots.std(), 0.1, 0.5) + 0.005 * rng.standard_normal(spots.shape)
    assert float(estimate(picture[None], device, dtype).directional[0]) < 0.5


@pytest.mark.parametrize("directional", [0.9, 0.7, 0.5])
def test_shadows_of_a_steep_relief_tell_the_directional_share(directional, rng, device, dtype):
    relief = rough_heights(rng, slope=0.6)
    picture = photographed(lit(relief, Lamp(60, ambient=1 - directional)), rng)
    assert float(estimate(picture, device, dtype).directional[0]) == pytest.approx(directional, abs=0.15)


@pytest.mark.parametrize("angle", [0.3, 1.2])
def test_a_texture_with_a_grain_of_its_own_says_nothing_of_the_light(angle, rng, device, dtype):
    y, x = np.mgrid[:SIZE, :SIZE]
    grooves = ndimage.gaussian_filter1d(rng.standard_normal(4 * SIZE), 2.0)
    grooves -= ndimage.gaussian_filter1d(grooves, 12.0)  # no side of the picture is brighter
    across = np.interp(x * np.cos(angle) + y * np.sin(angle) + SIZE, np.arange(4 * SIZE), grooves)
    light = estimate(0.5 + 0.2 * across[None], device, dtype).light[0].cpu().double().numpy()
    assert light @ [-1, 0] > 0.98


def test_deeper_shadows_mean_less_ambient_light(rng, device, dtype):
    shares = []
    for ambient in (0.8, 0.5, 0.2, 0.05):
        picture = rough_surface(90, rng=np.random.default_rng(3), ambient=ambient, steepness=0.6)
        shares.append(float(estimate(picture, device, dtype).directional[0]))
    assert np.all(np.diff(shares) >= 0)
    assert shares[-1] > shares[0] + 0.2


def test_highlights_are_gloss_and_a_matt_surface_has_none(rng, device, dtype):
    glosses = [
        float(estimate(rough_surface(90, rng=np.random.default_rng(3), gloss=gloss), device, dtype).gloss[0])
        for gloss in (0.0, 0.4, 1.0)
    ]
    assert glosses[0] < 0.15
    assert glosses[1] > glosses[0] + 0.1
    assert glosses[2] > glosses[1]


@pytest.mark.parametrize("steepness", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("ambient", [0.1, 0.6])
def test_a_matt_relief_has_no_gloss_however_deep_its_shadows(steepness, ambient, rng, device, dtype):
    picture = photographed(lit(rough_heights(rng, slope=steepness), Lamp(60, ambient=ambient)), rng)
    assert float(estimate(picture, device, dtype).gloss[0]) < 0.05


def test_highlights_of_coloured_material_have_the_colour_of_the_lamp(rng, device, dtype):
    red = np.array([0.25, 0.08, 0.05])[:, None, None]
    spots = ndimage.gaussian_filter(rng.standard_normal((2 * SIZE, 2 * SIZE)), 1.5, mode="wrap")
    spots = np.clip(spots / spots.std() - 2.2, 0, 1)
    grain = 1 + 0.02 * rng.standard_normal(spots.shape)
    shiny, pale = (red * grain + 0.5 * spots) ** (1 / 2.2), (red * grain * (1 + 3 * spots)) ** (1 / 2.2)
    assert float(estimate(shiny, device, dtype).gloss[0]) > 0.5
    assert float(estimate(pale, device, dtype).gloss[0]) < 0.05


@pytest.mark.parametrize("sigma", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_noise_does_not_make_a_blurred_picture_sharp(sigma, noise, rng, device, dtype):
    picture = edges(sigma, 0.5) + noise * rng.standard_normal((1, 2 * SIZE, 2 * SIZE))
    assert_allclose(float(estimate(picture, device, dtype).blur_px[0]), sigma, rtol=0.2)


@pytest.mark.parametrize("sigma", [0.005, 0.02])
def test_noise_of_each_channel_is_found_on_a_relief(sigma, rng, device, dtype):
    picture = photographed(lit(bulging_bodies(rng, slope=0.3), Lamp(60)), rng, noise=sigma, channels=3)
    assert_allclose(float(estimate(picture, device, dtype).noise[0]), sigma, rtol=0.15)


@pytest.mark.parametrize("steepness", [0.1, 0.3])
def test_texture_without_noise_has_none(steepness, rng, device, dtype):
    picture = photographed(lit(rough_heights(rng, slope=steepness), Lamp(60)), rng, noise=0.0)
    assert float(estimate(picture, device, dtype).noise[0]) < 1e-4


@pytest.mark.parametrize("sigma", [0.002, 0.005, 0.01, 0.03])
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_found_on_smooth_and_on_textured_pictures(sigma, channels, rng, device, dtype):
    y, x = np.mgrid[:256, :256] / 256
    smooth = 0.4 + 0.2 * np.sin(3 * x + 2 * y)
    flat_half = np.where(x < 0.5, smooth, smooth + 0.08 * ndimage.gaussian_filter(rng.standard_normal((256, 256)), 0.7))
    noise = sigma * rng.standard_normal((256, 256))  # the same in all channels: grey noise
    for clean in (smooth, flat_half):
        picture = np.repeat((clean + noise)[None], channels, axis=0)
        assert_allclose(float(estimate(picture, device, dtype).noise[0]), sigma, rtol=0.1)


def test_noise_of_eight_bits_is_little_and_a_white_background_says_nothing_of_it(rng, device, dtype):
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    clean = np.rint((0.4 + 0.2 * x + 0.1 * y) * 255) / 255
    assert float(estimate(clean[None], device, dtype).noise[0]) < 0.6 / 255
    grainy = np.where(x < 0.6, clean + 0.01 * rng.standard_normal(clean.shape), 1.0)
    assert_allclose(float(estimate(grainy[None], device, dtype).noise[0]), 0.01, rtol=0.15)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_an_even_picture_has_neither_gloss_nor_noise(value, device, dtype):
    optics = estimate(np.full((3, SIZE, SIZE), value), device, dtype)
    assert float(optics.gloss[0]) == 0
    assert float(optics.noise[0]) < 1e-6


def test_a_photograph_has_the_same_optics_in_any_batch_and_with_any_threads(rng, dtype):
    device = torch.device("cpu")
    pictures = [rough_surface(a, rng=rng, gloss=0.2) for a in (30, 100)] + [rng.random((1, 2 * SIZE, 2 * SIZE))]
    part = ndimage.gaussian_filter(rng.standard_normal((3, 2 * SIZE, 2 * SIZE)), (0, 9, 9)) < 0.02
    batch, parts = torch.from_numpy(np.stack(pictures)).to(dtype), torch.from_numpy(part)
    used = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            together = estimate_optics(batch, parts)
            if threads == 1:
                first = together
            for k, picture in enumerate(pictures):
                alone = estimate(picture, device, dtype, part=part[k])
                for name, values in vars(alone).items():
                    assert_array_equal(getattr(together, name)[k], values[0], err_msg=name)
                    assert_array_equal(getattr(first, name)[k], values[0], err_msg=name)
    finally:
        torch.set_num_threads(used)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=40)
def test_optics_are_bounded_whatever_the_picture(height, width, channels, level, contrast, seed):
    rng = np.random.default_rng(seed)
    picture = np.clip(level + contrast * rng.standard_normal((channels, height, width)), 0, 1)
    part = rng.random((height, width)) < 0.7
    part[rng.integers(height), rng.integers(width)] = True
    optics = estimate(picture, torch.device("cpu"), torch.float32, part=part)
    assert_allclose(np.linalg.norm(optics.light.numpy(), axis=1), 1, rtol=1e-5)
    for values, low, high in (
        (optics.directional, 0.35, 1),
        (optics.gloss, 0, 1),
        (optics.blur_px, 0.45, 1.6),
        (optics.noise, 0, 1.5),
        (optics.brightest, 0, 1),
    ):
        assert bool(((values >= np.float32(low)) & (values <= np.float32(high))).all())
