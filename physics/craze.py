"""Craze: crack networks in a thin layer that shrinks on its substrate, by an AT2 phase field on an elastic foundation.

Glaze, paint, coatings, mud and the skin of a thermally shocked part shrink by a strain e0 but cannot follow it, for the
substrate holds them by a shear lag tau = k u. The film minimises, over in-plane displacement u and damage d that never
heals,

    E(u, d) = int g(d) psi+(e) + psi-(e) + 1/2 k |u|^2 + Gc(x) / (2 l) (d^2 + l^2 |grad d|^2),
    e = eps(u) + load f(x) S,   g = (1 - eta)(1 - d)^2 + eta,

where psi+ is the energy of extension and shear (Amor's split), S the shrinkage (isotropic, or stronger one way), f its
envelope over the film and Gc a random toughness. A crack relieves the film over the screening length L = sqrt(C / k) on
both sides, so the next one starts away from it, runs towards it where the tension along it is left, and joins it; once
pieces are a few L wide, more load opens the cracks instead of making new ones.

Units: grid spacing h = 1, uniaxial-strain modulus of the film C = 1, mean toughness 1; the load is a strain in
sqrt(Gc / (C h)).

References
----------
Bourdin, Francfort & Marigo, "The variational approach to fracture", J. Elasticity 91 (2008).
Amor, Marigo & Maurini, "Regularized formulation of the variational brittle fracture with unilateral contact",
J. Mech. Phys. Solids 57 (2009).
Leon Baldelli, Babadjian, Bourdin, Henao & Maurini, "A variational model for fracture and debonding of thin films under
in-plane loadings", J. Mech. Phys. Solids 70 (2014).
Xia & Hutchinson, "Crack patterns in thin films", J. Mech. Phys. Solids 48 (2000).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from manifests.distributions import Distribution
from physics import _craze_kernels as kernels
from physics.crack_growth import evenly_broken, path_normals, relative_opening, trace_growth
from physics.crack_network import closed_polygons, merge_straight_segments
from physics.crack_path import CrackPath, trace_ridge
from physics.mechanism import (
    MAX_SEGMENTS,
    Crack,
    Mechanism,
    MechanismParams,
    Trajectory,
    ordered,
    quantity,
    turn_array,
    turn_back,
    turn_trajectory,
)
from physics.random_fields import gaussian_field, power_law_field

__all__ = [
    "ISOTROPIC",
    "MECHANISM",
    "CrazeParams",
    "FilmBody",
    "Specimen",
    "crack_retraction",
    "draw",
    "film_of",
    "film_surface_energy",
    "grow",
    "refine",
    "relax_film_damage",
    "shear_lag_strength_load",
    "shear_lag_stress",
    "shrinkage_tensor",
    "simulate",
    "turn",
]

ISOTROPIC = (1.0, 1.0, 0.0)  # shrinkage (yy, xx, yx), the same in all directions

_BROKEN = 0.9  # damage above which a cell counts as broken
_RIDGE_LOW = 0.75  # damage that still belongs to a crack that is broken elsewhere
_FIRST_DRIVE = 0.1  # loading starts where the largest l psi / Gc is this; AT2 breaks at 1/6 if all is even
_RAMP = (0.016, 0.08)  # growth of the load a step while the cracks rest: just before they run, and far from it
_RUN_RAMP = 0.005  # and while they run
_VISCOSITY = 0.6  # Gc / l a step: cracks run a few cells a step
_DAMAGE_SWEEPS = (
    8  # a step, at l = 1.5 h; a fixed number, for a tolerance would turn rounding into a sweep more or less
)
_ELASTIC_SWEEPS = 5  # iterations of CG a step, up to L = 10 h, likewise
_LEAST_SIDES = 0.5  # goes on until this many sides' worth of cells are broken
_MOST_OVERLOAD = 1.4  # but the load never exceeds this times the final one
_EVENNESS = 0.85  # x h / l: share of the drive, see `grow`
_MAX_STEPS = 200
_BORDER_SHARE = (0.05, 0.17)  # the shrinkage fades from 1 to 0 between these distances from the border, in sides
_OPENING_PASSES = 3
_EDGE_PAD = 6  # columns by which a network that comes in through the left side is continued before it is traced


Positive = Annotated[float, Field(ge=0)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(ordered)]


class CrazeParams(MechanismParams):
    """Parameters of crack networks in a shrinking layer."""

    edge_share: float = quantity(
        0.25, unit="1", ge=0, le=1, description="share of networks that come in from the edge of a part"
    )
    area: Distribution = quantity(
        Distribution(kind="loguniform", low=0.004, high=0.05), unit="1", description="area of the cracks / picture"
    )
    width: Distribution = quantity(
        Distribution(kind="loguniform", low=0.003, high=0.012),
        unit="1",
        description="widest opening / side of the picture",
    )
    length_ratio: float = quantity(1.4, unit="h", ge=1.2, le=8, description="regularisation length l")
    residual_stiffness: float = quantity(
        1e-3, unit="1", gt=0, le=1e-2, description="share of stiffness left in a crack"
    )
    screening: Range = quantity(
        (7.0, 13.5), unit="h", description="L = sqrt(C / k), over which a crack relieves the film, between trajectories"
    )
    poisson: Range = quantity((0.15, 0.4), unit="1", description="Poisson's ratio of the film")
    toughness_sigma: Range = quantity((0.18, 0.45), unit="1", description="spread s of ln Gc, between trajectories")
    correlation_cells: Range = quantity(
        (1.2, 4.0), unit="h", description="correlation length of the fine part of ln Gc"
    )
    overload: Range = quantity(
        (1.2, 1.9), unit="1", description="largest load / load of the first crack sqrt(1 + h / 2 l)"
    )
    directed_share: float = quantity(
        0.3, unit="1", ge=0, le=1, description="share of films that shrink more one way (rolled, coated, stretched)"
    )
    lesser_shrinkage: Range = quantity(
        (0.1, 0.75), unit="1", description="of a directed film: shrinkage across / along the stronger direction"
    )
    patch_radius: Range = quantity((0.26, 0.56), unit="sides", description="radius of the patch that shrinks")
    patch_elongation: Range = quantity((1.0, 2.2), unit="1", description="long axis / short axis of the patch")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.poisson[1] >= 1.0:
            raise ValueError(f"poisson must be below 1, got {self.poisson}")
        if self.screening[0] < 1.5 * self.length_ratio:
            raise ValueError("screening must be at least 1.5 times length_ratio, or the network is not resolved")
        if self.overload[0] < 1.0:
            raise ValueError(f"overload must be at least 1, got {self.overload}")
        return self


@dataclass(frozen=True)
class Specimen:
    """A film before it shrinks.

    Attributes
    ----------
    from_edge : bool
        The envelope goes on over the left side, which is a free edge of the film.
    toughness : (n, n) float64
        Gc / mean Gc in the cells.
    envelope : (n, n) float64
        Share of the shrinkage that each cell takes, 0..1; 0 near the border.
    shrinkage : (float, float, float)
        Shrinkage strain for envelope 1 and load 1: yy, xx, yx.
    screening : float
        L = sqrt(C / k), grid spacings.
    poisson : float
        Poisson's ratio.
    overload : float
        Largest load / (load at the first crack x sqrt(1 + h / 2 l)).
    """

    from_edge: bool
    toughness: NDArray[np.float64]
    envelope: NDArray[np.float64]
    shrinkage: tuple[float, float, float]
    screening: float
    poisson: float
    overload: float


class FilmBody:
    """A damaged film on its foundation: the elastic problem at unit load.

    Solves -div(g C (eps(u) + f S)) + k u = b with free borders: Q1 cells with mean dilatation, plane stress,
    kappa + mu = C = 1, k = C / L^2.

    Parameters
    ----------
    cells : int
        n.
    screening : float
        L, grid spacings.
    poisson : float
        Poisson's ratio, in [0, 1).
    shrinkage : (float, float, float)
        S: yy, xx, yx.
    envelope : (n, n) array, optional
        f; default 1.
    dtype : float32 or float64
        Of all arrays.

    Attributes
    ----------
    displacement : (2, n + 1, n + 1)
        (y, x) of the nodes.
    force : (2, n + 1, n + 1)
        Forces b on the nodes, 0 at first.
    bulk, shear : (n, n)
        Stiffness of the cells; sigma = bulk tr(e) I + 2 shear dev(e).

    Raises
    ------
    ValueError
        If a number is out of range or the envelope has another shape.
    """

    def __init__(
        self,
        cells: int,
        *,
        screening: float,
        poisson: float = 0.3,
        shrinkage: tuple[float, float, float] = ISOTROPIC,
        envelope: NDArray[np.floating] | None = None,
        dtype: type[np.floating] = np.float64,
    ) -> None:
        if cells < 2 or screening <= 0 or not 0 <= poisson < 1:
            raise ValueError(f"want cells >= 2, screening > 0, 0 <= poisson < 1, got {cells}, {screening}, {poisson}")
        if envelope is not None and envelope.shape != (cells, cells):
            raise ValueError(f"envelope must be {(cells, cells)}, got {envelope.shape}")
        self.cells = cells
        self.moduli = (0.5 * (1.0 + poisson), 0.5 * (1.0 - poisson))
        self.shrinkage = (shrinkage[0], shrinkage[1], 2.0 * shrinkage[2])
        self.envelope = np.ones((cells, cells), dtype) if envelope is None else envelope.astype(dtype)
        share = np.ones(cells + 1)
        share[[0, -1]] = 0.5
        self.foundation = (np.outer(share, share) / screening**2).astype(dtype)
        self.bulk = np.full((cells, cells), self.moduli[0], dtype)
        self.shear = np.full((cells, cells), self.moduli[1], dtype)
        self.displacement = np.zeros((2, cells + 1, cells + 1), dtype)
        self.force = np.zeros_like(self.displacement)
        self._inverse = np.empty((cells + 1, cells + 1), dtype)
        self._vectors = np.zeros((3, 2, cells + 1, cells + 1), dtype)
        self._rows = np.zeros((2, 5, cells + 2), dtype)
        self._row = np.zeros(cells + 1)

    def set_damage(self, padded: NDArray[np.floating], *, residual_stiffness: float) -> None:
        """Take stiffness from the damage, (n + 2, n + 2) with a ring; in cells under compression not the bulk part."""
        kernels.cell_stiffness(
            padded, self.displacement, self.envelope, self.shrinkage, *self.moduli, residual_stiffness,
            self.bulk, self.shear,
        )  # fmt: skip

    def solve(self, *, tolerance: float = 1e-8, limit: int = 2000) -> tuple[int, float]:
        """Displacement for the present stiffness, from where it was; (iterations, relative residual).

        With ``tolerance`` 0 exactly ``limit`` iterations are made, and the residual is absolute.
        """
        kernels.inverse_diagonal(self.bulk, self.shear, self.foundation, self._inverse)
        used, residual = kernels.solve(
            self.displacement, self.force, self.bulk, self.shear, self.foundation, self.envelope, self.shrinkage,
            self._inverse, self._vectors, self._rows, self._row, tolerance, limit,
        )  # fmt: skip
        return int(used), float(residual)

    def driving_energy(self, *, evenness: float = 0.0) -> NDArray[np.floating]:
        """Energy density that damage releases at unit load, (n, n).

        ``evenness`` above 0 makes up for the preference of square cells for cracks along the axes; see `grow`.
        """
        psi = np.empty_like(self.bulk)
        kernels.driving_energy(self.displacement, self.envelope, self.shrinkage, *self.moduli, evenness, psi)
        return psi

    def elastic_energy(self) -> float:
        """Energy stored in film and foundation at unit load, C h^2."""
        return float(
            kernels.elastic_energy(
                self.displacement, self.bulk, self.shear, self.foundation, self.envelope, self.shrinkage
            )
        )

    def stress(self) -> NDArray[np.floating]:
        """Stress at the middle of the cells for unit load, (3, n, n): yy, xx, yx, in C."""
        uy, ux = self.displacement
        down, right = _slopes(uy)
        down_x, right_x = _slopes(ux)
        s_yy, s_xx, s_xy = (component * self.envelope for component in self.shrinkage)
        yy, xx, xy = down + s_yy, right_x + s_xx, right + down_x + s_xy
        pressure, deviator = self.bulk * (yy + xx), self.shear * (yy - xx)
        return np.stack([pressure + deviator, pressure - deviator, self.shear * xy])


def _slopes(field: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Mean slopes of a nodal field over the cells, down and to the right."""
    down, right = np.diff(field, axis=0), np.diff(field, axis=1)
    return 0.5 * (down[:, 1:] + down[:, :-1]), 0.5 * (right[1:] + right[:-1])


