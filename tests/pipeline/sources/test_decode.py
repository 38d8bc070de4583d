"""Decoding: every accepted mode and format, and every way a file can be unusable."""

from __future__ import annotations

import io
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from manifests.config import FitPolicy
from manifests.records import SourceStatus
from pipeline.sources.decode import DecodeError, decode, fit, fit_mask, is_grey

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


# ---------------------------------------------------------------- fitting

POLICIES: tuple[FitPolicy, ...] = ("crop", "pad", "stretch")


@given(
    height=st.integers(16, 90),
    width=st.integers(16, 90),
    channels=st.sampled_from([1, 3]),
    size=st.integers(32, 64),
    policy=st.sampled_from(POLICIES),
)
@settings(max_examples=60, deadline=None)
def test_fit_gives_the_size_and_keeps_a_flat_picture_flat(
    height: int, width: int, channels: int, size: int, policy: FitPolicy
) -> None:
    image, valid = fit(np.full((height, width, channels), 77, np.uint8), size=size, policy=policy)
    assert_array_equal(image, np.full((size, size, channels), 77))
    assert image.flags.c_contiguous
    assert valid.shape == (size, size)
    if policy == "pad":
        side = max(1, round(min(height, width) * size / max(height, width)))
        assert valid.sum() == side * size
    else:
        assert valid.all()


@pytest.mark.parametrize("policy", POLICIES)
def test_picture_of_the_right_size_is_left_alone(policy: FitPolicy, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    assert_array_equal(fit(pixels, size=48, policy=policy)[0], pixels)


def test_crop_takes_the_middle(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (48, 80, 1), dtype=np.uint8)
    assert_array_equal(fit(pixels, size=48, policy="crop")[0], pixels[:, 16:64])


def test_pad_repeats_the_edge_and_marks_it(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (40, 64, 3), dtype=np.uint8)
    image, valid = fit(pixels, size=64, policy="pad")
    assert_array_equal(image[12:52], pixels)
    assert_array_equal(image[:12], np.broadcast_to(pixels[:1], (12, 64, 3)))
    assert_array_equal(image[52:], np.broadcast_to(pixels[-1:], (12, 64, 3)))
    assert_array_equal(valid.all(axis=1), np.r_[[False] * 12, [True] * 40, [False] * 12])


def test_reduction_is_antialiased() -> None:
    x = np.arange(512)
    stripes = np.round(128 + 100 * np.sin(2 * np.pi * 0.45 * x)).astype(np.uint8)
    image, _ = fit(np.tile(stripes, (512, 1))[..., None], size=128, policy="stretch")
    assert_allclose(image[:, 4:-4].astype(float), 128, atol=3)


def test_step_overshoots_by_at_most_5_percent() -> None:
    step = np.full((512, 512, 1), 60, np.uint8)
    step[:, 257:] = 200
    image, _ = fit(step, size=256, policy="stretch")
    assert int(image.max()) - 200 <= 0.05 * 140
    assert 60 - int(image.min()) <= 0.05 * 140


@pytest.mark.parametrize("policy", POLICIES)
def test_mask_is_fitted_as_its_picture_is(policy: FitPolicy) -> None:
    mask = np.zeros((120, 200), np.bool_)
    mask[30:80, 60:150] = True
    image, valid = fit(np.where(mask, np.uint8(255), np.uint8(0))[..., None], size=64, policy=policy)
    fitted = fit_mask(mask, size=64, policy=policy)
    disagree = fitted ^ ((image[..., 0] >= 128) & valid)
    assert disagree.mean() < 0.01
    assert fitted.any()


# ---------------------------------------------------------------- files that Pillow does not write


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png(width: int, height: int, *, depth: int, colour_type: int, compressed: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", compressed) + _chunk(b"IEND", b"")


def _png_1_bit_header(width: int, height: int) -> bytes:
    return _png(width, height, depth=1, colour_type=0, compressed=zlib.compress(b""))


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
