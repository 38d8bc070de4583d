"""All refinement passes in order, from fields to a labelled picture, on any device.

render (relief, then openings, seen through the point spread) -> npcF (elliptic consistency) -> label (visible change).
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
from torch.nn import functional

from manifests.config import LabelConfig, NpcfConfig
from refine.label import label_change
from refine.npcf import harmonise
from refine.photograph import Optics, estimate_optics
from refine.relief import ReliefBatch, ReliefLook, render_relief
from refine.render import CrackBatch, CrackLook, render_crack

__all__ = [
    "CrackArrays",
    "DefectInputs",
    "OpticsArrays",
    "RefinedBatch",
    "ReliefArrays",
    "measure_optics",
    "refine_defects",
    "settle_process",
]

_UNCHANGED = 0.75 / 255  # a rendering that differs less is no change

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
class CrackArrays:
    """Openings of B samples: ``distance``, ``opening`` (B, W, W) float32, see `physics.placement.CrackFields`, and
    ``depth_to_width``, ``lip_slope``, ``debris``, ``glint`` (B,) float32, see `refine.render.CrackLook`.
    """

    distance: NDArray[np.float32]
    opening: NDArray[np.float32]
    depth_to_width: NDArray[np.float32]
    lip_slope: NDArray[np.float32]
    debris: NDArray[np.float32]
    glint: NDArray[np.float32]


@dataclass(frozen=True)
class ReliefArrays:
    """Changed surfaces of B samples: ``fields`` (B, W, W) float32 by the names of `manifests.fields`, in pixels, any of
    depth, height, product and both displacements; ``gloss``, ``gloss_exponent``, ``pit_floor`` (B,) float32 and
    ``product`` (B, C) float32, see `refine.relief.ReliefLook`.
    """

    fields: Mapping[str, NDArray[np.float32]]
    gloss: NDArray[np.float32]
    gloss_exponent: NDArray[np.float32]
    pit_floor: NDArray[np.float32]
    product: NDArray[np.float32]


@dataclass(frozen=True)
class DefectInputs:
    """What the passes need of B samples, as arrays; W is the side of the window that is worked on.

    Attributes
    ----------
    source : (B, W, W, C) uint8
    foreground : (B, W, W) bool
    grain : (B, W, W) float32
        Noise of variance 1.
    optics : OpticsArrays
        Of the whole photographs.
    crack, relief : CrackArrays, ReliefArrays, optional
        Where the mechanism opens the material, and where it changes the surface.
    """

    source: NDArray[np.uint8]
    foreground: NDArray[np.bool_]
    grain: NDArray[np.float32]
    optics: OpticsArrays
    crack: CrackArrays | None = None
    relief: ReliefArrays | None = None


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


def refine_defects(inputs: DefectInputs, *, npcf: NpcfConfig, label: LabelConfig, device: str = "cpu") -> RefinedBatch:
    """Run the passes on a batch of one mechanism.

    Parameters
    ----------
    inputs : DefectInputs
        Photographs, fields and appearance.
    npcf, label : NpcfConfig, LabelConfig
        Settings of the passes.
    device : str
        A torch device.
    """
    clock = [time.perf_counter()]
    source = _to(inputs.source, device).permute(0, 3, 1, 2).contiguous()
    picture = source.float() / 255
    drawn = _render(inputs, picture, npcf, device)
    clock.append(time.perf_counter())
    solution = harmonise(
        picture,
        drawn.image,
        drawn.coverage,
        drawn.support,
        kept=drawn.kept,
        screening_px=npcf.screening_px,
        crack_conductivity=npcf.crack_conductivity,
        tolerance=npcf.tolerance,
        max_iterations=npcf.max_iterations,
    )
    clock.append(time.perf_counter())
    labelled = label_change(source, solution.image, drawn.support, threshold=label.visible_threshold)
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


@dataclass(frozen=True)
class _Drawn:
    """Rendered pictures (B, C, H, W), and by pixel (B, H, W): share that is open or lost, share whose texture is the
    photograph's, and the support.
    """

    image: Tensor
    coverage: Tensor
    kept: Tensor
    support: Tensor


def _render(inputs: DefectInputs, picture: Tensor, npcf: NpcfConfig, device: str) -> _Drawn:
    """Surface first, then what opens in it."""
    foreground, grain = _to(inputs.foreground, device), _to(inputs.grain, device)
    optics = Optics(
        light=_to(inputs.optics.light, device),
        directional=_to(inputs.optics.directional, device),
        blur_px=_to(inputs.optics.blur_px, device),
        brightest=_to(inputs.optics.brightest, device),
    )
    image, coverage = picture, torch.zeros_like(picture[:, 0])
    kept, support = torch.ones_like(coverage), torch.zeros_like(foreground)
    if inputs.relief is not None:
        relief = _relief_batch(inputs.relief, grain, device)
        surface = render_relief(image, relief, _relief_look(inputs.relief, device), optics, foreground)
        changed = (surface.image - picture).abs().amax(dim=1) > _UNCHANGED
        image, coverage, support = surface.image, surface.lost, _dilated(changed, npcf.support_px)
        kept = (~support).float()  # texture may have moved or gone: the rendering alone knows
    if inputs.crack is not None:
        crack = CrackBatch(_to(inputs.crack.distance, device), _to(inputs.crack.opening, device), grain)
        opened = render_crack(image, crack, _crack_look(inputs.crack, device), optics, foreground)
        image, coverage = opened.image, torch.maximum(coverage, opened.coverage)
        support = support | ((crack.distance < npcf.support_px) & (crack.opening > 0))
        kept = torch.minimum(kept, 1 - opened.coverage)
    return _Drawn(image, coverage, kept, support & foreground)


def _relief_batch(relief: ReliefArrays, grain: Tensor, device: str) -> ReliefBatch:
    nothing = torch.zeros_like(grain)

    def field(name: str) -> Tensor:
        return _to(relief.fields[name], device) if name in relief.fields else nothing

    return ReliefBatch(
        depth=field("depth"),
        height=field("height"),
        product=field("product"),
        displacement_y=field("displacement_y"),
        displacement_x=field("displacement_x"),
        grain=grain,
    )


def _relief_look(relief: ReliefArrays, device: str) -> ReliefLook:
    return ReliefLook(
        gloss=_to(relief.gloss, device),
        exponent=_to(relief.gloss_exponent, device),
        floor=_to(relief.pit_floor, device),
        product=_to(relief.product, device),
    )


def _crack_look(crack: CrackArrays, device: str) -> CrackLook:
    return CrackLook(
        _to(crack.depth_to_width, device),
        _to(crack.lip_slope, device),
        _to(crack.debris, device),
        _to(crack.glint, device),
    )


def _dilated(flags: Tensor, radius: int) -> Tensor:
    """Flags (B, H, W) grown by a square of this radius, pixels."""
    side = 2 * radius + 1
    rows = functional.max_pool2d(flags[:, None].float(), (side, 1), stride=1, padding=(radius, 0))
    return functional.max_pool2d(rows, (1, side), stride=1, padding=(0, radius))[:, 0] > 0.5


def _to(values: NDArray[np.generic], device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)
