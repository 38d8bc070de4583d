"""What a run cost, in OUT/log: kept while it runs, written as one line of runs.jsonl, and read again for reports.

Nothing here is part of the corpus: the log may be deleted, and a line that was cut short by a kill is passed over. A
line of runs.jsonl reads, shortened::

    {"time": "…", "workers": 2, "samples": 128, "wall_s": 20.1,
     "stage_s": {"sources": 7.5, "samples_wall": 4.4, "render": 0.61, …}, "cpu_s": {"render": 0.59, …},
     "waiting_s": 1.2, "peak_bytes": {"main": 512000000, "worker": 398000000}, "committed_bytes": 61000000}

``stage_s`` has wall seconds: of the phases of the run (sources, bank, samples_wall, ...) once, of the stages within
them summed over the workers. ``cpu_s`` has the CPU seconds of the stages. ``waiting_s`` is how long workers had nothing
to do while a phase ran.
"""

from __future__ import annotations

import io
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field, ValidationError

from manifests import layout
from manifests.object_store import Place
from manifests.records import AnyCommit
from pipeline.stage_clock import OTHER, StageTime, TaskCost, peak_memory, take
from pipeline.store import output_errors

__all__ = [
    "ORCHESTRATION",
    "RESOURCES",
    "RUNS",
    "ResourceSample",
    "RunEntry",
    "StageLine",
    "Tally",
    "append_log",
    "read_resources",
    "read_runs",
    "stage_lines",
]

RUNS = "runs.jsonl"
RESOURCES = "resources.jsonl"
ORCHESTRATION = "orchestration"  # CPU of the main process outside of all stages: plan rows, records, Dask's scheduler
_LINE_BYTES = 1 << 20  # no line of ours is longer; a damaged log must not fill the memory

_TITLES = {  # what a stage is called in a table, in the order of the work; by prefix where it ends in _
    "scan": "scan photographs",
    "plan": "plan",
    "simulate_": "simulate",
    "read": "read sources, bank",
    "place_": "place",
    "foreign": "foreign material",
    "paste": "paste",
    "render": "render",
    "npcf": "npcF",
    "npcf++": "npcF++",
    "label": "label",
    "visibility": "visibility",
    "judge": "judge",
    "finish": "compose, record",
    "sqe": "SQE",
    "write_stack": "write: stack",
    "write_compress": "write: compress",
    "write_fsync": "write: fsync",
    "write_hash": "write: sha256",
    "write_record": "write: commit record",
    OTHER: "other in tasks",
    "finalise": "finalise",
    ORCHESTRATION: "orchestration",
}


