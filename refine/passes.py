"""All refinement passes in order, from fields to a labelled picture, on any device.

render (opening, lips, debris, point spread) -> npcF (elliptic consistency) -> label (visible change).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manifests.config import LabelConfig, NpcfConfig
from refine.label import label_change
from refine.npcf import harmonise
from refine.photograph import estimate_optics
from refine.render import CrackBatch, CrackLook, render_crack

__all__ = ["CrackInputs", "RefinedBatch", "limit_threads", "refine_cracks"]


@dataclass(frozen=True)
class CrackInputs:
    """What the passes need of B samples, as arrays.

    Attributes
    ----------
    source : (B, S, S, C) uint8
    foreground : (B, S, S) bool
    distance, opening, grain : (B, S, S) float32
        See `physics.placement.CrackFields`; pixels, pixels, 1.
    depth_to_width, lip_slope, debris, glint : (B,) float32
        See `refine.render.CrackLook`.
    """

    source: NDArray[np.uint8]
    foreground: NDArray[np.bool_]
    distance: NDArray[np.float32]
    opening: NDArray[np.float32]
    grain: NDArray[np.float32]
    depth_to_width: NDArray[np.float32]
    lip_slope: NDArray[np.float32]
    debris: NDArray[np.float32]
    glint: NDArray[np.float32]


@dataclass(frozen=True)
class RefinedBatch:
    """Finished pictures: ``image`` (B, S, S, C) uint8, ``mask`` (B, S, S) bool, and per sample (B,) the mean change
    in the mask in grey levels, npcF's relative residual and its iterations; ``seconds`` by pass."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    contrast: NDArray[np.float64]
    residual: NDArray[np.float64]
    iterations: NDArray[np.int64]
    seconds: Mapping[str, float]


def limit_threads(threads: int) -> None:
    """Let torch use this many threads in this process."""
    torch.set_num_threads(threads)


def refine_cracks(
    inputs: CrackInputs, *, npcf: NpcfConfig, label: LabelConfig, device: str = "cpu"
) -> RefinedBatch:
    """Run the passes on a batch.

    Parameters
    ----------
    inputs : CrackInputs
        Photographs, fields and appearance.
    npcf, label : NpcfConfig, LabelConfig
        Settings of the passes.
    device : str
        A torch device.
    """
    clock = [time.perf_counter()]
    source = _to(inputs.source, device).permute(0, 3, 1, 2).contiguous()
    foreground = _to(inputs.foreground, device)
    crack = CrackBatch(_to(inputs.distance, device), _to(inputs.opening, device), _to(inputs.grain, device))
    look = CrackLook(
        _to(inputs.depth_to_width, device),
        _to(inputs.lip_slope, device),
        _to(inputs.debris, device),
        _to(inputs.glint, device),
    )
    picture = source.float() / 255
    rendering = render_crack(picture, crack, look, estimate_optics(picture, foreground), foreground)
    clock.append(time.perf_counter())
    support = (crack.distance < npcf.support_px) & (crack.opening > 0) & foreground
    solution = harmonise(
        picture,
        rendering.image,
        rendering.coverage,
        support,
        screening_px=npcf.screening_px,
        crack_conductivity=npcf.crack_conductivity,
        tolerance=npcf.tolerance,
        max_iterations=npcf.max_iterations,
    )
    clock.append(time.perf_counter())
    labelled = label_change(source, solution.image, support, threshold=label.visible_threshold)
    image = labelled.image.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    clock.append(time.perf_counter())
    return RefinedBatch(
        image=image,
        mask=labelled.mask.cpu().numpy(),
        contrast=labelled.contrast.cpu().numpy(),
        residual=solution.residual.cpu().numpy(),
        iterations=solution.iterations.cpu().numpy(),
        seconds=dict(zip(("render", "npcf", "label"), np.diff(clock).tolist(), strict=True)),
    )


def _to(values: NDArray[np.generic], device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)
