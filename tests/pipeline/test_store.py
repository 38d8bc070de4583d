"""The store: a shard is whole or not there, whatever kills the writer, and damage never passes for data."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from manifests import layout
from manifests.errors import CorpusError, OutputError
from manifests.hashing import code_version, sha256_file
from manifests.records import BankRecord, CommitRecord, FileRecord
from pipeline import store
from pipeline.recipe import Recipe, config_sha256
from pipeline.store import (
    ArraySpec,
    commit,
    create_array,
    is_laid_out,
    lock_output,
    mark_unfinished,
    open_output,
    output_errors,
    place_shard,
    prune_arrays,
    read_identity,
    read_rows,
    read_valid_commits,
    shard_files,
    stage_shard,
    sweep,
)

ROOT = Path(__file__).resolve().parent.parent.parent
KEY = "alpha/brick"
SHAPE = (5, 8, 8, 3)
PER_SHARD = 2
SPEC = ArraySpec("image", SHAPE, "uint8", PER_SHARD, (("unit", "grey levels"), ("meaning", "picture")))


@pytest.fixture
def rows(rng: np.random.Generator) -> NDArray[np.uint8]:
    return rng.integers(0, 256, SHAPE, dtype=np.uint8)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An opened output folder with one array laid out and no shard."""
    folder = tmp_path / "out"
    open_output(folder, Recipe())
    create_array(folder, "data", KEY, SPEC, zstd_level=1)
    return folder


def write_rows(out: Path, rows: NDArray[Any], shard: int) -> tuple[FileRecord, ...]:
    part = rows[shard * PER_SHARD : (shard + 1) * PER_SHARD]
    return place_shard(out, stage_shard(out, "data", KEY, {"image": part}, shard=shard))


def bank_commit(out: Path, *files: FileRecord, shard: int = 0, **changes: Any) -> CommitRecord[BankRecord]:
    values: dict[str, Any] = {
        "stage": "bank", "key": "fracture", "shard": shard, "config_sha256": config_sha256(Recipe()),
        "code_version": code_version(), "inputs_sha256": "", "files": files, "rows": (),
    }  # fmt: skip
    return CommitRecord[BankRecord](**(values | changes))


