"""From two maps to one score: how far a cell is from normality, and how much it looks like a defect.

Both maps are brought to mean 0 and spread 1 over held-out normal cells, and mixed. The score of a picture is the mean
over the highest cells of such a mixture. Three numbers are chosen: the share of the head in the map, its share in the
picture's score, and how many cells count as the highest. They are chosen on normals and samples that were held out of
training, each mechanism's samples scored by a head that never saw that mechanism.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bisqad.metrics import image_auroc, pixel_average_precision

__all__ = ["Fusion", "HeldOutMaps", "choose_fusion"]

_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_HIGHEST = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)  # share of the cells; 0: the highest one alone
_CELLS_AT_MOST = 200_000


@dataclass(frozen=True)
class HeldOutMaps:
    """Maps of held-out pictures, scored for one question: does this mechanism stand out from normal?

    Attributes
    ----------
    mechanism : str
    head, distance : sequence of (h, w) float tensors
        Logits of a head that did not see the mechanism, and distances to normality: normals first, then samples.
    labels : sequence of (h, w) bool tensors
        Cells on the defect; all false for a normal.
    """

    mechanism: str
    head: Sequence[Tensor]
    distance: Sequence[Tensor]
    labels: Sequence[Tensor]


@dataclass(frozen=True)
class Fusion:
    """How the maps are joined.

    Attributes
    ----------
    head_mean, head_spread, distance_mean, distance_spread : float
        Of both maps, over held-out normal cells.
    map_share, image_share : float
        Share of the head in the map, and in the picture's score; the rest is normality's.
    highest : float
        Share of a picture's cells whose mean is its score; 0: the highest cell alone.
    image_auroc, pixel_ap : float
        What the choice reached on what it was made on, mean over mechanisms.
    """

    head_mean: float
    head_spread: float
    distance_mean: float
    distance_spread: float
    map_share: float
    image_share: float
    highest: float
    image_auroc: float
    pixel_ap: float

    def score_map(self, head: Tensor, distance: Tensor) -> Tensor:
        """Both maps (h, w) as one."""
        return _mixed(*self._standard(head, distance), self.map_share)

    def image_score(self, head: Tensor, distance: Tensor) -> float:
        """Score of a picture from its maps (h, w)."""
        return float(_highest(_mixed(*self._standard(head, distance), self.image_share), self.highest))

    def _standard(self, head: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
        return (head - self.head_mean) / self.head_spread, (distance - self.distance_mean) / self.distance_spread


def choose_fusion(held_out: Sequence[HeldOutMaps], *, head_mean: float, head_spread: float) -> Fusion:
    """The mixture that tells held-out samples best from held-out normals, in the mean over mechanisms.

    Parameters
    ----------
    held_out : sequence of HeldOutMaps
        One for each mechanism; every head's logits are standardised over its own normals.
    head_mean, head_spread : float
        Of the final head's logits over held-out normal cells: kept for use.

    Returns
    -------
    Fusion
        Where several do equally well, the one nearest to an even mixture.
    """
    heads, distances, truths = [], [], []
    for maps in held_out:
        normal = [k for k, label in enumerate(maps.labels) if not bool(label.any())]
        heads.append(_standardised(maps.head, normal)[0])
        distances.append(_standardised(maps.distance, normal)[0])
        truths.append(torch.tensor([bool(label.any()) for label in maps.labels]))
    first = held_out[0]
    normal = [k for k, label in enumerate(first.labels) if not bool(label.any())]
    _, distance_mean, distance_spread = _standardised(first.distance, normal)
    pixel = {s: _pixel_ap(heads, distances, [maps.labels for maps in held_out], s) for s in _SHARES}
    image = {(share, top): _image_auroc(heads, distances, truths, share, top) for share in _SHARES for top in _HIGHEST}
    map_share = max(_SHARES, key=lambda s: (round(pixel[s], 4), -abs(s - 0.5)))
    image_share, top = max(image, key=lambda choice: (round(image[choice], 4), -abs(choice[0] - 0.5)))
    return Fusion(
        head_mean=head_mean,
        head_spread=head_spread,
        distance_mean=distance_mean,
        distance_spread=distance_spread,
        map_share=map_share,
        image_share=image_share,
        highest=top,
        image_auroc=image[image_share, top],
        pixel_ap=pixel[map_share],
    )


def _standardised(maps: Sequence[Tensor], normal: Sequence[int]) -> tuple[list[Tensor], float, float]:
    """Maps brought to mean 0 and spread 1 over those at the positions ``normal``, and both numbers."""
    cells = torch.cat([maps[k].flatten() for k in normal])
    mean, spread = float(cells.mean()), max(float(cells.std(correction=0)), 1e-6)
    return [(m - mean) / spread for m in maps], mean, spread


def _mixed(head: Tensor, distance: Tensor, share: float) -> Tensor:
    return share * head + (1 - share) * distance


def _highest(values: Tensor, share: float) -> Tensor:
    """Mean over the highest cells of a map."""
    return values.flatten().topk(max(1, round(share * values.numel()))).values.mean()


def _image_auroc(
    heads: Sequence[list[Tensor]],
    distances: Sequence[list[Tensor]],
    truths: Sequence[Tensor],
    share: float,
    top: float,
) -> float:
    found = []
    for head, distance, truth in zip(heads, distances, truths, strict=True):
        scores = torch.stack([_highest(_mixed(h, d, share), top) for h, d in zip(head, distance, strict=True)])
        found.append(image_auroc(scores.numpy(), truth.numpy()))
    return float(np.mean(found))


def _pixel_ap(
    heads: Sequence[list[Tensor]],
    distances: Sequence[list[Tensor]],
    labels: Sequence[Sequence[Tensor]],
    share: float,
) -> float:
    found = []
    for head, distance, label in zip(heads, distances, labels, strict=True):
        values = torch.cat([_mixed(h, d, share).flatten() for h, d in zip(head, distance, strict=True)])
        truth = torch.cat([part.flatten() for part in label])
        every = -(-len(values) // _CELLS_AT_MOST)
        found.append(pixel_average_precision([values[None, ::every].numpy()], [truth[None, ::every].numpy()]))
    return float(np.mean(found))
