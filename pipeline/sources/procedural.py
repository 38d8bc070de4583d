"""Procedural surfaces: synthetic photographs of normal parts, for use where no data set is at hand.

Each surface is built as the camera would meet it: a relief and a reflectance drawn from random fields with the
material's own spectrum, lit by a lamp, blurred by a lens and read out with shot and read noise. Picture k of a
surface is a function of (surface, k) alone; no recipe, seed or size enters.

References
----------
Random fields by spectral synthesis: D. Saupe in "The Science of Fractal Images", Springer 1988, chapter 2.
Noise of a sensor: EMVA Standard 1288, release 4.0, section 2 (shot noise proportional to the signal).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import scipy.fft
import scipy.ndimage as ndi
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from manifests.seeds import Stage, stream

__all__ = ["IMAGES_PER_SURFACE", "SIDE_PX", "SURFACES", "surface_image"]

SIDE_PX: Final = 320
IMAGES_PER_SURFACE: Final = 24

_SEED: Final = 2504  # of the embedded pictures; independent of every recipe
_BOARD_OVERSAMPLING: Final = 3

_Field = NDArray[np.float32]
_Colour = tuple[float, float, float]


def surface_image(name: str, k: int) -> NDArray[np.uint8]:
    """Picture k of a surface.

    Parameters
    ----------
    name : str
        A key of `SURFACES`.
    k : int
        0 <= k < `IMAGES_PER_SURFACE`.

    Returns
    -------
    NDArray[np.uint8]
        (320, 320, C), C = 1 for surfaces seen by a monochrome camera and 3 for the others.

    Raises
    ------
    KeyError
        No such surface.
    """
    code, draw = SURFACES[name]
    return draw(stream(_SEED, Stage.BUILTIN, code, k))


# ---------------------------------------------------------------- fields, light, camera


def _grid() -> tuple[_Field, _Field]:
    """Coordinates y, x of the pixel centres from the middle of the picture, pixels, each (320, 320)."""
    axis = np.arange(SIDE_PX, dtype=np.float32) - np.float32((SIDE_PX - 1) / 2)
    return np.broadcast_to(axis[:, None], (SIDE_PX, SIDE_PX)), np.broadcast_to(axis, (SIDE_PX, SIDE_PX))


def _turned(angle: float) -> tuple[_Field, _Field]:
    """Coordinates v, u of the picture turned by an angle in radians."""
    y, x = _grid()
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return np.asarray(c * y - s * x, dtype=np.float32), np.asarray(c * x + s * y, dtype=np.float32)


def _random_field(
    rng: np.random.Generator, *, length_px: float, power: float = 3.0, stretch: float = 1.0, angle: float = 0.0
) -> _Field:
    """Gaussian random field (320, 320), mean 0, variance 1, with spectrum (1 + (k L)^2)^(-power/2).

    ``length_px`` is L across; the field is ``stretch`` times longer along the direction ``angle`` (radians).
    It is cut from a larger torus, so opposite edges do not match.
    """
    n = scipy.fft.next_fast_len(SIDE_PX + int(min(SIDE_PX / 2, 2 * length_px)), real=True)
    spectrum = scipy.fft.rfft2(rng.standard_normal((n, n), dtype=np.float32))
    ky = np.float32(2 * np.pi * length_px) * scipy.fft.fftfreq(n).astype(np.float32)[:, None]
    kx = np.float32(2 * np.pi * length_px) * scipy.fft.rfftfreq(n).astype(np.float32)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = np.float32(stretch) * (c * kx + s * ky), c * ky - s * kx
    spectrum *= (1 + along * along + across * across) ** np.float32(-power / 2)
    field = scipy.fft.irfft2(spectrum, s=(n, n))[:SIDE_PX, :SIDE_PX]
    return np.asarray((field - field.mean()) / field.std(), dtype=np.float32)


def _slopes(height: _Field) -> tuple[_Field, _Field]:
    """Slopes (dz/dy, dz/dx) of a relief in pixels, by central differences."""
    gy, gx = np.gradient(height)
    return np.asarray(gy, dtype=np.float32), np.asarray(gx, dtype=np.float32)


def _lambert(height: _Field, *, azimuth: float, elevation: float) -> _Field:
    """Light scattered by a matt relief (height in pixels), relative to a level surface."""
    gy, gx = _slopes(height)
    towards = np.float32(np.cos(azimuth)) * gx + np.float32(np.sin(azimuth)) * gy
    lit = (np.float32(np.tan(elevation)) - towards) / np.sqrt(1 + gx * gx + gy * gy)
    return np.asarray(np.maximum(lit, 0) / np.float32(np.tan(elevation)), dtype=np.float32)


def _gloss(height: _Field, *, azimuth: float, tilt: float, sharpness: float) -> _Field:
    """Mirror-like reflection of a lamp at (azimuth, slope ``tilt``), 1 where the surface faces it."""
    gy, gx = _slopes(height)
    miss = (gx + np.float32(tilt * np.cos(azimuth))) ** 2 + (gy + np.float32(tilt * np.sin(azimuth))) ** 2
    return np.asarray(np.exp(np.float32(-sharpness) * miss), dtype=np.float32)


def _mix(low: _Colour, high: _Colour, share: _Field) -> _Field:
    """Colours between two, (H, W, 3), by a share (H, W) in 0..1."""
    a, b = np.array(low, dtype=np.float32), np.array(high, dtype=np.float32)
    return np.asarray(a + np.clip(share, 0, 1)[..., None] * (b - a), dtype=np.float32)


def _tinted(rng: np.random.Generator, colour: _Colour, spread: float) -> _Colour:
    """The colour with each channel and the whole varied by a relative spread."""
    r, g, b = np.array(colour) * (1 + spread * rng.standard_normal()) * (1 + 0.35 * spread * rng.standard_normal(3))
    return float(r), float(g), float(b)


def _step(distance: _Field, width: float = 1.0) -> _Field:
    """Smooth step: 0 below, 1 above, over ``width`` pixels of signed distance."""
    t = np.clip(distance / np.float32(width) + np.float32(0.5), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def _photographed(
    rng: np.random.Generator, radiance: _Field, *, blur_px: float = 0.7, noise: float = 1.0, falloff: float = 0.10
) -> NDArray[np.uint8]:
    """A camera's picture of linear radiance (H, W) or (H, W, 3), white = 1, as (H, W, C) uint8.

    Light falls off away from a random point, the lens blurs, the sensor adds shot and read noise, and the
    result is encoded with a gamma of 2.2.
    """
    light = radiance if radiance.ndim == 3 else radiance[..., None]
    y, x = _grid()
    cy, cx = rng.uniform(-0.45, 0.45, 2) * SIDE_PX
    squared = ((y - np.float32(cy)) ** 2 + (x - np.float32(cx)) ** 2) / np.float32(SIDE_PX * SIDE_PX)
    vignette = np.asarray(1 - np.float32(falloff * rng.uniform(0.5, 1.5)) * squared, dtype=np.float32)
    sigma = blur_px * rng.uniform(0.85, 1.15)
    blurred = ndi.gaussian_filter(light * vignette[..., None], (sigma, sigma, 0), mode="nearest", truncate=3.0)
    light = np.clip(np.asarray(blurred, dtype=np.float32) * np.float32(rng.uniform(0.94, 1.06)), 0.0004, None)
    deviation = np.float32(noise) * np.sqrt(light * np.float32(1.6e-4) + np.float32(4e-6))
    light = light + deviation * rng.standard_normal(light.shape, dtype=np.float32)
    # A shoulder keeps highlights from clipping hard.
    light = np.clip(light, 0, None)
    light = np.where(light > 0.8, 1 - 0.2 * np.exp((0.8 - light) / 0.2), light)
    return np.asarray(np.round(255 * light ** np.float32(1 / 2.2)), dtype=np.uint8)


# ---------------------------------------------------------------- surfaces


def _brushed_metal(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Brushed sheet: strokes of several lengths and a band of light across them, monochrome."""
    angle = rng.normal(0, 0.05)
    strokes = (
        0.50 * _random_field(rng, length_px=0.9, power=2.2, stretch=110, angle=angle)
        + 0.38 * _random_field(rng, length_px=0.6, power=2.0, stretch=38, angle=angle + rng.normal(0, 0.012))
        + 0.30 * _random_field(rng, length_px=3.5, power=2.5, stretch=70, angle=angle)
        + 0.16 * _random_field(rng, length_px=0.5, power=1.6, stretch=8, angle=angle)
    )
    scratches = _random_field(rng, length_px=0.55, power=2.4, stretch=60, angle=angle + rng.normal(0, 0.03))
    strokes += 0.55 * np.maximum(scratches - 2.1, 0) - 0.45 * np.maximum(-2.2 - scratches, 0)
    _, u = _turned(angle)
    band = (u + np.float32(rng.uniform(-150, 150)) + 9 * _random_field(rng, length_px=60)) / np.float32(
        rng.uniform(90, 150)
    )
    glow = np.float32(0.24) + np.float32(rng.uniform(0.16, 0.26)) * np.exp(-band * band)
    stain = 1 + 0.02 * _random_field(rng, length_px=45, power=3.5)
    return _photographed(rng, glow * stain * np.exp(np.float32(rng.uniform(0.11, 0.16)) * strokes), blur_px=0.55)


