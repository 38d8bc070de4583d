"""The image model: one way from the fields of any defect to the picture that this camera would have taken of it.

texture moved with the material -> surface relit, openings occluded (linear light) -> point spread -> picture values
-> the camera's noise. `refine.relief` and `refine.openings` say what the light does; `refine.camera` does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from refine.camera import GAMMA, add_noise, expose, power
from refine.flags import below, channel_mean, chosen
from refine.openings import opening_radiance
from refine.photograph import Optics
from refine.radiance import Radiance, material_of
from refine.relief import moved_texture, relief_radiance
from refine.scene import CrackBatch, Look, Scene
from refine.stencils import box_maximum, box_mean, central_gradient, cross_maximum

__all__ = ["FAR_PX", "Rendering", "paste", "render"]

FAR_PX = 64.0  # where there is no outline
_FINE_STEPS, _COARSE_STEPS, _COARSE_PX = 6, 2, 3  # of the distance to an outline
_PASTED_SLOT = 0.06  # radiance of an opening that is only painted, / that of the surface
_PASTED_SHARE = 0.05  # of the highest or deepest point: where a painted surface begins


@dataclass(frozen=True)
class Rendering:
    """Rendered pictures.

    Attributes
    ----------
    image : (B, C, H, W) tensor
        Pictures, 0..1.
    coverage : (B, H, W) tensor
        Share of a pixel that is open, gone or hidden.
    kept : (B, H, W) tensor
        Share of a pixel whose texture is the photograph's as it was: none where a surface was relit.
    distance : (B, H, W) tensor
        Signed distance to the outline of what is open, gone or hidden, pixels, negative inside; `FAR_PX` where there
        is none.
    """

    image: Tensor
    coverage: Tensor
    kept: Tensor
    distance: Tensor


def render(source: Tensor, scene: Scene, look: Look, optics: Optics) -> Rendering:
    """Draw defects into photographs.

    Parameters
    ----------
    source : (B, C, H, W) float tensor
        Photographs, 0..1.
    scene, look, optics
        Fields, appearance, and what is known of the photographs.
    """
    moved, found = source, []
    kept = torch.ones_like(scene.grain)
    distance = torch.full_like(scene.grain, FAR_PX)
    if scene.relief is not None and look.relief is not None:
        moved = chosen(scene.foreground, moved_texture(source, scene.relief), source)
    material = material_of(moved, optics.brightest)
    if scene.relief is not None and look.relief is not None:
        surface = relief_radiance(material, scene.relief, scene.grain, look.relief, optics, scene.foreground)
        if bool(surface.lost.amax() > 0):
            distance = torch.minimum(distance, _outline_distance(surface.lost))
        kept = torch.zeros_like(kept)
        found.append(surface)
    if scene.crack is not None and look.crack is not None:
        opening = opening_radiance(material, scene.crack, scene.grain, look.crack, optics, scene.foreground)
        distance = torch.minimum(distance, _near_distance(scene.crack))
        kept = torch.minimum(kept, 1 - opening.lost)
        found.append(opening)
    light = _joined(found)
    drawn = expose(material.shown, light.factor, light.light, material.brightest, optics.blur_px).clamp_(0, 1)
    left = power(channel_mean(light.factor)[:, 0].clamp(1e-4, 1), 1 / GAMMA) * (1 - light.lost)
    drawn = add_noise(drawn, left, scene.noise, optics.noise).clamp_(0, 1)
    # the blur reaches past the part's outline
    image = chosen(scene.foreground, drawn, source)
    return Rendering(image=image, coverage=light.lost, kept=kept, distance=distance)


def _joined(found: list[Radiance]) -> Radiance:
    """A surface and the openings in it."""
    if len(found) == 1:
        return found[0]
    surface, opening = found
    return Radiance(
        factor=surface.factor * opening.factor,
        light=surface.light * (1 - opening.lost[:, None]) + opening.light,
        lost=torch.maximum(surface.lost, opening.lost),
    )


def _near_distance(crack: CrackBatch) -> Tensor:
    """Distance to the lips; `FAR_PX` out of reach of any crack."""
    away = 1 - below(-crack.opening, 0)
    return torch.lerp(crack.distance, torch.full_like(crack.distance, FAR_PX), away)


def _outline_distance(lost: Tensor) -> Tensor:
    """Signed distance to the line where half is lost, in steps of an octagon, smoothed; `FAR_PX` where nothing is."""
    inside = 1 - below(lost, 0.5)[:, None].to(torch.uint8)
    distance = box_mean(_steps_from(inside) - _steps_from(1 - inside), 3)[:, 0]
    nothing = inside.amax(dim=(1, 2, 3)) == 0
    return torch.where(nothing[:, None, None], FAR_PX, distance.to(lost.dtype))


def _steps_from(flags: Tensor) -> Tensor:
    """Pixels to the nearest flag, less a half, (B, 1, H, W) float; 0 on a flag, and bounded far off."""
    reached, total = flags, torch.zeros(flags.shape, dtype=torch.float32, device=flags.device)
    for number in range(_FINE_STEPS + _COARSE_STEPS):
        step = 1 if number < _FINE_STEPS else _COARSE_PX
        total += step * (1 - reached.float())
        # squares reach too far along the diagonal and crosses not far enough: in turn they make an octagon
        reached = cross_maximum(reached) if number < _FINE_STEPS and number % 2 else box_maximum(reached, 2 * step + 1)
    return total - 0.5 * total.clamp_max(1)


def paste(source: Tensor, scene: Scene, look: Look) -> Tensor:
    """The naive stage, for comparison: the defect's mask filled with a generic look, as cut and paste would.

    Mean colour of the part, light from above, hard edges; neither texture, point spread nor noise, and nothing known of
    this photograph's light. (B, C, H, W), 0..1.
    """
    part = scene.foreground[:, None].to(source.dtype)
    colour = (source * part).sum(dim=(2, 3), keepdim=True) / part.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    picture = source
    if scene.relief is not None and look.relief is not None:
        surface = scene.relief.height + scene.relief.product - scene.relief.depth
        lit = (1 - central_gradient(surface)[0]).clamp(0.1, 2)[:, None]  # light from above: slopes that rise are dark
        floor = torch.where(scene.relief.depth > 0, look.relief.floor[:, None, None], 1.0)[:, None]
        height = surface.abs()
        there = height > _PASTED_SHARE * height.amax(dim=(1, 2), keepdim=True)
        painted = colour * power((lit * floor).clamp_min(1e-3), 1 / GAMMA)
        picture = torch.where((there & scene.foreground)[:, None], painted, picture)
    if scene.crack is not None:
        inside = (scene.crack.distance < 0) & scene.foreground
        picture = torch.where(inside[:, None], colour * _PASTED_SLOT ** (1 / GAMMA), picture)
    return picture.clamp(0, 1)
