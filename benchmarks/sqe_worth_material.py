"""Cells that `benchmarks.sqe_worth` learns from and is judged on: each picture passes the frozen network once.

Of every sample of a corpus there are a sound version and corrupted ones (`bisqad.corruptions`), with cells drawn by the
label that each has, and descriptions as the quality estimator sees them. Real photographs give every second cell each
way. All is kept in a folder of files that later runs read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor

from benchmarks.peers import cutpaste, draem, nsa
from benchmarks.peers.painter import Painter
from benchmarks.peers.target import Target
from bisqad.cells import NormalCells, NormalPicture, SampleCells, cell_labels, draw_cells
from bisqad.config import TrainConfig
from bisqad.corruptions import Specimen, corrupt, others_by_group, specimen_of
from bisqad.features import FeatureExtractor, mask_to_working_size, to_working_size
from bisqad.inspection_set import Photograph, read_photograph
from manifests import Corpus, Sample
from manifests.durable import write_atomic
from manifests.records import SampleRecord
from refine.sqe import describe

__all__ = [
    "KINDS",
    "SOUND",
    "JudgedCells",
    "Split",
    "Versions",
    "contaminated",
    "judged_cells",
    "painted_cells",
    "split",
    "versions",
]

SOUND = "sound"
KINDS = ("shuffled_mask", "shifted_mask", "resized_mask", "ghost")  # their labels are wrong: ghost's change has none
_BLOCK = 8  # samples in a file, and pictures in a pass of the network
_EVERY = 2  # cells from one judged cell to the next
_UPPER, _JUDGE = 0.2, 0.2  # of the normal photographs

Flags = NDArray[np.bool_]
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Versions:
    """N samples in every version: ``cells`` by kind, `SOUND` first, and which samples ``can`` (N,) be made so.

    Where a sample cannot, its row is that of the sound version.
    """

    cells: Mapping[str, SampleCells]
    can: Mapping[str, Flags]

    @property
    def sources(self) -> NDArray[np.str_]:
        """(N,) names of the photographs that the samples were made from."""
        return np.array([record.source_sha256 for record in self.cells[SOUND].records])


def versions(
    corpus: Corpus, config: TrainConfig, extractor: FeatureExtractor, *, cache: Path, advance: Advance | None = None
) -> Versions:
    """Cells of a corpus's samples, sound and corrupted."""
    cache.mkdir(parents=True, exist_ok=True)
    pools, parts, records = others_by_group(corpus), [], []
    for start in range(0, len(corpus), _BLOCK):
        few = [corpus[k] for k in range(start, min(start + _BLOCK, len(corpus)))]
        ids = [f"{sample.record.id} {sample.record.image_sha256} {sample.record.mask_sha256}" for sample in few]
        path = _cache_file(cache, extractor, ["versions 1", str(config.cells), *KINDS, *ids])
        if not path.is_file():
            write_atomic(path, save(_block(few, pools, config, extractor)))
        parts.append(load_file(path))
        records += [sample.record for sample in few]
        if advance is not None:
            advance(len(records), len(corpus))
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    cells = {
        kind: SampleCells(
            joined[f"{kind}.features"], joined[f"{kind}.labels"].float(), joined[f"{kind}.description"], tuple(records)
        )
        for kind in (SOUND, *KINDS)
    }
    return Versions(cells, {kind: joined[f"{kind}.can"].numpy() for kind in (SOUND, *KINDS)})


def _cache_file(cache: Path, extractor: FeatureExtractor, what: Sequence[str]) -> Path:
    name = hashlib.sha256("\n".join([extractor.identity, *what]).encode()).hexdigest()[:32]
    return cache / f"{name}.safetensors"


