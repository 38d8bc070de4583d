"""The command line: ``maphc2f generate | plan | bank | score | verify | info | inspect | sheet | mechanisms | schema``.

Exit codes: 0 done, 1 found wrong, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import manifests
from manifests import layout
from manifests.command_line import errors, run_program
from manifests.config import RefineStage, parse_source
from manifests.console import ConsoleProgress, bytes_text, duration_text
from manifests.corpus import Corpus, CorpusInfo
from manifests.errors import ConfigError, OutputError
from manifests.policy import read_policy
from manifests.records import SampleStatus, SourceStatus

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipeline.recipe import Recipe

__all__ = ["app", "main"]

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


_REMEDIES: dict[str, str] = {
    SampleStatus.OFF_FOREGROUND: "no place on the part was found; look at `maphc2f inspect`",
    SampleStatus.INVISIBLE: "nothing differs visibly; raise the mechanism's area, or lower label.visible_threshold",
    SampleStatus.AREA_BELOW: "smaller than label.min_area; lower it, or raise the mechanism's area or placement.extent",
    SampleStatus.AREA_ABOVE: "larger than label.max_area; raise it, or lower the mechanism's area or placement.extent",
    SampleStatus.NOT_CONVERGED: "npcF stayed above npcf.tolerance; raise npcf.max_cycles",
    SampleStatus.HIDDEN: "the material's own texture hides it; raise severity or area, or lower label.least_visibility",
    SampleStatus.POOR: "its quality is below sqe.least; lower that, or look at the mechanism with `maphc2f sheet`",
    SampleStatus.CROWDED: "no free place beside the other defects; lower placement.defects or the areas",
}


app = typer.Typer(
    name="maphc2f",
    help="From photographs of normal parts, write a corpus of physically grounded synthetic defects.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console(highlight=False, soft_wrap=True)

Out = Annotated[Path, typer.Argument(metavar="OUT", help="The corpus folder.", show_default=False)]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="RECIPE.yaml", help="Recipe to start from; options go before it.")
]
SourceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="KIND:PATH",
        help="Where normal photographs are: builtin, folder:PATH, mvtec:PATH, visa:PATH or btad:PATH; may be repeated.",
    ),
]
CountOption = Annotated[int | None, typer.Option("--count", metavar="N", help="Samples in all.")]
SizeOption = Annotated[int | None, typer.Option("--size", metavar="S", help="Side of the pictures in pixels.")]
SeedOption = Annotated[int | None, typer.Option("--seed", metavar="K", help="Root of all random streams.")]
MechanismOption = Annotated[
    list[str] | None,
    typer.Option("--mechanism", metavar="M", help="Only this mechanism, see `maphc2f mechanisms`; may be repeated."),
]
PolicyOption = Annotated[
    Path | None,
    typer.Option(
        "--policy", metavar="POLICY.json", help="What to hold more of, and less: policy.json of `bisqad train`."
    ),
]
BankOption = Annotated[
    Path | None,
    typer.Option(
        "--bank",
        metavar="DIR",
        envvar="MAPHC2F_BANK",
        help="Another corpus or bank: trajectories that it holds are copied, not computed.",
    ),
]
KeepStagesOption = Annotated[
    bool, typer.Option("--keep-stages", help="Store paste, render and npcF beside each picture, for `sheet --stages`.")
]
WorkersOption = Annotated[int, typer.Option("--workers", metavar="W", min=1, max=1024, help="Processes that compute.")]


def _recipe(
    config: Path | None,
    source: Sequence[str] | None,
    count: int | None,
    size: int | None,
    seed: int | None,
    mechanism: Sequence[str] | None = None,
    policy: Path | None = None,
    *,
    keep_stages: bool = False,
) -> Recipe:
    from pipeline.recipe import load_recipe, only_mechanisms  # it knows the solvers, and those load Numba

    overrides: dict[str, object] = {
        name: value for name, value in (("count", count), ("size", size), ("seed", seed)) if value is not None
    }
    if policy is not None:
        overrides["policy"] = read_policy(policy)
    if source:
        overrides["sources"] = [parse_source(text).model_dump(exclude_none=True) for text in source]
    recipe = load_recipe(config, overrides=overrides)
    if keep_stages:
        store = recipe.store.model_copy(update={"stages": get_args(RefineStage)})
        recipe = recipe.model_copy(update={"store": store})
    return only_mechanisms(recipe, mechanism) if mechanism else recipe


@contextmanager
def _interruptible() -> Iterator[None]:
    """What the job calls an interruption is one for the shell."""
    from pipeline.generate import Interrupted

    try:
        yield
    except Interrupted:
        raise KeyboardInterrupt from None


def _shared_bank(folder: Path | None) -> Path | None:
    if folder is not None and not (folder / layout.COMMITS).is_dir():
        raise OutputError(f"--bank {folder}: holds no bank; give the folder that generate or bank wrote")
    return folder


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


@app.command(
    epilog="Examples: [cyan]maphc2f generate out --source mvtec:data/bottle --count 1000[/cyan]   "
    "[cyan]maphc2f generate out --config recipes/demo.yaml --workers 4[/cyan]   "
    "Stopped or killed? The same command goes on where it was."
)
def generate(
    out: Out,
    config: ConfigOption = None,
    source: SourceOption = None,
    count: CountOption = None,
    size: SizeOption = None,
    seed: SeedOption = None,
    mechanism: MechanismOption = None,
    policy: PolicyOption = None,
    bank: BankOption = None,
    keep_stages: KeepStagesOption = False,
    workers: WorkersOption = 1,
) -> None:
    """Make a corpus, or go on with one that was interrupted."""
    recipe = _recipe(config, source, count, size, seed, mechanism, policy, keep_stages=keep_stages)
    shared = _shared_bank(bank)
    from pipeline import generate as job  # heavy imports (torch, Dask, Numba) only where and when they are needed

    with ConsoleProgress(console) as progress, _interruptible():
        outcome = job.generate(
            out, recipe, workers=workers, progress=progress, announce=progress.announce_stop, shared_bank=shared
        )
    _print_summary(outcome.info)
    console.print(f"[green]done[/green]: {out}; check it with [cyan]maphc2f verify {out}[/cyan]")


@app.command(
    epilog="Examples: [cyan]maphc2f plan out --config recipes/mtd.yaml[/cyan]   "
    "More of what helped a trainer: [cyan]maphc2f plan next --config recipes/mtd.yaml --policy run/policy.json[/cyan]"
)
def plan(
    out: Out,
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
    """Write the plan, show it, and estimate time and disk from a few samples made for the purpose."""
    recipe = _recipe(config, source, count, size, seed, mechanism, policy, keep_stages=keep_stages)
    from pipeline import estimate
    from pipeline import generate as job

    with ConsoleProgress(console) as progress, _interruptible():
        prepared = job.prepare(out, recipe, workers=workers, progress=progress)
    table = Table(
        title=f"plan of {recipe.name}: {len(prepared.plan):,} samples at {recipe.size} px", title_justify="left"
    )
    for heading in ("category", "photographs", "samples", "mechanisms", "shards"):
        table.add_column(heading, justify="left" if heading in {"category", "mechanisms"} else "right")
    photographs = Counter(f"{row.dataset}/{row.category}" for row in prepared.sources if row.index >= 0)
    for key, number in photographs.items():
        rows = [row for row in prepared.plan if f"{row.dataset}/{row.category}" == key]
        mix = Counter(row.mechanism for row in rows)
        mechanisms = ", ".join(f"{name} {n:,}" for name, n in mix.items())
        table.add_row(key, f"{number:,}", f"{len(rows):,}", mechanisms, str(len({row.shard for row in rows})))
    console.print(table)
    expected = estimate.measure(out, recipe, prepared)
    console.print(
        f"about [bold]{duration_text(expected.seconds / workers)}[/bold] on {workers} worker(s) and "
        f"[bold]{bytes_text(expected.bytes)}[/bold] of disk, measured on {expected.measured} samples "
        f"({1 / expected.sample_s:.0f} images/s and {1e3 * expected.trajectory_s:.0f} ms a trajectory on one worker)"
    )


@app.command(epilog="Example: [cyan]maphc2f verify out[/cyan]   Exit code 1 if anything is wrong.")
def verify(out: Out) -> None:
    """Check a corpus from its files up, and say exactly what is wrong."""
    _must_be_corpus(out)
    from pipeline.verification import verify_corpus

    with ConsoleProgress(console) as progress:
        report = verify_corpus(out, advance=progress.count("verifying", "shards"))
    for problem in report.problems:
        errors.print(f"[red]wrong[/red] {problem}", markup=True)
    counts = f"{report.samples:,} samples, {report.files:,} files, {bytes_text(report.bytes)}"
    if report.problems:
        errors.print(f"{len(report.problems)} problem(s) in {out} ({counts})")
        raise typer.Exit(1)
    console.print(f"[green]verified[/green]: {out} is whole ({counts})")


@app.command(
    epilog="Examples: [cyan]maphc2f score out[/cyan]   [cyan]maphc2f score out --sqe sqe.safetensors[/cyan]   "
    "`bisqad export RUN --sqe sqe.safetensors` gives an estimator that a detector has taught."
)
def score(
    out: Out,
    sqe: Annotated[
        Path | None, typer.Option("--sqe", metavar="FILE", help="The estimator; default: the one shipped.")
    ] = None,
) -> None:
    """Score the samples of a finished corpus by an estimator; no picture is touched."""
    _must_be_corpus(out)
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


@app.command(epilog="Example: [cyan]maphc2f info out --json | jq .counts[/cyan]")
def info(out: Out, as_json: Annotated[bool, typer.Option("--json", help="Print corpus.json.")] = False) -> None:
    """Say what a corpus holds."""
    _must_be_corpus(out)
    corpus = Corpus(out)
    if as_json:
        sys.stdout.write(json.dumps(corpus.info.model_dump(mode="json"), indent=2) + "\n")
        return
    _print_summary(corpus.info)


@app.command(
    epilog="Example: [cyan]maphc2f inspect --source mvtec:data/bottle bottle.png[/cyan]   "
    "Wrong outline? Set foreground.overrides in the recipe, or give masks."
)
def inspect(
    picture: Annotated[Path, typer.Argument(metavar="OUT.png", help="The picture to write.", show_default=False)],
    source: SourceOption = None,
    config: ConfigOption = None,
    size: SizeOption = None,
) -> None:
    """Draw what was found of a source: thumbnails with the part's outline, and files that cannot be used."""
    _must_be_picture(picture)
    recipe = _recipe(config, source, None, size, None)
    from pipeline.inspection import draw_inspection
    from pipeline.inventory import find_categories, inspect_category

    with ConsoleProgress(console) as progress:
        categories = find_categories(recipe)
        advance = progress.count("inspecting", "categories", total=len(categories))
        looked = []
        for number, category in enumerate(categories):
            looked.append(inspect_category(recipe, category))
            advance(number + 1, len(categories))
    _save(picture, draw_inspection(looked))
    for found in looked:
        console.print(f"{found.dataset}/{found.category}: {found.mode} ({found.evidence})")
        for path, why in found.unusable:
            console.print(f"  [yellow]not usable[/yellow] {path}: {why}")


