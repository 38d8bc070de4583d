"""Synthesis Quality Estimator: how good a synthetic sample is, from its picture, its mask and its source.

A sample is described by fixed numbers, none of them learned here (`describe`):

- what a network trained on photographs sees: maps of EfficientNet-Lite0 over one square around the mask, averaged over
  the mask and over the ring around it, 2 x 176 numbers;
- what the change is: shape and place of the mask, amount of the change in it, around it and far from it, agreement of
  the two, visibility, sharpness of edges, energy of noise and of texture, brightness and shading against the light.
  Lengths are pixels of the square, reduced by a whole factor where its side is above 256.

From these a small network (`SQE`) tells two numbers: ``quality``, the calibrated probability that the sample is sound,
and a weight's logit, which a trainer may learn. Shipped weights have all logits zero: every sample counts the same. The
quality is learned from the second kind of number alone, the weight from all.

A sample's description depends neither on its neighbours in a batch nor on the number of threads.

References
----------
Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019.
Platt, "Probabilistic outputs for support vector machines", Advances in Large Margin Classifiers (1999), for the
calibration.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from scipy import fft, ndimage
from torch import Tensor, nn
from torch.nn import functional

from manifests.durable import write_atomic
from manifests.errors import InputError
from refine.backbone import CHANNELS, efficientnet_lite0
from refine.stencils import box_maximum
from refine.visibility import visibility

__all__ = [
    "DESCRIPTION_SIZE",
    "DESCRIPTION_VERSION",
    "NAMES",
    "SQE",
    "describe",
    "load_sqe",
    "save_sqe",
]

Picture = NDArray[np.uint8] | NDArray[np.uint16]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
Places = NDArray[np.intp]  # of pixels in a flattened map

DESCRIPTION_VERSION: Final = 1
_FORMAT_VERSION: Final = 1

_BLOCKS: Final = (2, 4, 10)
_SEEN: Final = sum(CHANNELS[block] for block in _BLOCKS)
_NETWORK_SIDE_PX: Final = 128
_NETWORK_RING_PX: Final = 8  # beyond the mask, of the network's square
_AT_ONCE: Final = 4  # pictures in every pass of the network, the last one filled up: no batch changes its arithmetic

_LEAST_SIDE_PX: Final = 64
_MOST_SIDE_PX: Final = 256
_MARGIN_PX: Final = 12
_MARGIN_SHARE: Final = 0.15  # of the mask's longer side
_RING_PX, _AROUND_PX = 4, 13
_VISIBLE_LEVELS: Final = (4.0, 8.0, 16.0)  # of 255
_SEEN_LEVEL: Final = 8.0
_CHANGED_LEVEL: Final = 0.5
_SHIFT_CELLS: Final = 64
_SHIFT_CLIP_LEVELS: Final = 32.0
_SHIFT_GAIN_LEAST: Final = 0.02  # a shift must raise the overlap by this share to count
_NOISE_FLOOR: Final = 0.25  # variance of rounding and of a quiet camera, grey levels squared
_NO_VARIATION: Final = 1e-6
_LEAST_CORE_PX: Final = 16
_BOUND: Final = 20.0

# names of the measured numbers, in the order of their columns; see the functions of the same section
_MEASURED: Final = (
    "log_area",
    "fill",
    "aspect",
    "compactness",
    "straight_outline",
    "pieces",
    "largest_piece",
    "off_part",
    "at_border",
    "change_low",
    "change_median",
    "change_high",
    "change_mean",
    "change_beside",
    "change_ring",
    "change_ring_high",
    "change_around",
    "far_visible",
    "far_most",
    "visible_off_part",
    "colour_change",
    "precision_4",
    "precision_8",
    "precision_16",
    "recall_4",
    "recall_8",
    "recall_16",
    "change_inside",
    "separation",
    "best_overlap",
    "best_threshold",
    "shift",
    "shift_gain",
    "visibility",
    "over_texture",
    "edge_sharpness",
    "photograph_sharpness",
    "relative_sharpness",
    "outline_gradient",
    "outline_step",
    "rim_change",
    "seam",
    "changed_area",
    "changed_fill",
    "changed_straight",
    "line",
    "fine_to_source",
    "fine_to_ring",
    "coarse_to_source",
    "coarse_to_ring",
    "outline_fine",
    "core_fine",
    "source_fine_to_ring",
    "grain_kept",
    "core_grain_kept",
    "coarse_kept",
    "tone",
    "change_noise",
    "sign",
    "darkest_change",
    "brightest_change",
    "core_to_outline",
    "pair",
    "pair_to_side",
    "pair_across_side",
    "pair_to_slope",
    "pair_up",
    "moment",
    "moment_to_side",
    "moment_across_side",
    "moment_to_slope",
    "moment_up",
    "source_level",
    "image_level",
    "saturated",
)
NAMES: Final = tuple([f"in_mask_{k}" for k in range(_SEEN)] + [f"in_ring_{k}" for k in range(_SEEN)] + list(_MEASURED))
DESCRIPTION_SIZE: Final = len(NAMES)


def describe(
    images: Picture, masks: Mask, sources: Picture, foregrounds: Mask | None = None, *, seen: bool = True
) -> NDArray[np.float32]:
    """Description of B samples.

    Parameters
    ----------
    images, sources : (B, S, S, C) uint8 or uint16 array
        Pictures with their defects, and the photographs they were made from; C 1 or 3. 16 bits are read as grey levels
        / 257, and one channel as three that are equal.
    masks : (B, S, S) bool array
        Where the defect is labelled; may be empty.
    foregrounds : (B, S, S) bool array, optional
        Where the part is; by default everywhere.
    seen : bool
        Whether to run the network. Its columns stay 0 without it: the quality does not look at them, the weight does.

    Returns
    -------
    (B, `DESCRIPTION_SIZE`) float32 array
        Finite; columns as in `NAMES`.

    Raises
    ------
    ValueError
        Shapes or dtypes do not agree with the above.
    """
    parts = np.ones_like(masks) if foregrounds is None else foregrounds
    _check(images, masks, sources, parts)
    described = np.zeros((len(images), DESCRIPTION_SIZE), dtype=np.float32)
    with _one_thread(), torch.inference_mode():
        for start in range(0, len(images), _AT_ONCE):
            rows = range(start, min(start + _AT_ONCE, len(images)))
            views = [_View(images[k], masks[k], sources[k], parts[k]) for k in rows]
            if seen:
                described[rows.start : rows.stop, : 2 * _SEEN] = _seen_by_network(views)
            for k, view in zip(rows, views, strict=True):
                described[k, 2 * _SEEN :] = _measured(view)
    return np.clip(described, -_BOUND, _BOUND, out=described)


def _check(images: Picture, masks: Mask, sources: Picture, parts: Mask) -> None:
    shape = images.shape
    if len(shape) != 4 or shape[1] != shape[2] or shape[3] not in (1, 3) or shape[1] < 8:
        raise ValueError(f"images: expected (B, S, S, 1 or 3) with S >= 8, got {shape}")
    if images.dtype not in (np.uint8, np.uint16) or sources.dtype != images.dtype or sources.shape != shape:
        got = f"{images.dtype} {shape} and {sources.dtype} {sources.shape}"
        raise ValueError(f"images and sources: expected the same shape, both uint8 or both uint16, got {got}")
    for name, array in (("masks", masks), ("foregrounds", parts)):
        if array.shape != shape[:3] or array.dtype != np.bool_:
            raise ValueError(f"{name}: expected bool {shape[:3]}, got {array.dtype} {array.shape}")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: how it sums depends on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------- the square around the mask


@dataclass(frozen=True)
class _View:
    """One sample: ``image`` and ``source`` (S, S, C), ``mask`` and ``part`` (S, S); maps of its square are (n, n)."""

    image: Picture
    whole_mask: Mask
    source: Picture
    whole_part: Mask

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """Rows and columns of the mask, half open; the middle of the picture for an empty mask."""
        rows, columns = (np.flatnonzero(self.whole_mask.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            middle = self.whole_mask.shape[0] // 2
            return middle, middle + 1, middle, middle + 1
        return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1

    @cached_property
    def window(self) -> tuple[slice, slice]:
        """The square."""
        size = self.whole_mask.shape[0]
        top, bottom, left, right = self.box
        longer = max(bottom - top, right - left)
        side = min(max(longer + 2 * (_MARGIN_PX + round(_MARGIN_SHARE * longer)), _LEAST_SIDE_PX), size)
        starts = (min(max((a + b - side) // 2, 0), size - side) for a, b in ((top, bottom), (left, right)))
        rows, columns = (slice(start, start + side) for start in starts)
        return rows, columns

    @cached_property
    def factor(self) -> int:
        """Pixels of the picture in one of the square's maps."""
        return -(-len(range(*self.window[0].indices(len(self.whole_mask)))) // _MOST_SIDE_PX)

    @cached_property
    def whole_change(self) -> Floats:
        """Largest change of a channel, (S, S), grey levels."""
        pairs = [(self.image[..., c], self.source[..., c]) for c in range(self.image.shape[2])]
        planes = [np.maximum(one, other) - np.minimum(one, other) for one, other in pairs]
        return np.asarray(np.maximum.reduce(planes).astype(np.float32) * self.unit)

    @cached_property
    def changed(self) -> Places:
        """Pixels of the picture that changed at all."""
        return np.flatnonzero(self.whole_change)

    @cached_property
    def changes(self) -> Floats:
        """Their changes."""
        return self.whole_change.take(self.changed)

    def within(self, reach: int) -> Mask:
        """Which of the changed pixels are in the mask or at most so far from it."""
        top, bottom, left, right = self.box
        around = slice(max(top - reach, 0), bottom + reach), slice(max(left - reach, 0), right + reach)
        whole = np.zeros_like(self.whole_mask)
        whole[around] = _grown(self.whole_mask[around], reach)
        return whole.take(self.changed)

    @property
    def unit(self) -> np.float32:
        """Grey levels of 255 in one step of the picture."""
        return np.float32(1.0 if self.image.dtype == np.uint8 else 1.0 / 257.0)

    @cached_property
    def planes(self) -> tuple[Floats, Floats]:
        """Channels (C, n, n) of image and source, grey levels."""
        image, source = (
            np.stack([_reduced(p[*self.window, c].astype(np.float32), self.factor) for c in range(p.shape[2])])
            for p in (self.image, self.source)
        )
        return image * self.unit, source * self.unit

    @cached_property
    def grey(self) -> tuple[Floats, Floats]:
        """Mean over channels of image and source."""
        image, source = (planes[0] if len(planes) == 1 else planes.sum(axis=0) / 3 for planes in self.planes)
        return image, source

    @cached_property
    def mask(self) -> Mask:
        return self._reduced_mask(self.whole_mask)

    @cached_property
    def part(self) -> Mask:
        return self._reduced_mask(self.whole_part)

    def _reduced_mask(self, whole: Mask) -> Mask:
        inside = whole[self.window]
        return inside if self.factor == 1 else _reduced(inside.astype(np.float32), self.factor) >= 0.5

    @cached_property
    def change(self) -> Floats:
        """Largest change of a channel."""
        return np.ascontiguousarray(_reduced(self.whole_change[self.window], self.factor))

    @cached_property
    def tone(self) -> Floats:
        """Change of the grey, with its sign."""
        return self.grey[0] - self.grey[1]

    @cached_property
    def near(self) -> Mask:
        """The mask and its neighbours."""
        return _grown(self.mask, 1)

    @cached_property
    def inside(self) -> Places:
        """The mask."""
        return np.flatnonzero(self.mask)

    @property
    def area(self) -> int:
        return max(self.inside.size, 1)

    @cached_property
    def outline(self) -> Places:
        """Pixels that touch both the mask and its complement."""
        return np.flatnonzero(self.near & _grown(~self.mask, 1))

    @cached_property
    def close(self) -> Mask:
        """The mask and what is beside it."""
        return _grown(self.near, _RING_PX - 1)

    @cached_property
    def ring(self) -> Places:
        """Around the mask, as far as the square goes; everything where that is nothing."""
        ring = np.flatnonzero(_grown(self.close, _AROUND_PX - _RING_PX) & ~self.close)
        return ring if ring.size else np.arange(self.mask.size)

    @cached_property
    def core(self) -> Places:
        """The mask without its outline, where it is wide enough."""
        core = np.flatnonzero(~_grown(~self.mask, 2))
        return core if core.size >= _LEAST_CORE_PX else self.inside

    @cached_property
    def smooth(self) -> tuple[Floats, Floats]:
        image, source = (_blurred(grey) for grey in self.grey)
        return image, source

    @cached_property
    def fine(self) -> tuple[Floats, Floats]:
        """Detail of single pixels, of image and source."""
        image, source = (grey - smooth for grey, smooth in zip(self.grey, self.smooth, strict=True))
        return image, source

    @cached_property
    def coarse(self) -> tuple[Floats, Floats]:
        """Detail of a few pixels, of image and source."""
        image, source = (smooth - _blurred(smooth, step=2) for smooth in self.smooth)
        return image, source

    @cached_property
    def gradients(self) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """Differences down and right, of source and tone."""
        return _differences(self.grey[1]), _differences(self.tone)


def _reduced(plane: Floats, factor: int) -> Floats:
    """Means over cells of factor x factor; what is left over at the end is left out."""
    if factor == 1:
        return plane
    cells = len(plane) // factor
    kept = plane[: cells * factor, : cells * factor].reshape(cells, factor, cells, factor)
    return np.ascontiguousarray(kept.mean(axis=(1, 3)))


def _grown(mask: Mask, reach: int) -> Mask:
    """Dilation of (n, m) by a square of side 2 reach + 1."""
    grown, done = mask, 0
    while done < reach:
        step = min(2 * done + 1, reach - done, min(mask.shape) - 1)
        rows = grown.copy()
        rows[step:] |= grown[:-step]
        rows[:-step] |= grown[step:]
        grown = rows.copy()
        grown[:, step:] |= rows[:, :-step]
        grown[:, :-step] |= rows[:, step:]
        done += step
    return grown


def _blurred(plane: Floats, *, step: int = 1) -> Floats:
    """Binomial mean (1, 2, 1) / 4 both ways over pixels ``step`` apart; the border goes on as it ends."""
    padded = np.empty((len(plane) + 2 * step, plane.shape[1] + 2 * step), dtype=plane.dtype)
    middle = padded[:, step:-step]
    middle[step:-step], middle[:step], middle[-step:] = plane, plane[0], plane[-1]
    padded[:, :step], padded[:, -step:] = middle[:, :1], middle[:, -1:]
    rows = padded[: -2 * step] + 2 * padded[step:-step] + padded[2 * step :]
    return np.asarray((rows[:, : -2 * step] + 2 * rows[:, step:-step] + rows[:, 2 * step :]) * np.float32(1 / 16))


def _differences(plane: Floats) -> tuple[Floats, Floats]:
    """To the next pixel (down, right), (n, n); 0 at the end."""
    down, right = np.zeros_like(plane), np.zeros_like(plane)
    np.subtract(plane[1:], plane[:-1], out=down[:-1])
    np.subtract(plane[:, 1:], plane[:, :-1], out=right[:, :-1])
    return down, right


def _mean(values: Floats, where: Places) -> float:
    """Over these places; 0 for none."""
    return float(values.take(where).sum()) / max(where.size, 1)


def _energy(values: Floats, where: Places) -> float:
    chosen = values.take(where)
    return float(np.dot(chosen, chosen)) / max(where.size, 1)


def _log_ratio(part: float, whole: float, floor: float) -> float:
    return math.log((part + floor) / (whole + floor))


def _correlation(first: Floats, second: Floats, where: Places) -> float:
    """Over these places, -1..1; 0 where one does not vary."""
    if where.size < 2:
        return 0.0
    a, b = first.take(where), second.take(where)
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.dot(a, a)) * float(np.dot(b, b))
    return float(np.dot(a, b)) / math.sqrt(spread) if spread > _NO_VARIATION else 0.0


