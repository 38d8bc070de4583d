"""Second stage: the bank of simulated trajectories that all samples draw from, stored once beside the corpus.

A shard of the bank is known by the content it is computed from: mechanism, parameters, seed, trajectories and the
source code of the physics. So a shard that another corpus or bank already holds can be copied instead of computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.hashing import canonical_json, code_version, package_digest, sha256_bytes
from manifests.layout import BANK, commit_name, shard_file
from manifests.records import BankRecord, CommitRecord
from manifests.seeds import Stage, name_key, seed_path
from physics.mechanism import MAX_SEGMENTS, Crack, Mechanism, MechanismParams, Trajectory
from physics.registry import MECHANISMS
from pipeline.half_precision import to_half
from pipeline.planning import BANK_SHARD, bank_stream
from pipeline.recipe import Recipe, config_sha256
from pipeline.single_writer import finished_shard, publish_shard
from pipeline.stage_clock import timed
from pipeline.store import ArraySpec, adopt_shard, create_array, read_rows, stage_shard

__all__ = [
    "PER_SHARD",
    "BankResult",
    "BankSpec",
    "StoredTrajectory",
    "bank_specs",
    "create_bank",
    "load_trajectory",
    "simulate_trajectory",
    "store_trajectories",
]

PER_SHARD = BANK_SHARD


@dataclass(frozen=True)
class BankSpec:
    """Trajectories ``start`` to ``stop`` of one mechanism: one shard. ``shared`` is a bank that may hold it already."""

    out: Path
    recipe: Recipe
    mechanism: str
    shard: int
    start: int
    stop: int
    shared: Path | None = None

    @property
    def commit_name(self) -> str:
        """File name of the shard's record."""
        return commit_name("bank", self.mechanism, self.shard)

    @property
    def inputs_sha256(self) -> str:
        """Identity of what the shard is computed from; weight, severity and area only choose among what is there."""
        chosen_later = {"weight", "severity", "area", "width"}
        params = self.recipe.params(self.mechanism).model_dump(mode="json", exclude=chosen_later)
        physics = package_digest("physics")
        groups, level = self.recipe.bank.groups, self.recipe.store.zstd_level  # the records name each one's group
        return sha256_bytes(
            canonical_json([self.mechanism, self.recipe.seed, self.start, self.stop, groups, level, params, physics])
        )


@dataclass(frozen=True)
class BankResult:
    """A finished shard's record; whether it was copied."""

    record: CommitRecord[BankRecord]
    adopted: bool


@dataclass(frozen=True)
class StoredTrajectory:
    """One trajectory as `physics.mechanism.Trajectory` has it, in the precision it is stored in."""

    mechanism: str
    fields: Mapping[str, NDArray[np.float16]]
    severity: NDArray[np.float64]
    area: NDArray[np.float64]
    segments: NDArray[np.float32] | None = None
    opening: NDArray[np.float16] | None = None

    def crack_at(self, snapshot: int) -> Crack | None:
        """Centre lines and relative widths of one snapshot, T = 1; None where nothing opens."""
        if self.segments is None or self.opening is None:
            return None
        return Crack(self.segments, self.opening[snapshot : snapshot + 1].astype(np.float32))

    def fields_at(self, snapshot: int) -> dict[str, NDArray[np.float32]]:
        """Fields (n, n) of one snapshot."""
        return {name: np.asarray(values[snapshot], dtype=np.float32) for name, values in self.fields.items()}


