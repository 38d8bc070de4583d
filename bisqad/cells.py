"""From pictures to what training sees: a fixed number of cells of every sample and of every normal photograph.

The backbone is frozen, so each picture passes it once. Of its map a few cells are kept, on the defect, beside it and
elsewhere, in a folder from which later epochs, runs and seeds read. Which cells are drawn depends on the sample alone,
not on the run's seed: a cache serves them all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional

from bisqad.config import CellsConfig, StageName, TrainConfig
from bisqad.features import CELL_PX, FeatureExtractor, mask_to_working_size, to_working_size
from manifests import Corpus, Sample
from manifests.durable import write_atomic
from manifests.errors import CorpusError
from manifests.pictures import eight_bits
from manifests.records import SampleRecord
from refine.sqe import describe

__all__ = [
    "NormalCells",
    "NormalPicture",
    "SampleCells",
    "cell_labels",
    "draw_cells",
    "eight_bit_colour",
    "normal_cells",
    "normals_of",
    "sample_cells",
    "stage_picture",
]

Picture = NDArray[np.uint8]
Advance = Callable[[int, int], None]

_ON_DEFECT = 0.25  # share of a cell that the mask covers, from which on the cell is the defect's
_RING_CELLS = 2
_SAMPLE_TENSORS = frozenset({"features", "labels", "description"})
_NORMAL_TENSORS = frozenset({"features"})
_AT_ONCE = 8  # pictures in a pass of the backbone


@dataclass(frozen=True)
class SampleCells:
    """Cells of N samples, K each.

    Attributes
    ----------
    features : (N, K, C) float16 tensor
    labels : (N, K) float32 tensor
        1 on the defect, 0 beside it.
    description : (N, D) float32 tensor
        See `refine.sqe.describe`.
    records : tuple of SampleRecord
    """

    features: Tensor
    labels: Tensor
    description: Tensor
    records: tuple[SampleRecord, ...]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def mechanisms(self) -> NDArray[np.str_]:
        """(N,) mechanism of each sample."""
        return np.array([record.mechanism for record in self.records])

    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> SampleCells:
        """Those samples, in that order."""
        index = torch.as_tensor(np.asarray(positions, dtype=np.int64))
        chosen = tuple(self.records[k] for k in index.tolist())
        return SampleCells(self.features[index], self.labels[index], self.description[index], chosen)


@dataclass(frozen=True)
class NormalPicture:
    """A normal photograph: ``name``, sha256 of its file, ``key``, its category, ``read`` gives (H, W, 3) uint8."""

    name: str
    key: str
    read: Callable[[], Picture]


@dataclass(frozen=True)
class NormalCells:
    """Cells of M normal photographs, K each: ``features`` (M, K, C) float16, ``keys`` and ``names`` (M,)."""

    features: Tensor
    keys: NDArray[np.str_]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, chosen: NDArray[np.bool_]) -> NormalCells:
        """Those photographs for which ``chosen`` (M,) is true."""
        names = tuple(np.array(self.names, dtype=object)[chosen].tolist())
        return NormalCells(self.features[torch.from_numpy(chosen)], self.keys[chosen], names)


def eight_bit_colour(image: NDArray[np.uint8] | NDArray[np.uint16]) -> Picture:
    """A stored picture (H, W, 1 or 3) of 8 or 16 bits as (H, W, 3) uint8."""
    plain = eight_bits(image)
    return np.ascontiguousarray(np.broadcast_to(plain, (*plain.shape[:2], 3)))


def stage_picture(sample: Sample, stage: StageName) -> Picture:
    """The sample's picture after a stage of the refinement, (H, W, 3) uint8.

    Raises
    ------
    CorpusError
        The corpus does not keep that stage.
    """
    if stage == "final":
        return eight_bit_colour(sample.image)
    if stage not in sample.stages:
        raise CorpusError(
            f"{sample.root}: stage {stage!r} is not kept; make the corpus with store.stages: [paste, render, npcf]"
        )
    return eight_bit_colour(sample.stages[stage])


def normals_of(corpus: Corpus) -> tuple[NormalPicture, ...]:
    """The normal photographs that the corpus's samples were made from, each once, in a fixed order."""
    first: dict[tuple[str, int], Sample] = {}
    for position in _first_positions(corpus):
        sample = corpus[position]
        first[f"{sample.record.dataset}/{sample.record.category}", sample.record.source] = sample
    return tuple(
        NormalPicture(sample.record.source_sha256, key, partial(_source_picture, sample))
        for (key, _), sample in sorted(first.items())
    )


