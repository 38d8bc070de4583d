"""How near the pictures of our defects are to real ones, stage by stage, beside other generators.

Run with::

    python -m benchmarks.fidelity --data ../shared/data/mtd              # judge; page and pictures in docs/
    python -m benchmarks.fidelity --data ../shared/data/mtd --fit        # the same on the other half, for choosing
    python -m benchmarks.fidelity --data ... --corpus PATH               # judge a corpus that is there already

One corpus keeps its stages (naive paste, render, npcF, and the final npcF++), so that all four show the same defects on
the same photographs and their differences are judged in pairs. Real cracks and blowholes are halved by tile as in
`benchmarks.realism`: whatever is chosen is chosen with ``--fit``, on one half; the other judges.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.fidelity_classifier import Pairs, Side, cross_validate, fit_cnn, fit_logistic, importance
from benchmarks.fidelity_continuity import NAMES as CONTINUITY
from benchmarks.fidelity_continuity import continuity
from benchmarks.fidelity_distances import Interval, Table, group_weights, interval, resample_weights, table
from benchmarks.fidelity_samples import (
    MECHANISMS,
    STAGES,
    Real,
    Shot,
    copy_matched_normals,
    corpus_shots,
    matched,
    normal_shots,
    patch_window,
    read_real,
    sound_shots,
    target_of,
)
from benchmarks.fidelity_statistics import GROUPS, NAMES, columns, measure
from benchmarks.peers import cutpaste, defect_synthesis, draem, nsa
from benchmarks.peers.painter import Painter
from manifests import Corpus
from pipeline.generate import generate
from pipeline.recipe import Recipe, load_recipe, only_mechanisms

__all__ = [
    "JUDGES",
    "METRICS",
    "Continuity",
    "Giveaway",
    "Judgement",
    "Measured",
    "Result",
    "Sizes",
    "judge",
    "measured",
]

Floats = NDArray[np.float64]

PAINTERS: tuple[Painter, ...] = (
    cutpaste.CUTPASTE,
    cutpaste.CUTPASTE_SCAR,
    nsa.NSA,
    draem.DRAEM,
    defect_synthesis.PAINTED,
)
FLOOR = "sound patches of the defects' photographs / of normals"
FLOOR_NORMALS = "normals to test / normals to train"
APPEARANCE = ("edge", "profile", "contrast", "texture", "spectrum")
METRICS = ("KID, backbone", "energy, backbone", "energy, statistics", *(f"energy, {g}" for g in (*APPEARANCE, "shape")))
JUDGES = ("logistic, backbone", "logistic, statistics", "convolutional")
_ROOT = Path(__file__).resolve().parent.parent
_SEED = 5


@dataclass(frozen=True)
class Sizes:
    """How much is made and drawn."""

    samples: int = 440  # of the corpus on tiles, both mechanisms together
    embedded: int = 100  # of the corpus on embedded sources, five mechanisms together
    each: int = 2  # made defects for every real one
    resamples: int = 400
    folds: int = 4
    seeds: int = 3
    cnn_seeds: int = 2


@dataclass(frozen=True)
class Measured:
    """Shots of one method with all that is measured of them.

    Attributes
    ----------
    name : str
        Of the method.
    shots : tuple of Shot
        N of them.
    statistics : (N, len(NAMES)) array
        Image statistics.
    deep : (N, D) array
        Backbone features of the defect and of its rim, less those of the surroundings.
    patches : (N, P, P) uint8 array
        Grey patches.
    """

    name: str
    shots: tuple[Shot, ...]
    statistics: Floats
    deep: Floats
    patches: NDArray[np.uint8]

    @property
    def groups(self) -> NDArray[np.str_]:
        return np.array([shot.group for shot in self.shots])

    @property
    def kinds(self) -> NDArray[np.str_]:
        return np.array([shot.kind for shot in self.shots])

    def rows(self, which: Sequence[int] | NDArray[np.int64]) -> Measured:
        """Some of the shots."""
        k = np.asarray(which, dtype=np.int64)
        shots = tuple(self.shots[j] for j in k)
        return Measured(self.name, shots, self.statistics[k], self.deep[k], self.patches[k])


def measured(name: str, shots: Sequence[Shot]) -> Measured:
    """Measure shots: statistics, backbone features, patches."""
    from benchmarks.backbone import CHANNELS, pooled_features

    torch.set_num_threads(1)
    found = [measure(shot) for shot in shots]
    patches = np.stack([shot.grey[patch_window(shot)] for shot in shots]).round().astype(np.uint8)
    pooled = pooled_features(patches, np.stack([zones for _, zones in found]))
    deep = (pooled[:, :2] - pooled[:, 2:]).reshape(len(shots), 2 * CHANNELS)
    return Measured(name, tuple(shots), np.array([numbers for numbers, _ in found]), deep, patches)


@dataclass(frozen=True)
class Judgement:
    """What is said of a method: figures by metric and by judge, and the resamples that pairs are compared with.

    ``metrics`` are multiples of real against real, ``excess`` the unbiased distances, ``aurocs`` 0.5 for chance.
    """

    name: str
    metrics: Mapping[str, Interval]
    excess: Mapping[str, Interval]
    aurocs: Mapping[str, Interval]
    resampled: Mapping[str, Floats]  # of every metric's multiple and every judge's AUROC


@dataclass(frozen=True)
class _Prepared:
    """Resamples of one test: the same real tiles for every method."""

    real: Measured
    scored: NDArray[np.bool_]
    scale: tuple[Floats, Floats, Floats, Floats]  # middle and spread of statistics, of backbone features


def _scale(real: Measured, rows: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats, Floats]:
    """Middle and spread, one vote a tile, of the half that chooses."""
    out = []
    w = group_weights([g for g, r in zip(real.groups, rows, strict=True) if r])
    for x in (real.statistics[rows], real.deep[rows]):
        middle = w @ x
        spread = np.sqrt(w @ np.square(x - middle))
        out += [middle, np.maximum(spread, 0.1 * np.median(spread))]
    return out[0], out[1], out[2], out[3]


def judge(
    real: Measured,
    scored: NDArray[np.bool_],
    made: Sequence[Measured],
    *,
    sizes: Sizes,
    run: Callable[[Sequence[Callable[[], Pairs]]], list[Pairs]] | None = None,
) -> list[Judgement]:
    """Judge methods against the scored half of the real defects.

    Parameters
    ----------
    real : Measured
        All real defects that may be used.
    scored : (N,) bool array
        Those that judge; the others give the scales and help to train the classifiers.
    made : sequence of Measured
        Methods; those that show the same samples have the same groups in the same order, and share resamples.
    sizes : Sizes
        Numbers of resamples, folds, seeds.
    run : callable, optional
        Runs a list of trainings, for example in several processes.
    """
    prepared = _Prepared(real, scored, _scale(real, ~scored if (~scored).any() else scored))
    jobs = [job for method in made for job in _trainings(prepared, method, sizes)]
    pairs = run(jobs) if run else [job() for job in jobs]
    return [
        _judge_one(prepared, method, pairs[len(JUDGES) * k : len(JUDGES) * (k + 1)], sizes)
        for k, method in enumerate(made)
    ]


def _trainings(prepared: _Prepared, made: Measured, sizes: Sizes) -> list[Callable[[], Pairs]]:
    real = prepared.real
    everything = np.ones(len(made.shots), dtype=np.bool_)
    own = columns(*APPEARANCE)
    inputs: list[tuple[Floats | NDArray[np.uint8], Floats | NDArray[np.uint8]]] = [
        (real.deep, made.deep),
        (real.statistics[:, own], made.statistics[:, own]),
        (real.patches, made.patches),
    ]
    fits = (fit_logistic, fit_logistic, fit_cnn)
    seeds = (sizes.seeds, sizes.seeds, sizes.cnn_seeds)
    return [
        partial(
            cross_validate,
            Side(x, real.groups, real.kinds, prepared.scored),
            Side(y, made.groups, made.kinds, everything),
            fit,
            folds=sizes.folds,
            seeds=range(number),
        )
        for (x, y), fit, number in zip(inputs, fits, seeds, strict=True)
    ]


def _tables(prepared: _Prepared, made: Measured) -> dict[str, dict[str, Table]]:
    """Tables by metric and kind of defect."""
    real = prepared.real.rows(np.flatnonzero(prepared.scored))
    m_stat, s_stat, m_deep, s_deep = prepared.scale
    out: dict[str, dict[str, Table]] = {name: {} for name in METRICS}
    for kind in np.unique(real.kinds):
        r, m = real.kinds == kind, made.kinds == kind
        stats = [np.clip((x - m_stat) / s_stat, -6, 6) for x in (real.statistics[r], made.statistics[m])]
        deep = [np.clip((x - m_deep) / s_deep, -6, 6) for x in (real.deep[r], made.deep[m])]
        both = (list(real.groups[r]), list(made.groups[m]))
        out["KID, backbone"][kind] = table(deep[0], deep[1], *both, "kid")
        out["energy, backbone"][kind] = table(deep[0], deep[1], *both, "energy")
        own = columns(*APPEARANCE)
        out["energy, statistics"][kind] = table(stats[0][:, own], stats[1][:, own], *both, "energy")
        for group in (*APPEARANCE, "shape"):
            c = columns(group)
            out[f"energy, {group}"][kind] = table(stats[0][:, c], stats[1][:, c], *both, "energy")
    return out


def _yardstick(found: Table, groups: NDArray[np.str_]) -> float:
    return found.yardstick(group_weights(list(groups)), len(np.unique(groups)))


def _judge_one(prepared: _Prepared, made: Measured, pairs: Sequence[Pairs], sizes: Sizes) -> Judgement:
    real, scored = prepared.real, prepared.scored
    tables = _tables(prepared, made)
    rows = {kind: scored & (real.kinds == kind) for kind in np.unique(real.kinds[scored])}
    base = {
        name: float(np.mean([_yardstick(t, real.groups[rows[kind]]) for kind, t in by_kind.items()]))
        for name, by_kind in tables.items()
    }

    def figures(weigh: Callable[[Sequence[str]], Floats]) -> dict[str, float]:
        w, v = np.zeros(len(real.shots)), np.zeros(len(made.shots))
        for kind, row in rows.items():
            own = made.kinds == kind
            w[row], v[own] = weigh(list(real.groups[row])), weigh(list(made.groups[own]))
        out = {}
        for name, by_kind in tables.items():
            far = [t.excess(w[rows[kind]], v[made.kinds == kind]) for kind, t in by_kind.items()]
            out[name] = float(np.mean(far))
        for name, told in zip(JUDGES, pairs, strict=True):
            out[name] = float(np.mean([told.auroc(w * row, v) for row in rows.values()]))
        return out

    rng = np.random.default_rng(_SEED)  # the same draws for methods that show the same samples
    middle = figures(group_weights)
    drawn = [figures(partial(resample_weights, rng=rng)) for _ in range(sizes.resamples)]
    again = {name: np.array([d[name] for d in drawn]) for name in middle}
    resampled = {name: (1 + x / base[name] if name in base else x) for name, x in again.items()}
    return Judgement(
        name=made.name,
        metrics={n: interval(1 + middle[n] / base[n], resampled[n]) for n in METRICS},
        excess={n: interval(middle[n], again[n]) for n in METRICS},
        aurocs={n: interval(middle[n], again[n]) for n in JUDGES},
        resampled=resampled,
    )


@dataclass(frozen=True)
class Giveaway:
    """A group of statistics: AUROC with it alone, and what is lost when it is shuffled."""

    name: str
    alone: float
    loss: float


@dataclass(frozen=True)
class Continuity:
    """A method on embedded sources: means with intervals by measure, and the values of every sample."""

    name: str
    means: Mapping[str, Interval]
    values: Floats
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """All that the page shows."""

    fit: bool
    real: Measured
    scored: NDArray[np.bool_]
    stages: tuple[Measured, ...]
    peers: tuple[Measured, ...]
    judgements: tuple[Judgement, ...]  # stages, then peers
    floors: tuple[Judgement, ...]
    giveaways: tuple[Giveaway, ...]
    single: tuple[Giveaway, ...]
    embedded: tuple[Continuity, ...]
    seconds: float


# ---------------------------------------------------------------- making


def make_corpus(out: Path, recipe: Recipe, *, workers: int) -> Corpus:
    """Generate a corpus that keeps its stages."""
    generate(out, recipe, workers=workers)
    return Corpus(out)


def tile_recipe(path: Path, normals: Path, count: int, like: Sequence[Shot]) -> Recipe:
    """The recipe of the tiles, on these normals, told the areas of ``like`` as the peers are, with all stages kept."""
    os.environ["MTD_ROOT"] = str(normals)
    recipe = only_mechanisms(load_recipe(path, overrides={"count": count}), list(MECHANISMS))
    told = {}
    for mechanism, kind in MECHANISMS.items():
        low, high = target_of([s for s in like if s.kind == kind]).area
        told[mechanism] = {
            **recipe.params(mechanism).model_dump(),
            "area": {"kind": "loguniform", "low": low, "high": high},
        }
    return _with_stages(Recipe.model_validate({**recipe.model_dump(), "mechanisms": told}))


def embedded_recipe(path: Path, count: int) -> Recipe:
    """The recipe of the demo with all stages kept."""
    return _with_stages(load_recipe(path, overrides={"count": count}))


def _with_stages(recipe: Recipe) -> Recipe:
    content = recipe.model_dump()
    return Recipe.model_validate({**content, "store": {**content["store"], "stages": ("paste", "render", "npcf")}})


def paint(painter: Painter, shots: Sequence[Shot], like: Sequence[Shot]) -> list[Shot]:
    """A painter's defects on the photographs of ``shots``, of the same kinds, told the sizes of ``like``."""
    targets = {kind: target_of([s for s in like if s.kind == kind]) for kind in {s.kind for s in shots}}
    rng = np.random.default_rng(_SEED)
    done = painter.paint([s.image for s in shots], [s.kind for s in shots], targets, rng)
    return [replace(s, image=d.image, mask=d.mask) for s, d in zip(shots, done, strict=True) if d.mask.any()]


