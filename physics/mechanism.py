"""What a defect mechanism is: parameters with units, a specimen drawn at random, and the trajectory it grows.

One module per mechanism ends with ``MECHANISM = Mechanism(...)``; `physics.registry` lists them, and config, plan,
store, render, report and documentation read that list. ``docs/adding-a-mechanism.md`` shows how one is added.

The square
    A mechanism is simulated on a square of n x n cells. Arrays are ``[row, column]``, rows run down (y), columns to the
    right (x). All lengths that leave a simulation are in *sides of the square*, so that they do not depend on the grid.
    Fields fade to nothing before the square's border, so that no straight cut shows on a picture; only where
    ``from_edge`` is true does the feature come in through the left side (x = 0), which is then laid on a part's edge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from manifests.distributions import Distribution
from manifests.fields import FIELDS, FieldSpec, ForeignKind

__all__ = [
    "MAX_SEGMENTS",
    "Crack",
    "Mechanism",
    "MechanismParams",
    "ParamsT",
    "SpecimenT",
    "Trajectory",
    "ordered",
    "quantity",
    "turn_array",
    "turn_back",
    "turn_components",
    "turn_trajectory",
    "turn_vector",
]

NumberT = TypeVar("NumberT", int, float)
ComponentT = TypeVar("ComponentT", float, NDArray[Any])

MAX_SEGMENTS = 1024  # segments kept of the cracks of one trajectory; the first to open are kept


def quantity(default: Any, *, unit: str, description: str, **bounds: Any) -> Any:
    """A parameter with its unit: `pydantic.Field` with ``unit`` kept in the JSON schema.

    ``unit`` is ``"1"`` for a number without one, ``"h"`` for grid spacings, ``"sides"`` for sides of the square.
    """
    return Field(default, description=f"{description} [{unit}]", json_schema_extra={"unit": unit}, **bounds)


def ordered(pair: tuple[NumberT, NumberT]) -> tuple[NumberT, NumberT]:
    """The pair, if its first is not above its second: for pydantic's ``AfterValidator``.

    Raises
    ------
    ValueError
        It is.
    """
    if pair[0] > pair[1]:
        raise ValueError(f"low must not be above high, got {pair[0]} and {pair[1]}")
    return pair


class MechanismParams(BaseModel):
    """Parameters that every mechanism has; subclasses add their own with `quantity`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    weight: float = quantity(1.0, unit="1", ge=0, description="share of the samples, relative to the other mechanisms")
    grid: int = quantity(128, unit="cells", ge=32, le=512, description="cells a side of the simulated square")
    snapshots: int = quantity(16, unit="states", ge=4, le=64, description="states kept along one trajectory")
    edge_share: float = quantity(
        0.0, unit="1", ge=0, le=1, description="share of trajectories that come in from the edge of a part"
    )
    severity: Distribution = quantity(
        Distribution(low=0.25, high=1.0), unit="1", description="how far along its trajectory a sample is taken"
    )
    area: Distribution = quantity(
        Distribution(kind="loguniform", low=0.002, high=0.06), unit="1", description="area of the defect / picture"
    )


@dataclass(frozen=True)
class Crack:
    """Centre lines that open: M straight segments and their width at T snapshots.

    Attributes
    ----------
    segments : (M, 4) float32
        Ends (y0, x0, y1, x1), in sides of the square; M <= `MAX_SEGMENTS`.
    opening : (T, M, 2) float32
        Width at both ends of each segment relative to the widest of the snapshot, 0 where not yet open.
    """

    segments: NDArray[np.float32]
    opening: NDArray[np.float32]

    def relative_area(self) -> NDArray[np.float64]:
        """Open length x relative width at each snapshot, (T,), in sides of the square."""
        ends = self.segments.reshape(-1, 2, 2).astype(np.float64)
        length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
        return np.asarray(self.opening.astype(np.float64).mean(axis=2) @ length)

    def length(self) -> NDArray[np.float64]:
        """Open length at each snapshot, (T,), in sides of the square."""
        ends = self.segments.reshape(-1, 2, 2).astype(np.float64)
        length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
        return np.asarray((self.opening > 0).any(axis=2).astype(np.float64) @ length)


@dataclass(frozen=True)
class Trajectory:
    """A growing defect in a square of side 1, at T states of growing severity.

    Attributes
    ----------
    fields : mapping of str to (T, n, n) float32
        By the names of `manifests.fields.FIELDS`; lengths in sides of the square. ``opening`` is never among them: it
        is drawn from ``crack``.
    severity : (T,) float64
        How far the growth has come, by the measure that suits the mechanism; strictly positive, never falling, 1 at
        the end.
    area : (T,) float64
        Share of the square that is visibly affected, never falling; for a mechanism that opens cracks,
        `Crack.relative_area`, which times the width in sides is an area.
    from_edge : bool
        It comes in through the left side, at (0.5, 0) where it is narrow; else it lies inside.
    crack : Crack, optional
        Where the mechanism parts the material.
    facts : mapping of str to tuple of float
        Figures for the record, one for each state or one in all, such as the load; name with unit, ``load_griffith``.
    """

    fields: Mapping[str, NDArray[np.float32]]
    severity: NDArray[np.float64]
    area: NDArray[np.float64]
    from_edge: bool = False
    crack: Crack | None = None
    facts: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: MappingProxyType({}))