def _source_picture(sample: Sample) -> Picture:
    return eight_bit_colour(sample.source)


def _first_positions(corpus: Corpus) -> list[int]:
    columns = (corpus.table[name].to_pylist() for name in ("dataset", "category", "source"))
    seen: dict[tuple[str, str, int], int] = {}
    for position, row in enumerate(zip(*columns, strict=True)):
        seen.setdefault(row, position)
    return list(seen.values())


def sample_cells(
    corpus: Corpus, config: TrainConfig, extractor: FeatureExtractor, *, cache: Path, advance: Advance | None = None
) -> SampleCells:
    """Cells and descriptions of all samples of a corpus, from the cache where they are in it.

    Parameters
    ----------
    corpus : Corpus
        Its accepted samples, or a filtered view.
    config : TrainConfig
        Which stage, and how many cells.
    extractor : FeatureExtractor
        Makes the maps.
    cache : Path
        Folder of the cache; made if missing.
    advance : callable, optional
        Told (samples done, of how many).

    Raises
    ------
    CorpusError
        The corpus does not keep that stage, or is damaged.
    """
    cache.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, Tensor]] = []
    records: list[SampleRecord] = []
    for _, samples in corpus.iter_shards():
        path = cache / f"{_shard_identity(samples, config, extractor)}.safetensors"
        stored = _read_cache(path, _SAMPLE_TENSORS)
        if stored is None:
            stored = _shard_cells(samples, config, extractor)
            write_atomic(path, save(stored))
        parts.append(stored)
        records += [sample.record for sample in samples]
        if advance is not None:
            advance(len(records), len(corpus))
    if not records:
        raise CorpusError(f"{corpus.path}: no accepted sample to learn from; look at maphc2f info")
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return SampleCells(joined["features"], joined["labels"].float(), joined["description"], tuple(records))


def _shard_identity(samples: Sequence[Sample], config: TrainConfig, extractor: FeatureExtractor) -> str:
    cells = config.cells
    what = [extractor.identity, config.stage, f"{cells.defect} {cells.ring} {cells.far}"]
    what += [f"{s.record.id} {s.record.image_sha256} {s.record.mask_sha256}" for s in samples]
    return hashlib.sha256("\n".join(what).encode()).hexdigest()[:32]


def _read_cache(path: Path, wanted: frozenset[str]) -> dict[str, Tensor] | None:
    """What a cache file holds; None if there is none, or it is damaged: then it is made again."""
    try:
        stored = load(path.read_bytes())
    except (OSError, SafetensorError):
        return None
    return stored if wanted <= stored.keys() else None


def _shard_cells(samples: Sequence[Sample], config: TrainConfig, extractor: FeatureExtractor) -> dict[str, Tensor]:
    features, labels = [], []
    for few in _batched(samples, _AT_ONCE):
        pictures = np.stack([to_working_size(stage_picture(sample, config.stage), extractor.config) for sample in few])
        for sample, cells in zip(few, extractor(pictures), strict=True):
            mask = mask_to_working_size(sample.mask, extractor.config)
            chosen, label = draw_cells(mask, config.cells, np.random.default_rng(int(sample.record.id, 16)))
            features.append(cells[:, chosen[:, 0], chosen[:, 1]].T.half())
            labels.append(torch.from_numpy(label))
    description = np.concatenate([_described(few, config.stage) for few in _batched(samples, 64)])
    return {
        "features": torch.stack(features),
        "labels": torch.stack(labels),
        "description": torch.from_numpy(description),
    }


