"""From a trained head to a detector: how both maps are joined, and from which score on a part is abnormal.

All of it is decided on pictures that were held out of training: normals, samples, and real defects where some are
given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bisqad.cells import NormalCells, NormalPicture, SampleCells, cell_labels, stage_picture
from bisqad.config import TrainConfig
from bisqad.detector import Detector, maps_of_cells
from bisqad.features import FeatureExtractor, mask_to_working_size, to_working_size
from bisqad.fusion import Fusion, HeldOutMaps, choose_fusion
from bisqad.head import SegmentationHead
from bisqad.inspection_set import Photograph, read_photograph
from bisqad.normality import Normality, deepest_scale
from bisqad.profile import BorderProfile
from bisqad.terminal import Progress
from bisqad.training import Material, train_head
from manifests import Corpus

__all__ = ["HeldOutPicture", "calibrated", "held_out_pictures"]

_IMAGE_QUANTILE, _PIXEL_QUANTILE = 0.95, 0.998  # of held-out normals, and of their cells
_REAL = "real defects"


@dataclass(frozen=True)
class HeldOutPicture:
    """A picture that nothing was learned from.

    Attributes
    ----------
    image, mask : (H, W, 3) uint8 and (H, W) bool array
        Of the working size.
    key : str
        Category.
    mechanism : str
        What it is a case of; "" for a normal.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    key: str
    mechanism: str


def held_out_pictures(
    corpus: Corpus,
    pictures: Sequence[NormalPicture],
    reals: Sequence[Photograph],
    config: TrainConfig,
    *,
    names: Collection[str],
) -> list[HeldOutPicture]:
    """Normals and samples of the held-out photographs, as many as the settings allow, and the real defects.

    Parameters
    ----------
    corpus : Corpus
        Its samples.
    pictures : sequence of NormalPicture
        All normal photographs.
    reals : sequence of Photograph
        Real defects, with masks.
    config : TrainConfig
        Working size, stage, and how many.
    names : collection of str
        Of the held-out photographs; empty: all serve.

    Raises
    ------
    CorpusError, SourceError
        A picture cannot be read.
    """
    rng = np.random.default_rng([config.seed, 4])
    detector = config.detector
    sound = [p for p in pictures if not names or p.name in names]
    drawn = sorted(rng.permutation(len(sound))[: config.fusion.held_out_normals].tolist())
    found = []
    for position in drawn:
        image = to_working_size(sound[position].read(), detector)
        found.append(HeldOutPicture(image, np.zeros(image.shape[:2], dtype=np.bool_), sound[position].key, ""))
    wanted = corpus.where(source_sha256=sorted(names)) if names else corpus
    for position in sorted(rng.permutation(len(wanted))[: config.fusion.held_out_samples].tolist()):
        sample = wanted[position]
        image = to_working_size(stage_picture(sample, config.stage), detector)
        key = f"{sample.record.dataset}/{sample.record.category}"
        found.append(HeldOutPicture(image, mask_to_working_size(sample.mask, detector), key, sample.record.mechanism))
    keys = sorted({picture.key for picture in pictures})
    for real in reals:
        image, mask = read_photograph(real)
        key = next((k for k in keys if k.rpartition("/")[2] == real.category), keys[0])
        image, mask = to_working_size(image, detector), mask_to_working_size(mask, detector)
        found.append(HeldOutPicture(image, mask, key, _REAL))
    return found


