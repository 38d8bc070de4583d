"""Hypergradients dL_val/dw: how the validation loss answers to the training weight of each sample of a batch.

The lower level trains parameters theta with weights w_i >= 0, which only count as shares, S = sum_i w_i:

    theta*(w) = argmin_theta sum_i w_i l_i(theta) / S + damping/2 |theta|^2

and the upper level wants L_val(theta*(w)) small. Both forms below come down to one direction v in parameter space and
the derivatives of all sample losses along it, p_i = v . grad l_i(theta):

    dL_val/dw_i = -(scale / S) (p_i - sum_j w_j p_j / S)

* one step:  theta' = theta - lr D grad[sum_i w_i l_i / S],  v = D grad L_val(theta'),  scale = lr
* implicit:  (H + damping I) v = grad L_val(theta*),  H = d^2/dtheta^2 [sum_i w_i l_i / S],  scale = 1

so the mixed derivative d2 L_train / dw dtheta is never formed: one forward-mode pass over the batch gives every p_i.
The second term is the normalisation by S; sum_i w_i dL_val/dw_i = 0. The gradient of a weighting network's own
parameters follows by ordinary backpropagation from w, see `backpropagate`.

References
----------
Ren, Zeng, Yang & Urtasun, "Learning to reweight examples for robust deep learning", ICML (2018): one step.
Liu, Simonyan & Yang, "DARTS: Differentiable architecture search", ICLR (2019): differences in place of the product.
Pedregosa, "Hyperparameter optimization with approximate gradient", ICML (2016): implicit, conjugate gradients.
Lorraine, Vicol & Duvenaud, "Optimizing millions of hyperparameters by implicit differentiation", AISTATS (2020): the
Neumann series.
Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6 (1994).
Nocedal & Wright, "Numerical optimization", 2nd ed., Springer (2006): algorithm 7.2 for the stop at negative curvature,
section 8.1 for the step of central differences.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.func import grad, grad_and_value, jvp

from bisqad.weighting import checked_weights

__all__ = [
    "Hessian",
    "HyperGradient",
    "ImplicitGradient",
    "Outcome",
    "Params",
    "Products",
    "SampleLosses",
    "ValidationLoss",
    "backpropagate",
    "directional_derivatives",
    "implicit",
    "largest_eigenvalue",
    "one_step",
    "weights_gradient",
]

Params = dict[str, Tensor]
SampleLosses = Callable[[Params], Tensor]
ValidationLoss = Callable[[Params], Tensor]
Products = Literal["jvp", "difference"]
Hessian = Literal["forward", "retained"]
_Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class HyperGradient:
    """``weights_gradient`` (B,), dL_val/dw; ``validation_loss`` (), at the parameters it was taken at."""

    weights_gradient: Tensor
    validation_loss: Tensor


class Outcome(Enum):
    """How a solver ended; the text names the remedy."""

    CONVERGED = "the residual is within the tolerance"
    STEPS_SPENT = "the steps are spent above the tolerance: allow more of them, or more damping"
    NEGATIVE_CURVATURE = (
        "the Hessian plus damping is not positive definite: train the lower level further, or damp more"
    )
    DIVERGED = "the residual grew: a smaller step, or more damping"


@dataclass(frozen=True)
class ImplicitGradient(HyperGradient):
    """A hypergradient and the linear solve behind it.

    ``inverse_product``, (H + damping I)^-1 grad L_val as parameters; ``residual``, relative to |grad L_val|;
    ``products``, Hessian-vector products of the solve; ``outcome``.
    """

    inverse_product: Params
    residual: float
    products: int
    outcome: Outcome


@torch.no_grad()
def one_step(
    sample_losses: SampleLosses,
    validation_loss: ValidationLoss,
    params: Mapping[str, Tensor],
    weights: Tensor,
    *,
    lr: float,
    preconditioner: Mapping[str, Tensor] | None = None,
    stepped: Mapping[str, Tensor] | None = None,
    products: Products = "jvp",
) -> HyperGradient:
    """Hypergradient through one step of the optimiser, theta' = theta - lr D grad[sum_i w_i l_i / S].

    Parameters
    ----------
    sample_losses : callable
        Losses (B,) of the batch's samples at given parameters, in the manner of `torch.func.functional_call`.
    validation_loss : callable
        Upper loss () at given parameters.
    params : mapping of str to tensor
        theta before the step.
    weights : (B,) float tensor
        w >= 0, of any scale.
    lr : float
        Step of the optimiser, > 0.
    preconditioner : mapping of str to tensor, optional
        Its diagonal D, shaped as ``params``, held constant: 1 / (sqrt(v_hat) + eps) of Adam; without, 1. What momentum
        makes of the step's own gradient, (1 - beta_1) / (1 - beta_1^t), goes into ``lr``.
    stepped : mapping of str to tensor, optional
        theta', if the optimiser has gone there already. It saves the training gradient, and the weights' gradient is
        taken at the place that momentum and weight decay really lead to.
    products : {"jvp", "difference"}
        How the p_i are found, see `directional_derivatives`.

    Raises
    ------
    ValueError
        A weight is negative or not finite, all are 0, or shapes do not fit.
    """
    if not 0 < lr < math.inf:
        raise ValueError(f"lr: expected a step > 0, got {lr}")
    theta, weights = _detached(params), checked_weights(weights.detach())
    scale = _like(preconditioner, theta, "preconditioner") if preconditioner is not None else None
    if stepped is None:
        descent = _scaled(grad(_training_loss(sample_losses, weights))(theta), scale)
        after = {name: value - lr * descent[name] for name, value in theta.items()}
    else:
        after = _like(stepped, theta, "stepped")
    upper, loss = grad_and_value(_scalar(validation_loss))(after)
    along = directional_derivatives(sample_losses, theta, _scaled(upper, scale), products=products)
    return HyperGradient(weights_gradient(along, weights, scale=lr), loss)


@torch.no_grad()
def implicit(
    sample_losses: SampleLosses,
    validation_loss: ValidationLoss,
    params: Mapping[str, Tensor],
    weights: Tensor,
    *,
    solver: Literal["cg", "neumann"] = "cg",
    steps: int,
    damping: float,
    tolerance: float = 1e-6,
    step: float | None = None,
    start: Mapping[str, Tensor] | None = None,
    hessian: Hessian = "forward",
) -> ImplicitGradient:
    """Hypergradient by the implicit function theorem, -(d2 L_train / dw dtheta)^T (H + damping I)^-1 grad L_val.

    Right where the lower level is solved, ``params`` = theta*(w); elsewhere an approximation. Neumann's series in the
    form v <- v + step r, r <- r - step A r shrinks the residual r of A = H + damping I in every mode while
    0 < step < 2 / lambda_max(A).

    Parameters
    ----------
    sample_losses, validation_loss, params, weights
        As for `one_step`; ``damping`` is not part of the losses.
    solver : {"cg", "neumann"}
        Conjugate gradients, or Neumann's series.
    steps : int
        At most so many Hessian-vector products, >= 1.
    damping : float
        >= 0, of the lower level: the factor of |theta|^2 / 2.
    tolerance : float
        Stops at a residual of this share of |grad L_val|.
    step : float, optional
        Of Neumann's series; by default 1 / `largest_eigenvalue`, which takes 10 more products: estimate it once and
        hand it on.
    start : mapping of str to tensor, optional
        First guess of the solution, such as the ``inverse_product`` of the last upper step; takes one more product.
    hessian : {"forward", "retained"}
        Hessian-vector products forward over reverse, which keep nothing, or by a second backward pass through a graph
        of the training gradient that is built once and kept: a multiple faster, for a few times the memory of a step.

    Returns
    -------
    ImplicitGradient
        ``residual`` and ``outcome`` say whether to trust it. Where the solver had to stop early, the last sound iterate
        is used; it is 0 at worst.

    Raises
    ------
    ValueError
        As `one_step`, or an option is out of range.
    """
    _check_options(solver, steps, damping, tolerance, step, hessian)
    theta, weights = _detached(params), checked_weights(weights.detach())
    first = _ravel(_like(start, theta, "start")) if start is not None else None
    upper, loss = grad_and_value(_scalar(validation_loss))(theta)
    product = _hessian_product(_training_loss(sample_losses, weights), theta, damping, hessian)
    right = _ravel(upper)
    if solver == "cg":
        found = _conjugate_gradients(product, right, first, steps, tolerance)
    else:
        step = step if step is not None else 1 / max(_power_iteration(product, right, 10), _tiny(right))
        found = _neumann(product, right, first, steps, tolerance, step)
    direction = _unravel(found.vector, theta)
    along = directional_derivatives(sample_losses, theta, direction)
    gradient = weights_gradient(along, weights)
    return ImplicitGradient(gradient, loss, direction, found.residual, found.products, found.outcome)


@torch.no_grad()
def directional_derivatives(
    sample_losses: SampleLosses,
    params: Mapping[str, Tensor],
    direction: Mapping[str, Tensor],
    *,
    products: Products = "jvp",
    relative_step: float | None = None,
) -> Tensor:
    """Derivatives p_i = v . grad l_i(theta) of all samples' losses along one direction, (B,).

    ``"jvp"`` is exact, one pass in forward mode. ``"difference"`` is [l(theta + h v) - l(theta - h v)] / 2h: two
    forward passes without any graph, also for losses that have no forward mode. Its step moves theta by
    h |v| = cbrt(u) max(|theta|, 1), u the unit roundoff of the parameters, which balances rounding, u / h, with
    truncation, h^2, where the third derivative is of the loss's own size. A relative error of about u^(2/3) is left,
    1e-10 in float64 and 1e-4 in float32; kinks, as of ReLU, cost about h instead. ``relative_step`` replaces cbrt(u).

    Raises
    ------
    ValueError
        The direction is not shaped as the parameters, or the losses are no (B,) tensor.
    """
    theta, along = _detached(params), _like(direction, dict(params), "direction")
    losses = _vector(sample_losses)
    if products == "jvp":
        return _along(losses, theta, along)
    if products != "difference":
        raise ValueError(f"products: expected 'jvp' or 'difference', got {products!r}")
    length = _norm(along)
    if length == 0:
        return torch.zeros_like(losses(theta))
    kind = next(iter(theta.values())).dtype
    moved = relative_step if relative_step is not None else torch.finfo(kind).eps ** (1 / 3)
    h = moved * max(_norm(theta), 1.0) / length
    ahead = losses({name: value + h * along[name] for name, value in theta.items()})
    behind = losses({name: value - h * along[name] for name, value in theta.items()})
    return (ahead - behind) / (2 * h)


def weights_gradient(along: Tensor, weights: Tensor, *, scale: float = 1.0) -> Tensor:
    """dL/dw_i = -(scale / S) (p_i - sum_j w_j p_j / S), (B,), from derivatives p (B,) along the direction v."""
    if along.shape != weights.shape:
        raise ValueError(f"weights: expected one for each of {len(along)} sample losses, got {len(weights)}")
    shares = weights.to(along.dtype) / weights.sum()
    return -scale * (along - shares @ along) / weights.sum()


def backpropagate(weights: Tensor, gradient: HyperGradient | Tensor, *, guard: Tensor | None = None) -> None:
    """Adds dL_val/dphi to ``.grad`` of the parameters phi of the network that made the weights, by the chain rule.

    Parameters
    ----------
    weights : (B,) tensor
        With its autograd graph, as the network gave it.
    gradient : HyperGradient or (B,) tensor
        dL_val/dw at these weights.
    guard : () tensor, optional
        Terms to add to the upper loss, as `bisqad.weighting` has them; one backward pass serves both.

    Raises
    ------
    ValueError
        Shapes differ, or the weights hang on no parameter.
    """
    values = gradient.weights_gradient if isinstance(gradient, HyperGradient) else gradient
    if values.shape != weights.shape:
        raise ValueError(f"gradient: expected shape {tuple(weights.shape)} as the weights, got {tuple(values.shape)}")
    if not weights.requires_grad:
        raise ValueError("weights: expected a tensor with an autograd graph, got a detached one")
    upper = (weights * values.detach().to(weights)).sum()
    torch.autograd.backward(upper if guard is None else upper + guard)


@torch.no_grad()
def largest_eigenvalue(
    sample_losses: SampleLosses,
    params: Mapping[str, Tensor],
    weights: Tensor,
    *,
    damping: float,
    steps: int = 10,
    hessian: Hessian = "forward",
) -> float:
    """|lambda|_max of H + damping I by power iteration from the training gradient, never above the true one.

    One Hessian-vector product a step. Neumann's series converges with ``step`` below twice its inverse; the inverse
    itself leaves a factor 2 for what the iteration has not found yet.
    """
    theta, weights = _detached(params), checked_weights(weights.detach())
    loss = _training_loss(sample_losses, weights)
    return _power_iteration(_hessian_product(loss, theta, damping, hessian), _ravel(grad(loss)(theta)), steps)


@dataclass(frozen=True)
class _Solution:
    vector: Tensor
    residual: float
    products: int
    outcome: Outcome


def _conjugate_gradients(
    product: _Product, right: Tensor, start: Tensor | None, steps: int, tolerance: float
) -> _Solution:
    solution, residual = _first(product, right, start)
    direction, squared = residual, float(residual @ residual)
    size = float(right.norm())
    for k in range(steps):
        if math.sqrt(squared) <= tolerance * size:
            return _Solution(solution, _share(squared, size), k, Outcome.CONVERGED)
        image = product(direction)
        curvature = float(direction @ image)
        if not curvature > 0:
            return _Solution(solution, _share(squared, size), k + 1, Outcome.NEGATIVE_CURVATURE)
        length = squared / curvature
        solution, residual = solution + length * direction, residual - length * image
        before, squared = squared, float(residual @ residual)
        direction = residual + (squared / before) * direction
    outcome = Outcome.CONVERGED if math.sqrt(squared) <= tolerance * size else Outcome.STEPS_SPENT
    return _Solution(solution, _share(squared, size), steps, outcome)


def _neumann(
    product: _Product, right: Tensor, start: Tensor | None, steps: int, tolerance: float, step: float
) -> _Solution:
    solution, residual = _first(product, right, start)
    size, norm = float(right.norm()), float(residual.norm())
    noise = math.sqrt(torch.finfo(right.dtype).eps) * size
    for k in range(steps):
        if norm <= tolerance * size:
            return _Solution(solution, _share(norm**2, size), k, Outcome.CONVERGED)
        after = residual - step * product(residual)
        now = float(after.norm())
        if not now <= max(norm, noise):
            return _Solution(solution, _share(norm**2, size), k + 1, Outcome.DIVERGED)
        solution, residual, norm = solution + step * residual, after, now
    outcome = Outcome.CONVERGED if norm <= tolerance * size else Outcome.STEPS_SPENT
    return _Solution(solution, _share(norm**2, size), steps, outcome)


def _first(product: _Product, right: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
    """First iterate and its residual; a start that is worse than nothing is dropped."""
    if start is not None and bool((left := right - product(start)).norm() < right.norm()):
        return start, left
    return torch.zeros_like(right), right


def _power_iteration(product: _Product, vector: Tensor, steps: int) -> float:
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    largest = 0.0
    for _ in range(steps):
        vector = product(vector / vector.norm().clamp(min=_tiny(vector)))
        largest = max(largest, float(vector.norm()))
    return largest


def _hessian_product(loss: ValidationLoss, theta: Params, damping: float, hessian: Hessian) -> _Product:
    """Map v -> (H + damping I) v on flat vectors (P,): the derivative of the gradient along v."""
    if hessian == "retained":
        return _retained_product(loss, theta, damping)
    gradient = grad(loss)

    def product(vector: Tensor) -> Tensor:
        tangents = _along(lambda params: _ravel(gradient(params)), theta, _unravel(vector, theta))
        return torch.add(tangents, vector, alpha=damping)

    return product


def _retained_product(loss: ValidationLoss, theta: Params, damping: float) -> _Product:
    """The same through a graph of the gradient: where it is linear in a parameter, that parameter has no graph."""
    with torch.enable_grad():
        leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
        inputs = list(leaves.values())
        gradient = torch.autograd.grad(loss(leaves), inputs, create_graph=True, materialize_grads=True)
    curved = [k for k, part in enumerate(gradient) if part.requires_grad]

    def product(vector: Tensor) -> Tensor:
        if not curved:
            return damping * vector
        along = list(_unravel(vector, theta).values())
        outputs, seeds = [gradient[k] for k in curved], [along[k] for k in curved]
        parts = torch.autograd.grad(outputs, inputs, seeds, retain_graph=True, materialize_grads=True)
        return torch.add(_ravel(dict(zip(theta, parts, strict=True))), vector, alpha=damping)

    return product


def _along(function: SampleLosses, theta: Params, direction: Params) -> Tensor:
    """Derivative of the function along a direction, in forward mode."""
    _load_forward_mode()
    tangents: Tensor = jvp(function, (theta,), (direction,))[1]
    return tangents


@lru_cache(maxsize=1)
def _load_forward_mode() -> None:
    """Load what torch brings at its first use; there it trips over its own deprecation of ``torch.jit.script``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=DeprecationWarning)
        jvp(torch.sin, (torch.zeros(()),), (torch.ones(()),))


