"""The label: a mask that is where the change can be seen, no more and no less.

With D the largest difference over the channels between the finished picture and its source, in grey levels of 255:

- every pixel with D >= threshold lies in the mask (no unlabelled change);
- every pixel of the mask has such a pixel within one pixel (no invisible label): the mask is the closing of the
  changed pixels by a 3 x 3 square, which fills pinholes and joins hairlines without growing them.

Crumbs, fewer than four changed pixels in the 5 x 5 around, are put back to the source before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Labelled", "label_change"]

_CRUMB = 4


@dataclass(frozen=True)
class Labelled:
    """``image`` (B, C, H, W) uint8; ``mask`` (B, H, W) bool; ``contrast`` (B,), mean D in the mask, grey levels."""

    image: Tensor
    mask: Tensor
    contrast: Tensor


def label_change(source: Tensor, refined: Tensor, support: Tensor, *, threshold: int) -> Labelled:
    """Quantise the picture and find its mask.

    Parameters
    ----------
    source : (B, C, H, W) uint8 tensor
        Photographs.
    refined : (B, C, H, W) float tensor
        Finished pictures, 0..1.
    support : (B, H, W) bool tensor
        Where a change is allowed: elsewhere the photograph is kept bit for bit.
    threshold : int
        Grey levels by which a pixel must differ to be called changed.
    """
    quantised = (refined.clamp(0, 1) * 255).round().to(torch.uint8)
    image = torch.where(support[:, None], quantised, source)
    change = _difference(image, source)
    changed = change >= threshold
    crumbs = changed & (_box_sum(changed, 5) < _CRUMB - 0.5)
    image = torch.where(crumbs[:, None], source, image)
    changed &= ~crumbs
    mask = _close(changed) & support
    level = torch.where(mask & changed, change, 0).double().sum(dim=(1, 2))
    return Labelled(image=image, mask=mask, contrast=level / (mask & changed).sum(dim=(1, 2)).clamp_min(1))


def _difference(image: Tensor, source: Tensor) -> Tensor:
    return (image.to(torch.int16) - source.to(torch.int16)).abs().amax(dim=1)


def _box_sum(flags: Tensor, side: int) -> Tensor:
    """Number of flags in the square around each pixel, (B, H, W) float; none beyond the picture."""
    ones = functional.pad(flags[:, None].float(), [side // 2] * 4)
    return functional.avg_pool2d(ones, side, stride=1)[:, 0] * (side * side)


def _close(flags: Tensor) -> Tensor:
    """Closing by a 3 x 3 square on the unbounded plane: the picture's border neither eats into it nor adds to it."""
    around = functional.pad(flags[:, None].float(), (1, 1, 1, 1))
    grown = functional.max_pool2d(around, 3, stride=1, padding=1)
    return (1 - functional.max_pool2d(1 - grown, 3, stride=1))[:, 0] > 0.5
