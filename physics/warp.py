"""Warped sheet: the height that folds, presses, wrinkles, buckles and blisters leave behind.

The sheet is the elasto-plastic von Karman plate of `physics.plate`, on a foundation, held around the defect. It is
loaded by one or several of

- a press: pressure on a patch or along a line, led by the depth it reaches. A dent stretches the sheet in its plane
  by far more than the yield strain, so that under the tool it flows there and bends elasto-plastically; most of the
  stretch stays. The residual shape after unloading is followed beside the loaded one, and is what comes out;
- folds: plastic curvature that a tool or a fall puts in along a straight or curved line, the sheet around it following
  and springing back as it must (its ends become d-cones, curved folds pull the sheet into a dish);
- growth: an in-plane strain that the surroundings hold back (heat, rolling, swelling, a coating under compression),
  which wrinkles the sheet on its foundation at the wave length 2 pi (D/K)^(1/4), or buckles it where it is free.

At the edge of a part the left side of the square is a free edge.

A trajectory takes a fixed number of iterations (about fifty), each at a slightly larger load, so that its states trail
behind equilibrium like those of a slow viscous process; the number does not depend on the grid, and a finer grid gives
the same trajectory. Unloading does not yield again.

References
----------
`physics.plate`; Cerda & Mahadevan, "Conical surfaces and crescent singularities in crumpled sheets", PRL 80 (1998);
Hutchinson & Suo, "Mixed mode cracking in layered materials" (1992), for the buckling of coatings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from manifests.distributions import Distribution
from physics import _plate_kernels as kernels
from physics.mechanism import Mechanism, MechanismParams, Trajectory, quantity, turn_array
from physics.plate import Plate, SheetState
from physics.random_fields import gaussian_field, power_law_field

__all__ = [
    "MECHANISM",
    "STYLES",
    "STYLES_AT_EDGE",
    "Sheet",
    "Style",
    "WarpParams",
    "draw",
    "grow",
    "refine",
    "simulate",
    "turn",
]

Array = NDArray[np.float64]
Style = Literal["crease", "crumple", "press", "wrinkle", "blister", "buckle", "flange", "wavy", "kink"]
_INSIDE: tuple[tuple[Style, float], ...] = (
    ("crease", 0.28),
    ("crumple", 0.19),
    ("press", 0.12),
    ("wrinkle", 0.19),
    ("blister", 0.13),
    ("buckle", 0.09),
)
_AT_EDGE: tuple[tuple[Style, float], ...] = (("flange", 0.4), ("wavy", 0.35), ("kink", 0.25))
STYLES: tuple[Style, ...] = tuple(style for style, _ in _INSIDE)
STYLES_AT_EDGE: tuple[Style, ...] = tuple(style for style, _ in _AT_EDGE)
_POISSON = 0.3
_STEPS, _STEPS_AT_EDGE = 4, 3  # iterations between two snapshots
_STEPS_PRESS, _STEPS_PRESS_AT_EDGE = (
    (2, 2),
    (3, 2),
)  # the same under a press: of the loaded sheet, and of the unloaded one
_FIRST = 0.2  # share of the load before the first snapshot
_WARM_UP = 4  # iterations on the way there
_MOMENTUM = 0.8
_KEPT_STRETCH = 0.9  # share of a dent's stretch that is plastic: all but the yield strain of a few per cent
_VISIBLE_SLOPE = 0.1  # some seven grey levels under a low light
_HELD = 0.47  # beyond this distance from the middle the sheet is held, in sides


class WarpParams(MechanismParams):
    """Parameters of warped sheets; see `MechanismParams` for those that all mechanisms have."""

    edge_share: float = quantity(
        0.3, unit="1", ge=0, le=1, description="share of trajectories that come in from the edge of a part"
    )
    severity: Distribution = quantity(
        Distribution(low=0.4, high=1.0), unit="1", description="how far along its trajectory a sample is taken"
    )
    area: Distribution = quantity(
        Distribution(kind="loguniform", low=0.005, high=0.15), unit="1", description="area of the defect / picture"
    )
    snapshots: int = quantity(12, unit="states", ge=4, le=64, description="states kept along one trajectory")
    thickness: Distribution = quantity(
        Distribution(kind="loguniform", low=0.002, high=0.006), unit="sides", description="thickness of the sheet"
    )
    yield_strain: Distribution = quantity(
        Distribution(kind="loguniform", low=0.0008, high=0.006), unit="1", description="yield stress / Young's modulus"
    )
    hardening: Distribution = quantity(
        Distribution(kind="loguniform", low=0.02, high=0.2), unit="D", description="growth of the yield moment"
    )
    slope: Distribution = quantity(Distribution(low=0.3, high=0.9), unit="1", description="slope that the load aims at")


@dataclass(frozen=True)
class Sheet:
    """A sheet and all its loads, on n x n cells; lengths in sides, D = 1.

    Attributes
    ----------
    mask : (n, n) float64
        1 where the sheet can move, 0 where it is held.
    pressure : (n, n) float64
        Shape of the press, largest value 1 or less; nothing where there is none.
    unevenness : (n, n) float64
        Small pressure that decides where and which way the sheet buckles, in D / side^3.
    fold : (3, n, n) float64
        Plastic curvature put in at full load, xx, yy, xy, in 1 / side.
    growth : (3, n, n) float64
        In-plane growth strain at full load, xx, yy, xy.
    yield_moment : (n, n) float64
        In D / side.
    depth : float
        Deflection under the press at full load, in sides; 0 without a press.
    thickness, foundation, hardening : float
        In sides, D / side^4 and D.
    one_sided : bool
        The sheet lies on something stiff and can only lift.
    from_edge : bool
        The left side is a free edge.
    style : str
        What was drawn, for the eye and the record.
    """

    mask: Array
    pressure: Array
    unevenness: Array
    fold: Array
    growth: Array
    yield_moment: Array
    depth: float
    thickness: float
    foundation: float
    hardening: float
    one_sided: bool
    from_edge: bool
    style: str


# ---- drawing


@dataclass(frozen=True)
class _Canvas:
    """Cell centres and the stream that draws on them."""

    y: Array
    x: Array
    rng: np.random.Generator
    slope: float
    thickness: float
    waviness: Array  # of the fold lines; one field for all, so that neighbouring folds waver together

    @property
    def cells(self) -> int:
        return int(self.y.shape[0])

    def field(self, length: float) -> Array:
        """Smooth random field of variance 1, correlated over ``length`` sides."""
        n = self.cells
        return gaussian_field((n, n), self.rng, correlation=length * n)

    def local(self, middle: Array, angle: float) -> tuple[Array, Array]:
        """Coordinates along and across a direction, from ``middle`` (y, x)."""
        dy, dx = self.y - middle[0], self.x - middle[1]
        return dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)

    def patch(self, middle: Array, *, radius: float, aspect: float, angle: float, ragged: float, rim: float) -> Array:
        """1 inside an irregular outline, 0 outside, over a rim of the given width."""
        along, across = self.local(middle, angle)
        distance = np.hypot(along / np.sqrt(aspect), across * np.sqrt(aspect))
        outline = radius * (1.0 + ragged * self.field(0.5 * radius))
        return _smooth_step((outline - distance) / rim + 0.5)


def _smooth_step(t: Array) -> Array:
    s = np.clip(t, 0.0, 1.0)
    return np.asarray(s * s * (3.0 - 2.0 * s))


def _pick(rng: np.random.Generator, styles: tuple[tuple[Style, float], ...]) -> Style:
    shares = np.cumsum([share for _, share in styles])
    place = int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))
    style, _ = styles[place]
    return style


def draw(params: WarpParams, rng: np.random.Generator, *, from_edge: bool, style: Style | None = None) -> Sheet:
    """Draw a sheet and its loads.

    Parameters
    ----------
    params : WarpParams
        Grid and ranges.
    rng : numpy.random.Generator
        The trajectory's own stream.
    from_edge : bool
        The left side is a free edge, and the defect lies on it.
    style : str, optional
        One of `STYLES` or, at an edge, of `STYLES_AT_EDGE`; drawn if left out.

    Raises
    ------
    ValueError
        If the style does not go with ``from_edge``.
    """
    styles = _AT_EDGE if from_edge else _INSIDE
    if style is not None and style not in {name for name, _ in styles}:
        raise ValueError(f"style with from_edge={from_edge} is one of {[name for name, _ in styles]}, got {style!r}")
    n = params.grid
    centre = (np.arange(n) + 0.5) / n
    y, x = np.meshgrid(centre, centre, indexing="ij")
    canvas = _Canvas(
        y,
        x,
        rng,
        slope=params.slope.draw(rng),
        thickness=params.thickness.draw(rng),
        waviness=gaussian_field((n, n), rng, correlation=0.06 * n),
    )
    style = style or _pick(rng, styles)
    thickness = canvas.thickness
    yield_curvature = 2.0 * params.yield_strain.draw(rng) / thickness  # of the section, E = 1
    grain = np.exp(0.08 * power_law_field((n, n), rng, exponent=1.2))
    sheet = Sheet(
        mask=_held(canvas, from_edge=from_edge),
        pressure=np.zeros((n, n)),
        unevenness=np.zeros((n, n)),
        fold=np.zeros((3, n, n)),
        growth=np.zeros((3, n, n)),
        yield_moment=1.5 * yield_curvature * grain,  # the whole section yields at 1.5 times the first fibre
        depth=0.0,
        thickness=thickness,
        foundation=float(rng.uniform(0.05, 0.11)) ** -4,
        hardening=params.hardening.draw(rng),
        one_sided=False,
        from_edge=from_edge,
        style=style,
    )
    return _STYLES[style](canvas, sheet)


def _held(canvas: _Canvas, *, from_edge: bool) -> Array:
    """1 where the sheet can move: a rounded region whose rim is uneven."""
    along = 0.6 * canvas.x if from_edge else canvas.x - 0.5
    distance = np.hypot(canvas.y - 0.5, along)
    rim = _HELD - 0.02 * (1.0 + np.tanh(canvas.field(0.3)))
    return _smooth_step((rim - distance) / 0.12)


def _middle(canvas: _Canvas, spread: float = 0.06) -> Array:
    return np.asarray(0.5 + canvas.rng.uniform(-spread, spread, 2))


def _uneven(canvas: _Canvas, sheet: Sheet, *, length: float, size: float) -> Array:
    """Pressure that would bend the sheet by ``size`` sides over ``length`` sides."""
    stiffness = sheet.foundation + (2.0 / length) ** 4
    return np.asarray(size * stiffness * canvas.field(length))


def _fold_line(
    canvas: _Canvas, middle: Array, *, angle: float, length: float, bend: float, turn_by: float, width: float
) -> Array:
    """Curvature tensor (3, n, n) of a fold by ``turn_by`` radians along a parabola; it fades towards its ends."""
    rng = canvas.rng
    along, across = canvas.local(middle, angle)
    lean = 2.0 * bend * along + 3.0 * bend * rng.uniform(-1.0, 1.0) * along**2 / length
    offset = across - bend * along**2 - bend * rng.uniform(-1.0, 1.0) * along**3 / length
    offset = offset - 0.25 * width * canvas.waviness
    distance = offset / np.sqrt(1.0 + lean**2)
    fade = _smooth_step((0.5 * length - np.abs(along + 0.1 * length * rng.uniform(-1, 1))) / (0.35 * length))
    strength = turn_by * fade * np.exp(-0.5 * (distance / width) ** 2) / (width * np.sqrt(2.0 * np.pi))
    direction = angle + np.arctan(lean)
    normal_x, normal_y = -np.sin(direction), np.cos(direction)
    return np.stack([strength * normal_x**2, strength * normal_y**2, strength * normal_x * normal_y])


def _hardened(sheet: Sheet, fold: Array) -> Array:
    """Yield moment with the folds hardened, so that the sheet around them does not bend them back."""
    strength = np.sqrt((fold**2).sum(axis=0))
    return np.asarray(sheet.yield_moment * (1.0 + 30.0 * strength / max(float(strength.max()), 1e-12)))


def _fold_width(canvas: _Canvas) -> float:
    return float(max(canvas.thickness * canvas.rng.uniform(1.0, 2.5), 0.009))


def _sign(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


def _crease(canvas: _Canvas, sheet: Sheet) -> Sheet:
    """One to four folds, straight or curved, together or crossing; often with a press beside them."""
    rng = canvas.rng
    middle, angle = _middle(canvas), float(rng.uniform(0, np.pi))
    fold = np.zeros_like(sheet.fold)
    sign, width = _sign(rng), _fold_width(canvas)
    for k in range(int(rng.choice([1, 1, 1, 2, 2, 3, 4]))):
        length = float(rng.uniform(0.25, 0.7)) / (1.0 + 0.25 * k)
        bend = float(rng.choice([0.1, 1.0, 1.0]) * rng.uniform(0.3, 2.5) * _sign(rng))
        turn_by = sign * canvas.slope * float(rng.uniform(2.5, 6.0)) * (1.0 if k == 0 else _sign(rng) * 0.8)
        fold += _fold_line(canvas, middle, angle=angle, length=length, bend=bend, turn_by=turn_by, width=width)
        middle = middle + rng.uniform(-0.1, 0.1, 2)
        angle += float(rng.choice([0.15, 1.0]) * rng.uniform(0.3, 1.4) * _sign(rng))
    sheet = replace(
        sheet,
        fold=fold,
        foundation=float(rng.uniform(0.035, 0.07)) ** -4,
        yield_moment=_hardened(sheet, fold),
        unevenness=_uneven(canvas, sheet, length=0.1, size=0.0004),
    )
    return _with_press(canvas, sheet, near=middle) if rng.random() < 0.35 else sheet


def _with_press(canvas: _Canvas, sheet: Sheet, *, near: Array) -> Sheet:
    """Press on a patch, a row of fingers or a line: an edge or a corner that hit the sheet."""
    rng = canvas.rng
    sign, angle = _sign(rng), float(rng.uniform(0, np.pi))
    kind = rng.random()
    if kind < 0.15:
        radius = float(rng.uniform(0.02, 0.08))
        aspect = float(rng.uniform(1.0, 3.0))
        shape = canvas.patch(near, radius=radius, aspect=aspect, angle=angle, ragged=0.15, rim=radius)
        reach = radius + 0.06
    elif kind < 0.65:  # a line
        along, across = canvas.local(near, angle)
        length, width = float(rng.uniform(0.12, 0.4)), float(rng.uniform(0.01, 0.02))
        across = across - float(rng.uniform(-1.0, 1.0)) * along**2
        shape = np.exp(-0.5 * (across / width) ** 2) * _smooth_step((0.5 * length - np.abs(along)) / (0.3 * length))
        reach = 0.07
    else:  # several blows
        shape = np.zeros_like(sheet.pressure)
        for _ in range(int(rng.integers(2, 6))):
            radius = float(rng.uniform(0.012, 0.03))
            where = near + rng.uniform(-0.17, 0.17, 2)
            shape = shape + rng.uniform(0.4, 1.0) * canvas.patch(
                where, radius=radius, aspect=1.3, angle=angle, ragged=0.1, rim=1.5 * radius
            )
        reach = 0.06
    depth = float(rng.uniform(0.35, 0.7) * canvas.slope * reach)
    soft = (
        float(rng.uniform(0.04, 0.2)) * canvas.slope / (0.5 * reach)
    )  # share of the curvature that is to stay elastic
    limit = np.minimum(sheet.yield_moment, soft * sheet.yield_moment / sheet.yield_moment.mean())
    return replace(sheet, pressure=sign * shape, depth=depth, yield_moment=limit)


def _press(canvas: _Canvas, sheet: Sheet) -> Sheet:
    """A handling dent; thin sheets answer with crescents."""
    rng = canvas.rng
    sheet = replace(
        sheet,
        foundation=float(rng.uniform(0.03, 0.06)) ** -4,
        unevenness=_uneven(canvas, sheet, length=0.08, size=0.0005),
    )
    return _with_press(canvas, sheet, near=_middle(canvas, 0.04))


def _growth(angle: float, along: Array, across: Array) -> Array:
    """Strain tensor (3, n, n) with the given principal values along and across a direction."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([along * c * c + across * s * s, along * s * s + across * c * c, (along - across) * s * c])