def _training_loss(sample_losses: SampleLosses, weights: Tensor) -> ValidationLoss:
    losses, shares = _vector(sample_losses), weights / weights.sum()

    def loss(params: Params) -> Tensor:
        values = losses(params)
        if values.shape != shares.shape:
            raise ValueError(f"weights: expected one for each of {len(values)} sample losses, got {len(shares)}")
        return shares.to(values.dtype) @ values

    return loss


def _vector(sample_losses: SampleLosses) -> SampleLosses:
    def losses(params: Params) -> Tensor:
        values = sample_losses(params)
        if values.ndim != 1:
            raise ValueError(f"sample_losses: expected one loss a sample, (B,), got shape {tuple(values.shape)}")
        return values

    return losses


def _scalar(validation_loss: ValidationLoss) -> ValidationLoss:
    def loss(params: Params) -> Tensor:
        value = validation_loss(params)
        if value.ndim:
            raise ValueError(f"validation_loss: expected one number, (), got shape {tuple(value.shape)}")
        return value

    return loss


def _check_options(solver: str, steps: int, damping: float, tolerance: float, step: float | None, hessian: str) -> None:
    if solver not in ("cg", "neumann"):
        raise ValueError(f"solver: expected 'cg' or 'neumann', got {solver!r}")
    if hessian not in ("forward", "retained"):
        raise ValueError(f"hessian: expected 'forward' or 'retained', got {hessian!r}")
    if steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}")
    if not 0 <= damping < math.inf:
        raise ValueError(f"damping: expected a finite value >= 0, got {damping}")
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance: expected a share in [0, 1), got {tolerance}")
    if step is not None and not 0 < step < math.inf:
        raise ValueError(f"step: expected a value > 0, below 2 / lambda_max, got {step}")


