"""The AT2 solver against known answers: orders, profiles, energies, loads, and an independent sparse solver."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError
from scipy import ndimage

from benchmarks.verification import fracture as verification
from physics.antiplane import AntiplaneBody
from physics.fracture import (
    MECHANISM,
    FractureParams,
    Specimen,
    body_of,
    draw,
    grow,
    random_toughness,
    refine,
    simulate,
    turn,
)
from physics.mechanism import turn_array
from physics.phase_field import (
    ISOTROPIC,
    discrete_surface_energy,
    equilibrate,
    relax_damage,
    structural_tensor,
    surface_energy,
)
from physics.plane_strain import PlaneStrainBody

RESIDUAL = 1e-4
MODES = ("antiplane", "plane_strain")


def broken_row(cells: int, *, first: int, last: int) -> np.ndarray:
    damage = np.zeros((cells + 1, cells + 1))
    damage[cells // 2, first:last] = 1.0
    return damage


def test_elastic_solver_is_second_order_on_manufactured_solutions():
    orders = verification.orders([verification.antiplane_error(cells) for cells in (16, 32, 64, 128)])
    assert ((orders > 1.9) & (orders < 2.1)).all(), orders


def test_damage_solver_is_second_order_on_manufactured_solutions():
    orders = verification.orders([verification.damage_error(cells) for cells in (32, 64, 128, 256)])
    assert ((orders > 1.9) & (orders < 2.1)).all(), orders


def test_elastic_solver_agrees_with_a_sparse_direct_solver(rng):
    damage = np.clip(ndimage.gaussian_filter(rng.standard_normal((49, 49)), 1.0) * 2, 0, 1)
    damage[20, 5:30] = 1.0
    assert verification.antiplane_sparse_gap(48, damage, angle=float(rng.uniform(0, 2 * np.pi))) < 1e-8


def test_iterations_do_not_grow_with_the_grid():
    counts = []
    for cells in (64, 128, 256):
        body = AntiplaneBody(cells, clamped="all", angle=np.pi / 2)
        body.set_damage(broken_row(cells, first=cells // 4, last=3 * cells // 4), residual_stiffness=RESIDUAL)
        counts.append(body.solve(tolerance=1e-8)[0])
    assert max(counts) <= 14
    assert max(counts) - min(counts) <= 3


@pytest.mark.parametrize("length_ratio", [2.0, 3.0, 4.0])
def test_damage_profile_across_a_crack_is_exponential(length_ratio):
    distance, profile = verification.damage_profile(length_ratio)
    assert_allclose(profile, np.exp(-np.abs(distance) / length_ratio), atol=0.005)


@pytest.mark.parametrize("length_ratio", [1.5, 2.0, 4.0])
def test_discrete_surface_energy_is_the_closed_form(length_ratio):
    energy = verification.straight_crack_energy(length_ratio)
    assert_allclose(energy, discrete_surface_energy(length_ratio), rtol=1e-4)


@pytest.mark.parametrize("strength", [0.5, 3.0])
def test_a_crack_across_the_grain_costs_more_and_one_along_it_does_not(strength):
    across, along = (
        verification.straight_crack_energy(2.0, tensor=structural_tensor(strength, angle)) for angle in (np.pi / 2, 0.0)
    )
    dearer = np.sqrt(1 + strength)
    assert_allclose(across, dearer * discrete_surface_energy(2.0 * dearer), rtol=1e-4)
    assert_allclose(along, discrete_surface_energy(2.0), rtol=1e-4)


def test_slanted_grain_is_resolved_by_the_links_along_the_diagonals():
    """Energy of a smooth damage field with a slanted tensor, against the integral taken by fine differences."""
    cells, length = 256, 8.0
    y, x = np.mgrid[: cells + 1, : cells + 1]
    d = np.exp(-(((y - 128.0) / 30) ** 2 + ((x - 120.0) / 40) ** 2))
    tensor = structural_tensor(2.0, 0.5)
    gy, gx = np.gradient(d)
    density = d**2 + length**2 * (tensor[0] * gy**2 + tensor[1] * gx**2 + 2 * tensor[2] * gy * gx)
    expected = density.sum() / (2 * length)
    energy = surface_energy(d, np.ones_like(d), length_ratio=length, tensor=tensor)
    assert_allclose(energy, expected, rtol=2e-3)


@pytest.mark.parametrize("angle", [0.3, 1.2, 2.5])
def test_damage_with_a_slanted_grain_minimises_its_energy(rng, angle):
    """The relaxed damage has less energy than any small change of it: the kernels' links are those of the energy."""
    tensor = structural_tensor(2.0, angle)
    psi = np.abs(ndimage.gaussian_filter(rng.standard_normal((41, 41)), 2.0))
    toughness = random_toughness(40, rng, sigma=0.4, correlation=2.0)
    zero = np.zeros((41, 41))
    d = relax_damage(zero, psi, toughness, length_ratio=2.0, tensor=tensor, tolerance=1e-13)

    def energy(values):
        elastic = (((1 - values) ** 2) * psi)[1:-1, 1:-1].sum()
        return elastic + surface_energy(values, toughness, length_ratio=2.0, tensor=tensor)

    slopes = []
    for _ in range(20):
        step = np.zeros_like(d)
        step[4:-4, 4:-4] = rng.standard_normal((33, 33))
        slopes.append((energy(d + 1e-5 * step) - energy(d - 1e-5 * step)) / 2e-5 / np.linalg.norm(step))
    assert np.abs(slopes).max() < 1e-6


