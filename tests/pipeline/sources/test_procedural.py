"""Procedural surfaces: exposure, noise and statistics that a photograph has."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pipeline.sources.procedural import IMAGES_PER_SURFACE, SIDE_PX, SURFACES, surface_image


@pytest.mark.parametrize("name", SURFACES)
def test_picture_is_neither_clipped_nor_flat(name: str) -> None:
    picture = surface_image(name, 2)
    assert picture.shape[:2] == (SIDE_PX, SIDE_PX)
    assert np.mean((picture == 0) | (picture == 255)) < 0.02
    assert 40 < picture.mean() < 215
    assert picture.std() > 8


@pytest.mark.parametrize("name", SURFACES)
def test_picture_has_sensor_noise_but_little(name: str) -> None:
    picture = surface_image(name, 2).astype(float)
    fine = picture[..., 0] - ndimage.median_filter(picture[..., 0], 3)
    quietest = np.quantile(ndimage.uniform_filter(fine**2, 16)[8:-8, 8:-8], 0.01) ** 0.5
    assert 0.2 < quietest < 6


@pytest.mark.parametrize("name", SURFACES)
def test_picture_does_not_repeat_across_its_edges(name: str) -> None:
    """A field cut from its own torus would join up left to right; a photograph does not."""
    picture = surface_image(name, 4).astype(float).mean(axis=2)
    smooth = ndimage.gaussian_filter(picture, 1)
    seam = np.abs(smooth[:, 0] - smooth[:, -1]).mean()
    step = np.abs(np.diff(smooth, axis=1)).mean()
    assert seam > 1.5 * step


def test_streams_of_surfaces_and_pictures_are_distinct() -> None:
    codes = [code for code, _ in SURFACES.values()]
    assert len(set(codes)) == len(codes)
    first, last = surface_image("wood_grain", 0), surface_image("wood_grain", IMAGES_PER_SURFACE - 1)
    assert first.tobytes() != last.tobytes()


def test_brushing_runs_along_the_sheet() -> None:
    picture = ndimage.gaussian_filter(surface_image("brushed_metal", 0).astype(float)[..., 0], 1)
    along, across = np.abs(np.diff(picture, axis=1)).mean(), np.abs(np.diff(picture, axis=0)).mean()
    assert across > 3 * along


def test_nut_is_darker_than_its_tray_and_lies_inside_the_picture() -> None:
    for k in range(6):
        picture = surface_image("hex_nut", k).astype(float).mean(axis=2)
        border = np.concatenate(
            [picture[:8].ravel(), picture[-8:].ravel(), picture[:, :8].ravel(), picture[:, -8:].ravel()]
        )
        part = ndimage.gaussian_filter(picture, 2) < np.median(border) - 25
        labels, _ = ndimage.label(part)
        sizes = np.bincount(labels.ravel())[1:]
        assert 0.2 < sizes.max() / picture.size < 0.45
        rows, columns = ndimage.find_objects(labels)[int(sizes.argmax())]
        assert min(rows.start, columns.start) >= 8
        assert max(rows.stop, columns.stop) <= SIDE_PX - 8


def test_unknown_surface_is_refused() -> None:
    with pytest.raises(KeyError):
        surface_image("chrome", 0)
