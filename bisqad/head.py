"""The segmentation head: from a cell's features to how much it looks like a defect.

Features are brought to mean 0 and spread 1 over normal cells and clamped, so that no single one takes over; two
layers do the rest. It is small, smooth and without batch normalisation, so that it can be differentiated twice.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from bisqad.cells import NormalCells

__all__ = ["SegmentationHead", "head_for", "losses_of_cells"]

_CLAMP = 8.0  # spreads


class SegmentationHead(nn.Module):
    """Two-layer perceptron over the features of one cell.

    Parameters
    ----------
    channels : int
        Features of a cell, C.
    hidden : int
        Units of the layer between.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))
        self.adaptor = nn.Linear(channels, hidden)
        self.output = nn.Linear(hidden, 1)

    def standardised(self, cells: Tensor) -> Tensor:
        """Features (..., C) over normal cells: mean 0, spread 1, clamped at 8."""
        return ((cells.float() - self.mean) / self.spread).clamp(-_CLAMP, _CLAMP)

    def forward(self, standardised: Tensor) -> Tensor:
        """Logits (...) of cells whose features (..., C) are standardised."""
        hidden = functional.silu(self.adaptor(standardised))
        logits: Tensor = self.output(hidden)[..., 0]
        return logits


def head_for(normals: NormalCells, hidden: int, *, seed: int) -> SegmentationHead:
    """A head to be trained, with the statistics of these normal cells."""
    cells = normals.features.flatten(0, 1).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = SegmentationHead(cells.shape[1], hidden)
    head.mean.copy_(cells.mean(dim=0))
    head.spread.copy_(cells.std(dim=0, correction=0) + 1e-3)
    return head


def losses_of_cells(
    head: SegmentationHead, params: Mapping[str, Tensor], standardised: Tensor, labels: Tensor
) -> Tensor:
    """Mean cross-entropy of each sample's cells (B,), at parameters ``params``.

    ``standardised`` (B, K, C), ``labels`` (B, K) of 0 and 1.
    """
    logits = functional_call(head, dict(params), (standardised,))
    return functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=1)
