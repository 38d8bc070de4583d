"""Corrosion: pits, general attack and edge crevices, from film breakdown, dissolution and ion transport.

Metal under a passive film is sound. At nucleation sites the film breaks once the hazard that has built up there exceeds
the site's threshold,

    int W exp(c / cw) dt > E_k,        E_k exponentially distributed,

so that a pit starts after an induction time and calls up others around it. From there the mouth of the film, the zero
level set of phi, spreads with a speed of its own, as the film falls in above metal that is being undermined,

    phi_t + V w(x) a(c) |grad phi| = 0,        a(c) = 0.15 + c / (c + 0.3),

and where the film is gone the metal recedes along its normal by activation and diffusion in series,

    z_t = sqrt(1 + |grad z|^2) / (1 / (A r(x) a(c)) + z / (2 lam^2 D (1 - c))),

    sqrt(pi) lam exp(lam^2) erf(lam) = Csat / (Csolid - Csat).

Without surroundings this is z_t = A / (1 + z / zd), zd = 2 lam^2 D / A, with the depth zd (sqrt(1 + 2 A t / zd) - 1);
under diffusion control it is the one-phase Stefan problem, z^2 = 4 lam^2 D t, with its exact lam. The dissolved metal
spreads in the electrolyte over the surface, is swept away, or settles as corrosion product,

    c_t = D' lap c + Y z_t - (kappa(x) + k(x)) c,        m_t = Omega k(x) c / Y.

General attack has many sites on a wide weak patch; a crevice has an occluded strip along the left side, where ions are
not swept away. Every length is physical (sides of the square), the grid only resolves them.

Units: sides of the square; time such that a pit of the drawn pit length grows by about one pit length at full activity;
concentrations in saturations.

References
----------
Scheiner & Hellmich, "Stable pitting corrosion of stainless steel as diffusion-controlled dissolution process with a
sharp moving electrode boundary", Corros. Sci. 49 (2007): Csat 5.1, Csolid 143 mol/L, so that Csolid - Csat is 137.9.
Galvele, "Transport processes and the mechanism of pitting of metals", J. Electrochem. Soc. 123 (1976).
Organ, Scully, Mikhailov & Hudson, "A spatiotemporal model of interactions among metastable pits", Electrochim. Acta 51
(2005).
Osher & Sethian, "Fronts propagating with curvature-dependent speed", J. Comput. Phys. 79 (1988).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, model_validator
from scipy.optimize import brentq
from scipy.special import erf

from manifests.distributions import Distribution
from physics import _pitting_kernels as kernels
from physics.mechanism import Mechanism, MechanismParams, Trajectory, ordered, quantity, turn_array
from physics.random_fields import power_law_field

__all__ = [
    "MECHANISM",
    "MassBalance",
    "PittingParams",
    "Specimen",
    "diffuse_ions",
    "draw",
    "grow",
    "growth_law",
    "mass_balance",
    "open_depth",
    "refine",
    "simulate",
    "spread_mouth",
    "stefan_number",
    "turn",
]

Regime = Literal["pits", "uniform", "crevice"]
Scalar = TypeVar("Scalar", np.float32, np.float64)

_CAP = 0.06  # sides; phi is the distance to the mouth up to here
_VISIBLE = 1e-3  # sides; depth from which a place counts as attacked
_RECORDS = 40  # states kept on the way, thinned out by half when full
_NUCLEUS_CELLS = 0.75  # least radius of a nucleus: so that the centre of one cell lies in it
_IONS_BEYOND = 5.0  # reaches of ions, outside phi < cap, up to which they are followed
_LEAST_REACH = 0.025  # sides; ions spread at least as far, so that a coarse grid resolves them
_LONGEST_STEP = 0.15  # of the time after which ions are swept away
_FLOW_RANGE = (0.25, 2.2)  # of rate and weakness, relative to their medians
_LENGTH_SCALE = {"pits": 1.0, "uniform": 0.5, "crevice": 1.3}  # pit length relative to that of many pits
_SHIELD = 0.3  # sweeping in a crevice relative to the free surface


Range = Annotated[tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]], AfterValidator(ordered)]

Counts = Annotated[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]], AfterValidator(ordered)]


class PittingParams(MechanismParams):
    """Parameters of corrosion; a range is drawn from for each trajectory, log-uniformly."""

    edge_share: float = quantity(
        0.15, unit="1", ge=0, le=1, description="share of trajectories that are crevices, from the edge of a part"
    )
    area: Distribution = quantity(
        Distribution(kind="loguniform", low=0.002, high=0.08), unit="1", description="area of the defect / picture"
    )
    uniform_share: float = quantity(
        0.22, unit="1", ge=0, le=1, description="share of general attack among those inside the part"
    )
    lone_share: float = quantity(0.35, unit="1", ge=0, le=1, description="share of pitted specimens with few sites")
    lone_sites: Counts = quantity((1, 3), unit="1", description="nucleation sites of a specimen with few")
    rolled_share: float = quantity(
        0.4, unit="1", ge=0, le=1, description="share of specimens with stringers along a rolling direction"
    )
    saturation: float = quantity(5.1, unit="mol/L", gt=0, description="ions in the electrolyte at saturation, Csat")
    solid: float = quantity(143.0, unit="mol/L", gt=0, description="metal in the solid, Csolid")
    sites: Range = quantity((4.0, 160.0), unit="1", description="nucleation sites of a specimen with many")
    pit_length: Range = quantity((0.03, 0.1), unit="sides", description="scale of a pit's depth")
    diffusion_depth: Range = quantity(
        (0.15, 2.0), unit="pit lengths", description="depth zd at which diffusion slows dissolution by half"
    )
    spreading: Range = quantity((0.35, 2.2), unit="1", description="speed of the mouth V / speed of dissolution A")
    hazard: Range = quantity((0.03, 1.0), unit="1 / time", description="rate W at which a site breaks without ions")
    ion_scale: float = quantity(0.15, unit="1", gt=0, description="concentration cw that raises the hazard e-fold")
    ion_length: Range = quantity((0.5, 2.0), unit="pit lengths", description="reach of ions before they are swept off")
    ion_life: Range = quantity((0.25, 0.6), unit="time", description="time after which ions are swept off")
    ion_level: Range = quantity((0.6, 1.8), unit="1", description="concentration over wide attack at full activity")
    product_share: Range = quantity(
        (0.03, 0.6), unit="1", description="ions that settle / ions swept off, free surface"
    )
    volume_ratio: Range = quantity((2.0, 3.5), unit="1", description="volume of the product / of its metal")
    grain_spread: Range = quantity((0.05, 0.45), unit="1", description="spread of ln r between grains")
    grain_length: Range = quantity((0.02, 0.09), unit="sides", description="grain size")
    film_spread: Range = quantity((0.3, 0.9), unit="1", description="spread of ln w of the film")
    final_area: Range = quantity((0.03, 0.25), unit="1", description="area of the square at which growth ends")
    duration: float = quantity(5.0, unit="time", gt=0, description="growth ends this long after the first breakdown")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.saturation < self.solid:
            raise ValueError(f"saturation must be below solid, got {self.saturation} and {self.solid}")
        if self.final_area[1] > 0.6:
            raise ValueError(f"final_area must not exceed 0.6, got {self.final_area}")
        return self


@dataclass(frozen=True)
class Specimen:
    """A metal surface with its film, before it breaks.

    Attributes
    ----------
    from_edge : bool
        A crevice along the left side.
    regime : "pits", "uniform" or "crevice"
        What the specimen was drawn as; the equations are the same.
    rate, weakness : (n, n) float64
        r and w of the equations.
    sweeping, settling : (n, n) float64
        kappa and k on the film, 1 / time.
    sites : (K, 6) float64
        Nucleation sites: y, x, half a stringer's vector (y, x), radius, in sides; threshold E.
    dissolution, stefan, mouth_speed : float
        A and V, sides / time; 2 lam^2 D, sides^2 / time.
    hazard, ion_scale : float
        W, 1 / time, and cw.
    spread, ion_yield : float
        D', sides^2 / time, and Y, saturations / side.
    in_pit : float
        Settling in an acid pit, relative to that on the film.
    volume_ratio : float
        Omega.
    longest_step, duration : float
        Time.
    final_area : float
        Share of the square.
    """

    from_edge: bool
    regime: Regime
    rate: NDArray[np.float64]
    weakness: NDArray[np.float64]
    sweeping: NDArray[np.float64]
    settling: NDArray[np.float64]
    sites: NDArray[np.float64]
    dissolution: float
    stefan: float
    mouth_speed: float
    hazard: float
    ion_scale: float
    spread: float
    ion_yield: float
    in_pit: float
    volume_ratio: float
    longest_step: float
    duration: float
    final_area: float


def stefan_number(*, saturation: float, solid: float) -> float:
    """Root lam of sqrt(pi) lam exp(lam^2) erf(lam) = Csat / (Csolid - Csat).

    Parameters
    ----------
    saturation, solid : float
        Csat and Csolid, in the same unit, 0 < Csat < Csolid.

    Raises
    ------
    ValueError
        If they are not ordered so.

    References
    ----------
    Crank, "Free and Moving Boundary Problems" (1984), chapter 1.
    """
    if not 0 < saturation < solid:
        raise ValueError(f"saturation must lie between 0 and solid, got {saturation} and {solid}")
    ratio = saturation / (solid - saturation)

    def excess(lam: float) -> float:
        return float(np.sqrt(np.pi) * lam * np.exp(lam * lam) * erf(lam)) - ratio

    return float(brentq(excess, 0.0, 1.0 + np.sqrt(np.log1p(ratio)), xtol=1e-14))


def growth_law(time: NDArray[np.float64], *, dissolution: float, depth_scale: float) -> NDArray[np.float64]:
    """Depth zd (sqrt(1 + 2 A t / zd) - 1) of a wide pit: z_t = A / (1 + z / zd), same shape as ``time``."""
    root = np.sqrt(1.0 + 2.0 * dissolution * np.asarray(time, dtype=np.float64) / depth_scale)
    return np.asarray(depth_scale * (root - 1.0), dtype=np.float64)


@dataclass(frozen=True)
class _Scale:
    """Numbers of a specimen that its fields need: pit length, few sites or many, rolling angle, stringers or not."""

    length: float
    lone: bool
    angle: float
    rolled: bool


def _log_uniform(rng: np.random.Generator, pair: tuple[float, float]) -> float:
    return float(pair[0] * (pair[1] / pair[0]) ** rng.random())


def draw(params: PittingParams, rng: np.random.Generator, *, from_edge: bool) -> Specimen:
    """Draw film, metal, nucleation sites and electrolyte.

    Parameters
    ----------
    params : PittingParams
        Ranges to draw from.
    rng : numpy.random.Generator
        The trajectory's stream.
    from_edge : bool
        A crevice along the left side; else pits or general attack inside the square.
    """
    regime: Regime = "crevice" if from_edge else "uniform" if rng.random() < params.uniform_share else "pits"
    lone = regime == "pits" and rng.random() < params.lone_share
    length = _log_uniform(rng, params.pit_length) * (2.0 if lone else _LENGTH_SCALE[regime])
    scale = _Scale(length, lone, float(rng.uniform(0, np.pi)), bool(rng.random() < params.rolled_share))
    ragged = power_law_field((params.grid, params.grid), rng, exponent=1.6)
    window = _window(ragged, from_edge=from_edge)
    zone = _zone(regime, ragged, rng) * window
    sites = _draw_sites(params, regime, scale, zone, rng)
    weakness = _draw_weakness(params, regime, scale, sites, zone, window, rng)
    return _with_chemistry(params, regime, scale, sites, weakness, zone, window, rng)


def _centres(n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows (n, 1) and columns (1, n) of cell centres, in sides."""
    x = (np.arange(n) + 0.5) / n
    return x[:, None], x[None, :]


