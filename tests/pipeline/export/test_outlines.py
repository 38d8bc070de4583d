"""Outlines: one for every connected part, holes cut in, and the mask comes back from them pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from skimage.draw import polygon, polygon2mask, polygon_perimeter
from skimage.measure import label

from pipeline.export.outlines import outlines


def filled(corners: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A polygon as `cv2.fillPoly` draws it: corners cut off to whole pixels, outline included."""
    whole = corners.astype(int)
    drawn = np.zeros(shape, bool)
    drawn[polygon(whole[:, 0], whole[:, 1], shape)] = True
    drawn[polygon_perimeter(whole[:, 0], whole[:, 1], shape=shape, clip=False)] = True
    return drawn


masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12), elements=st.booleans())


@given(masks)
def test_outlines_give_the_mask_back(mask: NDArray[np.bool_]) -> None:
    drawn, centres = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool)
    found = list(outlines(mask))
    for corners in found:
        drawn |= filled(corners, mask.shape)
        centres |= polygon2mask(mask.shape, corners - 0.5)
    assert_array_equal(drawn, mask)
    assert_array_equal(centres, mask)
    assert len(found) == label(mask, connectivity=2).max()


@pytest.mark.parametrize("scale", [2, 3, 5])
def test_outlines_can_be_enlarged(scale: int, rng: np.random.Generator) -> None:
    mask = np.kron(rng.random((9, 11)) < 0.4, np.ones((3, 3))) > 0
    mask[12:15, 3:30] = True
    wide = np.kron(mask, np.ones((scale, scale))) > 0
    drawn = np.zeros(wide.shape, bool)
    for corners in outlines(mask):
        drawn |= filled(corners * scale, wide.shape)
    assert (drawn & wide).sum() / (drawn | wide).sum() > 0.99


def test_a_ring_keeps_its_hole_and_a_square_has_four_corners() -> None:
    square = np.zeros((12, 12), bool)
    square[2:10, 3:9] = True
    (corners,) = outlines(square)
    assert_array_equal(np.sort(corners, axis=0), [[2.01, 3.01], [2.01, 3.01], [9.99, 8.99], [9.99, 8.99]])
    square[4:7, 5:7] = False
    (ring,) = outlines(square)
    assert len(ring) == 4 + 4 + 4  # both rings, and both ends of the cut, there and back
    assert_array_equal(filled(ring, square.shape), square)
