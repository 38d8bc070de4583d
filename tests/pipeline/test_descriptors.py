"""Descriptors against shapes whose answers are known."""

from __future__ import annotations

from dataclasses import astuple
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import energy_distance as energy_distance_1d
from skimage.draw import disk, line, polygon2mask

from pipeline.descriptors import NAMES, describe, energy_distance, feature_matrix, robust_scaling

SIDE = 512


def empty(side: int = SIDE) -> np.ndarray:
    return np.zeros((side, side), dtype=bool)


def bar(start: tuple[float, float], end: tuple[float, float], width: float, side: int = SIDE) -> np.ndarray:
    """Straight bar of the given width between two points."""
    p, q = np.array(start, dtype=float), np.array(end, dtype=float)
    along = (q - p) / np.linalg.norm(q - p)
    across = 0.5 * width * np.array([-along[1], along[0]])
    return polygon2mask((side, side), np.array([p + across, q + across, q - across, p - across]))


def disc(radius: float, side: int = SIDE) -> np.ndarray:
    mask = empty(side)
    mask[disk((side / 2, side / 2), radius)] = True
    return mask


def fork(side: int = SIDE) -> np.ndarray:
    """Three arms of 150 pixels at 120 degrees."""
    middle = np.array([side / 2, side / 2])
    tips = [middle + 150 * np.array([np.cos(a), np.sin(a)]) for a in np.deg2rad([10, 130, 250])]
    return np.logical_or.reduce([bar(tuple(middle), tuple(tip), 7, side) for tip in tips])


def koch(level: int) -> np.ndarray:
    """Koch curve as a thin line."""
    points = np.array([0.0, 1.0], dtype=complex)
    for _ in range(level):
        step = np.diff(points) / 3
        start = points[:-1]
        kink = start + step + step * np.exp(1j * np.pi / 3)
        points = np.append(np.column_stack([start, start + step, kink, start + 2 * step]).ravel(), points[-1])
    mask = np.zeros((1100, 1100), dtype=bool)
    pixels = np.rint(np.column_stack([points.imag, points.real]) * 1000).astype(int) + 20
    for (y0, x0), (y1, x1) in pairwise(pixels):
        mask[line(y0, x0, y1, x1)] = True
    return mask


@pytest.mark.parametrize("width", [5, 6, 9, 12])
def test_upright_bar_has_its_exact_width_length_and_no_variation(width: int) -> None:
    mask = empty()
    mask[100:400, 200 : 200 + width] = True
    found = describe(mask)
    assert_allclose(found.width * SIDE, width, rtol=0.02)
    assert_allclose(found.length * SIDE, 300, rtol=0.02)
    assert_allclose(found.width_variation, 0.0, atol=0.03)
    assert_allclose(found.area, 300 * width / SIDE**2, rtol=1e-12)
    assert found.branches == 0
    assert found.pieces == 1


@pytest.mark.parametrize("degrees", [0, 7, 22.5, 33, 44, 60])
def test_straight_line_is_not_tortuous_at_any_angle(degrees: float) -> None:
    reach = 170 * np.array([np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))])
    found = describe(bar(tuple(256 - reach), tuple(256 + reach), 7))
    assert_allclose(found.tortuosity, 1.0, atol=6e-3)
    assert_allclose(found.length * SIDE, 340, rtol=0.02)
    assert_allclose(found.width * SIDE, 7, rtol=0.04)
    assert found.eccentricity > 0.999
    assert found.branches == 0


def test_half_circle_is_as_tortuous_as_it_is() -> None:
    y, x = np.mgrid[:SIDE, :SIDE] - 256.0
    radius = np.hypot(y, x)
    found = describe((abs(radius - 150) < 4) & (y < 0))
    assert_allclose(found.tortuosity, np.pi / 2, rtol=0.02)
    assert_allclose(found.length * SIDE, np.pi * 150, rtol=0.02)


def test_taper_shows_as_variation_of_the_width() -> None:
    mask = polygon2mask((SIDE, SIDE), np.array([[256, 50], [276, 450], [236, 450]]))
    # width grows in proportion to the way: uniform on (0, w), standard deviation / mean = 1 / sqrt(3)
    assert_allclose(describe(mask).width_variation, 1 / np.sqrt(3), rtol=0.1)


def test_thin_line_has_dimension_one() -> None:
    mask = empty()
    mask[100, 20:500] = True
    assert_allclose(describe(mask).dimension, 1.0, atol=1e-9)


def test_square_has_dimension_two_and_solidity_one() -> None:
    mask = empty()
    mask[100:356, 100:356] = True
    found = describe(mask)
    assert_allclose(found.dimension, 2.0, atol=1e-9)
    assert_allclose(found.solidity, 1.0, atol=1e-9)
    assert_allclose(found.eccentricity, 0.0, atol=1e-6)


def test_koch_curve_has_its_dimension() -> None:
    assert_allclose(describe(koch(5)).dimension, np.log(4) / np.log(3), atol=0.1)  # four sizes of box


