"""The reader: what was written comes back, by position, by shard and by filter, and damage is never silent."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from manifests import Corpus, layout
from manifests.corpus import CorpusInfo, read_array
from manifests.errors import CorpusError
from manifests.records import DefectRecord, SampleRecord, SampleStatus, SourceRecord, SourceStatus
from pipeline.finalise import finalise
from pipeline.recipe import Recipe
from pipeline.store import ArraySpec, create_array, open_output, place_shard, stage_shard

ROOT = Path(__file__).resolve().parent.parent.parent
CATEGORIES = {"alpha/brick": (5, 3, 3), "beta/tile": (4, 2, 1)}  # samples, samples a shard, channels
SOURCES = 2
SHA256 = "ab" * 32


@dataclass(frozen=True)
class Stored:
    """A corpus on disk and what was put in it."""

    path: Path
    arrays: dict[str, dict[str, NDArray[Any]]]
    records: list[SampleRecord]


def sample_record(key: str, index: int, row: int, per_shard: int) -> SampleRecord:
    dataset, category = key.split("/")
    return SampleRecord(
        id=f"{index:016x}", index=index, dataset=dataset, category=category, shard=row // per_shard, row=row,
        source=row % SOURCES, source_sha256=SHA256, mechanism="fracture", trajectory=row, snapshot=0, group=row % 2,
        dihedral=0, angle_deg=0.0, from_edge=False, anchor_y=0.5, anchor_x=0.5, asked_area=0.01,
        asked_severity=row / 10, extent=0.5, center_y=0.5, center_x=0.5, width=0.01, seed_path=f"0/4/{index}",
        status=SampleStatus.INVISIBLE if index == 1 else SampleStatus.OK, attempts=1, area_px=3, area_fraction=0.01,
        severity=row / 10, length_px=9.0, relief_px=0.0, contrast=20.0, visibility=2.0, residual=1e-4, cycles=7,
        bbox_y0=0, bbox_x0=0, bbox_y1=2, bbox_x1=3, image_sha256=SHA256, mask_sha256=SHA256, faint_px=1,
        unlabelled_px=0, unseen_px=0, outside_px=0, off_part_px=0, touching_px=0, defects=defect_records(index, row),
    )  # fmt: skip


def defect_records(index: int, row: int) -> tuple[DefectRecord, ...]:
    """One crack; every second sample has a pit beside it, and every third a crack that found no place."""
    there = SampleStatus.INVISIBLE if index == 1 else SampleStatus.OK
    kinds = [("fracture", there)]
    kinds += [("pitting", there)] * (row % 2) + [("fracture", SampleStatus.CROWDED)] * (row % 3 == 2)
    return tuple(
        DefectRecord(
            mechanism=mechanism, trajectory=row, snapshot=0, dihedral=0, angle_deg=0.0, from_edge=False, anchor_y=0.5,
            anchor_x=0.5, asked_area=0.01, asked_severity=0.5, width=0.01, status=status, attempts=1, extent=0.5,
            center_y=0.5, center_x=0.5, severity=row / 10, length_px=9.0, relief_px=0.0, residual=1e-4, cycles=7,
            area_px=3, area_fraction=0.01, contrast=20.0, visibility=2.0, bbox_y0=0, bbox_x0=0, bbox_y1=2, bbox_x1=3,
            instance=number if status is SampleStatus.OK else 0, window_y=0, window_x=0, window_side=16,
        )
        for number, (mechanism, status) in enumerate(kinds, start=1)
    )  # fmt: skip


def source_record(key: str, index: int) -> SourceRecord:
    dataset, category = key.split("/")
    return SourceRecord(
        dataset=dataset, category=category, path=f"{index}.png", sha256=SHA256, bytes=9, width_px=16, height_px=16,
        channels=1, bit_depth=8, licence="CC0", status=SourceStatus.OK, index=index,
    )  # fmt: skip


def write_array(
    out: Path, key: str, name: str, values: NDArray[Any], per_shard: int, unit: str = "grey levels"
) -> NDArray[Any]:
    attributes = (("unit", unit), ("meaning", f"{name} of a test"))
    create_array(
        out, "data", key, ArraySpec(name, values.shape, str(values.dtype), per_shard, attributes), zstd_level=1
    )
    for shard, start in enumerate(range(0, len(values), per_shard)):
        place_shard(out, stage_shard(out, "data", key, {name: values[start : start + per_shard]}, shard=shard))
    return values


def write_corpus(out: Path, rng: np.random.Generator, *, size: int = 16, rich: bool = False) -> Stored:
    """A corpus of made-up arrays; a rich one has 16-bit pictures, instances and two stages."""
    several = {"placement": {"defects": [1, 3]}, "store": {"stages": ["npcf", "paste"]}}
    recipe = Recipe.model_validate({"mechanisms": {"fracture": {}, "pitting": {}}, **(several if rich else {})})
    open_output(out, recipe)
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    records: list[SampleRecord] = []
    for key, (count, per_shard, channels) in CATEGORIES.items():
        image = rng.integers(0, 256, (count, size, size, channels), dtype=np.uint8)
        if rich:
            image = image.astype(np.uint16) * 257
        opening, damage = rng.random((2, count, size, size)).astype(np.float16)
        arrays[key] = {
            "image": write_array(out, key, "image", image, per_shard),
            "mask": write_array(
                out, key, "mask", np.where(image[..., 0] > image.max() // 2, 255, 0).astype(np.uint8), per_shard
            ),
            "opening": write_array(out, key, "opening", opening, per_shard, "px"),
            "damage": write_array(out, key, "damage", damage, per_shard, "1"),
            "depth": write_array(out, key, "depth", np.zeros_like(damage), per_shard, "px"),
            "product": write_array(out, key, "product", np.zeros_like(damage), per_shard, "px"),
            "source": write_array(out, key, "source", image[:SOURCES] // 2, SOURCES),
            "foreground": write_array(out, key, "foreground", (image[:SOURCES, ..., 0] > 50).astype(np.uint8), SOURCES),
        }
        if rich:
            for name in ("stage_paste", "stage_npcf"):
                arrays[key][name] = write_array(out, key, name, image // (2 + len(name) % 2), per_shard)
            values = rng.integers(0, 3, (count, size, size), dtype=np.uint8)
            arrays[key]["instance"] = write_array(out, key, "instance", values, per_shard, "1")
        records += [sample_record(key, len(records) + row, row, per_shard) for row in range(count)]
    for name in (layout.INVENTORY, layout.PLAN):
        (out / name).write_bytes(b"of no concern to the reader")
    sources = [source_record(key, index) for key in CATEGORIES for index in range(SOURCES)]
    finalise(out, recipe, sources=sources, bank=[], samples=[records])
    return Stored(out, arrays, records)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """A finished corpus; not to be altered."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "out", np.random.default_rng(20250417))


