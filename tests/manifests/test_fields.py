"""The vocabulary of fields is closed, whole, and the only one that mechanisms speak."""

from __future__ import annotations

from typing import get_args

import pytest

from manifests.fields import FIELDS, FieldKind, FieldSpec
from physics.registry import MECHANISMS


def test_every_field_is_kept_under_its_own_name_with_unit_and_meaning() -> None:
    assert {name: spec.name for name, spec in FIELDS.items()} == {name: name for name in FIELDS}
    assert all(len(spec.meaning) > 10 for spec in FIELDS.values())
    assert {spec.kind for spec in FIELDS.values()} == set(get_args(FieldKind))


def test_lengths_are_in_pixels_and_shares_without_unit() -> None:
    assert {name: spec.unit for name, spec in FIELDS.items()} == {
        name: "1" if spec.kind == "share" else "px" for name, spec in FIELDS.items()
    }


def test_displacement_has_both_its_components_or_none() -> None:
    kinds = [spec.kind for spec in FIELDS.values()]
    assert kinds.count("displacement_y") == kinds.count("displacement_x") == 1


def test_vocabulary_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        FIELDS["rust"] = FIELDS["depth"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        FIELDS["depth"].unit = "mm"  # type: ignore[misc]


@pytest.mark.parametrize("name", MECHANISMS)
def test_every_mechanism_yields_known_fields_each_once(name: str) -> None:
    known = MECHANISMS[name]
    assert known.name == name
    assert len(set(known.fields)) == len(known.fields) > 0
    assert all(isinstance(spec, FieldSpec) for spec in known.field_specs)
    assert [spec.name for spec in known.field_specs] == list(known.fields)
    components = {"displacement_y", "displacement_x"}
    assert components.isdisjoint(known.fields) or components <= set(known.fields)
