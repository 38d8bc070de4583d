"""The model behind docs/scaling.md, its figures in words, and its picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import psutil

mpl.use("Agg")
import matplotlib.pyplot as plt

__all__ = ["Costs", "Finalised", "Limit", "Results", "Simulated", "limits", "wall_s", "write_page"]

SHARD_ROWS = 256
TARGETS = (115_987, 10_000_000)
FLEETS = (1, 16, 128, 1000)
# Published, not measured here: Amazon S3's user guide, "Best practices design patterns: optimizing performance"
PUTS_PER_PREFIX = 3_500
NETWORK_BYTES = 10e9 / 8  # of one link of 10 Gbit/s, for orientation


@dataclass(frozen=True)
class Costs:
    """CPU milliseconds of a sample (and by stage) and of a trajectory; bytes a sample, on disk and in its record; of a
    shard its files, fsyncs and largest number of rows; CPU microseconds of a row of the plan; a worker's memory;
    trajectories by size of the corpus.
    """

    samples: int
    sample_ms: float
    stage_ms: Mapping[str, float]
    trajectory_ms: float
    sample_bytes: float
    record_bytes: float
    shard_files: int
    shard_fsyncs: int
    plan_row_us: float
    worker_bytes: int
    trajectories: Mapping[int, int]

    @property
    def shard_s(self) -> float:
        """CPU seconds of a shard on one worker."""
        return SHARD_ROWS * self.sample_ms / 1e3


@dataclass(frozen=True)
class Simulated:
    """A run of stub tasks: seconds by the clock, and CPU seconds and most memory of the process that holds client,
    scheduler and the job itself.
    """

    name: str
    workers: int
    tasks: int
    wall_s: float
    main_cpu_s: float
    main_bytes: int

    @property
    def task_ms(self) -> float:
        """CPU of the main process for one task."""
        return 1e3 * self.main_cpu_s / self.tasks


@dataclass(frozen=True)
class Finalised:
    """The last stage on synthetic records, reading them included: CPU seconds, and the most memory of the process."""

    rows: int
    finalise_s: float
    peak_bytes: int
    manifest_bytes: int


@dataclass(frozen=True)
class Results:
    """All measurements."""

    costs: Costs
    simulated: Sequence[Simulated]
    finalised: Sequence[Finalised]


@dataclass(frozen=True)
class Limit:
    """How many workers it takes until something gives way."""

    what: str
    workers: float
    basis: str


def limits(results: Results) -> list[Limit]:
    """What breaks at how many workers, the first one first."""
    costs = results.costs
    bare, shard = results.simulated
    puts = costs.shard_files + 1
    network = NETWORK_BYTES * costs.shard_s / (SHARD_ROWS * costs.sample_bytes)
    found = [
        Limit(
            "main process: one core for client, scheduler and records",
            1e3 / shard.task_ms * costs.shard_s,
            f"measured: {shard.task_ms:.1f} ms of CPU a shard, with stub workers",
        ),
        Limit(
            "the same if tasks took and told nothing (Dask alone)",
            1e3 / bare.task_ms * costs.shard_s,
            f"measured: {bare.task_ms:.1f} ms a task, with stub workers",
        ),
        Limit(
            f"object store, {PUTS_PER_PREFIX:,} PUT/s a prefix",
            PUTS_PER_PREFIX * costs.shard_s / puts,
            f"computed: {puts} PUTs a shard; the limit as Amazon publishes it, for one prefix",
        ),
        Limit("one link of 10 Gbit/s to the store", network, "computed from the bytes of a sample"),
    ]
    return sorted(found, key=lambda limit: limit.workers)


def _slope(finalised: Sequence[Finalised], name: str) -> float:
    """Of a quantity by rows, from the smallest to the largest run."""
    first, last = finalised[0], finalised[-1]
    if first is last:
        return float(getattr(first, name)) / first.rows
    return float(getattr(last, name) - getattr(first, name)) / (last.rows - first.rows)


def _at(finalised: Sequence[Finalised], name: str, rows: int) -> float:
    """A quantity at so many rows: on the line through the smallest and the largest run."""
    last = finalised[-1]
    return float(getattr(last, name)) + _slope(finalised, name) * (rows - last.rows)


def wall_s(results: Results, samples: int, workers: int) -> tuple[float, float]:
    """Seconds of a run by the model, with a core a worker: in all, and of that what one process does alone."""
    costs = results.costs
    alone = samples * costs.plan_row_us / 1e6 + _at(results.finalised, "finalise_s", samples)
    tasks = math.ceil(samples / SHARD_ROWS)
    shared = samples * costs.sample_ms / 1e3 + costs.trajectories[samples] * costs.trajectory_ms / 1e3
    # workers share what can be shared, but no faster than the main process can hand it out, nor than one shard
    making = max(shared / workers, tasks * results.simulated[1].task_ms / 1e3, costs.shard_s)
    return alone + making, alone


def write_page(path: Path, results: Results) -> None:
    """Write the page and its picture, pictures/scaling.png beside it."""
    picture = path.parent / "pictures" / f"{path.stem}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw(picture, results)
    path.write_text("\n".join(_page(results, picture.relative_to(path.parent).as_posix())), encoding="utf-8")


def _page(results: Results, picture: str) -> list[str]:
    first, finalised = limits(results)[0], results.finalised
    row_bytes = _slope(finalised, "peak_bytes")
    return [
        "# Beyond one site: what a large run asks for, and what breaks first\n",
        "Written by `python -m benchmarks.scaling` (`make scaling`). **On paper and by simulation**: no cluster was "
        "rented. What was measured was measured on one shared 2-core machine, in CPU seconds; each figure says whether "
        "it is measured, with stubs or not, computed, or published by others.\n",
        f"In short: with shards of {SHARD_ROWS} samples the first thing to give way is *{first.what}*, at about "
        f"{_workers(first.workers)} workers. The last stage reads one record at a time; what it keeps are columns for "
        f"the statistics, {row_bytes:,.0f} bytes a sample, which makes "
        f"{_gb(_at(finalised, 'peak_bytes', TARGETS[1]))} for ten million.\n",
        "![Shards a second that workers finish, beside what one process can take; memory of the last "
        f"stage]({picture})\n",
        *_cost_section(results),
        *_simulated_section(results),
        *_store_section(results),
        *_limits_section(results),
        *_last_stage_section(results),
        *_time_section(results),
        "",
    ]


def _cost_section(results: Results) -> list[str]:
    costs = results.costs
    return [
        "## What a sample costs\n",
        f"Measured: {costs.samples} samples at 256 x 256 px of {costs.shard_files} arrays, one worker, from its "
        "own log "
        "(`maphc2f generate --profile`).\n",
        "| | |\n|---|--:|",
        f"| a sample, CPU | {costs.sample_ms:.1f} ms |",
        *(f"| &nbsp;&nbsp;{name} | {ms:.2f} ms |" for name, ms in _largest(costs.stage_ms, 8)),
        f"| a trajectory, CPU | {costs.trajectory_ms:.0f} ms |",
        f"| a row of the plan, CPU | {costs.plan_row_us:.0f} us |",
        f"| a sample on disk | {costs.sample_bytes / 1e3:.0f} kB |",
        f"| its row in the commit record | {costs.record_bytes:,.0f} bytes |",
        f"| a shard: files, and one commit record | {costs.shard_files} + 1 |",
        f"| a shard: fsyncs on a local disk | {costs.shard_fsyncs} |",
        f"| a shard of {SHARD_ROWS} on one worker, computed | {costs.shard_s:.1f} s |",
        f"| most memory of the worker | {costs.worker_bytes / 1e6:.0f} MB |\n",
    ]


def _simulated_section(results: Results) -> list[str]:
    bare, shard = results.simulated
    return [
        f"## {shard.workers:,} workers, simulated\n",
        "The real executor of `maphc2f generate` (two tasks under way for each worker) and the real Dask "
        "scheduler, in "
        f"one process as in a run, drive {shard.workers:,} Dask workers on TCP, many to a process. The workers "
        "are real; "
        "their tasks are **stubs** that compute nothing: a bare task takes and returns a number; a shard takes a real "
        f"spec and returns a stored commit record of {SHARD_ROWS} rows. Tasks sleep for no time, so this is the worst "
        "case: all workers ask at once.\n",
        "| stub task | workers | tasks | CPU of the main process a task | tasks/s of one core, computed | "
        "tasks/s by the clock here | most memory |\n|---|--:|--:|--:|--:|--:|--:|",
        *(
            f"| {run.name} | {run.workers:,} | {run.tasks:,} | {run.task_ms:.2f} ms | {1e3 / run.task_ms:,.0f} | "
            f"{run.tasks / run.wall_s:,.0f} | {run.main_bytes / 1e6:,.0f} MB |"
            for run in (bare, shard)
        ),
        "\nThe clock's figure is lower than one core's: the stub workers and other work share two cores with the main "
        "process.\n",
    ]


def _store_section(results: Results) -> list[str]:
    costs = results.costs
    return [
        "## What the object store is asked for\n",
        "Computed: a shard is one object an array and one for its record, none larger than 50 MB before compression.\n",
        "| workers | shards/s | PUT/s | MB/s |\n|--:|--:|--:|--:|",
        *(_store_line(costs, workers) for workers in FLEETS),
        f"\nAmazon publishes {PUTS_PER_PREFIX:,} PUT/s for each prefix; categories are prefixes of their own, so "
        "a corpus "
        "of 30 has room for more.\n",
    ]


def _limits_section(results: Results) -> list[str]:
    costs = results.costs
    return [
        "## What breaks first\n",
        "| at about so many workers | what | basis |\n|--:|---|---|",
        *(f"| {_workers(limit.workers)} | {limit.what} | {limit.basis} |" for limit in limits(results)),
        "\nThe client's window is not on the list: a worker has a second task waiting while it computes one, so it "
        f"idles only if the main process leaves it alone for a whole shard ({costs.shard_s:.0f} s), that is once that "
        "process is out of CPU.\n",
    ]


def _last_stage_section(results: Results) -> list[str]:
    finalised, memory = results.finalised, psutil.virtual_memory().total
    row_bytes = _slope(finalised, "peak_bytes")
    return [
        "## The last stage\n",
        "Measured on synthetic records (real ones, repeated under other numbers, each parsed anew): reading them, "
        "manifest, statistics and corpus.json, in a process of its own.\n",
        "| rows | CPU | most memory | manifest |\n|--:|--:|--:|--:|",
        *(
            f"| {run.rows:,} | {run.finalise_s:.1f} s | {_gb(run.peak_bytes)} | {run.manifest_bytes / 1e6:.1f} MB |"
            for run in finalised
        ),
        f"| {TARGETS[1]:,}, computed | {_at(finalised, 'finalise_s', TARGETS[1]):,.0f} s | "
        f"{_gb(_at(finalised, 'peak_bytes', TARGETS[1]))} | "
        f"{_at(finalised, 'manifest_bytes', TARGETS[1]) / 1e9:.1f} GB |",
        f"\nTen million rows were not run. At {row_bytes:,.0f} bytes a row, and {_gb(memory)} of memory, this machine "
        f"could finish a corpus of about {memory / row_bytes / 1e6:,.0f} million samples.\n",
    ]


def _time_section(results: Results) -> list[str]:
    return [
        "## How long it would take\n",
        "Computed: one core a worker, no contention, every photograph taken in before. *Alone* is what one "
        "process does "
        "while the workers wait: plan and last stage.\n",
        "| samples | workers | in all | of that alone | share of ideal |\n|--:|--:|--:|--:|--:|",
        *(_wall_line(results, samples, workers) for samples in TARGETS for workers in FLEETS),
    ]


def _largest(stages: Mapping[str, float], number: int) -> list[tuple[str, float]]:
    return sorted(stages.items(), key=lambda item: -item[1])[:number]


def _store_line(costs: Costs, workers: int) -> str:
    shards = workers / costs.shard_s
    puts, rate = shards * (costs.shard_files + 1), shards * SHARD_ROWS * costs.sample_bytes / 1e6
    return f"| {workers:,} | {shards:.3g} | {puts:.3g} | {rate:,.3g} |"


def _wall_line(results: Results, samples: int, workers: int) -> str:
    whole, alone = wall_s(results, samples, workers)
    single, _ = wall_s(results, samples, 1)
    share = single / workers / whole
    return f"| {samples:,} | {workers:,} | {_time(whole)} | {_time(alone)} | {100 * share:.0f} % |"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def _workers(number: float) -> str:
    """Two digits: the model is no better."""
    digits = max(0, int(math.log10(max(number, 1))) - 1)
    return f"{round(number / 10**digits) * 10**digits:,}"


def draw(path: Path, results: Results) -> None:
    """Shards a second by workers beside the ceilings; memory of the last stage by rows."""
    costs, finalised = results.costs, results.finalised
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    workers = np.logspace(0, 5.3, 200)
    left.loglog(workers, workers / costs.shard_s, color="black", label="finished by the workers (computed)")
    for colour, limit in zip(("tab:red", "tab:orange", "tab:blue", "tab:green"), limits(results), strict=True):
        rate = limit.workers / costs.shard_s
        left.axhline(rate, color=colour, linewidth=1, linestyle="--", label=limit.what)
        left.plot([limit.workers], [rate], "o", color=colour)
    left.set(xlabel="workers", ylabel=f"shards of {SHARD_ROWS} samples a second", xlim=(1, workers[-1]))
    left.legend(fontsize=7, loc="upper left")
    rows = np.logspace(3, 7, 100)
    right.loglog(rows, [_at(finalised, "peak_bytes", int(n)) / 1e9 for n in rows], "--", label="on a line (computed)")
    right.plot(
        [f.rows for f in finalised], [f.peak_bytes / 1e9 for f in finalised], "o", color="black", label="measured"
    )
    for size in (16, 64, 256):
        right.axhline(size, color="grey", linewidth=0.6)
        right.text(1.2e3, size * 1.07, f"{size} GB", fontsize=7, color="grey")
    right.set(xlabel="samples of the corpus", ylabel="most memory of the last stage, GB")
    right.legend(fontsize=7, loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=110)
    plt.close(figure)
