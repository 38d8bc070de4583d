"""The estimate: measured, of the right order, and without a trace."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from pipeline import synthesis
from pipeline.estimate import measure
from pipeline.generate import prepare
from pipeline.recipe import Recipe, load_recipe
from pipeline.store import read_identity
from tests.pipeline.conftest import digest


def test_disk_of_several_defects_and_kept_stages_is_estimated_too(several: Path, tmp_path: Path) -> None:
    recipe = read_identity(several).recipe
    prepared = prepare(tmp_path / "out", recipe, workers=1)
    assert any(other.trajectory >= 6 for row in prepared.plan for other in row.others), "beyond those that are tried"
    expected = measure(tmp_path / "out", recipe, prepared)
    actual = sum(
        path.stat().st_size for name in ("data", "bank") for path in (several / name).rglob("*") if path.is_file()
    )
    assert 0.5 * actual < expected.bytes < 1.5 * actual


def test_disk_is_estimated_within_half_and_nothing_is_left(
    finished: Path, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    recipe = load_recipe(recipe_file, overrides={})
    prepared = prepare(tmp_path / "out", recipe, workers=1)
    before = digest(tmp_path / "out")
    expected = measure(tmp_path / "out", recipe, prepared)
    assert digest(tmp_path / "out") == before
    assert list(scratch.iterdir()) == []
    actual = sum(
        path.stat().st_size for name in ("data", "bank") for path in (finished / name).rglob("*") if path.is_file()
    )
    assert 0.5 * actual < expected.bytes < 1.5 * actual
    assert expected.seconds == pytest.approx(24 * expected.sample_s + 40 * expected.trajectory_s)
    assert 0.0 < expected.sample_s < 5.0
    assert 0.0 < expected.trajectory_s < 5.0
    assert 0 < expected.measured <= 24


def test_what_is_timed_is_made_and_not_found(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    finished = synthesis._finished

    def counted(recipe: Recipe, opened: Any, rows: Any) -> Any:
        made.append(len(rows))
        return finished(recipe, opened, rows)

    monkeypatch.setattr(synthesis, "_finished", counted)
    recipe = load_recipe(recipe_file, overrides={})
    expected = measure(tmp_path / "out", recipe, prepare(tmp_path / "out", recipe, workers=1))
    assert sum(made) == 2 * expected.measured