def _wrinkle(canvas: _Canvas, sheet: Sheet) -> Sheet:
    """A patch on a soft foundation, compressed more one way than the other."""
    rng = canvas.rng
    wave = float(np.exp(rng.uniform(np.log(0.07), np.log(0.16))))
    length = wave / (2.0 * np.pi)
    ratio = float(rng.choice([0.0, 0.3, 0.8, 1.0]) + rng.uniform(-0.1, 0.1))
    excess = 0.25 * canvas.slope**2 / (1.0 + max(ratio, 0.0))
    critical = float(rng.uniform(0.1, 0.4)) * excess
    thickness = float(length * np.sqrt(5.46 * critical))
    angle = float(rng.uniform(0, np.pi))
    patch = canvas.patch(
        _middle(canvas),
        radius=float(rng.uniform(1.2, 2.6) * max(wave, 0.07)),
        aspect=float(rng.uniform(1.0, 2.5)),
        angle=float(rng.uniform(0, np.pi)),
        ragged=0.25,
        rim=float(rng.uniform(0.06, 0.14)),
    )
    patch = patch * np.clip(1.0 + 0.35 * canvas.field(0.1), 0.0, 2.0)
    sheet = replace(
        sheet,
        growth=_growth(angle, (critical + excess) * patch, ratio * (critical + excess) * patch),
        thickness=thickness,
        foundation=length**-4,
        yield_moment=sheet.yield_moment * sheet.thickness / thickness,
    )
    return replace(sheet, unevenness=patch * _uneven(canvas, sheet, length=0.5 * wave, size=0.01 * wave * canvas.slope))


