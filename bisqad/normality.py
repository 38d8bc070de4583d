"""What the detector knows of normal parts: how far a cell is from the nearest normal cells it has seen.

Of a cell's features those of its context in the deepest block are compared: means over a few cells, which a single
bright grain does not move, of what the network knows of shapes; each counts by its spread over normal cells.

References
----------
Roth et al., "Towards total recall in industrial anomaly detection", CVPR 2022: PatchCore.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bisqad.cells import NormalCells

__all__ = ["Normality", "deepest_scale"]

_AT_ONCE = 4096  # cells compared at a time
_EVERY = 2  # cells from one compared cell of a map to the next


@dataclass(frozen=True)
class Normality:
    """Normal cells by category.

    Attributes
    ----------
    scale : (D,) float32 tensor
        What the last D features of a cell are multiplied by before distances are taken.
    memory : mapping of str to (M, D) float32 tensor
        Scaled features of normal cells.
    neighbours : int
        Nearest cells whose mean distance counts.
    """

    scale: Tensor
    memory: Mapping[str, Tensor]
    neighbours: int

    @classmethod
    def of(
        cls, normals: NormalCells, scale: Tensor, *, memory_cells: int, neighbours: int, rng: np.random.Generator
    ) -> Normality:
        """Remember at most ``memory_cells`` cells of each category, drawn at random from all its photographs."""
        memory = {}
        for key in sorted(set(normals.keys.tolist())):
            chosen = torch.from_numpy(np.flatnonzero(normals.keys == key))
            cells = normals.features[chosen][..., -len(scale) :].flatten(0, 1)
            drawn = torch.from_numpy(np.sort(rng.permutation(len(cells))[:memory_cells]))
            memory[key] = (cells[drawn].float() * scale).half().float()  # as it is stored
        return cls(scale, memory, neighbours)

    def distance(self, cells: Tensor, key: str) -> Tensor:
        """Mean distance to the nearest normal cells of the category.

        Parameters
        ----------
        cells : (N, C) float tensor
            Features, C >= D.
        key : str
            Category.

        Returns
        -------
        (N,) float32 tensor
        """
        memory = self.memory[key]
        squares = memory.square().sum(dim=1)
        found = []
        fixed = isinstance(cells.shape[0], int)  # else a graph is traced, for any number of cells
        for part in torch.split(cells, _AT_ONCE) if fixed else (cells,):
            scaled = part[:, -len(self.scale) :].float() * self.scale
            apart = torch.addmm(squares, scaled, memory.T, alpha=-2) + scaled.square().sum(dim=1, keepdim=True)
            nearest = apart.topk(min(self.neighbours, len(memory)), dim=1, largest=False).values
            found.append(nearest.clamp(min=0).sqrt().mean(dim=1))
        return torch.cat(found) if found else torch.empty(0)

    def distance_map(self, cells: Tensor, key: str) -> Tensor:
        """Distances (h, w) of a picture's cells (C, h, w): of every second one each way, interpolated between.

        A context reaches over several cells, so that neighbours tell nearly the same.
        """
        rows, columns = cells.shape[1:]
        some = cells[:, ::_EVERY, ::_EVERY]
        found = self.distance(some.flatten(1).T, key).reshape(1, 1, *some.shape[1:])
        reached = [_EVERY * (n - 1) + 1 for n in some.shape[1:]]  # to the last cell that was compared
        whole = functional.interpolate(found, size=reached, mode="bilinear", align_corners=True)
        beyond = (0, columns - reached[1], 0, rows - reached[0])
        return functional.pad(whole, beyond, mode="replicate")[0, 0]


def deepest_scale(normals: NormalCells, channels: int) -> Tensor:
    """One over the spread of each of the last ``channels`` features (D,), over normal cells: the deepest context."""
    spread = normals.features[..., -channels:].flatten(0, 1).float().std(dim=0, correction=0)
    return torch.where(spread > 1e-4, 1 / (spread.clamp(min=1e-4) * channels**0.5), 0.0)
