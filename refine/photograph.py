"""What a photograph says of its own making: where the light comes from, how hard and glossy, how sharp, how noisy.

Direction: the plane that best fits the logarithm of brightness over the part says where it is brighter. Where there
is no such slope, the texture tells: brightness varies most along the light's azimuth on a surface that is rough in all
directions alike (ratio of variances up to 3), which leaves two ways; the one from above is taken. A texture with a
grain of its own, whose ratio is larger, says nothing of the light.

Directional share: the larger of two signs of it, a steep slope of brightness, and dark shadows: what the direct light
does not reach has the ambient share of the radiance. Dark spots of the material look the same, so it is an upper guess.

Gloss: highlights give the logarithm of brightness a longer tail on the bright side than a normal distribution has.

Sharpness: an edge seen through a point spread of width sigma, blurred once more by sigma_0, loses the fraction
R = |grad I| / |grad (G_sigma0 * I)| = sqrt((sigma^2 + sigma_0^2) / sigma^2) of its gradient, so that
sigma = sigma_0 / sqrt(R^2 - 1). The steepest gradients of the picture are taken for its edges.

Noise: the mean size of the finest diagonal details in the flattest blocks of the part. Compression and reduction
leave less of it than the camera made: it is the noise of the picture that is seen.

References
----------
Zhuo & Sim, "Defocus map estimation from a single image", Pattern Recognition 44 (2011).
Pentland, "Finding the illuminant direction", JOSA 72 (1982), for brightness gradients as a cue to the light.
Koenderink & Pont, "Irradiation direction from texture", JOSA A 20 (2003), for the ratio of 3.
Motoyoshi et al., "Image statistics and the perception of surface qualities", Nature 447 (2007), for gloss and skew.
Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64 (1996), for noise by details.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from refine.camera import gaussian_blur, radiance
from refine.stencils import box_mean, central_gradient

__all__ = ["Optics", "estimate_optics"]

_REBLUR_PX = 1.0
_STENCIL_PX2 = 1 / 3  # variance of the box, two pixels wide, over which a central difference averages the gradient
_SHARPEST_PX = 0.45  # the box of one pixel, as a Gaussian, is already 0.29 wide
_SOFTEST_PX = 1.6
_EDGE_SHARE = 0.01  # this share of steepest pixels counts as edges
_SURROUNDINGS_PX = 31
_SLOPE_NOTHING, _SLOPE_TRUSTED = 0.02, 0.2  # change of log brightness across the picture that says nothing, and all
_SLOPE_FULL = 1.0  # and at which it is fully directional
_LEAST_DIRECTIONAL = 0.35  # some is assumed even in an even picture
_LIT_COHERENCE, _GRAIN_COHERENCE = (0.08, 0.2), (0.5, 0.6)  # (l1 - l2) / (l1 + l2): 1/2 is a ratio of 3
_SHADOW_SHARE = 0.02  # this share of darkest pixels counts as shadows
_HIGHLIGHT_SHARE = 0.005
_HIGHLIGHT_SIGMAS, _QUARTILE_SIGMAS = 2.576, 0.674  # where these shares of a normal distribution begin
_MATT_EXCESS, _GLOSSY_EXCESS = 0.2, 1.5  # of log radiance: that of matt grain, and what full gloss has beyond it
_BLOCK_PX = 16
_FLAT_SHARE = 0.1
_FLAT_BIAS = 0.93  # the flattest tenth of blocks of pure noise have that much of its mean size
_MEAN_OF_NORMAL = 0.7979  # of its absolute value, in standard deviations
_BLACK, _WHITE = 0.02, 0.98


@dataclass(frozen=True)
class Optics:
    """Light and sharpness of B photographs.

    Attributes
    ----------
    light : (B, 2) tensor
        Unit vector (y, x) in the picture towards the light.
    directional : (B,) tensor
        Share of the light that has a direction, 0..1; the rest is ambient.
    gloss : (B,) tensor
        Share of the light that is thrown back mirror-like, 0..1.
    blur_px : (B,) tensor
        Standard deviation of the point spread, pixels.
    noise : (B,) tensor
        Standard deviation of the camera's noise, picture values.
    brightest : (B, C) tensor
        Largest value of each channel on the part after averaging over 8 x 8 pixels, 0..1.
    """

    light: Tensor
    directional: Tensor
    gloss: Tensor
    blur_px: Tensor
    noise: Tensor
    brightest: Tensor


def estimate_optics(image: Tensor, foreground: Tensor) -> Optics:
    """Estimate light, gloss, sharpness and noise.

    Parameters
    ----------
    image : (B, C, H, W) float tensor
        Photographs, 0..1.
    foreground : (B, H, W) bool tensor
        Where the part is; at least one pixel each.
    """
    grey = image.mean(dim=1)
    slope = _brightness_slope(grey, foreground)
    relative = _relative_radiance(grey)
    sparse, part = relative[:, ::2, ::2], foreground[:, ::2, ::2]  # enough for shares of the part
    return Optics(
        light=_direction(slope, relative, foreground),
        directional=_directional_share(slope, sparse, part),
        gloss=_gloss(sparse, part),
        blur_px=_edge_width(grey, foreground),
        noise=_noise(grey, foreground),
        brightest=functional.avg_pool2d(image * foreground[:, None], 8, ceil_mode=True).amax(dim=(2, 3)),
    )


def _relative_radiance(grey: Tensor) -> Tensor:
    """Logarithm of the radiance / that of the surroundings, (B, H, W)."""
    light = radiance(grey + 0.02)
    return (light / box_mean(light[:, None], _SURROUNDINGS_PX)[:, 0]).log()


def _direction(slope: Tensor, relative: Tensor, foreground: Tensor) -> Tensor:
    """Unit vector (B, 2) towards the light: slope, texture and habit, each as far as it can be trusted."""
    axis, trust = _texture_axis(relative, foreground)
    steepness = slope.norm(dim=1, keepdim=True)
    seen = ((steepness - _SLOPE_NOTHING) / (_SLOPE_TRUSTED - _SLOPE_NOTHING)).clamp(0, 1)
    above = torch.zeros_like(slope)
    above[:, 0] = -1.0
    rest = torch.lerp(above, axis, trust[:, None])
    towards = seen * slope / steepness.clamp_min(1e-6) + (1 - seen) ** 2 * rest
    length = towards.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-3, towards / length.clamp_min(1e-6), above)


def _texture_axis(relative: Tensor, foreground: Tensor) -> tuple[Tensor, Tensor]:
    """Axis (B, 2) along which the texture varies most, its end that points up, and how far it tells of light (B,)."""
    down, right = central_gradient(relative)
    part = foreground.to(relative.dtype)
    yy, xx, yx = ((a * b * part).sum(dim=(1, 2)) for a, b in ((down, down), (right, right), (down, right)))
    apart = ((yy - xx) ** 2 + 4 * yx * yx).sqrt()
    coherence = apart / (yy + xx).clamp_min(1e-9)
    angle = 0.5 * torch.atan2(2 * yx, xx - yy)  # of the axis, from x towards y
    axis = torch.stack([torch.sin(angle), torch.cos(angle)], dim=1)
    axis = torch.where(axis[:, :1] > 0, -axis, axis)
    rising, grained = (
        ((coherence - low) / (high - low)).clamp(0, 1) for low, high in (_LIT_COHERENCE, _GRAIN_COHERENCE)
    )
    return axis, rising * (1 - grained)


def _directional_share(slope: Tensor, relative: Tensor, foreground: Tensor) -> Tensor:
    shaded = _LEAST_DIRECTIONAL + (1 - _LEAST_DIRECTIONAL) * (slope.norm(dim=1) / _SLOPE_FULL)
    in_shadow = 1 - _quantile(relative, foreground, _SHADOW_SHARE).exp()
    return torch.maximum(shaded, in_shadow).clamp(_LEAST_DIRECTIONAL, 1)


def _gloss(relative: Tensor, foreground: Tensor) -> Tensor:
    """By how much the highlights exceed what a normal distribution of log radiance would have."""
    middle, upper, highlight = (_quantile(relative, foreground, q) for q in (0.5, 0.75, 1 - _HIGHLIGHT_SHARE))
    normal = _HIGHLIGHT_SIGMAS / _QUARTILE_SIGMAS * (upper - middle)
    return ((highlight - middle - normal - _MATT_EXCESS) / _GLOSSY_EXCESS).clamp(0, 1)


def _quantile(field: Tensor, foreground: Tensor, share: float) -> Tensor:
    """Value (B,) below which this share of the part lies."""
    values = torch.where(foreground, field, torch.inf).flatten(1).sort(dim=1).values
    count = foreground.flatten(1).sum(dim=1)
    place = (share * (count - 1).clamp_min(0)).round().long()
    found = values.gather(1, place[:, None])[:, 0]
    return torch.where(count > 0, found, 0.0)


def _noise(grey: Tensor, foreground: Tensor) -> Tensor:
    """Standard deviation (B,) from the details of the flattest blocks that are neither black nor white.

    Where the part holds no whole block, from all of its details. The mean size is finer than the median where eight
    bits leave few different values.
    """
    details = 0.5 * (grey[:, :-1, :-1] - grey[:, 1:, :-1] - grey[:, :-1, 1:] + grey[:, 1:, 1:]).abs()
    clear = foreground & (grey > _BLACK) & (grey < _WHITE)
    inside = (clear[:, :-1, :-1] & clear[:, 1:, 1:]).to(grey.dtype)
    whole = _blocks(inside).amin(dim=2) > 0
    size = torch.where(whole, _blocks(details).mean(dim=2), torch.inf).sort(dim=1).values
    flattest = (_FLAT_SHARE * (whole.sum(dim=1) - 1).clamp_min(0)).round().long()
    found = size.gather(1, flattest[:, None])[:, 0] / _FLAT_BIAS
    of_all = (details * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp_min(1)
    return torch.where(torch.isfinite(found), found, of_all) / _MEAN_OF_NORMAL


def _blocks(field: Tensor) -> Tensor:
    """Squares of a map (B, H, W) as (B, N, side^2); the map itself where it is smaller than one."""
    side = min(_BLOCK_PX, *field.shape[1:])
    tiles = field.unfold(1, side, side).unfold(2, side, side)
    return tiles.reshape(len(field), -1, side * side)


def _brightness_slope(grey: Tensor, foreground: Tensor) -> Tensor:
    """Least-squares slope (B, 2) of log brightness over the part, per side of the picture."""
    height, width = grey.shape[1:]
    weight = foreground.to(grey.dtype)
    total = weight.sum(dim=(1, 2)).clamp_min(1.0)
    y = torch.linspace(-0.5, 0.5, height, dtype=grey.dtype, device=grey.device)[None, :, None]
    x = torch.linspace(-0.5, 0.5, width, dtype=grey.dtype, device=grey.device)[None, None, :]
    value = (grey + 0.02).log()

    def mean(field: Tensor) -> Tensor:
        return (field * weight).sum(dim=(1, 2)) / total

    my, mx, mv = mean(y.expand_as(grey)), mean(x.expand_as(grey)), mean(value)
    dy, dx = y - my[:, None, None], x - mx[:, None, None]
    dv = value - mv[:, None, None]
    ridge = 1e-4  # a part one pixel wide has no slope across
    yy, xx, yx = mean(dy * dy) + ridge, mean(dx * dx) + ridge, mean(dy * dx)
    yv, xv = mean(dy * dv), mean(dx * dv)
    determinant = yy * xx - yx * yx
    return torch.stack([(xx * yv - yx * xv) / determinant, (yy * xv - yx * yv) / determinant], dim=1)


def _edge_width(grey: Tensor, foreground: Tensor) -> Tensor:
    """Width (B,) of the point spread from the steepest edges on the part, pixels."""
    sigma = torch.full((grey.shape[0],), _REBLUR_PX, dtype=grey.dtype, device=grey.device)
    steep = _gradient_magnitude(grey) * foreground
    soft = _gradient_magnitude(gaussian_blur(grey[:, None], sigma)[:, 0])
    count = max(8, int(_EDGE_SHARE * grey.shape[1] * grey.shape[2]))
    top, where = steep.flatten(1).topk(count, dim=1)
    ratio = (top / soft.flatten(1).gather(1, where).clamp_min(1e-6)).median(dim=1).values
    seen = _REBLUR_PX**2 / (ratio * ratio - 1).clamp_min(1e-3)  # of the point spread and the stencil together
    return (seen - _STENCIL_PX2).clamp_min(0).sqrt().clamp(_SHARPEST_PX, _SOFTEST_PX)


def _gradient_magnitude(field: Tensor) -> Tensor:
    padded = functional.pad(field[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    gy = 0.5 * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1])
    gx = 0.5 * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2])
    return (gy * gy + gx * gx).sqrt()
