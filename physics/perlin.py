"""Where DRAEM blends: one blob of Perlin noise above a threshold. A reference generator, not physics.

A foreign texture of this opacity lies over the blob; the opacity is the severity. At a point of a cell of the lattice,
(v, u) from its upper left corner, the noise is the sum over the four corners of gradient . offset, faded with
t^3 (6 t^2 - 15 t + 10) along both axes. The blob is the one about the highest point; it has the area that was drawn.

References
----------
Perlin, "Improving noise", SIGGRAPH (2002).
Zavrtanik, Kristan & Skocaj, "DRAEM: a discriminatively trained reconstruction embedding for surface anomaly detection",
ICCV (2021): opacity 0.2 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator
from scipy import ndimage

from manifests.distributions import Distribution
from physics.mechanism import Mechanism, MechanismParams, Trajectory, ordered, quantity, turn_vector

__all__ = ["MECHANISM", "PerlinParams", "Specimen", "draw", "grow", "perlin_noise", "refine", "simulate", "turn"]

_FREE = 0.3  # of the square, from its middle: where the noise is as drawn
_BORDER_DROP = 2.0  # by how much it is lower at the border, so that no blob reaches it
_LOWEST = -0.9  # threshold: at the border the noise is at most 1 - 2
_MOUTH_RISE, _MOUTH_RADIUS = 1.5, 0.15  # of a blob that comes in from the edge
_HALVINGS = 14


class PerlinParams(MechanismParams):
    """Blobs of noise."""

    severity: Distribution = quantity(
        Distribution(low=0.2, high=1.0), unit="1", description="opacity of the foreign texture"
    )
    octaves: Annotated[tuple[int, int], AfterValidator(ordered)] = quantity(
        (1, 3), unit="1", description="cells of the noise along either axis: 2 to a power between these"
    )
    share: Distribution = quantity(
        Distribution(kind="loguniform", low=0.05, high=0.25), unit="1", description="area of the blob / square"
    )


@dataclass(frozen=True)
class Specimen:
    """Unit gradients (2, rows + 1, columns + 1), down and right, on the nodes of the lattice; area wanted / square."""

    gradients: NDArray[np.float64]
    share: float
    from_edge: bool


def draw(params: PerlinParams, rng: np.random.Generator, *, from_edge: bool) -> Specimen:
    """A lattice of random gradients."""
    low, high = params.octaves
    rows, columns = 2 ** rng.integers(low, high + 1, size=2)
    angle = rng.uniform(0, 2 * np.pi, size=(rows + 1, columns + 1))
    return Specimen(np.stack([np.sin(angle), np.cos(angle)]), params.share.draw(rng), from_edge)


def grow(params: PerlinParams, specimen: Specimen) -> Trajectory:
    """The blob, more and more opaque."""
    severity = np.arange(1, params.snapshots + 1) / params.snapshots
    blob = _blob(specimen, params.grid)
    return Trajectory(
        fields={"cover": (severity[:, None, None] * blob).astype(np.float32)},
        severity=severity,
        area=np.full(params.snapshots, blob.mean()),
        from_edge=specimen.from_edge,
        facts={"share": (specimen.share,)},
    )


def perlin_noise(gradients: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Noise (n, n), within +-1, at the centres of n x n cells, from gradients (2, rows + 1, columns + 1)."""
    y, x = ((np.arange(n) + 0.5) / n * (nodes - 1) for nodes in gradients.shape[1:])
    row, column = y.astype(np.int64)[:, None], x.astype(np.int64)[None, :]
    v, u = (y % 1)[:, None], (x % 1)[None, :]

    def corner(dy: int, dx: int) -> NDArray[np.float64]:
        down, right = gradients[:, row + dy, column + dx]
        return np.asarray(down * (v - dy) + right * (u - dx))

    fade_v, fade_u = (t**3 * (t * (6 * t - 15) + 10) for t in (v, u))
    above = corner(0, 0) * (1 - fade_u) + corner(0, 1) * fade_u
    below = corner(1, 0) * (1 - fade_u) + corner(1, 1) * fade_u
    return np.asarray(np.sqrt(2) * (above * (1 - fade_v) + below * fade_v))


def _blob(specimen: Specimen, n: int) -> NDArray[np.float64]:
    """Share (n, n) of each cell in the blob."""
    level = perlin_noise(specimen.gradients, n) + _bowl(n, from_edge=specimen.from_edge)
    peak = np.unravel_index(int(np.argmax(level)), level.shape)
    low, high = _LOWEST, float(level[peak])
    inside = level >= high
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        labels, _ = ndimage.label(level >= middle)
        blob = labels == labels[peak]
        low, high = (middle, high) if blob.mean() > specimen.share else (low, middle)
        inside = blob if high == middle else inside
    steepness = np.maximum(np.hypot(*np.gradient(level)), 1e-9)
    beside = ndimage.binary_dilation(inside)
    return np.where(beside, np.clip(0.5 + (level - high) / steepness, 0.0, 1.0), 0.0)


def _bowl(n: int, *, from_edge: bool) -> NDArray[np.float64]:
    """What keeps the blob off the border, but for the mouth that it may come in by."""
    centres = (np.arange(n) + 0.5) / n
    y, x = (centres - 0.5)[:, None], (centres if from_edge else centres - 0.5)[None, :]
    radius = np.maximum(np.abs(y), x - 0.5 if from_edge else np.abs(x))
    drop = _BORDER_DROP * np.clip((radius - _FREE) / (0.5 - _FREE), 0.0, 1.0) ** 2
    rise = _MOUTH_RISE * np.exp(-0.5 * (y**2 + x**2) / _MOUTH_RADIUS**2) if from_edge else 0.0
    return np.asarray(rise - drop)


def turn(specimen: Specimen, dihedral: int) -> Specimen:
    """See `physics.mechanism.Mechanism`."""
    down, right = specimen.gradients
    return replace(specimen, gradients=np.stack(turn_vector(down, right, dihedral)))


def refine(params: PerlinParams, specimen: Specimen) -> tuple[PerlinParams, Specimen]:
    """See `physics.mechanism.Mechanism`: a lattice of gradients knows of no grid."""
    return params.model_copy(update={"grid": 2 * params.grid}), specimen


MECHANISM = Mechanism(
    name="perlin",
    title="Perlin and texture (DRAEM)",
    summary="Nothing is solved: a blob of Perlin noise is filled with a foreign texture, more or less opaque.",
    params=PerlinParams,
    fields=("cover",),
    draw=draw,
    grow=grow,
    turn=turn,
    refine=refine,
    foreign="blend",
)
simulate = MECHANISM.simulate