# ---------------------------------------------------------------- what the network sees


def _seen_by_network(views: Sequence[_View]) -> Floats:
    """Features (B, 2 x 176) in the mask and in its ring."""
    squares = torch.zeros((_AT_ONCE, 3, _NETWORK_SIDE_PX, _NETWORK_SIDE_PX))
    covers = torch.zeros((_AT_ONCE, 1, _NETWORK_SIDE_PX, _NETWORK_SIDE_PX))
    for k, view in enumerate(views):
        squares[k] = _resampled(view.planes[0])
        covers[k] = _resampled(view.mask.astype(np.float32)[None])
    there = (covers > 0).float()
    rings = box_maximum(there, 2 * _NETWORK_RING_PX + 1) - there
    found = []
    for values in efficientnet_lite0(_BLOCKS)(squares):
        cell = _NETWORK_SIDE_PX // values.shape[2]
        weights = [functional.avg_pool2d(weight, cell).flatten(2)[:, 0] for weight in (covers, rings)]
        maps = values.flatten(2).contiguous()
        found.append(torch.stack([_weighted(maps, weight) for weight in weights]))
    in_mask, in_ring = torch.cat(found, dim=2)[:, : len(views)]
    return np.asarray(torch.cat([in_mask, in_ring], dim=1).numpy())