def tree(folder: Path) -> dict[str, bytes]:
    """All of a corpus but its log."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(files.items()) if not name.startswith(layout.LOG)}


def run_python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


# ---------------------------------------------------------------------------------------------- arrays and shards


def test_array_is_laid_out_as_documented(out: Path) -> None:
    metadata = json.loads((out / "data" / KEY / "image" / "zarr.json").read_bytes())
    assert metadata["zarr_format"] == 3
    assert metadata["shape"] == [6, 8, 8, 3], "padded to whole shards"
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [PER_SHARD, 8, 8, 3], "one file a shard"
    assert metadata["fill_value"] == 0
    assert metadata["attributes"] == {"count": 5, "unit": "grey levels", "meaning": "picture"}
    (sharding,) = metadata["codecs"]
    assert sharding["name"] == "sharding_indexed"
    assert sharding["configuration"]["chunk_shape"] == [1, 8, 8, 3], "one row a chunk"
    assert sharding["configuration"]["codecs"][-1] == {"name": "zstd", "configuration": {"level": 1, "checksum": True}}
    assert sharding["configuration"]["index_codecs"][-1]["name"] == "crc32c"


def test_laying_out_again_changes_no_byte(out: Path) -> None:
    before = tree(out)
    create_array(out, "data", KEY, SPEC, zstd_level=1)
    assert tree(out) == before
    assert is_laid_out(out, "data", KEY, ["image"])
    assert not is_laid_out(out, "data", KEY, ["image", "mask"])


@pytest.mark.parametrize("folder", ["", "alpha", "alpha/brick"])
def test_array_is_not_laid_out_while_a_group_above_it_is_missing(out: Path, folder: str) -> None:
    (out / "data" / folder / "zarr.json").unlink()
    assert not is_laid_out(out, "data", KEY, ["image"])
    create_array(out, "data", KEY, SPEC, zstd_level=1)
    assert is_laid_out(out, "data", KEY, ["image"])


def test_any_zarr_reader_sees_the_rows(out: Path, rows: NDArray[np.uint8]) -> None:
    for shard in (2, 0, 1):
        write_rows(out, rows, shard)
    array = zarr.open_group(out / "data", mode="r")[f"{KEY}/image"]
    assert isinstance(array, zarr.Array)
    assert_array_equal(np.asarray(array[: array.attrs["count"]]), rows)
    assert_array_equal(read_rows(out, "data", KEY, "image", 0, 5), rows, strict=True)
    assert_array_equal(read_rows(out, "data", KEY, "image", 1, 3), rows[1:3], strict=True)
    assert_array_equal(np.asarray(array[5:]), 0, err_msg="padding")


def test_record_of_a_shard_is_true(out: Path, rows: NDArray[np.uint8]) -> None:
    (record,) = write_rows(out, rows, 1)
    assert record.path == layout.shard_file("data", KEY, "image", 1, 4) == "data/alpha/brick/image/c/1/0/0/0"
    assert record.bytes == (out / record.path).stat().st_size
    assert record.sha256 == sha256_file(out / record.path)
    assert shard_files(out) == {record.path}, "one file, and nothing beside it"


def test_black_shard_is_a_file(out: Path) -> None:
    (record,) = write_rows(out, np.zeros(SHAPE, dtype=np.uint8), 0)
    assert record.bytes > 0
    assert_array_equal(read_rows(out, "data", KEY, "image", 0, 2), 0)


def test_black_picture_is_stored_and_not_left_out(out: Path, rows: NDArray[np.uint8]) -> None:
    rows[1] = 0
    (record,) = write_rows(out, rows, 0)
    index = np.frombuffer((out / record.path).read_bytes()[-16 * PER_SHARD - 4 : -4], dtype="<u8").reshape(-1, 2)
    lengths = index[:, 1]  # the index of a shard: offset and length of each chunk, then its checksum
    assert (lengths > 0).all()
    assert (lengths < record.bytes).all(), "2^64 - 1 says that a chunk is not there"


def test_writing_over_a_torn_shard_gives_the_same_bytes(out: Path, rows: NDArray[np.uint8]) -> None:
    (record,) = write_rows(out, rows, 0)
    whole = (out / record.path).read_bytes()
    for torn in (b"", whole[: len(whole) // 2], whole[:-1] + b"x", bytes(len(whole))):
        (out / record.path).write_bytes(torn)
        assert write_rows(out, rows, 0) == (record,)
        assert (out / record.path).read_bytes() == whole


def test_shard_of_more_rows_than_it_holds_is_refused(out: Path, rows: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="a shard holds 2 rows, got 3"):
        place_shard(out, stage_shard(out, "data", KEY, {"image": rows[:3]}, shard=0))


@pytest.mark.parametrize("change", [lambda r: r.astype(np.uint16), lambda r: r[..., :1], lambda r: r > 7])
def test_rows_of_another_type_or_shape_are_refused_and_never_cast(
    change: Callable[[NDArray[np.uint8]], NDArray[Any]], out: Path, rows: NDArray[np.uint8]
) -> None:
    with pytest.raises(TypeError, match=rf"{KEY}/image: holds rows of uint8 .*, got "):
        write_rows(out, change(rows), 0)
    assert not list((out / "data" / KEY / "image").rglob("c"))


def test_shard_that_was_never_written_is_not_read_as_zeros(out: Path, rows: NDArray[np.uint8]) -> None:
    write_rows(out, rows, 0)
    with pytest.raises(CorpusError, match=r"image/c/1/0/0/0: the shard is missing"):
        read_rows(out, "data", KEY, "image", 1, 3)


def test_shard_and_its_folders_are_on_disk_before_its_record_appears(
    out: Path, rows: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    forced = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115  (pathlib would resolve it)
        synced.append(path.relative_to(out).as_posix())
        forced(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    (record,) = write_rows(out, rows, 0)
    commit(out, bank_commit(out, record))
    folders = [str(parent) for parent in Path(record.path).parents]
    assert synced[0].startswith("log/writing/"), "the file's bytes, before it has its name"
    assert synced[1 : len(folders) + 1] == folders
    temporary, commits = synced[len(folders) + 1 :]
    assert temporary.startswith(f"{layout.COMMITS}/{layout.commit_name('bank', 'fracture', 0)}.")
    assert commits == layout.COMMITS


def test_two_processes_write_two_shards_of_one_array_at_once(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
import numpy as np
from pipeline.store import place_shard, stage_shard
out, shards = Path(sys.argv[1]), [int(n) for n in sys.argv[2:]]
print("ready", flush=True)
sys.stdin.readline()
for shard in shards:
    rows = np.random.default_rng(shard).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    place_shard(out, stage_shard(out, "data", "alpha/brick", {"image": rows}, shard=shard))
"""
    spec = ArraySpec("image", (160, 32, 32, 3), "uint8", 4, ())
    for name in ("together", "alone"):
        create_array(tmp_path / name, "data", KEY, spec, zstd_level=1)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, tmp_path / "together", *map(str, range(first, 40, 2))],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for first in (0, 1)
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n", timeout=60)
        assert writer.returncode == 0
    for shard in range(40):
        rows = np.random.default_rng(shard).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
        place_shard(tmp_path / "alone", stage_shard(tmp_path / "alone", "data", KEY, {"image": rows}, shard=shard))
    assert tree(tmp_path / "together") == tree(tmp_path / "alone")


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FileRecord, bytes, NDArray[np.uint8]]:
    """A folder, the one shard in it, its bytes and its rows."""
    folder = tmp_path_factory.mktemp("shard")
    create_array(folder, "data", KEY, ArraySpec("image", (3, 8, 8, 3), "uint8", 3, ()), zstd_level=1)
    rows = np.random.default_rng(0).integers(0, 40, (3, 8, 8, 3), dtype=np.uint8)  # few values, so zstd is at work
    (record,) = place_shard(folder, stage_shard(folder, "data", KEY, {"image": rows}, shard=0))
    return folder, record, (folder / record.path).read_bytes(), rows


