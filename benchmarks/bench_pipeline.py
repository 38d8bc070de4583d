"""What surrounds physics and passes, path by path: sources, scoring, half precision, records, and the last stage.

The conversion to half precision stands beside NumPy's own on a field whose tails fade out, as those of dents do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from manifests.records import CommitRecord, SampleRecord, parse_commit
from pipeline.finalise import finalise
from pipeline.foreground import estimate_foreground
from pipeline.generate import generate
from pipeline.half_precision import to_half
from pipeline.planning import trace_outline
from pipeline.recipe import Recipe
from pipeline.scoring import quality_of
from pipeline.sources.builtin import builtin_image
from pipeline.store import open_output, read_commits
from refine.passes import measure_optics

ROWS = 256  # of a shard's commit record

Benchmark = Callable[..., Any]


@pytest.fixture(scope="module")
def photographs() -> NDArray[np.uint8]:
    return np.stack([builtin_image("hex_nut", k)[:256, :256] for k in range(4)])


def test_foreground_of_four_photographs(benchmark: Benchmark, photographs: NDArray[np.uint8]) -> None:
    valid = np.ones(photographs.shape[:3], dtype=bool)
    found = benchmark(lambda: estimate_foreground(photographs, valid, mode="auto", margin_px=2, user_masks=[]))
    assert found.masks.any()
    items(benchmark, len(photographs))


def test_light_and_optics_of_four_photographs(benchmark: Benchmark, photographs: NDArray[np.uint8]) -> None:
    foreground = np.ones(photographs.shape[:3], dtype=bool)
    found = benchmark(measure_optics, photographs, foreground)
    assert (found.noise >= 0).all()
    items(benchmark, len(photographs))


def test_outline_of_a_part(benchmark: Benchmark) -> None:
    y, x = np.mgrid[:256, :256]
    outline = benchmark(trace_outline, (y - 128) ** 2 + (x - 128) ** 2 < 90**2)
    assert len(outline.points) > 200


def test_quality_of_four_samples(benchmark: Benchmark, photographs: NDArray[np.uint8]) -> None:
    mask = np.zeros((256, 256), dtype=bool)
    mask[100:120, 90:170] = True
    judged = [(np.where(mask[..., None], p // 2, p), mask, p, np.ones_like(mask)) for p in photographs]
    found = benchmark(quality_of, judged)
    assert all(0 <= quality <= 1 for quality in found)
    items(benchmark, len(photographs))


@pytest.fixture(scope="module")
def fading() -> NDArray[np.float32]:
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    field = np.exp(-14 * np.sqrt(y**2 + x**2)).astype(np.float32)
    return np.stack([field * np.float32(1 + k / 16) for k in range(16)])


def test_half_precision_of_fading_fields(benchmark: Benchmark, fading: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(benchmark(to_half, fading), fading.astype(np.float16))


def test_half_precision_of_fading_fields_by_numpy(benchmark: Benchmark, fading: NDArray[np.float32]) -> None:
    assert benchmark(lambda: fading.astype(np.float16)).dtype == np.float16


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    recipe = Recipe.model_validate(
        {
            "count": 8,
            "size": 64,
            "sources": [{"kind": "builtin", "categories": ["coins"]}],
            "bank": {"trajectories": 10},
            "mechanisms": {"pitting": {"grid": 32, "snapshots": 4}},
        }
    )
    out = tmp_path_factory.mktemp("corpus") / "corpus"
    generate(out, recipe, workers=1)
    return out, recipe


@pytest.fixture(scope="module")
def record(corpus: tuple[Path, Recipe]) -> CommitRecord[SampleRecord]:
    """One of a full shard."""
    first = next(read_commits(corpus[0], "samples", SampleRecord))
    return first.model_copy(update={"rows": tuple(first.rows[k % len(first.rows)] for k in range(ROWS))})


def test_commit_record_to_bytes(benchmark: Benchmark, record: CommitRecord[SampleRecord]) -> None:
    assert len(benchmark(record.to_bytes)) > 100 * ROWS
    items(benchmark, ROWS)


def test_commit_record_from_bytes(benchmark: Benchmark, record: CommitRecord[SampleRecord]) -> None:
    assert benchmark(parse_commit, record.to_bytes(), SampleRecord) == record
    items(benchmark, ROWS)


def test_manifest_and_summary_of_a_shard(
    benchmark: Benchmark, corpus: tuple[Path, Recipe], record: CommitRecord[SampleRecord]
) -> None:
    out, recipe = corpus
    rows = [row.model_copy(update={"index": k}) for k, row in enumerate(record.rows)]
    info = benchmark(lambda: finalise(out, recipe, sources=[], bank=[], samples=[rows]))
    assert info.counts.total == ROWS
    items(benchmark, ROWS)


def items(benchmark: Benchmark, count: int) -> None:
    benchmark.extra_info["items"] = count  # type: ignore[attr-defined]


def test_folder_of_the_same_recipe_is_opened_again(benchmark: Benchmark, corpus: tuple[Path, Recipe]) -> None:
    out, recipe = corpus
    benchmark(open_output, out, recipe)