@pytest.fixture
def copied(stored: Stored, tmp_path: Path) -> Stored:
    """A copy to damage."""
    shutil.copytree(stored.path, tmp_path / "out")
    return Stored(tmp_path / "out", stored.arrays, stored.records)


def ids(corpus: Corpus) -> list[str]:
    return [str(value) for value in corpus.table["id"].to_pylist()]


def run_python(script: str, *arguments: object) -> str:
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip


def test_every_sample_comes_back_as_written(stored: Stored) -> None:
    corpus = Corpus(stored.path, statuses=None)
    assert len(corpus) == len(stored.records) == 9
    for sample, record in zip((corpus[k] for k in range(9)), stored.records, strict=True):
        arrays = stored.arrays[f"{record.dataset}/{record.category}"]
        assert sample.record == record
        for name in ("image", "mask"):
            assert_array_equal(getattr(sample, name), arrays[name][record.row], strict=True)
        assert_array_equal(sample.source, arrays["source"][record.source], strict=True)
        assert_array_equal(sample.foreground, arrays["foreground"][record.source].astype(np.bool_), strict=True)
        for name, unit in (("opening", "px"), ("damage", "1")):
            assert_array_equal(sample.fields[name].values, arrays[name][record.row].astype(np.float32), strict=True)
            assert (sample.fields[name].unit, sample.fields[name].meaning) == (unit, f"{name} of a test")


def test_field_is_taken_for_an_array(stored: Stored) -> None:
    field = Corpus(stored.path)[0].fields["opening"]
    assert_array_equal(np.asarray(field), field.values, strict=True)
    assert np.asarray(field, dtype=np.float64).dtype == np.float64
    assert np.shares_memory(np.asarray(field), field.values)
    assert not np.shares_memory(np.array(field), field.values)


