"""Settings of a training run: frozen, parsed once from YAML, stored whole in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError

from manifests.config import Section, explain_validation
from manifests.errors import ConfigError

__all__ = [
    "BilevelConfig",
    "CellsConfig",
    "DetectorConfig",
    "FusionConfig",
    "Method",
    "OptimiserConfig",
    "StageName",
    "TrainConfig",
    "read_train_config",
]

Method = Literal["bilevel", "shuffled", "uniform"]
StageName = Literal["final", "paste", "render", "npcf"]
Count = Annotated[int, Field(ge=1)]


class DetectorConfig(Section):
    """What the detector sees, and what it remembers of normal parts."""

    backbone: Literal["efficientnet-lite0"] = Field(
        "efficientnet-lite0", description="frozen network that pictures are seen by"
    )
    blocks: tuple[int, ...] = Field(
        (0, 2, 4, 10), min_length=1, description="of the network, whose feature maps are used"
    )
    enlarged_blocks: tuple[int, ...] = Field(
        (2, 4), description="the same of the picture at twice its size, for what is thin; none: it is not seen so"
    )
    size: int = Field(256, ge=64, le=2048, description="side that a picture is resized to, in pixels")
    fit: Literal["corpus", "crop", "pad", "stretch"] = Field(
        "corpus",
        description="which side: crop the short one, pad the long one, stretch both; corpus: as its recipe has it",
    )
    context_cells: int = Field(
        5, ge=1, le=31, description="side of the square of cells whose mean is seen beside the cell itself, odd"
    )
    hidden: Count = Field(64, description="units of the segmentation head")
    memory_cells: Count = Field(32768, description="normal cells that are remembered for each category")
    neighbours: int = Field(1, ge=1, le=64, description="nearest normal cells whose mean distance is the abnormality")


class CellsConfig(Section):
    """How many cells of a picture take part in training: 4 x 4 pixels each."""

    defect: Count = Field(24, description="on the defect, of each sample")
    ring: Count = Field(8, description="beside the defect, of each sample")
    far: Count = Field(24, description="elsewhere, of each sample")
    normal: Count = Field(512, description="of each normal photograph")


class OptimiserConfig(Section):
    """Training of the head: AdamW with a cosine schedule."""

    epochs: Count = Field(8, description="passes over the corpus")
    batch_samples: Count = Field(64, description="samples in a batch")
    batch_normals: Count = Field(32, description="normal photographs in a batch")
    learning_rate: float = Field(2e-3, gt=0, description="of the head, at the start")
    weight_decay: float = Field(1e-3, ge=0, description="of the head")


class BilevelConfig(Section):
    """The upper level: what teaches the Synthesis Quality Estimator its weights."""

    learning_rate: float = Field(3e-3, gt=0, description="of the estimator, at the start")
    validation_share: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of the normal photographs, whole sets of like ones, that judge",
    )
    normal_share: float = Field(0.5, gt=0, lt=1, description="weight of held-out normals in the upper loss")
    real_share: float = Field(
        0.5, ge=0, le=1, description="weight of real defects among the defects of the upper loss, where some are given"
    )
    budget: float = Field(2.0, ge=0, description="strength of (mean weight - 0.5)^2, which keeps weights from collapse")
    entropy: float = Field(
        0.01, ge=0, description="strength of the weights' negative entropy, against a few taking all"
    )
    products: Literal["jvp", "difference"] = Field(
        "jvp", description="how v . grad l_i is found for all samples at once"
    )


class FusionConfig(Section):
    """How what is abnormal and what looks like a defect become one score; chosen on what was held out."""

    held_out_samples: Count = Field(120, description="samples that the choice is made on, at most")
    held_out_normals: Count = Field(60, description="normal photographs that the choice is made on, at most")
    leave_mechanism_out: bool = Field(
        True,
        description="score each mechanism by a head that never saw its like: real defects are of unseen kinds too",
    )


class TrainConfig(Section):
    """Everything that decides what a run learns.

    Examples
    --------
    >>> TrainConfig(seed=3).method
    'bilevel'
    """

    seed: int = Field(0, ge=0, description="root of all random streams of the run")
    method: Method = Field(
        "bilevel",
        description="bilevel learns weights of samples; shuffled deals them to others, as a control; uniform has none",
    )
    stage: StageName = Field("final", description="which stage of a corpus's pictures is learned from")
    mechanisms: tuple[str, ...] = Field((), description="which mechanisms are learned from; empty: all of the corpus")
    detector: DetectorConfig = DetectorConfig()
    cells: CellsConfig = CellsConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    bilevel: BilevelConfig = BilevelConfig()
    fusion: FusionConfig = FusionConfig()


def read_train_config(path: Path | None) -> TrainConfig:
    """Settings from YAML; None gives the defaults.

    Raises
    ------
    ConfigError
        The file cannot be read, or a key or value is not valid.
    """
    if path is None:
        return TrainConfig()
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from None
    try:
        return TrainConfig.model_validate({} if given is None else given)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain_validation(error, TrainConfig)}") from None
