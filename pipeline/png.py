"""Pictures as PNG files, without loss: grey or colour, of 8 or 16 bits.

References
----------
W3C, "Portable Network Graphics (PNG) Specification (Third Edition)": chunks (5), filter type Sub (9.2).
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests.corpus import Picture

__all__ = ["png"]

_LEVEL = 1  # of zlib: on a photograph three times as fast as the usual 6, for 9 % more bytes
_TRUECOLOUR = 2
_SUB = 1


def png(pixels: Picture) -> bytes:
    """A picture (H, W), (H, W, 1) or (H, W, 3), uint8 or uint16, as a PNG file of the same pixels."""
    plain = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    if plain.ndim == 3 and plain.dtype == np.uint16:
        return _wide_colour(plain.astype(np.uint16))
    stream = io.BytesIO()
    Image.fromarray(plain).save(stream, "PNG", compress_level=_LEVEL)
    return stream.getvalue()


def _wide_colour(pixels: NDArray[np.uint16]) -> bytes:
    """Colour of 16 bits (H, W, 3), which Pillow has no mode for."""
    height, width, _ = pixels.shape
    raw = pixels.astype(">u2").view(np.uint8).reshape(height, width, 6)
    lines = np.empty((height, 1 + 6 * width), dtype=np.uint8)
    lines[:, 0] = _SUB
    lines[:, 1:] = np.diff(raw, axis=1, prepend=np.zeros((height, 1, 6), np.uint8)).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 16, _TRUECOLOUR, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), _LEVEL)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
