"""The inspection card: how a sample came to be, from photograph to finished picture, whole and pixel by pixel.

One band a sample. From left to right: the photograph with the light's direction, the physical fields with their colour
scales, each refinement stage that the corpus keeps, the finished picture, and the mask with its instances. Above, the
whole picture; below, the same crop around the defect for all, every pixel drawn as a square of 4 x 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from manifests import layout
from manifests.corpus import Corpus, Sample
from manifests.errors import ConfigError, CorpusError
from manifests.records import SampleStatus, SourceRecord
from manifests.tables import from_table, read_table
from pipeline.contact_sheet import (
    FAINT,
    INK,
    INSTANCE_COLOURS,
    PAPER,
    as_rgb,
    coloured,
    mechanism_names,
    scale_ends,
    shown_fields,
)

__all__ = ["MOST_CARDS", "draw_card", "draw_cards", "photographs"]

MOST_CARDS = 50  # in one picture: each is some 700 pixels high

_ZOOM = 4
_LEAST_PANEL, _MOST_PANEL = 256, 512  # side of a panel; between them that of the picture
_GAP = 8
_MARGIN = 28
_HEADER = 78
_BAND_GAP = 26
_TITLE, _FACTS, _LABEL = 26, 24, 21  # lines above the panels
_BAR, _LEGEND = 10, 20  # below them: the colour scale, and what it means
_RULE = (218, 219, 222)
_MARK = (255, 176, 32)
_SHADE = (24, 24, 28)
_STAGE_TITLES = {"paste": "paste", "render": "render", "npcf": "npcF"}
_FINAL = "npcF++, final"
_INSTANCES = np.concatenate([np.full((1, 3), 255, np.uint8), INSTANCE_COLOURS])  # on black


@dataclass(frozen=True)
class _Panel:
    """One picture of a band: its title, pixels (S, S, 3) uint8, and what is written below it."""

    title: str
    pixels: NDArray[np.uint8]
    scale: tuple[float, float] | None = None  # values at the ends of the colour scale, of a field
    unit: str = ""
    legend: tuple[tuple[str, tuple[int, ...]], ...] = ()  # names with their colours, of a mask


@dataclass(frozen=True)
class _Band:
    """One sample: its photograph, fields, then stages with final picture and mask."""

    sample: Sample
    source: SourceRecord
    photograph: _Panel
    fields: tuple[_Panel, ...]
    stages: tuple[_Panel, ...]


def draw_cards(corpus: Corpus, positions: Sequence[int]) -> Image.Image:
    """Draw the samples at these positions, one band each.

    Parameters
    ----------
    corpus : Corpus
        One that keeps stages of the refinement.
    positions : sequence of int
        Which samples, in this order; at most `MOST_CARDS`.

    Returns
    -------
    PIL.Image.Image
        RGB.

    Raises
    ------
    CorpusError
        There is nothing to draw.
    ConfigError
        The corpus keeps no stages, or more samples are asked for than one picture takes.
    """
    if not positions:
        raise CorpusError("nothing to draw: no sample matches; look at `maphc2f info` for what there is")
    if len(positions) > MOST_CARDS:
        raise ConfigError(f"--count {len(positions)}: one picture takes {MOST_CARDS} inspection cards at most")
    if not corpus[positions[0]].stage_names:
        raise ConfigError(
            f"{corpus.path}: keeps no stages of the refinement; generate it anew with --keep-stages, "
            "or with store.stages: [paste, render, npcf] in the recipe"
        )
    return _sheet(corpus, positions)


def draw_card(corpus: Corpus, position: int) -> Image.Image:
    """The card of one sample, with the stages that the corpus keeps, or without any; RGB."""
    return _sheet(corpus, [position])


def _sheet(corpus: Corpus, positions: Sequence[int]) -> Image.Image:
    sources = photographs(corpus)
    bands = [_band(corpus[position], sources) for position in positions]
    side = min(max(bands[0].sample.source.shape[0], _LEAST_PANEL), _MOST_PANEL)
    columns = 1 + max(len(band.fields) for band in bands) + len(bands[0].stages)
    height = _TITLE + _FACTS + _LABEL + 2 * side + _GAP + _BAR + _LEGEND + _BAND_GAP
    width = 2 * _MARGIN + columns * (side + _GAP) - _GAP
    sheet = Image.new("RGB", (width, _HEADER + len(bands) * height), PAPER)
    _draw_header(ImageDraw.Draw(sheet), corpus, bands[0].sample.source.shape[0], side, len(bands))
    for k, band in enumerate(bands):
        _draw_band(sheet, band, side, _HEADER + k * height)
    return sheet


# ---------------------------------------------------------------- what is shown


def photographs(corpus: Corpus) -> dict[tuple[str, str, int], SourceRecord]:
    """Records of the usable photographs by data set, category and row."""
    records = from_table(read_table(corpus.path / layout.INVENTORY), SourceRecord)
    return {(r.dataset, r.category, r.index): r for r in records if r.index >= 0}


def _band(sample: Sample, sources: dict[tuple[str, str, int], SourceRecord]) -> _Band:
    record = sample.record
    fields = []
    for name, field in shown_fields(sample).items():
        values = np.asarray(field.values, dtype=np.float64)
        unit = "" if field.unit == "1" else f" {field.unit}"
        fields.append(_Panel(name.replace("_", " "), coloured(values), scale=scale_ends(values), unit=unit))
    stages = [_Panel(_STAGE_TITLES[name], as_rgb(picture)) for name, picture in sample.stages.items()]
    return _Band(
        sample=sample,
        source=sources[record.dataset, record.category, record.source],
        photograph=_Panel("photograph", as_rgb(sample.source)),
        fields=tuple(fields),
        stages=(*stages, _Panel(_FINAL, as_rgb(sample.image)), _mask_panel(sample)),
    )


def _mask_panel(sample: Sample) -> _Panel:
    colours = np.concatenate([np.zeros((1, 3), np.uint8), np.resize(_INSTANCES, (255, 3))])  # by number, 0 is black
    there = [defect for defect in sample.record.defects if defect.instance]
    legend = tuple((d.mechanism, tuple(int(v) for v in colours[d.instance])) for d in there)
    return _Panel("mask", np.asarray(colours[sample.instances], dtype=np.uint8), legend=legend)


def _crop(sample: Sample, side: int) -> tuple[slice, slice]:
    """Rows and columns of a square crop with the defect in its middle, or of the largest change in a larger defect."""
    record, size = sample.record, sample.source.shape[0]
    if max(record.bbox_y1 - record.bbox_y0, record.bbox_x1 - record.bbox_x0) <= side:
        middle = ((record.bbox_y0 + record.bbox_y1) // 2, (record.bbox_x0 + record.bbox_x1) // 2)
        y, x = (min(max(m - side // 2, 0), size - side) for m in middle)
    else:
        change = np.abs(sample.image.astype(np.int64) - sample.source).max(axis=2) * (sample.mask > 0)
        total = np.pad(change.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        inside = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
        best = np.argwhere(inside == inside.max())
        y, x = (int(v) for v in best[len(best) // 2])  # in the middle of the places that hold as much
    return slice(y, y + side), slice(x, x + side)


def _facts(band: _Band) -> tuple[str, str]:
    """The two lines above a band: what the sample is, and figures of it and of its photograph."""
    record, source = band.sample.record, band.source
    verdict = "" if record.status is SampleStatus.OK else f"     not accepted: {record.status}"
    title = f"{mechanism_names(record)}     {record.dataset} / {record.category}     {record.id}{verdict}"
    figures = (
        f"severity {record.severity:.2f}",
        f"area {100 * record.area_fraction:.2f} %",
        f"contrast {record.contrast:.1f} grey levels",
        f"visibility {record.visibility:.1f}",
        f"npcF: residual {record.residual:.1e} after {record.cycles} cycle{'s' * (record.cycles != 1)}"
        if record.cycles
        else "npcF: not run",
        f"light {100 * source.light_directional:.0f} % directional",
        f"blur {source.blur_px:.2f} px",
        f"noise {255 * source.noise:.1f} grey levels",
    )
    return title, "     ".join(figures)


# ---------------------------------------------------------------- how it is drawn


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _draw_header(draw: ImageDraw.ImageDraw, corpus: Corpus, size: int, side: int, shown: int) -> None:
    what = f"{shown} of {len(corpus):,} samples" if shown > 1 else f"one of {len(corpus):,} samples"
    draw.text((_MARGIN, 16), f"{corpus.info.name}: {what}", INK, _font(22))
    whole = "the whole picture, pixel for pixel" if size <= side else f"the whole picture, reduced from {size} pixels"
    text = f"above: {whole}      below: what is framed on the photograph, every pixel {_ZOOM} x {_ZOOM}"
    draw.text((_MARGIN, 48), f"{text}      arrow: the way of the light", FAINT, _font(14))


def _draw_band(sheet: Image.Image, band: _Band, side: int, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.line([_MARGIN, top - 8, sheet.width - _MARGIN, top - 8], fill=_RULE)
    title, figures = _facts(band)
    draw.text((_MARGIN, top), title, INK, _font(18))
    draw.text((_MARGIN, top + _TITLE), figures, FAINT, _font(14))
    top += _TITLE + _FACTS
    crop = _crop(band.sample, min(side // _ZOOM, band.sample.source.shape[0]))
    step = side + _GAP
    for k, panel in enumerate((band.photograph, *band.fields)):
        _draw_panel(sheet, panel, crop, side, (_MARGIN + k * step, top))
    left = sheet.width - _MARGIN + _GAP - len(band.stages) * step  # so that stages stand below each other in all bands
    for k, panel in enumerate(band.stages):
        _draw_panel(sheet, panel, crop, side, (left + k * step, top))
    _draw_frame(draw, crop, band.sample.source.shape[0], side, (_MARGIN, top + _LABEL))
    hidden = crop[0].start < 64 and crop[1].stop > side - 64  # the crop lies in the corner of the arrow
    _draw_light(draw, band.source, (_MARGIN + (34 if hidden else side - 34), top + _LABEL + 34))


def _draw_panel(
    sheet: Image.Image, panel: _Panel, crop: tuple[slice, slice], side: int, corner: tuple[int, int]
) -> None:
    x, y = corner
    draw = ImageDraw.Draw(sheet)
    draw.text((x, y), panel.title, INK, _font(14))
    sheet.paste(_whole(panel.pixels, side), (x, y + _LABEL))
    part = Image.fromarray(np.ascontiguousarray(panel.pixels[crop]))
    enlarged = part.resize((_ZOOM * part.width, _ZOOM * part.height), Image.Resampling.NEAREST)
    below = y + _LABEL + side + _GAP
    sheet.paste(enlarged, (x, below))
    if panel.scale is not None:
        _draw_scale(sheet, panel.scale, panel.unit, side, (x, below + side + 5))
    for name, colour in panel.legend:
        draw.rectangle([x, below + side + 7, x + 11, below + side + 18], fill=colour, outline=FAINT)
        draw.text((x + 17, below + side + 5), name, FAINT, _font(13))
        x += 34 + round(draw.textlength(name, font=_font(13)))


def _whole(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    """The picture itself, in the middle of its panel if it is smaller, reduced if it is larger."""
    picture = Image.fromarray(pixels)
    if picture.width > side:
        return picture.resize((side, side), Image.Resampling.LANCZOS)
    framed = Image.new("RGB", (side, side), PAPER)
    framed.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return framed


def _draw_scale(sheet: Image.Image, ends: tuple[float, float], unit: str, side: int, corner: tuple[int, int]) -> None:
    """The colours of a field from its lowest to its highest value, with the figures at the ends."""
    x, y = corner
    low, high = ends
    ramp = coloured(np.linspace(low, high, side)[None])
    sheet.paste(Image.fromarray(np.repeat(ramp, _BAR - 3, axis=0)), (x, y))
    draw = ImageDraw.Draw(sheet)
    right = f"{high:.2g}{unit}"
    draw.text((x, y + _BAR), f"{low:.2g}" if low else "0", FAINT, _font(13))
    draw.text((x + side - 2, y + _BAR), right, FAINT, _font(13), anchor="ra")
    zero = side * low / (low - high) if low < high else 0.0
    if 40 < zero < side - 30 - draw.textlength(right, font=_font(13)):
        draw.text((x + zero, y + _BAR), "0", FAINT, _font(13), anchor="ma")


def _draw_frame(
    draw: ImageDraw.ImageDraw, crop: tuple[slice, slice], size: int, side: int, corner: tuple[int, int]
) -> None:
    """Where the crop lies on the whole picture: a light line on a dark one, to be seen on any ground."""
    scale, shift = min(1.0, side / size), max(0, (side - size) // 2)
    rows, columns = crop
    x0, x1 = (corner[0] + shift + round(scale * v) for v in (columns.start, columns.stop))
    y0, y1 = (corner[1] + shift + round(scale * v) for v in (rows.start, rows.stop))
    draw.rectangle([x0, y0, x1 - 1, y1 - 1], outline=_SHADE, width=3)
    draw.rectangle([x0 + 1, y0 + 1, x1 - 2, y1 - 2], outline=_MARK)


def _draw_light(draw: ImageDraw.ImageDraw, source: SourceRecord, middle: tuple[int, int]) -> None:
    """An arrow along the light's way over the picture."""
    towards = np.array([source.light_x, source.light_y])
    aside = np.array([-towards[1], towards[0]])
    tail, neck, tip = (np.array(middle) + reach * towards for reach in (24.0, -10.0, -24.0))
    for colour, grown in ((_SHADE, 2.0), (_MARK, 0.0)):
        draw.line([*(tail + grown * towards), *neck], fill=colour, width=int(4 + 2 * grown))
        base = neck + grown * towards
        head = [tip - 2 * grown * towards, base + (8 + 1.6 * grown) * aside, base - (8 + 1.6 * grown) * aside]
        draw.polygon([(float(x), float(y)) for x, y in head], fill=colour)
