"""Pixels of a photograph: bytes of a file to grey or colour of 8 or 16 bits.

Formats are PNG, JPEG, BMP, TIFF and WebP, told by their signature, never by the file's name. The size is
read from the header and judged before any pixel is decoded. Choices that a reader of the corpus should know:

- Read to 8 bits, 16-bit grey is divided by 257 and rounded, so 65535 becomes 255, and of 16-bit colour the
  high byte is kept; both are reported with a bit depth of 16. Read to 16 bits, PNG and TIFF files keep their
  values, and 8-bit values are multiplied by 257. No stretch is made for the content: a 12-bit camera that
  leaves the top four bits empty gives a dark picture, and has to be rescaled beforehand.
- 16-bit CMYK, colour with premultiplied alpha, and compressed TIFF files with their colours in separate planes are
  read to 8 bits first in either case.
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
import sys
import threading
import warnings
import zlib
from dataclasses import dataclass
from typing import Final, TypeVar

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

from manifests.config import BitDepth
from manifests.records import SourceStatus

__all__ = ["IMAGE_SUFFIXES", "MIN_SIDE_PX", "DecodeError", "Photograph", "Pixels", "decode", "eight_bits", "is_grey"]

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
_AnyPixels = TypeVar("_AnyPixels", NDArray[np.uint8], NDArray[np.uint16])

IMAGE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
MIN_SIDE_PX: Final = 16

_WHITE_16: Final = 65535
_TIFF_BITS_PER_SAMPLE: Final = 258
_BMP_HEADER_SIZES: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_GREY_MODES: Final = frozenset({"1", "L", "LA", "La"})
# Pillow's names for the layout of 16-bit colour in a file. Each is read to 8 bits by taking the byte that its end (L or
# B, the order of bytes) calls the high one; named by the other end, the same file gives its low bytes.
_WIDE_LAYOUTS: Final = frozenset({"RGB;16", "RGBX;16", "RGBA;16", "R;16", "G;16", "B;16", "A;16"})
_PLANES: Final = ("R", "G", "B", "A")
_OTHER_END: Final = {"L": "B", "B": "L"}
_NATIVE_END: Final = "L" if sys.byteorder == "little" else "B"
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
    pixels : NDArray[np.uint8] or NDArray[np.uint16]
        (H, W, C), C = 1 for grey files and 3 for colour files; of the type that was asked for.
    width_px, height_px : int
        Size after the EXIF orientation was applied.
    channels : int
        C.
    bit_depth : int
        Bits per sample as stored: 1, 8 or 16; palettes and 2- and 4-bit grey count as 8.
    """

    pixels: Pixels
    width_px: int
    height_px: int
    channels: int
    bit_depth: int


