"""Wavelets: the transform beside PyWavelets, beside itself there and back, and beside what wavelets must do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pywt
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray

from benchmarks.verification.case import Case
from refine.wavelets import MODES, WAVELETS, Details, dwt2, idwt2, wavedec2

__all__ = ["cases"]

SHAPE = (33, 18)  # odd and even; shorter than the longest filters
FORMATS = {"float32": torch.float32, "float64": torch.float64}
CUT_OFF = "dmey"  # Meyer's wavelet has no end

_F64 = NDArray[np.float64]
_Errors = dict[str, dict[str, float]]  # by number format, by wavelet


def cases() -> list[Case]:
    """All cases; about ten seconds."""
    return [*_beside_pywavelets(), _meyer(), _blocks(), _moments(), _energy()]


def _pictures(shape: tuple[int, int] = SHAPE) -> _F64:
    return np.random.default_rng(6).standard_normal((2, 1, *shape))


def _arrays(low: torch.Tensor, details: Details) -> list[_F64]:
    bands = (low, details.horizontal, details.vertical, details.diagonal)
    return [np.asarray(band.double().numpy()) for band in bands]


def _largest(values: list[_F64]) -> float:
    return max(float(np.abs(v).max()) for v in values)


def _beside_pywavelets() -> list[Case]:
    apart, together, returned = [_Errors((name, {}) for name in FORMATS) for _ in range(3)]
    for name, dtype in FORMATS.items():
        for wavelet in WAVELETS:
            errors = [_one_level(wavelet, mode, dtype) for mode in MODES]
            apart[name][wavelet], together[name][wavelet], returned[name][wavelet] = np.max(errors, axis=0).tolist()
        del returned[name][CUT_OFF]
    statement = (
        f"The {len(WAVELETS)} discrete wavelets of PyWavelets {pywt.__version__} in its {len(MODES)} modes, two "
        f"pictures of {SHAPE[0]} x {SHAPE[1]} white noise, one level. Of each wavelet the worst mode, relative to the "
        "largest coefficient."
    )
    tables = f"All but {CUT_OFF}. In float64 what is left is in PyWavelets' tables: sym20 has ten digits."
    return [
        *_worst("wavelets: coefficients, pywt.dwt2", statement, apart, {"float32": 3e-6, "float64": 1e-14}),
        *_worst("wavelets: pictures, pywt.idwt2", statement, together, {"float32": 3e-6, "float64": 1e-14}),
        *_worst(
            "wavelets: perfect reconstruction", f"{statement} {tables}", returned, {"float32": 3e-6, "float64": 1e-10}
        ),
    ]


def _one_level(wavelet: str, mode: str, dtype: torch.dtype) -> tuple[float, float, float]:
    """Relative differences: coefficients and pictures made of them from PyWavelets', and the latter from the given."""
    given = torch.from_numpy(_pictures()).to(dtype)
    low, details = dwt2(given, wavelet=wavelet, mode=mode)
    back = idwt2(low, details, wavelet=wavelet, mode=mode).double().numpy()
    values = given.double().numpy()
    wanted_low, wanted = pywt.dwt2(values, wavelet, mode)
    wanted_back = pywt.idwt2((wanted_low, wanted), wavelet, mode)
    pairs = zip(_arrays(low, details), (wanted_low, *wanted), strict=True)
    gaps = [found - value for found, value in pairs]
    cropped = back[..., : SHAPE[0], : SHAPE[1]]
    scale = _largest([wanted_low, *wanted])
    return _largest(gaps) / scale, _largest([back - wanted_back]) / scale, _largest([cropped - values]) / scale


def _worst(title: str, statement: str, errors: _Errors, tolerances: dict[str, float]) -> list[Case]:
    """A case per number format, the first with a plot."""
    return [
        Case(
            f"{title}, {name}",
            f"{statement} Worst: {max(found, key=found.__getitem__)}.",
            "largest difference",
            0.0,
            max(found.values()),
            tolerances[name],
            absolute=True,
            plot=_by_family(title, errors) if number == 0 else None,
        )
        for number, (name, found) in enumerate(errors.items())
    ]


