"""The picture of the bank: each mechanism's trajectories, as they grow, without a photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.bank import load_trajectory
from pipeline.bank_sheet import draw_bank, draw_snapshot
from pipeline.recipe import Recipe, load_recipe
from tests.pipeline.conftest import MECHANISMS_OF_RECIPE

each_mechanism = pytest.mark.parametrize("name", MECHANISMS_OF_RECIPE)


@pytest.fixture(scope="module")
def recipe(recipe_file: Path) -> Recipe:
    return load_recipe(recipe_file, overrides={})


@each_mechanism
def test_state_is_a_picture_of_the_body_that_changes_with_the_defect(name: str, finished: Path, recipe: Recipe) -> None:
    for number in range(4):
        trajectory = load_trajectory(finished, recipe, name, number)
        first, last = (draw_snapshot(trajectory, k, side=96).astype(int) for k in (0, len(trajectory.severity) - 1))
        assert first.shape == last.shape == (96, 96, 3)
        sound = np.median(last, axis=(0, 1))
        changed = [np.abs(picture - sound).max(axis=2) > 12 for picture in (first, last)]
        assert changed[1].any()
        assert changed[1].sum() >= changed[0].sum()
        assert changed[1].mean() < 0.6


def test_crack_is_dark_where_it_is_open(finished: Path, recipe: Recipe) -> None:
    trajectory = load_trajectory(finished, recipe, "fracture", 1)
    crack = trajectory.crack_at(5)
    assert crack is not None
    picture = draw_snapshot(trajectory, 5, side=128)
    widest = int(np.argmax(crack.opening[0].mean(axis=1)))
    y, x = (crack.segments[widest].reshape(2, 2).mean(axis=0) * 128).astype(int)
    assert picture[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].min() < 100
    assert np.median(picture) > 200


def test_sheet_holds_so_many_of_each_mechanism_and_no_more_than_there_are(finished: Path, recipe: Recipe) -> None:
    both = {"fracture": 20, "pitting": 20}
    few, more, all_of_them = (draw_bank(finished, recipe, both, each=n) for n in (4, 8, 99))
    assert few.width == more.width == all_of_them.width
    assert few.height < more.height < all_of_them.height
    assert draw_bank(finished, recipe, both, each=20).tobytes() == all_of_them.tobytes()
    assert draw_bank(finished, recipe, {"pitting": 20}, each=4).height < few.height
    assert np.asarray(few).std() > 10
