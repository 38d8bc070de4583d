"""The label: a mask that is where the change can be seen, no more and no less.

With D the largest difference over the channels between the finished picture and its source, in grey levels of 255:

- every pixel with D >= threshold lies in the mask (no unlabelled change);
- every pixel of the mask has such a pixel within one pixel (no invisible label): the mask is the closing of the
  changed pixels by a 3 x 3 square, which fills pinholes and joins hairlines without growing them.

Where a weak change hovers about the threshold, texture would scatter the mask over single pixels. A change below 1.5
times the threshold therefore counts only where the mean of D over a square reaches the threshold, or beside a strong
one; elsewhere it is held below it. Crumbs, fewer than four changed pixels in the 5 x 5 around, are put back to the
source before. Outside the mask, where no change can be seen, it fades to the source within a few pixels, and what then
differs by so few grey levels that taking it back makes no edge is taken back. What is left there, the rim of a blur or
of a shadow, is counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from refine.stencils import box_maximum, box_mean, box_sum

__all__ = ["Labelled", "label_change", "quantised", "visibly_changed", "white_level"]

_CRUMB = 4
_NEAR_STRONG = 5  # side of the square about a strong change in which weak ones belong to it
_WHITE = {torch.uint8: 255, torch.uint16: 65535}


@dataclass(frozen=True)
class Labelled:
    """Finished pictures and what is changed on them.

    Attributes
    ----------
    image : (B, C, H, W) tensor, as the source
        Pictures.
    mask : (B, H, W) bool tensor
        Where the change is visible.
    contrast : (B,) float64 tensor
        Mean D over the visibly changed pixels of the mask, grey levels of 255.
    faint_px, unlabelled_px, unseen_px, outside_px : (B,) int64 tensors
        Pixels outside the mask that changed invisibly and visibly; pixels of the mask without a visible change within
        one pixel; pixels outside the support that changed. All but the first are 0 by construction, and counted.
    """

    image: Tensor
    mask: Tensor
    contrast: Tensor
    faint_px: Tensor
    unlabelled_px: Tensor
    unseen_px: Tensor
    outside_px: Tensor


def white_level(dtype: torch.dtype) -> int:
    """Value of white: 255 of 8 bits, 65535 of 16."""
    return _WHITE[dtype]


def quantised(picture: Tensor, dtype: torch.dtype) -> Tensor:
    """Picture values 0..1 as the nearest whole numbers of an 8-bit or 16-bit picture."""
    return (picture.clamp(0, 1) * _WHITE[dtype]).round().to(torch.int32).to(dtype)


def visibly_changed(source: Tensor, refined: Tensor, support: Tensor, *, threshold: int) -> Tensor:
    """Where pictures differ from their source by ``threshold`` grey levels of 255 inside the support, (B, H, W) bool.

    It is the mask of `label_change`, which has the same arguments, before weak and lone changes are taken out.
    """
    change = _difference(quantised(refined, source.dtype), source)
    return _close((change >= threshold * (_WHITE[source.dtype] // 255)) & support) & support


def label_change(
    source: Tensor,
    refined: Tensor,
    support: Tensor,
    *,
    threshold: int,
    coherent_px: int = 1,
    fade_px: int | None = None,
    restored_below: int = 1,
) -> Labelled:
    """Quantise the picture and find its mask.

    Parameters
    ----------
    source : (B, C, H, W) uint8 or uint16 tensor
        Photographs.
    refined : (B, C, H, W) float tensor
        Finished pictures, 0..1.
    support : (B, H, W) bool tensor
        Where a change is allowed: elsewhere the photograph is kept bit for bit.
    threshold : int
        Grey levels of 255 by which a pixel must differ to be called changed.
    coherent_px : int
        Side of the square, odd, over which a weak change must reach the threshold; 1 takes every pixel by itself.
    fade_px : int, optional
        From so many pixels beyond the mask on nothing is changed; by default the support is the only bound.
    restored_below : int
        A change outside the mask by fewer grey levels is taken back.
    """
    step = _WHITE[source.dtype] // 255
    image = torch.where(support[:, None], quantised(refined, source.dtype), source)
    change = _difference(image, source)
    if coherent_px > 1:
        image = _held(source, image, _scattered(change, threshold * step, coherent_px), (threshold - 1) * step)
        change = _difference(image, source)
    visible = change >= threshold * step
    crumbs = visible & (box_sum(visible[:, None].to(torch.uint8), 5)[:, 0] < _CRUMB)
    visible &= ~crumbs
    mask = _close(visible) & support
    if fade_px is not None:
        image = _faded(source, image, mask, fade_px)
        change = _difference(image, source)
    restored = crumbs | (~mask & (change < restored_below * step))
    image = torch.where(restored[:, None], source, image)
    change = torch.where(restored, 0, change)
    level = torch.where(visible, change, 0).sum(dim=(1, 2), dtype=torch.int64).double() / step
    touched = change > 0
    return Labelled(
        image=image,
        mask=mask,
        contrast=level / visible.sum(dim=(1, 2)).clamp_min(1),
        faint_px=_count(touched & ~visible & ~mask),
        unlabelled_px=_count(visible & ~mask),
        unseen_px=_count(mask & ~_near(visible)),
        outside_px=_count(touched & ~support),
    )


def _scattered(change: Tensor, threshold: int, side: int) -> Tensor:
    """Where D (B, H, W) reaches the threshold weakly, by itself: its mean over the square does not."""
    near = box_maximum((2 * change >= 3 * threshold)[:, None].to(torch.uint8), _NEAR_STRONG)[:, 0] > 0
    together = box_mean(change[:, None].float(), side)[:, 0] >= threshold
    return (change >= threshold) & ~near & ~together


def _held(source: Tensor, image: Tensor, where: Tensor, most: int) -> Tensor:
    """The picture, its change in no channel larger than ``most`` where the flag is set."""
    own = source.to(torch.int32)
    held = own + (image.to(torch.int32) - own).clamp(-most, most)
    return torch.where(where[:, None], held.to(image.dtype), image)


def _faded(source: Tensor, image: Tensor, mask: Tensor, reach: int) -> Tensor:
    """The picture in the mask, the source farther than ``reach`` pixels from it, and between from one to the other."""
    grown, total = mask[:, None].to(torch.uint8), torch.zeros_like(mask[:, None], dtype=torch.int32)
    for _ in range(reach):
        grown = box_maximum(grown, 3)
        total += grown
    own = source.to(torch.int32)
    faded = own + torch.div((image.to(torch.int32) - own) * total, max(reach, 1), rounding_mode="trunc")
    return torch.where(mask[:, None], image, faded.to(image.dtype))


def _difference(image: Tensor, source: Tensor) -> Tensor:
    return (image.to(torch.int32) - source.to(torch.int32)).abs().amax(dim=1)


def _count(flags: Tensor) -> Tensor:
    return flags.sum(dim=(1, 2), dtype=torch.int64)


def _near(flags: Tensor) -> Tensor:
    """Whether a flag is set within one pixel."""
    return box_maximum(flags[:, None].to(torch.uint8), 3)[:, 0] > 0


def _close(flags: Tensor) -> Tensor:
    """Closing by a 3 x 3 square on the unbounded plane: the picture's border neither eats into it nor adds to it."""
    around = functional.pad(flags[:, None].to(torch.uint8), (2, 2, 2, 2))
    grown = box_maximum(around, 3)
    return box_maximum(1 - grown, 3)[:, 0, 2:-2, 2:-2] == 0
