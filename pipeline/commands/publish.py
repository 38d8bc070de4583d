"""The command that makes a publication of a corpus: publish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manifests.command_line import errors
from manifests.console import ConsoleProgress, bytes_text
from manifests.corpus import Corpus
from pipeline.commands.terminal import Out, app, console, must_be_corpus, on_disk

__all__ = ["publish"]


@app.command(
    rich_help_panel="Share it",
    epilog="Examples: [cyan]maphc2f publish out shared[/cyan]   "
    '[cyan]maphc2f publish out shared --title "Cracked tiles" --author "Lovelace, Ada" --author "Tile Works"[/cyan]   '
    "For a host that takes few files: [cyan]maphc2f publish out shared --pack[/cyan]   "
    "Stopped or killed? The same command goes on where it was.",
)
def publish(
    out: Out,
    dest: Annotated[
        Path,
        typer.Argument(
            metavar="DEST", help="The folder to write, on the same disk to share files with OUT.", callback=on_disk
        ),
    ],
    title: Annotated[str, typer.Option("--title", help="Of the data set; default: the name in the recipe.")] = "",
    author: Annotated[
        list[str] | None,
        typer.Option(
            "--author", metavar="NAME", help="'Family, Given', or the name of an organisation; may be repeated."
        ),
    ] = None,
    homepage: Annotated[str, typer.Option("--homepage", metavar="URL", help="Of the data set.")] = "",
    released: Annotated[str, typer.Option("--released", metavar="YYYY-MM-DD", help="Day of publication.")] = "",
    data_version: Annotated[str, typer.Option("--data-version", metavar="V", help="Of the data set: 1.0.0")] = "",
    pack: Annotated[
        bool, typer.Option("--pack", help="Pack the arrays into tar files; by default only beyond what hosts take.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Verify the corpus first.")] = True,
) -> None:
    """Write a corpus as data repositories expect it: data set card, licences, Croissant, preview, splits, hashes.

    What you do not give (title, authors, homepage, day, version) is left out of all documents, never made up.
    """
    must_be_corpus(out)
    from pipeline.publishing import publication as job
    from pipeline.publishing.facts import About

    about = About(title=title, authors=tuple(author or ()), homepage=homepage, released=released, version=data_version)
    with ConsoleProgress(console) as progress:
        made = job.publish(out, dest, about, verify=verify, pack=pack, watcher=progress)
    _warn(out)
    if not author:
        console.print("no CITATION.cff: a citation needs an author; give --author to have one")
    console.print(
        f"[green]published[/green]: {dest} ({made.files:,} files, {bytes_text(made.bytes)}); "
        f"read {dest / 'README.md'}, and {dest / 'LICENCES.md'}, before you upload it"
    )


def _warn(out: Path) -> None:
    """Say what binds, and what the publisher may not want to be read."""
    from pipeline.publishing.facts import local_paths
    from pipeline.publishing.terms import Bond, terms_of

    info = Corpus(out).info
    for licence in sorted({entry.licence for entry in info.licences}):
        bond = terms_of(licence).bond
        if bond is not Bond.OPEN:
            errors.print(f"[yellow]{bond.value}[/yellow]: ", end="")
            errors.print(f"licence of sources: {licence or 'nothing is stated'}", markup=False)
    for path in local_paths(info):
        errors.print("[yellow]to be read by all[/yellow]: ", end="")
        errors.print(f"corpus/config.json names the path {path}; a recipe with ${{NAME}} names none", markup=False)