class Tally:
    """Adds up what the phases and tasks of one run cost; begins when it is made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._main_cpu = time.process_time()
        self._phases: defaultdict[str, float] = defaultdict(float)
        self._stages: dict[str, StageTime] = {}
        self._in_main = 0.0  # CPU seconds of stages in this process
        self._task_wall = 0.0
        self._waiting = 0.0
        self._serial = False
        self._worker_peak = 0
        self._bytes = 0
        take()

    @contextmanager
    def phase(self, name: str, *, workers: int = 0) -> Iterator[None]:
        """A phase of the run; with ``workers``, one whose tasks they share."""
        wall, busy = time.perf_counter(), self._task_wall
        self._serial = workers == 1
        try:
            yield
        finally:
            wall = time.perf_counter() - wall
            self._phases[name] += wall
            if workers:
                self._waiting += max(0.0, workers * wall - (self._task_wall - busy))
            here = take()
            self._in_main += sum(spent.cpu_s for spent in here.values())
            self._add(here)

    def add(self, cost: TaskCost) -> None:
        """A task has ended."""
        self._task_wall += cost.wall_s
        self._worker_peak = max(self._worker_peak, cost.peak_bytes)
        if self._serial:
            self._in_main += sum(spent.cpu_s for spent in cost.stages.values())
        self._add(cost.stages)

    def committed(self, record: AnyCommit) -> None:
        """A shard is on disk."""
        self._bytes += sum(file.bytes for file in record.files)

    def _add(self, stages: Mapping[str, StageTime]) -> None:
        for name, spent in stages.items():
            before = self._stages.get(name, StageTime(0.0, 0.0))
            self._stages[name] = StageTime(before.wall_s + spent.wall_s, before.cpu_s + spent.cpu_s)

    def entry(self) -> dict[str, object]:
        """What the line in runs.jsonl says of it."""
        cpu = {name: spent.cpu_s for name, spent in self._stages.items()}
        cpu[ORCHESTRATION] = max(0.0, time.process_time() - self._main_cpu - self._in_main)
        wall = {name: spent.wall_s for name, spent in self._stages.items()} | dict(self._phases)
        return {
            "wall_s": round(time.perf_counter() - self._began, 3),
            "stage_s": {name: round(value, 3) for name, value in wall.items()},
            "cpu_s": {name: round(value, 3) for name, value in cpu.items()},
            "waiting_s": round(self._waiting, 3),
            "peak_bytes": {"main": peak_memory(), "worker": self._worker_peak},
            "committed_bytes": self._bytes,
        }


def append_log(out: Path, name: str, entry: Mapping[str, object]) -> None:
    """One more line, with the time, in a file of OUT/log."""
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **entry}
    with output_errors(out), (out / layout.LOG / name).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


class RunEntry(BaseModel):
    """A line of runs.jsonl: one run of `maphc2f generate`, `plan` or `bank`; what older ones lack has a default."""

    time: datetime | None = None
    workers: int = 1
    cores: int | None = None
    samples: int = 0
    simulated: dict[str, int]
    stage_s: dict[str, float]
    cpu_s: dict[str, float] = Field(default_factory=dict)
    wall_s: float = 0.0
    waiting_s: float = 0.0
    peak_bytes: dict[str, int] = Field(default_factory=dict)
    committed_bytes: int = 0
    interrupted: bool = False


class ResourceSample(BaseModel):
    """A line of resources.jsonl: what all processes of a run held at a moment."""

    time: datetime
    run: int  # process number of the run that took it
    elapsed_s: float
    main_bytes: int  # resident memory
    worker_bytes: list[int]  # of each process that it started
    written_bytes: int | None = None  # by all of them to the disk so far, as the system counts; None where it does not


LineT = TypeVar("LineT", bound=BaseModel)


def read_runs(out: Place) -> list[RunEntry]:
    """Runs in the log, oldest first; lines that were cut short by a kill, or are not ours, are left out."""
    return list(_lines(out, RUNS, RunEntry))


def read_resources(out: Place) -> list[ResourceSample]:
    """Memory curves in the log, oldest first."""
    return list(_lines(out, RESOURCES, ResourceSample))


def _lines(out: Place, name: str, model: type[LineT]) -> Iterator[LineT]:
    path = out / layout.LOG / name
    if not path.is_file():
        return
    with path.open("rb") if isinstance(path, Path) else io.BytesIO(path.read_bytes()) as stream:
        while line := stream.readline(_LINE_BYTES):
            try:
                yield model.model_validate_json(line)
            except ValidationError:
                continue


@dataclass(frozen=True)
class StageLine:
    """One stage of a run: CPU seconds of all workers, their share of the whole, wall seconds that were not CPU (disk,
    other processes), and milliseconds of CPU for each sample that the run made; None where it made none.
    """

    stage: str
    title: str
    cpu_s: float
    share: float
    blocked_s: float
    sample_ms: float | None

    @property
    def rate(self) -> float | None:
        """Samples a CPU second of this stage."""
        return 1e3 / self.sample_ms if self.sample_ms else None


def stage_lines(run: RunEntry) -> list[StageLine]:
    """Stages of a run in the order of the work."""
    total = sum(run.cpu_s.values()) or 1.0
    return [
        StageLine(
            stage=name,
            title=_title(name),
            cpu_s=run.cpu_s[name],
            share=run.cpu_s[name] / total,
            blocked_s=max(0.0, run.stage_s.get(name, 0.0) - run.cpu_s[name]),
            sample_ms=1e3 * run.cpu_s[name] / run.samples if run.samples else None,
        )
        for name in sorted(run.cpu_s, key=_order)
    ]


def _prefix(name: str) -> str:
    """``simulate_`` of ``simulate_pitting``; the name itself of any other stage."""
    return next((known for known in _TITLES if known.endswith("_") and name.startswith(known)), name)


def _title(name: str) -> str:
    prefix = _prefix(name)
    return _TITLES.get(prefix, name) + (f" {name.removeprefix(prefix)}" if prefix != name else "")


def _order(name: str) -> int:
    known = list(_TITLES)
    prefix = _prefix(name)
    return known.index(prefix) if prefix in known else len(known)
