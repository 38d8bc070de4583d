"""The training of the Synthesis Quality Estimator that comes with the program, and what it is worth.

Sound are the accepted samples of a corpus, unsound are corrupted copies of them (`bisqad.corruptions`), and descriptions
that no sample has: those of sound ones with some of their measured numbers displaced. Every step sees as many sound as
unsound ones, and of the unsound as many of each kind.

Groups of the corpus share neither photographs nor simulations. Of ten, six train, two calibrate, two test. The figure that
counts is the area under the receiver operating characteristic (AUROC) of sound against one kind of corruption that took no
part in training, on the test groups. Beside it stand two measures that need no learning: how much the network's features
differ between mask and ring, and how well the change's best threshold overlaps the mask.

Run it again::

    maphc2f generate CORPUS --config recipes/sqe.yaml
    python -m bisqad.sqe_training CORPUS --out refine/sqe.safetensors --card docs/sqe.md

References
----------
Platt, "Probabilistic outputs for support vector machines", Advances in Large Margin Classifiers (1999).
Gutmann & Hyvarinen, "Noise-contrastive estimation", AISTATS (2010), for telling data from what is made up.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional

from bisqad.corruptions import CORRUPTIONS, Specimen, corrupt, specimen_of
from manifests import Corpus, Sample
from manifests.durable import write_atomic
from manifests.errors import CorpusError, MaphError
from refine.sqe import DESCRIPTION_SIZE, NAMES, SQE, describe, save_sqe

__all__ = [
    "SOUND",
    "Described",
    "Reliability",
    "TrainedSqe",
    "auroc",
    "baselines",
    "describe_corpus",
    "reliability",
    "train_sqe",
    "write_card",
]

SOUND: Final = "sound"
Advance = Callable[[int, int], None]
_Flags = NDArray[np.bool_]
_Values = NDArray[np.float64]

_GREY_SHARE: Final = 0.5  # of the samples are seen without their colour
_OTHERS: Final = 12  # samples of a group that its corrupted ones borrow from
_PARTS: Final = (0.6, 0.2, 0.2)  # of the groups: to train, to calibrate, to test

_STEPS: Final = 1200
_SOUND_PER_STEP: Final = 128
_MADE_UP_SHARE: Final = 0.3  # of the unsound
_LEARNING_RATE: Final = 4e-3
_WEIGHT_DECAY: Final = 2e-2
_SMOOTHING: Final = 0.02
_LEAST_SPREAD: Final = 0.05
_DISPLACED: Final = (0.02, 0.3)  # share of the measured numbers
_DISPLACEMENT: Final = (1.5, 5.0)  # spreads
_MEASURED_FROM: Final = NAMES.index("log_area")
_CALIBRATION_STEPS: Final = 50
_BINS: Final = 10


# ---------------------------------------------------------------- descriptions


@dataclass(frozen=True)
class Described:
    """N sound and corrupted samples.

    Attributes
    ----------
    values : (N, D) float32
        See `refine.sqe.describe`.
    kinds : (N,) str
        `SOUND`, or the kind of corruption.
    groups : (N,) int64
    """

    values: NDArray[np.float32]
    kinds: NDArray[np.str_]
    groups: NDArray[np.int64]

    def take(self, chosen: _Flags) -> Described:
        """Those for which ``chosen`` (N,) is true."""
        return Described(self.values[chosen], self.kinds[chosen], self.groups[chosen])

    @property
    def sound(self) -> _Flags:
        """(N,)"""
        return np.asarray(self.kinds == SOUND)

    @property
    def corruptions(self) -> tuple[str, ...]:
        """Kinds that occur, in the order of `CORRUPTIONS`."""
        return tuple(kind for kind in CORRUPTIONS if (self.kinds == kind).any())


def describe_corpus(corpus: Corpus, *, seed: int = 0, advance: Advance | None = None) -> Described:
    """Every sample of a corpus as it is, and corrupted in every way that it can be.

    Parameters
    ----------
    corpus : Corpus
        Its accepted samples, or a filtered view.
    seed : int
        Of the corruptions; each sample has a stream of its own.
    advance : callable, optional
        Told (samples done, of how many).

    Raises
    ------
    CorpusError
        There is no sample, or the corpus is damaged.
    """
    if not len(corpus):
        raise CorpusError(f"{corpus.path}: no accepted sample to learn from; look at maphc2f info")
    pools = _pools(corpus)
    values, kinds, groups = [], [], []
    for number, sample in enumerate(corpus):
        others = [specimen for name, specimen in pools[sample.record.group] if name != sample.record.id]
        made = _versions(sample, others, seed=seed)
        values.append(_description(list(made.values())))
        kinds += list(made)
        groups += [sample.record.group] * len(made)
        if advance is not None:
            advance(number + 1, len(corpus))
    return Described(np.concatenate(values), np.array(kinds), np.array(groups, dtype=np.int64))


def _pools(corpus: Corpus) -> dict[int, list[tuple[str, Specimen]]]:
    """Of each group some samples with their ids, evenly over the corpus."""
    groups = np.array(corpus.table["group"].to_pylist())
    pools = {}
    for group in np.unique(groups).tolist():
        at = np.flatnonzero(groups == group)
        chosen = at[np.unique(np.linspace(0, len(at) - 1, _OTHERS).astype(np.int64))]
        pools[group] = [(corpus[k].record.id, specimen_of(corpus[k])) for k in chosen.tolist()]
    return pools


def _versions(sample: Sample, others: Sequence[Specimen], *, seed: int) -> dict[str, Specimen]:
    """A sample, sound first, and what each corruption makes of it."""
    own = int(sample.record.id, 16) ^ seed
    specimen = specimen_of(sample)
    if np.random.default_rng(own).random() < _GREY_SHARE:
        specimen = Specimen(_grey(specimen.image), specimen.mask, _grey(specimen.source), specimen.part)
    made = {SOUND: specimen}
    for kind in CORRUPTIONS if others else ():
        corrupted = corrupt(kind, specimen, others, seed=own)
        if corrupted is not None:
            made[kind] = corrupted
    return made


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    mean = np.rint(picture.astype(np.float32).mean(axis=2, keepdims=True)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(mean, picture.shape))


def _description(specimens: Sequence[Specimen]) -> NDArray[np.float32]:
    images, masks, sources, parts = (
        np.stack([getattr(specimen, name) for specimen in specimens]) for name in ("image", "mask", "source", "part")
    )
    return describe(images, masks, sources, parts)


# ---------------------------------------------------------------- learning


def _fitted(described: Described, *, seed: int) -> SQE:
    """An estimator of which samples are sound, not yet calibrated."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = SQE(described.corruptions)
    sound = described.values[described.sound]
    model.mean.copy_(torch.from_numpy(sound.mean(axis=0)))
    model.spread.copy_(torch.from_numpy(np.maximum(sound.std(axis=0), _LEAST_SPREAD)))
    learned = [*model.trunk.parameters(), *model.quality_head.parameters()]
    optimiser = torch.optim.AdamW(learned, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=_STEPS)
    target = torch.cat([torch.ones(_SOUND_PER_STEP), torch.zeros(_SOUND_PER_STEP)])
    target = target * (1 - 2 * _SMOOTHING) + _SMOOTHING
    members = [np.flatnonzero(described.kinds == kind) for kind in (SOUND, *described.corruptions)]
    model.train()
    for _ in range(_STEPS):
        logits = model.quality_logits(_batch(described, members, model, rng))
        loss = functional.binary_cross_entropy_with_logits(logits, target)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return model.eval()


