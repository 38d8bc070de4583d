"""Boundary synergy blocks: how signed distance, structure tensor and wavelet sub-bands agree on a defect's outline.

npcF++ works on the detail sub-bands of the photograph s and of the coarse result u. On the grid of one level, per
orientation o (horizontal, vertical, diagonal), the blocks need

- ``E_s``, the local energy of the photograph's sub-band, the mean of d_s^2 over a small square;
- ``tau``, the transfer of the grain: the share of d_s that is found in d_u, from the local regression of d_u on d_s;
- ``rho``, brightness of u / brightness of s: the contrast that a material's grain has under less light;
- ``phi``, signed distance to the outline, pixels, negative inside the defect.

Three blocks, each with one parameter that the recipe sets and a gradient could learn:

`EnergyBlock`
    how much of d_s is missing for the grain to have the energy of the surrounding material, (energy rho)^2 E_s, and
    how much grain of its own a bare surface inside the outline has where that does not run on;
`GrainBlock`
    how far into the defect that grain runs on: farther where the structure tensor says that the material has a
    direction, and in the sub-bands that see it;
`EdgeBlock`
    how an outline becomes as sharp as the optics allow: its height and width are the sum and the second moment of the
    slope of u - s over phi.

References
----------
Bigun & Granlund, "Optimal orientation detection of linear symmetry", ICCV (1987), for the structure tensor.
Heeger & Bergen, "Pyramid-based texture analysis/synthesis", SIGGRAPH (1995), for textures by their sub-bands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pywt
import torch
from torch import Tensor, nn
from torch.nn import functional

from refine.flags import below, channel_mean
from refine.stencils import box_maximum, box_mean, central_gradient
from refine.wavelets import Details

__all__ = [
    "EdgeBlock",
    "EnergyBlock",
    "GrainBlock",
    "LevelStatistics",
    "at_next_level",
    "level_statistics",
    "outline_step",
    "stacked",
]

_BOX = 5  # coefficients a side of the square over which energies are taken
_MOST_FILL = 0.04  # picture values: what has more energy is a pattern, such as mortar, and no grain
_TINY = 1e-8  # energy of a coefficient that is nothing, in squared picture values
_LEAST_REACH = 0.35  # of the band: how far isotropic grain runs on
_OUTLINE_BOX = 13  # pixels a side of the square in which an outline's width is measured
_OUTLINE_REACH_PX = 5.5  # and how far from it
_OUTLINE_PIXELS = 12.0  # pixels of grain, about, that are independent there
_NOISE_TRUST, _FULL_TRUST = 0.35, 0.7  # coherence that grain alone reaches, and from which a step is certain
_STENCIL_PX2 = 1 / 3  # variance of the box, two pixels wide, over which a central difference averages, along an axis
_MEAN_DISTANCE = (2 / math.pi) ** 0.5  # of a normal distribution, in standard deviations
_SHARPEST_PX2, _WIDEST_PX2 = 0.08, 16.0  # of a box one pixel wide; and of shading
_OUTLINE_PX2 = 6.0  # a change far wider than this is shading
_SHORTEST = 4.0  # pixels of outline in the square
_INSIDE_PX = 3.0  # a defect that reaches so far inside has a step for an outline


@dataclass(frozen=True)
class LevelStatistics:
    """What the blocks know of one level; all tensors (B, 3, h, w) but ``brightness``, (B, 1, h, w).

    ``energy`` of the photograph's sub-bands and ``present``, that of the result's on the same side of the outline,
    ``transfer`` of the grain to the result, ``brightness`` of the result / of the photograph.
    """

    energy: Tensor
    present: Tensor
    transfer: Tensor
    brightness: Tensor


def stacked(details: Details) -> Tensor:
    """Sub-bands (B, C, h, w) of one level as one tensor (B, C, 3, h, w): horizontal, vertical, diagonal."""
    return torch.stack([details.horizontal, details.vertical, details.diagonal], dim=2)


def level_statistics(source: Tensor, result: Tensor, brightness: Tensor, distance: Tensor) -> LevelStatistics:
    """Local statistics of sub-bands (B, C, 3, h, w) of the photograph and of the result.

    What lies on the other side of the outline, ``distance`` (B, 1, h, w) being of the other sign, does not count: there
    the grain may be whole. Coefficients far larger than the grain are an outline's and count less.
    """
    own, both = (channel_mean(source * other)[:, 0] for other in (source, result))
    energy = box_mean(own, _BOX) + _TINY
    weight = energy / (energy + channel_mean((result - source).square())[:, 0])
    inside = below(distance, 0)
    there = channel_mean(result * result)[:, 0]
    sides = []
    for side in (inside, 1 - inside):
        counted = weight * side
        transfer = box_mean(both * counted, _BOX) / (box_mean(own * counted, _BOX) + _TINY)
        sides.append((transfer, box_mean(there * side, _BOX) / box_mean(side, _BOX).clamp_min(_TINY)))
    transfer, present = (torch.lerp(b, a, inside.expand_as(a)) for a, b in zip(*sides, strict=True))
    return LevelStatistics(energy, present, transfer, brightness)


class EnergyBlock(nn.Module):
    """Amount of the photograph's details to add, (B, 3, h, w), so that the grain has its energy.

    Parameters
    ----------
    strength : float
        Share of the surroundings' sub-band energy that is asked for, as a factor of amplitude.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(float(strength)))

    def forward(self, level: LevelStatistics) -> Tensor:
        """Amount from the statistics of one level."""
        return (self._wanted(level) - level.transfer.clamp_min(0)).clamp_min(0)

    def fill(self, level: LevelStatistics, continued: Tensor) -> Tensor:
        """Amplitude of grain of its own, (B, 3, h, w), that a bare surface has where the material's does not run on.

        ``continued`` (B, 3, h, w) is the amount of the photograph's details that is added already.
        """
        wanted = self._wanted(level) ** 2 * level.energy
        after = level.present + (2 * level.transfer.clamp_min(0) + continued) * continued * level.energy
        return ((wanted - after).clamp_min(0) + _TINY**2).sqrt().clamp_max(_MOST_FILL)

    def _wanted(self, level: LevelStatistics) -> Tensor:
        return self.strength.to(level.transfer) * level.brightness.clamp(0, 1)


