"""The segmentation head and its losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from bisqad.cells import NormalCells
from bisqad.head import SegmentationHead, head_for, losses_of_cells


@pytest.fixture
def normals(rng: np.random.Generator) -> NormalCells:
    features = torch.from_numpy(rng.normal([5.0, -2.0, 0.5], [0.5, 3.0, 1.0], (20, 30, 3))).half()
    return NormalCells(features, np.array(["a/b"] * 20), tuple(map(str, range(20))))


def test_normal_cells_are_standardised_to_mean_0_and_spread_1(normals: NormalCells) -> None:
    seen = head_for(normals, 4, seed=0).standardised(normals.features).flatten(0, 1).detach().numpy()
    assert_allclose(seen.mean(axis=0), np.zeros(3), atol=1e-3)
    assert_allclose(seen.std(axis=0), np.ones(3), atol=5e-3)


def test_no_feature_counts_for_more_than_8_spreads(normals: NormalCells) -> None:
    seen = head_for(normals, 4, seed=0).standardised(torch.tensor([[60000.0, -60000.0, 0.5]]))
    assert_array_equal(seen[0, :2].numpy(), [8, -8])


def test_the_first_parameters_follow_the_seed_and_leave_the_global_stream_alone(normals: NormalCells) -> None:
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    first, second, other = (head_for(normals, 4, seed=seed) for seed in (1, 1, 2))
    assert torch.rand(1) == wanted
    assert_array_equal(first.adaptor.weight.detach().numpy(), second.adaptor.weight.detach().numpy())
    assert not torch.equal(first.adaptor.weight, other.adaptor.weight)


def test_losses_are_the_mean_cross_entropy_of_each_samples_cells(rng: np.random.Generator) -> None:
    head = SegmentationHead(3, 4)
    cells = torch.from_numpy(rng.normal(size=(5, 7, 3)).astype(np.float32))
    labels = torch.from_numpy((rng.random((5, 7)) < 0.5).astype(np.float32))
    chance = head(cells).sigmoid().detach().double().numpy()
    truth = labels.numpy()
    wanted = -(truth * np.log(chance) + (1 - truth) * np.log(1 - chance)).mean(axis=1)
    found = losses_of_cells(head, dict(head.named_parameters()), cells, labels)
    assert_allclose(found.detach().numpy(), wanted, rtol=1e-5)
