"""The crack as a curve: from the damage field's ridge to a graph of straight segments with sub-cell nodes.

The phase field smears a crack over about 2 l. Where it lies is known better than that: on the ridge of the damage.
The ridge is thinned to one corner wide, linked to a graph, freed of spurs, moved to the centre of mass of the
broken zone across it, and smoothed along itself over the regularisation length, below which the model knows nothing.
Drawn from such a graph, a crack is crisp at any resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.filters import apply_hysteresis_threshold
from skimage.morphology import thin

__all__ = ["CrackPath", "trace_ridge"]

_SHORTEST_SPUR_CELLS = 4
_SHORTEST_PIECE_CELLS = 6
_SMALLEST_ISLAND_CELLS = 30
_WINDOW = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]


@dataclass(frozen=True)
class CrackPath:
    """A planar graph: ``nodes`` (P, 2) float64, (y, x) in corner indices; ``edges`` (E, 2) int64 into nodes;
    ``corners`` (P, 2) int64, the corner each node was found at.
    """

    nodes: NDArray[np.float64]
    edges: NDArray[np.int64]
    corners: NDArray[np.int64]

    @property
    def degree(self) -> NDArray[np.int64]:
        """Number of edges at each node, (P,)."""
        return np.bincount(self.edges.ravel(), minlength=len(self.nodes))


def trace_ridge(damage: NDArray[np.floating], *, low: float, high: float, smoothing: int = 4) -> CrackPath:
    """Graph of the crack in a damage field.

    Parameters
    ----------
    damage : (m, m) float
        Phase field at the corners, 0 sound, 1 broken.
    low, high : float
        A crack is a connected region above ``low`` that reaches ``high`` somewhere.
    smoothing : int
        Passes of averaging along the path; k passes act over about sqrt(k) cells.

    Returns
    -------
    CrackPath
        Empty (no nodes) where nothing is broken.
    """
    region = _without_pinholes(apply_hysteresis_threshold(damage, low, high))
    skeleton = np.asarray(thin(region), dtype=bool)  # skeletonize eats away diagonal lines two corners wide
    corners = np.argwhere(skeleton)
    edges = _link(skeleton, corners)
    keep = _without_spurs(corners, edges)
    corners, edges = _subgraph(corners, edges, keep)
    nodes = _centre_of_mass(damage, corners)
    for _ in range(smoothing):
        nodes = _average_along(nodes, edges)
    return CrackPath(nodes=nodes, edges=edges, corners=corners)


def _without_pinholes(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill islands too small to tell from the crack around them; left, each would be a ring on the path."""
    label, _ = ndimage.label(~region)
    size = np.bincount(label.ravel())
    return np.asarray(region | (size[label] <= _SMALLEST_ISLAND_CELLS), dtype=bool)


def _link(skeleton: NDArray[np.bool_], corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Edges between 8-neighbours; a diagonal only where no two straight steps make the same link."""
    number = np.full(np.array(skeleton.shape) + 2, -1)
    number[tuple((corners + 1).T)] = np.arange(len(corners))
    y, x = (corners + 1).T
    found = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = number[y + dy, x + dx]
        linked = other >= 0
        if dy and dx:
            linked &= (number[y + dy, x] < 0) & (number[y, x + dx] < 0)
        found.append(np.stack([np.nonzero(linked)[0], other[linked]], axis=1))
    return np.concatenate(found).astype(np.int64)


def _without_spurs(corners: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Nodes to keep: no side branch shorter than a few cells, no crumb."""
    count = len(corners)
    neighbours: list[list[int]] = [[] for _ in range(count)]
    for a, b in edges:
        neighbours[a].append(int(b))
        neighbours[b].append(int(a))
    keep = np.ones(count, dtype=bool)
    for end in range(count):
        if len(neighbours[end]) != 1:
            continue
        chain = [end]
        while len(chain) <= _SHORTEST_SPUR_CELLS:
            ahead = [k for k in neighbours[chain[-1]] if len(chain) < 2 or k != chain[-2]]
            if len(ahead) != 1:
                break
            chain.append(ahead[0])
        if len(chain) <= _SHORTEST_SPUR_CELLS and len(neighbours[chain[-1]]) > 2:
            keep[chain[:-1]] = False
    if count:
        graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
        _, label = connected_components(graph, directed=False)
        keep &= np.bincount(label)[label] >= _SHORTEST_PIECE_CELLS
    return keep


def _subgraph(
    corners: NDArray[np.int64], edges: NDArray[np.int64], keep: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    renumber = np.cumsum(keep) - 1
    inside = keep[edges].all(axis=1) if len(edges) else np.zeros(0, dtype=bool)
    return corners[keep], renumber[edges[inside]]


def _centre_of_mass(damage: NDArray[np.floating], corners: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sub-cell position: centre of mass of damage^8 in the 3 x 3 corners around, which sees only the ridge."""
    weight = np.pad(np.asarray(damage, dtype=np.float64) ** 8, 1)
    total = np.zeros(len(corners))
    moment = np.zeros((len(corners), 2))
    for dy, dx in _WINDOW:
        share = weight[corners[:, 0] + 1 + dy, corners[:, 1] + 1 + dx]
        total += share
        moment += share[:, None] * np.array([dy, dx], dtype=np.float64)
    return corners + moment / np.maximum(total, np.finfo(np.float64).tiny)[:, None]


def _average_along(nodes: NDArray[np.float64], edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Half way to the mean of the neighbours; ends stay where they are."""
    degree = np.bincount(edges.ravel(), minlength=len(nodes))
    total = np.zeros_like(nodes)
    np.add.at(total, edges[:, 0], nodes[edges[:, 1]])
    np.add.at(total, edges[:, 1], nodes[edges[:, 0]])
    mean = total / np.maximum(degree, 1)[:, None]
    return np.where((degree >= 2)[:, None], 0.5 * (nodes + mean), nodes)


def largest_nearby(field: NDArray[np.floating], corners: NDArray[np.int64]) -> NDArray[np.float64]:
    """Largest value of a corner field within one corner of each given corner, (P,)."""
    peak = ndimage.maximum_filter(field, size=3, mode="nearest")
    return np.asarray(peak[corners[:, 0], corners[:, 1]], dtype=np.float64)
