"""All refinement passes in order, from fields to a labelled picture, on any device.

render (one image model for surfaces and openings) -> npcF (elliptic consistency) -> npcF++ (wavelet sub-bands and
boundary synergy) -> label (visible change). Foreign material, of the reference generators, is put in instead of the
first three. What render shows to be hidden by the material's texture ends there.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manifests.config import LabelConfig, NpcfConfig, NpcfppConfig, RefineStage
from manifests.fields import ForeignKind
from refine.devices import current_device
from refine.flags import channel_maximum, from_bytes, is_below
from refine.foreign import Foreign, insert
from refine.label import label_change, quantised, visibly_changed, white_level
from refine.npcf import harmonise
from refine.npcfpp import BoundarySynergy
from refine.photograph import Optics, estimate_optics
from refine.render import Rendering, paste, render
from refine.scene import CrackBatch, CrackLook, Look, ReliefBatch, ReliefLook, Scene
from refine.stencils import box_maximum
from refine.visibility import visibility

__all__ = [
    "CrackArrays",
    "DefectInputs",
    "ForeignArrays",
    "OpticsArrays",
    "RefinedBatch",
    "ReliefArrays",
    "measure_optics",
    "refine_defects",
    "settle_process",
]

_UNCHANGED = 0.75 / 255  # a rendering that differs less is no change
_HOPE = 0.9  # of the visibility asked for: npcF and npcF++ make a defect hardly more visible than it is as rendered

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_KEEP_BYTES = 1 << 29


@dataclass(frozen=True)
class OpticsArrays:
    """`refine.photograph.Optics` as arrays: ``light`` (B, 2), ``directional``, ``gloss``, ``blur_px``, ``noise`` (B,),
    ``brightest`` (B, C), all float32.
    """

    light: NDArray[np.float32]
    directional: NDArray[np.float32]
    gloss: NDArray[np.float32]
    blur_px: NDArray[np.float32]
    noise: NDArray[np.float32]
    brightest: NDArray[np.float32]


@dataclass(frozen=True)
class CrackArrays:
    """Openings of B samples: ``distance``, ``opening`` (B, W, W) float32, see `physics.placement.CrackFields`, and
    ``depth_to_width``, ``lip_slope``, ``debris``, ``glint`` (B,) float32, see `refine.scene.CrackLook`.
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
    ``product`` (B, C) float32, see `refine.scene.ReliefLook`.
    """

    fields: Mapping[str, NDArray[np.float32]]
    gloss: NDArray[np.float32]
    gloss_exponent: NDArray[np.float32]
    pit_floor: NDArray[np.float32]
    product: NDArray[np.float32]


@dataclass(frozen=True)
class ForeignArrays:
    """Foreign material of B samples: ``kind``, and ``cover`` (B, W, W), ``donor`` (B, W, W, C), 0..1, and ``jitter``
    (B, 3), all float32; see `refine.foreign.Foreign`.
    """

    kind: ForeignKind
    cover: NDArray[np.float32]
    donor: NDArray[np.float32]
    jitter: NDArray[np.float32]


@dataclass(frozen=True)
class DefectInputs:
    """What the passes need of B samples, as arrays; W is the side of the window that is worked on.

    Attributes
    ----------
    source : (B, W, W, C) uint8 or uint16
    foreground : (B, W, W) bool
    grain : (B, W, W) float32
        Roughness: correlated noise of variance 1.
    noise : (B, 3, W, W) float32
        The camera's: white noise of variance 1; the first layer alone for a grey picture.
    optics : OpticsArrays
        Of the whole photographs.
    crack, relief : CrackArrays, ReliefArrays, optional
        Where the mechanism opens the material, and where it changes the surface.
    foreign : ForeignArrays, optional
        What a reference generator puts in; then there is no crack and no relief.
    """

    source: NDArray[np.uint8] | NDArray[np.uint16]
    foreground: NDArray[np.bool_]
    grain: NDArray[np.float32]
    noise: NDArray[np.float32]
    optics: OpticsArrays
    crack: CrackArrays | None = None
    relief: ReliefArrays | None = None
    foreign: ForeignArrays | None = None


@dataclass(frozen=True)
class RefinedBatch:
    """Finished windows.

    Attributes
    ----------
    image : (B, W, W, C), as the source
        Pictures.
    mask : (B, W, W) bool
        Where the change is visible.
    finished : (B,) bool
        False where the passes ended after render, because the defect was not visible enough: then the picture is the
        photograph, the mask is empty, and of the figures only ``visibility`` says something.
    contrast : (B,) float64
        Mean change in the mask, grey levels of 255.
    visibility : (B,) float64
        Change against the texture of the material, see `refine.visibility`.
    residual, cycles : (B,) float64, (B,) int64
        npcF's relative residual, and its multigrid cycles; those of a clone; 0 for other foreign material.
    faint_px, unlabelled_px, unseen_px, outside_px : (B,) int64
        Counts of `refine.label.Labelled`.
    stages : mapping of str to (B, W, W, C)
        Results of the stages that are kept, with the photograph outside the support.
    seconds : mapping of str to float
        By pass.
    """

    image: NDArray[np.uint8] | NDArray[np.uint16]
    mask: NDArray[np.bool_]
    finished: NDArray[np.bool_]
    contrast: NDArray[np.float64]
    visibility: NDArray[np.float64]
    residual: NDArray[np.float64]
    cycles: NDArray[np.int64]
    faint_px: NDArray[np.int64]
    unlabelled_px: NDArray[np.int64]
    unseen_px: NDArray[np.int64]
    outside_px: NDArray[np.int64]
    stages: Mapping[str, NDArray[np.uint8] | NDArray[np.uint16]]
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


def measure_optics(images: NDArray[np.uint8] | NDArray[np.uint16], foreground: NDArray[np.bool_]) -> OpticsArrays:
    """Light, gloss, sharpness and noise of photographs (N, S, S, C) with their foreground (N, S, S), one by one."""
    found = []
    for image, part in zip(images, foreground, strict=True):
        picture = _picture(_to(image[None], "cpu"))
        found.append(estimate_optics(picture, torch.from_numpy(np.ascontiguousarray(part))[None]))
    names = [field.name for field in fields(OpticsArrays)]
    return OpticsArrays(**{name: torch.cat([getattr(o, name) for o in found]).numpy() for name in names})


@torch.inference_mode()
def refine_defects(
    inputs: DefectInputs,
    *,
    npcf: NpcfConfig,
    npcfpp: NpcfppConfig,
    label: LabelConfig,
    stages: Sequence[RefineStage] = (),
    least_visibility: float = 0.0,
    device: str | None = None,
) -> RefinedBatch:
    """Run the passes on a batch of one mechanism.

    Parameters
    ----------
    inputs : DefectInputs
        Photographs, fields and appearance.
    npcf, npcfpp, label : NpcfConfig, NpcfppConfig, LabelConfig
        Settings of the passes.
    stages : sequence of str
        Which results to keep beside the final one: paste, render, npcf.
    least_visibility : float
        A defect that falls short of it as rendered, by more than a tenth, goes no further: its photograph is left as
        it is. 0 takes all to the end; foreign material always goes there.
    device : str, optional
        A torch device; by default the one of this process.

    Raises
    ------
    refine.devices.OutOfMemory
        The batch is too large for the device.
    """
    device = device or current_device()
    clock = _Clock()
    picture, source = _picture(_to(inputs.source, device)), _planes(inputs.source, device)
    if inputs.foreign is not None:
        return _labelled(source, _insert(inputs, inputs.foreign, picture, npcf, clock), label, stages, clock)
    rendered = _render(inputs, picture, npcf, clock, wants_paste="paste" in stages)
    if least_visibility > 0:
        seen = _seen(source, rendered, label.visible_threshold)
        shown = seen >= _HOPE * least_visibility
        clock.passed("visibility")
        if not bool(shown.all()):
            found = None
            if bool(shown.any()):
                refined = _refine(rendered.of(shown), npcf, npcfpp, clock)
                # of 16-bit whole numbers not every device takes some: they are taken here
                found = _labelled(_planes(inputs.source[_array(shown)], device), refined, label, stages, clock)
            return _with_unfinished(found, _array(shown), _array(seen), inputs.source, stages, clock)
    return _labelled(source, _refine(rendered, npcf, npcfpp, clock), label, stages, clock)


def _labelled(
    source: Tensor, passed: _Passed, label: LabelConfig, stages: Sequence[RefineStage], clock: _Clock
) -> RefinedBatch:
    """What the passes made of photographs (B, C, H, W), with masks and figures."""
    support = passed.support
    labelled = label_change(
        source,
        passed.image,
        support,
        threshold=label.visible_threshold,
        coherent_px=label.coherent_px,
        fade_px=label.fade_px,
        restored_below=label.restored_below,
    )
    image = _array(labelled.image.permute(0, 2, 3, 1))
    clock.passed("label")
    seen = visibility(_grey_levels(source), _grey_levels(labelled.image), labelled.mask)
    clock.passed("visibility")
    kept: dict[str, NDArray[np.uint8] | NDArray[np.uint16]] = {
        name: _array(
            torch.where(support[:, None], quantised(passed.stages[name], source.dtype), source).permute(0, 2, 3, 1)
        )
        for name in stages
    }
    return RefinedBatch(
        image=image,
        mask=_array(labelled.mask),
        finished=np.ones(len(image), dtype=bool),
        contrast=_array(labelled.contrast),
        visibility=_array(seen),
        residual=_array(passed.residual).astype(np.float64),
        cycles=_array(passed.cycles),
        faint_px=_array(labelled.faint_px),
        unlabelled_px=_array(labelled.unlabelled_px),
        unseen_px=_array(labelled.unseen_px),
        outside_px=_array(labelled.outside_px),
        stages=kept,
        seconds=clock.seconds,
    )


def _seen(source: Tensor, rendered: _Rendered, threshold: int) -> Tensor:
    """Visibility (B,) of defects as rendered on photographs (B, C, H, W)."""
    mask = visibly_changed(source, rendered.image, rendered.support, threshold=threshold)
    return visibility(255 * rendered.picture, 255 * rendered.image, mask)


def _with_unfinished(
    found: RefinedBatch | None,
    shown: NDArray[np.bool_],
    seen: NDArray[np.float64],
    source: NDArray[np.uint8] | NDArray[np.uint16],
    stages: Sequence[RefineStage],
    clock: _Clock,
) -> RefinedBatch:
    """A whole batch: those that are ``shown`` as found, the others as their photographs ``source`` (B, H, W, C) are."""

    def spread(others: NDArray[Any], some: NDArray[Any] | None) -> NDArray[Any]:
        values = others.copy()
        if some is not None:
            values[shown] = some
        return values

    nothing: dict[str, NDArray[Any]] = {
        "image": source,
        "mask": np.zeros(source.shape[:3], dtype=bool),
        "finished": np.zeros(len(source), dtype=bool),
        "contrast": np.zeros(len(source)),
        "visibility": seen,
        "residual": np.zeros(len(source)),
    }
    counts = ("cycles", "faint_px", "unlabelled_px", "unseen_px", "outside_px")
    nothing |= {name: np.zeros(len(source), dtype=np.int64) for name in counts}
    return RefinedBatch(
        **{name: spread(others, getattr(found, name, None)) for name, others in nothing.items()},
        stages={name: spread(source, found.stages[name] if found is not None else None) for name in stages},
        seconds=clock.seconds,
    )


class _Clock:
    """Seconds by pass."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def passed(self, name: str) -> None:
        """A pass ends."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


@dataclass(frozen=True)
class _Passed:
    """Pictures (B, C, H, W) before they are labelled, and after each stage by name; ``support`` (B, H, W) bool is where
    a change is allowed; ``residual`` and ``cycles`` (B,).
    """

    image: Tensor
    support: Tensor
    residual: Tensor
    cycles: Tensor
    stages: Mapping[str, Tensor]


def _insert(inputs: DefectInputs, given: ForeignArrays, picture: Tensor, npcf: NpcfConfig, clock: _Clock) -> _Passed:
    """Foreign material instead of render, npcF and npcF++."""
    device = str(picture.device)
    foreign = Foreign(
        kind=given.kind,
        cover=_to(given.cover, device),
        donor=_to(given.donor, device).permute(0, 3, 1, 2).contiguous(),
        jitter=_to(given.jitter, device),
    )
    made = insert(
        picture,
        _to(inputs.foreground, device),
        foreign,
        tolerance=npcf.tolerance,
        max_cycles=npcf.max_cycles,
    )
    clock.passed("foreign")
    stages = {"paste": made.laid, "render": made.laid, "npcf": made.image}
    return _Passed(made.image, made.support, made.residual, made.cycles, stages)


@dataclass(frozen=True)
class _Rendered:
    """Defects as rendered on pictures (B, C, H, W), and what the passes after that need: see `refine.render.Rendering`;
    ``pasted`` where it is kept.
    """

    picture: Tensor
    image: Tensor
    coverage: Tensor
    kept: Tensor
    distance: Tensor
    support: Tensor
    blur_px: Tensor
    noise: Tensor
    pasted: Tensor | None

    def of(self, samples: Tensor) -> _Rendered:
        """Some of the samples, by a flag (B,)."""
        tensors = {field.name: getattr(self, field.name)[samples] for field in fields(self) if field.name != "pasted"}
        return _Rendered(**tensors, pasted=self.pasted[samples] if self.pasted is not None else None)


def _render(inputs: DefectInputs, picture: Tensor, npcf: NpcfConfig, clock: _Clock, *, wants_paste: bool) -> _Rendered:
    device = str(picture.device)
    scene, look, optics = _scene(inputs, device), _look(inputs, device), _optics(inputs.optics, device)
    drawn = render(picture, scene, look, optics)
    support = _support(picture, scene, drawn, npcf.support_px)
    clock.passed("render")
    pasted = None
    if wants_paste:
        pasted = paste(picture, scene, look)
        clock.passed("paste")
    return _Rendered(
        picture=picture,
        image=drawn.image,
        coverage=drawn.coverage,
        kept=drawn.kept,
        distance=drawn.distance,
        support=support,
        blur_px=optics.blur_px,
        noise=scene.noise,
        pasted=pasted,
    )


def _refine(rendered: _Rendered, npcf: NpcfConfig, npcfpp: NpcfppConfig, clock: _Clock) -> _Passed:
    """npcF, npcF++."""
    coarse = harmonise(
        rendered.picture,
        rendered.image,
        rendered.coverage,
        rendered.support,
        kept=rendered.kept,
        screening_px=npcf.screening_px,
        crack_conductivity=npcf.crack_conductivity,
        tolerance=npcf.tolerance,
        max_cycles=npcf.max_cycles,
    )
    clock.passed("npcf")
    fine = _boundary_synergy(
        npcfpp,
        rendered.picture,
        coarse.image,
        rendered.distance,
        rendered.support,
        rendered.blur_px,
        rendered.noise,
    )
    clock.passed("npcf++")
    stages = {"render": rendered.image, "npcf": coarse.image}
    if rendered.pasted is not None:
        stages["paste"] = rendered.pasted
    return _Passed(fine, rendered.support, coarse.residual, coarse.cycles, stages)


def _boundary_synergy(
    config: NpcfppConfig,
    source: Tensor,
    coarse: Tensor,
    distance: Tensor,
    support: Tensor,
    blur_px: Tensor,
    noise: Tensor,
) -> Tensor:
    synergy = BoundarySynergy(config).to(source.device)
    finished: Tensor = synergy(source, coarse, distance, support, blur_px, noise)
    return finished


def _support(picture: Tensor, scene: Scene, drawn: Rendering, support_px: int) -> Tensor:
    """Where a change is allowed, (B, H, W) bool: around an opening, and around all that the new surface changes."""
    support = torch.zeros_like(scene.foreground)
    if scene.relief is not None:
        changed = is_below(-channel_maximum((drawn.image - picture).abs())[:, 0], -_UNCHANGED)
        support = _dilated(changed, support_px)
    if scene.crack is not None:
        support = support | (is_below(scene.crack.distance, support_px) & is_below(-scene.crack.opening, 0))
    return support & scene.foreground


def _scene(inputs: DefectInputs, device: str) -> Scene:
    return Scene(
        foreground=_to(inputs.foreground, device),
        grain=_to(inputs.grain, device),
        noise=_to(inputs.noise, device),
        crack=_crack_batch(inputs.crack, device) if inputs.crack is not None else None,
        relief=_relief_batch(inputs.relief, device) if inputs.relief is not None else None,
    )


def _look(inputs: DefectInputs, device: str) -> Look:
    return Look(
        crack=_crack_look(inputs.crack, device) if inputs.crack is not None else None,
        relief=_relief_look(inputs.relief, device) if inputs.relief is not None else None,
    )


def _optics(optics: OpticsArrays, device: str) -> Optics:
    return Optics(**{field.name: _to(getattr(optics, field.name), device) for field in fields(OpticsArrays)})


def _crack_batch(crack: CrackArrays, device: str) -> CrackBatch:
    return CrackBatch(_to(crack.distance, device), _to(crack.opening, device))


def _relief_batch(relief: ReliefArrays, device: str) -> ReliefBatch:
    given = {name: _to(values, device) for name, values in relief.fields.items()}
    nothing = torch.zeros_like(next(iter(given.values())))
    return ReliefBatch(
        depth=given.get("depth", nothing),
        height=given.get("height", nothing),
        product=given.get("product", nothing),
        displacement_y=given.get("displacement_y"),
        displacement_x=given.get("displacement_x"),
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
    return from_bytes(box_maximum(flags[:, None].view(torch.uint8), 2 * radius + 1)[:, 0])


def _planes(source: NDArray[np.uint8] | NDArray[np.uint16], device: str) -> Tensor:
    """Photographs (B, H, W, C) as (B, C, H, W), whole numbers as they are."""
    return _to(source, device).permute(0, 3, 1, 2).contiguous()


def _picture(source: Tensor) -> Tensor:
    """Whole numbers (B, H, W, C) as picture values (B, C, H, W), 0..1."""
    return (source.float() / white_level(source.dtype)).permute(0, 3, 1, 2).contiguous()


def _grey_levels(image: Tensor) -> Tensor:
    """Whole numbers (B, C, H, W) of 8 or 16 bits as grey levels of 255."""
    return image.to(torch.float32) * (255 / white_level(image.dtype))


def _to(values: NDArray[np.generic], device: str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


def _array(values: Tensor) -> NDArray[Any]:
    return values.contiguous().cpu().numpy()
