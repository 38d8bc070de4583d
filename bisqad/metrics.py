"""How well scores tell defects from normals, over whole images and over pixels, with confidence intervals.

- Image AUROC: area under the receiver operating characteristic of one score an image.
- Pixel AUROC and pixel AP (average precision): of all pixels of all images, pooled.
- AUPRO: per-region overlap against the false-positive rate of the pixels, from rate 0 to 0.3, divided by 0.3. With
  regions C_k (8-connected), defect-free pixels N and P(t) the pixels of a score of at least t::

      PRO(t) = mean over k of |P(t) & C_k| / |C_k|        FPR(t) = |P(t) & N| / |N|
      AUPRO  = 1/0.3 * integral of PRO over FPR from 0 to 0.3

  taken at every distinct score, linear between, and linear at the limit. A region counts the same whatever its size.

Values are exact: nothing is binned. The three areas that torchmetrics has are its own, in its exact mode; it sums in
single precision, so they are given to six digits. An interval holds 95 % of a bootstrap over images, normals and
defects drawn apart: how far the value moves with other images of the same kinds. For the pixels, a resample is
evaluated on histograms of each image over common bins of the score, and the interval is moved by what the binning
changed in the value itself. One seed draws the same images for every detector.

References
----------
P. Bergmann et al., "The MVTec Anomaly Detection Dataset: a comprehensive real-world dataset for unsupervised anomaly
detection", International Journal of Computer Vision 129, 2021, section 5.2.
B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall, 1993, chapter 13.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import JsonValue
from scipy import ndimage
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from bisqad.inspection_set import GOOD

__all__ = [
    "AUPRO_LIMIT",
    "Detection",
    "Estimate",
    "Measures",
    "aupro",
    "evaluate_scores",
    "image_auroc",
    "pixel_auroc",
    "pixel_average_precision",
]

AUPRO_LIMIT: Final = 0.3  # largest false-positive rate, Bergmann et al. 2021

_CONFIDENCE: Final = 0.95
_BINS: Final = 2048  # at most: half of them quantiles of all pixels, half of the defect pixels
_EIGHT_CONNECTED: Final = np.ones((3, 3), dtype=np.bool_)
_LOWEST_LEVEL_BITS: Final = 67 << 23  # of the single-precision number 2**-60; those of 1 are 127 << 23
_MOST_LEVELS: Final = 60 << 23
_DIGITS: Final = 6  # after the point, that torchmetrics' single precision gives
_NAMES: Final = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")

_Floats = NDArray[np.float64]
_ScoreMap = NDArray[np.floating[Any]]


# ---------------------------------------------------------------- results


@dataclass(frozen=True)
class Estimate:
    """A measure and its 95 % confidence interval.

    Attributes
    ----------
    value : float
        0..1; NaN where there is nothing to measure: no defects, no normals, no defect pixel.
    low, high : float
        Ends of the interval, 0..1; NaN with the value.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measures:
    """Measures of a set of normals and defects, and how many of each it holds.

    Attributes
    ----------
    image_auroc, pixel_auroc, pixel_ap, aupro : Estimate
        See the module.
    normals, defects : int
        Images.
    regions : int
        8-connected defect regions in all masks.
    """

    image_auroc: Estimate
    pixel_auroc: Estimate
    pixel_ap: Estimate
    aupro: Estimate
    normals: int
    defects: int
    regions: int

    def to_json(self) -> dict[str, JsonValue]:
        """Values, their intervals under ``confidence_95``, and counts; null for what could not be measured."""
        estimates: dict[str, Estimate] = {name: getattr(self, name) for name in _NAMES}
        return {
            **{name: _number(estimate.value) for name, estimate in estimates.items()},
            "confidence_95": {
                name: None if math.isnan(estimate.value) else [_number(estimate.low), _number(estimate.high)]
                for name, estimate in estimates.items()
            },
            "normals": self.normals,
            "defects": self.defects,
            "regions": self.regions,
        }


