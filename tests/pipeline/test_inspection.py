"""The picture of the inventory: bounded, complete, for colour and grey."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.inspection import InspectedCategory, draw_inspection

OUTLINE = (255, 0, 144)


@pytest.fixture
def category(rng: np.random.Generator) -> InspectedCategory:
    images = rng.integers(0, 256, (20, 48, 48, 3)).astype(np.uint8)
    masks = np.zeros((20, 48, 48), dtype=np.bool_)
    masks[:, 12:36, 12:36] = True
    return InspectedCategory(
        dataset="mvtec",
        category="nut",
        images=images,
        masks=masks,
        mode="object",
        evidence="object: 20 of 20 pictures look like a part",
        found=20,
    )


def _pixels(*categories: InspectedCategory) -> NDArray[np.uint8]:
    return np.asarray(draw_inspection(categories))


def _outlined(pixels: NDArray[np.uint8]) -> int:
    return int((pixels == OUTLINE).all(axis=-1).sum())


def test_every_thumbnail_has_its_outline(category: InspectedCategory) -> None:
    one = replace(category, images=category.images[:1], masks=category.masks[:1])
    none = replace(category, images=category.images[:0], masks=category.masks[:0])
    legend, single, all_of_20 = (_outlined(_pixels(c)) for c in (none, one, category))
    assert single > legend
    assert all_of_20 - legend == 12 * (single - legend)


def test_background_is_dimmed_and_the_part_is_not(category: InspectedCategory) -> None:
    strip = np.zeros((1, 48, 48), dtype=np.bool_)
    strip[..., 12:36] = True
    black = replace(category, images=np.zeros_like(category.images[:1]), masks=strip)
    pixels = _pixels(black)
    dimmed = (pixels == (136, 137, 142)).all(axis=-1).sum()
    assert dimmed == 128 * 64
    assert (pixels == 0).all(axis=-1).sum() == 124 * 60


def test_grey_pictures_are_drawn(category: InspectedCategory) -> None:
    grey = replace(category, images=category.images[..., :1])
    assert _pixels(grey).shape == _pixels(category).shape


def test_unusable_photographs_are_named_and_the_rest_counted(category: InspectedCategory) -> None:
    heights = [
        _pixels(replace(category, unusable=tuple((f"{i}.png", "empty: 0 bytes") for i in range(count)))).shape[0]
        for count in (0, 1, 3, 4, 400)
    ]
    assert heights[0] < heights[1] < heights[2] < heights[3] == heights[4]


def test_category_without_a_usable_photograph_is_drawn(category: InspectedCategory) -> None:
    empty = replace(
        category, images=category.images[:0], masks=category.masks[:0], unusable=(("a/b.png", "corrupt"),), found=1
    )
    assert _pixels(empty).shape[0] < _pixels(category).shape[0]


def test_long_texts_do_not_widen_the_picture(category: InspectedCategory) -> None:
    long = replace(
        category,
        category="c" * 400,
        evidence="word " * 400 + "x" * 900,
        unusable=(("p" * 900, "corrupt: " + "d" * 900),),
    )
    assert _pixels(long).shape[1] == _pixels(category).shape[1]


@pytest.mark.parametrize("count", [1, 8, 9, 200])
def test_height_is_bounded(category: InspectedCategory, count: int) -> None:
    few = replace(
        category,
        images=category.images[:2],
        masks=category.masks[:2],
        evidence="word " * 400,
        unusable=(("a.png", "empty"),) * 9,
    )
    height, width, _ = _pixels(*[few] * count).shape
    assert width == 1724
    assert height < 20_000
    assert height > min(count, 60) * 96


def test_same_input_gives_the_same_picture(category: InspectedCategory) -> None:
    np.testing.assert_array_equal(_pixels(category), _pixels(category))


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        draw_inspection([])


def test_masks_of_another_size_are_refused(category: InspectedCategory) -> None:
    with pytest.raises(ValueError, match="do not agree"):
        draw_inspection([replace(category, masks=category.masks[:, :40])])
