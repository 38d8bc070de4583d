"""Where on a photograph the part is: one foreground mask per picture, and the measured reason for it.

For parts before a plain background, the background is modelled and what it does not explain is the part:

1. Category: the dominant colour of the border ring over all pictures, as the densest ball of the pooled ring
   pixels (a minimum-volume estimate, so a part that crosses the border does not shift it).
2. Picture: an illumination surface fitted robustly to the ring from that colour, then to all background found;
   the distance of each pixel from it in robust standard deviations of the background.
3. Category: two thresholds by Otsu's method, on the distance and on its logarithm, joined by hysteresis.
4. Picture: closing, removal of the blurred rim (below half of the distance beside it), opening, filling of holes
   that are not background themselves, removal of small components.

For textures the part is the whole picture. Which of the two a category is follows from evidence measured on its
pictures: how much of the border ring is background, how much rarer the part is there than on the picture, how sharp
its outline is and how much of it morphology had to change. Where in doubt the rim of a part is given up
rather than background called part.

References
----------
N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9 (1979).
P. J. Rousseeuw and A. M. Leroy, "Robust Regression and Outlier Detection" (1987): minimum volume, least median.
A. E. Beaton and J. W. Tukey, "The fitting of power series", Technometrics 16 (1974): the biweight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi
from skimage.filters import apply_hysteresis_threshold, threshold_otsu

from manifests.config import ForegroundMode

__all__ = ["Foreground", "estimate_foreground"]

_F32 = NDArray[np.float32]
_F64 = NDArray[np.float64]
_Mask = NDArray[np.bool_]

_WORK_PX = 256  # side that is segmented; a larger picture is reduced and its mask enlarged
_RING_SHARE = 0.04  # width of the border ring / side
_SAMPLE_IMAGES = 64  # pictures, evenly spread, on which the category's model and evidence are measured
_SAMPLE_PIXELS = 700  # ring pixels, of all those pictures together, from which the colour is found
_LOW_SHARE = 0.25  # the lower threshold is at least this share of the upper: faint shadows are below it
_BRIGHT_SHARE = 0.9  # share of a part that is not darker than its background, for dark pixels to be cast shadows
_HALO_SHARE = 0.01  # reach of the optics' blur / side
_FIT_PIXELS = 800  # pixels to which one illumination surface is fitted
_NOISE_FLOOR = 1.5  # grey levels of 255: rounding and JPEG alone make this much
_COLOUR_REACH = 12.0  # grey levels around the dominant colour that always count as background at first
_NOISE_SIGMAS = 4.0  # standard deviations that background itself reaches: the lowest threshold
_BISQUARE = 4.685  # Tukey's tuning constant: 95 % efficiency for normal noise

_AREA = (0.01, 0.95)  # share of the picture that a plausible part covers
_MAX_RING_PART = 0.5  # share of the ring that a plausible part covers
_MAX_RING_RATIO = 0.65  # (part on the ring) / (part on the picture): texture 1, strip 0.5, part inside 0
_MIN_SHARPNESS = 0.25  # step across the outline / whole step: a vignette has less
_MIN_COHERENCE = 0.7  # 1 - (pixels that morphology changed) / part: speckle has less
_MAJORITY = 0.5  # share of pictures that must look like a part before a background
_OUTLIER = (0.25, 3.0)  # an area outside these multiples of the category's median is a failure of that picture
_CONSENSUS = 0.9  # share of the sound pictures on which a pixel is part, to stand in for a picture that failed


@dataclass(frozen=True)
class Foreground:
    """Foreground of one category.

    Attributes
    ----------
    mode : {"object", "texture", "masks"}
        What was decided.
    masks : ndarray of bool, shape (N, S, S)
        True on the part, eroded by the margin; False on padding. No picture is empty.
    evidence : str
        One line: the measured numbers and the reason for the choice.
    """

    mode: ForegroundMode
    masks: NDArray[np.bool_]
    evidence: str


@dataclass(frozen=True)
class _View:
    """A picture as it is segmented: features (K, s, s) in grey levels, valid pixels and border ring (s, s)."""

    features: _F32
    valid: _Mask
    ring: _Mask


@dataclass(frozen=True)
class _Deviation:
    """How every pixel (s, s) differs from the background of its picture."""

    distance: _F32  # in standard deviations of the background
    shade: _Mask  # darker, and about of the background's colour: what a cast shadow looks like


@dataclass(frozen=True)
class _Model:
    """What the pictures of a category share."""

    colour: _F64  # (K,) dominant colour of the ring
    reach: float  # grey levels around it that are background at first
    low: float = _NOISE_SIGMAS  # standard deviations: part if connected to a pixel above `high`
    high: float = _NOISE_SIGMAS
    bright_part: bool = False  # part is brighter than background or of another colour: shade is shadow


@dataclass(frozen=True)
class _Segment:
    """One picture cut into part and background, and how good the cut looks."""

    mask: _Mask  # (s, s)
    area: float  # part / valid picture
    ring_part: float  # share of the ring that is part
    sharpness: float  # step of distance across the outline / (median of part - median of background)
    coherence: float  # 1 - (pixels that morphology changed) / part

    @property
    def plausible(self) -> bool:
        """Whether this looks like a part before a plain background."""
        return (
            _AREA[0] <= self.area <= _AREA[1]
            and self.ring_part <= min(_MAX_RING_PART, _MAX_RING_RATIO * self.area)
            and self.sharpness >= _MIN_SHARPNESS
            and self.coherence >= _MIN_COHERENCE
        )


def estimate_foreground(
    images: NDArray[np.uint8],
    valid: NDArray[np.bool_],
    *,
    mode: ForegroundMode,
    margin_px: int,
    user_masks: Sequence[NDArray[np.bool_] | None],
) -> Foreground:
    """Find the part on every picture of one category.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, S, S, C)
        Pictures of one category, C is 1 or 3.
    valid : ndarray of bool, shape (N, S, S)
        False where a picture was padded.
    mode : {"auto", "object", "texture", "masks"}
        "auto" takes the user's masks if there are any, and else decides by measured evidence; the others are kept to.
    margin_px : int
        Pixels eroded from the part's outline. The picture's own border is no outline: a part that runs out of the
        picture goes on there.
    user_masks : sequence of (ndarray of bool, shape (S, S)) or None
        One entry a picture, None where the user gave none; empty if there are none at all.

    Returns
    -------
    Foreground
        Decided mode, masks, evidence. A mask that would be empty is replaced: by the part without its margin, by
        what the other pictures agree on, or by the whole picture, and the evidence counts these.

    Raises
    ------
    ValueError
        Shapes do not agree, or a picture has no valid pixel.
    """
    _check(images, valid, user_masks)
    given = sum(mask is not None for mask in user_masks)
    if mode == "texture":
        return _finish("texture", valid, valid, margin_px, "texture: set in the recipe; the whole picture is part")
    if mode == "object":
        return _automatic(images, valid, margin_px, forced=True)
    if given == 0:
        found = _automatic(images, valid, margin_px, forced=False)
        missing = "masks asked for, but no picture has one; " if mode == "masks" else ""
        return replace(found, evidence=missing + found.evidence)
    return _from_masks(images, valid, margin_px, user_masks)


def _check(images: NDArray[np.uint8], valid: _Mask, user_masks: Sequence[_Mask | None]) -> None:
    if images.ndim != 4 or images.shape[0] == 0 or images.shape[3] not in (1, 3) or images.dtype != np.uint8:
        raise ValueError(f"images: expected uint8 (N, S, S, 1 or 3) with N >= 1, got {images.dtype} {images.shape}")
    if valid.shape != images.shape[:3] or valid.dtype != np.bool_:
        raise ValueError(f"valid: expected bool {images.shape[:3]}, got {valid.dtype} {valid.shape}")
    if not valid.any(axis=(1, 2)).all():
        raise ValueError("valid: a picture has no valid pixel")
    if len(user_masks) not in (0, len(images)):
        raise ValueError(f"user_masks: expected none or {len(images)}, got {len(user_masks)}")
    for mask in user_masks:
        if mask is not None and mask.shape != images.shape[1:3]:
            raise ValueError(f"user_masks: expected shape {images.shape[1:3]}, got {mask.shape}")


def _from_masks(
    images: NDArray[np.uint8], valid: _Mask, margin_px: int, user_masks: Sequence[_Mask | None]
) -> Foreground:
    """The user's masks, and the automatic result for pictures without a usable one."""
    usable = np.array([mask is not None and bool((mask & v).any()) for mask, v in zip(user_masks, valid, strict=True)])
    evidence = f"masks: supplied for {int(usable.sum())} of {len(images)} pictures"
    part = np.stack([v if mask is None else mask & v for mask, v in zip(user_masks, valid, strict=True)])
    if usable.all():
        return _finish("masks", part, valid, margin_px, evidence)
    rest = np.flatnonzero(~usable)
    automatic = _automatic(images, valid, 0, forced=False)
    part[rest] = automatic.masks[rest]
    return _finish(
        "masks", part, valid, margin_px, f"{evidence}, {len(rest)} without or empty; there {automatic.evidence}"
    )


