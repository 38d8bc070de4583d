"""Foreign material: where a reference generator takes it from, and how it lies on the window of a defect.

A patch comes from elsewhere on the same photograph, pixel by pixel; a clone from another photograph of the sample's
group, at another size; a blend is a texture of `pipeline.textures`. All is drawn from the sample's own stream.

References
----------
Li, Sohn, Yoon & Pfister, "CutPaste", CVPR (2021): jitter of a patch.
Schlueter, Tan, Hou & Kainz, "Natural synthetic anomalies", ECCV (2022): sizes of a clone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from manifests.corpus import Picture
from manifests.fields import ForeignKind
from physics.placement import Window
from pipeline.textures import random_texture

__all__ = ["Donor", "Material", "covered", "draw_material"]

_JITTER = 0.1  # of brightness, contrast and saturation of a patch, either way
_RESIZED = (0.7, 1.3)  # size of a clone / on its photograph
_PLACES = 32  # drawn to find one that lies wholly on the part
_RIM_PX = 1  # a clone's gradients reach so far beyond its outline
_COVERED = 0.5  # share from which on a pixel is replaced as a whole


@dataclass(frozen=True)
class Donor:
    """A photograph (S, S, C) that material is taken from, and where the part is on it, (S, S) bool."""

    photograph: Picture
    foreground: NDArray[np.bool_]


@dataclass(frozen=True)
class Material:
    """``pixels`` (W, W, C) float32, 0..1, as they are to lie on a window, and factors ``jitter`` (3,); see
    `refine.foreign`.
    """

    kind: ForeignKind
    pixels: NDArray[np.float32]
    jitter: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class _Box:
    """Rows and columns of a window, half open, that are covered."""

    top: int
    left: int
    height: int
    width: int


def covered(kind: ForeignKind, fields: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The fields, of which ``cover`` (W, W) is 0 or 1 unless the material shines through."""
    if kind == "blend":
        return dict(fields)
    return {**fields, "cover": (fields["cover"] >= _COVERED).astype(np.float32)}


def draw_material(
    kind: ForeignKind,
    rng: np.random.Generator,
    cover: NDArray[np.float32],
    window: Window,
    donor: Donor | None,
    *,
    channels: int,
) -> Material:
    """What lies on a window under its cover.

    Parameters
    ----------
    kind : {"patch", "clone", "blend"}
        How it will be put in.
    rng : numpy.random.Generator
        The sample's stream.
    cover : (W, W) float32
        Where it lies.
    window : Window
        Where the window lies on the picture.
    donor : Donor, optional
        What a patch or a clone is taken from.
    channels : int
        Of the picture, 1 or 3.
    """
    if donor is None:
        return Material(kind, random_texture((window.side, window.side, channels), rng).astype(np.float32))
    box = _box(cover)
    if kind == "patch":
        brightness, contrast, saturation = rng.uniform(1 - _JITTER, 1 + _JITTER, size=3).tolist()
        pixels = _shifted(rng, box, window, donor)
        return Material(kind, pixels, (brightness, contrast, saturation))
    return Material(kind, _resized(rng, box, window.side, donor))


def _box(cover: NDArray[np.float32]) -> _Box:
    rows, columns = np.nonzero(cover.any(axis=1))[0], np.nonzero(cover.any(axis=0))[0]
    if not len(rows):
        return _Box(0, 0, 1, 1)
    return _Box(int(rows[0]), int(columns[0]), int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1)


def _shifted(rng: np.random.Generator, box: _Box, window: Window, donor: Donor) -> NDArray[np.float32]:
    """The photograph moved by whole pixels, so that another place of it lies under the cover."""
    size = donor.photograph.shape[0]
    own = (window.y + box.top, window.x + box.left)
    top, left = _place(rng, donor.foreground, (box.height, box.width), own)
    rows, columns = np.arange(window.side) - box.top + top, np.arange(window.side) - box.left + left
    moved = donor.photograph[np.ix_(rows.clip(0, size - 1), columns.clip(0, size - 1))]
    return _values(moved)


def _resized(rng: np.random.Generator, box: _Box, side: int, donor: Donor) -> NDArray[np.float32]:
    """A place of the photograph, larger or smaller than it is there, under the cover."""
    size = donor.photograph.shape[0]
    longest = max(box.height, box.width) + 2 * _RIM_PX
    step = min(1.0 / float(rng.uniform(*_RESIZED)), (size - 1) / longest)  # pixels there for one here
    height, width = (int(np.ceil(step * (n + 2 * _RIM_PX))) for n in (box.height, box.width))
    top, left = _place(rng, donor.foreground, (height, width), None)
    offset = np.array([top - step * (box.top - _RIM_PX), left - step * (box.left - _RIM_PX)])
    values = _values(donor.photograph)
    return np.stack(
        [
            ndimage.affine_transform(
                values[..., k], np.full(2, step), offset, output_shape=(side, side), order=1, mode="nearest"
            )
            for k in range(values.shape[2])
        ],
        axis=-1,
    )


def _place(
    rng: np.random.Generator, part: NDArray[np.bool_], sides: tuple[int, int], own: tuple[int, int] | None
) -> tuple[int, int]:
    """First row and column of a rectangle that lies on the part, and, if it can be, at least half beside its own place.

    Of some places drawn it is the first that is wholly so, or the one that comes nearest to it.
    """
    size = part.shape[0]
    height, width = (min(n, size) for n in sides)
    tops, lefts = rng.integers(size - height + 1, size=_PLACES), rng.integers(size - width + 1, size=_PLACES)
    best, found = -1.0, (0, 0)
    for top, left in zip(tops.tolist(), lefts.tolist(), strict=True):
        beside = own is None or 2 * abs(top - own[0]) >= height or 2 * abs(left - own[1]) >= width
        merit = float(part[top : top + height, left : left + width].mean()) + beside
        if merit > best:
            best, found = merit, (top, left)
        if merit == 2.0:
            break
    return found


def _values(pixels: Picture) -> NDArray[np.float32]:
    """Whole numbers as picture values, 0..1."""
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
