"""Verification: whatever is changed, lost or added in a finished corpus is found and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from manifests import Corpus, Sample, layout
from manifests.errors import CorpusError
from manifests.fields import FIELDS
from manifests.hashing import canonical_json, sha256_bytes, sha256_file
from manifests.records import FileRecord, SampleRecord
from manifests.tables import from_table, read_table, to_table, write_table
from pipeline.verification import verify_corpus

Edit = Callable[[dict[str, object]], None]


def problems(out: Path) -> list[str]:
    return [str(problem) for problem in verify_corpus(out).problems]


def files(out: Path) -> list[str]:
    """Every file of a corpus."""
    found = (path.relative_to(out) for path in out.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if path.parts[0] != layout.LOG)


def kind(name: str) -> str:
    """What a file is, for a sample of each kind."""
    parts = name.split("/")
    if parts[0] == layout.COMMITS:
        return "commit of " + parts[1].split("--")[0]
    if parts[-1] == "zarr.json":
        return f"metadata at depth {len(parts)} of {parts[0]}"
    known = {*layout.SAMPLE_ARRAYS, *layout.SOURCE_ARRAYS, *FIELDS, "segments", layout.INSTANCE}
    array = [part for part in parts if part in known or part.startswith("stage_")]
    return "/".join([parts[0], *array])


def flip(path: Path, position: int, *, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def edit_json(path: Path, change: Edit) -> None:
    """Change a JSON file as a careful forger would: canonical form kept."""
    content = json.loads(path.read_bytes())
    change(content)
    path.write_bytes(canonical_json(content) + b"\n")


def rewrite_listing(out: Path) -> None:
    """Make corpus.json agree with the files it lists, so that only what follows from the records can tell."""

    def change(info: dict[str, object]) -> None:
        listed = info["files"]
        assert isinstance(listed, list)
        info["files"] = [
            FileRecord(
                path=f["path"], bytes=(out / f["path"]).stat().st_size, sha256=sha256_file(out / f["path"])
            ).model_dump()
            for f in listed
        ]

    edit_json(out / layout.CORPUS, change)


@pytest.mark.parametrize("corpus", ["finished", "several"])
def test_untouched_corpus_has_no_problem(corpus: str, request: pytest.FixtureRequest) -> None:
    out: Path = request.getfixturevalue(corpus)
    report = verify_corpus(out)
    assert report.problems == ()
    assert report.samples == 24
    assert report.files == len(files(out)) - 1  # corpus.json cannot list itself
    assert report.bytes == sum((out / name).stat().st_size for name in files(out) if name != layout.CORPUS)


def test_progress_is_told_for_each_record(finished: Path) -> None:
    told: list[tuple[int, int]] = []
    verify_corpus(finished, advance=lambda done, total: told.append((done, total)))
    number = len(list((finished / layout.COMMITS).iterdir()))
    assert told == [(k + 1, number) for k in range(number)]


def test_several_processes_find_what_one_finds(several: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(several, tmp_path / "copy"))
    names = files(out)
    flip(out / next(name for name in names if kind(name) == "data/image"), 1000)
    (out / next(name for name in names if kind(name) == "commit of bank")).write_bytes(b"{}")
    (out / next(name for name in names if kind(name) == "data/mask")).unlink()
    (out / layout.COMMITS / "notes.txt").write_text("of no concern")
    told: list[tuple[int, int]] = []
    report = verify_corpus(out, workers=2, advance=lambda done, total: told.append((done, total)))
    assert report == verify_corpus(out)
    assert len(report.problems) >= 4
    number = len(list((out / layout.COMMITS).iterdir()))
    assert told == [(k + 1, number) for k in range(number)]


def test_one_flipped_bit_is_found_in_every_kind_of_file(
    several: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    out = Path(shutil.copytree(several, tmp_path / "copy"))
    one_of_each = {kind(name): name for name in files(out)}
    assert len(one_of_each) >= 16
    for name in one_of_each.values():
        whole = (out / name).read_bytes()
        for position in (0, rng.integers(1, len(whole))):
            flip(out / name, int(position), bit=int(rng.integers(8)))
            try:
                found = problems(out)
            except CorpusError as error:  # config.json: nothing can be judged by it
                found = [str(error)]
            assert any(name in problem for problem in found), (name, position, found)
            (out / name).write_bytes(whole)
    assert problems(out) == []


def test_lost_file_of_every_kind_is_named(several: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(several, tmp_path / "copy"))
    one_of_each = {kind(name): name for name in files(out) if name != layout.CONFIG}
    for name in one_of_each.values():
        (out / name).rename(tmp_path / "aside")
        assert any(name in problem for problem in problems(out)), name
        (tmp_path / "aside").rename(out / name)
    (out / layout.CONFIG).unlink()
    with pytest.raises(CorpusError, match=r"no config\.json"):
        verify_corpus(out)


@pytest.mark.parametrize(
    "stray",
    [
        "notes.txt",
        "data/builtin/brick/image/c/9/0/0/0",
        "data/builtin/brick/more/zarr.json",
        "data/.hidden",
        "bank/fracture/damage/c/0/0/0/0.partial",
        "commits/samples--builtin--brick--00009.json",
        "commits/notes.txt",
        "corpus.json.12.writing",
    ],
)
def test_stray_file_is_named(stray: str, copied: Path) -> None:
    (copied / stray).parent.mkdir(parents=True, exist_ok=True)
    (copied / stray).write_bytes(b"{}")
    assert any(stray in problem for problem in problems(copied))


def test_log_is_no_part_of_the_corpus(copied: Path) -> None:
    shutil.rmtree(copied / layout.LOG)
    assert problems(copied) == []
    (copied / layout.LOG).mkdir()
    (copied / layout.LOG / "anything").write_text("at all")
    assert problems(copied) == []


def test_swapped_shards_are_both_named(copied: Path) -> None:
    one, two = (copied / f"data/builtin/brick/image/c/{k}/0/0/0" for k in range(2))
    one.rename(copied / "aside")
    two.rename(one)
    (copied / "aside").rename(two)
    found = "\n".join(problems(copied))
    assert "data/builtin/brick/image/c/0/0/0/0" in found
    assert "data/builtin/brick/image/c/1/0/0/0" in found


def test_swapped_records_are_both_named(copied: Path) -> None:
    names = [f"commits/samples--builtin--brick--0000{k}.json" for k in range(2)]
    one, two = (copied / name for name in names)
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)
    found = problems(copied)
    assert all(any(name in problem for problem in found) for name in names)


@pytest.mark.parametrize(
    ("record", "field", "value", "where"),
    [
        ("samples--builtin--brick--00000.json", "area_px", 1, "sample "),
        ("samples--builtin--brick--00000.json", "bbox_x0", 0, "sample "),
        ("samples--builtin--brick--00000.json", "image_sha256", "0" * 64, "sample "),
        ("samples--builtin--brick--00000.json", "status", "invisible", "sample "),
        ("samples--builtin--brick--00000.json", "source", 1, "sample "),
        ("samples--builtin--brick--00000.json", "source", 999, "samples--builtin--brick--00000"),
        ("samples--builtin--brick--00000.json", "row", 1, "samples--builtin--brick--00000"),
        ("samples--builtin--brick--00000.json", "contrast", 99.0, "manifest.parquet"),
        ("samples--builtin--brick--00000.json", "id", "0" * 16, "samples--builtin--brick--00000"),
        ("sources--builtin--brick--00000.json", "licence", "public domain", "inventory.parquet"),
        ("sources--builtin--brick--00000.json", "light_y", 0.5, "inventory.parquet"),
        ("samples--builtin--brick--00000.json", "mechanism", "pitting", "sample "),
        ("bank--fracture--00000.json", "trajectory", 7, "bank"),
        ("bank--fracture--00000.json", "from_edge", "yes", "bank--fracture--00000"),
    ],
)
def test_edited_record_is_found(record: str, field: str, value: object, where: str, copied: Path) -> None:
    def change(content: dict[str, object]) -> None:
        rows = content["rows"]
        assert isinstance(rows, list)
        rows[0][field] = value

    edit_json(copied / layout.COMMITS / record, change)
    found = problems(copied)
    assert any(f"commits/{record}: has" in problem for problem in found)
    assert any(where in problem for problem in found)


@pytest.mark.parametrize(
    ("field", "value"),
    [("area_px", 1), ("source", 1), ("contrast", 99.0), ("id", "0" * 16), ("row", 1), ("status", "off_foreground")],
)
def test_edited_record_is_found_even_where_its_hash_was_brought_into_line(
    field: str, value: object, copied: Path
) -> None:
    def change(content: dict[str, object]) -> None:
        rows = content["rows"]
        assert isinstance(rows, list)
        rows[0][field] = value

    edit_json(copied / "commits/samples--builtin--brick--00000.json", change)
    rewrite_listing(copied)
    assert problems(copied) != []


def test_change_outside_the_mask_is_found_even_where_all_hashes_were_brought_into_line(copied: Path) -> None:
    """A forger with patience: the picture, its hash, the shard's hash, the manifest and corpus.json all agree."""
    record = copied / "commits/samples--builtin--hex_nut--00000.json"
    array = zarr.open_array(copied / "data/builtin/hex_nut/image", mode="r+")
    picture = np.asarray(array[0])
    corner = picture[0, 0].copy()
    picture[0, 0] = corner ^ 128
    array[0] = picture
    shard = copied / "data/builtin/hex_nut/image/c/0/0/0/0"

    def change(content: dict[str, object]) -> None:
        rows, listed = content["rows"], content["files"]
        assert isinstance(rows, list)
        assert isinstance(listed, list)
        rows[0]["image_sha256"] = sha256_bytes(np.ascontiguousarray(picture).data)
        for file in listed:
            if "/image/" in file["path"]:
                file.update(bytes=shard.stat().st_size, sha256=sha256_file(shard))

    edit_json(record, change)
    _rewrite_manifest(copied)
    rewrite_listing(copied)
    found = problems(copied)
    assert len(found) == 1
    assert "1 px changed visibly outside the mask" in found[0]


