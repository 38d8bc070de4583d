"""The discrete wavelet transform of pictures, batched: what PyWavelets computes, with its filters, in torch.

One step along an axis of a signal x of length n, with the filters h of L taps,

    c[k] = sum_j h[j] x[2 k + 1 - j],     k = 0 .. floor((n + L - 1) / 2) - 1,

x going on beyond its ends as the mode says; ``periodization`` has ceil(n / 2) coefficients instead, centred:
x[2 k + L/2 - j]. A step of the inverse, with the reconstruction filters g and a lead l = L - 2, or L/2 - 1 where
periodic,

    x[i] = sum_k c[k] g[i + l - 2 k]     summed over the low and the high band.

Even and odd samples are taken apart first and put together last, so that every tap is one multiply-add of two
contiguous arrays. The order of the sums is fixed: a picture's bits depend neither on its batch nor on threads.

References
----------
Mallat, "A Wavelet Tour of Signal Processing", 3rd ed. (2009), chapter 7.
Lee et al., "PyWavelets: a Python package for wavelet analysis", J. Open Source Software 4 (2019), for the conventions.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import get_args

import numpy as np
import pywt
import torch
from numpy.typing import NDArray
from torch import Tensor

from manifests.config import WaveletMode

__all__ = [
    "MODES",
    "WAVELETS",
    "Details",
    "Pyramid",
    "dwt2",
    "idwt2",
    "max_level",
    "wavedec2",
    "waverec2",
    "waverec2_details",
]

WAVELETS: tuple[str, ...] = tuple(pywt.wavelist(kind="discrete"))
MODES: tuple[str, ...] = get_args(WaveletMode)

_COLUMNS, _ROWS = 3, 2  # axes of (B, C, H, W): along a row, and down a column


@dataclass(frozen=True)
class Details:
    """Detail sub-bands of one level, each (B, C, h, w): PyWavelets' cH, cV and cD."""

    horizontal: Tensor
    vertical: Tensor
    diagonal: Tensor


@dataclass(frozen=True)
class Pyramid:
    """A picture taken apart.

    Attributes
    ----------
    approximation : (B, C, h, w) tensor
        What is left at the coarsest level.
    details : tuple of Details
        Coarsest first.
    shape : (int, int)
        Height and width of the picture.
    """

    approximation: Tensor
    details: tuple[Details, ...]
    shape: tuple[int, int]


def max_level(shape: tuple[int, int] | torch.Size, wavelet: str) -> int:
    """Number of levels at which a picture (height, width) is still longer than the filter; 0 for the smallest.

    Raises
    ------
    ValueError
        There is no such wavelet.
    """
    return int(min(pywt.dwt_max_level(n, _filters(wavelet).taps) for n in shape))


def dwt2(image: Tensor, *, wavelet: str, mode: str) -> tuple[Tensor, Details]:
    """One level of the transform, as ``pywt.dwt2``.

    Parameters
    ----------
    image : (B, C, H, W) float tensor
        Pictures, of any size from 1 x 1. A signal of one sample, which PyWavelets refuses to reflect, goes on as that
        sample.
    wavelet : str
        One of `WAVELETS`.
    mode : str
        One of `MODES`: how pictures go on beyond their borders.

    Returns
    -------
    approximation : (B, C, h, w) tensor
        h = floor((H + L - 1) / 2) for L taps, ceil(H / 2) for ``periodization``; w likewise.
    details : Details
        Of the same shape.

    Raises
    ------
    ValueError
        There is no such wavelet or mode, or the pictures are not of four axes, or empty.
    TypeError
        The pictures are not of floating point.
    """
    filters = _chosen(wavelet, mode)
    _check_pictures(image)
    low, high = _analysed(image, filters, mode, axis=_COLUMNS)
    approximation, horizontal = _analysed(low, filters, mode, axis=_ROWS)
    vertical, diagonal = _analysed(high, filters, mode, axis=_ROWS)
    return approximation, Details(horizontal, vertical, diagonal)


