"""How a changed surface looks: depth, height, corrosion product and displacement become light and moved texture.

The surface z (pixels, up) is the sum of height, product and minus depth. The photograph shows the flat surface, so its
radiance is multiplied by what the new surface throws back / what the flat one did:

- shading: Lambert's cosine for the directional share of the light, whose direction in the picture comes from the
  photograph, where nothing stands before it; the ambient share sees the sky through the mouth of the hollow, and a
  light material fills its hollows with its own light;
- gloss: Blinn's lobe about the half vector, as the difference to the flat surface, which the photograph shows; its
  strength is that of the photograph's own highlights; neither a bare floor nor a product has any;
- floor: where material was lost the finish is gone: no texture of the photograph, a duller reflectance and a grain;
- product: covers what lies under it by 1 - exp(-thickness), with its own colour;
- displacement: the texture goes where the material went, near where the surface slopes.

References
----------
Blinn, "Models of light reflection for computer synthesized pictures", SIGGRAPH (1977).
Langer, "When shadows become interreflections", Int. J. Computer Vision 34 (1999).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from refine.flags import below, chosen, is_below, numbers
from refine.photograph import Optics
from refine.radiance import Material, Radiance
from refine.scene import ReliefBatch, ReliefLook
from refine.stencils import box_maximum, box_mean, central_gradient, halved

__all__ = ["SHADE_REACH_PX", "SLOPING", "moved_texture", "relief_radiance"]

_ELEVATION = math.radians(35.0)  # of the light above the surface: rigs that look for relief stand low
_DIRECTIONAL_LEAST = 0.6  # share of the light that has a direction, where the photograph tells of less
_GLOSS_LEAST = 0.2  # a flat surface shows no highlight, however glossy, unless the lamp stands where it is mirrored
_SKY_SCALES_PX = (4, 8, 16)
_SHADE_STEPS_PX = (2.0, 4.0, 6.0, 9.0, 13.0, 18.0)
SHADE_REACH_PX = _SHADE_STEPS_PX[-1]
_LAMP = 0.4  # extent of the lamp / its distance
_SKY_STEEPNESS = 2.0  # a bowl of radius r whose floor lies h below its surroundings sees 1 / (1 + (h/r)^2) of the sky
_LOST_SHARE = 0.12  # of the deepest point: from there on the old surface is gone
_OPAQUE_SHARE = 0.12  # of the deepest point: a product as thick as this hides 1 - 1/e of the ground
_OPAQUE_LEAST_PX = 0.3
_FLOOR_GRAIN = 0.12
_PRODUCT_GRAIN = 0.10
_TAPS_REACH = 3  # pixels beyond the border that a tap may ask for
SLOPING = 0.04  # a slope that light makes anything of
_NEAR_RELIEF_PX = 9  # side of the squares over which moved texture gives way to still
_MOVED_PX = 0.05  # a texture that moves less is left alone


def relief_radiance(
    material: Material, relief: ReliefBatch, grain: Tensor, look: ReliefLook, optics: Optics, foreground: Tensor
) -> Radiance:
    """Light of photographs with a changed surface.

    Parameters
    ----------
    material : Material
        What the photographs show, their texture moved already.
    relief, look, optics
        Fields, appearance, and what is known of the photographs.
    grain : (B, H, W) tensor
        Roughness, variance 1.
    foreground : (B, H, W) bool tensor
        Where the part is.
    """
    surface = relief.height + relief.product - relief.depth
    normal = _normal(surface)
    factor = _shading(surface, normal, material.albedo(material.wall), optics)
    bare = _share_of_peak(relief.depth, _LOST_SHARE)
    hidden = 1 - torch.exp(-relief.product / (_OPAQUE_SHARE * _peak(relief.depth)).clamp_min(_OPAQUE_LEAST_PX))
    there = numbers(foreground, surface.dtype)
    lost = torch.maximum(bare, hidden) * there
    if bool(lost.amax() > 0):
        factor.mul_(_matter(material, bare, hidden, grain, look))
    gloss = _gloss(normal, look, optics) * (1 - lost)
    factor = chosen(foreground, factor, torch.ones_like(factor))
    return Radiance(factor=factor, light=(gloss * there)[:, None], lost=lost)


def _peak(field: Tensor) -> Tensor:
    return field.abs().amax(dim=(1, 2), keepdim=True)


def _share_of_peak(field: Tensor, share: float) -> Tensor:
    """0 where the field is 0, 1 where it exceeds a share of its peak, smooth between."""
    t = (field / (share * _peak(field)).clamp_min(1e-6)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _normal(surface: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unit normal (down, right, towards the camera) of a surface (B, H, W) in pixels."""
    down, right = central_gradient(surface)
    shortening = (1 + down * down + right * right).rsqrt()
    return -down * shortening, -right * shortening, shortening