def _by_family(title: str, errors: _Errors) -> Callable[[Axes], None]:
    families = [family for family in pywt.families() if set(pywt.wavelist(family)) & set(WAVELETS)]

    def plot(axes: Axes) -> None:
        for (name, found), marker in zip(errors.items(), "ox", strict=True):
            points = [(k, found[w]) for k, f in enumerate(families) for w in pywt.wavelist(f) if w in found]
            places, values = np.array(points).T
            axes.semilogy(places, np.maximum(values, 1e-17), marker, ms=4, alpha=0.6, label=name)
        axes.set_xticks(range(len(families)), families)
        axes.set(ylabel="largest difference", title=title)
        axes.legend()

    return plot


def _meyer() -> Case:
    values = _pictures((64, 96))
    low, details = dwt2(torch.from_numpy(values), wavelet=CUT_OFF, mode="symmetric")
    ours = idwt2(low, details, wavelet=CUT_OFF, mode="symmetric").numpy()
    known = pywt.idwt2(pywt.dwt2(values, CUT_OFF, "symmetric"), CUT_OFF, "symmetric")
    return Case(
        "wavelets: Meyer's, cut off",
        "Meyer's wavelet goes on for ever: PyWavelets' filter of 102 taps inverts itself only so far, and ours as far. "
        "One level there and back.",
        "largest error; known: PyWavelets'",
        _largest([known - values]),
        _largest([ours - values]),
        1e-10,
    )


def _blocks() -> Case:
    values = _pictures((32, 48))
    low, _ = dwt2(torch.from_numpy(values), wavelet="haar", mode="zero")
    means = values.reshape(2, 1, 16, 2, 24, 2).mean(axis=(3, 5))
    return Case(
        "wavelets: Haar's approximation",
        "Twice the means of blocks of 2 x 2 pixels.",
        "largest difference",
        0.0,
        _largest([low.numpy() - 2 * means]),
        1e-14,
        absolute=True,
    )


def _moments() -> Case:
    orders = range(1, 9)
    degrees = range(9)
    left = np.array([[_detail_of_power(order, degree) for degree in degrees] for order in orders])

    def plot(axes: Axes) -> None:
        for order in (1, 2, 4, 8):
            axes.semilogy(degrees, np.maximum(left[order - 1], 1e-17), "o-", label=f"db{order}")
        axes.set(xlabel="degree of the polynomial", ylabel="largest detail inside", title="vanishing moments")
        axes.legend()

    vanishing = max(left[order - 1, :order].max() for order in orders)
    return Case(
        "wavelets: vanishing moments",
        "Daubechies' wavelet dbN sees no polynomial of degree below N: vertical details of x^degree, x from -1 to 1 "
        "over 96 pixels, where the filter does not reach the border. db1 to db8.",
        "largest detail, degree below N",
        0.0,
        float(vanishing),
        1e-14,
        absolute=True,
        plot=plot,
    )


def _detail_of_power(order: int, degree: int) -> float:
    values = np.broadcast_to(np.linspace(-1, 1, 96) ** degree, (1, 1, 32, 96))
    _, details = dwt2(torch.from_numpy(values.copy()), wavelet=f"db{order}", mode="symmetric")
    return float(details.vertical[..., order:-order].abs().max())


def _energy() -> Case:
    values = _pictures((64, 96))
    pyramid = wavedec2(torch.from_numpy(values), wavelet="db2", mode="periodization", levels=3)
    bands = [pyramid.approximation, *(band for d in pyramid.details for band in (d.horizontal, d.vertical, d.diagonal))]
    return Case(
        "wavelets: energy",
        "An orthogonal transform, db2, three levels, periodized, keeps the sum of squares.",
        "sum of squares",
        float(np.square(values).sum()),
        float(sum(band.square().sum() for band in bands)),
        1e-11,
    )
