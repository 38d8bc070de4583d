"""Tables and pictures of `benchmarks.realism`, as Markdown and PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image

from benchmarks.realism import Measured, Real, Score
from pipeline.descriptors import NAMES

__all__ = ["page", "section"]

Floats = NDArray[np.float64]

mpl.use("Agg")
_COLOURS = ("#c1272d", "#4a8fd3", "#7a9a3a", "#a56cc1", "#d39a3a", "#5fb0a8", "#8c6d5a", "#7f7f7f")
_LABELS = {
    "area": "area, share of the picture",
    "length": "skeleton length, sides",
    "width": "width, sides",
    "width_variation": "variation of the width",
    "branches": "branch points per side",
    "tortuosity": "tortuosity - 1",
    "dimension": "box-counting dimension",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
    "roughness": "roughness of the outline",
    "pieces": "pieces",
}
_INTRO = """# Realism of the masks

Made by `python -m benchmarks.realism --data <mtd>`; do not edit by hand.

Real masks are those of the magnetic-tile set (Huang, Qiu, Yuan 2018), the half of it that this project tests with. It
holds each tile in up to six exposures, so halves are drawn **by tile**, once, with a fixed seed: on one half our
parameters are chosen (`--fit`; the outcome stands in `recipes/mtd.yaml`), the peers are told the real range of lengths,
widths and areas and are tuned over their settings, and the descriptors are scaled; the other half judges.

A mask is described by the eleven numbers of `pipeline/descriptors.py`: area, skeleton length, width, its variation,
branch points per length, tortuosity, box-counting dimension, eccentricity, solidity, roughness of the outline, pieces.
Sizes are in sides of the picture, a picture of h x w pixels having the side sqrt(h w); heavy-tailed ones are taken as
logarithms; each is divided by its robust spread over the training half.

- **Distance to real**: energy distance (Szekely & Rizzo) in the eleven dimensions to the judging half, with one
  exposure of each tile and as many synthetic masks as the training half has tiles, on average over draws; as a multiple
  of the same distance between two random halves of the real tiles. A generator that makes masks of the real
  distribution gets 1. In brackets, 90 % of resamples over tiles and masks.
- **Excess**: the unbiased energy distance, 0 for the real distribution. It tells generators apart better than the
  multiple does, which is blunted by the few tiles.
- **By picture**: the multiple where halves are drawn by picture. Exposures of one tile then stand in both halves, which
  makes the yardstick far too short; given because others quote it so.
- **All halves**: the mean multiple over other random halves. Parts of the training half judge there, for everybody.
- **Ours nearer**: share of resamples in which ours is nearer to real.

The label of a synthetic sample is where the change can be seen in the finished picture, so it is what a user gets that
is judged, not the simulation. Real labels were painted by hand, with a brush.

