"""A disk that fails in the middle of a run: one clear line, exit 2, nothing lost, and the same command goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from manifests import layout
from manifests.console import ConsoleProgress
from manifests.errors import OutputError
from pipeline.generate import generate
from pipeline.merging import merge_corpora
from pipeline.repair import repair_corpus
from tests.pipeline.conftest import digest
from tests.pipeline.test_generate import small_recipe
from tests.pipeline.test_verification import flip

PAGE = 4096
NOBODY = 65534
Command = Callable[..., tuple[int, str, str]]


def mount(*arguments: str | Path) -> bool:
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False).returncode == 0


@dataclass
class Disk:
    """A small disk of our own in memory."""

    root: Path

    def resize(self, size: str) -> None:
        assert mount("-o", f"remount,size={size}", self.root)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """It can be read and not written, whoever asks; what is open already stays so."""
        assert mount("--bind", self.root, self.root)
        try:
            assert mount("-o", "remount,bind,ro", self.root)
            yield
        finally:
            subprocess.run(["umount", str(self.root)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    root = tmp_path / "disk"
    root.mkdir()
    if os.geteuid() or not mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", root):
        pytest.skip("only root may mount a small disk, and not in every container; test_cli has what users may do")
    yield Disk(root)
    subprocess.run(["umount", "--lazy", str(root)], check=True)


@dataclass(frozen=True)
class Tiny:
    """A corpus of four samples, and the recipe that it was made from, as a file."""

    recipe: Path
    out: Path
    digest: dict[str, str]


@pytest.fixture
def tiny(photographs: Path, tmp_path: Path) -> Tiny:
    cracks = {"fracture": {"grid": 32, "snapshots": 4}}
    # two shards of the bank and two of samples: something is finished when the fault comes, and something is not
    recipe = small_recipe(photographs, count=4, size=32, bank={"trajectories": 20, "groups": 2}, mechanisms=cracks)
    generate(tmp_path / "undisturbed", recipe, workers=1)
    described = tmp_path / "recipe.yaml"
    described.write_text(recipe.model_dump_json(), encoding="utf-8")  # JSON is YAML
    return Tiny(described, tmp_path / "undisturbed", digest(tmp_path / "undisturbed"))


def pages(out: Path) -> int:
    """Bytes that a corpus takes of a disk with pages."""
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in out.rglob("*") if path.is_file())


def one_line(ended: tuple[int, str, str]) -> str:
    code, _, said = ended
    assert code == 2, said
    assert said.count("\n") == 1, said
    assert said.startswith("error: ")
    return said


def finished_records(out: Path, whole: dict[str, str]) -> int:
    """Finished shards of a run that was stopped: every record, and every file that one names, is as it will be."""
    found = digest(out)
    records = [name for name in found if name.startswith("commits/") and name.endswith(".json")]
    named = [file["path"] for name in records for file in json.loads((out / name).read_bytes())["files"]]
    assert {name: found.get(name) for name in (*records, *named)} == {name: whole[name] for name in (*records, *named)}
    assert not (out / layout.CORPUS).exists()
    return len(records)


def goes_on(command: Command, arguments: tuple[object, ...], tiny: Tiny, out: Path) -> None:
    code, said, complaint = command(*arguments)
    assert code == 0, complaint
    assert "kept from an earlier run" in said
    assert digest(out) == tiny.digest


def at_first_bank_shard(monkeypatch: pytest.MonkeyPatch, fault: Callable[[], object]) -> None:
    """Let something happen to the disk while a run goes on, once."""
    advance, happened = ConsoleProgress.advance, []

    def advanced(self: ConsoleProgress, items: int, failures: int) -> None:
        advance(self, items, failures)
        if items == 16 and not happened:
            happened.append(fault())

    monkeypatch.setattr(ConsoleProgress, "advance", advanced)


# ---------------------------------------------------------------- full


def test_disk_that_fills_up_keeps_what_is_finished_and_the_same_command_goes_on(
    disk: Disk, command: Command, tiny: Tiny
) -> None:
    out, seen = disk.root / "out", set()
    arguments = ("generate", out, "--config", tiny.recipe)
    for share in (4, 7, 9):
        disk.resize(str(pages(tiny.out) * share // 10))
        assert "the disk is full" in one_line(command(*arguments))
        seen.add(finished_records(out, tiny.digest))
    assert max(seen) >= 2
    disk.resize("64m")
    goes_on(command, arguments, tiny, out)


def test_merge_and_repair_on_a_full_disk_leave_no_half_file_and_go_on(disk: Disk, tiny: Tiny) -> None:
    out = disk.root / "out"
    disk.resize(str(pages(tiny.out) // 2))
    with pytest.raises(OutputError, match="the disk is full"):
        merge_corpora([tiny.out], out)
    assert finished_records(out, tiny.digest) >= 1
    disk.resize("64m")
    merge_corpora([tiny.out], out)
    assert digest(out) == tiny.digest
    flip(out / "bank/fracture/damage/c/0/0/0/0", 99)
    damaged = digest(out)
    disk.resize(str(pages(out) + 20 * PAGE))
    with pytest.raises(OutputError, match="the disk is full"):
        repair_corpus(out)
    assert digest(out) == damaged
    disk.resize("64m")
    repair_corpus(out)
    assert digest(out) == tiny.digest


# ---------------------------------------------------------------- read-only


def test_disk_that_turns_read_only_keeps_what_is_finished_and_the_same_command_goes_on(
    disk: Disk, command: Command, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = disk.root / "out"
    arguments = ("generate", out, "--config", tiny.recipe)
    with ExitStack() as fault:
        at_first_bank_shard(monkeypatch, lambda: fault.enter_context(disk.read_only()))
        assert "the file system is read-only" in one_line(command(*arguments))
        assert finished_records(out, tiny.digest) == 2  # the photographs, and 16 trajectories of 20
    goes_on(command, arguments, tiny, out)


# ---------------------------------------------------------------- permission


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user to whom modes apply: root is told nothing by them."""
    if os.geteuid():
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_permission_that_is_lost_keeps_what_is_finished_and_the_same_command_goes_on(
    command: Command, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as folder:  # others may not look into pytest's
        own = Path(folder)
        photographs = json.loads(tiny.recipe.read_text())["sources"][0]["path"]
        shutil.copytree(photographs, own / "photographs")
        (own / "recipe.yaml").write_text(tiny.recipe.read_text().replace(photographs, str(own / "photographs")))
        if not os.geteuid():
            for path in (own, *own.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        out, lost = own / "out", list[Path]()

        def lose() -> None:
            lost.extend(path for path in (out, *out.rglob("*")) if path.is_dir())
            for closed in lost:
                closed.chmod(0o555)

        at_first_bank_shard(monkeypatch, lose)
        with as_nobody():
            said = one_line(command("generate", out, "--config", own / "recipe.yaml"))
            assert "permission is denied; give a folder that can be written to" in said
            assert len(list((out / "commits").glob("*.json"))) == 2
            for closed in lost:
                closed.chmod(0o755)
            code, said, complaint = command("generate", out, "--config", own / "recipe.yaml")
        assert code == 0, complaint
        assert "kept from an earlier run" in said
        found = digest(out)  # the recipe names another folder, and records name the recipe
        same = [name for name in found if name.startswith(("data/", "bank/")) or name.endswith(".parquet")]
        assert {name: found[name] for name in same} == {name: tiny.digest[name] for name in same}
