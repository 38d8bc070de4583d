"""Hypergradient without approximation: the last layer on frozen features, whose optimum and Hessian are at hand.

With the features fixed, the lower level over theta (P,) is strongly convex for damping > 0,

    F(theta) = sum_i w_i l_i(theta) / S + damping/2 |theta|^2,   l_i = mean over its rows r of l(x_r . theta, y_r)

with S = sum_i w_i and l(z, y) = (z - y)^2 / 2 (`ridge`) or log(1 + e^z) - y z (`logistic`). With rows' weights
c_r = w_i / (S n_i), n_i the rows of sample i, the Hessian is X^T diag(c_r l''_r) X + damping I. Its Cholesky factor
gives the optimum, in one solve or by Newton's method, and then

    q = Hessian^-1 grad L_val(theta*),   dL_val/dw_i = -(1 / S) (p_i - sum_j w_j p_j / S),   p_i = q . grad l_i(theta*)

where p_i = mean_r l'_r (x_r . q). All of it in float64. A constant column among the features is the intercept.

References
----------
Hastie, Tibshirani & Friedman, "The elements of statistical learning", 2nd ed. (2009), 4.4.1: iteratively reweighted
least squares.
Boyd & Vandenberghe, "Convex optimization" (2004), 9.5: damped Newton, the decrement.
Pedregosa, "Hyperparameter optimization with approximate gradient", ICML (2016).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad_and_value
from torch.nn import functional

from bisqad.hypergradient import HyperGradient, Outcome, weights_gradient
from bisqad.weighting import checked_weights

__all__ = ["LastLayer", "logistic", "ridge"]

_SUFFICIENT = 1e-4  # share of the decrease that the slope promises, for a step to be taken (Armijo)
_SHORTEST = 2.0**-30


@dataclass(frozen=True)
class LastLayer(HyperGradient):
    """``theta`` (P,) float64, the optimum; Newton's ``iterations``; ``gradient_norm``, |grad F(theta)|; ``outcome``."""

    theta: Tensor
    iterations: int
    gradient_norm: float
    outcome: Outcome


def ridge(
    features: Tensor,
    targets: Tensor,
    row_sample: Tensor,
    weights: Tensor,
    validation_loss: Callable[[Tensor], Tensor],
    *,
    damping: float,
) -> LastLayer:
    """Weighted ridge regression in closed form, and its exact hypergradient.

    Parameters
    ----------
    features : (N, P) float tensor
        Frozen features x_r.
    targets : (N,) float tensor
        y_r.
    row_sample : (N,) int64 tensor
        Sample 0..B-1 that a row belongs to; every sample has rows.
    weights : (B,) float tensor
        w >= 0, of any scale.
    validation_loss : callable
        Upper loss () at theta (P,) float64.
    damping : float
        > 0.

    Raises
    ------
    ValueError
        Shapes do not fit, a weight is negative or not finite, all are 0, a sample has no row, or damping is not > 0.
    """
    rows = _Rows.checked(features, targets, row_sample, weights, damping)
    factor = rows.factorised(torch.ones_like(rows.targets))
    theta = _solved(factor, rows.features.T @ (rows.shares * rows.targets))
    return rows.hypergradient(
        theta, rows.features @ theta - rows.targets, factor, validation_loss, 1, Outcome.CONVERGED
    )


def logistic(
    features: Tensor,
    targets: Tensor,
    row_sample: Tensor,
    weights: Tensor,
    validation_loss: Callable[[Tensor], Tensor],
    *,
    damping: float,
    start: Tensor | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 50,
) -> LastLayer:
    """Weighted logistic regression by Newton's method with backtracking, and its exact hypergradient.

    Parameters
    ----------
    features, targets, row_sample, weights, validation_loss, damping
        As for `ridge`; targets lie in 0..1.
    start : (P,) float tensor, optional
        Such as the last upper step's theta; by default 0.
    tolerance : float
        Of |grad F|, which is of the size of a feature at the start.
    max_iterations : int
        At most so many Newton steps; the outcome tells whether they sufficed.

    Raises
    ------
    ValueError
        As `ridge`, or targets lie outside 0..1.
    """
    rows = _Rows.checked(features, targets, row_sample, weights, damping)
    if not bool(((rows.targets >= 0) & (rows.targets <= 1)).all()):
        raise ValueError("targets: expected probabilities in 0..1")
    width = rows.features.shape[1]
    if start is not None and start.shape != (width,):
        raise ValueError(f"start: expected shape ({width},), got {tuple(start.shape)}")
    theta = start.detach().to(rows.features) if start is not None else rows.features.new_zeros(width)
    for k in range(max_iterations + 1):
        odds = torch.sigmoid(rows.features @ theta)
        slopes, factor = odds - rows.targets, rows.factorised(odds * (1 - odds))
        gradient = rows.gradient(theta, slopes)
        met = bool(gradient.norm() <= tolerance)
        if met or k == max_iterations:
            break
        theta = _backtracked(rows.log_loss, theta, -_solved(factor, gradient), gradient)
    outcome = Outcome.CONVERGED if met else Outcome.STEPS_SPENT
    return rows.hypergradient(theta, slopes, factor, validation_loss, k, outcome)


