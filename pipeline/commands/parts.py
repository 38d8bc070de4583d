"""What `maphc2f generate --range` does and says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from manifests.console import ConsoleProgress
from pipeline.commands.summary import print_summary
from pipeline.commands.terminal import console, interruptible

if TYPE_CHECKING:
    from pipeline.recipe import Recipe

__all__ = ["generate_part"]


def generate_part(
    out: Path,
    recipe: Recipe,
    text: str,
    *,
    workers: int,
    scheduler: str | None,
    device: str,
    shared_bank: Path | None,
) -> None:
    """Make the samples of ``A:B``, and say which they are in whole shards."""
    from pipeline.generate import generate_share
    from pipeline.sharing import parse_range

    asked = parse_range(text)
    with ConsoleProgress(console) as progress, interruptible():
        made, outcome = generate_share(
            out,
            recipe,
            asked,
            workers=workers,
            scheduler=scheduler,
            device=device,
            progress=progress,
            announce=progress.announce_stop,
            shared_bank=shared_bank,
        )
    said = f"samples {made.start}:{made.stop}"
    if str(asked) != f"{made.start}:{made.stop}":
        said += f", which are the whole shards nearest to {asked}"
    if outcome is None:
        console.print(f"[green]done[/green]: {said}, in {out}; join it with the others by [cyan]maphc2f merge[/cyan]")
    else:
        print_summary(outcome.info)
        console.print(f"[green]done[/green]: {said}; nothing is left, {out} is the whole corpus")
