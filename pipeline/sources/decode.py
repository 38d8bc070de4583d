"""Pixels of a photograph: bytes of a file to 8-bit grey or colour, then fitted to a square.

Formats are PNG, JPEG, BMP, TIFF and WebP, told by their signature, never by the file's name. The size is
read from the header and judged before any pixel is decoded. Choices that a reader of the corpus should know:

- 16-bit grey is divided by 257 and rounded, so 65535 becomes 255. 16-bit colour is read by Pillow, which
  keeps the high byte; both are reported with a bit depth of 16. No stretch is made for the content: a 12-bit
  camera that leaves the top four bits empty gives a dark picture, and has to be rescaled beforehand.
- Transparency is laid on white, as viewers do. A picture whose alpha is zero everywhere is read as opaque:
  such files come from exporters that never filled that channel.
- 32-bit integer and float samples are refused, since nothing in them says which value is white.
- Of several pages or frames the first is read.

Damage that leaves a JPEG or WebP stream decodable cannot be noticed; PNG chunks are checked by their CRC.
"""

from __future__ import annotations

import io
import re
import struct
import threading
import warnings
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    ExifTags,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from manifests.config import FitPolicy
from manifests.records import SourceStatus

__all__ = ["MIN_SIDE_PX", "DecodeError", "Photograph", "decode", "fit", "fit_mask", "is_grey"]

MIN_SIDE_PX: Final = 16

_RESAMPLING: Final = Image.Resampling.BICUBIC
_TIFF_BITS_PER_SAMPLE: Final = 258
_BMP_HEADER_SIZES: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_GREY_MODES: Final = frozenset({"1", "L", "LA", "La"})
_UNSCALED_MODES: Final = {"I": "32-bit integer", "F": "32-bit float"}

# What Pillow's plugins raise on damaged data. MemoryError is left out: it says nothing about the file.
_DAMAGE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    RuntimeError,
    AssertionError,
    struct.error,
    zlib.error,
)

_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_QUIET = threading.Lock()


