"""What every picture promises, for every mechanism, fit and edge, counted by hand and by the corpus itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from manifests import Corpus, Sample
from manifests.config import LabelConfig
from manifests.corpus import Picture
from manifests.records import SampleStatus
from physics.registry import MECHANISMS
from pipeline.generate import generate
from pipeline.invariants import count_picture, touching, visible_change
from pipeline.recipe import Recipe
from pipeline.verification import verify_corpus

SIZE = 64
FITS = ("crop", "pad", "stretch")
SMALL_GRIDS = {
    "fracture": {"grid": 64, "snapshots": 6},
    "craze": {"grid": 64, "snapshots": 6},
    "pitting": {"grid": 48, "snapshots": 6},
    "dent": {"grid": 48, "snapshots": 6},
    "warp": {"grid": 48, "snapshots": 6},
}
AREA = {"kind": "loguniform", "low": 0.004, "high": 0.08}


def plate(seed: int, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A bright rough plate on a dark table, and where it is; its edge lies inside every fitted picture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    part = (abs(y - height / 2) < 0.36 * height) & (abs(x - width / 2) < 0.36 * min(height, width))
    grain = rng.normal(0.0, 5.0, (height, width))
    level = np.where(part, 165.0 + 0.2 * (x - y), 40.0) + grain
    return np.clip(np.stack([level, 0.95 * level, 0.9 * level], axis=-1), 0, 255).astype(np.uint8), part


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide and tall photographs of plates with masks, and of a surface that fills the picture."""
    root = tmp_path_factory.mktemp("photographs")
    for name in ("objects/plate", "masks", "surfaces/sheet"):
        (root / name).mkdir(parents=True)
    for k, (height, width) in enumerate(((72, 96), (96, 72), (64, 64), (80, 66))):
        picture, part = plate(k, height, width)
        Image.fromarray(picture).save(root / f"objects/plate/{k}.png")
        Image.fromarray(part.astype(np.uint8) * 255).save(root / f"masks/{k}.png")
        sheet = np.clip(np.random.default_rng(100 + k).normal(150.0, 6.0, (height, width)), 0, 255)
        Image.fromarray(sheet.astype(np.uint8)).save(root / f"surfaces/sheet/{k}.png")
    return root


def recipe(photographs: Path, fit: str, **changes: object) -> Recipe:
    """Every mechanism, up to three defects in a picture, all stages kept."""
    settings: dict[str, object] = {
        "count": 40,
        "size": SIZE,
        "fit": fit,
        "sources": [
            {"kind": "folder", "path": str(photographs / "objects"), "masks": str(photographs / "masks")},
            {"kind": "folder", "path": str(photographs / "surfaces"), "name": "surfaces"},
        ],
        "foreground": {"overrides": {"sheet": "texture"}, "margin_px": 0},
        "mechanisms": {name: {**SMALL_GRIDS.get(name, {}), "area": AREA} for name in MECHANISMS},
        "bank": {"groups": 2, "trajectories": 4},
        "placement": {"defects": [1, 3]},
        "store": {"stages": ["paste", "render", "npcf"]},
    }
    return Recipe.model_validate(settings | changes)


