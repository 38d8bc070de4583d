"""Training of the segmentation head, and beside it, by the upper level, of the weight that each sample gets.

Lower level: AdamW on the weighted losses of a batch of samples and the plain loss of a batch of normal cells. Upper
level, after every step of the lower: one mechanism, another each time, is left out of the batch; its samples of
held-out groups and held-out normals (and real defects, if there are some) make the validation loss; one forward-mode
product through the optimiser's step gives the hypergradient of every weight of the batch, and the estimator follows.

A hypergradient of one step sees no further than that step. Once the head knows samples of large weight by heart, what
lowers the validation loss at once is whatever unteaches it, and that is bad samples: weights that were right turn over.
Where the validation loss has not fallen for two epochs, the head therefore begins anew, and the estimator goes on.

All that is random in an epoch follows from the seed and the epoch's number, so that a run that was stopped goes on as
if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bisqad.cells import NormalCells, SampleCells
from bisqad.config import BilevelConfig, TrainConfig
from bisqad.head import SegmentationHead, head_for, losses_of_cells
from bisqad.hypergradient import HyperGradient, backpropagate, one_step
from bisqad.weighting import budget_penalty, effective_sample_size, entropy_bonus, sample_weights
from refine.sqe import SQE

__all__ = ["EpochFigures", "Material", "Trainer", "train_head"]

_UPPER_SAMPLES = 64
_UPPER_NORMALS = 32
_LEAST_RATE = 0.02  # of the learning rate, at the end of the cosine
_PATIENCE = 2  # epochs without a lower validation loss, after which the head begins anew
_LEAST_TOTAL = 1e-12  # of a batch's weights: one whose samples all weigh nothing is a step on normals alone


@dataclass(frozen=True)
class Material:
    """What is learned from, in leak-free parts: no photograph and no simulated trajectory is in both.

    Attributes
    ----------
    samples, normals : SampleCells, NormalCells
        Of the lower level.
    upper_samples, upper_normals : SampleCells, NormalCells
        Of the upper level.
    real : (N, K, C) float16 and (N, K) float32 tensors, optional
        Cells of real defects: of the upper level, never trained on.
    """

    samples: SampleCells
    normals: NormalCells
    upper_samples: SampleCells
    upper_normals: NormalCells
    real: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class EpochFigures:
    """Means over an epoch; those of the upper level are NaN without one.

    ``effective_share`` is the effective sample size / the batch, ``weight_spread`` the standard deviation of weights
    of mean 1.
    """

    epoch: int
    learning_rate: float
    lower_loss: float
    normal_loss: float
    upper_loss: float
    mean_score: float
    weight_spread: float
    effective_share: float


class Trainer:
    """A head in training, epoch by epoch.

    Parameters
    ----------
    material : Material
        Cells.
    config : TrainConfig
        Settings.
    estimator : SQE, optional
        Whose weights are learned, by the upper level; it is changed in place. Without, there is no upper level.
    fixed_weights : (N,) float tensor, optional
        Weights of the samples, where there is no upper level; by default all are equal.

    Attributes
    ----------
    head : SegmentationHead
        What is learned.
    influence : (N,) float64 tensor
        By how much the validation loss fell for a larger weight of each sample of the lower level, summed over the
        steps that it was in, and ``seen`` (N,) in how many.
    """

    def __init__(
        self,
        material: Material,
        config: TrainConfig,
        estimator: SQE | None = None,
        *,
        fixed_weights: Tensor | None = None,
    ) -> None:
        self.material, self.config = material, config
        self.estimator, self._fixed = estimator, fixed_weights
        self.head = head_for(material.normals, config.detector.hidden, seed=config.seed)
        self._lower = self._optimiser()
        self._upper = (
            torch.optim.Adam(self.estimator.weight_head.parameters(), lr=config.bilevel.learning_rate)
            if self.estimator is not None
            else None
        )
        count = len(material.samples)
        self.influence, self.seen = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
        self._mechanisms = material.samples.mechanisms
        self._held_out = _positions_by_mechanism(material)
        self._lowest, self._epochs_since = math.inf, 0  # validation loss of this head, and epochs since then
        self.epochs_done = 0

    def epoch(self) -> EpochFigures:
        """One pass over the samples."""
        number, optimiser = self.epochs_done, self.config.optimiser
        rng = np.random.default_rng([self.config.seed, 1, number])
        batches = -(-len(self.material.samples) // optimiser.batch_samples)
        figures = []
        for step, chosen in enumerate(np.array_split(rng.permutation(len(self.material.samples)), batches)):
            share = _cosine((number + step / batches) / optimiser.epochs)
            _set_rate(self._lower, optimiser.learning_rate * share)
            if self._upper is not None:
                _set_rate(self._upper, self.config.bilevel.learning_rate * share)
            figures.append(self._step(chosen, rng))
        self.epochs_done += 1
        mean = np.mean(figures, axis=0)
        if self.estimator is not None and self.epochs_done < optimiser.epochs:
            self._begin_anew_where_overfitted(float(mean[2]))
        return EpochFigures(number, float(self._lower.param_groups[0]["lr"]), *(float(value) for value in mean))

    def weights(self, description: Tensor) -> Tensor:
        """Training weights (N,) of samples, of mean 1; without an estimator all 1."""
        if self.estimator is None:
            return torch.ones(len(description))
        with torch.no_grad():
            return sample_weights(self.estimator.weight_logits(description))

    def state(self) -> dict[str, Tensor]:
        """All that `load_state` needs to go on after the epochs done."""
        found = {f"head.{name}": value for name, value in self.head.state_dict().items()}
        found |= _optimiser_state("lower", self._lower)
        if self.estimator is not None and self._upper is not None:
            found |= {f"estimator.{name}": value for name, value in self.estimator.state_dict().items()}
            found |= _optimiser_state("upper", self._upper)
            found["overfitting"] = torch.tensor([self._lowest, self._epochs_since], dtype=torch.float64)
        found |= {"influence": self.influence, "seen": self.seen, "epochs_done": torch.tensor(self.epochs_done)}
        return {name: value.detach().clone().contiguous() for name, value in found.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from there.

        Raises
        ------
        RuntimeError, KeyError
            It is the state of another network.
        """
        self.head.load_state_dict(_below("head.", state))
        _load_optimiser("lower", self._lower, state)
        if self.estimator is not None and self._upper is not None:
            self.estimator.load_state_dict(_below("estimator.", state))
            _load_optimiser("upper", self._upper, state)
            self._lowest, since = state["overfitting"].tolist()
            self._epochs_since = int(since)
        self.influence, self.seen = state["influence"].clone(), state["seen"].clone()
        self.epochs_done = int(state["epochs_done"])

    def _optimiser(self) -> torch.optim.AdamW:
        settings = self.config.optimiser
        return torch.optim.AdamW(self.head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)

    def _begin_anew_where_overfitted(self, validation_loss: float) -> None:
        self._epochs_since = 0 if validation_loss < self._lowest else self._epochs_since + 1
        self._lowest = min(self._lowest, validation_loss)
        if self._epochs_since == _PATIENCE:
            fresh = head_for(self.material.normals, self.config.detector.hidden, seed=self.config.seed)
            self.head.load_state_dict(fresh.state_dict())
            self._lower = self._optimiser()
            self._lowest, self._epochs_since = math.inf, 0

    def _step(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> tuple[float, ...]:
        """One step of both levels on the samples at positions ``chosen``; the figures of `EpochFigures`."""
        left_out = ""
        if self.estimator is not None:
            left_out = str(rng.choice(list(self._held_out)))
            others = chosen[self._mechanisms[chosen] != left_out]
            chosen = others if len(others) else chosen
        index = torch.from_numpy(chosen)
        samples = self.material.samples
        cells, labels = self.head.standardised(samples.features[index]), samples.labels[index]
        normals = self._normal_batch(self.material.normals, self.config.optimiser.batch_normals, rng)
        weights = torch.ones(len(chosen)) if self._fixed is None else self._fixed[index]
        if self.estimator is not None:
            scores = self.estimator.weight_logits(samples.description[index])
            weights = sample_weights(scores)
        before = {name: value.detach().clone() for name, value in self.head.named_parameters()}
        lower, normal = self._descend(cells, labels, weights.detach(), normals)
        if self.estimator is None:
            return lower, normal, math.nan, math.nan, math.nan, math.nan
        found = self._hypergradient(cells, labels, weights.detach(), before, left_out, rng)
        self.influence[index] -= found.weights_gradient.double() * len(chosen)
        self.seen[index] += 1
        self._ascend(scores, weights, found)
        with torch.no_grad():
            share = float(effective_sample_size(weights)) / len(chosen)
            return (
                lower,
                normal,
                float(found.validation_loss),
                float(scores.sigmoid().mean()),
                float(weights.std(correction=0)),
                share,
            )

    def _descend(self, cells: Tensor, labels: Tensor, weights: Tensor, normals: Tensor) -> tuple[float, float]:
        params = dict(self.head.named_parameters())
        losses = losses_of_cells(self.head, params, cells, labels)
        logits = self.head(normals)
        normal = functional.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))
        lower = (weights * losses).sum() / weights.sum().clamp(min=_LEAST_TOTAL)
        self._lower.zero_grad()
        torch.autograd.backward(lower + normal)
        self._lower.step()
        return float(lower.detach()), float(normal.detach())

    def _hypergradient(
        self,
        cells: Tensor,
        labels: Tensor,
        weights: Tensor,
        before: Mapping[str, Tensor],
        left_out: str,
        rng: np.random.Generator,
    ) -> HyperGradient:
        scale, rate = _preconditioner(self._lower, self.head)
        upper = self._upper_batch(left_out, rng)
        return one_step(
            lambda params: losses_of_cells(self.head, params, cells, labels),
            lambda params: _upper_loss(self.head, params, upper, self.config.bilevel),
            before,
            weights,
            lr=rate,
            preconditioner=scale,
            stepped={name: value.detach() for name, value in self.head.named_parameters()},
            products=self.config.bilevel.products,
        )

    def _ascend(self, scores: Tensor, weights: Tensor, found: HyperGradient) -> None:
        """The estimator follows the hypergradient, held by its guards.

        A step's hypergradient is as small as the step; only its direction matters, so it is brought to unit length.
        """
        bilevel = self.config.bilevel
        assert self._upper is not None  # noqa: S101 - there is one wherever there is an estimator
        guard = budget_penalty(scores.sigmoid(), strength=bilevel.budget) + entropy_bonus(
            weights, strength=bilevel.entropy
        )
        size = found.weights_gradient.norm().clamp(min=1e-12)
        self._upper.zero_grad()
        backpropagate(weights, found.weights_gradient / size, guard=guard)
        self._upper.step()

    def _upper_batch(self, left_out: str, rng: np.random.Generator) -> _UpperBatch:
        material = self.material
        pool = self._held_out[left_out]
        drawn = torch.from_numpy(rng.choice(pool, size=min(_UPPER_SAMPLES, len(pool)), replace=False))
        defects = self.head.standardised(material.upper_samples.features[drawn])
        real = None
        if material.real is not None:
            features, labels = material.real
            some = torch.from_numpy(rng.choice(len(labels), size=min(_UPPER_SAMPLES, len(labels)), replace=False))
            real = (self.head.standardised(features[some]), labels[some])
        normals = self._normal_batch(material.upper_normals, _UPPER_NORMALS, rng)
        return _UpperBatch(defects, material.upper_samples.labels[drawn], normals, real)

    def _normal_batch(self, normals: NormalCells, count: int, rng: np.random.Generator) -> Tensor:
        """Standardised cells (R, C): of ``count`` photographs, half of theirs."""
        some = torch.from_numpy(rng.choice(len(normals), size=min(count, len(normals)), replace=False))
        cells = normals.features[some]
        half = torch.from_numpy(rng.choice(cells.shape[1], size=max(1, cells.shape[1] // 2), replace=False))
        return self.head.standardised(cells[:, half]).flatten(0, 1)


@dataclass(frozen=True)
class _UpperBatch:
    """Standardised ``defects`` (B, K, C) with ``labels`` (B, K), ``normals`` (R, C), and ``real`` as the defects."""

    defects: Tensor
    labels: Tensor
    normals: Tensor
    real: tuple[Tensor, Tensor] | None


def _upper_loss(
    head: SegmentationHead, params: Mapping[str, Tensor], batch: _UpperBatch, config: BilevelConfig
) -> Tensor:
    defects = losses_of_cells(head, params, batch.defects, batch.labels).mean()
    if batch.real is not None:
        real = losses_of_cells(head, params, *batch.real).mean()
        defects = (1 - config.real_share) * defects + config.real_share * real
    normals = losses_of_cells(head, params, batch.normals[None], torch.zeros(1, len(batch.normals))).mean()
    return (1 - config.normal_share) * defects + config.normal_share * normals


def train_head(material: Material, config: TrainConfig, *, weights: Tensor | None = None) -> SegmentationHead:
    """A head trained at once, with these weights (N,) of the samples, or equal ones."""
    trainer = Trainer(material, config, fixed_weights=weights)
    while trainer.epochs_done < config.optimiser.epochs:
        trainer.epoch()
    return trainer.head


def _positions_by_mechanism(material: Material) -> dict[str, NDArray[np.int64]]:
    """Positions in the upper samples by mechanism; empty if there are none."""
    mechanisms = material.upper_samples.mechanisms
    return {name: np.flatnonzero(mechanisms == name) for name in sorted(set(mechanisms.tolist()))}


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def _cosine(progress: float) -> float:
    return _LEAST_RATE + (1 - _LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _preconditioner(optimiser: torch.optim.AdamW, head: SegmentationHead) -> tuple[dict[str, Tensor], float]:
    """Adam's diagonal 1 / (sqrt(v_hat) + eps), and the share of its step that is the newest gradient's."""
    group = optimiser.param_groups[0]
    momentum, decay = group["betas"]
    scale, steps = {}, 1.0
    for name, value in head.named_parameters():
        state = optimiser.state[value]
        steps = float(state["step"])
        corrected = state["exp_avg_sq"] / (1 - decay**steps)
        scale[name] = 1 / (corrected.sqrt() + group["eps"])
    return scale, group["lr"] * (1 - momentum) / (1 - momentum**steps)


def _optimiser_state(name: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}.{number}.{key}": value
        for number, state in optimiser.state_dict()["state"].items()
        for key, value in state.items()
    }


def _load_optimiser(name: str, optimiser: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    found: dict[int, dict[str, Tensor]] = {}
    for key, value in _below(f"{name}.", state).items():
        number, _, label = key.partition(".")
        found.setdefault(int(number), {})[label] = value.clone()
    optimiser.load_state_dict({"state": found, "param_groups": optimiser.state_dict()["param_groups"]})


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
