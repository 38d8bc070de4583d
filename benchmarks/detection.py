"""What a corpus is worth to a detector of real defects: ours, step by step, beside other generators and PatchCore.

Run with::

    python -m benchmarks.detection --data ../shared/data/mtd                 # five seeds; docs/detection.md and plot
    python -m benchmarks.detection --data ../shared/data/mtd --seeds 1 --only ours "PatchCore"

One detector and one budget for all generators: the same photographs, as many samples, the same settings of `bisqad`.
Corpora, features and figures lie below ``--work``; what is there already is not made again, so a run that was stopped
goes on. Two real defects of each type, drawn once, were looked at while the detector was designed: they are left out
of the judging. Nothing is chosen by what is judged, but for the rival: of PatchCore all variants are shown, and the one
that comes out best on the judged photographs is the one that counts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from benchmarks.detection_report import page, picture
from benchmarks.patchcore import BLOCKS, VARIANTS, PatchCore, Variant, judged, patch_features
from benchmarks.peers import defect_synthesis
from benchmarks.peers.painter import Painted
from benchmarks.peers.target import Target
from bisqad.config import DetectorConfig, TrainConfig
from bisqad.detector import Detector, Found, maps_of_cells
from bisqad.features import FeatureExtractor, to_working_size
from bisqad.inspection_set import GOOD, Photograph, find_photographs, read_photograph
from bisqad.metrics import evaluate_scores
from bisqad.run import train
from manifests import Corpus, Sample
from manifests.config import StoreConfig, parse_source
from manifests.durable import write_atomic
from manifests.hashing import sha256_bytes
from manifests.policy import read_policy
from pipeline.generate import generate
from pipeline.recipe import Recipe, only_mechanisms
from refine.backbone import EfficientNetLite0

__all__ = [
    "CONTENDERS",
    "CachedExtractor",
    "Contender",
    "Painted",
    "PaintedCorpus",
    "Setting",
    "looked_at",
    "run",
    "stored_figures",
]

_ROOT = Path(__file__).resolve().parent.parent
_WORK = _ROOT / "build" / "detection"
_REFERENCES = ("cutpaste", "poisson", "perlin")
_OURS = ("fracture", "craze", "pitting", "dent", "warp")
_RESAMPLES = 20  # intervals are over seeds
_EVERY = 2  # of the pixels each way that are judged
_SETTINGS = {"detector": {"fit": "stretch"}, "fusion": {"held_out_samples": 60, "held_out_normals": 40}}
_FIRST = 0  # seed whose policy plans the second corpus
_PEER_SIZES = Target(area=(0.002, 0.06), length=(0.05, 0.5), width=(0.004, 0.03))  # as our mechanisms' defaults


@dataclass(frozen=True)
class Contender:
    """A corpus and what is learned from it: ``mechanisms`` of the corpus, painted anew by ``painter`` if there is one,
    or planned by the policy that the first seed of the contender ``after`` left; and ``changes`` of the trainer's
    settings.
    """

    name: str
    mechanisms: tuple[str, ...]
    changes: Mapping[str, object]
    painter: str = ""
    after: str = ""


CONTENDERS: tuple[Contender, ...] = (
    Contender("ours: naive paste", _OURS, {"stage": "paste", "method": "uniform"}),
    Contender("ours: render", _OURS, {"stage": "render", "method": "uniform"}),
    Contender("ours: + npcF", _OURS, {"stage": "npcf", "method": "uniform"}),
    Contender("ours: + npcF++", _OURS, {"method": "uniform"}),
    Contender("ours: + shuffled weights", _OURS, {"method": "shuffled"}),
    Contender("ours: + SQE weights", _OURS, {"method": "bilevel"}),
    Contender("ours: second corpus", _OURS, {"method": "uniform"}, after="ours: + SQE weights"),
    Contender("CutPaste", ("cutpaste",), {"method": "uniform"}),
    Contender("Poisson cloning (NSA)", ("poisson",), {"method": "uniform"}),
    Contender("Perlin + texture (DRAEM)", ("perlin",), {"method": "uniform"}),
    Contender("defect-synthesis", _OURS, {"method": "uniform"}, painter="defect-synthesis"),
    Contender("the three references mixed", _REFERENCES, {"method": "uniform"}),
    Contender("hybrid: ours and the references", (*_OURS, *_REFERENCES), {"method": "uniform"}),
    Contender("hybrid + SQE weights", (*_OURS, *_REFERENCES), {"method": "bilevel"}),
)


class CachedExtractor(FeatureExtractor):
    """Features of photographs kept on disk in half precision: seeds and contenders look at the same ones.

    ``pictures`` at the working size are kept; what else it is shown is not.
    """

    def __init__(self, config: DetectorConfig, folder: Path, pictures: Iterable[NDArray[np.uint8]]) -> None:
        super().__init__(config)
        self.folder, self.kept = folder, {self._name(picture) for picture in pictures}
        folder.mkdir(parents=True, exist_ok=True)

    def _name(self, image: NDArray[np.uint8]) -> str:
        return hashlib.sha256(f"{self.identity} {image.shape}".encode() + image.tobytes()).hexdigest()[:32]

    def __call__(self, images: NDArray[np.uint8]) -> Tensor:
        return torch.cat([self._one(image) for image in images])

    def _one(self, image: NDArray[np.uint8]) -> Tensor:
        name = self._name(image)
        if name not in self.kept:
            return super().__call__(image[None])
        path = self.folder / f"{name}.safetensors"
        if not path.is_file():
            write_atomic(path, save({"cells": super().__call__(image[None]).half().contiguous()}))
        return load(path.read_bytes())["cells"].float()


class PaintedCorpus(Corpus):
    """A corpus whose photographs another generator has painted on: the same sources, other pictures and masks."""

    painted: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]

    @classmethod
    def of(cls, corpus: Corpus, *, seed: int) -> PaintedCorpus:
        """Painted by the package defect-synthesis: a crack or a cluster of pits on each photograph in turn."""
        samples = list(corpus)
        sources = [np.asarray(sample.source) for sample in samples]
        kinds = ["crack" if number % 2 else "pit" for number in range(len(sources))]
        targets = dict.fromkeys(("crack", "pit"), _PEER_SIZES)
        made = defect_synthesis.paint(sources, kinds, targets, np.random.default_rng(seed))
        view = cls(corpus.path)
        view.painted = {
            sample.record.id: (one.image, one.mask.astype(np.uint8) * 255)
            for sample, one in zip(samples, made, strict=True)
            if one.mask.any()
        }
        return view.where(id=sorted(view.painted))

    def _view(self, table: Any) -> PaintedCorpus:
        view = super()._view(table)
        view.painted = self.painted
        return view

    def _sample(self, record: Any) -> Sample:
        image, mask = self.painted[record.id]
        hashes = {"image_sha256": sha256_bytes(image.tobytes()), "mask_sha256": sha256_bytes(mask.tobytes())}
        sample = super()._sample(record.model_copy(update=hashes))
        sample.__dict__.update(image=image, mask=mask)  # what its cached properties would read
        return sample

    def iter_shards(self) -> Iterator[tuple[str, list[Sample]]]:
        for key, samples in super().iter_shards():
            for sample in samples:
                image, mask = self.painted[sample.record.id]
                sample.__dict__.update(image=image, mask=mask)
            yield key, samples


def looked_at(data: Path) -> tuple[Path, ...]:
    """The real defects that the detector's design was looked at on: two of each type, by a fixed draw."""
    rng = np.random.default_rng(0)
    found = find_photographs(data, "test")
    drawn: list[Path] = []
    for kind in sorted({p.kind for p in found} - {GOOD}):
        paths = sorted(p.path for p in found if p.kind == kind)
        drawn += [paths[k] for k in rng.choice(len(paths), min(2, len(paths)), replace=False)]
    return tuple(drawn)


