"""The contact sheet: samples of a corpus as a picture, each as source | image | mask | fields.

Samples are taken evenly over what was asked for. Fields are shown on a perceptually ordered scale, each with the
largest value of that sample written beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from manifests.corpus import Corpus, Field, Picture, Sample
from manifests.errors import CorpusError
from manifests.pictures import eight_bits
from manifests.records import SampleRecord

__all__ = [
    "FAINT",
    "INK",
    "INSTANCE_COLOURS",
    "PAPER",
    "as_rgb",
    "choose_evenly",
    "coloured",
    "draw_sheet",
    "mechanism_names",
    "scale_ends",
    "shown_fields",
]

_THUMB = 176
_GAP = 6
_CAPTION = 22
_HEADER = 64
_MARGIN = 24
PAPER = (250, 250, 248)
INK = (32, 33, 36)
FAINT = (110, 112, 118)
# of defects in one picture: the lighter of Okabe and Ito's colours, which most eyes tell apart
INSTANCE_COLOURS = np.array(
    [[230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [213, 94, 0], [204, 121, 167]], dtype=np.uint8
)
# dark violet to yellow, and to pale blue, in equal steps of lightness
_ABOVE = np.array([[18, 8, 38], [86, 16, 109], [163, 43, 96], [223, 82, 61], [249, 149, 32], [246, 233, 130]])
_BELOW = np.array([[18, 8, 38], [30, 40, 112], [24, 84, 158], [38, 134, 180], [104, 184, 206], [196, 234, 240]])


def choose_evenly(corpus: Corpus, count: int) -> list[int]:
    """At most ``count`` positions, spread over the categories in turn and evenly within each."""
    categories = corpus.table.column("category").to_pylist()
    by_category: dict[str, list[int]] = {}
    for position, category in enumerate(categories):
        by_category.setdefault(category, []).append(position)
    turns = sorted((turn, key) for key, positions in by_category.items() for turn in range(len(positions)))
    quota = Counter(key for _, key in turns[:count])  # what a small category cannot fill goes to the others
    return sorted(
        positions[k]
        for key, positions in by_category.items()
        for k in np.linspace(0, len(positions) - 1, quota[key]).astype(int)
    )


def draw_sheet(corpus: Corpus, positions: Sequence[int]) -> Image.Image:
    """Draw the samples at these positions.

    Raises
    ------
    CorpusError
        There is nothing to draw.
    """
    if not positions:
        raise CorpusError("nothing to draw: no sample matches; look at `maphc2f info` for what there is")
    samples = [corpus[position] for position in positions]
    most = max(3 + len(shown_fields(sample)) for sample in samples)
    cell = (most * (_THUMB + _GAP) - _GAP, _THUMB + _CAPTION)
    columns = 2 if len(positions) > 3 else 1
    rows = -(-len(positions) // columns)
    width = 2 * _MARGIN + columns * cell[0] + (columns - 1) * 3 * _GAP
    height = _HEADER + rows * (cell[1] + 2 * _GAP) + _MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    _draw_header(ImageDraw.Draw(sheet), corpus, len(samples))
    for k, sample in enumerate(samples):
        corner = (
            _MARGIN + (k % columns) * (cell[0] + 3 * _GAP),
            _HEADER + (k // columns) * (cell[1] + 2 * _GAP),
        )
        _draw_sample(sheet, sample, corner)
    return sheet


def _draw_header(draw: ImageDraw.ImageDraw, corpus: Corpus, shown: int) -> None:
    info = corpus.info
    title = f"{info.name}: {shown} of {len(corpus):,} samples"
    draw.text((_MARGIN, 14), title, fill=INK, font=ImageFont.load_default(size=20))
    fields = "; ".join(f"{name}: {', '.join(m.fields)}" for name, m in info.mechanisms.items())
    text = f"source  |  image  |  mask  |  fields ({fields})"
    draw.text((_MARGIN, 40), text, fill=FAINT, font=ImageFont.load_default(size=13))


def _draw_sample(sheet: Image.Image, sample: Sample, corner: tuple[int, int]) -> None:
    x, y = corner
    for panel in _panels(sample).values():
        thumb = Image.fromarray(panel).resize((_THUMB, _THUMB), Image.Resampling.LANCZOS)
        sheet.paste(thumb, (x, y))
        x += _THUMB + _GAP
    record = sample.record
    peaks = ", ".join(
        f"{name} {_range_text(f.values)}{'' if f.unit == '1' else ' ' + f.unit}"
        for name, f in shown_fields(sample).items()
    )
    caption = (
        f"{record.category}  {mechanism_names(record)}  {record.id}  area {100 * record.area_fraction:.2f} %  "
        f"severity {record.severity:.2f}  {peaks}"
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((corner[0], corner[1] + _THUMB + 3), caption, fill=FAINT, font=ImageFont.load_default(size=12))


def _panels(sample: Sample) -> Mapping[str, NDArray[np.uint8]]:
    """Pictures of one sample by title, each (S, S, 3)."""
    mask = as_rgb(sample.mask[:, :, None])
    panels = {"source": as_rgb(sample.source), "image": as_rgb(sample.image), "mask": mask}
    for name, field in shown_fields(sample).items():
        panels[name] = coloured(np.asarray(field.values, dtype=np.float64))
    return panels


def mechanism_names(record: SampleRecord) -> str:
    """The mechanisms of the defects that are in the picture; of the first that was planned where none is."""
    return " + ".join(defect.mechanism for defect in record.defects if defect.instance) or record.mechanism


def shown_fields(sample: Sample) -> dict[str, Field]:
    """The sample's fields, the two components of a displacement as its length."""
    shown = dict(sample.fields)
    if "displacement_y" in shown and "displacement_x" in shown:
        down, right = shown.pop("displacement_y"), shown.pop("displacement_x")
        length = np.hypot(down.values, right.values)
        shown["displacement"] = Field(values=length, unit=down.unit, meaning="in-plane motion of the material")
    return shown


def _range_text(values: NDArray[np.float32]) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    return f"up to {high:.2g}" if low >= 0 else f"{low:.2g} to {high:.2g}"


def as_rgb(image: Picture) -> NDArray[np.uint8]:
    """A picture (H, W, 1 or 3) of 8 or 16 bits as (H, W, 3) uint8."""
    return np.ascontiguousarray(np.broadcast_to(eight_bits(image), (*image.shape[:2], 3)))


def scale_ends(values: NDArray[np.float64]) -> tuple[float, float]:
    """Lowest and highest value that a field's colours stand for: 0 is one of them, or between them."""
    return min(0.0, float(values.min())), max(0.0, float(values.max()))


def coloured(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A field (H, W) as colours (H, W, 3): black at 0, yellow at the greatest size above it, pale blue below it."""
    peak = float(np.abs(values).max())
    size = np.abs(values) / peak if peak > 0 else np.zeros_like(values)
    anchors = np.linspace(0, 1, len(_ABOVE))
    above, below = (
        np.stack([np.interp(size, anchors, scale[:, c]) for c in range(3)], axis=-1) for scale in (_ABOVE, _BELOW)
    )
    return np.where((values < 0)[..., None], below, above).astype(np.uint8)