def _resampled(planes: Floats) -> Tensor:
    given = torch.from_numpy(np.ascontiguousarray(planes))[None]
    size = (_NETWORK_SIDE_PX, _NETWORK_SIDE_PX)
    return functional.interpolate(given, size=size, mode="bilinear", align_corners=False, antialias=True)[0]


def _weighted(maps: Tensor, weight: Tensor) -> Tensor:
    """Means (B, C) of maps (B, C, N) with weights (B, N); over everything where all weights are 0."""
    total = weight.sum(dim=1, keepdim=True)
    share = torch.where(total > 0, weight / total.clamp_min(1e-6), 1.0 / weight.shape[1])
    return torch.bmm(maps, share[:, :, None])[:, :, 0]


# ---------------------------------------------------------------- what is measured


def _measured(view: _View) -> list[float]:
    facts = (
        _shape(view)
        | _amount(view)
        | _agreement(view)
        | _shift(view)
        | _visible(view)
        | _edges(view)
        | _seams(view)
        | _grain(view)
        | _tones(view)
        | _shading(view)
    )
    return [facts[name] for name in _MEASURED]


def _shape(view: _View) -> dict[str, float]:
    """Of the mask: area / picture (natural logarithm), area / bounding box, outline, pieces, place."""
    top, bottom, left, right = view.box
    height, width = bottom - top, right - left
    mask, size = view.whole_mask[top:bottom, left:right], len(view.whole_mask)
    area = max(int(np.count_nonzero(mask)), 1)
    labels, pieces = ndimage.label(mask, structure=np.ones((3, 3)))
    perimeter, straight = _outline_of(view.mask)
    inner = view.whole_mask[2 : size - 2, 2 : size - 2]
    return {
        "log_area": math.log(area / size**2),
        "fill": area / (height * width),
        "aspect": math.log(max(height, width) / min(height, width)),
        "compactness": math.log(4 * math.pi * view.area / max(perimeter * math.pi / 4, 1.0) ** 2),
        "straight_outline": straight,
        "pieces": math.log(max(pieces, 1)),
        "largest_piece": int(np.bincount(labels.ravel())[1:].max(initial=0)) / area,
        "off_part": int(np.count_nonzero(view.whole_mask & ~view.whole_part)) / area,
        "at_border": (int(np.count_nonzero(view.whole_mask)) - int(np.count_nonzero(inner))) / area,
    }