@dataclass(frozen=True)
class Setting:
    """What all contenders have in common."""

    data: Path
    work: Path
    count: int
    config: TrainConfig
    left_out: tuple[Path, ...]
    workers: int = 1
    foreground: str = "auto"
    size: int = 256

    def tested(self) -> list[Photograph]:
        """Photographs that judge."""
        left_out = {path.resolve() for path in self.left_out}
        return [p for p in find_photographs(self.data, "test") if p.path.resolve() not in left_out]

    def run_folder(self, contender: str, seed: int) -> Path:
        """Of a contender's training."""
        return self.work / "runs" / f"{_slug(contender)}-{seed}"

    def figures_file(self, name: str, seed: int) -> Path:
        """Where a contender's figures are kept."""
        return self.work / "figures" / f"{_slug(name)}-{seed}.json"

    def recipe(self, mechanisms: Sequence[str]) -> Recipe:
        """Of the corpus of these mechanisms; ours keep their stages."""
        stages = ("paste", "render", "npcf") if set(mechanisms) == set(_OURS) else ()
        recipe = Recipe.model_validate(
            {
                "name": "-".join(mechanisms),
                "seed": 7,
                "count": self.count,
                "size": self.size,
                "fit": "stretch",
                "sources": [parse_source(f"mvtec:{self.data}").model_dump()],
                "foreground": {"mode": self.foreground},
                "store": StoreConfig(stages=stages).model_dump(),
            }
        )
        return only_mechanisms(recipe, mechanisms)

    def corpus(self, contender: Contender) -> Corpus:
        """The contender's corpus, made if it is not there."""
        out = self.work / "corpora" / _slug(" ".join((*contender.mechanisms, contender.after)))
        if not (out / "corpus.json").is_file():
            recipe = self.recipe(contender.mechanisms)
            if contender.after:
                policy = read_policy(self.run_folder(contender.after, _FIRST) / "policy.json")
                recipe = recipe.model_copy(update={"policy": policy, "seed": recipe.seed + 1})
            # in a process of its own: it sets how its process keeps memory
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                pool.submit(partial(generate, out, recipe, workers=self.workers)).result()
        corpus = Corpus(out)
        return PaintedCorpus.of(corpus, seed=7) if contender.painter else corpus


