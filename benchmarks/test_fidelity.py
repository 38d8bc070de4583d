"""The fidelity benchmark works on small input; its figures on real photographs are not judged here."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from benchmarks import fidelity
from benchmarks.fidelity import Sizes, evaluate, judge, measured
from benchmarks.fidelity_classifier import Scorer, Side, cross_validate, fit_logistic
from benchmarks.fidelity_distances import group_weights, table
from benchmarks.fidelity_report import page, pictures
from benchmarks.fidelity_samples import STAGES, Shot, matched, patch_window, read_real, sound_shots, target_of
from benchmarks.fidelity_statistics import NAMES, edge_sigma, find_outline, statistics
from benchmarks.peers import cutpaste, draem, nsa
from pipeline.descriptors import energy_distance

Floats = NDArray[np.float64]
SMALL = Sizes(samples=24, embedded=10, each=1, resamples=20, folds=2, seeds=1, cnn_seeds=1)
SIDE = 128


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(31)


def grain(rng: np.random.Generator, side: int = SIDE) -> Floats:
    return np.asarray(120 + ndimage.gaussian_filter(rng.normal(0, 14, (side, side)), 0.8))


def shot(
    rng: np.random.Generator,
    number: int,
    *,
    blur_px: float,
    kind: str = "pit",
    radius_px: float = 7.0,
    side: int = SIDE,
) -> Shot:
    """A dark disc on grain, its edge blurred."""
    y, x = np.mgrid[:side, :side] - np.array([side / 2, side / 2])[:, None, None] + rng.uniform(-9, 9, (2, 1, 1))
    inside = np.hypot(y, x) < radius_px + rng.uniform(-1, 1)
    cover = ndimage.gaussian_filter(inside.astype(np.float64), blur_px)
    image = np.clip(grain(rng, side) * (1 - 0.6 * cover), 0, 255).astype(np.uint8)[..., None]
    return Shot(image, inside, kind, f"{kind}-{number}", 250)


def shots(rng: np.random.Generator, count: int, *, blur_px: float) -> list[Shot]:
    return [
        shot(rng, number, blur_px=blur_px, kind=kind, radius_px=radius)
        for kind, radius in (("crack", 5.0), ("pit", 8.0))
        for number in range(count)
    ]


def write_tiles(root: Path, rng: np.random.Generator) -> Path:
    """A set in the layout of the tiles: normals, and discs and bars with their masks, two exposures of each."""
    for folder in ("train/good", "test/good"):
        (root / folder).mkdir(parents=True)
        for k in range(14):
            Image.fromarray(grain(rng, 160).astype(np.uint8)).save(root / folder / f"exp1_num_{4000 * k}.jpg")
    for folder, radius in (("crack", 6.0), ("blowhole", 9.0)):
        for part in ("test", "ground_truth"):
            (root / part / folder).mkdir(parents=True)
        for tile in range(4):
            place = rng.uniform(0.3, 0.7, 2)
            for exposure in range(2):
                y, x = np.mgrid[:160, :200] - (place * (160, 200))[:, None, None]
                inside = np.hypot(y / (3 if folder == "crack" else 1), x) < radius
                cover = ndimage.gaussian_filter(inside.astype(np.float64), 1.0)
                picture = np.pad(grain(rng, 160), ((0, 0), (0, 40)), mode="reflect") * (1 - 0.5 * cover)
                name = f"exp{exposure + 1}_num_{4000 * tile + 20 * exposure}"
                Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(root / "test" / folder / f"{name}.jpg")
                mask = Image.fromarray((255 * inside).astype(np.uint8))
                mask.save(root / "ground_truth" / folder / f"{name}_mask.png")
    return root


def test_poisson_clone_of_the_picture_itself_shifted_in_brightness_changes_nothing(rng: np.random.Generator) -> None:
    picture = rng.uniform(0, 200, (30, 40, 2))
    inside = np.zeros((30, 40), dtype=bool)
    inside[5:20, 8:30] = True
    assert_allclose(nsa.poisson_clone(picture, picture + 40, inside), picture, atol=1e-9)
    flat = nsa.poisson_clone(np.full_like(picture, 50.0), np.zeros_like(picture), inside)
    assert_allclose(flat, 50.0, atol=1e-9)
    with pytest.raises(ValueError, match="off the border"):
        nsa.poisson_clone(picture, picture, np.ones((30, 40), dtype=bool))


def test_peers_paint_one_defect_of_the_told_size_and_change_nothing_elsewhere(rng: np.random.Generator) -> None:
    like = shots(rng, 4, blur_px=1.0)
    targets = {kind: target_of([s for s in like if s.kind == kind]) for kind in ("crack", "pit")}
    images, kinds = [s.image for s in like], [s.kind for s in like]
    for painter in (cutpaste.CUTPASTE, cutpaste.CUTPASTE_SCAR, draem.DRAEM, nsa.NSA):
        painted = painter.paint(images, kinds, targets, np.random.default_rng(1))
        again = painter.paint(images, kinds, targets, np.random.default_rng(1))
        for before, after, repeated in zip(images, painted, again, strict=True):
            assert after.mask.any()
            assert after.mask.mean() < 0.1
            assert_array_equal(after.image, repeated.image)
            changed = np.abs(after.image.astype(int) - before).max(axis=-1)
            assert (changed[~after.mask] < 8).all()  # cloning changes a little around what it labels


def test_edge_sigma_is_that_of_the_blur() -> None:
    step = np.interp(np.arange(80), [39, 41], [60.0, 180.0])[None].repeat(80, axis=0)  # it lies on a pixel's middle
    for sigma in (0.8, 1.2, 2.0):
        found = edge_sigma(ndimage.gaussian_filter(step, sigma), np.ones((80, 80), dtype=bool), share=0.01)
        assert_allclose(found, sigma, rtol=0.2)


def test_statistics_do_not_depend_on_how_loosely_a_label_was_drawn(rng: np.random.Generator) -> None:
    exact = shot(rng, 0, blur_px=1.0)
    loose = Shot(exact.image, ndimage.binary_dilation(exact.mask, iterations=2), "pit", "pit-0", 250)
    tight, wide = find_outline(exact), find_outline(loose)
    assert_allclose((tight.distance < 0).sum(), (wide.distance < 0).sum(), rtol=0.1)
    assert_allclose((tight.distance < 0).sum() / 16, exact.mask.sum(), rtol=0.2)
    edge = NAMES.index("edge width")
    widths = statistics([exact, loose])[:, edge]
    assert_allclose(widths[0], widths[1], atol=0.15)


def test_a_softer_edge_is_measured_as_wider(rng: np.random.Generator) -> None:
    edge = [NAMES.index("edge width"), NAMES.index("edge slope")]
    hard, soft = (statistics(shots(rng, 6, blur_px=b))[:, edge].mean(axis=0) for b in (0.4, 2.0))
    assert soft[0] > hard[0] + 0.3
    assert soft[1] < hard[1] - 0.3


def test_unbiased_distances_are_zero_on_average_for_one_distribution(rng: np.random.Generator) -> None:
    groups = [str(k // 2) for k in range(40)]
    for kind in ("energy", "kid"):
        found, yard = [], []
        for _ in range(60):
            # two exposures of a tile are alike
            x, y = (np.repeat(rng.normal(size=(20, 3)), 2, axis=0) for _ in range(2))
            one = table(x, y, groups, groups, kind)
            w = group_weights(groups)
            found.append(one.excess(w, w))
            yard.append(one.yardstick(w, 20))
        assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(60)
        shifted = table(x, y + 2.0, groups, groups, kind)
        assert shifted.excess(w, w) > 3 * np.mean(yard)


def test_the_yardstick_is_the_mean_plain_distance_of_two_samples(rng: np.random.Generator) -> None:
    names = [str(k) for k in range(20)]
    w = group_weights(names)
    draws = rng.normal(size=(200, 2, 20, 3))
    plain = np.mean([energy_distance(x, y) for x, y in draws]) / np.sqrt(3)  # tables divide by the root of D
    yard = np.mean([table(x, y, names, names, "energy").yardstick(w, 20) for x, y in draws])
    assert_allclose(yard, plain, rtol=0.05)


def test_the_classifier_is_at_chance_for_one_distribution_and_sure_of_a_shift(rng: np.random.Generator) -> None:
    groups = np.array([f"{k // 2}" for k in range(80)])
    kinds = np.array(["pit", "crack"] * 40)
    scored = np.arange(80) < 40

    def auroc(shift: float) -> float:
        real = Side(rng.normal(size=(80, 5)), groups, kinds, scored)
        made = Side(rng.normal(size=(80, 5)) + shift, groups, kinds, np.ones(80, dtype=bool))
        pairs = cross_validate(real, made, fit_logistic, folds=4, seeds=range(3))
        assert not pairs.compared[~scored].any()  # what chooses never judges
        assert not pairs.compared[0, kinds != kinds[0]].any()
        return pairs.auroc(np.full(80, 1 / 80), np.full(80, 1 / 80))

    assert_allclose(np.mean([auroc(0.0) for _ in range(4)]), 0.5, atol=0.12)
    assert auroc(1.5) > 0.95


def test_no_group_is_on_both_sides_of_a_fold() -> None:
    groups = np.array([f"{k % 10}" for k in range(60)] + [f"made {k % 7}" for k in range(60)])
    sides = [
        Side(np.arange(start, start + 60.0)[:, None], groups[start : start + 60], np.full(60, "pit"), np.full(60, True))
        for start in (0, 60)
    ]
    trained: list[set[str]] = []

    def fit(x: NDArray[np.generic], y: Floats, weight: Floats, seed: int) -> Scorer:
        assert_allclose(weight.sum(), 1.0)
        seen = {groups[int(k)] for k in x[:, 0]}
        trained.append(seen)

        def score(new: NDArray[np.generic]) -> Floats:
            assert not seen & {groups[int(k)] for k in new[:, 0]}
            return np.zeros(len(new))

        return score

    cross_validate(sides[0], sides[1], fit, folds=5, seeds=[0])
    assert len(trained) == 5


def test_real_defects_are_read_whole_and_halved_by_tile(tmp_path: Path, rng: np.random.Generator) -> None:
    real = read_real(write_tiles(tmp_path / "tiles", rng))
    assert len(real.shots) == 16
    assert {s.image.shape for s in real.shots} == {(256, 256, 1)}
    judging = {s.group for s, j in zip(real.shots, real.judging, strict=True) if j}
    choosing = {s.group for s, j in zip(real.shots, real.judging, strict=True) if not j}
    assert len(judging) == len(choosing) == 4
    assert not judging & choosing
    for sound, own in zip(sound_shots(real.shots, rng), real.shots, strict=True):
        assert not (sound.mask & own.mask).any()


def test_matched_samples_have_the_areas_of_the_real_ones(rng: np.random.Generator) -> None:
    real = [shot(rng, k, blur_px=1, radius_px=10) for k in range(5)]
    made = [shot(rng, k, blur_px=1, radius_px=r) for k, r in enumerate(np.linspace(3, 12, 30))]
    chosen = matched(real, made, each=1)
    assert len(set(chosen)) == 5
    areas = [made[k].mask[patch_window(made[k])].sum() for k in chosen]
    assert_allclose(np.median(areas), np.median([s.mask.sum() for s in real]), rtol=0.25)


def test_samples_like_the_real_ones_come_out_nearer_than_hard_pastes(rng: np.random.Generator) -> None:
    real = measured("real", shots(rng, 8, blur_px=1.2))
    made = [measured("alike", shots(rng, 12, blur_px=1.2)), measured("hard", shots(rng, 12, blur_px=0.3))]
    scored = np.array([int(g.split("-")[1]) % 2 == 0 for g in real.groups])
    alike, hard = judge(real, scored, made, sizes=replace(SMALL, cnn_seeds=0))
    for name in ("energy, statistics", "energy, edge"):
        assert alike.metrics[name].value < hard.metrics[name].value
    assert_allclose(alike.metrics["energy, statistics"].value, 1.0, atol=0.6)
    assert hard.aurocs["logistic, statistics"].value > 0.9


def test_the_whole_benchmark_runs_and_writes_its_page(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fidelity, "PAINTERS", (cutpaste.CUTPASTE, nsa.NSA))
    recipes = {
        "tiles": "{kind: mvtec, path: '${MTD_ROOT}'}]\nforeground: {mode: texture}\n"
        "mechanisms: {fracture: {}, pitting: {}}",
        "embedded": "{kind: builtin, categories: [brick]}]\nmechanisms: {dent: {}, pitting: {}}",
    }
    for name, text in recipes.items():
        lines = f"name: {name}\nbank: {{trajectories: 4, groups: 2}}\nsources: [{text}\n"
        (tmp_path / f"{name}.yaml").write_text(lines, encoding="utf-8")
    options = Namespace(
        data=write_tiles(tmp_path / "tiles", rng),
        recipe=tmp_path / "tiles.yaml",
        embedded_recipe=tmp_path / "embedded.yaml",
        corpus=None,
        embedded_corpus=None,
        fit=False,
        workers=1,
    )
    result = evaluate(options, SMALL)
    assert [s.name for s in result.stages] == list(STAGES.values())
    masks = [np.stack([s.mask for s in stage.shots]) for stage in result.stages]
    assert all((mask == masks[0]).all() for mask in masks)
    text = page(result)
    for heading in ("## Distance to real", "## What each pass does", "## What falls short"):
        assert heading in text
    pictures(result, tmp_path)
    assert {p.name for p in tmp_path.glob("*.png")} == {
        "fidelity-ablation.png",
        "fidelity-bars.png",
        "fidelity-cracks.png",
        "fidelity-pits.png",
    }