def _sources_of(corpus: Corpus, kinds: Mapping[str, str] | None) -> list[Shot]:
    """The photographs without their defects, with the labels that they got."""
    return corpus_shots(corpus, kinds, source=True)["source"]


# ---------------------------------------------------------------- the whole


def evaluate(options: argparse.Namespace, sizes: Sizes) -> Result:
    """Make, measure and judge everything."""
    start = time.monotonic()
    real = read_real(options.data)
    if options.fit:  # the judging half is not even looked at
        real = Real(tuple(s for s, j in zip(real.shots, real.judging, strict=True) if not j), np.empty(0, np.bool_))
    scored = np.ones(len(real.shots), dtype=np.bool_) if options.fit else real.judging
    choosing = [s for s, j in zip(real.shots, scored, strict=True) if options.fit or not j]
    with tempfile.TemporaryDirectory() as name, _processes(options.workers) as pool:
        scratch = Path(name)
        normals = copy_matched_normals(options.data, real, scratch / "normals")
        corpus = (
            Corpus(options.corpus)
            if options.corpus
            else make_corpus(
                scratch / "tiles",
                tile_recipe(options.recipe, normals, sizes.samples, choosing),
                workers=options.workers,
            )
        )
        made, peers = _all_shots(corpus, real, choosing, sizes)
        rng = np.random.default_rng(_SEED)
        like = list(real.shots)
        jobs = {
            "real": list(real.shots),
            **made,
            **peers,
            "sound": sound_shots(like, rng),
            "train": normal_shots(normals, like, rng),
            "test": normal_shots(options.data, like, rng, split="test"),
        }
        found = dict(zip(jobs, pool.map(measured, jobs, jobs.values()), strict=True))
        print(f"measured after {time.monotonic() - start:.0f} s", flush=True)
        run = partial(_in_processes, pool)
        names = [*made, *peers]
        judgements = judge(found["real"], scored, [found[n] for n in names], sizes=sizes, run=run)
        floors = _floors(found, scored, real, sizes, run)
        final = found[list(made)[-1]]
        own = found["real"].rows(np.flatnonzero(scored if options.fit else ~scored))
        giveaways, single = _giveaways(own, final, sizes, pool)
        print(f"judged after {time.monotonic() - start:.0f} s", flush=True)
        embedded = _embedded(options, scratch, sizes, pool)
    return Result(
        fit=bool(options.fit),
        real=found["real"],
        scored=scored,
        stages=tuple(found[n] for n in made),
        peers=tuple(found[n] for n in peers),
        judgements=tuple(judgements),
        floors=tuple(floors),
        giveaways=tuple(giveaways),
        single=tuple(single),
        embedded=tuple(embedded),
        seconds=time.monotonic() - start,
    )


