"""Beyond one site: what a sample costs, what a thousand workers ask of the parts that are one, and what breaks first.

Run with::

    python -m benchmarks.scaling            # writes docs/scaling.md and docs/pictures/scaling.png; make scaling
    python -m benchmarks.scaling --workers 64 --tasks 200 --rows 2000 8000 --page build/scaling.md   # a quick look

Three measurements feed a model. A small corpus is made by one worker: CPU and bytes a sample, files, records and
fsyncs a shard. The real client loop and the real Dask scheduler of this program, in this process as in a run, drive
workers that are *stubs*: real Dask workers on TCP, many to a process, whose task returns a stored record at once.
The last stage is run on synthetic records, made by repeating real ones. All are CPU seconds, so that other work on the
machine weighs little. What is not measured, but computed from these or taken from a published limit, is marked.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import dask
import numpy as np
from distributed import Client, LocalCluster

from benchmarks.scaling_page import SHARD_ROWS, TARGETS, Costs, Finalised, Results, Simulated, write_page
from benchmarks.stub_workers import QUIET, stub_of_a_shard, stub_of_nothing
from manifests import layout
from manifests.records import CommitRecord, PlanRow, SampleRecord, SourceRecord, parse_commit
from manifests.tables import Rows, from_table, read_table, to_table
from pipeline.executor import TaskLoop
from pipeline.finalise import finalise
from pipeline.generate import generate, prepare
from pipeline.planning import bank_sizes
from pipeline.recipe import Recipe
from pipeline.run_log import read_runs
from pipeline.stage_clock import peak_memory
from pipeline.store import ArraySpec, commit, create_array, place_shard, read_commits, read_identity, stage_shard
from pipeline.synthesis import SampleSpec, sample_arrays

ROOT = Path(__file__).resolve().parent.parent
CATEGORIES = ("brushed_metal", "cast_plaster", "hex_nut")  # grey, colour, and parts that do not fill the picture
MAIN_STAGES = ("scan", "plan", "finalise", "orchestration")


def main_recipe(count: int) -> Recipe:
    sources = [{"kind": "builtin", "categories": list(CATEGORIES)}]
    return Recipe.model_validate({"count": count, "size": 256, "seed": 7, "sources": sources})


# ---------------------------------------------------------------- what a sample costs


def measure_costs(out: Path, scratch: Path) -> Costs:
    """What the log and the records of a corpus say, and what its shards ask of a disk."""
    recipe, run = read_identity(out).recipe, read_runs(out)[0]
    records = list(read_commits(out, "samples", SampleRecord))
    made = sum(len(record.rows) for record in records)
    stages = {
        name: cpu for name, cpu in run.cpu_s.items() if name not in MAIN_STAGES and not name.startswith("simulate_")
    }
    simulated = sum(cpu for name, cpu in run.cpu_s.items() if name.startswith("simulate_"))
    return Costs(
        samples=made,
        sample_ms=1e3 * sum(stages.values()) / made,
        stage_ms={name: 1e3 * cpu / made for name, cpu in stages.items()},
        trajectory_ms=1e3 * simulated / sum(run.simulated.values()),
        sample_bytes=sum(file.bytes for record in records for file in record.files) / made,
        record_bytes=sum(len(record.to_bytes()) for record in records) / made,
        shard_files=len(sample_arrays(recipe)),
        shard_fsyncs=fsyncs_of_a_shard(scratch / "shard", recipe),
        plan_row_us=1e6 * plan_row_s(scratch / "plans"),
        worker_bytes=run.peak_bytes["worker"],
        trajectories={
            size: sum(bank_sizes(recipe.model_copy(update={"count": size}), usable_of(out)).values())
            for size in TARGETS
        },
    )


def usable_of(out: Path) -> list[int]:
    """Usable photographs by category."""
    rows = from_table(read_table(out / layout.INVENTORY), SourceRecord)
    return list(Counter(row.category for row in rows if row.index >= 0).values())


def fsyncs_of_a_shard(out: Path, recipe: Recipe) -> int:
    """How often a shard of samples forces something to disk, its record included; an empty one is counted."""
    key, names, plane = "count/fsyncs", sample_arrays(recipe), (2, 8, 8)
    for name in names:
        create_array(out, layout.DATA, key, ArraySpec(name, plane, "uint8", 2, ()), zstd_level=1)
    arrays = {name: np.ones(plane, dtype=np.uint8) for name in names}
    identity = dict.fromkeys(("config_sha256", "code_version", "inputs_sha256"), "0")
    with counted_fsyncs() as number:
        files = place_shard(out, stage_shard(out, layout.DATA, key, arrays, shard=0))
        commit(out, CommitRecord[SampleRecord](stage="samples", key=key, shard=0, files=files, rows=(), **identity))
    return number[0]


@contextmanager
def counted_fsyncs() -> Iterator[list[int]]:
    """How often the system was asked to force something to disk, in this process."""
    forced, number = os.fsync, [0]

    def fsync(descriptor: int) -> None:
        number[0] += 1
        forced(descriptor)

    os.fsync = fsync  # type: ignore[assignment]
    try:
        yield number
    finally:
        os.fsync = forced


def plan_row_s(folder: Path, counts: tuple[int, int] = (500, 2500)) -> float:
    """CPU seconds that one more row of the plan costs."""
    spent = []
    for count in counts:
        out = folder / str(count)
        out.parent.mkdir(exist_ok=True)
        recipe = Recipe.model_validate({"count": count, "sources": [{"kind": "builtin", "categories": ["coins"]}]})
        prepare(out, recipe, workers=1)
        spent.append(read_runs(out)[-1].cpu_s["plan"])
    return max(0.0, spent[1] - spent[0]) / (counts[1] - counts[0])


# ---------------------------------------------------------------- a thousand workers


class StubbedExecutor(TaskLoop):
    """The loop over tasks of this program, on workers that others started."""

    def __init__(self, client: Client, workers: int) -> None:
        super().__init__()
        self._client, self._workers = client, workers

    def _slots(self, *, on_device: bool) -> int:
        return self._workers


@contextmanager
def many_workers(workers: int, processes: int) -> Iterator[Client]:
    """A scheduler in this process, as in a run, and so many workers in a few others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))
    shares = [len(part) for part in np.array_split(np.arange(workers), processes)]
    with (
        tempfile.TemporaryDirectory(prefix="maphc2f-") as scratch,
        dask.config.set(QUIET),
        LocalCluster(
            n_workers=0,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            protocol="tcp",
            host="127.0.0.1",
            silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.stub_workers", cluster.scheduler_address, str(share), scratch],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            for share in shares
        ]
        try:
            for process in started:
                if process.stdout is None or process.stdout.readline() != "ready\n":
                    raise RuntimeError("the stub workers did not start")
            client.wait_for_workers(workers, timeout=300)
            yield client
        finally:
            for process in started:
                process.kill()
                process.communicate()


def simulate(client: Client, workers: int, tasks: int, record: Path, spec: SampleSpec) -> list[Simulated]:
    """Run the client's loop with stubs: bare tasks, and tasks with the spec and the record of a shard."""
    return [
        _drive(client, workers, "a bare task", stub_of_nothing, [0] * tasks),
        _drive(client, workers, f"a shard of {SHARD_ROWS} rows", stub_of_a_shard, [(str(record), spec)] * tasks),
    ]


def _drive(client: Client, workers: int, name: str, stub: Callable[..., object], specs: Sequence[object]) -> Simulated:
    executor = StubbedExecutor(client, workers)
    warm = list(executor.run(stub, specs[: max(2, workers // 4)], stop=lambda: False))
    del warm
    wall, cpu = time.perf_counter(), time.process_time()
    done = sum(1 for _ in executor.run(stub, specs, stop=lambda: False))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Simulated(name=name, workers=workers, tasks=done, wall_s=wall, main_cpu_s=cpu, main_bytes=peak_memory())


# ---------------------------------------------------------------- the last stage


def finalised(out: Path, rows: int) -> Finalised:
    """Read so many synthetic records back and run the last stage on them, in a process of its own."""
    code = "import sys; from benchmarks.scaling import finalise_here; finalise_here(sys.argv[1], int(sys.argv[2]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), str(rows)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return Finalised(**json.loads(done.stdout.splitlines()[-1]))


def finalise_here(corpus: str, rows: int) -> None:
    """Entry of that process."""
    source = Path(corpus)
    recipe = read_identity(source).recipe
    record = wide_record(source)
    data = record.to_bytes()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        (out / layout.COMMITS).mkdir()
        for name in (layout.CONFIG, layout.INVENTORY, layout.PLAN):
            (out / name).write_bytes((source / name).read_bytes())
        start = time.process_time()
        pieces = range(0, rows, len(record.rows))  # parsed anew each time, as records on disk are
        samples = (parse_commit(data, SampleRecord).rows[: rows - first] for first in pieces)
        finalise(out, recipe, sources=[], bank=[], samples=samples)
        spent = time.process_time() - start
        size = (out / layout.MANIFEST).stat().st_size
    made = Finalised(rows=rows, finalise_s=spent, peak_bytes=peak_memory(), manifest_bytes=size)
    sys.stdout.write(json.dumps(asdict(made)) + "\n")


def wide_record(out: Path) -> CommitRecord[SampleRecord]:
    """A commit record of a whole shard, SYNTHETIC: rows of a real one, repeated with other indices."""
    records = list(read_commits(out, "samples", SampleRecord))
    rows = [row for record in records for row in record.rows]
    wide = tuple(rows[k % len(rows)].model_copy(update={"index": k, "row": k}) for k in range(SHARD_ROWS))
    return records[0].model_copy(update={"rows": wide})


def wide_spec(out: Path) -> SampleSpec:
    """What a whole shard is made from, SYNTHETIC: rows of a real plan, repeated."""
    plan = from_table(read_table(out / layout.PLAN), PlanRow)
    mine = [row for row in plan if row.category == plan[0].category]
    sources = from_table(read_table(out / layout.INVENTORY), SourceRecord)
    known = {row.index: row for row in sources if row.category == plan[0].category}
    wide = to_table([mine[k % len(mine)] for k in range(SHARD_ROWS)], PlanRow)
    return SampleSpec(out, read_identity(out).recipe, Rows(wide, PlanRow), known)


# ---------------------------------------------------------------- all of it


def measure(scratch: Path, out: Path, *, workers: int, processes: int, tasks: int, rows: Sequence[int]) -> Results:
    """All three measurements, from a corpus that one worker made."""
    costs = measure_costs(out, scratch)
    record = scratch / "record.json"
    record.write_bytes(wide_record(out).to_bytes())
    spec = wide_spec(out)
    with many_workers(workers, processes) as client:
        simulated = simulate(client, workers, tasks, record, spec)
    return Results(costs, simulated, [finalised(out, count) for count in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=64, help="samples of the corpus that is made for the costs")
    parser.add_argument("--corpus", type=Path, help="take the costs from this corpus, made by one worker in one run")
    parser.add_argument("--workers", type=int, default=1000, help="stub workers of the simulated run")
    parser.add_argument("--processes", type=int, default=4, help="processes that hold them")
    parser.add_argument("--tasks", type=int, default=2000, help="tasks of each simulated run")
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 115_987], help="rows of the last stage")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "scaling.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maphc2f-") as scratch:
        corpus = options.corpus or Path(scratch) / "corpus"
        if options.corpus is None:
            generate(corpus, main_recipe(options.samples), workers=1)
        results = measure(
            Path(scratch),
            corpus,
            workers=options.workers,
            processes=options.processes,
            tasks=options.tasks,
            rows=options.rows,
        )
    write_page(options.page, results)
    sys.stdout.write(f"written: {options.page}\n")


if __name__ == "__main__":
    main()
