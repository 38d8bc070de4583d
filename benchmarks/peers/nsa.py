"""Natural synthetic anomalies: a resized patch of another normal picture, cloned in by a Poisson equation.

On the patch Omega every channel solves ``laplacian u = div v`` with u equal to the picture on the boundary; v is, pixel
pair by pixel pair, the stronger of the patch's and the picture's difference (mixed gradients).

References
----------
Schlueter, Tan, Hou & Kainz, "Natural synthetic anomalies for self-supervised anomaly detection", ECCV 2022.
Perez, Gangnet & Blake, "Poisson image editing", SIGGRAPH 2003: equations 4, 7 and 12.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, sparse
from scipy.sparse import linalg

from benchmarks.peers.painter import Painted, Painter, Picture
from benchmarks.peers.target import Target, log_uniform

__all__ = ["NSA", "clone_patch", "poisson_clone"]

Floats = NDArray[np.float64]

_TRIES = 12
_VISIBLE = 8  # grey levels by which the label of the method says changed
_RESIZED = (0.7, 1.3)
_NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def poisson_clone(picture: Floats, patch: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Solve the Poisson equation with mixed gradients.

    Parameters
    ----------
    picture, patch : (H, W, C) float array
        Both on the whole grid; of the patch only what lies in or beside Omega matters.
    inside : (H, W) bool array
        Omega; it may not touch the border of the grid.

    Returns
    -------
    (H, W, C) float array
        The picture outside, the solution inside.

    Raises
    ------
    ValueError
        Omega is empty or touches the border.
    """
    if not inside.any() or inside[[0, -1]].any() or inside[:, [0, -1]].any():
        raise ValueError("expected a region that is not empty and stays off the border")
    rows, columns = np.nonzero(inside)
    number = np.full(inside.shape, -1)
    number[rows, columns] = np.arange(len(rows))
    right = np.zeros((len(rows), picture.shape[2]))
    links_from, links_to = [], []
    for dy, dx in _NEIGHBOURS:
        ny, nx = rows + dy, columns + dx
        own = picture[rows, columns] - picture[ny, nx]
        theirs = patch[rows, columns] - patch[ny, nx]
        right += np.where(np.abs(own) > np.abs(theirs), own, theirs)
        linked = number[ny, nx] >= 0
        right[~linked] += picture[ny, nx][~linked]
        links_from.append(np.flatnonzero(linked))
        links_to.append(number[ny, nx][linked])
    i, j = np.concatenate(links_from), np.concatenate(links_to)
    matrix = sparse.csc_array((np.full(len(i), -1.0), (i, j)), shape=(len(rows), len(rows)))
    matrix = sparse.csc_array(matrix + sparse.diags_array(np.full(len(rows), 4.0)))
    out = picture.copy()
    out[rows, columns] = linalg.splu(matrix).solve(right)
    return out


def clone_patch(picture: Picture, donor: Picture, target: Target, rng: np.random.Generator) -> Painted:
    """A rectangle of the donor, resized and cloned in; the label is where the picture changed visibly.

    Drawn again, a few times, where nothing changed visibly; the last draw is returned whatever it shows, labelled with
    its rectangle if nothing else.
    """
    side = picture.shape[0]
    for _ in range(_TRIES):
        area = log_uniform(rng, target.area) * side * side
        aspect = log_uniform(rng, (0.25, 4.0))
        h, w = (int(np.clip(round(np.sqrt(area * a)), 3, side // 2)) for a in (aspect, 1 / aspect))
        inside = np.zeros((side, side), dtype=np.bool_)
        top, left = rng.integers(1, side - h), rng.integers(1, side - w)
        inside[top : top + h, left : left + w] = True
        patch = picture.astype(np.float64)
        patch[top - 1 : top + h + 1, left - 1 : left + w + 1] = _cut(donor, h + 2, w + 2, rng)
        out = np.round(np.clip(poisson_clone(picture.astype(np.float64), patch, inside), 0, 255)).astype(np.uint8)
        changed = np.abs(out.astype(int) - picture).max(axis=-1) >= _VISIBLE
        mask = np.asarray(ndimage.binary_closing(changed, iterations=2)) & inside
        if mask.sum() >= 0.2 * inside.sum():
            break
    return Painted(out, mask if mask.any() else inside)


def _cut(donor: Picture, height: int, width: int, rng: np.random.Generator) -> Floats:
    """A rectangle of the donor, of another size, resized to (height, width, C)."""
    factor = rng.uniform(*_RESIZED)
    h, w = (int(np.clip(round(n / factor), 2, donor.shape[0])) for n in (height, width))
    y, x = rng.integers(donor.shape[0] - h + 1), rng.integers(donor.shape[1] - w + 1)
    cut = donor[y : y + h, x : x + w]
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(cut[..., c])).resize((width, height), Image.Resampling.BICUBIC))
        for c in range(cut.shape[-1])
    ]
    return np.stack(planes, axis=-1).astype(np.float64)


def _clone_patches(
    pictures: Sequence[Picture], kinds: Sequence[str], targets: dict[str, Target], rng: np.random.Generator
) -> list[Painted]:
    found = []
    for k, (picture, kind) in enumerate(zip(pictures, kinds, strict=True)):
        # another picture, or itself where there is but one
        donor = pictures[(k + 1 + int(rng.integers(max(1, len(pictures) - 1)))) % len(pictures)]
        found.append(clone_patch(picture, donor, targets[kind], rng))
    return found


NSA = Painter("Poisson cloning (NSA)", _clone_patches)
