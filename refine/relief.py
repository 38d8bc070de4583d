"""How a changed surface looks: depth, height, corrosion product and displacement become light and moved texture.

The surface z (pixels, up) is the sum of height, product and minus depth. A picture value v stands for the radiance
v^2.2; the photograph shows the flat surface, so it is multiplied by what the new surface throws back / what the flat
one did:

- shading: Lambert's cosine for the directional share of the light, whose direction in the picture comes from the
  photograph, where nothing stands before it; the ambient share sees the sky through the mouth of the hollow, and a
  light material fills its hollows with its own light;
- gloss: Blinn's lobe about the half vector, as the difference to the flat surface, which the photograph shows;
- floor: where material was lost the finish is gone: no texture of the photograph, a duller reflectance and a grain;
- product: covers what lies under it by 1 - exp(-thickness), with its own colour;
- displacement: the texture goes where the material went.

References
----------
Blinn, "Models of light reflection for computer synthesized pictures", SIGGRAPH (1977).
Langer, "When shadows become interreflections", Int. J. Computer Vision 34 (1999).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from refine.photograph import Optics
from refine.radiometry import albedo, blur_channels, linear_factor_to_value, power

__all__ = ["PRODUCT_REFLECTANCE", "ReliefBatch", "ReliefLook", "ReliefRendering", "render_relief"]

_ELEVATION = math.radians(35.0)  # of the light above the surface: rigs that look for relief stand low
_DIRECTIONAL_LEAST = 0.6  # share of the light that has a direction, where the photograph tells of less
_SKY_SCALES_PX = (4, 8, 16)
_SHADE_STEPS_PX = (1.5, 3.0, 5.0, 8.0, 12.0, 18.0)
_LAMP = 0.4  # extent of the lamp / its distance
_SKY_STEEPNESS = 2.0  # a bowl of radius r whose floor lies h below its surroundings sees 1 / (1 + (h/r)^2) of the sky
_LOST_SHARE = 0.12  # of the deepest point: from there on the old surface is gone
_OPAQUE_SHARE = 0.12  # of the deepest point: a product as thick as this hides 1 - 1/e of the ground
_OPAQUE_LEAST_PX = 0.3
_WALL_BLUR_PX = 2.0
_FLOOR_GRAIN = 0.12
_PRODUCT_GRAIN = 0.10
_MOVED_PX = 0.05  # a texture that moves less is left alone

# share of red, green and blue light thrown back; for grey pictures the mean
PRODUCT_REFLECTANCE = {"rust": (0.30, 0.13, 0.06), "black": (0.05, 0.045, 0.04), "white": (0.62, 0.62, 0.58)}


@dataclass(frozen=True)
class ReliefBatch:
    """Fields of B defects on H x W pixels, each (B, H, W) float, pixels; see `manifests.fields`; zeros where absent.

    ``grain`` is noise of variance 1 without unit.
    """

    depth: Tensor
    height: Tensor
    product: Tensor
    displacement_y: Tensor
    displacement_x: Tensor
    grain: Tensor


@dataclass(frozen=True)
class ReliefLook:
    """Appearance of each defect.

    ``gloss`` (B,) mirror-like share of the light, ``exponent`` (B,) its sharpness, ``floor`` (B,) reflectance of a
    pit's floor / that of the surface, ``product`` (B, C) reflectance of the corrosion product.
    """

    gloss: Tensor
    exponent: Tensor
    floor: Tensor
    product: Tensor


@dataclass(frozen=True)
class ReliefRendering:
    """``image`` (B, C, H, W), 0..1; ``lost`` (B, H, W), share of a pixel whose old surface is gone or hidden."""

    image: Tensor
    lost: Tensor


def render_relief(
    source: Tensor, relief: ReliefBatch, look: ReliefLook, optics: Optics, foreground: Tensor
) -> ReliefRendering:
    """Draw changed surfaces into photographs.

    Parameters
    ----------
    source : (B, C, H, W) float tensor
        Photographs, 0..1.
    relief, look, optics
        Fields, appearance, and what is known of the photographs.
    foreground : (B, H, W) bool tensor
        Where the part is: elsewhere nothing is drawn.
    """
    moved = _warp(source, relief.displacement_y, relief.displacement_x)
    surface = relief.height + relief.product - relief.depth
    normal = _normal(surface)
    wall = blur_channels(moved, torch.full_like(optics.blur_px, _WALL_BLUR_PX))
    shading = _shading(surface, normal, albedo(wall, optics.brightest), optics)
    lost = _share_of_peak(relief.depth, _LOST_SHARE)
    hidden = 1 - torch.exp(-relief.product / (_OPAQUE_SHARE * _peak(relief.depth)).clamp_min(_OPAQUE_LEAST_PX))
    matter = _matter(moved, wall, lost, hidden, relief.grain, look, optics)
    factor = blur_channels(linear_factor_to_value(shading * matter), optics.blur_px)
    gloss = _gloss(normal, look, optics) * (1 - torch.maximum(lost, hidden))
    light = blur_channels(gloss[:, None], optics.blur_px) * optics.brightest[:, :, None, None]
    drawn = (moved * factor + light).clamp(0, 1)
    lost = torch.maximum(lost, hidden) * foreground
    return ReliefRendering(image=torch.where(foreground[:, None], drawn, source), lost=lost)


def _peak(field: Tensor) -> Tensor:
    return field.abs().amax(dim=(1, 2), keepdim=True)


def _share_of_peak(field: Tensor, share: float) -> Tensor:
    """0 where the field is 0, 1 where it exceeds a share of its peak, smooth between."""
    t = (field / (share * _peak(field)).clamp_min(1e-6)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _normal(surface: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unit normal (down, right, towards the camera) of a surface (B, H, W) in pixels."""
    padded = functional.pad(surface[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    down = 0.5 * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1])
    right = 0.5 * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2])
    length = (1 + down * down + right * right).sqrt()
    return -down / length, -right / length, 1 / length


