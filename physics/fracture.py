"""Brittle fracture: the AT2 phase-field model in anti-plane shear, and the cracks it grows.

The state minimises, over displacement u and damage d that never heals,

    E(u, d) = int ((1 - d)^2 + eta) mu/2 |grad u|^2 + Gc(x) / (2 l) (d^2 + l^2 |grad d|^2),

by alternate minimisation. Kinks, branches and arrest come from the energy and the random toughness Gc(x) alone.
Units: grid spacing h = 1, shear modulus mu = 1, mean toughness 1; loads are displacements in sqrt(Gc h / mu).
The displacement is out of plane, so the jump across the crack is a sliding; its shape along the crack is that of the
opening of a mode I crack, for which it stands.

References
----------
Bourdin, Francfort & Marigo, "The variational approach to fracture", J. Elasticity 91 (2008).
Miehe, Hofacker & Welschinger, "A phase field model for rate-independent crack propagation", CMAME 199 (2010).
Wesseling & Khalil, "Cell-centred multigrid for interface problems", J. Comput. Phys. (1992).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manifests.config import FractureConfig
from physics import _fracture_kernels as kernels
from physics.crack_path import CrackPath, largest_nearby, trace_ridge
from physics.random_fields import gaussian_field, power_law_field

__all__ = [
    "MAX_SEGMENTS",
    "Body",
    "Equilibrium",
    "Trajectory",
    "discrete_surface_energy",
    "equilibrate",
    "random_toughness",
    "simulate",
    "starts_at_edge",
]

MAX_SEGMENTS = 1024  # segments kept of one crack; the first to break are kept
_BROKEN = 0.9  # damage above which a corner counts as broken
_RIDGE_LOW = 0.8  # damage that still belongs to a crack that is broken elsewhere
_GRIP_CELLS = 6  # width of the clamped margin, where the body is reinforced against cracks along the grips
_GRIP_TOUGHNESS = 4.0
_STOP_SHARE = 0.12  # a crack that has come this close to a side (share of the side) has run its course
_STOP_CORNERS = 8
_FIRST_LOAD = 0.35  # share of the Griffith load of the flaw at which loading starts
_RAMP = 0.04  # growth of the load a step while the crack rests
_CREEP = (0.0, 0.03)  # and while it runs: how far loading outpaces the crack
_TARGET_SIDES = 3.0  # stop when this many sides' worth of corners are broken
_MAX_STEPS = 260
_MAX_STATES = 160


@dataclass(frozen=True)
class Trajectory:
    """A growing crack in a square of side 1, with T snapshots and M segments.

    Attributes
    ----------
    damage : (T, n, n) float32
        Phase field at cell centres, 0 sound, 1 broken.
    segments : (M, 4) float32
        Ends (y0, x0, y1, x1) of straight pieces of the centre line, in sides of the square.
    opening : (T, M, 2) float32
        Width at both ends of each segment relative to the widest of the snapshot, 0 where not yet broken.
    length_cells : (T,) float64
        Length of the crack in grid spacings.
    load : (T,) float64
        Applied displacement in sqrt(Gc h / mu).
    branch_points : int
        Junctions of the last snapshot.
    from_edge : bool
        The crack enters at (0.5, 0), the middle of the square's left side; else it starts inside.
    """

    damage: NDArray[np.float32]
    segments: NDArray[np.float32]
    opening: NDArray[np.float32]
    length_cells: NDArray[np.float64]
    load: NDArray[np.float64]
    branch_points: int
    from_edge: bool


class Body:
    """An elastic square with its multigrid hierarchy.

    Parameters
    ----------
    cells : int
        Cells a side; a power of two times at most 7.
    clamped : "all" or "faces"
        All four sides follow the displacement field, or only top and bottom while left and right are free.
    angle : float
        Direction of the applied displacement gradient, radians; pi / 2 pulls top against bottom.
    """

    def __init__(self, cells: int, *, clamped: str, angle: float) -> None:
        if clamped not in {"all", "faces"}:
            raise ValueError(f"clamped is 'all' or 'faces', got {clamped!r}")
        self.cells = cells
        sides = [cells]
        while sides[-1] % 2 == 0 and sides[-1] > 4:
            sides.append(sides[-1] // 2)
        if sides[-1] > 7:
            raise ValueError(f"cells must be a power of two times at most 7, got {cells}")
        self.side = np.array(sides)
        self.offset = np.concatenate([[0], np.cumsum(self.side**2)[:-1]])
        total = int((self.side**2).sum())
        self._flat = tuple(np.zeros(total) for _ in range(7))  # kx, ky, diagonal, inverse, solution, rhs, work
        self.boundary = np.zeros((cells, cells))
        self._clamp(clamped, angle)
        self.displacement = np.zeros((cells, cells))

    def _clamp(self, clamped: str, angle: float) -> None:
        """Conductance 2 over the half cell to a clamped side whose value is the linear field."""
        n = self.cells
        centre = np.arange(n) + 0.5
        slope_x, slope_y = np.cos(angle) / n, np.sin(angle) / n

        def value(y: ArrayLike, x: ArrayLike) -> NDArray[np.float64]:
            return np.asarray(slope_x * (np.asarray(x) - n / 2) + slope_y * (np.asarray(y) - n / 2), dtype=np.float64)

        diagonal = self.diagonal
        for row, y in ((0, 0.0), (n - 1, float(n))):
            diagonal[row] += 2.0
            self.boundary[row] += 2.0 * value(y, centre)
        if clamped == "all":
            for column, x in ((0, 0.0), (n - 1, float(n))):
                diagonal[:, column] += 2.0
                self.boundary[:, column] += 2.0 * value(centre, x)

    def _top(self, k: int) -> NDArray[np.float64]:
        n = self.cells
        return self._flat[k][: n * n].reshape(n, n)

    @property
    def diagonal(self) -> NDArray[np.float64]:
        """Conductance to the clamped sides, (n, n)."""
        return self._top(2)

    @property
    def conductivity(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Links to the right neighbour and to the one below, each (n, n)."""
        return self._top(0), self._top(1)

    @property
    def hierarchy(self) -> tuple[NDArray[np.float64] | NDArray[np.int64], ...]:
        """Flat buffers of all levels, their offsets and sides, in the order of the kernels' arguments."""
        return (*self._flat, self.offset, self.side)

    def set_damage(self, damage: NDArray[np.float64], *, residual_stiffness: float) -> None:
        """Take the links' conductance from corner damage (n + 1, n + 1) and rebuild the hierarchy."""
        kx, ky = self.conductivity
        kernels.link_conductivity(damage, residual_stiffness, kx, ky)
        kernels.build_hierarchy(*self._flat[:4], self.offset, self.side)

    def solve(self, *, tolerance: float = 1e-9, limit: int = 200) -> tuple[int, float]:
        """Displacement at unit load for the present links; (iterations, relative residual)."""
        n = self.cells
        iterations, residual = kernels.solve_elastic(
            self.displacement, self.boundary, *self.hierarchy, np.zeros((3, n, n)), tolerance, limit
        )
        return int(iterations), float(residual)


