"""What each block of npcF++ contributes: edge width against the optics, energy and continuity of grain at the outline.

Run with::

    python -m benchmarks.synergy            # writes docs/npcfpp.md and its pictures

Discs are cut into materials whose grain is known: inside, the texture is gone, there is less light, and the outline is
softer than the camera's point spread, as a coarse result may be. The pass runs with its blocks off, one after another,
and all together; the photograph itself, darkened in the disc and seen through the same optics, is the aim.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from scipy import ndimage
from skimage import data

from manifests.config import NpcfppConfig
from refine.npcfpp import BoundarySynergy

__all__ = ["ABLATION", "Trial", "measure", "trials"]

Floats = NDArray[np.float64]
SIDE, RADIUS, LIGHT = 160, 50.0, 0.7
OPTICS_PX, SOFT_PX = 0.6, 1.3
ABLATION: Mapping[str, dict[str, float]] = {
    "no block": {"edge": 0.0, "energy": 0.0, "grain": 0.0},
    "edge": {"edge": 1.0, "energy": 0.0, "grain": 0.0},
    "energy": {"edge": 0.0, "energy": 1.0, "grain": 0.0},
    "energy and grain": {"edge": 0.0, "energy": 1.0, "grain": 1.0},
    "all": {"edge": 1.0, "energy": 1.0, "grain": 1.0},
}
_BAND_PX = (0.5, 4.0)  # inside the outline: where the grain is looked for
_PLACES = np.arange(-12.0, 12.1, 0.5)


@dataclass(frozen=True)
class Trial:
    """A material with a disc in it: photograph, coarse result, what it should be, and the distance to the outline."""

    name: str
    source: Floats
    coarse: Floats
    aim: Floats
    distance: Floats


def trials(seed: int = 3) -> list[Trial]:
    """Grooves, isotropic grain, and photographs that ship with scikit-image."""
    rng = np.random.default_rng(seed)
    grooves = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), (14.0, 0.8), mode="wrap")
    isotropic = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), 0.8, mode="wrap")
    made = {name: 0.5 + 0.05 * field / field.std() for name, field in (("grooves", grooves), ("grain", isotropic))}
    for name, picture in (("brick", data.brick()), ("gravel", data.gravel()), ("grass", data.grass())):
        made[name] = picture[100 : 100 + SIDE, 100 : 100 + SIDE].astype(np.float64) / 255
    return [_trial(name, source) for name, source in made.items()]


def _trial(name: str, source: Floats) -> Trial:
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    distance = np.hypot(y - SIDE / 2 - 0.3, x - SIDE / 2 + 0.2) - RADIUS
    hard = np.clip(0.5 - distance, 0, 1)
    smooth = ndimage.gaussian_filter(source, 4.0)

    def dimmed(picture: Floats, sigma: float) -> Floats:
        return np.asarray(picture * (1 - (1 - LIGHT) * ndimage.gaussian_filter(hard, sigma)))

    gone = ndimage.gaussian_filter(hard, SOFT_PX)
    coarse = dimmed(source * (1 - gone) + smooth * gone, SOFT_PX)
    return Trial(name, source, coarse, dimmed(source, OPTICS_PX), distance)


def finish(trial: Trial, strengths: Mapping[str, float]) -> Floats:
    """The pass with these blocks."""

    def one(values: Floats) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values))[None]

    synergy = BoundarySynergy(NpcfppConfig(**strengths))
    support = torch.ones((1, SIDE, SIDE), dtype=torch.bool)
    blur = torch.tensor([OPTICS_PX], dtype=torch.float64)
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 3, SIDE, SIDE)))
    with torch.no_grad():
        found = synergy(
            one(trial.source)[:, None], one(trial.coarse)[:, None], one(trial.distance), support, blur, noise
        )
    return np.asarray(found[0, 0].numpy())


def measure(trial: Trial, picture: Floats) -> dict[str, float]:
    """Edge width, and grain in the band within the outline against the aim's."""
    inside = (trial.distance < -_BAND_PX[0]) & (trial.distance > -_BAND_PX[1])
    ours, aim = (p - ndimage.gaussian_filter(p, 3.0) for p in (picture, trial.aim))
    return {
        "edge width, px": edge_width(trial, picture),
        "energy of the grain": float((ours[inside] ** 2).mean() / (aim[inside] ** 2).mean()),
        "correlation with the grain": float(np.corrcoef(ours[inside], aim[inside])[0, 1]),
        "agreement of direction": direction_agreement(picture, trial.aim, inside),
    }


def profile(trial: Trial, values: Floats) -> Floats:
    """Means at ``_PLACES`` pixels from the outline."""
    return np.array([values[np.abs(trial.distance - p) < 0.5].mean() for p in _PLACES])


def edge_width(trial: Trial, picture: Floats) -> float:
    """Standard deviation, pixels, of the slope of brightness / that of the photograph across the outline."""
    light = profile(trial, picture) / profile(trial, trial.source)
    near = np.abs(_PLACES) <= 5
    slope = np.clip(np.gradient(light, _PLACES), 0, None)[near]
    middle = (slope * _PLACES[near]).sum() / slope.sum()
    return float(np.sqrt((slope * (_PLACES[near] - middle) ** 2).sum() / slope.sum()))


