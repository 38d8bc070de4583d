r"""The trained detector: a photograph in, a score map and a score out; in one safetensors file.

photograph -> working size -> features of a frozen network, cell by cell
    -> distance to the nearest normal cells   (normality)  \
    -> logit of a small head                  (head)       /-> score map, score of the picture   (fusion)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from bisqad.config import DetectorConfig
from bisqad.features import CELL_PX, FeatureExtractor, to_working_size
from bisqad.fusion import Fusion
from bisqad.head import SegmentationHead
from bisqad.normality import Normality
from manifests.durable import write_atomic
from manifests.errors import ConfigError

__all__ = ["Detector", "Found"]

_FORMAT = "bisqad-detector-3"


@dataclass(frozen=True)
class Found:
    """What the detector finds on a photograph (H, W): ``score_map`` (H, W) float32, and its ``score``.

    The score is in spreads of normal cells, and so are the parts that the map is a sum of; ``anomalous`` says that the
    score is above that of 95 % of held-out normals.
    """

    score_map: NDArray[np.float32]
    score: float
    anomalous: bool


@dataclass(frozen=True)
class Detector:
    """All that is needed to inspect a photograph.

    Attributes
    ----------
    config : DetectorConfig
    head : SegmentationHead
    normality : Normality
    fusion : Fusion
    image_threshold : float
        Score above which 5 % of held-out normals lie.
    pixel_threshold : float
        Value of the score map above which 0.2 % of their cells lie.
    extractor : FeatureExtractor
    """

    config: DetectorConfig
    head: SegmentationHead
    normality: Normality
    fusion: Fusion
    image_threshold: float
    pixel_threshold: float
    extractor: FeatureExtractor

    @property
    def categories(self) -> tuple[str, ...]:
        """Kinds of parts that it knows, ``<dataset>/<category>``."""
        return tuple(self.normality.memory)

    def category_key(self, name: str | None) -> str:
        """The category that goes by this name, with or without its data set; None: the only one there is.

        Raises
        ------
        ConfigError
            There is none, or it is not clear which one.
        """
        known = self.categories
        fitting = [key for key in known if name is None or name in (key, key.rpartition("/")[2])]
        if len(fitting) == 1 or (fitting and len(known) == 1):
            return fitting[0]
        if name is not None and len(known) == 1:
            return known[0]
        asked = "no category was named" if name is None else f"got {name!r}"
        raise ConfigError(f"category: this detector knows {', '.join(known)}; {asked}; give one of them")

    @torch.inference_mode()
    def inspect(self, image: NDArray[np.uint8], category: str | None = None) -> Found:
        """Look at a photograph.

        Parameters
        ----------
        image : (H, W, 3) uint8 array
            In colour; of a grey photograph the channels are alike.
        category : str, optional
            See `category_key`.
        """
        working = to_working_size(image, self.config)
        head, distance = self.maps(working, self.category_key(category))
        return self.found(head, distance, working.shape[:2], image.shape[:2])

    def maps(self, working: NDArray[np.uint8], key: str) -> tuple[Tensor, Tensor]:
        """Logits of the head and distances to normality (h, w), of a picture of the working size."""
        return self.maps_of(self.extractor(working[None])[0], key)

    def maps_of(self, cells: Tensor, key: str) -> tuple[Tensor, Tensor]:
        """The same maps, of a picture's features (C, h, w)."""
        return maps_of_cells(cells, self.head), self.normality.distance_map(cells, key)

    def found(self, head: Tensor, distance: Tensor, working: tuple[int, ...], shape: tuple[int, ...]) -> Found:
        """From both maps, and the picture's working size, to the result at its own ``shape``."""
        whole = self.working_map(head, distance, working)[None, None]
        if tuple(shape[:2]) != tuple(working[:2]):
            whole = functional.interpolate(whole, size=shape[:2], mode="bilinear", align_corners=False)
        score = self.fusion.image_score(head, distance)
        return Found(whole[0, 0].numpy(), score, score > self.image_threshold)

    def working_map(self, head: Tensor, distance: Tensor, working: Sequence[int]) -> Tensor:
        """Score map (H, W) at the picture's ``working`` size, from both maps (h, w)."""
        fused = self.fusion.score_map(head, distance)[None, None]
        whole = functional.interpolate(fused, scale_factor=CELL_PX, mode="bilinear", align_corners=False)
        return whole[0, 0, : working[0], : working[1]]

    def save(self, path: Path) -> None:
        """Write everything into one file, whole or not at all."""
        tensors = {f"head.{name}": value for name, value in self.head.state_dict().items()}
        tensors["scale"] = self.normality.scale
        for number, key in enumerate(self.categories):
            tensors[f"memory.{number}"] = self.normality.memory[key].half()
        about = {
            "format": _FORMAT,
            "config": self.config.model_dump(mode="json"),
            "fusion": asdict(self.fusion),
            "categories": list(self.categories),
            "thresholds": [self.image_threshold, self.pixel_threshold],
            "features": self.extractor.identity,
        }
        plain = {name: value.detach().contiguous() for name, value in tensors.items()}
        write_atomic(path, save(plain, {"bisqad": json.dumps(about, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path, *, device: str = "cpu") -> Detector:
        """Read what `save` wrote.

        Raises
        ------
        ConfigError
            The file is missing, damaged, or no detector of this version.
        """
        about, tensors = _read(path)
        try:
            config = DetectorConfig.model_validate(about["config"])
            fusion = Fusion.from_json(about["fusion"])
            extractor = FeatureExtractor(config, device=device)
            head = SegmentationHead(len(tensors["head.mean"]), config.hidden)
            head.load_state_dict({n.removeprefix("head."): v for n, v in tensors.items() if n.startswith("head.")})
            keys = [str(key) for key in about["categories"]]
            memory = {key: tensors[f"memory.{k}"].float() for k, key in enumerate(keys)}
            normality = Normality(tensors["scale"], memory, config.neighbours)
            _check_memory(normality)
            image_threshold, pixel_threshold = (float(value) for value in about["thresholds"])
        except (KeyError, TypeError, ValueError, RuntimeError, ValidationError) as error:
            raise ConfigError(f"{path}: not a whole detector ({str(error).splitlines()[0]}); train it again") from None
        if extractor.identity != about.get("features"):
            raise ConfigError(
                f"{path}: made for features {about.get('features')!r}, this program gives {extractor.identity!r}"
            )
        return cls(config, head.eval(), normality, fusion, image_threshold, pixel_threshold, extractor)


def maps_of_cells(cells: Tensor, head: SegmentationHead) -> Tensor:
    """Logits (h, w) of a head on a picture's features (C, h, w)."""
    logits: Tensor = head(head.standardised(cells.flatten(1).T))
    return logits.reshape(cells.shape[1:])


def _check_memory(normality: Normality) -> None:
    if any(part.shape[1:] != normality.scale.shape for part in normality.memory.values()):
        raise ValueError("its memory does not fit its scale")


def _read(path: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as stored:
            about = json.loads((stored.metadata() or {}).get("bisqad", "{}"))
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a detector ({str(error).splitlines()[0]})") from None
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise ConfigError(f"{path}: expected a detector that `bisqad train` wrote ({_FORMAT}), got another file")
    return about, tensors
