"""Small corpora, a trained run and a data set of photographs with defects, each made once a session."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bisqad import run
from bisqad.config import DetectorConfig, TrainConfig, read_train_config
from bisqad.features import FeatureExtractor
from manifests import Corpus

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
name: small
seed: 11
count: 72
size: 128
sources:
  - {kind: builtin, categories: [brick, gravel]}
mechanisms:
  fracture: {area: {kind: loguniform, low: 0.006, high: 0.02}}
  pitting: {area: {kind: loguniform, low: 0.006, high: 0.03}}
bank: {trajectories: 12, groups: 6}
label: {least_visibility: 0.5}
store: {stages: [paste, render, npcf], shard_images: 12}
"""
QUICK = """
detector: {size: 128, enlarged_blocks: [], memory_cells: 512, hidden: 16}
cells: {normal: 64}
optimiser: {epochs: 4, batch_samples: 16, batch_normals: 8}
fusion: {held_out_samples: 10, held_out_normals: 10}
"""


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs this Python on the given arguments, with the project on its path."""

    def start(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return start


Python = Callable[..., subprocess.CompletedProcess[str]]


def _generated(folder: Path, recipe: str, python: Python) -> Path:
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    done = python(
        "-m", "pipeline.cli", "generate", folder / "corpus", "--config", folder / "recipe.yaml", "--workers", "1"
    )
    assert done.returncode == 0, done.stderr
    return folder / "corpus"


@pytest.fixture(scope="session")
def corpus_path(tmp_path_factory: pytest.TempPathFactory, python: Python) -> Path:
    """72 samples of two categories, cracks and pits, with their stages."""
    return _generated(tmp_path_factory.mktemp("corpus"), RECIPE, python)


@pytest.fixture(scope="session")
def brick_path(tmp_path_factory: pytest.TempPathFactory, python: Python) -> Path:
    """48 samples of one category without stages."""
    recipe = RECIPE.replace("count: 72", "count: 48").replace("[brick, gravel]", "[brick]")
    without = recipe.replace("stages: [paste, render, npcf], ", "")
    return _generated(tmp_path_factory.mktemp("brick"), without, python)


@pytest.fixture(scope="session")
def inspection_root(brick_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus's own pictures as a data set in MVTec AD's layout: what a detector must find."""
    root = tmp_path_factory.mktemp("inspection") / "brick"
    corpus = Corpus(brick_path)
    seen: set[int] = set()
    for sample in corpus:
        kind = sample.record.mechanism
        _save(root / "test" / kind / f"{sample.record.id}.png", sample.image)
        _save(root / "ground_truth" / kind / f"{sample.record.id}_mask.png", sample.mask[..., None])
        if sample.record.source not in seen:
            seen.add(sample.record.source)
            split = "train" if len(seen) % 2 else "test"
            _save(root / split / "good" / f"{sample.record.source}.png", sample.source)
    return root


def _save(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.squeeze()).save(path)


@pytest.fixture(scope="session")
def quick_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings of `quick`, as a file."""
    path = tmp_path_factory.mktemp("settings") / "quick.yaml"
    path.write_text(QUICK, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def quick(quick_path: Path) -> TrainConfig:
    """Settings that take seconds."""
    return read_train_config(quick_path)


@pytest.fixture(scope="session")
def small_extractor() -> FeatureExtractor:
    """Features of pictures of 128 pixels."""
    return FeatureExtractor(DetectorConfig(size=128, fit="crop"))


@pytest.fixture(scope="session")
def feature_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features that several runs share."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="session")
def run_path(
    brick_path: Path, quick: TrainConfig, feature_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished run on the corpus of bricks, by method bilevel; not to be changed."""
    path = tmp_path_factory.mktemp("run") / "run"
    run.train(brick_path, path, quick, cache=feature_cache)
    return path
