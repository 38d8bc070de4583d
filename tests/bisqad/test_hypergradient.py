"""Hypergradients against finite differences of the outer function itself, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.functional import hessian  # twice in reverse: independent of the forward mode that is tested
from torch.func import functional_call, grad
from torch.nn import functional
from torch.testing import assert_close
from torchmetrics.functional.classification import binary_auroc

from bisqad.hypergradient import (
    HyperGradient,
    ImplicitGradient,
    Outcome,
    Params,
    backpropagate,
    directional_derivatives,
    implicit,
    largest_eigenvalue,
    one_step,
    weights_gradient,
)
from bisqad.weighting import sample_weights

DAMPING = {"tanh": 0.01, "silu": 0.02}  # little enough for all units to differ at the optimum
ACTIVATIONS = {"tanh": nn.Tanh, "silu": nn.SiLU}


@dataclass(frozen=True)
class Problem:
    """A small network, a batch of 6 samples of 5 rows, clean rows to judge by, and weights that differ."""

    activation: str = "silu"
    seed: int = 0
    samples: int = 6
    dtype: torch.dtype = torch.float64

    def draw(self, *shape: int, seed: int = 0) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(100 * self.seed + seed), dtype=self.dtype)

    @cached_property
    def network(self) -> nn.Module:
        return nn.Sequential(nn.Linear(3, 4), ACTIVATIONS[self.activation](), nn.Linear(4, 1)).to(self.dtype)

    @cached_property
    def params(self) -> Params:
        named = self.network.named_parameters()
        return {name: 0.5 * self.draw(*value.shape, seed=k) for k, (name, value) in enumerate(named)}

    @property
    def damping(self) -> float:
        return DAMPING[self.activation]

    @cached_property
    def weights(self) -> Tensor:
        return torch.exp(self.draw(self.samples, seed=50))

    def sample_losses(self, params: Params) -> Tensor:
        rows, labels = self.draw(self.samples, 5, 3, seed=60), (self.draw(self.samples, 5, seed=61) > 0).to(self.dtype)
        logits = functional_call(self.network, params, (rows,))[..., 0]
        return functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1)

    def validation_loss(self, params: Params) -> Tensor:
        rows = self.draw(20, 3, seed=70)
        logits = functional_call(self.network, params, (rows,))[..., 0]
        return functional.binary_cross_entropy_with_logits(logits, (rows[:, 0] > 0).to(self.dtype))

    def training_loss(self, params: Params, weights: Tensor) -> Tensor:
        decay = sum((value**2).sum() for value in params.values())
        return weights @ self.sample_losses(params) / weights.sum() + self.damping / 2 * decay

    @cached_property
    def optimum(self) -> Params:
        """theta*(w) of the weights above: gradient descent comes close, Newton ends."""
        slope, params = grad(self.training_loss), self.params
        for _ in range(2000):
            descent = slope(params, self.weights)
            params = {name: value - 0.5 * descent[name] for name, value in params.items()}
        return self.solved(self.weights, params)

    def solved(self, weights: Tensor, near: Params | None = None) -> Params:
        """theta*(w) to rounding, by Newton's method from a place near it."""
        params = near if near is not None else self.optimum

        def loss(flat: Tensor) -> Tensor:
            return self.training_loss(unravel(flat, params), weights)

        flat = ravel(params)
        for _ in range(5):
            flat = flat - torch.linalg.solve(hessian(loss, flat), grad(loss)(flat))
        assert float(grad(loss)(flat).norm()) < 1e-12
        return unravel(flat, params)


@lru_cache
def problem_of(activation: str = "silu") -> Problem:
    """One for all tests of the solved lower level: solving it takes seconds."""
    return Problem(activation)


@lru_cache
def differences_of_the_optimum(activation: str) -> Tensor:
    problem = problem_of(activation)
    return central_differences(lambda w: problem.validation_loss(problem.solved(w)), problem.weights, step=1e-4)


