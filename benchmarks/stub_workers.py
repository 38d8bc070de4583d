"""Real Dask workers, many to a process, for tasks that compute nothing: the far end of `benchmarks.scaling`.

Run by it as ``python -m benchmarks.stub_workers SCHEDULER NUMBER SCRATCH``; ends with its standard input.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from functools import lru_cache
from pathlib import Path

import dask
from distributed import Worker

from manifests.records import CommitRecord, SampleRecord, parse_commit

__all__ = ["QUIET", "stub_of_a_shard", "stub_of_nothing"]

_AT_ONCE = 25  # workers that a process starts together
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "1h",
    "distributed.admin.low-level-log-length": 0,
    "distributed.comm.timeouts.connect": "300s",
    "distributed.comm.timeouts.tcp": "300s",
    "distributed.scheduler.worker-ttl": None,
    "distributed.scheduler.allowed-failures": 100,
    "distributed.worker.http.routes": [],
    "distributed.scheduler.http.routes": [],
}


@lru_cache(maxsize=1)
def _record_of(path: str) -> CommitRecord[SampleRecord]:
    return parse_commit(Path(path).read_bytes(), SampleRecord)


def stub_of_a_shard(spec: tuple[str, object]) -> list[CommitRecord[SampleRecord]]:
    """STUB: instead of making the shard, return a commit record that was stored before."""
    return [_record_of(spec[0])]


def stub_of_nothing(spec: int) -> int:
    """STUB: a task with nothing to take and nothing to tell, for what Dask itself costs."""
    return spec


async def _serve(address: str, workers: int, scratch: str) -> None:
    """So many workers of one thread each in this process, until standard input ends."""
    quiet = {"memory_limit": 0, "dashboard": False, "heartbeat_interval": "30s", "local_directory": scratch}
    made: list[Worker] = []
    for first in range(0, workers, _AT_ONCE):
        few = range(first, min(workers, first + _AT_ONCE))
        made += await asyncio.gather(*(Worker(address, nthreads=1, **quiet) for _ in few))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    made.clear()
    os._exit(0)  # the scheduler goes with the measurement; nobody waits for a thousand farewells


def main() -> None:
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask.config.set(QUIET):
        asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), sys.argv[3]))


if __name__ == "__main__":
    main()