def _automatic(images: NDArray[np.uint8], valid: _Mask, margin_px: int, *, forced: bool) -> Foreground:
    """Object or texture by evidence; object in any case if ``forced``."""
    sample = np.unique(np.linspace(0, len(images) - 1, min(len(images), _SAMPLE_IMAGES)).round().astype(np.intp))
    views = [_view(images[i], valid[i]) for i in sample]
    model = _dominant_colour(views)
    deviations = [_compare(view, model) for view in views]
    model = _thresholds(model, views, deviations)
    segments = [_segment(view, deviation, model) for view, deviation in zip(views, deviations, strict=True)]
    measured, is_object = _evidence(segments)
    if not (is_object or forced):
        return _finish("texture", valid, valid, margin_px, f"texture: {measured}; the whole picture is part")
    sampled = dict(zip(sample.tolist(), segments, strict=True))
    part, failed = _all_parts(images, valid, model, sampled)
    reason = "object: set in the recipe" if forced else "object"
    notes = f"; no part found on {failed}: consensus or whole picture there" if failed else ""
    return _finish("object", part, valid, margin_px, f"{reason}: {measured}{notes}")


def _all_parts(
    images: NDArray[np.uint8], valid: _Mask, model: _Model, sampled: dict[int, _Segment]
) -> tuple[_Mask, int]:
    """Masks (N, S, S) of all pictures, and how many failed and had to be replaced."""
    sound = [s for s in sampled.values() if s.plausible] or [s for s in sampled.values() if s.area > 0]
    typical = float(np.median([s.area for s in sound])) if sound else 0.0
    votes = np.mean([s.mask for s in sound], axis=0) if len(sound) >= 3 else np.zeros(1)
    consensus = votes >= _CONSENSUS
    part = np.empty_like(valid)
    failed = 0
    for i in range(len(images)):
        segment = sampled.get(i)
        if segment is None:
            view = _view(images[i], valid[i])
            segment = _segment(view, _compare(view, model), model)
        mask = segment.mask
        low, high = _OUTLIER[0] * typical, min(_OUTLIER[1] * typical, _AREA[1])
        if not (segment.plausible or 0 < low <= segment.area <= high):
            failed += 1
            mask = consensus if consensus.any() else np.ones_like(mask)
        part[i] = _enlarge(mask, valid.shape[1]) & valid[i]
    return part, failed


