"""Embedded sources: present without a network, the same everywhere, different from one another."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from manifests.pictures import is_grey
from pipeline.sources.builtin import BUILTIN_CATEGORIES, builtin_image, builtin_licence, builtin_size
from pipeline.sources.procedural import SURFACES

REPOSITORY = Path(__file__).resolve().parent.parent.parent.parent
COLOUR = ("woven_cloth", "tile_grid", "wood_grain", "printed_board")

DIGEST = """
import hashlib
from pipeline.sources.builtin import BUILTIN_CATEGORIES, builtin_image
digest = hashlib.sha256()
for category in reversed(BUILTIN_CATEGORIES):
    digest.update(hashlib.sha256(builtin_image(category, 5).tobytes()).digest())
print(digest.hexdigest())
"""


def test_there_are_at_least_8_categories() -> None:
    assert len(BUILTIN_CATEGORIES) >= 8
    assert {"brick", "grass", "gravel", "coins", *SURFACES} == set(BUILTIN_CATEGORIES)
    assert all(builtin_size(category) >= 12 for category in BUILTIN_CATEGORIES)
    assert all(builtin_size(category) >= 24 for category in SURFACES)


@pytest.mark.parametrize("category", BUILTIN_CATEGORIES)
def test_pictures_are_square_of_one_kind_and_licensed(category: str) -> None:
    shapes = {builtin_image(category, k).shape for k in (0, 7)}
    ((height, width, channels),) = shapes
    assert height == width >= 128
    assert channels == (1 if category in {"brick", "grass", "gravel", "coins", "brushed_metal"} else 3)
    assert builtin_image(category, 0).dtype == np.uint8
    assert builtin_licence(category)


@pytest.mark.parametrize("category", BUILTIN_CATEGORIES)
def test_pictures_of_one_category_differ(category: str) -> None:
    pictures = [builtin_image(category, k).astype(float) for k in range(6)]
    for i, first in enumerate(pictures):
        for second in pictures[i + 1 :]:
            assert np.abs(first - second).mean() > 3


def test_same_bytes_in_a_fresh_process_with_another_hash_seed() -> None:
    digest = hashlib.sha256()
    for category in reversed(BUILTIN_CATEGORIES):
        digest.update(hashlib.sha256(builtin_image(category, 5).tobytes()).digest())
    environment = os.environ | {"PYTHONHASHSEED": "4242", "PYTHONPATH": str(REPOSITORY)}
    fresh = subprocess.run([sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True)
    assert fresh.stdout.strip() == digest.hexdigest()


def test_pictures_do_not_depend_on_the_global_random_state() -> None:
    np.random.seed(1)  # noqa: NPY002 - the legacy state is what must not matter
    first = builtin_image("cast_plaster", 0)
    np.random.seed(2)  # noqa: NPY002
    assert first.tobytes() == builtin_image("cast_plaster", 0).tobytes()


def test_no_connection_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a connection was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    for category in ("brick", "grass", "gravel", "coins"):
        assert builtin_image(category, builtin_size(category) - 1).size


@pytest.mark.parametrize("category", COLOUR)
def test_coloured_materials_have_colour(category: str) -> None:
    picture = builtin_image(category, 1)
    assert not is_grey(picture)
    assert np.ptp(picture.astype(int), axis=2).mean() > 12


def test_index_outside_the_category_is_refused() -> None:
    with pytest.raises(IndexError, match="0 to 15"):
        builtin_image("brick", 16)
    with pytest.raises(IndexError, match="got -1"):
        builtin_image("hex_nut", -1)
