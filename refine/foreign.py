"""Foreign material in a photograph: the reference generators, which draw no physics and refine nothing.

With picture s, donor d, and the share c of a pixel that is covered,

- patch (CutPaste): u = d', with brightness, contrast and saturation of d jittered to d', where c > 0;
- clone (NSA): in Omega, c > 0, div grad u = div v for every channel by itself, and u = s outside; v is, link by link,
  the stronger of the gradients of s and d. This is npcF's problem without screening, and its solver is used;
- blend (DRAEM): u = (1 - c) s + c d.

Elsewhere, and off the part, u = s bit for bit.

References
----------
Perez, Gangnet & Blake, "Poisson image editing", SIGGRAPH (2003), equations 4, 7 and 12.
Li, Sohn, Yoon & Pfister, "CutPaste", CVPR (2021).
Schlueter, Tan, Hou & Kainz, "Natural synthetic anomalies", ECCV (2022).
Zavrtanik, Kristan & Skocaj, "DRAEM", ICCV (2021), equation 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from manifests.fields import ForeignKind
from refine.flags import channel_mean, chosen
from refine.npcf import harmonise

__all__ = ["Foreign", "Inserted", "insert"]

_UNSCREENED_PX = 1e6  # screening length, far beyond any picture
_STEPS = 1 << 16  # values are summed as whole numbers, so that no order of summing shows


@dataclass(frozen=True)
class Foreign:
    """What is put into B pictures.

    Attributes
    ----------
    kind : {"patch", "clone", "blend"}
        How.
    cover : (B, H, W) float tensor
        Share of a pixel that is covered, 0..1.
    donor : (B, C, H, W) float tensor
        Material where it is to lie, 0..1. A clone also reads the pixels beside the cover.
    jitter : (B, 3) float tensor
        Factors on brightness, contrast and saturation of a patch.
    """

    kind: ForeignKind
    cover: Tensor
    donor: Tensor
    jitter: Tensor


@dataclass(frozen=True)
class Inserted:
    """Pictures with foreign material.

    ``laid`` (B, C, H, W) has it as it was laid there, ``image`` as it was finished; they differ for a clone alone.
    ``support`` (B, H, W) bool is where a change is allowed; ``residual`` (B,) and ``cycles`` (B,) int64 are those of
    the clone's equation, see `refine.npcf.NpcfSolution`, else 0.
    """

    laid: Tensor
    image: Tensor
    support: Tensor
    residual: Tensor
    cycles: Tensor


def insert(picture: Tensor, foreground: Tensor, foreign: Foreign, *, tolerance: float, max_cycles: int) -> Inserted:
    """Put foreign material into a batch of pictures.

    Parameters
    ----------
    picture : (B, C, H, W) float tensor
        Photographs, 0..1.
    foreground : (B, H, W) bool tensor
        Where the part is.
    foreign : Foreign
        What, where and how.
    tolerance, max_cycles
        Relative residual that a clone must reach, and bound on its multigrid cycles.
    """
    support = (foreign.cover > 0) & foreground
    donor = _jittered(foreign.donor, support, foreign.jitter) if foreign.kind == "patch" else foreign.donor
    material = torch.lerp(picture, donor, foreign.cover[:, None]) if foreign.kind == "blend" else donor
    laid = chosen(support, material, picture)
    if foreign.kind == "clone":
        image, residual, cycles = _cloned(picture, donor, support, tolerance, max_cycles)
    else:
        image = laid
        residual = torch.zeros(len(picture), dtype=torch.float64, device=picture.device)
        cycles = torch.zeros(len(picture), dtype=torch.int64, device=picture.device)
    return Inserted(laid, image, support, residual, cycles)


def _jittered(donor: Tensor, there: Tensor, factors: Tensor) -> Tensor:
    """A patch with its brightness, contrast about its mean, and saturation changed."""
    brightness, contrast, saturation = (factor[:, None, None, None] for factor in factors.unbind(dim=1))
    bright = donor * brightness
    mean = _mean_in(bright, there)[:, None, None, None]
    spread = mean + (bright - mean) * contrast
    grey = channel_mean(spread)
    return (grey + (spread - grey) * saturation).clamp(0, 1)


def _mean_in(values: Tensor, there: Tensor) -> Tensor:
    """Mean (B,) of values (B, C, H, W) over the channels and the flags (B, H, W); 0 without one."""
    whole = (values * _STEPS).round().to(torch.int64) * there[:, None]
    count = (values.shape[1] * there.sum(dim=(1, 2))).clamp_min(1)
    return (whole.sum(dim=(1, 2, 3)).double() / (count * _STEPS)).to(values.dtype)


def _cloned(
    picture: Tensor, donor: Tensor, support: Tensor, tolerance: float, max_cycles: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Solution, residual and cycles; channels are samples of their own, so that each follows its own gradients."""
    batch, channels = picture.shape[:2]
    alone = support.repeat_interleave(channels, dim=0)
    solved = harmonise(
        picture.flatten(0, 1)[:, None],
        donor.flatten(0, 1)[:, None],
        torch.zeros_like(picture).flatten(0, 1),
        alone,
        screening_px=_UNSCREENED_PX,
        crack_conductivity=1.0,
        tolerance=tolerance,
        max_cycles=max_cycles,
    )
    residual, cycles = (figure.view(batch, channels).amax(dim=1) for figure in (solved.residual, solved.cycles))
    return solved.image.view_as(picture), residual, cycles
