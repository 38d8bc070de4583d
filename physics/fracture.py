"""Brittle fracture: the AT2 phase-field model in anti-plane shear and in plane strain, and the cracks it grows.

The state minimises, over displacement u and damage d that never heals,

    E(u, d) = int g(d) psi+(u) + psi-(u) + Gc(x) / (2 l) (d^2 + l^2 grad d . A grad d),   g = (1 - eta)(1 - d)^2 + eta,

step by step: damage for the present displacement, displacement for that damage, load. Kinks, branches, arrest and
coalescence come from the energy and the random toughness Gc(x) alone. The structural tensor A = I + beta t t^T makes a
crack across the grain t (wood, rolled metal) dearer by sqrt(1 + beta) than along it.
A viscosity in the damage equation lets a crack run no faster than a few grid spacings a step.

Units: grid spacing h = 1, shear modulus mu = 1, mean toughness 1; loads are displacements in sqrt(Gc h / mu).
In anti-plane shear the jump across the crack is a sliding; its shape along the crack is that of the opening of a
mode I crack, for which it stands.

References
----------
Bourdin, Francfort & Marigo, "The variational approach to fracture", J. Elasticity 91 (2008).
Miehe, Hofacker & Welschinger, "A phase field model for rate-independent crack propagation", CMAME 199 (2010).
Amor, Marigo & Maurini, "Regularized formulation of the variational brittle fracture with unilateral contact",
J. Mech. Phys. Solids 57 (2009).
Clayton & Knap, "Phase field modeling of directional fracture in anisotropic polycrystals", Comput. Mater. Sci. 98
(2015).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator

from manifests.distributions import Distribution
from physics import _fracture_kernels as kernels
from physics.antiplane import AntiplaneBody
from physics.crack_growth import evenly_broken, path_normals, relative_opening, trace_growth
from physics.crack_path import CrackPath, trace_ridge
from physics.mechanism import (
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
from physics.phase_field import ISOTROPIC, ElasticBody, structural_tensor
from physics.plane_strain import PlaneStrainBody, grid_levels
from physics.random_fields import gaussian_field, power_law_field

__all__ = [
    "MECHANISM",
    "FractureParams",
    "Specimen",
    "body_of",
    "crack_opening",
    "draw",
    "grow",
    "random_toughness",
    "refine",
    "simulate",
    "turn",
]

Mode = Literal["antiplane", "plane_strain"]

_BROKEN = 0.9  # damage above which a corner counts as broken
_STRAINED = 0.3  # damage of sound material under the loads that break it, about
_FADE_SHARE = 0.06  # sides over which the damage field fades out at the border
_CRACKED = 0.6  # damage that is more than strained material has
_RIDGE_LOW = 0.8  # damage that still belongs to a crack that is broken elsewhere
_GRIP_SHARE = (
    0.047  # width of the clamped margin, in sides, where the body is reinforced against cracks along the grips
)
_GRIP_TOUGHNESS = 4.0
_STOP_SHARE = 0.08  # a crack that has come this close to a side, in sides, has run its course
_FIRST_DRIVE = 0.35  # loading starts where the largest l psi / Gc is this
_RAMP = (0.02, 0.15)  # growth of the load a step while the cracks rest: just before they run, and far from it
_TAKE_BACK = 0.15  # exponent by which the load falls where cracks run too fast
_VISCOSITY = 10.0  # Gc / l a step
_DAMAGE_SWEEPS = 4.0  # times l / h
_DAMAGE_TOLERANCE = 2e-3
_SOLVER: dict[Mode, tuple[float, float]] = {
    # relative residual, and most iterations a step on 128 cells: cracks run further on finer grids
    "antiplane": (1e-5, 2.0),
    "plane_strain": (1e-4, 4.0),
}
_BLEND = 0.2  # dilatation, in units of the applied strain, over which a crack in plane strain opens
_TARGET_SIDES = 1.6  # stop when cracks of this length have grown, in sides
_MAX_STEPS = 300
_OPENING_REACH = 3  # grid spacings across the crack on each side over which its opening is summed, at l = 2 h
_OPENING_PASSES = 6  # averages of the noisy opening: about two cells along the crack
_NORMAL_PASSES = 2


Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(ge=0)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(ordered)]
ShareRange = Annotated[tuple[Share, Share], AfterValidator(ordered)]


class FractureParams(MechanismParams):
    """Parameters of brittle fracture."""

    snapshots: int = quantity(20, unit="states", ge=4, le=64, description="states kept along one trajectory")
    edge_share: float = quantity(
        0.5, unit="1", ge=0, le=1, description="share of cracks that come in from the edge of a part"
    )
    area: Distribution = quantity(
        Distribution(kind="loguniform", low=0.0015, high=0.02), unit="1", description="area of the crack / picture"
    )
    width: Distribution = quantity(
        Distribution(kind="loguniform", low=0.0045, high=0.020),
        unit="1",
        description="widest opening / side of the picture",
    )
    length_ratio: float = quantity(2.0, unit="h", ge=1.5, le=8, description="regularisation length l")
    residual_stiffness: float = quantity(
        1e-4, unit="1", gt=0, le=1e-2, description="share of stiffness left in a crack"
    )
    plane_strain_share: float = quantity(
        0.5, unit="1", ge=0, le=1, description="share of bodies in plane strain, the others in anti-plane shear"
    )
    poisson: tuple[float, float] = quantity((0.15, 0.35), unit="1", description="Poisson's ratio, of plane strain")
    toughness_sigma: Range = quantity((0.2, 0.65), unit="1", description="spread s of ln Gc, between trajectories")
    correlation_cells: Range = quantity(
        (1.2, 4.0), unit="h", description="correlation length of the fine part of ln Gc"
    )
    grain_share: float = quantity(
        0.3, unit="1", ge=0, le=1, description="share of bodies with a grain, along which they part more easily"
    )
    grain_strength: Range = quantity(
        (0.5, 3.5), unit="1", description="beta: a crack across the grain costs sqrt(1 + beta) of one along it"
    )
    grain_stretch: Range = quantity(
        (1.5, 5.0), unit="1", description="correlation of ln Gc along the grain / across it"
    )
    notch_fraction: ShareRange = quantity((0.06, 0.16), unit="sides", description="length of the first flaw")
    several_share: float = quantity(
        0.35, unit="1", ge=0, le=1, description="share of bodies with two to four flaws instead of one"
    )
    overload: Range = quantity(
        (0.0, 0.05), unit="1", description="growth of the load a step while a crack runs: loading outpaces it"
    )

    pace: ShareRange = quantity(
        (0.03, 0.09), unit="sides", description="advance of all cracks a step beyond which the load is taken back"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        grid_levels(self.grid)
        if not 0 <= self.poisson[0] <= self.poisson[1] < 0.5:
            raise ValueError(f"poisson must be ordered and lie in [0, 0.5), got {self.poisson}")
        if self.grain_strength[1] > 4.5:
            raise ValueError(f"grain_strength must not exceed 4.5, got {self.grain_strength}")
        return self


@dataclass(frozen=True)
class Specimen:
    """A body with flaws, before it is loaded.

    Attributes
    ----------
    from_edge : bool
        The first flaw comes in through the middle of the left side, and left and right side are free.
    mode : "antiplane" or "plane_strain"
        What is solved.
    flaws : (K, 4) float64
        Ends (y0, x0, y1, x1) of the straight flaws, in sides of the square.
    notch : (n + 1, n + 1) float64
        Damage at the corners before loading: 1 along the flaws.
    toughness : (n + 1, n + 1) float64
        Gc / mean Gc at the corners.
    tensor : (float, float, float)
        Structural tensor A of the damage gradient: yy, xx, yx.
    gradient : (2, 2) float64
        Applied displacement gradient: d u_i / d x_j, axes (y, x), in plane strain; in anti-plane shear the first row
        is the gradient and the second 0.
    poisson : float
        Poisson's ratio.
    overload : float
        Growth of the load a step while a crack runs.
    pace : float
        Advance of all cracks a step, in sides, beyond which the load is taken back.
    """

    from_edge: bool
    mode: Mode
    flaws: NDArray[np.float64]
    notch: NDArray[np.float64]
    toughness: NDArray[np.float64]
    tensor: tuple[float, float, float]
    gradient: NDArray[np.float64]
    poisson: float
    overload: float
    pace: float


def random_toughness(
    cells: int,
    rng: np.random.Generator,
    *,
    sigma: float,
    correlation: float,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> NDArray[np.float64]:
    """Gc / mean Gc at the corners, (n + 1, n + 1): log-normal, fine grain over a slow power-law drift.

    Parameters
    ----------
    cells : int
        n.
    rng : numpy.random.Generator
        Source of the fields.
    sigma : float
        Standard deviation of the fine part of ln Gc; the drift has half of it.
    correlation : float
        Length over which the fine part falls to 1 / e, grid spacings.
    stretch, angle : float
        Correlation along a grain / across it, and the grain's direction, radians from x towards y.
    """
    side = (2 * cells, 2 * cells)  # twice as wide, so that opposite sides of the square are not tied
    fine = gaussian_field(side, rng, correlation=correlation)
    drift = power_law_field(side, rng, exponent=1.2)
    if stretch > 1.0:
        fine = _stretched(fine, correlation=correlation, stretch=stretch, angle=angle)
    toughness = np.exp(sigma * fine + 0.5 * sigma * drift)[: cells + 1, : cells + 1]
    return np.asarray(toughness / toughness.mean(), dtype=np.float64)


def _stretched(field: NDArray[np.float64], *, correlation: float, stretch: float, angle: float) -> NDArray[np.float64]:
    """Average a Gaussian field along a direction until its correlation there is ``stretch`` times as long."""
    k_y = 2 * np.pi * np.fft.fftfreq(field.shape[0])[:, None]
    k_x = 2 * np.pi * np.fft.rfftfreq(field.shape[1])[None, :]
    along = np.sin(angle) * k_y + np.cos(angle) * k_x
    damping = np.exp(-0.5 * (0.5 * correlation * along) ** 2 * (stretch**2 - 1))
    smooth = np.fft.irfft2(np.fft.rfft2(field) * damping, s=field.shape)
    return np.asarray(smooth / smooth.std(), dtype=np.float64)


def draw(params: FractureParams, rng: np.random.Generator, *, from_edge: bool) -> Specimen:
    """Random flaws, load, grain and toughness."""
    n = params.grid
    mode: Mode = "plane_strain" if rng.random() < params.plane_strain_share else "antiplane"
    angle = np.pi / 2 if from_edge else float(rng.uniform(0.0, 2 * np.pi))
    grained = bool(rng.random() < params.grain_share)
    # a grain rather across the load, so that it matters: but at any angle
    grain = angle + np.pi / 2 + float(rng.normal(0.0, 0.7))
    strength, stretch = rng.uniform(*params.grain_strength), rng.uniform(*params.grain_stretch)
    toughness = random_toughness(
        n,
        rng,
        sigma=rng.uniform(*params.toughness_sigma),
        correlation=rng.uniform(*params.correlation_cells),
        stretch=stretch if grained else 1.0,
        angle=grain,
    )
    toughness[_margin(n, width=round(_GRIP_SHARE * n), mouth=from_edge)] *= _GRIP_TOUGHNESS
    flaws = _flaws(params, rng, angle=angle, from_edge=from_edge)
    return Specimen(
        from_edge=from_edge,
        mode=mode,
        flaws=flaws,
        notch=_rasterised(flaws, n),
        toughness=toughness,
        tensor=structural_tensor(strength, grain) if grained else ISOTROPIC,
        gradient=_gradient(rng, mode=mode, angle=angle, from_edge=from_edge),
        poisson=float(rng.uniform(*params.poisson)),
        overload=float(rng.uniform(*params.overload)),
        pace=float(rng.uniform(*params.pace)),
    )


def _flaws(params: FractureParams, rng: np.random.Generator, *, angle: float, from_edge: bool) -> NDArray[np.float64]:
    """Ends (K, 4) of the flaws in sides: the first roughly across the load, others anywhere at any angle."""
    several = 1 + int(rng.integers(1, 4)) if rng.random() < params.several_share else 1
    first = rng.uniform(*params.notch_fraction)
    tilt = float(rng.uniform(-0.4, 0.4))
    if from_edge:  # always at mid-height, so that the mouth can be laid on the edge of a part
        flaws = [np.array([0.5, 0.0, 0.5 + first * np.sin(tilt), first * np.cos(tilt)])]
    else:
        spread = 0.15 if several == 1 else 0.25
        flaws = [_flaw(0.5 + rng.uniform(-spread, spread, size=2), first, angle + np.pi / 2 + tilt)]
    for _ in range(several - 1):
        length = first * rng.uniform(0.4, 1.0)
        middle = rng.uniform(0.27, 0.73, size=2)
        flaws.append(_flaw(middle, length, angle + np.pi / 2 + float(rng.normal(0.0, 0.5))))
    return np.stack(flaws)


def _flaw(middle: NDArray[np.float64], length: float, along: float) -> NDArray[np.float64]:
    half = 0.5 * length * np.array([np.sin(along), np.cos(along)])
    return np.concatenate([middle - half, middle + half])


def _gradient(rng: np.random.Generator, *, mode: Mode, angle: float, from_edge: bool) -> NDArray[np.float64]:
    """Applied displacement gradient (2, 2), see `Specimen`; of size about 1."""
    pull = np.array([np.sin(angle), np.cos(angle)])
    if mode == "antiplane":
        return np.stack([pull, np.zeros(2)])
    if from_edge:  # faces drawn apart and a little sideways
        sideways = float(rng.normal(0.0, 0.15))
        return np.array([[1.0, 0.0], [sideways, 0.0]])
    across = np.array([-pull[1], pull[0]])
    second = float(rng.uniform(-0.3, 0.8))  # equal pull in both directions leaves the crack free to turn
    return np.outer(pull, pull) + second * np.outer(across, across)


def _rasterised(flaws: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Damage 1 at the corners next to the flaws, (n + 1, n + 1)."""
    damage = np.zeros((n + 1, n + 1))
    for flaw in flaws * n:
        start, end = flaw[:2], flaw[2:]
        share = np.linspace(0.0, 1.0, int(4 * np.linalg.norm(end - start)) + 2)[:, None]
        points = np.rint(start + share * (end - start)).astype(np.int64)
        damage[points[:, 0], points[:, 1]] = 1.0
    return damage


