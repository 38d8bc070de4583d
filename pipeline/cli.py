"""The command line: ``maphc2f generate | plan | bank | score | verify | info | inspect | sheet | mechanisms | schema``,
``columns``, ``publish``.

Exit codes: 0 done, 1 found wrong, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

from typing import Annotated

import typer

import manifests
from manifests.command_line import run_program
from pipeline.commands import build, columns, look, publish
from pipeline.commands.terminal import app, console

__all__ = ["app", "build", "columns", "look", "main", "publish"]


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"maphc2f {manifests.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point."""
    run_program(app, "maphc2f", kept="what is finished is kept")


if __name__ == "__main__":
    main()
