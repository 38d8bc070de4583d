"""How fast a report of the reference corpus's size is written, and how soon its gallery shows a picture.

Run with::

    python -m benchmarks.report_scale CORPUS            # 115,987 rows, repeated from a small corpus

The rows of a small corpus are repeated, with ids, numbers, qualities and severities of their own, and so are its
pictures: a sheet of the same thumbnails is drawn once and written again. All else is as `maphc2f report` does it. Times
in the page are from the start of its navigation in a browser that has just been started, median of five.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from manifests import Corpus
from manifests.corpus import Sample
from pipeline.contact_sheet import as_rgb
from pipeline.inspection_card import photographs
from pipeline.report import corpus_report
from pipeline.report.corpus_report import write_pages
from pipeline.report.overview import read_stages
from pipeline.report.site import build_site
from tests.pipeline.report.browser import Browser, find_chromium

__all__ = ["RepeatedPictures", "main", "repeated"]

REFERENCE_COUNT = 115_987


class RepeatedPictures:
    """The pictures of a corpus, again and again."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._known = [(as_rgb(sample.image), sample.mask > 0) for sample in corpus]

    def block(self, start: int, stop: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        """Results and masks."""
        for position in range(start, stop):
            yield self._known[position % len(self._known)]

    def sample(self, position: int) -> Sample:
        """A sample with all its pictures."""
        return self._corpus[position % len(self._corpus)]


def repeated(table: pa.Table, count: int, rng: np.random.Generator) -> pa.Table:
    """A manifest of ``count`` rows from one of few, with ids, indices, qualities and severities of their own."""
    rows = table.take(pa.array(np.arange(count) % len(table)))
    own = {
        "id": pa.array([f"{k:016x}" for k in rng.choice(2**62, count, replace=False).tolist()]),
        "index": pa.array(np.arange(count)),
        "sqe": pa.array(np.round(rng.beta(6, 2, count), 6)),
        "severity": pa.array(np.round(rng.uniform(0, 1, count), 6)),
    }
    for name, values in own.items():
        place = rows.column_names.index(name)
        rows = rows.set_column(place, rows.schema.field(name), values)
    return rows


def write_scaled(corpus_path: Path, dest: Path, *, count: int, details: int) -> None:
    corpus = Corpus(corpus_path, statuses=None)
    table = repeated(corpus.table, count, np.random.default_rng(0))
    drawn: dict[tuple[int, int], tuple[bytes, bytes]] = {}
    draw = corpus_report.sheets

    def once(samples: Iterable[tuple[NDArray[np.uint8], NDArray[np.bool_]]]) -> tuple[bytes, bytes]:
        given = list(samples)
        key = (id(given[0][0]), len(given))
        if key not in drawn:
            drawn[key] = draw(given)
        return drawn[key]

    corpus_report.sheets = once
    sources = photographs(corpus)
    with build_site(dest, kind="report") as site:
        pictures = RepeatedPictures(corpus)
        write_pages(site, table, corpus.info, sources, pictures, times=read_stages(corpus_path), details=details)


def page_times(report: Path, command: str, *, rounds: int) -> dict[str, list[float]]:
    """Milliseconds from navigation to what a user waits for, each round in a fresh browser."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        with Browser(command) as browser:
            browser.look_as(1360, 900)
            browser.open(report / "index.html")
            paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
            browser.wait(f"{paint} > 0")
            found.setdefault("overview, first paint", []).append(float(browser.run(paint)))
            browser.open(report / "gallery.html")
            first = "performance.getEntriesByName('maphc2f-first-picture')[0]?.startTime"
            browser.wait(f"{first} > 0")
            found.setdefault("gallery, first picture", []).append(float(browser.run(first)))
            browser.wait("document.documentElement.dataset.ready === '1'")
            change = (
                "(async () => { const start = performance.now(); const select = document.forms[0].elements.sort;"
                "select.value = '-sqe'; select.dispatchEvent(new Event('input', {bubbles: true}));"
                "const sorted = performance.now() - start;"
                "const shown = () => [...document.querySelectorAll('.cell')].filter(c => {"
                " const b = c.getBoundingClientRect(); return b.top < innerHeight && b.bottom > 0; })"
                ".every(c => c.dataset.drawn);"
                "while (!shown()) await new Promise(r => setTimeout(r, 10));"
                "return [sorted, performance.now() - start]; })()"
            )
            sort_ms, shown_ms = browser.run(change)
            found.setdefault("sorting by quality", []).append(sort_ms)
            found.setdefault("sorted, all pictures in view", []).append(shown_ms)
            heap = browser.run("performance.memory.usedJSHeapSize / 1e6")
            found.setdefault("script heap, MB", []).append(float(heap))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="a small finished corpus")
    parser.add_argument("--count", type=int, default=REFERENCE_COUNT)
    parser.add_argument("--details", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="leave the report here")
    options = parser.parse_args()
    command = find_chromium()
    if command is None:
        parser.error("Chromium is not installed")
    with tempfile.TemporaryDirectory() as scratch:
        dest = options.keep or Path(scratch) / "report"
        start, used = time.perf_counter(), time.process_time()
        write_scaled(options.corpus, dest, count=options.count, details=options.details)
        files = [path.stat().st_size for path in dest.rglob("*") if path.is_file()]
        print(f"{options.count:,} samples written in {time.perf_counter() - start:.0f} s", end=" ")
        print(f"({time.process_time() - used:.0f} s of CPU), {len(files):,} files, {sum(files) / 1e6:.0f} MB", end=", ")
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB", flush=True)
        for name, values in page_times(dest, command, rounds=options.rounds).items():
            print(f"{name}: {statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})")
        if not options.keep:
            shutil.rmtree(dest)


if __name__ == "__main__":
    main()
