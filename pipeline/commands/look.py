"""Commands that show: a corpus (info, sheet), sources (inspect), and what there is to ask for (mechanisms, schema)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from manifests.console import ConsoleProgress
from manifests.corpus import Corpus
from manifests.errors import ConfigError, OutputError
from manifests.object_store import place_of
from pipeline.commands.summary import print_summary
from pipeline.commands.terminal import (
    ConfigOption,
    OutText,
    SizeOption,
    SourceOption,
    app,
    console,
    must_be_corpus,
    must_be_picture,
    recipe_of,
    save_picture,
)

__all__ = ["info", "inspect", "mechanisms", "schema", "sheet"]


@app.command(rich_help_panel="Look at it", epilog="Example: [cyan]maphc2f info out --json | jq .counts[/cyan]")
def info(place: OutText, as_json: Annotated[bool, typer.Option("--json", help="Print corpus.json.")] = False) -> None:
    """Say what a corpus holds."""
    out = place_of(place)
    must_be_corpus(out)
    corpus = Corpus(out)
    if as_json:
        sys.stdout.write(json.dumps(corpus.info.model_dump(mode="json"), indent=2) + "\n")
        return
    print_summary(corpus.info)


@app.command(
    rich_help_panel="Look at it",
    epilog="Example: [cyan]maphc2f inspect --source mvtec:data/bottle bottle.png[/cyan]   "
    "Wrong outline? Set foreground.overrides in the recipe, or give masks.",
)
def inspect(
    picture: Annotated[Path, typer.Argument(metavar="OUT.png", help="The picture to write.", show_default=False)],
    source: SourceOption = None,
    config: ConfigOption = None,
    size: SizeOption = None,
) -> None:
    """Draw what was found of a source: thumbnails with the part's outline, and files that cannot be used."""
    must_be_picture(picture)
    recipe = recipe_of(config, source, None, size, None)
    from pipeline.inspection import draw_inspection
    from pipeline.inventory import find_categories, inspect_category

    with ConsoleProgress(console) as progress:
        categories = find_categories(recipe)
        advance = progress.count("inspecting", "categories", total=len(categories))
        looked = []
        for number, category in enumerate(categories):
            looked.append(inspect_category(recipe, category))
            advance(number + 1, len(categories))
    save_picture(picture, draw_inspection(looked))
    for found in looked:
        console.print(f"{found.dataset}/{found.category}: {found.mode} ({found.evidence})")
        for path, why in found.unusable:
            console.print(f"  [yellow]not usable[/yellow] {path}: {why}")


@app.command(
    rich_help_panel="Look at it",
    epilog="Examples: [cyan]maphc2f sheet out cracks.png --mechanism fracture --count 50[/cyan]   "
    "[cyan]maphc2f sheet out card.png --stages --sample 3f9c2a71d05be846[/cyan]",
)
def sheet(
    place: OutText,
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
    out = place_of(place)
    must_be_corpus(out)
    must_be_picture(picture)
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
        save_picture(picture, draw_cards(corpus, choose_evenly(corpus, count or 6)))
    else:
        save_picture(picture, draw_sheet(corpus, choose_evenly(corpus, count or 24)))


@app.command(
    rich_help_panel="Look at it",
    epilog="Examples: [cyan]maphc2f mechanisms[/cyan]   [cyan]maphc2f mechanisms pitting[/cyan]",
)
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


@app.command(rich_help_panel="Look at it", epilog="Example: [cyan]maphc2f schema > recipe.schema.json[/cyan]")
def schema() -> None:
    """Print the JSON Schema of a recipe: every setting with its default, bounds and meaning."""
    from pipeline.recipe import Recipe

    sys.stdout.write(json.dumps(Recipe.model_json_schema(), indent=2) + "\n")
