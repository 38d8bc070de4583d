"""The page of the reference run is made from a run's own log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.reference_run import main
from manifests.errors import CorpusError


@pytest.mark.slow
def test_page_tells_rate_memory_and_failures_of_a_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline.cli", "generate", str(tmp_path / "out"), "--source", "builtin"]
    command += ["--mechanism", "pitting", "--count", "22", "--size", "64"]
    subprocess.run(command, check=True, capture_output=True)
    main([str(tmp_path / "out"), "--docs", str(tmp_path / "docs")])
    text = (tmp_path / "docs" / "reference-run.md").read_text()
    assert "22 samples over 11 categories at 64 px" in text
    assert "| `ok` |" in text
    assert "| npcF++ |" in text
    assert "Most memory: main process 0." in text
    assert (tmp_path / "docs" / "pictures" / "reference-run.png").is_file()
    main([str(tmp_path / "out"), "--docs", str(tmp_path / "docs"), "--memory", str(tmp_path / "out")])
    text = (tmp_path / "docs" / "reference-run.md").read_text()
    assert "are of a later run (`--memory`), which made 22 of the samples. Most memory: main process 0." in text


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="tells of no run that made samples"):
        main([str(tmp_path)])
