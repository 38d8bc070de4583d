"""The shrinking film against known answers: shear lag, order, an independent solver, profiles, junctions, isotropy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from benchmarks.verification import craze as verification
from physics.crack_network import junction_angles, merge_straight_segments
from physics.crack_path import CrackPath, trace_ridge
from physics.craze import (
    CrazeParams,
    FilmBody,
    _grow_as_it_lies,
    draw,
    grow,
    refine,
    relax_film_damage,
    shear_lag_strength_load,
    shear_lag_stress,
    shrinkage_tensor,
    simulate,
    turn,
)
from physics.mechanism import MAX_SEGMENTS, Trajectory, turn_array

SMALL = CrazeParams(grid=64, snapshots=8, screening=(7.0, 9.0))
EVEN = {"directed_share": 0.0, "edge_share": 0.0, "patch_radius": (0.4, 0.48)}


@pytest.fixture(scope="module")
def networks() -> list[Trajectory]:
    """Mature networks of films that shrink alike in all directions."""
    params = CrazeParams(**EVEN, overload=(1.55, 1.8))
    return [grow(params, draw(params, np.random.default_rng(seed), from_edge=False)) for seed in range(16)]


def lines(trajectory: Trajectory) -> np.ndarray:
    ends = trajectory.crack.segments.reshape(-1, 2, 2).astype(np.float64)
    return ends[:, 1] - ends[:, 0]


def test_elastic_solver_is_second_order_on_manufactured_solutions():
    assert_allclose(verification.convergence_order((16, 32, 64)), 2.0, atol=0.1)


@pytest.mark.parametrize("half_length", [8, 24, 40])
def test_stress_in_a_film_segment_is_that_of_shear_lag(half_length):
    coarse = verification.shear_lag_error(half_length=half_length, screening=8.0)
    fine = verification.shear_lag_error(half_length=2 * half_length, screening=16.0)
    assert coarse < 0.01
    assert_allclose(np.log2(coarse / fine), 2.0, atol=0.15)


def test_elastic_solver_agrees_with_a_sparse_direct_solver():
    assert verification.solver_gap() < 1e-8


def test_energy_of_the_film_falls_to_its_minimum_in_the_solution(rng):
    body = FilmBody(16, screening=5.0, shrinkage=(1.0, 0.5, 0.2), envelope=rng.uniform(0.0, 1.0, (16, 16)))
    body.solve(tolerance=1e-12)
    least, solution = body.elastic_energy(), body.displacement.copy()
    way = rng.standard_normal(solution.shape)
    rise = []
    for step in (1e-3, -1e-3):
        body.displacement[:] = solution + step * way
        rise.append(body.elastic_energy() - least)
    assert min(rise) > 0
    assert_allclose(rise[0], rise[1], rtol=1e-6)  # no slope, curvature only


def test_uniform_shrinkage_of_a_wide_film_leaves_its_middle_under_biaxial_tension():
    body = FilmBody(96, screening=5.0, poisson=0.3)
    body.solve(tolerance=1e-12)
    assert_allclose(body.stress()[:, 48, 48], [1.3, 1.3, 0.0], atol=1e-3)


def test_compression_is_neither_softened_nor_drives_damage():
    body = FilmBody(32, screening=5.0, shrinkage=(-1.0, -1.0, 0.0))
    damage = np.full((34, 34), 0.8)
    body.set_damage(damage, residual_stiffness=1e-3)
    assert_allclose(body.bulk, body.moduli[0])
    assert np.all(body.driving_energy() == 0.0)


@pytest.mark.parametrize("length_ratio", [2.0, 4.0])
def test_damage_across_a_crack_is_the_exponential_profile(length_ratio):
    x, got = verification.crack_profile(length_ratio=length_ratio)
    assert_allclose(got, np.exp(-np.abs(x) / length_ratio), atol=0.01 / length_ratio)


def test_surface_energy_of_a_crack_is_that_of_the_discrete_profile():
    assert_allclose(verification.profile_energy(length_ratio=2.0), np.sqrt(1.0 + 1.0 / 16.0), rtol=1e-4)


def test_damage_of_an_evenly_strained_film_is_that_of_the_local_balance():
    even = np.ones((20, 20))
    d = relax_film_damage(0.0 * even, 0.3 * even, even, length_ratio=1.5)
    assert_allclose(d, 2 * 1.5 * 0.3 / (1 + 2 * 1.5 * 0.3), atol=1e-6)


def test_damage_never_heals():
    floor = np.zeros((20, 20))
    floor[10, 4:9] = 0.7
    d = relax_film_damage(floor, 0.0 * floor, np.ones_like(floor), length_ratio=1.5)
    assert np.all(d >= floor)


def test_load_that_breaks_a_segment_is_that_of_shear_lag():
    halves = (4, 8, 16, 32)
    known = [shear_lag_strength_load(half_length=a, screening=8.0) for a in halves]
    assert_allclose(verification.breaking_loads(half_lengths=halves, screening=8.0), known, rtol=0.02)


def test_crack_spacing_saturates_at_a_few_screening_lengths(networks):
    """Pieces are never narrower than the film can be strained over, and the last load adds less than the first."""
    for trajectory in networks:
        load, length = (np.array(trajectory.facts[k]) for k in ("shrinkage_load", "length_sides"))
        half = np.searchsorted(load, np.sqrt(load[0] * load[-1]))
        assert length[half] > 0.4 * length[-1]
        covered = np.count_nonzero(trajectory.fields["damage"][-1] > 0.3) / 128**2
        spacing = 2 * 128 * covered / length[-1]  # of a square network
        assert spacing > 1.0 * trajectory.facts["screening_cells"][0]


def test_junctions_of_grown_networks_lie_between_t_and_y():
    params = CrazeParams(**EVEN)
    found = []
    for seed in range(8):
        trajectory = grow(params, draw(params, np.random.default_rng(seed), from_edge=False))
        found.append(junction_angles(trace_ridge(trajectory.fields["damage"][-1], low=0.75, high=0.9), reach=5))
    largest, _, least = np.degrees(np.concatenate(found)).mean(axis=0)
    assert 132.0 < largest < 180.0
    assert 80.0 < least < 108.0


def test_directions_of_cracks_do_not_follow_the_grid(networks):
    step = np.concatenate([lines(trajectory) for trajectory in networks])
    angle = np.arctan2(step[:, 0], step[:, 1])
    length = np.hypot(*step.T)
    fourth = np.sum(length * np.exp(4j * angle)) / length.sum()  # 1: all along the axes, -1: all along the diagonals
    assert abs(fourth.real) < 0.12
    near_axis = np.abs((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4) < np.pi / 16
    near_diagonal = np.abs(angle % (np.pi / 2) - np.pi / 4) < np.pi / 16
    for near in (near_axis, near_diagonal):  # a quarter of all directions each
        assert 0.7 < length[near].sum() / length.sum() / 0.25 < 1.3


def test_networks_close_polygons_and_differ_in_their_number(networks):
    closed = np.array([trajectory.facts["closed_polygons"][-1] for trajectory in networks])
    assert closed.sum() > 100
    assert len(np.unique(closed)) > 8


def test_directed_shrinkage_gives_parallel_cracks_across_it():
    params = CrazeParams(**EVEN | {"directed_share": 1.0}, lesser_shrinkage=(0.1, 0.2))
    for seed in range(3):
        specimen = replace(
            draw(params, np.random.default_rng(seed), from_edge=False), shrinkage=shrinkage_tensor(0.1, 0.5)
        )
        step = lines(grow(params, specimen))
        across = np.arctan2(step[:, 0], step[:, 1]) - 0.5
        assert np.sum(np.hypot(*step.T) * np.cos(2 * across)) < -0.6 * np.hypot(*step.T).sum()


def test_same_stream_gives_the_same_bytes():
    first, second = (simulate(SMALL, np.random.default_rng(3)) for _ in range(2))
    assert first.fields["damage"].tobytes() == second.fields["damage"].tobytes()
    assert first.crack.opening.tobytes() == second.crack.opening.tobytes()
    assert_array_equal(first.crack.segments, second.crack.segments)


@pytest.mark.parametrize("dihedral", range(1, 8))
def test_turned_film_grows_the_turned_network(dihedral):
    params = SMALL.model_copy(update={"directed_share": 1.0})
    specimen = draw(params, np.random.default_rng(4), from_edge=False)
    # as they lie: `grow` would lay both the same way
    straight, turned = (_grow_as_it_lies(params, s) for s in (specimen, turn(specimen, dihedral)))
    assert_allclose(turned.fields["damage"], turn_array(straight.fields["damage"], dihedral), atol=5e-3)


@pytest.mark.parametrize("from_edge", [False, True])
def test_trajectory_keeps_its_promises(from_edge):
    params = CrazeParams()
    for seed in range(6):
        trajectory = grow(params, draw(params, np.random.default_rng(seed), from_edge=from_edge))
        damage, crack = trajectory.fields["damage"], trajectory.crack
        assert damage.dtype == np.float32
        assert np.all(np.isfinite(damage))
        assert np.all(np.diff(damage, axis=0) >= 0)
        assert np.all(np.diff(trajectory.severity) >= 0)
        assert np.all(np.diff(trajectory.area) >= 0)
        assert trajectory.severity[0] > 0
        assert trajectory.severity[-1] == 1
        assert len(np.unique(trajectory.severity)) >= 10
        assert 0 < len(crack.segments) <= MAX_SEGMENTS
        assert crack.segments.min() >= 0
        assert crack.segments.max() <= 1
        assert_allclose(crack.opening.max(axis=(1, 2)), 1.0)
        border = [damage[:, 0], damage[:, -1], damage[..., -1]] + ([] if from_edge else [damage[..., 0]])
        assert max(float(side.max()) for side in border) <= 0.02 * damage.max()


def test_networks_from_the_edge_reach_it():
    params = CrazeParams()
    reached = [
        grow(params, draw(params, np.random.default_rng(seed), from_edge=True)).crack.segments[:, 1::2].min() == 0.0
        for seed in range(6)
    ]
    assert np.mean(reached) >= 0.8


def test_network_keeps_its_length_and_area_on_a_grid_twice_as_fine():
    params = CrazeParams(snapshots=8)
    ratios = []
    for seed in range(5):
        specimen = draw(params, np.random.default_rng(seed), from_edge=False)
        coarse, fine = grow(params, specimen), grow(*refine(params, specimen))
        ratios.append(
            (fine.facts["length_sides"][-1] / coarse.facts["length_sides"][-1], fine.area[-1] / coarse.area[-1])
        )
    assert_allclose(np.mean(ratios, axis=0), 1.0, atol=0.08)


def test_merging_keeps_ends_junctions_and_length():
    damage = np.zeros((64, 64))
    damage[32, 5:60] = 1.0
    damage[5:33, 30] = 1.0
    path = trace_ridge(damage, low=0.75, high=0.9)
    merged = merge_straight_segments(path, most=40)
    assert len(merged.edges) < 0.6 * len(path.edges)

    def length(p: CrackPath) -> float:
        return float(np.linalg.norm(p.nodes[p.edges[:, 1]] - p.nodes[p.edges[:, 0]], axis=1).sum())

    assert_allclose(length(merged), length(path), rtol=0.01)
    for degree in (1, 3):
        assert_array_equal(
            np.unique(merged.nodes[merged.degree == degree], axis=0),
            np.unique(path.nodes[path.degree == degree], axis=0),
        )


def test_widths_differ_along_the_network(networks):
    for trajectory in networks[:4]:
        last = trajectory.crack.opening[-1].mean(axis=1)
        assert np.std(last) > 0.04


def test_shear_lag_rises_from_nothing_at_the_ends_to_its_middle():
    stress = shear_lag_stress(np.array([-5.0, 0.0, 5.0]), half_length=5.0, screening=2.0)
    assert_allclose(stress, [0.0, 1.0 - 1.0 / np.cosh(2.5), 0.0], atol=1e-12)


@pytest.mark.parametrize(
    "wrong", [{"screening": (1.0, 9.0)}, {"poisson": (0.2, 1.0)}, {"overload": (0.5, 2.0)}, {"width": (2.0, 1.0)}]
)
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError):
        CrazeParams(**wrong)


def test_film_of_wrong_numbers_is_refused():
    with pytest.raises(ValueError, match="screening"):
        FilmBody(16, screening=0.0)
    with pytest.raises(ValueError, match="envelope"):
        FilmBody(16, screening=5.0, envelope=np.ones((3, 3)))
    with pytest.raises(ValueError, match="positive"):
        shear_lag_strength_load(half_length=0.0, screening=1.0)
    with pytest.raises(ValueError, match="shape"):
        relax_film_damage(np.zeros((4, 4)), np.zeros((4, 5)), np.ones((4, 4)), length_ratio=1.5)
