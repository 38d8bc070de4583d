"""The main job: sources -> plan -> bank -> samples -> manifest, resumable at any moment.

Every stage is a list of shard specs. A spec whose valid commit record exists is done; the rest is run by an executor
that knows nothing of stages, see `pipeline.running`. Whatever no record names is swept first. A part of the job, for
several machines to share it, is the shards of a range of samples: see `pipeline.sharing`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np

from manifests import layout
from manifests.corpus import CorpusInfo
from manifests.errors import CorpusError
from manifests.object_store import Place
from manifests.records import (
    AnyCommit,
    BankRecord,
    CommitRecord,
    PlanRow,
    RowT,
    SampleRecord,
    SampleStatus,
    SourceRecord,
    SourceStatus,
)
from manifests.tables import Rows, from_table, read_table, to_table, write_table
from pipeline.apart import guarded, store_samples_apart
from pipeline.bank import BankSpec, bank_specs, create_bank, store_trajectories
from pipeline.finalise import finalise
from pipeline.inventory import SourcesSpec, find_categories, store_sources
from pipeline.planning import CategorySources, bank_ranges, category_rows, make_plan, samples_by_segment
from pipeline.progress import Progress
from pipeline.recipe import Recipe
from pipeline.running import Computing, Run, run_missing, running
from pipeline.sharing import ShardName, Share, missing_of, shards_of, share_of
from pipeline.sources.readers import Category
from pipeline.stage_clock import timed
from pipeline.store import (
    is_laid_out,
    mark_unfinished,
    output_errors,
    prune_arrays,
    read_commit,
    read_rows,
    read_valid_commits,
    retract,
    sweep,
    sweep_temporaries,
)
from pipeline.synthesis import SampleSpec, create_sample_arrays, made_together, store_samples
from refine.devices import AUTO_DEVICE

__all__ = [
    "Outcome",
    "Prepared",
    "complete",
    "fill_bank",
    "generate",
    "generate_share",
    "prepare",
    "stored_sources",
]


@dataclass(frozen=True)
class Prepared:
    """Sources and plan of a run."""

    sources: tuple[SourceRecord, ...]
    channels: Mapping[str, int]
    plan: Rows[PlanRow]
    bank: Mapping[str, tuple[range, ...]]  # trajectories by mechanism

    @property
    def bank_sizes(self) -> dict[str, int]:
        """How many trajectories there are of each mechanism."""
        return {name: sum(map(len, numbers)) for name, numbers in self.bank.items()}


@dataclass(frozen=True)
class Outcome:
    """A finished run: what corpus.json says, and samples made by this run."""

    info: CorpusInfo
    made: int


def generate(
    out: Place,
    recipe: Recipe,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    device: str = AUTO_DEVICE,
    progress: Progress | None = None,
    announce: Callable[[], None] | None = None,
    shared_bank: Path | None = None,
    stored: bool = False,
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
    scheduler : str, optional
        Address or file of a Dask scheduler whose workers compute instead; see `pipeline.cluster`.
    device : str
        What the passes run on, see `refine.devices.resolve_device`; no part of the recipe.
    progress : Progress, optional
        Hears how far it is.
    announce : callable, optional
        Called when a first Ctrl-C is taken in.
    shared_bank : Path, optional
        Another corpus or bank: shards that it holds are copied instead of computed.
    stored : bool
        Take the photographs that the corpus holds, if it holds all of them, whatever became of the files since.

    Raises
    ------
    InputError
        Sources or output folder cannot be used.
    Interrupted
        A stop was asked for; the same call goes on from there.
    """
    with running(
        out,
        recipe,
        Computing(workers, scheduler, device),
        progress=progress,
        announce=announce,
        shared_bank=shared_bank,
        stored=stored,
    ) as run:
        return _finish(run, _prepare(run))


