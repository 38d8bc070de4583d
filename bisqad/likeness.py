"""Which normal photographs are alike, so that what is held out is new and not a second shot of what was learned.

Parts are photographed more than once: at another exposure, a little moved. Split at random, such twins lie on both
sides, and what is chosen on the held-out side is chosen for parts that are known already. Photographs are therefore
sorted into sets by what the network sees of them, and whole sets are held out.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from bisqad.cells import NormalCells

__all__ = ["alike"]

_SETS = 10


def alike(normals: NormalCells, channels: int, *, seed: int) -> NDArray[np.int64]:
    """Set of each photograph (M,), 0 .. 9: k-means over mean and spread of its cells' deepest features.

    Parameters
    ----------
    normals : NormalCells
        Cells of M photographs; categories are sorted apart from each other.
    channels : int
        Features of the deepest block: the last of a cell.
    seed : int
        Of the first centres.
    """
    cells = normals.features[..., -channels:].float()
    seen = torch.cat([cells.mean(dim=1), cells.std(dim=1, correction=0)], dim=1).numpy()
    found = np.zeros(len(normals), dtype=np.int64)
    for key in sorted(set(normals.keys.tolist())):
        chosen = np.flatnonzero(normals.keys == key)
        own = seen[chosen].astype(np.float64)
        own = (own - own.mean(axis=0)) / np.maximum(own.std(axis=0), 1e-6)
        count = min(_SETS, max(2, len(chosen) // 3), len(chosen))
        if count > 1 and np.ptp(own) > 0:
            found[chosen] = kmeans2(own, own[_first_centres(own, count, seed)], minit="matrix")[1]
    return found


def _first_centres(points: NDArray[np.float64], count: int, seed: int) -> NDArray[np.int64]:
    """Positions of points far from each other: each next one with a chance by its squared distance (k-means++)."""
    rng = np.random.default_rng(seed)
    chosen = [int(rng.integers(len(points)))]
    nearest = np.square(points - points[chosen[0]]).sum(axis=1)
    while len(chosen) < count:
        total = nearest.sum()
        following = int(rng.choice(len(points), p=nearest / total if total > 0 else None))
        chosen.append(following)
        nearest = np.minimum(nearest, np.square(points - points[following]).sum(axis=1))
    return np.array(chosen, dtype=np.int64)
