"""What is read off a photograph, beside photographs drawn with known light, gloss, point spread and noise.

The truth is drawn with NumPy alone: heights, Lambert's cosine, cast shadows and the sky seen along 8 horizons, Blinn's
highlights, a Gaussian point spread in linear light, values v = radiance^(1/2.2), white noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.special import ndtr
from scipy.stats import spearmanr

from benchmarks.verification.case import Case
from refine.photograph import Optics, estimate_optics

__all__ = ["Lamp", "bulging_bodies", "cases", "edges", "lit", "patches", "photographed", "rough_heights"]

SIDE = 256
GAMMA = 2.2
_SEED = 20
_HORIZON_PX = (1, 2, 3, 4, 6, 8, 11, 15, 20, 27)
_PENUMBRA = 0.1  # of the slope towards the lamp

_F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Lamp:
    """Light on a surface: azimuth from the right, counter-clockwise, and elevation; ambient and mirror-like shares."""

    azimuth_deg: float
    elevation_deg: float = 35.0
    ambient: float = 0.3
    gloss: float = 0.0
    exponent: float = 30.0


def rough_heights(rng: np.random.Generator, *, slope: float, length_px: float = 4.0, side: int = SIDE) -> _F64:
    """Gaussian random heights (side, side), pixels, that repeat at the border; rms slope along either axis."""
    return _with_slope(ndimage.gaussian_filter(rng.standard_normal((side, side)), length_px, mode="wrap"), slope)


def bulging_bodies(rng: np.random.Generator, *, slope: float, width_px: float = 16.0, side: int = SIDE) -> _F64:
    """Bodies that bulge, with narrow gaps between them, as of gravel or cloth; heights (side, side), pixels."""
    centres = rng.uniform(0, side, (int((side / width_px) ** 2), 2))
    distance, _ = cKDTree(centres, boxsize=np.full(2, float(side))).query(_pixels(side), k=2)
    inside = np.maximum(np.diff(distance), 0).reshape(side, side)
    return _with_slope(ndimage.gaussian_filter(np.sqrt(inside), 0.7, mode="wrap"), slope)


def lit(heights: _F64, lamp: Lamp) -> _F64:
    """Radiance of a relief / that of the level surface, without its highlights."""
    azimuth, elevation = np.deg2rad([lamp.azimuth_deg, lamp.elevation_deg])
    towards = np.array([-np.sin(azimuth), np.cos(azimuth)])
    lamp_at = np.array([*(towards * np.cos(elevation)), np.sin(elevation)])
    down, right = _slopes(heights)
    normal = np.stack([-down, -right, np.ones_like(down)]) / np.sqrt(1 + down**2 + right**2)
    cosine = np.maximum(np.tensordot(lamp_at, normal, 1), 0) / lamp_at[2]
    clear = np.clip((np.tan(elevation) - _horizon(heights, towards)) / _PENUMBRA + 0.5, 0, 1)
    around = np.arange(8) * np.pi / 4
    sky = np.mean([1 / (1 + np.maximum(_horizon(heights, (np.sin(a), np.cos(a))), 0) ** 2) for a in around], axis=0)
    half = lamp_at + np.array([0, 0, 1])
    highlight = np.maximum(np.tensordot(half / np.linalg.norm(half), normal, 1), 0) ** lamp.exponent * clear
    matt = lamp.ambient * sky + (1 - lamp.ambient) * cosine * clear
    return np.asarray((1 - lamp.gloss) * matt + 4 * lamp.gloss * highlight)


def photographed(
    radiance: _F64,
    rng: np.random.Generator,
    *,
    blur_px: float = 0.8,
    noise: float = 0.005,
    level: float = 0.2,
    channels: int = 1,
) -> _F64:
    """Picture (channels, H, W) of a radiance (H, W) that is ``level`` of white, each channel with noise of its own."""
    value = np.clip(ndimage.gaussian_filter(level * radiance, blur_px, mode="wrap"), 0, 1) ** (1 / GAMMA)
    return np.clip(value + noise * rng.standard_normal((channels, *value.shape)), 0, 1)


def edges(sigma_px: float, angle: float, *, side: int = SIDE) -> _F64:
    """Four parallel edges between the values 0.3 and 0.7 seen through a Gaussian point spread, picture (1, H, W)."""
    y, x = np.mgrid[:side, :side] + 0.5
    stripe = side / 4
    from_edge = np.abs((x * np.cos(angle) + y * np.sin(angle)) % (2 * stripe) - stripe) - stripe / 2
    dark, bright = 0.3**GAMMA, 0.7**GAMMA
    return np.asarray((dark + (bright - dark) * ndtr(from_edge / sigma_px))[None] ** (1 / GAMMA))


def patches(sigma_px: float, rng: np.random.Generator, *, side: int = SIDE) -> _F64:
    """Even patches about 18 px wide, values 0.2 to 0.7, seen through a Gaussian point spread, picture (1, H, W)."""
    fine, number = 2, 200
    centres = rng.uniform(0, side, (number, 2))
    _, nearest = cKDTree(centres, boxsize=np.full(2, float(side))).query(_pixels(side * fine) / fine)
    light = (rng.uniform(0.2, 0.7, number) ** GAMMA)[nearest].reshape(side * fine, -1)
    seen = ndimage.gaussian_filter(light, sigma_px * fine, mode="wrap")[fine // 2 :: fine, fine // 2 :: fine]
    return np.asarray(seen[None] ** (1 / GAMMA))


def _with_slope(heights: _F64, slope: float) -> _F64:
    down, right = _slopes(heights)
    return np.asarray(heights * slope / np.sqrt((down**2 + right**2).mean() / 2))


def _slopes(heights: _F64) -> tuple[_F64, _F64]:
    down, right = (0.5 * (np.roll(heights, -1, axis) - np.roll(heights, 1, axis)) for axis in (0, 1))
    return down, right


def _horizon(heights: _F64, towards: Sequence[float] | _F64) -> _F64:
    """Steepest rise seen from each pixel in a direction (y, x)."""
    rises = [(_seen_from(heights, towards[0] * s, towards[1] * s) - heights) / s for s in _HORIZON_PX]
    return np.asarray(np.max(rises, axis=0))


def _seen_from(field: _F64, down: float, right: float) -> _F64:
    """Values at a distance (down, right) from each pixel, bilinear, on a field that repeats at the border."""
    for axis, distance in ((0, down), (1, right)):
        whole = int(np.floor(distance))
        near, far = np.roll(field, -whole, axis), np.roll(field, -whole - 1, axis)
        field = near + (distance - whole) * (far - near)
    return field


def _pixels(side: int) -> _F64:
    y, x = np.mgrid[:side, :side] + 0.5
    return np.stack([y.ravel(), x.ravel()], axis=1) % side


# ---------------------------------------------------------------- cases


def cases() -> list[Case]:
    """All cases; a quarter of a minute."""
    return [_axis(), _side(), _slope(), _grain(), _ambient(), *_gloss(), *_blur(), *_noise()]


def _read(picture: _F64) -> Optics:
    return estimate_optics(
        torch.from_numpy(picture)[None].float(), torch.ones((1, *picture.shape[1:]), dtype=torch.bool)
    )


def _azimuth(optics: Optics) -> float:
    y, x = optics.light[0].tolist()
    return float(np.rad2deg(np.arctan2(-y, x)))


def _apart(found: Sequence[float], known: Sequence[float]) -> _F64:
    """Errors of angles, degrees, -180..180."""
    return (np.subtract(found, known) + 180) % 360 - 180


def _angle_case(
    title: str, statement: str, known: Sequence[float], found: Sequence[Sequence[float]], tolerance: float
) -> Case:
    """``found`` has as many surfaces for each of the ``known`` azimuths."""
    errors = np.array([_apart(f, [k] * len(f)) for k, f in zip(known, found, strict=True)])

    def plot(axes: Axes) -> None:
        axes.plot([min(known), max(known)], [0, 0], "k--", lw=0.8)
        for row in errors.T:
            axes.plot(known, row, "o", ms=4)
        axes.set(xlabel="azimuth, degrees", ylabel="error, degrees", title=title, ylim=(-45, 45))

    return Case(
        title,
        f"{statement} Root mean square error {np.sqrt(np.square(errors).mean()):.1f} degrees.",
        "largest error, degrees",
        0.0,
        float(np.abs(errors).max()),
        tolerance,
        absolute=True,
        plot=plot,
    )


def _axis() -> Case:
    rng = np.random.default_rng(_SEED)
    known = [15.0, 45.0, 75.0, 105.0, 135.0, 165.0]
    reliefs = [rough_heights(rng, slope=slope, length_px=length) for slope in (0.1, 0.3) for length in (2.0, 5.0)]
    found = [
        [_azimuth(_read(photographed(lit(relief, Lamp(azimuth)), rng))) for relief in reliefs] for azimuth in known
    ]
    return _angle_case(
        "photograph: light from the texture's relief",
        "Gaussian heights of rms slope 0.1 and 0.3, correlated over 2 and 5 px, lamp 35 degrees above the surface and "
        "anywhere in the upper half of the picture, ambient share 0.3, noise 0.005: nothing but the structure tensor "
        "tells, and that light comes from above rather than below.",
        known,
        found,
        10.0,
    )


def _side() -> Case:
    rng = np.random.default_rng(_SEED + 1)
    known = [-160.0, -110.0, -60.0, -10.0, 40.0, 90.0, 140.0]
    reliefs = [bulging_bodies(rng, slope=slope) for slope in (0.1, 0.3, 0.6)]
    reliefs.append(rough_heights(rng, slope=0.6, length_px=5.0))
    found = [
        [_azimuth(_read(photographed(lit(relief, Lamp(azimuth)), rng))) for relief in reliefs] for azimuth in known
    ]
    return _angle_case(
        "photograph: light from any side on bulging bodies",
        "Bulging bodies 16 px wide, rms slope 0.1 to 0.6, and Gaussian heights of rms slope 0.6 that throw shadows, "
        "lit from all around: the third moment of the gradient tells the side.",
        known,
        found,
        12.0,
    )


def _slope() -> Case:
    rng = np.random.default_rng(_SEED + 2)
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE - 0.5
    known = [float(a) for a in range(-165, 180, 30)]
    found = []
    for azimuth in known:
        along = x * np.cos(np.deg2rad(azimuth)) - y * np.sin(np.deg2rad(azimuth))
        grain = 1 + 0.05 * rng.standard_normal((2, SIDE, SIDE))
        found.append(
            [_azimuth(_read((0.4 * np.exp(s * along) * g)[None])) for s, g in zip((0.25, 1.0), grain, strict=True)]
        )
    return _angle_case(
        "photograph: light from the slope of brightness",
        "log v rises by 0.25 and by 1 across the picture, with grain of 5 %.",
        known,
        found,
        3.0,
    )


def _grain() -> Case:
    rng = np.random.default_rng(_SEED + 3)
    y, x = np.mgrid[:SIDE, :SIDE]
    known = [float(a) for a in range(0, 180, 15)]
    found = []
    for angle in np.deg2rad(known):
        strokes = ndimage.gaussian_filter1d(rng.standard_normal(4 * SIDE), 2.0)
        strokes -= ndimage.gaussian_filter1d(strokes, 12.0)  # no side of the picture is brighter
        across = np.interp(x * np.cos(angle) + y * np.sin(angle) + SIDE, np.arange(4 * SIDE), strokes)
        found.append(_azimuth(_read(0.5 + 0.2 * across[None])))
    errors = _apart(found, [90.0] * len(found))

    def plot(axes: Axes) -> None:
        axes.plot(known, errors, "o")
        axes.set(xlabel="direction across the grooves, degrees", ylabel="light turned from above, degrees")
        axes.set(title="grooves say nothing of the light", ylim=(-45, 45))

    return Case(
        "photograph: grooves are no light",
        "Parallel grooves, brightness as much to either side: the grain is seen, and light stays above.",
        "largest error, degrees",
        0.0,
        float(np.abs(errors).max()),
        5.0,
        absolute=True,
        plot=plot,
    )


def _ambient() -> Case:
    rng = np.random.default_rng(_SEED + 4)
    known = np.array([0.95, 0.8, 0.65, 0.5, 0.4])
    names = ("Gaussian heights, slope 0.6", "bulging bodies, slope 0.6", "Gaussian heights, slope 0.2")
    reliefs = (
        rough_heights(rng, slope=0.6),
        bulging_bodies(rng, slope=0.6),
        rough_heights(rng, slope=0.2),
    )
    found = np.array(
        [
            [float(_read(photographed(lit(r, Lamp(60, ambient=1 - d)), rng)).directional[0]) for d in known]
            for r in reliefs
        ]
    )
    errors = found[:2] - known

    def plot(axes: Axes) -> None:
        axes.plot(known, known, "k--", lw=0.8)
        for name, row in zip(names, found, strict=True):
            axes.plot(known, row, "o-", label=name)
        axes.set(xlabel="directional share", ylabel="estimate", title="shadows tell the directional share")
        axes.legend()

    return Case(
        "photograph: directional share",
        "Steep reliefs of rms slope 0.6 under a lamp 35 degrees above them, which throw shadows; ambient share 0.05 to "
        f"0.6. A shallow relief of slope 0.2 has few shadows and is taken for softer light, by up to "
        f"{np.abs(found[2] - known).max():.2f}.",
        "largest error where there are shadows",
        0.0,
        float(np.abs(errors).max()),
        0.15,
        absolute=True,
        plot=plot,
    )


def _gloss() -> list[Case]:
    rng = np.random.default_rng(_SEED + 5)
    known = (0.0, 0.05, 0.1, 0.2, 0.4)
    slopes = (0.1, 0.3, 0.6)
    reliefs = [rough_heights(rng, slope=slope) for slope in slopes]
    found = np.array(
        [[float(_read(photographed(lit(r, Lamp(60, gloss=g)), rng)).gloss[0]) for g in known] for r in reliefs]
    )
    matt = [
        float(_read(photographed(lit(relief, Lamp(60, ambient=ambient)), rng)).gloss[0])
        for relief in (*reliefs, *(bulging_bodies(rng, slope=slope) for slope in slopes))
        for ambient in (0.1, 0.3, 0.6)
    ]

    def plot(axes: Axes) -> None:
        for slope, row in zip(slopes, found, strict=True):
            axes.plot(known, row, "o-", label=f"rms slope {slope}")
        axes.set(xlabel="mirror-like share of the light", ylabel="gloss", title="Blinn's highlights, exponent 30")
        axes.legend()

    return [
        Case(
            "photograph: matt reliefs have no gloss",
            "18 matt reliefs, Gaussian and bulging, rms slope 0.1 to 0.6, ambient share 0.1 to 0.6.",
            "largest gloss",
            0.0,
            max(matt),
            0.05,
            absolute=True,
        ),
        Case(
            "photograph: gloss grows with the highlights",
            "Three reliefs that throw back up to 0.4 of the light mirror-like; below 0.1 it is not seen on all. "
            f"At 0.4 the gloss is {found[:, -1].min():.2f} to {found[:, -1].max():.2f}.",
            "smallest rank correlation, shares of 0.1, 0.2 and 0.4",
            1.0,
            min(float(spearmanr(known[2:], row[2:]).statistic) for row in found),
            1e-6,
            absolute=True,
            plot=plot,
        ),
    ]


def _blur() -> list[Case]:
    known = np.array([0.5, 0.7, 0.9, 1.1, 1.3, 1.5])
    noises = (0.0, 0.005, 0.02)
    errors: dict[str, _F64] = {}
    for name in ("edges", "patches"):
        rng = np.random.default_rng(_SEED + 6)
        clean = [edges(s, 0.5) if name == "edges" else patches(s, rng) for s in known]
        found = [[float(_read(c + n * rng.standard_normal(c.shape)).blur_px[0]) for c in clean] for n in noises]
        errors[name] = np.array(found) / known - 1

    def plot(axes: Axes) -> None:
        for name, marker in (("edges", "o-"), ("patches", "s--")):
            for noise, row in zip(noises, errors[name], strict=True):
                axes.plot(known, (1 + row) * known, marker, ms=4, label=f"{name}, noise {noise}")
        axes.plot(known, known, "k", lw=0.8)
        axes.set(xlabel="point spread, px", ylabel="estimate, px", title="standard deviation of the point spread")
        axes.legend(fontsize=7)

    worst = max(float(np.abs(e[2]).max()) for e in errors.values())
    statement = f"0.5 to 1.5 px, blurred in linear light. With noise of 0.02 the error is up to {100 * worst:.0f} %."
    return [
        Case(
            f"photograph: point spread on {text}",
            f"{statement} Here: noise up to 0.005.",
            "largest relative error",
            0.0,
            float(np.abs(errors[name][:2]).max()),
            tolerance,
            absolute=True,
            plot=plot if name == "edges" else None,
        )
        for name, text, tolerance in (("edges", "edges", 0.15), ("patches", "patches of many colours", 0.2))
    ]


def _noise() -> list[Case]:
    known = np.array([0.002, 0.005, 0.01, 0.02, 0.04])
    rng = np.random.default_rng(_SEED + 7)
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    surfaces = {
        "smooth shading": 0.15 + 0.1 * np.sin(3 * x + 2 * y),
        "shallow relief": 0.2 * lit(rough_heights(rng, slope=0.1), Lamp(60)),
        "relief, slope 0.3": 0.2 * lit(rough_heights(rng, slope=0.3), Lamp(60)),
        "bulging bodies": 0.2 * lit(bulging_bodies(rng, slope=0.3), Lamp(60)),
    }
    found, silent = {}, []
    for name, light in surfaces.items():
        found[name] = np.array(
            [float(_read(photographed(light, rng, noise=n, level=1.0, channels=3)).noise[0]) for n in known]
        )
        silent.append(float(_read(photographed(light, rng, noise=0.0, level=1.0)).noise[0]))
    textured = [abs(row / known - 1) for name, row in found.items() if name != "smooth shading"]

    def plot(axes: Axes) -> None:
        for name, row in found.items():
            axes.semilogx(known, row / known, "o-", label=name)
        axes.axhline(1, color="k", lw=0.8, ls="--")
        axes.set(xlabel="noise, picture values", ylabel="estimate / noise", title="white noise", ylim=(0, 1.3))
        axes.set_xticks(known, [str(k) for k in known])
        axes.minorticks_off()
        axes.legend()

    def case(title: str, statement: str, got: float, tolerance: float, *, drawn: bool = False) -> Case:
        quantity = "estimate without noise" if "without" in title else "largest relative error"
        return Case(title, statement, quantity, 0.0, got, tolerance, absolute=True, plot=plot if drawn else None)

    return [
        case(
            "photograph: noise of smooth pictures",
            "White noise of 0.002 to 0.04 in each of three channels.",
            float(np.abs(found["smooth shading"] / known - 1).max()),
            0.05,
            drawn=True,
        ),
        case(
            "photograph: noise of textured pictures",
            "The same on three reliefs seen through a point spread of 0.8 px, noise from 0.005 on; of 0.002, half a "
            f"level of 255, the error is up to {max(100 * row[0] for row in textured):.0f} %.",
            float(max(row[1:].max() for row in textured)),
            0.15,
        ),
        case("photograph: pictures without noise", "The same four without noise.", max(silent), 2e-4),
    ]
