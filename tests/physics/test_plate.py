"""The plate solver against known answers: centre deflections, orders, yield, springback, buckling, wrinkling, SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.sparse.linalg import spsolve

from physics import _plate_kernels as kernels
from physics.plate import Plate, bending_return, strip_springback


def centre(cells: int) -> tuple[np.ndarray, np.ndarray]:
    points = (np.arange(cells) + 0.5) / cells
    y, x = np.meshgrid(points, points, indexing="ij")
    return y, x


def orders(errors: list[float]) -> np.ndarray:
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


# ---- linear bending


def test_simply_supported_plate_under_uniform_load():
    plate = Plate(129, thickness=0.01)
    w = plate.solve_bending(np.ones((129, 129)))
    assert_allclose(w[64, 64], 0.00406235, rtol=1e-3)


def test_clamped_plate_under_uniform_load():
    plate = Plate(65, thickness=0.01)
    w = plate.clamped_deflection(np.ones((65, 65)))
    assert_allclose(w[32, 32], 0.00126532, rtol=2e-3)


def test_plate_with_a_free_edge_under_uniform_load():
    # three sides simply supported, one free, nu = 0.3: 0.01286 q a^4 / D at the middle of the free edge (Timoshenko)
    errors = []
    for cells in (64, 128, 256):
        w = Plate(cells, thickness=0.01, left="free").solve_bending(np.ones((cells, cells)))
        edge = 1.5 * w[:, 0] - 0.5 * w[:, 1]
        errors.append(float(edge[cells // 2 - 1 : cells // 2 + 1].mean() / 0.01286 - 1.0))
    assert_allclose(errors[1], 0.0, atol=4e-3)
    assert np.abs(errors[0]) > np.abs(errors[1]) > np.abs(errors[2])  # first order: the edge lies half a cell off


def test_bending_is_second_order_on_a_manufactured_solution():
    errors = []
    for cells in (16, 32, 64, 128):
        y, x = centre(cells)
        exact = np.sin(2 * np.pi * x) * np.sin(np.pi * y)
        load = ((5 * np.pi**2) ** 2 + 100.0) * exact
        plate = Plate(cells, thickness=0.01, foundation=100.0)
        errors.append(float(np.abs(plate.solve_bending(load) - exact).max()))
    assert ((orders(errors) > 1.9) & (orders(errors) < 2.1)).all(), errors


def test_airy_function_is_second_order_on_a_manufactured_solution():
    errors = []
    for cells in (16, 32, 64, 128):
        y, x = centre(cells)
        exact = np.cos(2 * np.pi * x) * np.cos(np.pi * y)
        plate = Plate(cells, thickness=0.01)
        source = -((5 * np.pi**2) ** 2) * exact / plate.membrane_stiffness
        errors.append(float(np.abs(plate.solve_airy(source) - exact).max()))
    assert ((orders(errors) > 1.9) & (orders(errors) < 2.1)).all(), errors


def test_membrane_pressure_is_second_order_on_a_manufactured_solution():
    errors = []
    for cells in (32, 64, 128):
        y, x = centre(cells)
        w, phi = np.sin(np.pi * x) * np.sin(2 * np.pi * y), np.cos(np.pi * x) * np.cos(np.pi * y)
        wxx, wyy, wxy = -(np.pi**2) * w, -4 * np.pi**2 * w, 2 * np.pi**2 * np.cos(np.pi * x) * np.cos(2 * np.pi * y)
        pxy = np.pi**2 * np.sin(np.pi * x) * np.sin(np.pi * y)
        exact = -(np.pi**2) * phi * (wxx + wyy) - 2 * pxy * wxy + 3.0 * wxx - 2.0 * wyy
        got = Plate(cells, thickness=0.01).membrane_force(phi, w, mean_force=(3.0, -2.0))
        errors.append(float(np.abs(got - exact).max()))
    assert ((orders(errors) > 1.9) & (orders(errors) < 2.1)).all(), errors


def test_stretch_of_a_deflection_is_second_order_on_a_manufactured_solution():
    errors = []
    for cells in (32, 64, 128):
        y, x = centre(cells)
        w = np.sin(np.pi * x) * np.sin(2 * np.pi * y)
        twist = 2 * np.pi**2 * np.cos(np.pi * x) * np.cos(2 * np.pi * y)
        got, mean = Plate(cells, thickness=0.01).stretch(w)
        errors.append(float(np.abs(got - (4 * np.pi**4 * w * w - twist**2)).max()))
    assert ((orders(errors) > 1.9) & (orders(errors) < 2.1)).all(), errors
    assert_allclose(mean, (np.pi**2 / 8, np.pi**2 / 2), rtol=0.02)


def test_plastic_curvature_of_a_sheet_bends_it_to_that_shape():
    # kp = grad grad w of a shape that meets the supports costs no moment at all: the sheet takes that very shape
    errors = []
    for cells in (32, 64, 128):
        y, x = centre(cells)
        shape = np.sin(np.pi * x) * np.sin(2 * np.pi * y)
        plate = Plate(cells, thickness=0.01)
        state = plate.rest()
        state.plastic[0], state.plastic[1] = -(np.pi**2) * shape, -4 * np.pi**2 * shape
        state.plastic[2] = 2 * np.pi**2 * np.cos(np.pi * x) * np.cos(2 * np.pi * y)
        plate.relax(state, load=np.zeros((cells, cells)), membrane=False, momentum=0.0, iterations=3)
        errors.append(float(np.abs(state.deflection - shape).max()))
    assert ((orders(errors) > 1.9) & (orders(errors) < 2.1)).all(), errors


@pytest.mark.parametrize("left", ["supported", "free"])
def test_bending_force_undoes_the_solver(rng, left):
    plate = Plate(48, thickness=0.01, foundation=50.0, left=left)
    load = rng.standard_normal((48, 48))
    assert_allclose(plate.apply_bending(plate.solve_bending(load)), load, atol=1e-6)


def sparse_biharmonic(cells: int) -> sparse.csc_array:
    """Square of the five-point Laplacian with odd images at the sides, assembled without the project's code."""
    one = sparse.diags_array([np.ones(cells - 1), -2 * np.ones(cells), np.ones(cells - 1)], offsets=[-1, 0, 1]).tolil()
    one[0, 0] = one[-1, -1] = -3.0
    line = sparse.csr_array(one) * cells**2
    laplacian = sparse.kron(line, sparse.eye_array(cells)) + sparse.kron(sparse.eye_array(cells), line)
    return sparse.csc_array(laplacian @ laplacian)


