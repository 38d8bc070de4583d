"""The scaling study works, with few workers and rows; its model is held to cases that can be counted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import scaling
from benchmarks.scaling_page import Costs, Finalised, Results, Simulated, limits, wall_s, write_page
from pipeline.generate import generate
from pipeline.recipe import Recipe

COSTS = Costs(
    samples=96,
    sample_ms=50.0,  # 12.8 s a shard
    stage_ms={"render": 20.0, "sqe": 30.0},
    trajectory_ms=100.0,
    sample_bytes=200_000.0,
    record_bytes=2000.0,
    shard_files=9,
    shard_fsyncs=60,
    plan_row_us=100.0,
    worker_bytes=10**9,
    trajectories={115_987: 1000, 10_000_000: 1000},
)
RESULTS = Results(
    COSTS,
    [
        Simulated("a bare task", 1000, 3000, wall_s=9.0, main_cpu_s=3.0, main_bytes=10**9),
        Simulated("a shard of 256 rows", 1000, 3000, wall_s=60.0, main_cpu_s=30.0, main_bytes=10**9),
    ],
    [
        Finalised(20_000, 6.0, 10**9, 4 * 10**6),
        Finalised(120_000, 36.0, 2 * 10**9, 24 * 10**6),
    ],
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe.model_validate(
        {
            "count": 6,
            "size": 64,
            "sources": [{"kind": "builtin", "categories": ["coins"]}],
            "bank": {"trajectories": 10},
            "mechanisms": {"pitting": {"grid": 32, "snapshots": 4}},
        }
    )
    out = tmp_path_factory.mktemp("scaling") / "corpus"
    generate(out, recipe, workers=1)
    return out


def test_stub_workers_are_driven_by_the_real_executor(corpus: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    record.write_bytes(scaling.wide_record(corpus).to_bytes())
    with scaling.many_workers(6, 2) as client:
        assert len(client.scheduler_info(n_workers=-1)["workers"]) == 6
        bare, shard = scaling.simulate(client, 6, 24, record, scaling.wide_spec(corpus))
    assert (bare.tasks, shard.tasks, shard.workers) == (24, 24, 6)
    assert shard.main_cpu_s > bare.main_cpu_s > 0, "256 rows there and back cost more than a number"


def test_last_stage_is_measured_on_rows_of_their_own(corpus: Path) -> None:
    few, more = (scaling.finalised(corpus, rows) for rows in (64, 1024))
    assert (few.rows, more.rows) == (64, 1024)
    assert more.finalise_s > few.finalise_s > 0
    assert more.manifest_bytes > few.manifest_bytes > 0
    assert more.peak_bytes - few.peak_bytes < 960 * 10_000, "a record in memory is over 10 kB"


def test_fsyncs_of_a_shard_are_counted(tmp_path: Path) -> None:
    recipe = scaling.main_recipe(8)
    arrays = len(scaling.sample_arrays(recipe))
    found = scaling.fsyncs_of_a_shard(tmp_path, recipe)
    shared = 4  # the corpus folder, data/, the data set, the category
    assert arrays * 2 + shared + 2 <= found <= arrays * 6 + shared + 2


def test_limits_are_those_counted_by_hand() -> None:
    found = {limit.what.split(":")[0].split(",")[0]: limit.workers for limit in limits(RESULTS)}
    assert found["main process"] == pytest.approx(1280)  # 10 ms a shard: 100 shards/s, each of 12.8 s
    assert found["the same if tasks took and told nothing (Dask alone)"] == pytest.approx(12_800)
    assert found["object store"] == pytest.approx(3500 / 10 * 12.8)
    assert found["one link of 10 Gbit/s to the store"] == pytest.approx(1.25e9 / (256 * 200_000) * 12.8)
    assert limits(RESULTS)[0].workers == pytest.approx(312.5)


def test_time_falls_with_workers_until_the_main_process_is_full() -> None:
    whole, alone = wall_s(RESULTS, 115_987, 1)
    assert alone == pytest.approx(115_987 * (100e-6 + 300e-6), rel=0.01)
    assert whole - alone == pytest.approx(115_987 * 0.05 + 100, rel=1e-6)
    many, _ = wall_s(RESULTS, 10_000_000, 1000)
    too_many, _ = wall_s(RESULTS, 10_000_000, 100_000)
    assert too_many < many
    assert too_many - wall_s(RESULTS, 10_000_000, 1)[1] == pytest.approx(39_063 * 0.01), "10 ms a shard and no less"
    cheaper = replace(RESULTS, simulated=[RESULTS.simulated[0], replace(RESULTS.simulated[1], main_cpu_s=3.0)])
    assert wall_s(cheaper, 10_000_000, 100_000)[0] < too_many


def test_page_says_what_is_stubbed_computed_and_published(tmp_path: Path) -> None:
    write_page(tmp_path / "scaling.md", RESULTS)
    page = (tmp_path / "scaling.md").read_text(encoding="utf-8")
    for text in ("**stubs**", "computed", "Amazon publishes 3,500 PUT/s", "Ten million rows were not run"):
        assert text in page
    assert "| 310 | one link of 10 Gbit/s to the store |" in page
    assert "| 10,000,000, computed |" in page
    assert (tmp_path / "pictures" / "scaling.png").stat().st_size > 10_000