@settings(max_examples=300)
@given(where=st.floats(0, 1, exclude_max=True), flipped=st.integers(1, 255), cut=st.booleans())
def test_changed_byte_or_cut_is_noticed_by_reader_and_hash(
    shard: tuple[Path, FileRecord, bytes, NDArray[np.uint8]], where: float, flipped: int, cut: bool
) -> None:
    folder, record, whole, rows = shard
    position = int(where * len(whole))
    torn = whole[:position] if cut else whole[:position] + bytes([whole[position] ^ flipped]) + whole[position + 1 :]
    (folder / record.path).write_bytes(torn)
    assert sha256_file(folder / record.path) != record.sha256
    try:
        found = read_rows(folder, "data", KEY, "image", 0, 3)
    except CorpusError as error:
        said = str(error)
    else:
        assert not cut
        assert_array_equal(found, rows, err_msg="a few bits of a zstd frame mean nothing; any other must be noticed")
        return
    assert record.path in said
    assert "\n" not in said


# ---------------------------------------------------------------------------------------------- killed at any moment

WRITER = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from pipeline.recipe import Recipe, config_sha256
from manifests.hashing import code_version, sha256_file
from manifests.records import BankRecord, CommitRecord
from manifests.layout import commit_name
from pipeline.store import (
    ArraySpec, commit, create_array, open_output, read_valid_commits, shard_files, sweep, place_shard, stage_shard
)

SHARDS = 6
out, trials = Path(sys.argv[1]), int(sys.argv[2])

def valid():
    return list(read_valid_commits(out, "bank", BankRecord, Recipe()))

def go_on():
    open_output(out, Recipe())
    create_array(out, "data", "alpha/brick", ArraySpec("image", (24, 96, 96, 3), "uint8", 4, ()), zstd_level=1)
    done = {record.shard: record for record in valid()}
    sweep(
        out,
        {file.path for record in done.values() for file in record.files},
        {commit_name("bank", record.key, record.shard) for record in done.values()},
    )
    for shard in range(SHARDS):
        if shard not in done:
            rows = np.random.default_rng(shard).integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)
            files = place_shard(out, stage_shard(out, "data", "alpha/brick", {"image": rows}, shard=shard))
            commit(out, CommitRecord[BankRecord](
                stage="bank", key="fracture", shard=shard, config_sha256=config_sha256(Recipe()),
                code_version=code_version(), inputs_sha256="", files=files, rows=(),
            ))

