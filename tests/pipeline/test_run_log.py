"""The log of a run: where its time went, what memory it took, read again from what real runs left."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from manifests import layout
from pipeline.recipe import load_recipe
from pipeline.resources import ResourceMonitor
from pipeline.run_log import (
    ORCHESTRATION,
    RESOURCES,
    RUNS,
    RunEntry,
    append_log,
    read_resources,
    read_runs,
    stage_lines,
)
from tests.pipeline.conftest import ROOT, CommandLine, digest

PASSES = {"render", "npcf", "npcf++", "label", "visibility", "judge", "sqe", "finish", "read"}
WRITING = {"write_stack", "write_compress", "write_fsync", "write_hash", "write_record"}
SLACK_BYTES = 32e6  # a worker grows a little after its last task, and the system counts in batches of pages
BY_MECHANISM = {f"{what}_{name}" for what in ("simulate", "place") for name in ("fracture", "pitting")}


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory, recipe_file: Path, finished: Path) -> tuple[Path, str]:
    """The small corpus made by two workers with --profile, and what was printed."""
    folder = tmp_path_factory.mktemp("profiled")
    done = CommandLine(folder).run(
        "generate", "corpus", "--config", recipe_file, "--workers", "2", "--profile", "--bank", finished
    )
    assert done.returncode == 0, done.stderr
    return folder / "corpus", done.stdout


def test_every_stage_of_a_run_is_in_its_log(finished: Path) -> None:
    [run] = read_runs(finished)
    assert PASSES | WRITING | BY_MECHANISM | {"scan", "plan", "finalise", ORCHESTRATION} <= set(run.cpu_s)
    assert all(run.cpu_s[name] > 0 for name in ("scan", "render", "npcf", "npcf++", "sqe", "write_compress"))
    assert {"start", "sources", "plan", "bank", "samples_wall", "finalise"} <= set(run.stage_s)
    assert (run.samples, run.workers, run.interrupted) == (24, 1, False)
    assert sum(run.cpu_s.values()) > 0
    assert run.wall_s >= run.stage_s["sources"] + run.stage_s["samples_wall"]


def test_bytes_of_the_log_are_those_of_the_shards(finished: Path) -> None:
    [run] = read_runs(finished)
    shards = [path for root in (layout.DATA, layout.BANK) for path in (finished / root).rglob("c/**/*")]
    assert run.committed_bytes == sum(path.stat().st_size for path in shards if path.is_file())


def test_cpu_of_one_worker_fits_into_the_wall_clock(finished: Path) -> None:
    [run] = read_runs(finished)
    samples = sum(run.stage_s[name] for name in PASSES | WRITING)
    assert samples <= run.stage_s["samples_wall"] + run.stage_s["bank"] + run.stage_s["sources"] + 0.05
    assert run.waiting_s < run.wall_s


def test_profile_is_printed_and_leaves_the_corpus_as_it_is(
    profiled: tuple[Path, str], finished_digest: dict[str, str]
) -> None:
    out, said = profiled
    assert digest(out) == finished_digest, "two workers, profiled, a copied bank: the same bytes"
    assert "where the time went: 24 samples, 2 workers" in said
    for title in ("npcF++", "SQE", "write: fsync", "place pitting", "scan photographs", "orchestration", "all stages"):
        assert re.search(rf"{re.escape(title)}\W+\d+\.\d\d", said), title
    assert re.search(
        r"peak memory: main process [\d.]+ MB, largest worker [\d.]+ MB; shards written [\d.]+ [kM]B", said
    )


def test_nothing_is_printed_of_the_profile_unless_asked(
    finished: Path, maphc2f: CommandLine, recipe_file: Path
) -> None:
    again = maphc2f.run("generate", shutil.copytree(finished, maphc2f.folder / "again"), "--config", recipe_file)
    assert again.returncode == 0, again.stderr
    assert "where the time went" not in again.stdout


def test_memory_of_workers_is_in_the_log(profiled: tuple[Path, str]) -> None:
    out, _ = profiled
    [run], curve = read_runs(out), read_resources(out)
    assert run.peak_bytes["worker"] > 100e6, "torch and Numba alone are more"
    assert run.peak_bytes["main"] > max(sample.main_bytes for sample in curve) - SLACK_BYTES > 50e6
    assert max(len(sample.worker_bytes) for sample in curve) >= 2
    assert run.peak_bytes["worker"] > max(memory for s in curve for memory in s.worker_bytes) - SLACK_BYTES
    elapsed = [sample.elapsed_s for sample in curve]
    assert elapsed == sorted(elapsed)
    assert len({sample.run for sample in curve}) == 1


def test_shares_are_of_the_whole_and_lines_in_the_order_of_the_work(finished: Path) -> None:
    [run] = read_runs(finished)
    lines = stage_lines(run)
    assert sum(line.share for line in lines) == pytest.approx(1.0)
    titles = [line.title for line in lines]
    order = ["scan photographs", "plan", "simulate fracture", "render", "npcF", "npcF++", "SQE", "finalise"]
    assert [title for title in titles if title in order] == order
    by_stage = {line.stage: line for line in lines}
    assert by_stage["sqe"].sample_ms == pytest.approx(1e3 * run.cpu_s["sqe"] / 24)
    assert by_stage["sqe"].rate == pytest.approx(24 / run.cpu_s["sqe"])


def test_run_that_made_no_sample_has_no_time_a_sample() -> None:
    lines = stage_lines(RunEntry(simulated={}, stage_s={"plan": 1.0}, cpu_s={"plan": 0.5, "unheard_of": 0.5}))
    assert [(line.stage, line.share, line.blocked_s, line.sample_ms, line.rate) for line in lines] == [
        ("plan", 0.5, 0.5, None, None),
        ("unheard_of", 0.5, 0.0, None, None),
    ]


def test_log_of_an_older_version_and_torn_lines_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    assert read_runs(tmp_path) == []
    (tmp_path / layout.LOG).mkdir()
    old = json.dumps({"simulated": {"pitting": 3}, "stage_s": {"read": 1.0}})
    (tmp_path / layout.LOG / RUNS).write_bytes(f"{old}\n{old[:20]}\n".encode() + b"\xff\xfe\n" + b"[]\n")
    append_log(tmp_path, RUNS, {"simulated": {}, "stage_s": {}, "workers": 4})
    runs = read_runs(tmp_path)
    assert [(run.workers, run.simulated) for run in runs] == [(1, {"pitting": 3}), (4, {})]
    assert runs[1].time is not None


def test_interrupted_runs_log_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.generate import generate

    def fails(*_: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr("pipeline.generate.store_sources", fails)
    recipe = load_recipe(None, overrides={"count": 4, "size": 64, "sources": [{"kind": "builtin"}]})
    with pytest.raises(MemoryError):
        generate(tmp_path / "out", recipe, workers=1)
    [run] = read_runs(tmp_path / "out")
    assert (run.samples, run.committed_bytes) == (0, 0)
    assert not [thread for thread in threading.enumerate() if thread.name == "maphc2f-resources"]
    assert read_resources(tmp_path / "out")


# ---------------------------------------------------------------- the memory curve


HOLDS = """
import sys, time
from pathlib import Path
from pipeline.resources import ResourceMonitor
from pipeline.run_log import read_resources
out = Path(sys.argv[1])

def wait(count):
    end = time.monotonic() + 60
    while len(read_resources(out)) < count:
        assert time.monotonic() < end
        time.sleep(0.02)

with ResourceMonitor(out, every_s=0.05):
    wait(1)
    held = bytearray(range(256)) * (1 << 19)
    wait(len(read_resources(out)) + 2)
"""


def test_memory_curve_follows_what_is_held(tmp_path: Path) -> None:
    (tmp_path / layout.LOG).mkdir()
    process = subprocess.Popen([sys.executable, "-c", HOLDS, tmp_path], cwd=ROOT)
    assert process.wait(timeout=120) == 0
    curve = read_resources(tmp_path)
    assert max(sample.main_bytes for sample in curve) - curve[0].main_bytes > 120e6
    assert {sample.run for sample in curve} == {process.pid}


def test_monitor_ends_with_its_block_and_bears_a_folder_that_goes(tmp_path: Path) -> None:
    (tmp_path / layout.LOG).mkdir()
    with ResourceMonitor(tmp_path, every_s=0.01) as monitor:
        shutil.rmtree(tmp_path / layout.LOG)
    assert not monitor.is_running
    assert not (tmp_path / layout.LOG / RESOURCES).exists()
