"""Records as tables: nothing is lost, and the same rows are the same bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from manifests.errors import CorpusError
from manifests.records import BankRecord, DefectRecord, FileRecord, PlannedDefect, PlanRow, SampleRecord, SourceRecord
from manifests.tables import (
    Rows,
    arrow_schema,
    completed,
    from_table,
    read_table,
    to_table,
    write_table,
    written_table,
)

ROW_TYPES = [SourceRecord, PlanRow, SampleRecord]  # those that are kept as tables
FILES = [FileRecord(path=f"data/{k}", bytes=k, sha256="ab" * 32) for k in range(1000)]


PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    str: st.text(),
}


PLAIN_COLUMNS = {pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.list_(pa.float64())}


def column_values(annotation: Any) -> st.SearchStrategy[Any]:
    if annotation in PLAIN:
        return PLAIN[annotation]
    if get_origin(annotation) is tuple:
        least = int(get_args(annotation)[0] is DefectRecord)  # a sample has one at least
        return st.lists(column_values(get_args(annotation)[0]), min_size=least, max_size=4).map(tuple)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return one_record(annotation)
    return st.sampled_from(get_args(annotation) or list(annotation))  # a Literal, or an enumeration


def records(model: type[BaseModel]) -> st.SearchStrategy[list[Any]]:
    return st.lists(one_record(model), max_size=4)


def one_record(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    columns = {name: column_values(info.annotation) for name, info in model.model_fields.items()}
    return st.builds(model, **columns)


@pytest.mark.parametrize("model", ROW_TYPES)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_survive_parquet(model: type[BaseModel], data: st.DataObject, tmp_path: Path) -> None:
    rows = data.draw(records(model))
    write_table(tmp_path / "rows.parquet", to_table(rows, model))
    again = from_table(read_table(tmp_path / "rows.parquet"), model)
    assert [row.model_dump_json() for row in again] == [row.model_dump_json() for row in rows]  # -0.0 is not 0.0


@pytest.mark.parametrize("model", ROW_TYPES)
def test_columns_are_the_fields_in_order_with_plain_types(model: type[BaseModel]) -> None:
    schema = arrow_schema(model)
    assert schema.names == list(model.model_fields)
    assert not any(field.nullable for field in schema)
    assert {kind for kind in schema.types if not is_list_of_structs(kind)} <= PLAIN_COLUMNS


@pytest.mark.parametrize(
    ("model", "column", "nested"), [(PlanRow, "others", PlannedDefect), (SampleRecord, "defects", DefectRecord)]
)
def test_records_in_a_record_are_a_list_of_structs_with_its_fields_in_order(
    model: type[BaseModel], column: str, nested: type[BaseModel]
) -> None:
    kind = arrow_schema(model).field(column).type
    assert is_list_of_structs(kind)
    assert kind.value_type.names == list(nested.model_fields)
    assert {field.type for field in kind.value_type} <= PLAIN_COLUMNS
    assert not any(field.nullable for field in kind.value_type)


def is_list_of_structs(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_struct(kind.value_type))


def test_type_without_a_column_type_is_refused() -> None:
    class Odd(BaseModel):
        when: bytes

    with pytest.raises(TypeError, match="bytes"):
        arrow_schema(Odd)

    class OddList(BaseModel):
        names: tuple[str, ...]

    with pytest.raises(TypeError, match="tuple"):
        arrow_schema(OddList)
    with pytest.raises(TypeError, match="dict"):  # a bank's record stays in its commit
        arrow_schema(BankRecord)


def test_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "plan.parquet", to_table([], PlanRow))
    table = read_table(tmp_path / "plan.parquet")
    assert table.column_names == list(PlanRow.model_fields)
    assert from_table(table, PlanRow) == []


@pytest.mark.parametrize(
    ("model", "added"), [(PlanRow, {"donor": -1}), (SampleRecord, {"donor": -1, "physical": True})]
)
@pytest.mark.parametrize("number", [0, 3])
def test_table_of_an_older_corpus_is_read_with_the_defaults_of_later_columns(
    model: type[BaseModel], added: dict[str, object], number: int
) -> None:
    table = to_table([], model).drop_columns(list(added))
    table = pa.concat_tables(
        [table, *[pa.table({f.name: zero_of(f.type) for f in table.schema}, table.schema)] * number]
    )
    assert completed(table, model).schema.field("donor") == arrow_schema(model).field("donor")
    for name, default in added.items():
        assert completed(table, model)[name].to_pylist() == [default] * number
    with pytest.raises(CorpusError, match="column area_px is missing" if model is SampleRecord else "column width"):
        from_table(table.drop_columns(["area_px" if model is SampleRecord else "width"]), model)


def zero_of(kind: pa.DataType) -> pa.Array:
    zero = [] if pa.types.is_list(kind) else "" if pa.types.is_string(kind) else 0
    return pa.array([False if pa.types.is_boolean(kind) else zero], kind)


def test_same_rows_are_the_same_bytes_and_no_temporary_file_stays(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_table(tmp_path / name, to_table(FILES, FileRecord))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_file_holds_no_metadata_of_a_library(tmp_path: Path) -> None:
    write_table(tmp_path / "files.parquet", to_table(FILES, FileRecord))
    assert pq.read_metadata(tmp_path / "files.parquet").metadata is None
    assert pq.read_metadata(tmp_path / "files.parquet").row_group(0).column(0).compression == "ZSTD"


def test_missing_and_cut_files_are_corpus_errors(tmp_path: Path) -> None:
    path = tmp_path / "files.parquet"
    with pytest.raises(CorpusError, match=r"files\.parquet: cannot be read"):
        read_table(path)
    write_table(path, to_table(FILES, FileRecord))
    whole = path.read_bytes()
    for length in (0, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CorpusError, match="cannot be read"):
            read_table(path)


def test_flipped_bytes_raise_nothing_but_corpus_errors(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "files.parquet"
    write_table(path, to_table(FILES, FileRecord))
    whole, errors = path.read_bytes(), 0
    for position in rng.integers(0, len(whole), 400):
        torn = bytearray(whole)
        torn[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(torn))
        try:
            from_table(
                read_table(path), FileRecord
            )  # may well succeed with other values: the hash in corpus.json is what tells
        except CorpusError:
            errors += 1
    assert errors > 20


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"path": ["a"], "bytes": [1]}, "sha256 is missing"),
        ({"path": ["a"], "bytes": [1], "sha256": ["00"], "mode": [7]}, "mode is unknown"),
        ({"path": [], "bytes": [], "sha": []}, "sha is unknown"),
        ({"path": ["a"], "bytes": ["many"], "sha256": ["00"]}, "bytes"),
    ],
)
def test_wrong_column_is_named(columns: dict[str, list[Any]], named: str) -> None:
    with pytest.raises(CorpusError, match=f"FileRecord: column {named}"):
        from_table(pa.table(columns), FileRecord)


def test_missing_column_is_named_though_its_field_has_a_default() -> None:
    table = to_table([], SourceRecord)
    with pytest.raises(CorpusError, match="SourceRecord: column index is missing; expected dataset, category"):
        from_table(table.drop_columns(["index"]), SourceRecord)


def test_column_that_is_there_twice_is_refused() -> None:
    table = to_table(FILES[:2], FileRecord)
    with pytest.raises(CorpusError, match="a column is there twice"):
        from_table(table.append_column("path", table["path"]), FileRecord)


def test_damaged_text_is_a_corpus_error(tmp_path: Path) -> None:
    path = tmp_path / "files.parquet"
    text = pa.array([b"caf\xe9"], pa.binary()).view(pa.string())
    columns = {"path": text, "bytes": [1], "sha256": ["00"]}
    write_table(path, pa.table(columns, schema=arrow_schema(FileRecord)))
    with pytest.raises(CorpusError, match="FileRecord: a text is damaged"):
        from_table(read_table(path), FileRecord)


def test_column_of_records_with_a_field_less_or_more_is_a_corpus_error() -> None:
    some: dict[pa.DataType, object] = {pa.int64(): 1, pa.float64(): 0.5, pa.bool_(): True, pa.string(): "a"}
    whole = arrow_schema(PlanRow).field("others").type.value_type
    for fields, named in (
        ([f for f in whole if f.name != "width"], "width"),
        ([*whole, pa.field("mode", pa.int64())], "mode"),
    ):
        values = {f.name: some[f.type] for f in fields}
        plain = {f.name: [some[f.type]] for f in arrow_schema(PlanRow) if f.name != "others"}
        odd = pa.table({**plain, "others": pa.array([[values]], pa.list_(pa.struct(fields)))})
        with pytest.raises(CorpusError, match=rf"others\.0\.{named}"):
            from_table(odd, PlanRow)


@pytest.mark.parametrize("model", ROW_TYPES)
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_rows_in_a_table_are_the_records(model: type[BaseModel], data: st.DataObject) -> None:
    records_ = data.draw(records(model))
    rows = Rows(to_table(records_, model), model)
    start, stop = sorted(data.draw(st.tuples(st.integers(-5, 5), st.integers(-5, 5))))
    assert list(rows) == records_
    assert [rows[k] for k in range(len(rows))] == records_
    assert list(rows[start:stop]) == records_[start:stop]
    assert rows[start:stop] == Rows(to_table(records_[start:stop], model), model)
    sent = ForkingPickler.dumps(rows[start:stop])
    assert ForkingPickler.loads(sent) == rows[start:stop]
    assert len(sent) <= len(ForkingPickler.dumps(rows))


def test_rows_end_where_a_list_ends() -> None:
    rows = Rows(to_table(FILES, FileRecord), FileRecord)
    assert rows[-1] == FILES[-1]
    assert rows.column("bytes") == list(range(1000))
    assert rows != FILES
    with pytest.raises(IndexError):
        rows[1000]
    with pytest.raises(ValueError, match="a step of 2"):
        rows[::2]


def test_one_wrong_row_among_many_is_found() -> None:
    good = to_table(FILES * 3, FileRecord)
    Rows(good, FileRecord).validate()
    sizes = pa.array([*good["bytes"].to_pylist()[:-1], None], pa.int64())
    worse = good.set_column(1, "bytes", sizes)
    for table in (worse, good.drop_columns("bytes"), good.slice(0, 0).drop_columns("bytes")):
        with pytest.raises(CorpusError, match="FileRecord"):
            Rows(table, FileRecord).validate()


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 9000), max_size=5))
def test_pieces_make_the_same_file_however_they_were_cut(sizes: list[int], tmp_path: Path) -> None:
    total = sum(sizes)
    table = to_table([FILES[k % 1000] for k in range(total)], FileRecord)
    with written_table(tmp_path / "pieces.parquet", FileRecord) as writer:
        for size, stop in zip(sizes, np.cumsum(sizes), strict=True):
            assert len(writer.add(table.slice(int(stop) - size, size))) == size
    with written_table(tmp_path / "whole.parquet", FileRecord) as writer:
        writer.add(table)
    assert (tmp_path / "pieces.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert read_table(tmp_path / "pieces.parquet").equals(table)
    groups = pq.ParquetFile(tmp_path / "pieces.parquet").metadata
    assert {groups.row_group(k).num_rows for k in range(groups.num_row_groups - 1)} <= {8192}
    if total <= 8192:
        write_table(tmp_path / "once.parquet", table)
        assert (tmp_path / "pieces.parquet").read_bytes() == (tmp_path / "once.parquet").read_bytes()


def failing() -> Iterator[pa.Table]:
    yield to_table(FILES, FileRecord)
    raise CorpusError("the second piece is damaged")


def test_table_of_which_a_piece_fails_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(CorpusError), written_table(tmp_path / "files.parquet", FileRecord) as writer:
        deque(map(writer.add, failing()), maxlen=0)
    assert list(tmp_path.iterdir()) == []
