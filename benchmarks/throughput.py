"""Images per second of the main job, stage by stage, on one and on two workers, interleaved.

Run with::

    python -m benchmarks.throughput --source mvtec:PATH --count 1024 --rounds 3
    python -m benchmarks.throughput                       # embedded sources

Each round makes the corpus once with each number of workers, in turn, in a fresh folder; medians are printed. Stage
figures are images over the seconds that all workers together spent in a stage, so they are per worker. The first,
uncounted run fills Numba's cache. For a yardstick taken in the same run, the finished pictures are encoded as PNG.

How much faster two workers are is limited by the machine, whose cores share caches, memory and the host's clock. So
each round also runs two jobs of half the samples side by side, which know nothing of each other: no scheduler can make
two workers faster than those.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import statistics
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from manifests import Corpus
from manifests.config import parse_source
from pipeline.generate import generate
from pipeline.recipe import Recipe
from pipeline.run_log import read_runs

SAMPLE_STAGES = ("read", "physics", "render", "npcf", "npcf++", "label", "finish", "sqe", "write")
GROUPS = {"place": "physics", "visibility": "label", "judge": "label", "write": "write"}  # by what comes before a _
REFINEMENT = ("render", "npcf", "npcf++")


def run_once(recipe: Recipe, workers: int) -> tuple[dict[str, float], float]:
    """Make the corpus; seconds by stage and PNG images per second of the same pictures."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "corpus"
        generate(out, recipe, workers=workers)
        run = read_runs(out)[-1]
        seconds: Counter[str] = Counter({"wall": run.wall_s})
        for name, spent in run.stage_s.items():
            seconds[GROUPS.get(name.partition("_")[0], name)] += spent
        return dict(seconds), png_rate(Corpus(out))


def run_side_by_side(recipe: Recipe) -> float:
    """Seconds of the slower of two jobs of half the samples each, unknown to each other, while they make samples."""
    half = recipe.model_copy(update={"count": recipe.count // 2})
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        return max(seconds["samples_wall"] for seconds, _ in pool.map(run_once, [half, half], [1, 1]))


def png_rate(corpus: Corpus) -> float:
    """Images per second of PNG encoding (Pillow, default level), one core."""
    pictures = [corpus[k].image for k in range(min(64, len(corpus)))]
    start = time.perf_counter()
    for picture in pictures:
        Image.fromarray(picture.squeeze()).save(io.BytesIO(), format="PNG")
    return len(pictures) / (time.perf_counter() - start)


def measure(recipe: Recipe, *, rounds: int, workers: tuple[int, ...]) -> tuple[dict[int, dict[str, float]], float]:
    """Median seconds by stage for each number of workers, and the median PNG rate as ``png``; and those of two jobs
    side by side.
    """
    run_once(recipe.model_copy(update={"count": 16}), 1)
    runs: dict[int, list[dict[str, float]]] = {number: [] for number in workers}
    apart = []
    for _ in range(rounds):
        for number in workers:
            seconds, png = run_once(recipe, number)
            runs[number].append({**seconds, "png": png})
        apart.append(run_side_by_side(recipe))
    medians = {
        number: {name: statistics.median(run.get(name, 0.0) for run in made) for name in made[0]}
        for number, made in runs.items()
    }
    return medians, statistics.median(apart)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="builtin")
    parser.add_argument("--count", type=int, default=1024)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    recipe = Recipe(count=options.count, size=options.size, seed=7, sources=(parse_source(options.source),))
    found, apart = measure(recipe, rounds=options.rounds, workers=(1, 2))
    table = Table(title=f"{options.source}, {options.count} samples at {options.size} px, median of {options.rounds}")
    table.add_column("images/s of")
    for number in found:
        table.add_column(f"{number} worker(s)", justify="right")
    for stage in SAMPLE_STAGES:
        table.add_row(
            f"{stage} (per worker)", *[f"{options.count / max(run[stage], 1e-9):,.0f}" for run in found.values()]
        )
    table.add_row(
        "render + npcF + npcF++, ms a sample",
        *[f"{1e3 * sum(r[s] for s in REFINEMENT) / options.count:.1f}" for r in found.values()],
    )
    table.add_row(
        "all sample stages (per worker)",
        *[f"{options.count / sum(r[s] for s in SAMPLE_STAGES):.1f}" for r in found.values()],
    )
    table.add_row("samples, wall clock", *[f"{options.count / run['samples_wall']:.1f}" for run in found.values()])
    table.add_row("whole job, wall clock", *[f"{options.count / run['wall']:.1f}" for run in found.values()])
    table.add_row("PNG encoding of the results, one core", *[f"{run['png']:.0f}" for run in found.values()])
    console = Console(width=110)
    console.print(table)
    for number, run in found.items():
        whole = {name: round(run[name], 1) for name in ("sources", "plan", "bank", "samples_wall", "wall")}
        console.print(f"{number} worker(s), seconds: {whole}")
    one, two = (found[number]["samples_wall"] for number in (1, 2))
    console.print(
        f"two workers make samples {one / two:.2f} x as fast as one; two jobs side by side {one / apart:.2f} x"
    )


if __name__ == "__main__":
    main()
