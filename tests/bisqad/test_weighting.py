"""Weights of a batch, their guards, and the collapse that the guards prevent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close
from torchmetrics.functional.classification import binary_auroc

from bisqad.convex import ridge
from bisqad.hypergradient import backpropagate
from bisqad.weighting import (
    budget_penalty,
    checked_weights,
    effective_sample_size,
    entropy_bonus,
    sample_weights,
)

LOGITS = st.lists(st.floats(-30, 30), min_size=1, max_size=20)


def double(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(logits=LOGITS)
def test_weights_are_scores_with_mean_one(logits: list[float]) -> None:
    weights, scores = sample_weights(double(logits)), torch.sigmoid(double(logits))
    assert_close(weights, scores / scores.mean(), rtol=1e-10, atol=0)
    assert_close(weights.mean(), torch.tensor(1.0, dtype=torch.float64))


@given(logits=LOGITS)
def test_effective_sample_size_lies_between_one_and_all(logits: list[float]) -> None:
    size = float(effective_sample_size(sample_weights(double(logits))))
    assert 1 - 1e-9 <= size <= len(logits) + 1e-9


@given(logits=LOGITS, scale=st.floats(1e-3, 1e3))
def test_guards_of_the_weights_know_no_scale(logits: list[float], scale: float) -> None:
    weights = sample_weights(double(logits))
    assert_close(entropy_bonus(scale * weights), entropy_bonus(weights), rtol=1e-9, atol=1e-12)
    assert_close(effective_sample_size(scale * weights), effective_sample_size(weights))
    assert -1e-12 <= float(entropy_bonus(weights)) <= math.log(len(logits)) + 1e-12


def test_weights_survive_scores_that_underflow() -> None:
    logits = torch.tensor([-200.0, -200.0, -201.0], requires_grad=True)
    weights = sample_weights(logits)
    shares = torch.tensor([1.0, 1.0, math.exp(-1)])
    assert_close(weights, shares / shares.mean())
    weights[0].backward()
    assert logits.grad is not None
    assert bool((logits.grad.abs() > 0.1).all())


def test_entropy_bonus_is_zero_for_equal_weights_and_log_b_for_one() -> None:
    assert_close(entropy_bonus(torch.full((8,), 3.0, dtype=torch.float64)), torch.tensor(0.0, dtype=torch.float64))
    assert_close(entropy_bonus(torch.eye(8)[3], strength=2.0), torch.tensor(2 * math.log(8)))
    assert_close(effective_sample_size(torch.eye(8)[3]), torch.tensor(1.0))


def test_entropy_bonus_pulls_the_largest_weight_down() -> None:
    weights = torch.tensor([1.0, 1.0, 4.0], dtype=torch.float64, requires_grad=True)
    entropy_bonus(weights).backward()
    assert weights.grad is not None
    assert weights.grad[2] > 0 > weights.grad[0]


def test_budget_penalty_is_a_parabola_about_its_target() -> None:
    scores = double([0.1, 0.3, 0.8]).requires_grad_()
    penalty = budget_penalty(scores, target=0.5, strength=2.0)
    penalty.backward()
    assert float(penalty.detach()) == pytest.approx(2 * 0.1**2)
    assert_close(scores.grad, torch.full((3,), -2 * 2 * 0.1 / 3, dtype=torch.float64))
    assert float(budget_penalty(double([0.4, 0.6]))) == pytest.approx(0.0, abs=1e-30)


@dataclass(frozen=True)
class Outcome:
    mean_score: float
    effective_share: float
    good: Tensor
    bad: Tensor
    auroc: float


def train(*, budget: float, entropy: float, seed: int = 0, steps: int = 600) -> Outcome:
    """Ridge on samples whose noise runs from 0.1 to 10; a linear estimator sees a noisy cue of its logarithm.

    The best weights, 1 / variance, are out of reach of a sigmoid except at its foot: all logits sink.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    truth, features, clean = normal(6), normal(256, 6), normal(200, 6)
    row_sample = torch.arange(64).repeat_interleave(4)
    fault = torch.linspace(math.log(0.1), math.log(10.0), 64, dtype=torch.float64)
    targets = features @ truth + fault.exp()[row_sample] * normal(256)
    aims = clean @ truth + 0.1 * normal(200)
    cues = torch.stack([fault + 0.3 * normal(64), normal(64)], dim=1)
    estimator = nn.Linear(2, 1, dtype=torch.float64)
    nn.init.zeros_(estimator.weight)
    nn.init.zeros_(estimator.bias)
    adam = torch.optim.Adam(estimator.parameters(), lr=0.2)
    for _ in range(steps):
        logits = estimator(cues)[:, 0]
        weights = sample_weights(logits)
        found = ridge(
            features, targets, row_sample, weights, lambda t: ((clean @ t - aims) ** 2).mean() / 2, damping=1e-3
        )
        guard = budget_penalty(torch.sigmoid(logits), strength=budget) + entropy_bonus(weights, strength=entropy)
        adam.zero_grad()
        backpropagate(weights, found, guard=guard)
        adam.step()
    logits, weights = logits.detach(), weights.detach()
    return Outcome(
        float(torch.sigmoid(logits).mean()),
        float(effective_sample_size(weights)) / 64,
        weights[fault < 0],
        weights[fault > 0],
        float(binary_auroc(logits, (fault < 0).long())),
    )


def test_without_guards_the_scores_collapse() -> None:
    early, late = (train(budget=0.0, entropy=0.0, steps=steps) for steps in (600, 1200))
    assert early.mean_score < 0.05
    assert late.mean_score < 0.5 * early.mean_score
    assert late.effective_share < 0.15


def test_with_guards_they_stay_and_still_part_good_from_bad() -> None:
    found = train(budget=2.0, entropy=0.05)
    assert 0.4 < found.mean_score < 0.6
    assert found.effective_share > 0.5
    assert found.bad.mean() < 0.3 * found.good.mean()
    assert found.auroc > 0.85


@pytest.mark.parametrize(
    "logits", [torch.zeros(0), torch.zeros(2, 1), torch.tensor([0.0, math.nan]), torch.tensor([math.inf, 0.0])]
)
def test_logits_that_are_none_are_refused(logits: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^logits: expected a \(B,\) tensor of finite values, got [^\n]+$"):
        sample_weights(logits)


@pytest.mark.parametrize("scores", [torch.zeros(0), torch.zeros(2, 1), torch.tensor([0.5, 1.1])])
def test_scores_outside_zero_to_one_are_refused(scores: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^scores: expected [^\n]+$"):
        budget_penalty(scores)


@pytest.mark.parametrize(
    "weights",
    [
        torch.tensor([1.0, -1e-6]),
        torch.zeros(3),
        torch.tensor([1.0, math.nan]),
        torch.tensor([1.0, math.inf]),
        torch.ones(2, 1),
        torch.ones(0),
        torch.ones(3, dtype=torch.int64),
    ],
)
def test_weights_that_are_none_are_refused(weights: Tensor) -> None:
    for take in (checked_weights, entropy_bonus, effective_sample_size):
        with pytest.raises(ValueError, match=r"^weights: expected [^\n]+$"):
            take(weights)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="strength: expected a finite value >= 0"):
        entropy_bonus(torch.ones(2), strength=-1.0)
    with pytest.raises(ValueError, match="strength: expected a finite value >= 0"):
        budget_penalty(torch.full((2,), 0.5), strength=math.nan)
    with pytest.raises(ValueError, match="target: expected a mean score"):
        budget_penalty(torch.full((2,), 0.5), target=1.0)
