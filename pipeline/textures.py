"""Foreign textures: windows of pictures that lie inside the installed scikit-image, with random changes of grey levels.

They stand in for a set of textures that would have to be downloaded.

References
----------
Zavrtanik, Kristan & Skocaj, "DRAEM", ICCV (2021), section 3.2: three random changes of each texture.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from skimage import exposure

from pipeline.sources.builtin import bundled_photograph

__all__ = ["random_texture"]

_Floats = NDArray[np.float64]

_PICTURES = (
    "brick.png",
    "grass.png",
    "gravel.png",
    "coins.png",
    "moon.png",
    "page.png",
    "text.png",
    "ihc.png",
    "coffee.png",
    "chelsea.png",
    "rocket.jpg",
    "astronaut.png",
)
_CHANGES = 3


@lru_cache(maxsize=len(_PICTURES))
def _picture(name: str) -> NDArray[np.uint8]:
    """A picture (H, W, 3), 0..255."""
    pixels = bundled_photograph(name)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)) if pixels.shape[2] == 1 else pixels


def _levels(x: _Floats, rng: np.random.Generator) -> _Floats:
    return np.asarray(np.floor(x * 255 / (step := 2.0 ** rng.integers(1, 7))) * step / 255)


_GREY_CHANGES: tuple[Callable[[_Floats, np.random.Generator], _Floats], ...] = (
    lambda x, rng: x ** rng.uniform(0.5, 2.0),
    lambda x, rng: x * rng.uniform(0.8, 1.2) + rng.uniform(-0.12, 0.12),
    lambda x, rng: np.where(x > rng.uniform(0.13, 0.5), 1 - x, x),  # solarised
    _levels,
    lambda x, rng: 1 - x,
    lambda x, rng: (x - x.min()) / max(float(np.ptp(x)), 1e-6),
    lambda x, rng: np.stack([exposure.equalize_hist(x[..., c]) for c in range(x.shape[-1])], axis=-1),
)


def random_texture(shape: tuple[int, int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """A window (H, W, C) of a random picture, H = W, C in {1, 3}, turned and changed in its grey levels, 0..1.

    A picture smaller than that is repeated.
    """
    height, width, channels = shape
    picture = _picture(_PICTURES[rng.integers(len(_PICTURES))])
    rows, columns = (
        (int(rng.integers(-(-wanted // there) * there - wanted + 1)) + np.arange(wanted)) % there
        for wanted, there in zip((height, width), picture.shape[:2], strict=True)
    )
    out = np.rot90(picture[np.ix_(rows, columns)] / 255.0, int(rng.integers(4))).copy()
    for k in rng.choice(len(_GREY_CHANGES), size=_CHANGES, replace=False):
        out = np.clip(_GREY_CHANGES[k](out, rng), 0, 1)
    return np.asarray(out if channels == 3 else out.mean(axis=-1, keepdims=True))