def _block(
    few: Sequence[Sample],
    pools: Mapping[int, list[tuple[str, Specimen]]],
    config: TrainConfig,
    extractor: FeatureExtractor,
) -> dict[str, Tensor]:
    """Tensors ``<kind>.<what>`` of some samples, each with a row in every kind."""
    rows: dict[str, list[Tensor]] = {}
    made = [_specimens(sample, pools) for sample in few]
    maps = [_maps(specimens, extractor) for specimens in made]
    for sample, specimens, own in zip(few, made, maps, strict=True):
        for kind in (SOUND, *KINDS):
            specimen = specimens.get(kind, specimens[SOUND])
            mask = mask_to_working_size(specimen.mask, extractor.config)
            chosen, label = draw_cells(mask, config.cells, np.random.default_rng(int(sample.record.id, 16)))
            cells = own.get(kind, own[SOUND])
            rows.setdefault(f"{kind}.features", []).append(cells[:, chosen[:, 0], chosen[:, 1]].T.half())
            rows.setdefault(f"{kind}.labels", []).append(torch.from_numpy(label))
            rows.setdefault(f"{kind}.can", []).append(torch.tensor(kind in specimens))
    found = {name: torch.stack(values) for name, values in rows.items()}
    for kind in (SOUND, *KINDS):
        found[f"{kind}.description"] = _described([specimens.get(kind, specimens[SOUND]) for specimens in made])
    return found


def _specimens(sample: Sample, pools: Mapping[int, list[tuple[str, Specimen]]]) -> dict[str, Specimen]:
    """A sample, sound first, and what each corruption makes of it, if it can."""
    specimen = specimen_of(sample)
    others = [other for name, other in pools[sample.record.group] if name != sample.record.id]
    found = {SOUND: specimen}
    for kind in KINDS if others else ():
        corrupted = corrupt(kind, specimen, others, seed=int(sample.record.id, 16))
        if corrupted is not None:
            found[kind] = corrupted
    return found


def _maps(specimens: Mapping[str, Specimen], extractor: FeatureExtractor) -> dict[str, Tensor]:
    """Features (C, h, w) of each version whose picture is not the sound one's."""
    sound = specimens[SOUND].image
    own = {kind: s.image for kind, s in specimens.items() if kind == SOUND or not np.array_equal(s.image, sound)}
    pictures = np.stack([to_working_size(image, extractor.config) for image in own.values()])
    return dict(zip(own, extractor(pictures), strict=True))


def _described(specimens: Sequence[Specimen]) -> Tensor:
    images, masks, sources, parts = (
        np.stack([getattr(specimen, name) for specimen in specimens]) for name in ("image", "mask", "source", "part")
    )
    return torch.from_numpy(describe(images, masks, sources, parts))


_PAINTERS = (cutpaste.CUTPASTE, cutpaste.CUTPASTE_SCAR, nsa.NSA, draem.DRAEM)
_PAINTED = Target(area=(0.003, 0.05), length=(0.08, 0.4), width=(0.01, 0.05))  # of no real defect


def painted_cells(
    pictures: Sequence[NormalPicture],
    config: TrainConfig,
    extractor: FeatureExtractor,
    *,
    cache: Path,
    advance: Advance | None = None,
) -> SampleCells:
    """Every normal photograph with a defect from a generator that is not ours, in turn one of `_PAINTERS`."""
    cache.mkdir(parents=True, exist_ok=True)
    parts, records = [], []
    for number, picture in enumerate(pictures):
        painter = _PAINTERS[number % len(_PAINTERS)]
        path = _cache_file(cache, extractor, ["painted 1", str(config.cells), picture.name, painter.name])
        if not path.is_file():
            rng = np.random.default_rng(number)
            normal, donor = (to_working_size(p.read(), extractor.config) for p in (picture, pictures[number - 1]))
            image, mask = _painted(painter, normal, donor, rng)
            cells = extractor(image[None])[0]
            chosen, label = draw_cells(mask, config.cells, rng)
            stored = {"features": cells[:, chosen[:, 0], chosen[:, 1]].T.half().contiguous()}
            write_atomic(path, save(stored | {"labels": torch.from_numpy(label)}))
        parts.append(load_file(path))
        records.append(SampleRecord.model_construct(mechanism=painter.name, source_sha256=picture.name))
        if advance is not None:
            advance(number + 1, len(pictures))
    features, labels = (torch.stack([part[name] for part in parts]) for name in ("features", "labels"))
    return SampleCells(features, labels.float(), torch.zeros(len(parts), 0), tuple(records))


