"""Decoding: every accepted mode and format, and every way a file can be unusable."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from manifests.config import BitDepth
from manifests.pictures import DecodeError, decode, eight_bits, is_grey
from manifests.records import SourceStatus

PLENTY = 10_000_000
LOSSLESS = ("PNG", "BMP", "TIFF")
ORIENTATION = 274


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def status_of(data: bytes, *, max_pixels: int = PLENTY) -> SourceStatus:
    with pytest.raises(DecodeError) as caught:
        decode(data, max_pixels=max_pixels)
    assert caught.value.detail
    assert "\n" not in caught.value.detail
    return caught.value.status


@pytest.fixture
def colour(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Smooth colour picture (40, 56, 3), so that lossy formats come close."""
    coarse = rng.integers(20, 235, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((56, 40), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("kind", LOSSLESS)
@given(
    pixels=st.tuples(st.integers(16, 40), st.integers(16, 40), st.sampled_from([1, 3])).flatmap(
        lambda shape: arrays(np.uint8, shape, fill=st.integers(0, 255))
    )
)
@settings(max_examples=25, deadline=None)
def test_lossless_grey_and_colour_come_back_bit_for_bit(kind: str, pixels: NDArray[np.uint8]) -> None:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    photograph = decode(encoded(image, kind), max_pixels=PLENTY)
    assert_array_equal(photograph.pixels, pixels)
    assert photograph.pixels.dtype == np.uint8
    assert (photograph.height_px, photograph.width_px, photograph.channels) == pixels.shape
    assert photograph.bit_depth == 8


def test_lossless_webp_comes_back_bit_for_bit(colour: NDArray[np.uint8]) -> None:
    data = encoded(Image.fromarray(colour), "WEBP", lossless=True)
    assert_array_equal(decode(data, max_pixels=PLENTY).pixels, colour)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95})])
def test_lossy_formats_come_close(colour: NDArray[np.uint8], kind: str, options: dict[str, int]) -> None:
    photograph = decode(encoded(Image.fromarray(colour), kind, **options), max_pixels=PLENTY)
    assert_allclose(photograph.pixels.astype(float), colour.astype(float), atol=20)
    assert photograph.channels == 3


def test_grey_jpeg_has_one_channel(colour: NDArray[np.uint8]) -> None:
    assert decode(encoded(Image.fromarray(colour[..., 0]), "JPEG"), max_pixels=PLENTY).channels == 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_divided_by_257_and_rounded(kind: str) -> None:
    wide = np.linspace(0, 65535, 20 * 30).round().astype(np.uint16).reshape(20, 30)
    photograph = decode(encoded(Image.fromarray(wide), kind), max_pixels=PLENTY)
    assert_array_equal(photograph.pixels[..., 0], np.floor(wide / 257 + 0.5))
    assert photograph.bit_depth == 16
    assert photograph.pixels.max() == 255


def test_big_endian_16_bit_tiff_is_read_as_little_endian_one(rng: np.random.Generator) -> None:
    wide = rng.integers(0, 65536, (20, 30), dtype=np.uint16)
    little = encoded(Image.fromarray(wide), "TIFF")
    big = _tiff_big_endian(wide[..., None])
    assert_array_equal(decode(big, max_pixels=PLENTY).pixels, decode(little, max_pixels=PLENTY).pixels)


def test_16_bit_colour_keeps_the_high_byte_and_states_16_bits(rng: np.random.Generator) -> None:
    wide = rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    for data in (_png_16_bit_rgb(wide), _tiff_big_endian(wide)):
        photograph = decode(data, max_pixels=PLENTY)
        assert photograph.bit_depth == 16
        assert_array_equal(photograph.pixels, wide >> 8)


