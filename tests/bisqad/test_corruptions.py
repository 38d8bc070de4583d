"""Corruptions: each makes a sample unsound in the way that it is named after, and in no other."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bisqad.corruptions import CORRUPTIONS, Specimen, corrupt

SIDE = 128
MASK_KINDS = ("shuffled_mask", "shifted_mask", "resized_mask")


def specimen(seed: int, *, whole: bool = False) -> Specimen:
    """A dark blot on a grainy part in the middle of an even background, or on a picture that is all part."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    part = np.ones((SIDE, SIDE), bool) if whole else np.hypot(y - 64, x - 64) < 52
    source = np.where(part[..., None], 150 + rng.normal(0, 5, (SIDE, SIDE, 1)), 40.0).repeat(3, axis=2)
    a, b = rng.uniform(48, 80, 2)
    stretch, turn = rng.uniform(1.5, 4), rng.uniform(0, np.pi)
    along = (y - a) * np.sin(turn) + (x - b) * np.cos(turn)
    across = (y - a) * np.cos(turn) - (x - b) * np.sin(turn)
    mask = np.hypot(along / stretch, across) < 6
    image = source - 45.0 * mask[..., None] * (1 + rng.normal(0, 0.1, (SIDE, SIDE, 1)))
    return Specimen(*(p.clip(0, 255).astype(np.uint8) if p.ndim == 3 else p for p in (image, mask, source, part)))


@pytest.fixture(scope="module")
def sound() -> Specimen:
    return specimen(0)


@pytest.fixture(scope="module")
def others() -> list[Specimen]:
    return [specimen(k) for k in range(1, 6)]


def made(kind: str, sound: Specimen, others: list[Specimen], seed: int) -> Specimen:
    corrupted = corrupt(kind, sound, others, seed=seed)
    assert corrupted is not None
    return corrupted


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("seed", range(4))
def test_every_kind_alters_the_sample_and_leaves_source_and_part(
    kind: str, seed: int, sound: Specimen, others: list[Specimen]
) -> None:
    corrupted = made(kind, sound, others, seed)
    assert_array_equal(corrupted.source, sound.source)
    assert_array_equal(corrupted.part, sound.part)
    assert corrupted.mask.any()
    assert corrupted.image.dtype == np.uint8
    assert (corrupted.image != sound.image).any() or (corrupted.mask != sound.mask).any()


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_same_seed_gives_the_same_corruption(kind: str, sound: Specimen, others: list[Specimen]) -> None:
    first, again = (made(kind, sound, others, 5) for _ in range(2))
    assert_array_equal(first.image, again.image)
    assert_array_equal(first.mask, again.mask)


@pytest.mark.parametrize("kind", MASK_KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_a_corrupted_mask_disagrees_and_leaves_the_picture(
    kind: str, seed: int, sound: Specimen, others: list[Specimen]
) -> None:
    corrupted = made(kind, sound, others, seed)
    assert_array_equal(corrupted.image, sound.image)
    overlap = np.count_nonzero(corrupted.mask & sound.mask) / np.count_nonzero(corrupted.mask | sound.mask)
    assert overlap < 0.65


@pytest.mark.parametrize("seed", range(4))
def test_an_invisible_defect_stays_below_what_is_visible(seed: int, sound: Specimen, others: list[Specimen]) -> None:
    corrupted = made("invisible", sound, others, seed)
    assert np.quantile(np.abs(corrupted.change).max(axis=2)[corrupted.mask], 0.9) < 8


@pytest.mark.parametrize("seed", range(4))
def test_a_defect_off_the_part_is_where_the_background_is(seed: int, sound: Specimen, others: list[Specimen]) -> None:
    corrupted = made("off_part", sound, others, seed)
    assert np.count_nonzero(corrupted.mask & ~corrupted.part) > np.count_nonzero(corrupted.mask) / 3


def test_where_all_is_part_nothing_can_lie_off_it(others: list[Specimen]) -> None:
    assert corrupt("off_part", specimen(0, whole=True), others, seed=0) is None


@pytest.mark.parametrize("seed", range(4))
def test_a_ghost_is_a_visible_change_without_a_label(seed: int, sound: Specimen, others: list[Specimen]) -> None:
    corrupted = made("ghost", sound, others, seed)
    assert_array_equal(corrupted.mask, sound.mask)
    unlabelled = (np.abs(corrupted.change).max(axis=2) >= 8) & ~sound.mask
    assert np.count_nonzero(unlabelled) > 0.3 * np.count_nonzero(sound.mask)


def test_wrong_shading_makes_a_dark_defect_bright(sound: Specimen, others: list[Specimen]) -> None:
    corrupted = made("wrong_shading", sound, others, 0)
    assert sound.change[sound.mask].mean() < -20
    assert corrupted.change[corrupted.mask].mean() > 20


def test_a_pasted_rectangle_is_all_that_changed(sound: Specimen, others: list[Specimen]) -> None:
    corrupted = made("pasted_rectangle", sound, others, 0)
    rows, columns = (np.flatnonzero(corrupted.mask.any(axis=axis)) for axis in (1, 0))
    assert np.count_nonzero(corrupted.mask) == len(rows) * len(columns)
    assert not (corrupted.image != corrupted.source).any(axis=2)[~corrupted.mask].any()


def test_a_sample_without_a_mask_is_left_alone(sound: Specimen, others: list[Specimen]) -> None:
    empty = Specimen(sound.source, np.zeros_like(sound.mask), sound.source, sound.part)
    assert all(corrupt(kind, empty, others, seed=0) is None for kind in CORRUPTIONS)


def test_unknown_kinds_and_others_that_do_not_fit_are_refused(sound: Specimen, others: list[Specimen]) -> None:
    with pytest.raises(ValueError, match="no corruption 'rust'"):
        corrupt("rust", sound, others, seed=0)
    with pytest.raises(ValueError, match="at least one sample"):
        corrupt("ghost", sound, [], seed=0)
    small = Specimen(*(a[:64, :64] for a in (sound.image, sound.mask, sound.source, sound.part)))
    with pytest.raises(ValueError, match="others"):
        corrupt("ghost", sound, [small], seed=0)
