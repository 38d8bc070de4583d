"""A place in a bucket of an S3 store: ``s3://bucket/prefix``, with as much of pathlib's reading as a corpus needs.

Every request is tried again, a bounded number of times and ever later, where the store fails, is slow or hangs up.
Credentials, endpoint and region come from the standard environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, …) or
from a profile in ``~/.aws``; they are in no path, no record and no message.
"""

from __future__ import annotations

import configparser
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from manifests.errors import StorageError

if TYPE_CHECKING:
    from obstore.store import S3Config

__all__ = ["ObjectMeta", "ObjectPath", "Place", "explained", "forget_clients", "place_of", "s3_store"]

ResultT = TypeVar("ResultT")

_ATTEMPTS = 4  # of a request that the client has given up, each of which it tried several times
_RETRIES = 5
_RETRY_S = 60.0
_CONNECT_S = 5.0
_TIMEOUT_S = 60.0  # of one request; MAPHC2F_S3_TIMEOUT
_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<key>.*))?")
_FORM = "expected s3://bucket/prefix; credentials belong in the environment or in a profile, never in the address"


@dataclass(frozen=True)
class ObjectMeta:
    """What the store knows of an object."""

    size: int
    e_tag: str | None
    changed: datetime


@dataclass(frozen=True)
class ObjectPath:
    """A key, or a prefix of keys, in a bucket.

    >>> str(ObjectPath("parts", "out") / "config.json")
    's3://parts/out/config.json'
    """

    bucket: str
    key: str

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.bucket, f"{self.key}/{name}" if self.key else name)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}".rstrip("/")

    @property
    def name(self) -> str:
        """Last part of the key, or the bucket."""
        return self.key.rpartition("/")[2] or self.bucket

    def read_bytes(self) -> bytes:
        """The object.

        Raises
        ------
        FileNotFoundError
            There is none.
        StorageError
            The store cannot be reached or refuses.
        """
        return self._try(lambda store: obstore.get(store, self.key).bytes().to_bytes())

    def meta(self) -> ObjectMeta | None:
        """Size, entity tag and time of the object; None if there is none."""
        try:
            found = self._try(lambda store: obstore.head(store, self.key))
        except FileNotFoundError:
            return None
        return ObjectMeta(found["size"], found["e_tag"], found["last_modified"])

    def is_file(self) -> bool:
        """Whether there is an object of this key."""
        return self.meta() is not None

    def names(self) -> list[str]:
        """Names just below this prefix: with it, whether the store can be reached and read at all."""
        return self._try(self._names, attempts=1)

    def _names(self, store: S3Store) -> list[str]:
        found = obstore.list_with_delimiter(store, prefix=self.key or None)
        paths = [*found["common_prefixes"], *(item["path"] for item in found["objects"])]
        names = {path.removeprefix(self.key).strip("/").split("/")[0] for path in paths}
        return sorted(names - {""})  # what a console puts for an empty "folder"

    def sizes(self) -> dict[str, int]:
        """Size of every object below this prefix, by its key relative to it."""
        return self._try(self._sizes)

    def _sizes(self, store: S3Store) -> dict[str, int]:
        cut = len(self.key) + 1 if self.key else 0
        listed = obstore.list(store, prefix=self.key or None, chunk_size=1000)
        sizes = {item["path"][cut:]: item["size"] for page in listed for item in page}
        folders = {str(parent) for name in sizes for parent in PurePosixPath(name).parents}
        return {name: size for name, size in sizes.items() if name and (size or name not in folders)}

    def write(self, data: bytes | Path) -> None:
        """Put an object in place of whatever was there."""
        self._try(lambda store: obstore.put(store, self.key, data))

    def create(self, data: bytes) -> bool:
        """Put an object only where none is; whether it was put.

        An answer that was lost on its way looks like a loser's: compare what is there before you call it a conflict.
        """
        return self._put_if("create", data)

    def replace(self, data: bytes, e_tag: str | None) -> bool:
        """Put an object only in place of the one with this entity tag; whether it was put."""
        return self._put_if({"e_tag": e_tag or ""}, data)

    def _put_if(self, mode: Literal["create"] | obstore.UpdateVersion, data: bytes) -> bool:
        try:
            self._try(lambda store: obstore.put(store, self.key, data, mode=mode, use_multipart=False))
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            return False
        return True

    def remove(self, names: Iterable[str] = ("",)) -> None:
        """Remove objects below this prefix, by default the one of this very key; one that is not there is no error."""
        keys = [(self / name).key if name else self.key for name in names]
        if keys:
            self._try(lambda store: obstore.delete(store, keys))

    def _try(self, request: Callable[[S3Store], ResultT], *, attempts: int = _ATTEMPTS) -> ResultT:
        for attempt in range(1, attempts + 1):
            try:
                return request(s3_store(self.bucket))
            except (AlreadyExistsError, PreconditionError):
                raise
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise explained(self, error) from None
                raise FileNotFoundError(f"{self}: no such object") from None
            except (BaseError, OSError) as error:
                if attempt == attempts or not _may_pass(error):
                    raise explained(self, error) from None
            time.sleep(2.0 ** (attempt - 2) * random.uniform(0.5, 1.0))  # noqa: S311  (0.25 s, 0.5 s, 1 s and more)
        raise AssertionError("unreachable")