def _detached(params: Mapping[str, Tensor]) -> Params:
    if not params:
        raise ValueError("params: expected at least one tensor, got none")
    return {name: value.detach() for name, value in params.items()}


def _like(values: Mapping[str, Tensor], theta: Params, what: str) -> Params:
    """Detached values in the order of the parameters, if names and shapes are theirs."""
    shapes, wanted = ({n: tuple(t.shape) for n, t in group.items()} for group in (values, theta))
    if shapes != wanted:
        raise ValueError(f"{what}: expected names and shapes of params, {wanted}, got {shapes}")
    return {name: values[name].detach() for name in theta}


def _scaled(values: Params, scale: Params | None) -> Params:
    return values if scale is None else {name: scale[name] * value for name, value in values.items()}


def _ravel(params: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([value.reshape(-1) for value in params.values()])


def _unravel(vector: Tensor, theta: Params) -> Params:
    parts = torch.split(vector, [value.numel() for value in theta.values()])
    return {name: part.view_as(value) for (name, value), part in zip(theta.items(), parts, strict=True)}


def _norm(params: Params) -> float:
    return float(_ravel(params).norm())


def _share(squared: float, size: float) -> float:
    return math.sqrt(squared) / size if size else 0.0


def _tiny(values: Tensor) -> float:
    return torch.finfo(values.dtype).tiny