def _blister(canvas: _Canvas, sheet: Sheet) -> Sheet:
    """A coating under compression that has come off along a patch or a winding strip, and can only lift."""
    rng = canvas.rng
    debonded = np.zeros_like(sheet.mask)
    strip = rng.random() < 0.45
    width = float(rng.uniform(0.04, 0.07)) if strip else float(rng.uniform(0.07, 0.14))
    for _ in range(1 if strip else int(rng.integers(1, 5))):
        if strip:
            along, across = canvas.local(_middle(canvas), float(rng.uniform(0, np.pi)))
            across = across - float(rng.uniform(-2.5, 2.5)) * along**2 - 0.02 * canvas.field(0.15)
            beyond = np.maximum(np.abs(along) - float(rng.uniform(0.08, 0.25)), 0.0)  # round ends
            rim = width * (1.0 + 0.15 * canvas.field(0.1))
            piece = _smooth_step((rim - np.hypot(across, beyond)) / 0.025 + 0.5)
        else:
            piece = canvas.patch(
                _middle(canvas, 0.15),
                radius=width * float(rng.uniform(0.7, 1.2)),
                aspect=float(rng.uniform(1.0, 2.0)),
                angle=float(rng.uniform(0, np.pi)),
                ragged=0.2,
                rim=0.025,
            )
        debonded = np.maximum(debonded, piece)
    strain = 0.07 * canvas.slope**2 * float(rng.uniform(0.7, 1.3))
    thickness = float(width * np.sqrt(strain) * rng.uniform(0.25, 0.55))
    shape = np.full_like(sheet.mask, strain)
    sheet = replace(
        sheet,
        mask=sheet.mask * debonded,
        growth=_growth(0.0, shape, shape),
        thickness=thickness,
        foundation=0.0,
        yield_moment=sheet.yield_moment * sheet.thickness / thickness,
        one_sided=True,
    )
    lift = 0.1 * width * (2.0 / width) ** 4 * (0.5 + np.abs(canvas.field(2.0 * width)))  # what is under it pushes
    return replace(sheet, unevenness=lift)