def _batch(described: Described, members: Sequence[NDArray[np.int64]], model: SQE, rng: np.random.Generator) -> Tensor:
    """Descriptions: the first half of sound samples, the second of unsound and of made-up ones."""
    made_up = round(_MADE_UP_SHARE * _SOUND_PER_STEP)
    sound, *unsound = members
    kinds = rng.integers(len(unsound), size=_SOUND_PER_STEP - made_up)
    rows = [rng.choice(sound, _SOUND_PER_STEP), np.array([rng.choice(unsound[kind]) for kind in kinds])]
    values = torch.from_numpy(described.values[np.concatenate(rows)])
    displaced = _displaced(described.values[rng.choice(sound, made_up)], model.spread.numpy(), rng)
    return torch.cat([values, torch.from_numpy(displaced)])


def _displaced(
    values: NDArray[np.float32], spread: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Descriptions (N, D) of which some measured numbers are moved by some spreads."""
    share = rng.uniform(*_DISPLACED, (len(values), 1))
    chosen = rng.random(values.shape) < share
    chosen[:, :_MEASURED_FROM] = False
    steps = rng.choice([-1.0, 1.0], values.shape) * rng.uniform(*_DISPLACEMENT, values.shape)
    return np.where(chosen, values + steps * spread, values).astype(np.float32)


def _scores(model: SQE, described: Described) -> _Values:
    """Quality logits (N,) before calibration."""
    with torch.inference_mode():
        return model.quality_logits(torch.from_numpy(described.values)).double().numpy()


def _calibrate(model: SQE, described: Described) -> None:
    """Set a, b of sigmoid(a t + b) by the likelihood, sound and unsound counting the same, as all kinds do."""
    scores, sound = _scores(model, described), described.sound
    weights = _balanced(described)
    a, b = 1.0, 0.0
    for _ in range(_CALIBRATION_STEPS):  # Newton's method on two numbers
        p = 1 / (1 + np.exp(-(a * scores + b)))
        error, curve = weights * (p - sound), weights * p * (1 - p) + 1e-9
        gradient = np.array([(error * scores).sum(), error.sum()]) + 1e-6 * np.array([a, b])
        mixed = (curve * scores).sum()
        hessian = np.array([[(curve * scores**2).sum(), mixed], [mixed, curve.sum()]]) + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 0.5 / float(np.abs(step).max() + 1e-12))
        a, b = a - step[0], b - step[1]
    model.calibration.copy_(torch.tensor([a, b]))


def _balanced(described: Described) -> _Values:
    """Weights (N,) with which sound samples have one half of the whole, and all kinds of corruption equal shares."""
    kinds, inverse, count = np.unique(described.kinds, return_inverse=True, return_counts=True)
    share = np.where(kinds == SOUND, 0.5, 0.5 / max(len(kinds) - 1, 1))
    return np.asarray((share / count)[inverse], dtype=np.float64)


# ---------------------------------------------------------------- figures


def auroc(good: _Values, bad: _Values) -> float:
    """Probability that a good one has the higher score, ties counting half; NaN where one side is empty."""
    if not good.size or not bad.size:
        return math.nan
    ranks = rankdata(np.concatenate([good, bad]))[: good.size]
    return float((ranks.sum() - good.size * (good.size + 1) / 2) / (good.size * bad.size))


def baselines(values: NDArray[np.float32]) -> dict[str, _Values]:
    """Two scores (N,) of descriptions (N, D) that need no learning; higher is better.

    ``contrast`` is the sum over the network's three maps of 1 - cosine of the features in mask and ring; ``agreement``
    is the overlap / union of the mask with the change above its best threshold.
    """
    names, each = list(NAMES), _MEASURED_FROM // 2
    contrast = np.zeros(len(values))
    for start, stop in ((0, 24), (24, 64), (64, each)):
        inside, ring = (
            values[:, start:stop].astype(np.float64),
            values[:, each + start : each + stop].astype(np.float64),
        )
        lengths = np.linalg.norm(inside, axis=1) * np.linalg.norm(ring, axis=1)
        contrast += 1 - (inside * ring).sum(axis=1) / np.maximum(lengths, 1e-9)
    return {"contrast": contrast, "agreement": values[:, names.index("best_overlap")].astype(np.float64)}


@dataclass(frozen=True)
class Reliability:
    """How often what is called sound with probability p is: bins (K,) of equal width over 0..1.

    Attributes
    ----------
    said, found, weight : (K,) float64
        Mean probability and share of sound ones in each bin, and the bin's share of the whole; NaN and 0 if empty.
    error : float
        Expected calibration error, the weighted mean of ``abs(said - found)``.
    brier : float
        Mean squared error of the probability.
    """

    said: _Values
    found: _Values
    weight: _Values
    error: float
    brier: float


def reliability(probability: _Values, sound: _Flags, weights: _Values) -> Reliability:
    """Of probabilities (N,) with weights (N,)."""
    weights = weights / weights.sum()
    place = np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)
    weight, said, found = (
        np.bincount(place, weights * part, _BINS)
        for part in (np.ones(len(place)), probability, sound.astype(np.float64))
    )
    error = float(np.abs(said - found).sum())
    with np.errstate(invalid="ignore"):
        said, found = said / weight, found / weight
    return Reliability(said, found, weight, error, float((weights * (probability - sound) ** 2).sum()))


@dataclass(frozen=True)
class Figures:
    """AUROC of sound against each kind of corruption, by column: ``left_out``, ``trained``, ``contrast`` ..."""

    by_kind: Mapping[str, Mapping[str, float]]
    reliability: Reliability
    sound: int
    unsound: Mapping[str, int]


@dataclass(frozen=True)
class TrainedSqe:
    """An estimator and what it is worth: on its test groups, and on corpora that it never saw, by name."""

    model: SQE
    seed: int
    samples: int
    figures: Figures
    transfer: Mapping[str, Figures]


def train_sqe(
    corpus: Corpus, *, seed: int = 0, transfer: Mapping[str, Corpus] | None = None, advance: Advance | None = None
) -> TrainedSqe:
    """Train, calibrate and test an estimator on a corpus; on one thread, the same seed gives the same bytes.

    Parameters
    ----------
    corpus : Corpus
        Of sound samples, three groups at least.
    seed : int
        Of the corruptions, of the parts and of the network.
    transfer : mapping of str to Corpus, optional
        Corpora that are only looked at in the end.
    advance : callable, optional
        Told (samples described, of how many), for each corpus.

    Raises
    ------
    CorpusError
        There are too few groups, or a corpus is damaged.
    """
    described = describe_corpus(corpus, seed=seed, advance=advance)
    training, calibrating, testing = _parts(corpus, described, seed=seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = _fitted(training, seed=seed)
        _calibrate(model, calibrating)
        left_out = {}
        for kind in testing.corruptions:
            blind = _fitted(training.take(training.kinds != kind), seed=seed)
            left_out[kind] = _auroc_of(_scores(blind, testing), testing, kind)
        figures = _figures(model, testing, left_out)
        others = {
            name: _figures(model, describe_corpus(other, seed=seed, advance=advance), {})
            for name, other in (transfer or {}).items()
        }
    finally:
        torch.set_num_threads(threads)
    return TrainedSqe(model, seed, len(corpus), figures, others)


def _parts(corpus: Corpus, described: Described, *, seed: int) -> tuple[Described, Described, Described]:
    groups = np.random.default_rng(seed).permutation(np.unique(described.groups))
    if len(groups) < len(_PARTS):
        raise CorpusError(f"{corpus.path}: {len(groups)} groups, expected at least {len(_PARTS)}; raise bank.groups")
    first = min(max(round(_PARTS[0] * len(groups)), 1), len(groups) - 2)
    second = min(max(round((_PARTS[0] + _PARTS[1]) * len(groups)), first + 1), len(groups) - 1)
    training, calibrating, testing = (
        described.take(np.isin(described.groups, part)) for part in np.split(groups, [first, second])
    )
    return training, calibrating, testing


def _auroc_of(scores: _Values, described: Described, kind: str) -> float:
    return auroc(scores[described.sound], scores[described.kinds == kind])


def _figures(model: SQE, described: Described, left_out: Mapping[str, float]) -> Figures:
    scores = {"trained": _scores(model, described), **baselines(described.values)}
    by_kind = {
        kind: ({"left_out": left_out[kind]} if left_out else {})
        | {name: _auroc_of(values, described, kind) for name, values in scores.items()}
        for kind in described.corruptions
    }
    with torch.inference_mode():
        quality = model.quality(torch.from_numpy(described.values)).double().numpy()
    reliable = reliability(quality, described.sound, _balanced(described))
    counts = {kind: int((described.kinds == kind).sum()) for kind in described.corruptions}
    return Figures(by_kind, reliable, int(described.sound.sum()), counts)
