"""The plan: exact totals, groups that never mix, ids that never meet, cracks that enter where the part ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from manifests.config import PlacementConfig
from pipeline.recipe import Recipe, load_recipe
from manifests.records import PlanRow, SourceRecord, SourceStatus, plan_row_id
from manifests.seeds import Stage, stream
from physics.fracture import starts_at_edge
from physics.placement import Placement
from pipeline.planning import (
    CategorySources,
    allocate,
    bank_size,
    draw_placement,
    make_plan,
    shard_rows,
    trace_outline,
)

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SIZE = 64


def disc(size: int = SIZE) -> NDArray[np.bool_]:
    """A round part in the middle of a picture."""
    yy, xx = np.mgrid[:size, :size] + 0.5
    return np.asarray(np.hypot(yy - size / 2, xx - size / 2) < 0.35 * size)


def category(name: str, number: int, foreground: NDArray[np.bool_] | None = None) -> CategorySources:
    """A category of that many usable photographs."""
    records = [
        SourceRecord(
            dataset="made",
            category=name,
            path=f"{k}.png",
            sha256=f"{name}-{k}",
            bytes=1,
            width_px=SIZE,
            height_px=SIZE,
            channels=1,
            bit_depth=8,
            licence="none",
            status=SourceStatus.OK,
            index=k,
        )
        for k in range(number)
    ]
    part = disc() if foreground is None else foreground
    return CategorySources("made", name, tuple(records), np.repeat(part[None], number, axis=0))


def plan_of(recipe: Recipe, categories: list[CategorySources]) -> list[PlanRow]:
    return make_plan(recipe, categories, {c.key: 1 for c in categories})


def recipe_of(**settings: object) -> Recipe:
    return load_recipe(None, overrides={"size": SIZE, "count": 240, "bank": {"trajectories": 37}, **settings})


# ---------------------------------------------------------------- apportionment

weights = st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e6)), min_size=1, max_size=40).filter(lambda w: sum(w) > 0)


@given(total=st.integers(0, 10**8), shares=weights)
def test_allocation_sums_to_the_total_and_keeps_within_one_of_the_share(total: int, shares: list[float]) -> None:
    counts = allocate(total, shares)
    assert sum(counts) == total
    assert min(counts) >= 0
    exact = np.array(shares) * (total / sum(shares))
    assert np.abs(np.array(counts) - exact).max() < 1.0 + 1e-6
    assert all(count == 0 for count, share in zip(counts, shares, strict=True) if share == 0.0)


@given(total=st.integers(0, 10**6), number=st.integers(1, 50))
def test_equal_weights_differ_by_at_most_one_and_the_first_get_more(total: int, number: int) -> None:
    counts = allocate(total, [0.1] * number)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] - counts[-1] <= 1


@given(total=st.integers(0, 10**6), shares=weights, factor=st.sampled_from([0.5, 2.0, 1024.0]))
def test_allocation_depends_on_proportions_only(total: int, shares: list[float], factor: float) -> None:
    assert allocate(total, [share * factor for share in shares]) == allocate(total, shares)


@pytest.mark.parametrize("shares", [[], [0.0, 0.0], [1.0, -1.0]])
def test_weights_without_meaning_are_refused(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="non-negative and not all zero"):
        allocate(10, shares)


def test_reference_recipe_shares_115987_samples_over_30_categories() -> None:
    recipe = load_recipe(RECIPES / "maphc2f-115987.yaml", overrides={})
    names = [(source.dataset, name) for source in recipe.sources for name in source.categories]
    assert len(set(names)) == len(names) == 30
    assert recipe.allocation == "equal"
    counts = allocate(recipe.count, [1.0] * len(names))
    assert sum(counts) == 115_987
    assert sorted(set(counts)) == [3866, 3867]
    assert counts.count(3867) == 7


def test_plan_holds_exactly_the_count_over_30_categories() -> None:
    recipe = load_recipe(RECIPES / "maphc2f-115987.yaml", overrides={"count": 1009, "size": SIZE})
    plan = plan_of(recipe, [category(f"c{k:02d}", 1 + k % 3) for k in range(30)])
    assert [row.index for row in plan] == list(range(1009))
    by_category = [sum(row.category == f"c{k:02d}" for row in plan) for k in range(30)]
    assert by_category == allocate(1009, [1.0] * 30)


def test_proportional_allocation_follows_the_photographs() -> None:
    plan = plan_of(recipe_of(count=100, allocation="proportional"), [category("a", 1), category("b", 9)])
    assert sum(row.category == "a" for row in plan) == 10


def test_categories_without_a_sample_are_planned_none() -> None:
    plan = plan_of(recipe_of(count=2), [category(name, 2) for name in "abc"])
    assert [row.category for row in plan] == ["a", "b"]


# ---------------------------------------------------------------- rows


def test_same_recipe_gives_the_same_plan_and_another_seed_another() -> None:
    categories = [category("a", 12), category("b", 5)]
    assert plan_of(recipe_of(seed=0), categories) == plan_of(recipe_of(), categories)
    other = plan_of(recipe_of(seed=1), categories)
    assert not any(a.center_y == b.center_y for a, b in zip(plan_of(recipe_of(), categories), other, strict=True))


def test_ids_are_unique_and_are_the_content() -> None:
    plan = plan_of(recipe_of(), [category("a", 12), category("b", 5)])
    assert len({row.id for row in plan}) == len(plan)
    assert all(row.id == plan_row_id(row.model_dump(mode="json")) for row in plan)
    assert len({row.seed_path for row in plan}) == len(plan)


@pytest.mark.parametrize("groups", [2, 7, 10, 37])
def test_no_source_and_no_trajectory_is_in_two_groups(groups: int) -> None:
    recipe = recipe_of(bank={"trajectories": 37, "groups": groups})
    plan = plan_of(recipe, [category("a", 12), category("b", 1), category("c", 30)])
    of_source: dict[tuple[str, int], set[int]] = {}
    of_trajectory: dict[int, set[int]] = {}
    for row in plan:
        of_source.setdefault((row.category, row.source), set()).add(row.group)
        of_trajectory.setdefault(row.trajectory, set()).add(row.group)
    assert all(len(seen) == 1 for seen in (*of_source.values(), *of_trajectory.values()))
    assert all(0 <= row.group < groups for row in plan)
    assert len({row.group for row in plan}) == min(groups, 30)


def test_every_source_is_used_as_often_as_any_other() -> None:
    plan = plan_of(recipe_of(count=50), [category("a", 12)])
    uses = np.bincount([row.source for row in plan], minlength=12)
    assert uses.max() - uses.min() <= 1


def test_rows_fill_shards_in_order() -> None:
    recipe = recipe_of(store={"shard_images": 7})
    plan = plan_of(recipe, [category("a", 12), category("b", 5)])
    for name in "ab":
        rows = [row for row in plan if row.category == name]
        assert [row.row for row in rows] == list(range(120))
        assert [row.shard for row in rows] == [k // 7 for k in range(120)]


def test_drawn_values_keep_to_the_recipe() -> None:
    placement = {"extent": [0.5, 0.6], "width": [0.01, 0.02], "growth": [0.5, 0.75]}
    recipe = recipe_of(placement=placement)
    plan = plan_of(recipe, [category("a", 12)])
    assert all(0.5 <= row.extent <= 0.6 for row in plan)
    assert all(0.01 <= row.width <= 0.02 for row in plan)
    assert {row.snapshot for row in plan} == {10, 11, 12, 13, 14}
    assert all(0 <= row.trajectory < 37 for row in plan)
    assert {row.dihedral for row in plan} == set(range(8))


def test_growth_1_is_the_last_snapshot() -> None:
    plan = plan_of(recipe_of(placement={"growth": [1.0, 1.0]}), [category("a", 3)])
    assert {row.snapshot for row in plan} == {19}


@pytest.mark.parametrize(("count", "expected"), [(1, 20), (240, 20), (2400, 200), (115_987, 2000)])
def test_bank_grows_with_the_count_between_bounds(count: int, expected: int) -> None:
    assert bank_size(load_recipe(None, overrides={"count": count})) == expected


def test_bank_has_a_trajectory_for_every_group() -> None:
    assert bank_size(load_recipe(None, overrides={"count": 10, "bank": {"groups": 50}})) == 50


@pytest.mark.parametrize(("size", "channels", "expected"), [(64, 1, 256), (256, 3, 254), (1024, 3, 15), (4096, 3, 1)])
def test_shard_holds_about_50_megabytes(size: int, channels: int, expected: int) -> None:
    assert shard_rows(load_recipe(None, overrides={"size": size}), channels) == expected


# ---------------------------------------------------------------- places


@pytest.mark.parametrize("part", ["disc", "whole", "half"])
def test_crack_that_enters_has_its_mouth_on_the_parts_border_and_runs_inwards(part: str) -> None:
    foreground = np.ones((SIZE, SIZE), dtype=np.bool_) if part == "whole" else disc()
    if part == "half":
        foreground = np.zeros((SIZE, SIZE), dtype=np.bool_)
        foreground[:, :30] = True
    recipe = recipe_of()
    entering = [starts_at_edge(recipe.fracture, stream(recipe.seed, Stage.BANK, t)) for t in range(37)]
    assert 5 < sum(entering) < 32
    inside_px = np.asarray(ndimage.distance_transform_edt(np.pad(foreground, 1)))[1:-1, 1:-1]
    rows = [row for row in plan_of(recipe, [category("a", 12, foreground)]) if entering[row.trajectory]]
    assert len(rows) > 40
    for row in rows:
        center = np.array([row.center_y, row.center_x]) * SIZE
        forward = Placement((0.0, 0.0), row.extent * SIZE, row.dihedral, row.angle_deg).forward()
        mouth = center - forward @ np.array([0.0, 0.46])  # 4 % of the square lies beyond the edge
        y, x = np.clip(np.floor(mouth).astype(int), 0, SIZE - 1)
        assert inside_px[y, x] < 1.5, "a pixel of the part that touches what is not part"
        ahead = mouth + 4.0 * forward[:, 1] / (row.extent * SIZE)
        y, x = np.clip(np.floor(ahead).astype(int), 0, SIZE - 1)
        assert inside_px[y, x] > 1.0


def test_crack_that_does_not_enter_is_centred_on_the_part(rng: np.random.Generator) -> None:
    foreground = disc()
    outline = trace_outline(foreground)
    for _ in range(100):
        drawn = draw_placement(rng, PlacementConfig(), foreground, outline, from_edge=False)
        assert foreground[int(drawn.center_y * SIZE), int(drawn.center_x * SIZE)]
        assert -45.0 <= drawn.angle_deg <= 45.0


def test_outline_lies_on_the_border_and_points_inwards() -> None:
    outline = trace_outline(disc())
    assert 100 < len(outline.points) <= 256
    towards_middle = SIZE / 2 - outline.points
    towards_middle /= np.linalg.norm(towards_middle, axis=1, keepdims=True)
    assert (np.sum(towards_middle * outline.inward, axis=1) > 0.95).all()
    np.testing.assert_allclose(np.linalg.norm(outline.inward, axis=1), 1.0)


@pytest.mark.parametrize("from_edge", [True, False])
def test_empty_foreground_still_gives_a_place(from_edge: bool, rng: np.random.Generator) -> None:
    nothing = np.zeros((SIZE, SIZE), dtype=np.bool_)
    drawn = draw_placement(rng, PlacementConfig(), nothing, trace_outline(nothing), from_edge=from_edge)
    assert np.isfinite([drawn.center_y, drawn.center_x, drawn.angle_deg, drawn.width]).all()


def test_part_of_a_single_pixel_is_found(rng: np.random.Generator) -> None:
    speck = np.zeros((SIZE, SIZE), dtype=np.bool_)
    speck[50, 3] = True
    drawn = draw_placement(rng, PlacementConfig(), speck, trace_outline(speck), from_edge=False)
    assert (int(drawn.center_y * SIZE), int(drawn.center_x * SIZE)) == (50, 3)
