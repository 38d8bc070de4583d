"""npcF++, the fine pass: the wavelet sub-bands of the coarse result, made to agree with the material around the defect.

With D_j the detail sub-bands of level j (PyWavelets' filters), phi the signed distance to the defect's outline, s the
photograph and u the result of npcF, in a band around the outline

    D_j u  <-  D_j u + w(phi) G_j A_j D_j s + F_j n_j,       u  <-  u + E(u - s, phi),

where the boundary synergy blocks of `refine.synergy` give A (how much of the material's grain is missing by its
energy), G (how far it runs on into the defect), F (amplitude of grain n of its own, white within the sub-band, where
it does not) and E (what makes the outline as sharp as these optics allow). The transform is linear: only the change
goes through the inverse. Outside the support the picture stays the photograph.

References
----------
Mallat, "A Wavelet Tour of Signal Processing", 3rd ed. (2009).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from manifests.config import NpcfppConfig
from refine.flags import channel_mean, numbers
from refine.stencils import box_maximum, box_mean
from refine.synergy import (
    EdgeBlock,
    EnergyBlock,
    GrainBlock,
    at_next_level,
    level_statistics,
    stacked,
)
from refine.wavelets import Details, max_level, wavedec2, waverec2_details

__all__ = ["BoundarySynergy"]

_NO_OUTLINE = 8.0  # widths of the band: from there on its weight is nothing
_RIM_PX = 2  # over which the change fades to nothing before the support's border


class BoundarySynergy(nn.Module):
    """The pass with its blocks.

    Parameters
    ----------
    config : NpcfppConfig
        Wavelet, levels, band, and the blocks' parameters.
    """

    def __init__(self, config: NpcfppConfig) -> None:
        super().__init__()
        self.config = config
        self.energy = EnergyBlock(config.energy)
        self.grain = GrainBlock(config.grain, config.band_px)
        self.edge = EdgeBlock(config.edge)

    def forward(
        self, source: Tensor, coarse: Tensor, distance: Tensor, support: Tensor, blur_px: Tensor, noise: Tensor
    ) -> Tensor:
        """Finish pictures.

        Parameters
        ----------
        source, coarse : (B, C, H, W) float tensors
            Photographs and the results of npcF, 0..1.
        distance : (B, H, W) float tensor
            Signed distance to the outline of what is lost or open, pixels, negative inside.
        support : (B, H, W) bool tensor
            Where a change is allowed.
        blur_px : (B,) tensor
            Point spread of each photograph, pixels.
        noise : (B, 3, H, W) tensor
            White noise of variance 1.

        Returns
        -------
        (B, C, H, W) float tensor
            Finished pictures; equal to ``coarse`` outside the support.
        """
        config = self.config
        if bool(distance.amin() >= _NO_OUTLINE * config.band_px):
            return coarse
        batch = len(source)
        levels = max(1, min(config.levels, max_level(source.shape[2:], config.wavelet)))
        both = wavedec2(torch.cat([source, coarse]), wavelet=config.wavelet, mode=config.mode, levels=levels)
        bright = channel_mean(both.approximation)
        brightness = bright[batch:] / bright[:batch].clamp_min(0.02)
        details = [stacked(level) for level in reversed(both.details)]  # finest first
        changes = self._changes([(d[:batch], d[batch:]) for d in details], brightness, distance[:, None], noise)
        change = waverec2_details(tuple(reversed(changes)), shape=both.shape, wavelet=config.wavelet, mode=config.mode)
        sharpening: Tensor = self.edge(coarse - source, distance[:, None], blur_px)
        return coarse + (change + sharpening) * _rim(support)[:, None]

    def _changes(
        self, details: list[tuple[Tensor, Tensor]], brightness: Tensor, distance: Tensor, noise: Tensor
    ) -> list[Details]:
        """Change of every level's sub-bands, finest first; ``distance`` (B, 1, H, W), ``noise`` (B, 3, H, W)."""
        found = []
        for number, (own, result) in enumerate(details, start=1):
            size = own.shape[-2:]
            distance = at_next_level(distance, self.config.wavelet, size)
            here = functional.interpolate(brightness, size=size, mode="bilinear", align_corners=False)
            statistics = level_statistics(own, result, here, distance)
            band = torch.exp(-0.5 * (distance / self.config.band_px) ** 2)
            amount = self.energy(statistics) * self.grain(own, distance) * band
            bare = (-distance / _RIM_PX).clamp(0, 1)  # within the outline alone
            fill = bare * self.energy.fill(statistics, amount) * _sub_bands_of(noise, 2**number, own.shape[-2:])
            found.append(Details(*(amount[:, None] * own + fill[:, None]).unbind(dim=2)))
        return found


def _sub_bands_of(noise: Tensor, stride: int, size: torch.Size) -> Tensor:
    """White sub-bands (B, 3, h, w) of variance 1: every so many pixels of the three layers of noise."""
    taken = noise[:, :, ::stride, ::stride]
    rows, columns = (n - have for n, have in zip(size, taken.shape[2:], strict=True))
    return functional.pad(taken, (0, max(columns, 0), 0, max(rows, 0)), mode="replicate")[:, :, : size[0], : size[1]]


def _rim(support: Tensor) -> Tensor:
    """1 within the support, falling to 0 over its rim, (B, H, W) float."""
    side = 2 * _RIM_PX + 1
    outside = box_maximum((~support)[:, None].view(torch.uint8), side)
    return box_mean(1.0 - outside, side)[:, 0] * numbers(support, torch.float32)
