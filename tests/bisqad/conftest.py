"""A small corpus that kept its stages, made once, and a data set of photographs with defects beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bisqad.config import TrainConfig
from manifests import Corpus

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


def _generated(folder: Path, recipe: str) -> Path:
    (folder / "recipe.yaml").write_text(recipe)
    command = [sys.executable, "-m", "pipeline.cli", "generate", str(folder / "corpus")]
    subprocess.run([*command, "--config", str(folder / "recipe.yaml")], check=True, capture_output=True, timeout=300)
    return folder / "corpus"


@pytest.fixture(scope="session")
def corpus_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 samples of two categories, cracks and pits, with their stages."""
    return _generated(tmp_path_factory.mktemp("corpus"), RECIPE)


@pytest.fixture(scope="session")
def brick_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 samples of one category without stages."""
    recipe = RECIPE.replace("count: 72", "count: 48").replace("[brick, gravel]", "[brick]")
    return _generated(tmp_path_factory.mktemp("brick"), recipe.replace("stages: [paste, render, npcf], ", ""))


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


def _save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.squeeze()).save(path)


@pytest.fixture
def quick() -> TrainConfig:
    """Settings that take seconds."""
    return TrainConfig.model_validate(
        {
            "detector": {"size": 128, "memory_cells": 512, "hidden": 16},
            "cells": {"normal": 64},
            "optimiser": {"epochs": 4, "batch_samples": 16, "batch_normals": 8},
            "fusion": {"held_out_samples": 10, "held_out_normals": 10},
        }
    )