@pytest.mark.parametrize(("cells", "half_rows"), [(128, 12), (128, 16), (256, 32)])
def test_energy_release_of_the_mode_three_strip(cells, half_rows):
    """A long strip whose faces are moved by +-U releases mu U^2 / H per length of crack."""
    assert_allclose(verification.strip_energy_release("antiplane", cells=cells, half_rows=half_rows), 1.0, rtol=1e-3)


@pytest.mark.parametrize(
    ("mode", "cells", "half_rows", "length_ratio"),
    [
        ("antiplane", 128, 16, 1.5),
        ("antiplane", 128, 24, 2.0),
        ("antiplane", 256, 32, 4.0),
        ("plane_strain", 128, 24, 2.0),
    ],
)
def test_crack_runs_at_the_griffith_load_of_the_strip(mode, cells, half_rows, length_ratio):
    """With the discrete surface energy and the softening of AT2 ahead of the crack; see `griffith_load`."""
    geometry = {"cells": cells, "half_rows": half_rows, "length_ratio": length_ratio}
    assert verification.cells_run(mode, 0.97, **geometry) <= 1
    assert verification.cells_run(mode, 1.03, **geometry) >= 20


@pytest.mark.parametrize(("mode", "tolerance"), [("antiplane", 0.06), ("plane_strain", 0.02)])
def test_a_straight_crack_opens_as_an_ellipse(mode, tolerance):
    place, opening, ellipse = verification.interior_crack_opening(mode)
    assert len(place) >= 30
    assert_allclose(opening, ellipse, rtol=0, atol=2 * tolerance)
    assert np.sqrt(np.mean((opening - ellipse) ** 2)) < tolerance


@pytest.mark.parametrize("mode", MODES)
def test_a_crack_opens_most_in_its_middle_and_tapers_to_its_tips(mode):
    place, opening, _ = verification.interior_crack_opening(mode, length_ratio=2.0)
    assert abs(place[np.argmax(opening)]) < 0.1
    assert opening[[0, -1]].max() < 0.55 * opening.max()
    assert (np.diff(opening[place < 0]) > -1e-6).all()


def test_damage_never_falls_below_its_floor(rng):
    floor = np.clip(ndimage.gaussian_filter(rng.random((65, 65)), 1.5), 0, 1)
    damage = relax_damage(floor, np.zeros_like(floor), np.ones_like(floor), length_ratio=2.0, tolerance=1e-10)
    assert (damage >= floor)[1:-1, 1:-1].all()


def test_viscosity_holds_damage_back(rng):
    zero = np.zeros((33, 33))
    psi = ndimage.gaussian_filter(rng.random((33, 33)), 2.0)
    soft, stiff = (relax_damage(zero, psi, zero + 1, length_ratio=2.0, viscosity=value) for value in (0.0, 5.0))
    assert (stiff[1:-1, 1:-1] < soft[1:-1, 1:-1]).all()


