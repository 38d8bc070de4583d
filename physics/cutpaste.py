"""Where CutPaste pastes: upright rectangles, and long thin turned scars. A reference generator, not physics.

A patch of the photograph itself, jittered in brightness, contrast and saturation, replaces what lies under it. Areas
are those that the recipe asks for; the method as published draws 2 to 15 % of the picture. What fills a scar is not
turned with its outline.

References
----------
Li, Sohn, Yoon & Pfister, "CutPaste: self-supervised learning for anomaly detection and localization", CVPR (2021):
aspect 0.3 to 1 or 1 to 3.3; scars turned by up to 45 degrees.
"""

from __future__ import annotations

import numpy as np

from manifests.distributions import Distribution
from physics.mechanism import Mechanism, MechanismParams, quantity
from physics.rectangle import Rectangle, draw_rectangle, grow_rectangle, refine_rectangle, turn_rectangle

__all__ = ["MECHANISM", "CutPasteParams", "draw", "simulate"]

_SCAR_TURN = np.pi / 4


class CutPasteParams(MechanismParams):
    """Outlines of pasted patches."""

    scar_share: float = quantity(0.5, unit="1", ge=0, le=1, description="share of scars: long, thin and turned")
    aspect: Distribution = quantity(
        Distribution(kind="loguniform", low=0.3, high=3.3), unit="1", description="width of an upright patch / height"
    )
    scar_aspect: Distribution = quantity(
        Distribution(kind="loguniform", low=4.0, high=12.0), unit="1", description="length of a scar / width"
    )


def draw(params: CutPasteParams, rng: np.random.Generator, *, from_edge: bool) -> Rectangle:
    """A patch or a scar."""
    if rng.random() < params.scar_share:
        turn = float(rng.uniform(-_SCAR_TURN, _SCAR_TURN))
        return draw_rectangle(aspect=params.scar_aspect.draw(rng), turn=turn, from_edge=from_edge)
    return draw_rectangle(aspect=params.aspect.draw(rng), turn=0.0, from_edge=from_edge)


MECHANISM = Mechanism(
    name="cutpaste",
    title="CutPaste",
    summary="Nothing is solved: a jittered patch of the photograph itself is pasted in, a rectangle or a turned scar.",
    params=CutPasteParams,
    fields=("cover",),
    draw=draw,
    grow=grow_rectangle,
    turn=turn_rectangle,
    refine=refine_rectangle,
    foreign="patch",
    tilt_deg=0.0,
)
simulate = MECHANISM.simulate
