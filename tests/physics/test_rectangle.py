"""Rectangles of pasted patches: areas and sides that are known, growth about the anchor, upright and turned."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from physics.cutpaste import CutPasteParams
from physics.cutpaste import draw as draw_cutpaste
from physics.poisson import PoissonParams
from physics.rectangle import draw_rectangle, grow_rectangle

PARAMS = PoissonParams(grid=96)


@pytest.mark.parametrize("aspect", [0.25, 1.0, 3.3, 12.0])
def test_upright_rectangle_covers_its_exact_area_at_every_state(aspect: float) -> None:
    trajectory = grow_rectangle(PARAMS, draw_rectangle(aspect=aspect, turn=0.0, from_edge=False))
    expected = 0.6**2 * min(aspect, 1 / aspect) * trajectory.severity
    assert_allclose(trajectory.area, expected, rtol=1e-12)
    assert_allclose(trajectory.severity, np.arange(1, 17) / 16)


@pytest.mark.parametrize("turn", [0.2, np.pi / 4, -0.7])
def test_turned_scar_covers_its_area_but_for_a_fraction_of_a_cell(turn: float) -> None:
    trajectory = grow_rectangle(PARAMS, draw_rectangle(aspect=6.0, turn=turn, from_edge=False))
    assert_allclose(trajectory.area[-1], 0.6 * 0.1, rtol=0.02)


@pytest.mark.parametrize("aspect", [0.5, 2.0])
def test_aspect_is_width_over_height(aspect: float) -> None:
    cover = grow_rectangle(PARAMS, draw_rectangle(aspect=aspect, turn=0.0, from_edge=False)).fields["cover"][-1]
    height, width = cover.any(axis=1).sum(), cover.any(axis=0).sum()
    assert_allclose(width / height, aspect, rtol=0.06)


def test_it_grows_about_its_middle_or_from_the_middle_of_the_left_side() -> None:
    n = PARAMS.grid
    centre = (np.arange(n) + 0.5) / n
    inside = grow_rectangle(PARAMS, draw_rectangle(aspect=2.0, turn=0.0, from_edge=False))
    entering = grow_rectangle(PARAMS, draw_rectangle(aspect=2.0, turn=0.0, from_edge=True))
    for cover in inside.fields["cover"]:
        assert_allclose([cover.sum(axis=1) @ centre, cover.sum(axis=0) @ centre], 0.5 * cover.sum(), rtol=1e-5)
    for cover in entering.fields["cover"]:
        assert cover[n // 2, 0] > 0.99
        assert_allclose(cover.sum(axis=1) @ centre, 0.5 * cover.sum(), rtol=1e-5)


@pytest.mark.parametrize(("share", "scars"), [(0.0, 0), (1.0, 200), (0.5, 100)])
def test_scars_are_drawn_as_often_as_asked_and_only_they_are_thin_and_turned(share: float, scars: int) -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_cutpaste(CutPasteParams(scar_share=share), rng, from_edge=False) for _ in range(200)]
    thin = [r for r in drawn if max(r.half) / min(r.half) >= 4]
    assert abs(len(thin) - scars) <= 20 * (0 < share < 1)
    for rectangle in drawn:
        assert (rectangle.axis[0] != 0.0) == (rectangle in thin)
        assert abs(np.arctan2(*rectangle.axis)) <= np.pi / 4
