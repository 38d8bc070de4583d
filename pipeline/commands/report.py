"""Commands that write pages to look at in a browser: a report of a corpus, and a comparison of two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manifests.console import ConsoleProgress
from pipeline.commands.terminal import Out, app, console, must_be_corpus, on_disk

__all__ = ["compare", "report"]


@app.command(
    rich_help_panel="Look at it",
    epilog="Examples: [cyan]maphc2f report out report[/cyan]   then open report/index.html; no server is needed   "
    "[cyan]maphc2f report out report --details 100000[/cyan]   Stopped? The same command goes on where it was.",
)
def report(
    out: Out,
    dest: Annotated[
        Path, typer.Argument(metavar="REPORT", help="The folder to write.", show_default=False, callback=on_disk)
    ],
    details: Annotated[
        int,
        typer.Option("--details", metavar="N", min=0, help="Samples with all their pictures; the others: thumbnails."),
    ] = 2000,
) -> None:
    """Write pages that show a corpus: what it holds, and every sample, to filter, sort and look into."""
    must_be_corpus(out)
    from pipeline.report.corpus_report import write_report

    with ConsoleProgress(console) as progress:
        detailed = write_report(out, dest, details=details, advance=progress.count("showing", "samples"))
    console.print(f"[green]written[/green]: {dest}; {detailed:,} samples with all their pictures")
    console.print(f"open {(dest / 'index.html').absolute().as_uri()}", markup=False)


@app.command(
    rich_help_panel="Look at it",
    epilog="Examples: [cyan]maphc2f compare out data/mtd comparison[/cyan]   (real defects: test/<type> and "
    "ground_truth/<type>)   [cyan]maphc2f compare out other-corpus comparison --masks 500[/cyan]",
)
def compare(
    a: Annotated[
        Path,
        typer.Argument(metavar="A", help="A corpus, or a folder of defects.", show_default=False, callback=on_disk),
    ],
    b: Annotated[
        Path, typer.Argument(metavar="B", help="What it is compared with.", show_default=False, callback=on_disk)
    ],
    dest: Annotated[
        Path, typer.Argument(metavar="REPORT", help="The folder to write.", show_default=False, callback=on_disk)
    ],
    masks: Annotated[
        int,
        typer.Option("--masks", metavar="N", min=8, help="Most masks of a mechanism or type of defect to measure."),
    ] = 100,
) -> None:
    """Write pages that set a corpus beside another, or beside real defects: counts, samples, shapes of the masks."""
    from pipeline.report.comparison import write_comparison

    with ConsoleProgress(console) as progress:
        write_comparison(a, b, dest, masks=masks, advance=progress.count("measuring", "masks"))
    console.print(f"[green]written[/green]: {dest}")
    console.print(f"open {(dest / 'index.html').absolute().as_uri()}", markup=False)
