"""What a corpus asks of a bucket, by obstore or by fsspec (s3fs); a program of its own, for an environment of its own.

    python benchmarks/peers/bucket_client.py obstore|s3fs ENDPOINT BUCKET

It needs nothing of this project. A JSON object on stdout: by request, wall and CPU milliseconds of each.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

SHARD, RECORD, CHUNK = 4 << 20, 300 << 10, 150 << 10  # bytes: of a file of a shard, of a commit record, of a sample
TIMES = {"put a shard's file": 12, "create a record": 24, "get a file": 12, "get a sample's chunk": 60, "list": 6}


def main(client: str, endpoint: str, bucket: str) -> None:
    calls = {"obstore": _obstore, "s3fs": _s3fs}[client](endpoint, bucket)
    found: dict[str, dict[str, list[float]]] = {}
    for name, times in TIMES.items():
        costs: dict[str, list[float]] = {"wall_ms": [], "cpu_ms": []}
        for number in range(times):
            wall, cpu = time.perf_counter(), time.process_time()
            calls[name](number)
            costs["wall_ms"].append(1e3 * (time.perf_counter() - wall))
            costs["cpu_ms"].append(1e3 * (time.process_time() - cpu))
        found[name] = costs
    sys.stdout.write(json.dumps(found) + "\n")


def _obstore(endpoint: str, bucket: str) -> dict[str, Callable[[int], Any]]:
    import obstore
    from obstore.store import S3Store

    store = S3Store(bucket, config={"endpoint": endpoint, "region": "us-east-1", "allow_http": True})
    shard, record = os.urandom(SHARD), os.urandom(RECORD)
    return {
        "put a shard's file": lambda k: obstore.put(store, f"o/data/{k}", shard),
        "create a record": lambda k: obstore.put(store, f"o/{time.time_ns()}", record, mode="create"),
        "get a file": lambda k: obstore.get(store, f"o/data/{k}").bytes().to_bytes(),
        "get a sample's chunk": lambda k: obstore.get_range(
            store, f"o/data/{k % 12}", start=k * 1000, length=CHUNK
        ).to_bytes(),
        "list": lambda k: [item["path"] for page in obstore.list(store, prefix="o/") for item in page],
    }


def _s3fs(endpoint: str, bucket: str) -> dict[str, Callable[[int], Any]]:
    import s3fs

    store = s3fs.S3FileSystem(
        endpoint_url=endpoint, client_kwargs={"region_name": "us-east-1"}, use_listings_cache=False
    )
    shard, record = os.urandom(SHARD), os.urandom(RECORD)
    return {
        "put a shard's file": lambda k: store.pipe_file(f"{bucket}/f/data/{k}", shard),
        "create a record": lambda k: store.pipe_file(f"{bucket}/f/{time.time_ns()}", record, mode="create"),
        "get a file": lambda k: store.cat_file(f"{bucket}/f/data/{k}"),
        "get a sample's chunk": lambda k: store.cat_file(
            f"{bucket}/f/data/{k % 12}", start=k * 1000, end=k * 1000 + CHUNK
        ),
        "list": lambda k: store.find(f"{bucket}/f"),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
