"""Page and picture of `benchmarks.sqe_worth`, as Markdown and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.sqe_worth import (
    CONTAMINATED,
    ESTIMATORS,
    MEASURES,
    MIXED,
    OPTIMISER,
    Draw,
    Interval,
    Result,
    correlations,
    difference,
    recovered,
    values_of,
)
from benchmarks.sqe_worth_material import KINDS, SOUND
from benchmarks.sqe_worth_utility import JUDGES

__all__ = ["page", "picture"]

mpl.use("Agg")
_COLUMNS = dict(enumerate((*(f"real {name}" for name in MEASURES), "held-out synthetic AP")))
_COLOURS = dict(zip((SOUND, *KINDS), ("#1f5fa8", "#c1272d", "#e0a458", "#7a9a3a", "#8b5fa8"), strict=True))


def page(result: Result) -> str:
    """The whole document."""
    return "\n".join(
        [
            _INTRO.format(
                samples=result.samples,
                normals=result.normals,
                defects=result.defects,
                good=result.good,
                seeds=len(result.contaminated),
                share=f"{100 * CONTAMINATED.share:.0f} %",
                kinds=_names(CONTAMINATED.kinds),
                all_share=f"{100 * MIXED.share:.0f} %",
                all_kinds=_names(MIXED.kinds),
                epochs=OPTIMISER["epochs"],
                batch=OPTIMISER["batch_samples"],
            ),
            *_short(result),
            "",
            _CHOICE,
            *_headroom(result),
            "",
            f"## With {100 * CONTAMINATED.share:.0f} % of the samples corrupted",
            "",
            *_outcome(result.contaminated, contaminated=True),
            "",
            "Share of the gap between equal weights and the oracle's that is recovered; none where there is no gap",
            "beyond chance:",
            "",
            *_recovered(result.contaminated),
            "",
            "## On the clean corpus",
            "",
            *_outcome(result.clean, contaminated=False),
            "",
            _RANKS,
            *_ranks(result),
            "",
            "Mean worth of the groups by kind, 1e-4 of the loss a sample, where all kinds occur:",
            "",
            *_worth(result.mixed),
            "",
            "![Outcome by seed, and what groups are worth over their score](pictures/sqe-worth.png)",
            "",
        ]
    )


def _short(result: Result) -> list[str]:
    """What the tables say, each with whether its interval excludes 0."""
    lines = ["## In short", ""]
    for measure, name in _COLUMNS.items():
        gap = difference(result.contaminated, "oracle", measure)
        controls = (difference(result.contaminated, n, measure, base=f"{n}, shuffled") for n in ESTIMATORS)
        over = ", ".join(f"`{n}` {c}" for n, c in zip(ESTIMATORS, controls, strict=True))
        lines.append(
            f"- Contaminated, {name}: the oracle gains {gap} over equal weights, {_verdict(gap)}; over their shuffled "
            f"controls gain {over}."
        )
    for measure, name in _COLUMNS.items():
        harm = [difference(result.clean, n, measure) for n in ESTIMATORS]
        told = ", ".join(f"`{n}` {found}, {_verdict(found)}" for n, found in zip(ESTIMATORS, harm, strict=True))
        lines.append(f"- Clean corpus, {name}, over equal weights: {told}.")
    for title, draws in (("contaminated", result.contaminated), ("all kinds", result.mixed)):
        for judge in JUDGES:
            found = [correlations(draws, name, judge, of_groups=True, sound=False) for name in ESTIMATORS]
            told = ", ".join(f"`{n}` {f}, {_verdict(f)}" for n, f in zip(ESTIMATORS, found, strict=True))
            lines.append(f"- Rank correlation with the worth of groups, {title}, {judge}: {told}.")
    return lines


def _verdict(found: Interval) -> str:
    return "beyond chance" if found.low > 0 or found.high < 0 else "within chance"


def _names(kinds: Sequence[str]) -> str:
    return ", ".join(f"`{kind}`" for kind in kinds)


def _headroom(result: Result) -> list[str]:
    lines = _heads("corrupted by", "share", "equal weights", "oracle", "gap")
    for setting, draws in result.headroom:
        equal, oracle = (float(np.mean([draw.judged[name] for draw in draws])) for name in ("uniform", "oracle"))
        mark = " (taken)" if (setting.kinds, setting.share) == (CONTAMINATED.kinds, CONTAMINATED.share) else ""
        name = "all of them" if len(setting.kinds) > 1 else _names(setting.kinds)
        lines.append(f"| {name}{mark} | {setting.share:.1f} | {equal:.3f} | {oracle:.3f} | {oracle - equal:+.3f} |")
    return lines


def _outcome(draws: Sequence[Draw], *, contaminated: bool) -> list[str]:
    columns = [part for name in _COLUMNS.values() for part in (name, "over equal weights")]
    lines = _heads("weights", *columns, *(["on corrupted samples"] if contaminated else []))
    for name in draws[0].outcome:
        cells = [name]
        for measure in _COLUMNS:
            gain = str(difference(draws, name, measure)) if name != "uniform" else ""
            cells += [f"{values_of(draws, name, measure).mean():.3f}", gain]
        if contaminated:
            cells.append(f"{np.mean([draw.bad_share[name] for draw in draws]):.3f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _recovered(draws: Sequence[Draw]) -> list[str]:
    lines = _heads("weights", *_COLUMNS.values())
    for name in draws[0].outcome:
        if name not in ("uniform", "oracle"):
            gaps = [difference(draws, "oracle", measure) for measure in _COLUMNS]
            cells = [str(recovered(draws, name, k)) if gap.low > 0 else "no gap" for k, gap in enumerate(gaps)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _ranks(result: Result) -> list[str]:
    judges = [f"{of}, {judge}" for of in ("groups", "samples") for judge in JUDGES]
    lines = _heads("corpus", "estimator", *judges)
    for title, draws, sound in (
        (f"{100 * CONTAMINATED.share:.0f} % {_names(CONTAMINATED.kinds)}", result.contaminated, False),
        ("its sound samples alone", result.contaminated, True),
        (f"{100 * MIXED.share:.0f} %, all kinds", result.mixed, False),
        ("its sound samples alone", result.mixed, True),
    ):
        for estimator in ESTIMATORS:
            cells = [
                str(correlations(draws, estimator, judge, of_groups=of_groups, sound=sound))
                for of_groups in (True, False)
                for judge in JUDGES
            ]
            lines.append(f"| {title} | {estimator} | {' | '.join(cells)} |")
    return lines


def _worth(draws: Sequence[Draw]) -> list[str]:
    lines = _heads("kind", *JUDGES, *(f"mean weight, {name}" for name in ESTIMATORS))
    ranked = [draw.ranked for draw in draws if draw.ranked is not None]
    for kind in (SOUND, *MIXED.kinds):
        own = [(one, one.groups.kinds == kind) for one in ranked if (one.groups.kinds == kind).any()]
        worth = [np.mean([one.groups.utility[judge][at].mean() for one, at in own]) for judge in JUDGES if own]
        scores = [np.mean([one.of_groups[name][at].mean() for one, at in own]) for name in ESTIMATORS if own]
        cells = [f"{1e4 * value:+.2f}" for value in worth] + [f"{value:.2f}" for value in scores]
        lines += [f"| {kind} | {' | '.join(cells)} |"] if own else []
    return lines


def _heads(first: str, *others: str) -> list[str]:
    return [f"| {' | '.join((first, *others))} |", f"|---|{'--:|' * len(others)}"]


# ---------------------------------------------------------------- picture


def picture(result: Result, path: Path) -> None:
    """Outcome of every seed by method; worth of every group over its mean score, for both estimators."""
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    _draw_outcome(axes[0], result.contaminated)
    for axis, estimator in zip(axes[1:], ESTIMATORS, strict=True):
        _draw_groups(axis, result.mixed, estimator)
    axes[2].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)


def _draw_outcome(axis: Axes, draws: Sequence[Draw]) -> None:
    names = list(draws[0].outcome)
    for place, name in enumerate(names):
        values = np.array([draw.outcome[name][0] for draw in draws])
        axis.plot(np.full(len(values), place), values, "o", color="#4a8fd3", alpha=0.6, markersize=5)
        axis.plot([place - 0.3, place + 0.3], [values.mean()] * 2, color="#222222")
    axis.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=8)
    axis.set_ylabel("pixel AP on real defects, head alone")
    axis.set_title(f"{100 * CONTAMINATED.share:.0f} % of the samples corrupted, by seed", fontsize=10)


def _draw_groups(axis: Axes, draws: Sequence[Draw], estimator: str) -> None:
    ranked = [draw.ranked for draw in draws if draw.ranked is not None]
    for kind, colour in _COLOURS.items():
        scores = [one.of_groups[estimator][one.groups.kinds == kind] for one in ranked]
        worth = [1e4 * one.groups.utility[JUDGES[0]][one.groups.kinds == kind] for one in ranked]
        axis.plot(*map(np.concatenate, (scores, worth)), "o", color=colour, alpha=0.6, label=kind, markersize=4)
    axis.axhline(0, color="#bbbbbb", linewidth=0.8)
    axis.set_xlabel(f"mean weight of the group: {estimator}")
    axis.set_ylabel("worth: rise of the held-out loss, 1e-4")
    axis.set_title("all kinds of corruption, groups left out", fontsize=10)


_INTRO = """# What the quality estimator is worth

