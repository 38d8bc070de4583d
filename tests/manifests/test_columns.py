from __future__ import annotations

import pytest
from pydantic import BaseModel

from manifests.columns import columns
from manifests.records import BankRecord, DefectRecord, FileRecord, PlanRow, SampleRecord, SourceRecord
from manifests.tables import arrow_schema


@pytest.mark.parametrize("model", [SampleRecord, DefectRecord, PlanRow, SourceRecord, FileRecord])
def test_every_column_of_a_table_says_what_it_means(model: type[BaseModel]) -> None:
    found = columns(model)
    assert [column.name for column in found] == arrow_schema(model).names
    assert all(column.meaning and "[" not in column.meaning for column in found)
    lengths = [column for column in found if column.name.endswith("_px") or column.name.startswith("bbox")]
    assert all(column.unit == "px" for column in lengths)


def test_a_closed_vocabulary_lists_its_values() -> None:
    by_name = {column.name: column for column in columns(SampleRecord)}
    assert by_name["status"].values[:2] == ("ok", "off_foreground")
    assert by_name["angle_deg"].unit == "deg"
    assert by_name["sqe"].unit == ""


def test_a_column_without_a_meaning_is_refused() -> None:
    class Silent(BaseModel):
        number: int

    with pytest.raises(ValueError, match=r"Silent\.number: has no description"):
        columns(Silent)


def test_every_field_of_a_bank_record_says_what_it_means() -> None:
    assert all(info.description for info in BankRecord.model_fields.values())
