"""From two maps to one score: how far a cell is from normality, and how much it looks like a defect.

Both maps are measured by what held-out normal pictures show at the same distance from the border, and mixed. The head
counts in full only where it sees more than normals show: real defects are of kinds that it has not learned, so that its
silence says little, and must not speak against what is far from normal. The score
of a picture is the mean over the highest cells of such a mixture.

In the map a cell is also judged by the company it keeps: to its distance from normality come that of its surroundings,
33 x 33 cells, and that of the whole picture. Flaws of light or finish are weak everywhere and fill half a part; no cell
by itself gives them away. In the picture's score that is left out: a part that is a little unlike others throughout
would outdo a crack.

Three numbers are chosen: the share of the head in
the map, its share in the picture's score, and how many cells count as the highest. They are chosen on normals and
samples that were held out of training, each mechanism's samples scored by a head that never saw its like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bisqad.metrics import image_auroc, pixel_average_precision
from bisqad.profile import BorderProfile

__all__ = ["Fusion", "HeldOutMaps", "choose_fusion"]

_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_HIGHEST = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)  # share of the cells; 0: the highest one alone
_CELLS_AT_MOST = 50_000
_QUIET = 2.0  # spreads of normal cells, up to which the head hardly counts
_WHISPER = 0.05  # how much it does
_AROUND = 33  # cells a side of a cell's surroundings
# What mean distances of the surroundings and of the picture count, beside a cell's own: chosen on ten magnetic tiles
# with real defects that judge nothing.
_AROUND_WEIGHT = 2.0
_PICTURE_WEIGHT = 1.0
_EQUAL = 5e-5  # values that differ by less are the same


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

    def standardised(self) -> tuple[list[Tensor], list[Tensor]]:
        """Both sorts of maps, measured by those of the normals among them."""
        sound = [k for k, label in enumerate(self.labels) if not bool(label.any())]
        head, distance = (BorderProfile.of([maps[k] for k in sound]) for maps in (self.head, self.distance))
        return [head.standardised(m) for m in self.head], [distance.standardised(m) for m in self.distance]


@dataclass(frozen=True)
class Fusion:
    """How the maps are joined.

    Attributes
    ----------
    head, distance : BorderProfile
        Of both maps, over held-out normals.
    map_share, image_share : float
        Share of the head in the map, and in the picture's score; the rest is normality's, in the map with its company.
    highest : float
        Share of a picture's cells whose mean is its score; 0: the highest cell alone.
    image_auroc, pixel_ap : float
        What the choice reached on what it was made on, mean over mechanisms.
    """

    head: BorderProfile
    distance: BorderProfile
    map_share: float
    image_share: float
    highest: float
    image_auroc: float
    pixel_ap: float

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Fusion:
        """From ``dataclasses.asdict``, after a way through JSON.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is not one.
        """
        head, distance = (
            BorderProfile(*(tuple(float(v) for v in values[name][part]) for part in ("mean", "spread")))
            for name in ("head", "distance")
        )
        numbers = ("map_share", "image_share", "highest", "image_auroc", "pixel_ap")
        return cls(head, distance, *(float(values[name]) for name in numbers))

    def score_map(self, head: Tensor, distance: Tensor) -> Tensor:
        """Both maps (h, w) as one."""
        company = _in_company(self.distance.standardised(distance))
        return _mixed(self.head.standardised(head), company, self.map_share)

    def image_score(self, head: Tensor, distance: Tensor) -> float:
        """Score of a picture from its maps (h, w)."""
        return float(self.picture_score(head, distance))

    def picture_score(self, head: Tensor, distance: Tensor) -> Tensor:
        """`image_score` as a tensor ()."""
        mixed = _mixed(self.head.standardised(head), self.distance.standardised(distance), self.image_share)
        return _mean_of_highest(mixed, self.highest)


def choose_fusion(held_out: Sequence[HeldOutMaps], *, head: BorderProfile, distance: BorderProfile) -> Fusion:
    """The mixture that tells held-out samples best from held-out normals, in the mean over mechanisms.

    Parameters
    ----------
    held_out : sequence of HeldOutMaps
        One for each mechanism; every head's logits are measured over its own normals.
    head, distance : BorderProfile
        Of the final head's logits and of the distances, over held-out normals: kept for use.

    Returns
    -------
    Fusion
        Few mechanisms tell little, and real defects are others: of all choices that fall no farther short of the best
        than one standard error over the mechanisms, the one nearest to an even mixture.
    """
    standardised = [maps.standardised() for maps in held_out]
    labels = [maps.labels for maps in held_out]
    in_company = [(heads, [_in_company(one) for one in distances]) for heads, distances in standardised]
    pixel = {share: _pixel_ap(in_company, labels, share) for share in _SHARES}
    image = {(share, top): _image_auroc(standardised, labels, share, top) for share in _SHARES for top in _HIGHEST}
    map_share = min(_as_good_as_the_best(pixel), key=lambda share: (round(abs(share - 0.5), 6), -pixel[share].mean()))
    image_share, top = min(
        _as_good_as_the_best(image), key=lambda choice: (round(abs(choice[0] - 0.5), 6), -image[choice].mean())
    )
    return Fusion(
        head=head,
        distance=distance,
        map_share=map_share,
        image_share=image_share,
        highest=top,
        image_auroc=float(image[image_share, top].mean()),
        pixel_ap=float(pixel[map_share].mean()),
    )


_Choice = TypeVar("_Choice")
_Floats = NDArray[np.float64]


def _as_good_as_the_best(reached: Mapping[_Choice, _Floats]) -> list[_Choice]:
    """Choices whose values (K,), one a mechanism, are on average within one standard error of those of the best."""
    best = max(reached.values(), key=lambda values: float(values.mean()))
    short = {choice: best - values for choice, values in reached.items()}
    error = {c: v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else 0.0 for c, v in short.items()}
    return [choice for choice, missing in short.items() if missing.mean() <= error[choice] + _EQUAL]


_Standardised = Sequence[tuple[list[Tensor], list[Tensor]]]


def _mixed(head: Tensor, distance: Tensor, share: float) -> Tensor:
    spoken = functional.leaky_relu(head - _QUIET, negative_slope=_WHISPER)
    return share * spoken + (1 - share) * distance


def _in_company(distance: Tensor) -> Tensor:
    """Distances (h, w), with those of the cells about each."""
    around = functional.avg_pool2d(distance[None, None], _AROUND, 1, _AROUND // 2, count_include_pad=False)[0, 0]
    return distance + _AROUND_WEIGHT * around + _PICTURE_WEIGHT * distance.mean()


def _mean_of_highest(values: Tensor, share: float) -> Tensor:
    # in whole numbers, so that a graph for pictures of any size can count too
    cells = (round(share * 1_000_000) * values.numel() + 500_000) // 1_000_000
    return values.flatten().topk(torch.sym_max(1, cells)).values.mean()  # type: ignore[no-untyped-call]


def _image_auroc(maps: _Standardised, labels: Sequence[Sequence[Tensor]], share: float, top: float) -> _Floats:
    """By mechanism."""
    found = []
    for (heads, distances), own in zip(maps, labels, strict=True):
        mixed = [_mixed(h, d, share) for h, d in zip(heads, distances, strict=True)]
        scores = [float(_mean_of_highest(m, top)) for m in mixed]
        found.append(image_auroc(scores, [bool(label.any()) for label in own]))
    return np.array(found)


def _pixel_ap(maps: _Standardised, labels: Sequence[Sequence[Tensor]], share: float) -> _Floats:
    """By mechanism."""
    found = []
    for (heads, distances), own in zip(maps, labels, strict=True):
        values = torch.cat([_mixed(h, d, share).flatten() for h, d in zip(heads, distances, strict=True)])
        truth = torch.cat([label.flatten() for label in own])
        every = -(-len(values) // _CELLS_AT_MOST)
        found.append(pixel_average_precision([values[None, ::every].numpy()], [truth[None, ::every].numpy()]))
    return np.array(found)