Made by `python -m benchmarks.sqe_worth --data <mtd>`; do not edit by hand.

**What is learned from.** {samples} samples of `recipes/mtd-detection.yaml` on the {normals} normals of the
magnetic-tile set (Huang, Qiu, Yuan 2018). Sets of photographs that look alike stay together: about a fifth of the
photographs judges, a fifth is the upper level, the rest is trained on. In the contaminated setting {share} of the
samples that are trained on are corrupted by {kinds} (`bisqad/corruptions.py`); for the ranks also {all_share} by all of
{all_kinds}, drawn evenly.

**What validates.** The upper level: sound samples of its own photographs, one mechanism left out of the batch in turn,
and its own normals. No real defect, and nothing of the contaminated samples. `learned (peers)` has none of our samples
there either: on the same photographs CutPaste, CutPaste-Scar, NSA and DRAEM painted the defects.

**What is compared.** Equal weights (`uniform`); the `oracle`, which gives corrupted samples none; as weight the
calibrated quality of the estimator that ships (`shipped`), which has never seen a magnetic tile but was taught with
corruptions of these kinds; and the weights that the upper level `learned`, from a start where all are equal. Beside
each its control: the same weights dealt to other samples. Every head is trained anew with the final weights, from the
same start and in the same order, {epochs} passes in batches of {batch}: about as many steps as a corpus of 1,600
samples gets by default. With fewer a head has no time to learn what is wrong.

