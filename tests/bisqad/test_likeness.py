"""Sets of photographs that are alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bisqad.cells import NormalCells, NormalPicture, eight_bit_colour, normal_cells
from bisqad.config import TrainConfig
from bisqad.features import FeatureExtractor
from bisqad.likeness import alike
from manifests import Corpus


@pytest.fixture(scope="module")
def twins(
    corpus_path: Path, quick: TrainConfig, small_extractor: FeatureExtractor, tmp_path_factory: pytest.TempPathFactory
) -> NormalCells:
    """14 photographs, the same ones brighter, and the same ones shifted by 2 pixels; all of one category."""
    sources = {s.record.source_sha256: eight_bit_colour(s.source) for s in Corpus(corpus_path)}
    plain = [sources[name] for name in sorted(sources)[:14]]
    brighter = [np.clip(image.astype(np.int16) + 6, 0, 255).astype(np.uint8) for image in plain]
    shifted = [np.roll(image, 2, axis=1) for image in plain]
    pictures = [
        NormalPicture(str(number), "a/b", lambda image=image: image)
        for number, image in enumerate([*plain, *brighter, *shifted])
    ]
    cells = quick.model_copy(update={"cells": quick.cells.model_copy(update={"normal": 512})})
    return normal_cells(pictures, cells, small_extractor, cache=tmp_path_factory.mktemp("twins"))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_brighter_or_a_shifted_copy_falls_into_the_set_of_its_photograph(
    twins: NormalCells, small_extractor: FeatureExtractor, seed: int
) -> None:
    found = alike(twins, small_extractor.block_channels[-1], seed=seed).reshape(3, 14)
    together = float(np.mean(found[1:] == found[:1]))
    apart = float(np.mean(found[0][:, None] == found[0][None]))
    assert together > 0.8, found
    assert apart < 0.5, found


def test_labels_follow_from_the_seed(twins: NormalCells, small_extractor: FeatureExtractor) -> None:
    channels = small_extractor.block_channels[-1]
    assert_array_equal(alike(twins, channels, seed=4), alike(twins, channels, seed=4))


def test_a_category_of_one_photograph_or_of_equal_ones_is_one_set(twins: NormalCells) -> None:
    equal = NormalCells(twins.features[[0, 0, 0, 1]], np.array(["a", "a", "a", "b"]), ("1", "2", "3", "4"))
    assert_array_equal(alike(equal, 112, seed=0), [0, 0, 0, 0])


def test_categories_are_sorted_apart_from_each_other(twins: NormalCells) -> None:
    keys = np.array(["a", "b"] * 21)
    both = alike(NormalCells(twins.features, keys, twins.names), 112, seed=0)
    alone = alike(twins.take(keys == "a"), 112, seed=0)
    assert_array_equal(both[keys == "a"], alone)
