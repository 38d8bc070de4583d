"""One run at a time in a bucket: a lease object, put only where none is, renewed while the run lives.

What a file lock is on a disk. A run that has not been able to renew its lease for `TERM_S` stops by itself; others wait
`GRACE_S` longer before they take it over, so clocks may differ by that much. On the machine of a run that was killed,
its lease is taken over at once.
"""

from __future__ import annotations

import os
import platform
import secrets
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import BaseModel, ValidationError

from manifests import layout
from manifests.errors import MaphError, OutputError, StorageError
from manifests.object_store import ObjectPath

__all__ = ["GRACE_S", "LEASE", "TERM_S", "Lease", "still_holds"]

LEASE = f"{layout.LOG}/lease.json"
TERM_S = 120.0
GRACE_S = 60.0
_RENEWALS = 4  # in a term


class _Holder(BaseModel):
    """Who works in the bucket."""

    token: str
    host: str
    machine: str
    process: int
    renewal: int = 0  # so that every renewal has another entity tag: one that looked expired cannot be taken after it


class Lease:
    """Context in which this process alone writes below a prefix.

    Parameters
    ----------
    root : ObjectPath
        The prefix.
    term_s : float
        After how many seconds without renewal it is lost.

    Raises
    ------
    OutputError
        Another run holds it, or the store has no conditional writes.
    """

    def __init__(self, root: ObjectPath, *, term_s: float = TERM_S) -> None:
        self._root, self._place, self._term_s = root, root / LEASE, term_s
        self._holder = _Holder(
            token=secrets.token_hex(16), host=platform.node(), machine=_machine(), process=os.getpid()
        )
        self._tag: str | None = None
        self._renewed = 0.0
        self._taken = False  # by another
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    @property
    def token(self) -> str:
        """What the lease is known by."""
        return self._holder.token

    @property
    def lost(self) -> bool:
        """Whether it is over, and another run may work here."""
        return self._taken or time.monotonic() - self._renewed > self._term_s

    def _data(self) -> bytes:
        return self._holder.model_dump_json().encode() + b"\n"

    def __enter__(self) -> Self:
        self._renewed = time.monotonic()
        if not self._place.create(self._data()) and not self._is_mine():
            self._take_over()
        if self._place.create(self._data()):
            self._place.remove()
            raise OutputError(
                f"{self._root}: this store has no conditional writes (If-None-Match), which keep two runs apart; "
                "use one that has, such as Amazon S3, Cloudflare R2 or a MinIO of 2024 or later"
            )
        if not self._is_mine():
            raise _refusal(self._root, None)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(MaphError):  # it ends by itself
            if self._is_mine():
                self._place.remove()

    def must_hold(self) -> None:
        """Refuse to go on without the lease.

        Raises
        ------
        OutputError
            It was lost.
        """
        if self.lost:
            raise OutputError(
                f"{self._root}: the lease of this run could not be renewed, another run may be writing here; "
                "finished shards are safe: run the same command again"
            )

    def _is_mine(self) -> bool:
        """Whether the lease that is there is this run's; takes note of its tag."""
        meta, holder = self._place.meta(), _holder(self._place)
        if meta is None or holder is None or holder.token != self.token:
            return False
        self._tag = meta.e_tag
        return True

    def _take_over(self) -> None:
        meta, holder = self._place.meta(), _holder(self._place)
        if meta is None:  # it ended just now
            self._place.create(self._data())
            return
        age = (datetime.now(UTC) - meta.changed).total_seconds()
        if not (holder is not None and _is_dead(holder)) and age < self._term_s + GRACE_S:
            raise _refusal(self._root, holder, self._term_s + GRACE_S - age)
        self._place.replace(self._data(), meta.e_tag)

    def _keep(self) -> None:
        """Renew it again and again: the store notes the time."""
        while not self._ended.wait(self._term_s / _RENEWALS):
            asked = time.monotonic()
            self._holder = self._holder.model_copy(update={"renewal": self._holder.renewal + 1})
            try:
                if not self._place.replace(self._data(), self._tag) and not self._is_mine():
                    self._taken = True
                    return
                self._is_mine()
                self._renewed = asked
            except StorageError:
                continue  # while the term lasts


def still_holds(root: ObjectPath, token: str) -> bool:
    """Whether the lease of this token is there."""
    holder = _holder(root / LEASE)
    return holder is not None and holder.token == token


def _holder(place: ObjectPath) -> _Holder | None:
    try:
        return _Holder.model_validate_json(place.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _is_dead(holder: _Holder) -> bool:
    """Whether it is a process of this machine that has ended."""
    if holder.machine != _machine():
        return False
    try:
        os.kill(holder.process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it is another user's
        return False
    return False


def _machine() -> str:
    """What tells this machine, since it was started, and this container from others: process numbers hold within."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _refusal(root: ObjectPath, holder: _Holder | None, wait_s: float = TERM_S + GRACE_S) -> OutputError:
    who = f"process {holder.process} on {holder.host}" if holder else "process unknown"
    return OutputError(
        f"{root}: another maphc2f ({who}) is writing here; wait for it; "
        f"if it was killed, its lease ends in {max(wait_s, 1.0):.0f} s"
    )