def ravel(params: Params) -> Tensor:
    return torch.cat([value.flatten() for value in params.values()])


def unravel(flat: Tensor, like: Params) -> Params:
    parts = flat.split([value.numel() for value in like.values()])
    return {name: part.view_as(value) for (name, value), part in zip(like.items(), parts, strict=True)}


def central_differences(outer: Callable[[Tensor], Tensor], weights: Tensor, step: float = 1e-5) -> Tensor:
    moves = step * torch.eye(len(weights), dtype=weights.dtype)
    return torch.stack([(outer(weights + move) - outer(weights - move)) / (2 * step) for move in moves])


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def adam_diagonal(problem: Problem) -> Params:
    return {name: 1 / (problem.draw(*v.shape, seed=80).abs() + 0.05) for name, v in problem.params.items()}


def stepped(problem: Problem, weights: Tensor, lr: float, diagonal: Params | None) -> Params:
    slope = grad(lambda params: weights @ problem.sample_losses(params) / weights.sum())(problem.params)
    factor = diagonal or {name: torch.ones_like(value) for name, value in slope.items()}
    return {name: value - lr * factor[name] * slope[name] for name, value in problem.params.items()}


@pytest.mark.parametrize("products", ["jvp", "difference"])
@pytest.mark.parametrize("preconditioned", [False, True], ids=["plain", "adam"])
@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_one_step_is_the_derivative_of_the_step(
    activation: str, preconditioned: bool, products: Literal["jvp", "difference"]
) -> None:
    problem, lr = Problem(activation), 0.3
    diagonal = adam_diagonal(problem) if preconditioned else None

    def outer(weights: Tensor) -> Tensor:
        return problem.validation_loss(stepped(problem, weights, lr, diagonal))

    found = one_step(
        problem.sample_losses,
        problem.validation_loss,
        problem.params,
        problem.weights,
        lr=lr,
        preconditioner=diagonal,
        products=products,
    )
    assert relative_error(found.weights_gradient, central_differences(outer, problem.weights)) < 1e-7
    assert_close(found.validation_loss, outer(problem.weights))


def test_one_step_takes_the_optimisers_own_step() -> None:
    problem = Problem()
    after = stepped(problem, problem.weights, 0.3, None)
    arguments = (problem.sample_losses, problem.validation_loss, problem.params, problem.weights)
    with_it, without = (one_step(*arguments, lr=0.3, stepped=given) for given in (after, None))
    assert_close(with_it.weights_gradient, without.weights_gradient)


@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_products_by_difference_agree_with_the_exact_ones(activation: str) -> None:
    for dtype, bound in ((torch.float64, 1e-8), (torch.float32, 1e-3)):
        problem = Problem(activation, dtype=dtype)
        direction = grad(problem.validation_loss)(problem.params)
        exact, differences = (
            directional_derivatives(problem.sample_losses, problem.params, direction, products=products)
            for products in ("jvp", "difference")
        )
        assert relative_error(differences, exact) < bound


def test_difference_along_nothing_is_zero() -> None:
    problem = Problem()
    nothing = {name: torch.zeros_like(value) for name, value in problem.params.items()}
    found = directional_derivatives(problem.sample_losses, problem.params, nothing, products="difference")
    assert_close(found, torch.zeros_like(problem.weights))


@pytest.mark.parametrize("hessian_by", ["forward", "retained"])
@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_implicit_is_the_derivative_of_the_solved_lower_level(
    activation: str, hessian_by: Literal["forward", "retained"]
) -> None:
    problem = problem_of(activation)
    optimum = problem.optimum
    count = sum(value.numel() for value in optimum.values())
    found = implicit(
        problem.sample_losses,
        problem.validation_loss,
        optimum,
        problem.weights,
        steps=count,
        damping=problem.damping,
        tolerance=1e-5,
        hessian=hessian_by,
    )
    wanted = differences_of_the_optimum(activation)
    assert found.outcome is Outcome.CONVERGED
    assert found.products <= count
    assert relative_error(found.weights_gradient, wanted) < 1e-5


