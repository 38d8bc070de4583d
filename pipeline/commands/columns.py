"""The command that says what the columns of a corpus' tables are: columns."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table

from manifests.columns import columns as columns_of
from pipeline.column_reference import TABLES, column_reference
from pipeline.commands.terminal import app, console

__all__ = ["columns"]


@app.command(
    rich_help_panel="Look at it",
    epilog="Examples: [cyan]maphc2f columns[/cyan]   [cyan]maphc2f columns --markdown[/cyan]",
)
def columns(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables of docs/format.md.")] = False,
) -> None:
    """Print the columns of a corpus' tables: type, unit and meaning of each."""
    if markdown:
        sys.stdout.write(column_reference())
        return
    for title, _, model in TABLES:
        table = Table("column", "type", "unit", "meaning", title=title, title_justify="left")
        for column in columns_of(model):
            table.add_row(column.name, column.kind, column.unit, column.meaning)
        console.print(table)