def idwt2(approximation: Tensor | None, details: Details, *, wavelet: str, mode: str) -> Tensor:
    """Inverse of `dwt2`, as ``pywt.idwt2``.

    Parameters
    ----------
    approximation : (B, C, h, w) tensor or None
        None is zeros, and costs nothing.
    details, wavelet, mode
        As from and for `dwt2`.

    Returns
    -------
    (B, C, H, W) tensor
        H = 2 h - L + 2 for L taps, 2 h for ``periodization``: even, one more than the original where that was odd.

    Raises
    ------
    ValueError
        There is no such wavelet or mode, or the sub-bands differ in shape, or they are too small for the wavelet.
    """
    filters = _chosen(wavelet, mode)
    _check_bands(approximation, details, filters, mode)
    low = _synthesised(approximation, details.horizontal, filters, mode, axis=_ROWS)
    high = _synthesised(details.vertical, details.diagonal, filters, mode, axis=_ROWS)
    return _synthesised(low, high, filters, mode, axis=_COLUMNS)


def wavedec2(image: Tensor, *, wavelet: str, mode: str, levels: int) -> Pyramid:
    """Several levels of the transform of pictures (B, C, H, W), as ``pywt.wavedec2``; see `dwt2`.

    ``levels`` may be 0, and beyond `max_level`, where the coefficients are mostly those of the borders.

    Raises
    ------
    ValueError
        As `dwt2`, and for a negative number of levels.
    """
    if levels < 0:
        raise ValueError(f"levels must not be negative, got {levels}")
    details = []
    low = image
    for _ in range(levels):
        low, found = dwt2(low, wavelet=wavelet, mode=mode)
        details.append(found)
    return Pyramid(low, tuple(reversed(details)), (image.shape[_ROWS], image.shape[_COLUMNS]))


def waverec2(pyramid: Pyramid, *, wavelet: str, mode: str) -> Tensor:
    """Pictures (B, C, H, W) of a pyramid, cropped to its ``shape``; else as ``pywt.waverec2``, see `idwt2`."""
    _chosen(wavelet, mode)
    if not pyramid.details:
        return pyramid.approximation
    return _rebuilt(pyramid.approximation, pyramid.details, pyramid.shape, wavelet, mode)


def waverec2_details(
    details: tuple[Details, ...], *, shape: tuple[int, int] | torch.Size, wavelet: str, mode: str
) -> Tensor:
    """`waverec2` with nothing for the approximation, as for a change of the details: the transform is linear.

    Parameters
    ----------
    details : tuple of Details
        At least one level, coarsest first.
    shape : (int, int)
        Height and width of the pictures.
    wavelet, mode
        As for `dwt2`.

    Returns
    -------
    (B, C, H, W) tensor

    Raises
    ------
    ValueError
        As `idwt2`, and where there are no details.
    """
    if not details:
        raise ValueError("details of no level: there must be at least one")
    return _rebuilt(None, details, (shape[0], shape[1]), wavelet, mode)


def _rebuilt(
    approximation: Tensor | None, details: tuple[Details, ...], shape: tuple[int, int], wavelet: str, mode: str
) -> Tensor:
    # each level gives the size of the finer one, or one row or column too many where that is odd
    sizes = [*((level.diagonal.shape[_ROWS], level.diagonal.shape[_COLUMNS]) for level in details[1:]), shape]
    picture = idwt2(approximation, details[0], wavelet=wavelet, mode=mode)[:, :, : sizes[0][0], : sizes[0][1]]
    for level, (height, width) in zip(details[1:], sizes[1:], strict=True):
        picture = idwt2(picture, level, wavelet=wavelet, mode=mode)[:, :, :height, :width]
    return picture


@dataclass(frozen=True)
class _Filters:
    """Taps of a wavelet, all filters of one even length.

    ``analysis`` has the low and the high pass of the decomposition, last tap first: as they meet a signal's samples.
    ``synthesis`` has those of the reconstruction, first tap first.
    """

    analysis: tuple[tuple[float, ...], tuple[float, ...]]
    synthesis: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def taps(self) -> int:
        return len(self.analysis[0])


@lru_cache(maxsize=128)
def _filters(wavelet: str) -> _Filters:
    _check_name(wavelet, WAVELETS, "wavelet")
    bank = [tuple(float(tap) for tap in taps) for taps in pywt.Wavelet(wavelet).filter_bank]
    return _Filters((bank[0][::-1], bank[1][::-1]), (bank[2], bank[3]))


