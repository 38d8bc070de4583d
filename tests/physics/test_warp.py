"""Warped sheets: what a trajectory promises, symmetry, refinement, edges, and that every kind of warp can be drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from physics.mechanism import Trajectory, turn_array, turn_vector
from physics.warp import MECHANISM, STYLES, STYLES_AT_EDGE, Sheet, WarpParams, draw, grow, refine, simulate, turn

PARAMS = WarpParams()


def sheet_of(style: str, *, seed: int = 11, params: WarpParams = PARAMS) -> Sheet:
    rng = np.random.default_rng(seed)
    return draw(params, rng, from_edge=style in STYLES_AT_EDGE, style=style)


def fade(field: np.ndarray, *, from_edge: bool) -> float:
    """Largest value on the border / peak; the left side does not count where it is an edge."""
    border = [field[0], field[-1], field[:, -1]] + ([] if from_edge else [field[:, 0]])
    return float(max(np.abs(side).max() for side in border) / np.abs(field).max())


@pytest.fixture(scope="module")
def trajectories() -> dict[str, Trajectory]:
    return {style: grow(PARAMS, sheet_of(style)) for style in STYLES + STYLES_AT_EDGE}


@pytest.mark.parametrize("style", STYLES + STYLES_AT_EDGE)
def test_trajectory_keeps_its_promises(trajectories, style):
    found = trajectories[style]
    n, count = PARAMS.grid, PARAMS.snapshots
    assert set(found.fields) == set(MECHANISM.fields)
    for values in found.fields.values():
        assert values.shape == (count, n, n)
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
    assert (found.severity > 0).all()
    assert (np.diff(found.severity) >= 0).all()
    assert found.severity[-1] == 1.0
    assert (found.area > 0).all()
    assert (found.area < 1).all()
    assert (np.diff(found.area) >= 0).all()


@pytest.mark.parametrize("style", STYLES + STYLES_AT_EDGE)
def test_fields_fade_before_the_border(trajectories, style):
    found = trajectories[style]
    for values in found.fields.values():
        for state in values:
            assert fade(state, from_edge=found.from_edge) <= 0.02


@pytest.mark.parametrize("style", STYLES + STYLES_AT_EDGE)
def test_snapshots_differ_visibly(trajectories, style):
    height = trajectories[style].fields["height"]
    peak = np.abs(height[-1]).max()
    steps = np.abs(np.diff(height, axis=0)).max(axis=(1, 2)) / peak
    assert np.count_nonzero(steps > 0.005) >= 10


@pytest.mark.parametrize("style", STYLES + STYLES_AT_EDGE)
def test_slopes_can_be_seen_and_stay_moderate(trajectories, style):
    steepest = trajectories[style].facts["slope_largest"][-1]
    assert 0.05 < steepest < 1.6


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("dihedral", [1, 4, 7])
def test_turned_sheet_gives_the_turned_trajectory(trajectories, style, dihedral):
    turned = grow(PARAMS, turn(sheet_of(style), dihedral))
    plain = trajectories[style]
    height = turn_array(plain.fields["height"], dihedral)
    assert_allclose(turned.fields["height"], height, atol=3e-5 * np.abs(height).max())
    down, right = turn_vector(plain.fields["displacement_y"], plain.fields["displacement_x"], dihedral)
    assert_allclose(turned.fields["displacement_y"], down, atol=3e-5 * np.abs(down).max())
    assert_allclose(turned.fields["displacement_x"], right, atol=3e-5 * np.abs(right).max())


@pytest.mark.parametrize("style", STYLES + STYLES_AT_EDGE)
def test_finer_grid_gives_the_same_warp(trajectories, style):
    fine = grow(*refine(PARAMS, sheet_of(style)))
    coarse = trajectories[style]
    assert fine.fields["height"].shape[1] == 2 * PARAMS.grid
    peak, peak_fine = (np.abs(t.fields["height"][-1]).max() for t in (coarse, fine))
    assert_allclose(peak, peak_fine, rtol=0.1)
    assert_allclose(coarse.area[-1], fine.area[-1], rtol=0.1)


def test_same_seed_gives_the_same_bytes():
    first, second = (simulate(PARAMS, np.random.default_rng(5)) for _ in range(2))
    for name, values in first.fields.items():
        assert values.tobytes() == second.fields[name].tobytes()


def test_edge_share_is_respected():
    inside, edge = PARAMS.model_copy(update={"edge_share": 0.0}), PARAMS.model_copy(update={"edge_share": 1.0})
    assert not simulate(inside, np.random.default_rng(1)).from_edge
    assert simulate(edge, np.random.default_rng(1)).from_edge


def test_warp_at_the_edge_reaches_the_edge(trajectories):
    for style in STYLES_AT_EDGE:
        height = np.abs(trajectories[style].fields["height"][-1])
        assert height[:, :2].max() > 0.1 * height.max()


def test_blister_only_lifts(trajectories):
    height = trajectories["blister"].fields["height"]
    assert height.min() >= 0.0
    assert height.max() > 0.0


def test_press_springs_back(trajectories):
    ratio = trajectories["press"].facts["springback_residual_over_loaded"][-1]
    assert 0.05 < ratio < 0.95


def test_sheet_without_loads_stays_flat():
    sheet = sheet_of("crease")
    nothing = np.zeros_like(sheet.fold)
    bare = replace(sheet, fold=nothing, growth=nothing, unevenness=nothing[0], pressure=nothing[0], depth=0.0)
    with pytest.raises(ArithmeticError, match="flat"):
        grow(PARAMS, bare)


def test_turning_four_times_changes_nothing():
    sheet = sheet_of("crumple")
    turned = sheet
    for _ in range(4):
        turned = turn(turned, 1)
    assert_array_equal(turned.fold, sheet.fold)
    assert_array_equal(turned.growth, sheet.growth)


def test_every_style_is_drawn():
    rng = np.random.default_rng(0)
    small = PARAMS.model_copy(update={"grid": 32})
    drawn = {draw(small, rng, from_edge=k % 3 == 0).style for k in range(200)}
    assert drawn == set(STYLES + STYLES_AT_EDGE)


def test_all_kinds_of_trajectories_hold_together():
    small = PARAMS.model_copy(update={"grid": 64, "snapshots": 10})
    for seed in range(40):
        found = simulate(small, np.random.default_rng(seed))
        height = found.fields["height"]
        assert np.isfinite(height).all()
        assert 1e-4 < np.abs(height[-1]).max() < 0.2, seed