def generate_share(
    out: Path,
    recipe: Recipe,
    asked: Share,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    device: str = AUTO_DEVICE,
    progress: Progress | None = None,
    announce: Callable[[], None] | None = None,
    shared_bank: Path | None = None,
) -> tuple[range, Outcome | None]:
    """Make the whole shards nearest to a range of samples, and the trajectories that belong to it.

    Parameters and errors as for `generate`, and ``asked``, the range.

    Returns
    -------
    samples : range
        What was asked for, in whole shards.
    outcome : Outcome or None
        Of the whole corpus, if nothing is left to be made in this folder.

    Raises
    ------
    ConfigError
        The range leaves the plan, or is nearer to nothing than to a shard.
    """
    computing = Computing(workers, scheduler, device)
    with running(out, recipe, computing, progress=progress, announce=announce, shared_bank=shared_bank) as run:
        prepared = _prepare(run)
        wanted, samples, bank = share_of(asked, prepared.plan, _bank_specs(run, prepared))
        _fill_bank(run, prepared, only=bank)
        _make_samples(run, prepared, only=samples)
        return wanted, None if _missing(run, prepared) else _finish(run, prepared)


def complete(
    out: Path,
    recipe: Recipe,
    fill: Callable[[], None],
    *,
    progress: Progress | None = None,
    announce: Callable[[], None] | None = None,
) -> tuple[Outcome | None, str]:
    """Let ``fill`` bring in what others made, and finish the corpus if that is all of it; nothing is computed.

    Returns
    -------
    outcome : Outcome or None
        If it is finished.
    missing : str
        What is not there, in words; empty if it is finished.
    """
    with running(out, recipe, Computing(), progress=progress, announce=announce, stored=True) as run:
        fill()
        prepared = _prepare(run)
        missing = _missing(run, prepared)
        return (None, missing) if missing else (_finish(run, prepared), "")


def prepare(out: Place, recipe: Recipe, *, workers: int, progress: Progress | None = None) -> Prepared:
    """Take in the sources and write the plan; compute no sample."""
    with running(out, recipe, Computing(workers), progress=progress) as run:
        return _prepare(run)


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
    computing = Computing(workers)
    with running(out, recipe, computing, progress=progress, announce=announce, shared_bank=shared_bank) as run:
        return _fill_bank(run, _prepare(run))


def _prepare(run: Run) -> Prepared:
    """What every job begins with."""
    _sweep(run)
    return _take_in(run)


def _finish(run: Run, prepared: Prepared) -> Outcome:
    """Make what is not there, and say that the corpus is whole."""
    bank = _fill_bank(run, prepared)
    _make_samples(run, prepared)
    with run.tally.phase("finalise"), timed("finalise"), output_errors(run.out):
        _drop_stale(run, prepared)
        names = [layout.commit_name("samples", key, shard) for (key, shard), _ in shards_of(prepared.plan)]
        samples = (read_commit(run.out, name, SampleRecord).rows for name in names)
        info = finalise(
            run.out, run.recipe, sources=prepared.sources, bank=bank, samples=samples, extensions=run.extensions
        )
    return Outcome(info=info, made=run.made)


def _sweep(run: Run) -> None:
    """Remove all that no valid record names: what a killed run was writing."""
    kept: Iterator[AnyCommit] = chain(
        read_valid_commits(run.out, "sources", SourceRecord, run.recipe),
        read_valid_commits(run.out, "bank", BankRecord, run.recipe),
        read_valid_commits(run.out, "samples", SampleRecord, run.recipe),
    )
    keep_files: set[str] = set()
    keep_commits: set[str] = set()
    for record in kept:
        keep_files.update(file.path for file in record.files)
        keep_commits.add(record.commit_name)
    removed = sweep(run.out, keep_files, keep_commits)
    if removed:
        run.progress.note(f"swept {removed} files that belong to no finished shard")


def _drop_stale(run: Run, prepared: Prepared) -> None:
    """Remove what this plan has no place for: photographs came or went since an earlier run."""
    wanted = {layout.commit_name("sources", key, 0) for key in prepared.channels}
    wanted |= {spec.commit_name for spec in _bank_specs(run, prepared)}
    wanted |= {layout.commit_name("samples", key, shard) for (key, shard), _ in shards_of(prepared.plan)}
    stale = {path.name for path in (run.out / layout.COMMITS).iterdir()} - wanted
    if stale:
        _retract(run, stale)
        _sweep(run)
    sweep_temporaries(run.out)
    prune_arrays(run.out)


