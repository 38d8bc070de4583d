"""Samples: the same one at a time as in a batch, as they were stored, with attempts that end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from manifests import Corpus
from manifests.corpus import read_array
from manifests.errors import MaphError
from manifests.policy import MechanismPolicy, PlacePolicy, SamplingPolicy, at_border
from manifests.records import PlanRow, SampleRecord, SampleStatus, SourceRecord
from manifests.tables import from_table, read_table
from physics.registry import MECHANISMS
from pipeline import attempt, synthesis
from pipeline.recipe import Recipe
from pipeline.store import read_identity
from pipeline.synthesis import MASK_VALUE, MadeSample, SampleSpec, make_samples
from refine import devices
from refine.passes import DefectInputs, RefinedBatch


def one_shard(out: Path) -> SampleSpec:
    """All 12 samples of a category as one shard."""
    plan = from_table(read_table(out / "plan.parquet"), PlanRow)
    inventory = from_table(read_table(out / "inventory.parquet"), SourceRecord)
    rows = tuple(row for row in plan if row.category == "hex_nut")
    return SampleSpec(out, read_identity(out).recipe, rows, {s.index: s for s in inventory if s.category == "hex_nut"})


@pytest.fixture(scope="module")
def whole(finished: Path) -> SampleSpec:
    """With one defect in each picture."""
    return one_shard(finished)


@pytest.fixture(scope="module")
def many(several: Path) -> SampleSpec:
    """With one to four defects in each picture, and all stages kept."""
    return one_shard(several)


@pytest.fixture(params=["whole", "many"])
def spec(request: pytest.FixtureRequest) -> SampleSpec:
    """Either."""
    found: SampleSpec = request.getfixturevalue(request.param)
    return found


def make(spec: SampleSpec) -> list[MadeSample]:
    return list(make_samples([spec]))


def photograph(spec: SampleSpec, made: MadeSample) -> NDArray[Any]:
    """What the sample was made from."""
    row = made.record.source
    return np.asarray(read_array(spec.out, "data", spec.key, "source", row, row + 1)[0])


def with_label(spec: SampleSpec, **label: object) -> SampleSpec:
    changed = spec.recipe.label.model_copy(update=label)
    return replace(spec, recipe=spec.recipe.model_copy(update={"label": changed}))


def assert_same(one: MadeSample, other: MadeSample) -> None:
    assert one.record == other.record
    np.testing.assert_array_equal(one.image, other.image, strict=True)
    np.testing.assert_array_equal(one.instance, other.instance, strict=True)
    for mine, theirs in ((one.fields, other.fields), (one.stages, other.stages)):
        assert mine.keys() == theirs.keys()
        for name, values in mine.items():
            np.testing.assert_array_equal(values, theirs[name], strict=True)


def test_samples_one_at_a_time_are_those_of_the_batch(spec: SampleSpec) -> None:
    for together, row in zip(make(spec), spec.rows, strict=True):
        (alone,) = make(replace(spec, rows=(row,)))
        assert_same(alone, together)


def test_batches_of_any_size_and_order_give_the_same_samples(spec: SampleSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {sample.record.index: sample for sample in make(spec)}
    monkeypatch.setattr(synthesis, "_PIXELS_AT_ONCE", 5 * 64 * 64)
    monkeypatch.setattr(attempt, "_BATCH_VALUES", 2 * 64 * 64)
    for sample in make(replace(spec, rows=spec.rows[::-1])):
        assert_same(sample, expected[sample.record.index])


def test_what_is_hidden_as_rendered_leaves_the_samples_beside_it_as_they_are(spec: SampleSpec) -> None:
    """Some of a batch go no further than render: the others, and they themselves, are as they are alone."""
    usual = with_label(spec, attempts=1)
    seen = [sample.record.visibility for sample in make(usual) if sample.record.status is SampleStatus.OK]
    least = float(np.median(seen))
    strict = with_label(usual, least_visibility=least)
    together = make(strict)
    hidden = [sample for sample in together if sample.record.status is SampleStatus.HIDDEN]
    assert sum(sample.record.status is SampleStatus.OK for sample in together) >= len(seen) // 2
    assert any(sample.record.cycles == 0 for sample in hidden), "or all went through the passes"
    for sample in hidden:
        assert 0 < sample.record.visibility < least
        np.testing.assert_array_equal(sample.image, photograph(spec, sample))
        assert not sample.mask.any()
    for sample, row in zip(together, strict.rows, strict=True):
        (alone,) = make(replace(strict, rows=(row,)))
        assert_same(alone, sample)


def test_a_defect_that_does_not_show_at_all_as_rendered_is_invisible(spec: SampleSpec) -> None:
    blind = with_label(spec, visible_threshold=128, least_visibility=1.5, attempts=1)
    found = {sample.record.status for sample in make(blind)}
    assert SampleStatus.INVISIBLE in found
    assert found <= {SampleStatus.INVISIBLE, SampleStatus.OFF_FOREGROUND}


_NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU in this machine")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=_NO_GPU)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each device that is there, as that of this process."""
    devices.use_device(request.param)
    yield request.param
    devices.use_device("cpu")


