"""Hot paths one by one, for pytest-benchmark: ``make bench``. Run as plain tests they only check that they work."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from manifests.config import LabelConfig, NpcfConfig, NpcfppConfig
from physics.mechanism import Trajectory
from physics.placement import (
    CrackFields,
    Placement,
    Window,
    noise_tile,
    place_crack,
    place_fields,
    place_grain,
    place_noise,
    roughness_tile,
)
from physics.registry import MECHANISMS
from refine.passes import CrackArrays, DefectInputs, ReliefArrays, measure_optics, refine_defects

BATCH, SIDE = 16, 128


def simulated(name: str, seed: int = 3) -> Trajectory:
    made: Trajectory = MECHANISMS[name].simulate(MECHANISMS[name].params(), np.random.default_rng(seed))
    return made


@pytest.fixture(scope="module")
def cracked() -> Trajectory:
    return simulated("fracture")


@pytest.fixture(scope="module")
def pitted() -> Trajectory:
    return simulated("pitting")


def placement(side: int) -> Placement:
    return Placement((side / 2, side / 2), 0.9 * side, 0, 30.0)


def placed_crack(trajectory: Trajectory, side: int) -> CrackFields:
    assert trajectory.crack is not None
    return place_crack(
        trajectory.crack.segments,
        trajectory.crack.opening[-1],
        placement(side),
        Window(0, 0, side),
        cell_px=0.9 * side / 128,
        width_px=3.0,
        roughness=0.1,
        reach_px=10.0,
        tile=roughness_tile(0),
        tile_offset=(5, 9),
    )


def placed_fields(trajectory: Trajectory, side: int) -> dict[str, NDArray[np.float32]]:
    fields: Mapping[str, NDArray[np.float32]] = {name: values[-1] for name, values in trajectory.fields.items()}
    return place_fields(
        fields, placement(side), Window(0, 0, side), wiggle_px=0.4, tile=roughness_tile(0), tile_offset=(5, 9)
    )


def inputs(*, crack: CrackArrays | None = None, relief: ReliefArrays | None = None) -> DefectInputs:
    source = np.random.default_rng(4).integers(90, 160, size=(BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    foreground = np.ones((BATCH, SIDE, SIDE), dtype=bool)
    return DefectInputs(
        source=source,
        foreground=foreground,
        grain=repeated(place_grain(roughness_tile(0), (5, 9), Window(0, 0, SIDE))),
        noise=repeated(place_noise(noise_tile(0), (5, 9), Window(0, 0, SIDE))),
        optics=measure_optics(source, foreground),
        crack=crack,
        relief=relief,
    )


def repeated(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.repeat(values[None], BATCH, axis=0)


def look(value: float) -> NDArray[np.float32]:
    return np.full(BATCH, value, dtype=np.float32)


@pytest.mark.parametrize("name", MECHANISMS)
def test_trajectory_with_default_parameters(benchmark: Callable[..., Trajectory], name: str) -> None:
    made = benchmark(simulated, name)
    params = MECHANISMS[name].params()
    assert made.severity.shape == (params.snapshots,)
    assert all(values.shape == (params.snapshots, params.grid, params.grid) for values in made.fields.values())


def test_place_crack_256(benchmark: Callable[..., CrackFields], cracked: Trajectory) -> None:
    fields = benchmark(placed_crack, cracked, 256)
    assert (fields.distance < 0).any()


def test_place_fields_256(benchmark: Callable[..., dict[str, NDArray[np.float32]]], pitted: Trajectory) -> None:
    placed = benchmark(placed_fields, pitted, 256)
    assert placed["depth"].max() > 0.5


def test_all_passes_on_16_cracks_128(benchmark: Callable[..., object], cracked: Trajectory) -> None:
    fields = placed_crack(cracked, SIDE)
    crack = CrackArrays(
        distance=repeated(fields.distance),
        opening=repeated(fields.opening),
        depth_to_width=look(3.0),
        lip_slope=look(0.2),
        debris=look(0.2),
        glint=look(0.2),
    )
    refine_16(benchmark, inputs(crack=crack))


def test_all_passes_on_16_pitted_surfaces_128(benchmark: Callable[..., object], pitted: Trajectory) -> None:
    relief = ReliefArrays(
        fields={name: repeated(values) for name, values in placed_fields(pitted, SIDE).items()},
        gloss=look(1.0),
        gloss_exponent=look(20.0),
        pit_floor=look(0.5),
        product=np.full((BATCH, 3), 0.3, dtype=np.float32),
    )
    refine_16(benchmark, inputs(relief=relief))


def refine_16(benchmark: Callable[..., object], batch: DefectInputs) -> None:
    result = benchmark(lambda: refine_defects(batch, npcf=NpcfConfig(), npcfpp=NpcfppConfig(), label=LabelConfig()))
    assert result.mask.any(axis=(1, 2)).all()
    assert (result.residual <= NpcfConfig().tolerance).all()