@dataclass(frozen=True)
class Equilibrium:
    """State of alternate minimisation at a fixed load: damage (n + 1, n + 1), energies in Gc h, sweeps used."""

    damage: NDArray[np.float64]
    surface_energy: float
    elastic_energy: float
    sweeps: int
    converged: bool


def equilibrate(
    body: Body,
    damage: NDArray[np.float64],
    toughness: NDArray[np.float64],
    *,
    load: float,
    length_ratio: float,
    residual_stiffness: float,
    tolerance: float = 1e-4,
    max_sweeps: int = 2000,
) -> Equilibrium:
    """Minimise the energy at a fixed load by alternate minimisation, damage never falling below its start.

    Parameters
    ----------
    body : Body
        The clamped square; its displacement is overwritten.
    damage, toughness : (n + 1, n + 1) float64
        Starting damage, and Gc / mean Gc, at the corners.
    load : float
        Displacement between opposite clamped sides, sqrt(Gc h / mu).
    length_ratio : float
        Regularisation length l / h.
    residual_stiffness : float
        Share of stiffness left in a crack.
    tolerance : float
        Change of the damage, maximum norm, below which it stands still.
    max_sweeps : int
        Bound on the alternations; see ``converged`` of the result.
    """
    d = damage.copy()
    args = (body.boundary, *body.hierarchy)
    sweeps = kernels.minimise(
        d, body.displacement, damage, toughness, *args, length_ratio, residual_stiffness, load, tolerance, max_sweeps
    )
    kx, ky = body.conductivity
    elastic = kernels.elastic_energy(body.displacement, kx, ky, body.diagonal, body.boundary) * load * load
    surface = kernels.surface_energy(d, toughness, length_ratio)
    return Equilibrium(d, float(surface), float(elastic), int(sweeps), converged=sweeps < max_sweeps)


