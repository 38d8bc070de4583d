"""The command line: exit codes, one clear line for whatever the user got wrong, help with examples."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from bisqad import cli
from bisqad.run import DETECTOR
from manifests import __version__
from refine.sqe import load_sqe

COMMANDS = ("train", "evaluate", "detect", "export")


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


Say = Callable[..., Said]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Say:
    """The entry point within this process, run in an empty folder."""

    def run(*arguments: str | Path) -> Said:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["bisqad", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, shown.out, shown.err)

    return run


def refused(said: Said) -> str:
    """The only line on stderr of a command that was given something bad."""
    assert said.code == 2, said
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    return said.err


def test_console_script_is_the_entry_point() -> None:
    (script,) = (e for e in importlib.metadata.entry_points(group="console_scripts") if e.name == "bisqad")
    assert script.value == "bisqad.cli:main"


def test_version_is_printed_without_torch(python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['bisqad', '--version']; import bisqad.cli as c; c.main()"
    )
    done = python("-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"bisqad {__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str, say: Say) -> None:
    said = say(command, "--help")
    assert said.code == 0
    assert re.search(rf"Examples?: bisqad {command}", said.out)


def test_help_names_every_command(say: Say) -> None:
    said = say("--help")
    assert said.code == 0
    assert all(f" {command} " in said.out for command in COMMANDS)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train"], "Missing argument 'CORPUS'; see `bisqad train --help`"),
        (["train", "corpus"], "--out"),
        (["train", "corpus", "--out", "run", "--method", "magic"], "--method"),
        (["train", "corpus", "--out", "run", "--seed", "-1"], "--seed"),
        (["train", "corpus", "--out", "run", "--stage", "painted"], "--stage: .*'painted'"),
        (["train", "corpus", "--out", "run", "--config", "none.yaml"], "none.yaml"),
        (["train", "corpus", "--out", "run", "--device", "nonsense"], "--device nonsense: expected auto, cpu"),
        (["train", "nowhere", "--out", "run"], "nowhere"),
        (["evaluate", "nowhere", "--data", "data"], "nowhere: no such folder"),
        (["detect", "nowhere", "a.png", "--out", "found"], "nowhere: no such folder"),
        (["export", "nowhere"], "nothing asked for; give --sqe FILE or --onnx FILE"),
        (["export", "nowhere", "--onnx", "detector.onnx"], "nowhere: no such folder"),
        (["export", "nowhere", "--sqe", "s.safetensors", "--category", "nut"], "--category: goes with --onnx"),
        (["export", "nowhere", "--sqe", "sqe.safetensors"], "nowhere: "),
        (["judge"], "No such command 'judge'"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(say: Say, arguments: list[str], told: str) -> None:
    assert re.search(told, refused(say(*arguments)))


def test_a_slip_in_the_settings_is_named(say: Say, tmp_path: Path, brick_path: Path) -> None:
    (tmp_path / "slip.yaml").write_text("optimiser: {epoch: 3}")
    told = refused(say("train", brick_path, "--out", "run", "--config", "slip.yaml"))
    assert "slip.yaml: unknown key 'optimiser.epoch'; did you mean 'epochs'" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", [["evaluate", "--data", "data"], ["detect", "a.png", "--out", "o"]])
def test_an_unfinished_run_is_refused(say: Say, tmp_path: Path, run_path: Path, command: list[str]) -> None:
    (tmp_path / "run").mkdir()
    for name in ("run.json", "checkpoint.safetensors"):
        shutil.copy(run_path / name, tmp_path / "run" / name)
    assert "holds no finished detector; run `bisqad train` again" in refused(say(command[0], "run", *command[1:]))


def test_a_data_set_of_no_known_layout_is_refused(say: Say, tmp_path: Path, run_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert "data" in refused(say("evaluate", run_path, "--data", "data"))


def test_a_category_that_the_data_set_lacks_is_refused(say: Say, run_path: Path, inspection_root: Path) -> None:
    assert "nut" in refused(say("evaluate", run_path, "--data", inspection_root, "--category", "nut"))


def test_a_missing_estimator_is_refused(say: Say, brick_path: Path) -> None:
    told = refused(say("train", brick_path, "--out", "run", "--sqe", "none.safetensors"))
    assert "none.safetensors" in told


# ---------------------------------------------------------------- work


def test_a_run_is_trained_judged_and_shown(
    say: Say, brick_path: Path, inspection_root: Path, quick_path: Path, feature_cache: Path, tmp_path: Path
) -> None:
    done = say("train", brick_path, "--out", "run", "--config", quick_path, "--cache", feature_cache, "--seed", "1")
    assert done.code == 0, done.err
    assert "done: run; judge it with bisqad evaluate run --data DIR" in done.out
    assert json.loads((tmp_path / "run" / "run.json").read_bytes())["config"]["seed"] == 1
    judged = say("evaluate", "run", "--data", inspection_root, "--json", "figures/found.json")
    assert judged.code == 0, judged.err
    figures = json.loads((tmp_path / "figures" / "found.json").read_bytes())
    assert figures["image_auroc"] > 0.7
    assert f"{figures['image_auroc']:.3f}" in judged.out
    assert "fracture" in judged.out


def test_photographs_are_shown_and_an_unreadable_one_ends_with_exit_code_1(
    say: Say, run_path: Path, inspection_root: Path, tmp_path: Path
) -> None:
    cracks = sorted((inspection_root / "test" / "fracture").iterdir())[:2]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    said = say("detect", run_path, cracks[0], "broken.png", cracks[1], "--out", "found")
    assert said.code == 1
    assert "broken.png" in said.out
    assert "Traceback" not in said.out + said.err
    assert sorted(p.name for p in (tmp_path / "found").iterdir()) == sorted(path.name for path in cracks)


def test_photographs_that_can_all_be_read_end_with_exit_code_0(
    say: Say, run_path: Path, inspection_root: Path, tmp_path: Path
) -> None:
    crack = min((inspection_root / "test" / "fracture").iterdir())
    said = say("detect", run_path, crack, "--out", "found")
    assert said.code == 0, said
    assert crack.name in said.out
    assert re.search("abnormal|normal", said.out)


def test_the_learned_estimator_is_taken_out_of_a_run(say: Say, run_path: Path, tmp_path: Path) -> None:
    said = say("export", run_path, "--sqe", "sub/sqe.safetensors")
    assert said.code == 0, said.err
    taken = load_sqe(tmp_path / "sub" / "sqe.safetensors")
    assert taken.sha256 == load_sqe(run_path / "sqe.safetensors").sha256


@pytest.mark.parametrize("absent", [["onnx"], ["onnxscript"], ["onnx", "onnxscript"]])
def test_onnx_without_its_packages_says_what_to_install(
    say: Say, run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: list[str]
) -> None:
    for name in ("onnx", "onnxscript"):
        there = ModuleType(name)
        there.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, None if name in absent else there)
    told = refused(say("export", run_path, "--onnx", "detector.onnx"))
    assert f"needs {' and '.join(absent)}; try `pip install {' '.join(absent)}`" in told
    assert not (tmp_path / "detector.onnx").exists()


def test_a_run_without_learned_weights_has_no_estimator_to_take(say: Say, run_path: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(run_path / DETECTOR, tmp_path / "run" / DETECTOR)
    assert "train with --method bilevel" in refused(say("export", "run", "--sqe", "sqe.safetensors"))
