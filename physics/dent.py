"""Height and in-plane displacement of a surface that a hard body has dented: imprint, pile-up, and where matter went.

A body - ball, cone, pyramid, edge, flat face, rough or broken stone - is pressed into an elastic-perfectly plastic
half-space (`physics.contact`), deeper and deeper. What stays after unloading is the plastic depth w. Plastic flow keeps
the volume: what leaves the imprint comes up around it,

    height = -w + (1 - s) G_near * w + s G_far * w,

with G normalised round kernels: a near one of about a third of the contact's radius, which makes the pile-up at the
rim, and a far one, over which a hardening metal spreads its share s and hardly shows (sink-in). The matter moves
outwards by u = -grad phi / a, lap phi = height, a being the contact's radius: its flux through the layer that flows,
about a deep, is what the heights demand.

Units: lengths in sides of the square, pressures in E*.

References
----------
Tabor, "The Hardness of Metals" (1951), for pile-up, sink-in and hardness.
Johnson, "Contact Mechanics" (1985), chapter 6, for the plastic zone about as deep as the contact is wide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from manifests.distributions import Distribution
from physics.contact import Contact, press
from physics.mechanism import Mechanism, MechanismParams, Trajectory, quantity, turn_array
from physics.random_fields import power_law_field

__all__ = ["BODIES", "MECHANISM", "DentParams", "Specimen", "draw", "grow", "pile_up", "refine", "simulate", "turn"]

Real = NDArray[np.float64]
Body = Literal["ball", "cone", "pyramid", "edge", "face", "stone"]
BODIES: tuple[Body, ...] = ("ball", "cone", "pyramid", "edge", "face", "stone")

_BORDER = 0.14  # sides; no contact comes nearer to the border
_SEEN = 0.12  # slope from which a place counts as dented: some eight grey levels under a low light
_CONTACT_TOLERANCE = 2e-3
_CONTACT_LIMIT = 60
_RIM = 0.008  # sides; the plastic flow rounds whatever is sharper
_LEAST_KERNEL = 0.012  # sides
_MOST_KERNEL = 0.055
_FAR = 2.4  # width of the far kernel / the near one
_REACH = 1.4  # distance to the border / three widths of the near kernel
_SAME_TOOL = 0.7  # share of specimens hit several times by one tool
_TRIES = 12


class DentParams(MechanismParams):
    """Parameters of dents; ranges are drawn from for each trajectory."""

    edge_share: float = quantity(0.15, unit="1", ge=0, le=1, description="share of dents over the edge of a part")
    severity: Distribution = quantity(
        Distribution(low=0.5, high=1.0), unit="1", description="how far along its trajectory a sample is taken"
    )
    area: Distribution = quantity(
        Distribution(kind="loguniform", low=0.006, high=0.15), unit="1", description="area of the defect / picture"
    )
    bodies: tuple[Body, ...] = quantity(
        BODIES, unit="1", min_length=1, description="kinds of body, one drawn for each hit or the same for all"
    )
    several_share: float = quantity(0.35, unit="1", ge=0, le=1, description="share of specimens hit more than once")
    hits: int = quantity(9, unit="1", ge=2, le=40, description="most hits of a specimen hit more than once")
    radius: Distribution = quantity(
        Distribution(kind="loguniform", low=0.05, high=0.16), unit="sides", description="radius of the largest contact"
    )
    slope: Distribution = quantity(
        Distribution(low=0.35, high=0.9), unit="1", description="slope of the body at the rim of its contact"
    )
    hardness: Distribution = quantity(
        Distribution(kind="loguniform", low=0.002, high=0.015), unit="E*", description="hardness of the material"
    )
    hardening: Distribution = quantity(
        Distribution(low=0.1, high=0.7), unit="1", description="share of the pile-up that hardening spreads far"
    )
    roughness: float = quantity(
        0.06, unit="1", ge=0, le=0.5, description="roughness of stones and worn bodies / depth of the dent"
    )


@dataclass(frozen=True)
class Specimen:
    """A surface and the bodies above it.

    Attributes
    ----------
    gap : (n, n) float64
        Height of the lowest body surface above the surface, sides; least where it touches first.
    hardness : (n, n) float64
        In E*; softer towards the edge of a part.
    depth : float
        How far the bodies go down, sides.
    radius : float
        Of the largest contact, sides.
    hardening : float
        Share s of the pile-up that is spread far.
    from_edge : bool
        The dent lies over the left side.
    """

    gap: Real
    hardness: Real
    depth: float
    radius: float
    hardening: float
    from_edge: bool


def draw(params: DentParams, rng: np.random.Generator, *, from_edge: bool) -> Specimen:
    """Draw bodies, places and material."""
    n = params.grid
    radius, slope = params.radius.draw(rng), params.slope.draw(rng)
    count = int(rng.integers(2, params.hits + 1)) if rng.random() < params.several_share else 1
    kinds = [params.bodies[int(rng.integers(len(params.bodies)))] for _ in range(count)]
    if rng.random() < _SAME_TOOL:
        kinds = [kinds[0]] * count
    gap, depth = _bodies(params, rng, kinds, radius, slope, from_edge=from_edge)
    for _ in range(_TRIES):  # long bodies may reach too near to the border
        if _keeps_distance(gap < depth, _distance(radius), from_edge=from_edge):
            break
        radius *= 0.85
        gap, depth = _bodies(params, rng, kinds, radius, slope, from_edge=from_edge)
    softer = 0.5 * np.exp(-_coordinates(n)[1] / 0.06) if from_edge else np.zeros((1, n))
    return Specimen(
        gap=gap,
        hardness=params.hardness.draw(rng) * np.repeat(1.0 - softer, n, axis=0),
        depth=depth,
        radius=radius,
        hardening=params.hardening.draw(rng),
        from_edge=from_edge,
    )


def _bodies(
    params: DentParams, rng: np.random.Generator, kinds: list[Body], radius: float, slope: float, *, from_edge: bool
) -> tuple[Real, float]:
    """(gap below the lowest of the bodies, how far they go down), sides; the first has the largest contact."""
    sizes = radius * np.minimum(1.0, 0.35 * (1.0 - rng.random(len(kinds))) ** -0.6)  # heavy-tailed
    sizes[0] = radius
    direction = rng.uniform(0, 2 * np.pi)
    gap = np.full((params.grid, params.grid), np.inf)
    deepest = 0.0
    for kind, size in zip(kinds, sizes, strict=True):
        centre = _place(rng, float(size), from_edge=from_edge)
        angle = direction + rng.normal(0.0, 0.15) if kind == kinds[0] else rng.uniform(0, 2 * np.pi)
        surface, depth = _body_surface(params, rng, kind, centre, float(size), slope, angle)
        deepest = max(deepest, depth)
        gap = np.minimum(gap, surface - depth)  # each ends as deep as its own size asks
    return gap + deepest, deepest


def _distance(radius: float) -> float:
    """What a contact keeps from the border: three widths of the near kernel, sides."""
    return 3.0 * _near(radius) * _REACH


def _near(radius: float) -> float:
    """Width of the near kernel of a contact of this radius, sides."""
    return float(np.clip(0.38 * radius, _LEAST_KERNEL, _MOST_KERNEL))


def _keeps_distance(touched: NDArray[np.bool_], distance: float, *, from_edge: bool) -> bool:
    rows, columns = np.nonzero(touched.any(axis=1))[0], np.nonzero(touched.any(axis=0))[0]
    if not len(rows):
        return False
    n = len(touched)
    sides = [rows[0], n - 1 - rows[-1], n - 1 - columns[-1]] + ([] if from_edge else [columns[0]])
    return bool(min(sides) >= distance * n)


def _coordinates(n: int) -> tuple[Real, Real]:
    """Rows (n, 1) and columns (1, n) of cell centres, sides."""
    x = (np.arange(n) + 0.5) / n
    return x[:, None], x[None, :]


def _place(rng: np.random.Generator, size: float, *, from_edge: bool) -> tuple[float, float]:
    """Middle of a contact: anywhere that keeps its distance to the border; near the left side if it comes over it."""
    room = max(0.0, 0.5 - _BORDER - 1.2 * size)
    y, x = 0.5 + rng.uniform(-room, room, size=2)
    if from_edge:
        return 0.5 + float(rng.normal(0.0, 0.3)) * room, float(rng.uniform(-0.5, 0.6)) * size
    return float(y), float(x)


def _body_surface(
    params: DentParams,
    rng: np.random.Generator,
    kind: Body,
    centre: tuple[float, float],
    size: float,
    slope: float,
    angle: float,
) -> tuple[Real, float]:
    """(height (n, n) of the body's surface above its lowest point, how far it is to go down), sides."""
    y, x = _coordinates(params.grid)
    dy, dx = y - centre[0], x - centre[1]
    along = (dx * np.cos(angle) + dy * np.sin(angle)) / size
    across = (dy * np.cos(angle) - dx * np.sin(angle)) / size
    profile, tilt = _PROFILES[kind](rng, along, across), rng.normal(0.0, 0.12, size=2)
    surface = slope * size * (profile + tilt[0] * along + tilt[1] * across)
    depth = slope * size * _DEPTH[kind]
    worn = params.roughness * depth * (rng.uniform(1.0, 3.0) if kind == "stone" else rng.uniform(0.0, 1.0) ** 3)
    coarse = 2 * np.pi / max(8.0, 1.2 * size * params.grid)
    surface = surface + worn * power_law_field((params.grid, params.grid), rng, exponent=1.8, low=coarse)
    near = np.hypot(along, across) < 1.0
    return np.asarray(surface - surface[near].min() if near.any() else surface), float(depth)


def _ball(rng: np.random.Generator, along: Real, across: Real) -> Real:
    """A ball or an egg, slope 1 at the rim r = 1."""
    stretch = float(np.exp(rng.normal(0.0, 0.12)))
    return np.asarray(0.5 * ((along * stretch) ** 2 + (across / stretch) ** 2))


def _cone(rng: np.random.Generator, along: Real, across: Real) -> Real:
    tip = rng.uniform(0.05, 0.3)
    return np.asarray(np.sqrt(along**2 + across**2 + tip**2) - tip)


def _pyramid(rng: np.random.Generator, along: Real, across: Real) -> Real:
    """Vickers with four faces, Berkovich with three, Knoop stretched; edges hardly rounded."""
    faces = 3 if rng.random() < 0.25 else 4
    stretch = rng.uniform(2.0, 3.5) if faces == 4 and rng.random() < 0.3 else 1.0
    angles = 2 * np.pi * np.arange(faces) / faces
    planes = [along / stretch * np.cos(a) + across * np.sin(a) for a in angles]
    return _rounded_maximum(planes, rng.uniform(0.02, 0.06))


def _edge(rng: np.random.Generator, along: Real, across: Real) -> Real:
    """The edge of a tool: a long round or sharp ridge."""
    longer, tip = rng.uniform(1.5, 4.0), rng.uniform(0.05, 0.5)
    ridge = np.sqrt((2.2 * across) ** 2 + tip**2) - tip
    return np.asarray(0.5 * (along / longer * 1.4) ** 4 + ridge)


def _face(rng: np.random.Generator, along: Real, across: Real) -> Real:
    """The flat face of a hammer or a punch, round or square, its edge rounded."""
    power = rng.choice([2.0, 4.0, 8.0])
    radius = (np.abs(along) ** power + np.abs(across) ** power) ** (1 / power)
    flat = rng.uniform(0.5, 0.75)
    return np.asarray(0.15 * radius**2 + np.maximum(radius - flat, 0.0) ** 2 / (1.0 - flat))


def _stone(rng: np.random.Generator, along: Real, across: Real) -> Real:
    """A broken stone: a corner where several planes meet."""
    count = int(rng.integers(4, 9))
    angles = rng.uniform(0, 2 * np.pi, size=count)
    steep = rng.uniform(0.5, 1.5, size=count)
    planes = [
        s * (along * np.cos(a) + across * np.sin(a)) - 0.15 * rng.random() for s, a in zip(steep, angles, strict=True)
    ]
    planes.append(0.6 * np.hypot(along, across) - 0.1)  # closes the side that no plane covers
    surface = _rounded_maximum(planes, 0.05)
    return np.asarray(surface - surface.min())


def _rounded_maximum(planes: list[Real], rounding: float) -> Real:
    """Largest of several surfaces, edges rounded over about ``rounding``."""
    stack = np.stack([np.broadcast_to(plane, np.broadcast_shapes(*(p.shape for p in planes))) for plane in planes])
    top = stack.max(axis=0)
    return np.asarray(top + rounding * np.log(np.exp((stack - top) / rounding).sum(axis=0)))


_PROFILES: dict[Body, Callable[[np.random.Generator, Real, Real], Real]] = {
    "ball": _ball,
    "cone": _cone,
    "pyramid": _pyramid,
    "edge": _edge,
    "face": _face,
    "stone": _stone,
}
_DEPTH: dict[Body, float] = {"ball": 0.5, "cone": 0.85, "pyramid": 0.8, "edge": 0.8, "face": 0.45, "stone": 0.7}


def grow(params: DentParams, specimen: Specimen) -> Trajectory:
    """Press the bodies down step by step; after each the surface is unloaded.

    Returns
    -------
    Trajectory
        ``height`` and displacement after unloading. ``severity`` is the volume of the imprint / the last, to the power
        1/3, a length; ``area`` the share of the square where the slope has been 0.12 or more (or 0.3 times the
        steepest, if that is less) in some state so far.
    """
    n, count = params.grid, params.snapshots
    patch = _patch(specimen)
    gap = specimen.gap[patch].astype(np.float32)
    hardness = specimen.hardness[patch].astype(np.float32)
    imprint = np.zeros((count, n, n))
    force, radius = np.zeros(count), np.zeros(count)
    state: Contact | None = None
    for t in range(count):
        state = press(
            gap,
            depth=specimen.depth * (t + 1) / count,
            hardness=hardness,
            spacing=1.0 / n,
            before=state,
            tolerance=_CONTACT_TOLERANCE * count / (t + 1),
            limit=_CONTACT_LIMIT,
        )
        imprint[(t, *patch)] = state.plastic
        force[t] = state.force(1.0 / n)
        radius[t] = np.sqrt(np.count_nonzero(state.plastic) / np.pi) / n
    return _trajectory(specimen, imprint, force, radius)


def _patch(specimen: Specimen) -> tuple[slice, slice]:
    """Square part of the grid that the bodies touch, with a margin for the contact to be solved on."""
    n = len(specimen.gap)
    touched = specimen.gap < specimen.depth
    rows, columns = np.nonzero(touched.any(axis=1))[0], np.nonzero(touched.any(axis=0))[0]
    if not len(rows):
        raise ArithmeticError("the body does not touch the surface: depth and gap do not fit together")
    half = (max(int(np.ptp(rows)), int(np.ptp(columns))) + 1) // 2 + 3
    side = min(n, 2 * half)

    def span(inside: NDArray[np.int64]) -> slice:
        first = min(max((int(inside[0]) + int(inside[-1]) + 1) // 2 - side // 2, 0), n - side)
        return slice(first, first + side)

    return span(rows), span(columns)


def _trajectory(specimen: Specimen, imprint: Real, force: Real, radius: Real) -> Trajectory:
    n = imprint.shape[1]
    height, down, right = pile_up(imprint, radius=specimen.radius, hardening=specimen.hardening)
    volume = np.maximum(imprint.sum(axis=(1, 2)) / n**2, 1e-12)
    slope = n * np.hypot(np.gradient(height, axis=1), np.gradient(height, axis=2))
    least = np.minimum(_SEEN, 0.3 * slope.max(axis=(1, 2)))[:, None, None]
    seen = np.logical_or.accumulate(slope >= least, axis=0)
    area = np.maximum(seen.mean(axis=(1, 2)), 1.0 / n**2)
    severity = np.maximum.accumulate((volume / volume[-1]) ** (1 / 3))
    return Trajectory(
        fields={
            "height": height.astype(np.float32),
            "displacement_y": down.astype(np.float32),
            "displacement_x": right.astype(np.float32),
        },
        severity=np.maximum(severity / severity[-1], 1e-6),
        area=area,
        from_edge=specimen.from_edge,
        facts={
            "force_estar_sides2": tuple(force.tolist()),
            "depth_left_sides": tuple(imprint.max(axis=(1, 2)).tolist()),
            "radius_left_sides": tuple(radius.tolist()),
        },
    )


def pile_up(imprint: Real, *, radius: float, hardening: float) -> tuple[Real, Real, Real]:
    """Height and displacement (down, right) of a surface with an imprint, (T, n, n) each, sides.

    Parameters
    ----------
    imprint : (T, n, n) float64
        Depth that stays, sides.
    radius : float
        Of the contact, sides: sets how wide the flow is.
    hardening : float
        Share of the pile-up that is spread far, 0..1.

    Notes
    -----
    The volume is kept: the mean of the height is 0 to rounding. The square is mirrored at its sides.
    """
    n = imprint.shape[1]
    near = _near(radius)
    spectrum = fft.dctn(imprint, axes=(1, 2), workers=1)
    wave = np.pi * np.arange(n)
    square = wave[:, None] ** 2 + wave[None, :] ** 2

    def blurred(sigma: float) -> Real:
        return np.asarray(np.exp(-0.5 * sigma * sigma * square))

    round_off = blurred(_RIM)
    risen = (1.0 - hardening) * blurred(near) + hardening * blurred(_FAR * near)
    height_spectrum = spectrum * (risen - round_off)
    height = fft.idctn(height_spectrum, axes=(1, 2), workers=1)
    # lap phi = height: the flux that carries the imprint's volume to where it rose
    potential = height_spectrum / np.where(square > 0, -square, np.inf)
    phi = fft.idctn(potential, axes=(1, 2), workers=1) / max(radius, near)
    down, right = -np.gradient(phi, 1.0 / n, axis=1), -np.gradient(phi, 1.0 / n, axis=2)
    return height, down, right


def turn(specimen: Specimen, dihedral: int) -> Specimen:
    """The same specimen turned, see `physics.mechanism.turn_array`."""
    return replace(specimen, gap=turn_array(specimen.gap, dihedral), hardness=turn_array(specimen.hardness, dihedral))


def refine(params: DentParams, specimen: Specimen) -> tuple[DentParams, Specimen]:
    """The same specimen on a grid twice as fine; all lengths kept."""
    gap = ndimage.zoom(specimen.gap, 2, order=3, grid_mode=True, mode="nearest")
    hardness = ndimage.zoom(specimen.hardness, 2, order=1, grid_mode=True, mode="nearest")
    return params.model_copy(update={"grid": 2 * params.grid}), replace(specimen, gap=gap, hardness=hardness)


MECHANISM = Mechanism(
    name="dent",
    title="Dent",
    summary="Balls, cones, pyramids, edges, faces and stones are pressed into an elastic-plastic half-space.",
    params=DentParams,
    fields=("height", "displacement_y", "displacement_x"),
    draw=draw,
    grow=grow,
    turn=turn,
    refine=refine,
)
simulate = MECHANISM.simulate
