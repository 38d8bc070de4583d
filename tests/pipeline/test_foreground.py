"""The foreground against synthetic ground truth, textures, the user's masks, padding and real photographs."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage as ndi
from skimage import data

from pipeline.foreground import Foreground, estimate_foreground

Colour = tuple[float, ...]
ScalarT = TypeVar("ScalarT", bound=np.generic)


def _shape(rng: np.random.Generator, side: int, *, centre: tuple[float, float] | None = None) -> NDArray[np.bool_]:
    """A random star-shaped part; lengths in half sides."""
    cy, cx = rng.uniform(-0.15, 0.15, 2) if centre is None else centre
    axis = np.linspace(-1, 1, side)
    y, x = axis[:, None] - cy, axis[None, :] - cx
    angle = np.arctan2(y, x)
    radius = np.full_like(angle, rng.uniform(0.36, 0.7))
    for k in range(2, 6):
        radius += rng.normal(0, 0.12 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    return np.hypot(y, x) < radius


def _photograph(
    rng: np.random.Generator,
    part: NDArray[np.bool_],
    background: Colour,
    colour: Colour,
    *,
    noise: float = 4.0,
    gradient: float = 20.0,
) -> NDArray[np.uint8]:
    """Part before a plain background, with grain, sensor noise and uneven light; (S, S, C)."""
    side = len(part)
    grain = ndi.gaussian_filter(rng.normal(size=(side, side)), max(1.0, side / 60))
    surface = np.array(colour) + 8 * (grain / grain.std())[..., None]
    cover = ndi.gaussian_filter(part.astype(float), 0.6)[..., None]
    axis, turn = np.linspace(-1, 1, side), rng.uniform(0, 2 * np.pi)
    light = gradient * (np.cos(turn) * axis[:, None] + np.sin(turn) * axis[None, :])[..., None]
    clean = np.array(background) * (1 - cover) + surface * cover + light
    return np.asarray((clean + rng.normal(0, noise, clean.shape)).clip(0, 255).round(), dtype=np.uint8)


def _category(
    rng: np.random.Generator, count: int, side: int, background: Colour, colour: Colour, **options: float
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    parts = [_shape(rng, side) for _ in range(count)]
    return np.stack([_photograph(rng, part, background, colour, **options) for part in parts]), np.stack(parts)


def _estimate(images: NDArray[np.uint8], mode: str = "auto", margin_px: int = 0, **options: object) -> Foreground:
    arguments = {"valid": np.ones(images.shape[:3], dtype=np.bool_), "user_masks": (), **options}
    return estimate_foreground(images, mode=mode, margin_px=margin_px, **arguments)  # type: ignore[arg-type]


def _overlap(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray((found & truth).sum(axis=(1, 2)) / (found | truth).sum(axis=(1, 2)))


def _spill(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Background called part / part."""
    return np.asarray((found & ~truth).sum(axis=(1, 2)) / truth.sum(axis=(1, 2)))