class GrainBlock(nn.Module):
    """Weight of each sub-band, (B, 3, h, w): 1 outside the outline, falling inside it over the reach of the grain.

    The structure tensor is taken from the sub-bands themselves: the horizontal details answer to gradients that run
    down, the vertical ones to those that run right. Its coherence lengthens the reach of the sub-bands that see it.

    Parameters
    ----------
    reach : float
        Reach of fully coherent grain, in widths of the band.
    band_px : float
        Width of the band, pixels.
    """

    def __init__(self, reach: float, band_px: float) -> None:
        super().__init__()
        self.reach = nn.Parameter(torch.tensor(float(reach)))
        self.band_px = band_px

    def forward(self, source: Tensor, distance: Tensor) -> Tensor:
        """Weight from the photograph's sub-bands (B, C, 3, h, w) and the signed distance (B, 1, h, w), pixels."""
        down, right = source[:, :, 0], source[:, :, 1]
        yy, xx, yx = (box_mean(channel_mean(a * b), _BOX) for a, b in ((down, down), (right, right), (down, right)))
        apart = ((yy - xx) ** 2 + 4 * yx * yx + _TINY**2).sqrt()
        coherence = apart / (yy + xx + _TINY)
        cosine = (yy - xx) / apart  # of twice the angle between the gradient and the way down
        seen = torch.cat([0.5 * (1 + cosine), 0.5 * (1 - cosine), (1 - cosine * cosine).clamp_min(0)], dim=1)
        reach = self.reach.to(source) * self.band_px * (_LEAST_REACH + (1 - _LEAST_REACH) * coherence * seen)
        inside = (-distance).clamp_min(0)
        return torch.exp(-0.5 * (inside / reach.clamp_min(1e-3)) ** 2)