def _shading(surface: Tensor, normal: tuple[Tensor, Tensor, Tensor], reflectance: Tensor, optics: Optics) -> Tensor:
    """Radiance of a matt surface / radiance of the flat one, (B, C, H, W)."""
    ny, nx, nz = normal
    along = ny * optics.light[:, 0, None, None] + nx * optics.light[:, 1, None, None]
    direct = (nz + along / math.tan(_ELEVATION)).clamp_min(0) * _sun(surface, optics.light)
    sky = _sky(surface)
    directional = _directional(optics)[:, None, None]
    light = (1 - directional) * sky * 0.5 * (1 + nz) + directional * direct
    return light[:, None] / (1 - reflectance * (1 - sky[:, None]))


def _sky(surface: Tensor) -> Tensor:
    """Share of the sky that a point sees, from how far its surroundings rise above it at a few distances."""
    rise = torch.zeros_like(surface)
    for scale in _SKY_SCALES_PX:
        rise = torch.maximum(rise, (_box_mean(surface, scale + 1) - surface) * (_SKY_STEEPNESS / scale))
    return 1 / (1 + rise * rise)


def _box_mean(field: Tensor, side: int) -> Tensor:
    """Mean of (B, H, W) over the square of an odd side around each pixel, as far as it lies in the picture."""
    half = side // 2
    rows = functional.avg_pool2d(field[:, None], (side, 1), 1, (half, 0), count_include_pad=False)
    return functional.avg_pool2d(rows, (1, side), 1, (0, half), count_include_pad=False)[:, 0]


def _sun(surface: Tensor, light: Tensor) -> Tensor:
    """Share of the directional light that reaches a point, (B, H, W): what stands before it casts a shade.

    The surface is looked at a few distances towards the light, at the nearest pixel; the shade's edge is soft, as that
    of a lamp with an extent.
    """
    batch, height, width = surface.shape
    y = torch.arange(height, device=surface.device)[None, :, None]
    x = torch.arange(width, device=surface.device)[None, None, :]
    flat = surface.reshape(batch, -1)
    shade = torch.zeros_like(surface)
    for step in _SHADE_STEPS_PX:
        offset = (step * light).round()
        reach = offset.norm(dim=1)[:, None, None].clamp_min(1.0)
        down, right = offset.long()[:, :, None, None].unbind(dim=1)
        row, column = (y + down).clamp(0, height - 1), (x + right).clamp(0, width - 1)
        before = flat.gather(1, (row * width + column).reshape(batch, -1)).reshape(surface.shape)
        # how far above the ray, in pixels; a lamp of some size makes it gradual over a share of the distance
        above = before - surface - reach * math.tan(_ELEVATION)
        shade = torch.maximum(shade, (above / (_LAMP * reach) + 0.5).clamp(0, 1))
    return 1 - shade