def _chosen(wavelet: str, mode: str) -> _Filters:
    _check_name(mode, MODES, "mode")
    return _filters(wavelet)


def _check_name(name: str, known: tuple[str, ...], what: str) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        some = ", ".join(known[:9]) + (", ..." if len(known) > 9 else "")
        hint = f"did you mean {close[0]!r}?" if close else f"there are {some}"
        raise ValueError(f"no {what} {name!r}; {hint}")


def _check_pictures(image: Tensor) -> None:
    if image.ndim != 4 or 0 in image.shape[_ROWS:]:
        raise ValueError(f"pictures must be (B, C, H, W) with H, W >= 1, got {tuple(image.shape)}")
    if not image.is_floating_point():
        raise TypeError(f"pictures must be of floating point, got {image.dtype}; divide by the largest value")


def _check_bands(approximation: Tensor | None, details: Details, filters: _Filters, mode: str) -> None:
    bands = [details.horizontal, details.vertical, details.diagonal]
    if approximation is not None:
        bands.append(approximation)
    if any(band.shape != bands[0].shape for band in bands):
        raise ValueError(f"sub-bands of a level must be of one shape, got {[tuple(band.shape) for band in bands]}")
    least = 1 if mode == "periodization" else filters.taps // 2
    if bands[0].ndim != 4 or min(bands[0].shape[_ROWS:]) < least:
        wanted = f"(B, C, h, w) with h, w >= {least} for this wavelet and mode"
        raise ValueError(f"sub-bands must be {wanted}, got {tuple(bands[0].shape)}")


