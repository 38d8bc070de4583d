"""The discrete wavelet transform of pictures, batched: what PyWavelets computes, with its filters, in torch.

One step along an axis of a signal x of length n, with the filters h of L taps,

    c[k] = sum_j h[j] x[2 k + 1 - j],     k = 0 .. floor((n + L - 1) / 2) - 1,

x going on beyond its ends as the mode says; ``periodization`` has ceil(n / 2) coefficients instead. A step of the
inverse sums the coefficients times the reconstruction filters at every second place. Signals are taken apart and put
together by slices, tap by tap: a picture's bits do not depend on the batch that it is in.

References
----------
Mallat, "A Wavelet Tour of Signal Processing", 3rd ed. (2009), chapter 7.
Lee et al., "PyWavelets: a Python package for wavelet analysis", J. Open Source Software 4 (2019), for the conventions.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import get_args

import numpy as np
import pywt
import torch
from numpy.typing import NDArray
from torch import Tensor

from manifests.config import WaveletMode

__all__ = ["MODES", "WAVELETS", "Details", "Pyramid", "dwt2", "idwt2", "max_level", "wavedec2", "waverec2"]

WAVELETS: tuple[str, ...] = tuple(pywt.wavelist(kind="discrete"))
MODES: tuple[str, ...] = get_args(WaveletMode)


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


@dataclass(frozen=True)
class _Filters:
    """Taps of a wavelet: decomposition and reconstruction, low and high pass, all of one even length."""

    decompose_low: tuple[float, ...]
    decompose_high: tuple[float, ...]
    rebuild_low: tuple[float, ...]
    rebuild_high: tuple[float, ...]

    @property
    def taps(self) -> int:
        return len(self.decompose_low)


@lru_cache(maxsize=128)
def _filters(wavelet: str) -> _Filters:
    _check(wavelet, WAVELETS, "wavelet")
    return _Filters(*(tuple(float(v) for v in taps) for taps in pywt.Wavelet(wavelet).filter_bank))


def _check(name: str, known: tuple[str, ...], what: str) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known[:8])}, ..."
        raise ValueError(f"no {what} {name!r}; {hint}")


def max_level(shape: tuple[int, int] | torch.Size, wavelet: str) -> int:
    """Number of levels at which a picture (height, width) is still longer than the filter."""
    return int(min(pywt.dwt_max_level(n, _filters(wavelet).taps) for n in shape))


def dwt2(image: Tensor, *, wavelet: str, mode: str) -> tuple[Tensor, Details]:
    """One level of the transform.

    Parameters
    ----------
    image : (B, C, H, W) float tensor
        Pictures.
    wavelet : str
        One of `WAVELETS`.
    mode : str
        One of `MODES`.

    Returns
    -------
    approximation : (B, C, h, w) tensor
    details : Details

    Raises
    ------
    ValueError
        There is no such wavelet or mode.
    """
    filters = _filters(wavelet)
    _check(mode, MODES, "mode")
    low, high = _analyse(image, filters, mode, dim=3)
    approximation, horizontal = _analyse(low, filters, mode, dim=2)
    vertical, diagonal = _analyse(high, filters, mode, dim=2)
    return approximation, Details(horizontal, vertical, diagonal)


def idwt2(approximation: Tensor | None, details: Details, *, wavelet: str, mode: str) -> Tensor:
    """Inverse of `dwt2`: pictures (B, C, H, W), H and W even for most modes; crop where the original was odd.

    Parameters
    ----------
    approximation : (B, C, h, w) tensor or None
        None for nothing.
    details, wavelet, mode
        As from and for `dwt2`.

    Raises
    ------
    ValueError
        There is no such wavelet or mode.
    """
    filters = _filters(wavelet)
    _check(mode, MODES, "mode")
    low = _synthesise(approximation, details.horizontal, filters, mode, dim=2)
    high = _synthesise(details.vertical, details.diagonal, filters, mode, dim=2)
    return _synthesise(low, high, filters, mode, dim=3)


def wavedec2(image: Tensor, *, wavelet: str, mode: str, levels: int) -> Pyramid:
    """Several levels of the transform of pictures (B, C, H, W); see `dwt2`."""
    details = []
    low = image
    for _ in range(levels):
        low, found = dwt2(low, wavelet=wavelet, mode=mode)
        details.append(found)
    return Pyramid(low, tuple(reversed(details)), (image.shape[2], image.shape[3]))


def waverec2(pyramid: Pyramid, *, wavelet: str, mode: str) -> Tensor:
    """Pictures (B, C, H, W) of a pyramid; see `idwt2`."""
    low = pyramid.approximation
    for details in pyramid.details:
        height, width = details.horizontal.shape[2:]
        # a level above an odd one gives one row or column too many
        low = idwt2(low[:, :, :height, :width], details, wavelet=wavelet, mode=mode)
    return low[:, :, : pyramid.shape[0], : pyramid.shape[1]]


def _analyse(field: Tensor, filters: _Filters, mode: str, *, dim: int) -> tuple[Tensor, Tensor]:
    """Low and high pass along an axis, every second value."""
    taps, length = filters.taps, field.shape[dim]
    if mode == "periodization":
        count, extended = (length + 1) // 2, _periodized(field, taps, dim=dim)
    else:
        count = (length + taps - 1) // 2
        extended = _extended(field, taps - 2, 2 * count - length, mode, dim=dim)
    # c[k] = sum_j h[j] e[2 k + L - 1 - j]
    pieces = [_every_second(extended, taps - 1 - j, count, dim=dim) for j in range(taps)]
    return _weighted_sum(pieces, filters.decompose_low), _weighted_sum(pieces, filters.decompose_high)


def _every_second(field: Tensor, first: int, count: int, *, dim: int) -> Tensor:
    index = [slice(None)] * field.ndim
    index[dim] = slice(first, first + 2 * count - 1, 2)
    return field[tuple(index)]


def _weighted_sum(pieces: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Sum of tensors times numbers in the order given; zeros, which pad many filters, cost nothing."""
    total: Tensor | None = None
    for piece, weight in zip(pieces, weights, strict=True):
        if weight != 0.0:
            total = piece * weight if total is None else torch.add(total, piece, alpha=weight)
    return torch.zeros_like(pieces[0]) if total is None else total


