from __future__ import annotations

import errno
import hashlib
import os
import tarfile
from pathlib import Path
from typing import NoReturn

import pytest

from manifests.durable import written_whole
from manifests.errors import CorpusError
from manifests.records import FileRecord
from pipeline.publishing.placing import HOSTS, HostLimits, must_pack, pack_files, place_files


def _files(root: Path, **contents: bytes) -> list[FileRecord]:
    found = []
    for name, data in contents.items():
        path = root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        found.append(FileRecord(path=f"data/{name}", bytes=len(data), sha256=hashlib.sha256(data).hexdigest()))
    return found


def _unheard(done: int, total: int) -> None:
    assert done <= total


def _refuse_link(source: object, target: object) -> NoReturn:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def test_files_are_hard_links_where_the_file_system_has_them(tmp_path: Path) -> None:
    files = _files(tmp_path / "out", a=b"one", b=b"two")
    place_files(tmp_path / "out", tmp_path / "dest", files, advance=_unheard)
    assert (tmp_path / "dest/data/a").samefile(tmp_path / "out/data/a")


def test_files_are_copied_across_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", _refuse_link)
    files = _files(tmp_path / "out", a=b"one" * 1_000_000)
    placed = place_files(tmp_path / "out", tmp_path / "dest", files, advance=_unheard)
    copy = tmp_path / "dest/data/a"
    assert not copy.samefile(tmp_path / "out/data/a")
    assert copy.read_bytes() == b"one" * 1_000_000
    assert placed == {"data/a": files[0].sha256}


@pytest.mark.parametrize("linked", [True, False])
def test_a_damaged_file_is_never_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool) -> None:
    if not linked:
        monkeypatch.setattr(os, "link", _refuse_link)
    files = _files(tmp_path / "out", a=b"one")
    (tmp_path / "out/data/a").write_bytes(b"two")
    with pytest.raises(CorpusError, match="differs from the sha256"):
        place_files(tmp_path / "out", tmp_path / "dest", files, advance=_unheard)
    assert not list((tmp_path / "dest/data").iterdir())
    with pytest.raises(CorpusError, match="differs from the sha256"):
        pack_files(tmp_path / "out", tmp_path / "dest", files, inside="c", limits=HOSTS, advance=_unheard)
    assert not list((tmp_path / "dest/archives").iterdir())


def test_a_wrong_file_in_the_way_is_replaced(tmp_path: Path) -> None:
    files = _files(tmp_path / "out", a=b"one")
    (tmp_path / "dest/data").mkdir(parents=True)
    (tmp_path / "dest/data/a").write_bytes(b"tw")
    place_files(tmp_path / "out", tmp_path / "dest", files, advance=_unheard)
    assert (tmp_path / "dest/data/a").read_bytes() == b"one"


def test_a_path_that_leaves_the_corpus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"one")
    (tmp_path / "out").mkdir()
    stray = FileRecord(path="../secret", bytes=3, sha256=hashlib.sha256(b"one").hexdigest())
    with pytest.raises(CorpusError, match="leaves"):
        place_files(tmp_path / "out", tmp_path / "dest/corpus", [stray], advance=_unheard)


def test_archives_hold_whole_files_up_to_their_size_and_say_nothing_of_when(tmp_path: Path) -> None:
    files = _files(tmp_path / "out", a=b"1" * 600, b=b"2" * 600, c=b"3" * 300, d=b"4" * 5000)
    limits = HostLimits(archive_bytes=1000)
    names = pack_files(tmp_path / "out", tmp_path / "one", files, inside="corpus", limits=limits, advance=_unheard)
    assert names == [f"archives/corpus-{k:05d}.tar" for k in range(3)]
    for path in (tmp_path / "out/data").iterdir():
        os.utime(path, (1, 1))
    pack_files(tmp_path / "out", tmp_path / "two", files, inside="corpus", limits=limits, advance=_unheard)
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with tarfile.open(tmp_path / "one" / names[1]) as archive:
        assert archive.getnames() == ["corpus/data/b", "corpus/data/c"]


def test_files_are_packed_beyond_what_hosts_take() -> None:
    limits = HostLimits(files=300, folder=20)
    assert not must_pack([f"{k % 15}/{k}" for k in range(200)], limits)
    assert must_pack([f"{k % 15}/{k}" for k in range(201)], limits)  # 100 are kept for other files
    assert must_pack([f"one/{k}" for k in range(21)], limits)
    assert must_pack([f"one/{k}/0" for k in range(21)], limits)  # folders count as entries, too
    assert not must_pack([f"{k % 20}/{k // 20}/0" for k in range(200)], limits)


def test_a_file_that_could_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with written_whole(tmp_path / "a") as stream:
            stream.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.iterdir())