def body_of(params: FractureParams, specimen: Specimen) -> ElasticBody:
    """The elastic body of a specimen, at unit load."""
    n = params.grid
    if specimen.mode == "plane_strain":
        return PlaneStrainBody(
            n,
            poisson=specimen.poisson,
            gradient=specimen.gradient / n,
            open_columns=specimen.from_edge,
            blend=_BLEND / n,
            dtype=np.float32,
        )
    gy, gx = specimen.gradient[0]
    return AntiplaneBody(n, clamped="faces" if specimen.from_edge else "all", angle=float(np.arctan2(gy, gx)))


def grow(params: FractureParams, specimen: Specimen) -> Trajectory:
    """Load the specimen until its cracks have run their course.

    Returns
    -------
    Trajectory
        ``params.snapshots`` states of growing length (the same state may repeat where few were recorded).

    Notes
    -----
    The solvers are symmetric, but where a crack runs in a burst the order of rounding can decide which way. So a
    specimen is first laid in an orientation of its own, whichever way it was turned, and the result turned back.
    """
    if specimen.from_edge:  # its mouth says how it lies
        return _condense(_load_until_broken(params, specimen), params, specimen)
    dihedral = _own_orientation(specimen)
    laid = turn(specimen, dihedral)
    return turn_trajectory(_condense(_load_until_broken(params, laid), params, laid), turn_back(dihedral))


