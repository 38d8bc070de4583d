"""Everything that is shown of one sample, as one script with its pictures in it.

A page opened from disk may not read the pixels of a picture in another file, so the pictures lie in the script as
data: the photograph and the result as WebP, the mask with a colour for each defect, and each field as grey values that
the page colours, with the values that black and white stand for; so the value under the pointer can be told.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests.corpus import Sample
from pipeline.contact_sheet import INSTANCE_COLOURS, as_rgb, coloured
from pipeline.report.columns import Columns
from pipeline.report.sprites import encode

__all__ = ["choose_details", "colour_scales", "sample_detail"]

_QUALITY = 92  # of WebP
_MOST_SIDE = 1024  # of the pictures shown


def choose_details(columns: Columns, count: int) -> NDArray[np.int64]:
    """Positions of up to ``count`` samples, in order: evenly over mechanisms and categories, and within each.

    Every pair of a category and a first mechanism is given the same number; what one cannot fill goes to the others.
    """
    if count >= len(columns):
        return np.arange(len(columns))
    first = np.log2(columns.present & -columns.present.astype(np.int64)).astype(np.int64)
    kind = columns.category.astype(np.int64) * len(columns.mechanisms) + first
    order = np.argsort(kind, kind="stable")
    _, starts, sizes = np.unique(kind[order], return_index=True, return_counts=True)
    chosen = [
        order[start + np.linspace(0, size - 1, quota).astype(np.int64)]
        for start, size, quota in zip(starts, sizes, _quotas(sizes, count), strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def _quotas(sizes: NDArray[np.int64], count: int) -> list[int]:
    """Shares of ``count``, equal but for those that are too small for theirs."""
    turns = np.concatenate([np.arange(size) for size in sizes])
    owner = np.repeat(np.arange(len(sizes)), sizes)
    kept = owner[np.lexsort((owner, turns))[:count]]
    return [int(n) for n in np.bincount(kept, minlength=len(sizes))]


def colour_scales() -> dict[str, Sequence[int]]:
    """Colours of fields, 256 x 3 bytes each: ``above`` from 0 to the greatest size, ``below`` for negative values."""
    ramp = np.linspace(0, 1, 256)[None]
    return {"above": coloured(ramp)[0].ravel().tolist(), "below": coloured(-ramp)[0].ravel().tolist()}


def sample_detail(sample: Sample) -> dict[str, object]:
    """The pictures of a sample, ready for a script."""
    return {
        "side": int(sample.mask.shape[0]),
        "source": _photograph(sample.source),
        "result": _photograph(sample.image),
        "mask": _data_url(_mask_picture(sample.instances), "png"),
        "fields": [
            {"name": name, "unit": field.unit, "meaning": field.meaning, **_field(np.asarray(field.values))}
            for name, field in sample.fields.items()
        ],
    }


def _photograph(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> str:
    return _webp_url(_limited(Image.fromarray(as_rgb(pixels)), Image.Resampling.LANCZOS))


def _limited(image: Image.Image, way: Image.Resampling) -> Image.Image:
    if max(image.size) <= _MOST_SIDE:
        return image
    return image.resize((_MOST_SIDE, _MOST_SIDE), way)


def _mask_picture(instances: NDArray[np.uint8]) -> Image.Image:
    colours = np.concatenate([np.zeros((1, 3), np.uint8), np.resize(INSTANCE_COLOURS, (255, 3))])
    alpha = np.where(instances > 0, 255, 0).astype(np.uint8)
    rgba = np.concatenate([colours[instances], alpha[..., None]], axis=-1)
    return _limited(Image.fromarray(rgba), Image.Resampling.NEAREST)


def _field(values: NDArray[np.float32]) -> dict[str, object]:
    """A field as grey values, with the values of black and white."""
    low, high = float(values.min()), float(values.max())
    grey = np.zeros(values.shape, np.uint8)
    if high > low:
        grey = np.rint(255 * ((values.astype(np.float64) - low) / (high - low))).astype(np.uint8)
    picture = _limited(Image.fromarray(grey), Image.Resampling.NEAREST)
    return {"low": low, "high": high, "grey": _data_url(picture, "png")}


def _webp_url(image: Image.Image) -> str:
    return "data:image/webp;base64," + base64.b64encode(encode(image, quality=_QUALITY)).decode("ascii")


def _data_url(image: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