@app.command(
    epilog="Examples: [cyan]maphc2f sheet out cracks.png --mechanism fracture --count 50[/cyan]   "
    "[cyan]maphc2f sheet out card.png --stages --sample 3f9c2a71d05be846[/cyan]"
)
def sheet(
    out: Out,
    picture: Annotated[Path, typer.Argument(metavar="PICTURE.png", help="The picture to write.", show_default=False)],
    mechanism: Annotated[str | None, typer.Option("--mechanism", metavar="M", help="Only this mechanism.")] = None,
    category: Annotated[str | None, typer.Option("--category", metavar="C", help="Only this category.")] = None,
    sample: Annotated[str | None, typer.Option("--sample", metavar="ID", help="Only the sample of this id.")] = None,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, max=1000, help="How many; default: 24, or 6 cards.")
    ] = None,
    stages: Annotated[
        bool, typer.Option("--stages", help="Draw inspection cards: every stage that was kept, whole and at 4x.")
    ] = False,
) -> None:
    """Draw samples side by side: source, image, mask and fields; or, with --stages, how each came to be."""
    _must_be_corpus(out)
    _must_be_picture(picture)
    from pipeline.contact_sheet import choose_evenly, draw_sheet
    from pipeline.inspection_card import draw_cards

    corpus = Corpus(out)
    for option, column, wanted in (
        ("mechanism", "mechanism", mechanism),
        ("category", "category", category),
        ("sample", "id", sample),
    ):
        if wanted is not None:
            known = sorted(set(corpus.table.column(column).to_pylist()))
            if wanted not in known:
                there = f"{', '.join(known[:12])}{', ...' if len(known) > 12 else ''}" or "nothing"
                raise OutputError(f"--{option} {wanted!r}: not in {out}; there is {there}")
            corpus = corpus.where(**{column: wanted})
    if stages:
        _save(picture, draw_cards(corpus, choose_evenly(corpus, count or 6)))
    else:
        _save(picture, draw_sheet(corpus, choose_evenly(corpus, count or 24)))