class EdgeBlock(nn.Module):
    """Change of the result, (B, C, H, W), that makes an outline as sharp as the optics allow, and no sharper.

    A step of height a and width sigma is a Phi(phi / sigma), Phi the normal distribution; the block puts a step of the
    width of the point spread in its place. That changes nothing far from the outline and nothing of the grain.

    Parameters
    ----------
    strength : float
        Share of the excess in variance that is taken away; 0 leaves the outline as it is.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(float(strength)))

    def forward(self, change: Tensor, distance: Tensor, blur_px: Tensor) -> Tensor:
        """Change from result - photograph (B, C, H, W), signed distance (B, 1, H, W) and point spread (B,), pixels."""
        step, variance, trust = outline_step(change, distance)
        optics = blur_px.square()[:, None, None, None]
        excess = (variance - optics) * trust
        wanted = variance - self.strength.to(change).clamp(0, 1) * excess
        return step * (_normal_share(distance, wanted) - _normal_share(distance, variance))


def _normal_share(distance: Tensor, variance: Tensor) -> Tensor:
    return 0.5 * torch.erf(distance * (2 * variance.clamp_min(_SHARPEST_PX2)).rsqrt())


def outline_step(change: Tensor, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Height (B, C, H, W), variance and trust (B, 1, H, W) of the step that a change makes at its outline.

    The slope of the change along the signed distance phi is a bump over phi = 0, as wide as the outline is soft: its
    sum is the height, its second moment about its mean the variance, in squared pixels, both taken over a square of
    pixels. Grain has slopes of both signs, which cancel; trust falls the more of them there are, where the change is
    far wider than any optics, which is shading and no outline, and in a defect too thin to have an inside.
    """
    y, x = (g[:, None] for g in central_gradient(distance[:, 0]))
    channels, height, width = change.shape[1:]
    down, right = (g.reshape(change.shape) for g in central_gradient(change.reshape(-1, height, width)))
    near = below(distance.abs(), _OUTLINE_REACH_PX)
    slopes = near * (down * y + right * x)
    slope = channel_mean(slopes)
    first = slope * distance
    line = 0.5 * (1.5 - distance.abs()).clamp(0, 1)  # sums to 1 across the outline: to its length over an area
    maps = torch.cat([slopes, first, first * distance, slope * slope, near, line], dim=1)
    moments = box_mean(maps, _OUTLINE_BOX)
    middle, second, energy, share, length = (moments[:, channels + k : channels + k + 1] for k in range(5))
    total = channel_mean(moments[:, :channels])
    coherent = total * total / (total * total + energy * share / _OUTLINE_PIXELS + _TINY**2)
    total = torch.where(total.abs() > _TINY, total, _TINY)
    slant = (y * x).square() / (y * y + x * x).square().clamp_min(_TINY)  # 0 along the axes, 1/4 across the diagonals
    variance = second / total - (middle / total) ** 2 - _STENCIL_PX2 * (1 - 2 * slant)
    variance = variance.clamp(_SHARPEST_PX2, _WIDEST_PX2)
    # a slanting outline has less of itself in the square the farther away: less by |phi| / (half of the diagonal)
    missing = 1 + _MEAN_DISTANCE * variance.sqrt() * (slant + _TINY).sqrt() * (2 * 2**0.5 / _OUTLINE_BOX)
    variance = variance * missing
    sure = ((coherent - _NOISE_TRUST) / (_FULL_TRUST - _NOISE_TRUST)).clamp(0, 1)
    inside = (box_maximum(-distance, _OUTLINE_BOX) / _INSIDE_PX).clamp(0, 1)
    trust = sure * inside * torch.exp(-((variance / _OUTLINE_PX2) ** 2))
    step = missing * moments[:, :channels] / length.clamp_min(_SHORTEST / _OUTLINE_BOX**2)
    most = box_maximum(change.abs(), _OUTLINE_BOX)  # no step is higher than the change itself
    return torch.minimum(torch.maximum(step, -most), most), variance, trust


def at_next_level(field: Tensor, wavelet: str, size: tuple[int, int] | torch.Size) -> Tensor:
    """Means of a map (B, K, H, W) over the pixels around which the next level's coefficients (h, w) lie.

    Coefficient k of a filter of L taps is centred between samples 2 k + 1 - L/2 and 2 k + 2 - L/2.
    """
    first = max(pywt.Wavelet(wavelet).dec_len // 2 - 1, 0)
    height, width = field.shape[2:]
    rows, columns = (2 * n - first - have for n, have in zip(size, (height, width), strict=True))
    padded = functional.pad(field, (first, max(columns, 0), first, max(rows, 0)), mode="replicate")
    even, odd = padded[:, :, : 2 * size[0] : 2], padded[:, :, 1 : 2 * size[0] : 2]
    rows = even + odd
    return 0.25 * (rows[..., : 2 * size[1] : 2] + rows[..., 1 : 2 * size[1] : 2])