def rewrite_shard_listing(out: Path, record: str) -> None:
    """Make a commit record, and corpus.json, agree with the shard's files."""

    def change(content: dict[str, object]) -> None:
        listed = content["files"]
        assert isinstance(listed, list)
        for file in listed:
            file.update(bytes=(out / file["path"]).stat().st_size, sha256=sha256_file(out / file["path"]))

    edit_json(out / layout.COMMITS / record, change)
    rewrite_listing(out)


@pytest.mark.parametrize("mechanism", ["fracture", "pitting"])
def test_field_that_another_mechanism_has_is_found_even_where_all_hashes_were_brought_into_line(
    mechanism: str, copied: Path
) -> None:
    sample = Corpus(copied).where(category="brick", mechanism=mechanism)[0]
    name = "depth" if mechanism == "fracture" else "opening"
    array = zarr.open_array(copied / f"data/builtin/brick/{name}", mode="r+")
    values = np.asarray(array[sample.record.row])
    assert not values.any()
    values[32, 32] = 1.0
    array[sample.record.row] = values
    rewrite_shard_listing(copied, layout.commit_name("samples", "builtin/brick", sample.record.shard))
    where = f"sample {sample.record.id} (builtin/brick row {sample.record.row})"
    assert problems(copied) == [f"{where}: the {name} field is not empty, though {mechanism} (ok) has none"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_field_that_is_not_finite_is_found_even_where_all_hashes_were_brought_into_line(
    value: float, copied: Path
) -> None:
    sample = Corpus(copied).where(category="hex_nut", mechanism="pitting")[0]
    array = zarr.open_array(copied / "data/builtin/hex_nut/depth", mode="r+")
    values = np.asarray(array[sample.record.row])
    values[tuple(np.argwhere(sample.foreground)[0])] = value
    array[sample.record.row] = values
    rewrite_shard_listing(copied, layout.commit_name("samples", "builtin/hex_nut", sample.record.shard))
    (found,) = problems(copied)
    assert "the depth field is not finite or lies off the part" in found


def test_field_off_the_part_is_found_even_where_all_hashes_were_brought_into_line(copied: Path) -> None:
    sample = Corpus(copied).where(category="hex_nut", mechanism="fracture")[0]
    array = zarr.open_array(copied / "data/builtin/hex_nut/damage", mode="r+")
    values = np.asarray(array[sample.record.row])
    values[tuple(np.argwhere(~sample.foreground)[0])] = 0.5
    array[sample.record.row] = values
    rewrite_shard_listing(copied, layout.commit_name("samples", "builtin/hex_nut", sample.record.shard))
    (found,) = problems(copied)
    assert "the damage field is not finite or lies off the part" in found


def forge(out: Path, sample: Sample, array: str, change: Callable[[NDArray[np.generic]], None]) -> None:
    """Change a sample's row of an array, and bring all hashes into line."""
    key = f"{sample.record.dataset}/{sample.record.category}"
    stored = zarr.open_array(out / "data" / key / array, mode="r+")
    values = np.asarray(stored[sample.record.row])
    change(values)
    stored[sample.record.row] = values
    rewrite_shard_listing(out, layout.commit_name("samples", key, sample.record.shard))


def sample_with(out: Path, defects: int) -> Sample:
    """The first with so many defects in its picture."""
    return next(s for s in Corpus(out) if sum(d.instance > 0 for d in s.record.defects) == defects)


@pytest.fixture
def copied_several(several: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(several, tmp_path / "several"))


@pytest.mark.parametrize("stage", ["paste", "render", "npcf"])
def test_stage_that_changed_off_the_part_is_found_even_where_all_hashes_were_brought_into_line(
    stage: str, copied_several: Path
) -> None:
    sample = Corpus(copied_several).where(category="hex_nut")[0]
    pixel = tuple(np.argwhere(~sample.foreground)[0])

    def change(values: NDArray[np.generic]) -> None:
        values[pixel] ^= np.uint8(1)

    forge(copied_several, sample, layout.stage_array(stage), change)
    (found,) = problems(copied_several)
    assert found.startswith(f"sample {sample.record.id} ")
    assert found.endswith(f": stage {stage} differs from the photograph on 1 px off its defects")


def swap(values: NDArray[np.generic]) -> None:
    values[:] = np.choose(values, np.array([0, 2, 1, *range(3, 9)], dtype=np.uint8))


def grow(values: NDArray[np.generic]) -> None:
    values[tuple(np.argwhere(values == 0)[0])] = 1


def drop(values: NDArray[np.generic]) -> None:
    values[values == 2] = 0


def rename(values: NDArray[np.generic]) -> None:
    values[values == 2] = 9


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (swap, "defect 1 covers"),
        (grow, "the instance array and the mask do not cover the same pixels"),
        (drop, "the instance array and the mask do not cover the same pixels"),
        (rename, "the instance array has a defect 9 that the record does not know"),
    ],
)
def test_forged_instances_are_found_even_where_all_hashes_were_brought_into_line(
    change: Callable[[NDArray[np.generic]], None], what: str, copied_several: Path
) -> None:
    sample = sample_with(copied_several, 2)
    assert {1, 2} <= set(np.unique(sample.instances).tolist())
    forge(copied_several, sample, layout.INSTANCE, change)
    found = problems(copied_several)
    assert all(problem.startswith(f"sample {sample.record.id} ") for problem in found)
    assert any(what in problem for problem in found)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda row: row.update(faint_px=row["faint_px"] + 1), "the record counts faint_px otherwise"),
        (lambda row: row.update(outside_px=1), "the record counts outside_px otherwise"),
        (lambda row: row.update(touching_px=1, unseen_px=2), "the record counts unseen_px, touching_px otherwise"),
        (lambda row: row.update(trajectory=row["trajectory"] + 1), "columns are not those of its first defect"),
        (lambda row: row.update(contrast=99.0), "the record has a contrast of "),
        (lambda row: row["defects"][1].update(contrast=99.0), "defect 2 has a contrast of "),
        (lambda row: row["defects"][0].update(area_px=1), "defect 1 covers"),
        (lambda row: row["defects"][0].update(bbox_y1=64), "defect 1 covers"),
        (lambda row: row["defects"][0].update(status="crowded"), "that it failed and is there, or neither"),
        (lambda row: row["defects"][0].update(instance=0), "the instance array has a defect 1"),
        (lambda row: row["defects"][1].update(physical=False), "calls physical what is not, or the other way round"),
        (lambda row: row["defects"][1].update(instance=1), "numbers its defects in another order"),
        (lambda row: row["defects"].reverse(), "numbers its defects in another order"),
        (
            lambda row: [defect.update(window_side=1) for defect in row["defects"]],
            "changed off the part or away from the defects",
        ),
    ],
)
def test_edited_defects_and_counts_are_found_even_where_hash_and_manifest_were_brought_into_line(
    change: Edit, what: str, copied_several: Path
) -> None:
    record = sample_with(copied_several, 2).record

    def edit(content: dict[str, object]) -> None:
        rows = content["rows"]
        assert isinstance(rows, list)
        change(next(row for row in rows if row["id"] == record.id))

    name = layout.commit_name("samples", f"{record.dataset}/{record.category}", record.shard)
    edit_json(copied_several / layout.COMMITS / name, edit)
    _rewrite_manifest(copied_several)
    rewrite_listing(copied_several)
    assert any(problem.startswith(f"sample {record.id} ") and what in problem for problem in problems(copied_several))


