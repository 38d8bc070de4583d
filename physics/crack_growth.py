"""How a crack that a phase field has broken grew: which of its path was open at which state, and how wide.

Shared by the mechanisms that trace the ridge of a damage field once, at the end, and then look back along it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from physics.crack_path import CrackPath
from physics.mechanism import MAX_SEGMENTS

__all__ = ["Growth", "evenly_broken", "path_normals", "relative_opening", "trace_growth"]


@dataclass(frozen=True)
class Growth:
    """A path's growth over T states.

    Attributes
    ----------
    arrival : (P,) int64
        First state at which each node is broken.
    edges : (M, 2) int64
        Edges kept, the first to open first; M <= `MAX_SEGMENTS`.
    reached : (M,) int64
        State at which each of them is open.
    length : (T,) float64
        Open length of the kept edges, grid spacings.
    """

    arrival: NDArray[np.int64]
    edges: NDArray[np.int64]
    reached: NDArray[np.int64]
    length: NDArray[np.float64]


def trace_growth(states: NDArray[np.float32], path: CrackPath, *, broken: float) -> Growth:
    """When each part of a path opened.

    Parameters
    ----------
    states : (T, n, n) float32
        Damage, never falling.
    path : CrackPath
        The ridge of the last state.
    broken : float
        Damage above which a node, or one of the eight around it, counts as open.
    """
    arrival = _arrival(states, path, broken)
    edges = path.edges[np.argsort(arrival[path.edges].max(axis=1), kind="stable")[:MAX_SEGMENTS]]
    pieces = np.linalg.norm(path.nodes[edges[:, 0]] - path.nodes[edges[:, 1]], axis=1)
    reached = arrival[edges].max(axis=1)
    length = np.array([pieces[reached <= t].sum() for t in range(len(states))])
    return Growth(arrival=arrival, edges=edges, reached=reached, length=length)


def _arrival(states: NDArray[np.float32], path: CrackPath, threshold: float) -> NDArray[np.int64]:
    padded = np.pad(states, ((0, 0), (1, 1), (1, 1)))
    y, x = path.corners.T
    broken = np.zeros((len(states), len(path.corners)), dtype=bool)
    for dy in range(3):
        for dx in range(3):
            broken |= padded[:, y + dy, x + dx] > threshold
    broken[-1] = True
    return np.asarray(np.argmax(broken, axis=0), dtype=np.int64)


def evenly_broken(broken: NDArray[np.integer], snapshots: int) -> NDArray[np.int64]:
    """States (snapshots,) near evenly spaced numbers of broken places, the last at the end; none twice if avoidable.

    By number, not by length along the traced path, so that the choice does not depend on how the body is turned.
    """
    count = len(broken)
    wanted = broken[-1] * np.arange(1, snapshots + 1) / snapshots
    rank = np.minimum(np.searchsorted(broken, wanted - 1e-9), count - 1)
    if count >= snapshots:
        place = np.arange(snapshots)
        rank = np.maximum.accumulate(rank - place) + place  # strictly rising,
        rank = np.minimum(rank, count - snapshots + place)  # with enough left for those to come
    return np.asarray(rank, dtype=np.int64)


def path_normals(path: CrackPath, *, passes: int) -> NDArray[np.float64]:
    """Unit normals (P, 2) of a path at its nodes, from the axis of the edges up to ``passes`` steps around."""
    step = path.nodes[path.edges[:, 1]] - path.nodes[path.edges[:, 0]]
    doubled = (step[:, 1] + 1j * step[:, 0]) ** 2  # undirected lines add up by their doubled angle
    axis = np.zeros(len(path.nodes), dtype=np.complex128)
    np.add.at(axis, path.edges.ravel(), np.repeat(doubled, 2))
    average = _averaging(path)
    for _ in range(passes):
        axis = np.asarray(average @ axis, dtype=np.complex128)
    angle = 0.5 * np.angle(axis)
    return np.stack([np.cos(angle), -np.sin(angle)], axis=1)


def _averaging(path: CrackPath) -> csr_array:
    """Half of a node's value and half of the mean of its neighbours', (P, P)."""
    count = len(path.nodes)
    a, b = path.edges.T
    weight = 0.5 / np.maximum(path.degree, 1)
    own = np.where(path.degree > 0, 0.5, 1.0)
    every = np.arange(count)
    rows, columns = np.concatenate([a, b, every]), np.concatenate([b, a, every])
    return csr_array((np.concatenate([weight[a], weight[b], own]), (rows, columns)), shape=(count, count))


def relative_opening(
    path: CrackPath,
    edges: NDArray[np.int64],
    widths: NDArray[np.float64],
    is_open: NDArray[np.bool_],
    *,
    passes: int,
) -> NDArray[np.float32]:
    """Width at both ends of each segment / the widest of the snapshot, (T, M, 2) float32; 0 beyond the tip.

    Parameters
    ----------
    path : CrackPath
        Whose nodes the widths belong to.
    edges : (M, 2)
        The segments.
    widths : (T, P)
        Width at the nodes, any unit.
    is_open : (T, P) bool
        Which nodes are open.
    passes : int
        Averages taken along the crack, for the width at one node is noisy.
    """
    average = _averaging(path)
    width = np.where(is_open, widths, 0.0).T
    for _ in range(passes):
        width = np.where(is_open.T, average @ width, 0.0)
    widest = width.max(axis=0, initial=0.0)
    width /= np.where(widest > 0, widest, 1.0)
    both = is_open[:, edges[:, 0]] & is_open[:, edges[:, 1]]
    return np.where(both[..., None], width.T[:, edges], 0.0).astype(np.float32)