def discrete_surface_energy(length_ratio: float) -> float:
    """Energy per length of a straight grid-aligned crack, / Gc: sqrt(1 + (h / 2 l)^2)."""
    return float(np.sqrt(1.0 + (0.5 / length_ratio) ** 2))


def random_toughness(cells: int, rng: np.random.Generator, *, sigma: float, correlation: float) -> NDArray[np.float64]:
    """Gc / mean Gc at the corners, (n + 1, n + 1): log-normal, fine grain over a slow power-law drift."""
    side = (2 * cells, 2 * cells)  # twice as wide, so that opposite sides of the square are not tied
    fine = gaussian_field(side, rng, correlation=correlation)
    drift = power_law_field(side, rng, exponent=1.2)
    toughness = np.exp(sigma * fine + 0.5 * sigma * drift)[: cells + 1, : cells + 1]
    return np.asarray(toughness / toughness.mean(), dtype=np.float64)


def starts_at_edge(config: FractureConfig, rng: np.random.Generator) -> bool:
    """First draw of a trajectory's stream: does its crack enter from the side, or start inside?"""
    return bool(rng.random() < config.edge_share)


def simulate(config: FractureConfig, rng: np.random.Generator) -> Trajectory:
    """Grow one crack under a random flaw, load direction and toughness.

    Parameters
    ----------
    config : FractureConfig
        Grid, regularisation, toughness and flaw ranges.
    rng : numpy.random.Generator
        The trajectory's own stream.

    Returns
    -------
    Trajectory
        ``config.snapshots`` states of growing length (the same state may repeat where few were recorded).
    """
    n = config.grid
    from_edge = starts_at_edge(config, rng)
    angle = np.pi / 2 if from_edge else float(rng.uniform(0.0, 2 * np.pi))
    body = Body(n, clamped="faces" if from_edge else "all", angle=angle)
    toughness = random_toughness(
        n, rng, sigma=rng.uniform(*config.toughness_sigma), correlation=rng.uniform(*config.correlation_cells)
    )
    toughness[_margin(n, width=_GRIP_CELLS, mouth=from_edge)] *= _GRIP_TOUGHNESS
    flaw_cells = rng.uniform(*config.notch_fraction) * n
    damage = _flaw(n, rng, length=flaw_cells, angle=angle, from_edge=from_edge)
    stop = _margin(n, width=round(_STOP_SHARE * n), mouth=from_edge)
    states, jumps = np.zeros((2, _MAX_STATES, n + 1, n + 1), dtype=np.float32)
    loads, counts = np.zeros(_MAX_STATES), np.zeros(_MAX_STATES, dtype=np.int64)
    recorded = kernels.grow_crack(
        damage,
        body.displacement,
        toughness,
        body.boundary,
        stop,
        *body.hierarchy,
        config.length_ratio,
        config.residual_stiffness,
        _FIRST_LOAD * np.sqrt(4.0 / (np.pi * flaw_cells)) * n,
        _RAMP,
        rng.uniform(*_CREEP),
        _BROKEN,
        _STOP_CORNERS,
        int(_TARGET_SIDES * n),
        _MAX_STEPS,
        1e-5,
        states,
        jumps,
        loads,
        counts,
    )
    if recorded == 0:  # the flaw never ran: keep the flaw itself
        states[0], jumps[0], recorded = damage, damage, 1
    return _condense(states[:recorded], jumps[:recorded], loads[:recorded], config.snapshots, from_edge)


