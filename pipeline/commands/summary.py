"""A corpus in tables on the terminal: what it holds, what it promises, and how near it came to what was asked."""

from __future__ import annotations

from rich.table import Table

from manifests.corpus import CorpusInfo
from manifests.records import SampleStatus, SourceStatus
from pipeline.commands.terminal import console
from pipeline.remedies import REMEDIES

__all__ = ["print_summary"]


def print_summary(found: CorpusInfo) -> None:
    """Print all of it."""
    statuses = [s.value for s in SampleStatus if found.counts.by_status.get(s.value)]
    table = Table(title=f"{found.name}: {found.counts.total:,} samples", title_justify="left")
    table.add_column("category")
    for status in statuses:
        table.add_column(status, justify="right")
    for key, counts in found.counts.by_category.items():
        table.add_row(key, *[f"{counts.get(status, 0):,}" for status in statuses])
    console.print(table)
    if found.extensions:
        first = found.counts.total - sum(found.extensions)
        added = ", then ".join(f"{count:,}" for count in found.extensions)
        console.print(f"{first:,} samples by the recipe, extended by {added}")
    for status in statuses:
        if status in REMEDIES:
            number = found.counts.by_status[status]
            console.print(f"{number:,} sample{'s' * (number > 1)} without a defect, {status}: {REMEDIES[status]}")
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