def _finish(mode: ForegroundMode, part: _Mask, valid: _Mask, margin_px: int, evidence: str) -> Foreground:
    """Erode by the margin, and see to it that no mask is empty."""
    masks = np.empty_like(valid)
    thin = whole = 0
    for i, (inside, known) in enumerate(zip(part, valid, strict=True)):
        kept = _erode(inside, known, margin_px)
        if not kept.any():
            thin, whole = (thin + 1, whole) if inside.any() else (thin, whole + 1)
            kept = inside if inside.any() else known
        masks[i] = kept
    notes = f"; {thin} thinner than the margin: kept without it" if thin else ""
    notes += f"; {whole} empty: whole picture instead" if whole else ""
    return Foreground(mode=mode, masks=masks, evidence=evidence + notes)


def _erode(part: _Mask, valid: _Mask, margin_px: int) -> _Mask:
    """Drop pixels within the margin of background; padding and the picture's border are no background."""
    background = valid & ~part
    if margin_px == 0 or not background.any():
        return part & valid
    kept: _Mask = ndi.distance_transform_edt(~background) > margin_px
    return kept & valid


def _enlarge(mask: _Mask, side: int) -> _Mask:
    if mask.shape[0] == side:
        return mask
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize((side, side), Image.Resampling.BILINEAR)) > 127