Place = Path | ObjectPath


def place_of(text: str | Path) -> Place:
    """A folder, or a place in a bucket where the text is an address.

    Raises
    ------
    StorageError
        It is an address of another kind, or was made a `Path`, or holds credentials; the message does not repeat them.
    """
    if isinstance(text, Path) and text.parts[:1] == ("s3:",):
        raise StorageError("s3://…: is in a bucket; this needs a folder: copy the corpus to a disk first")
    if isinstance(text, Path) or "://" not in text:
        return Path(text)
    scheme = text.partition("://")[0]
    if scheme != "s3":
        known = scheme if scheme.isalnum() else "this"
        raise StorageError(f"{known}://…: is not a store that is known; expected a folder or s3://bucket/prefix")
    if any(mark in text for mark in "@?#"):
        raise StorageError(f"s3://…: holds an @, ? or #; {_FORM}")
    fits = _URL.fullmatch(text)
    if fits is None:
        raise StorageError(f"s3://…: is not an address of a bucket; {_FORM}")
    parts = (fits["key"] or "").rstrip("/").split("/")
    if parts != [""] and any(part in {"", ".", ".."} for part in parts):
        raise StorageError(f"{text}: has an empty part, a . or a .. in it; {_FORM}")
    return ObjectPath(fits["bucket"], "/".join(parts))


def s3_store(bucket: str) -> S3Store:
    """The client of a bucket, one a process, as the environment or a profile has it.

    Raises
    ------
    StorageError
        This process was forked from one that had a client: its threads are not here, and a request would never end.
    """
    if _FORKED.is_set():
        raise StorageError(
            f"s3://{bucket}: was opened before this process was forked; spawn processes instead, "
            'for a torch DataLoader by multiprocessing_context="spawn"'
        )
    return _client(bucket)


_FORKED = threading.Event()


def _after_fork() -> None:
    if _client.cache_info().currsize:
        _FORKED.set()


os.register_at_fork(after_in_child=_after_fork)


def forget_clients() -> None:
    """Have the environment read again."""
    _client.cache_clear()


@lru_cache(maxsize=8)
def _client(bucket: str) -> S3Store:
    timeout = os.environ.get("MAPHC2F_S3_TIMEOUT", "")
    seconds = float(timeout) if re.fullmatch(r"\d+(\.\d+)?", timeout) else _TIMEOUT_S
    return S3Store(
        bucket,
        config=_profile(),
        client_options={
            "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in {"1", "true"},
            "connect_timeout": timedelta(seconds=min(seconds, _CONNECT_S)),
            "timeout": timedelta(seconds=seconds),
        },
        retry_config={
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=_RETRY_S),
            "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=10), "base": 2},
        },
    )


