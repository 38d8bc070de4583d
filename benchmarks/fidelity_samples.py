"""Pictures with one defect each, real and made, and patches that differ in nothing but how the defect came about.

What would tell real from made without looking at the defect is taken away or measured:

- *size and compression*: real photographs go through the reader of the pipeline, cropped and resampled to the same
  side; the square is moved along a long photograph where its middle would miss the defect;
- *enlargement, exposure, grain*: normals are chosen whose size, brightness and finest detail match those of the
  defects' photographs;
- *kind, area, elongation*: each real defect is given the made ones that are nearest to it in these, as many of each
  kind;
- *place*: a patch is centred on the defect, as far as the border of the picture allows, which is matched as well;
- *the part*: patches without a defect, of both sorts of photographs, are told apart as well: the floor that can be
  reached.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from benchmarks.peers.target import Target
from benchmarks.real_masks import Halves, by_tile, halves, load_masks
from manifests import Corpus, Sample, layout
from manifests.records import SourceRecord
from manifests.tables import from_table, read_table
from pipeline.descriptors import describe
from pipeline.sources.fitting import fit, fit_mask

__all__ = [
    "FOLDERS",
    "MECHANISMS",
    "STAGES",
    "Real",
    "Shot",
    "copy_matched_normals",
    "corpus_shots",
    "matched",
    "normal_shots",
    "patch_window",
    "read_real",
    "sound_shots",
    "target_of",
]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

SIDE_PX = 256
PATCH_PX = 64
FOLDERS: Mapping[str, str] = {"crack": "crack", "pit": "blowhole"}
MECHANISMS: Mapping[str, str] = {"fracture": "crack", "pitting": "pit"}
STAGES: Mapping[str, str] = {"paste": "naive paste", "render": "render", "npcf": "+ npcF", "npcfpp": "+ npcF++"}
_SPLIT_SEED = 0  # that of `benchmarks.realism`: the same half judges
_LEAST_PX = 12  # a mask of which the crop left less is not used
_BACKGROUND_WEIGHTS = (2.0, 1.0, 1.5)  # size of the photograph, light, finest detail
_OFF_PX = 8.0  # a defect this far off the middle of its patch counts as much as a factor e of area
_AWAY_PX = 24.0  # sound patches stay this far from the defect
_VOTES = 12


@dataclass(frozen=True)
class Shot:
    """A picture with one defect.

    Attributes
    ----------
    image : (S, S, C) uint8 array
        The picture.
    mask : (S, S) bool array
        Where the defect is, as labelled.
    kind : str
        ``crack``, ``pit``, or the mechanism's name.
    group : str
        Tile or source photograph: shots of one group are never on both sides of a test.
    side_px : int
        Short side of the photograph as taken.
    """

    image: NDArray[np.uint8]
    mask: Mask
    kind: str
    group: str
    side_px: int

    @property
    def grey(self) -> Floats:
        """(S, S) mean of the channels, 0..255."""
        return np.asarray(self.image.mean(axis=-1, dtype=np.float64))

    @property
    def middle(self) -> tuple[int, int]:
        """Pixel (y, x) of the mask that is nearest to its centre of mass."""
        points = np.argwhere(self.mask)
        near = points[np.argmin(np.square(points - points.mean(axis=0)).sum(axis=1))]
        return int(near[0]), int(near[1])


@dataclass(frozen=True)
class Real:
    """Real defects and in which half the tile of each is: the one that chooses parameters or the one that judges."""

    shots: tuple[Shot, ...]
    judging: NDArray[np.bool_]


def patch_window(shot: Shot, side_px: int = PATCH_PX) -> tuple[slice, slice]:
    """Window of ``side_px`` around the defect's middle, moved into the picture where it would leave it."""
    starts = (min(max(c - side_px // 2, 0), n - side_px) for c, n in zip(shot.middle, shot.mask.shape, strict=True))
    top, left = starts
    return slice(top, top + side_px), slice(left, left + side_px)


def read_real(data: Path, *, size: int = SIDE_PX) -> Real:
    """All real cracks and blowholes of ``data``, as the pipeline would read them, halved by tile.

    Raises
    ------
    FileNotFoundError
        A folder of masks or a photograph is missing.
    """
    shots: list[Shot] = []
    judging: list[bool] = []
    for kind, folder in FOLDERS.items():
        tiles = by_tile(load_masks(data / "ground_truth" / folder))
        parts: Halves = halves(len(tiles), np.random.default_rng(_SPLIT_SEED))
        for number, tile in enumerate(tiles):
            for real in tile:
                pixels = _photograph(data / "test" / folder, real.name)
                part = _square_around(real.mask, size)
                image, _ = fit(pixels[part], size=size, policy="crop")
                mask = fit_mask(real.mask[part], size=size, policy="crop")
                if mask.sum() >= _LEAST_PX:
                    shots.append(Shot(_to_8_bit(image), mask, kind, f"{kind}-{number}", min(pixels.shape[:2])))
                    judging.append(number in parts.test)
    return Real(tuple(shots), np.array(judging))


def _square_around(mask: Mask, size: int) -> tuple[slice, slice]:
    """The square that policy crop takes, moved along the longer side no more than the patch around a defect needs."""
    side = min(mask.shape)
    half_patch = 0.5 * PATCH_PX * side / size
    out = []
    for n, middle in zip(mask.shape, np.argwhere(mask).mean(axis=0), strict=True):
        start = np.clip((n - side) / 2, middle + half_patch - side, middle - half_patch)
        start = int(np.clip(round(float(start)), 0, n - side))
        out.append(slice(start, start + side))
    return out[0], out[1]


def _photograph(folder: Path, mask_name: str) -> NDArray[np.uint8]:
    """Grey pixels (H, W, 1) of the photograph that a mask belongs to."""
    stem = mask_name.removesuffix("_mask")
    found = sorted(folder.glob(f"{stem}.*"))
    if not found:
        raise FileNotFoundError(f"{folder}: expected a photograph {stem}.*, got none")
    return np.asarray(Image.open(found[0]).convert("L"))[..., None]


def copy_matched_normals(data: Path, real: Real, into: Path) -> Path:
    """Copy to ``into`` the training normals that match the real photographs in size, light and grain, one for each.

    Returns
    -------
    Path
        Root in MVTec AD layout, holding nothing but ``train/good``.
    """
    folder = into / "train" / "good"
    folder.mkdir(parents=True)
    files = sorted(p for p in (data / "train" / "good").iterdir() if p.is_file())
    have = np.array([_background(_normal(path, SIDE_PX)) for path in files])
    want = np.array([_background(shot) for shot in real.shots])
    cost = np.square((want[:, None] - have[None]) * np.array(_BACKGROUND_WEIGHTS)).sum(axis=2)
    _, chosen = linear_sum_assignment(cost)
    for k in sorted(chosen):
        shutil.copy(files[k], folder / files[k].name)
    return into


def _normal(path: Path, size: int) -> Shot:
    """A photograph without a defect, as the pipeline reads it, with an empty mask."""
    pixels = np.asarray(Image.open(path).convert("L"))[..., None]
    image, _ = fit(pixels, size=size, policy="crop")
    return Shot(_to_8_bit(image), np.zeros(image.shape[:2], dtype=np.bool_), "", path.stem, min(pixels.shape[:2]))


def _background(shot: Shot) -> tuple[float, float, float]:
    """Logarithms of the photograph's size, of its light, and of its finest detail in the median, by its light."""
    grey = shot.grey
    light = 1 + float(np.median(grey))
    fine = float(np.median(np.abs(grey - ndimage.gaussian_filter(grey, 1.0))))
    return float(np.log(shot.side_px)), float(np.log(light)), float(np.log((fine + 0.1) / light))


def normal_shots(
    root: Path, like: Sequence[Shot], rng: np.random.Generator, *, split: str = "train", size: int = SIDE_PX
) -> list[Shot]:
    """Photographs without defects, each with the mask of a defect of ``like`` laid at a random place."""
    shots = []
    for number, path in enumerate(sorted((root / split / "good").iterdir())):
        sound = _normal(path, size)
        model = like[number % len(like)]
        moved = _moved(model.mask, np.zeros_like(model.mask), rng)
        if moved is not None:
            shots.append(replace(sound, mask=moved, kind=model.kind, group=f"{split}-{path.stem}"))
    return shots


def sound_shots(shots: Iterable[Shot], rng: np.random.Generator) -> list[Shot]:
    """The same photographs with the mask moved to where they are sound; left out where there is no room."""
    found = []
    for shot in shots:
        moved = _moved(shot.mask, shot.mask, rng)
        if moved is not None:
            found.append(replace(shot, mask=moved))
    return found


def _moved(mask: Mask, avoid: Mask, rng: np.random.Generator) -> Mask | None:
    """The mask shifted within the picture so that its middle stays clear of ``avoid``; None if there is no place."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    away = ndimage.distance_transform_edt(~avoid) if avoid.any() else np.full(mask.shape, np.inf)
    for _ in range(200):
        y, x = rng.integers(mask.shape[0] - height + 1), rng.integers(mask.shape[1] - width + 1)
        there = away[y : y + height, x : x + width][cut]
        if there.min() > _AWAY_PX:
            out = np.zeros_like(mask)
            out[y : y + height, x : x + width] = cut
            return out
    return None


def corpus_shots(
    corpus: Corpus, kinds: Mapping[str, str] | None = None, *, source: bool = False
) -> dict[str, list[Shot]]:
    """Shots of a corpus by stage; the same samples in the same order in each.

    Parameters
    ----------
    corpus : Corpus
        With its stages kept, or without: then only ``npcfpp``, the final picture, is there.
    kinds : mapping, optional
        Kind by mechanism; other mechanisms are left out. By default each mechanism is a kind of its own.
    source : bool
        Give the untouched photographs besides, as stage ``source``.
    """
    records = from_table(read_table(corpus.path / layout.INVENTORY), SourceRecord)
    sides = {(r.dataset, r.category, r.index): min(r.width_px, r.height_px) for r in records if r.index >= 0}
    found: dict[str, list[Shot]] = {}
    for sample in corpus:
        mechanism = sample.record.mechanism
        kind = mechanism if kinds is None else kinds.get(mechanism)
        if kind is None:
            continue
        key = (sample.record.dataset, sample.record.category, sample.record.source)
        mask = sample.mask.squeeze() > 0
        images = {**_stage_images(sample), **({"source": sample.source} if source else {})}
        for stage, image in images.items():
            found.setdefault(stage, []).append(Shot(_to_8_bit(image), mask, kind, "-".join(map(str, key)), sides[key]))
    return {stage: found[stage] for stage in (*STAGES, "source") if stage in found}


def _stage_images(sample: Sample) -> dict[str, NDArray[np.generic]]:
    kept: Mapping[str, NDArray[np.generic]] = getattr(sample, "stages", {})  # corpora of older versions keep none
    return {**{name: np.asarray(image) for name, image in kept.items()}, "npcfpp": sample.image}


def _to_8_bit(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    if image.dtype == np.uint16:
        return np.asarray(np.round(np.asarray(image, dtype=np.float64) / 257.0), dtype=np.uint8)
    return np.asarray(image, dtype=np.uint8)


def matched(real: Sequence[Shot], made: Sequence[Shot], *, each: int = 2) -> list[int]:
    """Of the made shots, ``each`` for every real one: of its kind, nearest in area, elongation, size of photograph.

    Returns
    -------
    list of int
        Positions in ``made``, each at most once, in ascending order; fewer where there are too few of a kind.
    """
    chosen: list[int] = []
    for kind in sorted({shot.kind for shot in real}):
        want = np.array([_size(s) for s in real if s.kind == kind for _ in range(each)])
        where = [k for k, s in enumerate(made) if s.kind == kind]
        if where:
            have = np.array([_size(made[k]) for k in where])
            _, columns = linear_sum_assignment(np.square(want[:, None] - have[None]).sum(axis=2))
            chosen += [where[c] for c in columns]
    return sorted(chosen)


def _size(shot: Shot) -> tuple[float, float, float, float]:
    """Logarithms of area and elongation in the patch, twice that of the photograph's size; how far off the middle."""
    window = patch_window(shot)
    off = [abs(m - w.start - PATCH_PX / 2) for m, w in zip(shot.middle, window, strict=True)]
    points = np.argwhere(shot.mask[window]).astype(np.float64)
    spread = np.linalg.eigvalsh(np.cov(points.T) + np.eye(2) / 12.0) if len(points) > 2 else np.ones(2)
    return (
        float(np.log(len(points))),
        float(0.5 * np.log(spread[1] / spread[0])),
        float(2 * np.log(shot.side_px)),
        max(off) / _OFF_PX,
    )


def target_of(shots: Sequence[Shot]) -> Target:
    """Tenth and ninetieth percentile of area, length and width, in sides, one vote a group: what peers are told."""
    described = [(d.area, d.length, d.width) for d in (describe(shot.mask) for shot in shots)]
    groups = {g: [d for d, s in zip(described, shots, strict=True) if s.group == g] for g in {s.group for s in shots}}
    votes = [own[int(k)] for own in groups.values() for k in np.linspace(0, len(own) - 0.01, _VOTES)]
    low, high = np.quantile(votes, [0.1, 0.9], axis=0)
    bounds = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    return Target(area=bounds[0], length=bounds[1], width=bounds[2])