def _buckle(canvas: _Canvas, sheet: Sheet) -> Sheet:
    """Oil canning: a wide patch has grown, and stands up in a few large bulges."""
    rng = canvas.rng
    patch = canvas.patch(
        _middle(canvas, 0.04),
        radius=float(rng.uniform(0.14, 0.24)),
        aspect=float(rng.uniform(1.0, 2.2)),
        angle=float(rng.uniform(0, np.pi)),
        ragged=0.2,
        rim=0.12,
    )
    strain = 0.3 * canvas.slope**2
    ratio = float(rng.uniform(0.0, 1.0))
    length = float(rng.uniform(0.025, 0.055))
    sheet = replace(
        sheet,
        growth=_growth(float(rng.uniform(0, np.pi)), strain * patch, ratio * strain * patch),
        thickness=length * float(np.sqrt(2.73 * strain * rng.uniform(0.2, 0.6))),  # critical strain / strain
        foundation=length**-4,
    )
    return replace(sheet, unevenness=patch * _uneven(canvas, sheet, length=0.15, size=0.002))


def _crumple(canvas: _Canvas, sheet: Sheet) -> Sheet:
    """A thin sheet pushed from several sides at once: ridges and points between facets."""
    rng = canvas.rng
    thickness = float(rng.uniform(0.0014, 0.0025))
    middle = _middle(canvas, 0.04)
    patch = canvas.patch(middle, radius=float(rng.uniform(0.12, 0.23)), aspect=1.3, angle=0.0, ragged=0.3, rim=0.1)
    fold = np.zeros_like(sheet.fold)
    width = _fold_width(canvas)
    for _ in range(int(rng.integers(3, 9))):
        fold += _fold_line(
            canvas,
            middle + rng.uniform(-0.14, 0.14, 2),
            angle=float(rng.uniform(0, np.pi)),
            length=float(rng.uniform(0.12, 0.45)),
            bend=float(rng.uniform(-0.8, 0.8)),
            turn_by=canvas.slope * float(rng.uniform(1.5, 4.0)) * _sign(rng),
            width=width,
        )
    strain = float(rng.uniform(0.05, 0.2)) * canvas.slope**2 * patch
    return replace(
        sheet,
        thickness=thickness,
        fold=fold,
        growth=_growth(float(rng.uniform(0, np.pi)), strain, strain * float(rng.uniform(0.0, 1.0))),
        foundation=float(rng.uniform(0.03, 0.07)) ** -4,
        yield_moment=_hardened(sheet, fold) * sheet.thickness / thickness,
        unevenness=patch * _uneven(canvas, sheet, length=0.08, size=0.001),
    )