def test_bending_agrees_with_a_sparse_direct_solver(rng):
    cells = 24
    load = rng.standard_normal((cells, cells))
    system = sparse_biharmonic(cells) + 300.0 * sparse.eye_array(cells**2)
    reference = spsolve(sparse.csc_array(system), load.ravel()).reshape(cells, cells)
    w = Plate(cells, thickness=0.01, foundation=300.0).solve_bending(load)
    assert_allclose(w, reference, atol=1e-10 * np.abs(reference).max())


def test_band_factors_agree_with_a_dense_solver(rng):
    diagonal, first, second = 10.0 + rng.random((3, 9)), rng.random((3, 9)), rng.random((3, 9))
    factors = [np.zeros((3, 9)) for _ in range(3)]
    kernels.factor_bands(diagonal, first, second, *factors)
    right = rng.random((3, 9))
    got = right.copy()
    kernels.solve_bands(*factors, got)
    for k in range(3):
        dense = np.diag(diagonal[k]) + np.diag(first[k, :-1], 1) + np.diag(second[k, :-2], 2)
        dense = dense + np.triu(dense, 1).T
        assert_allclose(got[k], np.linalg.solve(dense, right[k]), rtol=1e-12)
        product = np.zeros((3, 9))
        kernels.multiply_bands(diagonal, first, second, got, product)
        assert_allclose(product, right, rtol=1e-12)


