"""PatchCore on the backbone that our detector has, in the variants that decide how it comes out.

Patch features are two blocks of the network, each averaged over 3 x 3 places, brought to one grid and put side by
side; a memory of them is drawn at random from normal photographs; a patch's score is the distance to the nearest one.
What the published method leaves open moves its figures by several points: what lies beyond the picture's border, and
how a map becomes one number. All of it is tried, and the best variant is the rival.

References
----------
Roth et al., "Towards total recall in industrial anomaly detection", CVPR 2022.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from refine.backbone import EfficientNetLite0

__all__ = ["VARIANTS", "PatchCore", "Variant", "patch_features"]

Pictures = Sequence[NDArray[np.uint8]]

BLOCKS = (4, 10)
GRID = 32
MEMORY = 16_000
_AT_ONCE = 4096
_SMOOTH_PX = 4.0  # of the map, as published
_HIGHEST = 0.01


@dataclass(frozen=True)
class Variant:
    """What lies beyond the border when patches are averaged; how many cells of the map's border are left out; and how
    a map becomes a score.
    """

    border: Literal["zeros", "inside"]
    crop_cells: int
    score: Literal["max", "highest", "mean"]

    @property
    def name(self) -> str:
        """As in tables."""
        cropped = f", {self.crop_cells} cells cropped" if self.crop_cells else ""
        return f"PatchCore ({self.border} beyond the border{cropped}, {self.score} of the map)"


VARIANTS: tuple[Variant, ...] = tuple(
    Variant(border, crop, score)
    for border, crop, score in itertools.product(("zeros", "inside"), (0, 2), ("max", "highest", "mean"))
)


@torch.inference_mode()
def patch_features(picture: NDArray[np.uint8], network: EfficientNetLite0, border: str) -> Tensor:
    """Patches (1024, C) of a picture (H, W, 3), row by row on a grid of 32 x 32."""
    x = torch.from_numpy(np.require(picture, requirements=["C", "W"])).permute(2, 0, 1)[None].float()
    maps = []
    for values in network(x):
        pooled = functional.avg_pool2d(values, 3, stride=1, padding=1, count_include_pad=border == "zeros")
        if pooled.shape[2] != GRID or pooled.shape[3] != GRID:
            pooled = functional.interpolate(pooled, size=(GRID, GRID), mode="bilinear", align_corners=False)
        maps.append(pooled)
    return torch.cat(maps, dim=1)[0].flatten(1).T


@dataclass(frozen=True)
class PatchCore:
    """Remembered patches (M, C)."""

    memory: Tensor

    @classmethod
    def of(cls, patches: Sequence[Tensor], *, seed: int) -> PatchCore:
        """Remember patches drawn at random from those of normal photographs."""
        every = torch.cat(list(patches))
        drawn = np.sort(np.random.default_rng(seed).permutation(len(every))[:MEMORY])
        return cls(every[torch.from_numpy(drawn)])

    @torch.inference_mode()
    def distances(self, patches: Tensor) -> Tensor:
        """Map (32, 32) of distances to the nearest remembered patch."""
        squares = self.memory.square().sum(dim=1)
        found = []
        for part in torch.split(patches, _AT_ONCE):
            apart = torch.addmm(squares, part, self.memory.T, alpha=-2).amin(dim=1) + part.square().sum(dim=1)
            found.append(apart.clamp(min=0).sqrt())
        return torch.cat(found).reshape(GRID, GRID)


def judged(distances: Tensor, variant: Variant, shape: Sequence[int]) -> tuple[float, NDArray[np.float32]]:
    """Score of a picture and its map (H, W), from a map of distances."""
    crop = variant.crop_cells
    inner = distances[crop : GRID - crop, crop : GRID - crop]
    values = inner.flatten()
    highest = values.topk(max(1, round(_HIGHEST * values.numel()))).values
    score = {"max": values.max(), "highest": highest.mean(), "mean": values.mean()}[variant.score]
    filled = functional.pad(inner[None, None], (crop, crop, crop, crop), mode="replicate")
    whole = functional.interpolate(filled, size=tuple(shape[:2]), mode="bilinear", align_corners=False)
    return float(score), _smoothed(whole[0, 0]).numpy()


def _smoothed(values: Tensor) -> Tensor:
    reach = round(3 * _SMOOTH_PX)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / _SMOOTH_PX) ** 2)
    weights = weights / weights.sum()
    padded = functional.pad(values[None, None], (reach, reach, reach, reach), mode="replicate")
    rows = functional.conv2d(padded, weights[None, None, :, None])
    smooth: Tensor = functional.conv2d(rows, weights[None, None, None, :])[0, 0]
    return smooth
