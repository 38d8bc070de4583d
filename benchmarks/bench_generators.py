"""Pictures with a crack or pits, and their masks, beside `defect-synthesis`: place and refine against draw.

The same eight pictures, 256 x 256 in colour. Ours has the trajectory from the bank, as every sample but its first has;
simulating one is timed in `bench_stages`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import defect_synthesis
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.bench_stages import placed_crack, placed_fields, simulated
from manifests.config import LabelConfig, NpcfConfig, NpcfppConfig
from physics.placement import Window, noise_tile, place_grain, place_noise, roughness_tile
from refine.passes import CrackArrays, DefectInputs, RefinedBatch, ReliefArrays, measure_optics, refine_defects

COUNT, SIDE = 8, 256

Benchmark = Callable[..., Any]
Pictures = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return np.random.default_rng(4).integers(90, 160, size=(COUNT, SIDE, SIDE, 3), dtype=np.uint8)


def refined(
    pictures: Pictures, *, crack: CrackArrays | None = None, relief: ReliefArrays | None = None
) -> RefinedBatch:
    foreground = np.ones(pictures.shape[:3], dtype=bool)
    grain = place_grain(roughness_tile(0), (5, 9), Window(0, 0, SIDE))
    noise = place_noise(noise_tile(0), (5, 9), Window(0, 0, SIDE))
    inputs = DefectInputs(
        source=pictures,
        foreground=foreground,
        grain=np.stack([grain] * COUNT),
        noise=np.stack([noise] * COUNT),
        optics=OPTICS(pictures, foreground),
        crack=crack,
        relief=relief,
    )
    return refine_defects(inputs, npcf=NpcfConfig(), npcfpp=NpcfppConfig(), label=LabelConfig())


class _Optics:
    """Measured once a photograph, as the inventory does, however many samples are made from it."""

    def __init__(self) -> None:
        self._found: dict[int, Any] = {}

    def __call__(self, pictures: Pictures, foreground: NDArray[np.bool_]) -> Any:
        if id(pictures) not in self._found:
            self._found[id(pictures)] = measure_optics(pictures, foreground)
        return self._found[id(pictures)]


OPTICS = _Optics()


def look(value: float) -> NDArray[np.float32]:
    return np.full(COUNT, value, dtype=np.float32)


def check(images: Any, masks: Any, pictures: Pictures) -> None:
    changed = (np.asarray(images) != pictures).any(axis=(1, 2, 3))
    assert changed.all()
    assert np.asarray(masks).any(axis=(1, 2)).all()


def test_eight_cracks_on_pictures(benchmark: Benchmark, pictures: Pictures) -> None:
    trajectory = simulated("fracture")

    def ours() -> RefinedBatch:
        placed = [placed_crack(trajectory, SIDE) for _ in range(COUNT)]
        crack = CrackArrays(
            distance=np.stack([one.distance for one in placed]),
            opening=np.stack([one.opening for one in placed]),
            depth_to_width=look(3.0),
            lip_slope=look(0.2),
            debris=look(0.2),
            glint=look(0.2),
        )
        return refined(pictures, crack=crack)

    benchmark.extra_info["items"] = COUNT  # type: ignore[attr-defined]
    made = benchmark(ours)
    check(made.image, made.mask, pictures)


def test_eight_cracks_on_pictures_by_defect_synthesis(benchmark: Benchmark, pictures: Pictures) -> None:
    by_peer(benchmark, pictures, defect_synthesis.CrackGenerator())


def test_eight_pitted_pictures(benchmark: Benchmark, pictures: Pictures) -> None:
    trajectory = simulated("pitting")

    def ours() -> RefinedBatch:
        placed = [placed_fields(trajectory, SIDE) for _ in range(COUNT)]
        relief = ReliefArrays(
            fields={name: np.stack([one[name] for one in placed]) for name in placed[0]},
            gloss=look(1.0),
            gloss_exponent=look(20.0),
            pit_floor=look(0.5),
            product=np.full((COUNT, 3), 0.3, dtype=np.float32),
        )
        return refined(pictures, relief=relief)

    benchmark.extra_info["items"] = COUNT  # type: ignore[attr-defined]
    made = benchmark(ours)
    check(made.image, made.mask, pictures)


def test_eight_pitted_pictures_by_defect_synthesis(benchmark: Benchmark, pictures: Pictures) -> None:
    by_peer(benchmark, pictures, defect_synthesis.PittingGenerator())


def by_peer(benchmark: Benchmark, pictures: Pictures, generator: Any) -> None:
    def peer() -> list[Any]:
        return [generator.apply(picture) for picture in pictures]

    benchmark.extra_info["items"] = COUNT  # type: ignore[attr-defined]
    made = benchmark(peer)
    check([one.image for one in made], [one.anomaly_mask > 0 for one in made], pictures)
