"""Dents: volume is kept, matter goes where it must, each body leaves its own shape."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import ndimage

from physics.dent import BODIES, DentParams, pile_up, simulate


def only(body: str, **changes: object) -> DentParams:
    return DentParams.model_validate({"bodies": [body], "several_share": 0.0, "edge_share": 0.0, **changes})


@pytest.mark.parametrize("seed", range(5))
def test_volume_of_the_pile_up_is_that_of_the_imprint(seed: int) -> None:
    height = simulate(DentParams(), np.random.default_rng(seed)).fields["height"].astype(np.float64)
    imprint = -np.minimum(height, 0).sum(axis=(1, 2))
    assert (np.abs(height.sum(axis=(1, 2))) < 1e-3 * imprint).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_dent_goes_down_in_the_middle_and_up_around(seed: int) -> None:
    trajectory = simulate(only("ball"), np.random.default_rng(seed))
    height = trajectory.fields["height"][-1]
    assert -height.min() > 2 * height.max() > 0
    lowest = np.unravel_index(height.argmin(), height.shape)
    highest = np.unravel_index(height.argmax(), height.shape)
    assert 4 < np.hypot(*np.subtract(lowest, highest)) < 60


def test_matter_moves_outwards_around_an_imprint() -> None:
    x = (np.arange(96) + 0.5) / 96 - 0.5
    r = np.hypot(x[:, None], x[None, :])
    imprint = 0.02 * np.clip(1 - (r / 0.1) ** 2, 0, None)[None]
    _, down, right = pile_up(imprint, radius=0.1, hardening=0.3)
    outwards = (down[0] * x[:, None] + right[0] * x[None, :]) / r
    ring = (r > 0.06) & (r < 0.14)
    assert (outwards[ring] > 0).all()
    assert outwards[ring].max() < 0.02


def test_flux_of_matter_is_what_the_heights_demand() -> None:
    """Divergence of the displacement x depth of the layer = -height."""
    rng = np.random.default_rng(1)
    imprint = np.clip(ndimage.gaussian_filter(rng.standard_normal((128, 128)), 9), 0, None)[None]
    height, down, right = pile_up(imprint, radius=0.08, hardening=0.4)
    divergence = np.gradient(down[0], 1 / 128, axis=0) + np.gradient(right[0], 1 / 128, axis=1)
    inside = (slice(8, -8), slice(8, -8))
    assert_allclose(-0.08 * divergence[inside], height[0][inside], atol=0.03 * np.abs(height).max())


def test_hardening_takes_the_pile_up_away_from_the_rim() -> None:
    x = (np.arange(128) + 0.5) / 128 - 0.5
    imprint = 0.02 * np.clip(1 - (np.hypot(x[:, None], x[None, :]) / 0.1) ** 2, 0, None)[None]
    reach = []
    for hardening in (0.1, 0.9):
        risen = np.maximum(pile_up(imprint, radius=0.1, hardening=hardening)[0][0], 0)
        reach.append((risen * np.hypot(x[:, None], x[None, :])).sum() / risen.sum())
    assert reach[1] > 1.15 * reach[0]


@pytest.mark.parametrize("body", BODIES)
def test_every_body_leaves_a_smooth_rim(body: str) -> None:
    """No stair steps: smoothing the outline over three quarters of a cell hardly moves it."""
    height = simulate(only(body, roughness=0.0), np.random.default_rng(8)).fields["height"][-1]
    fine = ndimage.zoom(height, 4, order=3)
    inside = fine < 0.4 * fine.min()
    smooth = ndimage.gaussian_filter(inside.astype(float), 3.0) > 0.5
    assert np.count_nonzero(inside ^ smooth) < 0.06 * np.count_nonzero(inside)


def test_several_hits_leave_several_imprints() -> None:
    params = DentParams.model_validate({"bodies": ["ball"], "several_share": 1.0, "edge_share": 0.0, "hits": 6})
    counts = []
    for seed in range(12):
        height = simulate(params, np.random.default_rng(seed)).fields["height"][-1]
        counts.append(ndimage.label(height < 0.15 * height.min())[1])
    assert max(counts) >= 3


def test_a_softer_material_keeps_a_deeper_dent() -> None:
    left = []
    for hardness in (0.004, 0.05):
        params = only("ball", hardness={"low": hardness, "high": hardness})
        left.append(-simulate(params, np.random.default_rng(2)).fields["height"][-1].min())
    assert left[0] > 1.2 * left[1]


def test_slopes_are_steep_enough_to_be_seen() -> None:
    slopes = []
    for seed in range(20):
        height = simulate(DentParams(), np.random.default_rng(seed)).fields["height"][-1].astype(np.float64)
        slopes.append(np.hypot(*np.gradient(height, 1 / height.shape[0])).max())
    assert np.median(slopes) > 0.12
    assert max(slopes) < 1.5
