"""A sampling policy: what the next corpus should hold more of, learned by a trainer from the last one.

Every factor multiplies how often something is drawn; 1 changes nothing. Areas and severities are told by quarters of
the recipe's own distribution of each mechanism, so that a policy keeps its sense when the recipe's ranges change.

JSON, shortened::

    {"schema_version": 1, "corpus": "demo", "samples": 1490,
     "mechanisms": {"fracture": {"factor": 1.31, "area": [0.8, 1.0, 1.1, 1.1], "severity": [1.0, 1.0, 0.9, 1.1],
                                 "place": {"border": 0.9, "inside": 1.1}}, "dent": {"factor": 0.72, …}}}

A distribution whose quarters have factors ``f`` is drawn through the quantile function Q of the recipe's own: a uniform
share u goes to Q(G(u)), with G the piecewise linear inverse of the sums of f / sum(f) over the quarters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, ValidationError

from manifests.config import Section, explain_validation
from manifests.distributions import Distribution
from manifests.errors import ConfigError

__all__ = [
    "BORDER_SHARE",
    "QUARTERS",
    "MechanismPolicy",
    "PlacePolicy",
    "QuarteredDistribution",
    "Quarters",
    "SamplingPolicy",
    "at_border",
    "read_policy",
    "share_through",
]

QUARTERS = 4
BORDER_SHARE = (
    0.2  # a defect whose anchor is nearer to the picture's border than this share of its side is at the border
)

Factor = Annotated[float, Field(ge=0.05, le=20)]
Quarters = tuple[Factor, Factor, Factor, Factor]
_EVEN = (1.0, 1.0, 1.0, 1.0)


class PlacePolicy(Section):
    """How often the border of a picture and its inside are drawn."""

    border: Factor = Field(1.0, description=f"factor of anchors nearer to the border than {BORDER_SHARE} of the side")
    inside: Factor = Field(1.0, description="factor of all other anchors")

    def acceptance(self, y: float, x: float) -> float:
        """Share of the anchors drawn at (y, x), in sides of the picture, that are kept; 1 for the favoured place."""
        factor = self.border if at_border(y, x) else self.inside
        return factor / max(self.border, self.inside)


class MechanismPolicy(Section):
    """Factors of one mechanism."""

    factor: Factor = Field(1.0, description="factor of the mechanism's weight")
    area: Quarters = Field(_EVEN, description="factors of the quarters of its areas, the smallest first")
    severity: Quarters = Field(_EVEN, description="factors of the quarters of its severities, the least first")
    place: PlacePolicy = PlacePolicy()


class SamplingPolicy(Section):
    """Factors by mechanism; one that is not named keeps its weight.

    Attributes
    ----------
    corpus : str
        Name of the corpus that was learned from.
    samples : int
        How many of its samples were.
    mechanisms : dict of str to MechanismPolicy
        By name.
    """

    schema_version: Literal[1] = Field(1, description="of this format")
    corpus: str = Field(description="name of the corpus that was learned from")
    samples: int = Field(ge=0, description="how many of its samples were")
    mechanisms: dict[str, MechanismPolicy] = Field(description="factors by mechanism; 1 where none is named")

    def factors(self, names: Iterable[str]) -> dict[str, float]:
        """Factor of each of these mechanisms' weights; all 1 where they are equal, since shares are relative."""
        found = {name: self.of(name).factor for name in names}
        return dict.fromkeys(found, 1.0) if len(set(found.values())) == 1 else found

    def of(self, mechanism: str) -> MechanismPolicy:
        """Factors of a mechanism, named or not."""
        return self.mechanisms.get(mechanism, MechanismPolicy())


@dataclass(frozen=True)
class QuarteredDistribution:
    """A distribution whose quarters come more or less often than they did; bounds and unit are the same."""

    base: Distribution
    quarters: Quarters = _EVEN

    def quantile(self, share: float) -> float:
        """Value below which this share (0..1) of draws lie."""
        return self.base.quantile(share_through(self.quarters, share))

    def draw(self, rng: np.random.Generator) -> float:
        """One value, from one uniform variate whatever the factors."""
        return self.quantile(float(rng.random()))

    def cdf(self, values: ArrayLike) -> NDArray[np.float64]:
        """Share of draws that are at most each value, same shape."""
        share = self.base.cdf(values)
        if _even(self.quarters):
            return share
        return np.asarray(np.interp(share, np.linspace(0, 1, QUARTERS + 1), _bounds(self.quarters)), dtype=np.float64)


def share_through(quarters: Quarters, share: float) -> float:
    """Share (0..1) of the recipe's distribution that a share of the policy's stands for; rises from 0 to 1.

    Equal factors give the share back, bit for bit.
    """
    if _even(quarters):
        return share
    bounds = _bounds(quarters)
    k = next((k for k in range(QUARTERS - 1) if share < bounds[k + 1]), QUARTERS - 1)
    return (k + (share - bounds[k]) / (bounds[k + 1] - bounds[k])) / QUARTERS


def _even(quarters: Quarters) -> bool:
    return len(set(quarters)) == 1


def _bounds(quarters: Quarters) -> list[float]:
    """Where the quarters end once they have their factors, from 0 to 1 exactly."""
    sums = list(accumulate(quarters))
    return [0.0, *(part / sums[-1] for part in sums)]


def at_border(y: float, x: float) -> bool:
    """Whether an anchor, in sides of the picture, is at the picture's border."""
    return min(y, x, 1 - y, 1 - x) < BORDER_SHARE


def read_policy(path: Path) -> SamplingPolicy:
    """A policy from its file.

    Raises
    ------
    ConfigError
        The file cannot be read, or is no policy.
    """
    try:
        return SamplingPolicy.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"policy {path}: cannot be read ({error.strerror}); `bisqad train` writes one") from None
    except ValidationError as error:
        raise ConfigError(f"policy {path}: {explain_validation(error, SamplingPolicy)}") from None
