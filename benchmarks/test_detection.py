"""The detection benchmark works on small input; its figures on real photographs are not judged here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from skimage import data as embedded

from benchmarks import detection, detection_report
from benchmarks.detection import CONTENDERS, CachedExtractor, PaintedCorpus, Setting, looked_at, run
from benchmarks.patchcore import GRID, VARIANTS, PatchCore, judged, patch_features
from bisqad.config import DetectorConfig, TrainConfig
from bisqad.features import FeatureExtractor
from manifests import Corpus
from refine.backbone import EfficientNetLite0

QUICK = {
    "detector": {"size": 64, "fit": "stretch", "memory_cells": 256, "hidden": 8},
    "cells": {"normal": 32},
    "optimiser": {"epochs": 2, "batch_samples": 8, "batch_normals": 4},
    "fusion": {"held_out_samples": 6, "held_out_normals": 6},
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares out of an embedded picture in MVTec AD's layout; the defects of the test part are black bars."""
    root = tmp_path_factory.mktemp("parts")
    squares = _squares()
    for split, count in (("train", 16), ("test", 6)):
        for number in range(count):
            _save(root / split / "good" / f"{number}.png", next(squares))
    for number in range(6):
        picture, mask = next(squares).copy(), np.zeros((64, 64), dtype=np.uint8)
        mask[20:28, 10 + number : 50] = 255
        picture[mask > 0] = 0
        _save(root / "test" / "bar" / f"{number}.png", picture)
        _save(root / "ground_truth" / "bar" / f"{number}_mask.png", mask)
    return root


def _squares() -> Iterator[np.ndarray]:
    picture = embedded.brick()
    for y in range(0, 448, 64):
        for x in range(0, 448, 64):
            yield picture[y : y + 64, x : x + 64]


def _save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.fixture(scope="module")
def setting(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(
        data=parts,
        work=tmp_path_factory.mktemp("work"),
        count=24,
        config=TrainConfig.model_validate(QUICK),
        left_out=looked_at(parts),
        foreground="texture",
        size=64,
    )


def test_contenders_are_trained_and_judged_and_shown(setting: Setting) -> None:
    wanted = [c for c in CONTENDERS if c.name in ("ours: + SQE weights", "ours: second corpus", "CutPaste")]
    told: list[str] = []
    found = run(setting, wanted, VARIANTS[:2], [0], told.append)
    assert len(told) == 4
    for contender in wanted:
        figures = found[contender.name][0]
        assert figures["normals"] == 6
        assert figures["defects"] == 4  # of six two were looked at
        assert 0 <= figures["image_auroc"] <= 1
        assert f"{contender.name}, normality alone" in found
    policies = [Corpus(path).info.config.get("policy") for path in sorted((setting.work / "corpora").iterdir())]
    assert sum(policy is not None for policy in policies) == 1
    page = detection_report.page(found, "parts", 24, 2)
    assert all(contender.name in page for contender in wanted)
    assert "PatchCore" in page
    assert detection_report.picture(found).startswith(b"\x89PNG")
    again = run(setting, wanted, VARIANTS[:2], [0], told.append)
    assert again == found
    names = [*(contender.name for contender in wanted), "PatchCore"]
    assert detection.stored_figures(setting, names, [0, 1]) == found


def test_no_two_contenders_share_a_folder(setting: Setting) -> None:
    folders = {setting.run_folder(contender.name, 0) for contender in CONTENDERS}
    assert len(folders) == len({contender.name for contender in CONTENDERS}) == len(CONTENDERS)


def test_looked_at_are_two_of_each_type_and_always_the_same(parts: Path) -> None:
    drawn = looked_at(parts)
    assert len(drawn) == 2
    assert drawn == looked_at(parts)
    assert all(path.parent.name == "bar" for path in drawn)


def test_features_from_the_cache_are_those_of_the_network(tmp_path: Path) -> None:
    config = DetectorConfig(size=64, fit="stretch")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    plain, cached = FeatureExtractor(config), CachedExtractor(config, tmp_path, pictures[:1])
    first = cached(pictures)
    assert len(list(tmp_path.iterdir())) == 1  # the other is none of those that are kept
    assert_allclose(first, plain(pictures), rtol=2e-3, atol=2e-3)
    assert torch.equal(first, cached(pictures))


def test_a_painted_corpus_shows_the_painters_pictures(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    def paint(pictures: list[np.ndarray], *_: object) -> list[detection.Painted]:
        mask = np.zeros((64, 64), dtype=np.bool_)
        mask[8:16, 8:16] = True
        made = [detection.Painted(np.where(mask[..., None], 255, p).astype(np.uint8), mask) for p in pictures]
        return [*made[:-1], detection.Painted(pictures[-1], np.zeros_like(mask))]

    monkeypatch.setattr(detection.defect_synthesis, "paint", paint)
    stored = setting.corpus(next(c for c in CONTENDERS if c.name == "CutPaste"))
    painted = PaintedCorpus.of(stored, seed=0)
    assert len(painted) == len(stored) - 1  # what shows nothing is left out
    shown = [sample for _, samples in painted.iter_shards() for sample in samples]
    for one, other in zip(shown, painted[: len(painted)], strict=True):
        assert (one.mask > 0).sum() == 64
        assert (np.asarray(one.image)[one.mask > 0] == 255).all()
        assert np.array_equal(one.image, other.image)
        assert one.record.image_sha256 == other.record.image_sha256


def test_patchcore_finds_what_it_has_not_seen() -> None:
    rng = np.random.default_rng(3)
    network = EfficientNetLite0((4, 10))
    normals = [rng.integers(90, 130, (128, 128, 3), dtype=np.uint8) for _ in range(3)]
    core = PatchCore.of([patch_features(p, network, "inside") for p in normals], seed=0)
    broken = normals[0].copy()
    broken[32:48, 64:96] = 0
    variant = next(v for v in VARIANTS if (v.border, v.crop_cells, v.score) == ("inside", 0, "max"))
    sound = core.distances(patch_features(normals[1], network, "inside"))
    found = core.distances(patch_features(broken, network, "inside"))
    assert found.shape == (GRID, GRID)
    assert float(sound.max()) < 0.1  # each of its patches is remembered: the root of a rounding error
    score, whole = judged(found, variant, broken.shape)
    assert score > 10 * float(sound.max())
    assert whole.shape == (128, 128)
    y, x = np.unravel_index(int(whole.argmax()), whole.shape)
    assert 24 <= y < 56
    assert 56 <= x < 104
