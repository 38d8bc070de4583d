"""How far a change stands out from the material's own texture: what an eye sees and a threshold on pixels does not.

A change is masked by texture of its own size. At every scale (pixels, and means over cells of 2 x 2 and 4 x 4 of them)

    r = s max over channels abs(change) / (texture + 1 grey level),

the texture being the standard deviation of the photograph, less its mean, over 9 x 9 cells. The visibility of a defect
is the root mean square of min(r, 4) over its mask, at the scale where that is largest: fine lines stand out between
pixels, broad shades between cells. Below 1 a broad defect is weaker than what the material shows anyway.

A small spot needs more contrast than a broad one: sensitivity grows as the fourth root of the area, by probability
summation. For a mask of n pixels, s = min(n / 1024, 1)^(1/4).

The change keeps its mean: a shade over an even patch between the lines of a pattern is seen. Shades of the material
that are broader than nine cells hide nothing in this measure.

References
----------
Legge & Foley, "Contrast masking in human vision", JOSA 70 (1980).
Watson & Solomon, "Model of visual contrast gain control and pattern masking", JOSA A 14 (1997), for the divisive form.
Robson & Graham, "Probability summation and regional variation in contrast sensitivity across the visual field", Vision
Research 21 (1981), for the fourth root.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from refine.stencils import box_mean, halved

__all__ = ["visibility"]

_SCALES = 3
_AROUND = 9  # cells a side of the square that a cell is seen against
_CLEAR = 4.0  # times the texture: clearer than clear does not count
_LEAST_LEVELS = 1.0  # contrast that a perfectly even surface still has, grey levels
_BROAD_PX = 1024.0  # pixels of a mask from which on its area adds nothing
_STEPS = 4096  # squares are summed as whole numbers, so that no order of summing shows


def visibility(source: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Visibility of B defects.

    Parameters
    ----------
    source, image : (B, C, H, W) float tensors
        Photographs and finished pictures, grey levels of 255.
    mask : (B, H, W) bool tensor
        Where the defect is labelled.

    Returns
    -------
    (B,) float64 tensor
        0 for an empty mask, 4 at most.
    """
    sensitivity = (
        (mask.sum(dim=(1, 2)).double() / _BROAD_PX).clamp_max_(1).sqrt_().sqrt_().to(source.dtype)[:, None, None, None]
    )
    grey, change, there = source.mean(dim=1, keepdim=True), image - source, mask[:, None].to(source.dtype)
    found = [_at_one_scale(grey, change, there, sensitivity)]
    for _ in range(1, _SCALES):
        grey, change = halved(grey), halved(change)
        there = functional.max_pool2d(there, 2, ceil_mode=True)
        found.append(_at_one_scale(grey, change, there, sensitivity))
    return torch.stack(found).amax(dim=0)


def _at_one_scale(grey: Tensor, change: Tensor, there: Tensor, sensitivity: Tensor) -> Tensor:
    detail = grey - box_mean(grey, _AROUND)
    texture = box_mean(detail.mul_(detail), _AROUND).sqrt_().add_(_LEAST_LEVELS)
    ratio = change.abs().amax(dim=1, keepdim=True).mul_(sensitivity).div_(texture).clamp_max_(_CLEAR)
    squares = ratio.mul_(ratio).mul_(there).mul_(_STEPS).round_().sum(dim=(1, 2, 3), dtype=torch.float64)
    cells = there.sum(dim=(1, 2, 3), dtype=torch.float64).clamp_min_(1)
    return (squares / (cells * _STEPS)).sqrt_()
