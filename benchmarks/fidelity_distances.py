"""Two-sample distances between real and made features that respect how samples hang together.

Several exposures show one tile and several samples share one photograph, so every group (tile, photograph) has one vote
and pairs within a group are left out of the mean distance within a sample. With weights w, v and a table D of distances
or kernel values,

    A = sum w_i v_j D_ij,    B_w = sum' w_i w_j D_ij / sum' w_i w_j   (sum' over pairs of different groups)

the energy distance is 2 A - B_w - B_v and the squared maximum mean discrepancy B_w + B_v - 2 A (for the kernel
(x.y / d + 1)^3: KID). Both are 0 on average for samples of one distribution, and can come out negative. The *multiple*
says how much farther than two samples of real tiles: between n and m tiles of one distribution the plain (V-)statistic
is on average B (1/n + 1/m) for a distance and (K - B)(1/n + 1/m) for a kernel, K its mean at equal arguments.

References
----------
Szekely & Rizzo, "Energy statistics", J. Statist. Plann. Inference 143 (2013).
Gretton et al., "A kernel two-sample test", JMLR 13 (2012), lemma 6; Binkowski et al., "Demystifying MMD GANs", ICLR
2018: KID.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

__all__ = ["Interval", "Kind", "Table", "group_weights", "interval", "resample_weights", "table"]

Floats = NDArray[np.float64]
Kind = Literal["energy", "kid"]


@dataclass(frozen=True)
class Interval:
    """A figure with the interval of 90 % of resamples."""

    value: float
    low: float
    high: float

    @property
    def sure(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def interval(value: float, resampled: Sequence[float] | Floats) -> Interval:
    """Basic percentile interval, centred so that the bias of resampling falls out."""
    spread = np.asarray(resampled) - np.mean(resampled)
    return Interval(value, value + float(np.quantile(spread, 0.05)), value + float(np.quantile(spread, 0.95)))


def group_weights(groups: Sequence[str]) -> Floats:
    """Weights (N,) that give every group one vote; they add up to 1."""
    _, number, count = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    return np.asarray(1.0 / count[number] / len(count))


def resample_weights(groups: Sequence[str], rng: np.random.Generator) -> Floats:
    """Weights (N,) after groups are drawn again with replacement, at least two different ones."""
    names, number, count = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    while True:
        votes = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        if (votes > 0).sum() >= min(2, len(names)):
            return np.asarray(votes[number] / count[number] / len(names))


@dataclass(frozen=True)
class Table:
    """Distances or kernel values between real and made features.

    Attributes
    ----------
    across : (N, M) array
        Real against made.
    real, made : (N, N), (M, M) array
        Within.
    real_apart, made_apart : the same, bool
        Pairs of different groups.
    real_self : (N,) array
        Values at equal arguments.
    kind : {"energy", "kid"}
    """

    across: Floats
    real: Floats
    made: Floats
    real_apart: Floats
    made_apart: Floats
    real_self: Floats
    kind: Kind

    def excess(self, w: Floats, v: Floats) -> float:
        """Unbiased distance with these weights; larger is farther."""
        a, b = float(w @ self.across @ v), self.within_real(w) + _within(self.made, self.made_apart, v)
        return 2 * a - b if self.kind == "energy" else b - 2 * a

    def within_real(self, w: Floats) -> float:
        """Mean over pairs of different tiles."""
        return _within(self.real, self.real_apart, w)

    def yardstick(self, w: Floats, tiles: int) -> float:
        """Mean plain statistic between two samples of ``tiles`` real tiles each, all of one distribution."""
        within = self.within_real(w)
        spread = within if self.kind == "energy" else float(w @ self.real_self) / float(w.sum()) - within
        return 2 * spread / tiles


def table(real: Floats, made: Floats, real_groups: Sequence[str], made_groups: Sequence[str], kind: Kind) -> Table:
    """Table of features (N, D), (M, D), which were standardised before.

    Raises
    ------
    ValueError
        The features have different numbers of columns.
    """
    if real.ndim != 2 or made.ndim != 2 or real.shape[1] != made.shape[1]:
        raise ValueError(f"expected (N, D) and (M, D), got {real.shape} and {made.shape}")
    compare = _energy if kind == "energy" else _kernel
    rg, mg = np.asarray(real_groups), np.asarray(made_groups)
    within_real, within_made = compare(real, real), compare(made, made)
    return Table(
        across=compare(real, made),
        real=within_real,
        made=within_made,
        real_apart=(rg[:, None] != rg[None]).astype(np.float64),
        made_apart=(mg[:, None] != mg[None]).astype(np.float64),
        real_self=np.diag(within_real),
        kind=kind,
    )


def _energy(x: Floats, y: Floats) -> Floats:
    return np.asarray(cdist(x, y) / np.sqrt(x.shape[1]))


def _kernel(x: Floats, y: Floats) -> Floats:
    return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)


def _within(values: Floats, apart: Floats, w: Floats) -> float:
    pairs = apart * np.outer(w, w)
    total = float(pairs.sum())
    return float((pairs * values).sum() / total) if total > 0 else 0.0
