"""From picture values to light and back, in the few forms that the render passes share."""

from __future__ import annotations

import torch
from torch import Tensor

from refine.photograph import gaussian_blur

__all__ = ["GAMMA", "albedo", "blur_channels", "linear_factor_to_value", "power"]

GAMMA = 2.2  # a picture value v stands for the radiance v^2.2
_LIGHT_ALBEDO = 0.7  # of the lightest material in a picture


def power(base: Tensor, exponent: float) -> Tensor:
    """Power of a number >= 0. Torch's own gives other bits at the end of an array than within: not fit for batches."""
    return torch.exp(torch.log(base) * exponent)


def linear_factor_to_value(factor: Tensor) -> Tensor:
    """Factor of picture values that a factor of radiance makes."""
    return power(factor.clamp_min(1e-4), 1 / GAMMA)


def albedo(source: Tensor, brightest: Tensor) -> Tensor:
    """Share of light that the material throws back, (B, C, H, W): the brightest of the part counts as light matter.

    ``source`` (B, C, H, W) and ``brightest`` (B, C) are picture values, 0..1.
    """
    return _LIGHT_ALBEDO * power((source / brightest[:, :, None, None].clamp_min(1e-3)).clamp(0, 1), GAMMA)


def blur_channels(field: Tensor, sigma_px: Tensor) -> Tensor:
    """Blur (B, C, H, W) with one width (B,) pixels for all channels of a picture."""
    batch, channels, height, width = field.shape
    flat = gaussian_blur(field.reshape(-1, height, width), sigma_px.repeat_interleave(channels))
    return flat.reshape(batch, channels, height, width)
