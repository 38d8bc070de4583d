"""Perlin noise and its blobs: what is known of a lattice, one blob of the area that was drawn, opacity as severity."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pydantic import ValidationError
from scipy import ndimage

from physics.perlin import PerlinParams, Specimen, draw, grow, perlin_noise

PARAMS = PerlinParams()


def test_noise_of_one_gradient_is_the_plane_that_it_describes() -> None:
    """All gradients alike: between nodes the faded planes of both sides; on the nodes 0, and periodic."""
    gradients = np.zeros((2, 5, 5))
    gradients[1] = 1.0
    noise = perlin_noise(gradients, 64)
    u = (np.arange(64) + 0.5) / 64 * 4 % 1
    fade = u**3 * (u * (6 * u - 15) + 10)
    assert_allclose(noise, np.broadcast_to(np.sqrt(2) * (u * (1 - fade) + (u - 1) * fade), (64, 64)), atol=1e-12)


def test_noise_is_0_at_the_nodes_and_bounded(rng: np.random.Generator) -> None:
    angle = rng.uniform(0, 2 * np.pi, (9, 5))
    fine = perlin_noise(np.stack([np.sin(angle), np.cos(angle)]), 1024)
    assert np.abs(fine).max() <= 1
    assert np.abs(fine[::128, ::256]).max() < 0.02, "half a cell of 1024 beside the node"


@pytest.mark.parametrize("seed", range(8))
def test_blob_is_one_and_has_the_area_that_was_drawn(seed: int) -> None:
    specimen = draw(PARAMS, np.random.default_rng(seed), from_edge=False)
    trajectory = grow(PARAMS, specimen)
    blob = trajectory.fields["cover"][-1]
    assert ndimage.label(blob >= 0.5)[1] == 1
    assert trajectory.area[-1] <= 1.1 * specimen.share
    assert trajectory.area[-1] > 0.3 * specimen.share, "less only where two blobs would merge"
    assert blob.max() == 1.0


def test_opacity_is_the_severity() -> None:
    trajectory = grow(PARAMS, draw(PARAMS, np.random.default_rng(3), from_edge=False))
    assert_allclose(trajectory.fields["cover"].max(axis=(1, 2)), trajectory.severity, rtol=1e-6)
    assert np.ptp(trajectory.area) == 0.0
    assert (PARAMS.severity.low, PARAMS.severity.high) == (0.2, 1.0)


def test_even_noise_still_gives_a_trajectory() -> None:
    trajectory = grow(PARAMS, Specimen(np.zeros((2, 3, 3)), 0.1, from_edge=False))
    assert np.isfinite(trajectory.fields["cover"]).all()
    assert trajectory.area[-1] > 0


def test_octaves_are_ordered() -> None:
    with pytest.raises(ValidationError, match="low must not be above high"):
        PerlinParams(octaves=(3, 2))