class DecodeError(Exception):
    """A file that gives no usable photograph; becomes the status of a source, and is never shown as an error.

    Attributes
    ----------
    status : SourceStatus
        Which of the closed list.
    detail : str
        One line for the inventory.
    """

    def __init__(self, status: SourceStatus, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail


@dataclass(frozen=True)
class Photograph:
    """A decoded photograph, upright.

    Attributes
    ----------
    pixels : NDArray[np.uint8]
        (H, W, C), C = 1 for grey files and 3 for colour files.
    width_px, height_px : int
        Size after the EXIF orientation was applied.
    channels : int
        C.
    bit_depth : int
        Bits per sample as stored: 1, 8 or 16; palettes and 2- and 4-bit grey count as 8.
    """

    pixels: NDArray[np.uint8]
    width_px: int
    height_px: int
    channels: int
    bit_depth: int


def decode(data: bytes, *, max_pixels: int) -> Photograph:
    """Decode a file's bytes to 8-bit grey or colour, upright.

    Parameters
    ----------
    data : bytes
        The whole file.
    max_pixels : int
        Largest width x height that is decoded, judged from the header.

    Returns
    -------
    Photograph
        Pixels (H, W, C), uint8.

    Raises
    ------
    DecodeError
        The file is empty, no image, damaged, or of a size outside the bounds.
    """
    if not data:
        raise DecodeError(SourceStatus.EMPTY, "0 bytes")
    plugin = _plugin(data)
    if plugin is None:
        raise DecodeError(SourceStatus.NOT_AN_IMAGE, "no PNG, JPEG, BMP, TIFF or WebP signature")
    # Pillow warns of odd metadata; the filters are process-wide, so only one thread at a time may swap them.
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _decode(plugin, data, max_pixels)
        except Image.DecompressionBombError as error:
            raise DecodeError(SourceStatus.TOO_LARGE, _one_line(error)) from None
        except _DAMAGE as error:
            raise DecodeError(SourceStatus.CORRUPT, f"damaged or truncated: {_one_line(error)}") from None


def is_grey(pixels: NDArray[np.uint8]) -> bool:
    """Whether a picture (H, W, C) has no colour: one channel, or all channels equal."""
    first = pixels[..., :1]
    return pixels.shape[-1] == 1 or bool(np.array_equal(pixels[..., 1:], np.broadcast_to(first, pixels[..., 1:].shape)))


def fit(pixels: NDArray[np.uint8], *, size: int, policy: FitPolicy) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Fit a picture to a square.

    Resampling is Pillow's antialiased bicubic, in fixed-point arithmetic: the same bytes on every machine. It
    keeps fine grain evenly sharp at ratios near 1 and overshoots a step by at most 5 % when it reduces; a
    non-negative kernel beats with the grain, and Lanczos overshoots twice as much.

    Parameters
    ----------
    pixels : NDArray[np.uint8]
        (H, W, C), C in {1, 3}.
    size : int
        Side S of the square, pixels.
    policy : {"crop", "pad", "stretch"}
        ``crop`` keeps the centre square; ``pad`` keeps everything and repeats the edge pixels;
        ``stretch`` changes the aspect.

    Returns
    -------
    image : NDArray[np.uint8]
        (S, S, C).
    valid : NDArray[np.bool_]
        (S, S), False where padding was added.
    """
    frame = _Frame.of(pixels.shape[0], pixels.shape[1], size, policy)
    cropped = pixels[frame.crop]
    if cropped.shape[:2] == frame.inner:
        inner = cropped
    else:
        planes = cropped[..., 0] if cropped.shape[-1] == 1 else cropped
        resized = Image.fromarray(np.ascontiguousarray(planes)).resize(frame.inner[::-1], _RESAMPLING)
        inner = np.asarray(resized).reshape(*frame.inner, cropped.shape[-1])
    image = np.pad(inner, (*frame.padding, (0, 0)), mode="edge")
    valid = np.pad(np.ones(frame.inner, dtype=np.bool_), frame.padding)
    return np.ascontiguousarray(image), valid


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


def _plugin(data: bytes) -> type[ImageFile.ImageFile] | None:
    """Pillow's reader for the file's signature.

    The readers are used directly: `PIL.Image.open` would try other formats too and compare the size with a
    limit of its own that is global to the process.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile
    if data.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return TiffImagePlugin.TiffImageFile
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return BmpImagePlugin.BmpImageFile
    return None


def _decode(plugin: type[ImageFile.ImageFile], data: bytes, max_pixels: int) -> Photograph:
    if plugin is WebPImagePlugin.WebPImageFile:
        _check_size(*_webp_size(data), max_pixels)  # its decoder allocates the canvas when it is opened
    with plugin(io.BytesIO(data)) as image:
        _check_size(image.width, image.height, max_pixels)
        if isinstance(image, PngImagePlugin.PngImageFile):
            with PngImagePlugin.PngImageFile(io.BytesIO(data)) as twin:
                twin.verify()  # checks every chunk's CRC, and leaves the object unusable
        bit_depth = _bit_depth(image, data)
        image.load()
        pixels = _to_8_bit(_upright(image))
    return Photograph(pixels, pixels.shape[1], pixels.shape[0], pixels.shape[2], bit_depth)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        detail = f"{width}x{height} is {width * height:,} pixels, more than max_pixels = {max_pixels:,}"
        raise DecodeError(SourceStatus.TOO_LARGE, detail)
    if min(width, height) < MIN_SIDE_PX:
        raise DecodeError(SourceStatus.TOO_SMALL, f"{width}x{height}: a side below {MIN_SIDE_PX} pixels")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Canvas (width, height) from a WebP header (RFC 9649, sections 2.5 to 2.7)."""
    chunk, head = data[12:16], data[20:30]
    if chunk == b"VP8X" and len(head) == 10:
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    if chunk == b"VP8L" and head[:1] == b"\x2f":
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 " and head[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
    raise ValueError("WebP header without a size")


def _bit_depth(image: ImageFile.ImageFile, data: bytes) -> int:
    """Bits per sample as stored, rounded up to 1, 8 or 16."""
    bits = 1 if image.mode == "1" else 16 if image.mode.startswith("I;16") else 8
    if isinstance(image, PngImagePlugin.PngImageFile):
        bits = max(bits, data[24])  # IHDR: bit depth
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = max(bits, *image.tag_v2.get(_TIFF_BITS_PER_SAMPLE, (bits,)))
    return next((known for known in (1, 8) if bits <= known), 16)


def _upright(image: ImageFile.ImageFile) -> Image.Image:
    """The picture turned by its EXIF orientation; damaged EXIF data counts as none."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _to_8_bit(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels (H, W, C), uint8, C in {1, 3}, of a picture in any mode that has a known white."""
    if image.mode in _UNSCALED_MODES:
        kind = _UNSCALED_MODES[image.mode]
        raise DecodeError(SourceStatus.NOT_AN_IMAGE, f"{kind} samples have no known white; save as 8 or 16 bits")
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        return ((wide + 128) // 257).astype(np.uint8)[..., None]
    grey = image.mode in _GREY_MODES
    if image.has_transparency_data:
        return _on_white(np.asarray(image.convert("LA" if grey else "RGBA")))
    try:
        plain = image.convert("L" if grey else "RGB")
    except ValueError:
        raise DecodeError(SourceStatus.NOT_AN_IMAGE, f"colour mode {image.mode} is not read; save as RGB") from None
    return np.array(plain).reshape(plain.height, plain.width, -1)


def _on_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour (H, W, C) of pixels (H, W, C + 1) with straight alpha, laid on white."""
    colour, alpha = pixels[..., :-1], pixels[..., -1:].astype(np.uint32)
    if not alpha.any() or (alpha == 255).all():
        return np.ascontiguousarray(colour)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _one_line(error: Exception) -> str:
    """An error's text on one line, without memory addresses: it is stored, and must repeat."""
    text = re.sub(r"0x[0-9a-fA-F]+", "0x", " ".join(str(error).split()))
    return text or type(error).__name__