def _outline_of(mask: Mask) -> tuple[int, float]:
    """Sides of pixels between a mask and its complement, and the share of them on its four busiest straight lines."""
    rows = np.count_nonzero(mask[1:] != mask[:-1], axis=1)
    columns = np.count_nonzero(mask[:, 1:] != mask[:, :-1], axis=0)
    perimeter = int(rows.sum() + columns.sum())
    busiest = int(np.sort(rows)[-2:].sum() + np.sort(columns)[-2:].sum())
    return perimeter, busiest / max(perimeter, 1)


def _amount(view: _View) -> dict[str, float]:
    """Of the change, in grey levels (log(1 + x)): in the mask, beside it, in its ring, far away, off the part."""
    beside, close = np.flatnonzero(view.near & ~view.mask), np.flatnonzero(view.close & ~view.near)
    inside, ring = (np.sort(view.change.take(where)) for where in (view.inside, close))
    far = view.changes[~view.within(_AROUND_PX)]
    seen = view.changes >= _SEEN_LEVEL
    off_part = seen & ~view.whole_part.take(view.changed)
    image, source = (planes.reshape(len(planes), -1)[:, view.inside] for planes in view.planes)
    tint = np.ptp(image - source, axis=0)
    return {
        "change_low": math.log1p(_quantile(inside, 0.1)),
        "change_median": math.log1p(_quantile(inside, 0.5)),
        "change_high": math.log1p(_quantile(inside, 0.9)),
        "change_mean": math.log1p(_mean(view.change, view.inside)),
        "change_beside": math.log1p(_mean(view.change, beside)),
        "change_ring": math.log1p(float(ring.mean()) if ring.size else 0.0),
        "change_ring_high": math.log1p(_quantile(ring, 0.9)),
        "change_around": math.log1p(_mean(view.change, view.ring)),
        "far_visible": math.log1p(100 * int(np.count_nonzero(far >= _SEEN_LEVEL)) / (view.area * view.factor**2)),
        "far_most": math.log1p(float(far.max(initial=0.0))),
        "visible_off_part": int(np.count_nonzero(off_part)) / max(int(np.count_nonzero(seen)), 1),
        "colour_change": math.log1p(float(tint.sum()) / view.area),
    }


