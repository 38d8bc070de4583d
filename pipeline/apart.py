"""Samples whose making may end the process: each is made in another one that may die, and what kills it is recorded.

A segmentation fault or the kernel's want of memory takes a process down without a word. When a task has done that to
its workers again and again, its samples are made here, one by one, by a helper process. A sample that ends the helper
twice gets the status ``crashed``; all others have the bytes that they have anywhere. OUT/log/crashes.jsonl says which
and how, OUT/log/crashes.txt holds what the helper said last.
"""

from __future__ import annotations

import faulthandler
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from manifests import layout
from manifests.durable import write_atomic
from manifests.records import PlanRow
from pipeline.composition import MadeSample
from pipeline.synthesis import SampleSpec, ShardResult, crashed, make_samples, store_made
from refine.devices import current_device, use_device
from refine.passes import settle_process

__all__ = ["guarded", "store_samples_apart"]

Store = Callable[[Sequence[SampleSpec]], list[ShardResult]]

_DEATHS = 2  # of the helper at one sample: the first may have been chance
_DEATHS_BEFORE = 2  # of a run that makes samples itself, at the same shards
_UNDER_WAY = "under_way.json"
_ROOT = Path(__file__).resolve().parent.parent


def store_samples_apart(specs: Sequence[SampleSpec]) -> list[ShardResult]:
    """As `pipeline.synthesis.store_samples`; a sample that ends the process that makes it is recorded as crashed."""
    return store_made(specs, _make_apart)


def guarded(store: Store) -> Store:
    """`pipeline.synthesis.store_samples` for the process of the run itself, which dies with it and cannot tell.

    While it is at work, OUT/log/under_way.json says on what. A run that finds that those before it died there twice
    makes these samples apart.
    """

    @wraps(store)
    def store_guarded(specs: Sequence[SampleSpec]) -> list[ShardResult]:
        return _store_guarded(store, specs)

    return store_guarded


def _store_guarded(store: Store, specs: Sequence[SampleSpec]) -> list[ShardResult]:
    path = specs[0].out / layout.LOG / _UNDER_WAY
    names = [spec.commit_name for spec in specs]
    deaths = _deaths_at(path, names)
    if deaths >= _DEATHS_BEFORE:
        results = store_samples_apart(specs)
    else:
        write_atomic(path, json.dumps({"shards": names, "deaths": deaths}).encode())
        try:
            results = store(specs)
        except BaseException:  # an error or Ctrl-C: the process did not just die
            path.unlink(missing_ok=True)
            raise
    path.unlink(missing_ok=True)
    return results


def _deaths_at(path: Path, names: Sequence[str]) -> int:
    """How many runs died one after another while they made any of these shards."""
    try:
        left = json.loads(path.read_bytes())
        return int(left["deaths"]) + 1 if set(names) & set(left["shards"]) else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _make_apart(specs: Sequence[SampleSpec]) -> Iterator[MadeSample]:
    """Samples of some shards in order, as `make_samples` does."""
    wanted = [(spec, row) for spec in specs for row in spec.rows]
    done = deaths = 0
    while done < len(wanted):
        for made in _helped(wanted[done:]):
            if isinstance(made, int):  # it died of the sample that is next
                deaths += 1
                _tell(*wanted[done], made, deaths)
                if deaths < _DEATHS:
                    break
                made = crashed(*wanted[done])
            done, deaths = done + 1, 0
            yield made


def _helped(wanted: Sequence[tuple[SampleSpec, PlanRow]]) -> Iterator[MadeSample | int]:
    """Samples as one helper makes them; the last is its exit code where it died before it had made all."""
    ours, theirs = Pipe()
    with (wanted[0][0].out / layout.LOG / "crashes.txt").open("ab") as said:
        helper = subprocess.Popen(  # noqa: S603  (our own program; Dask's workers may have no children by multiprocessing)
            [sys.executable, "-c", "from pipeline.apart import serve; serve()", str(theirs.fileno())],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), os.getenv("PYTHONPATH"))))},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=[theirs.fileno()],
        )
    theirs.close()
    try:
        ours.send((current_device(), wanted))
        for _ in wanted:
            answer = ours.recv()
            if isinstance(answer, Exception):
                raise answer
            yield answer
    except (EOFError, ConnectionError):
        yield helper.wait()
    finally:
        ours.close()
        helper.kill()
        helper.wait()


def serve() -> None:
    """Be the helper: make the samples that come by the connection, and send each back."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal sends them to the whole group
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()
    with suppress(OSError):  # no such file, or none that may be written: then memory has to suffice
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory is short, this process goes first
    connection = Connection(int(sys.argv[1]))
    device, wanted = connection.recv()
    threading.Thread(target=_leave_with_parent, args=(connection,), daemon=True).start()
    settle_process(1)
    use_device(device)
    for spec, row in wanted:
        connection.send(_one(spec, row))


def _one(spec: SampleSpec, row: PlanRow) -> MadeSample | Exception:
    try:
        (made,) = make_samples([replace(spec, rows=(row,))])
    except Exception as error:  # noqa: BLE001  (goes to the parent, which raises it)
        return error
    return made


def _leave_with_parent(connection: Connection) -> None:
    """Nothing more is sent to a helper: what comes is the end of its parent."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(1)


def _tell(spec: SampleSpec, row: PlanRow, code: int, death: int) -> None:
    """A line of OUT/log/crashes.jsonl."""
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    entry = {
        "host": platform.node(),
        "sample": row.id,
        "index": row.index,
        "shard": spec.commit_name,
        "ended_by": how,
        "death": death,
    }
    with (spec.out / layout.LOG / "crashes.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")