# --- read to 16 bits ---


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_keeps_its_values_when_read_to_16_bits(channels: int, rng: np.random.Generator) -> None:
    wide = rng.integers(0, 65536, (20, 30, channels), dtype=np.uint16)
    if channels in (2, 4):
        wide[..., -1] = 65535  # opaque
    photograph = decode(_png_16_bit(wide), max_pixels=PLENTY, bit_depth=16)
    assert photograph.pixels.dtype == np.uint16
    assert photograph.bit_depth == 16
    assert_array_equal(photograph.pixels, wide[..., : 1 if channels < 3 else 3])


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_16_bit_grey_tiff_keeps_its_values_when_read_to_16_bits(
    compression: str | None, rng: np.random.Generator
) -> None:
    wide = rng.integers(0, 65536, (20, 30), dtype=np.uint16)
    data = encoded(Image.fromarray(wide), "TIFF", compression=compression)
    assert_array_equal(decode(data, max_pixels=PLENTY, bit_depth=16).pixels[..., 0], wide)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_tiff_keeps_its_values_when_read_to_16_bits(
    channels: int, order: Literal["<", ">"], compression: str | None, rng: np.random.Generator
) -> None:
    wide = rng.integers(0, 65536, (20, 30, channels), dtype=np.uint16)
    wide[..., 3:] = 65535
    data = _tiff(wide, byteorder=order, compression=compression, predictor=compression is not None)
    assert_array_equal(decode(data, max_pixels=PLENTY, bit_depth=16).pixels, wide[..., :3])


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_planes_of_a_tiff_are_read_as_interleaved_colour_is(
    order: Literal["<", ">"], rng: np.random.Generator
) -> None:
    wide = rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    planes = np.ascontiguousarray(np.moveaxis(wide, 2, 0))
    data = _tiff(planes, byteorder=order, planarconfig="separate")
    assert_array_equal(decode(data, max_pixels=PLENTY, bit_depth=16).pixels, wide)
    assert_array_equal(decode(data, max_pixels=PLENTY).pixels, wide >> 8)
    packed = _tiff(planes, byteorder=order, planarconfig="separate", compression="zlib")
    assert_array_equal(decode(packed, max_pixels=PLENTY, bit_depth=16).pixels, (wide >> 8) * 257)


def test_interlaced_16_bit_png_keeps_its_values(rng: np.random.Generator) -> None:
    wide = rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    assert_array_equal(decode(_png_16_bit(wide, interlaced=True), max_pixels=PLENTY, bit_depth=16).pixels, wide)


@pytest.mark.parametrize(("alpha", "level"), [(0, 65535), (65535, 20_000), (32768, 42767)])
def test_16_bit_alpha_is_laid_on_white(alpha: int, level: int) -> None:
    for channels, shown in ((2, 1), (4, 3)):
        wide = np.full((20, 30, channels), 20_000, np.uint16)
        wide[..., -1] = alpha
        wide[0, 0, -1] = 65535  # one opaque pixel: the channel was filled
        pixels = decode(_png_16_bit(wide), max_pixels=PLENTY, bit_depth=16).pixels
        assert pixels.shape == (20, 30, shown)
        assert_array_equal(pixels[1:], level)


def test_16_bit_colour_that_stands_for_nothing_is_white(rng: np.random.Generator) -> None:
    wide = rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    key = wide[3, 4].copy()
    wide[5, 6] = key ^ np.array([0, 0, 1], np.uint16)  # another colour, by the last bit
    expected = np.where((wide == key).all(axis=2, keepdims=True), np.uint16(65535), wide)
    data = _png_16_bit(wide, key=tuple(int(v) for v in key))
    assert_array_equal(decode(data, max_pixels=PLENTY, bit_depth=16).pixels, expected)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *((kind, mode) for kind in ("PNG", "TIFF") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *((kind, mode) for kind in ("BMP", "JPEG", "WEBP") for mode in ("L", "RGB")),
        ("BMP", "P"),
        ("JPEG", "CMYK"),
        ("WEBP", "RGBA"),
    ],
)
def test_8_bit_photograph_read_to_16_bits_is_that_read_to_8_times_257(
    kind: str, mode: str, colour: NDArray[np.uint8]
) -> None:
    data = encoded(Image.fromarray(colour).convert(mode), kind)
    narrow, wide = (decode(data, max_pixels=PLENTY, bit_depth=bits) for bits in (8, 16))
    assert wide.pixels.dtype == np.uint16
    assert_array_equal(wide.pixels, narrow.pixels.astype(np.uint32) * 257)
    assert wide.bit_depth == narrow.bit_depth


