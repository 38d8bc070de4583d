"""What a generator of whole pictures is: it is shown a normal picture, others of the same sort, and the real sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.target import Target

__all__ = ["Painted", "Painter", "Picture"]

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Painted:
    """A picture (S, S, C) with a defect, and the mask (S, S) that its generator gives out."""

    image: Picture
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Painter:
    """A generator of pictures: ``paint(pictures, kinds, targets, rng)``, one defect on each picture.

    ``kinds`` names the defect wanted on each picture, ``targets`` the real sizes by kind.
    """

    name: str
    paint: Callable[[Sequence[Picture], Sequence[str], dict[str, Target], np.random.Generator], list[Painted]]
