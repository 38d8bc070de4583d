"""Masks of real defects, by the part that they were photographed on, and halves that share no part.

The magnetic-tile set (Huang, Qiu, Yuan 2018) holds each tile in up to six exposures, ``exp<e>_num_<n>``, cropped and
labelled anew each time: 38 masks of cracks are 9 cracks. Halves drawn by picture would share cracks and lie too near
each other, so halves are drawn by tile. Two pictures are of one tile if they were taken in a row (their numbers are
near) and the defect lies at the same place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Halves", "RealMask", "by_tile", "halves", "load_masks"]

_IN_A_ROW = 1500  # numbers farther apart belong to different tiles
_SAME_PLACE = 0.15  # distance of the middles of two masks, in sides


@dataclass(frozen=True)
class RealMask:
    """A mask (h, w), its file's name and the number of its picture."""

    name: str
    number: int
    mask: NDArray[np.bool_]

    @property
    def middle(self) -> NDArray[np.float64]:
        """Middle of the mask, in heights and widths of the picture."""
        return np.asarray(np.argwhere(self.mask).mean(axis=0) / self.mask.shape)


@dataclass(frozen=True)
class Halves:
    """Numbers of the tiles on which parameters are chosen, and of those on which they are judged."""

    train: tuple[int, ...]
    test: tuple[int, ...]


def load_masks(folder: Path) -> list[RealMask]:
    """All masks of a folder that are not empty, in order of number.

    Raises
    ------
    FileNotFoundError
        There is none.
    """
    found = []
    for path in sorted(folder.glob("*.png")):
        mask = np.asarray(Image.open(path).convert("L")) > 127
        number = re.search(r"num_(\d+)", path.name)
        if mask.any():
            found.append(RealMask(path.stem, int(number[1]) if number else 10**9 + 10**6 * len(found), mask))
    if not found:
        raise FileNotFoundError(f"{folder}: expected masks (*.png), got none; give the folder that holds ground_truth")
    return sorted(found, key=lambda real: (real.number, real.name))


def by_tile(masks: Sequence[RealMask]) -> list[list[RealMask]]:
    """The masks in groups of one tile each."""
    tiles: list[list[RealMask]] = []
    for real in masks:
        last = tiles[-1][-1] if tiles else None
        if (
            last is not None
            and real.number - last.number < _IN_A_ROW
            and float(np.linalg.norm(real.middle - last.middle)) < _SAME_PLACE
        ):
            tiles[-1].append(real)
        else:
            tiles.append([real])
    return tiles


def halves(tiles: int, rng: np.random.Generator) -> Halves:
    """Tiles at random in two halves; of an odd number, the half that judges has one more."""
    order = [int(k) for k in rng.permutation(tiles)]
    return Halves(train=tuple(sorted(order[: tiles // 2])), test=tuple(sorted(order[tiles // 2 :])))
