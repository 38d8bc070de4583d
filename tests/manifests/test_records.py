"""Records round-trip to JSON bit for bit, cannot be altered, and refuse what they do not know."""

from __future__ import annotations

import json
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from manifests.records import (
    SCHEMA_VERSION,
    BankRecord,
    CommitRecord,
    DefectRecord,
    FileRecord,
    PlannedDefect,
    PlanRow,
    SampleRecord,
    SampleStatus,
    SourceRecord,
    SourceStatus,
    parse_commit,
    plan_row_id,
)

ROW_TYPES = [SourceRecord, BankRecord, PlanRow, SampleRecord]
VALUES: dict[type, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**63 - 1),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(max_size=12),
    SourceStatus: st.sampled_from(SourceStatus),
    SampleStatus: st.sampled_from(SampleStatus),
}


def a_value(annotation: Any) -> st.SearchStrategy[Any]:
    if annotation in VALUES:
        return VALUES[annotation]
    if get_origin(annotation) is tuple:
        least = int(get_args(annotation)[0] is DefectRecord)  # a sample has one at least
        return st.lists(a_value(get_args(annotation)[0]), min_size=least, max_size=3).map(tuple)
    if get_origin(annotation) is dict:
        return st.dictionaries(*map(a_value, get_args(annotation)), max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return a_record(annotation)
    return st.sampled_from(get_args(annotation))  # a Literal


def a_record(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    return st.builds(model, **{name: a_value(info.annotation) for name, info in model.model_fields.items()})


def a_commit(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    text = VALUES[str]
    return st.builds(
        CommitRecord.__class_getitem__(model),
        stage=st.sampled_from(["sources", "bank", "samples"]),
        key=text,
        shard=st.integers(0, 10**6),
        config_sha256=text,
        code_version=text,
        inputs_sha256=text,
        files=st.lists(a_record(FileRecord), max_size=2).map(tuple),
        rows=st.lists(a_record(model), max_size=2).map(tuple),
    )


@pytest.mark.parametrize("model", ROW_TYPES)
@settings(deadline=None)
@given(data=st.data())
def test_row_survives_json(model: type[BaseModel], data: st.DataObject) -> None:
    record = data.draw(a_record(model))
    assert model.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("model", [SourceRecord, BankRecord, SampleRecord])
@settings(deadline=None)
@given(data=st.data())
def test_commit_survives_its_bytes(model: Any, data: st.DataObject) -> None:
    record = data.draw(a_commit(model))
    again = parse_commit(record.to_bytes(), model)
    assert again == record
    assert again.to_bytes() == record.to_bytes()


@settings(deadline=None)
@given(record=a_commit(SampleRecord), data=st.data())
def test_cut_commit_is_refused(record: CommitRecord[SampleRecord], data: st.DataObject) -> None:
    whole = record.to_bytes()
    length = data.draw(st.integers(0, len(whole) - 2))  # all but the last brace and the line's end, or less
    with pytest.raises(ValidationError):
        parse_commit(whole[:length], SampleRecord)


def test_commit_of_another_stage_is_refused() -> None:
    row = BankRecord(
        trajectory=0, mechanism="fracture", group=0, from_edge=False, seed_path="0/3/0", severity=(1.0,), area=(0.1,),
        facts={"load_griffith": (1.0,)},
    )  # fmt: skip
    record = CommitRecord[BankRecord](
        stage="bank",
        key="fracture",
        shard=0,
        config_sha256="",
        code_version="",
        inputs_sha256="",
        files=(),
        rows=(row,),
    )
    with pytest.raises(ValidationError):
        parse_commit(record.to_bytes(), SampleRecord)


def test_commit_of_a_later_schema_is_refused() -> None:
    record = CommitRecord[BankRecord](
        stage="bank", key="fracture", shard=0, config_sha256="", code_version="", inputs_sha256="", files=(), rows=()
    )
    later = json.loads(record.to_bytes()) | {"schema_version": SCHEMA_VERSION + 1}
    with pytest.raises(ValidationError, match="schema_version"):
        parse_commit(json.dumps(later).encode(), BankRecord)


def test_record_cannot_be_altered() -> None:
    record = FileRecord(path="data/a", bytes=1, sha256="00")
    with pytest.raises(ValidationError, match="frozen"):
        record.bytes = 2  # type: ignore[misc]


def test_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="mode"):
        FileRecord.model_validate({"path": "data/a", "bytes": 1, "sha256": "00", "mode": 7})


@settings(deadline=None)
@given(row=a_record(PlanRow))
def test_planned_defects_are_the_columns_of_the_row_and_the_others_after_them(row: PlanRow) -> None:
    first, *others = row.planned()
    assert tuple(others) == row.others
    assert first.model_dump() == {name: getattr(row, name) for name in PlannedDefect.model_fields}


def test_defect_that_is_not_known_is_refused() -> None:
    row = PlannedDefect(
        mechanism="fracture", trajectory=0, snapshot=0, dihedral=0, angle_deg=0.0, from_edge=False, anchor_y=0.5,
        anchor_x=0.5, asked_area=0.01, asked_severity=0.5, width=0.01,
    )  # fmt: skip
    with pytest.raises(ValidationError, match="mode"):
        PlannedDefect.model_validate({**row.model_dump(), "mode": 7})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_number_that_json_cannot_hold_is_refused(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        BankRecord(
            trajectory=0, mechanism="fracture", group=0, from_edge=True, seed_path="", severity=(1.0,), area=(1.0,),
            facts={"load_griffith": (value,)},
        )  # fmt: skip


@settings(deadline=None)
@given(record=a_record(PlanRow), shard=st.integers(0, 99), row=st.integers(0, 99))
def test_plan_row_id_depends_on_all_but_the_place_in_the_store(record: PlanRow, shard: int, row: int) -> None:
    fields = record.model_dump(mode="json")
    identity = plan_row_id(fields)
    assert len(identity) == 16
    assert plan_row_id(fields | {"shard": shard, "row": row, "id": "x"}) == identity
    assert "others" in fields
    for name in fields.keys() - {"id", "shard", "row"}:
        assert plan_row_id(fields | {name: "another"}) != identity or fields[name] == "another"
