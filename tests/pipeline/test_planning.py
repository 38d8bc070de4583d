"""The plan: exact totals, groups that never mix, ids that never meet, cracks that enter where the part ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage, stats

from manifests.distributions import Distribution
from manifests.errors import ConfigError
from manifests.policy import PlacePolicy, at_border
from manifests.records import PlanRow, SourceRecord, SourceStatus, plan_row_id
from physics.placement import Placement
from physics.registry import MECHANISMS
from pipeline.inventory import find_categories
from pipeline.planning import (
    CategorySources,
    DrawnPlacement,
    allocate,
    bank_sizes,
    category_rows,
    draw_placement,
    enters_at_edge,
    make_plan,
    opening_width,
    shard_rows,
    trace_outline,
)
from pipeline.recipe import Recipe, load_recipe
from pipeline.sources.builtin import BUILTIN_CATEGORIES, scale_test_sources

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
    return list(make_plan(recipe, categories, {c.key: 1 for c in categories}))


def recipe_of(**settings: object) -> Recipe:
    usual = {"size": SIZE, "count": 240, "bank": {"trajectories": 37}, "mechanisms": {"fracture": {}, "pitting": {}}}
    return load_recipe(None, overrides={**usual, **settings})


def policy_of(**mechanisms: object) -> dict[str, object]:
    """A sampling policy, as a recipe has it."""
    return {"corpus": "last", "samples": 9, "mechanisms": mechanisms}


def drawn_of(row: PlanRow) -> DrawnPlacement:
    return DrawnPlacement(row.dihedral, row.angle_deg, row.from_edge, row.anchor_y, row.anchor_x, row.width)


def combinations(plan: list[PlanRow]) -> list[tuple[object, ...]]:
    """What may not come twice: a state of a trajectory, in one turn, on one photograph."""
    return [
        (row.dataset, row.category, row.source, d.mechanism, d.trajectory, d.snapshot, d.dihedral)
        for row in plan
        for d in row.planned()
    ]


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


def test_a_scale_test_has_as_many_categories_as_the_reference_recipe() -> None:
    sources = [source.model_dump(exclude_none=True) for source in scale_test_sources()]
    recipe = load_recipe(RECIPES / "maphc2f-115987.yaml", overrides={"sources": sources})
    found = find_categories(recipe)
    assert len({(category.dataset, category.category) for category in found}) == len(found) == 30
    assert {category.category for category in found} == set(BUILTIN_CATEGORIES)
    assert recipe.count == 115_987


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
    assert not any(a.angle_deg == b.angle_deg for a, b in zip(plan_of(recipe_of(), categories), other, strict=True))


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
    of_trajectory: dict[tuple[str, int], set[int]] = {}
    for row in plan:
        of_source.setdefault((row.category, row.source), set()).add(row.group)
        of_trajectory.setdefault((row.mechanism, row.trajectory), set()).add(row.group)
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
    asked = {
        "severity": {"low": 0.5, "high": 0.75},
        "area": {"kind": "loguniform", "low": 0.003, "high": 0.004},
        "width": {"low": 0.01, "high": 0.02},
        "snapshots": 20,
    }
    plan = plan_of(recipe_of(mechanisms={"fracture": asked}), [category("a", 12)])
    assert all(0.5 <= row.asked_severity <= 0.75 for row in plan)
    assert all(0.003 <= row.asked_area <= 0.004 for row in plan)
    assert all(0.01 <= row.width <= 0.02 for row in plan)
    assert {row.snapshot for row in plan} == {9, 10, 11, 12, 13, 14}
    assert all(0 <= row.trajectory < 37 for row in plan)
    assert {row.dihedral for row in plan} == set(range(8))


def test_asked_area_and_severity_are_spread_as_the_recipe_says() -> None:
    recipe = recipe_of(count=4000, bank={"trajectories": "auto"})
    plan = plan_of(recipe, [category("a", 200)])
    for name in recipe.mechanism_weights():
        params, rows = recipe.params(name), [row for row in plan if row.mechanism == name]
        for asked, got in (
            (params.area, [row.asked_area for row in rows]),
            (params.severity, [row.asked_severity for row in rows]),
        ):
            gap = np.abs(asked.cdf(np.sort(got)) - (np.arange(len(got)) + 0.5) / len(got)).max()
            assert gap < 1.95 / np.sqrt(len(got)), "Kolmogorov's bound, passed by chance once in 1,000"


def test_severity_1_is_the_last_snapshot() -> None:
    whole = {"severity": {"low": 1.0, "high": 1.0}, "snapshots": 20}
    plan = plan_of(recipe_of(mechanisms={"fracture": whole}), [category("a", 30)])
    assert {row.snapshot for row in plan} == {19}


@pytest.mark.parametrize("low", [1e-6, 0.05, 0.1, 0.25, 0.3, 0.5, 0.7, 0.95, 1.0])
def test_snapshot_is_the_nearest_to_the_severity_asked_for(low: float) -> None:
    """Of 20 evenly spaced states the first has come 1/20."""
    narrow = {"severity": {"low": low, "high": low}, "snapshots": 20}
    plan = plan_of(recipe_of(count=40, mechanisms={"pitting": narrow}), [category("a", 40)])
    (snapshot,) = {row.snapshot for row in plan}
    states = (np.arange(20) + 1) / 20
    assert abs(states[snapshot] - low) <= np.abs(states - low).min() + 1e-9


def test_mechanisms_share_every_category_exactly_by_weight_and_are_mixed() -> None:
    recipe = recipe_of(count=123, mechanisms={"fracture": {"weight": 3}, "pitting": {"weight": 1}})
    plan = plan_of(recipe, [category("a", 12), category("b", 5), category("c", 5)])
    for name in "abc":
        found = [row.mechanism for row in plan if row.category == name]
        assert [found.count(mechanism) for mechanism in ("fracture", "pitting")] == allocate(41, [3.0, 1.0])
        assert all(0 < found[start : start + 20].count("pitting") < 15 for start in range(0, 40, 20))


def test_mechanism_of_weight_0_is_planned_no_sample_and_no_trajectory() -> None:
    recipe = recipe_of(mechanisms={"fracture": {"weight": 0}, "pitting": {}})
    assert {row.mechanism for row in plan_of(recipe, [category("a", 12)])} == {"pitting"}
    assert set(bank_sizes(recipe, [12])) == {"pitting"}


def test_width_is_drawn_for_mechanisms_that_open_and_is_0_for_others() -> None:
    plan = plan_of(recipe_of(), [category("a", 12)])
    assert all((row.width > 0) == (row.mechanism == "fracture") for row in plan)
    for name, known in MECHANISMS.items():
        assert (opening_width(known.params()) is not None) == ("opening" in known.fields), name


# ---------------------------------------------------------------- several defects


def several(low: int, high: int, **settings: object) -> list[PlanRow]:
    recipe = recipe_of(placement={"defects": [low, high]}, **{"bank": {"trajectories": "auto"}, **settings})
    return plan_of(recipe, [category("a", 12), category("b", 5)])


def test_one_defect_a_picture_has_no_others() -> None:
    assert all(row.others == () for row in plan_of(recipe_of(), [category("a", 12)]))


def test_every_number_of_defects_comes_equally_often() -> None:
    plan = several(2, 5, count=2000)
    found = np.bincount([len(row.planned()) for row in plan], minlength=6)
    assert found[:2].sum() == 0
    assert stats.chisquare(found[2:]).pvalue > 1e-3


def test_totals_by_mechanism_are_exact_for_the_first_defect_and_by_weight_for_the_others() -> None:
    plan = several(1, 4, count=1000, mechanisms={"fracture": {"weight": 3}, "pitting": {"weight": 1}})
    for name in "ab":
        firsts = [row.mechanism for row in plan if row.category == name]
        assert [firsts.count(mechanism) for mechanism in ("fracture", "pitting")] == allocate(500, [3.0, 1.0])
    others = [defect.mechanism for row in plan for defect in row.others]
    assert len(others) > 1300
    assert stats.binomtest(others.count("fracture"), len(others), 0.75).pvalue > 1e-3


def test_all_defects_of_a_picture_are_of_its_group_and_never_twice_in_one_turn() -> None:
    plan = several(3, 6)
    assert all(d.trajectory % 10 == row.group == row.source % 10 for row in plan for d in row.planned())
    assert len(set(combinations(plan))) == len(combinations(plan))


def test_others_are_drawn_as_the_first_is() -> None:
    asked = {"severity": {"low": 0.5, "high": 0.75}, "area": {"low": 0.003, "high": 0.004}, "snapshots": 20}
    plan = several(2, 4, mechanisms={"fracture": {**asked, "width": {"low": 0.01, "high": 0.02}}, "pitting": asked})
    part = disc()
    for defect in (other for row in plan for other in row.others):
        assert 0.5 <= defect.asked_severity <= 0.75
        assert 0.003 <= defect.asked_area <= 0.004
        assert 9 <= defect.snapshot <= 14
        assert defect.width == 0.0 if defect.mechanism == "pitting" else 0.01 <= defect.width <= 0.02
        assert defect.from_edge or part[int(defect.anchor_y * SIZE), int(defect.anchor_x * SIZE)]
    anchors = [(d.anchor_y, d.anchor_x) for row in plan for d in row.planned() if not d.from_edge]
    assert len(set(anchors)) == len(anchors), "each has a place of its own"


def test_id_covers_the_others() -> None:
    row = next(row for row in several(2, 4) if row.others)
    moved = row.others[0].model_copy(update={"anchor_y": 0.123})
    other = row.model_copy(update={"others": (moved, *row.others[1:])})
    assert plan_row_id(row.model_dump(mode="json")) == row.id != plan_row_id(other.model_dump(mode="json"))


# ---------------------------------------------------------------- foreign material


HYBRID = {"fracture": {}, "cutpaste": {}, "poisson": {}, "perlin": {}}


def test_donors_are_of_the_samples_own_group_and_another_photograph_where_there_is_one() -> None:
    """25 photographs in 10 groups: two or three of each; 5 in 10 groups: one each."""
    recipe = recipe_of(mechanisms=HYBRID, placement={"defects": [1, 3]}, count=1200, bank={"trajectories": "auto"})
    plan = plan_of(recipe, [category("many", 25), category("few", 5)])
    for row in plan:
        for defect in row.planned():
            if defect.mechanism == "cutpaste" or (defect.mechanism == "poisson" and row.category == "few"):
                assert defect.donor == row.source
            elif defect.mechanism == "poisson":
                assert defect.donor != row.source
                assert defect.donor % 10 == row.group
                assert 0 <= defect.donor < 25
            else:
                assert defect.donor == -1
        assert set(row.photographs()) == {row.source, *(d.donor for d in row.planned() if d.donor >= 0)}
    donors = {d.donor for row in plan if row.category == "many" for d in row.planned() if d.mechanism == "poisson"}
    assert donors == set(range(25)), "each comes up"


def test_a_donor_is_part_of_a_rows_identity_and_none_is_not() -> None:
    row = next(row for row in plan_of(recipe_of(mechanisms=HYBRID), [category("one", 30)]) if row.donor >= 0)
    assert plan_row_id(row.model_dump(mode="json")) == row.id
    assert plan_row_id(row.model_copy(update={"donor": row.donor + 1}).model_dump(mode="json")) != row.id
    content = several(2, 4)[0].model_dump(mode="json")
    older = {name: value for name, value in content.items() if name != "donor"}
    older["others"] = [{k: v for k, v in other.items() if k != "donor"} for other in content["others"]]
    assert plan_row_id(older) == plan_row_id(content) == content["id"]


def test_upright_patches_are_turned_by_quarters_alone() -> None:
    for row in plan_of(recipe_of(mechanisms=HYBRID), [category("one", 12)]):
        assert (row.angle_deg == 0.0) == (row.mechanism in {"cutpaste", "poisson"})


# ---------------------------------------------------------------- no repeats


@pytest.mark.parametrize("mechanisms", [["fracture"], ["pitting"], ["fracture", "pitting"]], ids="+".join)
def test_no_state_comes_twice_in_one_turn_on_one_photograph_though_the_bank_be_used_up(mechanisms: list[str]) -> None:
    few = {"snapshots": 4, "severity": {"low": 0.1, "high": 1.0}}
    # 2 photographs x 5 trajectories of their group x 4 states x 8 turns = 320 ways for each mechanism
    recipe = recipe_of(count=320, bank={"trajectories": 10, "groups": 2}, mechanisms=dict.fromkeys(mechanisms, few))
    plan = plan_of(recipe, [category("a", 2)])
    assert len(set(combinations(plan))) == len(plan) == 320
    assert {row.snapshot for row in plan} == {0, 1, 2, 3}
    assert all(row.trajectory % 2 == row.group == row.source % 2 for row in plan)


def test_a_state_that_cannot_be_had_gives_way_to_the_nearest_in_the_range_asked_for() -> None:
    narrow = {"snapshots": 20, "severity": {"low": 0.4, "high": 0.5}}
    recipe = recipe_of(count=100, bank={"trajectories": 10, "groups": 2}, mechanisms={"pitting": narrow})
    plan = plan_of(recipe, [category("a", 1)])
    assert len(set(combinations(plan))) == 100
    assert {row.snapshot for row in plan} == {7, 8, 9}
    off = [abs((row.snapshot + 1) / 20 - row.asked_severity) for row in plan]
    assert np.mean(np.array(off) < 0.05) > 0.8


def test_bank_too_small_for_a_plan_without_repeats_is_refused_with_the_size_that_is_not() -> None:
    few = {"snapshots": 4, "severity": {"low": 0.25, "high": 1.0}}
    settings = {"count": 320, "mechanisms": {"pitting": few}}
    with pytest.raises(ConfigError, match=r"bank\.trajectories: 9 are too few for 160 defects .* at least 10, or auto"):
        plan_of(recipe_of(bank={"trajectories": 9, "groups": 2}, **settings), [category("a", 2)])
    assert len(plan_of(recipe_of(bank={"trajectories": 10, "groups": 2}, **settings), [category("a", 2)])) == 320


@given(
    count=st.integers(1, 90),
    photographs=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    groups=st.integers(2, 6),
    snapshots=st.integers(4, 7),
    low=st.floats(0.01, 1.0),
    allocation=st.sampled_from(["equal", "proportional"]),
    defects=st.sampled_from([(1, 1), (1, 3), (2, 2), (4, 6)]),
)
def test_bank_is_made_large_enough_for_any_plan(
    count: int,
    photographs: list[int],
    groups: int,
    snapshots: int,
    low: float,
    allocation: str,
    defects: tuple[int, int],
) -> None:
    few = {"snapshots": snapshots, "severity": {"low": low, "high": 1.0}}
    recipe = recipe_of(
        count=count,
        bank={"groups": groups},
        allocation=allocation,
        placement={"defects": defects},
        mechanisms={"fracture": few, "pitting": {**few, "weight": 0.2}},
    )
    categories = [category(f"c{k}", number) for k, number in enumerate(photographs)]
    sizes = bank_sizes(recipe, photographs)
    plan = plan_of(recipe, categories)
    assert len(plan) == count
    assert len(set(combinations(plan))) == len(combinations(plan)) == sum(len(row.planned()) for row in plan)
    assert all(defects[0] <= len(row.planned()) <= defects[1] for row in plan)
    assert all(d.trajectory < sizes[d.mechanism] for row in plan for d in row.planned())


def test_bank_grows_with_the_defects_of_a_picture() -> None:
    settings = {"count": 4800, "mechanisms": {"fracture": {}}}
    sizes = [
        bank_sizes(load_recipe(None, overrides={**settings, "placement": {"defects": defects}}), [10_000])["fracture"]
        for defects in ([1, 1], [1, 3], [3, 3])
    ]
    assert sizes == [200, 400, 600]


def test_bank_too_small_for_several_defects_a_picture_is_refused() -> None:
    few = {"snapshots": 4, "severity": {"low": 0.25, "high": 1.0}}
    settings = {"count": 320, "mechanisms": {"pitting": few}, "placement": {"defects": [1, 2]}}
    with pytest.raises(ConfigError, match=r"10 are too few for 320 defects on one photograph .* at least 20, or auto"):
        bank_sizes(recipe_of(bank={"trajectories": 10, "groups": 2}, **settings), [2])


@pytest.mark.parametrize(("count", "expected"), [(1, 20), (480, 20), (4800, 200), (115_987, 2000)])
def test_bank_grows_with_the_count_between_bounds(count: int, expected: int) -> None:
    recipe = load_recipe(None, overrides={"count": count, "mechanisms": {"fracture": {}}})
    assert bank_sizes(recipe, [10_000]) == {"fracture": expected}


def test_bank_is_shared_by_weight() -> None:
    mechanisms = {"fracture": {"weight": 3}, "pitting": {"weight": 1}}
    recipe = load_recipe(None, overrides={"count": 9600, "mechanisms": mechanisms})
    assert bank_sizes(recipe, [10_000]) == {"fracture": 300, "pitting": 100}


def test_bank_has_a_trajectory_for_every_group() -> None:
    recipe = load_recipe(None, overrides={"count": 10, "bank": {"groups": 50}})
    assert bank_sizes(recipe, [5]) == {name: 50 for name, known in MECHANISMS.items() if known.physical}


def test_bank_of_a_given_size_has_it_for_every_mechanism() -> None:
    assert bank_sizes(recipe_of(), [12]) == {"fracture": 37, "pitting": 37}


@pytest.mark.parametrize(("size", "channels", "expected"), [(64, 1, 256), (256, 3, 254), (1024, 3, 15), (4096, 3, 1)])
def test_shard_holds_about_50_megabytes_and_no_more_than_there_are(size: int, channels: int, expected: int) -> None:
    recipe = load_recipe(None, overrides={"size": size})
    assert [shard_rows(recipe, channels, count) for count in (1000, 7, 0)] == [expected, min(expected, 7), 1]
    deep = load_recipe(None, overrides={"size": size, "bit_depth": 16})
    assert shard_rows(deep, channels, 10**6) == min(256, max(1, 50_000_000 // (2 * channels * size**2)))
    given = load_recipe(None, overrides={"size": size, "store": {"shard_images": 33}})
    assert [shard_rows(given, channels, count) for count in (1000, 7)] == [33, 33]


# ---------------------------------------------------------------- sampling policy

SEVERAL = {"placement": {"defects": [1, 3]}, "bank": {"trajectories": "auto"}}


@pytest.mark.parametrize("factor", [0.05, 0.3, 1.0, 3.0])
def test_policy_of_equal_factors_gives_the_very_same_plan(factor: float) -> None:
    even = {"factor": factor, "area": [factor] * 4, "severity": [factor] * 4}
    even["place"] = {"border": factor, "inside": factor}
    policy = policy_of(fracture=even, pitting=even, dent={"factor": 20})  # a dent takes no part
    categories = [category("a", 12), category("b", 5)]
    assert plan_of(recipe_of(policy=policy, **SEVERAL), categories) == plan_of(recipe_of(**SEVERAL), categories)


def test_factor_of_3_triples_a_mechanisms_share_against_the_others_exactly() -> None:
    mechanisms = {"fracture": {"weight": 2}, "pitting": {}, "dent": {}}
    recipe = recipe_of(count=1200, mechanisms=mechanisms, policy=policy_of(pitting={"factor": 3}), **SEVERAL)
    plan = plan_of(recipe, [category("a", 40), category("b", 40)])
    for name in "ab":
        found = [row.mechanism for row in plan if row.category == name]
        assert [found.count(mechanism) for mechanism in mechanisms] == [200, 300, 100]
    further = [other.mechanism for row in plan for other in row.others]
    assert further.count("pitting") / len(further) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(further)))
    sizes = bank_sizes(recipe_of(count=60_000, mechanisms=mechanisms, policy=recipe.policy, bank={}), [5000])
    assert sizes["pitting"] == pytest.approx(3 * sizes["dent"], rel=0.01)


def test_areas_and_severities_fall_into_quarters_as_the_policy_asks() -> None:
    asked = {"area": [4, 2, 1, 1], "severity": [1, 1, 1, 5]}
    recipe = recipe_of(count=2000, policy=policy_of(pitting=asked), **SEVERAL)
    plan = plan_of(recipe, [category("a", 100)])
    for name, expected in (("pitting", asked), ("fracture", {"area": [1] * 4, "severity": [1] * 4})):
        params = recipe.params(name)
        defects = [defect for row in plan for defect in row.planned() if defect.mechanism == name]
        for distribution, drawn, factors in (
            (params.area, [defect.asked_area for defect in defects], expected["area"]),
            (params.severity, [defect.asked_severity for defect in defects], expected["severity"]),
        ):
            got, _ = np.histogram(distribution.cdf(drawn), bins=4, range=(0, 1))
            shares = np.array(factors) / sum(factors)
            np.testing.assert_allclose(got / len(drawn), shares, atol=4 * 0.5 / np.sqrt(len(drawn)))


@pytest.mark.parametrize(("border", "inside"), [(0.25, 1.0), (3.0, 1.0)])
def test_border_is_chosen_as_the_policy_asks_but_not_by_what_comes_in_from_an_edge(
    border: float, inside: float
) -> None:
    whole = category("a", 100, np.ones((SIZE, SIZE), dtype=np.bool_))
    place = {"place": {"border": border, "inside": inside}}
    settings = {"count": 2000, "bank": {"trajectories": "auto"}}
    plan = plan_of(recipe_of(**settings, policy=policy_of(fracture=place, pitting=place)), [whole])
    free = [row for row in plan if not row.from_edge]
    at = np.mean([at_border(row.anchor_y, row.anchor_x) for row in free])
    expected = 0.64 * border / (0.64 * border + 0.36 * inside)  # 1 - 0.6^2 of the picture is its border
    assert at == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(len(free)))
    entering = [row for row in plan if row.from_edge]
    assert len(entering) > 200
    assert entering == [row for row in plan_of(recipe_of(**settings), [whole]) if row.from_edge]


def test_part_that_lies_only_where_little_is_wanted_still_has_its_defects(rng: np.random.Generator) -> None:
    strip = np.zeros((SIZE, SIZE), dtype=np.bool_)
    strip[:, :5] = True
    place = PlacePolicy(border=0.05, inside=20.0)
    for _ in range(20):
        drawn = draw_placement(rng, strip, trace_outline(strip), dihedral=0, from_edge=False, width=None, policy=place)
        assert strip[int(drawn.anchor_y * SIZE), int(drawn.anchor_x * SIZE)]


# ---------------------------------------------------------------- places


@pytest.mark.parametrize("part", ["disc", "whole", "half"])
def test_defect_that_enters_has_its_mouth_on_the_parts_border_and_runs_inwards(part: str) -> None:
    foreground = np.ones((SIZE, SIZE), dtype=np.bool_) if part == "whole" else disc()
    if part == "half":
        foreground = np.zeros((SIZE, SIZE), dtype=np.bool_)
        foreground[:, :30] = True
    recipe = recipe_of()
    entering = {name: [enters_at_edge(recipe, name, t) for t in range(37)] for name in ("fracture", "pitting")}
    assert 5 < sum(entering["fracture"]) < 32
    inside_px = np.asarray(ndimage.distance_transform_edt(np.pad(foreground, 1)))[1:-1, 1:-1]
    plan = plan_of(recipe, [category("a", 12, foreground)])
    assert all(row.from_edge == entering[row.mechanism][row.trajectory] for row in plan)
    rows = [row for row in plan if row.from_edge]
    assert len(rows) > 40
    for row, extent in ((row, extent) for row in rows for extent in (0.1, 0.6, 1.5)):
        placement = drawn_of(row).on_picture(SIZE, extent)
        assert placement.side == pytest.approx(extent * SIZE)
        forward = Placement((0.0, 0.0), 1.0, row.dihedral, row.angle_deg).forward()
        mouth = np.array(placement.center) - placement.side * (forward @ np.array([0.0, 0.46]))
        # 4 % of the square lies beyond the edge, whatever its size
        np.testing.assert_allclose(mouth, np.array([row.anchor_y, row.anchor_x]) * SIZE, atol=1e-9)
        y, x = np.clip(np.floor(mouth).astype(int), 0, SIZE - 1)
        assert inside_px[y, x] < 1.5, "a pixel of the part that touches what is not part"
        ahead = mouth + 4.0 * forward[:, 1]
        y, x = np.clip(np.floor(ahead).astype(int), 0, SIZE - 1)
        assert inside_px[y, x] > 1.0


def test_crack_may_enter_aslant_but_a_free_edge_lies_along_that_of_the_part(rng: np.random.Generator) -> None:
    half = np.zeros((SIZE, SIZE), dtype=np.bool_)
    half[:, :30] = True
    outline = trace_outline(half)
    for width, most in ((Distribution(low=0.01, high=0.02), 35.0), (None, 4.0)):
        tilts = []
        for _ in range(200):
            drawn = draw_placement(rng, half, outline, dihedral=3, from_edge=True, width=width)
            axis = Placement((0.0, 0.0), 1.0, drawn.dihedral, drawn.angle_deg).forward()[:, 1]
            if 0.2 < drawn.anchor_y < 0.8 and drawn.anchor_x > 0.2:  # on the straight edge, which looks to the left
                tilts.append(np.rad2deg(np.arctan2(axis[0], -axis[1])))
        assert len(tilts) > 20
        assert 0.6 * most < np.abs(tilts).max() <= most + 1e-6


@pytest.mark.parametrize("dihedral", range(8))
def test_defect_that_does_not_enter_is_centred_on_the_part(dihedral: int, rng: np.random.Generator) -> None:
    foreground = disc()
    outline = trace_outline(foreground)
    for _ in range(50):
        drawn = draw_placement(rng, foreground, outline, dihedral=dihedral, from_edge=False, width=None)
        assert foreground[int(drawn.anchor_y * SIZE), int(drawn.anchor_x * SIZE)]
        assert -45.0 <= drawn.angle_deg <= 45.0
        assert (drawn.dihedral, drawn.from_edge, drawn.width) == (dihedral, False, 0.0)
        placement = drawn.on_picture(SIZE, 0.3)
        assert placement.center == (drawn.anchor_y * SIZE, drawn.anchor_x * SIZE)


def test_width_is_drawn_from_its_distribution(rng: np.random.Generator) -> None:
    foreground = disc()
    width = Distribution(kind="loguniform", low=0.004, high=0.02)
    outline = trace_outline(foreground)
    drawn = [
        draw_placement(rng, foreground, outline, dihedral=0, from_edge=False, width=width).width for _ in range(400)
    ]
    assert 0.004 <= min(drawn) < 0.0044
    assert 0.018 < max(drawn) <= 0.02
    assert np.median(drawn) == pytest.approx(width.quantile(0.5), rel=0.1)


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
    drawn = draw_placement(rng, nothing, trace_outline(nothing), dihedral=5, from_edge=from_edge, width=None)
    assert np.isfinite([drawn.anchor_y, drawn.anchor_x, drawn.angle_deg, drawn.width]).all()
    assert not drawn.from_edge, "there is no edge to come in from"


def test_part_of_a_single_pixel_is_found(rng: np.random.Generator) -> None:
    speck = np.zeros((SIZE, SIZE), dtype=np.bool_)
    speck[50, 3] = True
    drawn = draw_placement(rng, speck, trace_outline(speck), dihedral=0, from_edge=False, width=None)
    assert (int(drawn.anchor_y * SIZE), int(drawn.anchor_x * SIZE)) == (50, 3)


@pytest.mark.parametrize(("count", "expected"), [(10, 10), (40, 32), (1024, 32), (2048, 64), (8192, 256), (10**6, 256)])
def test_a_corpus_has_shards_enough_for_workers_to_share_out_evenly(count: int, expected: int) -> None:
    recipe = recipe_of(count=count, size=256)
    assert category_rows(recipe, 1, [count]).per_shard == expected