def _quantile(ordered: Floats, share: float) -> float:
    return float(ordered[round(share * (ordered.size - 1))]) if ordered.size else 0.0


def _agreement(view: _View) -> dict[str, float]:
    """Of the change above thresholds with the mask, one pixel forgiven; and over all thresholds, exactly.

    ``separation`` is the probability that a pixel of the mask changed more than one of the square beside it.
    """
    facts = {}
    mask, near = view.mask, view.within(1)
    for level in _VISIBLE_LEVELS:
        seen = view.changes >= level
        total = max(int(np.count_nonzero(seen)), 1)
        facts[f"precision_{level:.0f}"] = int(np.count_nonzero(seen & near)) / total
        found = _grown(view.change >= level, 1)
        facts[f"recall_{level:.0f}"] = int(np.count_nonzero(found & mask)) / view.area
    levels = np.minimum(view.change, 255.0).astype(np.intp)
    inside = np.bincount(levels[mask], minlength=256)
    outside = np.bincount(levels.ravel(), minlength=256) - inside
    hits, false = inside[::-1].cumsum()[::-1], outside[::-1].cumsum()[::-1]
    overlap = hits[1:] / (max(hits[0], 1) + false[1:])
    pairs = max(int(hits[0]), 1) * max(int(false[0]), 1)
    below = outside.cumsum() - 0.5 * outside
    changed = float(view.changes.sum(dtype=np.float64))
    in_mask = float(view.changes[view.whole_mask.take(view.changed)].sum(dtype=np.float64))
    return facts | {
        "change_inside": in_mask / max(changed, 1.0),
        "separation": float((inside * below).sum()) / pairs,
        "best_overlap": float(overlap.max()),
        "best_threshold": math.log(1 + int(overlap.argmax())),
    }