def test_record_without_any_defect_is_found(copied_several: Path) -> None:
    name = "samples--builtin--brick--00000.json"
    edit_json(copied_several / layout.COMMITS / name, lambda content: content["rows"][0]["defects"].clear())  # type: ignore[index]  # JSON
    rewrite_listing(copied_several)
    assert any(f"commits/{name}: cannot be read as a commit record" in problem for problem in problems(copied_several))


def test_bank_with_a_trajectory_less_is_found(copied: Path) -> None:
    def change(content: dict[str, object]) -> None:
        rows = content["rows"]
        assert isinstance(rows, list)
        rows.pop()

    edit_json(copied / "commits/bank--pitting--00001.json", change)
    rewrite_listing(copied)
    found = problems(copied)
    assert any("bank/pitting: its records hold 19 trajectories, not 0 to 19" in problem for problem in found)


def _rewrite_manifest(out: Path) -> None:
    rows = []
    for path in (out / layout.COMMITS).glob("samples--*"):
        rows += [SampleRecord.model_validate(row) for row in json.loads(path.read_bytes())["rows"]]
    write_table(out / layout.MANIFEST, to_table(sorted(rows, key=lambda row: row.index), SampleRecord))


def test_older_corpus_without_later_columns_is_read_and_whole(copied_several: Path) -> None:
    for path in (copied_several / layout.COMMITS).glob("samples--*"):
        edit_json(path, lambda content: content.update(_without_later(content)))
    edit_json(copied_several / layout.CORPUS, lambda content: content.update(_without_later(content)))
    for name in (layout.MANIFEST, layout.PLAN):
        table = read_table(copied_several / name)
        schema = pa.schema([_older(field) for field in table.schema if field.name not in LATER])
        rows = [_without_later(row) for row in table.to_pylist()]
        write_table(copied_several / name, pa.Table.from_pylist(rows, schema))
    rewrite_listing(copied_several)
    assert problems(copied_several) == []
    corpus = Corpus(copied_several)
    assert len(corpus.where(physical=True)) == len(corpus)
    assert {d.donor for sample in corpus for d in sample.record.defects} == {-1}


