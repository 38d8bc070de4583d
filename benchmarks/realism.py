"""How near synthetic masks are to real ones: energy distances of mask descriptors, ours and those of peer generators.

Run with::

    python -m benchmarks.realism --data ../shared/data/mtd              # table and pictures in docs/
    python -m benchmarks.realism --data ../shared/data/mtd --fit        # choose our parameters on the training half
    python -m benchmarks.realism --data ... --corpus mine=PATH          # judge any corpus besides

Real masks are halved by tile with a fixed seed. On the training half our parameters are chosen (``--fit``, whose result
stands in ``recipes/mtd.yaml``), the peers are told the sizes and tuned over their settings, and the descriptors'
scales are taken. On the other half all are judged. ``benchmarks.real_masks`` and ``pipeline.descriptors`` say more.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import blobs, defect_synthesis, lines
from benchmarks.peers.target import Masks, Peer, Target
from benchmarks.real_masks import Halves, RealMask, by_tile, halves, load_masks
from manifests import Corpus
from pipeline.descriptors import NAMES, Scaling, describe, energy_distance, feature_matrix, robust_scaling
from pipeline.generate import generate
from pipeline.recipe import Recipe, load_recipe, only_mechanisms

__all__ = ["KINDS", "Kind", "Measured", "Real", "Score", "Sizes", "judge", "measure", "read_real"]

Floats = NDArray[np.float64]

SIDE_PX = 256
_SPLIT_SEED = 0
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Kind:
    """A kind of real defect, the mechanism that is to make it, the peers, and what ``--fit`` tries in turn."""

    name: str
    folder: str
    mechanism: str
    peers: tuple[Peer, ...]
    choices: Mapping[str, tuple[object, ...]] = field(default_factory=dict)


def _sizes(*bounds: tuple[float, float]) -> tuple[object, ...]:
    return tuple({"kind": "loguniform", "low": low, "high": high} for low, high in bounds)


def _shares(*bounds: tuple[float, float]) -> tuple[object, ...]:
    return tuple({"kind": "uniform", "low": low, "high": high} for low, high in bounds)


KINDS: Mapping[str, Kind] = {
    "crack": Kind(
        name="crack",
        folder="crack",
        mechanism="fracture",
        peers=(
            defect_synthesis.CRACKS,
            defect_synthesis.CRACKS_AS_SHIPPED,
            lines.POLYLINES,
            lines.STROKES,
            blobs.SCARS,
            blobs.PERLIN_SINGLE,
            blobs.PERLIN,
        ),
        choices={
            "area": _sizes((0.0015, 0.006), (0.001, 0.004), (0.0012, 0.009), (0.002, 0.008), (0.0007, 0.006)),
            "width": _sizes((0.006, 0.016), (0.004, 0.009), (0.008, 0.025), (0.005, 0.025), (0.012, 0.025)),
            "severity": _shares((0.25, 1.0), (0.1, 0.5), (0.5, 1.0), (0.9, 1.0)),
            "toughness_sigma": ((0.2, 0.65), (0.05, 0.2), (0.2, 0.35)),
            "several_share": (0.35, 0.15, 0.0),
            "plane_strain_share": (0.5, 0.0, 1.0),
            "overload": ((0.0, 0.05), (0.0, 0.0)),
            "grain_share": (0.3, 0.0, 0.8),
            "edge_share": (0.5, 0.9),
            "render.debris": ((0.0, 0.2), (0.0, 0.02)),
            "render.lip_height": ((0.0, 0.35), (0.0, 0.05)),
            "render.roughness": ((0.03, 0.2), (0.0, 0.05)),
        },
    ),
    "pit": Kind(
        name="pit",
        folder="blowhole",
        mechanism="pitting",
        peers=(
            defect_synthesis.PITS,
            defect_synthesis.PITS_AS_SHIPPED,
            blobs.PERLIN_SINGLE,
            blobs.PERLIN,
            blobs.SCARS,
            lines.STROKES,
        ),
        choices={
            "area": _sizes((0.0004, 0.005), (0.0003, 0.002), (0.0006, 0.004), (0.0005, 0.008)),
            "lone_share": (0.35, 0.7, 1.0),
            "lone_sites": ((1, 3), (1, 1)),
            "film_spread": ((0.3, 0.9), (0.1, 0.3), (0.02, 0.1)),
            "uniform_share": (0.22, 0.0),
            "severity": _shares((0.25, 1.0), (0.1, 0.4), (0.6, 1.0)),
            "rolled_share": (0.4, 0.0, 0.8),
            "spreading": ((0.35, 2.2), (1.0, 2.2)),
            "grain_spread": ((0.05, 0.45), (0.05, 0.2), (0.02, 0.08)),
            "product_share": ((0.03, 0.6), (0.003, 0.01)),
            "render.gloss": ((0.15, 0.6), (0.0, 0.02)),
            "render.pit_floor": ((0.35, 0.9), (0.2, 0.5)),
            "edge_share": (0.15, 0.0),
        },
    ),
}


@dataclass(frozen=True)
class Sizes:
    """How much is drawn: masks of a generator, masks of a try while fitting, draws of a mean, bootstrap samples."""

    masks: int = 320
    tries: int = 80
    draws: int = 300
    resamples: int = 120
    splits: int = 40


@dataclass(frozen=True)
class Real:
    """Real masks by tile, their features, the halves, and the scales taken from the training half."""

    tiles: tuple[tuple[RealMask, ...], ...]
    features: tuple[Floats, ...]
    halves: Halves
    scaling: Scaling
    target: Target

    def scaled(self, tiles: Sequence[int]) -> list[Floats]:
        """Standardised features (exposures, 11) of each of these tiles."""
        return [self.scaling(self.features[k]) for k in tiles]

    @property
    def train(self) -> list[Floats]:
        """Of the half on which parameters are chosen."""
        return self.scaled(self.halves.train)

    @property
    def test(self) -> list[Floats]:
        """Of the half on which they are judged."""
        return self.scaled(self.halves.test)


def read_real(folder: Path, *, split_seed: int = _SPLIT_SEED) -> Real:
    """Real masks of a folder, halved by tile; every tile has one vote, however many exposures there are of it."""
    tiles = by_tile(load_masks(folder))
    parts = halves(len(tiles), np.random.default_rng(split_seed))
    described = [[describe(real.mask) for real in tile] for tile in tiles]
    features = [feature_matrix(tile) for tile in described]
    voters = np.concatenate([features[k][np.linspace(0, len(features[k]) - 0.01, 12).astype(int)] for k in parts.train])
    low, high = np.quantile(voters, [0.1, 0.9], axis=0)
    bounds = {n: (float(np.exp(low[NAMES.index(n)])), float(np.exp(high[NAMES.index(n)]))) for n in _TARGETS}
    return Real(
        tiles=tuple(tuple(tile) for tile in tiles),
        features=tuple(features),
        halves=parts,
        scaling=robust_scaling(voters),
        target=Target(**bounds),
    )


_TARGETS = ("area", "length", "width")


def measure(masks: Sequence[NDArray[np.bool_]]) -> Floats:
    """Features (N, 11) of the masks that are not empty."""
    return feature_matrix(describe(mask) for mask in masks if mask.any())


def one_each(tiles: Sequence[Floats], rng: np.random.Generator) -> Floats:
    """One exposure of each tile, at random."""
    return np.stack([tile[rng.integers(len(tile))] for tile in tiles])


def distance(made: Floats, tiles: Sequence[Floats], rng: np.random.Generator, *, count: int, draws: int) -> float:
    """Mean energy distance of ``count`` masks of a generator to one exposure of each tile."""
    count = min(count, len(made))
    found = [
        energy_distance(made[rng.choice(len(made), count, replace=False)], one_each(tiles, rng)) for _ in range(draws)
    ]
    return float(np.mean(found))


def excess(made: Floats, tiles: Sequence[Floats], rng: np.random.Generator, *, draws: int) -> float:
    """Unbiased energy distance of all masks of a generator to the tiles: 0 where they cannot be told apart."""
    return float(np.mean([energy_distance(made, one_each(tiles, rng), unbiased=True) for _ in range(draws)]))


def real_distance(tiles: Sequence[Floats], rng: np.random.Generator, *, draws: int) -> float:
    """Mean energy distance of two halves of the tiles, over random halves and exposures."""
    found = []
    for _ in range(draws):
        parts = halves(len(tiles), rng)
        one = one_each(tiles, rng)
        found.append(energy_distance(one[list(parts.train)], one[list(parts.test)]))
    return float(np.mean(found))


def distance_by_picture(made: Floats, pictures: Floats, rng: np.random.Generator, *, count: int, draws: int) -> float:
    """Mean energy distance of masks of a generator to all these pictures, exposures of one tile and all."""
    count = min(count, len(made))
    return float(
        np.mean([energy_distance(made[rng.choice(len(made), count, replace=False)], pictures) for _ in range(draws)])
    )


def real_distance_by_picture(pictures: Floats, rng: np.random.Generator, *, draws: int) -> float:
    """Mean energy distance of random halves of the pictures: both halves hold exposures of the same tiles."""
    found = []
    for _ in range(draws):
        order = rng.permutation(len(pictures))
        middle = len(pictures) // 2
        found.append(energy_distance(pictures[order[:middle]], pictures[order[middle:]]))
    return float(np.mean(found))


@dataclass(frozen=True)
class Measured:
    """A generator: its masks' features, a few masks to show, its settings, or why there is none."""

    name: str
    features: Floats
    shown: tuple[NDArray[np.bool_], ...] = ()
    settings: str = ""
    unavailable: str = ""