**What judges.** {defects} real defects and {good} normals of the set's test part, which took no part in any choice, by
the head alone: measures of every second cell of 4 x 4 pixels each way; a picture's score is the mean of its highest
hundredth. One type, uneven tiles, has 72 % of all defective cells and is none of our mechanisms; beside the average
precision of all cells therefore stands the mean of those of single types, each with all normals. {seeds} seeds; a seed
draws the split, the corruption, the start of the head and the order of batches. Brackets hold 95 % of resamples over
seeds, in pairs.
"""

_CHOICE = """## Where there is something to gain

Average precision on held-out **synthetic** samples and normals, one seed; kind and share of the corruption are those
with the widest gap in this table. (A first look, at a share of 0.8, one seed, found a gap on synthetic samples alone,
and none in the pixel AP of real defects, 0.149 against 0.148; 0.9 and the mean of types were added after it, 0.9 by the
synthetic gap that it has.) Most wrong labels do a head no harm: a mask that is shifted or has another size still
marks mostly defect, or its near surroundings.
"""

_RANKS = """## Does the score tell what a sample is worth?

A group is all samples of one mechanism and one kind of corruption (sound ones in four parts at random): what is known
of them without any estimator. Its worth is the rise of the loss without it, for each of its samples, at the exact
optimum of a convex last layer on the frozen features (`bisqad/convex.py`); a sample's is the exact derivative of that
loss by its weight. Spearman's correlation with the score, mean over seeds; brackets hold 95 % of resamples over seeds
and groups or samples. Held-out synthetic: sound samples and normals that neither level saw. Real defects: the test
part.
"""
