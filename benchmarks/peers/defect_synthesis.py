"""The package ``defect-synthesis`` from PyPI: its cracks and pits, as shipped and tuned to the real sizes.

It draws from the global generators of Python and NumPy, which are seeded for each call and put back as they were.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import defect_synthesis
import numpy as np

from benchmarks.peers.painter import Painted, Painter, Picture
from benchmarks.peers.target import Masks, Peer, Target

__all__ = ["CRACKS", "CRACKS_AS_SHIPPED", "PAINTED", "PITS", "PITS_AS_SHIPPED", "draw_cracks", "draw_pits", "paint"]

_GENERATORS = {"crack": defect_synthesis.CrackGenerator, "pit": defect_synthesis.PittingGenerator}

Settings = Mapping[str, object]


@contextmanager
def _seeded(rng: np.random.Generator) -> Iterator[None]:
    seed = int(rng.integers(2**31))
    before = random.getstate(), np.random.get_state()  # noqa: NPY002 - the package knows no other
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002


def _defect(kind: str, settings: Settings, picture: Picture) -> Painted:
    """A defect on a picture (S, S, 3), drawn again where there is none."""
    generator = _GENERATORS[kind](**settings)
    while not (result := generator.apply(picture)).has_defect:
        pass
    return Painted(result.image, result.anomaly_mask > 0)


def _masks(kind: str, rng: np.random.Generator, count: int, side: int, settings: Settings) -> Masks:
    blank = np.full((side, side, 3), 128, np.uint8)
    with _seeded(rng):
        return [_defect(kind, settings, blank).mask for _ in range(count)]


def _crack_settings(target: Target, side: int, roughness: float, branch_probability: float) -> Settings:
    return {
        "base_length_range": tuple(max(8, round(x * side)) for x in target.length),
        "base_width_range": tuple(max(1, round(x * side)) for x in target.width),
        "roughness": roughness,
        "branch_probability": branch_probability,
    }


def _pit_settings(target: Target, side: int, most: int, spread: float) -> Settings:
    middle = (1 + most) / 2
    radius = tuple(max(1, round(float(np.sqrt(x / np.pi / middle)) * side)) for x in target.area)
    return {
        "cluster_size_range": (1, most),
        "pit_radius_range": radius,
        "spread_radius": max(1, round(spread * sum(radius) / 2)),
    }


def draw_cracks(
    target: Target, rng: np.random.Generator, count: int, side: int, *, roughness: float, branch_probability: float
) -> Masks:
    """`CrackGenerator` with the real lengths and widths, and the given raggedness and branching."""
    return _masks("crack", rng, count, side, _crack_settings(target, side, roughness, branch_probability))


def draw_pits(target: Target, rng: np.random.Generator, count: int, side: int, *, most: int, spread: float) -> Masks:
    """`PittingGenerator` with the real areas: up to ``most`` discs, ``spread`` mean radii apart."""
    return _masks("pit", rng, count, side, _pit_settings(target, side, most, spread))


# as `benchmarks.realism` tuned them on the training half; mechanisms of ours by the generator that is meant for them
_CRACK_TUNED = (1.0, 0.0)
_PIT_TUNED = (4, 1.0)
_CRACK_KINDS = ("crack", "fracture", "craze")


def paint(
    pictures: Sequence[Picture], kinds: Sequence[str], targets: dict[str, Target], rng: np.random.Generator
) -> list[Painted]:
    """One crack or cluster of pits on each picture, by the generators of the package, with the real sizes."""
    side = pictures[0].shape[0]
    with _seeded(rng):
        return [
            _painted(picture, *_tuned(kind, targets[kind], side)) for picture, kind in zip(pictures, kinds, strict=True)
        ]


def _tuned(kind: str, target: Target, side: int) -> tuple[str, Settings]:
    if kind in _CRACK_KINDS:
        return "crack", _crack_settings(target, side, *_CRACK_TUNED)
    return "pit", _pit_settings(target, side, *_PIT_TUNED)


def _painted(picture: Picture, kind: str, settings: Settings) -> Painted:
    """A grey picture is given in three equal channels and taken back as their mean."""
    made = _defect(kind, settings, np.array(np.broadcast_to(picture, (*picture.shape[:2], 3))))
    if picture.shape[2] == 3:
        return made
    return Painted(np.round(made.image.mean(axis=-1, keepdims=True)).astype(np.uint8), made.mask)


def _crack_as_shipped(target: Target, rng: np.random.Generator, count: int, side: int) -> Masks:
    return _masks("crack", rng, count, side, {})


def _pits_as_shipped(target: Target, rng: np.random.Generator, count: int, side: int) -> Masks:
    return _masks("pit", rng, count, side, {})


CRACKS = Peer(
    "defect-synthesis, tuned",
    draw_cracks,
    [{"roughness": r, "branch_probability": b} for r in (0.0, 0.5, 1.0, 2.0) for b in (0.0, 0.02, 0.1)],
)
CRACKS_AS_SHIPPED = Peer("defect-synthesis, as shipped", _crack_as_shipped)
PITS = Peer(
    "defect-synthesis, tuned", draw_pits, [{"most": m, "spread": s} for m in (1, 2, 4) for s in (1.0, 2.0, 5.0)]
)
PITS_AS_SHIPPED = Peer("defect-synthesis, as shipped", _pits_as_shipped)
PAINTED = Painter("defect-synthesis", paint)
