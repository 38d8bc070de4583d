"""CutPaste and CutPaste-Scar: a patch of the picture itself, jittered in colour, pasted elsewhere with a hard edge.

Areas, lengths and widths are drawn from the real ranges, which the method as published does not know.

References
----------
Li, Sohn, Yoon & Pfister, "CutPaste", CVPR 2021: a rectangle of aspect 0.3..1 or 1..3.3, brightness, contrast and
saturation jittered by up to 0.1; the scar is long and thin and turned by up to 45 degrees.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.peers.painter import Painted, Painter, Picture
from benchmarks.peers.target import Target, log_uniform

__all__ = ["CUTPASTE", "CUTPASTE_SCAR", "jittered", "paste_patch", "paste_scar"]

_JITTER = 0.1
_ASPECT = (0.3, 3.3)
_LEAST_PX = 2


def jittered(patch: NDArray[np.float64], rng: np.random.Generator, *, strength: float = _JITTER) -> NDArray[np.float64]:
    """A patch (..., C) of 0..255 with brightness, contrast and saturation changed by up to ``strength``."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, size=3)
    out = patch * brightness
    out = out.mean() + (out - out.mean()) * contrast
    grey = out.mean(axis=-1, keepdims=True)
    return np.asarray(np.clip(grey + (out - grey) * saturation, 0, 255))


def paste_patch(picture: Picture, target: Target, rng: np.random.Generator) -> Painted:
    """One rectangle cut, jittered and pasted at another place."""
    height, width = picture.shape[:2]
    area = log_uniform(rng, target.area) * height * width
    aspect = log_uniform(rng, _ASPECT)
    h = int(np.clip(round(np.sqrt(area / aspect)), _LEAST_PX, height - 1))
    w = int(np.clip(round(np.sqrt(area * aspect)), _LEAST_PX, width - 1))
    y0, x0 = rng.integers(height - h + 1), rng.integers(width - w + 1)
    y1, x1 = rng.integers(height - h + 1), rng.integers(width - w + 1)
    out, mask = picture.copy(), np.zeros((height, width), dtype=np.bool_)
    patch = jittered(picture[y0 : y0 + h, x0 : x0 + w].astype(np.float64), rng)
    out[y1 : y1 + h, x1 : x1 + w] = np.round(patch)
    mask[y1 : y1 + h, x1 : x1 + w] = True
    return Painted(out, mask)


def paste_scar(picture: Picture, target: Target, rng: np.random.Generator) -> Painted:
    """One long thin rectangle cut, jittered, turned by up to 45 degrees and pasted at another place."""
    side = picture.shape[0]
    length = int(np.clip(round(log_uniform(rng, target.length) * side), 3, side // 2))
    width = int(np.clip(round(log_uniform(rng, target.width) * side), _LEAST_PX, length))
    h, w = (length, width) if rng.random() < 0.5 else (width, length)
    y, x = rng.integers(side - h + 1), rng.integers(side - w + 1)
    patch = jittered(picture[y : y + h, x : x + w].astype(np.float64), rng)
    angle = rng.uniform(-45, 45)
    turned = ndimage.rotate(patch, angle, axes=(1, 0), order=1, mode="nearest")
    cover = ndimage.rotate(np.ones((h, w)), angle, axes=(1, 0), order=1) >= 0.5
    top, left = (rng.integers(max(1, side - n + 1)) for n in cover.shape)
    cover = cover[: side - top, : side - left]
    out, mask = picture.copy(), np.zeros(picture.shape[:2], dtype=np.bool_)
    mask[top : top + cover.shape[0], left : left + cover.shape[1]] = cover
    out[mask] = np.round(np.clip(turned[: cover.shape[0], : cover.shape[1]], 0, 255)[cover])
    return Painted(out, mask)


def _paste_patches(
    pictures: Sequence[Picture], kinds: Sequence[str], targets: dict[str, Target], rng: np.random.Generator
) -> list[Painted]:
    return [paste_patch(p, targets[k], rng) for p, k in zip(pictures, kinds, strict=True)]


def _paste_scars(
    pictures: Sequence[Picture], kinds: Sequence[str], targets: dict[str, Target], rng: np.random.Generator
) -> list[Painted]:
    return [paste_scar(p, targets[k], rng) for p, k in zip(pictures, kinds, strict=True)]


CUTPASTE = Painter("CutPaste", _paste_patches)
CUTPASTE_SCAR = Painter("CutPaste-Scar", _paste_scars)
