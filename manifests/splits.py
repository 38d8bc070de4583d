"""Splits: which groups of a corpus train, which validate, which test.

Sources and trajectories of one group appear in no other, so parts made of whole groups share no photograph and no
simulation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from manifests.errors import ConfigError

__all__ = ["SPLITS", "split_of_group"]

SPLITS = ("train", "val", "test")
_SHARES = (0.8, 0.1, 0.1)


def split_of_group(groups: Iterable[int], shares: tuple[float, float, float] = _SHARES) -> dict[int, str]:
    """Part of each group, so that the parts' shares of the samples come near to what is asked.

    The groups go, largest first, to the part that lacks the most samples. No part stays empty that has a share, as long
    as there are groups enough. The outcome depends on how many samples each group has, never on their order.

    Parameters
    ----------
    groups : iterable of int
        The group of every sample.
    shares : tuple of float
        Of the samples for train, val and test, each >= 0; their sum is 1.

    Returns
    -------
    dict of int to str
        ``"train"``, ``"val"`` or ``"test"`` by group, the groups ascending.

    Raises
    ------
    ConfigError
        The shares are negative, or their sum is not 1.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise ConfigError(f"shares of {', '.join(SPLITS)}: expected three numbers >= 0 of sum 1, got {shares}")
    sizes = Counter(groups)
    lacking = {name: share * sizes.total() for name, share in zip(SPLITS, shares, strict=True) if share > 0}
    empty = set(lacking)
    found: dict[int, str] = {}
    for left, (group, size) in enumerate(sorted(sizes.items(), key=lambda item: (-item[1], item[0]))):
        candidates = empty if len(sizes) - left <= len(empty) else lacking
        name = max((name for name in SPLITS if name in candidates), key=lambda name: lacking[name])
        found[group] = name
        lacking[name] -= size
        empty.discard(name)
    return dict(sorted(found.items()))
