"""Changed surfaces as light shows them, against Lambert's law, the symmetries of the square, and still pictures."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from manifests.config import LabelConfig, NpcfConfig, NpcfppConfig
from refine.passes import DefectInputs, OpticsArrays, ReliefArrays, refine_defects
from refine.photograph import Optics
from refine.relief import moved_texture
from refine.render import Rendering, render
from refine.scene import Look, ReliefBatch, ReliefLook, Scene

SIDE = 64
ELEVATION = math.radians(35)
FIELDS = ("depth", "height", "product", "displacement_y", "displacement_x")
TOWARDS = ((-1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.0, -1.0))  # up, right, down, left


def hump(dtype, device, *, y=32.0, x=32.0, radius=8.0, peak=4.0):
    at = torch.arange(SIDE, dtype=dtype, device=device) + 0.5
    return (peak * torch.exp(-((at[:, None] - y) ** 2 + (at - x) ** 2) / radius**2))[None]


def relief_of(dtype, device, **given) -> ReliefBatch:
    nothing = torch.zeros((1, SIDE, SIDE), dtype=dtype, device=device)
    return ReliefBatch(**{name: given.get(name, nothing) for name in FIELDS})


def optics_of(dtype, device, *, light=(-1.0, 0.0), directional=1.0, channels=1, blur=0.1) -> Optics:
    def tensor(values):
        return torch.tensor(values, dtype=dtype, device=device)

    return Optics(
        light=tensor([light]),
        directional=tensor([directional]),
        gloss=tensor([1.0]),
        blur_px=tensor([blur]),
        noise=tensor([0.0]),
        brightest=tensor([[0.9] * channels]),
    )


def look_of(dtype, device, *, gloss=0.0, product=(0.1,)) -> ReliefLook:
    def tensor(values):
        return torch.tensor(values, dtype=dtype, device=device)

    return ReliefLook(tensor([gloss]), tensor([20.0]), tensor([0.7]), tensor([product]))


def flat(dtype, device, value=0.5, channels=1):
    return torch.full((1, channels, SIDE, SIDE), value, dtype=dtype, device=device)


def draw(source, relief, *, look=None, part=None, grain=None, **optics) -> Rendering:
    how = {"dtype": source.dtype, "device": source.device}
    if part is None:
        part = torch.ones((1, SIDE, SIDE), dtype=torch.bool, device=source.device)
    channels = source.shape[1]
    look = look or look_of(product=(0.1,) * channels, **how)
    nothing = torch.zeros((1, SIDE, SIDE), **how)
    scene = Scene(part, nothing if grain is None else grain, nothing[:, None].expand(-1, 3, -1, -1), relief=relief)
    return render(source, scene, Look(relief=look), optics_of(channels=channels, **how, **optics))


def test_no_change_of_the_surface_is_no_change_of_the_picture(device, dtype, tolerance):
    source = torch.rand((1, 3, SIDE, SIDE), dtype=dtype, device=device)
    found = draw(source, relief_of(dtype, device), blur=0.8)
    assert_allclose(found.image.cpu(), source.cpu(), atol=tolerance.rounding)
    assert not found.coverage.any()


def test_a_constant_picture_stays_constant_however_it_is_warped(device, dtype, tolerance):
    warp = relief_of(
        dtype,
        device,
        displacement_y=hump(dtype, device, peak=5.3),
        displacement_x=hump(dtype, device, y=25.0, peak=-3.7),
    )
    found = draw(flat(dtype, device), warp)
    assert_allclose(found.image.cpu(), 0.5, atol=tolerance.rounding)


@pytest.mark.parametrize(("down", "right"), [(3, 0), (0, -4), (-2, 5)])
def test_a_displacement_by_whole_pixels_moves_the_texture_exactly(down, right, device, dtype, tolerance):
    source = torch.rand((1, 1, SIDE, SIDE), dtype=dtype, device=device)
    ones = torch.ones((1, SIDE, SIDE), dtype=dtype, device=device)
    found = draw(source, relief_of(dtype, device, displacement_y=down * ones, displacement_x=right * ones)).image
    moved = torch.roll(source, (down, right), (2, 3))
    inner = (..., slice(8, -8), slice(8, -8))
    assert_allclose(found[inner].cpu(), moved[inner].cpu(), atol=tolerance.rounding)


def test_texture_moves_near_the_relief_and_lies_still_far_from_it(device, dtype, tolerance):
    source = torch.rand((1, 1, SIDE, SIDE), dtype=dtype, device=device)
    ones = torch.ones((1, SIDE, SIDE), dtype=dtype, device=device)
    warp = relief_of(dtype, device, height=0.5 * hump(dtype, device), displacement_x=2 * ones, displacement_y=0 * ones)
    moved = moved_texture(source, warp)
    middle = (..., slice(28, 36), slice(28, 36))
    assert_allclose(moved[middle].cpu(), torch.roll(source, 2, 3)[middle].cpu(), atol=tolerance.rounding)
    assert torch.equal(moved[..., :8], source[..., :8])
    assert torch.equal(moved[..., :8, :], source[..., :8, :])


@pytest.mark.parametrize("slope", [-0.3, 0.1, 0.4])
def test_a_tilted_plane_throws_back_what_lambert_says(slope, device, dtype):
    # height rises to the right; the light comes from the right, so a rising plane faces away from it
    across = torch.arange(SIDE, dtype=dtype, device=device).expand(1, SIDE, SIDE)
    source = flat(dtype, device, 0.1)  # dark: a hollow's own light is next to nothing
    found = draw(source, relief_of(dtype, device, height=slope * across), light=(0.0, 1.0)).image
    normal = np.array([-slope, 1.0]) / math.hypot(slope, 1.0)
    cosine = normal @ np.array([math.cos(ELEVATION), math.sin(ELEVATION)])
    expected = max(cosine / math.sin(ELEVATION), 0) * 0.1**2.2
    middle = (found[0, 0, 16:-16, 16:-16].cpu().double().numpy()) ** 2.2
    assert_allclose(middle.mean(), expected, rtol=0.06)


@pytest.mark.parametrize("towards", TOWARDS)
@pytest.mark.parametrize("name", ["depth", "height"])
def test_a_hollow_is_bright_on_the_far_wall_and_a_bump_on_the_near_one(name, towards, device, dtype):
    source = flat(dtype, device)
    found = draw(source, relief_of(dtype, device, height=(1 if name == "height" else -1) * hump(dtype, device)),
                 light=towards).image[0, 0]  # fmt: skip
    near = (32 + round(6 * towards[0]), 32 + round(6 * towards[1]))
    far = (32 - round(6 * towards[0]), 32 - round(6 * towards[1]))
    bright, dark = (near, far) if name == "height" else (far, near)
    assert found[bright] > 0.53
    assert found[dark] < 0.47


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_light_and_surface_turned_together_turn_the_picture(quarter, device, dtype, tolerance):
    how = {"dtype": dtype, "device": device}
    source = 0.2 + 0.6 * torch.rand((1, 1, SIDE, SIDE), **how)
    given = {
        "depth": hump(**how, y=26.0, x=36.0),
        "height": hump(**how, y=40.0, x=22.0, peak=2.0),
        "product": hump(**how, y=30.0, x=44.0, peak=1.0),
    }
    grain, look = torch.rand((1, SIDE, SIDE), **how), look_of(gloss=0.4, **how)
    upright = draw(source, relief_of(**how, **given), light=(-0.6, 0.8), look=look, grain=grain).image
    light = (-0.6, 0.8)
    for _ in range(quarter):
        light = (-light[1], light[0])
    turned = {name: torch.rot90(values, quarter, (1, 2)) for name, values in given.items()}
    grain = torch.rot90(grain, quarter, (1, 2))
    turned_source = torch.rot90(source, quarter, (2, 3))
    found = draw(turned_source, relief_of(**how, **turned), light=light, look=look, grain=grain).image
    assert_allclose(found.cpu(), torch.rot90(upright, quarter, (2, 3)).cpu(), atol=30 * tolerance.rounding)


def test_deeper_pits_are_darker_inside(device, dtype):
    source = flat(dtype, device)
    middles = [
        float(
            draw(source, relief_of(dtype, device, depth=hump(dtype, device, radius=5.0, peak=peak)))
            .image[0, 0, 31:33, 31:33]
            .mean()
        )
        for peak in (1.0, 3.0, 6.0, 12.0)
    ]
    assert np.all(np.diff(middles) < 0)


def test_thick_product_shows_its_own_colour(device, dtype):
    colour = (0.30, 0.13, 0.06)
    how = {"dtype": dtype, "device": device}
    product = torch.full((1, SIDE, SIDE), 20.0, **how)  # level, so that no shading comes in
    look = look_of(product=colour, **how)
    source = torch.rand((1, 3, SIDE, SIDE), **how) * 0.5 + 0.3
    found = draw(source, relief_of(**how, product=product), look=look)
    # the brightest of the part, 0.9, stands for the reflectance 0.7
    expected = 0.9 * (np.array(colour) / 0.7) ** (1 / 2.2)
    assert_allclose(found.image[0, :, 32, 32].cpu(), expected, rtol=0.02)
    assert_allclose(found.coverage.cpu(), 1, atol=1e-3)


def test_nothing_is_drawn_off_the_part(device, dtype):
    source = torch.rand((1, 1, SIDE, SIDE), dtype=dtype, device=device)
    part = torch.zeros((1, SIDE, SIDE), dtype=torch.bool, device=device)
    part[:, :, :32] = True
    found = draw(source, relief_of(dtype, device, depth=hump(dtype, device)), part=part)
    assert_array_equal(found.image[..., 32:].cpu(), source[..., 32:].cpu())
    assert not found.coverage[..., 32:].any()
    assert (found.image[..., :32] != source[..., :32]).any()


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("sign", [1, -1])
def test_extreme_surfaces_stay_pictures(name, sign, device):
    how = {"dtype": torch.float32, "device": device}
    if name in ("depth", "product") and sign < 0:
        sign = 1
    steep = sign * hump(**how, radius=6.0, peak=100.0)  # slopes beyond 10
    for value in (0.0, 0.5, 1.0):
        found = draw(flat(**how, value=value), relief_of(**how, **{name: steep}), look=look_of(gloss=1.0, **how))
        assert torch.isfinite(found.image).all()
        assert ((found.image >= 0) & (found.image <= 1)).all()
        assert ((found.coverage >= 0) & (found.coverage <= 1)).all()


CONFIG = {"npcf": NpcfConfig(), "npcfpp": NpcfppConfig(), "label": LabelConfig()}
LABEL = LabelConfig()


def surfaces(rng, side, channels) -> DefectInputs:
    """Five samples: a pit with product, a dent, a warp, nothing at all, and a pit off the part in part."""
    batch = 5
    y, x = np.mgrid[:side, :side] + 0.5

    def lump(radius, peak, shift=0.0):
        return peak * np.exp(-((y - side / 2 - shift) ** 2 + (x - side / 2 + shift) ** 2) / radius**2)

    given = {name: np.zeros((batch, side, side), np.float32) for name in FIELDS}
    given["depth"][0], given["product"][0] = lump(4, 5), lump(5, 0.6, 3.0)
    given["height"][1] = -lump(7, 4)
    given["displacement_y"][2], given["displacement_x"][2] = lump(6, 2), lump(6, -3)
    given["height"][2] = lump(6, 2)
    given["depth"][4] = lump(6, 6)
    part = np.ones((batch, side, side), bool)
    part[4, :, side // 2 :] = False
    light = rng.standard_normal((batch, 2))
    return DefectInputs(
        source=rng.integers(90, 170, (batch, side, side, channels)).astype(np.uint8),
        foreground=part,
        grain=rng.standard_normal((batch, side, side)).astype(np.float32),
        noise=rng.standard_normal((batch, 3, side, side)).astype(np.float32),
        optics=OpticsArrays(
            light=(light / np.linalg.norm(light, axis=1, keepdims=True)).astype(np.float32),
            directional=rng.uniform(0, 1, batch).astype(np.float32),
            gloss=rng.uniform(0, 1, batch).astype(np.float32),
            noise=rng.uniform(0, 0.02, batch).astype(np.float32),
            blur_px=rng.uniform(0.4, 1.2, batch).astype(np.float32),
            brightest=np.full((batch, channels), 0.8, np.float32),
        ),
        relief=ReliefArrays(
            fields=given,
            gloss=np.full(batch, 0.2, np.float32),
            gloss_exponent=np.full(batch, 20, np.float32),
            pit_floor=np.full(batch, 0.7, np.float32),
            product=rng.uniform(0.05, 0.3, (batch, channels)).astype(np.float32),
        ),
    )


def chosen(inputs: DefectInputs, order: list[int]) -> DefectInputs:
    optics = replace(inputs.optics, **{f.name: getattr(inputs.optics, f.name)[order] for f in fields(OpticsArrays)})
    relief = inputs.relief
    relief = ReliefArrays(
        fields={name: values[order] for name, values in relief.fields.items()},
        gloss=relief.gloss[order],
        gloss_exponent=relief.gloss_exponent[order],
        pit_floor=relief.pit_floor[order],
        product=relief.product[order],
    )
    own = {name: getattr(inputs, name)[order] for name in ("source", "foreground", "grain", "noise")}
    return DefectInputs(**own, optics=optics, relief=relief)


@pytest.mark.parametrize("side", [48, 51, 64, 96])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_changed_surface_is_the_same_in_any_batch(side, channels, rng):
    inputs = surfaces(rng, side, channels)
    whole = refine_defects(inputs, **CONFIG)
    for order in ([0], [1], [2], [4], [4, 1], [2, 0, 4], [3, 3, 1, 0, 2, 4, 0]):
        part = refine_defects(chosen(inputs, order), **CONFIG)
        for place, k in enumerate(order):
            for name in ("image", "mask", "contrast", "residual", "cycles"):
                assert_array_equal(getattr(part, name)[place], getattr(whole, name)[k], err_msg=f"{name} of {k}")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_changed_surface_is_seen_solved_labelled_and_kept_within_bounds(channels, rng, device):
    inputs = surfaces(rng, 96, channels)
    found = refine_defects(inputs, **CONFIG, device=str(device))
    assert np.all(found.residual <= 1e-3)
    assert found.mask[[0, 1, 2, 4]].any(axis=(1, 2)).all()
    assert_array_equal(found.image[3], inputs.source[3])  # no field, no change, bit for bit
    assert not found.mask[3].any()
    assert_array_equal(found.image[~inputs.foreground], inputs.source[~inputs.foreground])
    assert_array_equal(found.image[:, :8], inputs.source[:, :8])
    assert_array_equal(found.image[:, :, -8:], inputs.source[:, :, -8:])
    change = np.abs(found.image.astype(int) - inputs.source).max(axis=-1) >= LABEL.visible_threshold
    assert not np.any(change & ~found.mask)
