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
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from bisqad.calibration import calibrated, held_out_pictures
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
from bisqad.detector import Detector
from bisqad.features import FeatureExtractor, mask_to_working_size, to_working_size
from bisqad.head import SegmentationHead
from bisqad.inspection_set import (
    GOOD,
    Photograph,
    find_photographs,
    folder_of_images,
    read_image,
    read_photograph,
)
from bisqad.likeness import alike
from bisqad.policy import sampling_policy
from bisqad.terminal import Progress, Silent
from bisqad.training import EpochFigures, Material, Trainer, train_head
from manifests import Corpus, __version__
from manifests.durable import write_atomic
from manifests.errors import ConfigError, OutputError, SourceError
from manifests.hashing import canonical_json, sha256_bytes, sha256_file
from manifests.tables import write_table
from refine.sqe import SQE, load_sqe, save_sqe

__all__ = ["CHECKPOINT", "DETECTOR", "train"]

RUN, CSV, CHECKPOINT, DETECTOR = "run.json", "progress.csv", "checkpoint.safetensors", "detector.safetensors"
WEIGHTS, ESTIMATOR, POLICY = "weights.parquet", "sqe.safetensors", "policy.json"
SUMMARY = "summary.json"  # the last to be written


def train(
    corpus: Path | Corpus,
    out: Path,
    config: TrainConfig,
    *,
    normals: Path | None = None,
    real_val: Path | None = None,
    sqe: Path | None = None,
    cache: Path | None = None,
    device: str = "cpu",
    extractor: FeatureExtractor | None = None,
    progress: Progress | None = None,
) -> Detector:
    """Train a detector from a corpus, or go on with a run that was stopped.

    Parameters
    ----------
    corpus : Path or Corpus
        Finished corpus, or a view of one.
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
    extractor : FeatureExtractor, optional
        What sees pictures; by default one by the settings, on that device.
    progress : Progress, optional
        Told how far it is.

    Raises
    ------
    ConfigError, CorpusError, SourceError, OutputError
        Bad input; nothing half made is left that looks whole.
    """
    progress = progress or Silent()
    corpus = _chosen_samples(corpus if isinstance(corpus, Corpus) else Corpus(corpus), config)
    config = _fitted(config, corpus)
    pictures = _all_normals(corpus, normals)
    reals = _real_defects(real_val)
    estimator = load_sqe(sqe)
    extractor = extractor or FeatureExtractor(config.detector, device=device)
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
    if (done := _finished(out, config, extractor)) is not None:
        return done
    head = _final_head(trainer, parts.material, config)
    held = held_out_pictures(corpus, pictures, reals, config, names=parts.held_out)
    detector = calibrated(head, held, parts.material, normal, config, extractor, progress=progress)
    detector.save(out / DETECTOR)
    _write_weights(out, trainer, parts.material.samples, corpus.info.name)
    if trainer.estimator is not None:
        save_sqe(trainer.estimator, out / ESTIMATOR)
    summary = {"fusion": asdict(detector.fusion), "samples": len(samples), "normals": len(normal)}
    write_atomic(out / SUMMARY, json.dumps(summary, indent=1).encode() + b"\n")
    return detector


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


def _real_defects(root: Path | None) -> tuple[Photograph, ...]:
    if root is None:
        return ()
    found = tuple(p for p in find_photographs(root, "test") if p.mask_path is not None)
    if not found:
        raise SourceError(f"--real-val {root}: expected photographs of defects with masks, got none")
    return found


def _identity(
    corpus: Corpus,
    config: TrainConfig,
    normals: Sequence[NormalPicture],
    reals: Sequence[Photograph],
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
        "real_val": [[sha256_file(path) for path in (real.path, real.mask_path) if path] for real in reals],
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


def _finished(out: Path, config: TrainConfig, extractor: FeatureExtractor) -> Detector | None:
    """The detector of a run that is done; None if anything of it is missing or damaged: then it is made again."""
    wanted = [SUMMARY, DETECTOR, WEIGHTS, *((ESTIMATOR, POLICY) if config.method != "uniform" else ())]
    if not all((out / name).is_file() for name in wanted):
        return None
    try:
        return replace(Detector.load(out / DETECTOR), extractor=extractor)
    except ConfigError:
        return None


def _real_cells(
    reals: Sequence[Photograph], config: TrainConfig, extractor: FeatureExtractor
) -> tuple[Tensor, Tensor] | None:
    if not reals:
        return None
    features, labels = [], []
    for number, real in enumerate(reals):
        image, mask = read_photograph(real)
        cells = extractor(to_working_size(image, extractor.config)[None])[0]
        chosen, label = draw_cells(
            mask_to_working_size(mask, extractor.config), config.cells, np.random.default_rng([config.seed, 3, number])
        )
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
    write_table(out / WEIGHTS, pa.table(columns))
    if trainer.estimator is not None:
        policy = sampling_policy(samples.records, weights, corpus=corpus)
        write_atomic(out / POLICY, policy.model_dump_json(indent=1).encode() + b"\n")