def _own_orientation(specimen: Specimen) -> int:
    """Turn after which the specimen lies the same way however it was turned before: largest toughness in a corner."""
    keys = []
    for dihedral in range(8):
        laid = turn(specimen, dihedral)
        load = tuple(float(value) for value in np.round(laid.gradient.ravel(), 9))  # decides in even material
        keys.append((float(laid.toughness[0, 0]), float(laid.toughness[0, 1]), load))
    return max(range(8), key=keys.__getitem__)


@dataclass
class _History:
    """Recorded states: damage at the corners, padded displacement at unit load, load, and number of broken corners."""

    damage: list[NDArray[np.float32]]
    displacement: list[NDArray[np.float32]]
    load: list[float]
    broken: list[int]

    def record(self, damage: NDArray[np.float32], body: ElasticBody, load: float, broken: int) -> None:
        self.broken.append(broken)
        self.damage.append(damage.copy())
        self.displacement.append(body.padded())
        self.load.append(load)


def _load_until_broken(params: FractureParams, specimen: Specimen) -> _History:
    """Load step by step and let the cracks run; the states at which a corner had newly broken.

    One step is one staggered sweep. The load grows by ``overload`` a step while a crack runs, faster while all rest.
    """
    n = params.grid
    body = body_of(params, specimen)
    toughness, d = specimen.toughness.astype(np.float32), specimen.notch.astype(np.float32)
    body.set_damage(d, residual_stiffness=params.residual_stiffness)
    body.solve(tolerance=1e-5, limit=60)
    stop = _margin(n, width=round(_STOP_SHARE * n), mouth=specimen.from_edge)
    before, near_before = kernels.count_broken(d, stop, _BROKEN)
    load = _first_load(body, d, toughness, params.length_ratio)
    tolerance, share = _SOLVER[specimen.mode]
    limit = max(2, round(share * n / 128))
    scratch = np.zeros((3, n + 1, n + 1), dtype=np.float32)
    history = _History([], [], [], [])
    broken, grown = before, 0.0
    for _ in range(_MAX_STEPS):
        psi = body.driving_energy().astype(np.float32)
        psi *= load * load
        floor = d.copy()
        kernels.relax_damage(
            d, floor, psi, toughness, params.length_ratio, specimen.tensor, _VISCOSITY / params.length_ratio,
            _DAMAGE_TOLERANCE, round(_DAMAGE_SWEEPS * params.length_ratio), scratch,
        )  # fmt: skip
        body.set_damage(d, residual_stiffness=params.residual_stiffness)
        body.solve(tolerance=tolerance, limit=limit)
        broken, near = kernels.count_broken(d, stop, _BROKEN)
        if broken > before:
            history.record(d, body, load, broken)
        advance = kernels.advance(d, floor, _CRACKED, params.length_ratio)
        load *= _load_growth(specimen, advance, float((d - floor).max()), n)
        before, grown = broken, grown + advance
        if grown >= _TARGET_SIDES * n or near > near_before:
            break
    if not history.load:  # the flaws never ran: keep the flaws themselves
        history.record(d, body, load, broken)
    return history


