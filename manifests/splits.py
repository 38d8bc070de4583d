"""Which split every group falls into: train, val or test, such that no photograph and no simulation is in two of them.

Sources and trajectories of one group meet those of no other (see `manifests.records.SampleRecord.group`), so a split
by whole groups leaks nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["DEFAULT_SHARES", "SPLITS", "Shares", "group_of_source", "part_of_group", "split_of_group"]

Shares = tuple[float, float, float]

SPLITS: Final = ("train", "val", "test")
DEFAULT_SHARES: Final[Shares] = (0.8, 0.1, 0.1)
_FIRST_SERVED: Final = ("train", "test", "val")  # where there are too few groups for all three


def split_of_group(groups: Iterable[int], *, seed: int = 0, shares: Shares = DEFAULT_SHARES) -> dict[int, str]:
    """Split of every group; the samples in each split come as near to its share as whole groups allow.

    The largest group goes first, each to the split that lacks most; groups of one size in an order drawn by the seed.
    A split with a share gets a group as long as there are enough, train before test and test before val.

    Parameters
    ----------
    groups : iterable of int
        Group of every sample, in any order: its repetitions are the group's size.
    seed : int
        Another seed gives another choice among groups of one size.
    shares : (train, val, test)
        Shares of the samples; only their proportions count. A split of share 0 stays empty.

    Raises
    ------
    ValueError
        A share is negative or not finite, or all are 0.
    """
    if not all(0 <= share < float("inf") for share in shares) or not sum(shares):
        raise ValueError(f"shares {shares}: expected three numbers, none negative and not all 0")
    given = dict(zip(SPLITS, shares, strict=True))
    wanted = {name: given[name] / sum(shares) for name in _FIRST_SERVED if given[name]}
    return part_of_group(groups, wanted, seed=seed)


def part_of_group(groups: Iterable[int], shares: Mapping[str, float], *, seed: int = 0) -> dict[int, str]:
    """Part of every group, as `split_of_group`, for parts of any names.

    Parameters
    ----------
    groups : iterable of int
        Group of every sample.
    shares : mapping of str to float
        Shares of the samples by part, above 0 and 1 in all; where there are too few groups, the first parts get one.
    seed : int
        Another seed gives another choice among groups of one size.
    """
    sizes = Counter(groups)
    lacking = {name: share * sizes.total() for name, share in shares.items()}
    order = sorted(sizes, key=lambda group: (-sizes[group], hashlib.sha256(f"{seed}/{group}".encode()).digest()))
    found: dict[int, str] = {}
    empty = list(lacking)
    for position, group in enumerate(order):
        choice = empty if len(order) - position <= len(empty) else list(lacking)
        part = max(choice, key=lambda name: lacking[name])
        found[group] = part
        lacking[part] -= sizes[group]
        empty = [name for name in empty if name != part]
    return dict(sorted(found.items()))


def group_of_source(index: int, *, groups: int) -> int:
    """Group of a photograph, by its row in its category's ``source`` array and the recipe's ``bank.groups``."""
    return index % groups
