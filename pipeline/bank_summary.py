"""What a bank holds and what it cost: trajectories and bytes from its records, seconds from the log of its runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from manifests.records import BankRecord
from pipeline.recipe import Recipe
from pipeline.run_log import read_runs
from pipeline.store import read_commits

__all__ = ["MechanismBank", "summarise_bank"]


@dataclass(frozen=True)
class MechanismBank:
    """Trajectories of one mechanism: how many, of how many states each, their bytes on disk, how many were simulated
    (and not copied from another bank), the core seconds that took, and how many are numbered without a gap from 0 on.
    """

    mechanism: str
    trajectories: int
    states: int
    bytes: int
    simulated: int
    seconds: float
    unbroken: int


def summarise_bank(out: Path, recipe: Recipe) -> list[MechanismBank]:
    """The bank of a corpus by mechanism, in the order of the recipe."""
    counts: Counter[str] = Counter()
    size: Counter[str] = Counter()
    unbroken: Counter[str] = Counter()
    for commit in read_commits(out, "bank", BankRecord):
        if commit.rows and commit.rows[0].trajectory == unbroken[commit.key]:
            unbroken[commit.key] += len(commit.rows)
        counts[commit.key] += len(commit.rows)
        size[commit.key] += sum(file.bytes for file in commit.files)
    seconds: defaultdict[str, float] = defaultdict(float)
    simulated: Counter[str] = Counter()
    for run in read_runs(out):
        simulated.update(run.simulated)
        for name, spent in run.stage_s.items():
            if name.startswith("simulate_"):
                seconds[name.removeprefix("simulate_")] += spent
    return [
        MechanismBank(
            name,
            counts[name],
            recipe.params(name).snapshots,
            size[name],
            simulated[name],
            seconds[name],
            unbroken[name],
        )
        for name in recipe.mechanism_weights()
        if counts[name]
    ]