def _flange(canvas: _Canvas, sheet: Sheet) -> Sheet:
    """The edge bent up or down along one or two folds that run along it or cut it off."""
    rng = canvas.rng
    fold = np.zeros_like(sheet.fold)
    width = _fold_width(canvas)
    sign = _sign(rng)
    for k in range(int(rng.integers(1, 3))):
        middle = np.array([0.5 + rng.uniform(-0.08, 0.08), rng.uniform(0.04, 0.17) * (1 + k)])
        angle = np.pi / 2 + float(rng.choice([0.2, 1.1, 1.1]) * rng.uniform(-1.0, 1.0))
        fold += sign * _fold_line(
            canvas,
            middle,
            angle=angle,
            length=float(rng.uniform(0.3, 0.6)),
            bend=float(rng.uniform(-1.2, 1.2)),
            turn_by=canvas.slope * float(rng.uniform(1.5, 3.5)) * (1.0 if rng.random() < 0.7 else -1.0),
            width=width,
        )
    return replace(
        sheet,
        fold=fold,
        yield_moment=_hardened(sheet, fold),
        foundation=float(rng.uniform(0.04, 0.09)) ** -4,
        unevenness=_uneven(canvas, sheet, length=0.1, size=0.001),
    )


def _wavy(canvas: _Canvas, sheet: Sheet) -> Sheet:
    """Edge waves: the edge has become longer than the sheet behind it."""
    rng = canvas.rng
    reach = float(rng.uniform(0.1, 0.32))
    middle, half = 0.5 + float(rng.uniform(-0.05, 0.05)), float(rng.uniform(0.18, 0.32))
    along = _smooth_step((half - np.abs(canvas.y - middle)) / (0.5 * half))
    largest = 0.3 * canvas.slope**2
    inward = canvas.x / (reach * np.clip(np.exp(0.4 * canvas.field(0.12)), 0.6, 1.5))
    strain = largest * along * np.exp(-(inward**2))
    growth = np.zeros_like(sheet.growth)
    growth[1] = strain * np.clip(1.0 + 0.5 * canvas.field(0.12), 0.0, 2.0)
    length = float(rng.uniform(0.014, 0.045))
    thickness = length * float(np.sqrt(2.73 * largest * rng.uniform(0.06, 0.3)))
    sheet = replace(sheet, growth=growth, foundation=length**-4, thickness=thickness)
    uneven = _uneven(canvas, sheet, length=0.08, size=0.002) * strain / largest
    return replace(sheet, unevenness=uneven)