def _load_growth(specimen: Specimen, advance: float, change: float, n: int) -> float:
    """Factor on the load after a step in which cracks advanced so many grid spacings, and damage at most ``change``.

    At rest it grows fast as long as that does nothing to the damage; while a crack runs by ``overload``, and it is
    taken back as the crack comes to run faster than its pace. A continuous law, so that no rounding decides.
    """
    slow, fast = _RAMP
    rest = slow + (fast - slow) * max(0.0, 1.0 - change / 0.1)
    running = min(1.0, advance)
    growth = 1.0 + (1.0 - running) * rest + running * specimen.overload
    haste = max(1.0, advance / (specimen.pace * n))
    return float(growth * max(0.5, haste**-_TAKE_BACK))


def _first_load(
    body: ElasticBody, damage: NDArray[np.float32], toughness: NDArray[np.float32], length_ratio: float
) -> float:
    """Load at which the most strained sound corner has l psi / Gc = `_FIRST_DRIVE`."""
    drive = np.where(damage < 0.5, body.driving_energy() / toughness, 0.0)
    return float(np.sqrt(_FIRST_DRIVE / (length_ratio * drive.max())))


def turn(specimen: Specimen, dihedral: int) -> Specimen:
    """The same specimen turned, see `physics.mechanism.turn_array`."""
    matrix = _turn_matrix(dihedral)
    ends = specimen.flaws.reshape(-1, 2, 2) - 0.5
    yy, xx, yx = specimen.tensor
    tensor = matrix @ np.array([[yy, yx], [yx, xx]]) @ matrix.T
    if specimen.mode == "plane_strain":
        gradient = matrix @ specimen.gradient @ matrix.T
    else:
        gradient = specimen.gradient @ matrix.T
    return replace(
        specimen,
        flaws=(ends @ matrix.T + 0.5).reshape(-1, 4),
        notch=turn_array(specimen.notch, dihedral),
        toughness=turn_array(specimen.toughness, dihedral),
        tensor=(float(tensor[0, 0]), float(tensor[1, 1]), float(tensor[0, 1])),
        gradient=gradient,
    )


