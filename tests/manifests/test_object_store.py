"""Places in a bucket against a real S3 server that fails, hangs up and loses answers."""

from __future__ import annotations

import http.client
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from manifests.errors import StorageError
from manifests.object_store import ObjectPath, forget_clients, place_of, s3_store
from tests.s3_proxy import BUCKET, KEY, MARKER, Bucket, Proxy

ROOT = Path(__file__).resolve().parents[2]


def test_a_folder_stays_a_folder() -> None:
    assert place_of("out/s3") == Path("out/s3")


@pytest.mark.parametrize("text", ["s3://parts", "s3://parts/", "s3://parts/a", "s3://parts/a/b/"])
def test_an_address_is_a_place(text: str) -> None:
    assert str(place_of(text)) == text.rstrip("/")
    assert pickle.loads(pickle.dumps(place_of(text))) == place_of(text)  # noqa: S301


@pytest.mark.parametrize(
    "text",
    [
        f"s3://{KEY}:{MARKER}@parts/out",
        f"s3://parts/out?secret={MARKER}",
        f"https://{KEY}:{MARKER}@host/parts",
        f"{MARKER}://parts",
        f"s3://{MARKER}",
        "s3://",
        "s3://parts//out",
        "s3://parts/../out",
        "s3://Parts/out",
    ],
)
def test_other_addresses_are_refused_and_no_secret_repeated(text: str) -> None:
    with pytest.raises(StorageError, match="expected") as caught:
        place_of(text)
    assert MARKER not in str(caught.value)
    assert KEY not in str(caught.value)


def test_what_is_written_is_read(s3: Proxy) -> None:
    place = ObjectPath(BUCKET, "rw") / "a b/ü.bin"
    assert not place.is_file()
    with pytest.raises(FileNotFoundError):
        place.read_bytes()
    place.write(b"12345")
    assert place.read_bytes() == b"12345"
    meta = place.meta()
    assert meta is not None
    assert meta.size == 5
    assert ObjectPath(BUCKET, "rw").sizes() == {"a b/ü.bin": 5}
    assert ObjectPath(BUCKET, "rw").names() == ["a b"]
    place.remove()
    assert not place.is_file()


def test_the_server_itself_honours_conditional_writes(s3: Proxy) -> None:
    place = ObjectPath(BUCKET, "conditional")
    assert place.create(b"first")
    assert not place.create(b"second")
    meta = place.meta()
    assert meta is not None
    assert place.replace(b"third", meta.e_tag)
    assert not place.replace(b"fourth", meta.e_tag)
    assert place.read_bytes() == b"third"


@pytest.mark.parametrize("seed", range(3))
def test_every_request_ends_well_on_an_unreliable_store(s3: Proxy, bucket: Bucket, seed: int) -> None:
    root = ObjectPath(BUCKET, f"unreliable{seed}")
    data = bytes(range(256)) * 200
    with s3.unreliable(seed, 0.35) as faults:
        for k in range(12):
            (root / f"{k}").write(data)
            assert (root / f"{k}").read_bytes() == data
            # an answer that was lost makes a winner think that it lost: what is there tells
            assert (root / f"once{k}").create(b"mine") or (root / f"once{k}").read_bytes() == b"mine"
        assert len(root.sizes()) == 24
        root.remove([f"{k}" for k in range(12)])
    assert len(set(faults)) > 3
    assert set(bucket.objects(f"unreliable{seed}")) == {f"once{k}" for k in range(12)}


def test_a_large_object_is_put_in_parts_and_none_is_lost(s3: Proxy) -> None:
    place, data = ObjectPath(BUCKET, "large"), bytes(range(256)) * (12 << 12)
    with s3.unreliable(5, 0.2):
        place.write(data)
        assert place.read_bytes() == data


def test_a_request_that_hangs_is_given_up(s3: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAPHC2F_S3_TIMEOUT", "0.1")  # a slow answer takes 0.4 s
    forget_clients()
    monkeypatch.setattr("tests.s3_proxy.FAULTS", ("slow",))
    started = time.monotonic()
    with s3.unreliable(0, 1.0), pytest.raises(StorageError, match="cannot be reached or does not answer"):
        ObjectPath(BUCKET, "slow").names()
    assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1", "127.0.0.1:1 cannot be reached"),
        ("AWS_ENDPOINT_URL", f"http://{KEY}:{MARKER}@store.invalid:9000", "store.invalid:9000 cannot be reached"),
        ("AWS_ALLOW_HTTP", "", "AWS_ALLOW_HTTP"),
    ],
)
def test_a_wrong_endpoint_is_one_clear_line(
    s3: Proxy, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, told: str
) -> None:
    monkeypatch.setenv(setting, value)
    forget_clients()
    with pytest.raises(StorageError, match=told) as caught:
        ObjectPath(BUCKET, "out").names()
    assert "\n" not in str(caught.value)
    assert MARKER not in str(caught.value)


def test_a_missing_bucket_is_named(s3: Proxy) -> None:
    for request in (ObjectPath("no-such-bucket", "out").names, (ObjectPath("no-such-bucket", "out") / "x").read_bytes):
        with pytest.raises(StorageError, match=r"s3://no-such-bucket/out.*: there is no such bucket"):
            request()


def test_a_key_that_climbs_out_is_refused(s3: Proxy) -> None:
    server = http.client.HTTPConnection("127.0.0.1", s3.upstream)
    server.request("PUT", f"/{BUCKET}/climbing/data/%2E%2E/%2E%2E/x", b"x")
    assert server.getresponse().status == 200
    server.close()
    with pytest.raises(StorageError, match=r"s3://parts/climbing: holds a key with .* \.\. in it; remove that object"):
        ObjectPath(BUCKET, "climbing").sizes()


def test_empty_folders_that_a_console_makes_are_no_objects(s3: Proxy) -> None:
    server = http.client.HTTPConnection("127.0.0.1", s3.upstream)
    for key in ("console/", "console/data/", "console/data/x"):
        server.request("PUT", f"/{BUCKET}/{key}", b"" if key.endswith("/") else b"x")
        assert server.getresponse().read() == b""
        if key == "console/":
            assert ObjectPath(BUCKET, "console").names() == []
            assert ObjectPath(BUCKET, "console").sizes() == {}
    server.close()
    assert ObjectPath(BUCKET, "console").sizes() == {"data/x": 1}


def test_denied_access_is_said_at_once(s3: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "denied", True)
    with pytest.raises(StorageError, match=r"access is denied \(403 AccessDenied\); check the credentials"):
        ObjectPath(BUCKET, "out").names()
    with pytest.raises(StorageError, match="access is denied"):
        ObjectPath(BUCKET, "out").write(b"x")


def test_keys_of_a_profile_are_used(s3: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(f"[plant]\naws_access_key_id = {KEY}\naws_secret_access_key = {MARKER}\n")
    (tmp_path / "config").write_text(f"[profile plant]\nregion = eu-west-1\nendpoint_url = {s3.url}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "plant")
    forget_clients()
    (ObjectPath(BUCKET, "profile") / "x").write(b"x")
    assert ObjectPath(BUCKET, "profile").names() == ["x"]
    assert MARKER not in repr(s3_store(BUCKET))


def test_a_forked_process_is_refused_instead_of_waiting_for_ever(s3: Proxy) -> None:
    program = f"""
import os
from manifests.object_store import ObjectPath
place = ObjectPath({BUCKET!r}, "forked")
place.write(b"x")
if os.fork() == 0:
    try:
        place.read_bytes()
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
os.wait()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    assert done.stdout.startswith("StorageError s3://parts: was opened before this process was forked; spawn processes")