def _take_in(run: Run) -> Prepared:
    """Photographs and plan."""
    records = (stored_sources(run.out, run.recipe) if run.stored else None) or _read_sources(run)
    rows = [row for record in records for row in record.rows]
    write_table(run.out / layout.INVENTORY, to_table(rows, SourceRecord))
    categories = [_category_sources(run, record) for record in records]
    channels = {c.key: _channels(run, c) for c in categories}
    with run.tally.phase("plan"), timed("plan"):
        plan = make_plan(run.recipe, categories, channels, run.extensions)
        write_table(run.out / layout.PLAN, plan.table)
    bank = bank_ranges(run.recipe, [len(c.records) for c in categories], run.extensions)
    return Prepared(sources=tuple(rows), channels=channels, plan=plan, bank=bank)


def _read_sources(run: Run) -> list[CommitRecord[SourceRecord]]:
    """Records of all categories, in order; those whose files are as they were are not read again."""
    specs = [SourcesSpec(run.out, run.recipe, _anywhere(category)) for category in find_categories(run.recipe)]
    laid_out = [spec for spec in specs if is_laid_out(run.out, layout.DATA, spec.key, layout.SOURCE_ARRAYS)]
    done = {record.commit_name: record for record in _made(run, "sources", SourceRecord, laid_out)}
    missing = [spec for spec in specs if spec.commit_name not in done]
    _retract(run, [spec.commit_name for spec in missing])
    run.progress.stage("sources", sum(len(s.category.files) for s in specs), sum(len(c.rows) for c in done.values()))
    with run.tally.phase("sources", workers=run.executor.workers):
        for spec, record in run_missing(run, store_sources, missing):
            done[spec.commit_name] = record
            failures = sum(row.status is not SourceStatus.OK for row in record.rows)
            run.progress.advance(len(record.rows), failures)
            run.tally.committed(record)
    return [done[spec.commit_name] for spec in specs]


class _Spec(Protocol):
    """What every stage's specs tell of their shard."""

    @property
    def commit_name(self) -> str: ...

    @property
    def inputs_sha256(self) -> str: ...


def _made(run: Run, stage: str, row_type: type[RowT], specs: Iterable[_Spec]) -> Iterator[CommitRecord[RowT]]:
    """The records of shards that were made from what they would be made from now."""
    wanted = {spec.commit_name: spec for spec in specs}
    for record in read_valid_commits(run.out, stage, row_type, run.recipe):
        spec = wanted.get(record.commit_name)
        if spec is not None and record.inputs_sha256 == spec.inputs_sha256:
            yield record


def _retract(run: Run, names: Iterable[str]) -> None:
    """Take back the records of shards that are to be made anew from something else, before their files change."""
    stale = {path.name for path in (run.out / layout.COMMITS).iterdir()} & set(names)
    if stale:
        mark_unfinished(run.out)
        retract(run.out, stale)


def stored_sources(out: Path, recipe: Recipe) -> list[CommitRecord[SourceRecord]] | None:
    """Records of all categories, in order, if the corpus holds them and its inventory says that these are all."""
    known = {c.key: c for c in read_valid_commits(out, "sources", SourceRecord, recipe)}
    try:
        rows = from_table(read_table(out / layout.INVENTORY), SourceRecord)
    except CorpusError:
        return None
    keys = list(dict.fromkeys(f"{row.dataset}/{row.category}" for row in rows))
    if not rows or any(key not in known for key in keys) or rows != [row for key in keys for row in known[key].rows]:
        return None
    laid_out = all(is_laid_out(out, layout.DATA, key, layout.SOURCE_ARRAYS) for key in keys)
    return [known[key] for key in keys] if laid_out else None


def _anywhere(category: Category) -> Category:
    """The category by absolute paths: a worker may have another working folder."""
    root, masks = category.root and category.root.absolute(), category.masks and category.masks.absolute()
    return replace(category, root=root, masks=masks)


def _category_sources(run: Run, record: CommitRecord[SourceRecord]) -> CategorySources:
    usable = tuple(sorted((row for row in record.rows if row.index >= 0), key=lambda row: row.index))
    foreground = read_rows(run.out, layout.DATA, record.key, "foreground", 0, len(usable)) > 0
    return CategorySources(usable[0].dataset, usable[0].category, usable, np.asarray(foreground))


def _channels(run: Run, category: CategorySources) -> int:
    return int(read_rows(run.out, layout.DATA, category.key, "source", 0, 1).shape[3])