def _described(samples: Sequence[Sample], stage: StageName) -> NDArray[np.float32]:
    return describe(
        np.stack([stage_picture(sample, stage) for sample in samples]),
        np.stack([sample.mask > 0 for sample in samples]),
        np.stack([eight_bit_colour(sample.source) for sample in samples]),
        np.stack([sample.foreground for sample in samples]),
    )


def draw_cells(
    mask: NDArray[np.bool_], config: CellsConfig, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Cells (K, 2) of a mask (H, W), row and column, and whether each is on the defect (K,)."""
    cover = _cover(mask)
    on, share = _is_defect(cover).numpy(), cover.numpy()
    grown = functional.max_pool2d(cover[None], 2 * _RING_CELLS + 1, stride=1, padding=_RING_CELLS)[0].numpy()
    pools = [(on, config.defect), (~on & (share == 0) & (grown > 0), config.ring), (grown == 0, config.far)]
    chosen, labels = [], []
    for pool, count in pools:
        there = np.argwhere(pool)
        if not len(there):  # the defect fills its picture, or there is none: others take the place
            there = np.argwhere(~on) if (~on).any() else np.argwhere(on)
        picked = there[rng.choice(len(there), size=count, replace=len(there) < count)]
        chosen.append(picked)
        labels.append(on[picked[:, 0], picked[:, 1]].astype(np.uint8))
    return np.concatenate(chosen), np.concatenate(labels)


def cell_labels(mask: NDArray[np.bool_]) -> Tensor:
    """Cells (h, w) of a mask (H, W) that are the defect's, bool: those covered by a quarter, or else the most."""
    return _is_defect(_cover(mask))


def _cover(mask: NDArray[np.bool_]) -> Tensor:
    """Share of each cell (h, w) that the mask covers."""
    plane = torch.from_numpy(mask.astype(np.float32))[None, None]
    return functional.avg_pool2d(plane, CELL_PX, ceil_mode=True, count_include_pad=False)[0, 0]


def _is_defect(cover: Tensor) -> Tensor:
    return cover >= min(_ON_DEFECT, float(cover.max()) or 1.0)


def normal_cells(
    pictures: Sequence[NormalPicture],
    config: TrainConfig,
    extractor: FeatureExtractor,
    *,
    cache: Path,
    advance: Advance | None = None,
) -> NormalCells:
    """Cells of normal photographs, from the cache where they are in it; parameters as those of `sample_cells`.

    Raises
    ------
    SourceError
        A photograph cannot be read.
    """
    cache.mkdir(parents=True, exist_ok=True)
    found = []
    for number, picture in enumerate(pictures):
        image = to_working_size(picture.read(), extractor.config)
        identity = f"{extractor.identity} normal {config.cells.normal} {image.shape}".encode() + image.tobytes()
        path = cache / f"{hashlib.sha256(identity).hexdigest()[:32]}.safetensors"
        stored = _read_cache(path, _NORMAL_TENSORS)
        if stored is None:
            cells = extractor(image[None])[0].flatten(1).T
            rng = np.random.default_rng(int.from_bytes(hashlib.sha256(identity).digest()[:8], "little"))
            drawn = rng.choice(len(cells), size=config.cells.normal, replace=len(cells) < config.cells.normal)
            stored = {"features": cells[torch.from_numpy(drawn)].half()}
            write_atomic(path, save(stored))
        found.append(stored["features"])
        if advance is not None:
            advance(number + 1, len(pictures))
    return NormalCells(
        features=torch.stack(found),
        keys=np.array([picture.key for picture in pictures]),
        names=tuple(picture.name for picture in pictures),
    )


def _batched(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    for start in range(0, len(samples), size):
        yield samples[start : start + size]