@dataclass(frozen=True)
class Detection(Measures):
    """Measures of a detector on a data set, and of each type of defect against all normals.

    As JSON, shortened, with null for what cannot be measured::

        {"image_auroc": 0.878, "pixel_auroc": 0.785, "pixel_ap": 0.203, "aupro": 0.611,
         "confidence_95": {"image_auroc": [0.839, 0.912], "pixel_auroc": [0.747, 0.82],
                           "pixel_ap": [0.158, 0.251], "aupro": [0.572, 0.648]},
         "normals": 87, "defects": 221, "regions": 254,
         "by_defect": {"crack": {"image_auroc": 0.758, …, "confidence_95": {"image_auroc": [0.66, 0.85], …},
                                 "normals": 87, "defects": 38, "regions": 44},
                       "stain": {"image_auroc": 0.931, "pixel_auroc": null, …,
                                 "confidence_95": {"image_auroc": [0.87, 0.98], "pixel_auroc": null, …},
                                 "normals": 87, "defects": 4, "regions": 0}, …}}

    Attributes
    ----------
    by_defect : dict of str to Measures
        By type of defect, sorted.
    """

    by_defect: dict[str, Measures]

    def to_json(self) -> dict[str, JsonValue]:
        """The measures as JSON, and those of each type of defect under ``by_defect``."""
        return {**super().to_json(), "by_defect": {kind: found.to_json() for kind, found in self.by_defect.items()}}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


# ---------------------------------------------------------------- measures


def evaluate_scores(
    image_scores: ArrayLike,
    score_maps: Sequence[_ScoreMap],
    masks: Sequence[NDArray[np.bool_]],
    kinds: Sequence[str],
    *,
    seed: int,
    resamples: int = 1000,
) -> Detection:
    """Measures of a detector's scores on labelled images.

    Pixels are sorted once. Beside the arguments this takes about 45 bytes a pixel.

    Parameters
    ----------
    image_scores : array_like
        (N,), one an image; higher is more anomalous.
    score_maps : sequence of NDArray[np.floating]
        N maps (H, W), of any sizes; higher is more anomalous.
    masks : sequence of NDArray[np.bool_]
        N masks (H, W), True on the defect; all False for a normal image.
    kinds : sequence of str
        N names: "good" for a normal image, else its type of defect.
    seed : int
        Of the bootstrap.
    resamples : int
        Bootstrap resamples, >= 1.

    Returns
    -------
    Detection
        NaN for what the images given do not allow to measure.

    Raises
    ------
    ValueError
        Lengths or shapes disagree, a score is not finite, or a normal image has defect pixels.
    """
    scores = np.array(image_scores, dtype=np.float64)
    _check(scores, score_maps, masks, kinds)
    pixels = _Pixels.of(score_maps, masks)
    histograms = _Histograms.of(pixels)
    types = np.array(kinds, dtype=np.str_)
    whole = _measures(scores, pixels, histograms, types, np.ones(types.size, dtype=np.bool_), seed, resamples)
    by_defect = {}
    for kind in np.unique(types[types != GOOD]):
        chosen = (types == GOOD) | (types == kind)
        of_all = bool(chosen.all())
        own = whole if of_all else _measures(scores, pixels, histograms, types, chosen, seed, resamples)
        by_defect[str(kind)] = own
    return Detection(**vars(whole), by_defect=by_defect)


def image_auroc(image_scores: ArrayLike, defective: ArrayLike) -> float:
    """Area under the receiver operating characteristic of one score an image.

    Parameters
    ----------
    image_scores : array_like
        (N,), higher is more anomalous.
    defective : array_like
        (N,) bool.

    Returns
    -------
    float
        0..1; NaN without defects or without normals.
    """
    order, level = _descending(np.array(image_scores, dtype=np.float64))
    return _auroc(level, np.asarray(defective, dtype=np.bool_)[order])


