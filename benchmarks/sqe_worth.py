"""What the Synthesis Quality Estimator is worth: its weights against equal ones, its ranks against worth itself.

Run with::

    python -m benchmarks.sqe_worth --data <mtd>                   # makes the corpus, writes docs/sqe-worth.md
    python -m benchmarks.sqe_worth --data <mtd> --corpus CORPUS   # of a finished one

A corpus on real photographs is split by photographs that look alike into a lower level to train on, an upper level that
learned weights are validated by, and a part that only judges. Of the lower level a share is corrupted, so that labels
are wrong; upper level and judge stay sound and lend it nothing. Heads are trained with weights from several hands and
judged on real defects, of which nothing else here knows. What a sample is worth is measured without any estimator: the
judge's loss with it and without it, at the exact optimum of a convex last layer.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from benchmarks.sqe_worth_material import (
    KINDS,
    SOUND,
    JudgedCells,
    Split,
    Versions,
    contaminated,
    judged_cells,
    painted_cells,
    split,
    versions,
)
from benchmarks.sqe_worth_utility import Groups, LastLayerProblem, group_utility
from bisqad.cells import NormalCells, SampleCells, normal_cells, normals_of
from bisqad.config import TrainConfig
from bisqad.features import FeatureExtractor
from bisqad.head import SegmentationHead, head_for
from bisqad.inspection_set import GOOD, find_photographs
from bisqad.likeness import alike
from bisqad.metrics import image_auroc, pixel_auroc, pixel_average_precision
from bisqad.training import Material, Trainer, train_head
from manifests import Corpus
from refine.sqe import load_sqe

Floats = NDArray[np.float64]

METHODS = ("uniform", "oracle", "shipped", "learned", "learned (peers)")
ESTIMATORS = ("shipped", "learned")
SHUFFLED = tuple(f"{name}, shuffled" for name in METHODS[1:])
MEASURES = ("pixel AP", "pixel AP, mean of types", "pixel AUROC", "image AUROC")
HELD_OUT = len(MEASURES)  # in place of a measure on real defects: AP on the judge's synthetic samples
# passes over few hundred samples that make as many steps as a corpus of 1,600 gets by default
OPTIMISER = {"epochs": 24, "batch_samples": 32, "batch_normals": 16}
_HIGHEST = 0.01  # share of a picture's cells whose mean is its score
_RESAMPLES = 1000


@dataclass(frozen=True)
class Setting:
    """A share of the samples, corrupted in ways drawn evenly from ``kinds``; none is clean."""

    name: str
    share: float = 0.0
    kinds: tuple[str, ...] = KINDS


CLEAN = Setting("clean")
CONTAMINATED = Setting("contaminated", 0.9, ("shuffled_mask",))
MIXED = Setting("all kinds of corruption", 0.8)
CANDIDATES = tuple(
    Setting("+".join(kinds), share, kinds)
    for kinds in (*((kind,) for kind in KINDS), KINDS)
    for share in (0.5, 0.8, 0.9)
)


@dataclass(frozen=True)
class Bench:
    """All cells, and how training is set."""

    made: Versions
    normals: NormalCells
    real: JudgedCells
    config: TrainConfig
    deepest: int
    painted: SampleCells


@dataclass(frozen=True)
class Drawn:
    """One seed of one setting: what is trained on with the kind of each sample, and the judge's sound samples."""

    material: Material
    kinds: NDArray[np.str_]
    judge: SampleCells
    judge_normals: NormalCells
    config: TrainConfig
    painted: SampleCells


