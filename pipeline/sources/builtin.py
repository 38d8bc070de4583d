"""Embedded sources: windows of scikit-image's bundled photographs, and procedural surfaces.

Nothing is downloaded: the photographs are the ones that lie inside the installed scikit-image package. Each is
cut into windows that overlap their neighbours by up to half and are turned or mirrored, every window standing for
one normal part; pixels are therefore shared between pictures of these categories.
The surfaces are those of `pipeline.sources.procedural`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray

from manifests.config import SourceSpec
from manifests.pictures import DecodeError, decode, eight_bits
from pipeline.sources.procedural import IMAGES_PER_SURFACE, SURFACES, surface_image

__all__ = [
    "BUILTIN_CATEGORIES",
    "builtin_image",
    "builtin_licence",
    "builtin_size",
    "bundled_photograph",
    "scale_test_sources",
]

_BUNDLED_MAX_PIXELS: Final = 1_000_000
_CC0_SURFACE: Final = "CC0-1.0 (procedural surface made by this program)"


@dataclass(frozen=True)
class _Bundled:
    """A photograph inside scikit-image and how it is cut: windows (rows, columns) of one side, evenly spread."""

    file: str
    windows: tuple[int, int]
    side_px: int
    turn: bool  # quarter turns and mirrors; False keeps the photograph upright
    licence: str


_BUNDLED: Final[dict[str, _Bundled]] = {
    "brick": _Bundled("brick.png", (4, 4), 224, False, "CC0-1.0 (CC0Textures Bricks25, bundled with scikit-image)"),
    "grass": _Bundled("grass.png", (4, 4), 224, True, "CC0-1.0 (linolafett, Grass 01, bundled with scikit-image)"),
    "gravel": _Bundled("gravel.png", (4, 4), 224, True, "CC0-1.0 (CC0Textures Gravel04, bundled with scikit-image)"),
    "coins": _Bundled(
        "coins.png",
        (3, 4),
        148,
        False,
        "no known copyright restrictions (Brooklyn Museum, Greek coins from Pompeii, bundled with scikit-image)",
    ),
}

BUILTIN_CATEGORIES: Final[tuple[str, ...]] = tuple(sorted({*_BUNDLED, *SURFACES}))


def builtin_size(category: str) -> int:
    """How many pictures an embedded category has."""
    if category in _BUNDLED:
        rows, columns = _BUNDLED[category].windows
        return rows * columns
    return IMAGES_PER_SURFACE


def scale_test_sources() -> list[SourceSpec]:
    """30 categories, as many as the reference recipe has, to try its size without its photographs.

    They are the embedded ones, under three names: what comes of it tells of time, memory and disk, and trains nothing.
    """
    names = [(f"embedded_{k // len(BUILTIN_CATEGORIES) + 1}", k % len(BUILTIN_CATEGORIES)) for k in range(30)]
    return [
        SourceSpec(kind="builtin", name=name, categories=tuple(BUILTIN_CATEGORIES[k] for n, k in names if n == name))
        for name in dict.fromkeys(n for n, _ in names)
    ]


def builtin_licence(category: str) -> str:
    """Licence text of an embedded category."""
    return _BUNDLED[category].licence if category in _BUNDLED else _CC0_SURFACE


def builtin_image(category: str, k: int) -> NDArray[np.uint8]:
    """Picture k of an embedded category, at its own size.

    Parameters
    ----------
    category : str
        One of `BUILTIN_CATEGORIES`.
    k : int
        0 <= k < `builtin_size(category)`.

    Returns
    -------
    NDArray[np.uint8]
        (N, N, C), C in {1, 3}; N is 320 for surfaces and the window's side for photographs.

    Raises
    ------
    IndexError
        k is out of range.
    KeyError
        No such category.
    OSError
        The installed scikit-image does not hold the photograph.
    """
    if not 0 <= k < builtin_size(category):
        raise IndexError(f"{category} has pictures 0 to {builtin_size(category) - 1}, got {k}")
    if category in _BUNDLED:
        return _window(_BUNDLED[category], k)
    return surface_image(category, k)


def _window(bundled: _Bundled, k: int) -> NDArray[np.uint8]:
    whole = bundled_photograph(bundled.file)
    rows, columns = bundled.windows
    row, column = divmod(k, columns)
    top = row * (whole.shape[0] - bundled.side_px) // max(rows - 1, 1)
    left = column * (whole.shape[1] - bundled.side_px) // max(columns - 1, 1)
    window = whole[top : top + bundled.side_px, left : left + bundled.side_px]
    if bundled.turn:
        window = np.rot90(window, k % 4)
    # Neighbouring windows share a strip; the mirror keeps it from lying at the same place in both.
    return np.ascontiguousarray(window[:, ::-1] if (row + column) % 2 else window)


def bundled_photograph(file: str) -> NDArray[np.uint8]:
    """Pixels (H, W, C) of a photograph inside the scikit-image package."""
    data = files("skimage.data").joinpath(file).read_bytes()
    try:
        return eight_bits(decode(data, max_pixels=_BUNDLED_MAX_PIXELS).pixels)
    except DecodeError as error:
        raise OSError(f"{file} of the installed scikit-image: {error.detail}") from None