LATER = {"physical", "donor"}


def _without_later(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_later(item) for key, item in value.items() if key not in LATER}
    return [_without_later(item) for item in value] if isinstance(value, list) else value


def _older(field: pa.Field) -> pa.Field:
    if not pa.types.is_list(field.type) or not pa.types.is_struct(field.type.value_type):
        return field
    kept = [item for item in field.type.value_type if item.name not in LATER]
    return pa.field(field.name, pa.list_(pa.struct(kept)), nullable=False)


@pytest.mark.parametrize("table", [layout.MANIFEST, layout.PLAN, layout.INVENTORY])
def test_table_with_a_row_less_is_found_even_where_its_hash_was_brought_into_line(table: str, copied: Path) -> None:
    pq.write_table(read_table(copied / table).slice(1), copied / table)
    rewrite_listing(copied)
    found = problems(copied)
    assert found
    assert all("commits/" in problem or table in problem or layout.CORPUS in problem for problem in found)


def test_manifest_in_another_order_is_found(copied: Path) -> None:
    rows = from_table(read_table(copied / layout.MANIFEST), SampleRecord)
    write_table(copied / layout.MANIFEST, to_table(rows[::-1], SampleRecord))
    rewrite_listing(copied)
    assert any(layout.MANIFEST in problem for problem in problems(copied))


