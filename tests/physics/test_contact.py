"""Contact: the solver of the run against Hertz, Sneddon, Love and direct summation, and the rules of plasticity."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from physics.contact import Contact, deflection, influence, press

CELLS = 128
SPACING = 1.0 / CELLS


def radius(cells: int = CELLS) -> NDArray[np.float64]:
    """Distance to the middle of the square, sides."""
    x = (np.arange(cells) + 0.5) / cells - 0.5
    return np.hypot(x[:, None], x[None, :])


def ball(curvature_radius: float, cells: int = CELLS) -> NDArray[np.float64]:
    return radius(cells) ** 2 / (2 * curvature_radius)


def contact_radius(contact: Contact, cells: int = CELLS) -> float:
    return float(np.sqrt(np.count_nonzero(contact.pressure) / np.pi) / cells)


@pytest.mark.parametrize("depth", [0.02, 0.05, 0.1])
def test_hertz_radius_force_and_pressure(depth: float) -> None:
    contact = press(ball(1.0), depth=depth, hardness=np.inf, spacing=SPACING, tolerance=1e-5)
    a = np.sqrt(depth)
    assert_allclose(contact_radius(contact), a, rtol=0.01)
    assert_allclose(contact.force(SPACING), 4 / 3 * depth**1.5, rtol=0.005)
    assert_allclose(contact.pressure.max(), 2 * a / np.pi, rtol=0.005)


def test_hertz_pressure_is_an_ellipse() -> None:
    contact = press(ball(1.0), depth=0.05, hardness=np.inf, spacing=SPACING, tolerance=1e-6)
    a = np.sqrt(0.05)
    inside = radius() < a - 2 * SPACING
    expected = 2 * a / np.pi * np.sqrt(1 - (radius()[inside] / a) ** 2)
    assert_allclose(contact.pressure[inside], expected, rtol=0.01)


def test_sneddon_cone_force() -> None:
    slope, depth = 0.3, 0.06
    contact = press(slope * radius(), depth=depth, hardness=np.inf, spacing=SPACING, tolerance=1e-5)
    assert_allclose(contact.force(SPACING), 2 / np.pi * depth**2 / slope, rtol=0.01)


def test_influence_is_that_of_loves_formula_in_the_middle_and_far_away() -> None:
    table = influence(64)
    assert_allclose(table[0, 0], 4 / np.pi * np.log(1 + np.sqrt(2)), rtol=1e-12)  # Love 1929, middle of a square
    assert_allclose(table[40, 30], 1 / (np.pi * 50), rtol=1e-4)  # Boussinesq's point load
    assert_allclose(table[-40, 30], table[40, 30], rtol=1e-12)


def test_influence_is_the_integral_over_the_square() -> None:
    x = (np.arange(400) + 0.5) / 400 - 0.5
    direct = (1 / (np.pi * np.hypot(3.0 - x[:, None], 2.0 - x[None, :]))).mean()
    assert_allclose(influence(8)[3, 2], direct, rtol=1e-6)


def test_convolution_equals_direct_summation(rng: np.random.Generator) -> None:
    n = 12
    pressure = rng.random((n, n))
    table = influence(n)
    direct = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            for k in range(n):
                direct[i, j] += pressure[k] @ table[i - k, j - np.arange(n)]
    assert_allclose(deflection(pressure, spacing=0.5), 0.5 * direct, rtol=1e-10)


def test_pressure_stays_between_nothing_and_the_hardness(rng: np.random.Generator) -> None:
    rough = ball(0.5) + 0.002 * rng.random((CELLS, CELLS))
    contact = press(rough - rough.min(), depth=0.03, hardness=0.05, spacing=SPACING)
    assert contact.pressure.min() >= 0
    assert contact.pressure.max() == 0.05


def test_gap_is_closed_where_it_presses_and_open_elsewhere() -> None:
    gap, depth = ball(1.0), 0.04
    contact = press(gap, depth=depth, hardness=0.08, spacing=SPACING, tolerance=1e-5)
    left = gap - depth + contact.plastic + deflection(contact.pressure, spacing=SPACING)
    assert_allclose(left[contact.pressure > 0], 0.0, atol=2e-5 * depth)
    assert (left[contact.pressure == 0] > -2e-5 * depth).all()
    assert contact.plastic.any()


def test_below_yield_nothing_stays() -> None:
    contact = press(ball(1.0), depth=0.05, hardness=0.2, spacing=SPACING)
    assert contact.pressure.max() < 0.2
    assert_array_equal(contact.plastic, 0.0)


def test_fully_plastic_contact_bears_the_hardness() -> None:
    contact = press(0.5 * radius(), depth=0.1, hardness=0.01, spacing=SPACING)
    pressing = contact.pressure > 0
    assert_allclose(contact.pressure[pressing].mean(), 0.01, rtol=0.02)


def test_cone_leaves_the_same_shape_at_every_depth() -> None:
    """No length but the depth: the imprint scales with it, but for the cells at the very tip."""
    profiles = []
    for depth in (0.03, 0.06):
        contact = press(0.3 * radius(256), depth=depth, hardness=0.02, spacing=1 / 256, tolerance=1e-4)
        line = contact.plastic[128, 128:]
        profiles.append(np.interp(np.linspace(0.3, 3, 40), (np.arange(128) + 0.5) / 256 / depth, line / depth))
    assert_allclose(profiles[0], profiles[1], atol=0.01)


def test_plastic_contact_converges_with_the_grid() -> None:
    found = []
    for cells in (64, 128, 256):
        contact = press(ball(0.4, cells), depth=0.05, hardness=0.03, spacing=1 / cells, tolerance=1e-4)
        found.append([contact.plastic.sum() / cells**2, contact.force(1 / cells), contact.plastic.max()])
    assert_allclose(found[1], found[2], rtol=0.01)
    assert np.abs(np.subtract(found[1], found[2])).max() < np.abs(np.subtract(found[0], found[2])).max()


def test_imprint_only_grows_as_the_body_goes_on() -> None:
    first = press(ball(0.5), depth=0.03, hardness=0.03, spacing=SPACING)
    second = press(ball(0.5), depth=0.04, hardness=0.03, spacing=SPACING, before=first)
    assert (second.plastic >= first.plastic).all()
    at_once = press(ball(0.5), depth=0.04, hardness=0.03, spacing=SPACING)
    assert_allclose(second.plastic.max(), at_once.plastic.max(), rtol=0.05)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="square"):
        press(np.zeros((4, 5)), depth=1.0, hardness=1.0, spacing=1.0)
    with pytest.raises(ValueError, match="positive"):
        press(np.zeros((4, 4)), depth=0.0, hardness=1.0, spacing=1.0)