def _kink(canvas: _Canvas, sheet: Sheet) -> Sheet:
    """A blow on the edge: a notch-like dent that ends in a crescent."""
    rng = canvas.rng
    near = np.array([0.5 + rng.uniform(-0.05, 0.05), rng.uniform(0.0, 0.05)])
    radius = float(rng.uniform(0.03, 0.09))
    shape = canvas.patch(near, radius=radius, aspect=float(rng.uniform(1.0, 2.0)), angle=0.0, ragged=0.15, rim=radius)
    sheet = replace(
        sheet,
        pressure=_sign(rng) * shape,
        depth=float(rng.uniform(0.4, 0.8)) * canvas.slope * (radius + 0.05),
        foundation=float(rng.uniform(0.03, 0.07)) ** -4,
        yield_moment=sheet.yield_moment * min(1.0, float(rng.uniform(0.05, 0.25))),
        unevenness=_uneven(canvas, sheet, length=0.08, size=0.0003),
    )
    if rng.random() < 0.5:
        fold = _fold_line(
            canvas,
            np.array([near[0], rng.uniform(0.02, 0.12)]),
            angle=float(rng.uniform(-0.7, 0.7)),
            length=float(rng.uniform(0.25, 0.5)),
            bend=float(rng.uniform(-0.5, 0.5)),
            turn_by=canvas.slope * float(rng.uniform(1.0, 2.0)) * _sign(rng),
            width=_fold_width(canvas),
        )
        sheet = replace(sheet, fold=fold, yield_moment=_hardened(sheet, fold))
    return sheet


_STYLES: dict[Style, Callable[[_Canvas, Sheet], Sheet]] = {
    "crease": _crease,
    "crumple": _crumple,
    "press": _press,
    "wrinkle": _wrinkle,
    "blister": _blister,
    "buckle": _buckle,
    "flange": _flange,
    "wavy": _wavy,
    "kink": _kink,
}


# ---- growth


