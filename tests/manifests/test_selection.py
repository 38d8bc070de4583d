"""Expressions on a manifest: which rows they hold for, and what is said of one that cannot be used."""

from __future__ import annotations

import pyarrow as pa
import pytest

from manifests.errors import ConfigError
from manifests.selection import matching

TABLE = pa.table(
    {
        "mechanism": ["pitting", "dent", "pitting", "craze"],
        "sqe": [0.2, 0.6, 0.9, None],
        "physical": [True, True, False, True],
        "group": [0, 0, 1, 1],
        "index": pa.array([0, 1, 2, 3], pa.int64()),
        "defects": [[{"area": 1}], [], [{"area": 2}, {"area": 3}], [{"area": 4}]],
    }
)


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("sqe >= 0.5 and mechanism == 'pitting'", [2]),
        ("sqe >= 0.5 AND mechanism = 'pitting'", [2]),
        ("mechanism in ('dent', 'craze') or sqe < 0.3", [0, 1, 3]),
        ("not physical", [2]),
        ("sqe between 0.5 and 0.95", [1, 2]),
        ("mechanism like 'p%'", [0, 2]),
        ("mechanism <> 'pitting' and index % 2 = 1", [1, 3]),
        ("array_length(defects) > 1", [2]),
        ("sqe > avg(sqe)", [1, 2]),
        ("max(sqe) > 0.5", [0, 1, 2, 3]),
        ("1 = 2", []),
        ("sqe > 0", [0, 1, 2]),  # unknown is not true
        ("sqe is null", [3]),
        ('"group" = 1', [2, 3]),
    ],
)
def test_an_expression_holds_for_these_rows(expression: str, rows: list[int]) -> None:
    mask = matching(TABLE, expression).to_pylist()
    assert [row for row, held in enumerate(mask) if held] == rows


def test_an_expression_on_no_rows_holds_for_none() -> None:
    assert len(matching(TABLE.slice(0, 0), "sqe > 0.5")) == 0
    assert len(matching(TABLE.slice(0, 0), "1 = 1")) == 0


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("mechansim = 'dent'", "no column 'mechansim'; did you mean 'mechanism'?"),
        ("SQE > 0.5", "no column 'SQE'; did you mean 'sqe'?"),
        ("qqq > 0.5", "no column 'qqq'; there are mechanism, sqe, physical, group, index, defects"),
        ('mechanism == "dent"', "a text is written in single quotes: 'dent'"),
        ("group = 1", 'the column is written "group"'),
        ("sqe", "'sqe' gives float64, expected true or false for every sample"),
        ("null", "expected true or false"),
        ("sqe >=", "is no condition on samples: unable to parse"),
        ("", "is no condition on samples"),
        ("sqe > 'much'", "is no condition on samples: cannot compare string with numeric type"),
        ("index = 1; drop table x", "is no condition on samples"),
        ("select 1", "is no condition on samples"),
        ("sqe > (select 1)", "is no condition on samples"),
        ("read_csv('/etc/passwd') = 1", "unsupported function 'read_csv'"),
        ("mechanism ~ '('", "is no condition on samples"),
        ("__import__('os').system('true')", "is no condition on samples"),
        ("defects = 3", "is no condition on samples"),
    ],
)
def test_an_expression_that_cannot_be_used_is_one_line(expression: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        matching(TABLE, expression)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)
