"""The exact hypergradient of the last layer against closed forms, finite differences and conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.nn import functional
from torch.testing import assert_close
from torchmetrics.functional.classification import binary_auroc

from bisqad.convex import LastLayer, logistic, ridge
from bisqad.hypergradient import Outcome, Params, backpropagate, implicit
from bisqad.weighting import budget_penalty, sample_weights

DAMPING = 0.02
Layer = Callable[..., LastLayer]


class Problem:
    """12 samples of 1 to 6 rows in shuffled order, 4 features and a constant; clean rows to judge by."""

    def __init__(self, seed: int = 0, samples: int = 12) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        counts = torch.randint(1, 7, (samples,), generator=self.generator)
        rows = torch.arange(samples).repeat_interleave(counts)
        self.row_sample = rows[torch.randperm(len(rows), generator=self.generator)]
        self.features = torch.cat([self.normal(len(rows), 4), torch.ones(len(rows), 1, dtype=torch.float64)], 1)
        truth = self.normal(5)
        self.targets = (self.features @ truth + self.normal(len(rows)) > 0).double()
        self.weights = torch.exp(self.normal(samples))
        self.clean = torch.cat([self.normal(30, 4), torch.ones(30, 1, dtype=torch.float64)], 1)
        self.aims = (self.clean @ truth > 0).double()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def validation_loss(self, theta: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(self.clean @ theta, self.aims)

    def solve(self, layer: Layer, weights: Tensor | None = None, **options: object) -> LastLayer:
        given_weights = self.weights if weights is None else weights
        data = (self.features, self.targets, self.row_sample, given_weights, self.validation_loss)
        return layer(*data, **({"damping": DAMPING} | options))


def closed_form(problem: Problem, weights: Tensor) -> Tensor:
    """Upper loss of the ridge optimum, written as one differentiable expression of the weights."""
    counts = torch.bincount(problem.row_sample)
    shares = (weights / counts / weights.sum())[problem.row_sample]
    hessian = problem.features.T @ (shares[:, None] * problem.features) + DAMPING * torch.eye(5, dtype=torch.float64)
    theta = torch.linalg.solve(hessian, problem.features.T @ (shares * problem.targets))
    return problem.validation_loss(theta)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_ridge_is_the_derivative_of_its_closed_form() -> None:
    problem = Problem()
    found = problem.solve(ridge)
    wanted = jacobian(lambda weights: closed_form(problem, weights), problem.weights)
    assert relative_error(found.weights_gradient, wanted) < 1e-10
    assert_close(found.validation_loss, closed_form(problem, problem.weights), rtol=1e-13, atol=0)
    assert found.gradient_norm < 1e-14


def test_logistic_is_the_derivative_of_its_optimum() -> None:
    problem, step = Problem(), 1e-4
    found = problem.solve(logistic, tolerance=1e-13)
    moves = step * torch.eye(len(problem.weights), dtype=torch.float64)
    wanted = torch.stack(
        [
            (problem.solve(logistic, problem.weights + m, tolerance=1e-13).validation_loss)
            - problem.solve(logistic, problem.weights - m, tolerance=1e-13).validation_loss
            for m in moves
        ]
    ) / (2 * step)
    assert relative_error(found.weights_gradient, wanted) < 1e-6
    assert found.outcome is Outcome.CONVERGED
    assert found.iterations <= 8


def test_logistic_agrees_with_implicit_conjugate_gradients() -> None:
    problem = Problem()
    exact = problem.solve(logistic, tolerance=1e-13)
    counts = torch.bincount(problem.row_sample)

    def losses(params: Params) -> Tensor:
        logits = problem.features @ params["theta"]
        by_row = functional.binary_cross_entropy_with_logits(logits, problem.targets, reduction="none")
        return torch.zeros_like(problem.weights).index_add(0, problem.row_sample, by_row) / counts

    solved = implicit(
        losses,
        lambda params: problem.validation_loss(params["theta"]),
        {"theta": exact.theta},
        problem.weights,
        steps=20,
        damping=DAMPING,
        tolerance=1e-12,
    )
    assert relative_error(exact.weights_gradient, solved.weights_gradient) < 1e-10


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_newton_arrives_from_far_and_with_separable_rows(scale: float) -> None:
    problem = Problem()
    problem.features *= scale
    problem.targets = (problem.features[:, 0] > 0).double()
    start = torch.full((5,), 50.0, dtype=torch.float64)
    found = problem.solve(logistic, start=start, tolerance=1e-9, damping=1e-4)
    assert found.outcome is Outcome.CONVERGED
    assert found.gradient_norm <= 1e-9
    assert_close(found.theta, problem.solve(logistic, tolerance=1e-9, damping=1e-4).theta, rtol=1e-4, atol=1e-6)


def test_start_at_the_optimum_takes_no_step() -> None:
    optimum = Problem().solve(logistic)
    again = Problem().solve(logistic, start=optimum.theta)
    assert (again.iterations, again.outcome) == (0, Outcome.CONVERGED)
    assert_close(again.weights_gradient, optimum.weights_gradient)


def test_spent_iterations_are_reported() -> None:
    found = Problem().solve(logistic, max_iterations=1)
    assert found.outcome is Outcome.STEPS_SPENT
    assert found.gradient_norm > 1e-10
    assert found.iterations == 1


def test_half_precision_features_are_solved_in_double() -> None:
    problem = Problem()
    problem.features, problem.weights = problem.features.float(), problem.weights.float()
    found = problem.solve(logistic)
    assert found.theta.dtype == found.weights_gradient.dtype == torch.float64
    assert found.gradient_norm <= 1e-10


@pytest.mark.parametrize("layer", [ridge, logistic])
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), samples=st.integers(1, 9))
def test_scale_of_the_weights_changes_nothing(layer: Layer, seed: int, scale: float, samples: int) -> None:
    problem = Problem(seed, samples)
    found, scaled = problem.solve(layer), problem.solve(layer, scale * problem.weights)
    assert abs(float(problem.weights @ found.weights_gradient)) < 1e-10
    assert_close(scale * scaled.weights_gradient, found.weights_gradient, rtol=1e-6, atol=1e-9)
    assert_close(scaled.theta, found.theta, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("layer", [ridge, logistic])
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), share=st.floats(0.05, 0.95))
def test_duplicated_sample_shares_its_weight(layer: Layer, seed: int, share: float) -> None:
    problem = Problem(seed)
    alone = problem.solve(layer)
    own = problem.row_sample == 0
    problem.features = torch.cat([problem.features, problem.features[own]])
    problem.targets = torch.cat([problem.targets, problem.targets[own]])
    problem.row_sample = torch.cat([problem.row_sample, torch.full((int(own.sum()),), 12)])
    problem.weights = torch.cat([problem.weights, (1 - share) * problem.weights[:1]])
    problem.weights[0] *= share
    shared = problem.solve(layer)
    assert_close(shared.theta, alone.theta, rtol=1e-6, atol=1e-8)
    wanted = torch.cat([alone.weights_gradient, alone.weights_gradient[:1]])
    assert_close(shared.weights_gradient, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("layer", [ridge, logistic])
def test_sample_without_weight_is_left_out(layer: Layer) -> None:
    problem = Problem()
    problem.weights[0] = 0.0
    before = problem.solve(layer).theta
    problem.targets[problem.row_sample == 0] = 1 - problem.targets[problem.row_sample == 0]
    assert_close(problem.solve(layer).theta, before)


@pytest.mark.parametrize("layer", [ridge, logistic])
def test_weights_part_flipped_from_right_samples(layer: Layer) -> None:
    problem = Problem(3, samples=60)
    counts = torch.bincount(problem.row_sample)
    truth = problem.normal(5)
    right = (problem.features @ truth > 0).double()
    wrong = torch.arange(60) % 2 == 1
    problem.targets = torch.where(wrong[problem.row_sample], 1 - right, right)
    problem.clean = torch.cat([problem.normal(300, 4), torch.ones(300, 1, dtype=torch.float64)], 1)
    problem.aims = (problem.clean @ truth > 0).double()
    logits = torch.zeros(len(counts), dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.1)
    for _ in range(100):
        weights = sample_weights(logits)
        adam.zero_grad()
        backpropagate(weights, problem.solve(layer, weights), guard=budget_penalty(torch.sigmoid(logits)))
        adam.step()
    assert float(binary_auroc(logits.detach(), (~wrong).long())) > 0.99
    learned = problem.solve(layer, sample_weights(logits)).validation_loss
    oracle = problem.solve(layer, (~wrong).double()).validation_loss
    uniform = problem.solve(layer, torch.ones(60, dtype=torch.float64)).validation_loss
    assert learned - oracle < 0.1 * (uniform - oracle)


def changed(**changes: object) -> Callable[[Problem], None]:
    def change(problem: Problem) -> None:
        for name, value in changes.items():
            setattr(problem, name, value)

    return change


WRONG: dict[str, tuple[Callable[[Problem], None], str]] = {
    "negative weight": (changed(weights=-torch.ones(12)), "weights: expected finite values >= 0"),
    "no weight": (changed(weights=torch.zeros(12)), "weights: expected finite values >= 0"),
    "infinite weight": (changed(weights=torch.full((12,), math.inf)), "weights: expected finite values >= 0"),
    "weights of other shape": (changed(weights=torch.ones(12, 1)), r"weights: expected a \(B,\) float tensor"),
    "too few weights": (changed(weights=torch.ones(11)), r"row_sample: expected int64 numbers of samples, 0..10"),
    "sample without row": (changed(weights=torch.ones(13)), "row_sample: sample 12 has no row"),
    "flat features": (changed(features=torch.ones(7)), r"features: expected \(N, P\)"),
    "too few targets": (changed(targets=torch.ones(1)), "targets: expected shape"),
    "too few rows": (changed(row_sample=torch.zeros(1, dtype=torch.int64)), "row_sample: expected shape"),
}


@pytest.mark.parametrize("layer", [ridge, logistic])
@pytest.mark.parametrize(("change", "match"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_refused(layer: Layer, change: Callable[[Problem], None], match: str) -> None:
    problem = Problem()
    change(problem)
    with pytest.raises(ValueError, match=match):
        problem.solve(layer)


@pytest.mark.parametrize("layer", [ridge, logistic])
@pytest.mark.parametrize("damping", [0.0, -1.0, math.nan])
def test_damping_must_be_positive(layer: Layer, damping: float) -> None:
    with pytest.raises(ValueError, match="damping: expected a finite value > 0"):
        Problem().solve(layer, damping=damping)


def test_logistic_refuses_targets_and_starts_that_it_cannot_use() -> None:
    problem = Problem()
    with pytest.raises(ValueError, match="start: expected shape"):
        problem.solve(logistic, start=torch.ones(3))
    problem.targets = problem.targets + 0.5
    with pytest.raises(ValueError, match="targets: expected probabilities"):
        problem.solve(logistic)
