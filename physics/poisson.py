"""Where NSA clones: upright rectangles. A reference generator, not physics.

A resized patch of another photograph is cloned in by a Poisson equation with mixed gradients (`refine.foreign`). Areas
are those that the recipe asks for.

References
----------
Schlueter, Tan, Hou & Kainz, "Natural synthetic anomalies for self-supervised anomaly detection and localization", ECCV
(2022).
"""

from __future__ import annotations

import numpy as np

from manifests.distributions import Distribution
from physics.mechanism import Mechanism, MechanismParams, quantity
from physics.rectangle import Rectangle, draw_rectangle, grow_rectangle, refine_rectangle, turn_rectangle

__all__ = ["MECHANISM", "PoissonParams", "draw", "simulate"]


class PoissonParams(MechanismParams):
    """Outlines of cloned patches."""

    aspect: Distribution = quantity(
        Distribution(kind="loguniform", low=0.25, high=4.0), unit="1", description="width of a patch / height"
    )


def draw(params: PoissonParams, rng: np.random.Generator, *, from_edge: bool) -> Rectangle:
    """An upright rectangle."""
    return draw_rectangle(aspect=params.aspect.draw(rng), turn=0.0, from_edge=from_edge)


MECHANISM = Mechanism(
    name="poisson",
    title="Poisson clone (NSA)",
    summary="No defect is solved for: a patch of another photograph is cloned in, with mixed gradients.",
    params=PoissonParams,
    fields=("cover",),
    draw=draw,
    grow=grow_rectangle,
    turn=turn_rectangle,
    refine=refine_rectangle,
    foreign="clone",
    tilt_deg=0.0,
)
simulate = MECHANISM.simulate
