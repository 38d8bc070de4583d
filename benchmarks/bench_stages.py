"""Hot paths one by one, for pytest-benchmark: ``make bench``. Run as plain tests they only check that they work."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from manifests.config import FractureConfig, LabelConfig, NpcfConfig
from physics.fracture import Trajectory, simulate
from physics.placement import CrackFields, Placement, Window, place_crack, place_field, roughness_tile
from refine.passes import CrackInputs, measure_optics, refine_cracks

BATCH, SIDE = 16, 128


@pytest.fixture(scope="module")
def trajectory() -> Trajectory:
    return simulate(FractureConfig(), np.random.default_rng(3))


def placed(trajectory: Trajectory, side: int) -> CrackFields:
    return place_crack(
        trajectory.segments,
        trajectory.opening[-1],
        Placement((side / 2, side / 2), 0.9 * side, 0, 30.0),
        Window(0, 0, side),
        cell_px=0.9 * side / 128,
        width_px=3.0,
        roughness=0.1,
        reach_px=10.0,
        tile=roughness_tile(0),
        tile_offset=(5, 9),
    )


@pytest.fixture(scope="module")
def inputs(trajectory: Trajectory) -> CrackInputs:
    rng = np.random.default_rng(4)
    source = rng.integers(90, 160, size=(BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    foreground = np.ones((BATCH, SIDE, SIDE), dtype=bool)
    fields = placed(trajectory, SIDE)
    look = np.full(BATCH, 0.2, dtype=np.float32)
    return CrackInputs(
        source=source,
        foreground=foreground,
        distance=np.repeat(fields.distance[None], BATCH, axis=0),
        opening=np.repeat(fields.opening[None], BATCH, axis=0),
        grain=np.repeat(fields.grain[None], BATCH, axis=0),
        optics=measure_optics(source, foreground),
        depth_to_width=np.full(BATCH, 3.0, dtype=np.float32),
        lip_slope=look,
        debris=look,
        glint=look,
    )


def test_fracture_trajectory_128(benchmark: Callable[..., Trajectory]) -> None:
    made = benchmark(lambda: simulate(FractureConfig(), np.random.default_rng(3)))
    assert made.damage.shape == (20, 128, 128)


def test_place_crack_256(benchmark: Callable[..., CrackFields], trajectory: Trajectory) -> None:
    fields = benchmark(placed, trajectory, 256)
    assert (fields.distance < 0).any()


def test_place_damage_256(benchmark: Callable[..., np.ndarray], trajectory: Trajectory) -> None:
    placement = Placement((128.0, 128.0), 230.0, 0, 30.0)
    field = benchmark(lambda: place_field(trajectory.damage[-1], placement, size=256))
    assert field.max() > 0.8


def test_render_npcf_and_label_of_16_windows_128(benchmark: Callable[..., object], inputs: CrackInputs) -> None:
    result = benchmark(lambda: refine_cracks(inputs, npcf=NpcfConfig(), label=LabelConfig()))
    assert result.mask.any(axis=(1, 2)).all()
    assert (result.residual <= NpcfConfig().tolerance).all()
