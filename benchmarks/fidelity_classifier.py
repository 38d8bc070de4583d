"""How well a small classifier tells real patches from made ones: area under its receiver operating characteristic.

Two judges: logistic regression on given features (whitened, with a ridge), and a small convolutional network on the
patches themselves. Folds are drawn by group, so that no tile and no photograph is on both sides; the tiles that judge
are scored in turn, and the tiles that choose parameters always help to train the judge, never to be scored. Only pairs
of one fold and of one kind of defect are compared, since scores of two differently trained judges are not; every tile
and every source has one vote. 0.5 is chance.

References
----------
Hanley & McNeil, "The meaning and use of the area under a ROC curve", Radiology 143 (1982): the share of ordered pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Pairs", "Side", "cross_validate", "fit_cnn", "fit_logistic", "importance"]

Floats = NDArray[np.float64]
Scorer = Callable[[NDArray[np.generic]], Floats]
Fit = Callable[[NDArray[np.generic], Floats, Floats, int], Scorer]

_COMPONENTS = 24
_RIDGE = 1.0
_PATCH_PX = 32
_EPOCHS = 30
_BATCH = 64
_RATE = 5e-3


@dataclass(frozen=True)
class Side:
    """One side of the test.

    Attributes
    ----------
    x : (N, ...) array
        Features or patches.
    groups, kinds : (N,) array of str
        Tile or source, and kind of defect.
    scored : (N,) bool array
        Judged on; the others only train.
    """

    x: NDArray[np.generic]
    groups: NDArray[np.str_]
    kinds: NDArray[np.str_]
    scored: NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """Compared pairs (real, made) summed over seeds: how often compared, how often told apart rightly (ties 1/2)."""

    won: Floats
    compared: Floats

    def auroc(self, w: Floats, v: Floats) -> float:
        """With weights w (N,) of the real and v (M,) of the made ones."""
        total = float(w @ self.compared @ v)
        return float(w @ self.won @ v) / total if total > 0 else 0.5


def fit_logistic(x: NDArray[np.generic], y: Floats, weight: Floats, seed: int) -> Scorer:
    """Logistic regression with a ridge on whitened principal components; ``seed`` is not needed."""
    del seed
    plain = np.asarray(x, dtype=np.float64)
    middle, spread = np.average(plain, axis=0, weights=weight), plain.std(axis=0) + 1e-6
    z = np.clip((plain - middle) / spread, -5, 5)
    _, s, axes = np.linalg.svd(z, full_matrices=False)
    keep = min(_COMPONENTS, int((s > 1e-6 * s[0]).sum()))
    turn = axes[:keep].T / (s[:keep] / np.sqrt(len(z)))
    design = np.column_stack([z @ turn, np.ones(len(z))])

    def loss(beta: Floats) -> tuple[float, Floats]:
        score = design @ beta
        chance = 1 / (1 + np.exp(-np.clip(score, -30, 30)))
        ridge = np.append(np.full(keep, _RIDGE / len(z)), 0.0)
        value = weight @ (np.logaddexp(0, score) - y * score) + 0.5 * (ridge * beta) @ beta
        return float(value), design.T @ (weight * (chance - y)) + ridge * beta

    beta = minimize(loss, np.zeros(keep + 1), jac=True, method="L-BFGS-B").x

    def score(new: NDArray[np.generic]) -> Floats:
        scaled = np.clip((np.asarray(new, dtype=np.float64) - middle) / spread, -5, 5)
        return np.asarray(scaled @ turn @ beta[:-1] + beta[-1])

    return score


class _Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = (2, 16, 24, 32)
        for k, (before, after) in enumerate(pairwise(widths)):
            size = 5 if k == 0 else 3
            convolution = nn.Conv2d(before, after, size, stride=2, padding=size // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(2 * widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        x = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        return torch.as_tensor(self.head(functional.dropout(x, 0.3, self.training))).squeeze(1)


def fit_cnn(x: NDArray[np.generic], y: Floats, weight: Floats, seed: int) -> Scorer:
    """Three convolutions and a linear layer on patches (N, S, S) of 0..255, turned and mirrored at random."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    patches, target = _prepared(x), torch.from_numpy(y).float()
    importance_ = torch.from_numpy(weight * len(weight)).float()
    network = _Small()
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=1e-3)
    steps = _EPOCHS * -(-len(patches) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
    for _ in range(_EPOCHS):
        order = torch.randperm(len(patches), generator=generator)
        for rows in (order[k : k + _BATCH] for k in range(0, len(order), _BATCH)):
            batch = torch.rot90(patches[rows], int(torch.randint(4, (1,), generator=generator)), (2, 3))
            batch = batch.flip(3) if torch.rand(1, generator=generator) < 0.5 else batch
            loss = functional.binary_cross_entropy_with_logits(network(batch), target[rows], importance_[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    network.eval()

    def score(new: NDArray[np.generic]) -> Floats:
        with torch.inference_mode():
            return np.asarray(network(_prepared(new)).double().numpy())

    return score


def _prepared(patches: NDArray[np.generic]) -> Tensor:
    """The middle (N, 2, 32, 32) of patches and its finest details, by the patch's median: exposure is no defect."""
    plain = torch.from_numpy(np.asarray(patches, dtype=np.float32))
    start = (plain.shape[-1] - _PATCH_PX) // 2
    middle = plain[:, start : start + _PATCH_PX, start : start + _PATCH_PX]
    level = plain.flatten(1).median(dim=1).values.clamp_min(4.0)[:, None, None]
    value = ((middle / level - 1) * 3).clamp(-4, 4)[:, None]
    fine = value - functional.avg_pool2d(functional.pad(value, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return torch.cat([value, 4 * fine], dim=1)


def cross_validate(real: Side, made: Side, fit: Fit, *, folds: int, seeds: Sequence[int]) -> Pairs:
    """Train and score by folds of groups, once for each seed.

    Parameters
    ----------
    real, made : Side
        What is to be told apart.
    fit : callable
        ``fit(x, y, weight, seed)`` gives a scorer; y is 1 for made.
    folds : int
        Number of folds.
    seeds : sequence of int
        Folds and initial values are drawn again for each.
    """
    won = np.zeros((len(real.x), len(made.x)))
    compared = np.zeros_like(won)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        real_fold, made_fold = _folds(real, folds, rng), _folds(made, folds, rng)
        for fold in range(folds):
            scorer = _train(real, made, real_fold != fold, made_fold != fold, fit, seed)
            r, m = np.flatnonzero(real_fold == fold), np.flatnonzero(made_fold == fold)
            if not len(r) or not len(m):
                continue
            a, b = scorer(real.x[r])[:, None], scorer(made.x[m])[None]
            comparable = (real.kinds[r][:, None] == made.kinds[m][None]).astype(np.float64)
            won[np.ix_(r, m)] += comparable * ((b > a) + 0.5 * (b == a))
            compared[np.ix_(r, m)] += comparable
    return Pairs(won, compared)


def _train(
    real: Side, made: Side, real_rows: NDArray[np.bool_], made_rows: NDArray[np.bool_], fit: Fit, seed: int
) -> Scorer:
    x = np.concatenate([real.x[real_rows], made.x[made_rows]])
    y = np.concatenate([np.zeros(real_rows.sum()), np.ones(made_rows.sum())])
    weight = np.concatenate([_votes(real, real_rows), _votes(made, made_rows)]) / 2
    return fit(x, y, weight, seed)


def _votes(side: Side, rows: NDArray[np.bool_]) -> Floats:
    """Weights that add up to 1: kinds by their number of samples, within a kind every group alike, softened."""
    groups, kinds = side.groups[rows], side.kinds[rows]
    weight = np.zeros(len(groups))
    for kind in np.unique(kinds):
        own = kinds == kind
        _, number, count = np.unique(groups[own], return_inverse=True, return_counts=True)
        vote = 1.0 / np.sqrt(count[number])
        weight[own] = own.mean() * vote / vote.sum()
    return weight


def _folds(side: Side, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Fold of each row, the same for a group and even over kinds; -1 for what is never scored."""
    fold = np.full(len(side.groups), -1)
    for kind in np.unique(side.kinds):
        names = rng.permutation(np.unique(side.groups[(side.kinds == kind) & side.scored]))
        start = int(rng.integers(folds))
        for k, name in enumerate(names):
            rows = (side.groups == name) & side.scored
            taken = fold[rows & (fold >= 0)]
            fold[rows] = taken[0] if len(taken) else (start + k) % folds
    return fold


def importance(
    real: Side,
    made: Side,
    names: Sequence[str],
    blocks: Sequence[Sequence[int]],
    *,
    folds: int,
    seeds: Sequence[int],
    repeats: int = 8,
) -> list[tuple[str, float, float]]:
    """What the logistic judge lives on: each block of columns alone, and the loss of AUROC when it is shuffled.

    Returns
    -------
    list of (name, AUROC of the block alone, loss when shuffled)
        Largest loss first.
    """
    full = cross_validate(real, made, fit_logistic, folds=folds, seeds=seeds)
    w, v = _even(real), _even(made)
    base = full.auroc(w, v)
    found = []
    for name, block in zip(names, blocks, strict=True):
        alone_r = Side(real.x[:, block], real.groups, real.kinds, real.scored)
        alone_m = Side(made.x[:, block], made.groups, made.kinds, made.scored)
        alone = cross_validate(alone_r, alone_m, fit_logistic, folds=folds, seeds=seeds).auroc(w, v)
        shuffled = [_shuffled(real, made, block, folds, seed).auroc(w, v) for seed in list(seeds)[:repeats]]
        found.append((name, alone, base - float(np.mean(shuffled))))
    return sorted(found, key=lambda row: -row[2])


def _even(side: Side) -> Floats:
    return np.full(len(side.x), 1.0 / len(side.x))


def _shuffled(real: Side, made: Side, block: Sequence[int], folds: int, seed: int) -> Pairs:
    """As `cross_validate`, with the block exchanged among the scored rows of a fold after training."""
    rng = np.random.default_rng(seed + 1000)

    def fit(x: NDArray[np.generic], y: Floats, weight: Floats, own: int) -> Scorer:
        scorer = fit_logistic(x, y, weight, own)
        pool = np.asarray(x)[:, block]

        def score(new: NDArray[np.generic]) -> Floats:
            mixed = np.array(new)
            mixed[:, block] = pool[rng.integers(len(pool), size=len(mixed))]
            return scorer(mixed)

        return score

    return cross_validate(real, made, fit, folds=folds, seeds=[seed])