def _analysed(field: Tensor, filters: _Filters, mode: str, *, axis: int) -> tuple[Tensor, Tensor]:
    """Low and high pass along an axis, every second value."""
    taps, length = filters.taps, field.shape[axis]
    if mode == "periodization":
        count, before = (length + 1) // 2, taps // 2 - 1
    else:
        count, before = (length + taps - 1) // 2, taps - 2
    after = 2 * count + taps - 2 - before - length
    # the taps are turned round: c[k] = sum_i h[i] e[2 k + i], e being the signal with what goes on beyond its ends
    phases = [_extended(field, before, after, mode, axis=axis, phase=phase) for phase in (0, 1)]
    pieces = [phases[i % 2].narrow(axis, i // 2, count) for i in range(taps)]
    low, high = (_weighted_sum(zip(pieces, band, strict=True)) for band in filters.analysis)
    return low, high


def _synthesised(low: Tensor | None, high: Tensor, filters: _Filters, mode: str, *, axis: int) -> Tensor:
    """Inverse of `_analysed`: even and odd samples by themselves, then side by side."""
    half, count = filters.taps // 2, high.shape[axis]
    bands = [(band, taps) for band, taps in zip((low, high), filters.synthesis, strict=True) if band is not None]
    lead = 2 * half - 2
    if mode == "periodization":
        lead = half - 1
        before, after = half - 1 - lead // 2, (lead + 1) // 2
        bands = [(_extended(band, before, after, "periodic", axis=axis), taps) for band, taps in bands]
        pairs, shift = count, before
    else:
        pairs, shift = count - half + 1, 0
    parts = []
    for odd in (0, 1):
        # sample 2 p + odd takes the coefficient p + ahead - m times tap 2 m + parity
        ahead, parity = divmod(lead + odd, 2)
        terms = (
            (band.narrow(axis, shift + ahead - m, pairs), taps[2 * m + parity])
            for band, taps in bands
            for m in range(half)
        )
        parts.append(_weighted_sum(terms))
    return _interleaved(parts[0], parts[1], axis=axis)


def _weighted_sum(terms: Iterable[tuple[Tensor, float]]) -> Tensor:
    """Sum of tensors of one shape times numbers, in the order given; zeros, which pad many filters, cost nothing."""
    rest = iter(terms)
    piece, weight = next(rest)
    total = piece * weight
    for piece, weight in rest:
        if weight != 0.0:
            total.add_(piece, alpha=weight)
    return total


def _interleaved(even: Tensor, odd: Tensor, *, axis: int) -> Tensor:
    if axis == even.ndim - 1 and even.dtype in (torch.float32, torch.float64):
        # as real and imaginary parts: eight times faster than a stack along the last axis
        return torch.view_as_real(torch.complex(even, odd)).flatten(axis)
    return torch.stack([even, odd], dim=axis + 1).flatten(axis, axis + 1)


def _extended(field: Tensor, before: int, after: int, mode: str, *, axis: int, phase: int | None = None) -> Tensor:
    """A signal with ``before`` and ``after`` more samples at its ends; of that, the even (0) or odd (1) ``phase``."""
    first, step = (0, 1) if phase is None else (phase, 2)
    borders = _borders(field.shape[axis], before, after, mode, first, step, field.device, field.dtype)
    within = [slice(None)] * field.ndim
    within[axis] = slice((first - before) % step, None, step)
    left, right = ([_gathered(field, border, axis=axis)] if border.count else [] for border in borders)
    return torch.cat([*left, field[tuple(within)], *right], dim=axis)


def _gathered(field: Tensor, border: _Border, *, axis: int) -> Tensor:
    """Samples beyond one end."""
    parts = []
    for place, weight in border.summands:
        taken = field.index_select(axis, place)
        parts.append(taken if weight is None else taken * weight.reshape(-1, *[1] * (field.ndim - 1 - axis)))
    if parts:
        return sum(parts[1:], start=parts[0])
    size = list(field.shape)
    size[axis] = border.count
    return field.new_zeros(size)


@dataclass(frozen=True)
class _Border:
    """``count`` samples beyond an end: the sum of samples of the signal, (count,) int64, times (count,) weights.

    No weight is a weight of one.
    """

    count: int
    summands: tuple[tuple[Tensor, Tensor | None], ...]


@lru_cache(maxsize=1024)
def _borders(
    length: int, before: int, after: int, mode: str, first: int, step: int, device: torch.device, dtype: torch.dtype
) -> tuple[_Border, _Border]:
    """Left and right border of `_extended`."""
    weights, place = _extension(length, before, after, mode)
    left, right = weights[:before][first::step], weights[before:][(first - before - length) % step :: step]
    # kept for later calls, which may ask for gradients
    with torch.inference_mode(False):
        left_border, right_border = (_border(rows, place, device, dtype) for rows in (left, right))
    return left_border, right_border


def _border(rows: NDArray[np.float64], place: NDArray[np.int64], device: torch.device, dtype: torch.dtype) -> _Border:
    most = int((rows != 0).sum(axis=1).max(initial=0))
    order = np.argsort(rows == 0, axis=1, kind="stable")[:, :most]  # the samples that count come first
    summands = []
    for columns in order.T:
        weight = rows[np.arange(len(rows)), columns]
        plain = bool((weight == 1).all())
        chosen = torch.from_numpy(place[columns]).to(device)
        summands.append((chosen, None if plain else torch.from_numpy(weight).to(device, dtype)))
    return _Border(len(rows), tuple(summands))


@lru_cache(maxsize=32)
def _extension(length: int, before: int, after: int, mode: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What PyWavelets puts ``before`` and ``after`` a signal of this length.

    Returns
    -------
    weights : (before + after, N) float64 array
        Each sample beyond the ends as a sum over N samples of the signal.
    place : (N,) int64 array
        Which those are.
    """
    if mode == "periodization":  # made even by the last sample, then periodic
        even = length + length % 2
        beyond = np.concatenate([np.arange(-before, 0), np.arange(length, length + after)])
        source = np.minimum(beyond % even, length - 1)
        place, which = np.unique(source, return_inverse=True)
        return np.eye(len(place))[which], place.astype(np.int64)
    # no mode looks farther into a signal, from either end, than it goes beyond it, so that a short one tells all
    reach = max(before, after) + 2
    short = min(length, 2 * reach)
    if short == 1 and mode == "smooth":
        mode = "constant"  # there is no slope; pywt.pad takes the padding's zeros for one, pywt.dwt does not
    # one sample more at either end, for pywt.pad cannot add none
    columns = [pywt.pad(unit, (before + 1, after + 1), mode) for unit in np.eye(short)]
    weights = np.stack(columns, axis=1)
    place = np.arange(short)
    place[short // 2 :] += length - short
    return np.concatenate([weights[1 : before + 1], weights[before + 1 + short : -1]]), place.astype(np.int64)
