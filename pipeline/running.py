"""One run on a corpus folder: who computes, who hears of it, what it cost; `pipeline.generate` says what is done in it.

A run holds the folder's lock, leaves Ctrl-C to the end of what is under way, ends its workers however it ends, and
writes one line of OUT/log/runs.jsonl.
"""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from manifests.errors import InputError
from manifests.object_store import Place
from pipeline.cluster import ClusterExecutor
from pipeline.executor import Executor, Interruption, SerialExecutor, make_executor
from pipeline.inventory import find_categories
from pipeline.mirror import worked_on
from pipeline.progress import Interrupted, Progress, SilentProgress
from pipeline.recipe import Recipe
from pipeline.resources import ResourceMonitor
from pipeline.run_log import RUNS, Tally, append_log
from pipeline.scoring import shipped_sha256
from pipeline.stage_clock import Measured
from pipeline.store import lock_output, mark_unfinished, open_output, read_identity
from refine.devices import AUTO_DEVICE, resolve_device, use_device
from refine.passes import settle_process

__all__ = ["Computing", "Run", "run_missing", "running"]

SpecT = TypeVar("SpecT")
ResultT = TypeVar("ResultT")
_TASKS = "progress.jsonl"


@dataclass(frozen=True)
class Computing:
    """What computes: so many processes here, or the workers of a Dask scheduler (address or file); on which device."""

    workers: int = 1
    scheduler: str | None = None
    device: str = AUTO_DEVICE


@dataclass
class Run:
    """What the stages of one run share."""

    out: Path
    recipe: Recipe
    executor: Executor
    interruption: Interruption
    progress: Progress
    tally: Tally
    alone: bool  # tasks run in this very process, and a sample that ends it ends the run
    extensions: tuple[int, ...]
    shared_bank: Path | None
    stored: bool  # photographs are those that the corpus holds, if it holds all; else they are looked up again
    simulated: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    devices: set[str] = field(default_factory=set)
    made: int = 0


@contextmanager
def running(
    out: Place,
    recipe: Recipe,
    computing: Computing,
    *,
    progress: Progress | None = None,
    announce: Callable[[], None] | None = None,
    shared_bank: Path | None = None,
    stored: bool = False,
) -> Iterator[Run]:
    """A run on a corpus; parameters as for `pipeline.generate.generate`.

    Raises
    ------
    InputError
        Sources, output folder, device or scheduler cannot be used; but for the folder, nothing has been written.
    """
    if not stored:
        find_categories(recipe)  # a wrong source is said before anything is written
    if computing.scheduler is None:
        resolve_device(computing.device)  # so is a device that is not there
    elif isinstance(out, Path):  # workers have working folders of their own
        out, shared_bank = out.absolute(), shared_bank and shared_bank.absolute()
    else:
        raise InputError(f"--scheduler with {out}: expected a folder; make the corpus in one, then copy it there")
    progress = progress or SilentProgress()
    with worked_on(out) as site:
        open_output(site.folder, recipe)
        with lock_output(site.folder), Interruption(announce) as interruption, ResourceMonitor(site.folder):
            extensions, tally = read_identity(site.folder).extensions, Tally()
            with tally.phase("start"):
                executor = _executor(site.folder, recipe, computing, progress)
            run = Run(
                out=site.folder,
                recipe=recipe,
                executor=site.executor(executor),
                interruption=interruption,
                progress=progress,
                tally=tally,
                alone=isinstance(executor, SerialExecutor),
                extensions=extensions,
                shared_bank=shared_bank,
                stored=stored,
            )
            try:
                yield run
            finally:
                run.executor.close()
                _write_log(run)


def _executor(out: Path, recipe: Recipe, computing: Computing, progress: Progress) -> Executor:
    warm = partial(_warm, computing.device, recipe.sqe.enabled)
    if computing.scheduler is not None:
        return ClusterExecutor(computing.scheduler, out=out, warm=warm, note=progress.note)
    return make_executor(computing.workers, warm=warm, note=progress.note)


def _warm(device: str, scores: bool, number: int) -> None:
    """Make the process that computes ready: threads, device, and the network that scores samples."""
    settle_process(1)
    use_device(resolve_device(device, number=number))
    if scores:
        shipped_sha256()


def run_missing(
    run: Run,
    function: Callable[[SpecT], ResultT],
    specs: Sequence[SpecT],
    *,
    rescue: Callable[[SpecT], ResultT] | None = None,
    on_device: bool = False,
) -> Iterator[tuple[SpecT, ResultT]]:
    """Run what has no record yet, and yield results as they come; parameters as for `pipeline.executor.Executor.run`.

    Raises
    ------
    Interrupted
        A stop was asked for before all of it was run.
    """
    if specs:
        mark_unfinished(run.out)
    finished = 0
    pairs = run.executor.run(
        Measured(function),
        specs,
        stop=lambda: run.interruption.requested,
        rescue=rescue and Measured(rescue),
        on_device=on_device,
    )
    for spec, (result, cost) in pairs:
        finished += 1
        run.tally.add(cost)
        append_log(run.out, _TASKS, {"stage": function.__name__, "done": finished, "of": len(specs)})
        yield spec, result
    if finished < len(specs):
        raise Interrupted


def _write_log(run: Run) -> None:
    """Timings, memory and host facts of this run: one line of OUT/log/runs.jsonl."""
    entry: dict[str, object] = {
        "host": platform.node(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "workers": run.executor.workers,
        "devices": sorted(run.devices),
        "samples": run.made,
        "simulated": dict(run.simulated),
        "interrupted": run.interruption.requested,
        **run.tally.entry(),
    }
    append_log(run.out, RUNS, entry)