def _bank_specs(run: Run, prepared: Prepared) -> list[BankSpec]:
    return bank_specs(run.out, run.recipe, prepared.bank, shared=run.shared_bank)


def _fill_bank(run: Run, prepared: Prepared, *, only: Set[ShardName] | None = None) -> list[BankRecord]:
    """Simulate what is not there, of these shards or of all; rows of all of them that are there."""
    create_bank(run.out, run.recipe, prepared.bank)
    specs = [s for s in _bank_specs(run, prepared) if only is None or (s.mechanism, s.shard) in only]
    done = {record.commit_name: record for record in _made(run, "bank", BankRecord, specs)}
    missing = [spec for spec in specs if spec.commit_name not in done]
    _retract(run, [spec.commit_name for spec in missing])
    run.progress.stage("trajectories", sum(s.stop - s.start for s in specs), sum(len(c.rows) for c in done.values()))
    copied = 0
    with run.tally.phase("bank", workers=run.executor.workers):
        for spec, result in run_missing(run, store_trajectories, missing):
            done[spec.commit_name] = result.record
            copied += len(result.record.rows) if result.adopted else 0
            run.simulated[spec.mechanism] += 0 if result.adopted else len(result.record.rows)
            run.progress.advance(len(result.record.rows), 0)
            run.tally.committed(result.record)
    if copied:
        run.progress.note(f"{copied:,} trajectories copied from {run.shared_bank}")
    return [row for spec in specs for row in done[spec.commit_name].rows]


def _make_samples(run: Run, prepared: Prepared, *, only: Set[ShardName] | None = None) -> None:
    """Make what is not there, of these shards or of all; what is made is told by the records alone."""
    specs = [s for s in _sample_specs(run, prepared) if only is None or (s.key, s.shard) in only]
    done = {record.commit_name: len(record.rows) for record in _made(run, "samples", SampleRecord, specs)}
    missing = [spec for spec in specs if spec.commit_name not in done]
    _retract(run, [spec.commit_name for spec in missing])
    run.progress.stage("samples", sum(len(s.rows) for s in specs), sum(done.values()))
    groups = made_together(run.recipe, missing, workers=run.executor.workers)
    store = guarded(store_samples) if run.alone else store_samples
    pairs = run_missing(run, store, groups, rescue=store_samples_apart, on_device=True)
    with run.tally.phase("samples_wall", workers=run.executor.workers):
        for result in (shard for _, shards in pairs for shard in shards):
            made = result.record.rows
            run.devices.add(result.device)
            run.made += len(made)
            run.progress.advance(len(made), sum(row.status is not SampleStatus.OK for row in made))
            run.tally.committed(result.record)


def _sample_specs(run: Run, prepared: Prepared) -> list[SampleSpec]:
    usable = Counter(f"{row.dataset}/{row.category}" for row in prepared.sources if row.index >= 0)
    shares = samples_by_segment(run.recipe, [usable[key] for key in prepared.channels], run.extensions)
    for (key, channels), counts in zip(prepared.channels.items(), shares, strict=True):
        if sum(counts):
            lying = category_rows(run.recipe, channels, counts)
            create_sample_arrays(
                run.out, run.recipe, key, count=sum(counts), per_shard=lying.per_shard, used=lying.used
            )
    by_category: dict[str, dict[int, SourceRecord]] = {}
    for source in prepared.sources:
        by_category.setdefault(f"{source.dataset}/{source.category}", {})[source.index] = source
    specs = []
    for (key, _), where in shards_of(prepared.plan):
        rows = prepared.plan[where.start : where.stop]
        photographs = {k: by_category[key][k] for row in rows for k in row.photographs()}
        specs.append(SampleSpec(run.out, run.recipe, rows, photographs))
    return specs


def _missing(run: Run, prepared: Prepared) -> str:
    """Which samples and shards of the bank have no record, in words; empty if none."""
    bank = _bank_specs(run, prepared)
    made = _made(run, "samples", SampleRecord, _sample_specs(run, prepared))
    simulated = _made(run, "bank", BankRecord, bank)
    return missing_of(prepared.plan, {(c.key, c.shard) for c in made}, bank, {(c.key, c.shard) for c in simulated})
