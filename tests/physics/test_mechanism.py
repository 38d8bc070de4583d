"""The common language of mechanisms: turns agree with where a square is placed, cracks measure themselves, units."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import BaseModel

from physics.mechanism import Crack, Trajectory, quantity, turn_array, turn_back, turn_trajectory, turn_vector
from physics.placement import Placement


@pytest.mark.parametrize("dihedral", range(8))
def test_an_array_turns_as_its_square_is_placed(dihedral, rng):
    n = 7
    values = rng.random((2, n, n))
    forward = Placement((0.0, 0.0), 1.0, dihedral, 0.0).forward()
    turned = turn_array(values, dihedral)
    expected = np.empty_like(values)
    for i in range(n):
        for j in range(n):
            y, x = forward @ np.array([(i + 0.5) / n - 0.5, (j + 0.5) / n - 0.5])
            expected[:, round((y + 0.5) * n - 0.5), round((x + 0.5) * n - 0.5)] = values[:, i, j]
    assert_array_equal(turned, expected)
    assert turned.flags.c_contiguous


@pytest.mark.parametrize("dihedral", range(8))
def test_a_vector_turns_as_its_square_is_placed(dihedral, rng):
    vy, vx = rng.standard_normal((2, 5, 5))
    forward = Placement((0.0, 0.0), 1.0, dihedral, 0.0).forward()
    expected = np.einsum("ab,bij->aij", forward, np.stack([vy, vx]))
    found = turn_vector(vy, vx, dihedral)
    for k in (0, 1):
        assert_allclose(found[k], turn_array(expected[k], dihedral), atol=1e-14)


@pytest.mark.parametrize("dihedral", range(8))
def test_a_turn_is_undone_by_its_inverse(dihedral, rng):
    values, other = rng.random((2, 6, 6))
    assert_array_equal(turn_array(turn_array(values, dihedral), turn_back(dihedral)), values)
    back = turn_vector(*turn_vector(values, other, dihedral), turn_back(dihedral))
    assert_array_equal(back[0], values)
    assert_array_equal(back[1], other)


@pytest.mark.parametrize("dihedral", range(8))
def test_a_trajectory_turns_its_crack_as_its_square_is_placed(dihedral, rng):
    crack = Crack(rng.random((4, 4)).astype(np.float32), np.ones((3, 4, 2), np.float32))
    still = Trajectory(fields={}, severity=np.ones(3), area=np.ones(3), crack=crack)
    found = turn_trajectory(still, dihedral).crack
    forward = Placement((0.0, 0.0), 1.0, dihedral, 0.0).forward()
    expected = (crack.segments.reshape(-1, 2).astype(float) - 0.5) @ forward.T + 0.5
    assert_allclose(found.segments.reshape(-1, 2), expected, atol=1e-6)
    assert_array_equal(found.opening, crack.opening)


def test_length_and_relative_area_of_a_crack():
    segments = np.array([[0.1, 0.1, 0.1, 0.4], [0.1, 0.4, 0.5, 0.7]], np.float32)  # lengths 0.3 and 0.5
    opening = np.array([[[0, 0], [0, 0]], [[1, 0], [0, 0]], [[1, 0.5], [0.5, 0.1]]], np.float32)
    crack = Crack(segments, opening)
    assert_allclose(crack.length(), [0, 0.3, 0.8], rtol=1e-6)
    assert_allclose(crack.relative_area(), [0, 0.15, 0.3 * 0.75 + 0.5 * 0.3], rtol=1e-6)


def test_a_quantity_keeps_its_unit_its_text_and_its_bounds():
    class Params(BaseModel):
        speed: float = quantity(2.0, unit="sides", description="how fast", gt=0, le=5)

    told = Params.model_json_schema()["properties"]["speed"]
    assert told["unit"] == "sides"
    assert told["description"] == "how fast [sides]"
    assert told["default"] == 2.0
    assert (told["exclusiveMinimum"], told["maximum"]) == (0, 5)
    assert Params().speed == 2.0
    with pytest.raises(ValueError, match="greater than 0"):
        Params(speed=0)
