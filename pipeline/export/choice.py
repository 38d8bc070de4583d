"""Which samples and photographs an export holds, in which split, and in which parts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

from manifests.errors import ConfigError
from manifests.selection import matching
from manifests.splits import SPLITS, Shares, group_of_source, split_of_group
from pipeline.export.contract import Export, Format, Normal, Part

__all__ = ["Choice", "choose", "cut"]

Choice = Mapping[str, tuple[Sequence[int], Sequence[Normal]]]  # split -> positions of samples, and photographs


def choose(export: Export, form: Format, *, where: str | None, limit: int | None, shares: Shares, seed: int) -> Choice:
    """Samples by split, in the order of their ids, and photographs where the format holds them.

    The split of a group is that in the whole corpus, whatever is selected of it.

    Raises
    ------
    ConfigError
        The expression or the shares cannot be used, no sample is left, or a category's half of MVTec AD is empty.
    """
    for split, share, own in zip(SPLITS, shares, form.SHARES, strict=True):
        if share and not own:
            raise ConfigError(f"--shares: this format has no {split}, so its share must be 0, got {share:g}")
    table = export.corpus.table
    try:
        splits = split_of_group(table["group"].to_pylist(), seed=seed, shares=shares)
    except ValueError as error:
        raise ConfigError(f"--{error}") from None
    split_of = [splits[group] for group in table["group"].to_pylist()]
    wanted = np.ones(len(table), dtype=bool) if where is None else matching(table, where).to_numpy(zero_copy_only=False)
    if form.NORMALS:
        wanted = wanted & (np.array(split_of, dtype=str) == "test")
    positions = _ordered(export, np.flatnonzero(wanted))
    if not len(positions):
        held = " among the groups of the split test" if form.NORMALS else ""
        raise ConfigError(
            f"no accepted sample{held} matches {where or 'at all'!r}; see `maphc2f info` for what there is"
        )
    positions = positions if limit is None else _spread(export, positions, limit)
    normals = _normals(export, positions, splits) if form.NORMALS else {}
    return {name: ([int(p) for p in positions if split_of[p] == name], normals.get(name, ())) for name in SPLITS}


def _ordered(export: Export, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions by id: a content hash, so that neighbours have nothing in common."""
    ids = np.array(export.corpus.table["id"].to_pylist(), dtype=str)
    return np.asarray(positions[np.argsort(ids[positions], kind="stable")])


def _spread(export: Export, positions: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """The first of every category and mechanism, then the second of every one, ...: so many of them."""
    table = export.corpus.table
    cells = list(zip(*(table[name].to_pylist() for name in ("dataset", "category", "mechanism")), strict=True))
    turns: defaultdict[tuple[str, str, str], Iterator[int]] = defaultdict(count)
    turn = [(next(turns[cells[p]]), cells[p]) for p in positions]
    kept = sorted(range(len(positions)), key=turn.__getitem__)[:limit]
    return np.asarray(positions[np.sort(kept)])


def _normals(export: Export, positions: NDArray[np.int64], splits: Mapping[int, str]) -> dict[str, list[Normal]]:
    """All photographs of the categories that have a sample here, by the split of their group."""
    table = export.corpus.table
    keys = [f"{a}/{b}" for a, b in zip(table["dataset"].to_pylist(), table["category"].to_pylist(), strict=True)]
    known = dict(zip(zip(keys, table["source"].to_pylist(), strict=True), table["group"].to_pylist(), strict=True))
    photographs: Counter[str] = Counter()
    for entry in export.info.licences:
        photographs[f"{entry.dataset}/{entry.category}"] += entry.sources
    found: dict[str, list[Normal]] = {"train": [], "test": []}
    for key in sorted({keys[p] for p in positions}):
        for row in range(photographs[key]):
            group = known.get((key, row), group_of_source(row, groups=export.info.config["bank"]["groups"]))
            found[splits.get(group, "train")].append(Normal(key, row))  # of a group without samples nothing can leak
        for split in found:
            if not any(normal.key == key for normal in found[split]):
                raise ConfigError(
                    f"{key}: of its {photographs[key]} photograph(s) none falls into {split}; give another --seed or "
                    f"other --shares, or leave it out: --where \"category != '{key.split('/')[1]}'\""
                )
    return found


def cut(chosen: Choice, per_part: int) -> list[Part]:
    """Parts of nearly equal size, of at most ``per_part`` pictures each, split after split."""
    parts: list[Part] = []
    for split, (rows, normals) in chosen.items():
        of = -(-len(rows) // per_part)
        for place in range(of):
            own = rows[place * len(rows) // of : (place + 1) * len(rows) // of]
            parts.append(Part(len(parts), split, place, of, rows=tuple(own)))
        for start in range(0, len(normals), per_part):
            parts.append(Part(len(parts), split, 0, 1, normals=tuple(normals[start : start + per_part])))
    return parts
