"""Features of pictures: grid, borders, batches, the working size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from bisqad.config import DetectorConfig
from bisqad.features import FeatureExtractor, mask_to_working_size, to_working_size, working_shape
from manifests.errors import ConfigError


def texture(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    coarse = rng.integers(40, 215, size=(height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((8, 8, 1), np.uint8))[:height, :width])


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 101), (7, 130), (1, 1)])
def test_every_size_has_a_cell_for_each_four_pixels_begun(
    small_extractor: FeatureExtractor, rng: np.random.Generator, height: int, width: int
) -> None:
    cells = small_extractor(texture(rng, height, width)[None])
    assert cells.shape == (1, small_extractor.channels, -(-height // 4), -(-width // 4))
    assert cells.dtype == torch.float32
    assert bool(torch.isfinite(cells).all())


def test_context_doubles_the_channels_and_none_leaves_those_of_the_blocks(rng: np.random.Generator) -> None:
    image = texture(rng, 64, 64)[None]
    plain, seen = (
        FeatureExtractor(DetectorConfig(blocks=(0, 4), enlarged_blocks=(), context_cells=side)) for side in (1, 3)
    )
    assert plain.block_channels == (16, 40)
    assert (plain.channels, seen.channels) == (56, 112)
    assert_array_equal(seen(image)[:, :56].numpy(), plain(image).numpy())


def test_the_enlarged_look_stands_first_and_sees_a_cell_where_it_is(rng: np.random.Generator) -> None:
    image = texture(rng, 64, 96)
    image[20:24, 40:44] = (image[20:24, 40:44].astype(int) + 100).astype(np.uint8)  # the cell in row 5, column 10
    config = DetectorConfig(blocks=(4,), enlarged_blocks=(2,), context_cells=1)
    extractor, plain = FeatureExtractor(config), FeatureExtractor(config.model_copy(update={"enlarged_blocks": ()}))
    after = extractor(image[None])[0].numpy()
    assert after.shape == (24 + 40, 16, 24)
    assert_array_equal(after[24:], plain(image[None])[0].numpy())
    without = image.copy()
    without[20:24, 40:44] = (without[20:24, 40:44].astype(int) - 100).astype(np.uint8)
    change = np.abs(after - extractor(without[None])[0].numpy())[:24].sum(axis=0)
    assert np.unravel_index(int(change.argmax()), change.shape) == (5, 10)


def test_context_is_the_mean_over_the_cells_around(rng: np.random.Generator) -> None:
    extractor = FeatureExtractor(DetectorConfig(blocks=(1,), enlarged_blocks=(), context_cells=3))
    cells = extractor(texture(rng, 96, 96)[None])[0].numpy()
    own, around = cells[:24], cells[24:]
    assert_allclose(around[:, 10, 7], own[:, 9:12, 6:9].mean(axis=(1, 2)), rtol=1e-4, atol=1e-5)


def test_fine_blocks_see_no_border() -> None:
    extractor = FeatureExtractor(DetectorConfig(blocks=(0, 2, 4), enlarged_blocks=(0, 2)))
    cells = extractor(np.full((1, 130, 97, 3), 90, np.uint8))[0].numpy()
    assert_allclose(cells, np.broadcast_to(cells[:, 12:13, 12:13], cells.shape), atol=1e-4)


@pytest.mark.parametrize("level", [20, 128, 240])
def test_a_constant_picture_has_the_same_features_at_its_border_as_inside(
    small_extractor: FeatureExtractor, level: int
) -> None:
    cells = small_extractor(np.full((1, 192, 192, 3), level, np.uint8))[0].numpy()
    # the deepest block sees farther than the margin, faintly: 4 % of its largest value
    assert_allclose(cells, np.broadcast_to(cells[:, 24:25, 24:25], cells.shape), atol=0.04 * float(cells.max()))


def test_a_picture_in_a_batch_has_the_features_it_has_alone(
    small_extractor: FeatureExtractor, rng: np.random.Generator
) -> None:
    images = np.stack([texture(rng, 72, 88) for _ in range(3)])
    together = small_extractor(images).numpy()
    for image, cells in zip(images, together, strict=True):
        assert_allclose(small_extractor(image[None])[0].numpy(), cells, rtol=1e-3, atol=1e-3)


def test_a_mirrored_picture_has_mirrored_fine_features_at_the_left_border(rng: np.random.Generator) -> None:
    # reflection continues a picture as its mirror image does: what lies beyond the border is the same for both
    extractor = FeatureExtractor(DetectorConfig(blocks=(0,), enlarged_blocks=(0,), context_cells=1))
    image = texture(rng, 64, 64)
    mirrored = np.concatenate([image[:, ::-1], image], axis=1)
    assert_allclose(
        extractor(image[None])[0, :, :, :8].numpy(), extractor(mirrored[None])[0, :, :, 16:24].numpy(), atol=1e-4
    )


def test_a_picture_that_may_not_be_written_to_is_read(small_extractor: FeatureExtractor) -> None:
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image.flags.writeable = False
    assert small_extractor(image).shape[2:] == (16, 16)


@pytest.mark.parametrize(
    ("fit", "shape", "wanted"),
    [
        ("crop", (300, 600, 3), (128, 256)),
        ("crop", (600, 300, 3), (256, 128)),
        ("pad", (300, 600, 3), (64, 128)),
        ("pad", (600, 300), (128, 64)),
        ("stretch", (300, 600, 3), (128, 128)),
        ("pad", (2, 1000), (4, 128)),
        ("crop", (128, 128), (128, 128)),
    ],
)
def test_working_shape_follows_the_way_the_corpus_fits_pictures(
    fit: str, shape: tuple[int, ...], wanted: tuple[int, int]
) -> None:
    config = DetectorConfig.model_validate({"size": 128, "fit": fit})
    assert working_shape(shape, config) == wanted
    assert to_working_size(np.zeros((*shape[:2], 3), np.uint8), config).shape == (*wanted, 3)
    assert mask_to_working_size(np.ones(shape[:2], np.uint8), config).shape == wanted


def test_a_resized_mask_covers_the_share_that_it_covered() -> None:
    mask = np.zeros((200, 200), np.uint8)
    mask[40:120, 60:160] = 255
    found = mask_to_working_size(mask, DetectorConfig(size=128, fit="crop"))
    assert found.dtype == np.bool_
    assert float(found.mean()) == pytest.approx(float((mask > 0).mean()), abs=0.01)


def test_a_crack_of_one_pixel_is_not_lost_where_the_picture_is_reduced() -> None:
    lost = []
    for row in range(100, 104):
        mask = np.zeros((512, 512), np.uint8)
        mask[row, 50:450] = 255
        if not mask_to_working_size(mask, DetectorConfig(size=256, fit="crop")).any():
            lost.append(row)
    assert not lost


def test_unknown_blocks_are_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"detector\.blocks.*0, 1, 2, 4, 7, 10, 14, got 3"):
        FeatureExtractor(DetectorConfig(blocks=(0, 3)))


def test_unknown_blocks_of_the_enlarged_look_are_refused_too() -> None:
    with pytest.raises(ConfigError, match=r"detector\.enlarged_blocks.*got 5"):
        FeatureExtractor(DetectorConfig(enlarged_blocks=(5,)))


def test_an_even_context_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"context_cells.*odd.*4"):
        FeatureExtractor(DetectorConfig(context_cells=4))


@pytest.mark.parametrize(
    "change",
    [{"size": 96}, {"fit": "pad"}, {"blocks": (0, 2)}, {"enlarged_blocks": ()}, {"context_cells": 3}],
)
def test_identity_changes_with_whatever_changes_features(
    small_extractor: FeatureExtractor, change: dict[str, object]
) -> None:
    other = DetectorConfig.model_validate({**small_extractor.config.model_dump(), **change})
    assert FeatureExtractor(other).identity != small_extractor.identity
