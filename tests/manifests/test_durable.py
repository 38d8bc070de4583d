"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from manifests.durable import fsync_folders, link_or_copy, write_atomic

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths, in order, at the moment they were forced to disk."""
    paths: list[str] = []
    forced = os.fsync

    def fsync(descriptor: int) -> None:
        paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115  (pathlib would resolve it)
        forced(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


def test_content_is_forced_to_disk_before_the_rename_and_the_folder_after(tmp_path: Path, synced: list[str]) -> None:
    write_atomic(tmp_path / "corpus.json", b"{}")
    temporary, folder = synced
    assert Path(temporary).parent == tmp_path
    assert temporary != str(tmp_path / "corpus.json")
    assert folder == str(tmp_path)
    assert (tmp_path / "corpus.json").read_bytes() == b"{}"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_failure_leaves_the_old_content_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "corpus.json"
    write_atomic(path, b"old")

    def fails(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match=os.strerror(code)):
        write_atomic(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["corpus.json"]


@pytest.mark.parametrize("code", [None, errno.EXDEV, errno.EPERM])
def test_file_is_linked_or_where_that_is_refused_copied_in_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    source, target = tmp_path / "source", tmp_path / "folder" / "target"
    source.write_bytes(b"content")

    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code or 0))

    if code is not None:
        monkeypatch.setattr(os, "link", refused)
    for before in (None, b"other"):
        if before is not None:
            target.unlink()
            target.write_bytes(before)
        for _ in range(2):  # the second time both are names of one file already
            link_or_copy(source, target)
            assert target.read_bytes() == b"content"
            assert target.samefile(source) == (code is None)
            assert [p.name for p in target.parent.iterdir()] == ["target"]


def test_link_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "source").write_bytes(b"content")
    monkeypatch.setattr(os, "link", fails)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        link_or_copy(tmp_path / "source", tmp_path / "target")
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_every_folder_up_to_the_root_is_forced_to_disk(tmp_path: Path, synced: list[str]) -> None:
    path = tmp_path / "a" / "b" / "file"
    path.parent.mkdir(parents=True)
    path.touch()
    fsync_folders(path, tmp_path)
    assert synced == [str(tmp_path / "a" / "b"), str(tmp_path / "a"), str(tmp_path)]


def test_folders_are_forced_to_disk_where_the_root_is_the_current_folder(
    tmp_path: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    fsync_folders(Path("a/file"), Path())
    assert synced == [str(tmp_path / "a"), str(tmp_path)]


def test_file_outside_the_root_is_no_path_below_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not in the subpath"):
        fsync_folders(tmp_path / "file", tmp_path / "root")


def test_failed_rename_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "corpus.json").mkdir()  # in the way
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "corpus.json", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["corpus.json"]


REWRITER = """
import os, random, signal, sys, time
from pathlib import Path
from manifests.durable import TEMPORARY_SUFFIX, write_atomic

path, trials = Path(sys.argv[1]), int(sys.argv[2])
contents = [bytes([65 + k]) * (400_000 + 50_000 * k) for k in range(8)]
write_atomic(path, contents[0])
seen, midway, delay = set(), 0, random.Random(3)
for trial in range(trials):
    child = os.fork()
    if not child:
        k = trial
        while True:
            k += 1
            write_atomic(path, contents[k % 8])
    time.sleep(delay.uniform(0.002, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert path.read_bytes() in contents, f"half a file: {path.stat().st_size} bytes"
    seen.add(path.read_bytes()[:1])
    beside = [p for p in path.parent.iterdir() if p != path]
    assert all(p.name.startswith(path.name) and p.name.endswith(TEMPORARY_SUFFIX) for p in beside), beside
    midway += bool(beside)
    for p in beside:
        p.unlink()
print(len(seen), midway)
"""


def test_writer_killed_at_random_moments_leaves_the_old_content_or_the_new(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REWRITER, tmp_path / "corpus.json", "60"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    different, midway = map(int, done.stdout.split())
    assert different >= 3, "too few contents were ever written for this test to mean anything"
    assert midway >= 5, "too few kills hit a file half written for this test to mean anything"


def test_folders_that_files_share_are_forced_once_and_the_innermost_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / "a" / "x" / "file", tmp_path / "a" / "y" / "file", tmp_path / "a" / "x" / "other"]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
    forced: list[Path] = []
    monkeypatch.setattr("manifests.durable.fsync_path", forced.append)
    fsync_folders(files, tmp_path)
    assert sorted(forced) == [tmp_path, tmp_path / "a", tmp_path / "a" / "x", tmp_path / "a" / "y"]
    assert forced.index(tmp_path) > forced.index(tmp_path / "a") > forced.index(tmp_path / "a" / "y")
