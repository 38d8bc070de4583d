"""What each column of a stored table is: name, type, unit and meaning, from the records themselves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel

from manifests.tables import arrow_type

__all__ = ["Column", "columns"]

_UNIT = re.compile(r" \[(?P<unit>[^\]]+)\]$")


@dataclass(frozen=True)
class Column:
    """A column: ``kind`` is its Arrow type, ``values`` the closed list it is one of, ``unit`` empty for none."""

    name: str
    kind: str
    unit: str
    meaning: str
    values: tuple[str, ...] = ()


def columns(model: type[BaseModel]) -> list[Column]:
    """Columns of a record, in order.

    Raises
    ------
    ValueError
        A column does not say what it means.
    """
    found = []
    for name, info in model.model_fields.items():
        if not info.description:
            raise ValueError(f"{model.__name__}.{name}: has no description; give it one in its Field")
        unit = _UNIT.search(info.description)
        found.append(
            Column(
                name=name,
                kind=_kind(info.annotation),
                unit=unit["unit"] if unit else "",
                meaning=_UNIT.sub("", info.description),
                values=_values(info.annotation),
            )
        )
    return found


def _kind(annotation: object) -> str:
    if get_origin(annotation) is dict:  # in commit records alone
        return f"object of {_kind(get_args(annotation)[1])}"
    return _arrow_name(arrow_type(annotation))


def _arrow_name(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {'structs' if pa.types.is_struct(kind.value_type) else _arrow_name(kind.value_type)}"
    return {"double": "float64"}.get(str(kind), str(kind))


def _values(annotation: object) -> tuple[str, ...]:
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return tuple(member.value for member in annotation)
    return tuple(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ()