def pixel_auroc(score_maps: Sequence[_ScoreMap], masks: Sequence[NDArray[np.bool_]]) -> float:
    """Area under the receiver operating characteristic of all pixels; NaN if they are all of one sort.

    Parameters
    ----------
    score_maps, masks : sequence of NDArray
        (H, W) each, of any sizes.
    """
    pixels = _Pixels.of(score_maps, masks)
    return _auroc(pixels.level, pixels.defect)


def pixel_average_precision(score_maps: Sequence[_ScoreMap], masks: Sequence[NDArray[np.bool_]]) -> float:
    """Average precision of all pixels; NaN without defect pixels or without others.

    Parameters
    ----------
    score_maps, masks : sequence of NDArray
        (H, W) each, of any sizes.
    """
    pixels = _Pixels.of(score_maps, masks)
    return _average_precision(pixels.level, pixels.defect)


def aupro(score_maps: Sequence[_ScoreMap], masks: Sequence[NDArray[np.bool_]], *, limit: float = AUPRO_LIMIT) -> float:
    """Area under the per-region overlap, over false-positive rates from 0 to ``limit``, divided by ``limit``.

    Parameters
    ----------
    score_maps, masks : sequence of NDArray
        (H, W) each, of any sizes.
    limit : float
        Largest false-positive rate, 0 < limit <= 1.

    Returns
    -------
    float
        0..1; NaN without defect regions or without defect-free pixels.

    Raises
    ------
    ValueError
        ``limit`` is out of its range.
    """
    if not 0.0 < limit <= 1.0:
        raise ValueError(f"limit {limit}: expected a false-positive rate above 0 and up to 1")
    return _aupro(_Pixels.of(score_maps, masks), limit)


def _measures(
    scores: _Floats,
    pixels: _Pixels,
    histograms: _Histograms,
    types: NDArray[np.str_],
    chosen: NDArray[np.bool_],
    seed: int,
    resamples: int,
) -> Measures:
    """Measures of the chosen images (N,) bool."""
    normal = types[chosen] == GOOD
    weights = _bootstrap_weights(normal, seed, resamples)
    own, bins = pixels.of_images(chosen), histograms.of_images(chosen)
    binned, resampled = bins.measures(np.ones((1, normal.size))), bins.measures(weights)
    exact = (_auroc(own.level, own.defect), _average_precision(own.level, own.defect), _aupro(own, AUPRO_LIMIT))
    auroc, precision, overlap = (
        _estimate(value, made[0], drawn) for value, made, drawn in zip(exact, binned, resampled, strict=True)
    )
    return Measures(
        image_auroc=_image_auroc(scores[chosen], ~normal, weights),
        pixel_auroc=auroc,
        pixel_ap=precision,
        aupro=overlap,
        normals=int(normal.sum()),
        defects=int((~normal).sum()),
        regions=int(own.regions.sum()),
    )


def _image_auroc(scores: _Floats, defective: NDArray[np.bool_], weights: _Floats) -> Estimate:
    """Image AUROC of scores (N,), resampled by weights (S, N): the N images are bins of their own."""
    order, level = _descending(scores)
    value = _auroc(level, defective[order])
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan)
    starts = np.flatnonzero(np.diff(level, prepend=np.float32(2.0)))
    positive, negative = (
        np.add.reduceat(weights[:, order] * sort[order], starts, axis=1) for sort in (defective, ~defective)
    )
    return _estimate(value, value, _binned_auroc(positive, negative))


def _estimate(value: float, binned: float, resampled: _Floats) -> Estimate:
    """Interval of resampled values (S,), moved by what the binning changed in the value."""
    drawn = resampled[np.isfinite(resampled)]
    if math.isnan(value) or not drawn.size:
        return Estimate(value, math.nan, math.nan)
    tail = (1.0 - _CONFIDENCE) / 2
    low, high = np.clip(np.quantile(drawn, [tail, 1.0 - tail]) + (value - binned), 0.0, 1.0)
    return Estimate(value, min(float(low), value), max(float(high), value))


