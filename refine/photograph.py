"""What a photograph says of its own making: where the light comes from and how sharply the camera sees.

Light: the plane that best fits the logarithm of brightness over the part. The brighter side is the lit side; the
steeper the plane, the larger the directional share of the light.

Sharpness: an edge seen through a point spread of width sigma, blurred once more by sigma_0, loses the fraction
R = |grad I| / |grad (G_sigma0 * I)| = sqrt((sigma^2 + sigma_0^2) / sigma^2) of its gradient, so that
sigma = sigma_0 / sqrt(R^2 - 1). The steepest gradients of the picture are taken for its edges.

References
----------
Zhuo & Sim, "Defocus map estimation from a single image", Pattern Recognition 44 (2011).
Pentland, "Finding the illuminant direction", JOSA 72 (1982), for brightness gradients as a cue to the light.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Optics", "estimate_optics", "gaussian_blur"]

_REBLUR_PX = 1.0
_STENCIL_PX2 = 1 / 3  # variance of the box, two pixels wide, over which a central difference averages the gradient
_SHARPEST_PX = 0.45  # the box of one pixel, as a Gaussian, is already 0.29 wide
_SOFTEST_PX = 1.6
_EDGE_SHARE = 0.01  # this share of steepest pixels counts as edges
_AMBIENT_FLOOR = 0.35  # some directional light is assumed even in an even picture
_SLOPE_FULL = 1.0  # change of log brightness across the picture at which the light is fully directional


@dataclass(frozen=True)
class Optics:
    """Light and sharpness of B photographs.

    Attributes
    ----------
    light : (B, 2) tensor
        Unit vector (y, x) in the picture towards the light.
    directional : (B,) tensor
        Share of the light that has a direction, 0..1; the rest is ambient.
    blur_px : (B,) tensor
        Standard deviation of the point spread, pixels.
    brightest : (B, C) tensor
        Largest value of each channel on the part after averaging over 8 x 8 pixels, 0..1.
    """

    light: Tensor
    directional: Tensor
    blur_px: Tensor
    brightest: Tensor


def estimate_optics(image: Tensor, foreground: Tensor) -> Optics:
    """Estimate light and sharpness.

    Parameters
    ----------
    image : (B, C, H, W) float tensor
        Photographs, 0..1.
    foreground : (B, H, W) bool tensor
        Where the part is; at least one pixel each.
    """
    grey = image.mean(dim=1)
    slope = _brightness_slope(grey, foreground)
    steepness = slope.norm(dim=1)
    # an even picture says nothing: light from above, as in most rigs and as people assume
    above = torch.tensor([-1.0, 0.0], dtype=image.dtype, device=image.device).expand_as(slope)
    even = (steepness < 0.02)[:, None]
    light = torch.where(even, above, slope / steepness.clamp_min(1e-6)[:, None])
    directional = _AMBIENT_FLOOR + (1 - _AMBIENT_FLOOR) * (steepness / _SLOPE_FULL).clamp(0, 1)
    return Optics(
        light=light,
        directional=directional,
        blur_px=_edge_width(grey, foreground),
        brightest=functional.avg_pool2d(image * foreground[:, None], 8, ceil_mode=True).amax(dim=(2, 3)),
    )


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
    soft = _gradient_magnitude(gaussian_blur(grey, sigma))
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


def gaussian_blur(field: Tensor, sigma_px: Tensor, *, radius: int = 4) -> Tensor:
    """Blur (B, H, W) with a Gaussian of its own width (B,) pixels for every picture; edges replicate."""
    taps = torch.arange(-radius, radius + 1, dtype=field.dtype, device=field.device)
    kernel = torch.exp(-0.5 * (taps[None, :] / sigma_px[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True))[:, :, None, None]
    height, width = field.shape[1:]
    rows = functional.pad(field[:, None], (0, 0, radius, radius), mode="replicate")[:, 0]
    field = _weighted_sum([rows[:, k : k + height] for k in range(2 * radius + 1)], kernel)
    columns = functional.pad(field[:, None], (radius, radius, 0, 0), mode="replicate")[:, 0]
    return _weighted_sum([columns[:, :, k : k + width] for k in range(2 * radius + 1)], kernel)


def _weighted_sum(shifted: list[Tensor], kernel: Tensor) -> Tensor:
    total = shifted[0] * kernel[:, 0]
    for k in range(1, len(shifted)):
        total = total.addcmul_(shifted[k], kernel[:, k])
    return total