def test_16_bit_colour_is_turned_upright(rng: np.random.Generator) -> None:
    wide = rng.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    data = _tiff(wide, extratags=[(ORIENTATION, "H", 1, 6, True)])
    assert_array_equal(decode(data, max_pixels=PLENTY, bit_depth=16).pixels, np.rot90(wide, -1))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_16_bit_file_is_recorded_as_corrupt(share: float, rng: np.random.Generator) -> None:
    wide = rng.integers(0, 65536, (40, 50, 3), dtype=np.uint16)
    for data in (_png_16_bit(wide), _tiff(wide), _tiff(wide, compression="zlib")):
        with pytest.raises(DecodeError) as caught:
            decode(data[: int(share * len(data))], max_pixels=PLENTY, bit_depth=16)
        assert caught.value.status is SourceStatus.CORRUPT


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("shape", "status"), [((8, 40, 3), "too_small"), ((120, 120, 3), "too_large")])
def test_size_of_16_bit_files_is_judged_from_the_header(
    shape: tuple[int, ...], status: str, bits: BitDepth, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: object) -> None:
        pytest.fail("pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    wide = np.zeros(shape, np.uint16)
    for data in (_png_16_bit(wide), _tiff(wide)):
        with pytest.raises(DecodeError) as caught:
            decode(data, max_pixels=10_000, bit_depth=bits)
        assert caught.value.status == status


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "packed TIFF"])
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mutilated_16_bit_files_give_a_photograph_or_a_decode_error(kind: str, data: st.DataObject) -> None:
    wide = np.arange(20 * 30 * 3, dtype=np.uint16).reshape(20, 30, 3) * 31
    whole = {"PNG": _png_16_bit(wide), "TIFF": _tiff(wide), "packed TIFF": _tiff(wide, compression="zlib")}[kind]
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DecodeError):  # and no other error
        assert decode(bytes(broken), max_pixels=100_000, bit_depth=16).pixels.dtype == np.uint16


def test_8_bit_view_of_16_bits_is_rounded_and_of_8_bits_itself(rng: np.random.Generator) -> None:
    narrow = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    assert_array_equal(eight_bits(narrow), narrow)
    assert_array_equal(eight_bits(narrow.astype(np.uint16) * 257), narrow)
    assert_array_equal(eight_bits(np.array([128, 129, 65535 - 129, 65535 - 128], np.uint16)), [0, 1, 254, 255])


# --- modes and formats ---


def test_1_bit_is_black_and_white(rng: np.random.Generator) -> None:
    bits = rng.random((20, 30)) > 0.5
    for kind in LOSSLESS:
        photograph = decode(encoded(Image.fromarray(bits), kind), max_pixels=PLENTY)
        assert_array_equal(photograph.pixels[..., 0], np.where(bits, 255, 0))
    assert photograph.bit_depth == 1


@pytest.mark.parametrize("kind", LOSSLESS)
def test_palette_becomes_colour(kind: str) -> None:
    index = np.arange(20 * 30).reshape(20, 30) % 4
    palette = np.array([[0, 0, 0], [250, 10, 20], [30, 240, 50], [60, 70, 230]], dtype=np.uint8)
    image = Image.fromarray(index.astype(np.uint8)).convert("P")
    image.putpalette(palette.tobytes())
    assert_array_equal(decode(encoded(image, kind), max_pixels=PLENTY).pixels, palette[index])


