"""Distributions that a recipe asks for, drawn at plan time and compared with what came out.

>>> Distribution(kind="loguniform", low=0.001, high=0.1).quantile(0.5)
0.01
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Distribution", "DistributionKind"]

DistributionKind = Literal["uniform", "loguniform"]


class Distribution(BaseModel):
    """A bounded distribution of one positive quantity, in that quantity's unit."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: DistributionKind = Field("uniform", description="uniform, or loguniform: each factor of ten equally often")
    low: float = Field(gt=0, description="least value")
    high: float = Field(gt=0, description="largest value")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.high:
            raise ValueError(f"low must not be above high, got {self.low} and {self.high}")
        return self

    def quantile(self, share: float) -> float:
        """Value below which this share (0..1) of draws lie."""
        if self.kind == "loguniform":
            value = float(np.exp(np.log(self.low) + share * np.log(self.high / self.low)))
            return min(max(value, self.low), self.high)
        return self.low + share * (self.high - self.low)

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        return self.quantile(float(rng.random()))

    def cdf(self, values: ArrayLike) -> NDArray[np.float64]:
        """Share of draws that are at most each value, same shape."""
        x = np.clip(np.asarray(values, dtype=np.float64), self.low, self.high)
        if self.low == self.high:
            return np.asarray(np.asarray(values, dtype=np.float64) >= self.low, dtype=np.float64)
        if self.kind == "loguniform":
            return np.asarray(np.log(x / self.low) / np.log(self.high / self.low), dtype=np.float64)
        return np.asarray((x - self.low) / (self.high - self.low), dtype=np.float64)