@pytest.mark.parametrize(
    "change",
    [
        lambda info: info["counts"].update(total=25),
        lambda info: info["counts"]["sources"].update(corrupt=1),
        lambda info: info["statistics"]["contrast"].update(median=1.0),
        lambda info: info["licences"][0].update(licence="public domain"),
        lambda info: info["config"].update(count=25),
        lambda info: info["distributions"][0]["got"].reverse(),
        lambda info: info["distributions"][1].update(distance=0.0),
        lambda info: info["mechanisms"]["pitting"].update(summary="magic"),
        lambda info: info["counts"]["trajectories"].update(pitting=21),
        lambda info: info["counts"]["defects"].update(pitting=1),
        lambda info: info["invariants"].update(faint_px=0),
        lambda info: info["invariants"].update(unlabelled_px=1),
        lambda info: info.update(name="other"),
        lambda info: info.update(code_version="0.0.0"),
        lambda info: info.update(schema_version=2),
        lambda info: info.update(config_sha256="0" * 64),
        lambda info: info["files"].pop(),
        lambda info: info["files"][0].update(bytes=1),
    ],
)
def test_edited_corpus_json_is_found(change: Edit, copied: Path) -> None:
    edit_json(copied / layout.CORPUS, change)
    assert problems(copied) != []