def _woven_cloth(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Denim: a 2/1 twill of dyed warp over pale weft, threads of uneven thickness and dye, slightly drawn."""
    v, u = _turned(rng.normal(0, 0.05))
    v = v + 1.5 * _random_field(rng, length_px=60, power=4)
    u = u + 1.5 * _random_field(rng, length_px=60, power=4)
    pitch = np.float32(rng.uniform(6.6, 7.6))
    warp, weft = u / pitch + np.float32(rng.uniform(100, 101)), v / (pitch * 1.05) + np.float32(rng.uniform(100, 101))
    i, j = np.floor(warp).astype(np.int32), np.floor(weft).astype(np.int32)
    a, b = 2 * (warp - i) - 1, 2 * (weft - j) - 1
    before_i, before_j = np.where(a < 0, i - 1, i + 1), np.where(b < 0, j - 1, j + 1)
    bend_a, bend_b = np.sin(np.pi / 2 * a) ** 2 / 2, np.sin(np.pi / 2 * b) ** 2 / 2
    here = _twill_lift(i, j)
    warp_lift = here + (_twill_lift(i, before_j) - here) * bend_b
    weft_lift = -here + (here - _twill_lift(before_i, j)) * bend_a
    slub = 1 + 0.10 * _random_field(rng, length_px=12, power=3)
    warp_width = (1.04 + 0.12 * rng.standard_normal(256, dtype=np.float32)[i % 256]) * slub
    weft_width = 0.98 + 0.12 * rng.standard_normal(256, dtype=np.float32)[j % 256]
    warp_top = np.sqrt(np.maximum(1 - (a / warp_width) ** 2, 0)) + 0.55 * warp_lift
    weft_top = np.sqrt(np.maximum(1 - (b / weft_width) ** 2, 0)) + 0.55 * weft_lift
    over = _step(warp_top - weft_top, 0.35)
    fibre = np.where(
        over > 0.5,
        _random_field(rng, length_px=0.9, power=2, stretch=5, angle=1.15),
        _random_field(rng, length_px=0.9, power=2, stretch=5, angle=0.4),
    )
    height = (1.0 * np.maximum(warp_top, weft_top) + 0.24 * fibre).astype(np.float32)
    dye = np.array(_tinted(rng, (0.085, 0.115, 0.19), 0.08), dtype=np.float32)
    pale = np.array(_tinted(rng, (0.34, 0.345, 0.335), 0.04), dtype=np.float32)
    warp_dye = (1 + 0.11 * rng.standard_normal(256, dtype=np.float32)[i % 256])[..., None]
    # Dye wears off where a thread stands proud.
    worn = np.clip(0.10 + 0.13 * fibre + 0.10 * (warp_top - 1.0), 0, 0.5)[..., None]
    colour = pale + over[..., None] * (dye * warp_dye + worn * (pale - dye) - pale)
    colour *= (1 + 0.13 * fibre + 0.06 * _random_field(rng, length_px=30))[..., None]
    hollow = np.clip(0.35 + 0.42 * height, 0.15, 1)
    light = _lambert(height, azimuth=rng.uniform(-2.6, -2.0), elevation=0.95) * hollow
    return _photographed(rng, 1.25 * colour * light[..., None], blur_px=0.75)


def _twill_lift(i: NDArray[np.int32], j: NDArray[np.int32]) -> _Field:
    """1 where warp thread i lies over weft thread j of a 2/1 twill, -1 where it lies under."""
    return np.where((i + j) % 3 < 2, np.float32(1), np.float32(-1))


def _cast_plaster(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cast plaster: fine matt relief under grazing light, with the bubbles that every casting has."""
    height = (
        1.9 * _random_field(rng, length_px=26, power=3.2)
        + 0.55 * _random_field(rng, length_px=5, power=2.6)
        + 0.16 * _random_field(rng, length_px=1.0, power=2.0)
    )
    y, x = _grid()
    for _ in range(int(rng.poisson(13))):
        cy, cx = rng.uniform(-0.5, 0.5, 2) * SIDE_PX
        radius = float(np.clip(rng.lognormal(0.55, 0.45), 0.9, 5.0))
        top, left = int(cy + SIDE_PX / 2), int(cx + SIDE_PX / 2)
        near = (slice(max(top - 14, 0), top + 15), slice(max(left - 14, 0), left + 15))
        squared = ((y[near] - np.float32(cy)) ** 2 + (x[near] - np.float32(cx)) ** 2) / np.float32(radius * radius)
        height[near] -= np.float32(0.75 * radius) * np.sqrt(np.maximum(1 - squared, 0))
    light = _lambert(height, azimuth=rng.uniform(-2.7, -1.9), elevation=rng.uniform(0.62, 0.78))
    hollow = 1 + 0.10 * np.clip(height - ndi.gaussian_filter(height, 4), -3, 0.6)
    tone = 1 + 0.022 * _random_field(rng, length_px=40, power=3) + 0.012 * _random_field(rng, length_px=0.7)
    colour = np.array(_tinted(rng, (0.60, 0.575, 0.53), 0.03), dtype=np.float32)
    return _photographed(rng, colour * (light * hollow * tone)[..., None], blur_px=0.65)


def _tile_grid(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Glazed tiles with sanded grout: pillowed edges, a lamp mirrored in the glaze, tiles of unequal firing."""
    v, u = _turned(rng.normal(0, 0.035))
    pitch, gap = np.float32(rng.uniform(98, 108)), rng.uniform(5.0, 6.5)
    row, column = v / pitch + np.float32(rng.uniform(40, 41)), u / pitch + np.float32(rng.uniform(40, 41))
    j, i = np.floor(row).astype(np.int32), np.floor(column).astype(np.int32)
    tile = (j * 31 + i * 17) % 64
    shift_y, shift_x = rng.normal(0, 0.45, (2, 64)).astype(np.float32)
    edge_y = pitch / 2 - np.abs((row - j - 0.5) * pitch + shift_y[tile])
    edge_x = pitch / 2 - np.abs((column - i - 0.5) * pitch + shift_x[tile])
    wobble = 0.35 * _random_field(rng, length_px=9, power=3)
    corner = np.minimum(edge_y, edge_x) - 1.2 * np.exp(-np.abs(edge_y - edge_x) / 3)
    inside = (corner - np.float32(gap / 2) + wobble).astype(np.float32)
    is_tile = _step(inside, 1.6)
    tilt_y, tilt_x = rng.normal(0, 0.010, (2, 64)).astype(np.float32)
    pillow = 3.2 * (1 - np.exp(-np.maximum(inside, 0) / 3.2)) + (tilt_y[tile] * v + tilt_x[tile] * u)
    glaze = pillow + 0.35 * _random_field(rng, length_px=16, power=4) + 0.012 * _random_field(rng, length_px=1.5)
    sand = _random_field(rng, length_px=0.8, power=1.6)
    shade = _lambert(glaze.astype(np.float32), azimuth=-2.2, elevation=0.95)
    lamp = _gloss(glaze.astype(np.float32), azimuth=rng.uniform(-2.6, -1.8), tilt=0.55, sharpness=9.0)
    firing = (1 + 0.045 * rng.standard_normal(64, dtype=np.float32))[tile]
    cloud = 0.5 + 0.16 * _random_field(rng, length_px=12, power=2.6) + 0.05 * _random_field(rng, length_px=1.2)
    base = _tinted(rng, (0.22, 0.40, 0.39), 0.06)
    colour = _mix(
        (base[0] * 0.80, base[1] * 0.86, base[2] * 0.88), (base[0] * 1.25, base[1] * 1.14, base[2] * 1.12), cloud
    )
    speck = np.maximum(_random_field(rng, length_px=0.9, power=2.4) - 2.5, 0)
    colour *= (firing * (1 - np.minimum(0.6 * speck, 0.5)))[..., None]
    tiles = colour * (0.35 + 0.65 * shade)[..., None] + (0.22 * lamp)[..., None]
    grout_shade = np.clip(0.55 + 0.45 * _step(2.2 + inside + gap / 2, 5.0) + 0.10 * sand, 0.1, 1.3)
    grout_tone = 1 + 0.06 * _random_field(rng, length_px=25)
    grout = np.array(_tinted(rng, (0.40, 0.385, 0.355), 0.04), dtype=np.float32) * (grout_shade * grout_tone)[..., None]
    return _photographed(rng, grout + is_tile[..., None] * (tiles - grout), blur_px=0.7)


def _wood_grain(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Planed softwood board: year rings cut lengthwise, dark latewood, fibres, resin ducts."""
    angle = np.pi / 2 + rng.normal(0, 0.03)
    v, u = _turned(angle)
    drift = 7 * _random_field(rng, length_px=90, power=4, stretch=2.5, angle=angle)
    side = v + np.float32(rng.uniform(-220, 220)) + drift
    depth = (
        np.float32(rng.uniform(25, 70)) + np.float32(rng.normal(0, 0.16)) * u + np.float32(rng.normal(0, 4e-4)) * u * u
    )
    radius = np.sqrt(side * side + depth * depth) + 1.0 * _random_field(
        rng, length_px=10, power=3, stretch=8, angle=angle
    )
    spacing = rng.gamma(14, rng.uniform(11, 16) / 14, 96) + 2.5
    age = np.interp(radius.ravel(), np.concatenate([[0.0], np.cumsum(spacing)]), np.arange(97.0)).reshape(radius.shape)
    year = np.floor(age).astype(np.int32)
    phase = (age - year).astype(np.float32)
    late = rng.uniform(0.55, 1.0, 97).astype(np.float32)[year]
    latewood = late * np.clip((phase - 0.25) / 0.70, 0, 1) ** 3.2 * _step(0.975 - phase, 0.05)
    fibre = _random_field(rng, length_px=0.75, power=2.0, stretch=45, angle=angle)
    streak = _random_field(rng, length_px=4, power=2.6, stretch=30, angle=angle)
    duct = np.maximum(_random_field(rng, length_px=0.6, power=2.4, stretch=16, angle=angle) - 2.35, 0)
    share = 0.86 * latewood * (1 + 0.10 * fibre) + 0.05 * fibre + 0.035 * streak + 0.05
    pale = _tinted(rng, (0.60, 0.395, 0.205), 0.05)
    colour = _mix(pale, (pale[0] * 0.50, pale[1] * 0.36, pale[2] * 0.26), share)
    tone = (1 + 0.06 * fibre + 0.035 * streak) * (1 - np.minimum(0.5 * duct, 0.45))
    sheen = 1 + 0.05 * _random_field(rng, length_px=55, power=3.5)
    return _photographed(rng, colour * (tone * sheen)[..., None], blur_px=0.65)


def _printed_board(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Bare printed board: poured copper under green solder mask, tinned pads, vias, white legend."""
    layers = _BoardArtwork(rng).drawn()
    copper, pads, holes, legend = layers["copper"], layers["pads"], layers["holes"], layers["legend"]
    opening = np.clip(ndi.gaussian_filter(layers["opening"], 0.6) * 1.1, 0, 1)
    relief = 1.5 * ndi.gaussian_filter(copper, 0.9) + 0.05 * _random_field(rng, length_px=2.5)
    weave_v, weave_u = _turned(rng.normal(0, 0.02))
    weave = np.sin(weave_v * np.float32(2 * np.pi / 6.5)) * np.sin(weave_u * np.float32(2 * np.pi / 7.2))
    light = _lambert(relief, azimuth=-2.3, elevation=1.0)
    glint = _gloss(relief, azimuth=-2.3, tilt=0.5, sharpness=14.0)
    dark = _tinted(rng, (0.010, 0.085, 0.045), 0.07)
    cloud = (
        1
        + 0.035 * _random_field(rng, length_px=40)
        + 0.02 * weave * (1 - copper)
        + 0.02 * _random_field(rng, length_px=1)
    )
    mask = _mix(dark, (dark[0] * 2.6 + 0.012, dark[1] * 2.15, dark[2] * 1.75), ndi.gaussian_filter(copper, 0.5))
    board = mask * (light * cloud)[..., None] + 0.10 * glint[..., None]
    bare = np.array((0.20, 0.19, 0.085), dtype=np.float32) * (1 + 0.10 * weave)[..., None]
    dome = 2.6 * ndi.gaussian_filter(pads, 1.5) + 0.16 * _random_field(rng, length_px=2.2, power=3)
    tin = 0.36 + 0.50 * _gloss(dome, azimuth=rng.uniform(-2.8, -1.8), tilt=0.30, sharpness=7.0)
    tin = tin * (1 + 0.05 * _random_field(rng, length_px=1.2))
    metal = np.array(_tinted(rng, (0.93, 0.93, 0.90), 0.01), dtype=np.float32) * tin[..., None]
    board = board + opening[..., None] * (bare - board)
    board = board + pads[..., None] * (metal - board)
    ink = (
        np.array((0.74, 0.75, 0.71), dtype=np.float32)
        * (light * (1 + 0.05 * _random_field(rng, length_px=1)))[..., None]
    )
    board = board + (0.92 * legend * (1 - opening))[..., None] * (ink - board)
    board = board * (1 - 0.93 * holes[..., None])
    return _photographed(rng, board, blur_px=0.75, falloff=0.2)


def _hex_nut(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Hexagon nut lying on a light tray, anywhere and turned anyhow: turned face, chamfer, threaded bore."""
    y, x = _grid()
    cy, cx = rng.normal(0, 9, 2)
    apothem = 92 * (1 + rng.normal(0, 0.012))
    turn = rng.uniform(0, np.pi / 3)
    dy, dx = y - np.float32(cy), x - np.float32(cx)
    radius = np.sqrt(dy * dy + dx * dx)
    azimuth = np.arctan2(dy, dx)
    lamp = rng.uniform(-2.7, -1.7)
    towards = np.cos(azimuth - np.float32(lamp))  # 1 on the side of the lamp

    hexagon = np.max([np.cos(turn + s * np.pi / 3) * dx + np.sin(turn + s * np.pi / 3) * dy for s in range(6)], axis=0)
    outside = np.asarray(hexagon - apothem, dtype=np.float32)
    face_radius, bore, mouth = 0.955 * apothem, 0.50 * apothem, 0.585 * apothem

    # Turning leaves rings; they light up in a bow tie across the lamp's direction.
    rings = (
        np.interp(radius.ravel(), np.arange(240.0), rng.standard_normal(240)).reshape(radius.shape).astype(np.float32)
    )
    fine = _random_field(rng, length_px=0.8, power=2)
    bow = np.cos(azimuth - np.float32(lamp + rng.normal(0, 0.15))) ** 2
    face = (0.27 + 0.30 * bow**3) * (1 + (0.05 + 0.09 * bow) * rings + 0.03 * fine)
    face = face * (1 + 0.05 * _random_field(rng, length_px=20))
    chamfer = (0.26 + 0.22 * towards) * (1 + 0.04 * rings + 0.03 * fine)
    funnel = (0.20 - 0.17 * towards) * (1 + 0.05 * rings)
    depth = np.clip((bore - radius) / bore, 0, 1)
    thread = np.cos((radius + 2.2 * azimuth / np.pi) * np.float32(2 * np.pi / 4.4))
    wall = np.clip(0.085 - 0.075 * towards, 0.008, None) * (1 + 0.55 * thread) * np.exp(-3.2 * depth)
    tray = 1 + 0.018 * _random_field(rng, length_px=1.3, power=2) + 0.02 * _random_field(rng, length_px=50, power=3)
    tray_colour = np.array(_tinted(rng, (0.58, 0.62, 0.66), 0.03), dtype=np.float32)

    shift = 9.0
    sy, sx = dy + np.float32(shift * np.sin(lamp)), dx + np.float32(shift * np.cos(lamp))
    cast = np.max([np.cos(turn + s * np.pi / 3) * sx + np.sin(turn + s * np.pi / 3) * sy for s in range(6)], axis=0)
    shadow = 0.55 * _step(np.asarray(apothem - cast, dtype=np.float32), 22) + 0.18 * _step(-outside, 40)
    ground = tray_colour * (tray * (1 - np.clip(shadow, 0, 0.75)))[..., None]
    inner_ground = ground * (0.10 * np.clip(1 - radius / (0.93 * bore), 0, 1))[..., None]

    steel = np.array(_tinted(rng, (1.0, 0.99, 0.955), 0.012), dtype=np.float32)
    on_face = _step(np.asarray(face_radius - radius, dtype=np.float32), 2.0)
    nut = chamfer + on_face * (face - chamfer)
    nut = nut + _step(np.asarray(mouth - radius, dtype=np.float32), 1.6) * (funnel - nut)
    part = steel * nut[..., None]
    hole = _step(np.asarray(bore - radius, dtype=np.float32), 1.6)[..., None]
    part = part + hole * (steel * wall[..., None] + inner_ground - part)
    scene = ground + _step(-outside, 1.4)[..., None] * (part - ground)
    return _photographed(rng, scene, blur_px=0.75, falloff=0.16)


# ---------------------------------------------------------------- artwork of a printed board


class _BoardArtwork:
    """Layers of a printed board, drawn at three times the resolution and averaged down.

    Parameters
    ----------
    rng : numpy.random.Generator
        Decides the layout.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._scale = _BOARD_OVERSAMPLING
        side = SIDE_PX * self._scale
        self._images = {
            name: Image.new("L", (side, side)) for name in ("traces", "clear", "pads", "opening", "holes", "legend")
        }
        self._pens = {name: ImageDraw.Draw(image) for name, image in self._images.items()}
        self._taken: list[tuple[float, float, float, float]] = []

    def drawn(self) -> dict[str, _Field]:
        """Layers ``copper``, ``pads``, ``opening``, ``holes``, ``legend``, each (320, 320) in 0..1."""
        self._bus()
        self._package(rows=int(self._rng.integers(5, 9)))
        for _ in range(10):
            self._passive()
        for _ in range(14):
            self._via()
        layers = {name: self._averaged(image) for name, image in self._images.items()}
        pour = 1 - layers["clear"]
        layers["copper"] = np.maximum(np.maximum(pour, layers["traces"]), layers["pads"])
        layers["legend"] = layers["legend"] * (1 - layers["holes"])
        return layers

    def _averaged(self, image: Image.Image) -> _Field:
        return np.asarray(image.reduce(self._scale), dtype=np.float32) / np.float32(255)

    def _line(self, points: list[tuple[float, float]], width: float, *, clearance: float = 2.6) -> None:
        scaled = [(x * self._scale, y * self._scale) for x, y in points]
        for name, thick in (("clear", width + 2 * clearance), ("traces", width)):
            w = round(thick * self._scale)
            self._pens[name].line(scaled, fill=255, width=w, joint="curve")
            for x, y in (scaled[0], scaled[-1]):
                self._pens[name].ellipse((x - w / 2, y - w / 2, x + w / 2, y + w / 2), fill=255)

    def _box(
        self, name: str, box: tuple[float, float, float, float], *, grow: float = 0.0, corner: float = 0.0
    ) -> None:
        x0, y0, x1, y1 = ((value * self._scale) for value in box)
        g = grow * self._scale
        self._pens[name].rounded_rectangle((x0 - g, y0 - g, x1 + g, y1 + g), radius=corner * self._scale, fill=255)

    def _disc(self, name: str, x: float, y: float, radius: float) -> None:
        s = self._scale
        self._pens[name].ellipse(((x - radius) * s, (y - radius) * s, (x + radius) * s, (y + radius) * s), fill=255)

    def _pad(self, box: tuple[float, float, float, float], corner: float = 1.2) -> None:
        self._box("clear", box, grow=3.0, corner=corner + 3)
        self._box("opening", box, grow=1.3, corner=corner + 1)
        self._box("pads", box, corner=corner)

    def _place(self, width: float, height: float) -> tuple[float, float] | None:
        """A free corner (x, y) for a box, or None after a few tries."""
        for _ in range(24):
            x = float(self._rng.uniform(-0.15 * width, SIDE_PX - 0.85 * width))
            y = float(self._rng.uniform(-0.15 * height, SIDE_PX - 0.85 * height))
            if all(x > x1 or x + width < x0 or y > y1 or y + height < y0 for x0, y0, x1, y1 in self._taken):
                self._taken.append((x - 5, y - 5, x + width + 5, y + height + 5))
                return x, y
        return None

    def _bus(self) -> None:
        """Parallel traces with 45-degree bends, across the picture."""
        count, pitch, width = int(self._rng.integers(4, 8)), 8.0, 3.2
        y0 = float(self._rng.uniform(20, 250 - count * pitch))
        bend = float(self._rng.uniform(60, 210))
        rise = float(self._rng.choice([-1, 1]) * self._rng.uniform(20, 50))
        tangent = float(np.tan(np.pi / 8)) * (1 if rise > 0 else -1)
        for n in range(count):
            x = bend - n * pitch * tangent
            y = y0 + n * pitch
            self._line([(-9, y), (x, y), (x + abs(rise), y + rise), (SIDE_PX + 9, y + rise)], width)
        low, high = sorted((y0, y0 + rise))
        reach = count * pitch
        self._taken.append((-9, y0 - 8, bend + 12, y0 + reach + 2))
        self._taken.append((bend - 12, low - 8, bend + abs(rise) + 12, high + reach + 2))
        self._taken.append((bend + abs(rise) - 12, y0 + rise - 8, SIDE_PX + 9, y0 + rise + reach + 2))

    def _package(self, rows: int) -> None:
        """Two rows of pads of a small-outline package, with fan-out traces, outline and pin-1 dot."""
        pitch, length, width, body = 13.0, 17.0, 7.2, 44.0
        span = rows * pitch
        spot = self._place(body + 2 * length + 52, span + 8)
        if spot is None:
            return
        x, y = spot[0] + 26, spot[1] + 6
        for n in range(rows):
            top = y + n * pitch
            middle = top + width / 2
            for left, outwards in ((x, -1), (x + length + body, 1)):
                start = left + (0 if outwards < 0 else length)
                if self._rng.random() < 0.7:
                    end = (start + outwards * (9.0 if n % 2 else 20.0), middle)
                    self._line([(start - outwards * 6, middle), end], 3.0)
                    self._hole_at(*end)
                self._pad((left, top, left + length, top + width))
        s = self._scale
        outline = (x + length + 5, y - 3, x + length + body - 5, y + span - pitch + width + 3)
        self._pens["legend"].rectangle([v * s for v in outline], outline=255, width=round(1.5 * s))
        self._disc("legend", outline[0] + 6, outline[1] + 6, 2.2)
        self._text(
            (outline[0] + outline[2]) / 2, (outline[1] + outline[3]) / 2, f"U{int(self._rng.integers(1, 30))}", 11
        )

    def _passive(self) -> None:
        """Two pads of a chip resistor or capacitor with its legend."""
        upright = bool(self._rng.random() < 0.5)
        long, short, gap = 11.0, 13.0, 9.0
        w, h = (short, 2 * long + gap) if upright else (2 * long + gap, short)
        spot = self._place(w + (50 if upright else 34), h + (34 if upright else 30))
        if spot is None:
            return
        x, y = spot[0] + 17, spot[1] + 17
        second = (x, y + long + gap) if upright else (x + long + gap, y)
        size = (short, long) if upright else (long, short)
        for (px, py), outwards in (((x, y), -1), (second, 1)):
            middle = (px + size[0] / 2, py + size[1] / 2)
            if self._rng.random() < 0.6:
                run, jog = outwards * float(self._rng.uniform(14, 16)), float(self._rng.choice([-6, 0, 6]))
                end = (middle[0] + jog, middle[1] + run) if upright else (middle[0] + run, middle[1] + jog)
                self._line([middle, end], 3.0)
                self._hole_at(*end)
            self._pad((px, py, px + size[0], py + size[1]), corner=2.0)
        name = str(self._rng.choice(["R", "C", "C", "L"])) + str(int(self._rng.integers(1, 99)))
        at = (x + w + 15, y + h / 2) if upright else (x + w / 2, y - 8)
        self._text(*at, name, 9)

    def _via(self) -> None:
        spot = self._place(13, 13)
        if spot is not None:
            self._hole_at(spot[0] + 6.5, spot[1] + 6.5)

    def _hole_at(self, x: float, y: float) -> None:
        """A plated hole: ring of bare metal, drilled through."""
        self._disc("clear", x, y, 6.6)
        self._disc("opening", x, y, 5.2)
        self._disc("pads", x, y, 4.5)
        self._disc("holes", x, y, 2.2)

    def _text(self, x: float, y: float, text: str, size_px: float) -> None:
        font = ImageFont.load_default(size_px * self._scale)
        self._pens["legend"].text((x * self._scale, y * self._scale), text, fill=255, font=font, anchor="mm")


# Codes are part of the streams' names: never renumber.
SURFACES: Final[dict[str, tuple[int, Callable[[np.random.Generator], NDArray[np.uint8]]]]] = {
    "brushed_metal": (1, _brushed_metal),
    "woven_cloth": (2, _woven_cloth),
    "cast_plaster": (3, _cast_plaster),
    "tile_grid": (4, _tile_grid),
    "wood_grain": (5, _wood_grain),
    "printed_board": (6, _printed_board),
    "hex_nut": (7, _hex_nut),
}