def _bootstrap_weights(normal: NDArray[np.bool_], seed: int, resamples: int) -> _Floats:
    """How often each image is drawn, (S, N): as many normals as there are, and as many defects."""
    rng = np.random.default_rng(seed)
    weights = np.zeros((resamples, normal.size))
    for stratum in (normal, ~normal):
        if count := int(stratum.sum()):
            weights[:, stratum] = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    return weights


# ---------------------------------------------------------------- exact, of sorted pixels


@dataclass(frozen=True)
class _Pixels:
    """Pixels of N images, pooled and sorted by falling score.

    Attributes
    ----------
    level : NDArray[np.float32]
        (P,) in 0..1, falling: equal for equal scores only. Stands for the score.
    defect : NDArray[np.bool_]
        (P,).
    image : NDArray[np.int32]
        (P,), 0..N-1.
    share : NDArray[np.float64]
        (D,) of the defect pixels in this order: 1 / area of the pixel's region.
    regions : NDArray[np.int64]
        (N,), regions of an image.
    """

    level: NDArray[np.float32]
    defect: NDArray[np.bool_]
    image: NDArray[np.int32]
    share: _Floats
    regions: NDArray[np.int64]

    @classmethod
    def of(cls, score_maps: Sequence[_ScoreMap], masks: Sequence[NDArray[np.bool_]]) -> _Pixels:
        kind = np.result_type(np.float32, *score_maps)
        order, level = _descending(np.concatenate([np.zeros(0, kind), *(m.ravel() for m in score_maps)], dtype=kind))
        pooled = np.concatenate([np.zeros(0, np.bool_), *(mask.ravel() for mask in masks)], dtype=np.bool_)
        defect = pooled[order]
        shares, regions = _region_shares(masks)
        share = shares[np.searchsorted(np.flatnonzero(pooled), order[defect])]
        sizes = [mask.size for mask in masks]
        image = np.repeat(np.arange(len(masks), dtype=np.int32), sizes)[order]
        return cls(level, defect, image, share, regions)

    def of_images(self, chosen: NDArray[np.bool_]) -> _Pixels:
        """Those of the chosen images (N,) bool, numbered anew."""
        if chosen.all():
            return self
        taken = chosen[self.image]
        number = np.cumsum(chosen, dtype=np.int32) - np.int32(1)
        return _Pixels(
            self.level[taken],
            self.defect[taken],
            number[self.image[taken]],
            self.share[taken[self.defect]],
            self.regions[chosen],
        )