def _processes(workers: int) -> ProcessPoolExecutor:
    """Fresh processes: threads of torch do not outlive a fork."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _in_processes(pool: ProcessPoolExecutor, jobs: Sequence[Callable[[], Pairs]]) -> list[Pairs]:
    return [future.result() for future in [pool.submit(_one_thread, job) for job in jobs]]


def _one_thread(job: Callable[[], Pairs]) -> Pairs:
    torch.set_num_threads(1)
    return job()


def _all_shots(
    corpus: Corpus, real: Real, choosing: Sequence[Shot], sizes: Sizes
) -> tuple[dict[str, list[Shot]], dict[str, list[Shot]]]:
    """Shots by stage and by peer, matched to the real ones."""
    every = corpus_shots(corpus, MECHANISMS)
    chosen = matched(real.shots, every["npcfpp"], each=sizes.each)
    stages = {STAGES[name]: [shots[k] for k in chosen] for name, shots in every.items()}
    sources = _sources_of(corpus, MECHANISMS)
    peers = {}
    for painter in PAINTERS:
        drawn = paint(painter, sources, choosing)
        peers[painter.name] = [drawn[k] for k in matched(real.shots, drawn, each=sizes.each)]
    return stages, peers


def _floors(
    found: Mapping[str, Measured],
    scored: NDArray[np.bool_],
    real: Real,
    sizes: Sizes,
    run: Callable[[Sequence[Callable[[], Pairs]]], list[Pairs]],
) -> list[Judgement]:
    """Patches without defects told apart: what backgrounds alone give away."""
    sound = found["sound"]
    judging = {shot.group for shot, j in zip(real.shots, scored, strict=True) if j}
    rows = np.array([group in judging for group in sound.groups])
    train = replace(found["train"], name=FLOOR)
    test = found["test"]
    everything = np.ones(len(test.shots), dtype=np.bool_)
    return [
        *judge(sound, rows, [train], sizes=sizes, run=run),
        *judge(test, everything, [replace(train, name=FLOOR_NORMALS)], sizes=sizes, run=run),
    ]


def _giveaways(
    real: Measured, made: Measured, sizes: Sizes, pool: ProcessPoolExecutor
) -> tuple[list[Giveaway], list[Giveaway]]:
    """By group of statistics, and by single statistic, on the half that chooses: the passes may be changed by them."""
    sides = (
        Side(real.statistics, real.groups, real.kinds, np.ones(len(real.shots), dtype=np.bool_)),
        Side(made.statistics, made.groups, made.kinds, np.ones(len(made.shots), dtype=np.bool_)),
    )
    told = partial(importance, *sides, folds=sizes.folds, seeds=range(sizes.seeds))
    tasks = [
        pool.submit(told, list(GROUPS), [columns(g) for g in GROUPS]),
        pool.submit(told, NAMES, [[k] for k in range(len(NAMES))]),
    ]
    by_group, by_name = ([Giveaway(*row) for row in task.result()] for task in tasks)
    return by_group, sorted(by_name, key=lambda g: -abs(g.alone - 0.5))


def _embedded(options: argparse.Namespace, scratch: Path, sizes: Sizes, pool: ProcessPoolExecutor) -> list[Continuity]:
    """Continuity with the surrounding material on the embedded sources, stages and peers."""
    corpus = (
        Corpus(options.embedded_corpus)
        if options.embedded_corpus
        else make_corpus(
            scratch / "embedded", embedded_recipe(options.embedded_recipe, sizes.embedded), workers=options.workers
        )
    )
    every = corpus_shots(corpus, source=True)
    plain = every.pop("source")
    tasks: dict[str, tuple[list[Shot], list[Shot]]] = {STAGES[s]: (shots, plain) for s, shots in every.items()}
    for painter in PAINTERS:
        tasks[painter.name] = _paint_by_category(painter, plain)
    shown = [shots for shots, _ in tasks.values()]
    values = pool.map(continuity, shown, [sources for _, sources in tasks.values()])
    return [
        _with_intervals(name, found, tuple(s.group for s in shots), sizes)
        for (name, (shots, _)), found in zip(tasks.items(), values, strict=True)
    ]


def _paint_by_category(painter: Painter, plain: Sequence[Shot]) -> tuple[list[Shot], list[Shot]]:
    """Painted shots, told the sizes of ours, with patches from their own category; and what was there before."""
    targets = {kind: target_of([s for s in plain if s.kind == kind]) for kind in {s.kind for s in plain}}
    rng = np.random.default_rng(_SEED)
    after: list[Shot] = []
    before: list[Shot] = []
    for category in sorted({_category(s) for s in plain}):
        own = [s for s in plain if _category(s) == category]
        for s, d in zip(own, painter.paint([s.image for s in own], [s.kind for s in own], targets, rng), strict=True):
            if d.mask.any():
                after.append(replace(s, image=d.image, mask=d.mask))
                before.append(replace(s, mask=d.mask))
    return after, before


def _category(shot: Shot) -> str:
    return shot.group.rsplit("-", 1)[0]


def _with_intervals(name: str, values: Floats, groups: tuple[str, ...], sizes: Sizes) -> Continuity:
    rng = np.random.default_rng(_SEED)
    again = np.array([resample_weights(groups, rng) @ values for _ in range(sizes.resamples)])
    middle = group_weights(groups) @ values
    means = {c: interval(float(middle[k]), again[:, k]) for k, c in enumerate(CONTINUITY)}
    return Continuity(name, means, values, groups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mtd in MVTec AD layout")
    parser.add_argument("--out", type=Path, default=_ROOT / "docs", help="where fidelity.md and pictures/ are written")
    parser.add_argument("--recipe", type=Path, default=_ROOT / "recipes" / "mtd.yaml")
    parser.add_argument("--embedded-recipe", type=Path, default=_ROOT / "recipes" / "demo.yaml")
    parser.add_argument("--corpus", type=Path, help="judge this corpus on tiles instead of making one")
    parser.add_argument("--embedded-corpus", type=Path, help="the same for embedded sources")
    parser.add_argument("--fit", action="store_true", help="judge on the half that chooses parameters; writes no page")
    parser.add_argument("--samples", type=int, default=Sizes.samples, help="samples of the corpus on tiles")
    parser.add_argument("--embedded", type=int, default=Sizes.embedded, help="samples on embedded sources")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1), help="processes")
    options = parser.parse_args()
    result = evaluate(options, Sizes(samples=options.samples, embedded=options.embedded))
    from benchmarks.fidelity_report import page, pictures

    text = page(result)
    print(text)
    if not options.fit:
        (options.out / "pictures").mkdir(parents=True, exist_ok=True)
        pictures(result, options.out / "pictures")
        (options.out / "fidelity.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
