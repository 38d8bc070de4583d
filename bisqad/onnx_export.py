"""The detector as one ONNX file: a picture of the working size in, its score map and its score out.

What is written is the graph of the detector's own functions, from the backbone to the fusion, with its memory of normal
cells inside; the program that looks needs neither this package nor torch.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import cast

import torch
from torch import Tensor, nn

import manifests
from bisqad.config import DetectorConfig
from bisqad.detector import Detector
from bisqad.features import CELL_PX
from manifests.errors import ConfigError

__all__ = ["onnx_model"]

_NEEDED = ("onnx", "onnxscript")  # the extra `onnx`
_OPSET = 18
_SIDES = {1: "height", 2: "width"}  # axes of picture and map


def onnx_model(detector: Detector, category: str | None = None) -> bytes:
    """A detector for one category, in ONNX.

    The graph has an input ``picture`` (1, height, width, 3) uint8, RGB, and outputs ``score_map`` (1, height, width)
    and ``score`` (1), both float32: what `Detector.inspect` finds on a photograph that has its working size. Height and
    width are fixed where photographs are stretched, and free elsewhere. How to resize a photograph, the category and
    the thresholds are in the model's metadata. The same detector gives the same bytes.

    Parameters
    ----------
    detector : Detector
        On the CPU.
    category : str, optional
        See `Detector.category_key`.

    Returns
    -------
    bytes
        A serialised ``ModelProto``.

    Raises
    ------
    ConfigError
        A package is not installed, or it is not clear which category.
    """
    key = detector.category_key(category)
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigError(f"--onnx: needs {' and '.join(missing)}; try `pip install {' '.join(missing)}`")
    fixed = detector.config.fit == "stretch"
    side = detector.config.size
    picture = torch.zeros((1, side, side if fixed else side + side // 3, 3), dtype=torch.uint8)
    free = {axis: torch.export.Dim(name, min=CELL_PX) for axis, name in _SIDES.items()}
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            _Inspection(detector, key).eval(),
            (picture,),
            input_names=["picture"],
            output_names=["score_map", "score"],
            opset_version=_OPSET,
            dynamic_shapes=None if fixed else (free,),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = cast("torch.onnx.ONNXProgram", program).model_proto
    del model.graph.value_info[:]  # shapes between: what reads the file finds them out
    for node in model.graph.node:
        del node.metadata_props[:]  # where in the source it comes from
    if not fixed:
        for axis, name in _SIDES.items():
            model.graph.output[0].type.tensor_type.shape.dim[axis].dim_param = name
    for name, value in _about(detector, key).items():
        model.metadata_props.add(key=name, value=value)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class _Inspection(nn.Module):
    """`Detector.inspect` of pictures of the working size, for one category, as a module."""

    def __init__(self, detector: Detector, key: str) -> None:
        super().__init__()
        self.networks = nn.ModuleList(look.network for look in detector.extractor.looks)  # with all their parameters
        self.head, self.detector, self.key = detector.head, detector, key

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Score map (1, H, W) and score (1) of a picture (1, H, W, 3) uint8."""
        head, distance = self.detector.maps_of(self.detector.extractor.cells(picture)[0], self.key)
        score_map = self.detector.working_map(head, distance, picture.shape[1:3])
        return score_map[None], self.detector.fusion.picture_score(head, distance)[None]


def _about(detector: Detector, key: str) -> dict[str, str]:
    """What who reads the file must know, as ONNX keeps it: text by name."""
    return {
        "bisqad": manifests.__version__,
        "category": key,
        "features": detector.extractor.identity,
        "fit": detector.config.fit,
        "image_threshold": repr(detector.image_threshold),
        "pixel_threshold": repr(detector.pixel_threshold),
        "resize": _resize(detector.config),
        "size": str(detector.config.size),
    }


def _resize(config: DetectorConfig) -> str:
    """How a photograph is brought to its working size: `to_working_size` in words."""
    if config.fit == "stretch":
        return f"RGB, bicubic as in Pillow, to {config.size} x {config.size}"
    side = "long" if config.fit == "pad" else "short"
    return f"RGB, bicubic as in Pillow, {side} side to {config.size}, the other in proportion"


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Without what the exporter says of itself: of packages it could serve, and of torch's own coming changes."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
