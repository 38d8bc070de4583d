"""Second stage: the bank of simulated trajectories that all samples draw from, stored once beside the corpus."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.config import FractureConfig, Recipe, config_sha256
from manifests.hashing import canonical_json, code_version, sha256_bytes
from manifests.layout import BANK
from manifests.records import BankRecord, CommitRecord
from manifests.seeds import Stage, seed_path, stream
from physics.fracture import MAX_SEGMENTS, Trajectory, simulate
from pipeline.planning import bank_size
from pipeline.store import ArraySpec, commit, create_array, read_rows, write_shard

__all__ = [
    "MECHANISM",
    "BankSpec",
    "StoredTrajectory",
    "bank_specs",
    "create_bank",
    "load_trajectory",
    "store_trajectories",
]

MECHANISM = "fracture"
PER_SHARD = 16


@dataclass(frozen=True)
class BankSpec:
    """Trajectories ``start`` to ``stop`` of the bank: one shard."""

    out: Path
    recipe: Recipe
    shard: int
    start: int
    stop: int

    @property
    def inputs_sha256(self) -> str:
        """Identity of what the shard is computed from."""
        config = self.recipe.fracture.model_dump(mode="json")
        return sha256_bytes(canonical_json([self.recipe.seed, self.start, self.stop, config]))


@dataclass(frozen=True)
class StoredTrajectory:
    """Arrays of one trajectory as `physics.fracture.Trajectory` has them, in the precision they are stored in."""

    damage: NDArray[np.float16]
    segments: NDArray[np.float32]
    opening: NDArray[np.float16]

    def damage_at(self, snapshot: int) -> NDArray[np.float32]:
        """Phase field (n, n) of a snapshot."""
        return np.asarray(self.damage[snapshot], dtype=np.float32)

    def opening_at(self, snapshot: int) -> NDArray[np.float32]:
        """Relative width (M, 2) of a snapshot."""
        return np.asarray(self.opening[snapshot], dtype=np.float32)

    def length_at(self, snapshot: int) -> float:
        """Length of the open crack at a snapshot, sides of the square."""
        ends = self.segments[(self.opening[snapshot] > 0).any(axis=1)].reshape(-1, 2, 2)
        return float(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1).sum())


def bank_specs(out: Path, recipe: Recipe) -> list[BankSpec]:
    """The bank's shards."""
    total = bank_size(recipe)
    starts = range(0, total, PER_SHARD)
    return [BankSpec(out, recipe, k, start, min(total, start + PER_SHARD)) for k, start in enumerate(starts)]


def create_bank(out: Path, recipe: Recipe) -> None:
    """Lay out the bank's arrays."""
    for spec in _array_specs(recipe.fracture, bank_size(recipe)):
        create_array(out, BANK, MECHANISM, spec, zstd_level=recipe.store.zstd_level)


def _array_specs(config: FractureConfig, total: int) -> tuple[ArraySpec, ...]:
    t, n, m = config.snapshots, config.grid, MAX_SEGMENTS
    return (
        ArraySpec(
            name="damage",
            shape=(total, t, n, n),
            dtype="float16",
            shard_rows=PER_SHARD,
            attributes=(("unit", "1"), ("meaning", "phase field of every snapshot: 0 sound, 1 broken")),
        ),
        ArraySpec(
            name="segments",
            shape=(total, m, 4),
            dtype="float32",
            shard_rows=PER_SHARD,
            attributes=(("unit", "sides of the square"), ("meaning", "y0, x0, y1, x1 of the crack's centre line")),
        ),
        ArraySpec(
            name="opening",
            shape=(total, t, m, 2),
            dtype="float16",
            shard_rows=PER_SHARD,
            attributes=(("unit", "1"), ("meaning", "width at both ends of each segment / widest of the snapshot")),
        ),
    )


def store_trajectories(spec: BankSpec) -> CommitRecord[BankRecord]:
    """Simulate one shard of the bank and write it; the record last."""
    config = spec.recipe.fracture
    made = [simulate(config, stream(spec.recipe.seed, Stage.BANK, t)) for t in range(spec.start, spec.stop)]
    arrays: dict[str, NDArray[Any]] = {
        "damage": np.stack([t.damage for t in made]).astype(np.float16),
        "segments": np.stack([_padded(t.segments, axis=0) for t in made]),
        "opening": np.stack([_padded(t.opening, axis=1) for t in made]).astype(np.float16),
    }
    files = write_shard(spec.out, BANK, MECHANISM, arrays, shard=spec.shard)
    record = CommitRecord[BankRecord](
        stage="bank",
        key=MECHANISM,
        shard=spec.shard,
        config_sha256=config_sha256(spec.recipe),
        code_version=code_version(),
        inputs_sha256=spec.inputs_sha256,
        files=files,
        rows=tuple(_row(spec.recipe, spec.start + k, trajectory) for k, trajectory in enumerate(made)),
    )
    commit(spec.out, record)
    return record


def load_trajectory(out: Path, trajectory: int) -> StoredTrajectory:
    """Read one trajectory of the bank."""
    damage, segments, opening = (
        read_rows(out, BANK, MECHANISM, name, trajectory, trajectory + 1)[0]
        for name in ("damage", "segments", "opening")
    )
    used = int((opening[-1] > 0).any(axis=1).nonzero()[0].max(initial=-1)) + 1
    return StoredTrajectory(damage=damage, segments=segments[:used], opening=opening[:, :used])


def _padded(values: NDArray[np.float32], *, axis: int) -> NDArray[np.float32]:
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, MAX_SEGMENTS - values.shape[axis])
    return np.pad(values, widths)


def _row(recipe: Recipe, number: int, trajectory: Trajectory) -> BankRecord:
    return BankRecord(
        trajectory=number,
        mechanism=MECHANISM,
        group=number % recipe.bank.groups,
        snapshots=len(trajectory.length_cells),
        seed_path=seed_path(recipe.seed, Stage.BANK, number),
        length_cells=tuple(float(v) for v in trajectory.length_cells),
        branch_points=trajectory.branch_points,
        load=tuple(float(v) for v in trajectory.load),
    )
