"""Which of several writers of one shard is heard: the first whose record is there; the others take it for their own.

On a cluster a shard may be made twice at once: a worker that the scheduler has lost may still be at work while another
does its task again. Each writes all files of the shard under private names. Then one at a time, under a lock that the
kernel lets go when the holder dies, looks for a valid record: if there is one its own files are dropped, else they are
renamed into place and the record follows. So no file is ever torn, and none lies under a record that another wrote.

The lock is one byte of OUT/log/writers.lock a shard, which holds between machines where the file system has locks.
"""

from __future__ import annotations

import fcntl
import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from manifests import layout
from manifests.errors import OutputError
from manifests.records import BankRecord, CommitRecord, SampleRecord, SourceRecord
from pipeline.store import StagedFile, commit, discard_staged, holds_files, output_errors, place_shard

__all__ = ["finished_shard", "publish_shard"]

RowT = TypeVar("RowT", SourceRecord, BankRecord, SampleRecord)
_LOCK = "writers.lock"
_PATIENCE_S = 120.0  # renames and a record take milliseconds
_POLL_S = 0.01
_THREADS = threading.Lock()  # locks on a file are a process's, whichever of its threads asks


def publish_shard(out: Path, staged: Sequence[StagedFile], record: CommitRecord[RowT]) -> CommitRecord[RowT]:
    """Put a shard's files in place and commit it, unless another writer has.

    Parameters
    ----------
    out : Path
        The corpus folder.
    staged : sequence of StagedFile
        All files of the shard, see `pipeline.store.stage_shard`.
    record : CommitRecord
        The shard's record but for its files.

    Returns
    -------
    CommitRecord
        The one that is there now: this writer's, or that of the first.

    Raises
    ------
    OutputError
        The disk refuses, or another writer holds the shard and does not end.
    """
    try:
        with _only_writer(out, record.commit_name):
            there = finished_shard(out, record)
            if there is None:
                there = record.model_copy(update={"files": place_shard(out, staged)})
                commit(out, there)
    finally:
        discard_staged(staged)
    return there


def finished_shard(out: Path, record: CommitRecord[RowT]) -> CommitRecord[RowT] | None:
    """The valid record of a shard made from the same inputs by the same code, whoever wrote it; None if there is none.

    Parameters
    ----------
    out : Path
        The corpus folder.
    record : CommitRecord
        What identifies the shard; its files and rows are not looked at.
    """
    path = out / layout.COMMITS / record.commit_name
    try:
        there = type(record).model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    same = all(getattr(there, name) == getattr(record, name) for name in _IDENTITY)
    return there if same and holds_files(out, there) else None


_IDENTITY = ("stage", "key", "shard", "config_sha256", "code_version", "inputs_sha256")


@contextmanager
def _only_writer(out: Path, name: str) -> Iterator[None]:
    """Be the only one that puts this shard in place."""
    byte = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
    deadline = time.monotonic() + _PATIENCE_S
    with _THREADS, output_errors(out), (out / layout.LOG / _LOCK).open("a") as stream:
        while True:
            try:
                fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
                break
            except (BlockingIOError, PermissionError):  # POSIX allows both for a lock that another holds
                if time.monotonic() > deadline:
                    raise OutputError(
                        f"{out}: another process has held the shard {name} for {_PATIENCE_S:.0f} s and does not end; "
                        "look for a stopped worker, end it, and run the same command again"
                    ) from None
            time.sleep(_POLL_S)
        yield