def test_array_is_read_once(stored: Stored) -> None:
    sample = Corpus(stored.path)[0]
    assert sample.image is sample.image
    assert sample.fields is sample.fields


def test_only_accepted_samples_are_seen_unless_asked(stored: Stored) -> None:
    assert len(Corpus(stored.path)) == 8
    assert len(Corpus(stored.path, statuses=None)) == 9
    assert [s.record.index for s in Corpus(stored.path, statuses=["invisible"])] == [1]
    assert len(Corpus(stored.path, statuses=[])) == 0
    assert [s.record.index for s in Corpus(stored.path, statuses="invisible")] == [1]
    assert len(Corpus(stored.path, statuses=list(SampleStatus))) == 9


@pytest.mark.parametrize("statuses", ["okay", ["ok", "okay"]])
def test_unknown_status_is_not_taken_for_an_empty_corpus(stored: Stored, statuses: str | list[str]) -> None:
    with pytest.raises(ValueError, match="no status 'okay'; there are ok, off_foreground, invisible"):
        Corpus(stored.path, statuses=statuses)


def test_positions_count_from_both_ends(stored: Stored) -> None:
    corpus = Corpus(stored.path)
    assert corpus[-1].record == corpus[7].record == stored.records[-1]
    for outside in (8, -9):
        with pytest.raises(IndexError, match="corpus of 8"):
            corpus[outside]


@pytest.mark.parametrize(
    "part", [slice(2, 6), slice(None, None, 3), slice(None, None, -1), slice(5, 1, -2), slice(4, 4), slice(-3, None)]
)
def test_slice_is_a_view_that_can_be_iterated(stored: Stored, part: slice) -> None:
    corpus = Corpus(stored.path)
    view = corpus[part]
    expected = [corpus[k] for k in range(8)[part]]
    assert [s.record.id for s in view] == [s.record.id for s in expected]
    for found, wanted in zip(view, expected, strict=True):
        assert_array_equal(found.image, wanted.image, strict=True)
        assert_array_equal(found.mask, wanted.mask, strict=True)


def test_iteration_keeps_the_order_of_positions_and_gives_the_same_arrays(stored: Stored) -> None:
    corpus = Corpus(stored.path, statuses=None)
    seen = 0
    for k, sample in enumerate(corpus):
        assert sample.record == corpus[k].record
        assert_array_equal(sample.image, corpus[k].image, strict=True)
        assert_array_equal(sample.fields["damage"].values, corpus[k].fields["damage"].values, strict=True)
        seen += 1
    assert seen == 9


def test_iteration_goes_shard_by_shard(stored: Stored) -> None:
    found = [
        (key, [s.record.row for s in samples]) for key, samples in Corpus(stored.path, statuses=None).iter_shards()
    ]
    assert found == [
        ("alpha/brick", [0, 1, 2]),
        ("alpha/brick", [3, 4]),
        ("beta/tile", [0, 1]),
        ("beta/tile", [2, 3]),
    ]


def test_filter_by_value_and_by_membership(stored: Stored) -> None:
    corpus = Corpus(stored.path)
    assert [s.record.category for s in corpus.where(category="tile")] == ["tile"] * 4
    assert len(corpus.where(category=("brick", "tile"))) == 8
    assert len(corpus.where(category="brick", group=1)) == 1  # rows 1 and 3, of which 1 was not accepted
    assert ids(corpus.where(status=SampleStatus.OK)) == ids(corpus)
    assert len(corpus.where(mechanism="pitting")) == 0
    assert list(corpus.where(mechanism="pitting")) == []
    assert len(corpus) == 8, "a filter is a view and leaves the corpus as it was"


def test_an_expression_selects_what_a_filter_does_and_more(stored: Stored) -> None:
    corpus = Corpus(stored.path)
    assert ids(corpus.select("category == 'brick' and \"group\" = 1")) == ids(corpus.where(category="brick", group=1))
    assert ids(corpus.select('"row" >= 2')) == [s.record.id for s in corpus if s.record.row >= 2]
    assert len(corpus) == 8, "a selection is a view and leaves the corpus as it was"


def test_samples_are_taken_in_the_order_asked_for(stored: Stored) -> None:
    corpus = Corpus(stored.path)
    assert ids(corpus.take([5, 0, 5])) == [corpus[k].record.id for k in (5, 0, 5)]
    assert len(corpus.take([])) == 0


