"""Inspecting photographs: a row and a heat map for each."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bisqad.detection import detect
from bisqad.detector import Detector
from bisqad.run import DETECTOR
from manifests.errors import ConfigError, OutputError


@pytest.fixture(scope="module")
def detector(run_path: Path) -> Detector:
    return Detector.load(run_path / DETECTOR)


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    """Two photographs of one name in two folders, another size each, and one that cannot be read between them."""
    rng = np.random.default_rng(4)
    paths = [tmp_path / "a" / "part.png", tmp_path / "a" / "broken.png", tmp_path / "b" / "part.jpg"]
    for path, shape in zip(paths, ((128, 128), (1, 1), (60, 100)), strict=True):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(90, 110, (*shape, 3), dtype=np.uint8)).save(path)
    paths[1].write_bytes(paths[0].read_bytes()[:200])
    return paths


def test_one_unreadable_photograph_is_told_of_and_the_others_are_done(
    detector: Detector, photographs: list[Path], tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    found = detect(detector, photographs, tmp_path / "out", advance=lambda *done: told.append(done))
    assert [row.heat_map for row in found] == ["part.png", "", "part-2.png"]
    assert [bool(row.error) for row in found] == [False, True, False]
    assert "broken.png" in found[1].error
    assert np.isnan(found[1].score)
    assert np.isfinite([found[0].score, found[2].score]).all()
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["part-2.png", "part.png"]


def test_a_heat_map_lies_beside_its_photograph(detector: Detector, photographs: list[Path], tmp_path: Path) -> None:
    detect(detector, photographs[2:], tmp_path / "out")
    with Image.open(tmp_path / "out" / "part.png") as picture:
        assert picture.width >= 200
        assert picture.height >= 60


def test_photographs_are_not_overwritten_where_heat_maps_go_into_their_folder(
    detector: Detector, photographs: list[Path]
) -> None:
    before = photographs[0].read_bytes()
    with suppress(ConfigError, OutputError):  # to refuse is as good as to choose another name
        detect(detector, photographs[:1], photographs[0].parent)
    assert photographs[0].read_bytes() == before


def test_a_folder_that_cannot_be_made_is_refused(detector: Detector, photographs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="--out"):
        detect(detector, photographs, tmp_path / "file" / "out")
