"""The benchmark of the quality estimator works on embedded pictures at small size; its figures are not judged here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from benchmarks import sqe_worth
from benchmarks.sqe_worth import (
    CLEAN,
    ESTIMATORS,
    METHODS,
    MIXED,
    Bench,
    Draw,
    Setting,
    difference,
    drawn,
    measured,
    prepared,
    rank_correlation,
    recovered,
    weights_of,
)
from benchmarks.sqe_worth_material import SOUND
from benchmarks.sqe_worth_report import page, picture
from benchmarks.sqe_worth_utility import JUDGES, grouped
from bisqad.config import TrainConfig
from manifests import Corpus

ROOT = Path(__file__).resolve().parents[1]
HALF = Setting("half", 0.5)
RECIPE = """
name: small
seed: 5
count: 40
size: 128
sources: [{kind: builtin, categories: [brick]}]
mechanisms:
  fracture: {area: {kind: loguniform, low: 0.006, high: 0.02}}
  pitting: {area: {kind: loguniform, low: 0.006, high: 0.03}}
bank: {trajectories: 8, groups: 2}
label: {least_visibility: 0.5}
"""


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.squeeze()).save(path)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """40 samples on bricks, and some of them again in place of real defects."""
    folder = tmp_path_factory.mktemp("sqe-worth")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    order = ["generate", folder / "corpus", "--config", folder / "recipe.yaml", "--workers", "1"]
    subprocess.run([sys.executable, "-m", "pipeline.cli", *map(str, order)], check=True, cwd=ROOT, capture_output=True)
    for number, sample in enumerate(Corpus(folder / "corpus")[:6]):
        save(folder / "real/test/crack" / f"{number}.png", sample.image)
        save(folder / "real/ground_truth/crack" / f"{number}_mask.png", sample.mask)
        save(folder / "real/test/good" / f"{number}.png", sample.source)
    settings = {"size": 128, "hidden": 8}, {"epochs": 2, "batch_samples": 16, "batch_normals": 8}
    config = TrainConfig.model_validate({"detector": settings[0], "optimiser": settings[1], "cells": {"normal": 64}})
    first = prepared(folder / "corpus", folder / "real", config, cache=folder / "cache")
    again = prepared(folder / "corpus", folder / "real", config, cache=folder / "cache")
    assert_array_equal(first.made.cells["ghost"].features.numpy(), again.made.cells["ghost"].features.numpy())
    return again


def test_parts_share_no_photograph_and_only_the_lower_level_is_corrupted(bench: Bench) -> None:
    one = drawn(bench, MIXED, seed=0)
    material = one.material
    parts = [
        {r.source_sha256 for r in cells.records} for cells in (material.samples, material.upper_samples, one.judge)
    ]
    normals = [set(cells.names) for cells in (material.normals, material.upper_normals, one.judge_normals)]
    for group in (parts, normals):
        assert all(group)
        assert len(set.union(*group)) == sum(map(len, group))
    assert {r.source_sha256 for r in one.painted.records} <= normals[1]
    assert_allclose((one.kinds != SOUND).mean(), 0.8, atol=0.05)
    sound = bench.made.cells[SOUND]
    names = [record.id for record in sound.records]
    for cells, kinds in ((material.samples, one.kinds), (one.judge, np.full(len(one.judge), SOUND))):
        own = torch.tensor([names.index(record.id) for record in cells.records])
        same = (sound.labels[own] == cells.labels).all(dim=1).numpy() & (
            sound.description[own] == cells.description
        ).all(dim=1).numpy()
        assert_array_equal(same, kinds == SOUND)


def test_controls_have_the_same_weights_on_other_samples(bench: Bench) -> None:
    one = drawn(bench, HALF, seed=1)
    made = weights_of(one, METHODS)
    assert set(made) == {*METHODS, *(f"{name}, shuffled" for name in METHODS[1:])}
    for name in METHODS[1:]:
        assert_allclose(float(made[name].mean()), 1, rtol=1e-5)
        assert_array_equal(np.sort(made[name].numpy()), np.sort(made[f"{name}, shuffled"].numpy()))
    assert not made["oracle"].numpy()[one.kinds != SOUND].any()
    assert made["shipped"].numpy()[one.kinds == SOUND].mean() > 2 * made["shipped"].numpy()[one.kinds != SOUND].mean()


def test_the_page_has_every_method(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqe_worth, "_RESAMPLES", 20)
    monkeypatch.setattr(sqe_worth, "CONTAMINATED", HALF)
    result = measured(bench, seeds=2, candidates=[HALF])
    assert len(result.contaminated) == len(result.clean) == len(result.mixed) == 2
    assert "oracle" not in result.clean[0].outcome
    text = page(result)
    assert all(f"| {name} |" in text for name in result.contaminated[0].outcome)
    assert all(judge in text for judge in JUDGES)
    ranked = result.mixed[1].ranked
    assert ranked is not None
    assert ranked.groups.sizes.sum() == len(ranked.kinds)
    assert all(np.isfinite(ranked.groups.utility[judge]).all() for judge in JUDGES)
    assert set(ranked.of_groups) == set(ESTIMATORS)
    picture(result, tmp_path / "worth.png")
    assert (tmp_path / "worth.png").stat().st_size > 10_000


def test_a_share_is_of_the_gap_between_equal_weights_and_the_oracle() -> None:
    draws = [
        Draw({"uniform": [u], "oracle": [u + 0.2], "half": [u + 0.1]}, {}, {}, None) for u in (0.3, 0.4, 0.5, 0.35, 0.2)
    ]
    for value, wanted in ((recovered(draws, "half", 0), 0.5), (difference(draws, "half", 0), 0.1)):
        assert_allclose([value.value, value.low, value.high], wanted)


def test_rank_correlation_has_an_interval_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqe_worth, "_RESAMPLES", 200)
    rng = np.random.default_rng(3)
    pairs = [(x, x + 0.5 * rng.normal(size=40)) for x in rng.normal(size=(4, 40))]
    found = rank_correlation(pairs)
    assert 0.7 < found.low < found.value < found.high < 1
    assert rank_correlation([(np.zeros(9), np.arange(9.0))]).value == 0  # a score that tells nothing apart


def test_groups_are_of_one_mechanism_and_one_kind() -> None:
    mechanisms = np.array(["a", "b"] * 20)
    kinds = np.array([SOUND] * 20 + ["ghost"] * 20)
    members = grouped(mechanisms, kinds, seed=0)
    for group in np.unique(members):
        assert len({*zip(mechanisms[members == group], kinds[members == group], strict=True)}) == 1
    assert len(np.unique(members)) == 2 * 4 + 2


def test_a_clean_setting_corrupts_nothing(bench: Bench) -> None:
    assert (drawn(bench, replace(CLEAN), seed=0).kinds == SOUND).all()