ParamsT = TypeVar("ParamsT", bound=MechanismParams)
SpecimenT = TypeVar("SpecimenT")


@dataclass(frozen=True)
class Mechanism(Generic[ParamsT, SpecimenT]):
    """A way in which parts go wrong.

    Attributes
    ----------
    name : str
        As in recipes, manifests and folder names: lower case letters.
    title : str
        As in tables and reports.
    summary : str
        One sentence: what is solved.
    params : type
        The pydantic class of its parameters; with defaults for all.
    fields : tuple of str
        Names from `manifests.fields.FIELDS` of the fields that its samples have, ``opening`` included.
    draw : callable
        ``draw(params, rng, from_edge=...) -> specimen``: everything random, as plain arrays and numbers; no random
        number is drawn later.
    grow : callable
        ``grow(params, specimen) -> Trajectory``: the deterministic simulation.
    turn : callable
        ``turn(specimen, dihedral) -> specimen``: the same specimen turned (see `turn_array`).
    refine : callable
        ``refine(params, specimen) -> (params, specimen)``: the same body on a grid twice as fine, all lengths kept.
    foreign : {"patch", "clone", "blend"}, optional
        For a reference generator, which simulates nothing: what replaces the picture under its ``cover``.
    tilt_deg : float
        It is laid on a picture turned by up to so many degrees, either way.
    """

    name: str
    title: str
    summary: str
    params: type[ParamsT]
    fields: tuple[str, ...]
    draw: Callable[..., SpecimenT]
    grow: Callable[[ParamsT, SpecimenT], Trajectory]
    turn: Callable[[SpecimenT, int], SpecimenT]
    refine: Callable[[ParamsT, SpecimenT], tuple[ParamsT, SpecimenT]]
    foreign: ForeignKind | None = None
    tilt_deg: float = 45.0

    @property
    def physical(self) -> bool:
        """Whether it is a simulation. One that is not takes part only where a recipe names it."""
        return self.foreign is None

    def enters(self, params: ParamsT, rng: np.random.Generator) -> bool:
        """First draw of a trajectory's stream: does the defect come in from the edge of the part?"""
        return bool(rng.random() < params.edge_share)

    def simulate(self, params: ParamsT, rng: np.random.Generator) -> Trajectory:
        """Draw a specimen and grow its defect.

        Parameters
        ----------
        params : MechanismParams
            Of this mechanism.
        rng : numpy.random.Generator
            The trajectory's own stream.
        """
        from_edge = self.enters(params, rng)
        return self.grow(params, self.draw(params, rng, from_edge=from_edge))

    @property
    def field_specs(self) -> tuple[FieldSpec, ...]:
        """Units and meanings of its fields."""
        return tuple(FIELDS[name] for name in self.fields)


def turn_array(values: NDArray[Any], dihedral: int) -> NDArray[Any]:
    """Turn the last two axes: mirrored left-right if ``dihedral >= 4``, then ``dihedral % 4`` quarter turns.

    Counter-clockwise as seen, as `physics.placement.Placement` has it.
    """
    mirrored = values[..., ::-1] if dihedral >= 4 else values
    return np.ascontiguousarray(np.rot90(mirrored, dihedral % 4, axes=(-2, -1)))


def turn_vector(vy: NDArray[Any], vx: NDArray[Any], dihedral: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Turn a vector field (components down and to the right, on the last two axes) with its square."""
    vy, vx = turn_components(vy, vx, dihedral)
    return turn_array(vy, dihedral), turn_array(vx, dihedral)


def turn_components(y: ComponentT, x: ComponentT, dihedral: int) -> tuple[ComponentT, ComponentT]:
    """Turn components down and to the right, of vectors or of places relative to the square's middle.

    Parameters
    ----------
    y, x : float, or arrays of one shape
        Components, in any unit.
    dihedral : int
        0..7, see `turn_array`.
    """
    if dihedral >= 4:
        x = -x
    for _ in range(dihedral % 4):  # a quarter turn counter-clockwise takes right to up, and down to right
        y, x = -x, y
    return y, x


def turn_trajectory(trajectory: Trajectory, dihedral: int) -> Trajectory:
    """The trajectory of the turned square."""
    fields = {name: turn_array(values, dihedral) for name, values in trajectory.fields.items()}
    if "displacement_y" in fields:
        pair = turn_vector(trajectory.fields["displacement_y"], trajectory.fields["displacement_x"], dihedral)
        fields["displacement_y"], fields["displacement_x"] = pair
    crack = trajectory.crack
    if crack is not None:
        y, x = turn_components(crack.segments[:, 0::2] - 0.5, crack.segments[:, 1::2] - 0.5, dihedral)
        crack = replace(crack, segments=(np.stack([y, x], axis=-1).reshape(-1, 4) + 0.5).astype(np.float32))
    return replace(trajectory, fields=fields, crack=crack)


def turn_back(dihedral: int) -> int:
    """The turn that undoes another."""
    return dihedral if dihedral >= 4 else (4 - dihedral) % 4
