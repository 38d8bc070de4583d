"""One shard, several writers: whichever is heard, files and record are of one of them, and whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from manifests import layout
from manifests.errors import OutputError
from manifests.hashing import sha256_file
from manifests.records import BankRecord, CommitRecord, parse_commit
from pipeline import single_writer
from pipeline.single_writer import finished_shard, publish_shard
from pipeline.store import ArraySpec, create_array, stage_shard
from pipeline.verification import verify_corpus
from tests.pipeline.conftest import ROOT, digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEY = "fracture"
ARRAYS = ("first", "second", "third")
NAME = layout.commit_name("bank", KEY, 0)


def identity(**changes: object) -> CommitRecord[BankRecord]:
    settings = {"config_sha256": "c", "code_version": "v", "inputs_sha256": "i", **changes}
    return CommitRecord[BankRecord](stage="bank", key=KEY, shard=0, files=(), rows=(), **settings)


def lay_out(out: Path) -> Path:
    (out / layout.LOG).mkdir(parents=True)
    (out / layout.COMMITS).mkdir()
    for name in ARRAYS:
        spec = ArraySpec(name=name, shape=(4, 16, 16), dtype="uint8", shard_rows=4, attributes=())
        create_array(out, "bank", KEY, spec, zstd_level=1)
    return out


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return lay_out(tmp_path / "out")


def rows(value: int) -> dict[str, NDArray[np.uint8]]:
    """Arrays that differ from writer to writer, in length as well."""
    noise = np.random.default_rng(value).integers(0, 1 + value, (4, 16, 16), dtype=np.uint8)
    return dict.fromkeys(ARRAYS, noise)


def publish(out: Path, value: int, **changes: object) -> CommitRecord[BankRecord]:
    return publish_shard(out, stage_shard(out, "bank", KEY, rows(value), shard=0), identity(**changes))


def stored(out: Path) -> CommitRecord[BankRecord]:
    return parse_commit((out / layout.COMMITS / NAME).read_bytes(), BankRecord)


def assert_whole(out: Path) -> None:
    for file in stored(out).files:
        assert sha256_file(out / file.path) == file.sha256
    assert list((out / layout.LOG / "writing").iterdir()) == []


def test_first_record_wins_and_the_second_writer_takes_it(out: Path) -> None:
    first, before = publish(out, 1), digest(out)
    assert publish(out, 200) == first
    assert digest(out) == before
    assert_whole(out)


def test_record_of_other_inputs_or_without_its_files_does_not_win(out: Path) -> None:
    publish(out, 1)
    assert finished_shard(out, identity(inputs_sha256="other")) is None
    replaced = publish(out, 200, inputs_sha256="other")
    assert stored(out) == replaced
    (out / replaced.files[1].path).unlink()
    assert finished_shard(out, identity(inputs_sha256="other")) is None
    publish(out, 3, inputs_sha256="other")
    assert_whole(out)


def test_refused_shard_leaves_no_private_file(out: Path) -> None:
    grey = {**rows(1), "third": np.zeros((4, 8, 8), dtype=np.uint8)}
    with pytest.raises(TypeError, match="third: holds rows of"):
        stage_shard(out, "bank", KEY, grey, shard=0)
    assert list((out / layout.LOG / "writing").iterdir()) == []


# Two writers of other bytes each, at every pace: sleeps before each rename; some are killed there.
RACE = """
import os, random, signal, sys, time
from pathlib import Path
from tests.pipeline.test_single_writer import assert_whole, lay_out, publish, stored

folder = Path(sys.argv[1])
rename = Path.replace

def write(out, value, rng, deadly):
    def replace(self, target):
        time.sleep(rng.uniform(0.0, 0.01))
        if deadly and rng.random() < 0.3:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)
    Path.replace = replace
    mine = publish(out, value)
    os._exit(0 if mine == stored(out) else 1)

for k in range(30):
    out = lay_out(folder / str(k))
    writers = []
    for value in (1, 200, 40):
        child = os.fork()
        if not child:
            try:
                write(out, value, random.Random(1000 * k + value), deadly=value != 40)
            finally:
                os._exit(2)
        writers.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in writers]
    assert codes[-1] == 0 and set(codes) <= {0, -9}, codes
    for file in (out / "log" / "writing").iterdir():  # of those that were killed
        file.unlink()
    assert_whole(out)
    print(*codes)
