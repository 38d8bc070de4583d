"""DRAEM's anomalies: a thresholded Perlin mask, filled with an unrelated texture that is partly transparent.

``I_a = (1 - M) I + (1 - beta) M A + beta M I``, beta uniform in 0..0.8, A a texture with three random changes of grey
levels. The blob has an area of the real range, which the method as published does not know. Textures are the pictures
that come with scikit-image, in place of the describable-textures set.

References
----------
Zavrtanik, Kristan & Skocaj, "DRAEM", ICCV 2021: equation 1 and section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from skimage import data, exposure

from benchmarks.peers.blobs import draw_perlin
from benchmarks.peers.painter import Painted, Painter, Picture
from benchmarks.peers.target import Target

__all__ = ["DRAEM", "blend_texture", "random_texture"]

Floats = NDArray[np.float64]

_MOST_OPAQUE = 0.8
_CHANGES = 3


@lru_cache(maxsize=1)
def _textures() -> tuple[Floats, ...]:
    """Pictures (H, W, 3) of 0..1."""
    found = [data.brick(), data.grass(), data.gravel(), data.coins(), data.moon(), data.page(), data.text()]
    found += [data.immunohistochemistry(), data.coffee(), data.chelsea(), data.rocket(), data.astronaut()]
    colour = [p if p.ndim == 3 else np.repeat(p[..., None], 3, axis=-1) for p in found]
    return tuple(p[..., :3].astype(np.float64) / 255.0 for p in colour)


def _levels(x: Floats, rng: np.random.Generator) -> Floats:
    return np.asarray(np.floor(x * 255 / (step := 2.0 ** rng.integers(1, 7))) * step / 255)


_GREY_CHANGES: tuple[Callable[[Floats, np.random.Generator], Floats], ...] = (
    lambda x, rng: x ** rng.uniform(0.5, 2.0),
    lambda x, rng: x * rng.uniform(0.8, 1.2) + rng.uniform(-0.12, 0.12),
    lambda x, rng: np.where(x > rng.uniform(0.13, 0.5), 1 - x, x),  # solarised
    _levels,
    lambda x, rng: 1 - x,
    lambda x, rng: (x - x.min()) / max(float(np.ptp(x)), 1e-6),
    lambda x, rng: np.stack([exposure.equalize_hist(x[..., c]) for c in range(x.shape[-1])], axis=-1),
)


def random_texture(shape: tuple[int, int, int], rng: np.random.Generator) -> Floats:
    """A window (H, W, C) of a random picture, turned and changed in its grey levels, 0..1."""
    height, width, channels = shape
    picture = _textures()[rng.integers(len(_textures()))]
    repeats = [-(-n // m) for n, m in zip((height, width), picture.shape, strict=False)]
    picture = np.tile(picture, (*repeats, 1))
    y, x = rng.integers(picture.shape[0] - height + 1), rng.integers(picture.shape[1] - width + 1)
    out = np.rot90(picture[y : y + height, x : x + width], int(rng.integers(4))).copy()
    for k in rng.choice(len(_GREY_CHANGES), size=_CHANGES, replace=False):
        out = np.clip(_GREY_CHANGES[k](out, rng), 0, 1)
    return np.asarray(out if channels == 3 else out.mean(axis=-1, keepdims=True))


def blend_texture(picture: Picture, mask: NDArray[np.bool_], rng: np.random.Generator) -> Painted:
    """The picture with a texture of random opacity in the mask."""
    beta = rng.uniform(0, _MOST_OPAQUE)
    texture = 255.0 * random_texture((*picture.shape[:2], picture.shape[2]), rng)
    mixed = np.round((1 - beta) * texture + beta * picture)
    return Painted(np.where(mask[..., None], mixed, picture).astype(np.uint8), mask)


def _blend_textures(
    pictures: Sequence[Picture], kinds: Sequence[str], targets: dict[str, Target], rng: np.random.Generator
) -> list[Painted]:
    found = []
    for picture, kind in zip(pictures, kinds, strict=True):
        (mask,) = draw_perlin(targets[kind], rng, 1, picture.shape[0], octaves=(2, 5), single=True)
        found.append(blend_texture(picture, mask, rng))
    return found


DRAEM = Painter("Perlin and texture (DRAEM)", _blend_textures)
