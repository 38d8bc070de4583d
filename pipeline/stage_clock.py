"""Wall and CPU seconds of this process by stage, and what one task of an executor cost: for the log, never a record.

A stage within another is taken off the outer one, so the stages of a task add up to the task. CPU seconds are those of
the whole process: zarr compresses in threads of its own.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

__all__ = ["OTHER", "Measured", "StageTime", "TaskCost", "peak_memory", "share_out", "take", "timed"]

SpecT = TypeVar("SpecT")
ResultT = TypeVar("ResultT")
OTHER = "other"  # what a task does outside of all stages
_STATUS = Path("/proc/self/status")


class StageTime(NamedTuple):
    """Seconds of one stage."""

    wall_s: float
    cpu_s: float


class _Clock:
    """Open stages of this process, innermost last, and what those that ended cost."""

    def __init__(self) -> None:
        self.spent: dict[str, StageTime] = {}
        self.within: list[StageTime] = []  # of each open stage: what the stages within it took

    def add(self, name: str, time_: StageTime) -> None:
        before = self.spent.get(name, StageTime(0.0, 0.0))
        self.spent[name] = StageTime(before.wall_s + time_.wall_s, before.cpu_s + time_.cpu_s)


_clock = _Clock()


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Count what is done in this block as a stage; never yield from within, or the consumer is counted too."""
    wall, cpu = time.perf_counter(), time.process_time()
    _clock.within.append(StageTime(0.0, 0.0))
    try:
        yield
    finally:
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        inner = _clock.within.pop()
        _clock.add(name, StageTime(wall - inner.wall_s, cpu - inner.cpu_s))
        if _clock.within:
            outer = _clock.within[-1]
            _clock.within[-1] = StageTime(outer.wall_s + wall, outer.cpu_s + cpu)


def share_out(name: str, wall_s: Mapping[str, float]) -> None:
    """Split what a stage has cost so far among finer ones, in the ratio of the wall seconds that those report."""
    whole, total = _clock.spent.pop(name, StageTime(0.0, 0.0)), sum(wall_s.values())
    for part, seconds in wall_s.items():
        ratio = seconds / total if total else 0.0
        _clock.add(part, StageTime(whole.wall_s * ratio, whole.cpu_s * ratio))


def take() -> dict[str, StageTime]:
    """What the stages have cost since this was last asked."""
    found, _clock.spent = _clock.spent, {}
    return found


@dataclass(frozen=True)
class TaskCost:
    """One task: seconds by stage, what is in none of them as `OTHER`; the highest memory its process had, bytes."""

    stages: Mapping[str, StageTime]
    wall_s: float
    peak_bytes: int


@dataclass(frozen=True)
class Measured(Generic[SpecT, ResultT]):
    """A task that also says what it cost; as picklable as its function."""

    function: Callable[[SpecT], ResultT]

    def __call__(self, spec: SpecT) -> tuple[ResultT, TaskCost]:
        """Run it."""
        take()
        wall, cpu = time.perf_counter(), time.process_time()
        result = self.function(spec)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        stages = take()
        stages[OTHER] = StageTime(
            max(0.0, wall - sum(t.wall_s for t in stages.values())),
            max(0.0, cpu - sum(t.cpu_s for t in stages.values())),
        )
        return result, TaskCost(stages, wall, peak_memory())


def peak_memory() -> int:
    """Most memory (resident set) that this process ever had, bytes."""
    if _STATUS.is_file():  # getrusage would tell that of the parent, where it was larger when this one was started
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
