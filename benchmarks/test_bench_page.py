"""The page of the benchmark suite: peers stand beside ours, and the machine stays nameless."""

from __future__ import annotations

from typing import Any

from benchmarks.bench_page import page, read_timings


def entry(name: str, median: float, **extra: Any) -> dict[str, Any]:
    stats = {"median": median, "iqr": median / 10}
    return {"fullname": f"benchmarks/{name}", "stats": stats, "extra_info": extra}


REPORT = {
    "machine_info": {
        "node": "secret-host",
        "machine": "x86_64",
        "python_version": "3.11.7",
        "cpu": {"count": 2, "brand_raw": "Some CPU"},
    },
    "benchmarks": [
        entry("bench_store.py::test_write_32", 0.02, items=32),
        entry("bench_store.py::test_write_32_by_png_folder", 0.5, items=32),
        entry("bench_store.py::test_write_32_by_webdataset", 0.6, items=32),
        entry("bench_wavelets.py::test_apart[grey-haar]", 2e-6),
        entry("bench_wavelets.py::test_apart_by_pywavelets[grey-haar]", 1e-6),
        entry("bench_wavelets.py::test_apart[colour-haar]", 4e-3),
        entry("bench_wavelets.py::test_apart_by_pywavelets[colour-haar]", 8e-3),
    ],
}


def test_every_peer_stands_beside_ours_of_the_same_parameters() -> None:
    made = page(REPORT)
    assert "| write 32 | 20 ± 1 ms | 1,600 | PNG folder (Pillow) | 500 ± 25 ms | 25.0 |" in made
    assert "| write 32 | 20 ± 1 ms | 1,600 | WebDataset (PNG) | 600 ± 30 ms | 30.0 |" in made
    assert "| apart (grey, haar) | 2 ± 0.1 us | PyWavelets | 1 ± 0.05 us | 0.5 |" in made
    assert "| apart (colour, haar) | 4 ± 0.2 ms | PyWavelets | 8 ± 0.4 ms | 2.0 |" in made


def test_machine_is_described_and_not_named() -> None:
    made = page(REPORT)
    assert "2 cores (Some CPU), Python 3.11.7." in made
    assert "secret-host" not in made


def test_task_whose_name_only_looks_like_a_peers_is_ours() -> None:
    report = {**REPORT, "benchmarks": [entry("bench_store.py::test_read_one_by_one", 1.0)]}
    [timing] = read_timings(report)
    assert (timing.task, timing.peer) == ("read_one_by_one", "")
    assert "| read one by one | 1 ± 0.05 s |" in page(report)