@dataclass(frozen=True)
class _Rows:
    """Float64 ``features`` (N, P) and ``targets`` (N,) of the lower level; ``shares`` (N,) c_r, ``counts`` (B,) n_i."""

    features: Tensor
    targets: Tensor
    row_sample: Tensor
    weights: Tensor
    counts: Tensor
    shares: Tensor
    damping: float

    @classmethod
    def checked(cls, features: Tensor, targets: Tensor, row_sample: Tensor, weights: Tensor, damping: float) -> _Rows:
        if features.ndim != 2 or not features.numel():
            raise ValueError(f"features: expected (N, P), got shape {tuple(features.shape)}")
        for name, values in (("targets", targets), ("row_sample", row_sample)):
            if values.shape != features.shape[:1]:
                raise ValueError(f"{name}: expected shape ({len(features)},), got {tuple(values.shape)}")
        if not 0 < damping < math.inf:
            raise ValueError(f"damping: expected a finite value > 0, got {damping}")
        wide = checked_weights(weights.detach()).double()
        counts = _counted(row_sample, len(wide))
        shares = (wide / (wide.sum() * counts))[row_sample]
        return cls(features.detach().double(), targets.detach().double(), row_sample, wide, counts, shares, damping)

    def factorised(self, curvatures: Tensor) -> Tensor:
        """Lower Cholesky factor (P, P) of the Hessian with l''_r (N,)."""
        hessian = self.features.T @ ((self.shares * curvatures)[:, None] * self.features)
        hessian.diagonal().add_(self.damping)
        factor: Tensor = torch.linalg.cholesky(hessian)
        return factor

    def gradient(self, theta: Tensor, slopes: Tensor) -> Tensor:
        """Of F, (P,), with l'_r (N,)."""
        return torch.add(self.features.T @ (self.shares * slopes), theta, alpha=self.damping)

    def log_loss(self, theta: Tensor) -> Tensor:
        logits = self.features @ theta
        likelihood = self.shares @ (functional.softplus(logits) - self.targets * logits)
        return torch.add(likelihood, theta @ theta, alpha=self.damping / 2)

    def hypergradient(
        self,
        theta: Tensor,
        slopes: Tensor,
        factor: Tensor,
        validation_loss: Callable[[Tensor], Tensor],
        iterations: int,
        outcome: Outcome,
    ) -> LastLayer:
        upper, loss = grad_and_value(validation_loss)(theta)
        by_row = slopes * (self.features @ _solved(factor, upper)) / self.counts[self.row_sample]
        along = torch.zeros_like(self.weights).index_add_(0, self.row_sample, by_row)
        left = float(self.gradient(theta, slopes).norm())
        return LastLayer(weights_gradient(along, self.weights), loss, theta, iterations, left, outcome)


def _counted(row_sample: Tensor, samples: int) -> Tensor:
    """Rows n_i (B,) of every sample."""
    if row_sample.dtype != torch.int64 or int(row_sample.min()) < 0 or int(row_sample.max()) >= samples:
        raise ValueError(f"row_sample: expected int64 numbers of samples, 0..{samples - 1}, one weight a sample")
    counts = torch.bincount(row_sample, minlength=samples)
    if not bool(counts.all()):
        raise ValueError(f"row_sample: sample {int((counts == 0).nonzero()[0])} has no row; leave out its weight")
    return counts


def _solved(factor: Tensor, right: Tensor) -> Tensor:
    return torch.cholesky_solve(right[:, None], factor)[:, 0]


def _backtracked(objective: Callable[[Tensor], Tensor], theta: Tensor, direction: Tensor, gradient: Tensor) -> Tensor:
    """Where the longest of 1, 1/2, 1/4, ... of the Newton step that lowers the objective enough leads to."""
    before, slope, length = float(objective(theta)), float(gradient @ direction), 1.0
    if -slope < 1e-9 * abs(before):  # what a step can win drowns in rounding, and Newton converges quadratically
        return theta + direction
    while length > _SHORTEST and float(objective(theta + length * direction)) > before + _SUFFICIENT * length * slope:
        length /= 2
    return theta + length * direction
