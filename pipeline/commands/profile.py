"""Where the time of a run went, as a table on the terminal: the line that the run left in OUT/log/runs.jsonl."""

from __future__ import annotations

from rich.table import Table

from manifests.console import bytes_text, duration_text
from pipeline.commands.terminal import console
from pipeline.run_log import RunEntry, stage_lines

__all__ = ["print_profile"]


def print_profile(run: RunEntry) -> None:
    """Print it: CPU seconds by stage, then what no stage has."""
    lines = stage_lines(run)
    total_s = sum(line.cpu_s for line in lines)
    title = f"where the time went: {run.samples:,} samples, {run.workers} worker{'s' * (run.workers > 1)}"
    table = Table(title=title, title_justify="left", show_footer=True)
    table.add_column("stage", "all stages", no_wrap=True)
    table.add_column("CPU, s", f"{total_s:.2f}", justify="right")
    table.add_column("share", "100 %", justify="right")
    table.add_column("blocked, s", f"{sum(line.blocked_s for line in lines):.2f}", justify="right")
    table.add_column("ms a sample", f"{1e3 * total_s / run.samples:.2f}" if run.samples else "", justify="right")
    table.add_column("images/s", f"{run.samples / total_s:.1f}" if run.samples and total_s else "", justify="right")
    for line in lines:
        table.add_row(
            line.title,
            f"{line.cpu_s:.2f}",
            f"{100 * line.share:.1f} %",
            f"{line.blocked_s:.2f}",
            f"{line.sample_ms:.2f}" if line.sample_ms is not None else "",
            f"{line.rate:,.0f}" if line.rate else "",
        )
    console.print(table)
    console.print(
        f"wall clock {duration_text(run.wall_s)}, of that starting {run.stage_s.get('start', 0.0):.1f} s; workers idle "
        f"for {run.waiting_s:.1f} s in all; blocked: on the disk, or a core that other work held"
    )
    console.print(
        f"peak memory: main process {bytes_text(run.peak_bytes.get('main', 0))}, largest worker "
        f"{bytes_text(run.peak_bytes.get('worker', 0))}; shards written {bytes_text(run.committed_bytes)}"
    )
