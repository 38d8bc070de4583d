"""The heat map: what is coloured, what is outlined, and that equal steps of the score look equally large."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from skimage.color import rgb2lab

from bisqad import heat_map
from bisqad.heat_map import COLOURS, overlay, side_by_side
from bisqad.inspection_set import find_photographs, read_image, read_mask

SIDE = 800  # large enough not to be enlarged


@pytest.fixture
def image(rng: np.random.Generator) -> NDArray[np.uint8]:
    return np.repeat(np.repeat(rng.integers(0, 256, (SIDE // 8, SIDE // 8, 3), dtype=np.uint8), 8, 0), 8, 1)


@pytest.fixture
def scores() -> NDArray[np.float64]:
    """0.1 outside, and a square that rises from 0.5 to 1.0 from left to right."""
    made = np.full((SIDE, SIDE), 0.1)
    made[200:400, 300:500] = np.linspace(0.5, 1.0, 200)
    return made


def pixels(picture: object) -> NDArray[np.int64]:
    return np.asarray(picture, dtype=np.int64)[:SIDE, :SIDE]


def coloured(array: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(np.ptp(array, axis=-1) > 0)


# --- colours ---


def test_lightness_rises_all_the_way() -> None:
    lightness = rgb2lab(COLOURS[None])[0, :, 0]
    assert (np.diff(lightness[::8]) > 0).all()
    assert lightness[-1] - lightness[0] > 55


def test_equal_steps_of_the_score_are_equal_steps_of_colour() -> None:
    steps = np.linalg.norm(np.diff(rgb2lab(COLOURS[None])[0, ::15], axis=0), axis=1)
    assert_allclose(steps, steps.mean(), rtol=0.12)  # 8 bits, and chords over the path's two corners


def test_table_is_the_documented_path_and_inside_srgb() -> None:
    points = np.array(heat_map._CONTROL_POINTS)
    assert_allclose(rgb2lab(COLOURS[None, [0, -1]])[0], points[[0, -1]], atol=1.5)
    distances = np.linalg.norm(rgb2lab(COLOURS[None])[0][:, None] - points, axis=-1).min(axis=0)
    assert distances.max() < 2


# --- what is drawn ---


def test_below_the_threshold_the_photograph_is_grey(image: NDArray[np.uint8], scores: NDArray[np.float64]) -> None:
    made = pixels(overlay(image, scores, threshold=0.4))
    outside = np.ones((SIDE, SIDE), np.bool_)
    outside[198:402, 298:502] = False
    assert not coloured(made)[outside].any()


def test_greyed_photograph_keeps_its_order_and_is_flattened(image: NDArray[np.uint8]) -> None:
    made = pixels(overlay(image, np.zeros((SIDE, SIDE)), threshold=1.0))[..., 0]
    expected = 30 + 175 / 255 * (image @ np.array([0.299, 0.587, 0.114]))
    assert_allclose(made, expected, atol=0.51)


def test_colour_rises_from_the_threshold_to_the_highest_score(scores: NDArray[np.float64]) -> None:
    black = np.zeros((SIDE, SIDE), np.uint8)
    row = pixels(overlay(black, scores, threshold=0.4))[300, 305:495]
    lightness = rgb2lab(row[None].astype(np.uint8))[0, :, 0]
    assert coloured(row).all()
    assert (np.diff(lightness[::5]) > 0).all()


def test_common_highest_score_makes_pictures_comparable(scores: NDArray[np.float64]) -> None:
    black = np.zeros((SIDE, SIDE), np.uint8)
    louder = scores.copy()
    louder[600:700, 100:200] = 3.0
    one, other = (pixels(overlay(black, s, threshold=0.4, highest=3.0)) for s in (scores, louder))
    assert_array_equal(one[200:400, 300:500], other[200:400, 300:500])
    own = pixels(overlay(black, scores, threshold=0.4))
    assert (own[300, 490] > one[300, 490]).any()


def test_outline_runs_inside_the_region_and_its_casing_outside(
    image: NDArray[np.uint8], scores: NDArray[np.float64]
) -> None:
    made = pixels(overlay(image, scores, threshold=0.4))
    assert_array_equal(made[200, 300:500], np.full((200, 3), 255))
    assert_array_equal(made[200:400, 300], np.full((200, 3), 255))
    assert_array_equal(made[199, 300:500], np.full((200, 3), 20))
    assert not (made[201:399, 301:499] == 255).all(axis=-1).any()


def test_marked_defect_has_an_outline_of_its_own_colour_around_it(
    image: NDArray[np.uint8], scores: NDArray[np.float64]
) -> None:
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[500:600, 100:200] = True
    made = pixels(overlay(image, scores, threshold=0.4, mask=mask))
    assert_array_equal(made[499, 100:200], np.tile([0, 225, 255], (100, 1)))
    assert not coloured(made[mask]).any()


def test_region_at_the_edge_of_the_picture_has_no_line_along_it() -> None:
    made = pixels(overlay(np.zeros((SIDE, SIDE), np.uint8), np.ones((SIDE, SIDE)), threshold=0.5))
    assert_array_equal(made, np.broadcast_to(made[0, 0], made.shape))
    assert coloured(made).all()


def test_nothing_above_the_threshold_is_drawn_without_colour(image: NDArray[np.uint8]) -> None:
    made = pixels(overlay(image, np.zeros((SIDE, SIDE)), threshold=0.5))
    assert not coloured(made).any()


def test_scores_equal_to_the_threshold_are_above_it() -> None:
    made = pixels(overlay(np.zeros((SIDE, SIDE), np.uint8), np.full((SIDE, SIDE), 0.5), threshold=0.5))
    assert coloured(made).all()


def test_bar_shows_every_colour_in_order(image: NDArray[np.uint8], scores: NDArray[np.float64]) -> None:
    strip = np.asarray(overlay(image, scores, threshold=0.4))[:, SIDE:]
    column = strip[:, 14].astype(int)
    rows = [int(np.abs(column - colour).sum(axis=1).argmin()) for colour in COLOURS[[0, 64, 128, 192, 255]].astype(int)]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] - rows[-1] > 0.8 * SIDE


# --- sizes ---


@pytest.mark.parametrize(
    ("shape", "factor"), [((100, 117), 6), ((320, 200), 2), ((639, 20), 2), ((640, 480), 1), ((1500, 900), 1)]
)
def test_small_pictures_are_enlarged_by_a_whole_number(shape: tuple[int, int], factor: int) -> None:
    made = overlay(np.zeros(shape, np.uint8), np.zeros(shape), threshold=0.5)
    assert made.height == max(shape[0] * factor, 160)
    assert made.width > shape[1] * factor
    assert made.mode == "RGB"


def test_strip_grows_with_the_photograph() -> None:
    shape = (300, 4000)
    assert overlay(np.zeros(shape, np.uint8), np.zeros(shape), threshold=0.5).size == (4000 + 4 * 92, 4 * 160)


def test_side_by_side_shows_the_photograph_untouched(image: NDArray[np.uint8], scores: NDArray[np.float64]) -> None:
    sheet = np.asarray(side_by_side(image, scores, threshold=0.4))
    assert_array_equal(sheet[:SIDE, :SIDE], image)
    assert_array_equal(sheet[:, SIDE + 8 :], np.asarray(overlay(image, scores, threshold=0.4)))


def test_real_photographs_of_every_shape_are_drawn(real_photographs: Path) -> None:
    for name in ("mtd", "cookies"):
        photograph = next(p for p in find_photographs(real_photographs / name, "test") if p.mask_path)
        image = read_image(photograph.path)
        assert photograph.mask_path is not None
        mask = read_mask(photograph.mask_path, image.shape[:2])
        sheet = side_by_side(image, mask.astype(np.float32), threshold=0.5, mask=mask)
        assert sheet.width > 2 * image.shape[1]


# --- what is refused ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((8, 8, 4), np.uint8)}, "photograph"),
        ({"image": np.zeros((8, 8, 3))}, "float64"),
        ({"score_map": np.zeros((8, 9))}, r"size \(8, 8\)"),
        ({"mask": np.zeros((9, 8), np.bool_)}, r"size \(8, 8\)"),
        ({"score_map": np.full((8, 8), math.nan)}, "NaN"),
        ({"threshold": math.inf}, "finite threshold"),
        ({"highest": math.nan}, "finite threshold"),
    ],
)
def test_arguments_that_cannot_be_drawn_are_refused(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "image": np.zeros((8, 8, 3), np.uint8),
        "score_map": np.zeros((8, 8)),
        "threshold": 0.5,
    }
    with pytest.raises(ValueError, match=message):
        overlay(**{**arguments, **change})  # type: ignore[arg-type]