def test_largest_values_are_those_of_numpy(rng):
    # these kernels let the compiler assume that there is no NaN: not one bit may change
    w = rng.standard_normal((37, 37))
    assert kernels.largest_size(w) == np.abs(w).max()
    padded, rows, out = np.zeros((39, 39)), np.zeros((5, 39)), np.zeros((37, 37))
    kernels.pad(w, -1.0, 0, padded)
    got = kernels.gaussian_curvature(padded, 0.5, rows, out)
    slope_x, slope_y = padded[1:-1, 2:] - padded[1:-1, :-2], padded[2:, 1:-1] - padded[:-2, 1:-1]
    assert_allclose(got, (slope_x**2 + slope_y**2).max(), rtol=1e-14)


# ---- yield


def resultant(moment: np.ndarray) -> np.ndarray:
    mx, my, mxy = moment
    return np.sqrt(mx**2 - mx * my + my**2 + 3 * mxy**2)


def random_path(rng: np.random.Generator, points: int) -> np.ndarray:
    return rng.standard_normal((3, points)) * np.array([3.0, 2.0, 1.5])[:, None]


def test_yielding_moment_lies_on_the_yield_surface(rng):
    kappa = random_path(rng, 500)
    limit = rng.uniform(0.3, 1.0, 500)
    out = bending_return(kappa, plastic=np.zeros((3, 500)), equivalent=np.zeros(500), yield_moment=limit, hardening=0.1)
    flowed = out.equivalent > 0
    assert 100 < flowed.sum() < 500
    wanted = limit + 0.1 * out.equivalent
    assert_allclose(resultant(out.moment)[flowed], wanted[flowed], rtol=1e-6)
    assert (resultant(out.moment)[~flowed] <= limit[~flowed]).all()


def test_plastic_work_is_yield_moment_times_equivalent_curvature(rng):
    kappa = random_path(rng, 50)
    zero = np.zeros((3, 50))
    out = bending_return(kappa, plastic=zero, equivalent=np.zeros(50), yield_moment=np.full(50, 0.4))
    work = out.moment[0] * out.plastic[0] + out.moment[1] * out.plastic[1] + 2 * out.moment[2] * out.plastic[2]
    assert_allclose(work, 0.4 * out.equivalent, rtol=1e-6)


def integrate_rates(kappa: np.ndarray, *, limit: float, hardening: float, steps: int) -> np.ndarray:
    """Forward integration of the rate equations in very small steps: an independent reference for one point."""
    nu = 0.3
    stiff = np.array([[1, nu, 0], [nu, 1, 0], [0, 0, (1 - nu)]])
    moment, size = np.zeros(3), limit
    for _ in range(steps):
        rate = stiff @ (kappa / steps)
        trial = moment + rate
        if resultant(trial) > size:
            normal = np.array([moment[0] - moment[1] / 2, moment[1] - moment[0] / 2, 1.5 * moment[2]])
            gradient = np.array([normal[0], normal[1], 2 * normal[2]]) / resultant(moment)
            flow = normal / resultant(moment)
            multiplier = max(0.0, gradient @ rate / (gradient @ stiff @ flow + hardening))
            trial = trial - multiplier * stiff @ flow
            size += hardening * multiplier
        moment = trial
    return moment


@pytest.mark.parametrize("hardening", [0.0, 0.15])
def test_return_mapping_agrees_with_a_small_step_integration(rng, hardening):
    for _ in range(3):
        kappa = random_path(rng, 1)[:, 0]
        exact = integrate_rates(kappa, limit=0.5, hardening=hardening, steps=40_000)
        plastic, equivalent = np.zeros((3, 1)), np.zeros(1)
        for k in range(40):  # as many load steps as a trajectory has
            out = bending_return(
                (kappa * (k + 1) / 40)[:, None],
                plastic=plastic,
                equivalent=equivalent,
                yield_moment=np.array([0.5]),
                hardening=hardening,
            )
            plastic, equivalent = out.plastic, out.equivalent
        assert_allclose(out.moment[:, 0], exact, atol=0.01 * np.abs(exact).max())