"""


def test_writers_of_different_bytes_at_once_some_killed_leave_one_whole_shard(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RACE, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ends = done.stdout.split()
    assert "-9" in ends
    assert ends.count("0") > 30, "of some that met no death the first was not alone"


SLOW = """
import sys
from pathlib import Path
from pipeline.single_writer import publish_shard
from pipeline.store import stage_shard
from tests.pipeline.test_single_writer import KEY, identity, rows

out = Path(sys.argv[1])
staged = stage_shard(out, "bank", KEY, rows(200), shard=0)
print("staged", flush=True)
sys.stdin.readline()
print(publish_shard(out, staged, identity()).files[0].sha256)
"""


@pytest.fixture
def slow_writer(out: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    begun: list[subprocess.Popen[str]] = []

    def begin() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW, out], env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        begun.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "staged\n"
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def test_worker_that_was_lost_and_comes_back_changes_nothing(
    out: Path, slow_writer: Callable[[], subprocess.Popen[str]]
) -> None:
    lost = slow_writer()
    os.kill(lost.pid, signal.SIGSTOP)
    second, before = publish(out, 1), digest(out)
    os.kill(lost.pid, signal.SIGCONT)
    said, _ = lost.communicate("go\n", timeout=60)
    assert said.split() == [second.files[0].sha256], "it reports what the other wrote"
    assert digest(out) == before
    assert_whole(out)


def test_writer_that_holds_a_shard_and_does_not_end_is_an_error_that_says_so(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_writer, "_PATIENCE_S", 0.2)
    holder = os.fork()
    if not holder:
        with single_writer._only_writer(out, NAME):
            (out / "held").touch()
            signal.pause()
    try:
        while not (out / "held").exists():
            os.sched_yield()
        with pytest.raises(OutputError, match=f"another process has held the shard {NAME}"):
            publish(out, 1)
        with single_writer._only_writer(out, layout.commit_name("bank", KEY, 1)):
            pass  # another shard is free
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
    publish(out, 1)
    assert_whole(out)


TWICE = """
import os, sys, time
from pathlib import Path
from manifests.records import PlanRow, SourceRecord
from manifests.tables import from_table, read_table
from pipeline import synthesis
from pipeline.store import read_identity
from pipeline.synthesis import SampleSpec, store_samples

out = Path(sys.argv[1])
plan = [row for row in from_table(read_table(out / "plan.parquet"), PlanRow) if (row.category, row.shard) == ("brick", 1)]
known = {row.index: row for row in from_table(read_table(out / "inventory.parquet"), SourceRecord) if row.category == "brick"}
spec = SampleSpec(out, read_identity(out).recipe, tuple(plan), {k: known[k] for row in plan for k in row.photographs()})
stage, rename = synthesis.stage_shard, Path.replace

def staged_together(*arguments, **options):
    staged = stage(*arguments, **options)
    (out / "log" / f"staged-{os.getpid()}").touch()
    while len(list((out / "log").glob("staged-*"))) < 2:
        time.sleep(0.005)
    return staged

def slowly(self, target):
    time.sleep(0.05)
    return rename(self, target)

synthesis.stage_shard, Path.replace = staged_together, slowly
children = []
for _ in range(2):
    child = os.fork()
    if not child:
        (result,) = store_samples([spec])
        os._exit(0 if len(result.record.files) == len(synthesis.sample_arrays(spec.recipe)) else 1)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""  # noqa: E501


def test_shard_of_samples_made_twice_at_once_has_the_bytes_of_one(
    finished: Path, finished_digest: dict[str, str], tmp_path: Path
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    record = out / layout.COMMITS / layout.commit_name("samples", "builtin/brick", 1)
    record.unlink()
    subprocess.run(
        [sys.executable, "-c", TWICE, out], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120, check=True
    )
    assert digest(out) == finished_digest
    assert verify_corpus(out).problems == ()