@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_neumann_is_the_derivative_of_the_solved_lower_level(activation: str) -> None:
    problem = problem_of(activation)
    found = solved_by(problem, solver="neumann", steps=3000, tolerance=1e-8)
    assert found.outcome is Outcome.CONVERGED
    assert relative_error(found.weights_gradient, differences_of_the_optimum(activation)) < 1e-6


def solved_by(problem: Problem, *, steps: int, **options: Any) -> ImplicitGradient:
    losses = (problem.sample_losses, problem.validation_loss)
    return implicit(*losses, problem.optimum, problem.weights, steps=steps, damping=problem.damping, **options)


def left_over(problem: Problem, solution: Params) -> float:
    """|grad L_val - (H + damping I) v| / |grad L_val| with the Hessian written out."""
    optimum = problem.optimum
    shares = problem.weights / problem.weights.sum()

    def flat_loss(flat: Tensor) -> Tensor:
        return shares @ problem.sample_losses(unravel(flat, optimum))

    point, vector, right = ravel(optimum), ravel(solution), ravel(grad(problem.validation_loss)(optimum))
    return float((right - hessian(flat_loss, point) @ vector - problem.damping * vector).norm() / right.norm())


@pytest.mark.parametrize("solver", ["cg", "neumann"])
def test_residual_is_that_of_the_solution(solver: str) -> None:
    problem = problem_of()
    found = solved_by(problem, solver=solver, steps=4)
    assert found.outcome is Outcome.STEPS_SPENT
    assert found.products == 4
    assert found.residual == pytest.approx(left_over(problem, found.inverse_product), rel=1e-6)
    assert found.residual > 1e-3


def test_cg_needs_fewer_products_than_neumann() -> None:
    needed = [solved_by(problem_of(), solver=s, steps=3000, tolerance=1e-4).products for s in ("cg", "neumann")]
    assert needed[0] < needed[1] / 3


def test_start_at_the_solution_takes_no_product() -> None:
    solution = solved_by(problem_of(), steps=30, tolerance=1e-10)
    again = solved_by(problem_of(), steps=30, tolerance=1e-8, start=solution.inverse_product)
    assert again.products == 0
    assert_close(again.weights_gradient, solution.weights_gradient, rtol=1e-6, atol=1e-9)


def test_start_worse_than_nothing_is_dropped() -> None:
    far = {name: 100 + value for name, value in problem_of().params.items()}
    assert_close(solved_by(problem_of(), steps=3, start=far).residual, solved_by(problem_of(), steps=3).residual)


def saddle_losses(params: Params) -> Tensor:
    x, y = params["x"], params["y"]
    return torch.stack([x**2 - y**2 + x * y, x**2 - 2 * y**2 + y])


SADDLE = {"x": torch.tensor(0.3, dtype=torch.float64), "y": torch.tensor(0.2, dtype=torch.float64)}


@pytest.mark.parametrize(("solver", "outcome"), [("cg", Outcome.NEGATIVE_CURVATURE), ("neumann", Outcome.DIVERGED)])
def test_negative_curvature_is_reported_and_leaves_a_finite_gradient(solver: str, outcome: Outcome) -> None:
    found = implicit(
        saddle_losses,
        lambda params: params["y"] + 0.1 * params["x"],
        SADDLE,
        torch.ones(2, dtype=torch.float64),
        solver=solver,  # type: ignore[arg-type]
        steps=50,
        damping=0.0,
    )
    assert found.outcome is outcome
    assert found.residual > 1e-3
    assert bool(torch.isfinite(found.weights_gradient).all())