seconds, debris, random_delay = None, 0, random.Random(7)
for trial in range(trials + 1):  # the first tells how long it takes undisturbed
    if trial > 40 and debris >= 5:  # enough kills hit a writer at work; how many do is a matter of luck and load
        break
    begun = time.perf_counter()
    child = os.fork()
    if not child:
        try:
            go_on()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if seconds is None:
        assert os.waitpid(child, 0)[1] == 0
        seconds = time.perf_counter() - begun
        for record in valid()[::2]:  # from here on some shards are there and some not
            (out / "commits" / commit_name("bank", record.key, record.shard)).unlink()
        continue
    time.sleep(random_delay.uniform(0, 0.7 * seconds))
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (0, -signal.SIGKILL)
    named = {file.path for record in valid() for file in record.files}
    for record in valid():
        for file in record.files:
            assert sha256_file(out / file.path) == file.sha256, "a record came before its shard was whole"
    left = shard_files(out) - named | {p.name for p in (out / "commits").glob("*") if p.suffix != ".json"}
    debris += bool(left)
    if len(valid()) == SHARDS:
        for record in valid()[trial % 2 :: 2]:
            (out / "commits" / commit_name("bank", record.key, record.shard)).unlink()
go_on()
print(debris)
"""


def test_writer_killed_at_random_moments_leaves_no_trace_after_resuming(tmp_path: Path) -> None:
    undisturbed = run_python(WRITER, tmp_path / "undisturbed", 0)
    killed = run_python(WRITER, tmp_path / "killed", 400)
    assert (undisturbed.returncode, killed.returncode) == (0, 0), undisturbed.stderr + killed.stderr
    assert int(killed.stdout) >= 5, "too few kills hit a writer at work for this test to mean anything"
    found, expected = tree(tmp_path / "killed"), tree(tmp_path / "undisturbed")
    assert found.keys() == expected.keys()
    assert found == expected


# ---------------------------------------------------------------------------------------------- commit records


def test_record_is_read_back(out: Path, rows: NDArray[np.uint8]) -> None:
    record = bank_commit(out, *write_rows(out, rows, 0))
    commit(out, record)
    assert list(read_valid_commits(out, "bank", BankRecord, Recipe())) == [record]
    assert list(read_valid_commits(out, "samples", BankRecord, Recipe())) == []
    assert [path.name for path in (out / layout.COMMITS).iterdir()] == ["bank--fracture--00000.json"]


@pytest.mark.parametrize(
    "changes",
    [
        {"config_sha256": "00" * 32},
        {"code_version": "0.0.9+000000000000"},
        {"files": (FileRecord(path="data/alpha/brick/image/c/9/0/0/0", bytes=1, sha256="ab"),)},
        {"files": (FileRecord(path="../outside", bytes=5, sha256="ab"),)},
        {"files": (FileRecord(path="/etc/hostname", bytes=5, sha256="ab"),)},
        {"files": (FileRecord(path="data\0", bytes=5, sha256="ab"),)},
        {"files": (FileRecord(path="data", bytes=0, sha256="ab"),)},
    ],
    ids=["recipe", "code", "missing file", "file outside", "absolute path", "no path", "folder"],
)
def test_record_that_does_not_hold_is_no_record(out: Path, changes: dict[str, Any]) -> None:
    (out.parent / "outside").write_bytes(b"12345")
    commit(out, bank_commit(out, **changes))
    assert list(read_valid_commits(out, "bank", BankRecord, Recipe())) == []


def test_record_of_a_cut_shard_is_no_record(out: Path, rows: NDArray[np.uint8]) -> None:
    (file,) = write_rows(out, rows, 0)
    commit(out, bank_commit(out, file))
    os.truncate(out / file.path, file.bytes - 1)
    assert list(read_valid_commits(out, "bank", BankRecord, Recipe())) == []


def test_torn_or_renamed_record_is_no_record(out: Path) -> None:
    commit(out, bank_commit(out))
    path = out / layout.COMMITS / layout.commit_name("bank", "fracture", 0)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    (out / layout.COMMITS / layout.commit_name("bank", "fracture", 1)).write_bytes(whole)
    assert list(read_valid_commits(out, "bank", BankRecord, Recipe())) == []


# ---------------------------------------------------------------------------------------------- sweeping


def test_sweep_removes_what_no_record_names_and_nothing_else(out: Path, rows: NDArray[np.uint8]) -> None:
    (kept,) = write_rows(out, rows, 0)
    write_rows(out, rows, 1)
    commit(out, bank_commit(out, kept))
    before = tree(out)
    del before["data/alpha/brick/image/c/1/0/0/0"]
    debris = [
        "data/alpha/brick/image/c/2/0/0/0.1f2e.partial",
        "data/alpha/brick/image/zarr.json.77.writing",
        "bank/fracture/damage/c/0/0/0/0",
        "commits/bank--fracture--00001.json.77.writing",
        "commits/bank--fracture--00007.json",
        "manifest.parquet.77.writing",
    ]
    safe = ["log/runs.jsonl", "log/lock", "log/data.partial", "notes.txt"]
    for name in debris + safe:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"x")
    (out / layout.CORPUS).write_bytes(b"says that the corpus is finished")
    removed = sweep(out, {kept.path}, {layout.commit_name("bank", "fracture", 0)})
    assert removed == len(debris) + 1
    assert tree(out) == before | {"notes.txt": b"x"}, "and corpus.json went, because the corpus is not finished"
    assert all((out / name).is_file() for name in safe)


def test_sweep_of_a_whole_corpus_leaves_it_finished(out: Path, rows: NDArray[np.uint8]) -> None:
    (kept,) = write_rows(out, rows, 0)
    (out / layout.CORPUS).write_bytes(b"finished")
    before = tree(out)
    assert sweep(out, {kept.path}, set()) == 0
    assert tree(out) == before


@pytest.mark.parametrize("place", ["data", "data/alpha", "data/elsewhere", "bank/fracture", "commits"])
def test_link_within_a_corpus_is_refused_and_what_it_points_to_is_left_alone(out: Path, place: str) -> None:
    elsewhere = out.parent / "elsewhere"
    (elsewhere / "brick").mkdir(parents=True)
    (elsewhere / "brick" / "thesis.tex").write_text("mine")
    if (out / place).exists():
        (out / place).rename(out.parent / "aside")
    (out / place).parent.mkdir(exist_ok=True)
    (out / place).symlink_to(elsewhere)
    with pytest.raises(OutputError, match=f"{place}: is a symbolic link; put what it points to in its place"):
        open_output(out, Recipe())
    assert (elsewhere / "brick" / "thesis.tex").read_text() == "mine"


def test_sweep_follows_no_link_out_of_the_corpus(out: Path) -> None:
    elsewhere = out.parent / "elsewhere"
    elsewhere.mkdir()
    for name in ("photograph.png", "other.png"):
        (elsewhere / name).write_text("mine")
    (out / "data" / "folder").symlink_to(elsewhere)
    (out / "data" / "file").symlink_to(elsewhere / "other.png")
    assert sweep(out, set(), set()) == 1, "the link to a file, and not the file"
    assert tree(elsewhere) == {"other.png": b"mine", "photograph.png": b"mine"}


def test_corpus_folder_itself_may_be_a_link(tmp_path: Path, rows: NDArray[np.uint8]) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    out = tmp_path / "out"
    for _ in range(2):
        open_output(out, Recipe())
        create_array(out, "data", KEY, SPEC, zstd_level=1)
        write_rows(out, rows, 0)
    assert_array_equal(read_rows(out, "data", KEY, "image", 0, 2), rows[:2])


def test_current_folder_can_be_the_corpus_folder(
    tmp_path: Path, rows: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = Path()
    open_output(out, Recipe())
    create_array(out, "data", KEY, SPEC, zstd_level=1)
    (file,) = write_rows(out, rows, 0)  # at one time it never came back from here
    record = bank_commit(out, file)
    commit(out, record)
    assert list(read_valid_commits(out, "bank", BankRecord, Recipe())) == [record]
    sweep(out, {file.path}, {layout.commit_name("bank", "fracture", 0)})
    prune_arrays(out)
    assert_array_equal(read_rows(out, "data", KEY, "image", 0, 2), rows[:2])


def test_corpus_is_unfinished_on_disk_before_a_shard_is_made_anew(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (layout.CORPUS, layout.MANIFEST):
        (out / name).write_bytes(b"finished")
    seen: list[tuple[str, set[str]]] = []

    def fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115  (pathlib would resolve it)
        seen.append((path, {layout.CORPUS, layout.MANIFEST} & set(os.listdir(path))))  # noqa: PTH208

    monkeypatch.setattr(os, "fsync", fsync)
    mark_unfinished(out)
    assert seen == [(str(out), set())]


def test_prune_removes_arrays_that_hold_no_shard(out: Path, rows: NDArray[np.uint8]) -> None:
    write_rows(out, rows, 0)
    create_array(out, "data", "beta/tile", SPEC, zstd_level=1)
    create_array(out, "bank", "fracture", SPEC, zstd_level=1)
    prune_arrays(out)
    assert not (out / "data" / "beta").exists()
    assert not (out / "bank" / "fracture").exists()
    assert_array_equal(read_rows(out, "data", KEY, "image", 0, 2), rows[:2])


# ---------------------------------------------------------------------------------------------- the output folder


def test_new_empty_or_own_folder_is_opened(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "new" / "below"):
        open_output(folder, Recipe())
        before = tree(folder)
        open_output(folder, Recipe())
        assert tree(folder) == before
        assert read_identity(folder).config == Recipe()
        assert read_identity(folder).config_sha256 == config_sha256(Recipe())


def test_run_killed_while_it_wrote_its_first_file_can_begin_again(tmp_path: Path) -> None:
    (tmp_path / "config.json.77.writing").write_bytes(b'{"config": {')
    (tmp_path / "log").mkdir()
    open_output(tmp_path, Recipe())
    assert read_identity(tmp_path).config == Recipe()


def test_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    for name in ("thesis.tex", "data"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=r"holds something else \(data, thesis\.tex\)"):
        open_output(tmp_path, Recipe())
    assert tree(tmp_path) == {"data": b"mine", "thesis.tex": b"mine"}


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="is a file"):
        open_output(tmp_path / "out", Recipe())
    with pytest.raises(OutputError, match="a part of the path is a file"):
        open_output(tmp_path / "out" / "below", Recipe())


def test_another_recipe_is_refused_with_the_difference(tmp_path: Path) -> None:
    open_output(tmp_path, Recipe())
    before = tree(tmp_path)
    other = Recipe.model_validate({"seed": 8, "size": 512, "label": {"visible_threshold": 9}})
    with pytest.raises(OutputError) as caught:
        open_output(tmp_path, other)
    for part in (
        f"seed is {Recipe().seed} there and 8 here",
        f"size is {Recipe().size} there and 512 here",
        f"label.visible_threshold is {Recipe().label.visible_threshold} there and 9 here",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert tree(tmp_path) == before


def test_another_code_version_is_refused_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_output(tmp_path, Recipe())
    monkeypatch.setattr(store, "code_version", lambda: "9.9.9+000000000000")
    with pytest.raises(OutputError, match=r"begun by code version .*, this is 9\.9\.9.*; finish it with that version"):
        open_output(tmp_path, Recipe())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"config": 1}', b"\xff"])
def test_damaged_identity_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / layout.CONFIG).write_bytes(content)
    with pytest.raises(OutputError, match=r"config\.json: is damaged"):
        open_output(tmp_path, Recipe())
    with pytest.raises(CorpusError, match=r"config\.json: cannot be read"):
        read_identity(tmp_path)


def test_other_code_version_with_other_settings_is_named_as_the_code_version(tmp_path: Path) -> None:
    open_output(tmp_path, Recipe())
    identity = json.loads((tmp_path / layout.CONFIG).read_bytes())
    del identity["config"]["seed"]  # as if that setting were new
    (tmp_path / layout.CONFIG).write_text(json.dumps(identity | {"code_version": "0.0.1+abc"}))
    with pytest.raises(OutputError, match=r"begun by code version 0\.0\.1\+abc"):
        open_output(tmp_path, Recipe())


def test_of_two_recipes_that_begin_at_once_the_first_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    first, second = Recipe(seed=1), Recipe(seed=2)
    (out / layout.LOG).mkdir(parents=True)
    lock, raced = store.lock_output, []

    @contextmanager
    def lock_late(folder: Path) -> Iterator[None]:
        if not raced:  # the other one comes between the look at the folder and the lock
            raced.append(True)
            open_output(folder, first)
        with lock(folder):
            yield

    monkeypatch.setattr(store, "lock_output", lock_late)
    with pytest.raises(OutputError, match=r"another recipe \(seed is 1 there and 2 here"):
        open_output(out, second)
    assert raced
    assert read_identity(out).config == first


def test_folder_that_another_process_is_beginning_is_not_begun_too(tmp_path: Path) -> None:
    (tmp_path / layout.LOG).mkdir()
    with lock_output(tmp_path), pytest.raises(OutputError, match="is writing here; wait for it"):
        open_output(tmp_path, Recipe())
    assert not (tmp_path / layout.CONFIG).exists()


def test_name_too_long_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the path is too long"):
        open_output(tmp_path / ("x" * 300), Recipe())


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to write anywhere; the same for a user who has none."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "closed"])
@pytest.mark.parametrize("name", ["", "below", "below/further"])
def test_folder_without_permission_is_refused(mode: int, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # not pytest's, which nobody else may enter
        Path(folder).chmod(0o755)
        locked = Path(folder) / "locked"
        locked.mkdir(mode=mode)
        with as_nobody(), pytest.raises(OutputError, match="permission is denied; give a folder that can be written"):
            open_output(locked / name, Recipe())


def test_second_process_is_kept_out_until_the_first_ends_however_it_ends(out: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from pipeline.store import lock_output
with lock_output(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script, out], cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=f"another maphc2f \\(process {holder.pid}\\) is writing here"):
            lock_output(out).__enter__()
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=10)
    with lock_output(out):
        pass
    with lock_output(out):
        pass


# ---------------------------------------------------------------------------------------------- the system refuses


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, r"the disk is full \([\d,]+ MB free\); finished shards are safe: make room"),
        (errno.EDQUOT, r"the disk quota is used up \([\d,]+ MB free\)"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission is denied"),
        (errno.EIO, "the disk reports an error"),
        (errno.ENOLCK, "the file system has no locks; give a folder on a local disk"),
    ],
)
def test_refusal_is_one_line_that_says_where_and_what_to_do(tmp_path: Path, code: int, said: str) -> None:
    with (
        pytest.raises(OutputError, match=rf"{tmp_path}/x: cannot be written, {said}") as caught,
        output_errors(tmp_path),
    ):
        raise OSError(code, os.strerror(code), str(tmp_path / "x"))
    assert "\n" not in str(caught.value)


def test_error_that_is_no_refusal_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ChildProcessError), output_errors(tmp_path):
        raise ChildProcessError(errno.ECHILD, "no child")


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from manifests.errors import OutputError
from pipeline.store import ArraySpec, create_array, place_shard, shard_files, stage_shard
out = Path(sys.argv[1])
create_array(out, "data", "alpha/brick", ArraySpec("image", (2, 256, 256, 3), "uint8", 2, ()), zstd_level=1)
rows = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
{arrange}
try:
    place_shard(out, stage_shard(out, "data", "alpha/brick", {{"image": rows}}, shard=0))
except OutputError as error:
    print(error)
else:
    print("written")
print(sorted(shard_files(out)))
{relieve}
(record,) = place_shard(out, stage_shard(out, "data", "alpha/brick", {{"image": rows}}, shard=0))
print(record.sha256)
"""


