"""The training of the Synthesis Quality Estimator that comes with the program, and what it is worth.

Sound are the accepted samples of a corpus, unsound are corrupted copies of them (`bisqad.corruptions`), and
descriptions that no sample has: those of sound ones with some of their measured numbers displaced, or reflected about
their mean. Every step sees as many sound as unsound ones, and of the unsound as many of each kind.

Groups of the corpus share neither photographs nor simulations. Of ten, six train, two calibrate, two test. The figure
that counts is the area under the receiver operating characteristic (AUROC) of sound against one kind of corruption that
took no part in training, on the test groups. Beside it stand two measures that need no learning: how much the network's
features differ between mask and ring, and how well the change above its best threshold overlaps the mask.

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
from xml.sax.saxutils import escape

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch.nn import functional

from bisqad.corruptions import CORRUPTIONS, Specimen, corrupt, others_by_group, specimen_of
from manifests import Corpus, Sample
from manifests.durable import write_atomic
from manifests.errors import CorpusError, MaphError
from refine.sqe import NAMES, SQE, describe, save_sqe

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
_PARTS: Final = (0.6, 0.2, 0.2)  # of the groups: to train, to calibrate, to test

_STEPS: Final = 1000
_SOUND_PER_STEP: Final = 128
_DISPLACED_SHARE, _MIRRORED_SHARE = 0.1, 0.4  # of the unsound: made up
_LEARNING_RATE: Final = 4e-3
_WEIGHT_DECAY: Final = 2e-2
_SMOOTHING: Final = 0.02
_LEAST_SPREAD: Final = 0.05
_LEAST_VARIANCE: Final = 0.05
_DISPLACED: Final = (0.02, 0.3)  # share of the measured numbers
_MIRRORED: Final = (0.05, 0.5)
_DISPLACEMENT: Final = (1.5, 5.0)  # spreads
_MEASURED_FROM: Final = NAMES.index("log_area")
_CALIBRATION_STEPS: Final = 50
_BINS: Final = 10
_TRANSFER_SAMPLES: Final = 400


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
        """Which are sound, (N,)."""
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
    pools = others_by_group(corpus)
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
    _set_normal(model, described.values[described.sound])
    values = model.normalised(torch.from_numpy(described.values)).numpy()
    learned = [*model.trunk.parameters(), *model.quality_head.parameters()]
    optimiser = torch.optim.AdamW(learned, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=_STEPS)
    target = torch.cat([torch.ones(_SOUND_PER_STEP), torch.zeros(_SOUND_PER_STEP)])
    target = target * (1 - 2 * _SMOOTHING) + _SMOOTHING
    members = [np.flatnonzero(described.kinds == kind) for kind in (SOUND, *described.corruptions)]
    model.train()
    for _ in range(_STEPS):
        logits = model.learned_logits(torch.from_numpy(_batch(values, members, rng)))
        loss = functional.binary_cross_entropy_with_logits(logits, target)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return model.eval()


def _set_normal(model: SQE, sound: NDArray[np.float32]) -> None:
    """Normalisation and whitening from the descriptions of sound samples (N, D)."""
    model.mean.copy_(torch.from_numpy(sound.mean(axis=0)))
    model.spread.copy_(torch.from_numpy(np.maximum(sound.std(axis=0), _LEAST_SPREAD)))
    measured = model.normalised(torch.from_numpy(sound)).double().numpy()[:, _MEASURED_FROM:]
    covariance = measured.T @ measured / len(measured) + _LEAST_VARIANCE * np.eye(measured.shape[1])
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    model.whitening.copy_(torch.from_numpy(whitening))


def _batch(
    values: NDArray[np.float32], members: Sequence[NDArray[np.int64]], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Normalised descriptions: the first half of sound samples, the second of unsound and of made-up ones."""
    displaced, mirrored = (round(share * _SOUND_PER_STEP) for share in (_DISPLACED_SHARE, _MIRRORED_SHARE))
    sound, *unsound = members
    kinds = rng.integers(len(unsound), size=_SOUND_PER_STEP - displaced - mirrored)
    corrupted = np.array([rng.choice(unsound[kind]) for kind in kinds])
    return np.concatenate(
        [
            values[rng.choice(sound, _SOUND_PER_STEP)],
            values[corrupted],
            _displaced(values[rng.choice(sound, displaced)], rng),
            _mirrored(values[rng.choice(sound, mirrored)], rng),
        ]
    )


