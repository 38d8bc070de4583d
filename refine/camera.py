"""What a camera does to the light that reaches it: the point spread, the coding of light as picture values, and noise.

A picture value v stands for the radiance v^2.2. A defect is drawn as a factor F on the radiance of the photograph and
as light L that comes on top; what the camera makes of it is

    v' = ((G * F) v^2.2 + (G * L) v_max^2.2)^(1/2.2) + n,

G the photograph's own point spread, and n as much noise as the photograph's own has lost: where v is darkened, or
replaced by something smooth, to the share t, noise of the standard deviation sigma sqrt(1 - t^2) is missing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["GAMMA", "add_noise", "expose", "gaussian_blur", "power", "radiance"]

GAMMA = 2.2
_BLUR_RADIUS_PX = 4


def power(base: Tensor, exponent: float) -> Tensor:
    """Power of a number > 0. Torch's own gives other bits at the end of an array than within: not fit for batches."""
    return torch.log(base).mul_(exponent).exp_()


def radiance(values: Tensor) -> Tensor:
    """Radiance that picture values 0..1 stand for."""
    return power(values.clamp_min(1e-9), GAMMA)


def expose(shown: Tensor, factor: Tensor, light: Tensor, brightest: Tensor, blur_px: Tensor) -> Tensor:
    """Picture values of a photograph whose radiance is multiplied and added to, seen through the point spread.

    Parameters
    ----------
    shown : (B, C, H, W) tensor
        Radiance of the photograph.
    factor : (B, C, H, W) tensor
        Factor on the radiance of each pixel.
    light : (B, 1, H, W) tensor
        Light on top, as a share of the brightest on the part.
    brightest : (B, C) tensor
        Brightest radiance on the part, by channel.
    blur_px : (B,) tensor
        Standard deviation of the point spread, pixels.
    """
    seen = gaussian_blur(torch.cat([factor, light], dim=1), blur_px)
    total = seen[:, :-1].mul_(shown).addcmul_(seen[:, -1:], brightest[:, :, None, None])
    return power(total.clamp_min_(1e-20), 1 / GAMMA)


def add_noise(picture: Tensor, kept: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Add the camera's noise where that of the photograph is missing.

    Parameters
    ----------
    picture : (B, C, H, W) tensor
        Picture values; changed in place.
    kept : (B, H, W) tensor
        Share t of the amplitude of the photograph's noise that is left.
    noise : (B, 3, H, W) tensor
        White noise of variance 1; the first layer alone for a grey picture.
    sigma : (B,) tensor
        Standard deviation of the camera's noise, picture values.
    """
    missing = (1 - kept * kept).clamp_min(0).sqrt() * sigma[:, None, None]
    return picture.addcmul_(missing[:, None], noise[:, : picture.shape[1]])


def gaussian_blur(field: Tensor, sigma_px: Tensor) -> Tensor:
    """Blur (B, C, H, W) with a Gaussian of its own width (B,) pixels for every picture; the border goes on."""
    taps = torch.arange(-_BLUR_RADIUS_PX, _BLUR_RADIUS_PX + 1, dtype=field.dtype, device=field.device)
    kernel = torch.exp(-0.5 * (taps[None, :] / sigma_px[:, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True))[:, :, None, None, None]
    pad = (_BLUR_RADIUS_PX, _BLUR_RADIUS_PX)
    rows = functional.pad(field, (0, 0, *pad), mode="replicate")
    field = _weighted_sum([rows.narrow(2, k, field.shape[2]) for k in range(len(taps))], kernel)
    columns = functional.pad(field, (*pad, 0, 0), mode="replicate")
    return _weighted_sum([columns.narrow(3, k, field.shape[3]) for k in range(len(taps))], kernel)


def _weighted_sum(shifted: list[Tensor], kernel: Tensor) -> Tensor:
    total = shifted[0] * kernel[:, 0]
    for k in range(1, len(shifted)):
        total = total.addcmul_(shifted[k], kernel[:, k])
    return total
