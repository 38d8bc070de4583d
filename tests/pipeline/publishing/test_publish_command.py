from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from manifests.hashing import canonical_json
from pipeline import cli
from pipeline.column_reference import TABLES, column_reference


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The entry point within this process: exit code, and what it says."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["maphc2f", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, shown.out, shown.err

    return run


def test_publish_says_what_it_wrote_and_what_is_missing(
    say: Callable[..., tuple[int, str, str]], finished: Path, tmp_path: Path
) -> None:
    code, out, err = say("publish", finished, tmp_path / "dest")
    assert code == 0, err
    assert "no CITATION.cff" in out
    assert "published" in out
    assert err == ""
    code, out, err = say("publish", finished, tmp_path / "dest", "--no-verify", "--author", "Lovelace, Ada")
    assert code == 0, err
    assert "no CITATION.cff" not in out
    assert "verifying" not in out
    assert (tmp_path / "dest/CITATION.cff").is_file()


def test_publish_warns_of_what_binds(say: Callable[..., tuple[int, str, str]], copied: Path, tmp_path: Path) -> None:
    info = json.loads((copied / "corpus.json").read_bytes())
    info["licences"][0]["licence"] = "CC BY-NC 4.0 (Ada)"
    info["licences"][1]["licence"] = "not stated"
    info["config"]["sources"] = [{"kind": "folder", "path": "/home/ada/tiles"}]
    (copied / "corpus.json").write_bytes(canonical_json(info) + b"\n")
    code, _, err = say("publish", copied, tmp_path / "dest", "--no-verify")
    assert code == 0
    assert "non-commercial: licence of sources: CC BY-NC 4.0 (Ada)" in err
    assert "unknown: licence of sources: not stated" in err
    assert "names the path /home/ada/tiles" in err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--homepage", "example.org"], 2, "--homepage 'example.org': expected a URL"),
        (["--released", "yesterday"], 2, "--released 'yesterday': expected a day as YYYY-MM-DD"),
        (["--author", ","], 2, "--author ',': expected a line of plain text"),
    ],
)
def test_bad_input_is_one_line(
    say: Callable[..., tuple[int, str, str]],
    finished: Path,
    tmp_path: Path,
    options: list[str],
    code: int,
    message: str,
) -> None:
    ended, _, err = say("publish", finished, tmp_path / "dest", *options)
    assert ended == code
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "dest").exists()


def test_what_is_not_a_finished_corpus_is_one_line(
    say: Callable[..., tuple[int, str, str]], copied: Path, tmp_path: Path
) -> None:
    code, _, err = say("publish", tmp_path / "nowhere", tmp_path / "dest")
    assert (code, err.count("\n")) == (2, 1)
    (copied / "corpus.json").unlink()
    code, _, err = say("publish", copied, tmp_path / "dest")
    assert (code, err.count("\n")) == (1, 1)
    assert "not finished" in err


@pytest.mark.parametrize("command", ["publish", "columns"])
def test_help_shows_an_example(say: Callable[..., tuple[int, str, str]], command: str) -> None:
    code, out, _ = say(command, "--help")
    assert code == 0
    assert f"Examples: maphc2f {command}" in out


def test_columns_are_printed_as_tables_and_as_markdown(say: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = say("columns")
    assert code == 0
    assert all(title in out for title, *_ in TABLES)
    assert say("columns", "--markdown")[1] == column_reference()
