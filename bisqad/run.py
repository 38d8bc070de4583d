"""A training run: from a stored corpus to a folder that holds a detector and all that is needed to make it again.

::

    RUN/
    ├── run.json               settings, corpus and photographs by hash, versions: the run's identity
    ├── progress.csv           one row an epoch; tensorboard/ holds the same
    ├── checkpoint.safetensors state after the last whole epoch: a stopped run goes on from it
    ├── detector.safetensors   what `bisqad evaluate` and `bisqad detect` use
    ├── sqe.safetensors        the estimator with the learned weights (method bilevel)
    ├── weights.parquet        a row for every sample: its weight, and how much it helped
    ├── policy.json            which mechanisms, severities, sizes and places helped: for `maphc2f plan --policy`
    ├── summary.json           what held-out pictures say of the detector
    └── cache/                 features of pictures; may be deleted
"""

from __future__ import annotations

import csv
import io
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from bisqad.cells import (
    NormalCells,
    NormalPicture,
    SampleCells,
    draw_cells,
    normal_cells,
    normals_of,
    sample_cells,
    stage_picture,
)
from bisqad.config import TrainConfig
from bisqad.detector import Detector, maps_of_cells
from bisqad.features import CELL_PX, FeatureExtractor, mask_to_working_size, to_working_size
from bisqad.fusion import Fusion, HeldOutMaps, choose_fusion
from bisqad.head import SegmentationHead
from bisqad.inspection_set import GOOD, find_photographs, folder_of_images, read_image, read_mask
from bisqad.likeness import alike
from bisqad.normality import Normality, deepest_scale
from bisqad.policy import sampling_policy
from bisqad.profile import BorderProfile
from bisqad.training import EpochFigures, Material, Trainer, train_head
from manifests import Corpus, __version__
from manifests.durable import write_atomic
from manifests.errors import ConfigError, OutputError, SourceError
from manifests.hashing import canonical_json, sha256_bytes, sha256_file
from manifests.tables import write_table
from refine.sqe import SQE, load_sqe, save_sqe

__all__ = ["CHECKPOINT", "DETECTOR", "Progress", "Silent", "train"]

RUN, CSV, CHECKPOINT, DETECTOR, SUMMARY = (
    "run.json",
    "progress.csv",
    "checkpoint.safetensors",
    "detector.safetensors",
    "summary.json",
)
_IMAGE_QUANTILE, _PIXEL_QUANTILE = 0.95, 0.998


class Progress(Protocol):
    """Told how far a run is."""

    def stage(self, name: str, total: int) -> None:
        """A stage begins."""

    def advance(self, done: int, total: int) -> None:
        """Items of it are done."""


class Silent:
    """Progress that nobody looks at."""

    def stage(self, name: str, total: int) -> None:
        """A stage begins."""

    def advance(self, done: int, total: int) -> None:
        """Items of it are done."""


