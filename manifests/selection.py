"""Rows of a manifest by an expression such as ``sqe >= 0.5 and mechanism == 'pitting'``.

The expression is SQL, as polars reads it: any column, ``= == != < <= > >=``, ``and or not``, ``in``, ``between``,
``like``, arithmetic and functions such as ``avg(sqe)`` and ``array_length(defects)``. Nothing of it is run as Python.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

import pyarrow as pa

from manifests.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["matching"]


def matching(table: pa.Table, expression: str) -> pa.BooleanArray:
    """Which rows of a table an expression holds for; where it is unknown (null) it does not.

    Parameters
    ----------
    table : pa.Table
        N rows.
    expression : str
        True or false for every row.

    Returns
    -------
    pa.BooleanArray
        (N,).

    Raises
    ------
    ConfigError
        It cannot be read, names a column that is not there, or is not true or false.
    """
    import polars as pl  # half a second: only who selects pays for it

    frame = pl.DataFrame(pl.from_arrow(table))
    try:
        parsed = pl.sql_expr(expression)
        _check_columns(expression, parsed, frame.columns)
        found = frame.select(parsed.alias("found"))["found"]
    except pl.exceptions.PolarsError as error:
        said = _first_words(error) + _quoting(error, frame.columns)
        raise ConfigError(f"{expression!r} is no condition on samples: {said}") from None
    if found.dtype != pl.Boolean or len(found) not in (1, len(frame)):
        given = str(found.dtype).lower()
        raise ConfigError(f"{expression!r} gives {given}, expected true or false for every sample, as in 'sqe >= 0.5'")
    found = found.fill_null(value=False)
    return pa.array(found.to_numpy() if len(found) == len(frame) else [found[0]] * len(frame), pa.bool_())


def _check_columns(expression: str, parsed: pl.Expr, known: list[str]) -> None:
    for name in parsed.meta.root_names():
        if name not in known:
            raise ConfigError(f"{expression!r}: no column {name!r}; {_advice(expression, name, known)}")


def _advice(expression: str, name: str, known: list[str]) -> str:
    if re.search(rf'"{re.escape(name)}"', expression):
        return f"a text is written in single quotes: '{name}'"
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"


def _quoting(error: Exception, known: list[str]) -> str:
    """What to do about a column whose name is a word of SQL."""
    clause = re.search(r"found '(\w+)' clause", str(error))
    return f'; the column is written "{clause[1]}"' if clause and clause[1] in known else ""


def _first_words(error: Exception) -> str:
    """The first line of what polars says, within measure: it may list every type of a nested column."""
    text = next(iter(str(error).splitlines()), type(error).__name__)
    return text if len(text) <= 160 else f"{text[:159]}…"