def _view(image: NDArray[np.uint8], valid: _Mask) -> _View:
    """Smoothed opponent colours at the working size: brightness, red-green, yellow-blue, in grey levels."""
    side = min(image.shape[0], _WORK_PX)
    if not valid.all():
        # padding must not bleed into the ring: continue the picture there
        rows, cols = ndi.distance_transform_edt(~valid, return_distances=False, return_indices=True)
        image = image[rows, cols]
    if side < image.shape[0]:
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        image = np.asarray(picture.resize((side, side), Image.Resampling.BOX)).reshape(side, side, -1)
        valid = np.asarray(Image.fromarray(valid.astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)) > 0
    planes = np.moveaxis(image, 2, 0).astype(np.float32)
    if len(planes) == 3:
        red, green, blue = planes
        planes = np.stack([(red + green + blue) / 3, red - green, (red + green) / 2 - blue])
    sigma = 1.0 if side >= 128 else 0.6
    features = np.stack([ndi.gaussian_filter(plane, sigma, mode="nearest", truncate=3.0) for plane in planes])
    return _View(features=features, valid=valid, ring=_ring(valid))


def _ring(valid: _Mask) -> _Mask:
    """Valid pixels near the picture's border or its padding."""
    width = max(2, round(_RING_SHARE * valid.shape[0]))
    inner = np.zeros_like(valid)
    inner[width:-width, width:-width] = True
    if not valid.all():
        inner &= _eroded(valid, width)
    return valid & ~inner


def _dilated(mask: _Mask, radius: int) -> _Mask:
    """Square dilation; the picture goes on beyond its border as its mirror image, so the border is no outline."""
    result: NDArray[np.uint8] = ndi.maximum_filter(mask.view(np.uint8), 2 * radius + 1)
    return result.view(np.bool_)


def _eroded(mask: _Mask, radius: int) -> _Mask:
    """Square erosion, with the same border."""
    return ~_dilated(~mask, radius)


