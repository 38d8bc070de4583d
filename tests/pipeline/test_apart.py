"""Samples that end their process: they alone are lost, recorded as crashed, and every other one is as it always is.

The poison is no part of the program: a ``sitecustomize`` module that Python itself loads in every process of these
tests makes the placing of one sample end the process, as a fault in a native library would.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manifests import Corpus
from manifests.records import SampleStatus
from pipeline.verification import verify_corpus
from tests.pipeline.conftest import ROOT, CommandLine
from tests.s3_proxy import BUCKET, Bucket, Proxy

POISONED = 17  # a sample by index
POISON = """
import importlib.abc, importlib.util, os, signal, sys

class Poison(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "pipeline.attempt":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            place = module.place

            def poisoned(recipe, ingredients, attempt):
                if ingredients.row.index in (INDICES,):
                    END
                return place(recipe, ingredients, attempt)

            module.place = poisoned

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Poison())
"""
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"  # as the kernel does where memory is short
FAULT = "import ctypes; ctypes.string_at(0)"


@pytest.fixture
def poisoned(tmp_path: Path) -> Callable[..., CommandLine]:
    def begin(end: str, *indices: int) -> CommandLine:
        folder = tmp_path / "poison"
        folder.mkdir()
        text = POISON.replace("INDICES", ", ".join(map(str, indices))).replace("END", end)
        (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
        path = os.pathsep.join((str(folder), str(ROOT)))
        return replace(CommandLine(tmp_path), environment={**os.environ, "PYTHONPATH": path})

    return begin


def assert_only_this_crashed(out: Path, finished: Path) -> None:
    assert verify_corpus(out).problems == ()
    for sample, usual in zip(Corpus(out, statuses=None), Corpus(finished, statuses=None), strict=True):
        if sample.record.index == POISONED:
            assert sample.record.status is SampleStatus.CRASHED
            np.testing.assert_array_equal(sample.image, sample.source)
            assert sample.record.id == usual.record.id
            continue
        assert sample.record == usual.record
        np.testing.assert_array_equal(sample.image, usual.image, strict=True)
        np.testing.assert_array_equal(sample.mask, usual.mask, strict=True)
        assert sample.fields.keys() == usual.fields.keys()
        for name, field in sample.fields.items():
            np.testing.assert_array_equal(field.values, usual.fields[name].values, strict=True)


def crashes(out: Path) -> list[tuple[int, str, int]]:
    lines = [json.loads(line) for line in (out / "log" / "crashes.jsonl").read_text().splitlines()]
    return sorted((line["index"], line["ended_by"], line["death"]) for line in lines)


def test_samples_that_kill_their_workers_are_recorded_and_all_others_are_made(
    poisoned: Callable[..., CommandLine], recipe_file: Path, finished: Path, tmp_path: Path
) -> None:
    maphc2f = poisoned(KILLED, POISONED)
    process = maphc2f.start("generate", "out", "--config", recipe_file, "--workers", "2", "--bank", finished)
    stdout, stderr = process.communicate(timeout=500)
    assert process.returncode == 0, stderr
    assert_only_this_crashed(tmp_path / "out", finished)
    assert crashes(tmp_path / "out") == [(POISONED, "SIGKILL", 1), (POISONED, "SIGKILL", 2)]
    assert "its samples are made one by one, in a process that may die" in stdout
    assert re.search(r"1 sample without a defect, crashed: making it ended its process each time", stdout)


def test_one_worker_that_died_twice_at_one_shard_goes_on_without_the_sample(
    poisoned: Callable[..., CommandLine], recipe_file: Path, finished: Path, tmp_path: Path
) -> None:
    command = ("generate", "out", "--config", recipe_file, "--bank", finished)
    maphc2f = poisoned(FAULT, POISONED)
    ends = [maphc2f.run(*command) for _ in range(3)]
    assert [done.returncode for done in ends] == [-11, -11, 0], ends[-1].stderr
    assert_only_this_crashed(tmp_path / "out", finished)
    assert crashes(tmp_path / "out") == [(POISONED, "SIGSEGV", 1), (POISONED, "SIGSEGV", 2)]
    assert "Segmentation fault" in (tmp_path / "out" / "log" / "crashes.txt").read_text()
    assert not (tmp_path / "out" / "log" / "under_way.json").exists()


@pytest.mark.parametrize(("workers", "ends"), [("1", [-11, -11, 0]), ("2", [0])])
def test_in_a_bucket_too_one_sample_alone_is_lost(
    s3: Proxy,
    bucket: Bucket,
    poisoned: Callable[..., CommandLine],
    recipe_file: Path,
    finished: Path,
    tmp_path: Path,
    workers: str,
    ends: list[int],
) -> None:
    prefix = f"crashed{workers}"
    command = ("generate", f"s3://{BUCKET}/{prefix}", "--config", recipe_file, "--bank", finished, "--workers", workers)
    maphc2f = poisoned(FAULT, POISONED)
    done = [maphc2f.run(*command) for _ in ends]
    assert [one.returncode for one in done] == ends, done[-1].stderr
    for name, data in bucket.objects(prefix).items():
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert_only_this_crashed(tmp_path / "out", finished)
    assert crashes(tmp_path / "out") == [(POISONED, "SIGSEGV", 1), (POISONED, "SIGSEGV", 2)]
    assert "Segmentation fault" in (tmp_path / "out" / "log" / "crashes.txt").read_text()
    assert not (tmp_path / "out" / "log" / "under_way.json").exists()


def test_error_in_the_helper_is_the_error_of_the_run_and_not_a_crash(
    poisoned: Callable[..., CommandLine], recipe_file: Path, finished: Path, tmp_path: Path
) -> None:
    script = """
import sys
from pathlib import Path
from manifests.errors import OutputError
from manifests.records import PlanRow, SourceRecord
from manifests.tables import from_table, read_table
from pipeline.apart import store_samples_apart
from pipeline.store import read_identity
from pipeline.synthesis import SampleSpec

out = Path(sys.argv[1])
rows = [row for row in from_table(read_table(out / "plan.parquet"), PlanRow) if row.category == "brick"][:2]
known = {r.index: r for r in from_table(read_table(out / "inventory.parquet"), SourceRecord) if r.category == "brick"}
rows = [row.model_copy(update={"shard": 7}) for row in rows]
try:
    store_samples_apart([SampleSpec(out, read_identity(out).recipe, tuple(rows), known)])
except OutputError as error:
    print(error)
"""
    maphc2f = poisoned('from manifests.errors import OutputError; raise OutputError("refused")', 0, 1)
    done = subprocess.run(
        [*maphc2f.command[:1], "-c", script, finished],
        env=dict(maphc2f.environment), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == "refused\n", done.stderr
    assert not (finished / "log" / "crashes.jsonl").exists()