def prepared(corpus: Path, data: Path, config: TrainConfig, *, cache: Path, tell: bool = False) -> Bench:
    """Cells of a corpus and of the test part of a data set, from the cache where they are in it."""
    opened = Corpus(corpus)
    detector = config.detector.model_copy(update={"fit": opened.info.config["fit"]})
    config = config.model_copy(update={"detector": detector})
    extractor = FeatureExtractor(config.detector)
    advance = _tell if tell else None
    pictures = normals_of(opened)
    return Bench(
        versions(opened, config, extractor, cache=cache, advance=advance),
        normal_cells(pictures, config, extractor, cache=cache, advance=advance),
        judged_cells(find_photographs(data, "test"), extractor, cache=cache, advance=advance),
        config,
        extractor.block_channels[-1],
        painted_cells(pictures, config, extractor, cache=cache, advance=advance),
    )


def _tell(done: int, total: int) -> None:
    if done % 40 == 0 or done == total:
        sys.stderr.write(f"{done} of {total}\n")


def drawn(bench: Bench, setting: Setting, *, seed: int) -> Drawn:
    """Photographs split, samples corrupted and the head initialised by one seed."""
    sets = alike(bench.normals, bench.deepest, seed=seed)
    parts: Split = split(bench.made, bench.normals, sets, seed=seed)
    samples, kinds = contaminated(bench.made, parts.lower, setting.kinds, setting.share, seed=seed)
    sound = bench.made.cells[SOUND]
    upper, judge = (sound.take(np.flatnonzero(part)) for part in (parts.upper, parts.judge))
    lower_normals, upper_normals, judge_normals = (
        bench.normals.take(part) for part in (parts.lower_normals, parts.upper_normals, parts.judge_normals)
    )
    config = bench.config.model_copy(update={"seed": seed})
    painted = bench.painted.take(np.flatnonzero(parts.upper_normals))
    return Drawn(Material(samples, lower_normals, upper, upper_normals), kinds, judge, judge_normals, config, painted)


# ---------------------------------------------------------------- weights


def weights_of(one: Drawn, methods: Sequence[str] = METHODS) -> dict[str, Tensor]:
    """Weights (N,) of the samples by method, of mean 1, and each but equal ones dealt to other samples."""
    found: dict[str, Tensor] = {}
    for name in methods:
        found[name] = _WEIGHTS[name](one)
        found[name] = found[name] / found[name].mean()
    order = torch.from_numpy(np.random.default_rng([one.config.seed, 13]).permutation(len(one.kinds)))
    return found | {f"{name}, shuffled": found[name][order] for name in methods if name != "uniform"}


def learned_weights(one: Drawn, material: Material) -> Tensor:
    """By the upper level of this material, from the shipped estimator, whose weights are all equal."""
    trainer = Trainer(material, one.config, load_sqe())
    while trainer.epochs_done < one.config.optimiser.epochs:
        trainer.epoch()
    return trainer.weights(material.samples.description)


@torch.no_grad()
def _quality(one: Drawn) -> Tensor:
    return load_sqe().quality(one.material.samples.description)


_WEIGHTS: Mapping[str, Callable[[Drawn], Tensor]] = {
    "uniform": lambda one: torch.ones(len(one.kinds)),
    "oracle": lambda one: torch.from_numpy(one.kinds == SOUND).float(),
    "shipped": _quality,
    "learned": lambda one: learned_weights(one, one.material),
    "learned (peers)": lambda one: learned_weights(one, replace(one.material, upper_samples=one.painted)),
}


# ---------------------------------------------------------------- outcome