def test_palette_with_a_transparent_entry_is_laid_on_white() -> None:
    index = np.arange(20 * 30).reshape(20, 30) % 2
    image = Image.fromarray(index.astype(np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    for transparency in (0, bytes([0, 255])):
        pixels = decode(encoded(image, "PNG", transparency=transparency), max_pixels=PLENTY).pixels
        assert_array_equal(pixels, np.where(index[..., None] == 0, 255, [40, 50, 60]))


def test_cmyk_jpeg_and_tiff_become_colour(colour: NDArray[np.uint8]) -> None:
    cmyk = Image.fromarray(colour).convert("CMYK")
    for data in (encoded(cmyk, "TIFF"), encoded(cmyk, "JPEG", quality=98)):
        pixels = decode(data, max_pixels=PLENTY).pixels
        assert_allclose(pixels.astype(float), colour.astype(float), atol=20)


@given(alpha=st.integers(1, 255), level=st.integers(0, 255))
@settings(max_examples=25, deadline=None)
def test_alpha_is_laid_on_white(alpha: int, level: int) -> None:
    expected = np.floor((level * alpha + 255 * (255 - alpha)) / 255 + 0.5)
    grey = decode(encoded(Image.new("LA", (20, 16), (level, alpha)), "PNG"), max_pixels=PLENTY)
    assert_array_equal(grey.pixels, np.full((16, 20, 1), expected))
    tint = decode(encoded(Image.new("RGBA", (20, 16), (level, 255, 0, alpha)), "TIFF"), max_pixels=PLENTY)
    assert_array_equal(tint.pixels[..., 0], np.full((16, 20), expected))
    assert tint.channels == 3


def test_alpha_that_was_never_filled_is_ignored(colour: NDArray[np.uint8]) -> None:
    image = Image.fromarray(np.dstack([colour, np.zeros(colour.shape[:2], np.uint8)]))
    assert_array_equal(decode(encoded(image, "PNG"), max_pixels=PLENTY).pixels, colour)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_exif_orientation_is_applied(
    kind: str, orientation: int, upright: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], colour: NDArray[np.uint8]
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    stored = Image.fromarray(colour)
    plain = decode(encoded(stored, kind, **options), max_pixels=PLENTY)
    photograph = decode(encoded(stored, kind, exif=exif, **options), max_pixels=PLENTY)
    assert_array_equal(photograph.pixels, upright(plain.pixels))
    assert (photograph.height_px, photograph.width_px) == photograph.pixels.shape[:2]


def test_damaged_exif_counts_as_none(colour: NDArray[np.uint8]) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"
    photograph = decode(encoded(Image.fromarray(colour), "JPEG", exif=exif), max_pixels=PLENTY)
    assert photograph.pixels.shape == colour.shape


def test_0_bytes_is_recorded_as_empty() -> None:
    assert status_of(b"") is SourceStatus.EMPTY


@pytest.mark.parametrize(
    "data", [b"Not a photograph.\n" * 40, b"BMW is a car, not a bitmap" * 9, bytes(4096), b"GIF89a"]
)
def test_text_and_other_formats_are_recorded_as_not_an_image(data: bytes) -> None:
    assert status_of(data) is SourceStatus.NOT_AN_IMAGE


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_32_bit_samples_are_refused_with_the_reason(dtype: type) -> None:
    data = encoded(Image.fromarray(np.zeros((20, 20), dtype)), "TIFF")
    with pytest.raises(DecodeError, match="8 or 16 bits") as caught:
        decode(data, max_pixels=PLENTY)
    assert caught.value.status is SourceStatus.NOT_AN_IMAGE


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_truncated_file_is_recorded_as_corrupt(kind: str, share: float, rng: np.random.Generator) -> None:
    data = encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    assert status_of(data[: int(len(data) * share)]) is SourceStatus.CORRUPT


def test_one_flipped_bit_in_a_png_is_recorded_as_corrupt(rng: np.random.Generator) -> None:
    data = bytearray(encoded(Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)), "PNG"))
    for position in rng.integers(16, len(data) - 12, 20):
        flipped = data.copy()
        flipped[position] ^= 4
        assert status_of(bytes(flipped)) in {SourceStatus.CORRUPT, SourceStatus.TOO_LARGE, SourceStatus.TOO_SMALL}


@pytest.mark.parametrize("size", [(1, 1), (15, 400), (400, 15)])
def test_side_below_16_pixels_is_too_small(size: tuple[int, int]) -> None:
    assert status_of(encoded(Image.new("L", size), "PNG")) is SourceStatus.TOO_SMALL


