"""Thumbnails in sheets: 32 samples a WebP file, eight across, and a second sheet with the outlines of their masks.

A page loads only the sheets of the samples in view. A sheet of outlines is transparent but for a line around each
mask, drawn on the thumbnail's grid, so that a thumbnail can be seen with and without it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

__all__ = ["ACROSS", "PER_SHEET", "SIDE_PX", "encode", "outline", "sheets", "thumbnail"]

PER_SHEET = 32
ACROSS = 8
SIDE_PX = 128
_QUALITY = 80  # of WebP; a defect of one grey level is seen in the detail, not here
_EFFORT = 2  # of its encoder, 0 to 6: more takes twice the time for a tenth of the bytes
_LINE = (255, 176, 32, 255)

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def thumbnail(pixels: Rgb, side: int = SIDE_PX) -> Image.Image:
    """A picture (S, S, 3) reduced, or enlarged, to a side."""
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX if pixels.shape[0] % side == 0 else 1)


def sheets(samples: Iterable[tuple[Rgb, Mask]], side: int = SIDE_PX) -> tuple[bytes, bytes]:
    """Sheet of pictures and sheet of outlines, both WebP, of up to `PER_SHEET` samples (pixels, mask)."""
    given = list(samples)
    size = (side * min(len(given), ACROSS), side * -(-len(given) // ACROSS))
    pictures, outlines = Image.new("RGB", size), Image.new("RGBA", size)
    for k, (pixels, mask) in enumerate(given):
        corner = (side * (k % ACROSS), side * (k // ACROSS))
        pictures.paste(thumbnail(pixels, side), corner)
        outlines.paste(outline(mask, side), corner)
    return encode(pictures, quality=_QUALITY, method=_EFFORT), encode(outlines, lossless=True, method=_EFFORT)


def outline(mask: Mask, side: int) -> Image.Image:
    """A line just outside the mask, (side, side) RGBA."""
    step = side / mask.shape[0]
    points = np.argwhere(mask)
    small = np.zeros((side, side), dtype=bool)
    if len(points):
        small[tuple((points * step).astype(np.int64).T)] = True
        if step > 1:
            small = ndimage.binary_dilation(small, iterations=int(np.ceil(step)) - 1)
    line = ndimage.binary_dilation(small, iterations=2) & ~ndimage.binary_dilation(small)
    return Image.fromarray(np.where(line[..., None], np.array(_LINE, dtype=np.uint8), np.uint8(0)))


def encode(image: Image.Image, **options: float) -> bytes:
    """A picture as WebP."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return buffer.getvalue()
