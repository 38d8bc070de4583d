"""Boundary synergy blocks: how signed distance, structure tensor and wavelet sub-bands agree on a defect's outline.

npcF++ works on the detail sub-bands of the photograph s and of the coarse result u. On the grid of one level, per
orientation o (horizontal, vertical, diagonal), the blocks need

- ``E_s``, the local energy of the photograph's sub-band, the mean of d_s^2 over a small square;
- ``tau``, the transfer of the grain: the share of d_s that is found in d_u, from the local regression of d_u on d_s;
- ``rho``, brightness of u / brightness of s: the contrast that a material's grain has under less light;
- ``phi``, signed distance to the outline, pixels, negative inside the defect.

Three blocks, each with one parameter that the recipe sets and a gradient could learn:

`EnergyBlock`
    how much of d_s is missing for the grain to have the energy of the surrounding material, (energy rho)^2 E_s;
`GrainBlock`
    how far into the defect that grain runs on: farther where the structure tensor says that the material has a
    direction, and in the sub-bands that see it;
`EdgeBlock`
    how much sharper, or softer, an outline must be to be as sharp as the optics allow: its width comes from the energy
    of the gradient of u - s before and after another blur.

References
----------
Bigun & Granlund, "Optimal orientation detection of linear symmetry", ICCV (1987), for the structure tensor.
Heeger & Bergen, "Pyramid-based texture analysis/synthesis", SIGGRAPH (1995), for textures by their sub-bands.
Zhuo & Sim, "Defocus map estimation from a single image", Pattern Recognition 44 (2011), for widths by another blur.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pywt
import torch
from torch import Tensor, nn
from torch.nn import functional

from refine.stencils import box_mean
from refine.wavelets import Details

__all__ = [
    "EdgeBlock",
    "EnergyBlock",
    "GrainBlock",
    "LevelStatistics",
    "at_next_level",
    "level_statistics",
    "stacked",
]

_BOX = 5  # coefficients a side of the square over which energies are taken
_TINY = 1e-8  # energy of a coefficient that is nothing, in squared picture values
_LEAST_REACH = 0.35  # of the band: how far isotropic grain runs on
_EDGE_WIDTH_PX = 2.5  # an outline's own details lie within about this distance
_LARGEST_LOG_GAIN = 0.7
_OUTLINE_BOX = 9  # pixels: as wide as an outline that has been blurred once more
_REBLUR_PX2 = 0.55  # of (1, 2, 1) / 4 both ways, for the frequencies of outlines about a pixel wide; 1/2 for wide ones
_STENCIL_PX2 = 1 / 12  # variance of the box, one pixel wide, over which a difference averages the gradient
_WIDEST_PX2 = 16.0
_OUTLINE_PX2 = 4.0  # a change far wider than this is shading


@dataclass(frozen=True)
class LevelStatistics:
    """What the blocks know of one level; all tensors (B, 3, h, w) but ``brightness``, (B, 1, h, w).

    ``energy`` of the photograph's sub-bands, ``transfer`` of its grain to the result, ``brightness`` of the result / of
    the photograph.
    """

    energy: Tensor
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
    own, both = (source * source).mean(dim=1), (source * result).mean(dim=1)
    energy = box_mean(own, _BOX) + _TINY
    weight = energy / (energy + ((result - source) ** 2).mean(dim=1))
    inside = (distance < 0).to(own.dtype)
    sides = []
    for side in (inside, 1 - inside):
        counted = weight * side
        sides.append(box_mean(both * counted, _BOX) / (box_mean(own * counted, _BOX) + _TINY))
    return LevelStatistics(energy, torch.where(distance < 0, sides[0], sides[1]), brightness)


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
        wanted = self.strength.to(level.transfer) * level.brightness.clamp(0, 1)
        return (wanted - level.transfer.clamp_min(0)).clamp_min(0)


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
        yy, xx, yx = (
            box_mean((a * b).mean(dim=1, keepdim=True), _BOX) for a, b in ((down, down), (right, right), (down, right))
        )
        apart = ((yy - xx) ** 2 + 4 * yx * yx + _TINY**2).sqrt()
        coherence = apart / (yy + xx + _TINY)
        cosine = (yy - xx) / apart  # of twice the angle between the gradient and the way down
        seen = torch.cat([0.5 * (1 + cosine), 0.5 * (1 - cosine), (1 - cosine * cosine).clamp_min(0)], dim=1)
        reach = self.reach.to(source) * self.band_px * (_LEAST_REACH + (1 - _LEAST_REACH) * coherence * seen)
        inside = (-distance).clamp_min(0)
        return torch.exp(-0.5 * (inside / reach.clamp_min(1e-3)) ** 2)


class EdgeBlock(nn.Module):
    """Change of the details, (B, C, 3, h, w), that makes an outline as sharp as the optics allow, and no sharper.

    An outline whose width exceeds the point spread by a variance v lacks the factor exp(-w^2 v / 2) at the frequency w:
    each level gives it back at the middle of its band.

    Parameters
    ----------
    strength : float
        Share of v that is given back; 0 leaves the outline as it is.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(float(strength)))

    def forward(self, edge: Tensor, excess: Tensor, distance: Tensor, *, level: int) -> Tensor:
        """Change of a level's details.

        Parameters
        ----------
        edge : (B, C, 3, h, w) tensor
            The outline's own details.
        excess, distance : (B, 1, h, w) tensors
            From `excess_variance`, and the signed distance to the outline, pixels.
        level : int
            1 is the finest.
        """
        frequency = 0.75 * math.pi / 2 ** (level - 1)
        lost = 0.5 * frequency**2 * self.strength.to(edge) * excess
        gain = torch.exp(lost.clamp(-_LARGEST_LOG_GAIN, _LARGEST_LOG_GAIN))
        near = torch.exp(-0.5 * (distance / _EDGE_WIDTH_PX) ** 2)
        return edge * ((gain - 1) * near)[:, :, None]


