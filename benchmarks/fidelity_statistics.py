"""Image statistics of a defect: its edge, its profile, its texture and spectrum, all against what is around it.

Labels are drawn by brush on real photographs and computed on ours, so no statistic trusts their outline. The outline is
found again in the picture: with b the median of the surroundings (6 to 16 px away), e the 5 % of the label and two
pixels around that deviate most, the defect is where the picture, at four times its size, is nearer to e than to b.

- *edge*: distance over which the mean profile across the outline goes from 10 % to 90 % of e - b; the slope at the
  outline; how unevenly it is spread along the outline; sigma of the edge (from how much a second blur takes of the
  gradient) against that of the photograph's own sharpest edges.
- *profile*: mean brightness at distances -2 .. 8 px of the outline, as (value - b) / (e - b).
- *contrast*: (e - b) / b, in the mean and in the extreme; how uneven it is inside; the first harmonic of the brightness
  beside the outline (lit lip, shaded lip); the brightest of the rim.
- *texture*: energy of wavelet details (a trous, B3 spline) inside, across and just outside the outline against the
  surroundings, and whether grain goes the same way.
- *spectrum*: radial spectrum of the patch under a Hann window against that of sound patches of the same photograph.
- *shape*: area, width, elongation, solidity, raggedness, pieces of the outline found again.
- *around*: energy of details of the surroundings alone: says nothing of the defect, shows what backgrounds give away.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.fidelity_samples import PATCH_PX, Shot, patch_window

__all__ = [
    "GROUPS",
    "NAMES",
    "PROFILE_PX",
    "Outline",
    "columns",
    "details",
    "edge_sigma",
    "find_outline",
    "grain_vector",
    "measure",
    "statistics",
]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_WINDOW_PX = 96
_UP = 4
_NEAR_PX = 2.0
_FAR_PX = (6.0, 16.0)
_EXTREME = 0.05
PROFILE_PX = (-2.0, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
_SPECTRUM_BINS = 8
_LEVELS = 3
_ZONES = ("inside", "across", "outside")
_STENCIL_PX2 = 1 / 3  # variance of the box, two pixels wide, over which a central difference averages
_NOISE_FLOOR = 1.0  # grey levels: rounding alone spreads by 0.3

GROUPS: dict[str, tuple[str, ...]] = {
    "edge": ("edge width", "edge slope", "edge unevenness", "edge sigma / optics"),
    "profile": tuple(f"profile at {d:+.1f} px" for d in PROFILE_PX),
    "contrast": (
        "contrast",
        "extreme contrast",
        "sign",
        "unevenness inside",
        "skewness inside",
        "lit and shaded lip",
        "brightest of the rim",
        "darkest of the rim",
    ),
    "texture": (
        *(f"detail {level + 1} {zone}" for zone in _ZONES for level in range(_LEVELS)),
        "grain direction",
    ),
    "spectrum": tuple(f"spectrum {k + 1}" for k in range(_SPECTRUM_BINS)),
    "shape": ("area", "width", "elongation", "solidity", "raggedness", "pieces"),
    "around": tuple(f"surroundings detail {level + 1}" for level in range(_LEVELS)),
}
NAMES = tuple(name for names in GROUPS.values() for name in names)


def columns(*groups: str) -> list[int]:
    """Positions of these groups' statistics in a feature vector."""
    wanted = {name for group in groups for name in GROUPS[group]}
    return [k for k, name in enumerate(NAMES) if name in wanted]


@dataclass(frozen=True)
class Outline:
    """A defect found again in a window of a picture.

    Attributes
    ----------
    window : (W, W) array
        Grey levels of the window.
    fine, distance : (4 W, 4 W) array
        The window enlarged, and the signed distance to the outline there, in pixels, negative inside.
    coarse : (W, W) array
        The distance at the pixels' middles.
    far : (W, W) bool array
        The surroundings.
    base, extreme : float
        b and e, grey levels.
    """

    window: Floats
    fine: Floats
    distance: Floats
    coarse: Floats
    far: Mask
    base: float
    extreme: float


