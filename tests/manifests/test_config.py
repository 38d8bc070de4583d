"""Sections of the recipe: where photographs come from, paths, and settings that must agree with each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from manifests import config
from manifests.config import BankConfig, LabelConfig, Section, SourceSpec, expand_path, explain_validation, parse_source
from manifests.errors import ConfigError

SECTIONS = [
    value
    for value in vars(config).values()
    if isinstance(value, type) and issubclass(value, Section) and value is not Section
]

# --- sections ---


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_section_refuses_unknown_keys_and_describes_each_setting(section: type[BaseModel]) -> None:
    needed = {"kind": "builtin"} if section is SourceSpec else {}
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        section.model_validate({**needed, "no_such_setting": 1})
    assert [name for name, field in section.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("section", [s for s in SECTIONS if s is not SourceSpec], ids=lambda section: section.__name__)
def test_section_without_settings_has_its_defaults_and_cannot_be_changed(section: type[BaseModel]) -> None:
    made = section()
    with pytest.raises(ValidationError, match="frozen"):
        setattr(made, next(iter(section.model_fields)), None)


def test_problem_of_a_section_is_explained_in_one_line_with_its_key_and_the_value_got() -> None:
    with pytest.raises(ValidationError) as caught:
        LabelConfig.model_validate({"attempts": 0})
    line = explain_validation(caught.value, LabelConfig)
    assert line == "attempts: Input should be greater than or equal to 1, got 0"
    with pytest.raises(ValidationError) as caught:
        BankConfig.model_validate({"groups": 12, "trajectories": 11})
    assert explain_validation(caught.value, BankConfig) == "trajectories must be at least groups (12), got 11"


# --- sources of the command line, and paths ---


def test_source_of_the_command_line_is_kind_and_path() -> None:
    assert parse_source("mvtec:../data/mtd") == SourceSpec(kind="mvtec", path="../data/mtd")
    assert parse_source("builtin") == SourceSpec(kind="builtin")


def test_path_of_a_source_may_hold_a_colon() -> None:
    assert parse_source("folder:a:b").path == "a:b"


def test_data_set_is_called_by_its_name_or_else_its_kind() -> None:
    assert SourceSpec(kind="visa", path="/x").dataset == "visa"
    assert SourceSpec(kind="visa", path="/x", name="parts").dataset == "parts"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mvtek:/x", "did you mean 'mvtec'?"),
        ("/just/a/path", "expected KIND:PATH with KIND one of builtin, folder, mvtec, visa, btad"),
        ("", "expected KIND:PATH"),
        ("visa", "kind visa needs a path"),
        ("visa:", "kind visa needs a path"),
        ("builtin:/x", "kind builtin takes no path"),
    ],
)
def test_bad_source_of_the_command_line_is_refused_with_a_remedy(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_source(text)
    message = str(caught.value)
    assert message.startswith(f"--source {text!r}: ")
    assert expected in message
    assert "\n" not in message


def test_path_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTS_ROOT", "/data/parts")
    monkeypatch.setenv("HOME", "/home/inspector")
    assert expand_path("${PARTS_ROOT}/a") == Path("/data/parts/a")
    assert expand_path("~/parts") == Path("/home/inspector/parts")


@pytest.mark.parametrize("value", [None, ""])
def test_variable_that_is_unset_or_empty_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("PARTS_ROOT", raising=False)
    if value is not None:
        monkeypatch.setenv("PARTS_ROOT", value)
    with pytest.raises(ConfigError, match="environment variable PARTS_ROOT is not set; export it"):
        expand_path("${PARTS_ROOT}/a")


def test_home_of_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match="~nobody-by-this-name"):
        expand_path("~nobody-by-this-name/parts")