def test_sample_has_the_fields_of_its_own_defects_and_no_others(stored: Stored) -> None:
    for sample in Corpus(stored.path, statuses=None):
        with_pit = sample.record.row % 2 and sample.record.status is SampleStatus.OK
        assert sample.field_names == ("opening", "damage", *(("depth", "product") if with_pit else ()))


def test_corpus_of_one_defect_a_picture_keeps_no_stages_and_its_instance_is_its_mask(stored: Stored) -> None:
    for sample in Corpus(stored.path):
        assert sample.stages == {}
        assert_array_equal(sample.instances, np.uint8(sample.mask > 0), strict=True)


def test_instances_and_stages_come_back_as_written_in_the_order_of_the_passes(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    written = write_corpus(tmp_path / "out", rng, rich=True)
    for sample in Corpus(written.path, statuses=None):
        arrays, row = written.arrays[f"{sample.record.dataset}/{sample.record.category}"], sample.record.row
        assert_array_equal(sample.instances, arrays["instance"][row], strict=True)
        assert list(sample.stages) == ["paste", "npcf"]
        for name, picture in sample.stages.items():
            assert_array_equal(picture, arrays[f"stage_{name}"][row], strict=True)
        assert_array_equal(sample.image, arrays["image"][row], strict=True)
        assert sample.image.dtype == sample.source.dtype == np.uint16


def test_filter_by_an_unknown_column_names_those_there_are(stored: Stored) -> None:
    with pytest.raises(KeyError, match=r"no column 'kind'.*mechanism"):
        Corpus(stored.path).where(kind="fracture")


def test_info_is_what_corpus_json_says(stored: Stored) -> None:
    info = Corpus(stored.path).info
    assert info.counts.by_category == {"alpha/brick": {"ok": 4, "invisible": 1}, "beta/tile": {"ok": 4}}
    assert info.counts.by_mechanism == {"fracture": 9}
    assert info.mechanisms["fracture"].fields == ["opening", "damage"]
    assert set(info.mechanisms) == {"fracture", "pitting"}
    assert [row.samples for row in info.distributions if row.mechanism == "fracture"] == [8, 8, 8]
    assert [(entry.category, entry.licence, entry.sources) for entry in info.licences] == [
        ("brick", "CC0", 2),
        ("tile", "CC0", 2),
    ]
    assert CorpusInfo.model_validate_json(info.model_dump_json()) == info


def test_reader_loads_neither_torch_nor_dask_nor_numba(stored: Stored) -> None:
    script = (
        "import sys; from manifests import Corpus; c = Corpus(sys.argv[1]); c[0].image, c[0].fields, len(list(c)); "
        "print(sorted({'torch', 'dask', 'distributed', 'numba', 'pipeline', 'physics', 'refine'}"
        " & {name.split('.')[0] for name in sys.modules}))"
    )
    assert run_python(script, stored.path).strip() == "[]"


def test_corpus_goes_to_a_spawned_process(stored: Stored, tmp_path: Path) -> None:
    corpus = Corpus(stored.path).where(category="tile")
    _ = corpus[0].image
    (tmp_path / "pickled").write_bytes(pickle.dumps(corpus))
    script = (
        "import pickle, sys; from pathlib import Path; c = pickle.loads(Path(sys.argv[1]).read_bytes()); "
        "print(len(c), int(c[-1].image.sum()), sum(int(s.image.sum()) for s in c))"
    )
    total = int(stored.arrays["beta/tile"]["image"].astype(np.int64).sum())
    last = int(stored.arrays["beta/tile"]["image"][-1].astype(np.int64).sum())
    assert run_python(script, tmp_path / "pickled").split() == ["4", str(last), str(total)]


def test_corpus_can_be_read_after_a_fork(stored: Stored) -> None:
    script = """
import os, signal, sys, warnings
from manifests import Corpus
warnings.simplefilter("ignore")  # from Python 3.12 on, of a fork beside zarr's thread: the case under test
corpus = Corpus(sys.argv[1])
expected = [int(s.image.sum()) for s in corpus]
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        signal.alarm(20)  # a child that hangs ends by this
        os._exit(0 if [int(corpus[k].image.sum()) for k in range(len(corpus))] == expected else 3)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""
    assert run_python(script, stored.path).strip() == "[0, 0, 0]"


def test_corpus_made_anew_in_the_same_place_is_read_anew(tmp_path: Path, rng: np.random.Generator) -> None:
    for size in (16, 24):
        written = write_corpus(tmp_path / "out", rng, size=size)
        assert_array_equal(Corpus(written.path)[0].image, written.arrays["alpha/brick"]["image"][0], strict=True)
        shutil.rmtree(tmp_path / "out")


def test_folder_that_is_no_corpus_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="not a corpus"):
        Corpus(tmp_path)
    with pytest.raises(CorpusError, match="not a corpus"):
        Corpus(tmp_path / "absent")


def test_unfinished_corpus_says_how_to_go_on(copied: Stored) -> None:
    (copied.path / layout.CORPUS).unlink()
    with pytest.raises(CorpusError, match="not finished; run `maphc2f generate` again"):
        Corpus(copied.path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema_version": 2}', b"\xff\xfe"])
def test_damaged_corpus_json_is_named(copied: Stored, content: bytes) -> None:
    (copied.path / layout.CORPUS).write_bytes(content)
    with pytest.raises(CorpusError, match=r"corpus\.json: cannot be read"):
        Corpus(copied.path)


@pytest.mark.parametrize("version", [0, 2])
def test_corpus_of_another_schema_version_is_refused(copied: Stored, version: int) -> None:
    path = copied.path / layout.CORPUS
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps(content | {"schema_version": version}), encoding="utf-8")
    with pytest.raises(
        CorpusError, match=rf"corpus\.json: .*expected schema_version 1, found {version}\); read it with"
    ):
        Corpus(copied.path)


def test_flipped_bit_anywhere_in_the_manifest_is_noticed(copied: Stored, rng: np.random.Generator) -> None:
    path = copied.path / layout.MANIFEST
    whole = path.read_bytes()
    for position in rng.integers(0, len(whole), 40):
        torn = bytearray(whole)
        torn[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(torn))
        with pytest.raises(CorpusError, match=r"manifest\.parquet"):
            Corpus(copied.path)


def test_missing_manifest_is_named(copied: Stored) -> None:
    (copied.path / layout.MANIFEST).unlink()
    with pytest.raises(CorpusError, match=r"manifest\.parquet: cannot be read"):
        Corpus(copied.path)


def test_flipped_byte_in_a_shard_raises_for_its_sample_alone(copied: Stored) -> None:
    name = layout.shard_file("data", "alpha/brick", "image", 0, 4)
    whole = bytearray((copied.path / name).read_bytes())
    whole[40] ^= 1  # within the first chunk: chunks come first, in order, the index last
    (copied.path / name).write_bytes(bytes(whole))
    corpus = Corpus(copied.path)
    with pytest.raises(CorpusError, match=f"{name}: rows 0 to 0 of alpha/brick/image cannot be decoded"):
        _ = corpus[0].image
    assert_array_equal(corpus[1].image, copied.arrays["alpha/brick"]["image"][2])  # sample 1 was not accepted
    assert_array_equal(corpus[0].mask, copied.arrays["alpha/brick"]["mask"][0])
    with pytest.raises(CorpusError, match="cannot be decoded"):
        list(corpus)


def test_no_flipped_bit_in_a_shard_changes_a_picture(copied: Stored, rng: np.random.Generator) -> None:
    path = copied.path / layout.shard_file("data", "alpha/brick", "mask", 0, 3)
    whole, noticed = path.read_bytes(), 0
    for position in [*range(16), *range(len(whole) - 56, len(whole)), *rng.integers(0, len(whole), 150)]:
        torn = bytearray(whole)
        torn[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(torn))
        try:
            found = read_array(copied.path, "data", "alpha/brick", "mask", 0, 3)
        except CorpusError:
            noticed += 1
        else:  # a few bits of a zstd frame mean nothing
            assert_array_equal(found, copied.arrays["alpha/brick"]["mask"][:3])
    assert noticed > 200


def damage_by_removal(path: Path) -> None:
    path.unlink()


def damage_by_emptying(path: Path) -> None:
    os.truncate(path, 0)


def damage_by_cutting(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [damage_by_removal, damage_by_emptying, damage_by_cutting])
@pytest.mark.parametrize("name", ["image", "source", "opening"])
def test_missing_or_cut_shard_is_never_read_as_zeros(copied: Stored, damage: Callable[[Path], None], name: str) -> None:
    ndim = copied.arrays["alpha/brick"][name].ndim
    damage(copied.path / layout.shard_file("data", "alpha/brick", name, 0, ndim))
    with pytest.raises(CorpusError, match=f"alpha/brick/{name}"):  # zarr takes another way for a shard as a whole
        read_array(copied.path, "data", "alpha/brick", name, 0, len(copied.arrays["alpha/brick"][name]) // 2 + 1)
    sample = Corpus(copied.path)[0]
    with pytest.raises(CorpusError, match=f"alpha/brick/{name}"):
        _ = sample.fields if name == "opening" else getattr(sample, name)


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"zarr_format": 3, "node_type": "group"}'])
def test_array_without_metadata_is_named(copied: Stored, content: bytes | None) -> None:
    path = copied.path / "data" / "alpha" / "brick" / "image" / "zarr.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CorpusError, match=r"alpha/brick/image: the array cannot be opened"):
        _ = Corpus(copied.path)[0].image


def test_flipped_bit_in_the_metadata_raises_nothing_but_corpus_errors(copied: Stored, rng: np.random.Generator) -> None:
    path = copied.path / "data" / "alpha" / "brick" / "mask" / "zarr.json"
    whole, errors = path.read_bytes(), 0
    for position in rng.integers(0, len(whole), 300):
        torn = bytearray(whole)
        torn[position] ^= 1 << int(rng.integers(8))
        path.unlink()
        path.write_bytes(bytes(torn))
        try:
            read_array(copied.path, "data", "alpha/brick", "mask", 0, 3)  # may succeed: the hash in corpus.json tells
        except CorpusError:
            errors += 1
    assert errors > 200


@pytest.mark.parametrize("place", ["shard", "chunk"])
def test_metadata_of_shards_of_no_rows_is_named(copied: Stored, place: str) -> None:
    path = copied.path / "data" / "alpha" / "brick" / "mask" / "zarr.json"
    metadata = json.loads(path.read_bytes())
    grid = metadata["chunk_grid"]["configuration"]
    (grid if place == "shard" else metadata["codecs"][0]["configuration"])["chunk_shape"][0] = 0
    path.unlink()
    path.write_text(json.dumps(metadata))
    with pytest.raises(CorpusError, match="alpha/brick/mask: the array cannot be opened"):
        read_array(copied.path, "data", "alpha/brick", "mask", 0, 3)


def test_array_without_shards_is_named(copied: Stored) -> None:
    path = copied.path / "data" / "alpha" / "brick" / "mask" / "zarr.json"
    metadata = json.loads(path.read_bytes())
    metadata["codecs"] = metadata["codecs"][0]["configuration"]["codecs"]
    path.unlink()
    path.write_text(json.dumps(metadata))
    with pytest.raises(CorpusError, match=r"mask: the array cannot be opened \(it is not stored in shards"):
        read_array(copied.path, "data", "alpha/brick", "mask", 0, 3)


def test_record_cannot_lead_out_of_the_corpus(copied: Stored) -> None:
    shutil.move(copied.path / "data" / "alpha", copied.path.parent / "alpha")
    with pytest.raises(CorpusError, match="leaves"):
        read_array(copied.path, "data", "../../alpha/brick", "image", 0, 1)


def test_link_that_leads_out_of_the_corpus_is_not_followed(copied: Stored) -> None:
    shutil.move(copied.path / "data" / "alpha", copied.path.parent / "alpha")
    (copied.path / "data" / "alpha").symlink_to(copied.path.parent / "alpha")
    with pytest.raises(CorpusError, match="a corpus is one folder; put what a link points to in its place"):
        _ = Corpus(copied.path)[0].image


def test_corpus_json_is_canonical(stored: Stored) -> None:
    text = (stored.path / layout.CORPUS).read_text()
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n" == text


def test_a_relative_path_is_another_corpus_in_another_folder(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        shutil.copytree(stored.path, tmp_path / name / "out")
    monkeypatch.chdir(tmp_path / "first")
    before = Corpus("out")[0].image
    shutil.rmtree(tmp_path / "first" / "out")
    monkeypatch.chdir(tmp_path / "second")
    assert_array_equal(Corpus("out")[0].image, before)