@dataclass(frozen=True)
class RealTest:
    """Cells of real photographs, standardised once for all heads of a draw: ``rows`` (R, C) float32 and ``sizes``."""

    rows: Tensor
    sizes: list[int]
    masks: list[NDArray[np.bool_]]
    kinds: NDArray[np.str_]

    @classmethod
    def of(cls, real: JudgedCells, head: SegmentationHead) -> RealTest:
        """With the statistics of a head."""
        rows = torch.cat([head.standardised(cells) for cells in real.features])
        masks = [label.numpy()[None] for label in real.labels]
        return cls(rows, [len(label) for label in real.labels], masks, real.kinds)

    @torch.inference_mode()
    def outcome(self, head: SegmentationHead) -> dict[str, float]:
        """Measures of a head alone, of cells in place of pixels."""
        maps = [
            values.numpy() for values in torch.cat([head(part) for part in self.rows.split(65536)]).split(self.sizes)
        ]
        planes = [values[None] for values in maps]
        scores = [np.sort(values)[-max(round(_HIGHEST * len(values)), 1) :].mean() for values in maps]
        of_types = []
        for kind in sorted(set(self.kinds.tolist()) - {GOOD}):
            chosen = np.flatnonzero((self.kinds == kind) | (self.kinds == GOOD)).tolist()
            own = [planes[k] for k in chosen], [self.masks[k] for k in chosen]
            of_types.append(pixel_average_precision(*own))
        found = (
            pixel_average_precision(planes, self.masks),
            float(np.mean(of_types)),
            pixel_auroc(planes, self.masks),
            image_auroc(scores, self.kinds != GOOD),
        )
        return dict(zip(MEASURES, found, strict=True))


@torch.inference_mode()
def judged_outcome(head: SegmentationHead, one: Drawn) -> dict[str, float]:
    """AP and AUROC of a head on the judge's sound samples and normals."""
    planes = [head(head.standardised(cells)).numpy() for cells in (one.judge.features, one.judge_normals.features)]
    masks = [one.judge.labels.numpy() > 0, np.zeros(planes[1].shape, dtype=np.bool_)]
    return {"pixel AP": pixel_average_precision(planes, masks), "pixel AUROC": pixel_auroc(planes, masks)}


@dataclass(frozen=True)
class Draw:
    """What one seed of a setting gave.

    ``outcome``: `MEASURES` (M,) of every method on real defects; ``judged``: its AP on the judge's synthetic samples;
    ``bad_share``: share of its weight that the corrupted samples have. ``ranked``: what estimators say of samples.
    """

    outcome: dict[str, list[float]]
    judged: dict[str, float]
    bad_share: dict[str, float]
    ranked: Ranked | None


def compared_draw(bench: Bench, setting: Setting, seed: int) -> Draw:
    """Heads with every method's weights; of a contaminated setting also how estimators rank what samples are worth."""
    one = drawn(bench, setting, seed=seed)
    made = weights_of(one, METHODS if setting.share else ("uniform", *ESTIMATORS))
    found = _trained(one, made, bench.real)
    if not setting.share:
        return found
    return replace(found, ranked=ranks(one, bench.real, {name: made[name].numpy() for name in ESTIMATORS}))


def ranked_draw(bench: Bench, setting: Setting, seed: int) -> Draw:
    """The ranks alone."""
    one = drawn(bench, setting, seed=seed)
    made = weights_of(one, ESTIMATORS)
    return Draw({}, {}, {}, ranks(one, bench.real, {name: made[name].numpy() for name in ESTIMATORS}))


def headroom_draw(bench: Bench, setting: Setting, seed: int) -> Draw:
    """Equal weights and the oracle's, away from real defects."""
    one = drawn(bench, setting, seed=seed)
    made = weights_of(one, METHODS[:2])
    return _trained(one, {name: made[name] for name in METHODS[:2]}, None)


def _trained(one: Drawn, made: Mapping[str, Tensor], real: JudgedCells | None) -> Draw:
    found = Draw({}, {}, {}, None)
    fresh = head_for(one.material.normals, one.config.detector.hidden, seed=one.config.seed)
    test = None if real is None else RealTest.of(real, fresh)
    for name, weights in made.items():
        head = train_head(one.material, one.config, weights=weights)
        if test is not None:
            found.outcome[name] = list(test.outcome(head).values())
        found.judged[name] = judged_outcome(head, one)["pixel AP"]
        found.bad_share[name] = float(weights.numpy()[one.kinds != SOUND].sum() / weights.sum())
    return found


# ---------------------------------------------------------------- ranks