def bank_specs(
    out: Path, recipe: Recipe, numbers: Mapping[str, Sequence[range]], *, shared: Path | None = None
) -> list[BankSpec]:
    """The bank's shards for these trajectories of each mechanism; each range begins a shard."""
    return [
        BankSpec(out, recipe, name, start // PER_SHARD, start, min(one.stop, start + PER_SHARD), shared)
        for name, ranges in numbers.items()
        for one in ranges
        for start in range(one.start, one.stop, PER_SHARD)
    ]


def create_bank(out: Path, recipe: Recipe, numbers: Mapping[str, Sequence[range]]) -> None:
    """Lay out the bank's arrays for these trajectories of each mechanism."""
    for name, ranges in numbers.items():
        for spec in _array_specs(MECHANISMS[name], recipe.params(name), sum(len(one) for one in ranges)):
            create_array(out, BANK, name, replace(spec, used=tuple(ranges)), zstd_level=recipe.store.zstd_level)


def _array_specs(mechanism: Mechanism[Any, Any], params: MechanismParams, total: int) -> tuple[ArraySpec, ...]:
    t, n, m = params.snapshots, params.grid, MAX_SEGMENTS

    def spec(name: str, shape: tuple[int, ...], dtype: str, unit: str, meaning: str) -> ArraySpec:
        about = (("unit", unit), ("meaning", meaning))
        return ArraySpec(name=name, shape=(total, *shape), dtype=dtype, shard_rows=PER_SHARD, attributes=about)

    specs = [
        spec("severity", (t,), "float64", "1", "growth at every snapshot / at the last"),
        spec(
            "area", (t,), "float64", "1", "share of the square that is affected; open length x relative width of cracks"
        ),
    ]
    for field in mechanism.field_specs:
        if field.name == "opening":
            specs.append(
                spec("segments", (m, 4), "float32", "sides of the square", "y0, x0, y1, x1 of the centre lines")
            )
            specs.append(spec("opening", (t, m, 2), "float16", "1", "width at both ends / widest of the snapshot"))
        else:
            unit = "1" if field.kind == "share" else "sides of the square"
            specs.append(spec(field.name, (t, n, n), "float16", unit, f"{field.meaning}, at every snapshot"))
    return tuple(specs)


def store_trajectories(spec: BankSpec) -> BankResult:
    """Simulate one shard of the bank and write it, or copy it from a bank that has it; the record last.

    One that is there already, written by a worker that was lost before it could say so, is left as it is.
    """
    there = finished_shard(spec.out, _identity(spec))
    if there is not None:
        return BankResult(there, adopted=False)
    if spec.shared is not None:
        count = spec.stop - spec.start
        adopted = adopt_shard(spec.out, spec.shared, _identity(spec), BankRecord, paths=_paths(spec), rows=count)
        if adopted is not None:
            return BankResult(adopted, adopted=True)
    mechanism, params = MECHANISMS[spec.mechanism], spec.recipe.params(spec.mechanism)
    numbers = range(spec.start, spec.stop)
    with timed(f"simulate_{spec.mechanism}"):
        made = [mechanism.simulate(params, bank_stream(spec.recipe, spec.mechanism, number)) for number in numbers]
    with timed("write_stack"):
        arrays = _stacked(mechanism, made)
    staged = stage_shard(spec.out, BANK, spec.mechanism, arrays, shard=spec.shard)
    rows = tuple(_row(spec, spec.start + k, made_k) for k, made_k in enumerate(made))
    record = publish_shard(spec.out, staged, _identity(spec).model_copy(update={"rows": rows}))
    return BankResult(record, adopted=False)


def _paths(spec: BankSpec) -> set[str]:
    """Files of the shard, relative to the folder."""
    arrays = _array_specs(MECHANISMS[spec.mechanism], spec.recipe.params(spec.mechanism), 1)
    return {shard_file(BANK, spec.mechanism, array.name, spec.shard, len(array.shape)) for array in arrays}


def _identity(spec: BankSpec) -> CommitRecord[BankRecord]:
    """The shard's record but for its files and rows."""
    return CommitRecord[BankRecord](
        stage="bank",
        key=spec.mechanism,
        shard=spec.shard,
        config_sha256=config_sha256(spec.recipe),
        code_version=code_version(),
        inputs_sha256=spec.inputs_sha256,
        files=(),
        rows=(),
    )


def _stacked(mechanism: Mechanism[Any, Any], made: Sequence[Trajectory]) -> dict[str, NDArray[Any]]:
    """Arrays of one shard by name."""
    arrays: dict[str, NDArray[Any]] = {
        "severity": np.stack([t.severity for t in made]),
        "area": np.stack([t.area for t in made]),
    }
    cracks = [t.crack for t in made if t.crack is not None]
    if "opening" in mechanism.fields:
        arrays["segments"] = np.stack([_padded(crack.segments, axis=0) for crack in cracks])
        arrays["opening"] = to_half(np.stack([_padded(crack.opening, axis=1) for crack in cracks]))
    for name in mechanism.fields:
        if name != "opening":
            arrays[name] = to_half(np.stack([t.fields[name] for t in made]))
    return arrays


def load_trajectory(out: Path, recipe: Recipe, mechanism: str, trajectory: int) -> StoredTrajectory:
    """Read one trajectory of the bank."""
    specs = _array_specs(MECHANISMS[mechanism], recipe.params(mechanism), 1)
    return _as_stored(
        mechanism, {s.name: read_rows(out, BANK, mechanism, s.name, trajectory, trajectory + 1)[0] for s in specs}
    )


def simulate_trajectory(recipe: Recipe, mechanism: str, trajectory: int) -> StoredTrajectory:
    """Simulate one trajectory anew, as the bank would hold it, and write nothing."""
    known = MECHANISMS[mechanism]
    made = known.simulate(recipe.params(mechanism), bank_stream(recipe, mechanism, trajectory))
    return _as_stored(mechanism, {name: rows[0] for name, rows in _stacked(known, [made]).items()})


def _as_stored(mechanism: str, rows: Mapping[str, NDArray[Any]]) -> StoredTrajectory:
    """A trajectory from its row of each array of the bank."""
    found = dict(rows)
    severity, area = found.pop("severity"), found.pop("area")
    segments, opening = found.pop("segments", None), found.pop("opening", None)
    if segments is not None and opening is not None:
        used = int((opening[-1] > 0).any(axis=1).nonzero()[0].max(initial=-1)) + 1
        segments, opening = segments[:used], opening[:, :used]
    return StoredTrajectory(mechanism, found, severity, area, segments, opening)


def _padded(values: NDArray[np.float32], *, axis: int) -> NDArray[np.float32]:
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, MAX_SEGMENTS - values.shape[axis])
    return np.pad(values, widths)


def _row(spec: BankSpec, number: int, trajectory: Trajectory) -> BankRecord:
    return BankRecord(
        trajectory=number,
        mechanism=spec.mechanism,
        group=number % spec.recipe.bank.groups,
        from_edge=trajectory.from_edge,
        seed_path=seed_path(spec.recipe.seed, Stage.BANK, name_key(spec.mechanism), number),
        severity=tuple(float(v) for v in trajectory.severity),
        area=tuple(float(v) for v in trajectory.area),
        facts={name: tuple(float(v) for v in values) for name, values in trajectory.facts.items()},
    )
