"""A picture of what the inventory found: for each category its photographs with the part outlined and the rest dimmed.

One band a category: name, decided mode, number of usable photographs, the evidence for the mode, up to 12 thumbnails
evenly spread over the category, and the photographs that cannot be used with what is wrong with them.
The height is bounded: a band shows at most 12 thumbnails in one row, two lines of evidence and four of unusable
photographs; beyond 8 categories the thumbnails shrink from 128 to 96 pixels; from the 61st on a category is only
counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage as ndi

from manifests.config import ForegroundMode

__all__ = ["InspectedCategory", "draw_inspection"]

_MAX_THUMBNAILS = 12
_MAX_BANDS = 60
_MAX_UNUSABLE_LINES = 3
_FEW_CATEGORIES = 8
_THUMBNAIL_PX = 128  # side of a thumbnail where categories are few
_SMALL_THUMBNAIL_PX = 96

_MARGIN_PX = 32
_GAP_PX = 8
_BAND_GAP_PX = 20
_PADDING_PX = 18
_WIDTH_PX = 2 * (_MARGIN_PX + _PADDING_PX) + _MAX_THUMBNAILS * _THUMBNAIL_PX + (_MAX_THUMBNAILS - 1) * _GAP_PX
_LINE_PX = 20
_TITLE_PX = 34
_HEADER_PX = 58

_PAGE = (244, 245, 247)
_CARD = (255, 255, 255)
_CARD_EDGE = (222, 225, 230)
_INK = (28, 32, 38)
_SOFT_INK = (100, 108, 118)
_WARNING = (176, 64, 12)
_OUTLINE = (255, 0, 144)
_DIMMED = (226, 229, 236)
_BADGE: dict[ForegroundMode, tuple[int, int, int]] = {
    "object": (31, 98, 196),
    "texture": (20, 128, 84),
    "masks": (122, 62, 177),
    "auto": (100, 108, 118),
}


@dataclass(frozen=True)
class InspectedCategory:
    """One category as found.

    Attributes
    ----------
    dataset, category : str
        Names.
    images : ndarray of uint8, shape (N, S, S, C)
        Usable pictures, C is 1 or 3; N may be 0.
    masks : ndarray of bool, shape (N, S, S)
        True on the part.
    mode : {"object", "texture", "masks"}
        How the part was found.
    evidence : str
        Why, in one line.
    found : int
        Number of photographs found, usable or not.
    unusable : tuple of (str, str)
        Path, and status with detail, of each photograph that cannot be used.
    """

    dataset: str
    category: str
    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    mode: ForegroundMode
    evidence: str
    found: int
    unusable: tuple[tuple[str, str], ...] = ()


def draw_inspection(categories: Sequence[InspectedCategory]) -> Image.Image:
    """Draw the inventory.

    Parameters
    ----------
    categories : sequence of InspectedCategory
        Drawn in the order given; the 61st and later are only counted.

    Returns
    -------
    PIL.Image.Image
        RGB, 1724 pixels wide, less than 20,000 high.

    Raises
    ------
    ValueError
        ``categories`` is empty, or the shapes of images and masks do not agree.
    """
    if not categories:
        raise ValueError("categories: expected at least one, got none")
    for category in categories:
        if category.images.shape[:3] != category.masks.shape:
            got = f"{category.images.shape} and {category.masks.shape}"
            raise ValueError(f"{category.dataset}/{category.category}: images and masks do not agree, got {got}")
    thumbnail_px = _thumbnail_px(len(categories))
    bands = [_band(category, thumbnail_px) for category in categories[:_MAX_BANDS]]
    hidden = len(categories) - len(bands)
    height = _HEADER_PX + _MARGIN_PX + sum(band.height + _BAND_GAP_PX for band in bands) + (_LINE_PX if hidden else 0)
    page = Image.new("RGB", (_WIDTH_PX, height), _PAGE)
    _draw_header(ImageDraw.Draw(page), categories)
    top = _HEADER_PX + _MARGIN_PX // 2
    for band in bands:
        page.paste(band, (_MARGIN_PX, top))
        top += band.height + _BAND_GAP_PX
    if hidden:
        text = f"and {hidden} more categories, not drawn"
        ImageDraw.Draw(page).text((_MARGIN_PX + _PADDING_PX, top), text, fill=_SOFT_INK, font=_font(15))
    return page


def _thumbnail_px(count: int) -> int:
    return _THUMBNAIL_PX if count <= _FEW_CATEGORIES else _SMALL_THUMBNAIL_PX


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size_px)


def _draw_header(draw: ImageDraw.ImageDraw, categories: Sequence[InspectedCategory]) -> None:
    usable, found = sum(len(c.images) for c in categories), sum(c.found for c in categories)
    noun = "category" if len(categories) == 1 else "categories"
    text = f"{len(categories)} {noun}, {usable:,} of {found:,} photographs usable"
    draw.text((_MARGIN_PX, 24), text, fill=_INK, font=_font(24))
    legend = "outlined: the part, where defects may lie      dimmed: background"
    right = _WIDTH_PX - _MARGIN_PX
    draw.text((right, 32), legend, fill=_SOFT_INK, font=_font(15), anchor="ra")
    left = right - draw.textlength(legend, font=_font(15)) - 24
    draw.rectangle((left, 34, left + 14, 48), outline=_OUTLINE, width=3)


def _band(category: InspectedCategory, thumbnail_px: int) -> Image.Image:
    """A card with title, evidence, thumbnails and what cannot be used."""
    width = _WIDTH_PX - 2 * _MARGIN_PX
    inner = width - 2 * _PADDING_PX
    evidence = _wrapped(category.evidence.removeprefix(f"{category.mode}: "), inner, lines=2)  # the badge says it
    unusable = _unusable_lines(category.unusable, inner)
    row_px = thumbnail_px + (_GAP_PX if unusable else 0) if len(category.images) else 0
    height = 2 * _PADDING_PX + _TITLE_PX + _LINE_PX * (len(evidence) + len(unusable)) + row_px + _GAP_PX // 2
    band = Image.new("RGB", (width, height), _PAGE)
    draw = ImageDraw.Draw(band)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), radius=10, fill=_CARD, outline=_CARD_EDGE)
    _draw_title(draw, category, inner)
    top = _PADDING_PX + _TITLE_PX
    for line in evidence:
        draw.text((_PADDING_PX, top), line, fill=_SOFT_INK, font=_font(15))
        top += _LINE_PX
    top += _GAP_PX // 2
    for column, tile in enumerate(_thumbnails(category, thumbnail_px)):
        band.paste(tile, (_PADDING_PX + column * (thumbnail_px + _GAP_PX), top))
    top += row_px
    for line in unusable:
        draw.text((_PADDING_PX, top), line, fill=_WARNING, font=_font(15))
        top += _LINE_PX
    return band


def _draw_title(draw: ImageDraw.ImageDraw, category: InspectedCategory, inner: int) -> None:
    badge, counts = category.mode, f"{len(category.images):,} usable of {category.found:,} found"
    name = _shortened(f"{category.dataset} / {category.category}", inner - 360, 22)
    draw.text((_PADDING_PX, _PADDING_PX - 4), name, fill=_INK, font=_font(22))
    left = _PADDING_PX + draw.textlength(name, font=_font(22)) + 16
    right = left + draw.textlength(badge, font=_font(15)) + 20
    draw.rounded_rectangle((left, _PADDING_PX - 2, right, _PADDING_PX + 22), radius=12, fill=_BADGE[badge])
    draw.text(((left + right) / 2, _PADDING_PX + 10), badge, fill=_CARD, font=_font(15), anchor="mm")
    colour = _WARNING if category.unusable else _SOFT_INK
    draw.text((_PADDING_PX + inner, _PADDING_PX + 2), counts, fill=colour, font=_font(15), anchor="ra")


def _unusable_lines(unusable: Sequence[tuple[str, str]], inner: int) -> list[str]:
    lines = [_shortened(f"not usable: {path}: {status}", inner, 15) for path, status in unusable[:_MAX_UNUSABLE_LINES]]
    more = len(unusable) - len(lines)
    return [*lines, f"and {more:,} more that cannot be used"] if more else lines


def _thumbnails(category: InspectedCategory, side: int) -> list[Image.Image]:
    count = len(category.images)
    shown = np.unique(np.linspace(0, count - 1, min(count, _MAX_THUMBNAILS)).round().astype(np.intp))
    return [_thumbnail(category.images[i], category.masks[i], side) for i in shown] if count else []


def _thumbnail(image: NDArray[np.uint8], mask: NDArray[np.bool_], side: int) -> Image.Image:
    """One picture (S, S, C), reduced, with the part (S, S) outlined and the background dimmed."""
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("RGB")
    pixels = np.asarray(picture.resize((side, side), Image.Resampling.LANCZOS)).astype(np.float32)
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize((side, side), Image.Resampling.BILINEAR)
    part = np.asarray(grey) > 127
    rim = part & ~ndi.binary_erosion(part, iterations=2)
    pixels[~part] = 0.4 * pixels[~part] + 0.6 * np.array(_DIMMED, dtype=np.float32)
    pixels[rim] = _OUTLINE
    return Image.fromarray(pixels.round().astype(np.uint8))


def _shortened(text: str, width_px: float, size_px: int) -> str:
    """The text on one line, its middle left out where it is too long."""
    text = " ".join(text.split())
    font = _font(size_px)
    kept = len(text)
    shown = text
    while font.getlength(shown) > width_px and kept > 8:
        kept -= max(1, kept // 20)
        shown = f"{text[: kept // 2]} ... {text[-(kept // 2) :]}"
    return shown


def _wrapped(text: str, width_px: float, *, lines: int) -> list[str]:
    """The text on at most so many lines, the last one shortened if need be."""
    font = _font(15)
    done: list[str] = []
    words = text.split()
    while words and len(done) < lines - 1:
        count = 1
        while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= width_px:
            count += 1
        done.append(_shortened(" ".join(words[:count]), width_px, 15))
        words = words[count:]
    return [*done, _shortened(" ".join(words), width_px, 15)] if words else done