def _shift(view: _View) -> dict[str, float]:
    """By which the mask would cover the change best / root of its area, and the logarithm of what is gained."""
    factor = -(-len(view.mask) // _SHIFT_CELLS)
    mask = _reduced(view.mask.astype(np.float32), factor)
    change = np.minimum(_reduced(view.change, factor), np.float32(_SHIFT_CLIP_LEVELS))
    side = fft.next_fast_len(2 * len(mask), real=True)  # twice as wide: nothing comes in from the other side
    spectrum = fft.rfft2(change, (side, side)) * np.conj(fft.rfft2(mask, (side, side)))
    overlap = fft.irfft2(spectrum, (side, side))
    here, best = float(overlap[0, 0]), float(overlap.max())
    if best <= (1 + _SHIFT_GAIN_LEAST) * max(here, 1e-3):
        return {"shift": 0.0, "shift_gain": 0.0}
    row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
    away = [(int(k) + side // 2) % side - side // 2 for k in (row, column)]
    return {
        "shift": math.log1p(math.hypot(*away) * factor / math.sqrt(view.area)),
        "shift_gain": math.log(best / max(here, 0.01 * best)),
    }


def _visible(view: _View) -> dict[str, float]:
    """How the change stands out of the material's texture: see `refine.visibility`, and plainly against the ring's."""
    image, source = (torch.from_numpy(np.ascontiguousarray(grey))[None, None] for grey in view.grey)
    texture = math.sqrt(_energy(view.fine[1], view.ring) + _energy(view.coarse[1], view.ring))
    return {
        "visibility": float(visibility(source, image, torch.from_numpy(view.mask)[None])[0]),
        "over_texture": _log_ratio(_mean(view.change, view.inside), texture, 1.0),
    }


# ---------------------------------------------------------------- edges


def _edges(view: _View) -> dict[str, float]:
    """How much of its gradient's energy a blur leaves: less where edges are sharp. Of the change and of the photograph.

    Then the gradient on the mask's outline, against that of the source, and against the change.
    """
    source, tone = view.gradients
    smooth_source = _differences(view.smooth[1])
    smooth_tone = _differences(view.smooth[0] - view.smooth[1])
    change_sharp = _sharpness(tone, smooth_tone, np.flatnonzero(view.close))
    photograph_sharp = _sharpness(source, smooth_source, np.arange(view.mask.size))
    of_source, of_tone, of_image = (
        _mean_length(pair, view.outline) for pair in (source, tone, _differences(view.grey[0]))
    )
    return {
        "edge_sharpness": change_sharp,
        "photograph_sharpness": photograph_sharp,
        "relative_sharpness": change_sharp - photograph_sharp,
        "outline_gradient": _log_ratio(of_image, of_source, 1.0),
        "outline_step": _log_ratio(of_tone, _mean(view.change, view.inside), 0.5),
    }


def _mean_length(pair: tuple[Floats, Floats], where: Places) -> float:
    down, right = (part.take(where) for part in pair)
    return float(np.sqrt(down * down + right * right).sum()) / max(where.size, 1)


def _sharpness(plain: tuple[Floats, Floats], smooth: tuple[Floats, Floats], where: Places) -> float:
    """Logarithm of the gradients' energy / what a blur leaves of it."""
    before, after = (_energy(down, where) + _energy(right, where) for down, right in (plain, smooth))
    return _log_ratio(before, after, 0.05)


def _seams(view: _View) -> dict[str, float]:
    """Of everything that changed at all: how strongly at its own rim, its extent, and straight lines in it."""
    changed = view.change >= _CHANGED_LEVEL
    count = max(int(np.count_nonzero(changed)), 1)
    rim = _mean(view.change, np.flatnonzero(changed & _grown(~changed, 1)))
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1) if len(rows) else 1
    down, right = (np.abs(part) for part in view.gradients[1])
    lines = [float(part.sum(axis=axis).max()) for part, axis in ((down, 1), (right, 0))]
    return {
        "rim_change": math.log1p(rim),
        "seam": _log_ratio(rim, _mean(view.change, np.flatnonzero(changed)), 0.5),
        "changed_area": math.log(count / view.area),
        "changed_fill": count / float(box),
        "changed_straight": _outline_of(changed)[1],
        "line": max(lines) / max(float(down.sum()) + float(right.sum()), 1.0),
    }


# ---------------------------------------------------------------- grain and tone


def _grain(view: _View) -> dict[str, float]:
    """Energies of detail in the mask against the source's there and the ring's, and how far the grain runs on."""
    (fine, fine_source), (coarse, coarse_source) = view.fine, view.coarse
    fine_ring, coarse_ring = _energy(fine, view.ring), _energy(coarse, view.ring)
    fine_in, coarse_in = _energy(fine, view.inside), _energy(coarse, view.inside)
    fine_before = _energy(fine_source, view.inside)
    tone_variance = _energy(view.tone - np.float32(_mean(view.tone, view.inside)), view.inside)
    return {
        "fine_to_source": _log_ratio(fine_in, fine_before, _NOISE_FLOOR),
        "fine_to_ring": _log_ratio(fine_in, fine_ring, _NOISE_FLOOR),
        "coarse_to_source": _log_ratio(coarse_in, _energy(coarse_source, view.inside), _NOISE_FLOOR),
        "coarse_to_ring": _log_ratio(coarse_in, coarse_ring, _NOISE_FLOOR),
        "outline_fine": _log_ratio(_energy(fine, view.outline), fine_ring, _NOISE_FLOOR),
        "core_fine": _log_ratio(_energy(fine, view.core), fine_ring, _NOISE_FLOOR),
        "source_fine_to_ring": _log_ratio(fine_before, fine_ring, _NOISE_FLOOR),
        "grain_kept": _correlation(fine, fine_source, view.inside),
        "core_grain_kept": _correlation(fine, fine_source, view.core),
        "coarse_kept": _correlation(coarse, coarse_source, view.inside),
        "tone": _correlation(view.tone, view.grey[1], view.inside),
        "change_noise": _log_ratio(_energy(fine - fine_source, view.inside), tone_variance, _NOISE_FLOOR),
    }


def _tones(view: _View) -> dict[str, float]:
    """Brighter or darker, over the mask and between its core and its outline; levels / 255, and what is clipped."""
    image, source = view.grey
    tones = np.sort(view.tone.take(view.inside))
    amount = _mean(np.abs(view.tone), view.inside)
    clipped = (image <= 1) | (image >= 254)
    dark, bright = _quantile(tones, 0.05), _quantile(tones, 0.95)
    return {
        "sign": _mean(view.tone, view.inside) / (amount + 0.1),
        "darkest_change": math.copysign(math.log1p(abs(dark)), dark),
        "brightest_change": math.copysign(math.log1p(abs(bright)), bright),
        "core_to_outline": (_mean(view.tone, view.core) - _mean(view.tone, view.outline)) / (amount + 1.0),
        "source_level": _mean(source, view.inside) / 255.0,
        "image_level": _mean(image, view.inside) / 255.0,
        "saturated": int(np.count_nonzero(clipped & view.mask)) / view.area,
    }


# ---------------------------------------------------------------- light


def _shading(view: _View) -> dict[str, float]:
    """Pairs of dark and light across the mask, and their direction against the source's own shading.

    ``pair`` is the sum of tone times the gradient of the softened mask, ``moment`` that of tone times the place in the
    mask, each / the sum of its absolute values. A relief lit from l has both along l or against it. Where l is, the
    source tells by its slope, and by its side: the third moment of its gradient (see `refine.photograph`).
    """
    (down, right), tone = view.gradients[0], view.tone
    side = -_vector(down, right, down * down + right * right)
    slope = _vector(down, right, np.ones_like(down))
    soft = _blurred(_blurred(view.mask.astype(np.float32)), step=2)
    pair = _vector(*_differences(soft), tone)
    near = np.flatnonzero(view.near)
    rows, columns = (_centred(axis.astype(np.float32)) for axis in np.divmod(near, len(tone)))
    moment = _vector(rows, columns, _centred(tone.take(near)))
    return _against_light("pair", pair, side, slope) | _against_light("moment", moment, side, slope)


def _centred(values: Floats) -> Floats:
    return values - np.float32(values.sum(dtype=np.float64) / max(values.size, 1))


def _vector(down: Floats, right: Floats, weight: Floats) -> NDArray[np.float64]:
    """Sum (y, x) of vectors times weights / the sum of their lengths."""
    total = float((np.sqrt(down * down + right * right) * np.abs(weight)).sum(dtype=np.float64))
    parts = [float((part * weight).sum(dtype=np.float64)) for part in (down, right)]
    return np.array(parts) / max(total, 1.0)


def _against_light(
    name: str, found: NDArray[np.float64], side: NDArray[np.float64], slope: NDArray[np.float64]
) -> dict[str, float]:
    """Length of a vector and its components along and across the light, each as trusted as the light is known."""
    return {
        name: float(np.hypot(*found)),
        f"{name}_to_side": 10 * float(found @ side),
        f"{name}_across_side": 10 * float(found[0] * side[1] - found[1] * side[0]),
        f"{name}_to_slope": 10 * float(found @ slope),
        f"{name}_up": -float(found[0]),
    }


# ---------------------------------------------------------------- the estimator

_HIDDEN: Final = (96, 48)
_WEIGHT_HIDDEN: Final = 32
_NORMALISED_BOUND: Final = 6.0
_DROPOUT: Final = 0.2
_STRANGENESS_WEIGHT: Final = 3.0
_SHIPPED: Final = "sqe.safetensors"
_FORMAT: Final = "maphc2f-sqe"


class SQE(nn.Module):
    """Small network on descriptions, with two heads.

    ``quality`` is a calibrated probability, sigmoid(a t + b) of the logit t. It looks at the measured numbers only: the
    same change is as sound on a material that no one has seen. Part of t is strangeness, the logarithm of the
    Mahalanobis distance to sound samples, so that what is unlike anything learned is not taken for sound.
    ``weight`` looks at everything; it is a logit of its own, zero until a trainer has learned it.

    Parameters
    ----------
    kinds : sequence of str
        Kinds of corruption that the quality was learned from: told with the file.

    Attributes
    ----------
    mean, spread : (D,) buffers
        A description is normalised by them, and cut at 6 spreads.
    whitening : (P, P) buffer
        Brings normalised measured numbers (B, P) of sound samples to unit variance, multiplied from the right.
    calibration : (2,) buffer
        a and b.
    """

    mean: Tensor
    spread: Tensor
    whitening: Tensor
    calibration: Tensor

    def __init__(self, kinds: Sequence[str] = ()) -> None:
        super().__init__()
        self.kinds = tuple(kinds)
        measured = len(_MEASURED)
        self.register_buffer("mean", torch.zeros(DESCRIPTION_SIZE))
        self.register_buffer("spread", torch.ones(DESCRIPTION_SIZE))
        self.register_buffer("whitening", torch.eye(measured))
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))
        first, second = _HIDDEN
        self.trunk = nn.Sequential(
            nn.Linear(measured + 1, first), nn.GELU(), nn.Dropout(_DROPOUT), nn.Linear(first, second), nn.GELU()
        )
        self.quality_head = nn.Linear(second, 1)
        last = nn.Linear(_WEIGHT_HIDDEN, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.weight_head = nn.Sequential(nn.Linear(DESCRIPTION_SIZE + second, _WEIGHT_HIDDEN), nn.GELU(), last)

    def normalised(self, description: Tensor) -> Tensor:
        """A description (B, D) in spreads of sound samples, cut at 6."""
        bound = _NORMALISED_BOUND
        return ((description - self.mean) / self.spread).clamp(-bound, bound)

    def strangeness(self, normalised: Tensor) -> Tensor:
        """log(1 + mean squared whitened number) (B,) of a normalised description: about 0.7 for a sound sample."""
        return (normalised[:, -len(_MEASURED) :] @ self.whitening).square().mean(dim=1).log1p()

    def learned_logits(self, normalised: Tensor) -> Tensor:
        """What the network adds to the quality's logits (B,), of a normalised description (B, D)."""
        logits: Tensor = self.quality_head(self._hidden(normalised))[:, 0]
        return logits

    def _hidden(self, normalised: Tensor) -> Tensor:
        measured, strange = normalised[:, -len(_MEASURED) :], self.strangeness(normalised)[:, None]
        hidden: Tensor = self.trunk(torch.cat([measured, 2 * strange - 1.4], dim=1))
        return hidden

    def quality_logits(self, description: Tensor) -> Tensor:
        """Logits (B,) before calibration, of a description (B, D) float tensor."""
        normalised = self.normalised(description)
        return self.learned_logits(normalised) - _STRANGENESS_WEIGHT * self.strangeness(normalised)

    def quality(self, description: Tensor) -> Tensor:
        """Calibrated probability (B,) that a sample is sound, of a description (B, D) float tensor."""
        return torch.sigmoid(self.calibration[0] * self.quality_logits(description) + self.calibration[1])

    def weight_logits(self, description: Tensor) -> Tensor:
        """Logits (B,) of training weights, of a description (B, D) float tensor.

        A trainer learns ``weight_head``; what it shares with the quality is not changed by that.
        """
        normalised = self.normalised(description)
        hidden = self._hidden(normalised).detach()
        logits: Tensor = self.weight_head(torch.cat([normalised, hidden], dim=1))[:, 0]
        return logits

    @property
    def sha256(self) -> str:
        """Of the file that `save_sqe` writes: what a column of scores is told apart by."""
        return hashlib.sha256(_to_bytes(self)).hexdigest()


def _to_bytes(model: SQE) -> bytes:
    meta = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "description_version": DESCRIPTION_VERSION}
    meta |= {"description_size": DESCRIPTION_SIZE, "kinds": list(model.kinds)}
    tensors = {name: value.detach().cpu().contiguous() for name, value in sorted(model.state_dict().items())}
    return save(tensors, metadata={"sqe": json.dumps(meta, sort_keys=True)})


