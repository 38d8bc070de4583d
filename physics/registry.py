"""All mechanisms, in the order in which they are shown. Adding one here is all that the rest of the program needs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from physics import craze, cutpaste, dent, fracture, perlin, pitting, poisson, warp
from physics.mechanism import Mechanism

__all__ = ["MECHANISMS"]

MECHANISMS: Mapping[str, Mechanism[Any, Any]] = MappingProxyType(
    {
        m.name: m
        for m in (
            fracture.MECHANISM,
            craze.MECHANISM,
            pitting.MECHANISM,
            dent.MECHANISM,
            warp.MECHANISM,
            # not physical: the reference generators
            cutpaste.MECHANISM,
            poisson.MECHANISM,
            perlin.MECHANISM,
        )
    }
)