@dataclass(frozen=True)
class Ranked:
    """One draw: its groups, and by estimator the mean score (G,) of each and the score (N,) of every sample."""

    groups: Groups
    of_groups: dict[str, Floats]
    of_samples: dict[str, NDArray[np.float32]]
    kinds: NDArray[np.str_]


def ranks(one: Drawn, real: JudgedCells, scores: Mapping[str, NDArray[np.float32]]) -> Ranked:
    """What groups and samples are worth, beside what estimators say."""
    problem = LastLayerProblem(one.material, one.judge, one.judge_normals, real)
    groups = group_utility(problem, one.material.samples.mechanisms, one.kinds, seed=one.config.seed)
    return Ranked(groups, {name: groups.mean(score) for name, score in scores.items()}, dict(scores), one.kinds)


@dataclass(frozen=True)
class Interval:
    """A mean with 95 % of its resamples."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def rank_correlation(pairs: Sequence[tuple[Floats, Floats]]) -> Interval:
    """Mean of Spearman's correlations of the pairs of arrays; resampled are the pairs, and what is in each."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(_RESAMPLES):
        chosen = (pairs[k] for k in rng.integers(len(pairs), size=len(pairs)))
        drawn_again = (np.array(pair)[:, rng.integers(len(pair[0]), size=len(pair[0]))] for pair in chosen)
        values.append(np.mean([_spearman(*pair) for pair in drawn_again]))
    low, high = np.nanquantile(values, [0.025, 0.975])
    return Interval(float(np.mean([_spearman(*pair) for pair in pairs])), float(low), float(high))


def _spearman(first: Floats, second: Floats) -> float:
    one, other = rankdata(first), rankdata(second)
    if not np.ptp(one) or not np.ptp(other):
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def difference(draws: Sequence[Draw], name: str, measure: int, *, base: str = "uniform") -> Interval:
    """Of a method's measure and that of equal weights, or of another, in pairs; resampled are the seeds."""
    return resampled_mean(values_of(draws, name, measure) - values_of(draws, base, measure))


def resampled_mean(values: Floats) -> Interval:
    """Of values (S,) of seeds."""
    means = values[_resampled(len(values))].mean(axis=1)
    return Interval(float(values.mean()), *(float(edge) for edge in np.quantile(means, [0.025, 0.975])))


def recovered(draws: Sequence[Draw], name: str, measure: int) -> Interval:
    """Share of what the oracle gains over equal weights that a method gains: of means, seeds resampled in pairs."""
    equal, oracle, own = (values_of(draws, key, measure) for key in ("uniform", "oracle", name))
    chosen = _resampled(len(own))
    with np.errstate(divide="ignore", invalid="ignore"):  # where there is no gap there is no share of it
        shares = (own - equal)[chosen].mean(axis=1) / (oracle - equal)[chosen].mean(axis=1)
        value = float((own - equal).mean() / (oracle - equal).mean())
    return Interval(value, *(float(edge) for edge in np.quantile(shares, [0.025, 0.975])))


def values_of(draws: Sequence[Draw], name: str, measure: int) -> Floats:
    """A method's measure (S,) by seed: of `MEASURES`, or `HELD_OUT`."""
    return np.array([draw.judged[name] if measure == HELD_OUT else draw.outcome[name][measure] for draw in draws])


