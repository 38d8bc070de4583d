"""How an opening looks: fields of a crack become light that is missing, and light that falls on its lips.

A crack multiplies the radiance of the photograph by a map of factors:

- occlusion: from the floor of a slot of width w and depth D the share F = 1 / sqrt(1 + (2 D / w)^2) of the sky is seen;
  the rest of its view is the slot itself, so with albedo a it glows with F / (1 - a (1 - F)) of the surface's radiance,
  which is why a crack in brown material is brown and not grey; the wall that faces the light returns some more;
- walls: the surface's texture ends at the lips; between them there is the material's colour, darkest in the middle;
- coverage: the part of a pixel that the slot takes up, exact for a straight strip, so that a hairline thinner than a
  pixel is faint and not thin;
- lips: raised or rounded edges tilt the surface, brighter towards the light, darker away from it;
- glint: on the lip that faces the light some of it is thrown straight back, which is what shows on dark material;
- debris: dirt caught along the crack, patchy, of a given optical density.

References
----------
Modest, "Radiative Heat Transfer", view factors of an infinite slot.
Langer, "When shadows become interreflections", Int. J. Computer Vision 34 (1999), for colour in cavities.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from refine.flags import below, chosen, numbers
from refine.photograph import Optics
from refine.radiance import Material, Radiance
from refine.scene import CrackBatch, CrackLook
from refine.stencils import central_gradient

__all__ = ["opening_radiance", "strip_coverage"]

_WALL_GRAIN = 0.2  # unevenness of a wall
_LIT_WALL = 0.6  # extra radiance factor on the half of the slot whose wall faces the light
_LIP_PX = 1.3  # how far the relief of a lip reaches, plus a share of the width
_LIP_SHARE = 0.35
_DEBRIS_PX = 1.5
_GLINT_REACH_PX = 3.0  # farther off, the line's light is none; numbers too small to be normal cost time


def opening_radiance(
    material: Material, crack: CrackBatch, grain: Tensor, look: CrackLook, optics: Optics, foreground: Tensor
) -> Radiance:
    """Light of photographs with openings in them.

    Parameters
    ----------
    material : Material
        What the photographs show.
    crack, look, optics
        Fields, appearance, and what is known of the photographs.
    grain : (B, H, W) tensor
        Roughness, variance 1.
    foreground : (B, H, W) bool tensor
        Where the part is.
    """
    there = numbers(foreground, grain.dtype)
    coverage = strip_coverage(crack.distance, crack.opening) * there
    facing = _facing(crack.distance, optics.light)
    reflectance = material.albedo(material.wall)
    inside = _slot_radiance(crack, look.depth_to_width, facing, optics.directional, reflectance)
    # the surface's own texture ends at the lips: the walls have its colour and a grain of their own
    inside.mul_(material.smoothing().clamp_(0.1, 10)).mul_(_wall_grain(grain))
    outside = _lip_radiance(crack, grain, look, facing, optics.directional) * _debris_radiance(crack, grain, look)
    factor = torch.lerp(outside[:, None].expand_as(inside), inside, coverage[:, None])
    glint = _glint(crack, grain, look, facing, optics.directional)
    return Radiance(
        factor=chosen(foreground, factor, torch.ones_like(factor)),
        light=(glint * there)[:, None],
        lost=coverage,
    )


def strip_coverage(distance: Tensor, opening: Tensor) -> Tensor:
    """Area that a pixel shares with a straight strip of width ``opening`` whose lip is ``distance`` away, (B, H, W)."""
    across, along = _normal(distance)
    far = _beyond(distance + opening, across, along)
    return (_beyond(distance, across, along) - far).clamp_(0, 1)


def _normal(distance: Tensor) -> tuple[Tensor, Tensor]:
    """Larger and smaller component of the strip's unit normal, without sign, (B, H, W) each.

    Of the two steps to a pixel's neighbours along an axis, the one that does not cross the middle of the strip is the
    longer; a step along the strip is none.
    """
    padded = functional.pad(distance[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    down, right = padded[:, :, 1:-1].diff(dim=1).abs_(), padded[:, 1:-1].diff(dim=2).abs_()
    ny, nx = torch.maximum(down[:, 1:], down[:, :-1]), torch.maximum(right[:, :, 1:], right[:, :, :-1])
    norm = (ny * ny + nx * nx).sqrt_().clamp_min_(1e-6)
    return torch.maximum(ny, nx).div_(norm), torch.minimum(ny, nx).div_(norm)


def _beyond(distance: Tensor, across: Tensor, along: Tensor) -> Tensor:
    """Share of a unit pixel that lies beyond a straight line at a signed ``distance`` from its centre.

    Seen along the line the pixel is a trapezoid: the convolution of two boxes as wide as the normal's components.
    """
    rest = (across + along).mul_(0.5).sub_(distance.abs()).clamp_min_(0)
    corner = torch.minimum(rest, along)
    share = (corner / along.clamp_min(1e-6)).mul_(corner).mul_(0.5).add_(rest).sub_(corner).div_(across.clamp_min(1e-6))
    return torch.lerp(share, 1 - share, below(distance, 0))


def _facing(distance: Tensor, light: Tensor) -> Tensor:
    """Cosine between the outward direction (away from the crack) and the light, (B, H, W)."""
    down, right = central_gradient(distance)
    norm = (down * down + right * right).sqrt_().clamp_min_(1e-6)
    return (down * light[:, 0, None, None] + right * light[:, 1, None, None]) / norm


def _slot_radiance(
    crack: CrackBatch, depth_to_width: Tensor, facing: Tensor, directional: Tensor, reflectance: Tensor
) -> Tensor:
    """Radiance of the slot / radiance of the surface, (B, C, H, W).

    The floor sees the share F of the sky; the walls see more of it the nearer the lip, where they see half.
    """
    floor = (1 + (2 * depth_to_width) ** 2).rsqrt()[:, None, None]
    sky = floor + (0.5 - floor).clamp_min(0) * _nearness_to_lip(crack)
    # the wall on the side away from the light is the one that looks into it
    lit = sky * (1 + _LIT_WALL * directional[:, None, None] * (-facing).clamp_min(0))
    return lit[:, None] / (1 - reflectance * (1 - sky[:, None]))


def _nearness_to_lip(crack: CrackBatch) -> Tensor:
    """Mean of abs(v)^3 over the part of the slot that a pixel sees, (B, H, W); v is 1 at one lip and -1 at the other.

    A pixel's centre would not do: that of a hairline is mostly not in the slot at all.
    """
    half = (0.5 * crack.opening).clamp_min(1e-3)
    first, last = ((1 + (crack.distance + side) / half).clamp_(-1, 1) for side in (0.5, -0.5))
    first_4, last_4 = (v * v * v * v.abs() for v in (first, last))
    return (first_4 - last_4) / (4 * (first - last).clamp_min_(1e-3))


def _wall_grain(grain: Tensor) -> Tensor:
    return (1 + _WALL_GRAIN * grain).clamp_(0.3, 2)[:, None]


def _lip_radiance(crack: CrackBatch, grain: Tensor, look: CrackLook, facing: Tensor, directional: Tensor) -> Tensor:
    reach = _LIP_PX + _LIP_SHARE * crack.opening
    open_here = crack.opening.clamp(0, 1)  # a hairline has no relief to speak of
    relief = torch.exp(-crack.distance.clamp_min(0) / reach) * open_here
    slope = look.lip_slope[:, None, None] * (0.7 + 0.3 * grain) * relief
    return (1 + directional[:, None, None] * slope * facing * 1.6).clamp_(0.2, 2.0)


def _debris_radiance(crack: CrackBatch, grain: Tensor, look: CrackLook) -> Tensor:
    reach = _DEBRIS_PX + 0.5 * crack.opening
    density = torch.exp(-crack.distance.clamp_min(0) / reach) * below(-crack.opening, 0)
    patchy = (0.5 + 0.8 * grain).clamp_(0, 2)
    return torch.exp(-2.303 * look.debris[:, None, None] * density * patchy)


def _glint(crack: CrackBatch, grain: Tensor, look: CrackLook, facing: Tensor, directional: Tensor) -> Tensor:
    """Light thrown back by the lip that faces it: a thin line just outside the opening, broken by the grain."""
    off = (crack.distance - 0.4).clamp_(-_GLINT_REACH_PX, _GLINT_REACH_PX)
    line = off.square_().mul_(-2).exp_().mul_((0.5 * crack.opening).clamp_(0, 1))
    broken = (0.6 + 0.6 * grain).clamp_(0, 1.5)
    return line.mul_(broken).mul_(facing.clamp_min(0)).mul_((look.glint * directional)[:, None, None])
