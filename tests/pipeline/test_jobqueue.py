"""What docs/cluster.md shows for SLURM: dask-jobqueue itself runs it, and a stand-in for sbatch its job scripts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.pipeline.conftest import ROOT, CommandLine, digest

if TYPE_CHECKING:
    from collections.abc import Mapping

SBATCH = """#!/bin/sh
# a node of one's own: the script, which is removed after it was handed in, as a session whose number is the job's
cp "$1" "$JOBS/job.sh"
setsid bash "$JOBS/job.sh" > "$JOBS/job.log" 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
kill -TERM -- "-$1"
echo "$1" >> "$JOBS/cancelled"
"""


def program() -> str:
    """The page's, for two workers in one job; it lives until its input ends."""
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(?P<body>from dask_jobqueue .*?)```", page, re.DOTALL)
    assert found is not None
    shown = found["body"]
    for there, here in (("cores=16", "cores=2"), ("processes=16", "processes=2"), ("jobs=4", "jobs=1")):
        assert there in shown
        shown = shown.replace(there, here)
    lines = ["import sys", *shown.splitlines(), "sys.stdout.flush()", "sys.stdin.read()", "cluster.close()"]
    return 'if __name__ == "__main__":\n' + "".join(f"    {line}\n" for line in lines)


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """Its address; afterwards the cluster is closed, which takes its jobs back."""
    for name, script in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "slurm.py").write_text(program())
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    with (tmp_path / "slurm.log").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / "slurm.py")],
            env={**os.environ, "PATH": path, "JOBS": str(tmp_path), "PYTHONPATH": str(ROOT)},
            cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert address.startswith("tcp://"), (tmp_path / "slurm.log").read_text()
    try:
        yield address
    finally:
        process.communicate(timeout=60)
    assert process.returncode == 0, (tmp_path / "slurm.log").read_text()
    assert (tmp_path / "cancelled").is_file(), "the job was not taken back"


def test_the_program_for_slurm_starts_workers_that_make_the_same_corpus(
    scheduler: str, recipe_file: Path, finished_digest: Mapping[str, str], tmp_path: Path
) -> None:
    maphc2f = CommandLine(tmp_path)
    result = maphc2f.run("generate", "out", "--config", recipe_file, "--scheduler", scheduler)
    assert result.returncode == 0, result.stderr + (tmp_path / "job.log").read_text()
    assert digest(tmp_path / "out") == finished_digest
    job = (tmp_path / "job.sh").read_text()
    assert "#SBATCH -t 08:00:00" in job
    assert "export OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1" in job
