"""Random streams: one independent generator for every (stage, index, attempt).

A stream is named by its position, never by the order in which work happens to run, so a sample is the
same with one worker or sixteen, resumed or not. Seed 0 is a seed like any other.

References
----------
NumPy, "Parallel random number generation": ``SeedSequence(entropy, spawn_key=...)``.
"""

from __future__ import annotations

import zlib
from enum import IntEnum

import numpy as np

__all__ = ["Stage", "name_key", "seed_path", "stream"]


class Stage(IntEnum):
    """First element of a spawn key. The numbers are part of the corpus contract: never renumber."""

    BUILTIN = 1
    PLAN = 2
    BANK = 3
    SAMPLE = 4
    ROUGHNESS = 5
    NOISE = 6


def name_key(name: str) -> int:
    """Position of a name in a stream: the same whatever other names there are."""
    return zlib.crc32(name.encode())


def stream(seed: int, stage: Stage, *position: int) -> np.random.Generator:
    """Generator for one place in one stage.

    Parameters
    ----------
    seed : int
        The recipe's seed, >= 0.
    stage : Stage
        Which stage draws.
    *position : int
        Index within the stage, then the attempt where there is one; each >= 0.

    Returns
    -------
    numpy.random.Generator
        PCG64, independent of every other stream of the same seed.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(int(stage), *position))
    return np.random.Generator(np.random.PCG64(sequence))


def seed_path(seed: int, stage: Stage, *position: int) -> str:
    """The stream's name as kept in the manifest, for example ``"7/SAMPLE/12/0"``."""
    return "/".join([str(seed), stage.name, *(str(p) for p in position)])
