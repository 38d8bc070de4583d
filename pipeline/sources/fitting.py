"""A photograph fitted to the square of a corpus, and a mask of it fitted exactly alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests.config import FitPolicy
from manifests.pictures import Pixels

__all__ = ["fit", "fit_mask"]

_RESAMPLING: Final = Image.Resampling.BICUBIC
_WHITE_16: Final = 65535


def fit(pixels: Pixels, *, size: int, policy: FitPolicy) -> tuple[Pixels, NDArray[np.bool_]]:
    """Fit a picture to a square.

    Resampling is Pillow's antialiased bicubic. It keeps fine grain evenly sharp at ratios near 1 and overshoots a step
    by at most 5 % when it reduces; a non-negative kernel beats with the grain, and Lanczos overshoots twice as much.
    8-bit pictures are resampled in fixed-point arithmetic: the same bytes on every machine. 16-bit ones are summed in
    double precision and rounded.

    Parameters
    ----------
    pixels : NDArray[np.uint8] or NDArray[np.uint16]
        (H, W, C), C in {1, 3}.
    size : int
        Side S of the square, pixels.
    policy : {"crop", "pad", "stretch"}
        ``crop`` keeps the centre square; ``pad`` keeps everything and repeats the edge pixels;
        ``stretch`` changes the aspect.

    Returns
    -------
    image : NDArray[np.uint8] or NDArray[np.uint16]
        (S, S, C), of the type given.
    valid : NDArray[np.bool_]
        (S, S), False where padding was added.
    """
    frame = _Frame.of(pixels.shape[0], pixels.shape[1], size, policy)
    cropped = pixels[frame.crop]
    inner = cropped if cropped.shape[:2] == frame.inner else _resized(cropped, frame.inner)
    image = np.pad(inner, (*frame.padding, (0, 0)), mode="edge")
    valid = np.pad(np.ones(frame.inner, dtype=np.bool_), frame.padding)
    return np.ascontiguousarray(image), valid


def _resized(pixels: Pixels, shape: tuple[int, int]) -> Pixels:
    """Pixels (H, W, C) resampled to (h, w, C), of the same type."""
    channels = pixels.shape[-1]
    if pixels.dtype == np.uint8:
        planes = np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels)
        return np.asarray(Image.fromarray(planes).resize(shape[::-1], _RESAMPLING)).reshape(*shape, channels)
    wide = [Image.fromarray(pixels[..., k].astype(np.float32)) for k in range(channels)]
    made = np.stack([np.asarray(plane.resize(shape[::-1], _RESAMPLING)) for plane in wide], axis=-1)
    return np.asarray(np.clip(np.rint(made), 0, _WHITE_16), dtype=np.uint16)


def fit_mask(mask: NDArray[np.bool_], *, size: int, policy: FitPolicy) -> NDArray[np.bool_]:
    """Fit a mask (H, W) to (S, S) exactly as `fit` fits its picture; padding is False.

    A pixel is kept where the mask covers at least half of it.
    """
    frame = _Frame.of(mask.shape[0], mask.shape[1], size, policy)
    inner = mask[frame.crop]
    if inner.shape != frame.inner:
        cover = Image.fromarray(np.where(inner, np.uint8(255), np.uint8(0)))
        inner = np.asarray(cover.resize(frame.inner[::-1], Image.Resampling.BOX)) >= 128
    return np.pad(inner, frame.padding)


@dataclass(frozen=True)
class _Frame:
    """Where a picture comes to lie in the square: part taken, its size once resampled, padding around it."""

    crop: tuple[slice, slice]
    inner: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]

    @classmethod
    def of(cls, height: int, width: int, size: int, policy: FitPolicy) -> _Frame:
        whole = (slice(0, height), slice(0, width))
        none = ((0, 0), (0, 0))
        if policy == "stretch":
            return cls(whole, (size, size), none)
        if policy == "crop":
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            return cls((slice(top, top + side), slice(left, left + side)), (size, size), none)
        longest = max(height, width)
        inner = (max(1, round(height * size / longest)), max(1, round(width * size / longest)))
        before = ((size - inner[0]) // 2, (size - inner[1]) // 2)
        rows, columns = ((b, size - i - b) for b, i in zip(before, inner, strict=True))
        return cls(whole, inner, (rows, columns))
