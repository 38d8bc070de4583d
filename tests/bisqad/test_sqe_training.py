"""Training of the estimator on a small corpus, its figures, and the estimator that comes with the program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from bisqad import sqe_training
from bisqad.corruptions import CORRUPTIONS
from bisqad.sqe_training import (
    SOUND,
    Described,
    auroc,
    baselines,
    describe_corpus,
    main,
    reliability,
    train_sqe,
)
from manifests import Corpus
from manifests.errors import CorpusError
from refine.sqe import load_sqe

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
name: small
count: 24
size: 192
seed: 5
sources:
  - kind: builtin
    categories: [brick, hex_nut]
mechanisms:
  fracture: {grid: 64, snapshots: 6}
  pitting: {grid: 32, snapshots: 4, area: {kind: loguniform, low: 0.01, high: 0.06}}
bank: {trajectories: 20}
"""
LEAST_AUROC = 0.9
LEAST_AUROC_OF_SHADING = 0.75  # bright pits in a bright nut are hard


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("sqe")
    (folder / "small.yaml").write_text(RECIPE, encoding="utf-8")
    command = [sys.executable, "-m", "pipeline.cli", "generate", "corpus", "--config", "small.yaml", "--workers", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    return Corpus(folder / "corpus")


@pytest.fixture(scope="module")
def described(corpus: Corpus) -> Described:
    return describe_corpus(corpus)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps in place of many."""
    monkeypatch.setattr(sqe_training, "_STEPS", 12)


def test_every_sample_is_described_as_it_is_and_in_every_way_corrupted(corpus: Corpus, described: Described) -> None:
    assert described.sound.sum() == len(corpus)
    assert described.corruptions == tuple(CORRUPTIONS)
    assert np.isfinite(described.values).all()
    for kind in set(CORRUPTIONS) - {"off_part"}:
        assert (described.kinds == kind).sum() > 0.7 * len(corpus), kind


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_estimator_that_comes_with_the_program_ranks_sound_samples_above(kind: str, described: Described) -> None:
    with torch.inference_mode():
        quality = load_sqe().quality(torch.from_numpy(described.values)).double().numpy()
    found = auroc(quality[described.sound], quality[described.kinds == kind])
    assert found >= (LEAST_AUROC_OF_SHADING if kind == "wrong_shading" else LEAST_AUROC)


@pytest.mark.usefixtures("hasty")
def test_the_same_corpus_and_seed_give_the_same_bytes(corpus: Corpus) -> None:
    first, again = (train_sqe(corpus[::4], seed=3) for _ in range(2))
    assert first.model.sha256 == again.model.sha256
    assert first.figures.by_kind == again.figures.by_kind
    assert set(first.figures.by_kind["ghost"]) == {"left_out", "trained", "contrast", "agreement"}


@pytest.mark.usefixtures("hasty")
def test_the_command_writes_weights_and_a_card_that_names_them(
    corpus: Corpus, described: Described, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqe_training, "describe_corpus", lambda *_, **__: described)
    out, card = tmp_path / "sqe.safetensors", tmp_path / "sqe.md"
    assert main([str(corpus.path), "--out", str(out), "--card", str(card), "--transfer", f"itself={corpus.path}"]) == 0
    model = load_sqe(out)
    assert model.kinds == tuple(CORRUPTIONS)
    assert_array_equal(model.weight_logits(torch.from_numpy(described.values[:3])).detach().numpy(), np.zeros(3))
    text = card.read_text()
    assert model.sha256 in text
    assert all(kind in text for kind in CORRUPTIONS)
    assert "On itself, which it never saw" in text
    assert (tmp_path / re.findall(r"pictures/[\w.-]+", text)[0]).read_text().startswith("<svg")


def test_a_folder_that_is_no_corpus_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--out", str(tmp_path / "x")]) == 1
    assert "not a corpus" in capsys.readouterr().err


def test_too_few_groups_are_refused(corpus: Corpus) -> None:
    with pytest.raises(CorpusError, match="groups"):
        train_sqe(corpus.where(group=[int(corpus[0].record.group)])[:1])
    with pytest.raises(CorpusError, match="no accepted sample"):
        describe_corpus(corpus[:0])


def test_agreement_needs_no_learning_to_find_a_shuffled_mask(described: Described) -> None:
    agreement = baselines(described.values)["agreement"]
    assert auroc(agreement[described.sound], agreement[described.kinds == "shuffled_mask"]) > 0.95


def test_auroc_counts_pairs_in_the_right_order() -> None:
    assert auroc(np.array([2.0, 3.0]), np.array([1.0, 2.0])) == (1 + 0.5 + 1 + 1) / 4
    assert np.isnan(auroc(np.array([]), np.array([1.0])))


def test_a_calibrated_probability_has_no_calibration_error() -> None:
    said = np.repeat([0.25, 0.75], 400)
    sound = np.concatenate([np.arange(400) % 4 == 0, np.arange(400) % 4 != 0])
    found = reliability(said, sound, np.ones(800))
    assert_allclose(found.error, 0.0, atol=1e-12)
    assert_allclose(found.brier, 0.25 * 0.75)
    assert_allclose(reliability(np.full(800, 0.9), sound, np.ones(800)).error, 0.4)


def test_calibration_recovers_the_scale_of_overconfident_logits(described: Described) -> None:
    model = load_sqe()
    with torch.no_grad():
        model.calibration.copy_(torch.tensor([50.0, 3.0]))
    sqe_training._calibrate(model, described)
    with torch.inference_mode():
        quality = model.quality(torch.from_numpy(described.values)).double().numpy()
    weights = sqe_training._balanced(described)
    assert_allclose(weights.sum(), 1.0)
    assert_allclose(weights[described.kinds == SOUND].sum(), 0.5)
    assert abs(float((weights * (quality - described.sound)).sum())) < 1e-3
