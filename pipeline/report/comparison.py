"""Two corpora, or a corpus and real defects, side by side: counts, samples, and how near their masks are in shape.

Masks are described by eleven numbers (`pipeline.descriptors`). The energy distance of two groups of masks is given as
a multiple of the distance of random halves of B, both at the same number of masks: at 1, masks of A are as near to
those of B as these are to each other. Features are scaled by the spread of B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests.errors import SourceError
from pipeline.descriptors import NAMES, Descriptors, describe, energy_distance, feature_matrix, robust_scaling
from pipeline.report.charts import Scale, curve_path, density
from pipeline.report.corpus_report import refuse_inside
from pipeline.report.sides import Group, Pair, Side, read_side
from pipeline.report.site import Site, build_site
from pipeline.report.sprites import encode, outline

__all__ = ["Measured", "multiple", "write_comparison"]

ALL = "all"
_LEAST_MASKS = 8  # of a group whose distance is told
_DRAWS = 60
_STRIP = 8  # samples shown of a group
_STRIP_SIDE_PX = 192
_AROUND = 1.8  # side of a square that is shown / size of the defect in it
_LOGARITHMIC = frozenset({"area", "length", "width"})
_WORDS = {
    "area": ("area", "share of the picture"),
    "length": ("skeleton length", "sides of the picture"),
    "width": ("width", "sides of the picture"),
    "width_variation": ("variation of width", "standard deviation / mean"),
    "branches": ("branch points", "per side of length"),
    "tortuosity": ("tortuosity", "length / distance of the ends"),
    "dimension": ("box dimension", "of the mask"),
    "eccentricity": ("eccentricity", "0 is round"),
    "solidity": ("solidity", "area / convex hull"),
    "roughness": ("roughness", "of the outline / width"),
    "pieces": ("pieces", "number"),
}

Floats = NDArray[np.float64]
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Measured:
    """A group of masks, measured: values (N, 11) and features (N, 11) in the order of `NAMES`, and pictures to show."""

    name: str
    total: int
    values: Floats
    features: Floats
    shown: tuple[str, ...]

    @property
    def median_area(self) -> float:
        """Share of the picture."""
        return float(np.median(self.values[:, NAMES.index("area")])) if len(self.values) else 0.0


def write_comparison(a: Path, b: Path, dest: Path, *, masks: int = 100, advance: Advance | None = None) -> None:
    """Write pages that set two corpora, or a corpus and a folder of real defects, side by side.

    Parameters
    ----------
    a, b, dest : Path
        What is compared, what it is compared with, and where the pages are to be.
    masks : int
        Most masks of a mechanism or type of defect that are measured, chosen evenly.
    advance : function of (done, total), optional
        Told of masks.

    Raises
    ------
    OutputError
        The pages cannot be written there.
    SourceError, CorpusError
        A side cannot be read, or has no mask.
    """
    refuse_inside(dest, a, b)
    sides = [read_side(path, count=masks) for path in (a, b)]
    total = sum(len(group.read) for side in sides for group in side.groups)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if advance:
            advance(done, total)

    with build_site(dest, kind="comparison") as site:
        found = [
            [_measure(site, group, f"{letter}{k:02d}", step) for k, group in enumerate(side.groups)]
            for letter, side in zip("ab", sides, strict=True)
        ]
        for path, groups in zip((a, b), found, strict=True):
            if not any(len(group.values) for group in groups):
                raise SourceError(f"{path}: all of its masks are empty; give defects with masks")
        _write_pages(site, sides, found)


def _measure(site: Site, group: Group, prefix: str, step: Callable[[], None]) -> Measured:
    """Describe the masks of a group, and draw the first few that are spread over it."""
    described: list[Descriptors] = []
    shown: list[str] = []
    drawn = {int(k) for k in np.linspace(0, len(group.read) - 1, min(_STRIP, len(group.read)))}
    for k, read in enumerate(group.read):
        pixels, mask = read()
        if mask.any():
            described.append(describe(mask))
            if k in drawn:
                shown.append(f"{prefix}-{k:04d}")
                _draw(site, shown[-1], (pixels, mask))
        step()
    values = np.array([[getattr(d, name) for name in NAMES] for d in described]).reshape(-1, len(NAMES))
    return Measured(group.name, group.total, values, feature_matrix(described), tuple(shown))


def _draw(site: Site, name: str, pair: Pair) -> None:
    """A square of the picture around its defect, a third of it at least, and the outline of the mask there."""
    pixels, mask = pair
    spans = [np.flatnonzero(mask.any(axis=1 - axis))[[0, -1]] + np.array([0, 1]) for axis in (0, 1)]
    whole = min(mask.shape)
    side = int(np.clip(_AROUND * max(high - low for low, high in spans), whole // 3, whole))
    corner = [int(np.clip((sum(spans[k]) - side) // 2, 0, mask.shape[k] - side)) for k in (0, 1)]
    part = (slice(corner[0], corner[0] + side), slice(corner[1], corner[1] + side))
    square = Image.fromarray(np.ascontiguousarray(pixels[part]))
    small = square.resize((_STRIP_SIDE_PX, _STRIP_SIDE_PX), Image.Resampling.LANCZOS)
    site.write(f"pictures/{name}.webp", encode(small, quality=86))
    site.write(f"pictures/{name}-outline.webp", encode(outline(mask[part], _STRIP_SIDE_PX), lossless=True))


def _pooled(groups: Sequence[Measured]) -> Measured:
    """All groups as one; each mask counts once, so a group of many weighs more."""
    return Measured(
        ALL,
        sum(group.total for group in groups),
        np.concatenate([group.values for group in groups]),
        np.concatenate([group.features for group in groups]),
        (),
    )


def multiple(a: Floats, b: Floats, rng: np.random.Generator, *, draws: int = _DRAWS) -> float | None:
    """Energy distance of features a (N, D) to b (M, D) / that of random halves of b, at the same number of masks.

    None where either has too few masks to tell.
    """
    if min(len(a), len(b)) < _LEAST_MASKS:
        return None
    count = min(len(a), len(b) // 2)
    apart, within = 0.0, 0.0
    for _ in range(draws):
        order = rng.permutation(len(b))
        first, second = b[order[:count]], b[order[count : 2 * count]]
        within += energy_distance(first, second)
        apart += energy_distance(a[rng.choice(len(a), count, replace=False)], first)
    return apart / within if within else None


def _write_pages(site: Site, sides: Sequence[Side], found: Sequence[Sequence[Measured]]) -> None:
    grouped = [[_pooled(groups), *(g for g in groups if len(g.values))] for groups in found]
    scaling = robust_scaling(grouped[1][0].features)
    features = [[scaling(group.features) for group in groups] for groups in grouped]
    pairs = [[_compare(x, y, k, m) for m, y in enumerate(features[1])] for k, x in enumerate(features[0])]
    scales = [_scale(name, k, [groups[0].values for groups in grouped]) for k, name in enumerate(NAMES)]
    curves = [[_curves(group, scales) for group in groups] for groups in grouped]
    site.write_script(
        "data/comparison.js",
        "comparison",
        0,
        {
            "groups": [[{"name": g.name, "masks": len(g.values)} for g in groups] for groups in grouped],
            "curves": [[[np.round(c, 3).tolist() for c in each] for each in side] for side in curves],
            "pairs": pairs,
        },
    )
    plots = [_plot(name, scales[k], [side[0][k] for side in curves], pairs[0][0], k) for k, name in enumerate(NAMES)]
    site.write_assets("report.css", "theme.js", "comparison.js")
    page = {"name": f"{sides[0].name} and {sides[1].name}", "version": "", "kind": "comparison", "here": "comparison"}
    content = {"sides": sides, "found": found, "grouped": grouped, "pairs": pairs, "plots": plots}
    site.write_page("index.html", "comparison.html", {**page, **content})


def _compare(x: Floats, y: Floats, k: int, m: int) -> dict[str, object]:
    """Distances of two groups: as a multiple, by itself, and descriptor by descriptor."""
    rng = np.random.default_rng([k, m])
    if min(len(x), len(y)) < _LEAST_MASKS:
        return {"multiple": None, "distance": None, "each": [None] * len(NAMES)}
    times = multiple(x, y, rng)
    return {
        "multiple": None if times is None else round(times, 3),
        "distance": round(energy_distance(x, y), 4),
        "each": [round(energy_distance(x[:, [d]], y[:, [d]]), 4) for d in range(len(NAMES))],
    }


def _scale(name: str, number: int, values: Sequence[Floats]) -> Scale:
    """The axis of a descriptor, without the outermost half per cent of either side."""
    inner = [np.quantile(v[:, number], (0.005, 0.995)) for v in values]
    return Scale.around(np.concatenate(inner), log=name in _LOGARITHMIC)


def _curves(group: Measured, scales: Sequence[Scale]) -> list[Floats]:
    return [density(scale.share(group.values[:, k])) for k, scale in enumerate(scales)]


def _plot(name: str, scale: Scale, curves: Sequence[Floats], pair: dict[str, object], number: int) -> dict[str, object]:
    top = max(float(curve.max()) for curve in curves) or 1.0
    each = pair["each"]
    title, unit = _WORDS[name]
    return {
        "name": title,
        "unit": unit,
        "scale": scale,
        "paths": [curve_path(curve, top) for curve in curves],
        "distance": each[number] if isinstance(each, list) else None,
    }
