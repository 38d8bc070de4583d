"""How long and how large a planned corpus will be, measured on a few of its own samples in a scratch folder."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from manifests import layout
from manifests.records import PlanRow, SourceRecord
from manifests.tables import Rows
from pipeline.bank import BankSpec, create_bank, store_trajectories
from pipeline.generate import Prepared
from pipeline.recipe import Recipe
from pipeline.sharing import shards_of
from pipeline.synthesis import SampleSpec, create_sample_arrays, store_samples
from refine.passes import settle_process

__all__ = ["Estimate", "measure"]

_CATEGORIES = 3
_SAMPLES = 24  # of each of these categories
_TRAJECTORIES = 6  # of each mechanism


@dataclass(frozen=True)
class Estimate:
    """Expected cost on one worker: ``seconds`` in all, ``bytes`` on disk; what it was measured on."""

    seconds: float
    bytes: float
    sample_s: float
    trajectory_s: float
    measured: int


def measure(out: Path, recipe: Recipe, prepared: Prepared) -> Estimate:
    """Make a few samples of the plan beside the corpus, take the time, weigh them, and remove them."""
    plan = prepared.plan
    settle_process(1)
    with tempfile.TemporaryDirectory(prefix="maphc2f-") as scratch:
        trial = Path(scratch)
        _copy_sources(out, trial)
        simulate_s, bank_bytes = _time_bank(trial, recipe, prepared)
        rows = _representative(plan)
        _make(trial, recipe, rows, prepared.sources)  # compiles, and fills caches
        shutil.rmtree(trial / layout.COMMITS)  # a shard that has its record would not be made again
        start = time.perf_counter()
        total = _make(trial, recipe, rows, prepared.sources)
        sample_s = (time.perf_counter() - start) / len(rows)
    source_bytes = _size(out / layout.DATA)
    return Estimate(
        seconds=len(plan) * sample_s + simulate_s,
        bytes=len(plan) * total / len(rows) + bank_bytes + source_bytes,
        sample_s=sample_s,
        trajectory_s=simulate_s / sum(prepared.bank_sizes.values()),
        measured=len(rows),
    )


def _time_bank(trial: Path, recipe: Recipe, prepared: Prepared) -> tuple[float, float]:
    """Seconds and bytes of the whole bank, from a few trajectories of each mechanism."""
    create_bank(trial, recipe, {name: (range(total),) for name, total in prepared.bank_sizes.items()})
    seconds = size = 0.0
    for name, total in prepared.bank_sizes.items():
        few = min(_TRAJECTORIES, total)
        store_trajectories(BankSpec(trial, recipe, name, 0, 0, 1))  # compiles, and warms the file system
        start = time.perf_counter()
        store_trajectories(BankSpec(trial, recipe, name, 0, 0, few))
        seconds += total * (time.perf_counter() - start) / few
        size += total * _size(trial / layout.BANK / name) / few
    return seconds, size


def _representative(plan: Rows[PlanRow]) -> list[PlanRow]:
    """First rows of a few categories, brought onto the few trajectories that were made."""
    by_category: dict[str, list[int]] = {}
    for (key, _), rows in shards_of(plan):
        by_category.setdefault(key, []).extend(rows)
    keys = list(by_category)
    chosen = {keys[k] for k in np.linspace(0, len(keys) - 1, min(_CATEGORIES, len(keys))).astype(int)}
    return [_among_those_made(plan[k]) for key in sorted(chosen) for k in by_category[key][:_SAMPLES]]


def _among_those_made(row: PlanRow) -> PlanRow:
    others = tuple(d.model_copy(update={"trajectory": d.trajectory % _TRAJECTORIES}) for d in row.others)
    return row.model_copy(update={"trajectory": row.trajectory % _TRAJECTORIES, "others": others})


def _make(trial: Path, recipe: Recipe, rows: Sequence[PlanRow], sources: Sequence[SourceRecord]) -> int:
    """Make samples category by category; bytes written."""
    by_category: Counter[str] = Counter(f"{row.dataset}/{row.category}" for row in rows)
    total = 0
    for key, count in by_category.items():
        mine = [row for row in rows if f"{row.dataset}/{row.category}" == key]
        renumbered = tuple(row.model_copy(update={"shard": 0, "row": k}) for k, row in enumerate(mine))
        create_sample_arrays(trial, recipe, key, count=count, per_shard=count)
        known = {s.index: s for s in sources if f"{s.dataset}/{s.category}" == key}
        [made] = store_samples([SampleSpec(trial, recipe, renumbered, known)])
        total += sum(file.bytes for file in made.record.files)
    return total


def _copy_sources(out: Path, trial: Path) -> None:
    for name in layout.SOURCE_ARRAYS:
        for array in (out / layout.DATA).glob(f"*/*/{name}"):
            shutil.copytree(array, trial / array.relative_to(out))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
