"""What the reference recipe took, from the log of a run: a page with stages, memory, bytes and failures by status.

    maphc2f generate build/reference --config recipes/maphc2f-115987.yaml --scale-test --workers 2
    python -m benchmarks.reference_run build/reference       # writes docs/reference-run.md

Nothing is measured here: the run wrote its own log, and the commit records say what came of it. ``--memory OUT`` takes
the memory from the log of another run, of a part of the recipe (`generate --range`), and says so.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from manifests import layout
from manifests.console import duration_text
from manifests.durable import write_atomic
from manifests.errors import CorpusError
from pipeline.run_log import ResourceSample, RunEntry, read_resources, read_runs, stage_lines
from pipeline.store import read_identity

_ROOT = Path(__file__).resolve().parent.parent
_PICTURE = Path("pictures", "reference-run.png")
_EARLY = 10_000  # samples after which memory is compared with the end's


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the corpus folder, with its log")
    parser.add_argument("--docs", type=Path, default=_ROOT / "docs", help="folder that gets reference-run.md")
    parser.add_argument("--memory", type=Path, metavar="OUT", help="a folder whose run tells the memory instead")
    options = parser.parse_args(arguments)
    run, curve = last_run(options.out)
    told = (
        ""
        if options.memory is None
        else "Memory, and the picture, are of a later run (`--memory`), which made {:,} of the samples. "
    )
    watched, curve = (run, curve) if options.memory is None else last_run(options.memory)
    (options.docs / _PICTURE.parent).mkdir(parents=True, exist_ok=True)
    picture(curve).savefig(options.docs / _PICTURE, dpi=110, metadata={"Software": None})
    write_atomic(
        options.docs / "reference-run.md",
        page(options.out, run, [told.format(watched.samples) + line for line in _memory(watched, curve)]).encode(),
    )
    print(options.docs / "reference-run.md")


def last_run(out: Path) -> tuple[RunEntry, list[ResourceSample]]:
    """The last run of a folder that made samples, and its resources.

    Raises
    ------
    CorpusError
        There is none.
    """
    run = next((entry for entry in reversed(read_runs(out)) if entry.samples), None)
    if run is None:
        raise CorpusError(f"{out}: its log tells of no run that made samples; generate it first")
    return run, [sample for sample in read_resources(out) if sample.elapsed_s <= run.wall_s + 5]


def picture(curve: Sequence[ResourceSample]) -> Figure:
    """Resident memory over the run: the main process, and the largest of the workers."""
    drawn = Figure(figsize=(8, 2.8), layout="constrained")
    ax = drawn.subplots()
    minutes = np.array([sample.elapsed_s for sample in curve]) / 60
    ax.plot(minutes, [sample.main_bytes / 1e9 for sample in curve], color="#202124", lw=1, label="main process")
    largest = [max(sample.worker_bytes, default=0) / 1e9 for sample in curve]
    ax.plot(minutes, largest, color="#b3261e", lw=1, label="largest worker")
    ax.set(xlabel="minutes", ylabel="resident memory, GB", ylim=(0, None))
    ax.legend(frameon=False)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return drawn


def statuses(out: Path) -> Counter[str]:
    """Samples by status, from the commit records: of a run that was stopped too."""
    found: Counter[str] = Counter()
    for path in (out / layout.COMMITS).glob("samples--*.json"):
        found.update(row["status"] for row in json.loads(path.read_bytes())["rows"])
    return found


def page(out: Path, run: RunEntry, memory: Sequence[str]) -> str:
    recipe, by_status = read_identity(out).recipe, statuses(out)
    made, categories = by_status.total(), len([*(out / layout.DATA).glob("*/*/image")])
    stopped = "" if made >= recipe.count else f" **Stopped after {made:,} of them.**"
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file() and layout.LOG not in path.parts)
    making = run.stage_s.get("samples_wall", 0.0)
    lines = [
        "# The reference recipe, whole",
        "",
        "Made by `maphc2f generate build/reference --config recipes/maphc2f-115987.yaml --scale-test --workers",
        f"{run.workers}` and `python -m benchmarks.reference_run build/reference`; do not edit by hand.",
        "",
        f"{recipe.count:,} samples over {categories} categories at {recipe.size} px, with {run.workers} workers on "
        f"{run.cores} cores.{stopped}",
        "The photographs are the embedded ones, in the place of MVTec AD, VisA and BTAD: what is measured is time,",
        "memory and disk.",
        "",
        "| | |",
        "|---|--:|",
        f"| wall clock, all of it | {duration_text(run.wall_s)} |",
        f"| reading photographs | {duration_text(run.stage_s.get('sources', 0.0))} |",
        f"| simulating {sum(run.simulated.values()):,} trajectories | {duration_text(run.stage_s.get('bank', 0.0))} |",
        f"| making samples | {duration_text(making)} |",
        f"| **samples a second, while they are made** | **{run.samples / making:.1f}** |" if making else "",
        f"| samples a second, all of it | {run.samples / run.wall_s:.1f} |",
        f"| bytes | {total / 1e9:.1f} GB, {total / max(made, 1) / 1e3:.0f} kB a sample |",
        f"| files | {sum(1 for path in out.rglob('*') if path.is_file()):,} |",
        "",
        *memory,
        "",
        f"![Memory over the run]({_PICTURE.as_posix()})",
        "",
        "## What became of the samples",
        "",
        "| status | samples | share |",
        "|---|--:|--:|",
        *(
            f"| `{status}` | {count:,} | {100 * count / made:.2f} % |"
            for status, count in sorted(by_status.items(), key=lambda item: -item[1])
        ),
        "",
        "## Where the time goes",
        "",
        "CPU seconds of all workers. A rate is what one core would make if it did nothing else.",
        "",
        "| stage | CPU, s | share | ms a sample | images/s of a core |",
        "|---|--:|--:|--:|--:|",
        *(
            f"| {line.title} | {line.cpu_s:,.1f} | {100 * line.share:.1f} % | {line.sample_ms or 0:.2f} "
            f"| {f'{line.rate:,.0f}' if line.rate else ''} |"
            for line in stage_lines(run)
        ),
        "",
    ]
    return "\n".join(lines)


def _memory(run: RunEntry, curve: Sequence[ResourceSample]) -> list[str]:
    """The most that it came to; and early and late while samples were made."""
    most = [run.peak_bytes.get(name, 0) / 1e9 for name in ("main", "worker")]
    return [f"Most memory: main process {most[0]:.2f} GB, largest worker {most[1]:.2f} GB. " + _flatness(run, curve)]


def _flatness(run: RunEntry, curve: Sequence[ResourceSample]) -> str:
    start = run.wall_s - run.stage_s.get("samples_wall", 0.0) - run.stage_s.get("finalise", 0.0)
    making = [sample for sample in curve if sample.elapsed_s > start]
    if not making or run.samples <= _EARLY:
        return ""
    early = making[min(len(making) - 1, len(making) * _EARLY // run.samples)]
    late = making[int(len(making) * 0.98)]
    told = [
        f"{sample.main_bytes / 1e9:.2f} GB and the largest worker {max(sample.worker_bytes, default=0) / 1e9:.2f} GB"
        for sample in (early, late)
    ]
    return f"After {_EARLY:,} samples the main process held {told[0]}; near the end of making them {told[1]}."


if __name__ == "__main__":
    main()