@dataclass(frozen=True)
class Score:
    """What the table says of a generator.

    Attributes
    ----------
    multiple, low, high : float
        Energy distance to the judging half / real-versus-real distance, with its 90 % interval over the tiles of the
        judging half and the masks of the generator.
    excess : float
        Unbiased energy distance to the judging half.
    by_picture : float
        Multiple where halves are drawn by picture and share tiles.
    all_splits : float
        Mean multiple over random halves other than the one that was used.
    behind : float
        Share of resamples in which the first generator is nearer to real than this one.
    each : (11,) array
        Multiple of each descriptor alone.
    """

    name: str
    multiple: float
    low: float
    high: float
    excess: float
    by_picture: float
    all_splits: float
    behind: float
    each: Floats


def judge(real: Real, generators: Sequence[Measured], *, sizes: Sizes, seed: int = 1) -> list[Score]:
    """Scores on the judging half, the first generator being ours; those that are unavailable are left out."""
    made = [real.scaling(g.features) for g in generators if not g.unavailable]
    names = [g.name for g in generators if not g.unavailable]
    every = real.scaled(range(len(real.tiles)))
    count = len(real.halves.train)
    base = real_distance(every, np.random.default_rng(seed), draws=4 * sizes.draws)
    pictures = np.concatenate(every)
    test_pictures = np.concatenate(real.test)
    picture_base = real_distance_by_picture(pictures, np.random.default_rng(seed), draws=sizes.draws)
    resampled = _resampled(made, real.test, count, sizes, seed) / base
    scores = []
    for k, features in enumerate(made):
        rng = np.random.default_rng(seed + 1)  # the same real draws for all
        middle = distance(features, real.test, rng, count=count, draws=sizes.draws) / base
        spread = resampled[k] - resampled[k].mean()
        picture = distance_by_picture(features, test_pictures, rng, count=len(test_pictures), draws=sizes.draws // 4)
        scores.append(
            Score(
                name=names[k],
                multiple=middle,
                low=middle + float(np.quantile(spread, 0.05)),
                high=middle + float(np.quantile(spread, 0.95)),
                excess=excess(features, real.test, rng, draws=max(4, sizes.draws // 10)),
                by_picture=picture / picture_base,
                all_splits=_over_splits(features, every, count, sizes, seed) / base,
                behind=float(np.mean(resampled[0] < resampled[k])),
                each=_each(features, real, every, count, sizes, seed),
            )
        )
    return scores


def _resampled(made: Sequence[Floats], test: Sequence[Floats], count: int, sizes: Sizes, seed: int) -> Floats:
    """Distances (generators, resamples) for tiles and masks drawn again with replacement, tiles alike for all."""
    rng = np.random.default_rng(seed + 2)
    out = np.empty((len(made), sizes.resamples))
    for r in range(sizes.resamples):
        tiles = [test[k] for k in rng.integers(len(test), size=len(test))]
        for k, features in enumerate(made):
            again = features[rng.integers(len(features), size=len(features))]
            out[k, r] = distance(again, tiles, rng, count=count, draws=24)
    return out


def _over_splits(features: Floats, every: Sequence[Floats], count: int, sizes: Sizes, seed: int) -> float:
    rng = np.random.default_rng(seed + 3)
    found = []
    for _ in range(sizes.splits):
        tiles = [every[k] for k in halves(len(every), rng).test]
        found.append(distance(features, tiles, rng, count=count, draws=16))
    return float(np.mean(found))


def _each(features: Floats, real: Real, every: Sequence[Floats], count: int, sizes: Sizes, seed: int) -> Floats:
    out = np.empty(len(NAMES))
    for k in range(len(NAMES)):
        rng = np.random.default_rng(seed + 4)
        base = real_distance([tile[:, [k]] for tile in every], rng, draws=sizes.draws)
        alone = distance(features[:, [k]], [t[:, [k]] for t in real.test], rng, count=count, draws=sizes.draws // 2)
        out[k] = alone / max(base, 1e-6)
    return out


def our_recipe(path: Path, data: Path, mechanism: str, count: int, changes: Mapping[str, object]) -> Recipe:
    """The recipe of a file with one mechanism, for the normals of ``data``, with some of its parameters changed."""
    os.environ["MTD_ROOT"] = str(data)
    recipe = only_mechanisms(load_recipe(path, overrides={"count": count, "size": SIDE_PX}), [mechanism])
    params = recipe.params(mechanism)
    look = {name.removeprefix("render."): value for name, value in changes.items() if name.startswith("render.")}
    own = {name: value for name, value in changes.items() if not name.startswith("render.")}
    changed = type(params).model_validate({**params.model_dump(), **own})
    content = {
        **recipe.model_dump(),
        "mechanisms": {mechanism: changed.model_dump()},
        "render": {**recipe.render.model_dump(), **look},
    }
    return Recipe.model_validate(content)


def our_masks(recipe: Recipe, *, workers: int = 1) -> Masks:
    """Masks of the corpus that the main job makes of a recipe."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "corpus"
        generate(out, recipe, workers=workers)
        return corpus_masks(out)


def corpus_masks(path: Path) -> Masks:
    """All masks of a corpus."""
    return [sample.mask.squeeze() > 0 for _, samples in Corpus(path).iter_shards() for sample in samples]


def draw_peer(peer: Peer, real: Real, sizes: Sizes) -> Measured:
    """The peer with those of its settings that bring it nearest to the training half."""
    best, least = peer.choices[0], np.inf
    for choice in peer.choices if len(peer.choices) > 1 else ():
        masks = peer.draw(real.target, np.random.default_rng(10), sizes.tries, SIDE_PX, **choice)
        found = excess(real.scaling(measure(masks)), real.train, np.random.default_rng(11), draws=60)
        if found < least:
            best, least = choice, found
    masks = peer.draw(real.target, np.random.default_rng(12), sizes.masks, SIDE_PX, **best)
    settings = ", ".join(f"{name} {value}" for name, value in best.items())
    return Measured(peer.name, measure(masks), shown=tuple(masks[:12]), settings=settings)


def fit(kind: Kind, real: Real, recipe: Path, data: Path, sizes: Sizes) -> dict[str, object]:
    """Parameters of our mechanism, one after the other, as they bring it nearest to the training half."""

    def badness(changes: Mapping[str, object]) -> float:
        masks = our_masks(our_recipe(recipe, data, kind.mechanism, sizes.tries, changes))
        return excess(real.scaling(measure(masks)), real.train, np.random.default_rng(11), draws=60)

    chosen: dict[str, object] = {}
    least = badness(chosen)
    print(f"{kind.name}: {least:.3f} as the recipe has it", flush=True)
    for name, values in kind.choices.items():
        for value in values:
            found = badness({**chosen, name: value})
            print(f"{kind.name}: {found:.3f} with {name} {json.dumps(value)}", flush=True)
            if found < least:
                chosen, least = {**chosen, name: value}, found
    print(f"{kind.name}: chosen, {least:.3f}: {json.dumps(chosen)}", flush=True)
    return chosen


def generators(
    kind: Kind, real: Real, options: argparse.Namespace, sizes: Sizes, corpora: Mapping[str, Path]
) -> list[Measured]:
    """Ours first, then the corpora that were named, then the peers."""
    changes = json.loads(options.set) if options.set else {}
    ours = our_masks(our_recipe(options.recipe, options.data, kind.mechanism, sizes.masks, changes))
    found = [Measured(f"MaPhC2F, {kind.mechanism}", measure(ours), shown=tuple(ours[:12]))]
    for name, path in corpora.items():
        masks = corpus_masks(path)
        found.append(Measured(name, measure(masks), shown=tuple(masks[:12])))
    return found + [draw_peer(peer, real, sizes) for peer in kind.peers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="mtd in MVTec AD layout")
    parser.add_argument("--recipe", type=Path, default=_ROOT / "recipes" / "mtd.yaml")
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), help="default: all")
    parser.add_argument("--fit", action="store_true", help="choose our parameters on the training half and print them")
    parser.add_argument("--set", help="JSON of parameters of our mechanism, over the recipe's; with one --kind")
    parser.add_argument("--corpus", action="append", default=[], metavar="NAME=DIR", help="judge this corpus besides")
    parser.add_argument("--docs", type=Path, default=_ROOT / "docs", help="where realism.md and pictures/ are written")
    parser.add_argument("--masks", type=int, default=Sizes.masks, help="masks of each generator")
    parser.add_argument("--tries", type=int, default=Sizes.tries, help="masks of each try of a fit")
    parser.add_argument("--draws", type=int, default=Sizes.draws, help="draws that a mean distance is taken over")
    options = parser.parse_args()
    sizes = Sizes(masks=options.masks, tries=options.tries, draws=options.draws)
    corpora = {name: Path(path) for name, _, path in (text.partition("=") for text in options.corpus)}
    kinds = [KINDS[name] for name in options.kind or KINDS]
    sections = []
    for kind in kinds:
        real = read_real(options.data / "ground_truth" / kind.folder)
        if options.fit:
            fit(kind, real, options.recipe, options.data, sizes)
            continue
        made = generators(kind, real, options, sizes, corpora)
        scores = judge(real, made, sizes=sizes)
        from benchmarks.realism_report import section

        sections.append(section(kind.name, real, made, scores, options.docs / "pictures"))
        print(sections[-1], flush=True)
    if sections:
        from benchmarks.realism_report import page

        (options.docs / "realism.md").write_text(page(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
