"""The reference of the mechanisms: whole, and as it lies in docs."""

from __future__ import annotations

from pathlib import Path

import pytest

from physics.registry import MECHANISMS
from pipeline.mechanism_reference import mechanism_reference, parameter_rows

ROOT = Path(__file__).resolve().parents[2]
named = pytest.mark.parametrize("name", MECHANISMS)


def test_reference_in_docs_is_up_to_date() -> None:
    written = (ROOT / "docs" / "mechanisms.md").read_text(encoding="utf-8")
    assert written == mechanism_reference(), "run: maphc2f mechanisms --markdown > docs/mechanisms.md"


def section(name: str) -> str:
    """Part of the reference that is about one mechanism."""
    return mechanism_reference().split(f"(`{name}`)\n")[1].split("\n## ")[0]


@named
def test_every_field_and_parameter_of_a_mechanism_has_its_row(name: str) -> None:
    known, text = MECHANISMS[name], section(name)
    assert known.summary in text
    for spec in known.field_specs:
        assert f"| `{spec.name}` | {spec.unit} | {spec.meaning} |" in text
    for parameter in known.params.model_fields:
        assert text.count(f"| `{parameter}` | ") == 1


@named
def test_rows_of_parameters_are_whole_and_their_unit_is_told_once(name: str) -> None:
    rows = list(parameter_rows(MECHANISMS[name].params()))
    assert [row[0] for row in rows] == list(MECHANISMS[name].params.model_fields)
    for parameter, default, unit, meaning in rows:
        assert default.strip(), parameter
        assert unit.strip(), parameter
        assert len(meaning) > 8, parameter
        assert f"[{unit}]" not in meaning, parameter
        assert not any("|" in cell or "\n" in cell for cell in (default, unit, meaning)), "or the table would break"


def test_defaults_are_shown_as_a_recipe_has_them() -> None:
    rows = {parameter: default for parameter, default, _, _ in parameter_rows(MECHANISMS["fracture"].params())}
    defaults = MECHANISMS["fracture"].params()
    assert rows["grid"] == str(defaults.grid)
    assert rows["severity"] == f"uniform {defaults.severity.low:g} to {defaults.severity.high:g}"
    assert rows["weight"] == "1"


def test_links_of_the_reference_lead_to_files() -> None:
    for name in ("adding-a-mechanism.md", "verification.md"):
        assert f"]({name})" in mechanism_reference()
        assert (ROOT / "docs" / name).is_file()