Figures = dict[str, Any]
_Told = Callable[[str], None]


def run(
    setting: Setting, contenders: Sequence[Contender], variants: Sequence[Variant], seeds: Sequence[int], told: _Told
) -> dict[str, list[Figures]]:
    """Figures of every contender, one a seed; see `bisqad.metrics.Detection.to_json`."""
    found: dict[str, list[Figures]] = {}
    pictures = (to_working_size(read_photograph(p)[0], setting.config.detector) for p in find_photographs(setting.data))
    extractor = CachedExtractor(setting.config.detector, setting.work / "features", pictures)
    for seed in seeds:
        for contender in contenders:
            readings = _stored(setting, contender.name, seed, partial(_learned, setting, contender, seed, extractor))
            for name, figures in readings.items():
                found.setdefault(name, []).append(figures)
            told(f"seed {seed}: {contender.name}: image AUROC {readings[contender.name]['image_auroc']:.3f}")
        if variants:
            readings = _stored(setting, "PatchCore", seed, partial(_patchcore, setting, variants, seed))
            for name, figures in readings.items():
                found.setdefault(name, []).append(figures)
            told(f"seed {seed}: PatchCore: best {max(f['image_auroc'] for f in readings.values()):.3f}")
    return found


def stored_figures(setting: Setting, names: Sequence[str], seeds: Sequence[int]) -> dict[str, list[Figures]]:
    """What `run` found before, as far as it came."""
    found: dict[str, list[Figures]] = {}
    for name in names:
        for path in (setting.figures_file(name, seed) for seed in seeds):
            for reading, figures in (json.loads(path.read_bytes()) if path.is_file() else {}).items():
                found.setdefault(reading, []).append(figures)
    return found


def _slug(name: str) -> str:
    return re.sub("[^a-z0-9+]+", "-", name.lower()).strip("-")


def _stored(setting: Setting, name: str, seed: int, make: Callable[[], dict[str, Figures]]) -> dict[str, Figures]:
    path = setting.figures_file(name, seed)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(make(), indent=1).encode())
    stored: dict[str, Figures] = json.loads(path.read_bytes())
    return stored


def _learned(setting: Setting, contender: Contender, seed: int, extractor: FeatureExtractor) -> dict[str, Figures]:
    """Figures of the detector, and of its two halves alone."""
    config = TrainConfig.model_validate({**setting.config.model_dump(), **contender.changes, "seed": seed})
    out = setting.run_folder(contender.name, seed)
    corpus = setting.corpus(contender)
    detector = train(corpus, out, config, cache=setting.work / "cells", extractor=extractor)
    alone = {
        part: replace(detector.fusion, map_share=s, image_share=s) for part, s in (("head", 1.0), ("normality", 0.0))
    }
    detectors = {contender.name: detector}
    detectors |= {f"{contender.name}, {part} alone": replace(detector, fusion=f) for part, f in alone.items()}
    found = _judge(detectors, setting)
    found[contender.name]["fusion"] = {k: v for k, v in asdict(detector.fusion).items() if not isinstance(v, dict)}
    return found


@torch.inference_mode()
def _judge(detectors: Mapping[str, Detector], setting: Setting) -> dict[str, Figures]:
    """Figures of detectors that differ in nothing but how they join their two maps; of all but the first the images'
    alone.
    """
    first = next(iter(detectors.values()))
    tested = setting.tested()
    found: dict[str, list[Found]] = {name: [] for name in detectors}
    masks = []
    distances = _distances(first, setting)
    for number, photograph in enumerate(tested):
        image, mask = read_photograph(photograph)
        working = to_working_size(image, first.config)
        maps = maps_of_cells(first.extractor(working[None])[0], first.head), distances[str(number)]
        for name, detector in detectors.items():
            found[name].append(detector.found(*maps, working.shape[:2], image.shape[:2]))
        masks.append(mask)
    made: dict[str, Figures] = {}
    for name, seen in found.items():
        scores = [f.score for f in seen]
        whole = not made
        made[name] = (
            _figures(scores, [f.score_map for f in seen], masks, tested) if whole else _of_images(scores, tested)
        )
    return made