def _profile() -> S3Config:
    """Keys, region and endpoint of the profile, for what the environment does not say; only where it has no keys."""
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return {}
    home, name = Path.home() / ".aws", os.environ.get("AWS_PROFILE", "default")
    keys = _section(Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", home / "credentials")), name)
    more = _section(Path(os.environ.get("AWS_CONFIG_FILE", home / "config")), name) | _section(
        Path(os.environ.get("AWS_CONFIG_FILE", home / "config")), f"profile {name}"
    )
    found: S3Config = {}
    if "aws_access_key_id" in keys and "aws_secret_access_key" in keys:
        found["access_key_id"], found["secret_access_key"] = keys["aws_access_key_id"], keys["aws_secret_access_key"]
        if "aws_session_token" in keys:
            found["session_token"] = keys["aws_session_token"]
    if "region" in more and not {"AWS_REGION", "AWS_DEFAULT_REGION"} & os.environ.keys():
        found["region"] = more["region"]
    if "endpoint_url" in more and not {"AWS_ENDPOINT_URL", "AWS_ENDPOINT"} & os.environ.keys():
        found["endpoint"] = more["endpoint_url"]
    return found


def _section(path: Path, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        raise StorageError(f"{path}: cannot be read as a profile file; mend it, or set AWS_ACCESS_KEY_ID") from None
    return dict(parser[name]) if parser.has_section(name) else {}


_REASONS: Sequence[tuple[str, str]] = (
    ("NoSuchBucket", "there is no such bucket; make it, or give another"),
    ("builder error", "the endpoint is not one for https; give https, or set AWS_ALLOW_HTTP=true"),
    ("169.254.", "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"),
    ("ExpiredToken", "the credentials have expired; renew them"),
    ("PermanentRedirect", "the bucket is in another region; set AWS_REGION"),
    ("AuthorizationHeaderMalformed", "the bucket is in another region; set AWS_REGION"),
    ("301 Moved", "the bucket is in another region; set AWS_REGION"),
    ("NotImplemented", "the store has no conditional writes (If-None-Match), which this needs; use one that has"),
)


def explained(place: Place, error: Exception) -> StorageError:
    """One line that tells what is wrong in our own words: the client's text holds addresses and what the store sent."""
    text = str(error)
    if isinstance(error, InvalidPathError):
        return StorageError(f"{place}: holds a key with an empty part, a . or a .. in it; remove that object")
    for mark, reason in _REASONS:
        if mark in text:
            return StorageError(f"{place}: {reason}")
    told = _told(text)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or " 403 " in text or " 401 " in text:
        return StorageError(f"{place}: access is denied{told}; check the credentials and what they may do")
    if told:
        return StorageError(f"{place}: the store at {_endpoint()} fails{told}; run the same command again later")
    return StorageError(
        f"{place}: the store at {_endpoint()} cannot be reached or does not answer; "
        "check AWS_ENDPOINT_URL and the network, then run the same command again"
    )


def _told(text: str) -> str:
    """Status and code of the store's answer, such as `` (503 SlowDown)``."""
    status, code = re.search(r"status code: (\d{3})", text), re.search(r"<Code>(\w{1,60})</Code>", text)
    words = " ".join(found[1] for found in (status, code) if found)
    return f" ({words})" if words else ""


def _endpoint() -> str:
    given = next(
        (os.environ[n] for n in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT") if n in os.environ), ""
    )
    try:
        host, port = urlsplit(given).hostname, urlsplit(given).port  # without a user's name or password
    except ValueError:
        return "AWS_ENDPOINT_URL"
    return f"{host}:{port}" if host and port else host or "AWS"


def _may_pass(error: Exception) -> bool:
    """Whether trying again may help: not after an answer that says no, or a request that was never sent."""
    text = str(error)
    status = re.search(r"status code: (\d{3})", text)
    if status:
        return status[1][0] == "5" or status[1] in {"408", "409", "429"}
    return not isinstance(error, InvalidPathError) and "builder error" not in text and "169.254." not in text
