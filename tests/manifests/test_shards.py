"""Rows read straight from a shard: the same as Zarr's, damage is an error, and forked processes read alike."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype

from manifests import corpus as reader
from manifests.corpus import read_array, read_array_rows
from manifests.errors import CorpusError
from manifests.shards import layout_of, threads_are_safe
from pipeline.store import ArraySpec, create_array, place_shard, stage_shard

ROOT = Path(__file__).resolve().parents[2]
PER_SHARD = 40
COUNT = 70


def written(out: Path, dtype: str) -> NDArray[np.generic]:
    """An array of 70 rows in two shards; its values."""
    rng = np.random.default_rng(3)
    values = (rng.normal(0.0, 40.0, (COUNT, 8, 6, 3)) ** 2 % 250).astype(dtype)
    spec = ArraySpec("image", values.shape, dtype, PER_SHARD, ())
    create_array(out, "data", "a/b", spec, zstd_level=1)
    for shard in range(2):
        part = values[shard * PER_SHARD : (shard + 1) * PER_SHARD]
        place_shard(out, stage_shard(out, "data", "a/b", {"image": part}, shard=shard))
    return values


@pytest.fixture(params=["uint8", "uint16", "float16"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, NDArray[np.generic]]:
    return tmp_path, written(tmp_path, request.param)


def shard(out: Path, number: int = 0) -> Path:
    return out / "data" / "a" / "b" / "image" / "c" / str(number) / "0" / "0" / "0"


def test_rows_in_any_order_and_repeated_are_those_that_were_written(stored: tuple[Path, NDArray[np.generic]]) -> None:
    out, values = stored
    rows = [69, 3, 41, 3, 40, 39, 0]
    found = read_array_rows(out, "data", "a/b", "image", rows)
    assert found.dtype == values.dtype
    assert_array_equal(found, values[rows])
    assert read_array_rows(out, "data", "a/b", "image", []).shape == (0, 8, 6, 3)


def test_rows_are_the_same_with_zarrs_with_zarr_and_without_either(stored: tuple[Path, NDArray[np.generic]]) -> None:
    out, values = stored
    path = out / "data" / "a" / "b" / "image"
    assert threads_are_safe()
    assert_array_equal(read_array(out, "data", "a/b", "image", 2, 66), values[2:66])  # long: by zarrs
    assert type(reader._opened(path, threads=True).array._async_array.codec_pipeline).__module__.startswith("zarrs")
    assert_array_equal(read_array(out, "data", "a/b", "image", 30, 50), values[30:50])  # short, over two shards
    assert_array_equal(zarr.open_array(path, mode="r")[:COUNT], values)


def test_the_file_of_a_shard_is_what_zarr_writes(stored: tuple[Path, NDArray[np.generic]]) -> None:
    out, values = stored
    path, store = out / "data" / "a" / "b" / "image", zarr.storage.MemoryStore()
    metadata = default_buffer_prototype().buffer.from_bytes((path / "zarr.json").read_bytes())
    asyncio.run(store.set("zarr.json", metadata))
    with zarr.config.set({"array.write_empty_chunks": True}):
        zarr.open_array(store, mode="r+")[:] = np.concatenate([values, np.zeros_like(values[: 2 * PER_SHARD - COUNT])])
    for number in range(2):
        expected = asyncio.run(store.get(f"c/{number}/0/0/0", default_buffer_prototype()))
        assert expected is not None
        assert shard(out, number).read_bytes() == expected.to_bytes()


def test_every_flipped_bit_of_index_and_frames_is_found(tmp_path: Path) -> None:
    written(tmp_path, "uint8")
    path = shard(tmp_path)
    whole = path.read_bytes()
    index_start = len(whole) - 16 * PER_SHARD - 4
    offset, length = np.frombuffer(whole[index_start : index_start + 16], "<u8").tolist()
    places = [*range(index_start, len(whole), 37), len(whole) - 1, *range(offset, offset + length, 5)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(CorpusError, match="cannot be decoded"):
            read_array(tmp_path, "data", "a/b", "image", 0, 1)
    path.write_bytes(whole)
    assert read_array(tmp_path, "data", "a/b", "image", 0, 1).shape == (1, 8, 6, 3)


@pytest.mark.parametrize("rows", [1, PER_SHARD], ids=["a row", "a shard, by zarrs"])
def test_a_shard_that_was_cut_short_is_an_error(tmp_path: Path, rows: int) -> None:
    written(tmp_path, "uint8")
    whole = shard(tmp_path).read_bytes()
    for kept in (1, 300, len(whole) // 2, len(whole) - 1):
        shard(tmp_path).write_bytes(whole[:kept])
        with pytest.raises(CorpusError, match="cannot be decoded"):
            read_array(tmp_path, "data", "a/b", "image", 0, rows)


def test_a_flipped_bit_is_found_by_zarrs_too(tmp_path: Path) -> None:
    written(tmp_path, "uint8")
    damaged = bytearray(shard(tmp_path).read_bytes())
    damaged[40] ^= 1
    shard(tmp_path).write_bytes(damaged)
    with pytest.raises(CorpusError, match="cannot be decoded"):
        read_array(tmp_path, "data", "a/b", "image", 0, PER_SHARD)


def test_an_array_of_another_layout_is_read_through_zarr(tmp_path: Path) -> None:
    values = np.arange(12 * 4 * 4, dtype=np.uint8).reshape(12, 4, 4)
    array = zarr.create_array(
        tmp_path / "data" / "a" / "b" / "image", shape=values.shape, dtype="uint8", chunks=(2, 4, 4), shards=(6, 4, 4)
    )
    array[:] = values
    metadata = json.loads((tmp_path / "data" / "a" / "b" / "image" / "zarr.json").read_bytes())
    assert layout_of(metadata) is None
    assert_array_equal(read_array_rows(tmp_path, "data", "a/b", "image", [9, 1, 4]), values[[9, 1, 4]])


def test_a_forked_child_reads_what_its_parent_read_through_zarrs(tmp_path: Path) -> None:
    values = written(tmp_path, "uint8")
    program = f"""
import os, signal, warnings
from pathlib import Path
from manifests.corpus import read_array
from manifests.shards import threads_are_safe
warnings.simplefilter("ignore")  # from Python 3.12 on, of a fork beside threads: the case under test
before = read_array(Path({str(tmp_path)!r}), "data", "a/b", "image", 0, {PER_SHARD})
child = os.fork()
if not child:
    signal.alarm(60)  # one that hangs is killed
    same = (read_array(Path({str(tmp_path)!r}), "data", "a/b", "image", 0, {PER_SHARD}) == before).all()
    os._exit(0 if same and not threads_are_safe() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(before.sum()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["0", str(int(values[:PER_SHARD].astype(np.int64).sum()))], done.stderr
