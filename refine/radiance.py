"""What a defect does to the light: a factor on the photograph's radiance, light on top, and what of it is gone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from refine.camera import radiance
from refine.stencils import box_mean

__all__ = ["Radiance", "albedo", "wall_colour"]

_LIGHT_ALBEDO = 0.7  # of the lightest material in a picture
_WALL_PX = 7  # a wall has the mean colour of a square of this side


@dataclass(frozen=True)
class Radiance:
    """Light of B defects before it reaches the camera.

    Attributes
    ----------
    factor : (B, C, H, W) tensor
        On the radiance of the photograph; 1 where nothing changes.
    light : (B, 1, H, W) tensor
        On top, as a share of the brightest light on the part.
    lost : (B, H, W) tensor
        Share of a pixel whose old surface is open, gone or hidden.
    """

    factor: Tensor
    light: Tensor
    lost: Tensor


def albedo(source: Tensor, brightest: Tensor) -> Tensor:
    """Share of light that the material throws back, (B, C, H, W): the brightest of the part counts as light matter.

    ``source`` (B, C, H, W) and ``brightest`` (B, C) are picture values, 0..1.
    """
    relative = source / brightest[:, :, None, None].clamp_min(1e-3)
    return _LIGHT_ALBEDO * radiance(relative.clamp_(0, 1))


def wall_colour(source: Tensor) -> Tensor:
    """Colour of the material around each pixel without its texture, picture values (B, C, H, W)."""
    return box_mean(source, _WALL_PX)
