"""Where a detector sees a defect, laid over the photograph for an inspector to read.

The photograph is greyed and flattened; pixels above the threshold are coloured, the more the higher their score, and a
thin white line runs around them. A second line, cyan, can show what was marked by hand. The bar beside the picture
says which score a colour stands for.

Colours run through control points in CIELAB (D65), resampled to 256 steps of equal length there (delta E of 1976), so
that equal steps of the score look equally large. Lightness rises all the way, so the order survives in grey print and
for colour-blind readers.

References
----------
CIE 15:2018, "Colorimetry", section 8.2 (CIELAB). IEC 61966-2-1:1999 (sRGB).
P. Kovesi, "Good Colour Maps: How to Design Them", arXiv:1509.03700, 2015.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["COLOURS", "overlay", "side_by_side"]

_ScoreMap = NDArray[np.floating[Any]]
_Floats = NDArray[np.float64]

# L*, a*, b*: purple, crimson, orange, pale yellow
_CONTROL_POINTS: Final = ((30.0, 48.0, -32.0), (46.0, 66.0, 20.0), (68.0, 38.0, 64.0), (93.0, -8.0, 62.0))
_STEPS: Final = 256
_WHITE_D65: Final = np.array([0.95047, 1.0, 1.08883])  # X, Y, Z
_XYZ_TO_SRGB: Final = np.array(  # IEC 61966-2-1, linear light
    [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
)
_LUMA: Final = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601

_SHORTEST_LONG_SIDE: Final = 640  # smaller pictures are enlarged by a whole number
_GREY_FROM: Final = 30.0  # black and white of the greyed photograph, 0..255
_GREY_TO: Final = 205.0
_FAINTEST: Final = 0.35  # share of the colour just above the threshold
_STRONGEST: Final = 0.85  # and at the highest score
_FOUND: Final = (255, 255, 255)
_MARKED: Final = (0, 225, 255)
_CASING: Final = (20, 20, 20)
_PAPER: Final = (250, 250, 248)
_INK: Final = (32, 33, 36)
_STRIP: Final = 92  # width of the strip with the colour bar, for pictures of about 1000 pixels; with the next four
_LEAST_STRIP: Final = 160  # and its least height
_BAR: Final = 16
_MARGIN: Final = 10
_FONT: Final = 12
_GAP: Final = 8  # between two pictures


def overlay(
    image: NDArray[np.uint8],
    score_map: _ScoreMap,
    *,
    threshold: float,
    mask: NDArray[np.bool_] | None = None,
    highest: float | None = None,
) -> Image.Image:
    """Heat map over the greyed photograph, with a colour bar at its right.

    Parameters
    ----------
    image : NDArray[np.uint8]
        (H, W, 3) RGB, or (H, W) grey.
    score_map : NDArray[np.floating]
        (H, W); higher is more anomalous.
    threshold : float
        Score from which a pixel is coloured.
    mask : NDArray[np.bool_] or None
        (H, W), True where a defect was marked by hand; its outline is drawn.
    highest : float or None
        Score of the brightest colour, the same for pictures that are to be compared; None for the map's own highest.

    Returns
    -------
    PIL.Image.Image
        RGB; the photograph enlarged by a whole number if it is small, then the strip with the bar.

    Raises
    ------
    ValueError
        Shapes disagree, or a score, the threshold or the highest is not finite.
    """
    _check(image, score_map, mask, threshold, highest)
    top = float(score_map.max()) if highest is None else highest
    picture = _enlarged(image)
    size = (picture.width, picture.height)
    scores = np.asarray(Image.fromarray(score_map.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    found = scores >= threshold
    grey = _GREY_FROM + (_GREY_TO - _GREY_FROM) / 255.0 * (np.asarray(picture, dtype=np.float64) @ _LUMA)
    height = np.clip((scores - threshold) / (top - threshold), 0.0, 1.0) if top > threshold else found * 1.0
    share = np.where(found, _FAINTEST + (_STRONGEST - _FAINTEST) * height, 0.0)[..., None]
    colours = COLOURS[np.rint(height * (_STEPS - 1)).astype(np.intp)]
    canvas = np.rint((1.0 - share) * grey[..., None] + share * colours).astype(np.uint8)
    width = max(1, round(max(size) / 700))
    _draw_outline(canvas, found, _FOUND, width)
    if mask is not None:
        marked = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), dtype=np.bool_)
        _draw_outline(canvas, ~_shrunk(~marked, width), _MARKED, width)  # around it: a thin crack stays visible
    return _with_strip(Image.fromarray(canvas), threshold, top, marked=mask is not None)


def side_by_side(
    image: NDArray[np.uint8],
    score_map: _ScoreMap,
    *,
    threshold: float,
    mask: NDArray[np.bool_] | None = None,
    highest: float | None = None,
) -> Image.Image:
    """The photograph as it is, and `overlay` at its right; arguments and errors are those of `overlay`."""
    right = overlay(image, score_map, threshold=threshold, mask=mask, highest=highest)
    left = _enlarged(image)
    sheet = Image.new("RGB", (left.width + _GAP + right.width, right.height), _PAPER)
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width + _GAP, 0))
    return sheet


# ---------------------------------------------------------------- colours


def _colours() -> NDArray[np.uint8]:
    """The table (256, 3): the control points joined by straight lines in CIELAB, cut into steps of one length."""
    points = np.array(_CONTROL_POINTS)
    along = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1)))
    steps = np.linspace(0.0, along[-1], _STEPS)
    return _srgb(np.stack([np.interp(steps, along, points[:, k]) for k in range(3)], axis=-1))


def _srgb(lab: _Floats) -> NDArray[np.uint8]:
    """8-bit sRGB (N, 3) of CIELAB (N, 3); colours outside sRGB are cut off."""
    y = (lab[:, 0] + 16.0) / 116.0
    f = np.stack([y + lab[:, 1] / 500.0, y, y - lab[:, 2] / 200.0], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _WHITE_D65
    light = np.clip(xyz @ _XYZ_TO_SRGB.T, 0.0, 1.0)
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255.0 * coded), dtype=np.uint8)


COLOURS: Final = _colours()  # (256, 3) sRGB, from the threshold to the highest score


# ---------------------------------------------------------------- drawing


def _enlarged(image: NDArray[np.uint8]) -> Image.Image:
    """The photograph as RGB, enlarged by the least whole number that makes its long side no shorter than 640."""
    picture = Image.fromarray(image).convert("RGB")
    factor = -(-_SHORTEST_LONG_SIDE // max(picture.size))
    if factor == 1:
        return picture
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)


def _draw_outline(
    canvas: NDArray[np.uint8], region: NDArray[np.bool_], colour: tuple[int, int, int], width: int
) -> None:
    """Draw the inner edge of a region (H, W) on the canvas (H, W, 3), and a dark line around it."""
    canvas[~region & ~_shrunk(~region, width)] = _CASING
    canvas[region & ~_shrunk(region, width)] = colour


def _shrunk(region: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The region (H, W) less a rim of that width, over four neighbours; the picture's edge is no outside."""
    for _ in range(width):
        padded = np.pad(region, 1, mode="edge")
        across = padded[1:-1, :-2] & padded[1:-1, 2:]
        region = region & across & padded[:-2, 1:-1] & padded[2:, 1:-1]
    return region


