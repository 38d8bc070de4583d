"""How an opening looks: fields of a crack become light that is missing, and light that falls on its lips.

A picture value v stands for the radiance v^2.2, so a radiance factor f becomes the value factor f^(1/2.2), and a
crack multiplies the photograph by a map of such factors:

- occlusion: from the floor of a slot of width w and depth D the share F = 1 / sqrt(1 + (2 D / w)^2) of the sky is seen;
  the rest of its view is the slot itself, so with albedo a it glows with F / (1 - a (1 - F)) of the surface's radiance,
  which is why a crack in brown material is brown and not grey; the wall that faces the light returns some more;
- walls: the surface's texture ends at the lips; between them there is the material's colour, darkest in the middle;
- coverage: the part of a pixel that the slot takes up, exact for a straight strip, so that a hairline thinner than a
  pixel is faint and not thin;
- lips: raised or rounded edges tilt the surface, brighter towards the light, darker away from it;
- glint: on the lip that faces the light some of it is thrown straight back, which is what shows on dark material;
- debris: dirt caught along the crack, patchy, of a given optical density.

The map is blurred by the photograph's own point spread, so that the defect has been seen by the same camera.

References
----------
Modest, "Radiative Heat Transfer", view factors of an infinite slot.
Langer, "When shadows become interreflections", Int. J. Computer Vision 34 (1999), for colour in cavities.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from refine.photograph import Optics, gaussian_blur
from refine.radiometry import GAMMA, albedo, blur_channels, linear_factor_to_value, power

__all__ = ["CrackBatch", "CrackLook", "Rendering", "render_crack"]

_WALL_BLUR_PX = 2.0  # a wall has the colour of its surroundings over about this distance
_WALL_GRAIN = 0.2  # and this much unevenness of its own
_LIT_WALL = 0.6  # extra radiance factor on the half of the slot whose wall faces the light
_LIP_PX = 1.3  # how far the relief of a lip reaches, plus a share of the width
_LIP_SHARE = 0.35
_DEBRIS_PX = 1.5


@dataclass(frozen=True)
class CrackBatch:
    """Fields of B cracks on H x W pixels, each (B, H, W) float; see `physics.placement.CrackFields`.

    ``distance`` to the nearest lip and ``opening`` in pixels, ``grain`` without unit.
    """

    distance: Tensor
    opening: Tensor
    grain: Tensor


@dataclass(frozen=True)
class CrackLook:
    """Appearance of each crack, tensors (B,): depth / width, slope of the lips, optical density of debris,
    and the glint of the lips as a share of the brightest light on the part.
    """

    depth_to_width: Tensor
    lip_slope: Tensor
    debris: Tensor
    glint: Tensor


@dataclass(frozen=True)
class Rendering:
    """Result of rendering: ``image`` (B, C, H, W), 0..1; ``coverage`` (B, H, W), share of a pixel that is open."""

    image: Tensor
    coverage: Tensor


def render_crack(source: Tensor, crack: CrackBatch, look: CrackLook, optics: Optics, foreground: Tensor) -> Rendering:
    """Draw cracks into photographs.

    Parameters
    ----------
    source : (B, C, H, W) float tensor
        Photographs, 0..1.
    crack, look, optics
        Fields, appearance, and what is known of the photographs.
    foreground : (B, H, W) bool tensor
        Where the part is: elsewhere nothing is drawn.
    """
    coverage = _strip_coverage(crack.distance, crack.opening) * foreground
    facing = _facing(crack.distance, optics.light)
    wall = blur_channels(source, torch.full_like(optics.blur_px, _WALL_BLUR_PX))
    inside = _slot_radiance(crack, look.depth_to_width, facing, optics.directional, albedo(wall, optics.brightest))
    # the surface's own texture ends at the lips: the walls have its colour and a grain of their own
    inside = inside * power(wall / source.clamp_min(0.02), GAMMA).clamp(0.1, 10) * _wall_grain(crack)
    outside = (_lip_radiance(crack, look, facing, optics.directional) * _debris_radiance(crack, look))[:, None]
    radiance = outside + coverage[:, None] * (inside - outside)
    radiance = torch.where(foreground[:, None], radiance, torch.ones_like(radiance))
    factor = blur_channels(linear_factor_to_value(radiance), optics.blur_px)
    glint = gaussian_blur(_glint(crack, look, facing, optics.directional) * foreground, optics.blur_px)
    light = glint[:, None] * optics.brightest[:, :, None, None]
    drawn = (source * factor + light).clamp(0, 1)
    # the blur reaches past the part's outline
    return Rendering(image=torch.where(foreground[:, None], drawn, source), coverage=coverage)


def _strip_coverage(distance: Tensor, opening: Tensor) -> Tensor:
    """Area that a pixel shares with a straight strip of width ``opening`` whose lip is ``distance`` away."""
    across, along = _normal(distance)
    far = _beyond(distance + opening, across, along)
    return (_beyond(distance, across, along) - far).clamp(0, 1)


def _normal(distance: Tensor) -> tuple[Tensor, Tensor]:
    """Larger and smaller component of the strip's unit normal, without sign, (B, H, W) each.

    Of the two steps to a pixel's neighbours along an axis, the one that does not cross the middle of the strip is the
    longer; a step along the strip is none.
    """
    padded = functional.pad(distance[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    down, right = padded[:, :, 1:-1].diff(dim=1).abs(), padded[:, 1:-1].diff(dim=2).abs()
    ny, nx = torch.maximum(down[:, 1:], down[:, :-1]), torch.maximum(right[:, :, 1:], right[:, :, :-1])
    norm = (ny * ny + nx * nx).sqrt().clamp_min(1e-6)
    return torch.maximum(ny, nx) / norm, torch.minimum(ny, nx) / norm


def _beyond(distance: Tensor, across: Tensor, along: Tensor) -> Tensor:
    """Share of a unit pixel that lies beyond a straight line at a signed ``distance`` from its centre.

    Seen along the line the pixel is a trapezoid: the convolution of two boxes as wide as the normal's components.
    """
    rest = (0.5 * (across + along) - distance.abs()).clamp_min(0)
    corner = torch.minimum(rest, along)
    share = (0.5 * corner * (corner / along.clamp_min(1e-6)) + rest - corner) / across.clamp_min(1e-6)
    return torch.where(distance >= 0, share, 1 - share)


def _facing(distance: Tensor, light: Tensor) -> Tensor:
    """Cosine between the outward direction (away from the crack) and the light, (B, H, W)."""
    padded = functional.pad(distance[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    gy = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    gx = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
    norm = (gy * gy + gx * gx).sqrt().clamp_min(1e-6)
    return (gy * light[:, 0, None, None] + gx * light[:, 1, None, None]) / norm


def _slot_radiance(
    crack: CrackBatch, depth_to_width: Tensor, facing: Tensor, directional: Tensor, albedo: Tensor
) -> Tensor:
    """Radiance of the slot / radiance of the surface, (B, C, H, W).

    The floor sees the share F of the sky; the walls see more of it the nearer the lip, where they see half.
    """
    floor = (1 + (2 * depth_to_width) ** 2).rsqrt()[:, None, None]
    sky = floor + (0.5 - floor).clamp_min(0) * _nearness_to_lip(crack)
    # the wall on the side away from the light is the one that looks into it
    lit = sky * (1 + _LIT_WALL * directional[:, None, None] * (-facing).clamp_min(0))
    return lit[:, None] / (1 - albedo * (1 - sky[:, None]))


def _nearness_to_lip(crack: CrackBatch) -> Tensor:
    """Mean of abs(v)^3 over the part of the slot that a pixel sees, (B, H, W); v is 1 at one lip and -1 at the other.

    A pixel's centre would not do: that of a hairline is mostly not in the slot at all.
    """
    half = (0.5 * crack.opening).clamp_min(1e-3)
    first, last = ((1 + (crack.distance + side) / half).clamp(-1, 1) for side in (0.5, -0.5))
    return (first * first.abs() ** 3 - last * last.abs() ** 3) / (4 * (first - last).clamp_min(1e-3))


def _wall_grain(crack: CrackBatch) -> Tensor:
    return (1 + _WALL_GRAIN * crack.grain).clamp(0.3, 2)[:, None]


def _lip_radiance(crack: CrackBatch, look: CrackLook, facing: Tensor, directional: Tensor) -> Tensor:
    reach = _LIP_PX + _LIP_SHARE * crack.opening
    open_here = (crack.opening / 1.0).clamp(0, 1)  # a hairline has no relief to speak of
    relief = torch.exp(-crack.distance.clamp_min(0) / reach) * open_here
    slope = look.lip_slope[:, None, None] * (0.7 + 0.3 * crack.grain) * relief
    return (1 + directional[:, None, None] * slope * facing * 1.6).clamp(0.2, 2.0)


def _debris_radiance(crack: CrackBatch, look: CrackLook) -> Tensor:
    reach = _DEBRIS_PX + 0.5 * crack.opening
    density = torch.exp(-crack.distance.clamp_min(0) / reach) * (crack.opening > 0)
    patchy = (0.5 + 0.8 * crack.grain).clamp(0, 2)
    return torch.exp(-2.303 * look.debris[:, None, None] * density * patchy)


def _glint(crack: CrackBatch, look: CrackLook, facing: Tensor, directional: Tensor) -> Tensor:
    """Light thrown back by the lip that faces it: a thin line just outside the opening, broken by the grain."""
    line = torch.exp(-((crack.distance - 0.4) ** 2) / 0.5) * (crack.opening / 2.0).clamp(0, 1)
    broken = (0.6 + 0.6 * crack.grain).clamp(0, 1.5)
    return look.glint[:, None, None] * directional[:, None, None] * line * broken * facing.clamp_min(0)
