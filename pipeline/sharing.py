"""One corpus by several machines: which shards a range of samples means, and what is left to be made.

Samples are numbered through the whole plan, so their shards lie one after another. Both ends of a range are moved to
the nearest end of a shard, always in the same way: ranges that follow one another still do, whoever makes them, and
no shard is made twice or forgotten. A share has the shards of the bank that its samples draw from. Those that no
sample happens to draw from must come from somebody, too: shard k of K has its home at sample k/K of the plan.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from manifests.errors import ConfigError
from manifests.records import PlanRow
from manifests.tables import Rows
from pipeline.bank import PER_SHARD, BankSpec

__all__ = ["ShardName", "Share", "missing_of", "parse_range", "shards_of", "share_of", "whole_shards"]

ShardName = tuple[str, int]  # "<dataset>/<category>" or the mechanism, and the number


@dataclass(frozen=True)
class Share:
    """Samples ``start`` to ``stop`` as asked for; None is the end of the plan."""

    start: int
    stop: int | None

    def __str__(self) -> str:
        """As on the command line."""
        return f"{self.start}:{'' if self.stop is None else self.stop}"


def parse_range(text: str) -> Share:
    """``A:B``, ``A:`` or ``:B`` of the command line.

    Raises
    ------
    ConfigError
        It is something else, or empty.
    """
    low, colon, high = text.partition(":")
    if not colon or any(part and not (part.isascii() and part.isdigit()) for part in (low, high)):
        raise ConfigError(f"--range {text!r}: expected A:B, the first sample and the one after the last, as in 0:5000")
    asked = Share(int(low or 0), int(high) if high else None)
    if asked.stop is not None and asked.stop <= asked.start:
        raise ConfigError(f"--range {text!r}: is empty; expected A:B with A < B")
    return asked


def whole_shards(asked: Share, plan: Rows[PlanRow]) -> range:
    """The samples of the whole shards nearest to a range.

    Raises
    ------
    ConfigError
        The range leaves the plan, or is nearer to nothing than to a shard.
    """
    total = len(plan)
    stop = total if asked.stop is None else asked.stop
    if stop > total or asked.start >= total:
        raise ConfigError(f"--range {asked}: the plan has samples 0 to {total - 1}; give A:B with B at most {total}")
    ends = np.array([*(rows.start for _, rows in shards_of(plan)), total])
    # of two that are as near the first, so that what two neighbours share is one end
    first, last = (int(ends[np.argmin(np.abs(ends - index))]) for index in (asked.start, stop))
    if first == last:
        k = min(int(np.searchsorted(ends, asked.start, side="right")) - 1, len(ends) - 2)
        raise ConfigError(
            f"--range {asked}: is less than half a shard; the shard there is samples {ends[k]}:{ends[k + 1]}"
        )
    return range(first, last)


def share_of(
    asked: Share, plan: Rows[PlanRow], bank: Sequence[BankSpec]
) -> tuple[range, set[ShardName], set[ShardName]]:
    """Samples of a share in whole shards, its shards of samples, and its shards of the bank."""
    wanted = whole_shards(asked, plan)
    mine = plan[wanted.start : wanted.stop]
    drawn = {(d.mechanism, d.trajectory // PER_SHARD) for row in mine for d in row.planned()}
    at_home = {(s.mechanism, s.shard) for k, s in enumerate(bank) if k * len(plan) // len(bank) in wanted}
    return wanted, {name for name, _ in shards_of(mine)}, drawn | at_home


def missing_of(plan: Rows[PlanRow], made: Set[ShardName], bank: Sequence[BankSpec], simulated: Set[ShardName]) -> str:
    """What has not been made, in words: ranges of samples, and shards of the bank; empty if nothing is missing."""
    parts = []
    if gaps := _gaps([name in made for name, rows in shards_of(plan) for _ in rows]):
        shown = ", ".join(f"{gap.start}:{gap.stop}" for gap in gaps[:4]) + (", …" if len(gaps) > 4 else "")
        parts.append(f"samples {shown} of {len(plan):,}")
    lacking = [spec for spec in bank if (spec.mechanism, spec.shard) not in simulated]
    if lacking:
        first = f"{lacking[0].mechanism} trajectories {lacking[0].start} to {lacking[0].stop - 1}"
        more = f" and {len(lacking) - 1} more shards" if len(lacking) > 1 else ""
        parts.append(f"of the bank {first}{more}")
    return "; ".join(parts)


def shards_of(plan: Rows[PlanRow]) -> list[tuple[ShardName, range]]:
    """The shards of samples that a plan, or a part of it, has, in order, and where in it the rows of each are."""
    columns = (plan.column(name) for name in ("dataset", "category", "shard"))
    names = [(f"{dataset}/{category}", shard) for dataset, category, shard in zip(*columns, strict=True)]
    starts = [k for k, name in enumerate(names) if k == 0 or name != names[k - 1]]
    return [(names[start], range(start, stop)) for start, stop in pairwise([*starts, len(names)])]


def _gaps(there: Sequence[bool]) -> list[range]:
    """Runs of what is not there."""
    edges = np.flatnonzero(np.diff(np.array([True, *there, True]).astype(np.int8)))
    return [range(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