def find_outline(shot: Shot) -> Outline:
    """Find a defect again, whatever its label's outline."""
    where = patch_window(shot, min(_WINDOW_PX, *shot.mask.shape))
    window, label = shot.grey[where], shot.mask[where]
    away = ndimage.distance_transform_edt(~label)
    far = (away > _FAR_PX[0]) & (away <= _FAR_PX[1])
    near = away <= _NEAR_PX
    base = float(np.median(window[far])) if far.any() else float(np.median(window))
    smooth = ndimage.gaussian_filter(window, 0.5)
    low, high = np.quantile(smooth[near], [_EXTREME, 1 - _EXTREME])
    extreme = float(low if base - low >= high - base else high)
    if abs(extreme - base) < _NOISE_FLOOR:
        extreme = base - _NOISE_FLOOR
    fine = ndimage.zoom(window, _UP, order=3, mode="nearest", grid_mode=True)
    allowed = np.kron(near, np.ones((_UP, _UP), dtype=np.bool_))
    inside = _large_pieces(((ndimage.gaussian_filter(fine, 0.5 * _UP) - base) / (extreme - base) > 0.5) & allowed)
    distance = (ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)) / _UP
    coarse = distance.reshape(len(window), _UP, -1, _UP).mean(axis=(1, 3))
    return Outline(window, fine, distance, coarse, far & (coarse > 2), base, extreme)


