"""obstore beside fsspec (s3fs) for what a corpus asks of a bucket: whole files, records, chunks out of files, lists.

    python -m venv build/s3fs && build/s3fs/bin/pip install s3fs
    python -m benchmarks.bucket_clients --s3fs build/s3fs/bin/python [--rounds 5]

s3fs cannot be installed beside moto (they want different releases of botocore): it gets an environment of its own, and
both clients a process each, which take turns. The store is moto's server on this machine, whose own time is part of
the wall time of both; the client's CPU is what the worker of a run loses. Without ``--s3fs`` obstore is timed alone.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import Request, urlopen

__all__ = ["measure", "table"]

_CLIENT = Path(__file__).resolve().parent / "peers" / "bucket_client.py"
_BUCKET = "parts"
_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
Costs = dict[str, dict[str, float]]  # by request, medians of wall_ms and cpu_ms


@contextmanager
def _server() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    endpoint = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(300):
                with suppress(OSError):
                    urlopen(Request(f"{endpoint}/{_BUCKET}", method="PUT"), timeout=10).close()  # noqa: S310
                    break
                time.sleep(0.1)
            yield endpoint
        finally:
            process.terminate()


def measure(pythons: Mapping[str, str], *, rounds: int) -> dict[str, Costs]:
    """Medians over rounds, in which the clients take turns; ``pythons`` has an interpreter for each client."""
    seen: dict[str, dict[str, dict[str, list[float]]]] = {name: {} for name in pythons}
    with _server() as endpoint:
        for _ in range(rounds):
            for name, python in pythons.items():
                command = [python, str(_CLIENT), name, endpoint, _BUCKET]
                done = subprocess.run(
                    command, env=os.environ | _ENVIRONMENT, capture_output=True, text=True, check=True
                )
                for request, costs in json.loads(done.stdout).items():
                    for sort, values in costs.items():
                        seen[name].setdefault(request, {}).setdefault(sort, []).append(statistics.median(values))
    return {
        name: {request: {sort: statistics.median(v) for sort, v in costs.items()} for request, costs in of.items()}
        for name, of in seen.items()
    }


def table(found: Mapping[str, Costs]) -> str:
    """Markdown: milliseconds of every client; more than one, as ratios to the first too."""
    first, *others = found
    head = "| request |" + "".join(f" {name}, wall | {name}, client's CPU |" for name in found)
    head += "".join(f" {name} / {first}, wall | CPU |" for name in others)
    lines = [head, "|---|" + "--:|" * (2 * len(found) + 2 * len(others))]
    for request, base in found[first].items():
        cells = [f"{of[request][sort]:.1f} ms" for of in found.values() for sort in ("wall_ms", "cpu_ms")]
        cells += [f"{found[name][request][sort] / base[sort]:.1f}" for name in others for sort in ("wall_ms", "cpu_ms")]
        lines.append(f"| {request} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--s3fs", metavar="PYTHON", help="interpreter of an environment that has s3fs")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    pythons = {"obstore": sys.executable} | ({"s3fs": options.s3fs} if options.s3fs else {})
    print(table(measure(pythons, rounds=options.rounds)))


if __name__ == "__main__":
    main()
