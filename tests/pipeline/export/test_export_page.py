"""What docs/export.md shows is true: every command and every block of Python in it runs."""

from __future__ import annotations

import gc
import re
import shlex
from pathlib import Path

import datasets
import pytest

from pipeline.cli import app
from tests.pipeline.conftest import ROOT

PAGE = (ROOT / "docs/export.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def workshop(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command of the page was run on a corpus named out."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "out").symlink_to(finished)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in COMMANDS:
            program, *arguments = shlex.split(command, comments=True)
            assert program == "maphc2f"
            app(arguments, standalone_mode=False)
    return folder


def test_every_command_makes_a_whole_export(workshop: Path) -> None:
    names = [shlex.split(command, comments=True)[3] for command in COMMANDS]
    assert len(names) == 8
    assert all((workshop / name / "export.json").is_file() for name in names)


# webdataset leaves its tars open, and pycocotools' masks do not yet take NumPy 2's copy argument
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_every_snippet_runs(
    snippet: str, workshop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workshop)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", workshop / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    exec(compile(snippet, "docs/export.md", "exec"), {})  # noqa: S102  (our own page)
    gc.collect()
    assert capsys.readouterr().out.count("\n") >= 1