def test_neumann_diverges_past_twice_the_inverse_of_the_largest_eigenvalue() -> None:
    problem = problem_of()
    optimum = problem.optimum
    largest = largest_eigenvalue(problem.sample_losses, optimum, problem.weights, damping=problem.damping, steps=60)
    outcomes = [
        solved_by(problem, solver="neumann", steps=2000, tolerance=1e-6, step=factor / largest).outcome
        for factor in (1.9, 2.3)
    ]
    assert outcomes == [Outcome.CONVERGED, Outcome.DIVERGED]


@pytest.mark.parametrize("hessian_by", ["forward", "retained"])
def test_largest_eigenvalue_is_that_of_the_hessian(hessian_by: Literal["forward", "retained"]) -> None:
    scales = torch.tensor([0.5, 3.0, 7.0], dtype=torch.float64)
    found = largest_eigenvalue(
        lambda params: (scales @ params["a"] ** 2 / 2).reshape(1) + params["linear"].sum(),
        {"a": torch.ones(3, dtype=torch.float64), "linear": torch.ones(2, dtype=torch.float64)},
        torch.ones(1, dtype=torch.float64),
        damping=0.5,
        steps=40,
        hessian=hessian_by,
    )
    assert found == pytest.approx(7.5, rel=1e-6)


def test_losses_without_curvature_leave_the_damping_alone() -> None:
    slopes = torch.tensor([1.0, -2.0], dtype=torch.float64)
    found = implicit(
        lambda params: slopes * params["a"],
        lambda params: 3 * params["a"],
        {"a": torch.tensor(0.4, dtype=torch.float64)},
        torch.tensor([1.0, 3.0], dtype=torch.float64),
        steps=2,
        damping=0.5,
        hessian="retained",
    )
    mean = (1.0 - 6.0) / 4
    assert_close(found.weights_gradient, -(3 / 0.5) * (slopes - mean) / 4)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), samples=st.integers(1, 9))
def test_scale_of_the_weights_changes_nothing(seed: int, scale: float, samples: int) -> None:
    problem = Problem(seed=seed, samples=samples)
    losses = (problem.sample_losses, problem.validation_loss, problem.params)
    for take in (lambda w: one_step(*losses, w, lr=0.1), lambda w: implicit(*losses, w, steps=3, damping=2.0)):
        found, scaled = take(problem.weights), take(scale * problem.weights)
        size = float(problem.weights @ found.weights_gradient.abs())
        assert abs(float(problem.weights @ found.weights_gradient)) <= 1e-12 * max(size, 1.0)
        assert_close(scale * scaled.weights_gradient, found.weights_gradient, rtol=1e-7, atol=1e-12)
        assert_close(scaled.validation_loss, found.validation_loss)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), share=st.floats(0.05, 0.95))
def test_duplicated_sample_shares_its_weight(seed: int, share: float) -> None:
    problem = Problem(seed=seed)
    first = problem.weights[:1]
    doubled = torch.cat([problem.weights, (1 - share) * first])
    doubled[0] *= share

    def losses(params: Params) -> Tensor:
        once = problem.sample_losses(params)
        return torch.cat([once, once[:1]])

    alone = one_step(problem.sample_losses, problem.validation_loss, problem.params, problem.weights, lr=0.1)
    shared = one_step(losses, problem.validation_loss, problem.params, doubled, lr=0.1)
    wanted = torch.cat([alone.weights_gradient, alone.weights_gradient[:1]])
    assert_close(shared.weights_gradient, wanted, rtol=1e-7, atol=1e-12)


def test_backpropagation_reaches_the_weighting_network() -> None:
    problem = Problem()
    descriptors = problem.draw(problem.samples, 2, seed=90)
    phi = problem.draw(2, seed=91).requires_grad_()

    def outer(values: Tensor) -> Tensor:
        return problem.validation_loss(stepped(problem, sample_weights(descriptors @ values), 0.3, None))

    weights = sample_weights(descriptors @ phi)
    found = one_step(problem.sample_losses, problem.validation_loss, problem.params, weights, lr=0.3)
    backpropagate(weights, found, guard=(phi**2).sum())
    wanted = central_differences(outer, phi.detach()) + 2 * phi.detach()
    assert phi.grad is not None
    assert relative_error(phi.grad, wanted) < 1e-7


