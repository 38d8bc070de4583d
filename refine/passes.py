"""All refinement passes in order, from fields to a labelled picture, on any device.

render (opening, lips, debris, point spread) -> npcF (elliptic consistency) -> label (visible change).
"""

from __future__ import annotations

import ctypes
import sys
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
from refine.photograph import Optics, estimate_optics
from refine.render import CrackBatch, CrackLook, render_crack

__all__ = ["CrackInputs", "OpticsArrays", "RefinedBatch", "measure_optics", "refine_cracks", "settle_process"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_KEEP_BYTES = 1 << 29


@dataclass(frozen=True)
class OpticsArrays:
    """`refine.photograph.Optics` as arrays: ``light`` (B, 2), ``directional`` (B,), ``blur_px`` (B,),
    ``brightest`` (B, C), all float32.
    """

    light: NDArray[np.float32]
    directional: NDArray[np.float32]
    blur_px: NDArray[np.float32]
    brightest: NDArray[np.float32]


@dataclass(frozen=True)
class CrackInputs:
    """What the passes need of B samples, as arrays; W is the side of the window that is worked on.

    Attributes
    ----------
    source : (B, W, W, C) uint8
    foreground : (B, W, W) bool
    distance, opening, grain : (B, W, W) float32
        See `physics.placement.CrackFields`; pixels, pixels, 1.
    optics : OpticsArrays
        Of the whole photographs.
    depth_to_width, lip_slope, debris, glint : (B,) float32
        See `refine.render.CrackLook`.
    """

    source: NDArray[np.uint8]
    foreground: NDArray[np.bool_]
    distance: NDArray[np.float32]
    opening: NDArray[np.float32]
    grain: NDArray[np.float32]
    optics: OpticsArrays
    depth_to_width: NDArray[np.float32]
    lip_slope: NDArray[np.float32]
    debris: NDArray[np.float32]
    glint: NDArray[np.float32]


@dataclass(frozen=True)
class RefinedBatch:
    """Finished windows: ``image`` (B, W, W, C) uint8, ``mask`` (B, W, W) bool, and per sample (B,) the mean change
    in the mask in grey levels, npcF's relative residual and its iterations; ``seconds`` by pass.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    contrast: NDArray[np.float64]
    residual: NDArray[np.float64]
    iterations: NDArray[np.int64]
    seconds: Mapping[str, float]


def settle_process(threads: int) -> None:
    """Let torch use this many threads in this process, and keep freed memory for the next batch.

    The passes make and drop arrays of a few megabytes all the time. glibc would hand each back to the system and
    fault its pages in again, which took a third of the time.
    """
    torch.set_num_threads(threads)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
            libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)


def measure_optics(images: NDArray[np.uint8], foreground: NDArray[np.bool_]) -> OpticsArrays:
    """Light and sharpness of photographs (N, S, S, C) with their foreground (N, S, S), one after another."""
    found = []
    for image, part in zip(images, foreground, strict=True):
        picture = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        found.append(estimate_optics(picture, torch.from_numpy(np.ascontiguousarray(part))[None]))
    return OpticsArrays(
        light=torch.cat([o.light for o in found]).numpy(),
        directional=torch.cat([o.directional for o in found]).numpy(),
        blur_px=torch.cat([o.blur_px for o in found]).numpy(),
        brightest=torch.cat([o.brightest for o in found]).numpy(),
    )


def refine_cracks(inputs: CrackInputs, *, npcf: NpcfConfig, label: LabelConfig, device: str = "cpu") -> RefinedBatch:
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
    optics = Optics(
        light=_to(inputs.optics.light, device),
        directional=_to(inputs.optics.directional, device),
        blur_px=_to(inputs.optics.blur_px, device),
        brightest=_to(inputs.optics.brightest, device),
    )
    rendering = render_crack(picture, crack, look, optics, foreground)
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