def _descending(scores: _ScoreMap) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Order (P,) of scores (P,) from the highest down, and their levels in that order.

    torchmetrics takes scores outside 0..1 for logits, and its sigmoid would make ties. Levels are the scores' ranks
    read as the bits of single-precision numbers between 2**-60 and 1, of which there are 500 million: no two merge.
    """
    if not scores.size:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    falling, order = torch.sort(torch.from_numpy(scores), descending=True)
    bits = torch.zeros(scores.size, dtype=torch.int32)
    torch.cumsum(falling[1:] != falling[:-1], dim=0, dtype=torch.int32, out=bits[1:])
    distinct = int(bits[-1]) + 1
    if distinct > _MOST_LEVELS:
        raise ValueError(f"{distinct:,} distinct scores: expected at most {_MOST_LEVELS:,}; evaluate fewer images")
    bits.neg_().add_(distinct + _LOWEST_LEVEL_BITS - 1)
    return order.numpy(), bits.view(torch.float32).numpy()


def _tie_ends(level: NDArray[np.float32], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """One past the last pixel that has the level of the pixel at each position (K,)."""
    return np.asarray(level.size - np.searchsorted(level[::-1], level[positions], side="left"), dtype=np.int64)


def _region_shares(masks: Sequence[NDArray[np.bool_]]) -> tuple[_Floats, NDArray[np.int64]]:
    """1 / area of its region for each defect pixel of all masks in order (D,), and regions of each mask (N,)."""
    shares = [np.zeros(0)]
    regions = np.zeros(len(masks), dtype=np.int64)
    for k, mask in enumerate(masks):
        labels, regions[k] = ndimage.label(mask, structure=_EIGHT_CONNECTED)
        own = labels[np.asarray(mask, dtype=np.bool_)]
        shares.append(1.0 / np.bincount(own)[own])
    return np.concatenate(shares), regions


def _auroc(level: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    if positive.all() or not positive.any():
        return math.nan
    area = binary_auroc(torch.from_numpy(level), torch.from_numpy(positive), thresholds=None, validate_args=False)
    return round(float(area), _DIGITS)


def _average_precision(level: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    if positive.all() or not positive.any():
        return math.nan
    mean = binary_average_precision(
        torch.from_numpy(level), torch.from_numpy(positive), thresholds=None, validate_args=False
    )
    return round(float(mean), _DIGITS)


def _aupro(pixels: _Pixels, limit: float) -> float:
    """AUPRO of sorted pixels: both rates at the last pixel of each level, up to the first beyond the limit."""
    normals = pixels.defect.size - pixels.share.size
    if not pixels.share.size or not normals:
        return math.nan
    false_positives = np.cumsum(~pixels.defect, dtype=np.int32)
    beyond = min(int(np.searchsorted(false_positives, limit * normals, side="right")), pixels.level.size - 1)
    stop = int(_tie_ends(pixels.level, np.array([beyond]))[0])
    ends = np.append(np.flatnonzero(np.diff(pixels.level[:stop])), stop - 1)
    rate = np.append(0.0, false_positives[ends] / normals)
    overlap = np.append(0.0, np.cumsum(pixels.share))[ends + 1 - false_positives[ends]] / pixels.regions.sum()
    area = _area_up_to(rate[None], np.append(0.0, overlap)[None], limit)[0]
    return min(float(area / limit), 1.0)  # the shares of a region add up to 1 within rounding


def _area_up_to(x: _Floats, y: _Floats, limit: float) -> _Floats:
    """Areas (S,) under lines through points (S, K), x rising, from the first to ``limit``."""
    step = np.diff(x, axis=1)
    part = np.clip((limit - x[:, :-1]) / np.where(step > 0, step, 1.0), 0.0, 1.0)  # of each piece, left of the limit
    rise = np.diff(y, axis=1)
    return np.asarray((part * step * (y[:, :-1] + 0.5 * part * rise)).sum(axis=1), dtype=np.float64)


# ---------------------------------------------------------------- resampled, of histograms


@dataclass(frozen=True)
class _Histograms:
    """What the pixels of each image hold in B bins common to all, from the highest scores down.

    Attributes
    ----------
    positive, negative : NDArray[np.float64]
        (N, B), defect pixels and others.
    overlap : NDArray[np.float64]
        (N, B), summed over the image's regions: share of the region.
    regions : NDArray[np.float64]
        (N,), regions of the image.
    """

    positive: _Floats
    negative: _Floats
    overlap: _Floats
    regions: _Floats

    @classmethod
    def of(cls, pixels: _Pixels) -> _Histograms:
        edges = _bin_edges(pixels)
        count = pixels.regions.size
        positive, negative, overlap = (np.zeros((count, edges.size - 1)) for _ in range(3))
        seen = 0  # defect pixels in the bins before
        for k, (start, end) in enumerate(pairwise(edges)):
            image, defect = pixels.image[start:end], pixels.defect[start:end]
            hit = image[defect]
            positive[:, k] = np.bincount(hit, minlength=count)
            negative[:, k] = np.bincount(image, minlength=count) - positive[:, k]
            overlap[:, k] = np.bincount(hit, pixels.share[seen : seen + hit.size], minlength=count)
            seen += hit.size
        return cls(positive, negative, overlap, pixels.regions.astype(np.float64))

    def of_images(self, chosen: NDArray[np.bool_]) -> _Histograms:
        """Those of the chosen images (N,) bool."""
        return _Histograms(self.positive[chosen], self.negative[chosen], self.overlap[chosen], self.regions[chosen])

    def measures(self, weights: _Floats) -> tuple[_Floats, _Floats, _Floats]:
        """Pixel AUROC, AP and AUPRO, (S,) each, of images drawn as often as weights (S, N) say."""
        positive, negative = weights @ self.positive, weights @ self.negative
        overlap = _ratio(weights @ self.overlap, (weights @ self.regions)[:, None])
        rate = np.cumsum(_ratio(negative, negative.sum(axis=1, keepdims=True)), axis=1)
        curve = [np.pad(part, ((0, 0), (1, 0))) for part in (rate, np.cumsum(overlap, axis=1))]
        return (
            _binned_auroc(positive, negative),
            _binned_average_precision(positive, negative),
            _area_up_to(curve[0], curve[1], AUPRO_LIMIT) / AUPRO_LIMIT,
        )


def _bin_edges(pixels: _Pixels) -> NDArray[np.int64]:
    """Positions (B + 1,) that cut the sorted pixels into bins, never between equal scores.

    Half are quantiles of all pixels and half of the defect pixels: defects fill few of the former.
    """
    total, defects = pixels.level.size, np.flatnonzero(pixels.defect)
    if not total:
        return np.zeros(1, dtype=np.int64)
    half = np.linspace(0.0, 1.0, _BINS // 2 + 1)[1:]
    chosen = np.ceil(half * total).astype(np.int64) - 1
    if defects.size:
        chosen = np.append(chosen, defects[np.ceil(half * defects.size).astype(np.int64) - 1])
    return np.unique(np.append(0, _tie_ends(pixels.level, np.unique(chosen))))


def _binned_auroc(positive: _Floats, negative: _Floats) -> _Floats:
    """AUROC (S,) of counts (S, B) from the highest bin down; a bin is a tie."""
    above = np.cumsum(positive, axis=1) - 0.5 * positive
    return _ratio((negative * above).sum(axis=1), negative.sum(axis=1) * positive.sum(axis=1))


def _binned_average_precision(positive: _Floats, negative: _Floats) -> _Floats:
    """Average precision (S,) of counts (S, B) from the highest bin down; a bin is a tie."""
    hits = np.cumsum(positive, axis=1)
    found = hits + np.cumsum(negative, axis=1)
    return _ratio((positive * hits / np.maximum(found, 1.0)).sum(axis=1), positive.sum(axis=1))


def _ratio(part: _Floats, whole: _Floats) -> _Floats:
    """Their ratio, NaN where the whole is 0."""
    made = np.full(part.shape, np.nan)
    np.divide(part, whole, out=made, where=np.broadcast_to(whole, part.shape) != 0)
    return made


# ---------------------------------------------------------------- checks


def _check(
    scores: _Floats, score_maps: Sequence[_ScoreMap], masks: Sequence[NDArray[np.bool_]], kinds: Sequence[str]
) -> None:
    counts = (scores.size, len(score_maps), len(masks), len(kinds))
    if scores.ndim != 1 or len(set(counts)) > 1:
        raise ValueError(f"expected as many image scores, score maps, masks and kinds; got {counts}")
    if not np.isfinite(scores).all():
        raise ValueError(f"image {int(np.flatnonzero(~np.isfinite(scores))[0])}: its score is not finite")
    for k, (score_map, mask, kind) in enumerate(zip(score_maps, masks, kinds, strict=True)):
        if score_map.ndim != 2 or score_map.shape != mask.shape or mask.dtype != np.bool_:
            got = f"{score_map.shape} and {mask.dtype} {mask.shape}"
            raise ValueError(f"image {k}: expected a score map (H, W) and a bool mask (H, W) of one size, got {got}")
        if not np.isfinite(score_map).all():
            raise ValueError(f"image {k}: its score map holds values that are not finite")
        if kind == GOOD and mask.any():
            raise ValueError(f"image {k}: its kind is {GOOD!r}, but its mask marks a defect; correct one of them")