def test_nothing_is_recorded_and_no_parameter_is_touched() -> None:
    problem = Problem()
    params = {name: nn.Parameter(value) for name, value in problem.params.items()}
    weights = problem.weights.clone().requires_grad_()
    for found in (
        one_step(problem.sample_losses, problem.validation_loss, params, weights, lr=0.1),
        implicit(problem.sample_losses, problem.validation_loss, params, weights, steps=2, damping=1.0),
    ):
        assert not found.weights_gradient.requires_grad
        assert not found.validation_loss.requires_grad
    assert all(value.grad is None for value in params.values())
    assert weights.grad is None


@dataclass(frozen=True)
class Flipped:
    """Samples of 4 rows (B, 4, 8), every second with its targets' signs turned; clean rows (200, 8)."""

    rows: Tensor
    targets: Tensor
    wrong: Tensor
    clean: Tensor
    aims: Tensor

    @classmethod
    def drawn(cls, seed: int, samples: int = 80) -> Flipped:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        truth, rows, clean = normal(8), normal(samples, 4, 8), normal(200, 8)
        wrong = torch.arange(samples) % 2 == 1
        targets = torch.where(wrong, -1.0, 1.0)[:, None] * (rows @ truth) + 0.1 * normal(samples, 4)
        return cls(rows, targets, wrong, clean, clean @ truth + 0.1 * normal(200))

    def losses(self, params: Params) -> Tensor:
        return ((self.rows @ params["theta"] - self.targets) ** 2).mean(1) / 2

    def upper(self, params: Params) -> Tensor:
        return ((self.clean @ params["theta"] - self.aims) ** 2).mean() / 2

    def error(self, weights: Tensor) -> float:
        """On the clean rows, of the least squares fit with these weights of samples."""
        root = weights.sqrt()[:, None]
        rows, targets = (root[..., None] * self.rows).reshape(-1, 8), (root * self.targets).reshape(-1, 1)
        return 2 * float(self.upper({"theta": torch.linalg.lstsq(rows, targets).solution[:, 0]}))


Take = Callable[[Callable[[Params], Tensor], Callable[[Params], Tensor], Params, Tensor], HyperGradient]


