"""What samples are worth to a detector, without any estimator: the loss on what judges, without them less with them.

The detector is the convex last layer on frozen features (`bisqad.convex`), trained on half of the loss of samples and
half of the loss of normals; its optimum is exact, so a difference of losses is no noise of training. A group of samples
is worth what the loss rises by without it, for each of its samples; a single sample, by the exact derivative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from benchmarks.sqe_worth_material import SOUND, JudgedCells
from bisqad.cells import NormalCells, SampleCells
from bisqad.convex import LastLayer, logistic
from bisqad.head import SegmentationHead, head_for
from bisqad.training import Material

__all__ = ["JUDGES", "Groups", "LastLayerProblem", "group_utility", "grouped"]

Floats = NDArray[np.float64]

JUDGES = ("held-out synthetic", "real defects")
DAMPING = 1e-2
_TOLERANCE = 1e-6  # of the gradient
_THINNED = 4  # of a sample's cells every fourth takes part
_NORMAL_CELLS = 4096
_SOUND_PARTS = 4  # groups that the sound samples of a mechanism are dealt to


@dataclass(frozen=True)
class Judge:
    """Rows (R, P) with targets (R,) and shares (R,) of the loss."""

    rows: Tensor
    targets: Tensor
    shares: Tensor

    def loss(self, theta: Tensor) -> Tensor:
        """Cross-entropy () at theta (P,)."""
        losses = functional.binary_cross_entropy_with_logits(self.rows @ theta, self.targets, reduction="none")
        total: Tensor = self.shares @ losses
        return total


class LastLayerProblem:
    """Logistic regression on the standardised features of cells, and what judges it.

    Parameters
    ----------
    material : Material
        What is trained on.
    judge, judge_normals : SampleCells, NormalCells
        Sound samples and normals that share no photograph with it.
    real : JudgedCells
        Real photographs.
    """

    def __init__(self, material: Material, judge: SampleCells, judge_normals: NormalCells, real: JudgedCells) -> None:
        head = head_for(material.normals, 1, seed=0)
        samples = material.samples
        cells, labels = samples.features[:, ::_THINNED], samples.labels[:, ::_THINNED]
        normals = _some(_rows(head, material.normals.features))
        self.count = len(samples)
        self.features = torch.cat([_rows(head, cells), normals])
        self.targets = torch.cat([labels.flatten().double(), torch.zeros(len(normals), dtype=torch.float64)])
        owner = torch.arange(self.count).repeat_interleave(cells.shape[1])
        self.owner = torch.cat([owner, torch.full((len(normals),), self.count)])
        own = _rows(head, judge.features[:, ::_THINNED]), judge.labels[:, ::_THINNED].flatten().double()
        judge_rows = _some(_rows(head, judge_normals.features))
        even = torch.full((len(own[1]),), 0.5 / len(own[1]), dtype=torch.float64)
        self.judges = dict(zip(JUDGES, (_judge(*own, even, judge_rows), _real_judge(head, real)), strict=True))

    def solved(self, weights: Tensor, judge: str, start: Tensor | None = None) -> LastLayer:
        """Optimum with weights (N,) of the samples, not all 0; normals count as much as all samples together."""
        whole = torch.cat([weights.double(), weights.double().sum()[None]])
        return logistic(
            self.features,
            self.targets,
            self.owner,
            whole,
            self.judges[judge].loss,
            damping=DAMPING,
            start=start,
            tolerance=_TOLERANCE,
        )


def _rows(head: SegmentationHead, cells: Tensor) -> Tensor:
    """Rows (R, C + 1) float64, the last a constant, of cells (..., C)."""
    flat = head.standardised(cells).flatten(0, -2).double()
    return torch.cat([flat, torch.ones(len(flat), 1, dtype=torch.float64)], dim=1)


def _some(rows: Tensor) -> Tensor:
    return rows[:: max(len(rows) // _NORMAL_CELLS, 1)]


def _judge(rows: Tensor, targets: Tensor, shares: Tensor, normals: Tensor) -> Judge:
    """Half by the rows of defective pictures, whose shares sum to 1/2, half by rows of normals."""
    even = torch.full((len(normals),), 0.5 / len(normals), dtype=torch.float64)
    zeros = torch.zeros(len(normals), dtype=torch.float64)
    return Judge(torch.cat([rows, normals]), torch.cat([targets, zeros]), torch.cat([shares, even]))


def _real_judge(head: SegmentationHead, real: JudgedCells) -> Judge:
    """Every defective photograph counts the same: half by its defect, half by as many cells beside it."""
    parts, targets, shares, normals = [], [], [], []
    for cells, label in zip(real.features, real.labels, strict=True):
        on, off = (torch.nonzero(label == side)[:, 0] for side in (True, False))
        if not len(on) or not len(off):
            normals.append(cells[off][::16])
            continue
        off = off[:: max(len(off) // max(len(on), 16), 1)]
        for chosen, target in ((on, 1.0), (off, 0.0)):
            parts.append(cells[chosen])
            targets.append(torch.full((len(chosen),), target, dtype=torch.float64))
            shares.append(torch.full((len(chosen),), 1 / len(chosen), dtype=torch.float64))
    share = torch.cat(shares)
    return _judge(
        _rows(head, torch.cat(parts)), torch.cat(targets), 0.5 * share / share.sum(), _rows(head, torch.cat(normals))
    )


# ---------------------------------------------------------------- groups


@dataclass(frozen=True)
class Groups:
    """G groups of one draw.

    Attributes
    ----------
    kinds, mechanisms : (G,) str
    sizes : (G,) int64
    utility : dict of str to (G,) float64
        By judge: by how much the loss is lower with the group than without it, for each of its samples.
    influence : dict of str to (N,) float64
        By judge: minus the derivative of the loss by each sample's weight.
    members : (N,) int64
        Group of each sample.
    """

    kinds: NDArray[np.str_]
    mechanisms: NDArray[np.str_]
    sizes: NDArray[np.int64]
    utility: dict[str, Floats]
    influence: dict[str, Floats]
    members: NDArray[np.int64]

    def mean(self, values: NDArray[np.float32]) -> Floats:
        """Mean (G,) of values (N,) of the samples."""
        return np.asarray(np.bincount(self.members, values) / self.sizes, dtype=np.float64)


def grouped(mechanisms: NDArray[np.str_], kinds: NDArray[np.str_], *, seed: int) -> NDArray[np.int64]:
    """Group (N,) of each sample: those of one mechanism and one kind of corruption; sound ones in parts at random."""
    rng = np.random.default_rng([seed, 14])
    names = np.char.add(np.char.add(mechanisms, " "), kinds).astype("<U64")
    for name in np.unique(names[kinds == SOUND]):
        at = rng.permutation(np.flatnonzero(names == name))
        for part, positions in enumerate(np.array_split(at, min(_SOUND_PARTS, len(at)))):
            names[positions] = f"{name} {part}"
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def group_utility(
    problem: LastLayerProblem, mechanisms: NDArray[np.str_], kinds: NDArray[np.str_], *, seed: int
) -> Groups:
    """Every group left out in turn."""
    members = grouped(mechanisms, kinds, seed=seed)
    everyone = torch.ones(problem.count)
    whole = {judge: problem.solved(everyone, judge) for judge in JUDGES[:1]}
    start = whole[JUDGES[0]].theta
    whole |= {judge: problem.solved(everyone, judge, start) for judge in JUDGES[1:]}
    utility: dict[str, list[float]] = {judge: [] for judge in JUDGES}
    sizes = np.bincount(members)
    for group, size in enumerate(sizes.tolist()):
        without = problem.solved(torch.from_numpy(members != group).float(), JUDGES[0], start).theta
        for judge in JUDGES:
            rise = problem.judges[judge].loss(without) - whole[judge].validation_loss
            utility[judge].append(float(rise) / size)
    first = np.array([np.flatnonzero(members == group)[0] for group in range(len(sizes))])
    return Groups(
        kinds[first],
        mechanisms[first],
        sizes,
        {judge: np.array(values) for judge, values in utility.items()},
        {judge: -found.weights_gradient[:-1].numpy() for judge, found in whole.items()},
        members,
    )