def _turn_matrix(dihedral: int) -> NDArray[np.float64]:
    """(2, 2) matrix on (y, x) of `turn_vector`: mirrored left-right first, then quarter turns counter-clockwise."""
    matrix = np.diag([1.0, -1.0 if dihedral >= 4 else 1.0])
    for _ in range(dihedral % 4):
        matrix = np.array([[0.0, -1.0], [1.0, 0.0]]) @ matrix
    return matrix


def refine(params: FractureParams, specimen: Specimen) -> tuple[FractureParams, Specimen]:
    """The same body on a grid twice as fine: toughness interpolated, regularisation length kept."""
    n = 2 * params.grid
    finer = params.model_copy(update={"grid": n, "length_ratio": 2 * params.length_ratio})
    coarse = specimen.toughness
    toughness = np.empty((n + 1, n + 1))
    toughness[::2, ::2] = coarse
    toughness[1::2, ::2] = 0.5 * (coarse[1:] + coarse[:-1])
    toughness[:, 1::2] = 0.5 * (toughness[:, :-2:2] + toughness[:, 2::2])
    return finer, replace(specimen, notch=_rasterised(specimen.flaws, n), toughness=toughness)


def _margin(n: int, *, width: int, mouth: bool) -> NDArray[np.bool_]:
    """Corners within ``width`` of a side; the left side is left out where the crack enters there."""
    from_far = (n - np.arange(n + 1)) < width
    from_near = np.arange(n + 1) < width
    rows = (from_far | from_near)[:, None]
    columns = (from_far if mouth else from_far | from_near)[None, :]
    return np.asarray(rows | columns)


