"""What a defect does to the light: a factor on the photograph's radiance, light on top, and what of it is gone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from refine.camera import radiance
from refine.stencils import box_mean

__all__ = ["Material", "Radiance", "material_of"]

_LIGHT_ALBEDO = 0.7  # of the lightest material in a picture
_WALL_PX = 7  # a wall has the mean light of a square of this side
_DARK = 1e-4  # radiance of what is as good as black


@dataclass(frozen=True)
class Material:
    """What photographs show, as light.

    Attributes
    ----------
    shown : (B, C, H, W) tensor
        Radiance of each pixel.
    wall : (B, C, H, W) tensor
        That of the material around it, without its texture.
    brightest : (B, C) tensor
        The brightest on the part.
    """

    shown: Tensor
    wall: Tensor
    brightest: Tensor

    def albedo(self, light: Tensor) -> Tensor:
        """Share of light that is thrown back where the radiance is ``light``: the brightest counts as light matter."""
        scale = _LIGHT_ALBEDO / self.brightest.clamp_min(_DARK)
        return (light * scale[:, :, None, None]).clamp_max_(_LIGHT_ALBEDO)

    def smoothing(self) -> Tensor:
        """Factor on the radiance that takes the texture away, (B, C, H, W)."""
        return self.wall.clamp_min(_DARK) / self.shown.clamp_min(_DARK)


def material_of(source: Tensor, brightest: Tensor) -> Material:
    """Light of photographs (B, C, H, W), picture values 0..1, and of the brightest on their parts (B, C)."""
    shown = radiance(source)
    return Material(shown=shown, wall=box_mean(shown, _WALL_PX), brightest=radiance(brightest))


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