def _matter(
    moved: Tensor, wall: Tensor, lost: Tensor, hidden: Tensor, grain: Tensor, look: ReliefLook, optics: Optics
) -> Tensor:
    """Reflectance of what lies at the surface now / reflectance of what the photograph shows, (B, C, H, W)."""
    smooth = power((wall / moved.clamp_min(0.02)).clamp(0.2, 5), 2.2)  # the photograph's own texture taken away
    floor = smooth * (look.floor[:, None, None] * (1 + _FLOOR_GRAIN * grain).clamp(0.4, 1.6))[:, None]
    ground = 1 + lost[:, None] * (floor - 1)
    shown = albedo(moved, optics.brightest).clamp_min(0.01)
    product = look.product[:, :, None, None] / shown * (1 + _PRODUCT_GRAIN * grain).clamp(0.4, 1.6)[:, None]
    return ground + hidden[:, None] * (product - ground)


def _gloss(normal: tuple[Tensor, Tensor, Tensor], look: ReliefLook, optics: Optics) -> Tensor:
    """Mirror-like light gained or lost against the flat surface, as a share of the brightest light, (B, H, W)."""
    ny, nx, nz = normal
    half = 0.5 * (math.pi / 2 - _ELEVATION)  # angle of the half vector to the camera
    across = ny * optics.light[:, 0, None, None] + nx * optics.light[:, 1, None, None]
    cosine = (nz * math.cos(half) + across * math.sin(half)).clamp(1e-3, 1)
    exponent = look.exponent[:, None, None]
    lobe = torch.exp(exponent * torch.log(cosine)) - torch.exp(exponent * math.log(math.cos(half)))
    return (look.gloss * _directional(optics))[:, None, None] * lobe


def _directional(optics: Optics) -> Tensor:
    """Even light on a flat surface says nothing of where it comes from; a rig that shows relief has a side."""
    return optics.directional.clamp_min(_DIRECTIONAL_LEAST)


def _warp(source: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """The photograph (B, C, H, W) with its texture moved by (down, right) pixels: cubic convolution."""
    where = (torch.maximum(down.abs(), right.abs()) > _MOVED_PX)[:, None]
    if not bool(where.any()):
        return source
    batch, channels, height, width = source.shape
    y = torch.arange(height, dtype=source.dtype, device=source.device)[None, :, None] - down
    x = torch.arange(width, dtype=source.dtype, device=source.device)[None, None, :] - right
    fy, fx = y - y.floor(), x - x.floor()
    flat = source.reshape(batch, channels, -1)
    total = torch.zeros_like(source)
    for p, wy in enumerate(_cubic(fy)):
        row = (y.floor().long() + p - 1).clamp(0, height - 1)
        for q, wx in enumerate(_cubic(fx)):
            column = (x.floor().long() + q - 1).clamp(0, width - 1)
            index = (row * width + column).reshape(batch, 1, -1).expand(-1, channels, -1)
            total += (wy * wx)[:, None] * flat.gather(2, index).reshape(source.shape)
    return torch.where(where, total.clamp(0, 1), source)


def _cubic(f: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of cubic convolution (a = -1/2) for the four pixels around; ``f`` past the second."""
    a = -0.5
    return (
        a * (f - 2 * f * f + f * f * f),
        1 - (a + 3) * f * f + (a + 2) * f * f * f,
        -a * f + (2 * a + 3) * f * f - (a + 2) * f * f * f,
        a * (f * f - f * f * f),
    )
