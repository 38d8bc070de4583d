"""Splits by group: nothing is in two, shares are kept as whole groups allow, and nothing but the input counts."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.splits import SPLITS, group_of_source, split_of_group

share = st.floats(0, 1)
shares = st.tuples(share, share, share).filter(lambda three: sum(three) > 0.01)
sizes = st.lists(st.integers(1, 30), max_size=25)


def groups_of(sizes: list[int]) -> list[int]:
    return [group for group, size in enumerate(sizes) for _ in range(size)]


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 90)), min_size=1, max_size=200),
    st.integers(2, 12),
    shares,
    st.integers(0, 5),
)
def test_no_source_and_no_trajectory_is_in_two_splits(
    pairs: list[tuple[int, int]], number: int, shares: tuple[float, float, float], seed: int
) -> None:
    # a sample takes its trajectory from its source's group, as the plan does
    samples = [(source, trajectory * number + source % number) for source, trajectory in pairs]
    groups = [group_of_source(source, groups=number) for source, _ in samples]
    splits = split_of_group(groups, seed=seed, shares=shares)
    for kind in (0, 1):
        of_one: dict[int, set[str]] = {}
        for sample, group in zip(samples, groups, strict=True):
            of_one.setdefault(sample[kind], set()).add(splits[group])
        assert all(len(found) == 1 for found in of_one.values())


@given(sizes, shares, st.integers(0, 5))
def test_shares_are_kept_as_whole_groups_allow(sizes: list[int], shares: tuple[float, float, float], seed: int) -> None:
    splits = split_of_group(groups_of(sizes), seed=seed, shares=shares)
    assert set(splits) == set(range(len(sizes)))
    held = Counter(dict.fromkeys(SPLITS, 0))
    for group, split in splits.items():
        held[split] += sizes[group]
    wanted = [name for name, share in zip(SPLITS, shares, strict=True) if share]
    assert {name for name in SPLITS if held[name]} <= set(wanted)
    assert len([name for name in SPLITS if held[name]]) == min(len(wanted), len(sizes))
    if len(sizes) > 2 * len(wanted) and max(sizes) == min(sizes):
        for name, part in zip(SPLITS, shares, strict=True):
            assert abs(held[name] - part / sum(shares) * sum(sizes)) <= 2 * max(sizes)


@given(st.data(), sizes, st.integers(0, 5))
def test_order_of_samples_does_not_count(data: st.DataObject, sizes: list[int], seed: int) -> None:
    groups = groups_of(sizes)
    shuffled = data.draw(st.permutations(groups))
    assert split_of_group(shuffled, seed=seed) == split_of_group(groups, seed=seed)


def test_ten_equal_groups_are_eight_one_and_one_and_a_seed_chooses_which() -> None:
    found = [split_of_group(groups_of([30] * 10), seed=seed) for seed in range(5)]
    assert all(Counter(splits.values()) == {"train": 8, "val": 1, "test": 1} for splits in found)
    assert len({tuple(splits.values()) for splits in found}) > 1


def test_two_groups_are_train_and_test() -> None:
    assert set(split_of_group([3, 8]).values()) == {"train", "test"}
    assert split_of_group([3]) == {3: "train"}
    assert split_of_group([]) == {}


@pytest.mark.parametrize("bad", [(0.0, 0.0, 0.0), (-0.1, 0.5, 0.6), (float("nan"), 1.0, 0.0), (float("inf"), 1.0, 1.0)])
def test_shares_that_are_none_are_refused(bad: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="none negative and not all 0"):
        split_of_group([0, 1], shares=bad)