SCENES = {
    "light on dark": ((60.0,), (170.0,), {}),
    "dark on light": ((210.0,), (90.0,), {}),
    "colour": ((40.0, 44.0, 50.0), (190.0, 150.0, 90.0), {}),
    "same brightness, other colour": ((120.0, 120.0, 120.0), (160.0, 110.0, 90.0), {}),
    "strong gradient of light": ((100.0,), (200.0,), {"gradient": 50.0}),
    "noisy": ((80.0, 80.0, 80.0), (150.0, 140.0, 130.0), {"noise": 12.0}),
    "little contrast": ((120.0,), (150.0,), {"gradient": 10.0}),
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize(("count", "side"), [(6, 128), (6, 32), (1, 256), (1, 64)])
def test_parts_before_a_plain_background_are_found(rng: np.random.Generator, scene: str, count: int, side: int) -> None:
    background, colour, options = SCENES[scene]
    images, parts = _category(rng, count, side, background, colour, **options)
    found = _estimate(images)
    assert found.mode == "object", found.evidence
    assert _overlap(found.masks, parts).mean() >= 0.9
    assert _spill(found.masks, parts).max() <= 0.06


def test_margin_keeps_the_mask_inside_the_part(rng: np.random.Generator) -> None:
    images, parts = _category(rng, 4, 128, (60.0,), (170.0,))
    assert not (_estimate(images, margin_px=2).masks & ~parts).any()


def test_picture_larger_than_the_working_size_is_cut_as_finely(rng: np.random.Generator) -> None:
    images, parts = _category(rng, 1, 640, (60.0,), (170.0,))
    found = _estimate(images)
    assert found.masks.shape == parts.shape
    assert _overlap(found.masks, parts)[0] >= 0.97


def test_part_that_runs_out_of_the_picture_is_found(rng: np.random.Generator) -> None:
    centres = [(-0.6, 0.0), (0.55, 0.1), (0.0, 0.6), (0.5, -0.5)]
    parts = np.stack([_shape(rng, 128, centre=centre) for centre in centres])
    assert (parts[:, [0, -1]].any(axis=(1, 2)) | parts[:, :, [0, -1]].any(axis=(1, 2))).sum() >= 3
    images = np.stack([_photograph(rng, part, (200.0,), (80.0,)) for part in parts])
    found = _estimate(images)
    assert found.mode == "object", found.evidence
    assert _overlap(found.masks, parts).min() >= 0.9


def test_part_mostly_outside_the_picture_is_found_where_the_recipe_says_object(rng: np.random.Generator) -> None:
    centres = [(-0.75, 0.0), (0.7, 0.1), (0.0, 0.75), (0.6, -0.6)]
    parts = np.stack([_shape(rng, 128, centre=centre) for centre in centres])
    images = np.stack([_photograph(rng, part, (200.0,), (80.0,)) for part in parts])
    assert _overlap(_estimate(images, "object").masks, parts).min() >= 0.9


def test_strip_across_the_picture_is_found(rng: np.random.Generator) -> None:
    part = np.zeros((128, 128), dtype=np.bool_)
    part[:, 45:85] = True
    images = np.stack([_photograph(rng, part, (220.0, 220.0, 220.0), (60.0, 70.0, 90.0)) for _ in range(3)])
    found = _estimate(images)
    assert found.mode == "object", found.evidence
    assert _overlap(found.masks, np.stack([part] * 3)).min() >= 0.95


def test_one_picture_with_most_of_its_border_covered_takes_the_background_of_the_others(
    rng: np.random.Generator,
) -> None:
    parts = np.stack([_shape(rng, 96) for _ in range(7)])
    parts[3] = True
    parts[3, :, :24] = False
    images = np.stack([_photograph(rng, part, (60.0,), (170.0,), gradient=5) for part in parts])
    found = _estimate(images)
    assert _overlap(found.masks, parts)[3] >= 0.9


def test_hole_that_shows_the_background_is_no_part(rng: np.random.Generator) -> None:
    axis = np.linspace(-1, 1, 128)
    radius = np.hypot(axis[:, None], axis[None, :])
    ring = (radius < 0.75) & (radius > 0.35)
    images = np.stack([_photograph(rng, ring, (50.0,), (150.0,)) for _ in range(2)])
    found = _estimate(images)
    assert _overlap(found.masks, np.stack([ring] * 2)).min() >= 0.95


def test_small_mark_of_the_background_colour_inside_the_part_is_part(rng: np.random.Generator) -> None:
    part = np.zeros((128, 128), dtype=np.bool_)
    part[30:100, 30:100] = True
    seen = part.copy()
    seen[60:65, 60:65] = False
    found = _estimate(_photograph(rng, seen, (50.0,), (150.0,))[None])
    assert found.masks[0, 62, 62]


def test_crumbs_beside_the_part_are_background(rng: np.random.Generator) -> None:
    part = _shape(rng, 128, centre=(0.0, 0.0))
    seen = part.copy()
    seen[5:8, 5:8] = True
    found = _estimate(_photograph(rng, seen, (50.0,), (150.0,))[None])
    assert not found.masks[0, :12, :12].any()


@pytest.mark.parametrize("name", ["brick", "gravel", "grass"])
@pytest.mark.parametrize("side", [256, 64, 32])
def test_photographed_texture_is_part_everywhere(name: str, side: int) -> None:
    picture = Image.fromarray(getattr(data, name)()).resize((side, side), Image.Resampling.LANCZOS)
    found = _estimate(np.asarray(picture)[None, ..., None], margin_px=2)
    assert found.mode == "texture", found.evidence
    assert found.masks.all()
    assert "whole picture" in found.evidence


def test_uniform_and_noisy_and_shaded_surfaces_are_part_everywhere(rng: np.random.Generator) -> None:
    axis = np.linspace(-1, 1, 96)
    vignette = 160 - 60 * (axis[:, None] ** 2 + axis[None, :] ** 2)
    noise = rng.normal(128, 20, (96, 96))
    for surface in (np.full((96, 96), 128.0), noise, vignette + rng.normal(0, 4, (96, 96))):
        found = _estimate(surface.clip(0, 255).astype(np.uint8)[None, ..., None], margin_px=3)
        assert found.mode == "texture", found.evidence
        assert found.masks.all()


def test_texture_mode_overrides_the_evidence(rng: np.random.Generator) -> None:
    images, _ = _category(rng, 2, 64, (60.0,), (170.0,))
    found = _estimate(images, "texture", margin_px=4)
    assert found.mode == "texture"
    assert found.masks.all()


def test_object_mode_overrides_the_evidence(rng: np.random.Generator) -> None:
    plain = rng.normal(90, 3, (5, 64, 64, 1))
    part = _shape(rng, 64, centre=(0.0, 0.0))
    plain[0, part] += 80  # one picture of five shows a part: the evidence says texture
    images = plain.clip(0, 255).astype(np.uint8)
    assert _estimate(images).mode == "texture"
    forced = _estimate(images, "object")
    assert forced.mode == "object"
    assert _overlap(forced.masks[:1], part[None])[0] >= 0.9
    assert "set in the recipe" in forced.evidence


def test_object_mode_without_any_part_falls_back_on_the_whole_picture_and_says_so() -> None:
    images = np.full((2, 48, 48, 1), 128, dtype=np.uint8)
    found = _estimate(images, "object", margin_px=2)
    assert found.masks.all()
    assert "no part found on 2" in found.evidence


def test_picture_without_its_part_takes_what_the_others_agree_on(rng: np.random.Generator) -> None:
    part = _shape(rng, 96, centre=(0.0, 0.0))
    images = np.stack([_photograph(rng, part, (60.0,), (170.0,)) for _ in range(5)])
    images[2] = 60
    found = _estimate(images)
    assert found.mode == "object", found.evidence
    assert _overlap(found.masks[2:3], part[None])[0] >= 0.9
    assert "no part found on 1" in found.evidence


@pytest.mark.parametrize("mode", ["masks", "auto"])
def test_masks_of_the_user_are_taken(rng: np.random.Generator, mode: str) -> None:
    images, _ = _category(rng, 2, 64, (60.0,), (170.0,))
    masks = np.zeros((2, 64, 64), dtype=np.bool_)
    masks[:, 10:30, 5:50] = True
    found = _estimate(images, mode, user_masks=list(masks))
    assert found.mode == "masks"
    np.testing.assert_array_equal(found.masks, masks)
    assert "2 of 2" in found.evidence


@pytest.mark.parametrize("missing", [None, np.zeros((64, 64), dtype=np.bool_)], ids=["none", "empty"])
def test_picture_without_a_mask_takes_the_automatic_result_and_says_so(
    rng: np.random.Generator, missing: NDArray[np.bool_] | None
) -> None:
    images, parts = _category(rng, 4, 64, (60.0,), (170.0,))
    given = np.zeros((64, 64), dtype=np.bool_)
    given[20:40, 20:40] = True
    found = _estimate(images, "masks", user_masks=[given, missing, given, given])
    assert found.mode == "masks"
    np.testing.assert_array_equal(found.masks[0], given)
    assert _overlap(found.masks[1:2], parts[1:2])[0] >= 0.9
    assert "3 of 4" in found.evidence
    assert "1 without" in found.evidence


def test_masks_asked_for_but_none_given_is_said(rng: np.random.Generator) -> None:
    images, _ = _category(rng, 2, 64, (60.0,), (170.0,))
    found = _estimate(images, "masks", user_masks=[None, None])
    assert found.mode == "object"
    assert "no picture has one" in found.evidence


@pytest.mark.parametrize("mode", ["auto", "object", "texture", "masks"])
@pytest.mark.parametrize("fill", [0, 255])
def test_padding_is_never_part(rng: np.random.Generator, mode: str, fill: int) -> None:
    images, parts = _category(rng, 3, 96, (90.0, 100.0, 90.0), (190.0, 150.0, 90.0))
    valid = np.zeros(parts.shape, dtype=np.bool_)
    valid[:, 14:-14] = True
    images[~valid] = fill
    found = _estimate(images, mode, valid=valid, user_masks=list(np.ones_like(valid)) if mode == "masks" else ())
    assert not (found.masks & ~valid).any()
    if mode in ("auto", "object"):
        assert found.mode == "object", found.evidence
        assert _overlap(found.masks, parts & valid).min() >= 0.9


def test_margin_is_a_distance_from_the_outline_and_not_from_the_picture_border() -> None:
    mask = np.zeros((40, 40), dtype=np.bool_)
    mask[:20] = True
    images = np.zeros((1, 40, 40, 1), dtype=np.uint8)
    found = _estimate(images, "masks", margin_px=3, user_masks=[mask]).masks[0]
    expected = np.zeros_like(mask)
    expected[:17] = True
    np.testing.assert_array_equal(found, expected)


def test_margin_does_not_erode_along_padding() -> None:
    valid = np.zeros((1, 40, 40), dtype=np.bool_)
    valid[:, 8:-8] = True
    images = np.zeros((1, 40, 40, 1), dtype=np.uint8)
    np.testing.assert_array_equal(_estimate(images, "texture", margin_px=3, valid=valid).masks, valid)


def test_part_thinner_than_the_margin_is_kept_without_it() -> None:
    mask = np.zeros((40, 40), dtype=np.bool_)
    mask[10:13] = True
    images = np.zeros((1, 40, 40, 1), dtype=np.uint8)
    found = _estimate(images, "masks", margin_px=5, user_masks=[mask])
    np.testing.assert_array_equal(found.masks[0], mask)
    assert "thinner than the margin" in found.evidence


def test_same_input_gives_the_same_masks(rng: np.random.Generator) -> None:
    images, _ = _category(rng, 3, 64, (60.0, 60.0, 60.0), (170.0, 120.0, 90.0))
    first, second = _estimate(images), _estimate(images)
    np.testing.assert_array_equal(first.masks, second.masks)
    assert first.evidence == second.evidence


def test_masks_follow_the_order_of_the_pictures(rng: np.random.Generator) -> None:
    images, _ = _category(rng, 6, 64, (60.0, 60.0, 60.0), (170.0, 120.0, 90.0))
    order = rng.permutation(6)
    turned, straight = _estimate(images[order]).masks, _estimate(images).masks[order]
    assert _overlap(turned, straight).min() >= 0.99


@pytest.mark.parametrize("turn", range(8))
def test_masks_turn_and_flip_with_the_pictures(rng: np.random.Generator, turn: int) -> None:
    def act(stack: NDArray[ScalarT]) -> NDArray[ScalarT]:
        turned = np.rot90(stack, turn % 4, axes=(1, 2))
        return np.ascontiguousarray(turned[:, :, ::-1] if turn >= 4 else turned)

    images, _ = _category(rng, 3, 64, (60.0,), (170.0,))
    assert _overlap(_estimate(act(images)).masks, act(_estimate(images).masks)).min() >= 0.99


def test_category_larger_than_its_sample_is_cut_on_every_picture(rng: np.random.Generator) -> None:
    images, parts = _category(rng, 70, 32, (60.0,), (170.0,))
    found = _estimate(images)
    assert found.mode == "object", found.evidence
    assert _overlap(found.masks, parts).mean() >= 0.9


@pytest.mark.parametrize(
    "change",
    [
        {"images": np.zeros((2, 32, 32), dtype=np.uint8)},
        {"images": np.zeros((2, 32, 32, 4), dtype=np.uint8)},
        {"images": np.zeros((0, 32, 32, 1), dtype=np.uint8)},
        {"valid": np.ones((2, 32, 31), dtype=np.bool_)},
        {"valid": np.zeros((2, 32, 32), dtype=np.bool_)},
        {"user_masks": [None]},
        {"user_masks": [None, np.ones((8, 8), dtype=np.bool_)]},
    ],
)
def test_shapes_that_do_not_agree_are_refused(change: dict[str, object]) -> None:
    whole: dict[str, object] = {
        "images": np.zeros((2, 32, 32, 1), dtype=np.uint8),
        "valid": np.ones((2, 32, 32), dtype=np.bool_),
        "user_masks": (),
    }
    with pytest.raises(ValueError, match=r"images|valid|user_masks"):
        estimate_foreground(**{**whole, **change}, mode="auto", margin_px=0)  # type: ignore[arg-type]


def _photographs(folder: Path, *, side: int, every: int = 1, grey: bool = False) -> NDArray[np.uint8]:
    """Normal training photographs, cropped to the middle square and reduced."""
    pictures = []
    for path in sorted((folder / "train" / "good").iterdir())[::every]:
        with Image.open(path) as opened:
            turned = ImageOps.exif_transpose(opened).convert("L" if grey else "RGB")
        fitted = ImageOps.fit(turned, (side, side), Image.Resampling.LANCZOS)
        pictures.append(np.asarray(fitted).reshape(side, side, -1))
    return np.stack(pictures)


@pytest.mark.parametrize("side", [256, 64])
def test_real_cookies_on_a_tray_are_objects(real_photographs: Path, side: int) -> None:
    found = _estimate(_photographs(real_photographs / "cookies", side=side), margin_px=2)
    shares = found.masks.mean(axis=(1, 2))
    assert found.mode == "object", found.evidence
    assert shares.min() > 0.25
    assert shares.max() < 0.5
    assert found.masks[:, side // 2, side // 2].all()
    assert not found.masks[:, [0, -1]].any()


@pytest.mark.parametrize("grey", [False, True])
def test_real_bottles_are_objects(real_photographs: Path, grey: bool) -> None:
    images = _photographs(real_photographs / "mvtec_bottle_256", side=256, every=8, grey=grey)
    found = _estimate(images, margin_px=2)
    assert found.mode == "object", found.evidence
    # a disc of 230 pixels across, by ruler: 0.63 of the picture
    np.testing.assert_allclose(found.masks.mean(axis=(1, 2)), 0.61, atol=0.03)
    assert found.masks[:, 128, 128].all()
    assert not found.masks[:, :6, :6].any()


@pytest.mark.parametrize("side", [256, 64])
def test_real_magnetic_tiles_are_part_everywhere(real_photographs: Path, side: int) -> None:
    found = _estimate(_photographs(real_photographs / "mtd", side=side, every=6, grey=True), margin_px=2)
    assert found.mode == "texture", found.evidence
    assert found.masks.all()