def short_of_memory(monkeypatch: pytest.MonkeyPatch, *, most: int) -> list[int]:
    """Let a batch of more windows fail as one does on a full device; which batches were tried."""
    tried: list[int] = []
    refine = attempt.refine_defects

    def refuse(inputs: DefectInputs, **options: Any) -> RefinedBatch:
        tried.append(len(inputs.source))
        if len(inputs.source) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return refine(inputs, **options)

    monkeypatch.setattr(attempt, "refine_defects", refuse)
    return tried


@pytest.mark.parametrize("most", [4, 2, 1])
def test_batch_too_large_for_the_memory_is_halved_to_the_same_samples(
    most: int, device: str, whole: SampleSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "_BATCH_VALUES", 8 * 256 * 256)
    expected = make(whole)
    tried = short_of_memory(monkeypatch, most=most)
    for made, usual in zip(make(whole), expected, strict=True):
        assert_same(made, usual)
    refused = [k for k, number in enumerate(tried) if number > most]
    assert refused, "the first batch was too large"
    assert [tried[k + 1] for k in refused] == [tried[k] // 2 for k in refused]


def test_device_with_no_room_for_one_window_is_an_error_that_says_what_to_do(
    device: str, whole: SampleSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_of_memory(monkeypatch, most=0)
    with pytest.raises(MaphError, match=rf"{device}: has too little free memory for one window of \d+ px; .* --device"):
        make(whole)


def test_shards_made_together_are_what_each_is_alone(whole: SampleSpec) -> None:
    parts = [replace(whole, rows=whole.rows[:2]), replace(whole, rows=whole.rows[2:])]
    for one, other in zip(make_samples(parts), make(whole), strict=True):
        assert_same(one, other)


def test_small_shards_are_made_together_and_shards_of_a_size_asked_for_alone(whole: SampleSpec) -> None:
    shards = [replace(whole, rows=whole.rows[k : k + 1]) for k in range(4)]
    assert synthesis.made_together(whole.recipe, shards, workers=1) == [(shard,) for shard in shards]
    free = whole.recipe.model_copy(update={"store": whole.recipe.store.model_copy(update={"shard_images": "auto"})})
    assert synthesis.made_together(free, shards, workers=1) == [tuple(shards)]
    assert synthesis.made_together(free, shards, workers=2) == [tuple(shards[:2]), tuple(shards[2:])]


@pytest.mark.parametrize(("shards", "rows", "workers"), [(400, 1, 2), (30, 64, 2), (90, 32, 5), (7, 200, 3)])
def test_groups_become_smaller_so_that_workers_end_together(
    whole: SampleSpec, shards: int, rows: int, workers: int
) -> None:
    recipe = whole.recipe.model_copy(update={"store": whole.recipe.store.model_copy(update={"shard_images": "auto"})})
    recipe = recipe.model_copy(update={"size": 256})
    specs = [replace(whole, recipe=recipe, rows=whole.rows[:1] * rows) for _ in range(shards)]
    groups = synthesis.made_together(recipe, specs, workers=workers)
    assert [spec for group in groups for spec in group] == specs
    sizes = [sum(len(spec.rows) for spec in group) for group in groups]
    assert max(sizes) <= max(256, rows)
    free = [0] * workers  # samples that each worker has made when it asks for the next group
    for size in sizes:
        free[free.index(min(free))] += size
    assert max(free) - min(free) <= max(64, rows), "no worker waits for longer than the smallest group takes"


def hidden(made: attempt.Result, visibility: float, status: SampleStatus) -> attempt.Result:
    assert made.refined is not None
    return replace(made, status=status, refined=replace(made.refined, visibility=visibility))


def test_next_draw_of_a_hidden_relief_is_as_much_steeper_as_its_visibility_fell_short(whole: SampleSpec) -> None:
    opened = synthesis._open([(whole, row) for row in whole.rows], {})
    wanted = [opened.defect(row, 0, []) for row in whole.rows]
    made = next(iter(attempt.attempt_defects(whole.recipe, wanted, 0)))
    ranges = [
        hidden(made, visibility, SampleStatus.HIDDEN).ingredients_again(1.0).steepness for visibility in (0.9, 0.6, 0.3)
    ]
    assert ranges == [(pytest.approx(1.5 / 0.9), 4.5), (pytest.approx(2.5), 4.5), (4.5, 4.5)]
    unseen = hidden(made, 0.0, SampleStatus.INVISIBLE).ingredients_again(1.0)
    assert unseen.steepness[0] > 1
    again = hidden(replace(made, placed=attempt.place(whole.recipe, unseen, 1)), 0.9, SampleStatus.HIDDEN)
    assert again.ingredients_again(1.0).steepness[0] >= unseen.steepness[0]
    assert hidden(made, 0.9, SampleStatus.AREA_BELOW).ingredients_again(1.0) is made.placed.ingredients


def test_a_relief_hidden_at_three_places_as_steep_as_can_be_is_given_up(whole: SampleSpec) -> None:
    opened = synthesis._open([(whole, row) for row in whole.rows], {})
    relief = next(row for row in whole.rows if row.mechanism == "pitting")
    made = next(iter(attempt.attempt_defects(whole.recipe, [opened.defect(relief, 0, [])], 0)))
    draws = []
    for number in range(1, 6):
        made = hidden(made, 0.1, SampleStatus.HIDDEN)
        draws.append((made.placed.steepness, made.is_hopeless))
        made = replace(made, placed=attempt.place(whole.recipe, made.ingredients_again(1.5), number))
    assert draws == [(1.0, False), (4.5, False), (4.5, False), (4.5, True), (4.5, True)]
    assert not replace(made, status=SampleStatus.AREA_BELOW).is_hopeless
    crack = next(row for row in whole.rows if row.mechanism == "fracture")
    opening = next(iter(attempt.attempt_defects(whole.recipe, [opened.defect(crack, 0, [])], 0)))
    steep = replace(opening.placed, steepness=4.5, ingredients=replace(opening.placed.ingredients, steepest_draws=9))
    assert not hidden(replace(opening, placed=steep), 0.1, SampleStatus.HIDDEN).is_hopeless, "its steepness is nothing"


def test_later_draws_follow_the_sampling_policy_as_the_plan_does(whole: SampleSpec) -> None:
    row = next(row for row in whole.rows if row.mechanism == "pitting" and not row.from_edge)
    wanted = synthesis._open([(whole, row)], {}).defect(row, 0, [])
    found = {}
    for rare, often in ((0.05, 20.0), (20.0, 0.05)):
        own = MechanismPolicy(area=(often, rare, rare, rare), place=PlacePolicy(border=rare, inside=often))
        policy = SamplingPolicy(corpus="last", samples=9, mechanisms={"pitting": own})
        recipe = whole.recipe.model_copy(update={"policy": policy})
        draws = [attempt.place(recipe, wanted, k) for k in range(2, 42)]
        at = [at_border(placed.drawn.anchor_y, placed.drawn.anchor_x) for placed in draws]
        found[rare] = np.mean(at), np.median([placed.extent for placed in draws])
    (inside, small), (border, mixed) = found.values()
    assert inside == 0
    assert border > 0.2, "hardly any of a nut lies at the border"
    assert small < 0.8 * mixed, "the smallest quarter of the areas, against the three others"


def test_samples_are_those_that_were_stored(spec: SampleSpec) -> None:
    stored = {sample.record.id: sample for sample in Corpus(spec.out, statuses=None).where(category="hex_nut")}
    for made in make(spec):
        sample = stored[made.record.id]
        assert made.record == sample.record
        np.testing.assert_array_equal(made.image, sample.image)
        np.testing.assert_array_equal(made.mask * np.uint8(MASK_VALUE), sample.mask)
        np.testing.assert_array_equal(made.instance, sample.instances)
        present = [defect.mechanism for defect in made.record.defects if defect.instance]
        assert set(sample.fields) == {name for mechanism in present for name in MECHANISMS[mechanism].fields}
        assert made.fields.keys() == sample.fields.keys()
        for name, field in sample.fields.items():
            np.testing.assert_array_equal(made.fields[name], field.values.astype(np.float16))
        assert made.stages.keys() == sample.stages.keys() == set(spec.recipe.store.stages)
        for name, picture in sample.stages.items():
            np.testing.assert_array_equal(made.stages[name], picture)


def test_first_attempt_is_the_place_that_was_planned(whole: SampleSpec) -> None:
    strict = with_label(whole, min_area=0.01)  # or hardly any would be drawn again
    drawn_again = 0
    for made, row in zip(make(strict), whole.rows, strict=True):
        same = all(getattr(made.record, name) == getattr(row, name) for name in ("angle_deg", "anchor_y", "anchor_x"))
        assert same == (made.record.attempts == 1)
        drawn_again += not same
    assert 0 < drawn_again < len(whole.rows)


def test_trajectory_state_and_turn_stay_as_planned_at_every_attempt(whole: SampleSpec) -> None:
    """Or one could come twice on one photograph."""
    strict = with_label(whole, min_area=0.5, max_area=0.6, attempts=3)
    fields = ("source", "mechanism", "trajectory", "snapshot", "dihedral", "from_edge", "asked_area", "asked_severity")
    for made, row in zip(make(strict), whole.rows, strict=True):
        assert made.record.attempts == 3
        assert [getattr(made.record, name) for name in fields] == [getattr(row, name) for name in fields]


def test_what_fails_is_drawn_again_as_often_as_allowed_and_no_more(
    whole: SampleSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: Counter[int] = Counter()
    place = attempt.place

    def counting(recipe: Recipe, ingredients: attempt.Ingredients, number: int) -> attempt.Placed:
        drawn[ingredients.row.index] += 1
        return place(recipe, ingredients, number)

    monkeypatch.setattr(attempt, "place", counting)
    made_all = make(with_label(whole, min_area=0.5, max_area=0.6, attempts=4))
    statuses = Counter(made.record.status for made in made_all)
    assert statuses.keys() <= {SampleStatus.AREA_BELOW, SampleStatus.OFF_FOREGROUND, SampleStatus.INVISIBLE}
    assert statuses[SampleStatus.AREA_BELOW] > len(made_all) / 2
    for made in made_all:
        assert made.record.attempts == 4
        assert drawn[made.record.index] == 4
        assert not made.mask.any()
        assert not made.fields, "nothing is stored of a defect that is not there"


def test_more_attempts_leave_accepted_samples_as_they_were(whole: SampleSpec) -> None:
    patient = with_label(whole, attempts=whole.recipe.label.attempts + 8)
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
    one_more = whole.rows[0].model_copy(update={"others": whole.rows[1].planned()})
    lit, noisy = (
        {**whole.sources, 0: whole.sources[0].model_copy(update={name: 0.25})} for name in ("light_y", "noise")
    )
    specs = [whole, other_row, replace(whole, rows=(one_more, *whole.rows[1:]))]
    specs += [replace(whole, sources=sources) for sources in (lit, noisy)]
    assert len({spec.inputs_sha256 for spec in specs}) == 5


def test_defects_of_a_picture_are_those_planned_in_that_order(many: SampleSpec) -> None:
    planned = ("mechanism", "trajectory", "snapshot", "dihedral", "from_edge", "asked_area", "asked_severity")
    numbers: Counter[int] = Counter()
    for made, row in zip(make(many), many.rows, strict=True):
        for defect, wanted in zip(made.record.defects, row.planned(), strict=True):
            assert [getattr(defect, name) for name in planned] == [getattr(wanted, name) for name in planned]
            assert (defect.angle_deg != wanted.angle_deg) == (defect.attempts > 1)
        numbers[len(made.record.defects)] += 1
    assert (min(numbers), max(numbers)) == (1, 4)


def test_instances_are_the_defects_of_the_record_and_lie_apart(many: SampleSpec) -> None:
    pairs = 0
    for made in make(many):
        present = {k for k, defect in enumerate(made.record.defects, start=1) if defect.status is SampleStatus.OK}
        assert set(np.unique(made.instance)) - {0} == present
        assert {defect.instance for defect in made.record.defects} - {0} == present
        for k in present:
            defect, mine = made.record.defects[k - 1], made.instance == k
            rows, columns = np.nonzero(mine)
            box = (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
            assert (defect.bbox_y0, defect.bbox_x0, defect.bbox_y1, defect.bbox_x1) == box
            assert defect.area_px == len(rows)
            others = np.argwhere((made.instance > 0) & ~mine)
            if len(others):
                gaps = np.abs(np.argwhere(mine)[:, None] - others[None]).max(axis=2)
                assert gaps.min() > 2, "two sound pixels between them at least"
                pairs += 1
    assert pairs > 6


def test_several_defects_are_each_what_it_is_alone(many: SampleSpec) -> None:
    """The first of a picture knows nothing of those after it."""
    for made, row in zip(make(many), many.rows, strict=True):
        (alone,) = make(replace(many, rows=(row.model_copy(update={"others": ()}),)))
        assert alone.record.defects[0] == made.record.defects[0]
        own = alone.instance == 1
        np.testing.assert_array_equal(made.image[own], alone.image[own])
        np.testing.assert_array_equal(made.instance == 1, own)


def test_changed_pixels_of_two_defects_never_meet(many: SampleSpec) -> None:
    """Two unchanged pixels lie between, so they stay apart with one of them filled in."""
    found = 0
    for made in make(many):
        changed = (made.image != photograph(many, made)).any(axis=2)
        filled = ndimage.binary_dilation(changed, structure=np.ones((2, 2), dtype=bool))
        regions, number = ndimage.label(filled, np.ones((3, 3)))
        for k in range(1, number + 1):
            inside = set(np.unique(made.instance[regions == k])) - {0}
            assert len(inside) <= 1
            found += len(inside)
    assert found > 15


def test_fields_are_those_of_all_defects_that_are_there(many: SampleSpec) -> None:
    for made in make(many):
        there = [defect for defect in made.record.defects if defect.instance]
        assert made.fields.keys() == {name for defect in there for name in MECHANISMS[defect.mechanism].fields}
        for defect in there:
            field = {"fracture": "opening", "pitting": "depth"}[defect.mechanism]
            assert made.fields[field][made.instance == defect.instance].any()


def test_sample_record_sums_up_its_defects(many: SampleSpec) -> None:
    for made in make(many):
        record, there = made.record, [defect for defect in made.record.defects if defect.instance]
        assert record.area_px == sum(d.area_px for d in there) == (made.instance > 0).sum()
        assert record.length_px == pytest.approx(sum(d.length_px for d in there))
        assert record.relief_px == max(d.relief_px for d in there)
        assert (record.residual, record.cycles) == (max(d.residual for d in there), max(d.cycles for d in there))
        assert (record.bbox_y0, record.bbox_x1) == (min(d.bbox_y0 for d in there), max(d.bbox_x1 for d in there))
        change = np.abs(made.image.astype(int) - photograph(many, made).astype(int)).max(axis=2)
        seen = (change >= many.recipe.label.visible_threshold) & (made.instance > 0)
        assert record.contrast == pytest.approx(change[seen].mean())
        for d in there:
            assert d.contrast == pytest.approx(change[seen & (made.instance == d.instance)].mean())


def test_mask_of_all_defects_together_keeps_the_upper_bound(many: SampleSpec) -> None:
    made = make(with_label(many, max_area=0.03, attempts=4))
    assert all(sample.record.area_fraction <= 0.03 for sample in made)
    above = [d for sample in made for d in sample.record.defects[1:] if d.status is SampleStatus.AREA_ABOVE]
    assert any(defect.asked_area < 0.03 for defect in above), "alone it would be allowed"


def test_picture_goes_on_with_the_defects_that_stand_and_its_columns_are_those_of_the_first(many: SampleSpec) -> None:
    """Cracks are too thin for this bound, and pits are not."""
    without_first = 0
    for sample in make(with_label(many, min_area=0.012, attempts=2)):
        there = [defect for defect in sample.record.defects if defect.status is SampleStatus.OK]
        leading = (there or sample.record.defects)[0]
        for name in ("status", "mechanism", "trajectory", "anchor_y", "extent", "severity", "attempts"):
            assert getattr(sample.record, name) == getattr(leading, name)
        without_first += bool(there) and leading is not sample.record.defects[0]
        if not there:
            for picture in (sample.image, *sample.stages.values()):
                np.testing.assert_array_equal(picture, photograph(many, sample))
            assert not sample.instance.any()
            assert (sample.record.faint_px, sample.record.area_px) == (0, 0)
    assert without_first > 0


def test_defect_beside_which_no_place_is_free_is_crowded(many: SampleSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.composition._APART_PX", 64)
    statuses: Counter[SampleStatus] = Counter()
    for made in make(with_label(many, attempts=3, least_visibility=0.0)):
        first, *others = made.record.defects
        assert first.instance == 1
        statuses.update(defect.status for defect in others)
        assert all((defect.instance, defect.area_px, defect.attempts) == (0, 0, 3) for defect in others)
        assert set(np.unique(made.instance)) == {0, 1}
    assert statuses.keys() <= {SampleStatus.CROWDED, SampleStatus.OFF_FOREGROUND}, "the part's edge is met by chance"
    assert statuses[SampleStatus.CROWDED] > statuses[SampleStatus.OFF_FOREGROUND]


def test_stages_differ_and_each_keeps_the_photograph_where_there_is_no_defect(many: SampleSpec) -> None:
    for made, row in zip(make(many), many.rows, strict=True):
        sample = next(s for s in Corpus(many.out) if s.record.id == row.id)
        assert tuple(sample.stages) == ("paste", "render", "npcf"), "in the order of the passes, not of the recipe"
        windows = np.zeros((64, 64), dtype=bool)
        for defect in made.record.defects:
            if defect.instance:
                y, x, side = defect.window_y, defect.window_x, defect.window_side
                windows[y : y + side, x : x + side] = True
        for picture in (*made.stages.values(), made.image):
            changed = (picture != sample.source).any(axis=2)
            assert changed.any()
            assert not (changed & ~(windows & sample.foreground)).any()
        for one, other in ((made.stages["paste"], made.stages["render"]), (made.stages["render"], made.image)):
            assert (one != other).any()


def test_stages_change_nothing_of_the_picture(many: SampleSpec) -> None:
    store = many.recipe.store.model_copy(update={"stages": ()})
    without = replace(many, recipe=many.recipe.model_copy(update={"store": store}))
    for one, other in zip(make(many), make(without), strict=True):
        assert one.record == other.record
        assert not other.stages
