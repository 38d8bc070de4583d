"""Training runs: what the folder holds, that a stopped run goes on, that a corpus alone is enough."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.testing import assert_allclose

from bisqad import run
from bisqad.cells import NormalCells, SampleCells
from bisqad.config import TrainConfig
from bisqad.detector import Detector
from bisqad.evaluation import evaluate
from bisqad.run import CHECKPOINT, DETECTOR, train
from manifests import Corpus
from manifests.errors import ConfigError, CorpusError, OutputError, SourceError
from manifests.policy import read_policy
from manifests.records import SampleRecord
from refine.sqe import load_sqe

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "run.json",
    "progress.csv",
    "checkpoint.safetensors",
    "detector.safetensors",
    "sqe.safetensors",
    "weights.parquet",
    "policy.json",
    "summary.json",
    "tensorboard",
}
Python = Callable[..., subprocess.CompletedProcess[str]]


def contents(path: Path) -> dict[str, bytes]:
    """All files of a run but the curves for TensorBoard."""
    return {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()}


def progress_rows(path: Path) -> list[dict[str, str]]:
    with (path / "progress.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- a finished run


def test_the_folder_holds_all_that_is_promised(run_path: Path, brick_path: Path, quick: TrainConfig) -> None:
    assert {p.name for p in run_path.iterdir()} == FILES
    assert [row["epoch"] for row in progress_rows(run_path)] == ["0", "1", "2", "3"]
    assert list((run_path / "tensorboard").iterdir())
    identity = json.loads((run_path / "run.json").read_bytes())
    assert identity["config"]["detector"]["fit"] == Corpus(brick_path).info.config["fit"]
    assert identity["config"]["optimiser"]["epochs"] == quick.optimiser.epochs
    summary = json.loads((run_path / "summary.json").read_bytes())
    assert summary["samples"] == len(Corpus(brick_path))


def test_learned_weights_are_told_of_every_sample_of_the_lower_level(run_path: Path, brick_path: Path) -> None:
    table = pq.read_table(run_path / "weights.parquet").to_pydict()
    known = {s.record.id: s.record.mechanism for s in Corpus(brick_path)}
    assert 0 < len(table["id"]) < len(known)  # some photographs are held out
    assert [known[name] for name in table["id"]] == table["mechanism"]
    assert_allclose(np.mean(table["weight"]), 1, rtol=1e-5)
    assert np.std(table["weight"]) > 0
    assert min(table["steps"]) >= 0
    assert max(table["steps"]) <= 4
    policy = read_policy(run_path / "policy.json")
    assert set(policy.mechanisms) == {"fracture", "pitting"}
    assert policy.samples == len(table["id"])
    assert load_sqe(run_path / "sqe.safetensors").sha256 != load_sqe().sha256


def test_a_finished_run_is_not_done_again_and_a_part_of_it_that_is_missing_is(
    run_path: Path, brick_path: Path, quick: TrainConfig, feature_cache: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run_path, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "calibrated", lambda *_args, **_more: pytest.fail("it was done again"))
        found = run.train(brick_path, copy, quick, cache=feature_cache)
    assert found.fusion == Detector.load(run_path / DETECTOR).fusion
    (copy / "weights.parquet").unlink()
    run.train(brick_path, copy, quick, cache=feature_cache)
    assert contents(copy) == contents(run_path)


def test_defects_of_the_corpus_are_found(run_path: Path, inspection_root: Path) -> None:
    told: list[tuple[int, int]] = []
    found = evaluate(Detector.load(run_path / DETECTOR), inspection_root, advance=lambda *done: told.append(done))
    assert found.image_auroc.value > 0.7
    assert found.pixel_auroc.value > 0.7
    assert told[-1] == (found.normals + found.defects,) * 2
    assert set(found.by_defect) == {"fracture", "pitting"}
    text = json.loads(json.dumps(found.to_json()))
    assert {"image_auroc", "pixel_auroc", "pixel_ap", "aupro", "by_defect"} <= text.keys()


def test_photographs_that_are_left_out_are_not_judged(run_path: Path, inspection_root: Path) -> None:
    detector = Detector.load(run_path / DETECTOR)
    cracks = sorted((inspection_root / "test" / "fracture").iterdir())
    pits = sorted((inspection_root / "test" / "pitting").iterdir())
    found = evaluate(detector, inspection_root, leave_out=[*pits, *cracks[3:]])
    assert set(found.by_defect) == {"fracture"}
    assert found.defects == 3


def test_a_category_that_the_data_set_lacks_is_refused(run_path: Path, inspection_root: Path) -> None:
    with pytest.raises((ConfigError, SourceError), match="nut"):
        evaluate(Detector.load(run_path / DETECTOR), inspection_root, category="nut")


def test_a_second_call_changes_no_file(
    run_path: Path, brick_path: Path, quick: TrainConfig, feature_cache: Path
) -> None:
    before = contents(run_path)
    train(brick_path, run_path, quick, cache=feature_cache)
    assert contents(run_path) == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"method": "uniform"}, {"optimiser": {"epochs": 5}}])
def test_a_folder_of_other_settings_is_refused_and_left_alone(
    run_path: Path, brick_path: Path, quick: TrainConfig, feature_cache: Path, change: dict[str, object]
) -> None:
    before = contents(run_path)
    other = TrainConfig.model_validate({**quick.model_dump(), **change})
    with pytest.raises(OutputError, match=r"holds another run \(differs in config\)"):
        train(brick_path, run_path, other, cache=feature_cache)
    assert contents(run_path) == before


def test_a_folder_that_holds_something_else_is_refused(
    brick_path: Path, quick: TrainConfig, feature_cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(OutputError, match="not empty"):
        train(brick_path, tmp_path, quick, cache=feature_cache)
    with pytest.raises(OutputError, match="cannot be used"):
        train(brick_path, tmp_path / "thesis.txt", quick, cache=feature_cache)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("damaged", [b"", b"[]", b"{", b"\xff"])
def test_a_damaged_identity_is_told_of(brick_path: Path, quick: TrainConfig, tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "run.json").write_bytes(damaged)
    with pytest.raises(OutputError, match="another"):
        train(brick_path, tmp_path, quick)


def test_unknown_mechanisms_are_refused_with_those_there_are(
    brick_path: Path, quick: TrainConfig, tmp_path: Path
) -> None:
    other = quick.model_copy(update={"mechanisms": ("fracture", "rust")})
    with pytest.raises(ConfigError, match="fracture, pitting, got 'rust'"):
        train(brick_path, tmp_path / "run", other)


@pytest.mark.parametrize(
    "slip", [{"stage": "paste"}, {"detector": {"blocks": [3]}}, {"detector": {"context_cells": 4}}]
)
def test_a_slip_in_the_settings_does_not_take_the_folder(
    brick_path: Path, quick: TrainConfig, tmp_path: Path, slip: dict[str, object]
) -> None:
    with pytest.raises((ConfigError, CorpusError)):
        train(brick_path, tmp_path / "run", TrainConfig.model_validate({**quick.model_dump(), **slip}))
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_missing_estimator_is_refused(brick_path: Path, quick: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, SourceError, ValueError), match=r"none\.safetensors"):
        train(brick_path, tmp_path / "run", quick, sqe=tmp_path / "none.safetensors")


# ---------------------------------------------------------------- other ways to train


@pytest.fixture(scope="module")
def uniform(quick: TrainConfig) -> TrainConfig:
    optimiser = quick.optimiser.model_copy(update={"epochs": 2})
    return quick.model_copy(update={"method": "uniform", "optimiser": optimiser})


def test_without_learned_weights_there_is_no_estimator_and_no_policy(
    brick_path: Path, uniform: TrainConfig, feature_cache: Path, tmp_path: Path
) -> None:
    train(brick_path, tmp_path, uniform, cache=feature_cache)
    assert {p.name for p in tmp_path.iterdir()} == FILES - {"sqe.safetensors", "policy.json"}
    assert set(pq.read_table(tmp_path / "weights.parquet")["weight"].to_pylist()) == {1.0}


def test_one_mechanism_can_be_learned_alone(
    brick_path: Path, uniform: TrainConfig, feature_cache: Path, tmp_path: Path
) -> None:
    train(brick_path, tmp_path, uniform.model_copy(update={"mechanisms": ("pitting",)}), cache=feature_cache)
    assert set(pq.read_table(tmp_path / "weights.parquet")["mechanism"].to_pylist()) == {"pitting"}


def test_shuffled_weights_give_another_detector_than_learned_ones(
    brick_path: Path, quick: TrainConfig, feature_cache: Path, run_path: Path, tmp_path: Path
) -> None:
    made = train(brick_path, tmp_path, quick.model_copy(update={"method": "shuffled"}), cache=feature_cache)
    learned = Detector.load(run_path / DETECTOR)
    assert not torch.equal(made.head.output.weight, learned.head.output.weight)
    weights, other = (pq.read_table(p / "weights.parquet")["weight"].to_pylist() for p in (tmp_path, run_path))
    assert weights == other  # learned alike, dealt to others


def test_two_categories_are_remembered_apart(
    corpus_path: Path, uniform: TrainConfig, feature_cache: Path, tmp_path: Path
) -> None:
    made = train(corpus_path, tmp_path, uniform, cache=feature_cache)
    assert made.categories == ("builtin/brick", "builtin/gravel")
    with pytest.raises(ConfigError, match="no category was named"):
        made.inspect(np.zeros((64, 64, 3), np.uint8))


def test_more_normals_and_real_defects_take_part(
    brick_path: Path, quick: TrainConfig, feature_cache: Path, inspection_root: Path, tmp_path: Path
) -> None:
    train(
        brick_path,
        tmp_path,
        quick,
        normals=inspection_root / "train" / "good",
        real_val=inspection_root,
        cache=feature_cache,
    )
    identity = json.loads((tmp_path / "run.json").read_bytes())
    assert len(identity["real_val"]) == 48
    photographs = {s.record.source_sha256 for s in Corpus(brick_path)}
    assert identity["normals"] > len(photographs)


def _cells(keys: list[str]) -> tuple[SampleCells, NormalCells]:
    """A sample of each of these photographs."""
    names = tuple(map(str, range(len(keys))))
    records = tuple(SampleRecord.model_construct(source_sha256=name, mechanism="dent") for name in names)
    ones = torch.ones(len(keys), 2, 3)
    samples = SampleCells(ones, torch.ones(len(keys), 2), torch.ones(len(keys), 4), records)
    return samples, NormalCells(ones, np.array(keys), names)


def test_held_out_photographs_share_no_set_with_those_learned_from() -> None:
    samples, normals = _cells(["a"] * 40)
    sets = np.arange(40) % 10
    for seed in range(5):
        parts = run._parts(samples, normals, sets, TrainConfig(seed=seed), None)
        material = parts.material
        assert len(material.upper_normals) == len(parts.held_out) == 8
        lower = {sets[int(name)] for name in material.normals.names}
        assert not lower & {sets[int(name)] for name in material.upper_normals.names}
        assert {r.source_sha256 for r in material.upper_samples.records} == set(parts.held_out)
        assert not {r.source_sha256 for r in material.samples.records} & parts.held_out


def test_one_photograph_alone_serves_both_levels() -> None:
    samples, normals = _cells(["a"])
    parts = run._parts(samples, normals, np.zeros(1, np.int64), TrainConfig(), None)
    assert not parts.held_out
    assert len(parts.material.samples) == len(parts.material.upper_samples) == 1


def test_normals_of_every_category_are_learned_from() -> None:
    samples, normals = _cells(["a"] * 20 + ["b"])
    sets = np.append(np.arange(20) % 10, 0)
    for seed in range(12):
        material = run._parts(samples, normals, sets, TrainConfig(seed=seed), None).material
        assert set(material.normals.keys.tolist()) == {"a", "b"}, seed


# ---------------------------------------------------------------- stopped runs


class _StoppedError(Exception):
    pass


def test_a_run_stopped_before_its_last_row_is_written_ends_with_all_rows(
    brick_path: Path,
    uniform: TrainConfig,
    feature_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = run._write_csv

    def stopped(path: Path, rows: list[dict[str, float]]) -> None:
        if len(rows) == 2:
            raise _StoppedError
        written(path, rows)

    with monkeypatch.context() as patch:
        patch.setattr(run, "_write_csv", stopped)
        with pytest.raises(_StoppedError):
            train(brick_path, tmp_path, uniform, cache=feature_cache)
    train(brick_path, tmp_path, uniform, cache=feature_cache)
    assert [row["epoch"] for row in progress_rows(tmp_path)] == ["0", "1"]


def test_a_damaged_checkpoint_is_told_of(
    brick_path: Path, uniform: TrainConfig, feature_cache: Path, tmp_path: Path
) -> None:
    train(brick_path, tmp_path, uniform, cache=feature_cache)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    for data in (b"", whole[:5], whole[:-40], b"\xff" * 50):
        (tmp_path / CHECKPOINT).write_bytes(data)
        with pytest.raises(OutputError, match="damaged"):
            train(brick_path, tmp_path, uniform, cache=feature_cache)


@pytest.fixture
def arguments(brick_path: Path, quick_path: Path, feature_cache: Path, tmp_path: Path) -> Callable[[str], list[str]]:
    """Of `bisqad train` into a folder of that name, over more epochs than end before they can be stopped."""
    settings = tmp_path / "long.yaml"
    settings.write_text(quick_path.read_text().replace("epochs: 4", "epochs: 24"))

    def of(out: str) -> list[str]:
        given = ["-m", "bisqad.cli", "train", brick_path, "--out", tmp_path / out, "--config", settings]
        return [str(part) for part in [*given, "--cache", feature_cache, "--device", "cpu"]]

    return of


def stopped(arguments: list[str], out: Path, by: signal.Signals) -> tuple[int, str]:
    """Exit code and stderr of a run that got a signal as soon as it had a checkpoint."""
    command, environment = [sys.executable, *arguments], {**os.environ, "PYTHONPATH": str(ROOT)}
    # a shell's background jobs ignore SIGINT, and so would theirs: here it is as in a terminal
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        signal.signal(signal.SIGINT, before)
        limit = time.monotonic() + 120
        while not (out / CHECKPOINT).exists() and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.005)
        process.send_signal(by)
        _, said = process.communicate(timeout=60)
    assert not (out / DETECTOR).exists()
    return process.returncode, said


def test_an_interrupted_run_says_how_to_go_on(arguments: Callable[[str], list[str]], tmp_path: Path) -> None:
    code, said = stopped(arguments("run"), tmp_path / "run", signal.SIGINT)
    assert code == 130
    assert said == "stopped: finished epochs are kept; the same command goes on from there\n"


def test_a_killed_run_ends_as_an_undisturbed_one(
    arguments: Callable[[str], list[str]], tmp_path: Path, python: Python
) -> None:
    whole = python(*arguments("whole"))
    assert whole.returncode == 0, whole.stderr
    code, _ = stopped(arguments("killed"), tmp_path / "killed", signal.SIGKILL)
    assert code == -signal.SIGKILL
    again = python(*arguments("killed"))
    assert again.returncode == 0, again.stderr
    for name in (DETECTOR, "progress.csv", "sqe.safetensors", "policy.json", "weights.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


# ---------------------------------------------------------------- a corpus folder alone

ALONE = """
import sys
from importlib.abc import MetaPathFinder

BLOCKED = {"pipeline", "physics", "numba", "dask", "distributed"}


class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is not installed")
        return None


sys.meta_path.insert(0, Blocked())
from bisqad.cli import main

corpus, data, out, config, cache = sys.argv[1:]
for command in (
    ["train", corpus, "--out", out, "--method", "uniform", "--config", config, "--cache", cache],
    ["evaluate", out, "--data", data, "--json", out + "/figures.json"],
):
    sys.argv = ["bisqad", *command]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""


def test_a_corpus_is_learned_from_where_the_generator_is_not_installed(
    brick_path: Path, inspection_root: Path, quick_path: Path, feature_cache: Path, tmp_path: Path, python: Python
) -> None:
    done = python("-c", ALONE, brick_path, inspection_root, tmp_path / "run", quick_path, feature_cache)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "run" / "figures.json").read_bytes())
    assert figures["image_auroc"] > 0.7
