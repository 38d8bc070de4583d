"""Distances to remembered normal cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from bisqad.cells import NormalCells
from bisqad.normality import Normality, deepest_scale


@pytest.fixture
def normals(rng: np.random.Generator) -> NormalCells:
    """12 photographs of two categories, 10 cells of 9 features."""
    features = torch.from_numpy(rng.normal(2, 1.5, (12, 10, 9))).half()
    return NormalCells(features, np.array(["a/x"] * 8 + ["a/y"] * 4), tuple(map(str, range(12))))


def remembered(normals: NormalCells, *, neighbours: int = 1, memory_cells: int = 1000) -> Normality:
    scale = deepest_scale(normals, 4)
    rng = np.random.default_rng(0)
    return Normality.of(normals, scale, memory_cells=memory_cells, neighbours=neighbours, rng=rng)


def test_scale_brings_the_last_features_to_a_common_spread(normals: NormalCells) -> None:
    scaled = normals.features[..., -4:].float().flatten(0, 1) * deepest_scale(normals, 4)
    assert_allclose(scaled.std(dim=0, correction=0).numpy(), np.full(4, 0.5), rtol=1e-3)


def test_a_feature_that_never_varies_counts_for_nothing(normals: NormalCells) -> None:
    features = normals.features.clone()
    features[..., -2] = 3.0
    scale = deepest_scale(NormalCells(features, normals.keys, normals.names), 4)
    assert scale[2] == 0
    assert bool((scale[[0, 1, 3]] > 0).all())


def test_a_remembered_cell_is_at_no_distance(normals: NormalCells) -> None:
    found = remembered(normals).distance(normals.features[3], "a/x")
    assert_allclose(found.numpy(), np.zeros(10), atol=3e-3)


@pytest.mark.parametrize("neighbours", [1, 3])
def test_distance_is_that_of_a_search_through_all(
    normals: NormalCells, rng: np.random.Generator, neighbours: int
) -> None:
    normality = remembered(normals, neighbours=neighbours)
    cells = rng.normal(3, 2, (57, 9)).astype(np.float32)
    known = (normals.features[8:, :, -4:].float() * normality.scale).flatten(0, 1).numpy().astype(np.float64)
    asked = cells[:, -4:].astype(np.float64) * normality.scale.numpy()
    apart = np.sort(np.linalg.norm(asked[:, None] - known[None], axis=2), axis=1)[:, :neighbours].mean(axis=1)
    assert_allclose(normality.distance(torch.from_numpy(cells), "a/y").numpy(), apart, rtol=1e-3, atol=1e-3)


def test_more_neighbours_than_cells_are_all_cells(normals: NormalCells) -> None:
    normality = remembered(normals, neighbours=64, memory_cells=5)
    assert bool(torch.isfinite(normality.distance(normals.features[0], "a/x")).all())


def test_no_cells_have_no_distances(normals: NormalCells) -> None:
    assert remembered(normals).distance(torch.empty(0, 9), "a/x").shape == (0,)


def test_memory_is_bounded_for_each_category_and_its_choice_follows_the_seed(normals: NormalCells) -> None:
    first, second = (remembered(normals, memory_cells=17) for _ in range(2))
    assert {key: tuple(cells.shape) for key, cells in first.memory.items()} == {"a/x": (17, 4), "a/y": (17, 4)}
    assert_array_equal(first.memory["a/x"].numpy(), second.memory["a/x"].numpy())


@pytest.mark.parametrize("shape", [(1, 1), (5, 8), (7, 7), (32, 31)])
def test_a_map_of_any_size_has_a_distance_for_each_cell(
    normals: NormalCells, rng: np.random.Generator, shape: tuple[int, int]
) -> None:
    cells = torch.from_numpy(rng.normal(2, 1, (9, *shape)).astype(np.float32))
    found = remembered(normals).distance_map(cells, "a/x")
    assert found.shape == shape
    assert bool((found >= 0).all())


def test_a_map_is_highest_where_its_cells_are_strange(normals: NormalCells) -> None:
    cells = normals.features[0, 0].float()[:, None, None].repeat(1, 20, 20)
    cells[:, 9:13, 4:8] += 30
    found = remembered(normals).distance_map(cells, "a/x").numpy()
    assert found[10:12, 5:7].min() > 10 * max(found[:6].max(), 0.01)


def test_a_cell_that_was_compared_has_its_own_distance_in_the_map(
    normals: NormalCells, rng: np.random.Generator
) -> None:
    cells = torch.from_numpy(rng.normal(2, 2, (9, 12, 15)).astype(np.float32))
    normality = remembered(normals)
    wanted = normality.distance(cells.flatten(1).T, "a/x").reshape(12, 15)
    found = normality.distance_map(cells, "a/x")
    assert_allclose(found[::2, ::2].numpy(), wanted[::2, ::2].numpy(), rtol=1e-3, atol=1e-3)
