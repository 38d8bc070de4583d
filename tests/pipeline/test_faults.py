"""A disk that fails in the middle of a run: one clear line, exit 2, nothing lost, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from manifests import layout
from manifests.errors import OutputError
from manifests.records import BankRecord
from pipeline.merging import merge_corpora
from pipeline.repair import repair_corpus
from pipeline.store import read_identity, read_valid_commits
from pipeline.verification import verify_corpus
from tests.pipeline.conftest import CommandLine, digest
from tests.pipeline.test_generate import wait_for
from tests.pipeline.test_verification import flip

if TYPE_CHECKING:
    from subprocess import Popen

PAGE = 4096
NOBODY = 65534


def mount(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False).returncode == 0


@dataclass
class Disk:
    """A small disk of our own in memory."""

    root: Path
    mounted: list[Path] = field(default_factory=list)

    def resize(self, size: str) -> None:
        assert mount("-o", f"remount,size={size}", self.root)

    @contextmanager
    def read_only(self, folder: Path) -> Iterator[None]:
        """What lies below a folder can be read and not written, whoever asks."""
        assert mount("--bind", folder, folder)
        try:
            assert mount("-o", "remount,bind,ro", folder)
            yield
        finally:
            subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    root = tmp_path / "disk"
    root.mkdir()
    if os.geteuid() or not mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", root):
        pytest.skip("only root may mount a small disk, and not in every container; test_cli has what users may do")
    yield Disk(root)
    subprocess.run(["umount", "--lazy", str(root)], check=True)


def pages(out: Path) -> int:
    """Bytes that a corpus takes of a disk with pages."""
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in out.rglob("*") if path.is_file())


def one_line(done: subprocess.CompletedProcess[str] | tuple[int, str]) -> str:
    code, said = done if isinstance(done, tuple) else (done.returncode, done.stderr)
    assert code == 2, said
    assert said.count("\n") == 1, said
    assert said.startswith("error: ")
    return said


def finished_records(out: Path) -> dict[str, str]:
    """Records, and the files that they name."""
    return {name: sha256 for name, sha256 in digest(out).items() if name.startswith("commits/")}


def stopped_by(fault: Callable[[], None], process: Popen[str]) -> str:
    """The line that a run ends with, after it was held still while something happened to its disk."""
    os.killpg(process.pid, signal.SIGSTOP)
    fault()
    os.killpg(process.pid, signal.SIGCONT)
    _, said = process.communicate(timeout=120)
    return one_line((process.returncode, said))


# ---------------------------------------------------------------- full


@pytest.mark.parametrize("workers", ["1", "2"])
def test_disk_that_fills_up_keeps_what_is_finished_and_the_same_command_goes_on(
    workers: str, disk: Disk, maphc2f: CommandLine, recipe_file: Path, finished: Path, finished_digest: dict[str, str]
) -> None:
    disk.resize(str(pages(finished) * 7 // 10))
    out = disk.root / "out"
    command = ("generate", out, "--config", recipe_file, "--workers", workers)
    assert "the disk is full" in one_line(maphc2f.run(*command))
    kept = finished_records(out)
    assert len(kept) >= 3
    assert len(read_valid_commits(out, "bank", BankRecord, read_identity(out).recipe)) >= 1
    assert not (out / layout.CORPUS).exists()
    disk.resize("64m")
    done = maphc2f.run(*command)
    assert done.returncode == 0, done.stderr
    assert "kept from an earlier run" in done.stdout
    assert digest(out) == finished_digest
    assert kept.items() <= finished_digest.items()


def test_merge_and_repair_on_a_full_disk_leave_no_half_file_and_go_on(
    disk: Disk, finished: Path, finished_digest: dict[str, str]
) -> None:
    disk.resize(str(pages(finished) // 2))
    out = disk.root / "out"
    with pytest.raises(OutputError, match="the disk is full"):
        merge_corpora([finished], out)
    assert all(finished_digest[name] == sha256 for name, sha256 in digest(out).items())
    disk.resize("64m")
    merge_corpora([finished], out)
    assert digest(out) == finished_digest
    flip(out / "bank/fracture/damage/c/0/0/0/0", 99)
    damaged = digest(out)
    disk.resize(str(pages(out) + 20 * PAGE))
    with pytest.raises(OutputError, match="the disk is full"):
        repair_corpus(out)
    assert digest(out) == damaged
    disk.resize("64m")
    repair_corpus(out)
    assert digest(out) == finished_digest


# ---------------------------------------------------------------- read-only


def test_disk_that_turns_read_only_keeps_what_is_finished_and_the_same_command_goes_on(
    disk: Disk, maphc2f: CommandLine, recipe_file: Path, finished_digest: dict[str, str]
) -> None:
    out = disk.root / "out"
    command = ("generate", out, "--config", recipe_file)
    process = maphc2f.start(*command)
    wait_for(lambda: any((out / "commits").glob("bank--*")), process)
    fault = disk.read_only(disk.root)
    said = stopped_by(lambda: fault.__enter__(), process)
    kept = finished_records(out)
    fault.__exit__(None, None, None)
    assert "the file system is read-only" in said
    assert 3 <= len(kept) < len([name for name in finished_digest if name.startswith("commits/")])
    done = maphc2f.run(*command)
    assert done.returncode == 0, done.stderr
    assert digest(out) == finished_digest


# ---------------------------------------------------------------- permission


@dataclass(frozen=True)
class Unprivileged(CommandLine):
    """The command of a user to whom modes apply; root is told nothing by them."""

    under: Sequence[str] = ()

    def start(self, *arguments: str | Path) -> Popen[str]:
        return CommandLine(self.folder, self.environment, [*self.under, *self.command]).start(*arguments)


@pytest.fixture
def unprivileged() -> Iterator[Unprivileged]:
    """As nobody, in a folder of nobody's."""
    if os.geteuid():
        own = Path(tempfile.mkdtemp())
        yield Unprivileged(own)
    else:
        if not shutil.which("setpriv"):
            pytest.skip("there is no setpriv to run as another user")
        own = Path(tempfile.mkdtemp())
        os.chown(own, NOBODY, NOBODY)
        environment = {**CommandLine(own).environment, "HOME": str(own), "NUMBA_CACHE_DIR": str(own / "numba")}
        under = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        yield Unprivileged(own, environment, under=under)
    shutil.rmtree(own)


def test_permission_that_is_lost_keeps_what_is_finished_and_the_same_command_goes_on(
    unprivileged: Unprivileged, recipe_text: str, finished_digest: dict[str, str]
) -> None:
    recipe, out = unprivileged.folder / "recipe.yaml", unprivileged.folder / "out"
    recipe.write_text(recipe_text, encoding="utf-8")
    process = unprivileged.start("generate", out, "--config", recipe)
    wait_for(lambda: any((out / "commits").glob("bank--*")), process, seconds=120.0)
    folders = [path for path in (out, *out.rglob("*")) if path.is_dir()]

    def lose() -> None:
        for folder in folders:
            folder.chmod(0o555)

    said = stopped_by(lose, process)
    assert "permission is denied; give a folder that can be written to" in said
    assert len(finished_records(out)) >= 3
    for folder in folders:
        folder.chmod(0o755)
    process = unprivileged.start("generate", out, "--config", recipe)
    _, complaint = process.communicate(timeout=170)
    assert process.returncode == 0, complaint
    assert digest(out) == finished_digest
    assert verify_corpus(out).problems == ()
