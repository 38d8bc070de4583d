"""What a peer is told of the real masks: the middle range of sizes, as a user would measure them.

A peer is a function ``draw(target, rng, count, side, **settings) -> list of (side, side) bool masks`` with a
few combinations of ``settings``, of which the benchmark takes the one that is nearest to the real training half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Masks", "Peer", "Target", "log_uniform"]

Masks = list[NDArray[np.bool_]]
Range = tuple[float, float]


@dataclass(frozen=True)
class Target:
    """Tenth and ninetieth percentile of the real training half, in sides of the picture (area: its share)."""

    area: Range
    length: Range
    width: Range


@dataclass(frozen=True)
class Peer:
    """A generator of masks and the settings among which it is tuned."""

    name: str
    draw: Callable[..., Masks]
    choices: Sequence[Mapping[str, object]] = ({},)


def log_uniform(rng: np.random.Generator, bounds: Range) -> float:
    """One value between the bounds, each factor equally often."""
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))