def test_config_of_another_recipe_is_found(copied: Path) -> None:
    edit_json(copied / layout.CONFIG, lambda content: content["config"].update(seed=1))  # type: ignore[attr-defined]  # JSON
    assert problems(copied) == ["config.json: was edited or is damaged: restore it from a copy"]


def test_path_that_climbs_out_is_refused(copied: Path) -> None:
    (copied.parent / "outside").write_bytes(b"x")

    def change(content: dict[str, object]) -> None:
        listed = content["files"]
        assert isinstance(listed, list)
        listed[0].update(path="../outside")

    edit_json(copied / "commits/samples--builtin--brick--00000.json", change)
    assert any("leaves" in problem for problem in problems(copied))


@pytest.mark.parametrize(
    "array", ["image", "mask", "opening", "depth", "source", "foreground", "instance", "stage_paste", "stage_npcf"]
)
def test_chunk_that_does_not_decode_is_found_even_where_hashes_were_brought_into_line(
    array: str, copied_several: Path
) -> None:
    copied = copied_several
    stage = "sources" if array in layout.SOURCE_ARRAYS else "samples"
    record = copied / f"commits/{stage}--builtin--brick--00000.json"
    named = [f["path"] for f in json.loads(record.read_bytes())["files"]]
    shard = copied / next(name for name in named if f"/brick/{array}/" in name)
    content = bytearray(shard.read_bytes())
    content[20:36] = bytes(byte ^ 255 for byte in content[20:36])
    shard.write_bytes(content)

    def change(content: dict[str, object]) -> None:
        listed = content["files"]
        assert isinstance(listed, list)
        for file in listed:
            if copied / file["path"] == shard:
                file["sha256"] = sha256_file(shard)

    edit_json(record, change)
    rewrite_listing(copied)
    assert any("cannot be decoded" in problem for problem in problems(copied))


def test_what_verify_says_to_do_mends_the_corpus(
    copied: Path, recipe_file: Path, finished_digest: dict[str, str]
) -> None:
    from pipeline.generate import generate
    from pipeline.recipe import load_recipe
    from tests.pipeline.conftest import digest

    damaged = ["data/builtin/brick/mask/c/1/0/0", "data/builtin/brick/source/zarr.json", "plan.parquet"]
    for name in damaged:
        flip(copied / name, 30)
    found = problems(copied)
    assert len(found) == len(damaged)
    for problem in found:
        assert "remove it and run generate again" in problem
        (copied / problem.split(":")[0]).unlink()
    generate(copied, load_recipe(recipe_file, overrides={}), workers=1)
    assert digest(copied) == finished_digest


