"""A real S3 server in a process of its own (moto), and a proxy before it that counts requests and injects faults."""

from __future__ import annotations

import http.client
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

import obstore
from obstore.store import S3Store

MARKER = "MARKER-of-a-secret-that-must-not-be-seen"
KEY = "AKIAMARKERKEY"
BUCKET = "parts"
FAULTS = ("refuse", "fail", "lose", "drop", "cut", "slow")


@dataclass(frozen=True)
class Seen:
    """A request that went through: method, key below the bucket with its query, status of the answer."""

    method: str
    path: str
    status: int


class Proxy(ThreadingHTTPServer):
    """Between client and server on 127.0.0.1; what `fault` says happens to a request.

    refuse: 500 and the server hears nothing; fail: the server does it, the client gets a 500; lose: the server does it,
    the connection is dropped; drop: dropped before anything; cut: half of the answer; slow: a while later.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = port
        self.seen: list[Seen] = []
        self.faults: list[str] = []
        self._random: random.Random | None = None
        self._share = 0.0
        self.denied = False
        self.strip_conditions = False
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextmanager
    def unreliable(self, seed: int, share: float) -> Iterator[list[str]]:
        """Context in which so many of the requests go wrong, at random; gives the list of faults."""
        self._random, self._share, self.faults = random.Random(seed), share, []  # noqa: S311
        try:
            yield self.faults
        finally:
            self._random = None

    def fault(self) -> str:
        with self.lock:
            if self._random is None or self._random.random() >= self._share:
                return ""
            self.faults.append(self._random.choice(FAULTS))
            return self.faults[-1]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, *arguments: object) -> None:
        pass

    def _relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.fault()
        if self.server.denied:
            return self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        if fault == "refuse":
            return self._answer(500, b"<Error><Code>InternalError</Code></Error>")
        if fault == "drop":
            return self._hang_up()
        if fault == "slow":
            time.sleep(0.4)
        status, headers, data = self._ask(body)
        with self.server.lock:
            self.server.seen.append(Seen(self.command, self.path.removeprefix(f"/{BUCKET}").lstrip("/"), status))
        if fault == "fail":
            return self._answer(500, b"<Error><Code>InternalError</Code></Error>")
        if fault == "lose":
            return self._hang_up()
        return self._answer(status, data, headers, cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _relay  # noqa: N815

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        headers = dict(self.headers.items())
        if self.server.strip_conditions:
            headers = {name: value for name, value in headers.items() if not name.lower().startswith("if-")}
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        data = answer.read()
        upstream.close()
        return answer.status, answer.getheaders(), data

    def _answer(
        self, status: int, data: bytes, headers: list[tuple[str, str]] | None = None, *, cut: bool = False
    ) -> None:
        length = str(len(data))
        self.send_response_only(status)
        for name, value in headers or []:
            if name.lower() == "content-length":
                length = value  # of HEAD, which has no body
            elif name.lower() not in {"connection", "transfer-encoding"}:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def running_server() -> Iterator[Proxy]:
    """Server process and proxy, with one empty bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    proxy = Proxy(port)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    try:
        _make_bucket(port, server)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()
    finally:
        proxy.server_close()
        server.terminate()
        server.wait()


def _make_bucket(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None, "the S3 server has ended"
        with suppress(OSError):
            urlopen(Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT"), timeout=10).close()
            return
        time.sleep(0.1)
    raise AssertionError("the S3 server does not answer")


class Bucket:
    """The bucket as the server has it, past the proxy and past the program's own client."""

    def __init__(self, port: int) -> None:
        self._store = S3Store(
            BUCKET,
            endpoint=f"http://127.0.0.1:{port}",
            access_key_id="test",
            secret_access_key="test",  # noqa: S106
            region="us-east-1",
            client_options={"allow_http": True},
        )

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Every object below a prefix, by its key relative to it."""
        keys = [item["path"] for page in obstore.list(self._store, prefix=prefix) for item in page]
        return {key[len(prefix) + 1 :]: obstore.get(self._store, key).bytes().to_bytes() for key in keys}

    def upload(self, folder: Path, prefix: str) -> None:
        """A corpus on disk, file by file, log/ left out."""
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not name.startswith("log/"):
                self.put(f"{prefix}/{name}", path.read_bytes())

    def put(self, key: str, data: bytes) -> None:
        obstore.put(self._store, key, data)

    def remove(self, key: str) -> None:
        obstore.delete(self._store, key)
