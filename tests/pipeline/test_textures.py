"""Foreign textures: windows of pictures that ship inside scikit-image, the same for the same stream."""

from __future__ import annotations

from importlib.metadata import files

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from pipeline import textures
from pipeline.textures import random_texture


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [1, 48, 200, 700])
def test_window_has_the_shape_asked_for_and_values_of_a_picture(side: int, channels: int) -> None:
    for seed in range(12):
        found = random_texture((side, side, channels), np.random.default_rng(seed))
        assert found.shape == (side, side, channels)
        assert np.isfinite(found).all()
        assert 0 <= found.min() <= found.max() <= 1


def test_same_stream_gives_the_same_texture_and_others_differ() -> None:
    one, again, other = (random_texture((64, 64, 3), np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert_array_equal(one, again)
    assert (one != other).any()


def test_pictures_are_part_of_the_package_and_never_downloaded() -> None:
    shipped = {path.name for path in files("scikit-image") or [] if path.parent.name == "data"}
    assert set(textures._PICTURES) <= shipped
