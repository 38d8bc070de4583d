"""Maps measured by what normal pictures show at the same distance from the border."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from bisqad.profile import BorderProfile


def rings(rows: int, columns: int) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns]
    return np.minimum(np.minimum(np.minimum(y, rows - 1 - y), np.minimum(x, columns - 1 - x)), 12)


def test_normals_by_their_own_profile_have_mean_0_and_spread_1_in_every_ring(rng: np.random.Generator) -> None:
    shapes = [(40, 32), (33, 45), (28, 28)]
    maps = []
    for shape in shapes:
        ring = rings(*shape)
        maps.append(torch.from_numpy(5 - 0.3 * ring + rng.normal(size=shape) * (0.2 + 0.1 * ring)))
    profile = BorderProfile.of(maps)
    values = np.concatenate([profile.standardised(one).numpy().ravel() for one in maps])
    ring = np.concatenate([rings(*shape).ravel() for shape in shapes])
    for number in range(13):
        assert_allclose(values[ring == number].mean(), 0, atol=1e-6)
        assert_allclose(values[ring == number].std(), 1, atol=1e-6)


def test_a_border_that_is_always_high_is_no_longer_so(rng: np.random.Generator) -> None:
    ring = rings(30, 30)
    maps = [torch.from_numpy((8.0 * (ring == 0) + rng.normal(size=ring.shape)).astype(np.float32)) for _ in range(4)]
    seen = BorderProfile.of(maps[:3]).standardised(maps[3]).numpy()
    assert seen.dtype == np.float32
    assert abs(float(seen[ring == 0].mean())) < 0.5


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (1, 40), (5, 5)])
def test_tiny_maps_work_and_so_do_larger_ones_by_their_profile(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    profile = BorderProfile.of([torch.from_numpy(rng.normal(size=shape)) for _ in range(3)])
    assert len(profile.mean) == len(profile.spread) == 13
    assert min(profile.spread) > 0
    assert bool(torch.isfinite(profile.standardised(torch.zeros(64, 64))).all())


def test_rings_that_no_normal_has_are_as_the_last_one_that_it_has() -> None:
    rng = np.random.default_rng(3)
    profile = BorderProfile.of([torch.from_numpy(rng.normal(size=(6, 6))) for _ in range(3)])
    assert set(profile.mean[2:]) == {profile.mean[2]}
    assert profile.mean[1] != profile.mean[2]
