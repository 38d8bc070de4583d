"""Samples: the same one at a time as in a batch, as they were stored, with attempts that end."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manifests import Corpus
from manifests.records import PlanRow, SampleRecord, SampleStatus, SourceRecord
from manifests.tables import from_table, read_table
from physics.registry import MECHANISMS
from pipeline import synthesis
from pipeline.recipe import Recipe, load_recipe
from pipeline.synthesis import MASK_VALUE, MadeSample, SampleSpec, make_samples


@pytest.fixture(scope="module")
def recipe(recipe_file: Path) -> Recipe:
    return load_recipe(recipe_file, overrides={})


@pytest.fixture(scope="module")
def whole(finished: Path, recipe: Recipe) -> SampleSpec:
    """All 12 samples of a category as one shard."""
    plan = from_table(read_table(finished / "plan.parquet"), PlanRow)
    inventory = from_table(read_table(finished / "inventory.parquet"), SourceRecord)
    rows = tuple(row for row in plan if row.category == "hex_nut")
    return SampleSpec(finished, recipe, rows, {s.index: s for s in inventory if s.category == "hex_nut"})


def make(spec: SampleSpec) -> list[MadeSample]:
    return list(make_samples(spec, defaultdict(float)))


def assert_same(one: MadeSample, other: MadeSample) -> None:
    assert one.record == other.record
    np.testing.assert_array_equal(one.image, other.image, strict=True)
    np.testing.assert_array_equal(one.mask, other.mask, strict=True)
    assert one.fields.keys() == other.fields.keys()
    for name, values in one.fields.items():
        np.testing.assert_array_equal(values, other.fields[name], strict=True)


def test_samples_one_at_a_time_are_those_of_the_batch(whole: SampleSpec) -> None:
    for together, row in zip(make(whole), whole.rows, strict=True):
        (alone,) = make(replace(whole, rows=(row,)))
        assert_same(alone, together)


def test_batches_of_any_size_and_order_give_the_same_samples(
    whole: SampleSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {sample.record.index: sample for sample in make(whole)}
    monkeypatch.setattr(synthesis, "_ROWS_AT_ONCE", 5)
    monkeypatch.setattr(synthesis, "_BATCH_PIXELS", 2 * 64 * 64)
    for sample in make(replace(whole, rows=whole.rows[::-1])):
        assert_same(sample, expected[sample.record.index])


def test_samples_are_those_that_were_stored(whole: SampleSpec, finished: Path) -> None:
    stored = {sample.record.id: sample for sample in Corpus(finished, statuses=None).where(category="hex_nut")}
    for made in make(whole):
        sample = stored[made.record.id]
        assert made.record == sample.record
        np.testing.assert_array_equal(made.image, sample.image)
        np.testing.assert_array_equal(made.mask * np.uint8(MASK_VALUE), sample.mask)
        assert tuple(sample.fields) == MECHANISMS[made.record.mechanism].fields
        assert made.fields.keys() == sample.fields.keys()
        for name, field in sample.fields.items():
            np.testing.assert_array_equal(made.fields[name], field.values.astype(np.float16))


def test_first_attempt_is_the_place_that_was_planned(whole: SampleSpec) -> None:
    strict = whole.recipe.label.model_copy(update={"min_area": 0.01})  # or hardly any would be drawn again
    spec = replace(whole, recipe=whole.recipe.model_copy(update={"label": strict}))
    drawn_again = 0
    for made, row in zip(make(spec), whole.rows, strict=True):
        same = all(getattr(made.record, name) == getattr(row, name) for name in ("angle_deg", "anchor_y", "anchor_x"))
        assert same == (made.record.attempts == 1)
        drawn_again += not same
    assert 0 < drawn_again < len(whole.rows)


def test_trajectory_state_and_turn_stay_as_planned_at_every_attempt(whole: SampleSpec) -> None:
    """Or one could come twice on one photograph."""
    label = whole.recipe.label.model_copy(update={"min_area": 0.5, "max_area": 0.6, "attempts": 3})
    strict = replace(whole, recipe=whole.recipe.model_copy(update={"label": label}))
    fields = ("source", "mechanism", "trajectory", "snapshot", "dihedral", "from_edge", "asked_area", "asked_severity")
    for made, row in zip(make(strict), whole.rows, strict=True):
        assert made.record.attempts == 3
        assert [getattr(made.record, name) for name in fields] == [getattr(row, name) for name in fields]


def test_what_fails_is_drawn_again_as_often_as_allowed_and_no_more(
    whole: SampleSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: Counter[int] = Counter()
    place = synthesis._place

    def counting(recipe: Recipe, ingredients: synthesis._Ingredients, attempt: int) -> synthesis._Placed:
        drawn[ingredients.row.index] += 1
        return place(recipe, ingredients, attempt)

    monkeypatch.setattr(synthesis, "_place", counting)
    label = whole.recipe.label.model_copy(update={"min_area": 0.5, "max_area": 0.6, "attempts": 4})
    strict = replace(whole, recipe=whole.recipe.model_copy(update={"label": label}))
    made_all = make(strict)
    statuses = Counter(made.record.status for made in made_all)
    assert statuses.keys() <= {SampleStatus.AREA_BELOW, SampleStatus.OFF_FOREGROUND}
    assert statuses[SampleStatus.AREA_BELOW] > statuses[SampleStatus.OFF_FOREGROUND]
    for made in made_all:
        assert made.record.attempts == 4
        assert drawn[made.record.index] == 4
        assert not made.mask.any()
        assert not made.fields, "nothing is stored of a defect that is not there"


def test_more_attempts_leave_accepted_samples_as_they_were(whole: SampleSpec) -> None:
    more = whole.recipe.label.model_copy(update={"attempts": whole.recipe.label.attempts + 8})
    patient = replace(whole, recipe=whole.recipe.model_copy(update={"label": more}))
    for one, other in zip(make(whole), make(patient), strict=True):
        assert one.record.status is SampleStatus.OK
        assert_same(one, other)


def test_record_describes_its_sample(whole: SampleSpec) -> None:
    for made in make(whole):
        record: SampleRecord = made.record
        rows, columns = np.nonzero(made.mask)
        box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        assert (record.bbox_y0, record.bbox_x0, record.bbox_y1, record.bbox_x1) == box
        assert record.area_px == made.mask.sum()
        assert record.area_fraction == pytest.approx(made.mask.mean())
        assert 0.0 < record.severity <= 1.0
        assert all(np.isfinite(values).all() for values in made.fields.values())
        assert made.fields.keys() == set(MECHANISMS[record.mechanism].fields)
        if record.mechanism == "fracture":
            assert record.length_px > 0.0
            assert record.relief_px == 0.0
            assert 0.0 < made.fields["opening"].max() <= record.width * 64 * 1.5
            assert made.fields["damage"].min() >= 0.0
            assert made.fields["damage"].max() <= 1.0
        else:
            assert (record.length_px, record.width) == (0.0, 0.0)
            assert record.relief_px > 0.0
            assert made.fields["depth"].max() <= np.float16(record.relief_px), "less where it falls off the part"


def test_centre_and_size_of_the_square_are_where_the_defect_lies(whole: SampleSpec) -> None:
    low, high = whole.recipe.placement.extent
    for made in make(whole):
        record = made.record
        assert low <= record.extent <= high
        reach = 0.5 * record.extent * np.sqrt(2.0) * 64 + 2.0
        for values in made.fields.values():
            y, x = np.nonzero(values)
            assert (np.hypot(y + 0.5 - 64 * record.center_y, x + 0.5 - 64 * record.center_x) <= reach).all()


def test_identity_of_a_shard_covers_its_rows_and_its_sources(whole: SampleSpec) -> None:
    other_row = replace(whole, rows=(whole.rows[0].model_copy(update={"width": 0.5}), *whole.rows[1:]))
    lit = {**whole.sources, 0: whole.sources[0].model_copy(update={"light_y": 0.25})}
    assert len({spec.inputs_sha256 for spec in (whole, other_row, replace(whole, sources=lit))}) == 3
