"""A small corpus made once by the real command, and the command itself in processes of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from pipeline import cli
from pipeline.extension import Wish, extend
from pipeline.generate import generate
from pipeline.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
name: small
count: 24
size: 64
seed: 0
sources:
  - kind: builtin
    categories: [brick, hex_nut]
mechanisms:
  fracture: {grid: 64, snapshots: 6}
  pitting: {grid: 32, snapshots: 4, area: {kind: loguniform, low: 0.01, high: 0.06}}
bank: {trajectories: 20}
label: {least_visibility: 0.0}
store: {shard_images: 5}
"""


@dataclass(frozen=True)
class CommandLine:
    """``maphc2f`` as a user runs it: a process of its own, in its own group, without a terminal."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=lambda: {**os.environ, "PYTHONPATH": str(ROOT)})
    command: Sequence[str] = (sys.executable, "-m", "pipeline.cli")

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Begin, as the leader of a new process group."""
        return subprocess.Popen(
            [*self.command, *map(str, arguments)],
            cwd=self.folder,
            env=dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str | Path, under: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run to the end, optionally under another command such as a shell that sets a limit."""
        return subprocess.run(
            [*under, *self.command, *map(str, arguments)],
            cwd=self.folder,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )


SEVERAL = {
    "name": "several",
    "placement": {"defects": [1, 4]},
    "store": {"shard_images": 5, "stages": ["npcf", "paste", "render"]},
}
MECHANISMS_OF_RECIPE = ("fracture", "pitting")  # one that opens, one that changes the surface


def digest(out: Path) -> dict[str, str]:
    """sha256 of every file of a corpus by relative path; log/ is no part of it."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.relative_to(out).parts[0] != "log"
    }


@pytest.fixture(scope="session")
def recipe_text() -> str:
    return RECIPE


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture
def maphc2f(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, recipe_file: Path) -> Path:
    """A finished corpus of 24 samples in 6 shards, made undisturbed by one worker; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    done = CommandLine(folder).run("generate", "corpus", "--config", recipe_file)
    assert done.returncode == 0, done.stderr
    return folder / "corpus"


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with up to four defects in a picture, and all stages kept; not to be changed."""
    out = tmp_path_factory.mktemp("several") / "corpus"
    generate(out, Recipe.model_validate(yaml.safe_load(RECIPE) | SEVERAL), workers=1)
    return out


@pytest.fixture(scope="session")
def finished_digest(finished: Path) -> dict[str, str]:
    return digest(finished)


@pytest.fixture(scope="session")
def extended(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Path:
    """The finished corpus, extended by 12 samples and then by 7, undisturbed; not to be changed."""
    out = Path(shutil.copytree(finished, tmp_path_factory.mktemp("extended") / "corpus"))
    for more in (12, 7):
        extend(out, Wish(more), workers=1)
    return out


@pytest.fixture(scope="session")
def rich(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Path:
    """A finished corpus like the other, with up to four defects in a picture and all stages; not to be changed."""
    settings: dict[str, Any] = yaml.safe_load(RECIPE)
    settings.update(placement={"defects": [1, 4]})
    settings["store"].update(stages=["npcf", "paste", "render"])
    out = tmp_path_factory.mktemp("rich") / "corpus"
    generate(out, Recipe.model_validate(settings), workers=1, shared_bank=finished)
    return out


@pytest.fixture
def copied_rich(rich: Path, tmp_path: Path) -> Path:
    """A copy of the rich corpus to be damaged."""
    return Path(shutil.copytree(rich, tmp_path / "rich"))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``maphc2f`` within this process: (exit code, stdout, stderr)."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["maphc2f", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, shown.out, shown.err

    return run


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished corpus to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))


def surface(seed: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A plain surface with fine grain, as a picture of that shape."""
    noise = np.random.default_rng(seed).normal(0.0, 6.0, shape)
    shade = np.linspace(-12.0, 12.0, shape[1]).reshape(1, -1, *[1] * (len(shape) - 2))
    return np.clip(150.0 + noise + shade, 0, 255).astype(np.uint8)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder with four grey photographs of 64 x 64 pixels."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for k in range(4):
        Image.fromarray(surface(k, (64, 64))).save(folder / f"part{k}.png")
    return folder