def _smooth_step(value: NDArray[np.float64]) -> NDArray[np.float64]:
    t = np.clip(value, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float64)


def _window(ragged: NDArray[np.float64], *, from_edge: bool) -> NDArray[np.float64]:
    """1 inside, 0 towards the border by a ragged line, so that no attack reaches it; (n, n)."""
    y, x = _centres(len(ragged))
    nearest = np.minimum(np.minimum(y, 1 - y), 1 - x if from_edge else np.minimum(x, 1 - x))
    margin = 0.05 + 0.1 / (1.0 + np.exp(-1.5 * ragged))
    return _smooth_step((nearest - margin) / 0.1)


def _zone(regime: Regime, ragged: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Where the film is prone to break: a ragged ellipse, 1 inside, (n, n)."""
    y, x = _centres(len(ragged))
    angle = rng.uniform(0, np.pi)
    if regime == "crevice":
        cy, cx, angle = rng.uniform(0.42, 0.58), 0.0, 0.0
        along, across = _log_uniform(rng, (0.06, 0.3)), _log_uniform(rng, (0.08, 0.32))
    else:
        cy, cx = rng.uniform(0.42, 0.58, size=2)
        along = _log_uniform(rng, (0.16, 0.4) if regime == "uniform" else (0.08, 0.5))
        across = along * _log_uniform(rng, (0.3, 1.0))
    u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
    v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
    outwards = np.hypot(u / along, v / across) + 0.28 * ragged
    return np.asarray(1.0 / (1.0 + np.exp(np.clip((outwards - 1.0) / 0.12, -30, 30))), dtype=np.float64)


def _draw_sites(
    params: PittingParams, regime: Regime, scale: _Scale, zone: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Nucleation sites (K, 6), see `Specimen`."""
    n = len(zone)
    count = round(_log_uniform(rng, params.sites))
    if regime == "uniform":
        count = max(count, 40)
    elif scale.lone:
        count = int(rng.integers(params.lone_sites[0], params.lone_sites[1] + 1))
    drift = power_law_field((n, n), rng, exponent=1.3)
    density = zone * np.exp(rng.uniform(0.0, 1.4) * drift)
    if regime == "crevice":
        density = density * np.exp(-_centres(n)[1] / 0.03)
    chosen = rng.choice(n * n, size=count, p=density.ravel() / density.sum())
    places = np.stack(np.divmod(chosen, n), axis=1) + rng.random((count, 2))
    half = scale.length * rng.lognormal(-1.2 if scale.rolled or scale.lone else -2.3, 0.9, size=count)
    angles = scale.angle + rng.normal(0.0, 0.12, size=count) if scale.rolled else rng.uniform(0, np.pi, size=count)
    half = np.minimum(half, 1.2 * scale.length)
    radius = 0.010 * rng.lognormal(0.0, 0.3, size=count)
    vector = half * np.stack([np.sin(angles), np.cos(angles)])
    return np.column_stack([places / n, vector[0], vector[1], radius, rng.exponential(size=count)])


def _draw_weakness(
    params: PittingParams,
    regime: Regime,
    scale: _Scale,
    sites: NDArray[np.float64],
    zone: NDArray[np.float64],
    window: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """How fast the film falls in from place to place, w, (n, n): weak spots, Pareto in size, around the sites."""
    n = len(zone)
    spots = np.zeros((n, n))
    size = (0.7 if scale.lone else 0.5) * scale.length * np.minimum((1.0 - rng.random(len(sites))) ** (-1 / 1.5), 6.0)
    # waves longer than a spot would only scale it
    longest = _log_uniform(rng, (1.0, 3.5)) * max(scale.length, 0.8 * float(size.max())) * n
    fine = power_law_field((n, n), rng, exponent=rng.uniform(1.2, 2.0), low=2 * np.pi / max(longest, 4.0))
    film = np.exp(_log_uniform(rng, params.film_spread) * fine)
    for site, radius in zip(sites, size, strict=True):
        kernels.raise_zone(spots, site[0], site[1], site[2], site[3], float(radius))
    prone = np.maximum(spots, zone) if regime != "pits" else spots
    background = rng.uniform(0.02, 0.3)
    return np.asarray(np.clip(film, *_FLOW_RANGE) * (background + (1 - background) * prone) * window)


def _draw_rate(params: PittingParams, regime: Regime, rng: np.random.Generator) -> NDArray[np.float64]:
    """Dissolution rate from place to place, r, (n, n): grains, and a fine part below them."""
    n = params.grid
    squares = max(2, round(1.0 / _log_uniform(rng, params.grain_length)))
    grains = np.empty((n, n))
    kernels.nearest_grain(rng.random((squares, squares, 2)), rng.standard_normal((squares, squares)), grains)
    fine = power_law_field((n, n), rng, exponent=1.1, low=2 * np.pi / (0.25 * n))
    rough = rng.uniform(0.25, 0.6) if regime == "uniform" else rng.uniform(0.05, 0.25)
    return np.clip(np.exp(_log_uniform(rng, params.grain_spread) * grains + rough * fine), *_FLOW_RANGE)


def _with_chemistry(
    params: PittingParams,
    regime: Regime,
    scale: _Scale,
    sites: NDArray[np.float64],
    weakness: NDArray[np.float64],
    zone: NDArray[np.float64],
    window: NDArray[np.float64],
    rng: np.random.Generator,
) -> Specimen:
    """The rest of a specimen: dissolution, electrolyte and product."""
    n = params.grid
    life = _log_uniform(rng, params.ion_life)
    reach = max(_log_uniform(rng, params.ion_length) * scale.length, _LEAST_REACH)
    longest = rng.uniform(2.0, 6.0) * reach * n
    patchy = power_law_field((n, n), rng, exponent=1.5, low=2 * np.pi / max(longest, 4.0))
    sweeping = (1.0 - (1.0 - _SHIELD) * zone if regime == "crevice" else np.ones((n, n))) / life
    settling = _log_uniform(rng, params.product_share) / life * np.clip(0.6 + 0.8 * patchy, 0.0, 2.5) * window
    depth_scale = _log_uniform(rng, params.diffusion_depth) * scale.length
    spreading = _log_uniform(rng, params.spreading) * (2.5 if regime == "uniform" else 1.3 if scale.lone else 1.0)
    return Specimen(
        from_edge=regime == "crevice",
        regime=regime,
        rate=_draw_rate(params, regime, rng),
        weakness=weakness,
        sweeping=sweeping,
        settling=settling,
        sites=sites,
        dissolution=scale.length,
        stefan=depth_scale * scale.length,
        mouth_speed=spreading * scale.length,
        hazard=_log_uniform(rng, params.hazard) * (4.0 if regime == "uniform" else 1.0),
        ion_scale=params.ion_scale,
        spread=reach * reach / life,
        ion_yield=_log_uniform(rng, params.ion_level) / (life * scale.length),
        in_pit=float(rng.uniform(0.1, 0.6)),
        volume_ratio=_log_uniform(rng, params.volume_ratio),
        longest_step=_LONGEST_STEP * life,
        duration=params.duration,
        final_area=_log_uniform(rng, params.final_area) * (1.5 if regime == "uniform" else 1.0),
    )


@dataclass
class _Run:
    """What the kernel leaves: records of depth and product (R, n, n), figures (R, 5), last ions, sums over cells."""

    depths: NDArray[np.float32]
    products: NDArray[np.float32]
    figures: NDArray[np.float64]
    depth: NDArray[np.float64]
    ions: NDArray[np.float64]
    totals: NDArray[np.float64]
    steps: int


def _run(specimen: Specimen) -> _Run:
    """Run the kernel over a specimen."""
    n = len(specimen.rate)
    phi, other = np.full((2, n + 4, n + 4), _CAP)
    depth, (ions, product) = np.zeros((n + 4, n + 4)), np.zeros((2, n, n))
    depths = np.empty((_RECORDS, n, n), dtype=np.float32)
    products = np.empty_like(depths)
    figures = np.empty((_RECORDS, 5))
    totals = np.zeros(2)
    s = specimen
    kept, steps = kernels.corrode(
        phi, other, depth, ions, product,
        np.stack([s.rate, s.weakness, s.sweeping, s.settling]), s.sites, s.sites[:, 5].copy(),
        (s.dissolution, s.stefan, s.mouth_speed, s.hazard, s.ion_scale),
        (s.spread, s.ion_yield, s.in_pit, s.volume_ratio, _IONS_BEYOND * float(np.sqrt(s.spread / s.sweeping.max()))),
        (s.duration, s.final_area, _VISIBLE, s.longest_step, _CAP, _NUCLEUS_CELLS / n),
        depths, products, figures, np.empty((4, n, n)), np.empty((2, n)), totals,
    )  # fmt: skip
    return _Run(depths[:kept], products[:kept], figures[:kept], depth[2:-2, 2:-2], ions, totals, steps)


def grow(params: PittingParams, specimen: Specimen) -> Trajectory:
    """Corrode the specimen until its final area or its time is reached.

    Returns
    -------
    Trajectory
        ``params.snapshots`` states, evenly spaced in the square root of the mass lost, which is their severity.
    """
    run = _run(specimen)
    share = np.arange(1, params.snapshots + 1) / params.snapshots
    mass = run.figures[:, 2]
    later = np.minimum(np.searchsorted(mass, share**2 * mass[-1] * (1 - 1e-12)), len(mass) - 1)
    before = np.where(later > 0, mass[later - 1], 0.0)
    weight = np.clip((share**2 * mass[-1] - before) / (mass[later] - before), 0.0, 1.0)
    time, cells, _, deepest, pits = _between(run.figures, later, weight).T
    n = params.grid
    return Trajectory(
        fields={"depth": _between(run.depths, later, weight), "product": _between(run.products, later, weight)},
        severity=share,
        area=np.maximum.accumulate(cells) / (n * n),
        from_edge=specimen.from_edge,
        facts={
            "mass_lost_sides3": tuple(float(v) for v in share**2 * mass[-1] / (n * n)),
            "deepest_sides": tuple(float(v) for v in deepest),
            "pits": tuple(float(v) for v in np.ceil(pits)),
            "time": tuple(float(v) for v in np.where(later > 0, time, run.figures[0, 0])),
        },
    )


def _between(records: NDArray[Scalar], later: NDArray[np.intp], weight: NDArray[np.float64]) -> NDArray[Scalar]:
    """States at shares ``weight`` of the way from record ``later - 1`` (before the first: nothing) to ``later``.

    A step moves the mouth by less than a cell, so that states between two are seldom far from a straight line. Rounding
    never takes a state below the one before.
    """
    out = np.empty((len(later), *records.shape[1:]), dtype=records.dtype)
    for state, k, share in zip(out, later, weight, strict=True):
        end = records[k]
        if k == 0:
            np.multiply(end, records.dtype.type(share), out=state)
            continue
        np.subtract(end, records[k - 1], out=state)
        state *= records.dtype.type(share)
        state += records[k - 1]
        np.minimum(state, end, out=state)
    return out


def turn(specimen: Specimen, dihedral: int) -> Specimen:
    """The same specimen turned, see `physics.mechanism.turn_array`."""
    sites = specimen.sites.copy()
    pairs = np.stack([sites[:, :2] - 0.5, sites[:, 2:4]])  # positions about the centre, and vectors
    if dihedral >= 4:
        pairs[..., 1] *= -1.0
    for _ in range(dihedral % 4):  # a quarter turn counter-clockwise takes right to up, and down to right
        pairs = np.stack([-pairs[..., 1], pairs[..., 0]], axis=-1)
    sites[:, :2], sites[:, 2:4] = pairs[0] + 0.5, pairs[1]
    return replace(
        specimen,
        rate=turn_array(specimen.rate, dihedral),
        weakness=turn_array(specimen.weakness, dihedral),
        sweeping=turn_array(specimen.sweeping, dihedral),
        settling=turn_array(specimen.settling, dihedral),
        sites=sites,
    )


def refine(params: PittingParams, specimen: Specimen) -> tuple[PittingParams, Specimen]:
    """The same surface on a grid twice as fine: fields interpolated between cell centres, sites and lengths kept."""
    finer = params.model_copy(update={"grid": 2 * params.grid})
    return finer, replace(
        specimen,
        rate=_finer(specimen.rate),
        weakness=_finer(specimen.weakness),
        sweeping=_finer(specimen.sweeping),
        settling=_finer(specimen.settling),
    )


def _finer(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bilinear values at the centres of half as wide cells, (2 n, 2 n); held constant beyond the outermost centres."""
    padded = np.pad(values, 1, mode="edge")
    for _ in range(2):  # along the rows, then, turned, along the columns
        fine = np.empty((2 * len(padded) - 4, padded.shape[1]))
        fine[::2] = 0.75 * padded[1:-1] + 0.25 * padded[:-2]
        fine[1::2] = 0.75 * padded[1:-1] + 0.25 * padded[2:]
        padded = fine.T
    return np.ascontiguousarray(padded)


def open_depth(
    duration: float,
    *,
    dissolution: float,
    diffusivity: float,
    saturation: float,
    solid: float,
    steps: int = 200,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Depth of a wide open pit in a clean electrolyte, by the kernel that `grow` runs.

    Parameters
    ----------
    duration : float
        Time in all.
    dissolution : float
        A, speed at depth 0, length / time; large means diffusion control from the start.
    diffusivity : float
        D of the ions in the pit, length^2 / time.
    saturation, solid : float
        Csat and Csolid, in the same unit.
    steps : int
        Time steps, all alike.

    Returns
    -------
    (steps + 1,) float64, (steps + 1,) float64
        Times and depths.

    Raises
    ------
    ValueError
        If a rate is not positive, or the concentrations are not ordered.
    """
    if not (dissolution > 0 and diffusivity > 0 and duration > 0 and steps > 0):
        raise ValueError("duration, dissolution, diffusivity and steps must be positive")
    stefan = 2.0 * stefan_number(saturation=saturation, solid=solid) ** 2 * diffusivity
    one, none = np.ones((2, 2)), np.zeros((2, 2))
    z, loss = np.zeros((6, 6)), np.empty((2, 2))
    depth = np.zeros(steps + 1)
    for k in range(steps):
        kernels.dissolve(z, one, none, one, one, dissolution, stefan, duration / steps, (0, 2, 0, 2), loss)
        z[2:4, 2:4] += loss
        depth[k + 1] = z[2, 2]
    return np.linspace(0.0, duration, steps + 1), depth


def spread_mouth(
    distance: NDArray[np.float64], *, speed: NDArray[np.float64] | float, duration: float, steps: int
) -> NDArray[np.float64]:
    """Level set phi of a mouth after it has spread, by the kernel that `grow` runs.

    Parameters
    ----------
    distance : (n, n) float64
        phi at the start, sides; negative within the mouth. Not changed.
    speed : (n, n) float64 or float
        Sides / time, not negative.
    duration : float
        Time.
    steps : int
        At least duration x speed x n x sqrt(2), for stability.

    Raises
    ------
    ValueError
        If the steps are too few, or a speed is negative.
    """
    n = len(distance)
    v = np.broadcast_to(np.asarray(speed, dtype=np.float64), distance.shape).copy()
    if v.min() < 0:
        raise ValueError("the mouth only spreads: speed must not be negative")
    if duration * v.max() * n * np.sqrt(2.0) > steps:
        raise ValueError(f"too few steps, at least {int(np.ceil(duration * v.max() * n * np.sqrt(2.0)))} are needed")
    phi = np.pad(distance.astype(np.float64), 2)
    back, slope = np.empty_like(phi), np.empty((n, n))
    for _ in range(steps):
        kernels.extend_border(phi)
        kernels.advance_mouth(phi, np.ones((n, n)), v, 1.0, duration / steps, (0, n, 0, n), back, slope)
        phi, back = back, phi
    return phi[2:-2, 2:-2]


def diffuse_ions(
    concentration: NDArray[np.float64], *, diffusivity: float, duration: float, steps: int
) -> NDArray[np.float64]:
    """Concentration (n, n) after diffusion without flux through the border, by the kernel that `grow` runs.

    Parameters
    ----------
    concentration : (n, n) float64
        At the start; not changed.
    diffusivity : float
        Sides^2 / time.
    duration : float
        Time.
    steps : int
        Implicit steps, any number.
    """
    c = concentration.astype(np.float64)
    n = len(c)
    lines = np.empty((2, n))
    for _ in range(steps):
        kernels.diffuse(c, diffusivity * duration / steps * n * n, (0, n, 0, n), lines[0], lines[1])
    return c


@dataclass(frozen=True)
class MassBalance:
    """Where the metal of a finished run is, in sides^3: dissolved = stored in ions + swept away + settled."""

    dissolved: float
    stored: float
    swept: float
    settled: float

    @property
    def error(self) -> float:
        """Metal that is nowhere, relative to what dissolved."""
        return abs(self.dissolved - self.stored - self.swept - self.settled) / self.dissolved


def mass_balance(specimen: Specimen) -> MassBalance:
    """Corrode a specimen and account for its metal."""
    run = _run(specimen)
    cell = 1.0 / run.depth.size
    return MassBalance(
        dissolved=float(run.depth.sum() * cell),
        stored=float(run.ions.sum() / specimen.ion_yield * cell),
        swept=float(run.totals[0] * cell),
        settled=float(run.totals[1] * cell),
    )


MECHANISM = Mechanism(
    name="pitting",
    title="Pitting",
    summary="A passive film breaks at random sites, and the metal below dissolves under ion transport.",
    params=PittingParams,
    fields=("depth", "product"),
    draw=draw,
    grow=grow,
    turn=turn,
    refine=refine,
)
simulate = MECHANISM.simulate