def _resampled(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(count, size=(_RESAMPLES, count))


def correlations(draws: Sequence[Draw], estimator: str, judge: str, *, of_groups: bool, sound: bool) -> Interval:
    """Spearman's between an estimator's score and worth, of groups or samples; ``sound``: of the sound ones alone."""
    pairs = []
    for one in (draw.ranked for draw in draws if draw.ranked is not None):
        kinds = one.groups.kinds if of_groups else one.kinds
        score = one.of_groups[estimator] if of_groups else one.of_samples[estimator]
        worth = (one.groups.utility if of_groups else one.groups.influence)[judge]
        chosen = kinds == SOUND if sound else np.ones(len(kinds), dtype=np.bool_)
        pairs.append((np.asarray(score, dtype=np.float64)[chosen], worth[chosen]))
    return rank_correlation(pairs)


# ---------------------------------------------------------------- all of it

Task = tuple[Callable[[Bench, Setting, int], Draw], Setting, int]


@dataclass(frozen=True)
class Result:
    """What the page tells; of every setting the draws, a seed each."""

    samples: int
    normals: int
    defects: int
    good: int
    headroom: list[tuple[Setting, list[Draw]]]
    contaminated: list[Draw]
    clean: list[Draw]
    mixed: list[Draw]
    seconds: float


def measured(
    bench: Bench, *, seeds: int, candidates: Sequence[Setting] = CANDIDATES, workers: int = 1, tell: bool = False
) -> Result:
    """Everything, of some seeds."""
    begun = time.perf_counter()
    jobs = [(compared_draw, CONTAMINATED), (compared_draw, CLEAN), (ranked_draw, MIXED)]
    tasks: list[Task] = [(job, setting, seed) for job, setting in jobs for seed in range(seeds)]
    tasks += [(headroom_draw, setting, 0) for setting in candidates]
    draws = _all(bench, tasks, workers, tell=tell)
    contaminated_draws, clean, mixed = (draws[k * seeds : (k + 1) * seeds] for k in range(3))
    defects = int((bench.real.kinds != GOOD).sum())
    return Result(
        len(bench.made.sources),
        len(bench.normals),
        defects,
        len(bench.real.kinds) - defects,
        [(setting, [draw]) for setting, draw in zip(candidates, draws[3 * seeds :], strict=True)],
        contaminated_draws,
        clean,
        mixed,
        time.perf_counter() - begun,
    )


_SHARED: list[Bench] = []  # of this process and of those that are forked from it


def _all(bench: Bench, tasks: Sequence[Task], workers: int, *, tell: bool) -> list[Draw]:
    _SHARED[:] = [bench]
    found = []
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) if workers > 1 else nullcontext() as pool:
        for draw in (map if pool is None else pool.map)(_one, tasks):
            found.append(draw)
            if tell:
                sys.stderr.write(f"{len(found)} of {len(tasks)} draws\n")
    return found


def _one(task: Task) -> Draw:
    job, setting, seed = task
    return job(_SHARED[0], setting, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the magnetic-tile set, in MVTec AD's layout")
    parser.add_argument("--corpus", type=Path, help="made with recipes/mtd-detection.yaml; by default it is made here")
    parser.add_argument("--count", type=int, default=600, help="samples of the corpus that is made here")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument(
        "--cache", type=Path, default=Path("build/sqe-worth"), help="folder that keeps corpus and features"
    )
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args()
    torch.set_num_threads(1)  # a second one, where others work, costs more than it brings
    from benchmarks.sqe_worth_report import page, picture

    corpus = options.corpus or _generated(options.cache / "corpus", options.data, options.count)
    config = TrainConfig.model_validate({"optimiser": OPTIMISER})
    bench = prepared(corpus, options.data, config, cache=options.cache / "features", tell=True)
    result = measured(bench, seeds=options.seeds, workers=options.workers, tell=True)
    pictures = options.docs / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    picture(result, pictures / "sqe-worth.png")
    (options.docs / "sqe-worth.md").write_text(page(result), encoding="utf-8")


def _generated(corpus: Path, data: Path, count: int) -> Path:
    """The corpus of the recipe, made or gone on with."""
    command = [sys.executable, "-m", "pipeline.cli", "generate", str(corpus), "--count", str(count), "--workers", "1"]
    recipe = ["--config", "recipes/mtd-detection.yaml"]
    subprocess.run([*command, *recipe], check=True, env={**os.environ, "MTD_ROOT": str(data.resolve())})
    return corpus


if __name__ == "__main__":
    main()
