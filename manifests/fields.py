"""The physical fields that a defect may have: one closed vocabulary that mechanisms, store, render and report share.

A mechanism says which of them it yields; the render pass knows how each is seen. So a new mechanism that speaks of
known fields needs no change anywhere else. On a simulated square lengths are in sides of the square; on a picture in
pixels, positive as the meaning says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["FIELDS", "FieldKind", "FieldSpec", "ForeignKind"]

FieldKind = Literal["share", "length", "displacement_y", "displacement_x"]
# how what is under a `cover` is replaced: by a jittered patch, by one cloned in, or by a texture that shines through
ForeignKind = Literal["patch", "clone", "blend"]


@dataclass(frozen=True)
class FieldSpec:
    """Name, unit on a picture, and meaning of a field; ``kind`` says how it follows a turn and a change of size.

    ``share`` is a number without unit, unchanged by both; ``length`` grows with the square; the two components of
    ``displacement`` grow with the square and turn with it.
    """

    name: str
    unit: str
    meaning: str
    kind: FieldKind


FIELDS: Mapping[str, FieldSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            FieldSpec("opening", "px", "width of the crack, where it is open", "length"),
            FieldSpec("damage", "1", "phase field: 0 sound, 1 broken", "share"),
            FieldSpec("depth", "px", "material lost, measured down from the sound surface", "length"),
            FieldSpec("product", "px", "thickness of the corrosion product that covers the surface", "length"),
            FieldSpec("height", "px", "surface after unloading, above the sound surface; below it negative", "length"),
            FieldSpec("displacement_y", "px", "in-plane motion of the material, downwards", "displacement_y"),
            FieldSpec("displacement_x", "px", "in-plane motion of the material, to the right", "displacement_x"),
            FieldSpec("cover", "1", "share of the picture that foreign material replaces", "share"),
        )
    }
)