def _thinned(count: int, limit: int) -> slice:
    """Every k-th of ``count`` things, so that about ``limit`` remain."""
    return slice(None, None, max(1, -(-count // limit)))


def _densest_ball(points: _F64) -> tuple[_F64, float]:
    """Centre (K,) and radius of the smallest ball around a point (n, K) that holds 30 % of all points."""
    held = max(1, int(0.3 * len(points)))
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    radii = np.partition(squared, held - 1, axis=1)[:, held - 1]
    best = int(radii.argmin())
    inside = points[squared[best] <= radii[best]]
    return np.median(inside, axis=0), float(np.sqrt(radii[best]))


def _dominant_colour(views: Sequence[_View]) -> _Model:
    """The colour that most of the border ring has, over all pictures."""
    share = max(20, _SAMPLE_PIXELS // len(views))
    rings = [view.features[:, view.ring].T for view in views]
    pooled = np.concatenate([ring[_thinned(len(ring), share)] for ring in rings]).astype(np.float64)
    colour, radius = _densest_ball(pooled)
    return _Model(colour=colour, reach=max(3 * radius, _COLOUR_REACH))


def _terms(y: _F64, x: _F64) -> _F64:
    """The monomials 1, x, y, x^2, xy, y^2 at points (n,): (n, 6)."""
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


def _robust_fit(values: _F64, terms: _F64, weights: _F64) -> tuple[_F64, _F64]:
    """Iteratively reweighted least squares with Tukey's biweight.

    Parameters are values (n, K), terms (n, t) and starting weights (n,); returns coefficients (t, K) and robust
    standard deviations (K,) in grey levels. Sums are by einsum: those of a threaded BLAS depend on its threads.
    """
    coefficients, sigma = np.zeros((terms.shape[1], values.shape[1])), np.full(values.shape[1], _NOISE_FLOOR)
    ridge = np.diag([0.0] + [1e-4] * (terms.shape[1] - 1))  # the slope of few or collinear pixels is none
    for _ in range(5):
        total = weights.sum()
        if total < terms.shape[1]:
            break
        weighted = weights[:, None] * terms / total
        normal = np.einsum("ni,nj->ij", weighted, terms) + ridge
        coefficients = np.linalg.solve(normal, np.einsum("ni,nk->ik", weighted, values))
        residuals = np.abs(values - np.einsum("ni,ik->nk", terms, coefficients))
        sigma = np.maximum(1.4826 * np.median(residuals[weights > 0], axis=0), _NOISE_FLOOR)
        z2 = ((residuals / sigma) ** 2).sum(axis=1) / _BISQUARE**2
        weights = np.where(z2 < 1, (1 - z2) ** 2, 0.0)
    return coefficients, sigma


def _deviation(features: _F32, coefficients: _F64, sigma: _F64) -> _Deviation:
    """Difference of every pixel from the background surface."""
    side = features.shape[1]
    axis = ((2 * np.arange(side) + 1) / side - 1).astype(np.float32)
    x, y = axis[None, :], axis[:, None]
    brightness = np.zeros((side, side), dtype=np.float32)
    colour = np.zeros((side, side), dtype=np.float32)  # squared
    for k, (c, s) in enumerate(zip(coefficients.T.astype(np.float32), sigma.astype(np.float32), strict=True)):
        surface = (c[0] + c[1] * x + c[3] * x * x) + (c[2] * y + c[5] * y * y) + c[4] * (x * y)
        difference = (features[k] - surface) / s
        if k == 0:
            brightness = difference
        else:
            colour += difference**2
    # a shadow fades colour too, but less than brightness
    shade = (brightness < 0) & (colour < np.maximum(_NOISE_SIGMAS**2, 0.5 * brightness**2))
    return _Deviation(distance=np.sqrt(brightness**2 + colour), shade=shade)


def _pixels(view: _View, where: _Mask) -> tuple[_F64, _F64, _F64]:
    """Values (n, K) and coordinates (n,) in -1..1 of at most `_FIT_PIXELS` pixels of ``where``."""
    flat = np.flatnonzero(where)
    flat = flat[_thinned(len(flat), _FIT_PIXELS)]
    side = where.shape[0]
    y, x = np.divmod(flat, side)
    values = view.features.reshape(len(view.features), -1)[:, flat].T.astype(np.float64)
    return values, (2 * y + 1) / side - 1, (2 * x + 1) / side - 1


def _compare(view: _View, model: _Model) -> _Deviation:
    """Fit this picture's background, and say how every pixel differs from it."""
    coefficients, sigma = _ring_fit(view, model)
    deviation = _deviation(view.features, coefficients, sigma)
    background = view.valid & ~_dilated(deviation.distance >= 2 * _NOISE_SIGMAS, 2)
    if background.sum() >= 0.1 * view.valid.sum():
        values, y, x = _pixels(view, background)
        coefficients, sigma = _robust_fit(values, _terms(y, x), np.ones(len(values)))
        deviation = _deviation(view.features, coefficients, sigma)
    return deviation


def _ring_fit(view: _View, model: _Model) -> tuple[_F64, _F64]:
    """Surface through the ring: from the category's colour or, where that is rare on the ring, the best of three."""
    values, y, x = _pixels(view, view.ring)
    terms = _terms(y, x)
    near = np.abs(values - model.colour).max(axis=1) < model.reach
    if near.mean() >= 0.6:
        return _robust_fit(values, terms, near.astype(np.float64))
    own, radius = _densest_ball(values[_thinned(len(values), 150)])
    near_own = np.abs(values - own).max(axis=1) < max(3 * radius, _COLOUR_REACH)
    starts = [near, near_own, np.ones(len(values), dtype=np.bool_)]
    fits = [_robust_fit(values, terms, start.astype(np.float64)) for start in starts if start.mean() >= 0.1]
    scores = [_misfit(values, terms, coefficients, model) for coefficients, _ in fits]
    return fits[int(np.argmin(scores))]


def _misfit(values: _F64, terms: _F64, coefficients: _F64, model: _Model) -> float:
    """Lower quartile of the ring's distance from a surface, dearer the further that is from the category's colour."""
    residuals = np.abs(values - np.einsum("ni,ik->nk", terms, coefficients)).max(axis=1)
    offset = float(np.abs(coefficients[0] - model.colour).max())
    return (float(np.quantile(residuals, 0.25)) + _NOISE_FLOOR) * max(1.0, offset / model.reach)


def _thresholds(model: _Model, views: Sequence[_View], deviations: Sequence[_Deviation]) -> _Model:
    """Otsu's thresholds on the distance (high) and on its logarithm (low), over all pictures."""
    step = _thinned(sum(int(view.valid.sum()) for view in views), 400_000)
    pairs = list(zip(views, deviations, strict=True))
    pooled = np.concatenate([deviation.distance[view.valid][step] for view, deviation in pairs])
    shade = np.concatenate([deviation.shade[view.valid][step] for view, deviation in pairs])
    if pooled.min() == pooled.max():
        return model
    high = max(float(threshold_otsu(pooled)), _NOISE_SIGMAS)
    low = max(float(np.expm1(threshold_otsu(np.log1p(pooled)))), _LOW_SHARE * high, _NOISE_SIGMAS)
    certain = pooled > high
    bright = bool(certain.any()) and float(shade[certain].mean()) <= 1 - _BRIGHT_SHARE
    return replace(model, low=min(low, high), high=high, bright_part=bright)


def _segment(view: _View, deviation: _Deviation, model: _Model) -> _Segment:
    """Hysteresis, closing, rim, opening, holes, small components."""
    distance = deviation.distance
    side = distance.shape[0]
    lit = np.where(deviation.shade, np.float32(0), distance) if model.bright_part else distance
    radius = max(1, round(side / 85))
    raw: _Mask = apply_hysteresis_threshold(lit, model.low, model.high)
    mask = _eroded(_dilated(raw, radius), radius)
    halo = _halo(mask, distance)
    mask &= ~halo
    mask = _dilated(_eroded(mask, radius), radius) & view.valid
    mask = _main_components(_filled(mask, view, distance, model), distance)
    area = int(mask.sum())
    changed = int((((raw & ~halo) ^ mask) & view.valid).sum())
    return _Segment(
        mask=mask,
        area=area / int(view.valid.sum()),
        ring_part=float(mask[view.ring].mean()),
        sharpness=_sharpness(mask, view.valid, distance),
        coherence=1 - changed / area if area else 0.0,
    )


def _halo(mask: _Mask, distance: _F32) -> _Mask:
    """Rim pixels below half of the distance that the part reaches beside them: blur, not part."""
    reach = max(1, round(_HALO_SHARE * mask.shape[0]))
    beside = ndi.maximum_filter(distance, 2 * reach + 1)
    return mask & ~_eroded(mask, reach) & (distance < 0.5 * beside)


def _filled(mask: _Mask, view: _View, distance: _F32, model: _Model) -> _Mask:
    """Fill holes of the part, unless they are large and as background as the background: a nut has a real hole."""
    labels, count = ndi.label(view.valid & ~mask)
    if count == 0:
        return mask
    area = np.bincount(labels.ravel(), minlength=count + 1)
    mean = np.bincount(labels.ravel(), weights=distance.ravel(), minlength=count + 1) / np.maximum(area, 1)
    fill = (area < 0.004 * mask.size) | (mean > max(2.5, model.low / 2))
    fill[np.unique(labels[view.ring])] = False
    fill[0] = False
    return mask | fill[labels]


def _main_components(mask: _Mask, distance: _F32) -> _Mask:
    """Components of 0.15 % of the picture, 10 % of the largest and half of its distance: fainter ones are stains."""
    labels, count = ndi.label(mask)
    if count == 0:
        return mask
    area = np.bincount(labels.ravel(), minlength=count + 1)
    area[0] = 0
    mean = np.bincount(labels.ravel(), weights=distance.ravel(), minlength=count + 1) / np.maximum(area, 1)
    largest = int(area.argmax())
    keep = (area >= 0.1 * area[largest]) & (area >= 0.0015 * mask.size) & (mean >= 0.5 * mean[largest])
    kept: _Mask = keep[labels]
    return kept


def _sharpness(mask: _Mask, valid: _Mask, distance: _F32) -> float:
    """Step of the distance over a few pixels across the outline, relative to the step from background to part."""
    reach = max(1, round(3 * mask.shape[0] / 256))
    outside = _dilated(mask, reach + 1) & ~_dilated(mask, 1) & valid
    inside = mask & ~_eroded(mask, reach)
    background = valid & ~mask
    if not (outside.any() and inside.any()):
        return 0.0
    step = _typical(distance, inside) - _typical(distance, outside)
    whole = _typical(distance, mask) - _typical(distance, background)
    return step / whole if whole > 0 else 0.0


def _typical(distance: _F32, where: _Mask) -> float:
    """Median over at most about 4,000 of the pixels."""
    values = distance[where]
    return float(np.median(values[_thinned(len(values), 4000)]))


def _evidence(segments: Sequence[_Segment]) -> tuple[str, bool]:
    """Measured numbers as text, and whether most pictures show a part before a background."""
    plausible = [segment for segment in segments if segment.plausible]
    share = len(plausible) / len(segments)
    shown = plausible if share >= _MAJORITY else segments
    area, ring, sharp, coherent = np.median([(s.area, s.ring_part, s.sharpness, s.coherence) for s in shown], axis=0)
    measured = (
        f"{len(plausible)} of {len(segments)} pictures look like a part before a plain background "
        f"(medians: part {area:.0%} of the picture and {ring:.0%} of its border, "
        f"outline sharpness {sharp:.2f}, coherence {max(coherent, 0.0):.2f})"
    )
    return measured, share >= _MAJORITY
