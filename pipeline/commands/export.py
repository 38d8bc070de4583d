"""The command that hands a corpus to the tools of others: export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from manifests.console import ConsoleProgress, bytes_text
from manifests.errors import ConfigError
from manifests.splits import Shares
from pipeline.commands.terminal import Out, WorkersOption, app, console, interruptible, must_be_corpus, on_disk

if TYPE_CHECKING:
    from pipeline.export.job import Outcome

__all__ = ["export"]

FormatName = Literal["mvtec", "webdataset", "parquet", "coco", "yolo"]


@app.command(
    rich_help_panel="Share it",
    epilog="Examples: [cyan]maphc2f export out tiles-coco --format coco[/cyan]   "
    "[cyan]maphc2f export out best --format webdataset --where \"sqe >= 0.5 and mechanism == 'pitting'\"[/cyan]   "
    "[cyan]maphc2f export out tiles-mvtec --format mvtec --shares 0.3,0,0.7[/cyan]   "
    "Stopped or killed? The same command goes on where it was.",
)
def export(
    out: Out,
    dest: Annotated[
        Path, typer.Argument(metavar="DEST", help="The folder to write.", show_default=False, callback=on_disk)
    ],
    format_name: Annotated[
        FormatName,
        typer.Option(
            "--format",
            help="mvtec: folders as anomalib reads them; webdataset: tar files; parquet: for Hugging Face datasets; "
            "coco: instance masks; yolo: segmentation outlines.",
            show_default=False,
        ),
    ],
    where: Annotated[
        str | None,
        typer.Option(
            "--where", metavar="EXPRESSION", help="Only samples for which this holds: SQL on the manifest's columns."
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, help="At most N samples, evenly of all categories and mechanisms."),
    ] = None,
    shares: Annotated[
        str | None,
        typer.Option(
            "--shares",
            metavar="TRAIN,VAL,TEST",
            help="Shares of the splits; no photograph and no simulation is in two. Default: 0.8,0.1,0.1; "
            "for mvtec 0.5,0,0.5.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="K", min=0, help="Of the split.")] = 0,
    part: Annotated[
        int | None,
        typer.Option(
            "--part", metavar="N", min=1, help="Samples in a part: in a tar or Parquet file. Default: some 70 MB."
        ),
    ] = None,
    workers: WorkersOption = 1,
) -> None:
    """Write a corpus in a format of others, split so that nothing leaks."""
    must_be_corpus(out)
    from pipeline.export.job import Options, export_corpus

    options = Options(format_name, where, limit, _shares_of(shares), seed, part)
    with ConsoleProgress(console) as progress, interruptible():
        outcome = export_corpus(out, dest, options, workers=workers, progress=progress, announce=progress.announce_stop)
    _tell(outcome, dest)


def _tell(outcome: Outcome, dest: Path) -> None:
    """What the folder holds now."""
    info = outcome.info
    splits = ", ".join(f"{split} {number:,}" for split, number in info.splits.items())
    normals = f" and {info.normals:,} normal photographs" if info.normals else ""
    console.print(f"{info.samples:,} samples ({splits}){normals} in {info.files:,} files, {bytes_text(info.bytes)}")
    for name, mechanism in info.mechanisms.items():
        if not mechanism.physical:
            console.print(f"[yellow]not physical[/yellow]: {mechanism.samples:,} samples of {name}")
    verdict = "done" if outcome.changed else "there already, every file held to its hash"
    console.print(f"[green]{verdict}[/green]: {dest}; check it with [cyan]sha256sum --check SHA256SUMS[/cyan] in it")


def _shares_of(text: str | None) -> Shares | None:
    if text is None:
        return None
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--shares {text!r}: expected three numbers for train, val and test, such as 0.8,0.1,0.1"
        ) from None
    return train, val, test