@dataclass
class _Loading:
    """The loads of a sheet at unit share, and the two states that follow them."""

    plate: Plate
    sheet: Sheet
    incompatibility: Array
    mean_growth: tuple[float, float]
    loaded: SheetState
    residual: SheetState
    press: float
    share: float = 0.0

    def step(self, share: float, *, release: bool) -> None:
        """One iteration at a share of the full load, of the unloaded state too where ``release``."""
        sheet = self.sheet
        if sheet.fold.any():
            self.loaded.plastic += (share - self.share) * sheet.fold
        self.share = share
        load = share * sheet.unevenness
        grown, mean = share * self.incompatibility, (share * self.mean_growth[0], share * self.mean_growth[1])
        if sheet.depth == 0:
            self._relax(self.loaded, load, grown, mean, yields=True, membrane=True)
            return
        self._lead_press(share)
        self._relax(self.loaded, load + self.press * sheet.pressure, grown, mean, yields=True, membrane=False)
        if release:
            stretched, strain = self.plate.stretch(self.loaded.deflection)
            kept = (mean[0] + _KEPT_STRETCH * strain[0], mean[1] + _KEPT_STRETCH * strain[1])
            self._relax(self.residual, load, grown - _KEPT_STRETCH * stretched, kept, yields=False, membrane=True)

    def _lead_press(self, share: float) -> None:
        """Change the force so that the sheet under the press moves towards the depth asked for."""
        sheet = self.sheet
        reached = float((sheet.pressure * self.loaded.deflection).sum() / np.abs(sheet.pressure).sum())
        wanted = share * sheet.depth
        self.press *= float(np.clip((wanted / max(reached, 1e-3 * wanted)) ** 0.7, 0.75, 1.3))

    def _relax(
        self, state: SheetState, load: Array, grown: Array, mean: tuple[float, float], *, yields: bool, membrane: bool
    ) -> None:
        sheet = self.sheet
        self.plate.relax(
            state,
            load=load,
            incompatibility=grown,
            mean_growth=mean,
            mask=sheet.mask,
            yield_moment=sheet.yield_moment if yields else None,
            hardening=sheet.hardening,
            one_sided=sheet.one_sided,
            membrane=membrane,
            momentum=_MOMENTUM if membrane else 0.3,
        )


def _loading(sheet: Sheet) -> _Loading:
    n = sheet.mask.shape[0]
    plate = Plate(
        n,
        thickness=sheet.thickness,
        poisson=_POISSON,
        foundation=sheet.foundation,
        left="free" if sheet.from_edge else "supported",
    )
    grows = bool(sheet.growth.any())
    loaded, residual = plate.rest(), plate.rest()
    if sheet.depth > 0:  # one plastic state, seen under load and without
        residual.plastic = loaded.plastic
    else:
        residual = loaded
    press = 0.0
    if sheet.depth > 0:
        soft = plate.solve_bending(sheet.pressure * sheet.mask)
        press = _FIRST / _WARM_UP * sheet.depth * float(np.abs(sheet.pressure).sum() / (sheet.pressure * soft).sum())
    return _Loading(
        plate=plate,
        sheet=sheet,
        incompatibility=plate.growth_incompatibility(sheet.growth) if grows else np.zeros((n, n)),
        mean_growth=(float(sheet.growth[0].mean()), float(sheet.growth[1].mean())),
        loaded=loaded,
        residual=residual,
        press=press,
    )