def _shading(surface: Tensor, normal: tuple[Tensor, Tensor, Tensor], reflectance: Tensor, optics: Optics) -> Tensor:
    """Radiance of a matt surface / radiance of the flat one, (B, C, H, W)."""
    ny, nx, nz = normal
    towards = optics.light / math.tan(_ELEVATION)
    half = halved(surface[:, None])[:, 0]  # shades are smooth, and so cost a quarter
    seen = _doubled(torch.stack([_sun(half, optics.light), _sky(half)], dim=1), surface.shape[1:])
    sun, sky = seen[:, 0], seen[:, 1]
    direct = (ny * towards[:, 0, None, None]).addcmul_(nx, towards[:, 1, None, None]).add_(nz).clamp_min_(0).mul_(sun)
    directional = _directional(optics)[:, None, None]
    light = (nz + 1).mul_(sky).mul_(0.5 * (1 - directional)).addcmul_(direct, directional)
    return light[:, None] / (1 - reflectance * (1 - sky)[:, None])


def _doubled(maps: Tensor, size: torch.Size) -> Tensor:
    """Maps (B, K, h, w) at twice the resolution, cut to a size."""
    fine = functional.interpolate(maps, scale_factor=2.0, mode="bilinear", align_corners=False)
    return fine[:, :, : size[0], : size[1]]