@app.command(epilog="Examples: [cyan]maphc2f mechanisms[/cyan]   [cyan]maphc2f mechanisms pitting[/cyan]")
def mechanisms(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show the parameters of this one.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/mechanisms.md.")] = False,
) -> None:
    """List the mechanisms: what each solves, which fields its samples have, and what it can be told."""
    from physics.registry import MECHANISMS
    from pipeline.mechanism_reference import mechanism_reference, parameter_rows

    if markdown:
        sys.stdout.write(mechanism_reference())
        return
    if name is not None:
        if name not in MECHANISMS:
            raise ConfigError(f"mechanism {name!r}: there is none of this name; there are {', '.join(MECHANISMS)}")
        known = MECHANISMS[name]
        console.print(f"[bold]{known.title}[/bold] ({name}): {known.summary}")
        if not known.physical:
            console.print("A reference generator, not physical: it takes part only where a recipe names it.")
        table = Table("parameter", "default", "unit", "meaning")
        for row in parameter_rows(known.params()):
            table.add_row(*row)
        console.print(table)
        return
    table = Table(show_lines=True)
    for heading in ("name", "what is solved", "physical", "fields", "states"):
        table.add_column(heading)
    for known in MECHANISMS.values():
        fields, states = ", ".join(known.fields), str(known.params().snapshots)
        table.add_row(known.name, known.summary, "yes" if known.physical else "no", fields, states)
    console.print(table)
    console.print("One that is not physical is a reference generator: it takes part only where a recipe names it.")