def test_damage_of_other_shapes_or_tensors_is_refused():
    zero = np.zeros((9, 9))
    with pytest.raises(ValueError, match="same shape"):
        relax_damage(zero, zero[1:], zero, length_ratio=2.0)
    with pytest.raises(ValueError, match="off-diagonal"):
        relax_damage(zero, zero, zero + 1, length_ratio=2.0, tensor=(1.0, 2.0, -1.5))


@pytest.mark.parametrize("mode", MODES)
def test_alternate_minimisation_lowers_the_energy(rng, mode):
    cells = 64
    toughness = random_toughness(cells, rng, sigma=0.4, correlation=2.0)
    start = broken_row(cells, first=0, last=16)
    load = 1.1 * 2 * np.sqrt(cells / 2) / np.sqrt(verification.strip_modulus(mode, 0.2))
    energies = []
    for sweeps in (1, 2, 4, 8, 16, 32):
        if mode == "antiplane":
            body = AntiplaneBody(cells, clamped="faces", angle=np.pi / 2)
        else:
            gradient = np.array([[1.0, 0.0], [0.0, 0.0]]) / cells
            body = PlaneStrainBody(cells, poisson=0.2, gradient=gradient, open_columns=True)
        state = equilibrate(
            body, start, toughness, load=load, length_ratio=2.0, residual_stiffness=RESIDUAL, max_sweeps=sweeps
        )
        # displacement for the damage just found, so that both energies belong to one state
        body.set_damage(state.damage, residual_stiffness=RESIDUAL)
        body.solve()
        energies.append(body.elastic_energy() * load**2 + state.surface_energy)
    assert (np.diff(energies) <= 1e-6 * energies[0]).all(), energies


