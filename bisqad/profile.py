"""What maps of normal pictures show at each distance from the picture's border, and maps measured by that.

Near its border a part ends, light falls off and focus is lost: normal pictures differ there more than inside. Without
that being known, their rims are the first that any detector calls abnormal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["BorderProfile"]

_LEAST_SPREAD = 0.01  # of all cells'
_RINGS = 13  # cells from the border from which on all is one


@dataclass(frozen=True)
class BorderProfile:
    """Mean and spread of normal cells by their distance from the border, in cells; the last holds for all farther in.

    Attributes
    ----------
    mean, spread : tuple of float
    """

    mean: tuple[float, ...]
    spread: tuple[float, ...]

    @classmethod
    def of(cls, maps: Sequence[Tensor]) -> BorderProfile:
        """Profile of maps (h, w) of normal pictures; rings without a cell are as the one before."""
        values = torch.cat([one.flatten() for one in maps]).double()
        rings = torch.cat([_rings(one).flatten() for one in maps])
        counts = torch.bincount(rings, minlength=_RINGS)
        mean = torch.bincount(rings, values, minlength=_RINGS) / counts.clamp(min=1)
        apart = torch.bincount(rings, (values - mean[rings]).square(), minlength=_RINGS) / counts.clamp(min=1)
        deepest = int(rings.max())
        kept = torch.arange(_RINGS).clamp(max=deepest)
        least = max(float(values.std(correction=0)) * _LEAST_SPREAD, 1e-6)  # few cells tell little of a spread
        return cls(tuple(mean[kept].tolist()), tuple(apart[kept].sqrt().clamp(min=least).tolist()))

    def standardised(self, values: Tensor) -> Tensor:
        """A map (h, w) in spreads of normal cells, from their mean."""
        rings = _rings(values)
        mean, spread = (torch.tensor(part, dtype=values.dtype) for part in (self.mean, self.spread))
        return (values - mean[rings]) / spread[rings]


def _rings(values: Tensor) -> Tensor:
    """Distance (h, w) of each cell from the border: 0 at it, at most the last ring."""
    rows, columns = (torch.minimum(torch.arange(n), n - 1 - torch.arange(n)) for n in values.shape)
    return torch.minimum(rows[:, None], columns[None]).clamp(max=_RINGS - 1)