@pytest.mark.parametrize(
    "take",
    [
        lambda losses, upper, theta, w: one_step(losses, upper, theta, w, lr=0.1),
        lambda losses, upper, theta, w: one_step(losses, upper, theta, w, lr=0.1, products="difference"),
        lambda losses, upper, theta, w: implicit(losses, upper, theta, w, steps=8, damping=0.01),
    ],
    ids=["one step", "one step by differences", "implicit"],
)
def test_weights_part_flipped_from_right_samples(take: Take) -> None:
    problem = Flipped.drawn(4)
    logits = torch.zeros(80, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([logits], lr=0.1)
    theta = {"theta": torch.zeros(8, dtype=torch.float64)}
    for _ in range(150):
        weights = sample_weights(logits)
        adam.zero_grad()
        backpropagate(weights, take(problem.losses, problem.upper, theta, weights))
        adam.step()
        shares = sample_weights(logits.detach()) / 80
        for _ in range(5):
            slope = grad(lambda params, p=shares: p @ problem.losses(params))(theta)["theta"]
            theta = {"theta": theta["theta"] - 0.1 * (slope + 0.01 * theta["theta"])}
    oracle, uniform = (problem.error(w.double()) for w in (~problem.wrong, torch.ones(80)))
    assert float(binary_auroc(logits.detach(), (~problem.wrong).long())) > 0.99
    assert problem.error(shares) - oracle < 0.01 * (uniform - oracle)


BAD_WEIGHTS = {
    "negative": torch.tensor([1.0, -0.1, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64),
    "all zero": torch.zeros(6, dtype=torch.float64),
    "not finite": torch.tensor([1.0, math.nan, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64),
    "too few": torch.ones(5, dtype=torch.float64),
    "a column": torch.ones(6, 1, dtype=torch.float64),
    "none": torch.ones(0, dtype=torch.float64),
    "whole numbers": torch.ones(6, dtype=torch.int64),
}


@pytest.mark.parametrize("weights", BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_wrong_weights_are_refused(weights: Tensor) -> None:
    problem = Problem()
    losses = (problem.sample_losses, problem.validation_loss, problem.params)
    for take in (
        lambda: one_step(*losses, weights, lr=0.1),
        lambda: one_step(*losses, weights, lr=0.1, stepped=problem.params),
        lambda: implicit(*losses, weights, steps=2, damping=1.0),
        lambda: largest_eigenvalue(problem.sample_losses, problem.params, weights, damping=0.0),
    ):
        with pytest.raises(ValueError, match=r"^weights: expected [^\n]+ got [^\n]+$"):
            take()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lr": 0.0}, "lr: expected a step > 0"),
        ({"lr": math.inf}, "lr: expected a step > 0"),
        ({"lr": 0.1, "preconditioner": {"0.weight": torch.ones(4, 3)}}, "preconditioner: expected names and shapes"),
        ({"lr": 0.1, "stepped": {}}, "stepped: expected names and shapes"),
        ({"lr": 0.1, "products": "exact"}, "products: expected 'jvp' or 'difference'"),
    ],
)
def test_wrong_options_of_one_step_are_refused(options: dict[str, object], match: str) -> None:
    problem = Problem()
    with pytest.raises(ValueError, match=match):
        one_step(problem.sample_losses, problem.validation_loss, problem.params, problem.weights, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"solver": "minres"}, "solver: expected 'cg' or 'neumann'"),
        ({"steps": 0}, "steps: expected at least 1"),
        ({"damping": -1.0}, "damping: expected a finite value >= 0"),
        ({"tolerance": 1.0}, "tolerance: expected a share"),
        ({"solver": "neumann", "step": 0.0}, "step: expected a value > 0"),
        ({"hessian": "full"}, "hessian: expected 'forward' or 'retained'"),
        ({"start": {}}, "start: expected names and shapes"),
    ],
)
def test_wrong_options_of_implicit_are_refused(options: dict[str, object], match: str) -> None:
    problem = Problem()
    given_options = {"steps": 2, "damping": 1.0} | options
    with pytest.raises(ValueError, match=match):
        implicit(problem.sample_losses, problem.validation_loss, problem.params, problem.weights, **given_options)  # type: ignore[arg-type]


def test_wrong_losses_are_refused() -> None:
    problem = Problem()
    with pytest.raises(ValueError, match="sample_losses: expected one loss a sample"):
        one_step(
            lambda params: problem.sample_losses(params).mean(),
            problem.validation_loss,
            problem.params,
            problem.weights,
            lr=0.1,
        )
    with pytest.raises(ValueError, match="validation_loss: expected one number"):
        one_step(problem.sample_losses, problem.sample_losses, problem.params, problem.weights, lr=0.1)
    with pytest.raises(ValueError, match="params: expected at least one tensor"):
        one_step(problem.sample_losses, problem.validation_loss, {}, problem.weights, lr=0.1)


def test_wrong_gradient_is_refused() -> None:
    weights = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match="gradient: expected shape"):
        backpropagate(weights, torch.ones(2))
    with pytest.raises(ValueError, match="with an autograd graph"):
        backpropagate(weights.detach(), torch.ones(3))
    with pytest.raises(ValueError, match="weights: expected one for each of 2"):
        weights_gradient(torch.ones(2), torch.ones(3))