def direction_agreement(picture: Floats, aim: Floats, where: NDArray[np.bool_]) -> float:
    """Cosine of twice the angle between the structure tensors' axes in the band: 1 along, -1 across."""
    tensors = []
    for values in (picture, aim):
        down, right = np.gradient(ndimage.gaussian_filter(values, 0.7) - ndimage.gaussian_filter(values, 3.0))
        tensors.append(np.array([(right**2 - down**2)[where].mean(), 2 * (right * down)[where].mean()]))
    return float(tensors[0] @ tensors[1] / (np.linalg.norm(tensors[0]) * np.linalg.norm(tensors[1]) + 1e-12))


def write_page(docs: Path) -> None:
    """docs/npcfpp.md and its pictures."""
    given = trials()
    found = {(t.name, n): finish(t, s) for t in given for n, s in ABLATION.items()}
    figures = {key: measure(next(t for t in given if t.name == key[0]), picture) for key, picture in found.items()}
    names = list(next(iter(figures.values())))
    lines = [
        "# npcF++, block by block",
        "",
        "Made by `python -m benchmarks.synergy`; do not edit by hand.",
        "",
        f"Discs of {RADIUS:.0f} px in five materials. Inside, the coarse result has lost its texture and "
        f"{100 * (1 - LIGHT):.0f} % of its light, and its outline is {SOFT_PX} px wide where the camera's point spread "
        f"is {OPTICS_PX} px. The aim is the photograph itself, darkened and seen through the same camera. Grain is "
        f"compared in the band from {_BAND_PX[0]} to {_BAND_PX[1]} px within the outline; means over the materials.",
        "",
        "| blocks | " + " | ".join(names) + " |",
        "|---" + "|--:" * len(names) + "|",
    ]
    for blocks in ABLATION:
        means = [np.mean([figures[t.name, blocks][name] for t in given]) for name in names]
        lines.append(f"| {blocks} | " + " | ".join(f"{v:.2f}" for v in means) + " |")
    aims = [np.mean([measure(t, t.aim)[name] for t in given]) for name in names]
    lines.append("| *the aim* | " + " | ".join(f"{v:.2f}" for v in aims) + " |")
    pictures = docs / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for name, draw in (("profiles", draw_profiles), ("discs", draw_discs)):
        draw(given, found, pictures / f"npcfpp-{name}.png")
    lines += [
        "",
        "The edge block brings the outline towards the optics; it trusts its measurement less the stronger the texture "
        "is. The energy block alone matches what lies outside the outline; with the grain block the grain runs on into "
        "the defect, farther where it has a direction.",
        "",
        "![Profiles](pictures/npcfpp-profiles.png)",
        "",
        "Coarse result, each set of blocks, and the aim, twice enlarged at the upper rim of the disc:",
        "",
        "![Discs](pictures/npcfpp-discs.png)",
    ]
    (docs / "npcfpp.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines[6:16]))


def draw_profiles(given: list[Trial], found: Mapping[tuple[str, str], Floats], path: Path) -> None:
    """Light, energy of grain and its continuity against the distance to the outline."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    series = {
        "coarse": "no block",
        "edge": "edge",
        "energy": "energy",
        "energy and grain": "energy and grain",
        "all": "all",
    }
    for label, blocks in series.items():
        light, energy, along = [], [], []
        for t in given:
            picture = found[t.name, blocks]
            ours, aim = (p - ndimage.gaussian_filter(p, 3.0) for p in (picture, t.aim))
            light.append(profile(t, picture) / profile(t, t.source))
            energy.append(profile(t, ours**2) / profile(t, aim**2))
            along.append(profile(t, ours * aim) / profile(t, aim**2))
        for axis, values in zip(axes, (light, energy, along), strict=True):
            axis.plot(_PLACES, np.mean(values, axis=0), label=label, linewidth=2 if label == "all" else 1.2)
    aim = np.mean([profile(t, t.aim) / profile(t, t.source) for t in given], axis=0)
    axes[0].plot(_PLACES, aim, "k--", label="optics", linewidth=1)
    titles = ("light / that of the photograph", "energy of the details / aim", "share of the aim's grain")
    for axis, title, limits in zip(axes, titles, ((-5, 5), (-12, 8), (-12, 8)), strict=True):
        axis.set(title=title, xlabel="distance to the outline, px (inside < 0)", xlim=limits)
        axis.axvline(0, color="0.8", linewidth=1)
    axes[1].set_ylim(0, 3)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def draw_discs(given: list[Trial], found: Mapping[tuple[str, str], Floats], path: Path) -> None:
    """The upper rim of every disc."""
    columns = ["coarse", *list(ABLATION)[1:], "aim"]
    rows, middle = slice(SIDE // 2 - 62, SIDE // 2 - 22), slice(SIDE // 2 - 32, SIDE // 2 + 32)
    figure, axes = plt.subplots(
        len(given), len(columns), figsize=(2.4 * len(columns), 1.6 * len(given)), layout="constrained"
    )
    for row, trial in zip(axes, given, strict=True):
        shown = [trial.coarse, *(found[trial.name, n] for n in list(ABLATION)[1:]), trial.aim]
        low, high = np.percentile(trial.source, (0.5, 99.5))
        for axis, title, picture in zip(row, columns, shown, strict=True):
            axis.imshow(picture[rows, middle], cmap="gray", vmin=LIGHT * low, vmax=high, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if trial is given[0]:
                axis.set_title(title, fontsize=10)
        row[0].set_ylabel(trial.name)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    options = parser.parse_args()
    mpl.use("Agg")
    write_page(options.docs)


if __name__ == "__main__":
    main()
