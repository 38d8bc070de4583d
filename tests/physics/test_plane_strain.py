"""Plane strain against known answers: order, direct solver, strip, contact, and single precision."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import ndimage

from benchmarks.verification import fracture as verification
from physics.plane_strain import PlaneStrainBody, bulk_modulus

PULL = np.array([[1.0, 0.0], [0.0, 0.0]])


def damage_with_a_crack(rng: np.random.Generator, cells: int) -> np.ndarray:
    damage = np.clip(ndimage.gaussian_filter(rng.standard_normal((cells + 1, cells + 1)), 1.0) * 2, 0, 0.9)
    damage[cells // 2, 5:30] = 1.0
    return damage


@pytest.mark.parametrize("poisson", [0.0, 0.3, 0.4])
def test_operator_is_second_order_on_manufactured_solutions(poisson):
    errors = [verification.plane_strain_error(cells, poisson=poisson) for cells in (16, 32, 64, 128)]
    # h is 1 / (n + 1)
    ratio = np.log(np.array([33, 65, 129]) / np.array([17, 33, 65]))
    orders = np.log(np.array(errors[:-1]) / errors[1:]) / ratio
    assert ((orders > 1.9) & (orders < 2.1)).all(), orders


@pytest.mark.parametrize("gradient", [PULL, -PULL, np.array([[0.2, 1.0], [0.3, -0.4]])])
def test_solution_agrees_with_a_sparse_direct_solver(rng, gradient):
    damage = damage_with_a_crack(rng, 48)
    assert verification.plane_strain_sparse_gap(48, damage, gradient=gradient / 48) < 1e-8


def test_single_precision_agrees_with_the_direct_solver(rng):
    damage = damage_with_a_crack(rng, 48)
    gap = verification.plane_strain_sparse_gap(48, damage, gradient=PULL / 48, dtype=np.float32)
    assert gap < 1e-4


@pytest.mark.parametrize("gradient", [PULL, np.array([[0.3, 0.7], [-0.2, 0.5]])])
def test_even_strain_is_reproduced_exactly(rng, gradient):
    body = PlaneStrainBody(32, poisson=0.3, gradient=gradient)
    exact = body.displacement.copy()
    body.displacement[:, 1:-1, 1:-1] += 0.1 * rng.standard_normal((2, 32, 32))
    body.solve(tolerance=1e-13)
    assert_allclose(body.displacement, exact, atol=1e-10)


def test_stored_energy_of_an_even_strain_is_the_closed_form():
    cells, poisson = 32, 0.3
    body = PlaneStrainBody(cells, poisson=poisson, gradient=np.array([[0.3, 0.2], [0.1, -0.1]]))
    lame = 2 * poisson / (1 - 2 * poisson)
    strain = np.array([[0.3, 0.15], [0.15, -0.1]])
    density = 0.5 * lame * np.trace(strain) ** 2 + (strain**2).sum()
    assert_allclose(body.elastic_energy(), density * (cells + 1) ** 2, rtol=1e-12)


@pytest.mark.parametrize("poisson", [0.0, 0.2, 0.3])
@pytest.mark.parametrize(("cells", "half_rows"), [(128, 8), (256, 16)])
def test_energy_release_of_the_mode_one_strip(poisson, cells, half_rows):
    """A long strip drawn apart by +-U releases (lambda + 2 mu) U^2 / H per length of crack."""
    release = verification.strip_energy_release("plane_strain", cells=cells, half_rows=half_rows, poisson=poisson)
    assert_allclose(release, 1.0, rtol=1e-3)


def test_iterations_do_not_grow_with_the_grid():
    counts = []
    for cells in (64, 128, 256):
        body = PlaneStrainBody(cells, poisson=0.2, gradient=PULL / cells)
        damage = np.zeros((cells + 1, cells + 1))
        damage[cells // 2, cells // 4 : 3 * cells // 4] = 1.0
        body.set_damage(damage, residual_stiffness=1e-4)
        counts.append(body.solve(tolerance=1e-6)[0])
    assert max(counts) <= 45
    assert max(counts) <= 1.5 * min(counts)


def test_pressure_from_all_sides_does_no_damage():
    assert verification.pressed_damage(pressure_strain=5.0) == 0.0


def test_pull_from_all_sides_does_damage():
    assert verification.pressed_damage(pressure_strain=-5.0) > 0.5


def test_closed_crack_bears_pressure_and_open_crack_bears_nothing():
    assert_allclose(verification.closed_crack_stiffness(-1.0), 1.0, rtol=0.02)
    assert verification.closed_crack_stiffness(1.0) < 1e-3


def test_driving_energy_is_the_slope_of_the_stored_energy(rng):
    """Slope dE / dg of one element, by finite differences, in extension and in compression."""
    body = PlaneStrainBody(16, poisson=0.25, gradient=0.2 * PULL)
    body.displacement += 0.3 * rng.standard_normal(body.displacement.shape)
    psi = body.driving_energy()
    damage = np.full((17, 17), 0.3)
    for place in ((3, 4), (8, 8), (12, 5), (7, 13)):
        energies = []
        for step in (-1e-4, 1e-4):
            changed = damage.copy()
            changed[place] = 1 - np.sqrt(0.49 + step)
            body.set_damage(changed, residual_stiffness=0.0)
            energies.append(body.elastic_energy())
        assert_allclose((energies[1] - energies[0]) / 2e-4, psi[place], rtol=1e-6)


def test_held_nodes_stay_where_they_are(rng):
    body = PlaneStrainBody(32, poisson=0.2, gradient=PULL / 32)
    mask = np.zeros((34, 34), dtype=bool)
    mask[10:14, 8:20] = True
    body.displacement[:, mask] = 0.0
    body.hold(mask)
    body.build_preconditioner()
    _, residual = body.solve(tolerance=1e-9)
    assert residual < 1e-9
    assert_allclose(body.displacement[:, mask], 0.0, atol=0)


def test_lateral_sides_are_free_where_asked():
    """Pulled between grips, a body with free sides stores less than one held all around, and its sides draw in."""
    held, free = (PlaneStrainBody(32, poisson=0.3, gradient=PULL / 32, open_columns=o) for o in (False, True))
    for body in (held, free):
        body.set_damage(np.zeros((33, 33)), residual_stiffness=0.0)
        body.solve()
    assert free.elastic_energy() < 0.97 * held.elastic_energy()
    assert free.displacement[1, 16, 1] > 0 > free.displacement[1, 16, -2]


@pytest.mark.parametrize("poisson", [-0.1, 0.5, 0.7])
def test_poisson_ratio_out_of_bounds_is_refused(poisson):
    with pytest.raises(ValueError, match="Poisson"):
        bulk_modulus(poisson)


def test_grid_that_cannot_be_coarsened_is_refused():
    with pytest.raises(ValueError, match="power of two times"):
        PlaneStrainBody(66, poisson=0.2, gradient=PULL)