def specimen_of(params: FractureParams, seed: int) -> Specimen:
    return draw(params, np.random.default_rng(seed), from_edge=False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dihedral", range(1, 8))
def test_trajectory_turns_with_its_specimen(dihedral, mode):
    params = FractureParams(
        grid=64, snapshots=8, plane_strain_share=float(mode == "plane_strain"), grain_share=1.0, several_share=1.0
    )
    specimen = specimen_of(params, 4)
    plain, turned = grow(params, specimen), grow(params, turn(specimen, dihedral))
    assert plain.fields["damage"][-1].sum() > 100
    assert_allclose(turned.fields["damage"], turn_array(plain.fields["damage"], dihedral), atol=1e-3)
    assert_allclose(turned.facts["load_griffith"], plain.facts["load_griffith"], rtol=1e-3)
    assert_allclose(turned.severity, plain.severity, atol=1e-3)
    assert_allclose(turned.area, plain.area, rtol=1e-2)
    middle = [t.crack.segments.reshape(-1, 2).mean(axis=0) for t in (plain, turned)]
    assert_allclose(
        middle[1], turn(replace(specimen, flaws=np.tile(middle[0], (1, 2))), dihedral).flaws[0, :2], atol=1e-3
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dihedral", range(1, 8))
def test_equilibrium_turns_and_mirrors_with_its_material(dihedral, mode):
    """Of the solvers alone, at a fixed load; `grow` would hide an asymmetry, for it turns all specimens alike."""
    params = FractureParams(grid=32, plane_strain_share=float(mode == "plane_strain"), grain_share=1.0)
    specimen = specimen_of(params, 4)
    states = []
    for laid in (specimen, turn(specimen, dihedral)):
        body = body_of(params, laid)
        states.append(
            equilibrate(
                body,
                laid.notch,
                laid.toughness,
                load=20.0,
                length_ratio=2.0,
                residual_stiffness=RESIDUAL,
                tensor=laid.tensor,
                tolerance=1e-4,
                max_sweeps=12,
            )
        )
    assert states[0].damage.sum() > specimen.notch.sum() + 20
    assert_allclose(states[1].damage, turn_array(states[0].damage, dihedral), atol=5e-3)
    assert_allclose(states[1].elastic_energy, states[0].elastic_energy, rtol=1e-3)


@pytest.mark.parametrize("dihedral", range(1, 8))
def test_first_displacement_and_drive_turn_with_a_plane_strain_specimen(dihedral):
    """Again of the solver alone, in single precision."""
    params = FractureParams(grid=64, plane_strain_share=1.0, grain_share=1.0)
    specimen = specimen_of(params, 4)
    drives = []
    for body_specimen in (specimen, turn(specimen, dihedral)):
        body = body_of(params, body_specimen)
        body.set_damage(body_specimen.notch.astype(np.float32), residual_stiffness=RESIDUAL)
        body.solve(tolerance=1e-6, limit=100)
        drives.append(body.driving_energy())
    assert_allclose(drives[1], turn_array(drives[0], dihedral), atol=1e-3 * drives[0].max())


@pytest.mark.parametrize("dihedral", range(1, 8))
def test_flaws_and_crack_turn_with_the_fields(dihedral):
    params = FractureParams(grid=32, snapshots=6, several_share=1.0)
    specimen = specimen_of(params, 3)
    turned = turn(specimen, dihedral)
    finer = refine(params, specimen)[1].notch, refine(params, turned)[1].notch
    gap = ndimage.distance_transform_edt(turn_array(finer[0], dihedral) < 1)
    assert gap[finer[1] == 1].max() <= 1.5  # rounding to the grid
    trajectory = grow(params, turned)
    ends = trajectory.crack.segments.reshape(-1, 2) * 32
    near = np.minimum(ends.astype(int), 31)
    assert np.median(ndimage.maximum_filter(trajectory.fields["damage"][-1], 3)[near[:, 0], near[:, 1]]) > 0.6


def test_turning_four_times_and_mirroring_twice_change_nothing():
    specimen = specimen_of(FractureParams(grid=32, grain_share=1.0), 3)
    quarter = specimen
    for _ in range(4):
        quarter = turn(quarter, 1)
    for back in (quarter, turn(turn(specimen, 4), 4)):
        assert_allclose(back.flaws, specimen.flaws, atol=1e-12)
        assert_allclose(back.tensor, specimen.tensor, atol=1e-12)
        assert_allclose(back.gradient, specimen.gradient, atol=1e-12)
        assert_array_equal(back.notch, specimen.notch)


@pytest.mark.parametrize("mode", MODES)
def test_finer_grid_grows_the_same_cracks(mode):
    """Mean over specimens of area and length at equal severity, on 64 and 128 cells."""
    params = FractureParams(grid=64, plane_strain_share=float(mode == "plane_strain"), snapshots=12)
    ratios = []
    for seed in range(8):
        specimen = specimen_of(params, seed)
        coarse, fine = grow(params, specimen), grow(*refine(params, specimen))
        at = [0.5, 0.75, 1.0]
        ratios.append(np.interp(at, fine.severity, fine.area) / np.interp(at, coarse.severity, coarse.area))
    assert_allclose(np.mean(ratios), 1.0, atol=0.12)


def test_same_stream_gives_the_same_trajectory_and_another_gives_another():
    params = FractureParams(grid=64, snapshots=6)
    first, again, other = (simulate(params, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert_array_equal(first.fields["damage"], again.fields["damage"])
    assert_array_equal(first.crack.segments, again.crack.segments)
    assert_array_equal(first.crack.opening, again.crack.opening)
    shape = first.crack.segments.shape
    assert shape != other.crack.segments.shape or (first.crack.segments != other.crack.segments).any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("from_edge", [False, True])
def test_trajectory_grows_and_stays_in_its_square(mode, from_edge):
    params = FractureParams(
        grid=64, snapshots=12, plane_strain_share=float(mode == "plane_strain"), edge_share=float(from_edge)
    )
    for seed in range(3):
        trajectory = simulate(params, np.random.default_rng(seed))
        damage = trajectory.fields["damage"]
        assert damage.shape == (12, 64, 64)
        assert damage.dtype == np.float32
        assert np.isfinite(damage).all()
        assert (np.diff(damage, axis=0) >= -1e-6).all()
        assert (np.diff(trajectory.severity) >= 0).all()
        assert (np.diff(trajectory.area) >= 0).all()
        assert 0 < trajectory.area[0] <= trajectory.area[-1] < 1
        assert trajectory.severity[-1] == 1.0
        assert trajectory.crack.opening.max() == 1.0
        assert ((trajectory.crack.segments >= 0) & (trajectory.crack.segments <= 1)).all()
        sides = [damage[-1][0], damage[-1][-1], damage[-1][:, -1]] + ([] if from_edge else [damage[-1][:, 0]])
        assert np.max(sides) <= 0.02 * damage.max()


def test_trajectories_have_ten_distinct_states():
    params = FractureParams()
    for seed in range(6):
        damage = simulate(params, np.random.default_rng(seed)).fields["damage"]
        assert len(np.unique(damage.reshape(len(damage), -1).sum(axis=1))) >= 14


def direction_spread(segments: np.ndarray) -> float:
    """Circular standard deviation, radians, of the direction of segments as undirected lines, by length."""
    step = segments[:, 2:] - segments[:, :2]
    length = np.hypot(step[:, 0], step[:, 1])
    doubled = np.exp(2j * np.arctan2(step[:, 0], step[:, 1]))
    mean = np.abs(np.average(doubled, weights=length))
    return float(0.5 * np.sqrt(-2 * np.log(mean)))


@pytest.mark.parametrize("mode", MODES)
def test_cracks_kink_branch_and_arrest(mode):
    """Over many trajectories: paths that turn (a straight one spreads 0), junctions in some, loads that must rise."""
    params = FractureParams(plane_strain_share=float(mode == "plane_strain"))
    rng = np.random.default_rng(11)
    trajectories = [simulate(params, rng) for _ in range(10)]
    assert np.median([direction_spread(t.crack.segments) for t in trajectories]) > 0.2
    assert sum(t.facts["branch_points"][0] > 0 for t in trajectories) >= 2
    assert sum(bool((np.diff(t.facts["load_griffith"]) > 0).any()) for t in trajectories) >= 6


@pytest.mark.parametrize("mode", MODES)
def test_a_crack_in_even_material_is_straight(mode):
    """The kinks come from the toughness: without its variation, and loaded across the flaw, there are none."""
    params = FractureParams(
        toughness_sigma=(0.0, 0.0),
        edge_share=1.0,
        grain_share=0.0,
        several_share=0.0,
        overload=(0.0, 0.0),
        pace=(0.02, 0.02),
        plane_strain_share=float(mode == "plane_strain"),
    )
    specimen = draw(params, np.random.default_rng(2), from_edge=True)
    specimen.gradient[1] = 0.0  # no sideways pull
    trajectory = grow(params, specimen)
    assert direction_spread(trajectory.crack.segments[len(trajectory.crack.segments) // 3 :]) < 0.15


def test_cracks_follow_the_grain():
    """A strong grain slanted to the load turns the crack towards itself."""
    params = FractureParams(
        toughness_sigma=(0.0, 0.0),
        several_share=0.0,
        overload=(0.0, 0.0),
        pace=(0.02, 0.02),
        plane_strain_share=0.0,
        grain_share=0.0,
    )
    specimen = draw(params, np.random.default_rng(2), from_edge=True)
    tips = []
    for angle in (0.6, -0.6):
        segments = grow(params, replace(specimen, tensor=structural_tensor(4.0, angle))).crack.segments
        tips.append(segments[np.argmax(segments[:, 3]), 2])
    assert tips[0] - tips[1] > 0.12


def test_edge_flag_is_the_first_draw_and_sets_where_the_crack_starts():
    params = FractureParams(grid=64, snapshots=6)
    for seed in range(6):
        expected = MECHANISM.enters(params, np.random.default_rng(seed))
        trajectory = simulate(params, np.random.default_rng(seed))
        assert trajectory.from_edge == expected
        if expected:
            start = trajectory.crack.segments.reshape(-1, 2)
            assert start[:, 1].min() < 0.03


def test_isotropic_material_has_the_unit_tensor():
    assert_allclose(structural_tensor(0.0, 0.7), ISOTROPIC)


def test_grid_that_cannot_be_coarsened_is_refused():
    with pytest.raises(ValueError, match="power of two times"):
        AntiplaneBody(66, clamped="all", angle=0.0)
    with pytest.raises(ValidationError, match="power of two times"):
        FractureParams(grid=66)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"poisson": (0.4, 0.5)}, "poisson"),
        ({"grain_strength": (1.0, 9.0)}, "grain_strength"),
        ({"overload": (0.2, 0.1)}, "low must not be above high"),
    ],
)
def test_parameters_out_of_bounds_are_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        FractureParams(**given)