def _margin(n: int, *, width: int, mouth: bool) -> NDArray[np.bool_]:
    """Corners within ``width`` of a side; the left side is left out where the crack enters there."""
    from_far = (n - np.arange(n + 1)) < width
    from_near = np.arange(n + 1) < width
    rows = (from_far | from_near)[:, None]
    columns = (from_far if mouth else from_far | from_near)[None, :]
    return np.asarray(rows | columns)


def _flaw(n: int, rng: np.random.Generator, *, length: float, angle: float, from_edge: bool) -> NDArray[np.float64]:
    """Damage 1 along a straight flaw, roughly across the load."""
    tilt = float(rng.uniform(-0.4, 0.4))
    middle = n / 2 + rng.uniform(-0.15, 0.15, size=2) * n
    if from_edge:  # always at mid-height, so that the mouth can be laid on the edge of a part
        start = np.array([n / 2, 0.0])
        end = start + length * np.array([np.sin(tilt), np.cos(tilt)])
    else:
        along = angle + np.pi / 2 + tilt
        half = 0.5 * length * np.array([np.sin(along), np.cos(along)])
        start, end = middle - half, middle + half
    share = np.linspace(0.0, 1.0, int(4 * length) + 2)[:, None]
    points = np.rint(start + share * (end - start)).astype(np.int64)
    damage = np.zeros((n + 1, n + 1))
    damage[points[:, 0], points[:, 1]] = 1.0
    return damage


def _condense(
    states: NDArray[np.float32],
    jumps: NDArray[np.float32],
    loads: NDArray[np.float64],
    snapshots: int,
    from_edge: bool,
) -> Trajectory:
    """Trace the final ridge once, then say of every state how much of it is open and how wide."""
    n = states.shape[1] - 1
    path = trace_ridge(states[-1], low=_RIDGE_LOW, high=_BROKEN)
    broken = np.stack([largest_nearby(state, path.corners) > _RIDGE_LOW for state in states])
    broken[-1] = True
    arrival = np.argmax(broken, axis=0)
    edges = path.edges[np.argsort(arrival[path.edges].max(axis=1), kind="stable")[:MAX_SEGMENTS]]
    pieces = np.linalg.norm(path.nodes[edges[:, 0]] - path.nodes[edges[:, 1]], axis=1)
    reached = arrival[edges].max(axis=1)
    length = np.array([pieces[reached <= t].sum() for t in range(len(states))])
    chosen = _evenly_by_length(length, snapshots)
    opening = np.stack([_opening(path, edges, jumps[t], arrival <= t) for t in chosen])
    centres = states[chosen]
    damage = 0.25 * (centres[:, 1:, 1:] + centres[:, :-1, 1:] + centres[:, 1:, :-1] + centres[:, :-1, :-1])
    return Trajectory(
        damage=damage,
        segments=(path.nodes[edges].reshape(-1, 4) / n).astype(np.float32),
        opening=opening.astype(np.float32),
        length_cells=length[chosen],
        load=loads[chosen],
        branch_points=int((path.degree > 2).sum()),
        from_edge=from_edge,
    )


def _evenly_by_length(length: NDArray[np.float64], snapshots: int) -> NDArray[np.int64]:
    """First state that reaches each of evenly spaced lengths, the last one at the end."""
    wanted = length[-1] * np.arange(1, snapshots + 1) / snapshots
    return np.asarray(np.minimum(np.searchsorted(length, wanted - 1e-9), len(length) - 1), dtype=np.int64)


def _opening(
    path: CrackPath, edges: NDArray[np.int64], jump: NDArray[np.float32], open_nodes: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Width at both ends of each segment / the widest, (M, 2); 0 beyond the tip."""
    width = np.where(open_nodes, largest_nearby(jump, path.corners), 0.0)
    for _ in range(6):  # the jump of one corner is noisy: average over about two cells along the crack
        degree = path.degree
        total = np.zeros(len(width))
        np.add.at(total, path.edges[:, 0], width[path.edges[:, 1]])
        np.add.at(total, path.edges[:, 1], width[path.edges[:, 0]])
        width = np.where(open_nodes, 0.5 * (width + total / np.maximum(degree, 1)), 0.0)
    widest = float(width.max(initial=0.0))
    both = open_nodes[edges[:, 0]] & open_nodes[edges[:, 1]]
    return np.where(both[:, None], width[edges], 0.0) / (widest if widest > 0 else 1.0)