@pytest.fixture(scope="module")
def first(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first of the corpora, whose bank serves the others."""
    out = tmp_path_factory.mktemp(FITS[0]) / "corpus"
    generate(out, recipe(photographs, FITS[0]), workers=1)
    return out


@pytest.fixture(scope="module", params=FITS)
def made(
    request: pytest.FixtureRequest, first: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A corpus of each fit."""
    if request.param == FITS[0]:
        return first
    out = tmp_path_factory.mktemp(request.param) / "corpus"
    generate(out, recipe(photographs, request.param), workers=1, shared_bank=first)
    return out


def near(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a flag is set within one pixel; nothing of `scipy` nor of the code under test."""
    padded = np.pad(flags, 1)
    shifts = [np.roll(padded, (dy, dx), (0, 1))[1:-1, 1:-1] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return np.asarray(np.any(shifts, axis=0))


def difference(one: Picture, other: Picture) -> NDArray[np.float64]:
    """Largest over the channels, grey levels of 255."""
    white = np.iinfo(one.dtype).max
    return np.asarray(np.abs(one.astype(float) - other.astype(float)).max(axis=2) * 255.0 / white)


def assert_promises_kept(sample: Sample, label: LabelConfig) -> None:
    """The invariants of one accepted sample, by hand."""
    inside = sample.mask == 255
    assert set(np.unique(sample.mask)) == {0, 255}
    change = difference(sample.image, sample.source)
    visible = change >= label.visible_threshold
    assert not (visible & ~inside).any(), "an unlabelled change"
    assert not (inside & ~near(visible)).any(), "an invisible label"
    assert not (inside & ~sample.foreground).any()
    assert change[~sample.foreground].max(initial=0.0) == 0.0
    assert inside.mean() <= label.max_area
    assert_array_equal(sample.instances > 0, inside)
    for defect in sample.record.defects:
        mine = sample.instances == defect.instance if defect.instance else np.zeros_like(inside)
        assert mine.sum() == defect.area_px
        assert (defect.status is SampleStatus.OK) == bool(defect.instance)
        if defect.instance:
            assert label.min_area <= mine.mean() <= label.max_area
            assert not (near(mine) & inside & ~mine).any(), "two defects touch"
    assert sample.record.faint_px == ((change > 0) & ~visible & ~inside).sum()


def test_every_promise_is_kept_by_every_mechanism_and_fit(made: Path) -> None:
    corpus = Corpus(made, statuses=None)
    label = LabelConfig.model_validate(corpus.info.config["label"])
    present = set()
    for sample in corpus:
        if sample.record.status is SampleStatus.OK:
            assert_promises_kept(sample, label)
            present |= {(sample.record.category, d.mechanism) for d in sample.record.defects if d.instance}
        else:
            assert_array_equal(sample.image, sample.source)
            assert not sample.mask.any()
    unseen = {("sheet", "poisson")}  # plain noise cloned into plain noise
    assert present | unseen == {(category, name) for category in ("plate", "sheet") for name in MECHANISMS}


def test_defects_come_to_the_edge_of_the_part_and_of_the_picture(made: Path) -> None:
    """Or the promises were not put to the test there."""
    corpus = Corpus(made)
    at_part = sum((s.mask > 0)[near(~s.foreground)].any() for s in corpus.where(category="plate"))
    border = np.pad(np.zeros((SIZE - 2, SIZE - 2), dtype=bool), 1, constant_values=True)
    at_border = sum((s.mask > 0)[border].any() for s in corpus.where(category="sheet"))
    assert at_part >= 3
    assert at_border >= 3
    assert sum(len([d for d in s.record.defects if d.instance]) > 1 for s in corpus) > len(corpus) // 3


def test_corpus_counts_what_a_count_by_hand_finds(made: Path) -> None:
    corpus = Corpus(made, statuses=None)
    told = corpus.info.invariants
    assert verify_corpus(made).problems == ()
    broken = (told.changed_outside_support_px, told.unlabelled_px, told.unseen_px, told.off_part_px)
    assert broken == (0, 0, 0, 0)
    assert (told.empty_masks, told.out_of_bounds, told.instances_touching) == (0, 0, 0)
    assert told.samples == len(corpus) == 40
    faint_px = mask_px = 0
    for sample in corpus:
        change = difference(sample.image, sample.source)
        faint_px += int(((change > 0) & (sample.mask == 0)).sum())
        mask_px += int((sample.mask > 0).sum())
    assert (told.faint_px, told.mask_px) == (faint_px, mask_px)
    assert told.faint_share == pytest.approx(faint_px / mask_px)
    there = [d.mechanism for s in corpus for d in s.record.defects if d.instance]
    assert corpus.info.counts.defects == {name: there.count(name) for name in there}


def test_stages_keep_the_photograph_off_the_part_and_of_failed_samples(made: Path) -> None:
    for sample in Corpus(made, statuses=None):
        assert tuple(sample.stages) == ("paste", "render", "npcf")
        for picture in sample.stages.values():
            assert (picture.shape, picture.dtype) == (sample.image.shape, sample.image.dtype)
            allowed = sample.foreground if sample.record.status is SampleStatus.OK else np.zeros((SIZE, SIZE), bool)
            assert_array_equal(picture[~allowed], sample.source[~allowed])


@pytest.mark.parametrize(
    ("area", "label", "bound"),
    [
        ({"low": 5e-4, "high": 1e-3}, {"min_area": 2e-4, "max_area": 0.002, "least_visibility": 0}, 0.002),
        ({"low": 0.5, "high": 0.9}, {"min_area": 0.05, "max_area": 1.0, "attempts": 4}, 1.0),
    ],
)
def test_promises_are_kept_by_hardly_visible_defects_and_by_those_that_fill_the_picture(
    area: dict[str, float], label: dict[str, float], bound: float, photographs: Path, first: Path, tmp_path: Path
) -> None:
    mechanisms = {name: {**SMALL_GRIDS.get(name, {}), "area": area} for name in MECHANISMS}
    changes = {"count": 20, "mechanisms": mechanisms, "label": label, "placement": {"extent": [0.03, 4.0]}}
    generate(tmp_path / "out", recipe(photographs, "crop", **changes), workers=1, shared_bank=first)
    assert verify_corpus(tmp_path / "out").problems == ()
    corpus = Corpus(tmp_path / "out")
    accepted = LabelConfig.model_validate(corpus.info.config["label"])
    for sample in corpus:
        assert_promises_kept(sample, accepted)
    shares = [sample.record.area_fraction for sample in corpus]
    assert len(shares) >= 5
    assert (min(shares) < 8 / SIZE**2) if bound < 1 else (max(shares) > 0.4)


def test_promises_are_kept_in_sixteen_bits(first: Path, photographs: Path, tmp_path: Path) -> None:
    """Photographs that hold more than eight bits, from the file to the stored sample."""
    (tmp_path / "deep").mkdir()
    for k in range(2):
        fine = np.random.default_rng(k).normal(38_000.0, 1_500.0, (SIZE, SIZE)).clip(0, 65_535).astype(np.uint16)
        Image.fromarray(fine).save(tmp_path / f"deep/{k}.png")
    changes = {"bit_depth": 16, "count": 15, "sources": [{"kind": "folder", "path": str(tmp_path / "deep")}]}
    generate(tmp_path / "out", recipe(photographs, "crop", **changes), workers=1, shared_bank=first)
    assert verify_corpus(tmp_path / "out").problems == ()
    corpus = Corpus(tmp_path / "out")
    label = LabelConfig.model_validate(corpus.info.config["label"])
    assert len(corpus) > 10
    for sample in corpus:
        assert {p.dtype.name for p in (sample.image, sample.source, *sample.stages.values())} == {"uint16"}
        assert len(np.unique(sample.source % 257)) > 200, "more than eight bits stretched to sixteen"
        assert_promises_kept(sample, label)


def with_square(depth: str, level: int) -> tuple[Picture, Picture]:
    """A grey photograph with a square that is brighter by this level, and the photograph."""
    white = np.iinfo(depth).max
    source = np.full((16, 16, 1), 100 * (white // 255))
    image = source.copy()
    image[4:8, 4:8] += level
    return image.astype(depth), source.astype(depth)


@pytest.mark.parametrize(("depth", "least"), [("uint8", 8), ("uint16", 8 * 257)])
def test_change_is_visible_from_the_threshold_on_at_either_depth(depth: str, least: int) -> None:
    for level, seen in ((least, 16), (least - 1, 0)):
        image, source = with_square(depth, level)
        change, visible = visible_change(image, source, 8)
        assert visible.sum() == seen
        assert change.max() == pytest.approx(level * 8 / least)


def test_each_broken_promise_is_counted_where_it_is_broken() -> None:
    image, source = with_square("uint8", 50)
    part = np.ones((16, 16), dtype=bool)
    part[:2] = False
    instance = np.zeros((16, 16), dtype=np.uint8)
    instance[4:8, 4:8] = 1
    window = (slice(2, 12), slice(2, 12))

    def count(image: Picture, instance: NDArray[np.uint8]) -> dict[str, int]:
        found = count_picture(image, instance, source=source, foreground=part, windows=[window], threshold=8)
        return {name: number for name, number in vars(found).items() if number}

    assert count(image, instance) == {}
    faint, bright, far, off = (image.copy() for _ in range(4))
    faint[9, 9] += 7
    bright[9, 9] += 8
    far[14, 14] += 1
    off[1, 5] += 7
    assert count(faint, instance) == {"faint_px": 1}
    assert count(bright, instance) == {"unlabelled_px": 1}
    assert count(far, instance) == {"faint_px": 1, "outside_px": 1}
    assert count(off, instance) == {"faint_px": 1, "outside_px": 1}
    unseen, above, two = (instance.copy() for _ in range(3))
    unseen[10, 4:8] = 1
    above[0, 4] = 1
    two[4:8, 6:8] = 2
    assert count(image, unseen) == {"unseen_px": 4}
    assert count(image, above) == {"unseen_px": 1, "off_part_px": 1}
    assert count(image, two) == {"touching_px": 8}


@pytest.mark.parametrize(("gap", "expected"), [(0, 2), (1, 0)])
def test_defects_touch_across_a_corner_and_at_the_border_but_not_across_a_pixel(gap: int, expected: int) -> None:
    instance = np.zeros((4, 8), dtype=np.uint8)
    instance[0, 0] = 1
    instance[1, 1 + gap] = 255
    assert touching(instance).sum() == expected