def test_16_pixels_are_enough() -> None:
    assert decode(encoded(Image.new("L", (16, 16)), "PNG"), max_pixels=256).pixels.shape == (16, 16, 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_pixel_count_is_judged_from_the_header(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.new("RGB", (100, 41)), kind)

    def never(*_: object) -> None:
        pytest.fail("pixels were decoded")

    for reader in ("ImageFile.ImageFile", "TiffImagePlugin.TiffImageFile", "WebPImagePlugin.WebPImageFile"):
        monkeypatch.setattr(f"PIL.{reader}.load", never)
    assert status_of(data, max_pixels=4099) is SourceStatus.TOO_LARGE


@pytest.mark.parametrize(("side", "max_pixels"), [(20_000, 100_000_000), (12_000, 100_000_000)])
def test_bomb_is_too_large_without_a_warning(side: int, max_pixels: int) -> None:
    data = _png_1_bit_header(side, side)
    before = Image.MAX_IMAGE_PIXELS
    assert status_of(data, max_pixels=max_pixels) is SourceStatus.TOO_LARGE
    assert before == Image.MAX_IMAGE_PIXELS


def test_real_bomb_of_20000_x_20000_pixels_is_too_large() -> None:
    row = zlib.compress(bytes(20_000 * 2501), 9)
    data = _png(20_000, 20_000, depth=1, colour_type=0, compressed=row)
    assert len(data) < 100_000
    assert status_of(data, max_pixels=100_000_000) is SourceStatus.TOO_LARGE


def test_photograph_above_pillows_own_limit_is_decoded_if_allowed() -> None:
    side = 9500  # 90.25 million pixels; Pillow warns from 89.5 million
    data = _png(side, side, depth=1, colour_type=0, compressed=zlib.compress(bytes(side * ((side + 7) // 8 + 1)), 1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert decode(data, max_pixels=100_000_000).width_px == side
    assert caught == []


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutilated_files_give_a_photograph_or_a_decode_error(kind: str, data: st.DataObject) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    whole = bytearray(encoded(Image.fromarray(pixels), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(2, min(len(whole), 400) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(12, len(whole)))
    try:
        photograph = decode(bytes(whole[:cut]), max_pixels=100_000)
    except DecodeError:
        return
    assert photograph.pixels.shape == (photograph.height_px, photograph.width_px, photograph.channels)


def test_threads_decode_the_same_and_leave_the_warning_filters_alone(colour: NDArray[np.uint8]) -> None:
    data = encoded(Image.fromarray(colour), "PNG")
    filters = list(warnings.filters)
    results: list[NDArray[np.uint8]] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [
            threading.Thread(target=lambda: results.extend(decode(data, max_pixels=PLENTY).pixels for _ in range(20)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(results) == 80
    for pixels in results:
        assert_array_equal(pixels, colour)
    assert list(warnings.filters) == filters


def test_equal_channels_are_grey_and_others_are_not(colour: NDArray[np.uint8]) -> None:
    assert is_grey(colour[..., :1])
    assert is_grey(np.repeat(colour[..., :1], 3, axis=2))
    assert not is_grey(colour)


def test_grey_saved_as_colour_keeps_three_channels(colour: NDArray[np.uint8]) -> None:
    image = Image.fromarray(np.repeat(colour[..., :1], 3, axis=2))
    assert decode(encoded(image, "PNG"), max_pixels=PLENTY).channels == 3


# ---------------------------------------------------------------- files that Pillow does not write


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png(width: int, height: int, *, depth: int, colour_type: int, compressed: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", compressed) + _chunk(b"IEND", b"")


def _png_1_bit_header(width: int, height: int) -> bytes:
    return _png(width, height, depth=1, colour_type=0, compressed=zlib.compress(b""))


def _png_16_bit(pixels: NDArray[np.uint16], *, interlaced: bool = False, key: tuple[int, ...] | None = None) -> bytes:
    """A PNG of 16 bits a channel; Adam7 if interlaced; with a colour that stands for nothing."""
    height, width, channels = pixels.shape
    steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    passes = [pixels[y::dy, x::dx] for y, x, dy, dx in steps] if interlaced else [pixels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for part in passes for row in part if row.size)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, int(interlaced))
    nothing = b"" if key is None else _chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
    body = _chunk(b"IHDR", header) + nothing + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _tiff(pixels: NDArray[np.uint16], **options: object) -> bytes:
    """A TIFF with colour of 16 bits a channel, written by another library than the one that reads it."""
    buffer = io.BytesIO()
    extra = {"extrasamples": ["unassalpha"]} if pixels.shape[-1] == 4 else {}
    tifffile.imwrite(buffer, pixels, photometric="rgb", **{**extra, **options})
    return buffer.getvalue()


def _png_16_bit_rgb(pixels: NDArray[np.uint16]) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return _png(pixels.shape[1], pixels.shape[0], depth=16, colour_type=2, compressed=zlib.compress(rows))


def _tiff_big_endian(pixels: NDArray[np.uint16]) -> bytes:
    """Uncompressed big-endian 16-bit TIFF of pixels (H, W, C), C in {1, 3}."""
    height, width, channels = pixels.shape
    body = pixels.astype(">u2").tobytes()
    bits_at, ifd_at = 8, 16
    entries = [
        (256, 3, 1, width << 16),
        (257, 3, 1, height << 16),
        (258, 3, channels, 16 << 16 if channels == 1 else bits_at),
        (259, 3, 1, 1 << 16),
        (262, 3, 1, (1 if channels == 1 else 2) << 16),
        (273, 4, 1, ifd_at + 2 + 9 * 12 + 4),
        (277, 3, 1, channels << 16),
        (278, 3, 1, height << 16),
        (279, 4, 1, len(body)),
    ]
    ifd = struct.pack(">H", len(entries)) + b"".join(struct.pack(">HHII", *entry) for entry in entries) + bytes(4)
    return b"MM\0*" + struct.pack(">I", ifd_at) + struct.pack(">HHHH", 16, 16, 16, 0) + ifd + body