def _displaced(values: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Normalised descriptions (N, D) of which some measured numbers are moved by some spreads."""
    steps = rng.choice([-1.0, 1.0], values.shape) * rng.uniform(*_DISPLACEMENT, values.shape)
    return np.where(_some(values, _DISPLACED, rng), values + steps, values).astype(np.float32)


def _mirrored(values: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Normalised descriptions (N, D) of which some measured numbers lie on the other side of their mean."""
    return np.where(_some(values, _MIRRORED, rng), -values, values)


def _some(values: NDArray[np.float32], between: tuple[float, float], rng: np.random.Generator) -> _Flags:
    """Which measured numbers of descriptions (N, D) are drawn: a share of them that differs from one to the next."""
    chosen = rng.random(values.shape) < rng.uniform(*between, (len(values), 1))
    chosen[:, :_MEASURED_FROM] = False
    return np.asarray(chosen)


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
    parts = (weights, weights * probability, weights * sound)
    weight, said, found = (np.bincount(place, part, _BINS).astype(np.float64) for part in parts)
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


# ---------------------------------------------------------------- the model card


def write_card(trained: TrainedSqe, path: str | Path, *, corpus: str, sha256: str) -> None:
    """Write the model card as Markdown, with a reliability diagram beside it in ``pictures/``.

    Parameters
    ----------
    trained : TrainedSqe
        The estimator and its figures.
    path : str or Path
        The Markdown file.
    corpus : str
        What the corpus is called.
    sha256 : str
        Of the file of weights.
    """
    path = Path(path)
    pictures = path.parent / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    write_atomic(pictures / f"{path.stem}-reliability.svg", _reliability_diagram(trained).encode())
    write_atomic(path, _card(trained, corpus, sha256, path.stem).encode())


def _card(trained: TrainedSqe, corpus: str, sha256: str, stem: str) -> str:
    figures = trained.figures
    transfer = "".join(
        f"\n## On {name}, which it never saw\n\n{_table(other)}\n{_calibration_text(other.reliability)}\n"
        for name, other in trained.transfer.items()
    )
    return _CARD.format(
        corpus=corpus,
        samples=trained.samples,
        seed=trained.seed,
        sha256=sha256,
        parameters=sum(p.numel() for p in trained.model.parameters()),
        table=_table(figures),
        calibration=_calibration_text(figures.reliability),
        sound=figures.sound,
        transfer=transfer,
        picture=f"pictures/{stem}-reliability.svg",
    )


def _table(figures: Figures) -> str:
    columns = list(next(iter(figures.by_kind.values())))
    titles = {"left_out": "not trained on it", "trained": "trained on all"}
    heads = ["corruption", "samples", *(titles.get(column, column) for column in columns)]
    lines = [" | ".join(heads), " | ".join(["---", *["---:"] * (len(heads) - 1)])]
    for kind, row in figures.by_kind.items():
        lines.append(" | ".join([kind, str(figures.unsound[kind]), *(f"{row[column]:.3f}" for column in columns)]))
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def _calibration_text(reliable: Reliability) -> str:
    return f"Expected calibration error {reliable.error:.3f}, Brier score {reliable.brier:.3f}."


def _reliability_diagram(trained: TrainedSqe) -> str:
    """An SVG of the share of sound samples over the quality that is told, one line for each corpus."""
    side, margin = 320, 48
    corners = f"{margin},{side + 10} {side + margin},10"
    parts = [
        f'<rect x="{margin}" y="10" width="{side}" height="{side}" fill="white" stroke="#888"/>',
        f'<polyline points="{corners}" fill="none" stroke="#bbb"/>',
        f'<text x="{margin + side / 2}" y="{side + 44}" text-anchor="middle">quality that is told</text>',
        f'<text transform="translate(14 {10 + side / 2}) rotate(-90)" text-anchor="middle">share of sound ones</text>',
    ]
    for tick in (0.0, 0.5, 1.0):
        parts.append(f'<text x="{margin + tick * side}" y="{side + 26}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{margin - 6}" y="{side + 14 - tick * side}" text-anchor="end">{tick:g}</text>')
    curves = {"test groups": trained.figures, **trained.transfer}
    for number, (name, figures) in enumerate(curves.items()):
        colour, reliable = _COLOURS[number % len(_COLOURS)], figures.reliability
        filled = reliable.weight > _LEAST_SHOWN
        places = [
            f"{margin + said * side:.1f},{10 + side - found * side:.1f}"
            for said, found in zip(reliable.said[filled], reliable.found[filled], strict=True)
        ]
        parts.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += ['<circle cx="{}" cy="{}" r="4" fill="{}"/>'.format(*place.split(","), colour) for place in places]
        parts.append(f'<text x="{margin + 10}" y="{30 + 18 * number}" fill="{colour}">{escape(name)}</text>')
    size = f'width="{side + margin + 12}" height="{side + 52}"'
    style = 'font-family="sans-serif" font-size="13"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', *parts, "</svg>", ""])


