"""One sample made again from its record: its simulations, its passes, and what differs from the stored bytes, if any.

A sample is a function of its row of the plan, the recipe, the photographs and the code, so it can be made alone. Its
photographs are those that the corpus keeps; its trajectories are simulated anew, or taken from the stored bank.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from manifests import layout
from manifests.corpus import Corpus
from manifests.durable import write_atomic
from manifests.errors import CorpusError
from manifests.hashing import code_version
from manifests.records import PlanRow, SampleRecord, SourceRecord, plan_row_id
from manifests.tables import from_table, read_table
from pipeline.bank import StoredTrajectory, load_trajectory, simulate_trajectory
from pipeline.png import png
from pipeline.recipe import Recipe
from pipeline.scoring import shipped_sha256
from pipeline.store import output_errors, read_identity, read_rows
from pipeline.synthesis import MadeSample, SampleSpec, make_samples, sample_arrays, stacked_arrays
from refine.passes import settle_process

__all__ = ["Reproduction", "reproduce", "write_sample"]

Trajectories = dict[tuple[str, int], StoredTrajectory]


@dataclass(frozen=True)
class Reproduction:
    """A sample made again.

    Attributes
    ----------
    made : MadeSample
        As it came out now.
    arrays : tuple of str
        What was compared, byte for byte, beside its record.
    differences : tuple of str
        What differs from the store, and by how much; none if all is the same.
    reason : str
        The likely cause of a difference.
    simulated : int
        Trajectories that were computed anew; 0 where the stored bank was taken.
    physics_s, sample_s : float
        Seconds for the trajectories, and for all after them.
    """

    made: MadeSample
    arrays: tuple[str, ...]
    differences: tuple[str, ...]
    reason: str
    simulated: int
    physics_s: float
    sample_s: float


def reproduce(corpus: Corpus, position: int, *, bank_stored: bool = False) -> Reproduction:
    """Make a sample again, alone, and compare every byte that the store has of it; nothing is written.

    Parameters
    ----------
    corpus : Corpus
        A finished corpus.
    position : int
        Of the sample.
    bank_stored : bool
        Take the trajectories of the corpus's bank instead of simulating them.

    Raises
    ------
    CorpusError
        The plan, the sources or a shard is missing or damaged.
    """
    stored = corpus[position].record
    recipe = read_identity(corpus.folder).recipe
    row = _planned(corpus.folder, stored)
    spec = SampleSpec(corpus.folder, recipe, (row,), _sources(corpus.folder, row))
    settle_process(1)  # as the processes that made it
    start = time.perf_counter()
    trajectories = _trajectories(corpus.folder, recipe, row, bank_stored=bank_stored)
    simulated = time.perf_counter()
    made = next(make_samples([spec], trajectories=trajectories))
    finished = time.perf_counter()
    differences = [] if bank_stored else list(_bank_differences(corpus.folder, recipe, trajectories))
    differences += _array_differences(corpus.folder, recipe, stored, made)
    differences += _record_differences(stored, made.record)
    return Reproduction(
        made=made,
        arrays=sample_arrays(recipe),
        differences=tuple(differences),
        reason=_reason(corpus),
        simulated=0 if bank_stored else len(trajectories),
        physics_s=simulated - start,
        sample_s=finished - simulated,
    )


# ---------------------------------------------------------------- what it is made from


def _planned(out: Path, stored: SampleRecord) -> PlanRow:
    """Its row of the plan, which its id is the hash of."""
    table = read_table(out / layout.PLAN)
    if "id" not in table.column_names:
        raise CorpusError(f"{out / layout.PLAN}: holds no column id; run `maphc2f verify`")
    rows = from_table(table.filter(pc.equal(table["id"], stored.id)), PlanRow)
    if len(rows) != 1 or plan_row_id(rows[0].model_dump()) != stored.id:
        raise CorpusError(f"{out / layout.PLAN}: its row of sample {stored.id} is not the one that the id was made of")
    return rows[0]


def _sources(out: Path, row: PlanRow) -> dict[int, SourceRecord]:
    """Records of the photographs that it is made from, by their row."""
    table = read_table(out / layout.INVENTORY)
    records = {
        record.index: record
        for record in from_table(table, SourceRecord)
        if (record.dataset, record.category) == (row.dataset, row.category)
    }
    missing = [number for number in row.photographs() if number not in records]
    if missing:
        raise CorpusError(
            f"{out / layout.INVENTORY}: no photograph {missing[0]} of {row.dataset}/{row.category}, which sample "
            f"{row.id} is made from; run `maphc2f verify`"
        )
    return {number: records[number] for number in row.photographs()}


def _trajectories(out: Path, recipe: Recipe, row: PlanRow, *, bank_stored: bool) -> Trajectories:
    wanted = sorted({(defect.mechanism, defect.trajectory) for defect in row.planned()})
    if bank_stored:
        return {(name, number): load_trajectory(out, recipe, name, number) for name, number in wanted}
    return {(name, number): simulate_trajectory(recipe, name, number) for name, number in wanted}


# ---------------------------------------------------------------- what differs


def _array_differences(out: Path, recipe: Recipe, stored: SampleRecord, made: MadeSample) -> Iterator[str]:
    key = f"{stored.dataset}/{stored.category}"
    for name, (ours,) in stacked_arrays(recipe, [made]).items():
        theirs = read_rows(out, layout.DATA, key, name, stored.row, stored.row + 1)[0]
        yield from _difference(name, ours, theirs)


def _bank_differences(
    out: Path, recipe: Recipe, trajectories: Mapping[tuple[str, int], StoredTrajectory]
) -> Iterator[str]:
    for (name, number), ours in trajectories.items():
        theirs = load_trajectory(out, recipe, name, number)
        for label, now in _values(ours).items():
            yield from _difference(f"simulation {name} {number}, {label}", now, _values(theirs).get(label, now[:0]))


def _values(trajectory: StoredTrajectory) -> dict[str, NDArray[Any]]:
    crack = {"segments": trajectory.segments, "opening": trajectory.opening}
    found = {name: values for name, values in crack.items() if values is not None}
    return {**trajectory.fields, **found, "severity": trajectory.severity, "area": trajectory.area}


def _difference(what: str, ours: NDArray[Any], theirs: NDArray[Any]) -> Iterator[str]:
    """One phrase if two arrays are not the same bytes."""
    if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
        yield f"{what}: {theirs.dtype} {theirs.shape} stored, {ours.dtype} {ours.shape} made"
    elif ours.tobytes() != theirs.tobytes():
        changed = np.not_equal(ours, theirs)
        by = np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max()
        share = 100 * np.count_nonzero(changed) / changed.size
        yield f"{what}: {np.count_nonzero(changed):,} of {changed.size:,} values ({share:.2g} %), by up to {by:.3g}"


def _record_differences(stored: SampleRecord, made: SampleRecord) -> Iterator[str]:
    theirs, ours = stored.model_dump(mode="json"), made.model_dump(mode="json")
    for name in (name for name in theirs if theirs[name] != ours[name]):
        if name == "defects":
            yield "record: its defects"
        else:
            yield f"record: {name} {theirs[name]} stored, {ours[name]} made"


def _reason(corpus: Corpus) -> str:
    """Why a sample may come out otherwise."""
    theirs, ours = corpus.info.code_version, code_version()
    if theirs != ours:
        return f"made by code version {theirs}, this is {ours}: the likely reason"
    if corpus.info.sqe_sha256 not in {"", shipped_sha256()}:
        return "scored by another estimator than the one shipped here: the likely reason"
    return "the code is the same: another release of a library, another processor, or damage; run `maphc2f verify`"


# ---------------------------------------------------------------- as files


def write_sample(folder: Path, made: MadeSample) -> tuple[Path, ...]:
    """Write image.png, mask.png and fields.npz of a sample, each whole or not at all.

    Parameters
    ----------
    folder : Path
        Where to; made if it is not there.
    made : MadeSample
        The sample.

    Returns
    -------
    tuple of Path
        The files.

    Raises
    ------
    OutputError
        The folder cannot be written to.
    """
    stream = io.BytesIO()
    np.savez_compressed(stream, **cast("dict[str, Any]", dict(made.fields)))
    files = {
        "image.png": png(made.image),
        "mask.png": png(made.mask.astype(np.uint8) * np.uint8(255)),
        "fields.npz": stream.getvalue(),
    }
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_atomic(folder / name, data)
    return tuple(folder / name for name in files)
