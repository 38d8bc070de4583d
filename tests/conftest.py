"""Fixtures shared by all tests: one seeded generator, the real photographs where they are present."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from manifests.object_store import forget_clients
from tests.s3_proxy import KEY, MARKER, Bucket, Proxy, running_server

# a busy machine is not a failure; in CI the same examples every time, at a desk new ones
settings.register_profile("maphc2f", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("maphc2f")

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20250417)


@pytest.fixture(scope="session")
def real_photographs() -> Path:
    """Folder with mtd, cookies, mvtec_bottle_256 and visa_1cls.csv; absent from a user's clone."""
    if not SHARED.is_dir():
        pytest.skip("the evaluation photographs (../shared/data) are not here")
    return SHARED


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Proxy]:
    """An S3 server with an empty bucket, behind a proxy that can misbehave."""
    with running_server() as proxy:
        yield proxy


@pytest.fixture(scope="session")
def bucket(s3_server: Proxy) -> Bucket:
    """Its bucket, looked at past the proxy."""
    return Bucket(s3_server.upstream)


@pytest.fixture(scope="session")
def s3_environment(s3_server: Proxy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a user sets; the secret is one that can be looked for."""
    return {
        "AWS_ENDPOINT_URL": s3_server.url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": MARKER,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "MAPHC2F_CACHE": str(tmp_path_factory.mktemp("cache")),
    }


@pytest.fixture
def s3(s3_server: Proxy, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The server, with this process's environment set for it."""
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    yield s3_server
    forget_clients()
