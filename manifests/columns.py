"""What each column of a stored table is: name, type, unit and meaning, from the records themselves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel

from manifests.tables import arrow_schema

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
    """Columns of a record's table, in order.

    Raises
    ------
    ValueError
        A column does not say what it means.
    """
    found = []
    for field in arrow_schema(model):
        info = model.model_fields[field.name]
        if not info.description:
            raise ValueError(f"{model.__name__}.{field.name}: has no description; give it one in its Field")
        unit = _UNIT.search(info.description)
        found.append(
            Column(
                name=field.name,
                kind=_kind(field.type),
                unit=unit["unit"] if unit else "",
                meaning=_UNIT.sub("", info.description),
                values=_values(info.annotation),
            )
        )
    return found


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list of {'structs' if pa.types.is_struct(kind.value_type) else _kind(kind.value_type)}"
    return {"double": "float64"}.get(str(kind), str(kind))


def _values(annotation: object) -> tuple[str, ...]:
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return tuple(member.value for member in annotation)
    return tuple(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ()
