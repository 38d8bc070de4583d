"""The detector and its file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bisqad.cells import eight_bit_colour
from bisqad.config import TrainConfig
from bisqad.detector import Detector
from bisqad.run import DETECTOR, train
from manifests import Corpus
from manifests.errors import ConfigError


@pytest.fixture(scope="module")
def stored(run_path: Path) -> Path:
    return run_path / DETECTOR


@pytest.fixture(scope="module")
def detector(stored: Path) -> Detector:
    return Detector.load(stored)


def known(detector: Detector, *keys: str) -> Detector:
    memory = next(iter(detector.normality.memory.values()))
    return replace(detector, normality=replace(detector.normality, memory=dict.fromkeys(keys, memory)))


def test_a_detector_that_was_stored_and_read_scores_the_same(
    detector: Detector, stored: Path, brick_path: Path, tmp_path: Path
) -> None:
    detector.save(tmp_path / "again.safetensors")
    again = Detector.load(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == stored.read_bytes()
    for sample in Corpus(brick_path)[:2]:
        pixels = eight_bit_colour(sample.image)
        first, second = detector.inspect(pixels), again.inspect(pixels)
        assert_array_equal(first.score_map, second.score_map)
        assert (first.score, first.anomalous) == (second.score, second.anomalous)


def test_the_detector_that_train_gives_scores_as_its_file_does(
    brick_path: Path, quick: TrainConfig, feature_cache: Path, run_path: Path
) -> None:
    made = train(brick_path, run_path, quick, cache=feature_cache)
    pixels = eight_bit_colour(Corpus(brick_path)[0].image)
    first, second = made.inspect(pixels), Detector.load(run_path / DETECTOR).inspect(pixels)
    assert_array_equal(first.score_map, second.score_map)
    assert first.score == second.score


@pytest.mark.parametrize("shape", [(128, 128), (90, 200), (257, 129), (3, 5)])
def test_a_photograph_of_any_size_gets_a_map_of_its_size(
    detector: Detector, rng: np.random.Generator, shape: tuple[int, int]
) -> None:
    found = detector.inspect(rng.integers(0, 255, (*shape, 3), dtype=np.uint8))
    assert found.score_map.shape == shape
    assert found.score_map.dtype == np.float32
    assert np.isfinite(found.score_map).all()
    assert found.anomalous == (found.score > detector.image_threshold)


def test_a_painted_patch_is_found_where_it_is(detector: Detector, brick_path: Path) -> None:
    image = eight_bit_colour(Corpus(brick_path)[0].source)
    plain = detector.inspect(image)
    image[40:60, 70:90] = (255, 0, 255)
    found = detector.inspect(image)
    assert found.score > plain.score
    assert found.anomalous
    y, x = np.unravel_index(int(np.argmax(found.score_map)), found.score_map.shape)
    assert 30 <= y < 70
    assert 60 <= x < 100


def test_the_only_category_serves_every_name(detector: Detector) -> None:
    assert detector.categories == ("builtin/brick",)
    for name in (None, "brick", "builtin/brick", "another"):
        assert detector.category_key(name) == "builtin/brick"


def test_of_several_categories_one_must_be_named(detector: Detector) -> None:
    several = known(detector, "mine/nut", "mine/bolt", "yours/nut")
    assert several.category_key("bolt") == "mine/bolt"
    assert several.category_key("yours/nut") == "yours/nut"
    for name in (None, "nut", "screw", "mine"):
        with pytest.raises(ConfigError, match="knows mine/nut, mine/bolt, yours/nut"):
            several.category_key(name)


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as told:
        Detector.load(path)
    text = str(told.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.safetensors")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_a_cut_file_is_refused(stored: Path, tmp_path: Path, kept: int) -> None:
    (tmp_path / "cut.safetensors").write_bytes(stored.read_bytes()[:kept])
    refused(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("about", [None, {"bisqad": "{}"}, {"bisqad": "[1]"}, {"bisqad": "no json"}])
def test_another_safetensors_file_is_refused(tmp_path: Path, about: dict[str, str] | None) -> None:
    save_file({"weights": torch.zeros(3)}, tmp_path / "other.safetensors", about)
    refused(tmp_path / "other.safetensors")


def changed(stored: Path, path: Path, *, without: str = "", about: dict[str, object] | None = None) -> Path:
    """The stored detector without a tensor, or with another header."""
    with safe_open(stored, framework="pt") as opened:
        header = json.loads(opened.metadata()["bisqad"])
    tensors = {name: value for name, value in load_file(stored).items() if name != without}
    save_file(tensors, path, {"bisqad": json.dumps({**header, **(about or {})})})
    return path


@pytest.mark.parametrize("without", ["head.mean", "head.output.weight", "memory.0", "scale"])
def test_a_file_without_one_of_its_tensors_is_refused(stored: Path, tmp_path: Path, without: str) -> None:
    refused(changed(stored, tmp_path / "part.safetensors", without=without))


@pytest.mark.parametrize(
    "about",
    [
        {"format": "bisqad-detector-0"},
        {"features": "v0 of another network"},
        {"thresholds": [1.0]},
        {"fusion": {}},
        {"config": {"size": "large"}},
        {"categories": ["a/b", "a/c"]},
    ],
)
def test_a_file_of_another_version_is_refused(stored: Path, tmp_path: Path, about: dict[str, object]) -> None:
    refused(changed(stored, tmp_path / "other.safetensors", about=about))