@pytest.mark.parametrize("ratio", [1.0, 1.5, 3.0, 10.0])
def test_springback_of_a_strip_is_that_of_elastic_perfectly_plastic_bending(ratio):
    assert_allclose(strip_springback(ratio), 1.0 - 1.0 / ratio, atol=1e-6)


@pytest.mark.parametrize("ratio", [2.0, 5.0])
def test_springback_of_a_strip_with_hardening(ratio):
    # beyond yield the moment grows with the tangent H / (1 + H), in units of the strip's stiffness 1 - nu^2
    stiffness = 1.0 - 0.3**2
    tangent = 0.1 / (stiffness + 0.1)
    moment = 1.0 + (ratio - 1.0) * tangent
    assert_allclose(strip_springback(ratio, hardening=0.1), 1.0 - moment / ratio, atol=1e-6)


def test_springback_tends_to_that_of_the_whole_section():
    # fibres of a rectangular section: 1 - 3 r + 4 r^3 with r = Y rho / (E t) = (first-fibre curvature / curvature) / 2
    fibre_ratio = 12.0  # curvature / curvature of first yield; the resultant yields at 1.5 times the first fibre's
    r = 0.5 / fibre_ratio
    assert_allclose(strip_springback(fibre_ratio / 1.5), 1 - 3 * r + 4 * r**3, rtol=1e-3)


def test_elastic_loading_and_unloading_leaves_nothing():
    plate = Plate(32, thickness=0.02, foundation=1e4)
    y, x = centre(32)
    load = 30.0 * np.exp(-((x - 0.5) ** 2 + (y - 0.4) ** 2) / 0.01)
    state = plate.rest()
    limit = np.full((32, 32), 1e6)
    plate.relax(state, load=load, yield_moment=limit, membrane=False, momentum=0.0)
    assert np.abs(state.deflection).max() > 1e-5
    plate.relax(state, load=np.zeros((32, 32)), yield_moment=limit, membrane=False, momentum=0.0, iterations=3)
    assert_allclose(state.deflection, 0.0, atol=1e-17)
    assert_array_equal(state.plastic, 0.0)


def test_plastic_loading_leaves_a_dent_smaller_than_the_loaded_one():
    plate = Plate(64, thickness=0.01, foundation=1e4)
    y, x = centre(64)
    load = 60.0 * np.exp(-((x - 0.5) ** 2 + (y - 0.4) ** 2) / 0.01)
    state = plate.rest()
    options = {"yield_moment": np.full((64, 64), 0.05), "hardening": 0.1, "membrane": False, "momentum": 0.0}
    plate.relax(state, load=load, iterations=100, **options)
    loaded = state.deflection.max()
    plate.relax(state, load=np.zeros((64, 64)), iterations=60, **options)
    assert 0.05 * loaded < state.deflection.max() < 0.95 * loaded


# ---- buckling


def test_simply_supported_plate_buckles_at_four_pi_squared():
    load, buckle = Plate(64, thickness=0.01).buckling_load()
    assert_allclose(load, 4 * np.pi**2, rtol=0.01)
    y, x = centre(64)
    assert_allclose(np.abs(buckle), np.sin(np.pi * x) * np.sin(np.pi * y), atol=0.01)


def compressed(plate: Plate, strain: float, iterations: int) -> float:
    """Deflection after relaxing the sheet under a uniform growth along x that its sides hold back."""
    n = plate.cells
    y, x = centre(n)
    state = plate.rest()
    state.deflection[:] = 1e-5 * np.sin(np.pi * x) * np.sin(np.pi * y)
    plate.relax(
        state, load=np.zeros((n, n)), mean_growth=(strain, -plate.poisson * strain), momentum=0.0, iterations=iterations
    )
    return float(np.abs(state.deflection).max())


@pytest.mark.parametrize(("factor", "grows"), [(0.98, False), (1.02, True)])
def test_relaxed_sheet_buckles_at_the_critical_strain(factor, grows):
    plate = Plate(32, thickness=0.02)
    critical = 4 * np.pi**2 / plate.membrane_stiffness
    ends = compressed(plate, factor * critical, 400)
    assert (ends > 1e-5) == grows


