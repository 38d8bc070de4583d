"""One run at a time in a bucket: refused, taken over, lost, and given back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from manifests.errors import OutputError
from manifests.object_store import ObjectPath
from pipeline import lease as module
from pipeline.lease import LEASE, Lease, still_holds
from tests.s3_proxy import BUCKET, Bucket, Proxy


@pytest.fixture
def root(s3: Proxy, request: pytest.FixtureRequest) -> ObjectPath:
    return ObjectPath(BUCKET, f"lease/{request.node.name}")


def test_a_second_run_is_refused_and_told_who_has_it(root: ObjectPath) -> None:
    with (
        Lease(root) as lease,
        pytest.raises(OutputError, match=rf"another maphc2f \(process {os.getpid()} on .*\) is writing here; wait"),
        Lease(root),
    ):
        pytest.fail("two at once")
    assert not (root / LEASE).is_file()
    assert not still_holds(root, lease.token)
    with Lease(root):
        assert (root / LEASE).is_file()


def test_the_lease_of_a_killed_process_of_this_machine_is_taken_over_at_once(root: ObjectPath) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with Lease(root):
        left = json.loads((root / LEASE).read_bytes()) | {"process": ended.pid, "token": "theirs"}
    (root / LEASE).write(json.dumps(left).encode())
    with Lease(root) as lease:
        assert still_holds(root, lease.token)
    assert not (root / LEASE).is_file()


def test_that_of_another_machine_is_taken_over_when_it_has_ended(
    root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"token": "theirs", "host": "press-7", "machine": "press-7 boot", "process": 1}
    (root / LEASE).write(json.dumps(other).encode())
    with pytest.raises(OutputError, match=r"process 1 on press-7.*ends in 1[78]\d s"), Lease(root):
        pytest.fail("it is held")
    monkeypatch.setattr(module, "GRACE_S", 0.0)
    time.sleep(2.1)  # the store tells time by the second
    with Lease(root, term_s=1.0) as lease:
        assert still_holds(root, lease.token)


def test_it_is_renewed_while_the_run_lives(root: ObjectPath) -> None:
    with Lease(root, term_s=8.0) as lease:
        before = (root / LEASE).read_bytes()
        while (root / LEASE).read_bytes() == before:
            time.sleep(0.1)
        lease.must_hold()


def test_a_run_that_was_overtaken_stops_and_leaves_the_other_alone(root: ObjectPath) -> None:
    other = {"token": "theirs", "host": "press-7", "machine": "press-7 boot", "process": 1}
    with Lease(root, term_s=0.4) as lease:
        (root / LEASE).write(json.dumps(other).encode())
        time.sleep(0.5)
        assert lease.lost
        with pytest.raises(OutputError, match="another run may be writing here; finished shards are safe"):
            lease.must_hold()
    assert json.loads((root / LEASE).read_bytes()) == other


def test_a_run_that_cannot_reach_the_store_knows_that_its_lease_has_ended(
    s3: Proxy, root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lease(root, term_s=0.4) as lease:
        monkeypatch.setattr(s3, "denied", True)
        time.sleep(0.6)
        assert lease.lost
        monkeypatch.setattr(s3, "denied", False)


@pytest.mark.parametrize("seed", range(2))
def test_it_is_taken_and_held_on_an_unreliable_store(s3: Proxy, root: ObjectPath, seed: int) -> None:
    with s3.unreliable(seed, 0.3), Lease(root, term_s=8.0) as lease:
        time.sleep(2.2)
        assert not lease.lost
        assert still_holds(root, lease.token)


def test_a_store_without_conditional_writes_is_refused(
    s3: Proxy, root: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "strip_conditions", True)
    with pytest.raises(OutputError, match=r"no conditional writes \(If-None-Match\)"), Lease(root):
        pytest.fail("two runs could meet here")


def test_the_lease_names_no_credentials(root: ObjectPath, bucket: Bucket, s3_environment: dict[str, str]) -> None:
    with Lease(root):
        held = bucket.objects(root.key)[LEASE]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert s3_environment[name].encode() not in held
    assert set(json.loads(held)) == {"token", "host", "machine", "process", "renewal"}