def shear_lag_stress(x: NDArray[np.floating], *, half_length: float, screening: float) -> NDArray[np.float64]:
    """Stress / (C e0) along a film segment -a <= x <= a with free ends: 1 - cosh(x / L) / cosh(a / L).

    Solution of L^2 u'' = u with u' = -e0 at both ends (Cox 1952; Xia & Hutchinson 2000). All lengths in one unit.
    """
    ratio = np.cosh(np.asarray(x, dtype=np.float64) / screening) / np.cosh(half_length / screening)
    return np.asarray(1.0 - ratio)


def shear_lag_strength_load(*, half_length: float, screening: float, strength: float = 1.0) -> float:
    """Shrinkage strain x C at which a segment of length 2 a breaks in its middle, for a strength in the same unit."""
    if not (half_length > 0 and screening > 0):
        raise ValueError(f"half_length and screening must be positive, got {half_length} and {screening}")
    return float(strength / (1.0 - 1.0 / np.cosh(half_length / screening)))


def relax_film_damage(
    damage: NDArray[np.floating],
    driving_energy: NDArray[np.floating],
    toughness: NDArray[np.floating],
    *,
    length_ratio: float,
    floor: NDArray[np.floating] | None = None,
    viscosity: float = 0.0,
    tolerance: float = 1e-8,
    max_sweeps: int = 20_000,
) -> NDArray[np.floating]:
    """Damage that minimises the energy for a given driving energy, within ``floor`` <= d <= 1.

    Solves (Gc + 2 l psi + v) d - l^2 div(Gc grad d) = 2 l psi + v d_0 with no flux through the border.

    Parameters
    ----------
    damage : (n, n) float32 or float64
        Where the iteration starts, and d_0; not changed.
    driving_energy, toughness : (n, n)
        psi in Gc / h, and Gc / mean Gc.
    length_ratio : float
        Regularisation length l / h.
    floor : (n, n), optional
        Least damage; default ``damage`` itself, which never heals.
    viscosity : float
        v, Gc / l.
    tolerance : float
        Change a sweep, maximum norm, at which the iteration ends.
    max_sweeps : int
        Bound on the sweeps.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    least = damage if floor is None else floor
    if not damage.shape == driving_energy.shape == toughness.shape == least.shape:
        raise ValueError("damage, driving energy, toughness and floor must have the same shape")
    d, low, gc = (_padded(field.astype(damage.dtype)) for field in (damage, least, toughness))
    around = np.empty_like(damage)
    kernels.link_weights(gc, around)
    other, terms = np.empty_like(d), np.empty((2, *damage.shape), dtype=d.dtype)
    psi = np.ascontiguousarray(driving_energy, dtype=damage.dtype)
    kernels.relax_damage(d, low, gc, around, psi, length_ratio, viscosity, tolerance, max_sweeps, other, terms)
    return np.ascontiguousarray(d[1:-1, 1:-1])


def film_surface_energy(damage: NDArray[np.floating], toughness: NDArray[np.floating], *, length_ratio: float) -> float:
    """Energy of the crack surface, sum of Gc / (2 l) (d^2 + l^2 |grad d|^2) over (n, n) cells, in Gc h."""
    return float(kernels.surface_energy(_padded(damage), _padded(toughness), length_ratio))


def _padded(field: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.pad(field, 1, mode="edge")


def shrinkage_tensor(lesser: float, angle: float) -> tuple[float, float, float]:
    """S (yy, xx, yx) that shrinks by 1 along ``angle`` (radians from x towards y, down) and ``lesser`` across it."""
    s, c = float(np.sin(angle)), float(np.cos(angle))
    return s * s + lesser * c * c, c * c + lesser * s * s, (1.0 - lesser) * s * c


def draw(params: CrazeParams, rng: np.random.Generator, *, from_edge: bool) -> Specimen:
    """A random film: toughness, envelope, shrinkage, screening length and final load."""
    n = params.grid
    sigma, correlation = rng.uniform(*params.toughness_sigma), rng.uniform(*params.correlation_cells)
    directed = rng.random() < params.directed_share
    angle, lesser = rng.uniform(0.0, np.pi), rng.uniform(*params.lesser_shrinkage)
    low, high = params.screening
    screening = float(low * (high / low) ** rng.random()) if low > 0 else high
    return Specimen(
        from_edge=from_edge,
        toughness=_random_toughness(n, rng, sigma=sigma, correlation=correlation),
        envelope=_random_envelope(params, rng, from_edge=from_edge),
        shrinkage=shrinkage_tensor(lesser, angle) if directed else ISOTROPIC,
        screening=screening,
        poisson=float(rng.uniform(*params.poisson)),
        overload=float(rng.uniform(*params.overload)),
    )


def _random_toughness(cells: int, rng: np.random.Generator, *, sigma: float, correlation: float) -> NDArray[np.float64]:
    """Gc / mean Gc in the cells: log-normal, fine grain over a slow power-law drift of half its spread."""
    side = (2 * cells, 2 * cells)  # twice as wide, so that opposite sides of the square are not tied
    fine = gaussian_field(side, rng, correlation=correlation)
    drift = power_law_field(side, rng, exponent=1.2)
    return np.asarray(np.exp(sigma * (fine + 0.5 * drift))[:cells, :cells])


def _random_envelope(params: CrazeParams, rng: np.random.Generator, *, from_edge: bool) -> NDArray[np.float64]:
    """Where the film shrinks, 0..1, (n, n): an ellipse bent out of shape by smooth random fields.

    The level of a distance from the middle, in radii, plus noise of long and middle waves decides; it falls smoothly
    from 1 to 0, and in any case before the border.
    """
    n = params.grid
    centre = (np.arange(n) + 0.5) / n
    y, x = np.meshgrid(centre - 0.5, centre - (rng.uniform(0.0, 0.15) if from_edge else 0.5), indexing="ij")
    angle, elongation = rng.uniform(0.0, np.pi), np.sqrt(rng.uniform(*params.patch_elongation))
    radius = rng.uniform(*params.patch_radius) * (1.2 if from_edge else 1.0)
    along = (x * np.cos(angle) + y * np.sin(angle)) / elongation
    across = (y * np.cos(angle) - x * np.sin(angle)) * elongation
    side = (2 * n, 2 * n)
    waves = gaussian_field(side, rng, correlation=0.22 * n) + 0.5 * gaussian_field(side, rng, correlation=0.08 * n)
    level = 1.0 - np.hypot(along, across) / radius + rng.uniform(0.15, 0.4) * waves[:n, :n]
    softness = rng.uniform(0.4, 1.2)  # how far the shrinkage takes to fade, in radii
    inside = _smoothstep(0.5 + level / softness)
    return np.asarray(inside * _fade(n, open_left=from_edge))


def _smoothstep(t: NDArray[np.float64]) -> NDArray[np.float64]:
    t = np.clip(t, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t))


def _fade(cells: int, *, open_left: bool) -> NDArray[np.float64]:
    """1 inside, 0 towards the border, (n, n), with rounded corners."""
    none, full = _BORDER_SHARE
    centre = (np.arange(cells) + 0.5) / cells
    near, far = centre, 1.0 - centre
    rows = np.minimum(near, far)
    columns = far if open_left else rows
    inset_y = np.maximum(full - rows, 0.0)[:, None]
    inset_x = np.maximum(full - columns, 0.0)[None, :]
    return _smoothstep(1.0 - np.hypot(inset_y, inset_x) / (full - none))


def grow(params: CrazeParams, specimen: Specimen) -> Trajectory:
    """Let the film shrink until its final load: the network from its first crack to the last.

    A crack between square cells is one cell wide along the axes but two along the diagonals, and so dearer by about
    h / l. The energy that drives the damage is evened out accordingly: times 1 - 0.85 (h / l) cos 4 theta of the
    principal strain, as far as that is uniaxial. The figure was fitted to the directions of grown networks; it vanishes
    as the grid is refined.

    Parameters
    ----------
    params : CrazeParams
        Grid, snapshots, regularisation.
    specimen : Specimen
        From `draw`, of the same grid.
    """
    if specimen.from_edge:  # the edge says how it lies
        return _grow_as_it_lies(params, specimen)
    dihedral = _own_orientation(specimen)
    return turn_trajectory(_grow_as_it_lies(params, turn(specimen, dihedral)), turn_back(dihedral))


def _own_orientation(specimen: Specimen) -> int:
    """Turn after which the specimen lies the same way however it was turned before: toughest corner first.

    The solvers are symmetric, but thinning a network to lines is not quite.
    """
    corner = [turn_array(specimen.toughness, dihedral)[0, :2].tolist() for dihedral in range(8)]
    return max(range(8), key=corner.__getitem__)


def _grow_as_it_lies(params: CrazeParams, specimen: Specimen) -> Trajectory:
    return _condense(_shrink(params, specimen), params, specimen)


@dataclass
class _History:
    """Recorded states: damage (n, n), displacement at unit load, and load."""

    damage: list[NDArray[np.float32]]
    displacement: list[NDArray[np.float32]]
    load: list[float]

    def record(self, padded: NDArray[np.float32], body: FilmBody, load: float) -> None:
        self.damage.append(padded[1:-1, 1:-1].copy())
        self.displacement.append(body.displacement.astype(np.float32))
        self.load.append(load)


def film_of(specimen: Specimen, *, dtype: type[np.floating] = np.float32) -> FilmBody:
    """The elastic body of a specimen."""
    return FilmBody(
        len(specimen.envelope),
        screening=specimen.screening,
        poisson=specimen.poisson,
        shrinkage=specimen.shrinkage,
        envelope=specimen.envelope,
        dtype=dtype,
    )


def _shrink(params: CrazeParams, specimen: Specimen) -> _History:
    """Load step by step; the states at which a cell had newly broken.

    One step is one staggered sweep. The load grows slowly while cracks run and faster while all rest. The final load is
    counted in what drives a crack on, Gc (1 + h / 2 l) on the grid (Bourdin et al. 2008), not in what starts it.
    """
    length = params.length_ratio
    sweeps = round(_DAMAGE_SWEEPS * (length / 1.5) ** 2)
    limit = round(_ELASTIC_SWEEPS * max(specimen.screening / 10.0, 1.0))
    body = film_of(specimen)
    toughness = _padded(specimen.toughness.astype(np.float32))
    around = np.empty_like(body.bulk)
    kernels.link_weights(toughness, around)
    d = np.zeros_like(toughness)
    other, terms = np.zeros_like(d), np.zeros((2, *body.bulk.shape), dtype=np.float32)
    body.set_damage(d, residual_stiffness=params.residual_stiffness)
    body.solve(tolerance=1e-4, limit=200)
    load = _first_load(body, specimen.toughness, length)
    final, before = np.inf, 0
    history = _History([], [], [])
    for _ in range(_MAX_STEPS):
        psi = body.driving_energy(evenness=_EVENNESS / length)
        psi *= np.float32(load * load)
        floor = d.copy()
        kernels.relax_damage(d, floor, toughness, around, psi, length, _VISCOSITY, 0.0, sweeps, other, terms)
        body.set_damage(d, residual_stiffness=params.residual_stiffness)
        body.solve(tolerance=0.0, limit=limit)
        broken = kernels.count_broken(d, _BROKEN)
        if broken > before:
            history.record(d, body, load)
            final = min(final, specimen.overload * load * np.sqrt(1.0 + 0.5 / length))
            load *= 1.0 + _RUN_RAMP
        else:
            load *= 1.0 + _ramp(float((d - floor).max()))
        before = broken
        if load > final and (broken > _LEAST_SIDES * params.grid or load > _MOST_OVERLOAD * final):
            break
    return history


def _ramp(change: float) -> float:
    """Growth of the load at rest: fast as long as it does nothing to the damage."""
    slow, fast = _RAMP
    return slow + (fast - slow) * max(0.0, 1.0 - change / 0.1)


def _first_load(body: FilmBody, toughness: NDArray[np.floating], length_ratio: float) -> float:
    """Load at which the most strained cell has l psi / Gc = `_FIRST_DRIVE`."""
    return float(np.sqrt(_FIRST_DRIVE / (length_ratio * (body.driving_energy() / toughness).max())))


def turn(specimen: Specimen, dihedral: int) -> Specimen:
    """The same specimen turned, see `physics.mechanism.turn_array`."""
    matrix = np.diag([1.0, -1.0 if dihedral >= 4 else 1.0])  # on (y, x), as `physics.mechanism.turn_vector`
    for _ in range(dihedral % 4):
        matrix = np.array([[0.0, -1.0], [1.0, 0.0]]) @ matrix
    yy, xx, yx = specimen.shrinkage
    tensor = matrix @ np.array([[yy, yx], [yx, xx]]) @ matrix.T
    return replace(
        specimen,
        toughness=turn_array(specimen.toughness, dihedral),
        envelope=turn_array(specimen.envelope, dihedral),
        shrinkage=(float(tensor[0, 0]), float(tensor[1, 1]), float(tensor[0, 1])),
    )


def refine(params: CrazeParams, specimen: Specimen) -> tuple[CrazeParams, Specimen]:
    """The same film on a grid twice as fine: fields interpolated, l and L kept in sides."""
    low, high = params.screening
    finer = params.model_copy(
        update={
            "grid": 2 * params.grid,
            "length_ratio": 2 * params.length_ratio,
            "screening": (2 * low, 2 * high),
            "correlation_cells": (2 * params.correlation_cells[0], 2 * params.correlation_cells[1]),
        }
    )
    return finer, replace(
        specimen,
        toughness=_refined(specimen.toughness),
        envelope=_refined(specimen.envelope),
        screening=2 * specimen.screening,
    )


def _refined(field: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bilinear interpolation to the centres of the quarters of each cell, (2 n, 2 n)."""
    for axis in (0, 1):
        padded = np.pad(field, [(1, 1) if k == axis else (0, 0) for k in (0, 1)], mode="edge")
        before, after = (np.take(padded, np.arange(field.shape[axis]) + shift, axis=axis) for shift in (0, 2))
        halves = np.stack([0.75 * field + 0.25 * before, 0.75 * field + 0.25 * after], axis=axis + 1)
        field = halves.reshape(tuple(2 * s if k == axis else s for k, s in enumerate(field.shape)))
    return np.ascontiguousarray(field)