def placed_on_picture(record: SampleRecord, ends: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Points (..., 2) of the square, laid on the picture as recorded, pixels."""
    ends = ends - 0.5
    side, turn = record.extent * size, np.deg2rad(record.angle_deg + 90.0 * (record.dihedral % 4))
    x = ends[..., 1] * (-1.0 if record.dihedral >= 4 else 1.0)
    y = ends[..., 0]
    return np.stack(
        [
            record.center_y * size + side * (y * np.cos(turn) - x * np.sin(turn)),
            record.center_x * size + side * (y * np.sin(turn) + x * np.cos(turn)),
        ],
        axis=-1,
    )


def far_from_crack(sample: Sample, support_px: int) -> NDArray[np.bool_]:
    """Where no bit may differ: beyond the support around the crack's stored path, laid on the picture as recorded."""
    record = sample.record
    bank = sample.root / "bank" / "fracture"
    segments = np.asarray(zarr.open_array(bank / "segments", mode="r")[record.trajectory], dtype=float)
    opening = np.asarray(zarr.open_array(bank / "opening", mode="r")[record.trajectory])[record.snapshot]
    size = sample.mask.shape[0]
    placed = placed_on_picture(record, segments[(opening > 0).any(axis=1)].reshape(-1, 2, 2), size)
    steps = np.linspace(0.0, 1.0, 9)[:, None, None]
    path = (placed[:, 0] * (1 - steps) + placed[:, 1] * steps).reshape(-1, 2)
    ragged_px = 3.0  # the path's wiggle and the lips' roughness
    return far_from(path, size, support_px + record.width * size / 2 + ragged_px)


def far_from_pits(sample: Sample, support_px: int) -> NDArray[np.bool_]:
    """The same around the cells of the bank that have lost or gained anything."""
    record = sample.record
    bank = sample.root / "bank" / "pitting"
    depth, product = (
        np.asarray(zarr.open_array(bank / name, mode="r")[record.trajectory])[record.snapshot]
        for name in ("depth", "product")
    )
    size, grid = sample.mask.shape[0], depth.shape[0]
    cells = placed_on_picture(record, (np.argwhere((depth != 0) | (product != 0)) + 0.5) / grid, size)
    cell_px = record.extent * size / grid
    reach_px = 2.0 * cell_px + 2.0  # of the interpolation between cells, and the outline's wiggle
    return far_from(cells, size, support_px + reach_px)


def far_from(points: NDArray[np.float64], size: int, reach_px: float) -> NDArray[np.bool_]:
    centres = np.argwhere(np.ones((size, size))) + 0.5
    nearest = np.asarray(cKDTree(points).query(centres)[0]).reshape(size, size)
    return np.asarray(nearest > reach_px)


def test_no_sample_breaks_an_invariant_by_an_independent_count(finished: Path) -> None:
    """The four invariants over a whole corpus, with nothing of the verification's own code."""
    corpus = Corpus(finished)
    label = corpus.info.config["label"]
    support = corpus.info.config["npcf"]["support_px"]
    assert len(corpus) == 24
    looked_at = 0
    for sample in corpus:
        inside = sample.mask == 255
        assert set(np.unique(sample.mask)) <= {0, 255}
        change = np.abs(sample.image.astype(int) - sample.source.astype(int)).max(axis=2)
        assert not (change[~inside] >= label["visible_threshold"]).any()
        far = (far_from_crack if sample.record.mechanism == "fracture" else far_from_pits)(sample, support)
        assert change[far].max(initial=0) == 0
        looked_at += int(far.sum())
        # no invisible label: each pixel of the mask has a visible change within one pixel
        visible = np.pad(change >= label["visible_threshold"], 1)
        shifts = [np.roll(visible, (dy, dx), (0, 1))[1:-1, 1:-1] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        assert not (inside & ~np.any(shifts, axis=0)).any()
        assert not (inside & ~sample.foreground).any()
        assert label["min_area"] <= inside.mean() <= label["max_area"]
        assert sample.record.area_px == inside.sum()
        assert sample.record.residual <= corpus.info.config["npcf"]["tolerance"]
    assert looked_at > 24 * 64 * 64 / 4
