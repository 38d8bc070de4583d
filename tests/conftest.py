"""Fixtures shared by all tests: one seeded generator, the real photographs where they are present."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

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
