"""The realism benchmark works on small input; its figures are not judged here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image, ImageDraw

from benchmarks.peers.blobs import draw_perlin, draw_scars
from benchmarks.peers.lines import draw_polylines, draw_strokes
from benchmarks.peers.target import Target
from benchmarks.real_masks import by_tile, halves, load_masks
from benchmarks.realism import Measured, Sizes, judge, measure, read_real
from benchmarks.realism_report import page, section
from pipeline.descriptors import NAMES

TARGET = Target(area=(0.002, 0.01), length=(0.1, 0.4), width=(0.01, 0.03))
SMALL = Sizes(masks=12, tries=6, draws=12, resamples=10, splits=4)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


def tile_masks(folder: Path, rng: np.random.Generator, tiles: int) -> Path:
    """Three exposures of each tile: one line each, moved a little."""
    folder.mkdir()
    for tile in range(tiles):
        start = rng.uniform(20, 100, size=2)
        tip = start + rng.uniform(20, 60, size=2)
        for exposure in range(3):
            picture = Image.new("L", (160, 120))
            shift = rng.uniform(-2, 2, size=2)
            ImageDraw.Draw(picture).line([*(start + shift), *(tip + shift)], fill=255, width=3)
            picture.save(folder / f"exp{exposure + 1}_num_{10_000 * tile + 20 * exposure}_mask.png")
    return folder


def test_exposures_of_a_tile_stay_together(tmp_path: Path, rng: np.random.Generator) -> None:
    tiles = by_tile(load_masks(tile_masks(tmp_path / "line", rng, 5)))
    assert [len(tile) for tile in tiles] == [3] * 5
    parts = halves(5, rng)
    assert sorted(parts.train + parts.test) == list(range(5))
    assert len(parts.train) == 2


def test_peers_draw_masks_of_the_size_they_are_told(rng: np.random.Generator) -> None:
    made = [
        draw_polylines(TARGET, rng, 8, 128, turn_deg=10, branches=0.5),
        draw_strokes(TARGET, rng, 8, 128, vertices=4),
        draw_scars(TARGET, rng, 8, 128, by_area=False),
        draw_perlin(TARGET, rng, 8, 128, octaves=(2, 4), single=True),
        draw_perlin(TARGET, rng, 8, 128, octaves=(1, 4), single=False),
    ]
    for masks in made:
        assert len(masks) == 8
        assert {mask.shape for mask in masks} == {(128, 128)}
        assert 0 < np.median([mask.mean() for mask in masks]) < 0.05
    blob_areas = [mask.mean() for mask in made[3]]
    assert TARGET.area[0] * 0.5 < np.median(blob_areas) < TARGET.area[1] * 1.5


def test_masks_like_the_real_ones_get_a_multiple_of_one_and_others_more(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    real = read_real(tile_masks(tmp_path / "line", rng, 24))
    alike = measure([r.mask for r in load_masks(tile_masks(tmp_path / "more", rng, 24))])
    blobs = draw_perlin(TARGET, rng, 12, 128, octaves=(3, 4), single=True)
    made = [
        Measured("alike", alike),
        Measured("blobs", measure(blobs), shown=tuple(blobs), settings="octaves 3"),
        Measured("missing", np.empty((0, len(NAMES))), unavailable="no connection"),
    ]
    scores = judge(real, made, sizes=SMALL)
    assert [score.name for score in scores] == ["alike", "blobs"]
    assert_allclose(scores[0].multiple, 1.0, atol=0.5)
    assert scores[1].multiple > 2 * scores[0].multiple
    assert scores[1].behind > 0.9
    text = page([section("line", real, made, scores, tmp_path / "pictures")])
    assert "not measured: no connection" in text
    assert len(list((tmp_path / "pictures").iterdir())) == 2