def _synthesise(low: Tensor | None, high: Tensor, filters: _Filters, mode: str, *, dim: int) -> Tensor:
    """Inverse of `_analyse`: even and odd samples by themselves, then side by side."""
    half, count = filters.taps // 2, high.shape[dim]
    bands = [
        (band, taps) for band, taps in ((low, filters.rebuild_low), (high, filters.rebuild_high)) if band is not None
    ]
    periodic = mode == "periodization"
    out = count if periodic else count - half + 1  # pairs of samples
    parts = []
    for odd in (0, 1):
        # sample 2 p + r takes coefficient k with tap 2 (p - k) + r + lead, lead = L/2 - 1 where periodic, else L - 2
        ahead, parity = divmod(odd + (half - 1 if periodic else 2 * half - 2), 2)
        pieces, weights = [], []
        for m in range(half):
            for band, taps in bands:
                first = ahead - m
                pieces.append(_around(band, first, out, dim=dim) if periodic else band.narrow(dim, first, out))
                weights.append(taps[2 * m + parity])
        parts.append(_weighted_sum(pieces, weights))
    return torch.stack(parts, dim=dim + 1).flatten(dim, dim + 1)


def _around(band: Tensor, first: int, count: int, *, dim: int) -> Tensor:
    """``count`` values from place ``first`` on, periodically."""
    return band.roll(-first, dims=dim).narrow(dim, 0, count)


def _periodized(field: Tensor, taps: int, *, dim: int) -> Tensor:
    """The signal made even by its last value, and periodic as far as the filter reaches."""
    length = field.shape[dim]
    even = length + length % 2
    place = np.arange(1 - taps // 2, even + taps // 2) % even
    index = torch.from_numpy(np.minimum(place, length - 1)).to(field.device)
    return field.index_select(dim, index)


def _extended(field: Tensor, before: int, after: int, mode: str, *, dim: int) -> Tensor:
    """The signal with ``before`` and ``after`` more values at its ends."""
    borders = [_border(field, terms, dim=dim) for terms in _extension(field.shape[dim], before, after, mode)]
    return torch.cat([borders[0], field, borders[1]], dim=dim)


def _border(field: Tensor, terms: tuple[_Term, ...], *, dim: int) -> Tensor:
    shape = [1] * field.ndim
    shape[dim] = -1
    parts = []
    for term in terms:
        taken = field.index_select(dim, torch.from_numpy(term.place).to(field.device))
        parts.append(taken if term.plain else taken * torch.from_numpy(term.weight).to(field).reshape(shape))
    return sum(parts[1:], start=parts[0])


@dataclass(frozen=True)
class _Term:
    """One summand of the values beyond an end: of which sample (N,), times what (N,); ``plain`` where all are 1."""

    place: NDArray[np.int64]
    weight: NDArray[np.float64]
    plain: bool


@lru_cache(maxsize=512)
def _extension(length: int, before: int, after: int, mode: str) -> tuple[tuple[_Term, ...], tuple[_Term, ...]]:
    """What PyWavelets puts before and after a signal of this length, as sums of a few of its samples each."""
    # linear in the signal; one value more at every end, for PyWavelets cannot add none
    weights = pywt.pad(np.eye(length), [(before + 1, after + 1), (1, 1)], mode)[:, 1:-1]
    return _terms(weights[1 : before + 1]), _terms(weights[before + 1 + length : -1])


def _terms(weights: NDArray[np.float64]) -> tuple[_Term, ...]:
    most = max(1, int((weights != 0).sum(axis=1).max(initial=0)))
    order = np.argsort(weights == 0, axis=1, kind="stable")[:, :most]
    chosen = np.take_along_axis(weights, order, axis=1)
    columns = zip(order.T, chosen.T, strict=True)
    return tuple(_Term(np.ascontiguousarray(p), np.ascontiguousarray(w), bool((w == 1).all())) for p, w in columns)