The judging half was looked at five times while mechanisms and recipe came about, after changes that were chosen on the
training half; with nine tiles of cracks and eighteen of pores the intervals are wide, and a lead of a few percent is a
tie.
"""


def page(sections: Sequence[str]) -> str:
    """The whole document."""
    return "\n".join([_INTRO, *sections])


def section(kind: str, real: Real, made: Sequence[Measured], scores: Sequence[Score], pictures: Path) -> str:
    """Markdown of one kind of defect; its pictures are written beside."""
    pictures.mkdir(parents=True, exist_ok=True)
    _overlay(kind, real, made, pictures / f"realism-{kind}-descriptors.png")
    _side_by_side(real, made, pictures / f"realism-{kind}-masks.png")
    train, test = ([len(real.tiles[k]) for k in half] for half in (real.halves.train, real.halves.test))
    lines = [
        f"## {kind.capitalize()}s",
        "",
        f"{sum(train) + sum(test)} real masks of {len(real.tiles)} tiles: {sum(train)} of {len(train)} tiles to choose "
        f"parameters, {sum(test)} of {len(test)} tiles to judge.",
        "",
        *_scores(made, scores),
        "",
        "Each descriptor alone, as a multiple of real against real; the nearest to real in bold:",
        "",
        *_each(scores),
        "",
        *_verdict(scores),
        "",
        f"![Distribution of each descriptor](pictures/realism-{kind}-descriptors.png)",
        "",
        f"![Twelve masks of each](pictures/realism-{kind}-masks.png)",
        "",
    ]
    return "\n".join(lines)


def _scores(made: Sequence[Measured], scores: Sequence[Score]) -> list[str]:
    settings = {g.name: g.settings for g in made}
    lines = [
        "| generator | distance to real | excess | by picture | all halves | ours nearer | tuned to |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for k, score in enumerate(scores):
        nearer = f"{100 * score.behind:.0f} %" if k else ""
        lines.append(
            f"| {score.name} | {score.multiple:.2f} [{score.low:.2f}, {score.high:.2f}] | {score.excess:.2f} | "
            f"{score.by_picture:.1f} | {score.all_splits:.2f} | {nearer} | {settings.get(score.name, '')} |"
        )
    lines += [f"| {g.name} | not measured: {g.unavailable} | | | | | |" for g in made if g.unavailable]
    return lines


def _each(scores: Sequence[Score]) -> list[str]:
    least = np.min([score.each for score in scores], axis=0)
    lines = [
        "| generator | " + " | ".join(name.replace("_", " ") for name in NAMES) + " |",
        "|---" + "|--:" * len(NAMES) + "|",
    ]
    for score in scores:
        cells = [f"**{x:.1f}**" if x == best else f"{x:.1f}" for x, best in zip(score.each, least, strict=True)]
        lines.append(f"| {score.name} | " + " | ".join(cells) + " |")
    return lines


def _verdict(scores: Sequence[Score]) -> list[str]:
    """In words: where ours stands, and the descriptors in which a peer is nearer to real."""
    ours, peers = scores[0], scores[1:]
    if not peers:
        return []
    nearer = [peer.name for peer in peers if peer.multiple <= ours.multiple]
    least = min(peer.multiple for peer in peers)
    first = (
        f"Nearer to real than ours: {', '.join(nearer)}."
        if nearer
        else f"Ours is nearer to real than every peer: {ours.multiple:.2f} against {least:.2f}."
    )
    behind = []
    for k, name in enumerate(NAMES):
        best = min(peers, key=lambda peer: float(peer.each[k]))
        if best.each[k] < ours.each[k]:
            behind.append(f"{name.replace('_', ' ')} ({best.name}: {best.each[k]:.1f} against {ours.each[k]:.1f})")
    return [first + (f" In single descriptors a peer is nearer: {'; '.join(behind)}." if behind else "")]


def _overlay(kind: str, real: Real, made: Sequence[Measured], path: Path) -> None:
    """Cumulative distribution of each descriptor; every real tile has one vote."""
    figure, axes = plt.subplots(3, 4, figsize=(13, 8.5), layout="constrained")
    drawn = [g for g in made if not g.unavailable]
    for k, name in enumerate(NAMES):
        ax = axes.flat[k]
        for half, style in ((real.halves.train, ":"), (real.halves.test, "-")):
            features = [real.features[t][:, k] for t in half]
            label = "real, to choose" if style == ":" else "real, to judge"
            votes = np.concatenate([np.full(len(f), 1 / len(f)) for f in features])
            _steps(ax, _shown(name, np.concatenate(features)), votes, color="black", ls=style, lw=2, label=label)
        for g, colour in zip(drawn, _COLOURS, strict=False):
            values = _shown(name, g.features[:, k])
            ours = g is drawn[0]
            _steps(ax, values, np.ones(len(values)), color=colour, lw=2 if ours else 1, label=g.name)
        if name in ("area", "length", "width", "tortuosity"):
            ax.set_xscale("log")
        ax.set_xlabel(_LABELS[name])
        ax.set_ylim(0, 1)
    axes[0, 0].set_ylabel("share of masks at most this")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    axes.flat[-1].axis("off")
    axes.flat[-1].legend(handles, labels, loc="center left", frameon=False)
    figure.suptitle(f"Descriptors of {kind}s")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _shown(name: str, features: Floats) -> Floats:
    """Features back in the units of the descriptor."""
    if name in ("area", "length", "width", "pieces"):
        return np.exp(features)
    if name == "branches":
        return np.expm1(features)
    if name == "tortuosity":
        return np.maximum(np.exp(features) - 0.01, 1e-3)
    return features


def _steps(ax: Axes, values: Floats, weights: Floats, **style: object) -> None:
    order = np.argsort(values)
    total = np.cumsum(weights[order]) / weights.sum()
    ax.step(values[order], total, where="post", **style)  # type: ignore[arg-type]


def _side_by_side(real: Real, made: Sequence[Measured], path: Path) -> None:
    """Twelve masks of each, all at one scale of the picture's side."""
    judged = [real.tiles[k] for k in real.halves.test]
    turns = [(judged[k % len(judged)], k // len(judged)) for k in range(12)]
    rows = [("real, to judge", [tile[turn % len(tile)].mask for tile, turn in turns])]
    rows += [(g.name, list(g.shown)) for g in made if g.shown]
    figure, axes = plt.subplots(len(rows), 1, figsize=(14, 1.35 * len(rows)), layout="constrained")
    for ax, (name, masks) in zip(np.atleast_1d(axes), rows, strict=True):
        ax.imshow(np.concatenate([_tile(mask) for mask in masks], axis=1), cmap="gray_r", vmin=0, vmax=1)
        ax.set_title(name, fontsize=9, loc="left")
        ax.axis("off")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _tile(mask: NDArray[np.bool_], side: int = 200) -> Floats:
    """A mask in a square of its own, its longer side filling it, with a frame."""
    scale = (side - 4) / max(mask.shape)
    shape = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    picture = Image.fromarray((mask * 255).astype(np.uint8)).resize(shape, Image.Resampling.BOX)
    out = np.full((side, side), 0.25)
    out[2 : 2 + shape[1], 2 : 2 + shape[0]] = np.asarray(picture) / 255.0
    return out