def decode(data: bytes, *, max_pixels: int, bit_depth: BitDepth = 8) -> Photograph:
    """Decode a file's bytes to grey or colour, upright.

    Parameters
    ----------
    data : bytes
        The whole file.
    max_pixels : int
        Largest width x height that is decoded, judged from the header.
    bit_depth : {8, 16}
        Bits of each channel of the pixels.

    Returns
    -------
    Photograph
        Pixels (H, W, C), uint8 or uint16.

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
            return _decode(plugin, data, max_pixels, bit_depth)
        except Image.DecompressionBombError as error:
            raise DecodeError(SourceStatus.TOO_LARGE, _one_line(error)) from None
        except _DAMAGE as error:
            raise DecodeError(SourceStatus.CORRUPT, f"damaged or truncated: {_one_line(error)}") from None


def eight_bits(pixels: Pixels) -> NDArray[np.uint8]:
    """Pixels of any shape as a screen shows them: 16-bit values divided by 257 and rounded, 8-bit ones as they are."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, dtype=np.uint8)
    return np.asarray((pixels.astype(np.uint32) + 128) // 257, dtype=np.uint8)


def is_grey(pixels: Pixels) -> bool:
    """Whether a picture (H, W, C) has no colour: one channel, or all channels equal."""
    first = pixels[..., :1]
    return pixels.shape[-1] == 1 or bool(np.array_equal(pixels[..., 1:], np.broadcast_to(first, pixels[..., 1:].shape)))


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


def _decode(plugin: type[ImageFile.ImageFile], data: bytes, max_pixels: int, bit_depth: BitDepth) -> Photograph:
    if plugin is WebPImagePlugin.WebPImageFile:
        _check_size(*_webp_size(data), max_pixels)  # its decoder allocates the canvas when it is opened
    with _opened(plugin, data) as image:
        _check_size(image.width, image.height, max_pixels)
        if isinstance(image, PngImagePlugin.PngImageFile):
            with PngImagePlugin.PngImageFile(io.BytesIO(data)) as twin:
                twin.verify()  # checks every chunk's CRC, and leaves the object unusable
        stored = _bit_depth(image, data)
        pixels = _to_8_bit(_loaded(image)) if bit_depth == 8 else _to_16_bit(image, plugin, data)
    return Photograph(pixels, pixels.shape[1], pixels.shape[0], pixels.shape[2], stored)


def _opened(plugin: type[ImageFile.ImageFile], data: bytes) -> ImageFile.ImageFile:
    """A file's header read. Uncompressed 16-bit planes of a TIFF are named so; Pillow takes them for 8 bits wide."""
    image = plugin(io.BytesIO(data))
    if isinstance(image, TiffImagePlugin.TiffImageFile) and _bit_depth(image, data) == 16:
        end = "L" if data.startswith(b"II") else "B"
        image.tile = [
            tile._replace(args=(f"{tile.args[0]};16{end}", *tile.args[1:]))
            if tile.codec_name == "raw" and isinstance(tile.args, tuple) and tile.args[0] in _PLANES
            else tile
            for tile in image.tile
        ]
    return image


def _loaded(image: ImageFile.ImageFile) -> Image.Image:
    image.load()
    return _upright(image)


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
        return eight_bits(np.asarray(image).astype(np.uint16))[..., None]
    grey = image.mode in _GREY_MODES
    if image.has_transparency_data:
        return _on_white(np.asarray(image.convert("LA" if grey else "RGBA")))
    try:
        plain = image.convert("L" if grey else "RGB")
    except ValueError:
        raise DecodeError(SourceStatus.NOT_AN_IMAGE, f"colour mode {image.mode} is not read; save as RGB") from None
    return np.array(plain).reshape(plain.height, plain.width, -1)


def _to_16_bit(image: ImageFile.ImageFile, plugin: type[ImageFile.ImageFile], data: bytes) -> NDArray[np.uint16]:
    """Pixels (H, W, C), uint16, C in {1, 3}, of an opened file: its own 16-bit values, or its 8-bit ones times 257."""
    if image.mode.startswith("I;16"):
        return np.asarray(_loaded(image)).astype(np.uint16)[..., None]
    layouts = {_layout(tile.args) for tile in image.tile}
    if layouts == {"LA;16B"} and image.mode == "RGBA":
        raw = _read_as("RGBA", plugin, data).astype(np.uint16)  # the four bytes of a pixel as they are in the file
        return _on_white(_joined(raw[..., 0::2], raw[..., 1::2]))
    if not all(layout[:-1] in _WIDE_LAYOUTS for layout in layouts):
        return _to_8_bit(_loaded(image)).astype(np.uint16) * np.uint16(257)
    low = _read_as(_OTHER_END, plugin, data)
    wide = _joined(np.asarray(_loaded(image)), low)
    key = image.info.get("transparency")  # the colour, in 16-bit values, that stands for nothing
    if isinstance(key, tuple):
        there = (wide != np.array(key, dtype=np.uint16)).any(axis=-1, keepdims=True)
        wide = np.concatenate([wide, np.where(there, np.uint16(_WHITE_16), np.uint16(0))], axis=-1)
    return _on_white(wide) if wide.shape[-1] == 4 else wide


def _joined(high: Pixels, low: Pixels) -> NDArray[np.uint16]:
    return np.asarray(high.astype(np.uint16) * np.uint16(256) + low, dtype=np.uint16)


def _layout(arguments: object) -> str:
    """Pillow's name for the layout of the samples of a tile, with the order of bytes spelt out."""
    name = arguments[0] if isinstance(arguments, tuple) else arguments
    layout = name if isinstance(name, str) else ""
    return layout[:-1] + _NATIVE_END if layout.endswith(";16N") else layout


def _read_as(layout: str | dict[str, str], plugin: type[ImageFile.ImageFile], data: bytes) -> NDArray[np.uint8]:
    """Pixels of a file, upright, that is read once more in this layout, or with the other order of bytes."""
    with _opened(plugin, data) as image:
        image.tile = [tile._replace(args=_renamed(tile.args, layout)) for tile in image.tile]
        return np.asarray(_loaded(image))


def _renamed(arguments: object, layout: str | dict[str, str]) -> tuple[object, ...] | str:
    own = _layout(arguments)
    name = layout if isinstance(layout, str) else own[:-1] + layout[own[-1]]
    return (name, *arguments[1:]) if isinstance(arguments, tuple) else name


def _on_white(pixels: _AnyPixels) -> _AnyPixels:
    """Colour (H, W, C) of pixels (H, W, C + 1) with straight alpha, laid on white."""
    colour, alpha = pixels[..., :-1], pixels[..., -1:]
    white = np.iinfo(pixels.dtype).max
    if not alpha.any() or (alpha == white).all():
        return np.ascontiguousarray(colour)
    share = alpha.astype(np.uint32)  # wide enough for white squared and half of white, of 16 bits too
    return ((colour * share + white * (white - share) + white // 2) // white).astype(pixels.dtype)


def _one_line(error: Exception) -> str:
    """An error's text on one line, without memory addresses: it is stored, and must repeat."""
    text = re.sub(r"0x[0-9a-fA-F]+", "0x", " ".join(str(error).split()))
    return text or type(error).__name__