def _with_strip(picture: Image.Image, threshold: float, top: float, *, marked: bool) -> Image.Image:
    """The picture with the colour bar, its numbers, and the meaning of the lines at its right."""
    unit = max(1, round(max(picture.size) / 1000))
    bar, margin, row = _BAR * unit, _MARGIN * unit, (_FONT + 6) * unit
    sheet = Image.new("RGB", (picture.width + _STRIP * unit, max(picture.height, _LEAST_STRIP * unit)), _PAPER)
    sheet.paste(picture, (0, 0))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT * unit)
    left, first, last = picture.width + margin, margin + row + margin // 2, sheet.height - margin - 3 * row
    text_left = left + bar + 7 * unit
    draw.text((left, margin), "score", _INK, font)
    colours = np.ascontiguousarray(COLOURS[::-1, None])
    sheet.paste(Image.fromarray(colours).resize((bar, last - first + 1)), (left, first))
    for share in (0.0, 0.5, 1.0) if top > threshold else (0.0,):
        y = round(last - share * (last - first))
        draw.line((left + bar, y, left + bar + 4 * unit, y), _INK, unit)
        draw.text((text_left, y), f"{threshold + share * (top - threshold):.3g}", _INK, font, anchor="lm")
    for k, (colour, name) in enumerate([(_FOUND, "found"), (_MARKED, "marked")][: 1 + marked]):
        y = last + (k + 1) * row + margin // 2
        draw.rectangle((left, y - 3 * unit, left + bar, y + 3 * unit), _CASING)
        draw.line((left + unit, y, left + bar - unit, y), colour, 3 * unit)
        draw.text((text_left, y), name, _INK, font, anchor="lm")
    return sheet


def _check(
    image: NDArray[np.uint8],
    score_map: _ScoreMap,
    mask: NDArray[np.bool_] | None,
    threshold: float,
    highest: float | None,
) -> None:
    shape = image.shape[:2]
    if image.dtype != np.uint8 or image.shape[2:] not in {(), (3,)}:
        raise ValueError(f"expected a photograph (H, W) or (H, W, 3) of uint8, got {image.shape} of {image.dtype}")
    if score_map.shape != shape or (mask is not None and mask.shape != shape):
        got = f"{score_map.shape}" if mask is None else f"{score_map.shape} and {mask.shape}"
        raise ValueError(f"expected a score map and a mask of the photograph's size {shape}, got {got}")
    if not np.isfinite([threshold, threshold if highest is None else highest]).all():
        raise ValueError(f"expected a finite threshold and highest score, got {threshold} and {highest}")
    if not np.isfinite(score_map).all():
        raise ValueError("expected finite scores; the map holds NaN or infinity")
