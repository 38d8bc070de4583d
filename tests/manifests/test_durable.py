"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from manifests.durable import fsync_folders, write_atomic


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


def test_every_folder_up_to_the_root_is_forced_to_disk(tmp_path: Path, synced: list[str]) -> None:
    path = tmp_path / "a" / "b" / "file"
    path.parent.mkdir(parents=True)
    path.touch()
    fsync_folders(path, tmp_path)
    assert synced == [str(tmp_path / "a" / "b"), str(tmp_path / "a"), str(tmp_path)]
