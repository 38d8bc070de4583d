"""What helped, as a sampling policy for the next corpus.

A learned weight of mean 1 says how often a sample would be drawn if it could be; its mean over a mechanism, over a
quarter of the mechanism's areas or severities, or over a place is the factor for all of those. Means over few samples
are drawn towards 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from manifests.policy import QUARTERS, MechanismPolicy, PlacePolicy, SamplingPolicy, at_border
from manifests.records import SampleRecord

__all__ = ["sampling_policy"]

_PRIOR = 20  # samples of weight 1 that every mean starts from
_LEAST, _MOST = 0.1, 10.0


def sampling_policy(records: Sequence[SampleRecord], weights: NDArray[np.floating], *, corpus: str) -> SamplingPolicy:
    """Factors by mechanism, quarter of area, quarter of severity, and place.

    Parameters
    ----------
    records : sequence of SampleRecord
        Samples that were trained on.
    weights : (N,) float array
        Their weights, of any mean.
    corpus : str
        Its name.
    """
    relative = np.asarray(weights, dtype=np.float64) / float(np.mean(weights))
    mechanisms = np.array([record.mechanism for record in records])
    found = {}
    for name in sorted(set(mechanisms.tolist())):
        chosen = np.flatnonzero(mechanisms == name)
        own = [records[int(k)] for k in chosen]
        inside = relative[chosen] / relative[chosen].mean()  # a quarter's factor tells it from the others alone
        free = np.array([not record.from_edge for record in own])  # the others lie where the part ends
        border = np.array([at_border(record.anchor_y, record.anchor_x) for record in own])
        found[name] = MechanismPolicy(
            factor=_factor(relative[chosen]),
            area=_by_quarter(own, inside, lambda record: record.asked_area),
            severity=_by_quarter(own, inside, lambda record: record.asked_severity),
            place=PlacePolicy(border=_factor(inside[border & free]), inside=_factor(inside[~border & free])),
        )
    return SamplingPolicy(corpus=corpus, samples=len(records), mechanisms=found)


def _by_quarter(
    records: Sequence[SampleRecord], weights: NDArray[np.float64], quantity: Callable[[SampleRecord], float]
) -> tuple[float, float, float, float]:
    order = np.argsort([quantity(record) for record in records], kind="stable")
    a, b, c, d = (_factor(weights[part]) for part in np.array_split(order, QUARTERS))
    return a, b, c, d


def _factor(weights: NDArray[np.float64]) -> float:
    mean = (weights.sum() + _PRIOR) / (len(weights) + _PRIOR)
    return round(float(np.clip(mean, _LEAST, _MOST)), 4)