def _condense(history: _History, params: CrazeParams, specimen: Specimen) -> Trajectory:
    """Trace the final ridge once, then say of every state how much of it is open and how wide."""
    n = params.grid
    states = np.stack(history.damage)
    path = merge_straight_segments(_trace(states[-1], specimen.from_edge), most=MAX_SEGMENTS)
    growth = trace_growth(states, path, broken=_RIDGE_LOW)
    chosen = evenly_broken(np.count_nonzero(states > _BROKEN, axis=(1, 2)), params.snapshots)
    reach = round(2.0 * params.length_ratio)
    widths = np.stack(
        [
            crack_retraction(
                history.displacement[t], states[t], path, specimen,
                residual_stiffness=params.residual_stiffness, reach=reach,
            )
            for t in chosen
        ]
    )  # fmt: skip
    is_open = growth.arrival[None, :] <= chosen[:, None]
    opening = relative_opening(path, growth.edges, widths, is_open, passes=_OPENING_PASSES)
    ends = np.clip((path.nodes[growth.edges] + 0.5) / n, 0.0, 1.0)
    crack = Crack(segments=ends.reshape(-1, 4).astype(np.float32), opening=opening)
    return Trajectory(
        fields={"damage": states[chosen]},
        severity=growth.length[chosen] / growth.length[-1],
        area=np.maximum.accumulate(crack.relative_area()),
        from_edge=specimen.from_edge,
        crack=crack,
        facts={
            "shrinkage_load": tuple(history.load[t] for t in chosen),
            "length_sides": tuple(float(growth.length[t]) / n for t in chosen),
            "closed_polygons": tuple(float(closed_polygons(growth.edges[growth.reached <= t])) for t in chosen),
            "screening_cells": (specimen.screening,),
        },
    )


