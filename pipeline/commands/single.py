"""Commands for one sample: see it with its record (show), and make it again to compare every byte (reproduce)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from manifests.command_line import errors
from manifests.console import duration_text
from manifests.corpus import Corpus
from manifests.object_store import place_of
from pipeline.commands.terminal import (
    Out,
    OutText,
    app,
    console,
    must_be_corpus,
    must_be_picture,
    on_disk,
    save_picture,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from manifests.records import DefectRecord, SampleRecord, SourceRecord

__all__ = ["reproduce", "show"]

_SHOWN = 6  # differences; the others are counted

SampleId = Annotated[
    str, typer.Argument(metavar="SAMPLE_ID", help="Its id, or as much of its beginning as no other has.")
]


@app.command(
    rich_help_panel="Look at it",
    epilog="Examples: [cyan]maphc2f show out 3f9c2a71 --out card.png[/cyan]   "
    "Ids are in [cyan]manifest.parquet[/cyan], and below each row of [cyan]maphc2f sheet out samples.png[/cyan]",
)
def show(
    place: OutText,
    sample_id: SampleId,
    picture: Annotated[
        Path | None,
        typer.Option("--out", metavar="CARD.png", help="Write its picture here instead of opening it."),
    ] = None,
) -> None:
    """Show one sample: its record as a table, and source, fields, stages that are kept, image and mask as a picture."""
    out = place_of(place)
    must_be_corpus(out)
    if picture is not None:
        must_be_picture(picture)
    from pipeline.inspection_card import draw_card, photographs
    from pipeline.lookup import find_sample

    corpus = Corpus(out, statuses=None)
    position = find_sample(corpus, sample_id)
    record = corpus[position].record
    card = draw_card(corpus, position)  # before a word of it is printed: a shard may be damaged
    console.print(_record_table(record, photographs(corpus)[record.dataset, record.category, record.source]))
    console.print(_defects_table(record))
    if picture is not None:
        save_picture(picture, card)
    elif not _opened(card, f"{out.name} {record.id}"):
        console.print("there is no desktop to open its picture on: [cyan]--out card.png[/cyan] writes it")


def _opened(card: Image, title: str) -> bool:
    """Whether a viewer of the desktop took the picture."""
    from PIL import ImageShow

    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        return False
    return ImageShow.show(card, title)


def _record_table(record: SampleRecord, source: SourceRecord) -> Table:
    table = Table(title=f"sample {record.id}", title_justify="left", show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    scored = f"{record.sqe:.3f}" if record.sqe else "not scored"
    box = f"rows {record.bbox_y0} to {record.bbox_y1}, columns {record.bbox_x0} to {record.bbox_x1}"
    strays = record.unlabelled_px + record.unseen_px + record.outside_px + record.off_part_px + record.touching_px
    for what, value in (
        ("status", record.status.value),
        ("category", f"{record.dataset}/{record.category}"),
        ("stored", f"shard {record.shard}, row {record.row}; sample {record.index} of the corpus"),
        ("photograph", f"{source.path} (row {record.source} of `source`)"),
        ("group", f"{record.group} (no photograph or simulation is in two)"),
        ("random stream", record.seed_path),
        ("mask", f"{record.area_px:,} px, {100 * record.area_fraction:.3f} % of the picture"),
        ("box", f"{box}, half open" if record.area_px else "none"),
        ("contrast", f"{record.contrast:.1f} grey levels"),
        ("visibility", f"{record.visibility:.2f} of 4"),
        ("quality (sqe)", scored),
        ("npcF", f"residual {record.residual:.1e} after {record.cycles} cycles" if record.cycles else "not run"),
        ("faint rim", f"{record.faint_px:,} px changed too little to be seen"),
        ("broken promises", f"{strays:,} px" if strays else "none"),
        ("image, mask sha256", f"{record.image_sha256[:16]}, {record.mask_sha256[:16]}"),
    ):
        table.add_row(what, value)
    return table


def _defects_table(record: SampleRecord) -> Table:
    """One column a planned defect."""
    table = Table(title="its defects", title_justify="left")
    table.add_column(style="dim", no_wrap=True)
    for number, defect in enumerate(record.defects, start=1):
        table.add_column(f"{number} {defect.mechanism}")
    for what, value in _DEFECT_FACTS:
        table.add_row(what, *(value(defect) for defect in record.defects))
    return table


def _measured(value: float) -> str:
    return f"{value:.1f} px" if value else "-"


_DEFECT_FACTS: tuple[tuple[str, Callable[[DefectRecord], str]], ...] = (
    ("status", lambda d: d.status.value),
    ("physical", lambda d: "yes" if d.physical else "no, a reference generator"),
    ("trajectory, state", lambda d: f"{d.trajectory}, {d.snapshot}"),
    ("donor", lambda d: f"row {d.donor} of `source`" if d.donor >= 0 else "-"),
    ("severity, asked", lambda d: f"{d.severity:.2f}, {d.asked_severity:.2f}"),
    ("area, asked", lambda d: f"{100 * d.area_fraction:.3f} %, {100 * d.asked_area:.3f} %"),
    ("mask", lambda d: f"{d.area_px:,} px" if d.instance else "none"),
    ("length", lambda d: _measured(d.length_px)),
    ("relief", lambda d: _measured(d.relief_px)),
    ("contrast", lambda d: f"{d.contrast:.1f} grey levels"),
    ("visibility", lambda d: f"{d.visibility:.2f}"),
    ("middle", lambda d: f"{100 * d.center_y:.0f} % down, {100 * d.center_x:.0f} % right"),
    ("turned", lambda d: f"{d.angle_deg:.0f} degrees, dihedral {d.dihedral}"),
    ("draws", lambda d: str(d.attempts)),
)


@app.command(
    rich_help_panel="Look at it",
    epilog="Examples: [cyan]maphc2f reproduce out 3f9c2a71d05be846[/cyan]   "
    "[cyan]maphc2f reproduce out 3f9c --bank-stored --out again[/cyan]   "
    "Exit code 0 if every byte is the same, 1 if one is not.",
)
def reproduce(
    out: Out,
    sample_id: SampleId,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Write what was made: image.png, mask.png, fields.npz.", callback=on_disk
        ),
    ] = None,
    bank_stored: Annotated[
        bool, typer.Option("--bank-stored", help="Take the corpus's own simulations instead of computing them anew.")
    ] = False,
) -> None:
    """Make one sample again from its record, physics included, and compare every byte with the store."""
    must_be_corpus(out)
    corpus = Corpus(out, statuses=None)
    from pipeline import reproduction
    from pipeline.lookup import find_sample

    found = reproduction.reproduce(corpus, find_sample(corpus, sample_id), bank_stored=bank_stored)
    sample = found.made.record
    if folder is not None:
        for path in reproduction.write_sample(folder, found.made):
            console.print(f"[green]written[/green]: {path}")
    physics = f"{found.simulated} simulation(s) {duration_text(found.physics_s)}" if found.simulated else "stored bank"
    took = f"{physics}, the rest {duration_text(found.sample_s)}"
    if not found.differences:
        what = ", ".join(("record", *found.arrays))
        console.print(f"[green]the same[/green]: {sample.id}, every byte of {what} ({took})")
        return
    shown = "; ".join(found.differences[:_SHOWN])
    more = f"; and {len(found.differences) - _SHOWN} more" if len(found.differences) > _SHOWN else ""
    errors.print(f"[red]differs[/red]: {sample.id}: ", end="")
    errors.print(f"{shown}{more} ({found.reason}; {took})", markup=False)
    raise typer.Exit(1)