def test_disc_is_round_and_convex() -> None:
    found = describe(disc(80))
    assert_allclose(found.eccentricity, 0.0, atol=0.02)
    assert_allclose(found.solidity, 1.0, atol=0.02)
    assert_allclose(found.area, np.pi * 80**2 / SIDE**2, rtol=0.01)
    assert_allclose(found.length * SIDE, 160, rtol=0.05)
    assert found.branches == 0
    assert_allclose(found.tortuosity, 1.0, atol=1e-12)


def test_ellipse_has_its_eccentricity() -> None:
    y, x = np.mgrid[:SIDE, :SIDE] - 256.0
    found = describe((y / 40) ** 2 + (x / 80) ** 2 <= 1)
    assert_allclose(found.eccentricity, np.sqrt(0.75), rtol=0.005)


def test_fork_has_one_branch_point() -> None:
    found = describe(fork())
    assert_allclose(found.branches * found.length, 1.0, rtol=1e-9)
    assert_allclose(found.length * SIDE, 450, rtol=0.03)


def test_ragged_lips_are_rough_and_grow_no_branches(rng: np.random.Generator) -> None:
    smooth = empty()
    smooth[240:260, 50:450] = True
    ragged = smooth.copy()
    for x in range(50, 450, 4):
        ragged[240 - rng.integers(0, 6) : 240, x : x + 4] = True
    assert describe(ragged).roughness > 2 * describe(smooth).roughness
    assert describe(ragged).branches == 0


def test_ring_has_a_length_and_no_ends() -> None:
    y, x = np.mgrid[:SIDE, :SIDE] - 256.0
    found = describe(abs(np.hypot(y, x) - 100) < 4)
    assert_allclose(found.length * SIDE, 2 * np.pi * 100, rtol=0.02)
    assert found.branches == 0


def test_pieces_are_counted_and_crumbs_are_not() -> None:
    mask = disc(60)
    mask[20:60, 20:60] = True
    mask[5, 5] = True
    assert describe(mask).pieces == 2


@pytest.mark.parametrize("pose", range(8))
def test_quarter_turns_and_mirrors_change_nothing_at_all(pose: int, rng: np.random.Generator) -> None:
    blob = fork(300)
    blob |= rng.random(blob.shape) < 0.0005
    blob = blob[:260]
    turned = np.rot90(blob[:, ::-1] if pose >= 4 else blob, pose % 4)
    assert astuple(describe(turned)) == astuple(describe(blob))


@pytest.mark.parametrize("shape", ["fork", "disc", "bar"])
def test_descriptors_do_not_depend_on_the_size_of_the_picture(shape: str) -> None:
    small = {"fork": fork(320), "disc": disc(40, 256), "bar": bar((40, 60), (200, 180), 6, 256)}[shape]
    large = np.kron(small, np.ones((3, 3), dtype=bool))
    a, b = feature_matrix([describe(small)])[0], feature_matrix([describe(large)])[0]
    for name, tolerance in {"tortuosity": 0.3, "roughness": 0.02, "width_variation": 0.06}.items():
        k = NAMES.index(name)
        assert_allclose(a[k], b[k], atol=tolerance)
        a[k] = b[k] = 0.0
    assert_allclose(a, b, atol=0.06)


def test_a_single_pixel_is_described() -> None:
    mask = empty(64)
    mask[10, 10] = True
    assert np.isfinite(feature_matrix([describe(mask)])).all()


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.6))
def test_any_mask_has_finite_descriptors(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((24, 37)) < share
    mask[3, 4] = True
    features = feature_matrix([describe(mask)])
    assert features.shape == (1, len(NAMES))
    assert np.isfinite(features).all()


def test_empty_and_stacked_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        describe(empty(32))
    with pytest.raises(ValueError, match="two dimensions"):
        describe(np.ones((2, 8, 8)))


def test_energy_distance_in_one_dimension_is_that_of_scipy(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=40), rng.normal(0.7, 1.3, size=55)
    # scipy returns the square root of it
    assert_allclose(energy_distance(x[:, None], y[:, None]), energy_distance_1d(x, y) ** 2, rtol=1e-10)


def test_energy_distance_of_two_points_is_twice_their_distance() -> None:
    assert_allclose(energy_distance(np.zeros((1, 2)), np.array([[3.0, 4.0]])), 10.0)
    assert energy_distance(np.ones((5, 3)), np.ones((4, 3))) == 0.0


def test_unbiased_energy_distance_of_one_distribution_is_zero_on_average(rng: np.random.Generator) -> None:
    found = [energy_distance(rng.normal(size=(8, 3)), rng.normal(size=(6, 3)), unbiased=True) for _ in range(400)]
    assert_allclose(np.mean(found), 0.0, atol=4 * np.std(found) / 20)
    assert min(found) < 0


def test_energy_distance_refuses_samples_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="expected"):
        energy_distance(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="expected"):
        energy_distance(np.zeros((1, 2)), np.zeros((3, 2)), unbiased=True)


def test_scaling_is_by_median_and_quartiles(rng: np.random.Generator) -> None:
    features = rng.normal(3.0, 2.0, size=(4000, len(NAMES)))
    scaled = robust_scaling(features)(features)
    assert_array_equal(np.round(np.median(scaled, axis=0), 12), 0.0)
    assert_allclose(scaled.std(axis=0), 1.0, rtol=0.1)
    assert (robust_scaling(np.ones((5, len(NAMES)))).spread > 0).all()
