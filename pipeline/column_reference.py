"""The columns of every stored table as Markdown, written from the records: a part of ``docs/format.md``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel

from manifests.columns import Column, columns
from manifests.records import BankRecord, DefectRecord, FileRecord, PlannedDefect, PlanRow, SampleRecord, SourceRecord

__all__ = ["TABLES", "column_reference"]

TABLES: Final[tuple[tuple[str, str, type[BaseModel]], ...]] = (
    ("manifest.parquet", "One row a sample, in order of `index`. Also the rows of `samples` records.", SampleRecord),
    ("manifest.parquet: `defects`", "One struct a planned defect, in the order of the plan.", DefectRecord),
    ("plan.parquet", "One row a sample, in order of `index`.", PlanRow),
    ("plan.parquet: `others`", "One struct a further defect.", PlannedDefect),
    ("inventory.parquet", "One row a photograph found. Also the rows of `sources` records.", SourceRecord),
    ("Rows of `bank` records", "One a trajectory, in the order of the shard's rows.", BankRecord),
    ("`files` of records and of corpus.json", "One a file.", FileRecord),
)


def column_reference() -> str:
    """All tables."""
    return "\n".join(line for title, text, model in TABLES for line in _section(title, text, model))


def _section(title: str, text: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"### {title}\n"
    yield f"{text}\n"
    yield "| column | type | unit | meaning |\n|---|---|---|---|"
    for column in columns(model):
        yield f"| `{column.name}` | {column.kind} | {column.unit} | {_meaning(column)} |"
    yield ""


def _meaning(column: Column) -> str:
    values = ", ".join(f"`{value}`" for value in column.values)
    return f"{column.meaning}: one of {values}" if values else column.meaning
