"""Rendering held to geometry: exact overlaps, the side the light comes from, and the symmetries of the square."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from refine.photograph import Optics
from refine.render import Rendering
from refine.render import render as render_batch
from refine.scene import CrackBatch, CrackLook, Look
from refine.scene import Scene as SceneBatch

SIDE = 33
REACH_PX = 10.0
FROM_RIGHT, FROM_LEFT, FROM_ABOVE = (0.0, 1.0), (0.0, -1.0), (-1.0, 0.0)


@dataclass(frozen=True)
class Scene:
    """One crack on one picture, float64; what is not named does not show."""

    distance: NDArray[np.float64]
    opening: NDArray[np.float64]
    source: NDArray[np.float64] = field(default_factory=lambda: np.full((1, SIDE, SIDE), 0.6))
    grain: NDArray[np.float64] = field(default_factory=lambda: np.zeros((SIDE, SIDE)))
    foreground: NDArray[np.bool_] = field(default_factory=lambda: np.ones((SIDE, SIDE), dtype=bool))
    depth_to_width: float = 4.0
    lip_slope: float = 0.0
    debris: float = 0.0
    glint: float = 0.0
    light: tuple[float, float] = FROM_ABOVE
    directional: float = 0.0
    blur_px: float = 0.45
    noise: float = 0.0
    brightest: float = 0.8


def render(scene: Scene, device: torch.device, dtype: torch.dtype) -> Rendering:
    """The scene as a batch of one; the batch is taken away again."""
    found = as_batch([scene], device, dtype)
    return Rendering(**{name: values[0].cpu().double() for name, values in vars(found).items()})


def as_batch(scenes: list[Scene], device: torch.device, dtype: torch.dtype) -> Rendering:
    """Scenes of as many channels at once."""

    def all_of(name: str) -> torch.Tensor:
        values = np.stack([np.array(getattr(scene, name), dtype=np.float64) for scene in scenes])
        return torch.from_numpy(values).to(device=device, dtype=dtype)

    source = all_of("source")
    return render_batch(
        source,
        SceneBatch(
            foreground=all_of("foreground") > 0,
            grain=all_of("grain"),
            noise=white_noise(len(scenes), dtype, device),
            crack=CrackBatch(all_of("distance"), all_of("opening")),
        ),
        Look(CrackLook(all_of("depth_to_width"), all_of("lip_slope"), all_of("debris"), all_of("glint"))),
        Optics(
            light=all_of("light"),
            directional=all_of("directional"),
            gloss=torch.zeros_like(all_of("directional")),
            blur_px=all_of("blur_px"),
            noise=all_of("noise"),
            brightest=all_of("brightest")[:, None].expand(-1, source.shape[1]),
        ),
    )


def white_noise(batch: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    values = np.random.default_rng(5).standard_normal((1, 3, SIDE, SIDE))
    return torch.from_numpy(values).to(device=device, dtype=dtype).expand(batch, -1, -1, -1)


def image_of(scene: Scene, device: torch.device, dtype: torch.dtype) -> NDArray[np.float64]:
    return render(scene, device, dtype).image.numpy()


def upright(width: float, *, x: float = SIDE / 2, **look: object) -> Scene:
    """A straight crack along a column."""
    away = np.abs(np.arange(SIDE) + 0.5 - x) - width / 2
    distance = np.broadcast_to(np.minimum(away, REACH_PX), (SIDE, SIDE))
    return Scene(distance, np.where(distance < REACH_PX, width, 0.0), **look)


def forked(rng: np.random.Generator, *, channels: int = 3) -> Scene:
    """Three tapering pieces that meet, on a grained part with a corner cut off, everything shown at once."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    distance, opening = np.full((SIDE, SIDE), REACH_PX), np.zeros((SIDE, SIDE))
    for end, width in (((3.0, 9.0), 0.4), ((29.0, 20.0), 3.0), ((12.0, 31.0), 1.5)):
        start = np.array([15.3, 13.8])
        along = np.array(end) - start
        t = np.clip(((y - start[0]) * along[0] + (x - start[1]) * along[1]) / (along @ along), 0, 1)
        local = 2.5 + t * (width - 2.5)
        gap = np.hypot(y - start[0] - t * along[0], x - start[1] - t * along[1]) - local / 2
        opening = np.where(gap < distance, local, opening)
        distance = np.minimum(distance, gap)
    return Scene(
        distance,
        opening,
        source=rng.uniform(0.2, 0.9, (channels, SIDE, SIDE)),
        grain=rng.standard_normal((SIDE, SIDE)),
        foreground=(y + x) > 9,
        depth_to_width=2.0,
        lip_slope=0.3,
        debris=0.2,
        glint=0.3,
        light=(-0.6, 0.8),
        directional=0.8,
        blur_px=0.8,
        brightest=0.9,
    )