def undisturbed_sha256(folder: Path) -> str:
    create_array(folder, "data", KEY, ArraySpec("image", (2, 256, 256, 3), "uint8", 2, ()), zstd_level=1)
    rows = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    (record,) = place_shard(folder, stage_shard(folder, "data", KEY, {"image": rows}, shard=0))
    return record.sha256


def test_file_size_limit_in_the_middle_of_a_shard_leaves_nothing_and_the_next_try_succeeds(tmp_path: Path) -> None:
    script = LIMITED.format(
        arrange="unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, unlimited[1]))",
        relieve="resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)",
    )
    process = run_python(script, tmp_path / "limited")
    assert process.returncode == 0, process.stderr
    said, left, sha256 = process.stdout.splitlines()
    assert "a file grew over the size limit; finished shards are safe" in said
    assert left == "[]"
    assert sha256 == undisturbed_sha256(tmp_path / "free")


def test_full_disk_in_the_middle_of_a_shard_leaves_nothing_and_the_next_try_succeeds(tmp_path: Path) -> None:
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    mounted = "mount -t tmpfs -o size=600k tmpfs"
    if (
        not shutil.which("unshare")
        or subprocess.run(
            [*namespace, "sh", "-c", f"{mounted} {tmp_path}"], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("this system lets us mount no small disk; the test of the size limit covers the same path")
    script = LIMITED.format(
        arrange="(out / 'ballast').write_bytes(bytes(300_000))", relieve="(out / 'ballast').unlink()"
    )
    small = tmp_path / "small"
    small.mkdir()
    process = subprocess.run(
        [*namespace, "sh", "-c", f'{mounted} {small} && exec "$0" -c "$1" "$2"', sys.executable, script, small],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    said, left, sha256 = process.stdout.splitlines()
    assert "cannot be written, the disk is full (0 MB free); finished shards are safe: make room" in said
    assert left == "[]"
    assert sha256 == undisturbed_sha256(tmp_path / "free")