def train(
    corpus_path: Path,
    out: Path,
    config: TrainConfig,
    *,
    normals: Path | None = None,
    real_val: Path | None = None,
    sqe: Path | None = None,
    cache: Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Detector:
    """Train a detector from a corpus, or go on with a run that was stopped.

    Parameters
    ----------
    corpus_path : Path
        Finished corpus.
    out : Path
        Run folder; new, empty, or that of the same run.
    config : TrainConfig
        Settings.
    normals, real_val : Path, optional
        More normal photographs; a data set with a few real defects, for the upper level alone.
    sqe : Path, optional
        Estimator to start from; by default the one that ships.
    cache : Path, optional
        Where features are kept; by default in the run folder.
    device : str
        Torch device of the backbone.
    progress : Progress, optional
        Told how far it is.

    Raises
    ------
    ConfigError, CorpusError, SourceError, OutputError
        Bad input; nothing half made is left that looks whole.
    """
    progress = progress or Silent()
    corpus = _chosen_samples(Corpus(corpus_path), config)
    config = _fitted(config, corpus)
    pictures = _all_normals(corpus, normals)
    reals = _real_defects(real_val)
    estimator = load_sqe(sqe)
    extractor = FeatureExtractor(config.detector, device=device)
    if len(corpus):
        stage_picture(corpus[0], config.stage)  # a stage that is not kept is told of before anything is written
    _claim(out, _identity(corpus, config, pictures, reals, estimator))
    cache = cache or out / "cache"
    progress.stage("normal pictures", len(pictures))
    normal = normal_cells(pictures, config, extractor, cache=cache, advance=progress.advance)
    progress.stage("samples", len(corpus))
    samples = sample_cells(corpus, config, extractor, cache=cache, advance=progress.advance)
    real_material = _real_cells(reals, config, extractor)
    sets = alike(normal, extractor.block_channels[-1], seed=config.seed)
    parts = _parts(samples, normal, sets, config, real_material)
    trainer = Trainer(parts.material, config, estimator if config.method != "uniform" else None)
    _train(trainer, out, config, progress)
    head = _final_head(trainer, parts.material, config)
    detector = _finish(head, parts, normal, corpus, pictures, reals, extractor, config, progress)
    detector.save(out / DETECTOR)
    _write_weights(out, trainer, parts.material.samples, corpus.info.name)
    if trainer.estimator is not None:
        save_sqe(trainer.estimator, out / "sqe.safetensors")
    summary = {"fusion": asdict(detector.fusion), "samples": len(samples), "normals": len(normal)}
    write_atomic(out / SUMMARY, json.dumps(summary, indent=1).encode() + b"\n")
    return detector


@dataclass(frozen=True)
class _RealDefect:
    image: Path
    mask: Path
    category: str


@dataclass(frozen=True)
class _Parts:
    """The material, and the names of the photographs that are held out of the lower level; none: all serve both."""

    material: Material
    held_out: frozenset[str]


def _chosen_samples(corpus: Corpus, config: TrainConfig) -> Corpus:
    if not config.mechanisms:
        return corpus
    known = sorted(set(corpus.table["mechanism"].to_pylist()))
    if unknown := sorted(set(config.mechanisms) - set(known)):
        raise ConfigError(f"mechanisms: {corpus.path} has {', '.join(known)}, got {unknown[0]!r}")
    return corpus.where(mechanism=list(config.mechanisms))


def _fitted(config: TrainConfig, corpus: Corpus) -> TrainConfig:
    """With the corpus's way to fit pictures, where the settings leave it to the corpus."""
    if config.detector.fit != "corpus":
        return config
    detector = config.detector.model_copy(update={"fit": corpus.info.config["fit"]})
    return config.model_copy(update={"detector": detector})


def _all_normals(corpus: Corpus, folder: Path | None) -> tuple[NormalPicture, ...]:
    """Those of the corpus, and those of a folder or data set beside it.

    A photograph that is both is taken from the folder: whole, as it will be inspected, where the corpus holds a square
    of it.
    """
    found = {picture.name: picture for picture in normals_of(corpus)}
    if folder is None:
        return tuple(found.values())
    keys = sorted({picture.key for picture in found.values()})
    try:
        photographs = [p for p in find_photographs(folder, "train") if p.kind == GOOD]
    except SourceError:
        photographs = list(folder_of_images(folder))
    for photograph in photographs:
        name, read = sha256_file(photograph.path), partial(read_image, photograph.path)
        known = found.get(name)
        fitting = [key for key in keys if photograph.category == key.rpartition("/")[2]] or keys
        if known is None and len(fitting) > 1:
            raise ConfigError(f"--normals {folder}: category {photograph.category!r} is not one of {', '.join(keys)}")
        found[name] = NormalPicture(name, known.key if known is not None else fitting[0], read)
    return tuple(found.values())


def _real_defects(root: Path | None) -> tuple[_RealDefect, ...]:
    if root is None:
        return ()
    found = [p for p in find_photographs(root, "test") if p.mask_path is not None]
    if not found:
        raise SourceError(f"--real-val {root}: expected photographs of defects with masks, got none")
    return tuple(_RealDefect(p.path, p.mask_path, p.category) for p in found if p.mask_path is not None)


def _identity(
    corpus: Corpus,
    config: TrainConfig,
    normals: Sequence[NormalPicture],
    reals: Sequence[_RealDefect],
    estimator: SQE,
) -> dict[str, Any]:
    """What the run is: two runs with equal identities learn the same."""
    return {
        "schema_version": 1,
        "code_version": __version__,
        "config": config.model_dump(mode="json"),
        "corpus": corpus.info.name,
        "corpus_config_sha256": corpus.info.config_sha256,
        "corpus_samples_sha256": sha256_bytes("".join(corpus.table["image_sha256"].to_pylist()).encode()),
        "normals": len(normals),
        "normals_sha256": sha256_bytes("\n".join(picture.name for picture in normals).encode()),
        "real_val": [sha256_bytes(real.image.read_bytes() + real.mask.read_bytes()) for real in reals],
        "sqe_sha256": estimator.sha256,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _claim(out: Path, identity: dict[str, Any]) -> None:
    """Make the folder this run's, or see that it is.

    Raises
    ------
    OutputError
        It holds another run, or something else, or cannot be written.
    """
    path = out / RUN
    text = json.dumps(identity, indent=1, sort_keys=True).encode() + b"\n"
    try:
        if path.is_file():
            stored = json.loads(path.read_bytes())
            if not isinstance(stored, dict):
                raise OutputError(f"{path}: damaged, or of another program; delete it, or give a new --out")
            differing = sorted(k for k in identity if canonical_json(stored.get(k)) != canonical_json(identity[k]))
            if differing:
                raise OutputError(
                    f"{out}: holds another run (differs in {', '.join(differing)}); give a new --out, or delete it"
                )
            return
        if out.exists() and any(p.name != "cache" for p in out.iterdir()):
            raise OutputError(f"{out}: is not empty and holds no run; give a new --out")
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    except (OSError, ValueError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{out}: cannot be used ({error}); give another --out") from None


def _real_cells(
    reals: Sequence[_RealDefect], config: TrainConfig, extractor: FeatureExtractor
) -> tuple[Tensor, Tensor] | None:
    if not reals:
        return None
    features, labels = [], []
    for number, real in enumerate(reals):
        image = read_image(real.image)
        mask = mask_to_working_size(read_mask(real.mask, image.shape[:2]), extractor.config)
        cells = extractor(to_working_size(image, extractor.config)[None])[0]
        chosen, label = draw_cells(mask, config.cells, np.random.default_rng([config.seed, 3, number]))
        features.append(cells[:, chosen[:, 0], chosen[:, 1]].T.half())
        labels.append(torch.from_numpy(label).float())
    return torch.stack(features), torch.stack(labels)


def _parts(
    samples: SampleCells,
    normals: NormalCells,
    sets: NDArray[np.int64],
    config: TrainConfig,
    real: tuple[Tensor, Tensor] | None,
) -> _Parts:
    """Lower and upper level by sets of photographs that are alike (M,); with one set alone, both see the same."""
    drawn = np.random.default_rng([config.seed, 0]).permutation(sorted(set(sets.tolist())))
    sound = np.zeros(len(normals), dtype=np.bool_)
    for one in drawn:
        wider = sound | (sets == one)
        if sound.mean() < config.bilevel.validation_share and set(normals.keys[~wider]) == set(normals.keys):
            sound = wider  # every category keeps normals to learn from
    names = frozenset(name for name, out in zip(normals.names, sound, strict=True) if out)
    upper = np.array([record.source_sha256 in names for record in samples.records])
    if not upper.any() or upper.all() or not sound.any():
        return _Parts(Material(samples, normals, samples, normals, real), frozenset())
    material = Material(
        samples.take(np.flatnonzero(~upper)),
        normals.take(~sound),
        samples.take(np.flatnonzero(upper)),
        normals.take(sound),
        real,
    )
    return _Parts(material, names)


def _train(trainer: Trainer, out: Path, config: TrainConfig, progress: Progress) -> None:
    """All epochs that are not done yet, each followed by a checkpoint."""
    rows = _resume(trainer, out)
    if rows:  # a run may have been killed between the checkpoint and this
        _write_csv(out / CSV, rows)
    epochs = config.optimiser.epochs
    progress.stage("epochs", epochs)
    progress.advance(trainer.epochs_done, epochs)
    with SummaryWriter(str(out / "tensorboard"), purge_step=trainer.epochs_done) as board:
        while trainer.epochs_done < epochs:
            figures = trainer.epoch()
            rows.append(asdict(figures))
            for name, value in asdict(figures).items():
                if name != "epoch" and value == value:
                    board.add_scalar(name, value, figures.epoch)
            about = {"rows": json.dumps(rows)}
            write_atomic(out / CHECKPOINT, save_tensors(trainer.state(), about))
            _write_csv(out / CSV, rows)
            progress.advance(trainer.epochs_done, epochs)


def _final_head(trainer: Trainer, material: Material, config: TrainConfig) -> SegmentationHead:
    """The head that is kept: with learned weights it is trained anew, from the start, with what they came to be."""
    if trainer.estimator is None:
        return trainer.head
    weights = trainer.weights(material.samples.description)
    if config.method == "shuffled":
        order = np.random.default_rng([config.seed, 5]).permutation(len(weights))
        weights = weights[torch.from_numpy(order)]
    return train_head(material, config, weights=weights)


def _resume(trainer: Trainer, out: Path) -> list[dict[str, float]]:
    """Rows of the epochs that an earlier run of the same identity has done."""
    path = out / CHECKPOINT
    if not path.is_file():
        return []
    try:
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        trainer.load_state(load_tensors(data))
        rows: list[dict[str, float]] = json.loads(header["__metadata__"]["rows"])
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise OutputError(
            f"{path}: damaged ({str(error).splitlines()[0]}); delete it to train from the start"
        ) from None
    return rows


def _write_csv(path: Path, rows: Sequence[dict[str, float]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(EpochFigures.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())


@dataclass(frozen=True)
class _HeldOutPicture:
    """A picture (H, W, 3) of the working size with its defect (H, W), its category, and what it is a case of."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    key: str
    mechanism: str  # "" for a normal, REAL for a real defect


_REAL = "real defects"


def _finish(
    head: SegmentationHead,
    parts: _Parts,
    normal: NormalCells,
    corpus: Corpus,
    pictures: Sequence[NormalPicture],
    reals: Sequence[_RealDefect],
    extractor: FeatureExtractor,
    config: TrainConfig,
    progress: Progress,
) -> Detector:
    """Choose how the maps are joined on what was held out, then remember all normals."""
    held = _held_out(parts, corpus, pictures, reals, config)
    heads = _heads(head, parts.material, config, progress)
    scale = deepest_scale(parts.material.normals, extractor.block_channels[-1])
    memory = {"memory_cells": config.detector.memory_cells, "neighbours": config.detector.neighbours}
    rng = np.random.default_rng([config.seed, 2])
    without = Normality.of(parts.material.normals, scale, **memory, rng=rng)
    progress.stage("held-out pictures", len(held))
    found: list[_Maps] = []
    for number, picture in enumerate(held):
        cells = extractor(picture.image[None])[0]
        with torch.inference_mode():
            logits = {name: maps_of_cells(cells, head) for name, head in heads.items()}
            distance = without.distance_map(cells, picture.key)
        found.append((picture, logits, distance))
        progress.advance(number + 1, len(held))
    questions = [_question(name, head, found) for name, head in _asked(found, heads)]
    sound = [(logits[""], distance) for picture, logits, distance in found if not picture.mechanism]
    profiles = [BorderProfile.of(maps) for maps in zip(*sound, strict=True)]
    fusion = choose_fusion(questions, head=profiles[0], distance=profiles[1])
    everything = Normality.of(normal, scale, **memory, rng=rng)
    return Detector(
        config=config.detector,
        head=head.eval(),
        normality=everything,
        fusion=fusion,
        image_threshold=float(np.quantile([fusion.image_score(*maps) for maps in sound], _IMAGE_QUANTILE)),
        pixel_threshold=_pixel_threshold(fusion, sound),
        extractor=extractor,
    )


def _pixel_threshold(fusion: Fusion, sound: Sequence[tuple[Tensor, Tensor]]) -> float:
    cells = torch.cat([fusion.score_map(*maps).flatten() for maps in sound])
    return float(np.quantile(cells.numpy(), _PIXEL_QUANTILE))


def _held_out(
    parts: _Parts,
    corpus: Corpus,
    pictures: Sequence[NormalPicture],
    reals: Sequence[_RealDefect],
    config: TrainConfig,
) -> list[_HeldOutPicture]:
    """Normals and samples of the held-out photographs, as many as the settings allow, and the real defects."""
    rng = np.random.default_rng([config.seed, 4])
    detector = config.detector
    sound = [p for p in pictures if not parts.held_out or p.name in parts.held_out]
    drawn = sorted(rng.permutation(len(sound))[: config.fusion.held_out_normals].tolist())
    found = []
    for position in drawn:
        image = to_working_size(sound[position].read(), detector)
        found.append(_HeldOutPicture(image, np.zeros(image.shape[:2], dtype=np.bool_), sound[position].key, ""))
    wanted = corpus.where(source_sha256=sorted(parts.held_out)) if parts.held_out else corpus
    for position in sorted(rng.permutation(len(wanted))[: config.fusion.held_out_samples].tolist()):
        sample = wanted[position]
        image = to_working_size(stage_picture(sample, config.stage), detector)
        key = f"{sample.record.dataset}/{sample.record.category}"
        found.append(_HeldOutPicture(image, mask_to_working_size(sample.mask, detector), key, sample.record.mechanism))
    keys = sorted({picture.key for picture in pictures})
    for real in reals:
        image = read_image(real.image)
        mask = mask_to_working_size(read_mask(real.mask, image.shape[:2]), detector)
        key = next((k for k in keys if k.rpartition("/")[2] == real.category), keys[0])
        found.append(_HeldOutPicture(to_working_size(image, detector), mask, key, _REAL))
    return found


def _heads(
    final: SegmentationHead, material: Material, config: TrainConfig, progress: Progress
) -> dict[str, SegmentationHead]:
    """The trained head as "", and for every mechanism one that never saw it."""
    mechanisms = sorted(set(material.samples.mechanisms.tolist()))
    heads = {"": final.eval()}
    if not config.fusion.leave_mechanism_out or len(mechanisms) < 2:
        return heads
    progress.stage("mechanisms left out", len(mechanisms))
    for number, name in enumerate(mechanisms):
        others = material.samples.take(np.flatnonzero(material.samples.mechanisms != name))
        heads[name] = train_head(replace(material, samples=others), config).eval()
        progress.advance(number + 1, len(mechanisms))
    return heads


_Maps = tuple[_HeldOutPicture, dict[str, Tensor], Tensor]


def _asked(found: Sequence[_Maps], heads: dict[str, SegmentationHead]) -> list[tuple[str, str]]:
    """Mechanisms that were held out, each with the head to be judged by."""
    names = sorted({picture.mechanism for picture, _, _ in found} - {""})
    return [(name, name if name in heads else "") for name in names]


def _question(mechanism: str, head: str, found: Sequence[_Maps]) -> HeldOutMaps:
    chosen = [maps for maps in found if not maps[0].mechanism] + [m for m in found if m[0].mechanism == mechanism]
    return HeldOutMaps(
        mechanism=mechanism,
        head=[logits[head] for _, logits, _ in chosen],
        distance=[distance for _, _, distance in chosen],
        labels=[_cell_labels(picture.mask) for picture, _, _ in chosen],
    )


def _cell_labels(mask: NDArray[np.bool_]) -> Tensor:
    cover = torch.nn.functional.avg_pool2d(
        torch.from_numpy(mask.astype(np.float32))[None, None], CELL_PX, ceil_mode=True, count_include_pad=False
    )[0, 0]
    return cover >= min(0.25, float(cover.max()) or 1.0)


def _write_weights(out: Path, trainer: Trainer, samples: SampleCells, corpus: str) -> None:
    """A row a sample of the lower level, and what follows for the next corpus."""
    weights = trainer.weights(samples.description).numpy()
    helped = (trainer.influence / trainer.seen.clamp(min=1)).numpy()
    columns: dict[str, Any] = {
        "id": [record.id for record in samples.records],
        "mechanism": [record.mechanism for record in samples.records],
        "severity": [record.severity for record in samples.records],
        "area_fraction": [record.area_fraction for record in samples.records],
        "weight": weights.astype(np.float64),
        "influence": helped,
        "steps": trainer.seen.numpy().astype(np.int64),
    }
    write_table(out / "weights.parquet", pa.table(columns))
    if trainer.estimator is not None:
        policy = sampling_policy(samples.records, weights, corpus=corpus)
        write_atomic(out / "policy.json", policy.model_dump_json(indent=1).encode() + b"\n")
