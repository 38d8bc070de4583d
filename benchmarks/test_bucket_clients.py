"""The comparison of clients runs, against a real server, and says what it measured."""

from __future__ import annotations

import sys

from benchmarks import bucket_clients
from benchmarks.peers.bucket_client import TIMES


def test_client_is_timed_for_every_request() -> None:
    found = bucket_clients.measure({"obstore": sys.executable}, rounds=1)
    assert list(found["obstore"]) == list(TIMES)
    assert all(cost > 0 for costs in found["obstore"].values() for cost in costs.values())


def test_table_has_milliseconds_and_ratios() -> None:
    one = {"list": {"wall_ms": 10.0, "cpu_ms": 2.0}}
    other = {"list": {"wall_ms": 25.0, "cpu_ms": 9.0}}
    text = bucket_clients.table({"obstore": one, "s3fs": other})
    assert text.splitlines()[-1] == "| list | 10.0 ms | 2.0 ms | 25.0 ms | 9.0 ms | 2.5 | 4.5 |"
    assert bucket_clients.table({"obstore": one}).splitlines()[-1] == "| list | 10.0 ms | 2.0 ms |"