_COLOURS: Final = ("#1f5fa8", "#c0561a", "#3b8a3e")
_LEAST_SHOWN: Final = 0.01  # share of samples in a bin

_CARD: Final = """# The Synthesis Quality Estimator that comes with MaPhC2F

`refine/sqe.safetensors`, sha256 `{sha256}`; {parameters:,} parameters.

It tells two numbers of a synthetic sample, from its picture, its mask and its source: `quality`, the probability that
the sample is sound, and a weight's logit, which is zero until `bisqad train` has learned it. `refine/sqe.py` says what
they are computed from.

## Made from

{samples:,} accepted samples of the corpus `{corpus}`: embedded sources only, every mechanism, seed {seed}. Unsound are
corrupted copies of the same samples, in the ways that `bisqad/corruptions.py` names. Half of the samples were seen
without their colour. Of the corpus's groups, which share neither photographs nor simulations, 60 % trained, 20 %
calibrated and 20 % gave the figures below.

    maphc2f generate CORPUS --config recipes/sqe.yaml
    python -m bisqad.sqe_training CORPUS --out refine/sqe.safetensors --card docs/sqe.md

## What it is worth

AUROC of {sound} sound samples against each kind of corruption, on groups that took no part in training. The first
column of figures is of estimators that never saw that kind of corruption. `contrast` (features in the mask against
those of its ring) and `agreement` (overlap of the mask with the change above its best threshold) need no learning.

{table}
What its scores are worth as weights of training samples, and how well they rank what samples are worth, is measured on
real defects in [docs/sqe-worth.md](sqe-worth.md).

## Calibration

{calibration}

Sound samples and corrupted ones count half each, and all kinds of corruption the same: in a corpus with fewer unsound
samples the true probability is higher. The diagram shows bins that hold at least 1 % of the whole.

![Reliability diagram]({picture})
{transfer}
## Limits

- Sound means: like an accepted sample of this program. It does not say that the defect occurs on real parts.
- A relief lit from the wrong side looks like another relief, a dent like a bump: `wrong_shading` is the hardest kind.
  Without examples of it inverted cracks are found always and inverted pits mostly (AUROC 0.93), dents and folds poorly
  (0.74 and 0.66).
- On materials unlike the embedded ones the order of samples holds better than the probability itself: choose a
  threshold on your own corpus.
- It compares the picture with its source: a defect that was in the source already is not seen.
"""


# ---------------------------------------------------------------- command line


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and write weights and model card; 0 if it worked."""
    parser = argparse.ArgumentParser(prog="python -m bisqad.sqe_training", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path, help="corpus made with recipes/sqe.yaml")
    parser.add_argument("--out", type=Path, required=True, help="file of weights to write")
    parser.add_argument("--card", type=Path, help="model card to write")
    parser.add_argument("--transfer", action="append", default=[], metavar="NAME=CORPUS", help="only to be looked at")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        pairs = [text.partition("=") for text in given.transfer]
        others = {name: _some_of(Corpus(folder)) for name, _, folder in pairs}
        corpus = Corpus(given.corpus)
        trained = train_sqe(corpus, seed=given.seed, transfer=others, advance=_tell)
    except MaphError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    save_sqe(trained.model, given.out)
    if given.card is not None:
        write_card(trained, given.card, corpus=corpus.info.name, sha256=trained.model.sha256)
    sys.stdout.write(_table(trained.figures) + _calibration_text(trained.figures.reliability) + "\n")
    for name, figures in trained.transfer.items():
        sys.stdout.write(f"{name}\n{_table(figures)}{_calibration_text(figures.reliability)}\n")
    return 0


def _some_of(corpus: Corpus) -> Corpus:
    """At most 400 samples, evenly over the corpus."""
    return corpus[:: max(-(-len(corpus) // _TRANSFER_SAMPLES), 1)]


def _tell(done: int, total: int) -> None:
    if done % 200 == 0 or done == total:
        sys.stderr.write(f"described {done} of {total}\n")


if __name__ == "__main__":
    sys.exit(main())