def grow(params: WarpParams, specimen: Sheet) -> Trajectory:
    """Load the sheet and record what stays.

    Parameters
    ----------
    params : WarpParams
        Number of snapshots.
    specimen : Sheet
        From `draw`.

    Returns
    -------
    Trajectory
        ``height`` of the unloaded sheet; the displacement of its upper surface. ``area`` is the share of the square
        where the slope has been 0.1 or more in some state so far (or 0.3 times the steepest slope of that state, if
        that is less, and within what is visible later); ``severity`` is the share of the final load: heights
        may jump where the sheet snaps through.
    """
    loading = _loading(specimen)
    n, count = specimen.mask.shape[0], params.snapshots
    height, down, right = np.zeros((3, count, n, n), dtype=np.float32)
    peak_loaded, plastic_share = np.zeros(count), np.zeros(count)
    taper = _taper(n, from_edge=specimen.from_edge)
    steps, released = (_STEPS_AT_EDGE if specimen.from_edge else _STEPS), 0
    if specimen.depth > 0:
        steps, released = _STEPS_PRESS_AT_EDGE if specimen.from_edge else _STEPS_PRESS
    for k in range(_WARM_UP):
        loading.step(_FIRST * (k + 1) / _WARM_UP, release=k > _WARM_UP // 2)
    for t in range(count):
        for k in range(steps):
            done = (t + (k + 1) / steps) / count
            loading.step(_FIRST + (1.0 - _FIRST) * done, release=k >= steps - released)
        residual = loading.residual
        height[t] = residual.deflection
        down[t], right[t] = _surface_displacement(loading, taper)
        peak_loaded[t] = np.abs(loading.loaded.deflection).max()
        plastic_share[t] = np.count_nonzero(loading.loaded.equivalent) / n**2
    return _trajectory(specimen, height, down, right, peak_loaded, plastic_share)


def _taper(n: int, *, from_edge: bool) -> Array:
    """Fades the in-plane displacement out before the sides, which hold it only along themselves."""
    centre = (np.arange(n) + 0.5) / n
    near = _smooth_step(np.minimum(centre, 1.0 - centre) / 0.1)
    across = _smooth_step((1.0 - centre) / 0.1) if from_edge else near
    return np.asarray(near[:, None] * across[None, :])


def _surface_displacement(loading: _Loading, taper: Array) -> tuple[Array, Array]:
    """Of the upper surface (down, right): that of the middle plane, and half the thickness turned by the slope."""
    sheet, state = loading.sheet, loading.residual
    down, right = loading.plate.in_plane(state, growth=loading.share * sheet.growth if sheet.growth.any() else None)
    slope_y, slope_x = np.gradient(state.deflection, loading.plate.spacing)
    half = 0.5 * sheet.thickness
    return (down - half * slope_y) * taper, (right - half * slope_x) * taper


def _trajectory(
    sheet: Sheet,
    height: NDArray[np.float32],
    down: NDArray[np.float32],
    right: NDArray[np.float32],
    peak_loaded: Array,
    plastic_share: Array,
) -> Trajectory:
    n = height.shape[1]
    peak = np.abs(height).max(axis=(1, 2)).astype(np.float64)
    slope = np.empty_like(height)
    kernels.steepness(height, np.float32(1.0 / n), slope)
    steepest = slope.max(axis=(1, 2))
    ever = slope.max(axis=0) >= min(_VISIBLE_SLOPE, 0.3 * float(steepest.max()))
    visible = np.minimum(_VISIBLE_SLOPE, 0.3 * steepest)[:, None, None]
    affected = np.logical_or.accumulate((slope >= visible) & ever, axis=0)
    area = np.maximum(affected.mean(axis=(1, 2)), 1.0 / n**2)
    if not peak[0] > 0:
        raise ArithmeticError("the sheet stayed flat: it has no load")
    return Trajectory(
        fields={"height": height, "displacement_y": down, "displacement_x": right},
        severity=np.arange(1, len(peak) + 1) / len(peak),
        area=area.astype(np.float64),
        from_edge=sheet.from_edge,
        facts={
            "plastic_share": tuple(plastic_share.tolist()),
            "springback_residual_over_loaded": tuple((peak / np.maximum(peak_loaded, 1e-12)).tolist()),
            "slope_largest": tuple(steepest.astype(np.float64).tolist()),
        },
    )


# ---- symmetry and refinement


def turn(specimen: Sheet, dihedral: int) -> Sheet:
    """The same sheet turned, see `physics.mechanism.turn_array`; tensors turn their components too."""
    return replace(
        specimen,
        mask=turn_array(specimen.mask, dihedral),
        pressure=turn_array(specimen.pressure, dihedral),
        unevenness=turn_array(specimen.unevenness, dihedral),
        fold=_turn_tensor(specimen.fold, dihedral),
        growth=_turn_tensor(specimen.growth, dihedral),
        yield_moment=turn_array(specimen.yield_moment, dihedral),
    )


def _turn_tensor(tensor: Array, dihedral: int) -> Array:
    xx, yy, xy = tensor
    if dihedral >= 4:
        xy = -xy
    for _ in range(dihedral % 4):
        xx, yy, xy = yy, xx, -xy
    return turn_array(np.stack([xx, yy, xy]), dihedral)


def refine(params: WarpParams, specimen: Sheet) -> tuple[WarpParams, Sheet]:
    """The same sheet on twice as many cells a side, by cubic interpolation of its fields."""

    def finer(values: Array) -> Array:
        zoomed = [ndimage.zoom(part, 2, order=3, mode="nearest", grid_mode=True) for part in np.atleast_3d(values.T).T]
        return np.asarray(np.stack(zoomed)).reshape(*values.shape[:-2], 2 * values.shape[-2], 2 * values.shape[-1])

    return params.model_copy(update={"grid": 2 * params.grid}), replace(
        specimen,
        mask=np.clip(finer(specimen.mask), 0.0, 1.0),
        pressure=finer(specimen.pressure),
        unevenness=finer(specimen.unevenness),
        fold=finer(specimen.fold),
        growth=finer(specimen.growth),
        yield_moment=finer(specimen.yield_moment),
    )


MECHANISM = Mechanism(
    name="warp",
    title="Warp",
    summary=(
        "Elasto-plastic von Karman plate: folds, presses, wrinkles, buckles and blisters of a sheet, after springback."
    ),
    params=WarpParams,
    fields=("height", "displacement_y", "displacement_x"),
    draw=draw,
    grow=grow,
    turn=turn,
    refine=refine,
)

simulate = MECHANISM.simulate
