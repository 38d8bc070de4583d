"""DRAEM's anomalies: a thresholded Perlin mask, filled with an unrelated texture that is partly transparent.

``I_a = (1 - M) I + (1 - beta) M A + beta M I``, beta uniform in 0..0.8, A a texture with three random changes of grey
levels. The blob has an area of the real range, which the method as published does not know. Textures are those of
`pipeline.textures`, in place of the describable-textures set.

References
----------
Zavrtanik, Kristan & Skocaj, "DRAEM", ICCV 2021: equation 1 and section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.blobs import draw_perlin
from benchmarks.peers.painter import Painted, Painter, Picture
from benchmarks.peers.target import Target
from pipeline.textures import random_texture

__all__ = ["DRAEM", "blend_texture"]

_MOST_OPAQUE = 0.8


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
