"""Page and pictures of `benchmarks.fidelity`, as Markdown and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.fidelity import JUDGES, METRICS, Judgement, Measured, Result
from benchmarks.fidelity_continuity import NAMES as CONTINUITY
from benchmarks.fidelity_distances import Interval, interval, resample_weights
from benchmarks.fidelity_samples import patch_window
from benchmarks.fidelity_statistics import NAMES, PROFILE_PX

__all__ = ["page", "pictures"]

Floats = NDArray[np.float64]

mpl.use("Agg")
_MAIN = METRICS[:3]
_SINGLE = METRICS[3:]
_SHOWN = 10
_SHOWN_PX = 48
_ZOOM = 4
_COLOURS = ("#b9b9b9", "#e0a458", "#4a8fd3", "#c1272d")
_RESAMPLES = 400
_INTRO = """# Fidelity of the pictures

Made by `python -m benchmarks.fidelity --data <mtd>`; do not edit by hand.

How near are made defects to real ones, once the mask is settled (docs/realism.md judges that)? Real ones are the
cracks and blowholes of the magnetic-tile set (Huang, Qiu, Yuan 2018). **One corpus keeps its stages**, so naive paste,
render, + npcF and + npcF++ show the same defects on the same photographs, and differences between stages are judged in
pairs. Ours are told the real areas, of the half that chooses; peers paint on the same photographs and are told the
same areas, lengths and widths, which the methods as published do not know: CutPaste and CutPaste-Scar (Li et al.
2021), Poisson cloning of other normals with mixed gradients (NSA, Schlueter et al. 2022), thresholded Perlin noise
filled with textures (DRAEM, Zavrtanik et al. 2021), and the package `defect-synthesis` from PyPI.

**What does not count.** Real photographs are read as ours are: grey, cropped square, resampled to 256. Normals are
chosen to match the defects' photographs in size, brightness and finest detail, one for one. To each real defect belong
the {each} made ones of its kind that are nearest in area, elongation, size of the photograph and distance from its
border. Patches are 64 px around the middle of the defect. What backgrounds alone give away is measured on patches
without defects, in the last rows of the table: nothing can be expected to get below that.

**Halves.** Tiles are halved as in `benchmarks.realism`. Parameters are chosen on one half (`--fit`), the other judges.
Every tile and every photograph has one vote, however many exposures or samples there are of it, and pairs within one
never count. Brackets hold 90 % of resamples over tiles and photographs.

- **KID, energy, backbone**: EfficientNet-Lite0 (ImageNet; blocks 2, 4, 10), averaged over the defect and over its rim,
  less the average over the surroundings. KID is the unbiased squared maximum mean discrepancy with a cubic kernel;
  energy is the energy distance of Szekely and Rizzo. Both as multiples of real against real (two samples of as many
  tiles as the judging half has, of one distribution): 1 cannot be told from real.
- **energy, statistics**: the same in image statistics of the edge, the brightness profile across it, contrast, texture
  and spectrum, each against the surroundings. The outline is found again in the picture, in real and made ones alike,
  so that labels drawn by brush play no part. `benchmarks/fidelity_statistics.py` defines them.
