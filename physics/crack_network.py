"""Networks of cracks: fewer segments for the same lines, angles at junctions, and polygons enclosed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from physics import _craze_kernels as kernels
from physics.crack_path import CrackPath

__all__ = ["closed_polygons", "junction_angles", "merge_straight_segments"]

_MERGE_TOLERANCE = 0.12  # cells that a node may lie off the chord that replaces it
_MERGE_LONGEST = 4.0  # cells


def merge_straight_segments(
    path: CrackPath,
    *,
    most: int,
    tolerance: float = _MERGE_TOLERANCE,
    longest: float = _MERGE_LONGEST,
) -> CrackPath:
    """The same network in fewer segments: nodes that hardly bend the line are dropped, ends and junctions stay.

    In each pass, of two neighbouring nodes of degree 2 at most one goes, if it lies within ``tolerance`` of the chord
    between its neighbours and the chord is not above ``longest``. Both grow by half until at most ``most`` segments
    are left, or none can go.

    Parameters
    ----------
    path : CrackPath
        As from `physics.crack_path.trace_ridge`, with about one segment a cell.
    most : int
        Number of segments wanted.
    tolerance, longest : float
        Grid spacings.
    """
    for _ in range(8):
        path = _merged(path, tolerance, longest)
        if len(path.edges) <= most:
            break
        tolerance, longest = 1.5 * tolerance, 1.5 * longest
    return path


def _merged(path: CrackPath, tolerance: float, longest: float) -> CrackPath:
    count = len(path.nodes)
    if not len(path.edges):
        return path
    inner = path.degree == 2
    ends = np.concatenate([path.edges, path.edges[:, ::-1]])
    ends = ends[np.argsort(ends[:, 0], kind="stable")]
    ends = ends[inner[ends[:, 0]]]
    neighbour = np.full((2, count), -1)
    neighbour[:, inner] = ends[:, 1].reshape(-1, 2).T
    first, second = np.ascontiguousarray(neighbour[0]), np.ascontiguousarray(neighbour[1])
    alive = np.ones(count, dtype=bool)
    while kernels.merge_straight(path.nodes, first, second, tolerance, longest, alive):
        pass
    kept = np.nonzero(inner & alive)[0]
    chains = np.concatenate([np.stack([kept, first[kept]], axis=1), np.stack([kept, second[kept]], axis=1)])
    direct = path.edges[~inner[path.edges].any(axis=1)]
    edges = np.unique(np.sort(np.concatenate([chains, direct]), axis=1), axis=0)
    renumber = np.cumsum(alive) - 1
    return CrackPath(nodes=path.nodes[alive], edges=renumber[edges], corners=path.corners[alive])


def junction_angles(path: CrackPath, *, reach: int = 4) -> NDArray[np.float64]:
    """Angles between neighbouring cracks at the triple junctions of a network, (J, 3), radians, in falling order.

    At a T the largest is pi and the others pi / 2. The direction of a crack is taken from the junction to the node
    ``reach`` edges along it; junctions from which another end or junction is nearer are left out.
    """
    neighbours: list[list[int]] = [[] for _ in range(len(path.nodes))]
    for a, b in path.edges:
        neighbours[a].append(int(b))
        neighbours[b].append(int(a))
    found = []
    for node in np.nonzero(path.degree == 3)[0]:
        tips = [_follow(neighbours, int(node), start, reach) for start in neighbours[node]]
        if min(tips) < 0:
            continue
        away = path.nodes[tips] - path.nodes[node]
        heading = np.sort(np.arctan2(away[:, 0], away[:, 1]))
        gaps = np.diff(np.append(heading, heading[0] + 2 * np.pi))
        found.append(np.sort(gaps)[::-1])
    return np.array(found, dtype=np.float64).reshape(-1, 3)


def _follow(neighbours: list[list[int]], behind: int, here: int, steps: int) -> int:
    """Node ``steps`` edges from ``behind`` through ``here``, or -1 if the chain ends or forks before."""
    for _ in range(steps - 1):
        ahead = [k for k in neighbours[here] if k != behind]
        if len(ahead) != 1:
            return -1
        behind, here = here, ahead[0]
    return here


def closed_polygons(edges: NDArray[np.int64]) -> int:
    """Number of pieces that a set of edges encloses: edges - nodes + parts (Euler)."""
    if not len(edges):
        return 0
    nodes, number = np.unique(edges, return_inverse=True)
    a, b = number.reshape(edges.shape).T
    parts, _ = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(len(nodes),) * 2), directed=False)
    return int(len(edges) - len(nodes) + parts)
