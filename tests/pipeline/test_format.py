"""docs/format.md is followed by hand, with plain zarr and pyarrow, and what it says is compared with our own code."""

from __future__ import annotations

import json
import math
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numcodecs
import numpy as np
import pyarrow.parquet as pq
import pytest
from numcodecs.checksum32 import CRC32C

from manifests import Corpus, layout
from manifests.corpus import CorpusCounts, CorpusInfo, InvariantCounts, MechanismInfo, Spread
from manifests.hashing import canonical_json, sha256_bytes
from manifests.records import CommitRecord
from manifests.seeds import Stage, name_key, seed_path, stream
from pipeline.column_reference import column_reference

FORMAT = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
# what the page's reader has in its variables when it has read a sample, as JSON
TELL = """
def told(array):
    return {"sha256": sha256(array.tobytes()), "shape": list(array.shape), "dtype": str(array.dtype)}
arrays = {"image": image, "mask": mask, "source": source, **fields}
print(json.dumps({"record": record, "arrays": {name: told(array) for name, array in arrays.items()}}))
assert "manifests" not in sys.modules
"""


def _tables(heading: str) -> list[list[str]]:
    """Cells of all table rows below a heading of the page."""
    section = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", FORMAT, re.DOTALL | re.MULTILINE)
    assert section is not None, heading
    rows = [line.strip("|").split("|") for line in section[1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


def _folder_arrays(root: Path) -> list[Path]:
    found = [path.parent for path in root.rglob("zarr.json")]
    return [folder for folder in found if json.loads((folder / "zarr.json").read_bytes())["node_type"] == "array"]


def test_tables_of_columns_are_up_to_date() -> None:
    """Write them anew with `maphc2f columns --markdown`, between the two comments."""
    written = re.search(r"<!-- columns: begin -->\n\n(.*?)\n<!-- columns: end -->", FORMAT, re.DOTALL)
    assert written is not None
    assert written[1] == column_reference()


def test_every_file_of_a_corpus_is_named() -> None:
    named = {re.split(r"[/`]", row[0].strip("`"))[0] for row in _tables("Folder")}
    assert named >= layout.TOP_LEVEL


@pytest.mark.parametrize("model", [CorpusInfo, CorpusCounts, InvariantCounts, MechanismInfo, Spread, CommitRecord])
def test_every_key_of_the_records_is_named(model: type[CorpusInfo]) -> None:
    assert not [name for name in model.model_fields if f"`{name}`" not in FORMAT and f'"{name}"' not in FORMAT]


def test_the_reader_of_the_page_reads_what_ours_reads(several: Path) -> None:
    program = re.findall(r"```python\n(.*?)```", FORMAT, re.DOTALL)[-1]
    corpus = Corpus(several, statuses=None)
    loop = (
        f"import sys\nfor index in range({len(corpus)}):\n"
        f"    sys.argv = ['reader.py', {str(several)!r}, str(index)]\n    exec({program + TELL!r}, {{}})\n"
    )
    command = [sys.executable, "-I", "-c", loop]  # isolated: nothing of ours can be imported
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(corpus)
    for sample, line in zip(corpus, lines, strict=True):
        told = json.loads(line)
        assert told["record"] == json.loads(canonical_json(sample.record.model_dump(mode="json")))
        ours = {"image": sample.image, "mask": sample.mask, "source": sample.source}
        ours |= {name: field.values.astype(np.float16) for name, field in sample.fields.items()}
        assert told["arrays"] == {
            name: {"sha256": sha256_bytes(values.tobytes()), "shape": list(values.shape), "dtype": str(values.dtype)}
            for name, values in ours.items()
        }


def test_the_reader_of_the_page_notices_damage(several: Path, tmp_path: Path) -> None:
    program = re.findall(r"```python\n(.*?)```", FORMAT, re.DOTALL)[-1]
    for path in several.rglob("*"):
        if path.is_file() and path.relative_to(several).parts[0] != "log":
            copy = tmp_path / path.relative_to(several)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.hardlink_to(path)
    record = pq.read_table(several / "manifest.parquet").slice(0, 1).to_pylist()[0]
    shard = f"data/{record['dataset']}/{record['category']}/image/c/{record['shard']}/0/0/0"
    (tmp_path / shard).unlink()
    command = [sys.executable, "-I", "-c", program, str(tmp_path), "0"]
    assert "FileNotFoundError" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
    whole = bytearray((several / shard).read_bytes())
    whole[len(whole) // 3] ^= 1
    (tmp_path / shard).write_bytes(whole)
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 1


def test_every_array_is_laid_out_as_the_page_says(several: Path) -> None:
    kinds: dict[str, str] = {}
    for row in _tables("Arrays"):
        kinds.update({name: row[2] for name in re.findall(r"`(\w+)`", row[0]) if len(row) == 5})
    for folder in _folder_arrays(several / "data"):
        about = json.loads((folder / "zarr.json").read_bytes())
        (sharding,) = about["codecs"]
        shape, shard = about["shape"], about["chunk_grid"]["configuration"]["chunk_shape"]
        assert about["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
        assert sharding["name"] == "sharding_indexed"
        assert sharding["configuration"]["index_location"] == "end"
        assert sharding["configuration"]["chunk_shape"] == [1, *shape[1:]] == [1, *shard[1:]]
        assert [codec["name"] for codec in sharding["configuration"]["codecs"]] == ["bytes", "zstd"]
        assert sharding["configuration"]["codecs"][1]["configuration"]["checksum"] is True
        assert [codec["name"] for codec in sharding["configuration"]["index_codecs"]] == ["bytes", "crc32c"]
        assert set(about["attributes"]) == {"count", "unit", "meaning"}
        assert shape[0] == math.ceil(about["attributes"]["count"] / shard[0]) * shard[0]
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        zeros = "/".join("0" * (len(shape) - 1))
        assert files == {"zarr.json", *(f"c/{k}/{zeros}" for k in range(shape[0] // shard[0]))}
        told = kinds[folder.name]
        assert about["data_type"] in told or told == "as `image`"


def test_a_shard_is_decoded_without_zarr_and_its_padding_is_zero(several: Path) -> None:
    for folder in _folder_arrays(several / "data"):
        about = json.loads((folder / "zarr.json").read_bytes())
        rows, shape = about["chunk_grid"]["configuration"]["chunk_shape"][0], about["shape"][1:]
        last = about["shape"][0] // rows - 1
        data = folder.joinpath("c", str(last), *["0"] * len(shape)).read_bytes()
        index = data[-16 * rows - 4 :]
        assert CRC32C(location="end").decode(index).tobytes() == index[:-4]
        values = []
        for k in range(rows):
            offset, length = struct.unpack_from("<QQ", index, 16 * k)
            raw = numcodecs.zstd.decompress(data[offset : offset + length])
            values.append(np.frombuffer(raw, np.dtype(about["data_type"]).newbyteorder("<")).reshape(shape))
        stored = about["attributes"]["count"] - last * rows
        assert 0 < stored <= rows
        assert not np.any(values[stored:])
        if folder.name == "mask":
            category, dataset = folder.parent.name, folder.parent.parent.name
            first = Corpus(several, statuses=None).where(dataset=dataset, category=category, row=last * rows)
            assert np.array_equal(values[0], first[0].mask)


def test_instances_and_defects_are_as_the_page_says(several: Path) -> None:
    for sample in Corpus(several, statuses=None):
        assert np.array_equal(sample.mask == 255, sample.instances > 0)
        for number, defect in enumerate(sample.record.defects, start=1):
            assert defect.instance in (0, number)
            assert (sample.instances == number).sum() == (defect.area_px if defect.instance else 0)


def test_files_of_the_records_and_of_corpus_json_are_all_there_are(several: Path) -> None:
    named = {file["path"] for file in json.loads((several / "corpus.json").read_bytes())["files"]}
    for path in (several / "commits").iterdir():
        named |= {file["path"] for file in json.loads(path.read_bytes())["files"]}
    there = {path.relative_to(several).as_posix() for path in several.rglob("*") if path.is_file()}
    assert {path for path in there if not path.startswith("log/")} == named | {"corpus.json"}


def test_a_random_stream_is_the_one_that_the_page_names() -> None:
    assert seed_path(7, Stage.SAMPLE, 12) == "7/SAMPLE/12"
    named = np.random.Generator(np.random.PCG64(np.random.SeedSequence(7, spawn_key=(4, 12, 0))))
    assert np.array_equal(named.random(5), stream(7, Stage.SAMPLE, 12, 0).random(5))
    assert all(f"{stage.name} {stage.value}" in " ".join(FORMAT.split()) for stage in Stage)
    assert name_key("fracture") == zlib.crc32(b"fracture")


def test_numbers_of_canonical_json_are_as_the_page_says() -> None:
    assert canonical_json([1, 1.0, 0.25, 1e-5, 1e16, 0.0001, "é"]).decode() == '[1,1.0,0.25,1e-05,1e+16,0.0001,"é"]'


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("builtin/brick", "samples--builtin--brick--00003.json"),
        ("a/b--c-", "samples--a--b-%2Dc%2D--00003.json"),
        ("-a/100%", "samples--%2Da--100%25--00003.json"),
    ],
)
def test_a_record_has_the_file_name_that_the_page_says(key: str, name: str) -> None:
    assert layout.commit_name("samples", key, 3) == name
