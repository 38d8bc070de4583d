"""Commands that make a corpus and keep it sound: generate, plan, bank, score, verify."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from manifests import layout
from manifests.command_line import errors
from manifests.console import ConsoleProgress, bytes_text, duration_text
from manifests.corpus import Corpus
from manifests.object_store import place_of
from pipeline.commands.parts import generate_part
from pipeline.commands.summary import print_summary
from pipeline.commands.terminal import (
    BankOption,
    ConfigOption,
    CountOption,
    DeviceOption,
    KeepStagesOption,
    MechanismOption,
    OutText,
    PolicyOption,
    ScaleTestOption,
    SchedulerOption,
    SeedOption,
    SizeOption,
    SourceOption,
    WorkersOption,
    app,
    console,
    interruptible,
    must_be_corpus,
    must_be_folder,
    must_be_picture,
    must_be_scheduler,
    recipe_of,
    save_picture,
    shared_bank_of,
)

__all__ = ["bank", "generate", "plan", "score", "verify"]


@app.command(
    rich_help_panel="Make a corpus",
    epilog="Examples: [cyan]maphc2f generate out --source mvtec:data/bottle --count 1000[/cyan]   "
    "[cyan]maphc2f generate out --config recipes/demo.yaml --workers 4[/cyan]   "
    "[cyan]maphc2f generate big --config recipes/maphc2f-115987.yaml --scale-test --workers 8[/cyan]   "
    "On a Dask cluster: [cyan]maphc2f generate /shared/out --count 5000 --scheduler tcp://host:8786[/cyan]   "
    "Stopped or killed? The same command goes on where it was.",
)
def generate(
    place: OutText,
    config: ConfigOption = None,
    source: SourceOption = None,
    count: CountOption = None,
    size: SizeOption = None,
    seed: SeedOption = None,
    mechanism: MechanismOption = None,
    policy: PolicyOption = None,
    bank: BankOption = None,
    keep_stages: KeepStagesOption = False,
    scale_test: ScaleTestOption = False,
    part: Annotated[
        str | None,
        typer.Option(
            "--range", metavar="A:B", help="Make only samples A to B-1, in whole shards; see `maphc2f merge`."
        ),
    ] = None,
    workers: WorkersOption = 1,
    scheduler: SchedulerOption = None,
    device: DeviceOption = "auto",
    profile: Annotated[
        bool, typer.Option("--profile", help="Say at the end where the time went; OUT/log has it always.")
    ] = False,
) -> None:
    """Make a corpus, or go on with one that was interrupted."""
    out = place_of(place)
    if scheduler is not None:
        must_be_scheduler(scheduler, workers)
    recipe = recipe_of(
        config, source, count, size, seed, mechanism, policy, keep_stages=keep_stages, scale_test=scale_test
    )
    shared = shared_bank_of(bank)
    if part is not None:
        folder = must_be_folder(out, "--range")
        generate_part(folder, recipe, part, workers=workers, scheduler=scheduler, device=device, shared_bank=shared)
        return
    from pipeline import generate as job  # heavy imports (torch, Dask, Numba) only where and when they are needed
    from pipeline.commands.profile import print_profile
    from pipeline.run_log import read_runs

    with ConsoleProgress(console) as progress, interruptible():
        outcome = job.generate(
            out,
            recipe,
            workers=workers,
            scheduler=scheduler,
            device=device,
            progress=progress,
            announce=progress.announce_stop,
            shared_bank=shared,
        )
    print_summary(outcome.info)
    if profile:
        print_profile(read_runs(out)[-1])
    console.print(f"[green]done[/green]: {out}; check it with [cyan]maphc2f verify {out}[/cyan]")


@app.command(
    rich_help_panel="Make a corpus",
    epilog="Examples: [cyan]maphc2f plan out --config recipes/mtd.yaml[/cyan]   "
    "More of what helped a trainer: [cyan]maphc2f plan next --config recipes/mtd.yaml --policy run/policy.json[/cyan]",
)
def plan(
    place: OutText,
    config: ConfigOption = None,
    source: SourceOption = None,
    count: CountOption = None,
    size: SizeOption = None,
    seed: SeedOption = None,
    mechanism: MechanismOption = None,
    policy: PolicyOption = None,
    keep_stages: KeepStagesOption = False,
    scale_test: ScaleTestOption = False,
    workers: WorkersOption = 1,
) -> None:
    """Write the plan, show it, and estimate time and disk from a few samples made for the purpose."""
    out = place_of(place)
    recipe = recipe_of(
        config, source, count, size, seed, mechanism, policy, keep_stages=keep_stages, scale_test=scale_test
    )
    from pipeline import estimate
    from pipeline import generate as job
    from pipeline.mirror import looked_into
    from pipeline.sharing import shards_of

    with ConsoleProgress(console) as progress, interruptible():
        prepared = job.prepare(out, recipe, workers=workers, progress=progress)
    table = Table(
        title=f"plan of {recipe.name}: {len(prepared.plan):,} samples at {recipe.size} px", title_justify="left"
    )
    for heading in ("category", "photographs", "samples", "mechanisms", "shards"):
        table.add_column(heading, justify="left" if heading in {"category", "mechanisms"} else "right")
    photographs = Counter(f"{row.dataset}/{row.category}" for row in prepared.sources if row.index >= 0)
    mechanism_of = prepared.plan.column("mechanism")
    shards = shards_of(prepared.plan)
    for key, number in photographs.items():
        mine = [rows for (name, _), rows in shards if name == key]
        mix = Counter(name for rows in mine for name in mechanism_of[rows.start : rows.stop])
        mechanisms = ", ".join(f"{name} {n:,}" for name, n in mix.items())
        table.add_row(key, f"{number:,}", f"{sum(map(len, mine)):,}", mechanisms, str(len(mine)))
    console.print(table)
    with looked_into(out) as (folder, _):
        expected = estimate.measure(folder, recipe, prepared)
    console.print(
        f"about [bold]{duration_text(expected.seconds / workers)}[/bold] on {workers} worker(s) and "
        f"[bold]{bytes_text(expected.bytes)}[/bold] of disk, measured on {expected.measured} samples "
        f"({1 / expected.sample_s:.0f} images/s and {1e3 * expected.trajectory_s:.0f} ms a trajectory on one worker)"
    )


@app.command(
    rich_help_panel="Make a corpus",
    epilog="Examples: [cyan]maphc2f verify out[/cyan]   [cyan]maphc2f verify big --workers 8[/cyan]   "
    "Exit code 1 if anything is wrong.",
)
def verify(place: OutText, workers: WorkersOption = 1) -> None:
    """Check a corpus from its files up, and say exactly what is wrong."""
    out = place_of(place)
    must_be_corpus(out)
    from pipeline.verification import verify_corpus

    with ConsoleProgress(console) as progress:
        report = verify_corpus(out, workers=workers, advance=progress.count("verifying", "shards"))
    for problem in report.problems:
        errors.print(f"[red]wrong[/red] {problem}", markup=True)
    counts = f"{report.samples:,} samples, {report.files:,} files, {bytes_text(report.bytes)}"
    if report.problems:
        errors.print(f"{len(report.problems)} problem(s) in {out} ({counts})")
        raise typer.Exit(1)
    console.print(f"[green]verified[/green]: {out} is whole ({counts})")


@app.command(
    rich_help_panel="Make a corpus",
    epilog="Examples: [cyan]maphc2f score out[/cyan]   [cyan]maphc2f score out --sqe sqe.safetensors[/cyan]   "
    "`bisqad export RUN --sqe sqe.safetensors` gives an estimator that a detector has taught.",
)
def score(
    place: OutText,
    sqe: Annotated[
        Path | None, typer.Option("--sqe", metavar="FILE", help="The estimator; default: the one shipped.")
    ] = None,
) -> None:
    """Score the samples of a finished corpus by an estimator; no picture is touched."""
    out = place_of(place)
    must_be_corpus(out)
    from pipeline.scoring import score_corpus

    with ConsoleProgress(console) as progress:
        made = score_corpus(out, sqe, advance=progress.count("scoring", "samples"))
    quality, weight = Corpus(out).scores(made.sqe_sha256)
    table = Table(title=f"estimator {made.sqe_sha256[:12]} on {made.samples:,} samples", title_justify="left")
    for heading in ("", "least", "5 %", "median", "mean", "95 %", "most"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, values in (("quality", quality), ("weight", weight)):
        if len(values):
            low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
            cells = (values.min(), low, middle, values.mean(), high, values.max())
            table.add_row(name, *(f"{float(cell):.3f}" for cell in cells))
    console.print(table)
    console.print(f"[green]done[/green]: {out / made.path}; in Python: Corpus(...).scores({made.sqe_sha256[:12]!r})")


@app.command(
    rich_help_panel="Make a corpus",
    epilog="Example: [cyan]maphc2f bank out --source mvtec:data/bottle --count 1000[/cyan]   "
    "Then, for another recipe with the same mechanisms and seed: [cyan]maphc2f generate more --bank out …[/cyan]   "
    "Of a corpus that is there, show its bank: [cyan]maphc2f bank out --picture bank.png[/cyan]",
)
def bank(
    place: OutText,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="PICTURE.png", help="Where to draw it; default: OUT-bank.png.")
    ] = None,
    config: ConfigOption = None,
    source: SourceOption = None,
    count: CountOption = None,
    size: SizeOption = None,
    seed: SeedOption = None,
    mechanism: MechanismOption = None,
    policy: PolicyOption = None,
    shared: BankOption = None,
    workers: WorkersOption = 1,
) -> None:
    """Simulate the trajectories that a recipe needs, or show those of a corpus: size, cost and a picture."""
    out = place_of(place)
    beside = out.absolute() if isinstance(out, Path) else Path(out.name).absolute()
    target = picture or beside.with_name(f"{beside.name}-bank.png")
    must_be_picture(target)
    from pipeline import generate as job
    from pipeline.bank_sheet import draw_bank
    from pipeline.bank_summary import summarise_bank
    from pipeline.mirror import looked_into
    from pipeline.store import open_output, read_identity

    given = (config, source, count, size, seed, mechanism, policy)
    with looked_into(out) as (folder, _):
        is_there = (folder / layout.CONFIG).is_file() and not any(given)
        recipe = read_identity(folder).recipe if is_there else recipe_of(*given)
        is_finished = (folder / layout.CORPUS).is_file()
        if is_finished and not is_there:
            open_output(folder, recipe)  # refuses another recipe than the corpus was made with
    if not is_finished:
        with ConsoleProgress(console) as progress, interruptible():
            job.fill_bank(
                out,
                recipe,
                workers=workers,
                progress=progress,
                announce=progress.announce_stop,
                shared_bank=shared_bank_of(shared),
            )
    with looked_into(out, stages=["bank"]) as (folder, _):
        found = summarise_bank(folder, recipe)
        drawn = draw_bank(folder, recipe, {row.mechanism: row.unbroken for row in found})
    table = Table(title=f"bank of {recipe.name}", title_justify="left")
    for heading in ("mechanism", "trajectories", "states", "disk", "simulated in", "a trajectory", "a state"):
        table.add_column(heading, justify="left" if heading == "mechanism" else "right")
    for row in found:
        cost = duration_text(row.seconds) if row.seconds else "copied"
        per_one = f"{1e3 * row.seconds / row.simulated:.0f} ms" if row.simulated else "-"
        per_state = f"{1e3 * row.seconds / (row.simulated * row.states):.1f} ms" if row.simulated else "-"
        table.add_row(
            row.mechanism, f"{row.trajectories:,}", str(row.states), bytes_text(row.bytes), cost, per_one, per_state
        )
    console.print(table)
    save_picture(target, drawn)
