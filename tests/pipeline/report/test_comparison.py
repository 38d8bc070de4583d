"""A corpus beside real defects, and beside another corpus: figures with known answers, and the page in a browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manifests import Corpus
from pipeline.descriptors import NAMES, describe
from pipeline.report.comparison import multiple, write_comparison
from pipeline.report.sides import read_side
from tests.pipeline.conftest import CommandLine, digest, surface
from tests.pipeline.report.browser import Browser

READY = "document.documentElement.dataset.ready === '1'"
HOSTILE = "<img src=x onerror=window.hacked=1>\"'&"


def write_real(folder: Path, *, pictures: int = 9) -> Path:
    """Round and long defects on grey pictures, in the layout of MVTec AD, with hostile names."""
    rows, columns = np.mgrid[:80, :64]
    for kind in ("round", HOSTILE):
        (folder / "test" / kind).mkdir(parents=True)
        (folder / "ground_truth" / kind).mkdir(parents=True)
        for k in range(pictures):
            reach = (rows - 40) ** 2 + (columns - 30) ** 2
            mask = reach < (6 + k) ** 2 if kind == "round" else (abs(rows - 40) < 2) & (abs(columns - 30) < 10 + k)
            Image.fromarray(surface(k, (80, 64))).save(folder / "test" / kind / f"{k:03d}.png")
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "ground_truth" / kind / f"{k:03d}_mask.png")
    (folder / "test" / "good").mkdir()
    Image.fromarray(surface(99, (80, 64))).save(folder / "test" / "good" / "000.png")
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_real(tmp_path_factory.mktemp("real") / "parts")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory, several: Path, real: Path) -> Path:
    dest = tmp_path_factory.mktemp("comparison") / "pages"
    write_comparison(several, real, dest, masks=9)
    return dest


def test_distance_of_like_masks_is_one_and_of_unlike_ones_more(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(200, 3)), rng.normal(size=(200, 3))
    near, far = multiple(a, b, rng), multiple(a + 2, b, rng)
    assert near is not None
    assert far is not None
    assert 0.7 < near < 1.4
    assert far > 5
    assert multiple(a[:3], b, rng) is None


def test_corpus_is_grouped_by_mechanism_and_real_defects_by_type(several: Path, real: Path) -> None:
    corpus, side = read_side(several, count=3), read_side(real, count=3)
    assert (side.kind, side.normals, [g.name for g in side.groups]) == ("real", 1, [HOSTILE, "round"])
    assert [(g.total, len(g.read)) for g in side.groups] == [(9, 3), (9, 3)]
    assert corpus.total == len(Corpus(several))
    for group in corpus.groups:
        pixels, mask = group.read[0]()
        assert (pixels.shape, mask.shape) == ((64, 64, 3), (64, 64))


def test_figures_of_the_page_are_those_of_the_masks(browser: Browser, comparison: Path, real: Path) -> None:
    browser.open(comparison / "index.html")
    browser.wait(READY)
    areas = [describe(read()[1]).area for read in read_side(real, count=9).groups[1].read]
    assert f"{100 * np.median(areas):.2f} %" in browser.run("document.querySelector('.sides').innerText")
    assert browser.run("document.querySelectorAll('.plot').length") == len(NAMES)
    assert browser.complaints() == []
    assert browser.run("window.hacked") is None
    assert HOSTILE in browser.run("document.body.innerText")
    assert browser.run("document.documentElement.scrollWidth") <= 1360
    assert np.asarray(Image.open(comparison / "pictures" / "b01-0000.webp")).std() > 5


def test_choice_of_groups_changes_the_distributions(browser: Browser, comparison: Path) -> None:
    browser.open(comparison / "index.html")
    browser.wait(READY)
    curves = "[...document.querySelectorAll('.curve-a, .curve-b')].map(path => path.getAttribute('d'))"
    before = browser.run(curves)
    browser.run("[...document.querySelectorAll('.cell-button')].at(-1).click()")
    after = browser.run(curves)
    assert len(before) == len(after) == 2 * len(NAMES)
    assert sum(one != other for one, other in zip(before, after, strict=True)) > len(NAMES)
    chosen = browser.run("document.querySelector('.cell-button[aria-pressed=\"true\"]').textContent")
    assert chosen in browser.run("document.getElementById('said').textContent")


def test_outlines_of_the_masks_are_shown_when_asked_for(browser: Browser, comparison: Path) -> None:
    browser.open(comparison / "index.html")
    browser.wait(READY)
    seen = "getComputedStyle(document.querySelector('.outline')).opacity"
    assert browser.run(seen) == "0"
    browser.run("document.getElementById('outlines').click()")
    assert browser.run(seen) == "1"


@pytest.mark.parametrize("dark", [False, True])
def test_comparison_fits_a_phone(browser: Browser, comparison: Path, dark: bool) -> None:
    browser.look_as(390, 844, dark=dark, phone=True)
    browser.open(comparison / "index.html")
    browser.wait(READY)
    assert browser.run("document.documentElement.scrollWidth") <= 390


def test_comparison_is_the_same_bytes(several: Path, real: Path, comparison: Path, tmp_path: Path) -> None:
    write_comparison(several, real, tmp_path / "again", masks=9)
    assert digest(tmp_path / "again") == digest(comparison)


def test_corpus_is_compared_with_another_corpus(several: Path, finished: Path, tmp_path: Path) -> None:
    write_comparison(several, finished, tmp_path / "pages", masks=8)
    assert "small" in (tmp_path / "pages" / "index.html").read_text()


@pytest.mark.parametrize("damage", ["mask missing", "size differs", "all empty", "no picture", "neither"])
def test_bad_side_is_one_clear_line(several: Path, tmp_path: Path, maphc2f: CommandLine, damage: str) -> None:
    real = write_real(tmp_path / "parts", pictures=1)
    mask = real / "ground_truth" / "round" / "000_mask.png"
    named = str(real)
    if damage == "mask missing":
        mask.unlink()
        named = mask.name
    elif damage == "size differs":
        Image.fromarray(np.full((64, 64), 255, np.uint8)).save(mask)
        named = "64 x 64"
    elif damage == "all empty":
        for path in (real / "ground_truth").rglob("*.png"):
            Image.fromarray(np.zeros((80, 64), np.uint8)).save(path)
    elif damage == "no picture":
        for path in (real / "test").rglob("*.png"):
            path.unlink()
    else:
        (real / "test").rename(real / "tests")
    done = maphc2f.run("compare", several, real, "pages", "--masks", "8")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert named in done.stderr
    assert not (tmp_path / "pages").exists()
