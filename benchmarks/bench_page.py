"""Medians of the benchmark suite as a page, each beside its peers: from the JSON of pytest-benchmark to Markdown.

Run with (`make bench` does)::

    pytest benchmarks --benchmark-enable --benchmark-only --benchmark-timer=time.process_time \
        --benchmark-json=build/benchmarks.json
    python -m benchmarks.bench_page build/benchmarks.json docs/benchmarks.md

``test_TASK_by_PEER`` does the same as ``test_TASK`` of the same module and parameters; a test that says how many
``items`` it makes gets a rate. What the machine is called is left out.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEERS = {  # by the end of a test's name: what it is called, and its distribution
    "pywavelets": ("PyWavelets", "pywavelets"),
    "py_pde": ("py-pde", "py-pde"),
    "defect_synthesis": ("defect-synthesis", "defect-synthesis"),
    "png_folder": ("PNG folder (Pillow)", "pillow"),
    "webdataset": ("WebDataset (PNG)", "webdataset"),
    "numpy": ("NumPy", "numpy"),
}


@dataclass(frozen=True)
class Timing:
    """One benchmark: seconds of a round, median and quartile range, and how many items a round makes, 0 if untold."""

    module: str
    task: str
    peer: str  # "" for ours
    params: str
    median_s: float
    iqr_s: float
    items: int


def read_timings(report: dict[str, Any]) -> list[Timing]:
    """Timings of a report of pytest-benchmark, in its order."""
    return [_timing(entry) for entry in report["benchmarks"]]


def _timing(entry: dict[str, Any]) -> Timing:
    module, _, name = entry["fullname"].partition("::")
    name, _, params = name.partition("[")
    task, _, peer = name.removeprefix("test_").rpartition("_by_")
    if peer not in PEERS:
        task, peer = name.removeprefix("test_"), ""
    stats, items = entry["stats"], int(entry["extra_info"].get("items", 0))
    return Timing(module, task, peer, params.rstrip("]"), stats["median"], stats["iqr"], items)


def page(report: dict[str, Any]) -> str:
    """The whole page."""
    timings = read_timings(report)
    used = sorted({PEERS[timing.peer][1] for timing in timings if timing.peer})
    versions = ", ".join(f"{package} {version(package)}" for package in used)
    parts = [
        "# Speed, path by path\n",
        "Written by `make bench`. Medians of CPU time, so that other work on the machine weighs little; a ratio is the "
        "peer's median over ours of the same run: above 1, ours is the faster. "
        f"{machine(report['machine_info'])} Peers: {versions}.\n",
    ]
    modules = dict.fromkeys(timing.module for timing in timings)
    parts += [section(module, [timing for timing in timings if timing.module == module]) for module in modules]
    return "\n".join(parts)


def machine(info: dict[str, Any]) -> str:
    """The machine in words, without its name."""
    cpu = info["cpu"]
    return f"{cpu.get('count', '?')} cores ({cpu.get('brand_raw', info['machine'])}), Python {info['python_version']}."


def section(module: str, timings: Sequence[Timing]) -> str:
    """Heading, introduction and table of one module."""
    text = ast.get_docstring(ast.parse((ROOT / module).read_text(encoding="utf-8"))) or module
    head, _, rest = text.partition("\n\n")
    lines = [f"## {_heading(module)}\n", " ".join(head.split()), ""]
    if rest:
        lines += [" ".join(rest.split()), ""]
    ours = [timing for timing in timings if not timing.peer]
    has_peers, has_rates = any(t.peer for t in timings), any(t.items for t in ours)
    headings = ["task", "ours", *(["items/s"] if has_rates else []), *(["peer", "peer's", "peer / ours"] * has_peers)]
    lines.append(f"| {' | '.join(headings)} |")
    lines.append(f"|---|--:|{'--:|' * has_rates}{'---|--:|--:|' * has_peers}")
    for one in ours:
        same = [t for t in timings if t.peer and (t.task, t.params) == (one.task, one.params)]
        rate = [f"{one.items / one.median_s:,.0f}" if one.items else ""] * has_rates
        for peer in same or [None]:
            beside = [PEERS[peer.peer][0], _duration(peer), _ratio(peer, one)] if peer else [""] * 3
            cells = [_title(one), _duration(one), *rate, *(beside if has_peers else [])]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _heading(module: str) -> str:
    return Path(module).stem.removeprefix("bench_").replace("_", " ").capitalize()


def _title(timing: Timing) -> str:
    return timing.task.replace("_", " ") + (f" ({timing.params.replace('-', ', ')})" if timing.params else "")


def _ratio(peer: Timing, ours: Timing) -> str:
    ratio = peer.median_s / ours.median_s
    return f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2g}"


def _duration(timing: Timing) -> str:
    """Median and quartile range in the unit that fits."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if factor * timing.median_s >= 1 or unit == "us":
            half_range = float(f"{factor * timing.iqr_s / 2:.2g}")
            return f"{factor * timing.median_s:.3g} ± {half_range:g} {unit}"
    raise AssertionError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="JSON that pytest-benchmark wrote")
    parser.add_argument("page", type=Path, help="Markdown page to write")
    options = parser.parse_args()
    options.page.write_text(page(json.loads(options.report.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