def _large_pieces(mask: Mask) -> Mask:
    """Pieces of at least a tenth of the largest; a single point where there is nothing."""
    labels, count = ndimage.label(mask)
    if not count:
        out = mask.copy()
        out[tuple(n // 2 for n in mask.shape)] = True
        return out
    sizes = np.bincount(labels.ravel())[1:]
    keep = np.concatenate([[False], sizes >= 0.1 * sizes.max()])
    return np.asarray(keep[labels])


def statistics(shots: Sequence[Shot]) -> Floats:
    """Statistics (N, len(`NAMES`)) of shots."""
    return np.array([measure(shot)[0] for shot in shots]).reshape(len(shots), len(NAMES))


def measure(shot: Shot) -> tuple[list[float], NDArray[np.float32]]:
    """Statistics of a shot, and maps (3, P, P) of its patch: defect, just outside, surroundings."""
    found = find_outline(shot)
    return _numbers(found, shot), _zones_of_patch(found, shot)


def _zones_of_patch(found: Outline, shot: Shot) -> NDArray[np.float32]:
    outer = patch_window(shot, min(_WINDOW_PX, *shot.mask.shape))
    y, x = (a.start - b.start for a, b in zip(patch_window(shot), outer, strict=True))
    distance = found.coarse[y : y + PATCH_PX, x : x + PATCH_PX]
    zones = np.stack([distance <= 1, (distance > 1) & (distance <= _FAR_PX[0]), distance > _FAR_PX[0]])
    return np.where(zones.any(axis=(1, 2), keepdims=True), zones, True).astype(np.float32)


def _numbers(found: Outline, shot: Shot) -> list[float]:
    levels = details(found.window)
    return [
        *_edge(found, shot),
        *_profile(found, PROFILE_PX, half_px=0.3),
        *_contrast(found),
        *_texture(found, levels),
        *_spectrum(shot),
        *_shape(found),
        *(float(np.log(np.mean(np.square(d[found.far])) / found.base**2 + 1e-7)) for d in levels),
    ]


def _profile(found: Outline, at_px: Sequence[float], *, half_px: float) -> list[float]:
    """Mean of (value - b) / (e - b) around these distances; what is not there repeats its neighbour outside."""
    value = (found.fine - found.base) / (found.extreme - found.base)
    out: list[float] = []
    last = 1.0
    for d in sorted(at_px):
        ring = np.abs(found.distance - d) <= half_px
        last = float(np.clip(value[ring].mean(), -3, 3)) if ring.sum() >= _UP else last
        out.append(last)
    return out


def _edge(found: Outline, shot: Shot) -> tuple[float, float, float, float]:
    at = np.arange(-3.0, 5.01, 0.25)
    profile = np.array(_profile(found, list(at), half_px=0.2))
    top = profile[at <= 0].max()
    start = int(np.argmax(np.where(at <= 0, profile, -np.inf)))
    falling = np.minimum.accumulate(profile[start:])
    tail = max(float(np.median(profile[at > 3])), 0.0) if top > 0.3 else 0.0
    high, low = tail + 0.9 * (top - tail), tail + 0.1 * (top - tail)
    width = _crossing(at[start:], falling, low) - _crossing(at[start:], falling, high)
    gy, gx = np.gradient(found.fine, 1 / _UP)
    beside = np.abs(found.distance) <= 0.5
    steep = np.hypot(gy, gx)[beside] / abs(found.extreme - found.base)
    own = edge_sigma(found.window, np.abs(found.coarse) <= 0.75)
    optics = edge_sigma(shot.grey, ~ndimage.binary_dilation(shot.mask, iterations=4), share=0.01)
    return (
        float(np.log(max(width, 0.2))),
        float(np.log(max(float(steep.mean()), 1e-2))),
        float(steep.std() / max(float(steep.mean()), 1e-6)),
        float(np.log(own / optics)),
    )


def _crossing(at: Floats, falling: Floats, level: float) -> float:
    """Where a falling profile reaches a level; its end if it never does."""
    below = np.flatnonzero(falling <= level)
    if not len(below):
        return float(at[-1])
    k = int(below[0])
    if k == 0:
        return float(at[0])
    share = (falling[k - 1] - level) / max(falling[k - 1] - falling[k], 1e-9)
    return float(at[k - 1] + share * (at[k] - at[k - 1]))


def edge_sigma(picture: Floats, where: Mask, *, share: float = 0.5) -> float:
    """Width of the point spread seen at edges, pixels: one minus the loss of gradient by a second blur of 1 px.

    Parameters
    ----------
    picture : (H, W) array
        Grey levels.
    where : (H, W) bool array
        Pixels that count.
    share : float
        Of these, the share with the steepest gradients.

    References
    ----------
    Zhuo & Sim, "Defocus map estimation from a single image", Pattern Recognition 44 (2011).
    """
    before = _steepness(picture)
    after = _steepness(ndimage.gaussian_filter(picture, 1.0))
    values = before[where]
    if not len(values):
        return 1.0
    chosen = where & (before >= np.quantile(values, 1 - share))
    ratio = float(np.median(before[chosen] / np.maximum(after[chosen], 1e-3)))
    seen_px2 = 1 / max(ratio**2 - 1, 1e-2)
    return float(np.sqrt(np.clip(seen_px2 - _STENCIL_PX2, 0.1, 25.0)))


def _steepness(picture: Floats) -> Floats:
    gy, gx = np.gradient(picture)
    return np.asarray(np.hypot(gy, gx))


def _contrast(found: Outline) -> list[float]:
    inside = found.distance < 0
    change = (found.fine[inside] - found.base) / found.base
    spread = float(change.std())
    skewness = float(np.mean((change - change.mean()) ** 3) / max(spread, 1e-3) ** 3)
    noise = max(float(found.window[found.far].std()) if found.far.any() else 0.0, _NOISE_FLOOR)
    rim = (found.distance > 0.5) & (found.distance <= 3)
    beside = found.fine[rim]
    gy, gx = (np.asarray(g)[rim] for g in np.gradient(found.distance, 1 / _UP))
    offset = beside - beside.mean()
    harmonic = 2 * np.hypot((offset * gy).mean(), (offset * gx).mean()) / abs(found.extreme - found.base)
    high, low = np.quantile(beside, [0.95, 0.05])
    return [
        float(np.log(max(abs(float(change.mean())), 1e-2))),
        float(np.log(max(abs(found.extreme - found.base) / found.base, 1e-2))),
        float(np.sign(found.extreme - found.base)),
        float(np.log(max(spread, 1e-2))),
        float(np.clip(skewness, -4, 4)),
        float(harmonic),
        float(np.clip((high - found.base) / noise, -6, 12)),
        float(np.clip((low - found.base) / noise, -12, 6)),
    ]


def details(picture: Floats, *, levels: int = _LEVELS) -> list[Floats]:
    """Wavelet details of a picture, finest first: differences of successive smoothings with the B3 spline."""
    found = []
    smooth = picture
    for level in range(levels):
        taps = np.zeros(4 * 2**level + 1)
        taps[:: 2**level] = np.array([1, 4, 6, 4, 1]) / 16
        next_one = ndimage.convolve1d(ndimage.convolve1d(smooth, taps, axis=0), taps, axis=1)
        found.append(smooth - next_one)
        smooth = next_one
    return found


def _texture(found: Outline, levels: Sequence[Floats]) -> list[float]:
    zones = (found.coarse < -0.5, np.abs(found.coarse) <= 1.0, (found.coarse > 1.5) & (found.coarse <= 5))
    out = []
    for zone in zones:
        for detail in levels:
            own = np.mean(np.square(detail[zone])) if zone.sum() >= 4 else np.nan
            other = np.mean(np.square(detail[found.far])) if found.far.any() else np.nan
            ratio = float(np.log((own + 0.25) / (other + 0.25)))  # 0.25: half a grey level, of rounding
            out.append(ratio if np.isfinite(ratio) else 0.0)
    return [*out, _grain_agreement(found)]


def _grain_agreement(found: Outline) -> float:
    """Twice the angle between the grain just outside and around: its cosine, times how clear both directions are."""
    outside = (found.coarse > 1.5) & (found.coarse <= 5)
    return float(grain_vector(found.window, outside) @ grain_vector(found.window, found.far))


def grain_vector(picture: Floats, zone: Mask) -> Floats:
    """Direction of the grain in a zone as (cos 2 phi, sin 2 phi), as long as the grain is coherent: 0..1."""
    gy, gx = (np.asarray(g)[zone] for g in np.gradient(picture))
    total = max(float((gx**2 + gy**2).sum()), 1e-6)
    return np.array([float((gx**2 - gy**2).sum()), float(2 * (gx * gy).sum())]) / total


def _spectrum(shot: Shot) -> list[float]:
    """Logarithm of the patch's radial spectrum / mean of those of sound patches of the photograph."""
    grey = shot.grey
    top, left = (s.start for s in patch_window(shot))
    own = _radial(grey[top : top + PATCH_PX, left : left + PATCH_PX])
    blocked = ndimage.binary_dilation(shot.mask, iterations=3)
    corners = itertools.product(*(range(0, n - PATCH_PX + 1, PATCH_PX) for n in grey.shape))
    windows = [(slice(y, y + PATCH_PX), slice(x, x + PATCH_PX)) for y, x in corners]
    others = [_radial(grey[window]) for window in windows if not blocked[window].any()]
    sound = np.mean(others, axis=0) if others else own
    return [float(v) for v in np.log((own + 1e-8) / (sound + 1e-8))]


def _radial(patch: Floats) -> Floats:
    """Mean power in rings of frequency, from 1 / patch to 1/2 per pixel, equally wide in the logarithm."""
    n = len(patch)
    hann = np.hanning(n)
    level = max(float(patch.mean()), 1.0)
    power = np.abs(np.fft.rfft2((patch / level - 1) * np.outer(hann, hann))) ** 2
    radius = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None])
    edges = np.geomspace(1.5 / n, 0.5, _SPECTRUM_BINS + 1)
    ring = np.digitize(radius, edges)
    return np.array([power[ring == k + 1].mean() for k in range(_SPECTRUM_BINS)])


def _shape(found: Outline) -> list[float]:
    inside = found.distance < 0
    _, count = ndimage.label(inside)
    points = np.argwhere(inside) / _UP
    spread = np.linalg.eigvalsh(np.cov(points.T) + np.eye(2) / 12.0) if len(points) > 2 else np.ones(2)
    outline = float((inside ^ ndimage.binary_erosion(inside)).sum()) / _UP
    area = float(inside.sum()) / _UP**2
    smooth = ndimage.gaussian_filter(inside.astype(np.float64), 1.5 * _UP) > 0.5
    return [
        float(np.log(area)),
        float(np.log(2 * area / max(outline, 1.0))),
        float(0.5 * np.log(spread[1] / spread[0])),
        float(area / max(4 * np.pi * np.sqrt(spread[0] * spread[1]), 1e-6)),  # 1 for an ellipse
        float((inside ^ smooth).sum() / max(float(inside.sum()), 1.0)),
        float(np.log(count)),
    ]
