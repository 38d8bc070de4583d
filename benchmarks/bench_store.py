"""Writing and reading pictures with their masks, beside a folder of PNG files and a WebDataset tar of them.

The same 32 photographs of embedded surfaces, 256 x 256 in colour. Ours are one Zarr shard of each array, with
checksums, forced to disk and hashed, its commit record last; the peers write what their users write, and force nothing.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from numpy.typing import NDArray
from PIL import Image

from manifests.corpus import read_array
from manifests.records import BankRecord, CommitRecord
from pipeline.sources.builtin import builtin_image
from pipeline.store import ArraySpec, commit, create_array, place_shard, stage_shard

COUNT, SIDE, KEY = 32, 256, "benchmark/surface"

Benchmark = Callable[..., Any]
Arrays = dict[str, NDArray[np.uint8]]


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    photograph = builtin_image("hex_nut", 0)[:SIDE, :SIDE]
    picture = np.broadcast_to(photograph, (SIDE, SIDE, 3))
    noise = np.random.default_rng(0).integers(-2, 3, size=(COUNT, SIDE, SIDE, 3))
    image = np.clip(np.stack([np.roll(picture, 7 * k, axis=0) for k in range(COUNT)]) + noise, 0, 255).astype(np.uint8)
    mask = np.zeros((COUNT, SIDE, SIDE), dtype=np.uint8)
    mask[:, 100:140, 60:170] = 255
    return {"image": image, "mask": mask}


def write_ours(out: Path, arrays: Arrays) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for name, values in arrays.items():
        create_array(out, "data", KEY, ArraySpec(name, values.shape, "uint8", COUNT, ()), zstd_level=1)
    files = place_shard(out, stage_shard(out, "data", KEY, arrays, shard=0))
    identity = dict.fromkeys(("config_sha256", "code_version", "inputs_sha256"), "0")
    commit(out, CommitRecord[BankRecord](stage="bank", key=KEY, shard=0, files=files, rows=(), **identity))
    return out


def write_folder(out: Path, arrays: Arrays) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for name, values in arrays.items():
        for k, picture in enumerate(values):
            Image.fromarray(picture).save(out / f"{k:05d}.{name}.png")
    return out


def write_tar(out: Path, arrays: Arrays) -> Path:
    path = out.with_suffix(".tar")
    with webdataset.TarWriter(str(path)) as sink:
        for k in range(COUNT):
            sink.write({"__key__": f"{k:05d}", **{f"{name}.png": values[k] for name, values in arrays.items()}})
    return path


def read_ours(out: Path) -> Arrays:
    return {name: read_array(out, "data", KEY, name, 0, COUNT) for name in ("image", "mask")}


def read_one_of_ours(out: Path, k: int) -> Arrays:
    return {name: read_array(out, "data", KEY, name, k, k + 1) for name in ("image", "mask")}


def read_one_of_folder(out: Path, k: int) -> Arrays:
    found = {}
    for name in ("image", "mask"):
        with Image.open(out / f"{k:05d}.{name}.png") as picture:
            found[name] = np.asarray(picture)[None]
    return found


def read_folder(out: Path) -> Arrays:
    return joined([read_one_of_folder(out, k) for k in range(COUNT)])


def read_tar(path: Path) -> Arrays:
    samples = webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False)
    return joined([{name: decoded(one[f"{name}.png"]) for name in ("image", "mask")} for one in samples])


def decoded(data: bytes) -> NDArray[np.uint8]:
    """By Pillow: WebDataset's own decoder would make every picture colour."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)[None]


def joined(parts: list[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in ("image", "mask")}


def check(found: Arrays, arrays: Arrays) -> None:
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name].reshape(values.shape), values)


# WebDataset leaves the file that it reads to the garbage collector
UNCLOSED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


def time_write(
    benchmark: Benchmark,
    write: Callable[[Path, Arrays], Path],
    read: Callable[[Path], Arrays],
    arrays: Arrays,
    out: Path,
) -> None:
    benchmark.extra_info["items"] = COUNT  # type: ignore[attr-defined]
    check(read(benchmark(write, out / "written", arrays)), arrays)


def test_write_32_pictures_and_masks(benchmark: Benchmark, arrays: Arrays, tmp_path: Path) -> None:
    time_write(benchmark, write_ours, read_ours, arrays, tmp_path)


def test_write_32_pictures_and_masks_by_png_folder(benchmark: Benchmark, arrays: Arrays, tmp_path: Path) -> None:
    time_write(benchmark, write_folder, read_folder, arrays, tmp_path)


@UNCLOSED
def test_write_32_pictures_and_masks_by_webdataset(benchmark: Benchmark, arrays: Arrays, tmp_path: Path) -> None:
    time_write(benchmark, write_tar, read_tar, arrays, tmp_path)


def time_read(benchmark: Benchmark, read: Callable[[Path], Arrays], path: Path, arrays: Arrays) -> None:
    benchmark.extra_info["items"] = COUNT  # type: ignore[attr-defined]
    check(benchmark(read, path), arrays)


def test_read_32_pictures_and_masks(benchmark: Benchmark, arrays: Arrays, tmp_path: Path) -> None:
    time_read(benchmark, read_ours, write_ours(tmp_path / "written", arrays), arrays)


def test_read_32_pictures_and_masks_by_png_folder(benchmark: Benchmark, arrays: Arrays, tmp_path: Path) -> None:
    time_read(benchmark, read_folder, write_folder(tmp_path / "written", arrays), arrays)


@UNCLOSED
def test_read_32_pictures_and_masks_by_webdataset(benchmark: Benchmark, arrays: Arrays, tmp_path: Path) -> None:
    time_read(benchmark, read_tar, write_tar(tmp_path / "written", arrays), arrays)


ORDER = np.random.default_rng(3).permutation(COUNT)


def test_read_32_one_by_one_in_random_order(benchmark: Benchmark, arrays: Arrays, tmp_path: Path) -> None:
    out = write_ours(tmp_path / "written", arrays)
    time_random(benchmark, lambda: joined([read_one_of_ours(out, int(k)) for k in ORDER]), arrays)


def test_read_32_one_by_one_in_random_order_by_png_folder(benchmark: Benchmark, arrays: Arrays, tmp_path: Path) -> None:
    out = write_folder(tmp_path / "written", arrays)
    time_random(benchmark, lambda: joined([read_one_of_folder(out, int(k)) for k in ORDER]), arrays)


def time_random(benchmark: Benchmark, read: Callable[[], Arrays], arrays: Arrays) -> None:
    benchmark.extra_info["items"] = COUNT  # type: ignore[attr-defined]
    check(benchmark(read), {name: values[ORDER] for name, values in arrays.items()})