@given(width=st.floats(0.01, 8.0), x=st.floats(10.0, 22.0))
@settings(deadline=None, max_examples=50)
def test_coverage_is_the_exact_overlap_of_pixel_and_strip(device, dtype, tolerance, width, x):
    found = render(upright(width, x=x), device, dtype).coverage.numpy()
    left = np.arange(SIDE)
    overlap = np.clip(np.minimum(left + 1, x + width / 2) - np.maximum(left, x - width / 2), 0, None)
    assert_allclose(found, np.broadcast_to(overlap, found.shape), rtol=0, atol=10 * tolerance.rounding)
    assert_allclose(found.sum(axis=1), width, rtol=0, atol=10 * tolerance.rounding)


@pytest.mark.parametrize("angle", [0.02, 0.4, 0.79, 1.2, 2.2])
@pytest.mark.parametrize("width", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("x", [16.5, 16.9])
def test_coverage_of_a_slanted_strip_is_the_exact_overlap(angle, width, x, device, dtype):
    fine = 50

    def away(samples: int) -> NDArray[np.float64]:
        """Distance to the strip, with this many samples a pixel."""
        v, u = (np.mgrid[: SIDE * samples, : SIDE * samples] + 0.5) / samples
        return np.abs((u - x) * np.cos(angle) + (v - SIDE / 2) * np.sin(angle)) - width / 2

    distance = np.minimum(away(1), REACH_PX)
    found = render(Scene(distance, np.where(distance < REACH_PX, width, 0)), device, dtype).coverage.numpy()
    overlap = (away(fine) < 0).reshape(SIDE, fine, SIDE, fine).mean(axis=(1, 3))
    assert_allclose(found[1:-1, 1:-1], overlap[1:-1, 1:-1], rtol=0, atol=0.015)
    # at the picture's border one of a pixel's neighbours is missing, and the direction is less sure
    assert_allclose(found, overlap, rtol=0, atol=0.1)


def test_a_hairline_is_faint_and_not_thin(device, dtype):
    darkening = [
        1 - image_of(upright(width, blur_px=0.8), device, dtype)[0, SIDE // 2] / 0.6 for width in (0.1, 0.2, 0.4, 0.8)
    ]
    peaks = np.array([profile.max() for profile in darkening])
    assert np.all(peaks[1:] > 1.5 * peaks[:-1])  # each is about twice as dark as the one half as wide
    assert peaks[1] < 0.12
    seen_width = [int((profile > profile.max() / 2).sum()) for profile in darkening]
    assert seen_width == [seen_width[0]] * 4  # and none looks narrower than the camera can see
    assert seen_width[0] >= 1


@pytest.mark.parametrize("value", [0.1, 0.6, 0.8])
@pytest.mark.parametrize(("width", "x"), [(0.3, 16.5), (0.3, 16.9), (1.0, 16.7), (3.0, 16.5)])
def test_a_deeper_crack_is_darker(width, x, value, device, dtype):
    source = np.full((1, SIDE, SIDE), value)
    darkest = [
        image_of(upright(width, x=x, source=source, depth_to_width=depth), device, dtype).min()
        for depth in (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
    ]
    assert np.all(np.diff(darkest) < -1e-4 * value)
    assert darkest[0] < value
    assert 1 - darkest[-1] / value > 0.1 * min(width, 4)  # and a deep one takes away a good part of the light


@pytest.mark.parametrize("x", [16.5, 16.7, 16.9, 17.0])
def test_a_hairline_is_as_dark_wherever_it_lies_between_pixels(x, device, dtype):
    missing = [
        (1 - image_of(upright(0.4, x=place, depth_to_width=3.0), device, dtype)[0, SIDE // 2] / 0.6).sum()
        for place in (16.5, x)
    ]
    assert_allclose(missing[1], missing[0], rtol=0.12)


def test_a_deep_crack_shows_the_share_of_sky_that_its_floor_sees(device, dtype):
    # dark material returns nothing between the walls: what is left is 1 / sqrt(1 + (2 D / w)^2) of the light
    scene = upright(9.0, source=np.full((1, SIDE, SIDE), 0.03), depth_to_width=3.0)
    middle = image_of(scene, device, dtype)[0, SIDE // 2, SIDE // 2]
    assert_allclose(middle / 0.03, (1 / np.sqrt(37)) ** (1 / 2.2), rtol=5e-3)


@pytest.mark.parametrize(("light", "lit"), [(FROM_RIGHT, 1), (FROM_LEFT, -1)])
@pytest.mark.parametrize("shown", ["lip_slope", "glint"])
def test_the_lip_that_faces_the_light_is_the_brighter_one(shown, light, lit, device, dtype):
    scene = upright(2.0, light=light, directional=0.8, **{shown: 0.3})
    profile = image_of(scene, device, dtype)[0, SIDE // 2]
    right, left = profile[SIDE // 2 + 2 : SIDE // 2 + 4].sum(), profile[SIDE // 2 - 3 : SIDE // 2 - 1].sum()
    assert lit * (right - left) > 0.02
    assert max(right, left) > 2 * 0.6


@pytest.mark.parametrize(("light", "lit"), [(FROM_RIGHT, -1), (FROM_LEFT, 1)])
def test_the_wall_that_faces_the_light_is_the_brighter_one(light, lit, device, dtype):
    profile = image_of(upright(6.0, light=light, directional=0.8), device, dtype)[0, SIDE // 2]
    right, left = profile[SIDE // 2 + 1], profile[SIDE // 2 - 1]
    assert lit * (right - left) > 0.02


def test_light_without_direction_leaves_the_lips_alike(device, dtype, tolerance):
    profile = image_of(upright(2.0, lip_slope=0.3, glint=0.3), device, dtype)[0, SIDE // 2]
    assert_allclose(profile, profile[::-1], rtol=0, atol=tolerance.rounding)
    assert profile.max() <= 0.6 + tolerance.rounding


def test_debris_darkens_the_crack_s_surroundings(device, dtype):
    clean, dirty = (image_of(upright(2.0, debris=debris), device, dtype)[0, SIDE // 2] for debris in (0.0, 0.3))
    assert dirty[SIDE // 2 + 3] < 0.97 * clean[SIDE // 2 + 3]
    assert np.all(dirty <= clean + 1e-6)


def test_nothing_changes_off_the_foreground(rng, device, dtype):
    scene = forked(rng)
    found = render(scene, device, dtype)
    expected = torch.from_numpy(scene.source).to(dtype).double().numpy()
    assert_array_equal(found.image.numpy()[:, ~scene.foreground], expected[:, ~scene.foreground])
    assert_array_equal(found.coverage.numpy()[~scene.foreground], 0)


def test_nothing_changes_where_there_is_no_crack(rng, device, dtype, tolerance):
    source = rng.random((3, SIDE, SIDE))
    look = {"lip_slope": 0.3, "debris": 0.3, "glint": 0.3, "directional": 1.0}
    nowhere = Scene(np.full((SIDE, SIDE), REACH_PX), np.zeros((SIDE, SIDE)), source=source, **look)
    assert_allclose(image_of(nowhere, device, dtype), source, rtol=0, atol=tolerance.rounding)
    at_the_left = upright(2.0, x=5.0, source=source, **look)
    beyond = int(5 + 1 + REACH_PX) + 5  # the reach, and then that of the point spread
    found = image_of(at_the_left, device, dtype)
    assert_allclose(found[..., beyond:], source[..., beyond:], rtol=0, atol=tolerance.rounding)
    assert np.abs(found - source)[..., :10].max() > 0.05


def turned(scene: Scene, turns: int, *, mirrored: bool) -> Scene:
    """The scene mirrored left-right if asked, then turned by quarters, counter-clockwise, with its light."""

    def turn(values: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.rot90(values[..., ::-1] if mirrored else values, turns, axes=(-2, -1)).copy()

    y, x = scene.light
    x = -x if mirrored else x
    for _ in range(turns):
        y, x = -x, y
    fields = {name: turn(getattr(scene, name)) for name in ("distance", "opening", "source", "grain", "foreground")}
    return Scene(**{**vars(scene), **fields, "light": (y, x)})


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_the_rendering_turns_with_crack_and_light(turns, mirrored, rng, device, dtype, tolerance):
    scene = forked(rng)
    found = image_of(turned(scene, turns, mirrored=mirrored), device, dtype)
    expected = image_of(scene, device, dtype)
    expected = np.rot90(expected[..., ::-1] if mirrored else expected, turns, axes=(-2, -1))
    # light without its turn would be seen: this is not the accuracy of a blur that hides everything
    assert_allclose(found, expected, rtol=0, atol=10 * tolerance.rounding)


def test_the_rendering_does_not_turn_without_the_light(rng, device, dtype):
    scene = forked(rng)
    other = Scene(**{**vars(scene), "light": (0.6, -0.8)})
    assert np.abs(image_of(scene, device, dtype) - image_of(other, device, dtype)).max() > 0.05


def test_a_grey_picture_is_each_channel_of_a_colour_picture_of_equal_channels(rng, device, dtype):
    grey = forked(rng, channels=1)
    colour = Scene(**{**vars(grey), "source": np.repeat(grey.source, 3, axis=0)})
    found = image_of(colour, device, dtype)
    for channel in found:
        assert_array_equal(channel, image_of(grey, device, dtype)[0])


def test_each_picture_of_a_batch_is_rendered_by_itself_to_the_last_bit(rng, device, dtype, tolerance):
    # a crack along the last rows: arithmetic on the last few numbers of an array may take another way in the processor
    last = turned(upright(9.0, x=SIDE - 4.0, source=rng.uniform(0.2, 0.9, (3, SIDE, SIDE))), 3, mirrored=False)
    assert last.distance[-1].max() < 1
    other = Scene(
        **{**vars(turned(forked(rng), 1, mirrored=True)), "blur_px": 1.4, "glint": 0.0, "depth_to_width": 5.0}
    )
    scenes = [forked(rng), last, other, last, Scene(**{**vars(last), "lip_slope": 0.3, "directional": 0.7})]
    together = as_batch(scenes, device, dtype)
    for k, scene in enumerate(scenes):
        alone = render(scene, device, dtype)
        if device.type == "cpu":
            assert torch.equal(together.image[k].double(), alone.image)
            assert torch.equal(together.coverage[k].double(), alone.coverage)
        else:
            torch.testing.assert_close(
                together.image[k].cpu().double(), alone.image, rtol=0, atol=10 * tolerance.rounding
            )


@given(
    seed=st.integers(0, 2**32 - 1),
    width=st.floats(0.0, 20.0),
    look=st.fixed_dictionaries(
        {
            "depth_to_width": st.floats(1e-3, 1e3),
            "lip_slope": st.floats(0, 5),
            "debris": st.floats(0, 10),
            "glint": st.floats(0, 5),
            "directional": st.floats(0, 1),
            "blur_px": st.floats(0.45, 1.6),
            "brightest": st.sampled_from((0.0, 1e-6, 0.5, 1.0)),
        }
    ),
)
@settings(deadline=None, max_examples=40)
def test_a_rendering_is_a_picture_whatever_the_look(device, dtype, seed, width, look):
    rng = np.random.default_rng(seed)
    source = rng.choice([0.0, 0.5, 1.0], (3, SIDE, SIDE))
    scene = upright(width, source=source, grain=3 * rng.standard_normal((SIDE, SIDE)), light=FROM_RIGHT, **look)
    found = render(scene, device, dtype)
    for values in (found.image.numpy(), found.coverage.numpy()):
        assert np.isfinite(values).all()
        assert values.min() >= 0
        assert values.max() <= 1