def _trace(damage: NDArray[np.float32], from_edge: bool) -> CrackPath:
    """The ridges as a graph in cell indices; through an open left side the cracks go on to it."""
    left = _EDGE_PAD if from_edge else 0
    path = trace_ridge(np.pad(damage, ((0, 0), (left, 0)), mode="edge"), low=_RIDGE_LOW, high=_BROKEN)
    nodes = path.nodes - np.array([0.0, left])
    corners = path.corners - np.array([0, left])
    inside = corners[:, 1] >= -1  # the node beyond the edge is drawn back onto it
    keep = inside[path.edges].all(axis=1) if len(path.edges) else np.zeros(0, dtype=bool)
    nodes[:, 1] = np.maximum(nodes[:, 1], -0.5)
    renumber = np.cumsum(inside) - 1
    corners[:, 1] = np.maximum(corners[:, 1], 0)
    return CrackPath(nodes=nodes[inside], edges=renumber[path.edges[keep]], corners=corners[inside])


def crack_retraction(
    displacement: NDArray[np.floating],
    damage: NDArray[np.floating],
    path: CrackPath,
    specimen: Specimen,
    *,
    residual_stiffness: float,
    reach: int = 3,
) -> NDArray[np.float64]:
    """Width to which the film has drawn apart at the nodes of the network, (P,), grid spacings at unit load.

    Parameters
    ----------
    displacement : (2, n + 1, n + 1)
        Of the nodes of the film, at unit load.
    damage : (n, n)
        Phase field in the cells.
    path : CrackPath
        In cell indices.
    specimen : Specimen
        Whose envelope and shrinkage count.
    residual_stiffness : float
        Share of stiffness left in a crack.
    reach : int
        How far to each side strains count, grid spacings.
    """
    yy, xx, yx = specimen.shrinkage
    out = np.zeros(len(path.nodes))
    kernels.retraction_along(
        displacement, damage, specimen.envelope, (yy, xx, 2.0 * yx), residual_stiffness,
        path.nodes, path_normals(path, passes=1), reach, out,
    )  # fmt: skip
    return out


MECHANISM = Mechanism(
    name="craze",
    title="Craze",
    summary="A thin layer shrinks on its substrate and an AT2 phase field parts it into a network of cracks.",
    params=CrazeParams,
    fields=("opening", "damage"),
    draw=draw,
    grow=grow,
    turn=turn,
    refine=refine,
)
simulate = MECHANISM.simulate