def _sky(surface: Tensor) -> Tensor:
    """Share of the sky that a point of a halved surface sees: how far do its surroundings rise above it?"""
    rise = torch.zeros_like(surface)
    for scale in _SKY_SCALES_PX:
        around = box_mean(surface[:, None], scale // 2 + 1)[:, 0]
        rise = torch.maximum(rise, (around - surface) * (_SKY_STEEPNESS / scale))
    return 1 / (1 + rise * rise)


def _sun(surface: Tensor, light: Tensor) -> Tensor:
    """Share of the directional light that reaches a point of a halved surface: what stands before it casts a shade.

    The surface is looked at a few distances towards the light, at the nearest place; the shade's edge is soft, as that
    of a lamp with an extent.
    """
    batch, height, width = surface.shape
    y = torch.arange(height, device=surface.device)[None, :, None]
    x = torch.arange(width, device=surface.device)[None, None, :]
    flat = surface.reshape(batch, -1)
    shade = torch.zeros_like(surface)
    for step in _SHADE_STEPS_PX:
        offset = (0.5 * step * light).round()
        reach = 2 * offset.norm(dim=1)[:, None, None].clamp_min(1.0)
        down, right = offset.long()[:, :, None, None].unbind(dim=1)
        row, column = (y + down).clamp_(0, height - 1), (x + right).clamp_(0, width - 1)
        before = flat.gather(1, (row * width + column).reshape(batch, -1)).reshape(surface.shape)
        # how far above the ray, in pixels; a lamp of some size makes it gradual over a share of the distance
        above = (before - surface).sub_(reach * math.tan(_ELEVATION))
        shade = torch.maximum(shade, above.div_(_LAMP * reach).add_(0.5))
    return 1 - shade.clamp_(0, 1)


def _matter(material: Material, bare: Tensor, hidden: Tensor, grain: Tensor, look: ReliefLook) -> Tensor:
    """Reflectance of what lies at the surface now / reflectance of what the photograph shows, (B, C, H, W)."""
    rough = (look.floor[:, None, None] * (1 + _FLOOR_GRAIN * grain).clamp_(0.4, 1.6))[:, None]
    floor = material.smoothing().clamp_(0.03, 30).mul_(rough)
    ground = floor.sub_(1).mul_(bare[:, None]).add_(1)
    if not bool(hidden.amax() > 0):
        return ground
    reflectance = material.albedo(material.shown).clamp_min_(0.01)
    product = look.product[:, :, None, None] / reflectance * (1 + _PRODUCT_GRAIN * grain).clamp_(0.4, 1.6)[:, None]
    return torch.lerp(ground, product, hidden[:, None].expand_as(ground))


def _gloss(normal: tuple[Tensor, Tensor, Tensor], look: ReliefLook, optics: Optics) -> Tensor:
    """Mirror-like light gained or lost against the flat surface, as a share of the brightest light, (B, H, W)."""
    ny, nx, nz = normal
    half = 0.5 * (math.pi / 2 - _ELEVATION)  # angle of the half vector to the camera
    across = ny * optics.light[:, 0, None, None] + nx * optics.light[:, 1, None, None]
    cosine = (nz * math.cos(half) + across * math.sin(half)).clamp_(1e-3, 1)
    exponent = look.exponent[:, None, None]
    lobe = torch.exp(exponent * torch.log(cosine)) - torch.exp(exponent * math.log(math.cos(half)))
    strength = look.gloss * optics.gloss.clamp_min(_GLOSS_LEAST) * _directional(optics)
    return strength[:, None, None] * lobe


def _directional(optics: Optics) -> Tensor:
    """Even light on a flat surface says nothing of where it comes from; a rig that shows relief has a side."""
    return optics.directional.clamp_min(_DIRECTIONAL_LEAST)


def moved_texture(source: Tensor, relief: ReliefBatch) -> Tensor:
    """The photograph (B, C, H, W) with its texture moved by the displacement: cubic convolution."""
    if relief.displacement_y is None or relief.displacement_x is None:
        return source
    near = _near_relief(relief)
    down, right = (relief.displacement_y * near).flatten(), (relief.displacement_x * near).flatten()
    still = is_below(torch.maximum(down.abs(), right.abs()), _MOVED_PX)
    there = (~still).nonzero()[:, 0]  # most of a picture lies still
    batch, channels, height, width = source.shape
    sample, place = there // (height * width), there % (height * width)
    y = (place // width).to(source.dtype) - down[there]
    x = (place % width).to(source.dtype) - right[there]
    top, left = y.floor(), x.floor()
    # beyond the border the last pixel goes on, as far as four taps reach
    around = functional.pad(source, (_TAPS_REACH,) * 4, mode="replicate")
    stride, plane = width + 2 * _TAPS_REACH, around.shape[2] * around.shape[3]
    row, column = (n.long() + (_TAPS_REACH - 1) for n in (top.clamp(-2, height), left.clamp(-2, width)))
    layers = plane * torch.arange(channels, device=source.device)[:, None]
    first = sample * (channels * plane) + row * stride + column + layers
    down_weights, right_weights = _cubic(y - top), _cubic(x - left)
    total = torch.zeros_like(first, dtype=source.dtype)
    for p, wy in enumerate(down_weights):
        line = torch.zeros_like(total)
        for q, wx in enumerate(right_weights):
            line.addcmul_(around.take(first + (p * stride + q)), wx)
        total.addcmul_(line, wy)
    moved = source.clone(memory_format=torch.contiguous_format)
    moved.view(batch, channels, -1)[sample, :, place] = total.clamp_(0, 1).T
    return moved


def _near_relief(relief: ReliefBatch) -> Tensor:
    """1 where the surface slopes and a little around, (B, H, W), 0 far away.

    A sheet is strained far beyond what is bent of it. That moves the texture as a whole, by less and less: nobody sees
    it, but every pixel of a fine texture would differ.
    """
    down, right = central_gradient(relief.height - relief.depth)
    steep = below(-(down * down + right * right), -(SLOPING**2))
    steep = torch.where(steep.amax(dim=(1, 2), keepdim=True) > 0, steep, 1.0)  # a flat sheet is moved as a whole
    around = box_maximum(steep[:, None], _NEAR_RELIEF_PX)
    return box_mean(around, _NEAR_RELIEF_PX)[:, 0]


def _cubic(f: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of cubic convolution (a = -1/2) for the four pixels around; ``f`` past the second."""
    a = -0.5
    square, cube = f * f, f * f * f
    return (
        a * (f - 2 * square + cube),
        1 - (a + 3) * square + (a + 2) * cube,
        -a * f + (2 * a + 3) * square - (a + 2) * cube,
        a * (square - cube),
    )