def calibrated(
    head: SegmentationHead,
    held: Sequence[HeldOutPicture],
    material: Material,
    normals: NormalCells,
    config: TrainConfig,
    extractor: FeatureExtractor,
    *,
    progress: Progress,
) -> Detector:
    """Choose how the maps are joined on held-out pictures, then remember all normals.

    Parameters
    ----------
    head : SegmentationHead
        Trained.
    held : sequence of HeldOutPicture
        What decides.
    material : Material
        What was learned from: heads that leave one mechanism out are trained from it.
    normals : NormalCells
        All that the detector will remember.
    config : TrainConfig
        Settings.
    extractor : FeatureExtractor
        Makes the maps.
    progress : Progress
        Told how far it is.
    """
    unlike = _unlike(material.samples) if config.fusion.leave_mechanism_out else {}
    heads = {_FINAL: head.eval()} | _heads(unlike, material, config, progress)
    scale = deepest_scale(material.normals, extractor.block_channels[-1])
    memory = {"memory_cells": config.detector.memory_cells, "neighbours": config.detector.neighbours}
    rng = np.random.default_rng([config.seed, 2])
    found = _maps(held, heads, Normality.of(material.normals, scale, **memory, rng=rng), extractor, progress)
    asked = sorted({picture.mechanism for picture, _, _ in found} - {""})
    questions = [_question(name, unlike.get(name, _FINAL), found) for name in asked]
    sound = [(logits[_FINAL], distance) for picture, logits, distance in found if not picture.mechanism]
    profiles = [BorderProfile.of(maps) for maps in zip(*sound, strict=True)]
    fusion = choose_fusion(questions, head=profiles[0], distance=profiles[1])
    return Detector(
        config=config.detector,
        head=head.eval(),
        normality=Normality.of(normals, scale, **memory, rng=rng),
        fusion=fusion,
        image_threshold=float(np.quantile([fusion.image_score(*maps) for maps in sound], _IMAGE_QUANTILE)),
        pixel_threshold=_pixel_threshold(fusion, sound),
        extractor=extractor,
    )


_Taught = frozenset[str]  # the mechanisms that a head learned from
_FINAL: _Taught = frozenset()  # of the head that is kept: all
_Maps = tuple[HeldOutPicture, dict[_Taught, Tensor], Tensor]


@torch.inference_mode()
def _maps(
    held: Sequence[HeldOutPicture],
    heads: dict[_Taught, SegmentationHead],
    normality: Normality,
    extractor: FeatureExtractor,
    progress: Progress,
) -> list[_Maps]:
    """Each picture with the logits of every head and its distances to normality, (h, w) each."""
    progress.stage("held-out pictures", len(held))
    found: list[_Maps] = []
    for number, picture in enumerate(held):
        cells = extractor(picture.image[None])[0]
        logits = {taught: maps_of_cells(cells, head) for taught, head in heads.items()}
        found.append((picture, logits, normality.distance_map(cells, picture.key)))
        progress.advance(number + 1, len(held))
    return found


def _pixel_threshold(fusion: Fusion, sound: Sequence[tuple[Tensor, Tensor]]) -> float:
    cells = torch.cat([fusion.score_map(*maps).flatten() for maps in sound])
    return float(np.quantile(cells.numpy(), _PIXEL_QUANTILE))


def _heads(
    unlike: Mapping[str, _Taught], material: Material, config: TrainConfig, progress: Progress
) -> dict[_Taught, SegmentationHead]:
    """Heads that learned from some mechanisms alone."""
    wanted = sorted(set(unlike.values()), key=sorted)
    progress.stage("heads that did not see it all", len(wanted))
    heads = {}
    for number, taught in enumerate(wanted):
        known = np.isin(material.samples.mechanisms, sorted(taught))
        samples = material.samples.take(np.flatnonzero(known))
        heads[taught] = train_head(replace(material, samples=samples), config).eval()
        progress.advance(number + 1, len(wanted))
    return heads


def _unlike(samples: SampleCells) -> dict[str, _Taught]:
    """For every mechanism those that a head learns from that shall not know its like; none where there are no others.

    Simulated mechanisms have more in common with each other than with reference generators, and real defects are as
    unlike either. So, where a corpus has both, all simulated ones are scored by a head that saw none of them, and all
    others too; where it has one family alone, each by a head that saw the others of it.
    """
    is_physical = {record.mechanism: record.physical for record in samples.records}
    both = len(set(is_physical.values())) > 1
    found = {}
    for name in sorted(is_physical):
        others = {n for n in is_physical if (is_physical[n] != is_physical[name] if both else n != name)}
        if others:
            found[name] = frozenset(others)
    return found


def _question(mechanism: str, taught: _Taught, found: Sequence[_Maps]) -> HeldOutMaps:
    chosen = [maps for maps in found if not maps[0].mechanism] + [m for m in found if m[0].mechanism == mechanism]
    return HeldOutMaps(
        mechanism=mechanism,
        head=[logits[taught] for _, logits, _ in chosen],
        distance=[distance for _, _, distance in chosen],
        labels=[cell_labels(picture.mask) for picture, _, _ in chosen],
    )