def _condense(history: _History, params: FractureParams, specimen: Specimen) -> Trajectory:
    """Trace the final ridge once, then say of every state how much of it is open and how wide."""
    n = params.grid
    states = np.stack(history.damage)
    path = trace_ridge(states[-1], low=_RIDGE_LOW, high=_BROKEN)
    growth = trace_growth(states, path, broken=_RIDGE_LOW)
    chosen = evenly_broken(np.array(history.broken), params.snapshots)
    normals = path_normals(path, passes=_NORMAL_PASSES)
    jumps = np.stack(
        [
            crack_opening(
                history.displacement[t],
                states[t],
                path,
                in_plane=specimen.mode == "plane_strain",
                residual_stiffness=params.residual_stiffness,
                reach=round(0.5 * _OPENING_REACH * params.length_ratio),
                normals=normals,
            )
            for t in chosen
        ]
    )
    is_open = growth.arrival[None, :] <= chosen[:, None]
    opening = relative_opening(path, growth.edges, jumps, is_open, passes=_OPENING_PASSES)
    crack = Crack(segments=(path.nodes[growth.edges].reshape(-1, 4) / n).astype(np.float32), opening=opening)
    return Trajectory(
        fields={"damage": _visible_damage(states[chosen], from_edge=specimen.from_edge)},
        severity=growth.length[chosen] / growth.length[-1],
        area=np.maximum.accumulate(crack.relative_area()),
        from_edge=specimen.from_edge,
        crack=crack,
        facts={
            "load_griffith": tuple(history.load[t] for t in chosen),
            "length_cells": tuple(float(growth.length[t]) for t in chosen),
            "branch_points": (float((path.degree > 2).sum()),),
        },
    )


def _visible_damage(states: NDArray[np.float32], *, from_edge: bool) -> NDArray[np.float32]:
    """Damage at cell centres, (T, n, n), without what AT2 puts in all strained material, fading out at the border."""
    centres = 0.25 * (states[:, 1:, 1:] + states[:, :-1, 1:] + states[:, 1:, :-1] + states[:, :-1, :-1])
    n = centres.shape[1]
    near = np.minimum(np.arange(n), np.arange(n)[::-1])  # cells from the nearer side
    fade = np.clip(near / (_FADE_SHARE * n), 0.0, 1.0)
    across = np.where(np.arange(n) < n // 2, 1.0, fade) if from_edge else fade
    localised = np.maximum(centres - _STRAINED, 0.0) / (1.0 - _STRAINED)
    return np.asarray(localised * fade[:, None] * across, dtype=np.float32)


def crack_opening(
    displacement: NDArray[np.floating],
    damage: NDArray[np.floating],
    path: CrackPath,
    *,
    in_plane: bool,
    residual_stiffness: float,
    reach: int = _OPENING_REACH,
    normals: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Displacement jump across the crack at the nodes of its path, (P,), grid spacings at unit load.

    Parameters
    ----------
    displacement : (2, n + 2, n + 2)
        From `ElasticBody.padded`.
    damage : (n + 1, n + 1)
        Phase field at the corners.
    path : CrackPath
        Of the crack.
    in_plane : bool
        Plane strain: the jump along the normal, 0 where the lips touch; else the size of the jump out of plane.
    residual_stiffness : float
        Share of stiffness left in a crack.
    reach : int
        How far to each side strains count, grid spacings.
    normals : (P, 2), optional
        Unit normals of the path at its nodes, if known.
    """
    out = np.zeros(len(path.nodes))
    uy, ux = displacement
    across = path_normals(path, passes=_NORMAL_PASSES) if normals is None else normals
    kernels.opening_along(uy, ux, in_plane, damage, residual_stiffness, path.nodes, across, reach, out)
    return out


MECHANISM = Mechanism(
    name="fracture",
    title="Brittle fracture",
    summary="An AT2 phase field cracks a body of random toughness from random flaws, out of plane or in it.",
    params=FractureParams,
    fields=("opening", "damage"),
    draw=draw,
    grow=grow,
    turn=turn,
    refine=refine,
)
simulate = MECHANISM.simulate