def _distances(detector: Detector, setting: Setting) -> dict[str, Tensor]:
    """Maps of distances to normality, by number of the photograph: those of one memory serve all that have it."""
    memory = b"".join(part.numpy().tobytes() for part in detector.normality.memory.values())
    path = setting.work / "distances" / f"{sha256_bytes(memory)[:32]}.safetensors"
    if not path.is_file():
        found = {}
        for number, photograph in enumerate(setting.tested()):
            working = to_working_size(read_photograph(photograph)[0], detector.config)
            key = detector.category_key(photograph.category)
            cells = detector.extractor(working[None])[0]
            found[str(number)] = detector.normality.distance_map(cells, key).contiguous()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, save(found))
    return load(path.read_bytes())


def _figures(
    scores: Sequence[float],
    maps: Sequence[NDArray[np.float32]],
    masks: Sequence[NDArray[np.bool_]],
    tested: Sequence[Photograph],
) -> Figures:
    some = [m[::_EVERY, ::_EVERY] for m in maps]
    labels = [m[::_EVERY, ::_EVERY] for m in masks]
    return evaluate_scores(scores, some, labels, [p.kind for p in tested], seed=0, resamples=_RESAMPLES).to_json()


def _patchcore(setting: Setting, variants: Sequence[Variant], seed: int) -> dict[str, Figures]:
    network, config = EfficientNetLite0(BLOCKS), setting.config.detector
    normals = [p for p in find_photographs(setting.data, "train") if p.kind == GOOD]
    tested = setting.tested()
    images = [read_photograph(p) for p in tested]
    masks = [mask for _, mask in images]
    found: dict[str, Figures] = {}
    for border in sorted({v.border for v in variants}):
        seen = [patch_features(to_working_size(read_photograph(p)[0], config), network, border) for p in normals]
        core = PatchCore.of(seen, seed=seed)
        maps = [core.distances(patch_features(to_working_size(image, config), network, border)) for image, _ in images]
        for crop in sorted({v.crop_cells for v in variants if v.border == border}):
            alike = [v for v in variants if (v.border, v.crop_cells) == (border, crop)]
            each = [[judged(m, v, image.shape) for m, (image, _) in zip(maps, images, strict=True)] for v in alike]
            first = _figures([s for s, _ in each[0]], [m for _, m in each[0]], masks, tested)
            for variant, seen_by in zip(alike, each, strict=True):
                found[variant.name] = _with_scores(first, [score for score, _ in seen_by], tested)
    return found


def _of_images(scores: Sequence[float], tested: Sequence[Photograph]) -> Figures:
    """Figures of pictures of one pixel: what is said of images holds, and of pixels nothing."""
    flags = [np.full((1, 1), p.kind != GOOD) for p in tested]
    return _figures(scores, [np.zeros((1, 1), dtype=np.float32)] * len(flags), flags, tested)


def _with_scores(figures: Figures, scores: Sequence[float], tested: Sequence[Photograph]) -> Figures:
    """The figures of the same maps with other scores of the pictures."""
    other = _of_images(scores, tested)
    by_defect = {k: {**v, "image_auroc": other["by_defect"][k]["image_auroc"]} for k, v in figures["by_defect"].items()}
    return {**figures, "image_auroc": other["image_auroc"], "by_defect": by_defect}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data set in the layout of MVTec AD")
    parser.add_argument(
        "--work", type=Path, default=_ROOT / "build" / "detection", help="for corpora, features and figures"
    )
    parser.add_argument("--count", type=int, default=250, help="samples of each corpus")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="contenders whose names begin so")
    parser.add_argument("--stored", action="store_true", help="show what earlier runs found; train nothing")
    parser.add_argument("--foreground", default="auto", choices=("auto", "object", "texture"))
    parser.add_argument("--out", type=Path, default=_ROOT / "docs")
    options = parser.parse_args()
    data: Path = options.data.resolve()
    setting = Setting(
        data=data,
        work=options.work / f"{data.name}-{options.count}",
        count=options.count,
        config=TrainConfig.model_validate(_SETTINGS),
        left_out=looked_at(data),
        workers=options.workers,
        foreground=options.foreground,
    )
    wanted = options.only
    contenders = [c for c in CONTENDERS if not wanted or any(c.name.startswith(w) for w in wanted)]
    variants = [v for v in VARIANTS if not wanted or any(v.name.startswith(w) for w in wanted)]
    if options.stored:
        found = stored_figures(setting, [*(c.name for c in contenders), "PatchCore"], range(options.seeds))
    else:
        found = run(setting, contenders, variants, range(options.seeds), lambda line: print(line, flush=True))
    text = page(found, data.name, setting.count, len(setting.left_out), foreground=setting.foreground)
    (options.out / "pictures").mkdir(parents=True, exist_ok=True)
    write_atomic(options.out / f"detection-{data.name}.md", text.encode())
    write_atomic(options.out / "pictures" / f"detection-{data.name}.png", picture(found))


if __name__ == "__main__":
    main()
