"""Training weights of a batch from the logits of the sample quality estimator, and what keeps them from collapsing.

A score s_i = sigmoid(logit_i) lies in (0, 1); the weights of a batch are its scores brought to mean 1,

    w_i = s_i / mean(s).

As only ratios count, nothing holds the scores where they are. With p the weights' share, sum_i s_i dL/ds_i = 0 for any
loss L of the weights, hence

    sum_i dL/dlogit_i = sum_i s_i (1 - s_i) dL/ds_i = -sum_i s_i^2 dL/ds_i,

which is positive once good samples (dL/ds < 0) score higher: descent sinks all logits together, and the weights gather
on ever fewer samples. Two guards, terms to add to the upper loss, stop this:

    budget    strength (mean(s) - target)^2
    entropy   strength (log B - H(p)),   p_i = w_i / sum_j w_j,   H(p) = -sum_i p_i log p_i

and the effective sample size (sum w)^2 / sum w^2 says how many samples still count.

References
----------
Ren, Zeng, Yang & Urtasun, "Learning to reweight examples for robust deep learning", ICML (2018), for weights
normalised over the batch.
Kish, "Survey sampling", Wiley (1965), for the effective sample size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["budget_penalty", "checked_weights", "effective_sample_size", "entropy_bonus", "sample_weights"]


def sample_weights(logits: Tensor) -> Tensor:
    """Weights w_i = sigmoid(logit_i) / mean(sigmoid(logits)), differentiable.

    Parameters
    ----------
    logits : (B,) float tensor
        Of the estimator, any finite value: the ratio is taken of logarithms, so it survives scores that underflow.

    Returns
    -------
    (B,) tensor, of the logits' dtype, mean 1.

    Raises
    ------
    ValueError
        The logits are no (B,) tensor, B >= 1, of finite values.
    """
    if logits.ndim != 1 or not len(logits) or not bool(torch.isfinite(logits).all()):
        raise ValueError(f"logits: expected a (B,) tensor of finite values, got {_seen(logits)}")
    return len(logits) * torch.softmax(functional.logsigmoid(logits), dim=0)


def budget_penalty(scores: Tensor, *, target: float = 0.5, strength: float = 2.0) -> Tensor:
    """``strength * (mean(s) - target)^2``: scores before normalisation stay around ``target`` on average.

    Parameters
    ----------
    scores : (B,) float tensor
        sigmoid(logits), 0..1.
    target : float
        Wanted mean, 0 < target < 1: about the share of samples that are believed to be good.
    strength : float
        >= 0. The other term is a validation loss of order 1.

    Returns
    -------
    () tensor.
    """
    if not 0 < target < 1:
        raise ValueError(f"target: expected a mean score in (0, 1), got {target}")
    _check_strength(strength)
    if scores.ndim != 1 or not len(scores) or not bool(((scores >= 0) & (scores <= 1)).all()):
        raise ValueError(f"scores: expected a (B,) tensor of values in 0..1, got {_seen(scores)}")
    return strength * torch.square(scores.mean() - target)


def entropy_bonus(weights: Tensor, *, strength: float = 1.0) -> Tensor:
    """``strength * (log B - H(p))``: 0 for equal weights, ``strength * log B`` if one sample takes everything.

    The negative entropy of the weights' shares p = w / sum(w), moved by a constant so that it is a penalty >= 0: the
    Kullback-Leibler divergence from equal weights, the same for batches of any size.

    Parameters
    ----------
    weights : (B,) float tensor
        >= 0, of any scale.
    strength : float
        >= 0.

    Returns
    -------
    () tensor.
    """
    _check_strength(strength)
    shares = checked_weights(weights) / weights.sum()
    negative_entropy: Tensor = torch.xlogy(shares, shares).sum()
    return strength * (math.log(len(weights)) + negative_entropy)


def effective_sample_size(weights: Tensor) -> Tensor:
    """(sum w)^2 / sum w^2, a () tensor: B for equal weights, 1 if one sample takes everything."""
    shares = checked_weights(weights) / weights.sum()
    return torch.reciprocal((shares * shares).sum())


def checked_weights(weights: Tensor) -> Tensor:
    """The same tensor (B,), if its values are finite, >= 0 and not all 0; else ValueError."""
    if weights.ndim != 1 or not len(weights) or not weights.is_floating_point():
        raise ValueError(f"weights: expected a (B,) float tensor, got {_seen(weights)}")
    low, total = torch.stack([weights.detach().min(), weights.detach().sum()]).tolist()
    if not (low >= 0 and 0 < total < math.inf):
        raise ValueError(f"weights: expected finite values >= 0 with a sum > 0, got minimum {low:g}, sum {total:g}")
    return weights


def _check_strength(strength: float) -> None:
    if not 0 <= strength < math.inf:
        raise ValueError(f"strength: expected a finite value >= 0, got {strength}")


def _seen(values: Tensor) -> str:
    if not values.numel() or values.ndim != 1:
        return f"shape {tuple(values.shape)}"
    return f"shape {tuple(values.shape)}, {values.dtype}, from {values.min():g} to {values.max():g}"
