from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import ConfigError
from manifests.splits import SPLITS, split_of_group


def test_ten_equal_groups_split_eight_to_one_to_one() -> None:
    found = split_of_group(group for group in range(10) for _ in range(7))
    assert Counter(found.values()) == {"train": 8, "val": 1, "test": 1}
    assert list(found) == list(range(10))


@given(st.dictionaries(st.integers(0, 500), st.integers(1, 40), min_size=1, max_size=60), st.randoms())
def test_order_of_samples_changes_nothing(sizes: dict[int, int], shuffler: random.Random) -> None:
    samples = [group for group, size in sizes.items() for _ in range(size)]
    expected = split_of_group(samples)
    shuffler.shuffle(samples)
    assert split_of_group(samples) == expected
    assert set(expected) == set(sizes)


@given(st.dictionaries(st.integers(0, 500), st.integers(1, 40), min_size=3, max_size=60))
def test_no_part_is_empty_and_none_is_off_by_more_than_its_groups(sizes: dict[int, int]) -> None:
    found = split_of_group(group for group, size in sizes.items() for _ in range(size))
    total, most = sum(sizes.values()), max(sizes.values())
    for name, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        held = sum(size for group, size in sizes.items() if found[group] == name)
        assert held > 0
        assert abs(held - share * total) <= 2 * most


def test_a_part_without_a_share_gets_nothing() -> None:
    assert set(split_of_group(range(20), (0.5, 0.0, 0.5)).values()) == {"train", "test"}
    assert split_of_group([]) == {}


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.2), (1.2, -0.1, -0.1)])
def test_shares_that_are_none_are_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="three numbers >= 0 of sum 1"):
        split_of_group(range(3), shares)