def excess_variance(change: Tensor, blur_px: Tensor) -> Tensor:
    """Variance, squared pixels, by which the outlines in a change are wider than the point spread, (B, 1, H, W).

    The energy of the gradient across a step of width sigma falls by R = sqrt((sigma^2 + sigma_0^2) / sigma^2) when
    it is blurred once more by sigma_0; a line gives a larger R, so it is never taken for softer than it is. What is
    far wider than the optics is shading and no outline: it counts less and less.

    Parameters
    ----------
    change : (B, 1, H, W) tensor
        Result - photograph.
    blur_px : (B,) tensor
        Point spread.
    """
    sharp, soft = _gradient_energy(change), _gradient_energy(_reblurred(change))
    ratio = (sharp + _TINY) / (soft + _TINY)
    variance = _REBLUR_PX2 / (ratio * ratio - 1).clamp_min(_REBLUR_PX2 / _WIDEST_PX2) - _STENCIL_PX2
    excess = variance - (blur_px * blur_px)[:, None, None, None]
    return excess * torch.exp(-((variance.clamp_min(0) / _OUTLINE_PX2) ** 2))


def _reblurred(field: Tensor) -> Tensor:
    """Blurred with (1, 2, 1) / 4 both ways."""
    around = functional.pad(field, (1, 1, 1, 1), mode="replicate")
    rows = 0.25 * (around[:, :, 2:] + around[:, :, :-2]) + 0.5 * around[:, :, 1:-1]
    return 0.25 * (rows[..., 2:] + rows[..., :-2]) + 0.5 * rows[..., 1:-1]


def _gradient_energy(field: Tensor) -> Tensor:
    padded = functional.pad(field, (0, 1, 0, 1), mode="replicate")
    down, right = padded[:, :, 1:, :-1] - field, padded[:, :, :-1, 1:] - field
    return box_mean(down * down + right * right, _OUTLINE_BOX)


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