@app.command(
    epilog="Example: [cyan]maphc2f bank out --source mvtec:data/bottle --count 1000[/cyan]   "
    "Then, for another recipe with the same mechanisms and seed: [cyan]maphc2f generate more --bank out …[/cyan]   "
    "Of a corpus that is there, show its bank: [cyan]maphc2f bank out --picture bank.png[/cyan]"
)
def bank(
    out: Out,
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
    target = picture or out.absolute().with_name(f"{out.absolute().name}-bank.png")
    _must_be_picture(target)
    from pipeline import generate as job
    from pipeline.bank_sheet import draw_bank
    from pipeline.bank_summary import summarise_bank
    from pipeline.store import open_output, read_identity

    given = (config, source, count, size, seed, mechanism, policy)
    is_there = (out / layout.CONFIG).is_file() and not any(given)
    recipe = read_identity(out).recipe if is_there else _recipe(*given)
    if (out / layout.CORPUS).is_file():
        if not is_there:
            open_output(out, recipe)  # refuses another recipe than the corpus was made with
    else:
        with ConsoleProgress(console) as progress, _interruptible():
            job.fill_bank(
                out,
                recipe,
                workers=workers,
                progress=progress,
                announce=progress.announce_stop,
                shared_bank=_shared_bank(shared),
            )
    found = summarise_bank(out, recipe)
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
    _save(target, draw_bank(out, recipe, {row.mechanism: row.trajectories for row in found}))


@app.command(epilog="Example: [cyan]maphc2f schema > recipe.schema.json[/cyan]")
def schema() -> None:
    """Print the JSON Schema of a recipe: every setting with its default, bounds and meaning."""
    from pipeline.recipe import Recipe

    sys.stdout.write(json.dumps(Recipe.model_json_schema(), indent=2) + "\n")


def _must_be_corpus(out: Path) -> None:
    """Tell a wrong path (bad input) from a corpus that is damaged or not finished (found wrong)."""
    if not out.exists():
        raise OutputError(f"{out}: does not exist; give the folder that generate wrote")
    if not any((out / name).exists() for name in layout.TOP_LEVEL - {layout.DATA, layout.LOG}):
        raise OutputError(f"{out}: is not a corpus; give the folder that generate wrote")


def _must_be_picture(picture: Path) -> None:
    if picture.suffix.lower() not in _PICTURE_SUFFIXES or picture.is_dir():
        raise OutputError(
            f"{picture}: expected a picture's name that ends in {', '.join(_PICTURE_SUFFIXES)}, "
            f"got {'a folder' if picture.is_dir() else repr(picture.name)}"
        )


def _save(picture: Path, image: Image) -> None:
    from pipeline.store import output_errors

    with output_errors(picture):
        picture.parent.mkdir(parents=True, exist_ok=True)
        image.save(picture)
    console.print(f"[green]written[/green]: {picture} ({image.width} x {image.height} px)")


def _print_summary(found: CorpusInfo) -> None:
    statuses = [s.value for s in SampleStatus if found.counts.by_status.get(s.value)]
    table = Table(title=f"{found.name}: {found.counts.total:,} samples", title_justify="left")
    table.add_column("category")
    for status in statuses:
        table.add_column(status, justify="right")
    for key, counts in found.counts.by_category.items():
        table.add_row(key, *[f"{counts.get(status, 0):,}" for status in statuses])
    console.print(table)
    for status in statuses:
        if status in _REMEDIES:
            number = found.counts.by_status[status]
            console.print(f"{number:,} sample{'s' * (number > 1)} without a defect, {status}: {_REMEDIES[status]}")
    spread = Table(title="accepted samples", title_justify="left")
    spread.add_column("figure")
    for heading in ("least", "5 %", "median", "95 %", "most"):
        spread.add_column(heading, justify="right")
    for name, s in found.statistics.items():
        spread.add_row(name, *[f"{v:.4g}" for v in (s.least, s.p05, s.median, s.p95, s.most)])
    console.print(spread)
    bad = {name: n for name, n in found.counts.sources.items() if name != SourceStatus.OK}
    usable = found.counts.sources.get(SourceStatus.OK.value, 0)
    unused = f"; not usable: {', '.join(f'{n} {name}' for name, n in sorted(bad.items()))}" if bad else ""
    console.print(f"{usable:,} photographs, {sum(found.counts.trajectories.values()):,} trajectories{unused}")
    references = [name for name, mechanism in found.mechanisms.items() if not mechanism.physical]
    if references:
        mix = ", ".join(f"{name} {found.counts.defects.get(name, 0):,}" for name in references)
        console.print(f"defects of reference generators, not physical: {mix} (column physical)")
    _print_invariants(found)
    _print_distributions(found)
    for licence in sorted({entry.licence for entry in found.licences}):
        console.print(f"licence of sources: {licence}")


def _print_invariants(found: CorpusInfo) -> None:
    kept = found.invariants
    table = Table(title=f"what must not be, counted over all {kept.samples:,} samples", title_justify="left")
    for heading in ("what", "pixels", "samples"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for what, pixels, samples in (
        ("changed outside the support", kept.changed_outside_support_px, None),
        ("visibly changed outside the mask", kept.unlabelled_px, None),
        ("mask without a visible change", kept.unseen_px, None),
        ("mask off the part", kept.off_part_px, None),
        ("mask empty", None, kept.empty_masks),
        ("area out of bounds", None, kept.out_of_bounds),
        ("defects that touch each other", None, kept.instances_touching),
    ):
        table.add_row(what, _tally(pixels), _tally(samples))
    console.print(table)
    console.print(f"outside the mask, changed too faintly to be seen: {100 * kept.faint_share:.1f} % of the mask")


def _tally(number: int | None) -> str:
    return "" if number is None else f"[red]{number:,}[/red]" if number else "[green]0[/green]"


def _print_distributions(found: CorpusInfo) -> None:
    table = Table(title="asked of the recipe, and got: 5, 50 and 95 % lie below", title_justify="left")
    for heading in ("mechanism", "quantity", "asked", "got", "gap"):
        table.add_column(heading, justify="left" if heading in {"mechanism", "quantity"} else "right", no_wrap=True)
    for row in found.distributions:
        asked, got = (" ".join(f"{v[k]:.2g}" for k in (0, 2, 4)) if v else "-" for v in (row.asked, row.got))
        table.add_row(row.mechanism, row.quantity, asked, got, f"{100 * row.distance:.0f} %")
    console.print(table)


def main() -> None:
    """Entry point."""
    run_program(app, "maphc2f", kept="what is finished is kept")


if __name__ == "__main__":
    main()