def test_wrinkles_on_a_foundation_have_the_known_wave_length():
    cells, length = 128, 0.1 / (2 * np.pi)
    wanted = 2 * np.pi * length  # 2 pi (D / K)^(1/4)
    thickness = 0.001
    plate = Plate(cells, thickness=thickness, foundation=length**-4)
    strain = 1.1 * 2.0 / length**2 / plate.membrane_stiffness  # a little above 2 sqrt(K D) / Et
    state = plate.rest()
    noise = np.random.default_rng(3).standard_normal(cells)
    load = np.outer(np.ones(cells), noise) * 1e-6 * length**-4
    plate.relax(state, load=load, mean_growth=(strain, -0.3 * strain), momentum=0.8, iterations=400)
    row = state.deflection[cells // 2]
    spectrum = np.abs(np.fft.rfft(row, 16 * cells)) ** 2
    waves = np.arange(len(spectrum)) / 16
    inside = spectrum > 0.5 * spectrum.max()
    got = 1.0 / (waves[inside] * spectrum[inside]).sum() * spectrum[inside].sum()
    assert_allclose(got, wanted, rtol=0.05)


def test_equilibrium_with_membrane_forces_balances(rng):
    plate = Plate(48, thickness=0.02, foundation=1e4)
    y, x = centre(48)
    load = 800.0 * np.exp(-((x - 0.5) ** 2 + (y - 0.45) ** 2) / 0.02)
    state = plate.rest()
    plate.relax(state, load=load, iterations=2000, momentum=0.8, tolerance=1e-12)
    bracket = plate.membrane_force(state.airy, state.deflection, mean_force=tuple(state.mean_force))
    assert state.deflection.max() > 0.02  # beyond the thickness: the membrane carries
    assert_allclose(plate.apply_bending(state.deflection), load + bracket, atol=1e-4 * load.max())


def test_in_plane_displacement_of_a_stretched_sheet_follows_its_strain():
    plate = Plate(64, thickness=0.01)
    y, x = centre(64)
    growth = np.zeros((3, 64, 64))
    # the strain of u_x = a sin(pi x) sin(pi y): what is integrated must give u_x back
    a = 1e-3
    growth[0] = a * np.pi * np.cos(np.pi * x) * np.sin(np.pi * y)
    growth[2] = 0.5 * a * np.pi * np.sin(np.pi * x) * np.cos(np.pi * y)
    down, right = plate.in_plane(plate.rest(), growth=growth)
    inside = np.s_[8:-8, 8:-8]
    assert_allclose(right[inside], (a * np.sin(np.pi * x) * np.sin(np.pi * y))[inside], atol=0.01 * a)
    assert_allclose(down[inside], 0.0, atol=0.01 * a)


def test_compatible_growth_makes_no_incompatibility():
    plate = Plate(64, thickness=0.01)
    y, x = centre(64)
    # the strain of u_x = sin(x + 2 y), u_y = 2 cos(x - y)
    growth = np.stack([np.cos(x + 2 * y), 2 * np.sin(x - y), np.cos(x + 2 * y) - np.sin(x - y)])
    inside = np.s_[2:-2, 2:-2]
    assert_allclose(plate.growth_incompatibility(growth)[inside], 0.0, atol=5e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"cells": 2, "thickness": 0.01},
        {"cells": 32, "thickness": 0.0},
        {"cells": 32, "thickness": 0.01, "poisson": 0.5},
        {"cells": 32, "thickness": 0.01, "foundation": -1.0},
        {"cells": 32, "thickness": 0.01, "left": "clamped"},
    ],
)
def test_impossible_plates_are_refused(options):
    with pytest.raises(ValueError, match=r"cells|thickness|left"):
        Plate(**options)


def test_moments_of_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="shape"):
        bending_return(np.zeros((2, 4)), plastic=np.zeros((3, 4)), equivalent=np.zeros(4), yield_moment=np.ones(4))
    with pytest.raises(ValueError, match="positive"):
        bending_return(np.zeros((3, 4)), plastic=np.zeros((3, 4)), equivalent=np.zeros(4), yield_moment=np.zeros(4))