- **AUROC** of telling made from real, 0.5 being chance: logistic regression on the backbone features, on the
  statistics, and a small convolutional network on raw patches. Folds are drawn by tile and photograph; tiles of the
  choosing half help to train the classifier but are never scored; only pairs of one kind are compared. With so few
  tiles a classifier may learn the tiles it has seen: below 0.5 means that real tiles differ more from each other than
  from made ones."""


def page(result: Result) -> str:
    """The whole document."""
    return "\n".join(
        [
            _INTRO.replace("{each}", _number_word(result)),
            *_counts(result),
            "",
            *_main_table(result),
            "",
            *_steps(result),
            "",
            *_singles(result),
            "",
            *_giveaways(result),
            "",
            *_embedded(result),
            "",
            *_short(result),
            "",
            *_links(),
            "",
            f"The whole run took {result.seconds / 60:.1f} minutes.",
            "",
        ]
    )


def _number_word(result: Result) -> str:
    share = len(result.stages[-1].shots) / len(result.real.shots)
    return {1: "one", 2: "two", 3: "three"}.get(round(share), f"{share:.0f}")


def _counts(result: Result) -> list[str]:
    parts = []
    for kind in np.unique(result.real.kinds):
        own = result.real.kinds == kind
        groups = result.real.groups
        parts.append(
            f"{own.sum()} real {kind}s of {len(np.unique(groups[own]))} tiles, of which "
            f"{(own & result.scored).sum()} of {len(np.unique(groups[own & result.scored]))} tiles judge"
        )
    half = " **On the half that chooses parameters.**" if result.fit else ""
    return [
        f"{'; '.join(parts)}. So few tiles make wide intervals; the paired differences below are much sharper, since "
        f"stages differ in nothing but the pass.{half}"
    ]


def _cell(found: Interval) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _main_table(result: Result) -> list[str]:
    lines = [
        "## Distance to real, and how easily told from it",
        "",
        "| | " + " | ".join([*(f"{m}" for m in _MAIN), *(f"AUROC {j}" for j in JUDGES)]) + " |",
        "|---" + "|--:" * (len(_MAIN) + len(JUDGES)) + "|",
    ]
    for j in (*result.judgements, *result.floors):
        cells = [_cell(j.metrics[m]) for m in _MAIN] + [_cell(j.aurocs[n]) for n in JUDGES]
        lines.append(f"| {j.name} | " + " | ".join(cells) + " |")
    return lines


def _steps(result: Result) -> list[str]:
    """Differences between successive stages on the same resamples; below 0 is nearer to real."""
    found = result.judgements[: len(result.stages)]
    if len(found) < 2:
        return ["This corpus keeps no stages: nothing to compare in pairs."]
    pairs = [*pairwise(found), (found[0], found[-1])]
    names = (*_MAIN, *JUDGES)
    lines = [
        "## What each pass does",
        "",
        "Paired differences, the later stage less the earlier, over the same resamples of tiles and photographs. "
        "Below 0 is nearer to real; bold where 90 % of resamples agree.",
        "",
        "| | " + " | ".join(names) + " |",
        "|---" + "|--:" * len(names) + "|",
    ]
    for before, after in pairs:
        cells = []
        for name in names:
            difference = _value(after, name).value - _value(before, name).value
            gap = interval(difference, after.resampled[name] - before.resampled[name])
            cells.append(f"**{_cell(gap)}**" if gap.sure else _cell(gap))
        lines.append(f"| {after.name} less {before.name} | " + " | ".join(cells) + " |")
    return lines


def _value(judgement: Judgement, name: str) -> Interval:
    return judgement.metrics[name] if name in judgement.metrics else judgement.aurocs[name]


def _singles(result: Result) -> list[str]:
    lines = [
        "## Groups of statistics alone",
        "",
        "Energy distance as a multiple of real against real; the lowest in bold.",
        "",
        "| | " + " | ".join(name.removeprefix("energy, ") for name in _SINGLE) + " |",
        "|---" + "|--:" * len(_SINGLE) + "|",
    ]
    best = {m: min(j.metrics[m].value for j in result.judgements) for m in _SINGLE}
    for j in result.judgements:
        cells = [
            f"**{j.metrics[m].value:.2f}**" if j.metrics[m].value == best[m] else f"{j.metrics[m].value:.2f}"
            for m in _SINGLE
        ]
        lines.append(f"| {j.name} | " + " | ".join(cells) + " |")
    return lines


def _giveaways(result: Result) -> list[str]:
    final = result.stages[-1]
    lines = [
        f"## What gives {final.name} away",
        "",
        "**On the half that chooses parameters**, since passes may be changed by what stands here. The logistic judge "
        "with one group of statistics alone, and what it loses when the group is shuffled among the scored patches; "
        "then single statistics, the most telling first, with their medians.",
        "",
        "| group | AUROC alone | loss when shuffled |",
        "|---|--:|--:|",
    ]
    lines += [f"| {g.name} | {g.alone:.2f} | {g.loss:+.2f} |" for g in result.giveaways]
    lines += [
        "",
        "| statistic | AUROC alone | loss when shuffled | real (spread) | "
        + " | ".join(s.name for s in result.stages)
        + " |",
        "|---|--:|--:|--:" + "|--:" * len(result.stages) + "|",
    ]
    for g in [s for s in result.single if s.alone > 0.5][:14]:
        k = NAMES.index(g.name)
        real = result.real.statistics[result.scored if result.fit else ~result.scored, k]
        medians = " | ".join(f"{np.median(stage.statistics[:, k]):.2f}" for stage in result.stages)
        lines.append(
            f"| {g.name} | {g.alone:.2f} | {g.loss:+.3f} | {np.median(real):.2f} ({real.std():.2f}) | {medians} |"
        )
    return lines


def _embedded(result: Result) -> list[str]:
    lines = [
        "## Embedded sources: how the material runs on",
        "",
        "There are no real defects on the embedded sources. Measured is the material at the label against its "
        "surroundings and against the same place of the untouched photograph: energy of wavelet details (finest first) "
        "within the label and across its outline, as log2 of a ratio; width of the outline's edge against the "
        "photograph's own sharpest edges, as log2 (0: as sharp as the camera sees); agreement of the grain's "
        "direction. A defect has a right to differ from the material, so 0 is no goal in itself; a fill without any "
        "grain, or an edge sharper than the optics, is wrong.",
        "",
        "| | " + " | ".join(CONTINUITY) + " |",
        "|---" + "|--:" * len(CONTINUITY) + "|",
    ]
    lines += [f"| {c.name} | " + " | ".join(_cell(c.means[m]) for m in CONTINUITY) + " |" for c in result.embedded]
    return lines


def _short(result: Result) -> list[str]:
    """In words: what got nearer, what did not, what falls short."""
    judgements = {j.name: j for j in result.judgements}
    stages = [judgements[s.name] for s in result.stages]
    final = stages[-1]
    lines = ["## What falls short", ""]
    for name in (*_MAIN, *JUDGES):
        own = _value(final, name)
        parts = [f"- **{name}**: {_cell(own)}"]
        worse = [
            f"{after.name} ({_value(before, name).value:.2f} to {_value(after, name).value:.2f})"
            for before, after in pairwise(stages)
            if _value(after, name).value > _value(before, name).value
        ]
        if worse:
            parts.append(f"not lowered by {', '.join(worse)}")
        nearer = [p.name for p in result.peers if _value(judgements[p.name], name).value < own.value]
        parts.append(f"nearer than ours: {', '.join(nearer)}" if nearer else "no peer is nearer")
        if name in JUDGES and result.floors:
            floor = result.floors[0].aurocs[name].value
            parts.append(f"backgrounds alone give {floor:.2f}")
        lines.append("; ".join(parts) + ".")
    return lines


def _links() -> list[str]:
    return [
        "## Pictures",
        "",
        "![Distances and AUROC with intervals](pictures/fidelity-bars.png)",
        "",
        "![Edge, profile, spectrum and grain by stage](pictures/fidelity-ablation.png)",
        "",
        "Real and made defects, four times enlarged, each divided by the brightness of its patch:",
        "",
        "![Cracks](pictures/fidelity-cracks.png)",
        "",
        "![Pits](pictures/fidelity-pits.png)",
    ]


# ---------------------------------------------------------------- pictures


def pictures(result: Result, folder: Path) -> None:
    """All pictures of the page."""
    for kind in ("crack", "pit"):
        _strips(result, kind, folder / f"fidelity-{kind}s.png")
    _bars(result, folder / "fidelity-bars.png")
    _ablation(result, folder / "fidelity-ablation.png")


def _strips(result: Result, kind: str, path: Path) -> None:
    """Rows of patches: the real ones of the judging half, one tile after the other, then every method."""
    real = result.real.rows(np.flatnonzero((result.real.kinds == kind) & result.scored))
    rows = [("real", _spread(real))]
    rows += [(m.name, _spread(m.rows(np.flatnonzero(m.kinds == kind)))) for m in (*result.stages, *result.peers)]
    side, head = _SHOWN_PX * _ZOOM, 18
    canvas = Image.new("L", (_SHOWN * (side + 4), len(rows) * (side + head + 4)), 255)
    pen = ImageDraw.Draw(canvas)
    for r, (name, patches) in enumerate(rows):
        top = r * (side + head + 4)
        pen.text((4, top + 3), name, fill=0)
        for c, patch in enumerate(patches):
            enlarged = Image.fromarray(patch).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(enlarged, (c * (side + 4), top + head))
    canvas.quantize(64).save(path, optimize=True)


def _spread(method: Measured) -> list[NDArray[np.uint8]]:
    """Up to ten patches of different groups, evenly taken, with a common mean brightness."""
    _, first = np.unique(method.groups, return_index=True)
    rest = [k for k in range(len(method.shots)) if k not in set(first)]
    order = [*first, *rest] if len(first) < _SHOWN else [int(first[k]) for k in _evenly(len(first), _SHOWN)]
    out = []
    for k in order[:_SHOWN]:
        shot = method.shots[k]
        patch = shot.grey[patch_window(shot, _SHOWN_PX)]
        out.append(np.clip(patch * (120 / max(float(np.median(patch)), 8.0)), 0, 255).astype(np.uint8))
    return out


def _evenly(count: int, wanted: int) -> list[int]:
    return [int(k) for k in np.linspace(0, count - 1, wanted).round()]


def _bars(result: Result, path: Path) -> None:
    names = (*_MAIN, *JUDGES)
    figure, axes = plt.subplots(2, 3, figsize=(15, 8), layout="constrained", sharey=True)
    shown = (*result.judgements, *result.floors)
    stages = len(result.stages)
    colours = [*_COLOURS[-stages:], *["#7a9a3a"] * len(result.peers), *["#dddddd"] * len(result.floors)]
    for ax, name in zip(axes.flat, names, strict=True):
        values = [_value(j, name) for j in shown]
        middle = np.array([v.value for v in values])
        error = np.array([[max(v.value - v.low, 0), max(v.high - v.value, 0)] for v in values]).T
        ax.barh(range(len(shown)), middle, xerr=error, color=colours, ecolor="black", capsize=2)
        ax.axvline(0.5 if name in JUDGES else 1.0, color="black", lw=1, ls=":")
        ax.set_title(("AUROC, " if name in JUDGES else "multiple of real against real: ") + name, fontsize=10)
        if name not in JUDGES:
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter("{x:g}")
            ax.set_xlim(left=0.5)
        ax.set_yticks(range(len(shown)), [_short_name(j.name) for j in shown])
    axes[0, 0].invert_yaxis()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _short_name(name: str) -> str:
    return {0: name}.get(
        len(name) > 32, name.replace("sound patches of the defects' photographs / of normals", "floor")
    )


def _ablation(result: Result, path: Path) -> None:
    """By stage, with the real defects in black: edge, profile, spectrum across the boundary, grain."""
    figure, axes = plt.subplots(2, 4, figsize=(18, 8), layout="constrained")
    rows = np.flatnonzero(result.scored)
    drawn = [
        (s.name, s.statistics, s.groups, c) for s, c in zip(result.stages, _COLOURS[-len(result.stages) :], strict=True)
    ]
    drawn.append(("real, to judge", result.real.statistics[rows], result.real.groups[rows], "black"))
    lines = {
        "brightness across the outline": (
            [f"profile at {d:+.1f} px" for d in PROFILE_PX],
            [f"{d:g}" for d in PROFILE_PX],
        ),
        "spectrum of the patch / of sound ones": (
            [f"spectrum {k + 1}" for k in range(8)],
            [str(k + 1) for k in range(8)],
        ),
        "details inside / around": ([f"detail {k} inside" for k in (1, 2, 3)], ["fine", "middle", "coarse"]),
        "details across the outline / around": (
            [f"detail {k} across" for k in (1, 2, 3)],
            ["fine", "middle", "coarse"],
        ),
        "details just outside / around": ([f"detail {k} outside" for k in (1, 2, 3)], ["fine", "middle", "coarse"]),
    }
    for ax, (title, (names, ticks)) in zip(axes.flat, lines.items(), strict=False):
        columns = [NAMES.index(n) for n in names]
        for name, values, groups, colour in drawn:
            _line(ax, values[:, columns], list(groups), colour, name)
        ax.set_xticks(range(len(ticks)), ticks)
        ax.set_title(title, fontsize=10)
    boxes = {
        "log width of the edge, 10-90 %, px": "edge width",
        "log sigma of the edge / of the photograph's": "edge sigma / optics",
        "grain just outside as around": "grain direction",
    }
    for ax, (title, name) in zip(axes.flat[len(lines) :], boxes.items(), strict=True):
        columns_of = [v[:, NAMES.index(name)] for _, v, _, _ in drawn]
        shown = ax.boxplot(columns_of, showfliers=False, patch_artist=True, medianprops={"color": "white"})
        for patch, (_, _, _, colour) in zip(shown["boxes"], drawn, strict=True):
            patch.set_facecolor(colour)
        ax.set_xticks(range(1, len(drawn) + 1), [n for n, *_ in drawn], rotation=20, fontsize=8)
        ax.set_title(title, fontsize=10)
    axes[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _line(ax: Axes, values: Floats, groups: Sequence[str], colour: str, name: str) -> None:
    """Mean with one vote a group, and the band of 90 % of resamples."""
    rng = np.random.default_rng(0)
    again = np.array([resample_weights(groups, rng) @ values for _ in range(_RESAMPLES // 4)])
    low, high = np.quantile(again, [0.05, 0.95], axis=0)
    at = np.arange(values.shape[1])
    ax.plot(at, again.mean(axis=0), color=colour, lw=2, label=name)
    ax.fill_between(at, low, high, color=colour, alpha=0.2, lw=0)
