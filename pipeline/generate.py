"""The main job: sources -> plan -> bank -> samples -> manifest, resumable at any moment.

Every stage is a list of shard specs. A spec whose valid commit record exists is done; the rest is run by an executor
that knows nothing of stages. Whatever no record names is swept first.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from manifests import layout
from manifests.corpus import CorpusInfo
from manifests.object_store import Place
from manifests.records import (
    AnyCommit,
    BankRecord,
    CommitRecord,
    PlanRow,
    SampleRecord,
    SampleStatus,
    SourceRecord,
    SourceStatus,
)
from manifests.tables import to_table, write_table
from pipeline.bank import BankSpec, bank_specs, create_bank, store_trajectories
from pipeline.executor import Executor, Interruption, make_executor
from pipeline.finalise import finalise
from pipeline.inventory import SourcesSpec, find_categories, store_sources
from pipeline.mirror import worked_on
from pipeline.planning import CategorySources, bank_sizes, make_plan, shard_rows
from pipeline.recipe import Recipe
from pipeline.store import (
    is_laid_out,
    lock_output,
    mark_unfinished,
    open_output,
    output_errors,
    prune_arrays,
    read_rows,
    read_valid_commits,
    sweep,
)
from pipeline.synthesis import SampleSpec, create_sample_arrays, made_together, store_samples
from refine.passes import settle_process

__all__ = ["Interrupted", "Outcome", "Prepared", "Progress", "SilentProgress", "fill_bank", "generate", "prepare"]

SpecT = TypeVar("SpecT", SourcesSpec, BankSpec, tuple[SampleSpec, ...])


class Interrupted(Exception):  # noqa: N818  (not an error: the user asked)
    """The run was asked to stop; what is finished is kept."""


class Progress(Protocol):
    """Hears how far a run is."""

    def stage(self, name: str, total: int, done: int) -> None:
        """A stage begins: ``total`` items, of which ``done`` are kept from an earlier run."""

    def advance(self, items: int, failures: int) -> None:
        """So many more items of the stage are finished; so many of them failed."""

    def note(self, text: str) -> None:
        """Something worth a line."""


class SilentProgress:
    """Tells nobody."""

    def stage(self, name: str, total: int, done: int) -> None:
        """See `Progress`."""

    def advance(self, items: int, failures: int) -> None:
        """See `Progress`."""

    def note(self, text: str) -> None:
        """See `Progress`."""


@dataclass(frozen=True)
class Prepared:
    """Sources and plan of a run."""

    sources: tuple[SourceRecord, ...]
    channels: Mapping[str, int]
    plan: tuple[PlanRow, ...]
    bank_sizes: Mapping[str, int]  # trajectories by mechanism


@dataclass(frozen=True)
class Outcome:
    """A finished run: what corpus.json says, seconds by stage, and samples made by this run."""

    info: CorpusInfo
    seconds: Mapping[str, float]
    made: int


@dataclass
class _Run:
    """What the stages of one run share."""

    out: Path
    recipe: Recipe
    executor: Executor
    interruption: Interruption
    progress: Progress
    shared_bank: Path | None = None
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    simulated: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    made: int = 0


def generate(
    out: Place,
    recipe: Recipe,
    *,
    workers: int,
    progress: Progress | None = None,
    announce: Callable[[], None] | None = None,
    shared_bank: Path | None = None,
) -> Outcome:
    """Make a corpus, or go on with one.

    Parameters
    ----------
    out : Path or ObjectPath
        The corpus folder, or a prefix in a bucket: new, empty, or begun with the same recipe.
    recipe : Recipe
        What to make.
    workers : int
        Processes that compute.
    progress : Progress, optional
        Hears how far it is.
    announce : callable, optional
        Called when a first Ctrl-C is taken in.
    shared_bank : Path, optional
        Another corpus or bank: shards that it holds are copied instead of computed.

    Raises
    ------
    InputError
        Sources or output folder cannot be used.
    Interrupted
        A stop was asked for; the same call goes on from there.
    """
    return _with_run(out, recipe, workers, progress, announce, _generate, shared_bank)


def prepare(out: Place, recipe: Recipe, *, workers: int, progress: Progress | None = None) -> Prepared:
    """Take in the sources and write the plan; compute no sample."""
    return _with_run(out, recipe, workers, progress, None, _prepare, None)


def fill_bank(
    out: Place,
    recipe: Recipe,
    *,
    workers: int,
    progress: Progress | None = None,
    announce: Callable[[], None] | None = None,
    shared_bank: Path | None = None,
) -> list[BankRecord]:
    """Take in the sources, write the plan, and simulate what it needs; parameters and errors as for `generate`."""
    return _with_run(out, recipe, workers, progress, announce, lambda run: _fill_bank(run, _prepare(run)), shared_bank)


ResultT = TypeVar("ResultT")


def _with_run(
    out: Place,
    recipe: Recipe,
    workers: int,
    progress: Progress | None,
    announce: Callable[[], None] | None,
    job: Callable[[_Run], ResultT],
    shared_bank: Path | None,
) -> ResultT:
    find_categories(recipe)  # a wrong source is said before anything is written
    with worked_on(out) as site:
        open_output(site.folder, recipe)
        with lock_output(site.folder), Interruption(announce) as interruption:
            executor = site.executor(make_executor(workers, warm=partial(settle_process, 1)))
            run = _Run(site.folder, recipe, executor, interruption, progress or SilentProgress(), shared_bank)
            started = time.perf_counter()
            try:
                return job(run)
            finally:
                executor.close()
                _write_log(run, time.perf_counter() - started)


def _prepare(run: _Run) -> Prepared:
    _sweep(run)
    return _take_in(run)


def _generate(run: _Run) -> Outcome:
    _sweep(run)
    prepared = _take_in(run)
    bank = _fill_bank(run, prepared)
    samples = _make_samples(run, prepared)
    with output_errors(run.out):
        _drop_stale(run, prepared)
        info = finalise(run.out, run.recipe, sources=prepared.sources, bank=bank, samples=samples)
    return Outcome(info=info, seconds=dict(run.seconds), made=run.made)


def _sweep(run: _Run) -> None:
    """Remove all that no valid record names: what a killed run was writing."""
    kept: list[AnyCommit] = [
        *read_valid_commits(run.out, "sources", SourceRecord, run.recipe),
        *read_valid_commits(run.out, "bank", BankRecord, run.recipe),
        *read_valid_commits(run.out, "samples", SampleRecord, run.recipe),
    ]
    keep_files: set[str] = set()
    keep_commits: set[str] = set()
    for record in kept:
        keep_files.update(file.path for file in record.files)
        keep_commits.add(layout.commit_name(record.stage, record.key, record.shard))
    removed = sweep(run.out, keep_files, keep_commits)
    if removed:
        run.progress.note(f"swept {removed} files that belong to no finished shard")


def _drop_stale(run: _Run, prepared: Prepared) -> None:
    """Remove what this plan has no place for: photographs came or went since an earlier run."""
    wanted = {layout.commit_name("sources", key, 0) for key in prepared.channels}
    specs = bank_specs(run.out, run.recipe, prepared.bank_sizes)
    wanted |= {layout.commit_name("bank", spec.mechanism, spec.shard) for spec in specs}
    wanted |= {layout.commit_name("samples", f"{r.dataset}/{r.category}", r.shard) for r in prepared.plan}
    stale = [path for path in (run.out / layout.COMMITS).iterdir() if path.name not in wanted]
    if stale:
        mark_unfinished(run.out)
        for path in stale:
            path.unlink()
        _sweep(run)
    prune_arrays(run.out)


def _take_in(run: _Run) -> Prepared:
    specs = [SourcesSpec(run.out, run.recipe, category) for category in find_categories(run.recipe)]
    done = {c.key: c for c in read_valid_commits(run.out, "sources", SourceRecord, run.recipe)}
    done = {s.key: done[s.key] for s in specs if s.key in done and _still_holds(s, done[s.key])}
    run.progress.stage("sources", sum(len(s.category.files) for s in specs), sum(len(c.rows) for c in done.values()))
    start = time.perf_counter()
    for spec, record in _run_missing(run, store_sources, [s for s in specs if s.key not in done]):
        done[spec.key] = record
        failures = sum(row.status is not SourceStatus.OK for row in record.rows)
        run.progress.advance(len(record.rows), failures)
    run.seconds["sources"] += time.perf_counter() - start
    rows = [row for spec in specs for row in done[spec.key].rows]
    write_table(run.out / layout.INVENTORY, to_table(rows, SourceRecord))
    categories = [_category_sources(run, spec, done[spec.key]) for spec in specs]
    channels = {c.key: _channels(run, c) for c in categories}
    start = time.perf_counter()
    plan = make_plan(run.recipe, categories, channels)
    write_table(run.out / layout.PLAN, to_table(plan, PlanRow))
    run.seconds["plan"] += time.perf_counter() - start
    sizes = bank_sizes(run.recipe, [len(c.records) for c in categories])
    return Prepared(sources=tuple(rows), channels=channels, plan=tuple(plan), bank_sizes=sizes)


def _still_holds(spec: SourcesSpec, record: CommitRecord[SourceRecord]) -> bool:
    laid_out = is_laid_out(spec.out, layout.DATA, spec.key, layout.SOURCE_ARRAYS)
    return laid_out and record.inputs_sha256 == spec.inputs_sha256


def _category_sources(run: _Run, spec: SourcesSpec, record: CommitRecord[SourceRecord]) -> CategorySources:
    usable = tuple(sorted((row for row in record.rows if row.index >= 0), key=lambda row: row.index))
    foreground = read_rows(run.out, layout.DATA, spec.key, "foreground", 0, len(usable)) > 0
    return CategorySources(spec.category.dataset, spec.category.category, usable, np.asarray(foreground))


def _channels(run: _Run, category: CategorySources) -> int:
    return int(read_rows(run.out, layout.DATA, category.key, "source", 0, 1).shape[3])


def _fill_bank(run: _Run, prepared: Prepared) -> list[BankRecord]:
    create_bank(run.out, run.recipe, prepared.bank_sizes)
    specs = bank_specs(run.out, run.recipe, prepared.bank_sizes, shared=run.shared_bank)
    done = {(c.key, c.shard): c for c in read_valid_commits(run.out, "bank", BankRecord, run.recipe)}
    done = {
        (s.mechanism, s.shard): done[s.mechanism, s.shard]
        for s in specs
        if (s.mechanism, s.shard) in done and done[s.mechanism, s.shard].inputs_sha256 == s.inputs_sha256
    }
    run.progress.stage("trajectories", sum(s.stop - s.start for s in specs), sum(len(c.rows) for c in done.values()))
    start = time.perf_counter()
    copied = 0
    for spec, result in _run_missing(run, store_trajectories, [s for s in specs if (s.mechanism, s.shard) not in done]):
        done[spec.mechanism, spec.shard] = result.record
        copied += len(result.record.rows) if result.adopted else 0
        run.seconds[f"simulate_{spec.mechanism}"] += result.seconds
        run.simulated[spec.mechanism] += 0 if result.adopted else len(result.record.rows)
        run.progress.advance(len(result.record.rows), 0)
    run.seconds["bank"] += time.perf_counter() - start
    if copied:
        run.progress.note(f"{copied:,} trajectories copied from {run.shared_bank}")
    return [row for spec in specs for row in done[spec.mechanism, spec.shard].rows]


def _make_samples(run: _Run, prepared: Prepared) -> list[SampleRecord]:
    specs = _sample_specs(run, prepared)
    done = {(c.key, c.shard): c for c in read_valid_commits(run.out, "samples", SampleRecord, run.recipe)}
    kept = [done[s.key, s.shard] for s in specs if (s.key, s.shard) in done and _same_inputs(done[s.key, s.shard], s)]
    names = {(c.key, c.shard) for c in kept}
    rows = [row for record in kept for row in record.rows]
    run.progress.stage("samples", len(prepared.plan), len(rows))
    start = time.perf_counter()
    missing = [s for s in specs if (s.key, s.shard) not in names]
    groups = made_together(run.recipe, missing, workers=run.executor.workers)
    for result in (shard for _, shards in _run_missing(run, store_samples, groups) for shard in shards):
        rows.extend(result.record.rows)
        for name, spent in result.seconds.items():
            run.seconds[name] += spent
        run.made += len(result.record.rows)
        run.progress.advance(
            len(result.record.rows), sum(row.status is not SampleStatus.OK for row in result.record.rows)
        )
    run.seconds["samples_wall"] += time.perf_counter() - start
    return rows


def _same_inputs(record: CommitRecord[SampleRecord], spec: SampleSpec) -> bool:
    return record.inputs_sha256 == spec.inputs_sha256


def _sample_specs(run: _Run, prepared: Prepared) -> list[SampleSpec]:
    by_shard: dict[tuple[str, int], list[PlanRow]] = {}
    for row in prepared.plan:
        by_shard.setdefault((f"{row.dataset}/{row.category}", row.shard), []).append(row)
    for key, channels in prepared.channels.items():
        count = sum(len(rows) for (name, _), rows in by_shard.items() if name == key)
        if count:
            per_shard = shard_rows(run.recipe, channels, count)
            create_sample_arrays(run.out, run.recipe, key, count=count, per_shard=per_shard)
    by_category: dict[str, dict[int, SourceRecord]] = {}
    for source in prepared.sources:
        by_category.setdefault(f"{source.dataset}/{source.category}", {})[source.index] = source
    return [
        SampleSpec(
            run.out, run.recipe, tuple(rows), {k: by_category[key][k] for row in rows for k in row.photographs()}
        )
        for (key, _), rows in by_shard.items()
    ]


def _run_missing(
    run: _Run, function: Callable[[SpecT], ResultT], specs: Sequence[SpecT]
) -> Iterator[tuple[SpecT, ResultT]]:
    """Run what has no record yet.

    Raises
    ------
    Interrupted
        A stop was asked for before all of it was run.
    """
    if specs:
        mark_unfinished(run.out)
    finished = 0
    for pair in run.executor.run(function, specs, stop=lambda: run.interruption.requested):
        finished += 1
        _append_log(run.out, "progress.jsonl", {"stage": function.__name__, "done": finished, "of": len(specs)})
        yield pair
    if finished < len(specs):
        raise Interrupted


def _write_log(run: _Run, wall_s: float) -> None:
    """Timings and host facts of this run: one line of OUT/log/runs.jsonl."""
    entry: dict[str, object] = {
        "host": platform.node(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "workers": run.executor.workers,
        "wall_s": round(wall_s, 3),
        "samples": run.made,
        "simulated": dict(run.simulated),
        "stage_s": {name: round(value, 3) for name, value in run.seconds.items()},
        "interrupted": run.interruption.requested,
    }
    _append_log(run.out, "runs.jsonl", entry)


def _append_log(out: Path, name: str, entry: Mapping[str, object]) -> None:
    """One more line, with the time, in a file of OUT/log."""
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **entry}
    with output_errors(out), (out / layout.LOG / name).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
