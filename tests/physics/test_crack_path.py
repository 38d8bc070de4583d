"""Paths traced on damage fields exp(-distance / l) of cracks whose place, length and topology are known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from physics.crack_path import CrackPath, largest_nearby, trace_ridge

CORNERS = 121
MIDDLE = 60.0
Points = list[tuple[float, float]]


def away_from(*lines: Points, corners: int = CORNERS) -> NDArray[np.float64]:
    """Distance of every corner to the nearest of some open polygons."""
    y, x = np.mgrid[:corners, :corners].astype(float)
    nearest = np.full((corners, corners), np.inf)
    for line in lines:
        for (y0, x0), (y1, x1) in pairwise(line):
            dy, dx = y1 - y0, x1 - x0
            t = np.clip(((y - y0) * dy + (x - x0) * dx) / (dy * dy + dx * dx), 0, 1)
            nearest = np.minimum(nearest, np.hypot(y - y0 - t * dy, x - x0 - t * dx))
    return nearest


def trace(distance: NDArray[np.float64], *, length: float = 2.0) -> CrackPath:
    # a cusp between two corners shows them no more than exp(-1 / (2 l)) of itself
    return trace_ridge(np.exp(-distance / length), low=0.5, high=0.7)


def ray(angle: float, radius: float, *, start: tuple[float, float] = (MIDDLE, MIDDLE)) -> tuple[float, float]:
    return (start[0] + radius * np.sin(angle), start[1] + radius * np.cos(angle))


def length_of(path: CrackPath) -> float:
    return float(np.linalg.norm(path.nodes[path.edges[:, 0]] - path.nodes[path.edges[:, 1]], axis=1).sum())


def components(path: CrackPath) -> int:
    count = len(path.nodes)
    graph = coo_array((np.ones(len(path.edges)), (path.edges[:, 0], path.edges[:, 1])), shape=(count, count))
    return int(connected_components(graph, directed=False)[0])


def ends(path: CrackPath) -> int:
    return int((path.degree == 1).sum())


def junctions(path: CrackPath) -> int:
    return int((path.degree > 2).sum())


@pytest.mark.parametrize("length", [2.0, 2.5, 4.0])
@pytest.mark.parametrize("shift", np.linspace(0, 1, 11))
@pytest.mark.parametrize("upright", [False, True])
def test_a_straight_crack_along_the_grid_is_placed_within_a_sixth_of_a_cell(length, shift, upright):
    distance = away_from([(MIDDLE + shift, 20.0), (MIDDLE + shift, 100.0)])
    path = trace(distance.T if upright else distance, length=length)
    across, along = path.nodes.T[::-1] if upright else path.nodes.T
    inner = (along > 23) & (along < 97)
    assert inner.sum() > 70
    assert np.abs(across[inner] - MIDDLE - shift).max() < 0.151
    assert (junctions(path), ends(path), components(path)) == (0, 2, 1)


@given(angle=st.floats(0, np.pi), y=st.floats(0, 1), x=st.floats(0, 1), length=st.sampled_from((1.5, 2.0, 3.0)))
@settings(deadline=None, max_examples=150)
def test_a_slanted_crack_is_one_piece_of_the_right_length_in_the_right_place(angle, y, x, length):
    start = (MIDDLE + y, MIDDLE + x)
    path = trace(away_from([ray(angle, -50.0, start=start), ray(angle, 50.0, start=start)]), length=length)
    assert (junctions(path), ends(path), components(path)) == (0, 2, 1)
    assert_allclose(length_of(path), 100.0, rtol=0.03)
    dy, dx = (path.nodes - start).T
    across, along = dy * np.cos(angle) - dx * np.sin(angle), dy * np.sin(angle) + dx * np.cos(angle)
    assert np.abs(across[np.abs(along) < 46]).max() < 0.3
    assert_allclose([along.min(), along.max()], [-50, 50], rtol=0, atol=2)


@pytest.mark.parametrize("turn", np.linspace(0, np.pi, 9))
@pytest.mark.parametrize("kink", [0.4, 0.9, 1.4])
def test_a_kinked_crack_keeps_its_length_and_its_kink(turn, kink):
    arms = [ray(turn, 45.0), (MIDDLE, MIDDLE), ray(turn + np.pi - kink, 45.0)]
    path = trace(away_from(arms))
    assert (junctions(path), ends(path), components(path)) == (0, 2, 1)
    assert_allclose(length_of(path), 90.0, rtol=0.03)
    # smoothing rounds the corner off, by less than the regularisation length
    assert np.linalg.norm(path.nodes - MIDDLE, axis=1).min() < 1.5
    assert np.max(distance_to_polyline(path.nodes, arms)) < 1.0


def distance_to_polyline(nodes: NDArray[np.float64], line: Points) -> NDArray[np.float64]:
    nearest = np.full(len(nodes), np.inf)
    for a, b in pairwise(np.array(line)):
        t = np.clip((nodes - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(nodes - a - t[:, None] * (b - a), axis=1))
    return nearest


@given(turn=st.floats(0, 2 * np.pi), y=st.floats(0, 1), x=st.floats(0, 1))
@settings(deadline=None, max_examples=100)
def test_a_forked_crack_has_one_junction_three_ends_and_no_spur(turn, y, x):
    fork = (MIDDLE + y, MIDDLE + x)
    arms = [[fork, ray(turn + k * 2 * np.pi / 3, 40.0, start=fork)] for k in range(3)]
    path = trace(away_from(*arms))
    assert (junctions(path), ends(path), components(path)) == (1, 3, 1)
    assert_array_equal(path.degree.max(), 3)
    assert_allclose(length_of(path), 120.0, rtol=0.03)
    assert np.linalg.norm(path.nodes[path.degree == 3][0] - fork) < 1.5


@pytest.mark.parametrize("radius", [12.0, 25.3, 40.0])
def test_a_closed_crack_is_a_ring(radius):
    y, x = np.mgrid[:CORNERS, :CORNERS]
    path = trace(np.abs(np.hypot(y - 60.3, x - 59.6) - radius))
    assert np.all(path.degree == 2)
    assert components(path) == 1
    assert_allclose(length_of(path), 2 * np.pi * radius, rtol=0.03)
    assert_allclose(np.hypot(*(path.nodes - [60.3, 59.6]).T), radius, rtol=0, atol=0.4)


@pytest.mark.parametrize("radius", [1.0, 2.5])
def test_an_island_too_small_to_tell_from_the_crack_is_no_ring(radius):
    y, x = np.mgrid[:CORNERS, :CORNERS]
    island = np.hypot(y - MIDDLE, x - MIDDLE)
    lip = np.maximum(away_from([(MIDDLE, 20.0), (MIDDLE, 100.0)]) - 3.0, 0.0)
    path = trace_ridge(np.where(island < radius, 0.0, np.exp(-lip / 2)), low=0.5, high=0.7)
    assert (path.degree == 1).sum() == 2
    assert len(path.edges) == len(path.nodes) - 1  # a tree: no ring


def test_two_cracks_stay_two():
    path = trace(away_from([(40.3, 20.0), (45.1, 90.0)], [(70.2, 30.0), (95.0, 100.0)]))
    assert components(path) == 2
    assert (junctions(path), ends(path)) == (0, 4)


@pytest.mark.parametrize("level", [0.0, 0.49])
def test_sound_material_has_no_path(level):
    path = trace_ridge(np.full((33, 33), level), low=0.5, high=0.7)
    assert path.nodes.shape == (0, 2)
    assert path.edges.shape == (0, 2)
    assert path.corners.shape == (0, 2)
    assert path.degree.shape == (0,)


def test_damage_that_is_nowhere_broken_is_no_crack():
    damage = 0.65 * np.exp(-away_from([(MIDDLE, 20.0), (MIDDLE, 100.0)]) / 2)
    assert len(trace_ridge(damage, low=0.5, high=0.7).nodes) == 0
    assert len(trace_ridge(damage, low=0.5, high=0.6).nodes) > 70


def test_short_side_branches_are_spurs_and_long_ones_are_not():
    trunk = [(MIDDLE, 20.0), (MIDDLE, 100.0)]
    short, long = (trace(away_from(trunk, [(MIDDLE, 60.0), (MIDDLE + up, 60.0)])) for up in (5.0, 12.0))
    assert (junctions(short), ends(short), components(short)) == (0, 2, 1)
    assert (junctions(long), ends(long), components(long)) == (1, 3, 1)


def test_a_crumb_is_no_crack():
    assert len(trace(away_from([(MIDDLE, 60.0), (MIDDLE, 62.0)])).nodes) == 0


def test_noise_on_the_damage_makes_no_spurs(rng):
    distance = away_from([(50.0, 15.0), (58.0, 60.0), (80.0, 105.0)])
    for _ in range(10):
        grain = ndimage.gaussian_filter(rng.standard_normal(distance.shape), 1.0)
        path = trace(np.maximum(distance + 0.8 * grain, 0))
        assert (junctions(path), components(path)) == (0, 1)


def test_a_crack_that_runs_off_the_square_is_traced_to_its_side():
    path = trace(away_from([(MIDDLE, -20.0), (MIDDLE, 60.0)]))
    assert path.nodes[:, 1].min() < 2.0
    assert np.all((path.nodes >= 0) & (path.nodes <= CORNERS - 1))


@pytest.mark.parametrize("turns", range(4))
def test_nodes_belong_to_their_corners(turns):
    path = trace(np.rot90(away_from([(30.2, 20.0), (71.3, 80.0)]), turns))
    assert np.abs(path.nodes - path.corners).max() < 1.5
    assert path.edges.max() < len(path.nodes) == len(path.corners)
    assert np.linalg.norm(np.diff(path.nodes[path.edges], axis=1), axis=-1).max() < 2.0


def test_smoothing_straightens_a_staircase():
    distance = away_from([(30.0, 20.0), (47.0, 100.0)])
    rough, smooth = (trace_ridge(np.exp(-distance / 2), low=0.5, high=0.7, smoothing=passes) for passes in (0, 4))
    assert length_of(smooth) < length_of(rough)
    assert_array_equal(smooth.edges, rough.edges)


def test_largest_nearby_looks_one_corner_around():
    field = np.zeros((9, 9))
    field[4, 4], field[0, 8] = 3.0, 2.0
    corners = np.array([[4, 4], [3, 5], [2, 4], [0, 7], [8, 8]])
    assert_array_equal(largest_nearby(field, corners), [3, 3, 0, 2, 0])