def _painted(
    painter: Painter, normal: NDArray[np.uint8], donor: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Flags]:
    """The middle square of a photograph with a defect, and its mask; the donor lends the material."""
    side = min(*normal.shape[:2], *donor.shape[:2])
    squares = [
        np.ascontiguousarray(p[(p.shape[0] - side) // 2 :, (p.shape[1] - side) // 2 :][:side, :side])
        for p in (normal, donor)
    ]
    made = painter.paint(squares, [""] * 2, {"": _PAINTED}, rng)[0]
    return made.image, made.mask


@dataclass(frozen=True)
class JudgedCells:
    """Every second cell each way of photographs: ``features`` (R, C) half and ``labels`` (R,) bool of each; ``kinds``.

    `kinds` (P,) is "good" for a normal part, else the type of defect.
    """

    features: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    kinds: NDArray[np.str_]


def judged_cells(
    photographs: Sequence[Photograph], extractor: FeatureExtractor, *, cache: Path, advance: Advance | None = None
) -> JudgedCells:
    """Cells of photographs with masks."""
    cache.mkdir(parents=True, exist_ok=True)
    features, labels = [], []
    for number, photograph in enumerate(photographs):
        image, mask = read_photograph(photograph)
        content = hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()
        path = _cache_file(cache, extractor, ["judged 1", content])
        if not path.is_file():
            cells = extractor(to_working_size(image, extractor.config)[None])[0, :, ::_EVERY, ::_EVERY]
            label = cell_labels(mask_to_working_size(mask, extractor.config)) & bool(mask.any())
            stored = {"features": cells.flatten(1).T.half().contiguous(), "labels": label[::_EVERY, ::_EVERY].flatten()}
            write_atomic(path, save(stored))
        stored = load_file(path)
        features.append(stored["features"])
        labels.append(stored["labels"])
        if advance is not None:
            advance(number + 1, len(photographs))
    return JudgedCells(tuple(features), tuple(labels), np.array([p.kind for p in photographs]))


# ---------------------------------------------------------------- parts and contamination


@dataclass(frozen=True)
class Split:
    """Three parts that share no photograph and no set of photographs that look alike.

    ``lower``, ``upper`` and ``judge`` (N,) of the samples, and of the normals (M,) with ``_normals``.
    """

    lower: Flags
    upper: Flags
    judge: Flags
    lower_normals: Flags
    upper_normals: Flags
    judge_normals: Flags


def split(made: Versions, normals: NormalCells, sets: NDArray[np.int64], *, seed: int) -> Split:
    """Whole sets (M,) of like photographs, drawn until a fifth of the normals are in the judge's part, then the
    upper's.
    """
    drawn = np.random.default_rng([seed, 11]).permutation(np.unique(sets)).tolist()
    judge, upper = np.zeros(len(normals), dtype=np.bool_), np.zeros(len(normals), dtype=np.bool_)
    for one in drawn[:-1]:
        if judge.mean() < _JUDGE:
            judge |= sets == one
        elif upper.mean() < _UPPER:
            upper |= sets == one
    names = np.array(normals.names)
    of_judge, of_upper = (np.isin(made.sources, names[part]) for part in (judge, upper))
    return Split(~of_judge & ~of_upper, of_upper, of_judge, ~judge & ~upper, upper, judge)


def contaminated(
    made: Versions, chosen: Flags, kinds: Sequence[str], share: float, *, seed: int
) -> tuple[SampleCells, NDArray[np.str_]]:
    """The chosen samples (N,), a share of them corrupted, in ways drawn evenly from ``kinds``; and the kind of each."""
    rng = np.random.default_rng([seed, 12])
    positions = np.flatnonzero(chosen)
    found = np.full(len(positions), SOUND, dtype="<U16")
    left = round(share * len(positions))
    for k in rng.permutation(len(positions)).tolist():
        possible = [kind for kind in kinds if made.can[kind][positions[k]]]
        if left and possible:
            found[k] = rng.choice(possible)
            left -= 1
    taken = {kind: part.take(positions) for kind, part in made.cells.items()}
    features, labels, description = (getattr(taken[SOUND], name).clone() for name in _TENSORS)
    for kind in kinds:
        at = torch.from_numpy(found == kind)
        for whole, name in zip((features, labels, description), _TENSORS, strict=True):
            whole[at] = getattr(taken[kind], name)[at]
    return SampleCells(features, labels, description, taken[SOUND].records), found


_TENSORS = ("features", "labels", "description")
