"""Commands for a corpus that is there: extend it, join its parts, repair it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manifests.command_line import errors
from manifests.console import ConsoleProgress
from pipeline.commands.summary import print_summary
from pipeline.commands.terminal import (
    BankOption,
    ConfigOption,
    CountOption,
    KeepStagesOption,
    MechanismOption,
    Out,
    PolicyOption,
    SeedOption,
    SizeOption,
    SourceOption,
    WorkersOption,
    app,
    console,
    interruptible,
    must_be_corpus,
    on_disk,
    recipe_of,
    shared_bank_of,
)

__all__ = ["extend", "merge", "repair"]

_SHOWN = 20  # names of files in one message


@app.command(
    rich_help_panel="Make a corpus",
    epilog="Examples: [cyan]maphc2f extend out --count 1000 --workers 2[/cyan]   "
    "[cyan]maphc2f extend out --to 5000[/cyan] (does nothing where there are 5,000).   "
    "Stopped or killed? The same command goes on where it was.",
)
def extend(
    out: Out,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, help="Samples to append.", show_default=False)
    ] = None,
    total: Annotated[
        int | None, typer.Option("--to", metavar="N", min=1, help="Or: samples in all.", show_default=False)
    ] = None,
    bank: BankOption = None,
    workers: WorkersOption = 1,
) -> None:
    """Append samples to a corpus; what is there stays as it is, byte for byte."""
    must_be_corpus(out)
    if (count is None) == (total is None):
        raise typer.BadParameter("give either --count N, samples to append, or --to N, samples in all")
    shared = shared_bank_of(bank)
    from pipeline import extension

    with ConsoleProgress(console) as progress, interruptible():
        outcome = extension.extend(
            out,
            extension.Wish(count, total),
            workers=workers,
            progress=progress,
            announce=progress.announce_stop,
            shared_bank=shared,
        )
    if outcome is None:
        console.print(f"[green]done[/green]: {out} has {total:,} samples already")
        return
    print_summary(outcome.info)
    console.print(f"[green]done[/green]: {out}; check it with [cyan]maphc2f verify {out}[/cyan]")


@app.command(
    rich_help_panel="Make a corpus",
    epilog="Example, with one recipe on two machines: [cyan]maphc2f generate a --config r.yaml --range 0:5000[/cyan]   "
    "[cyan]maphc2f generate b --config r.yaml --range 5000:[/cyan]   and then   [cyan]maphc2f merge a b out[/cyan]",
)
def merge(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B [C...] OUT",
            help="Folders that hold parts of one corpus, and the one to make.",
            show_default=False,
            callback=on_disk,
        ),
    ],
    link: Annotated[
        bool, typer.Option("--link", help="Hard-link files instead of copying them: at once, and without more disk.")
    ] = False,
) -> None:
    """Join the parts of a corpus that were made with `generate --range`, and verify the whole."""
    *parts, out = folders
    if not parts:
        raise typer.BadParameter("give the folders to join and then the folder to make: A B OUT")
    for part in parts:
        must_be_corpus(part)
    from pipeline.merging import merge_corpora

    with ConsoleProgress(console) as progress, interruptible():
        outcome = merge_corpora(
            parts,
            out,
            link=link,
            progress=progress,
            announce=progress.announce_stop,
            advance=progress.count("verifying", "shards"),
        )
    print_summary(outcome.info)
    console.print(f"[green]done[/green]: {out} is whole and verified")


@app.command(
    rich_help_panel="Make a corpus",
    epilog="Example: [cyan]maphc2f repair out[/cyan]   Exit code 1 if something is still wrong afterwards.   "
    "The recipe's options are asked for only where config.json and corpus.json are both damaged.",
)
def repair(
    out: Out,
    sqe: Annotated[
        Path | None, typer.Option("--sqe", metavar="FILE", help="The estimator of a damaged table of scores.")
    ] = None,
    config: ConfigOption = None,
    source: SourceOption = None,
    count: CountOption = None,
    size: SizeOption = None,
    seed: SeedOption = None,
    mechanism: MechanismOption = None,
    policy: PolicyOption = None,
    keep_stages: KeepStagesOption = False,
    workers: WorkersOption = 1,
) -> None:
    """Make again what verification finds damaged or lost, to the same bytes, and nothing else."""
    must_be_corpus(out)
    given = (config, source, count, size, seed, mechanism, policy)
    recipe = recipe_of(*given, keep_stages=keep_stages) if any(value is not None for value in given) else None
    from pipeline.repair import repair_corpus

    with ConsoleProgress(console) as progress, interruptible():
        done = repair_corpus(
            out,
            recipe=recipe,
            sqe=sqe,
            workers=workers,
            progress=progress,
            announce=progress.announce_stop,
            advance=progress.count("verifying", "shards"),
        )
    for what, names in (("restored", done.restored), ("removed", done.removed)):
        for name in names[:_SHOWN]:
            console.print(f"{what} {name}")
        if len(names) > _SHOWN:
            console.print(f"{what} {len(names) - _SHOWN:,} more files")
    for problem in done.report.problems:
        errors.print(f"[red]wrong[/red] {problem}", markup=True)
    if done.report.problems:
        errors.print(f"{len(done.report.problems)} problem(s) left in {out}")
        raise typer.Exit(1)
    if not done.restored and not done.removed:
        console.print(f"[green]verified[/green]: {out} is whole; there is nothing to repair")
        return
    again = f", {done.samples:,} samples made again" if done.samples else ""
    console.print(f"[green]repaired and verified[/green]: {out} ({len(done.restored)} files restored{again})")