def save_sqe(model: SQE, path: str | Path) -> None:
    """Write an estimator as safetensors, with what it was made for as metadata; the same one gives the same bytes.

    Raises
    ------
    OSError
        The system refused; no half file is left behind.
    """
    write_atomic(Path(path), _to_bytes(model))


def load_sqe(path: str | Path | None = None) -> SQE:
    """An estimator from its file, ready to be asked; None gives the one that comes with the program.

    Raises
    ------
    InputError
        The file cannot be read, is none of an estimator, or was made for other descriptions.
    """
    where = Path(str(files("refine") / _SHIPPED)) if path is None else Path(path)
    try:
        with safe_open(where, framework="pt") as stored:
            header = (stored.metadata() or {}).get("sqe")
        tensors = load(where.read_bytes())
    except (OSError, SafetensorError) as error:
        raise InputError(f"{where}: cannot be read as safetensors ({str(error).splitlines()[0]})") from None
    model = SQE(_checked_kinds(where, header))
    expected = {name: (tuple(value.shape), value.dtype) for name, value in model.state_dict().items()}
    if {name: (tuple(value.shape), value.dtype) for name, value in tensors.items()} != expected:
        raise InputError(f"{where}: its tensors are not those of an estimator of this version; train it again")
    if wrong := [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]:
        raise InputError(f"{where}: {wrong[0]} holds values that are not finite; train it again")
    model.load_state_dict(tensors)
    return model.eval()


def _checked_kinds(where: Path, header: str | None) -> tuple[str, ...]:
    """Kinds of corruption from a file's metadata."""
    try:
        meta = json.loads(header or "")
        kinds = tuple(str(kind) for kind in meta["kinds"])
        found = {name: meta[name] for name in ("format", "format_version", "description_version", "description_size")}
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{where}: not an estimator of sample quality; give a file that save_sqe wrote") from None
    wanted = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "description_version": DESCRIPTION_VERSION,
        "description_size": DESCRIPTION_SIZE,
    }
    for name, value in wanted.items():
        if found[name] != value:
            raise InputError(
                f"{where}: {name} is {found[name]!r}, expected {value!r}; train it again, or update maphc2f"
            )
    return kinds
