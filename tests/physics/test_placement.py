"""Cracks on pictures, against brute force, the symmetries of the square, and the same crack at another resolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import ndimage

from physics.placement import (
    CrackFields,
    Placement,
    Window,
    crack_window,
    field_window,
    inner_window,
    place_crack,
    place_fields,
    place_grain,
    roughness_tile,
)

REACH_PX = 10.0
BLANK = np.zeros((3, 512, 512), dtype=np.float32)
# two strokes that meet, one of them tapering to a tip, and no symmetry at all
HOOK = np.array([[0.2, 0.3, 0.45, 0.5], [0.45, 0.5, 0.4, 0.8]], dtype=np.float32)
HOOK_OPENING = np.array([[0.0, 0.7], [0.7, 1.0]], dtype=np.float32)
WIGGLE_PER_CELL = 0.25


def centred(size: int, **how: float) -> Placement:
    return replace(Placement(center=(size / 2, size / 2), side=float(size), dihedral=0, angle_deg=0.0), **how)


def draw(
    segments: NDArray[np.float32],
    opening: NDArray[np.float32],
    placement: Placement,
    window: Window,
    *,
    cell_px: float = 0.0,
    width_px: float = 4.0,
    roughness: float = 0.0,
    reach_px: float = REACH_PX,
    tile: NDArray[np.float32] = BLANK,
    tile_offset: tuple[int, int] = (0, 0),
) -> CrackFields:
    return place_crack(
        segments,
        opening,
        placement,
        window,
        cell_px=cell_px,
        width_px=width_px,
        roughness=roughness,
        reach_px=reach_px,
        tile=tile,
        tile_offset=tile_offset,
    )


def place_share(field: NDArray[np.float32], placement: Placement, *, size: int) -> NDArray[np.float32]:
    """A field without unit on the whole picture."""
    return place_fields({"damage": field}, placement, Window(0, 0, size))["damage"]


def random_graph(rng: np.random.Generator, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Loose segments in the unit square, each opening from 0 to 1 at either end; a third closed."""
    segments = rng.uniform(0, 1, (count, 4))
    segments[:, 2:] = segments[:, :2] + 0.15 * rng.standard_normal((count, 2))
    opening = rng.uniform(0, 1, (count, 2)) * (rng.random((count, 1)) < 0.67) * (rng.random((count, 2)) < 0.9)
    return segments.astype(np.float32), opening.astype(np.float32)


def nearest_by_brute_force(
    ends: NDArray[np.float64], widths: NDArray[np.float64], at: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Distance to the nearest lip and to the second nearest, and the width there, for positions (S, S, 2)."""
    gaps, openings = [], []
    for (y0, x0, y1, x1), (w0, w1) in zip(ends, widths, strict=True):
        start, along = np.array([y0, x0]), np.array([y1 - y0, x1 - x0])
        t = np.clip((at - start) @ along / (along @ along), 0, 1)
        openings.append(w0 + t * (w1 - w0))
        gap = np.linalg.norm(at - start - t[..., None] * along, axis=-1) - openings[-1] / 2
        gaps.append(gap if w0 > 0 or w1 > 0 else np.full_like(gap, np.inf))
    order = np.argsort(gaps, axis=0)
    sorted_gaps = np.take_along_axis(np.array(gaps), order, axis=0)
    opening = np.take_along_axis(np.array(openings), order, axis=0)[0]
    return sorted_gaps[0], sorted_gaps[1], opening


@pytest.mark.parametrize("cell_px", [0.0, 1.5, 4.0])
def test_distance_and_opening_agree_with_brute_force(cell_px, rng):
    size, offset, width_px = 90, (300, 470), 5.0
    tile = np.clip(rng.standard_normal((3, 512, 512)), -3, 3).astype(np.float32)
    segments, opening = random_graph(rng, 12)
    placement = Placement(center=(40.0, 52.0), side=75.0, dihedral=5, angle_deg=17.0)
    found = draw(
        segments,
        opening,
        placement,
        Window(0, 0, size),
        cell_px=cell_px,
        width_px=width_px,
        tile=tile,
        tile_offset=offset,
    )
    turn = np.deg2rad(17.0 + 90.0)
    ends = segments.reshape(-1, 2, 2).astype(float) - 0.5
    ends[..., 1] *= -1  # mirrored left-right, then turned counter-clockwise as seen, then scaled and shifted
    y, x = ends[..., 0].copy(), ends[..., 1].copy()
    ends = 75.0 * np.stack([y * np.cos(turn) - x * np.sin(turn), y * np.sin(turn) + x * np.cos(turn)], axis=-1)
    ends += placement.center
    index = (np.arange(size)[:, None] + offset[0]) % 512, (np.arange(size) + offset[1]) % 512
    at = np.stack(np.mgrid[:size, :size] + 0.5, axis=-1)
    at += WIGGLE_PER_CELL * cell_px * np.stack([tile[k][index] for k in (0, 1)], axis=-1)
    gap, second, width = nearest_by_brute_force(ends.reshape(-1, 4), opening * width_px, at)
    assert_allclose(found.distance, np.minimum(gap, REACH_PX), rtol=0, atol=2e-5)
    clear = (np.abs(gap - REACH_PX) > 1e-4) & (second - gap > 1e-4)
    assert_allclose(found.opening[clear], np.where(gap < REACH_PX, width, 0)[clear], rtol=0, atol=1e-4)
    assert clear.mean() > 0.9
    assert_array_equal(found.grain, tile[2][index])


@pytest.mark.parametrize("size", [64, 128, 256, 512, 1024])
def test_a_crack_takes_the_same_share_of_the_picture_at_any_resolution(size):
    # one stroke of even width with two round ends
    start, end, width = np.array([0.3, 0.25]), np.array([0.62, 0.71]), 0.016
    segments = np.concatenate([start, end])[None].astype(np.float32)
    found = draw(segments, np.ones((1, 2), dtype=np.float32), centred(size), Window(0, 0, size), width_px=width * size)
    half = found.opening / 2
    middle = found.distance + half
    covered = np.clip(np.minimum(middle + 0.5, half) - np.maximum(middle - 0.5, -half), 0, 1)
    area = np.linalg.norm(end - start) * width + np.pi * width**2 / 4
    assert_allclose(covered.sum() / size**2, area, rtol=0.03 if size < 256 else 0.01)


@pytest.mark.parametrize("dihedral", range(8))
@pytest.mark.parametrize("size", [65, 96])
def test_a_turned_crack_is_the_turned_picture_of_the_crack(dihedral, size):
    window = Window(0, 0, size)
    upright = draw(HOOK, HOOK_OPENING, centred(size), window)
    found = draw(HOOK, HOOK_OPENING, centred(size, dihedral=dihedral), window)
    for name in ("distance", "opening"):
        expected = getattr(upright, name)
        expected = np.rot90(np.fliplr(expected) if dihedral >= 4 else expected, dihedral % 4)
        assert_allclose(getattr(found, name), expected, rtol=0, atol=1e-3, err_msg=name)
    assert (found.distance < 0).any()


@pytest.mark.parametrize("dihedral", range(8))
def test_a_turned_field_is_the_turned_picture_of_the_field(dihedral, rng):
    field = rng.random((32, 32)).astype(np.float32)
    upright = place_share(field, centred(80, side=70.0), size=80)
    found = place_share(field, centred(80, side=70.0, dihedral=dihedral), size=80)
    expected = np.rot90(np.fliplr(upright) if dihedral >= 4 else upright, dihedral % 4)
    assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("dihedral", "same_as_deg"), [(1, 90.0), (2, 180.0), (3, 270.0), (0, -360.0)])
def test_quarter_turns_are_angles_counter_clockwise(dihedral, same_as_deg):
    window = Window(0, 0, 64)
    quarter = draw(HOOK, HOOK_OPENING, centred(64, dihedral=dihedral), window)
    angle = draw(HOOK, HOOK_OPENING, centred(64, angle_deg=same_as_deg), window)
    assert_allclose(quarter.distance, angle.distance, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("dihedral", "tip"), [(0, (-1, 1)), (4, (1, -1))])
def test_the_angle_turns_counter_clockwise_as_seen(dihedral, tip):
    # a stroke to the right (to the left when mirrored) from the middle; a turn by 30 degrees lifts (lowers) its tip
    stroke = np.array([[0.5, 0.5, 0.5, 0.9]], dtype=np.float32)
    placement = centred(101, side=100.0, dihedral=dihedral, angle_deg=30.0)
    found = draw(stroke, np.ones((1, 2), dtype=np.float32), placement, Window(0, 0, 101), width_px=1.0)
    y, x = np.nonzero(found.distance < 0)
    up, right = tip[0] * (y - 50), tip[1] * (x - 50)
    far = np.hypot(up, right) > 25
    assert far.sum() > 5
    assert_allclose(np.rad2deg(np.arctan2(up[far], right[far])), 30, atol=2)


def test_the_square_is_scaled_and_shifted(rng):
    segments, opening = random_graph(rng, 5)
    window = Window(0, 0, 160)
    near = draw(segments, opening, Placement((50.0, 60.0), 60.0, 3, 12.0), window, width_px=3.0)
    moved = draw(segments, opening, Placement((75.0, 95.0), 60.0, 3, 12.0), window, width_px=3.0)
    assert_allclose(moved.distance[25:, 35:], near.distance[:-25, :-35], rtol=0, atol=1e-4)


@st.composite
def cracks(draw) -> tuple:
    """Segments, opening, placement, size and lengths, with cracks anywhere, also wholly outside the picture."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    segments, opening = random_graph(rng, draw(st.integers(0, 6)))
    size = draw(st.sampled_from((32, 47, 64, 100, 150)))
    placement = Placement(
        center=(draw(st.floats(-0.7, 1.7)) * size, draw(st.floats(-0.7, 1.7)) * size),
        side=draw(st.floats(0.1, 1.8)) * size,
        dihedral=draw(st.integers(0, 7)),
        angle_deg=draw(st.floats(-180, 180)),
    )
    lengths = {
        "cell_px": draw(st.sampled_from((0.0, 0.7, 3.0, 20.0))),
        "width_px": draw(st.floats(0.1, 12.0)),
        "reach_px": draw(st.floats(2.0, 12.0)),
    }
    offset = (draw(st.integers(0, 1 << 30)), draw(st.integers(0, 1 << 30)))
    return segments, opening, placement, size, lengths, draw(st.sampled_from((0.0, 0.25))), offset


@given(cracks())
@settings(deadline=None, max_examples=150)
def test_a_window_holds_all_that_a_crack_can_change_to_the_last_bit(crack):
    segments, opening, placement, size, lengths, roughness, offset = crack
    window = crack_window(segments, opening, placement, size=size, **lengths)
    assert min(window.y, window.x) >= 0
    assert max(window.y, window.x) + window.side <= size
    how = {**lengths, "roughness": roughness, "tile": roughness_tile(0), "tile_offset": offset}
    whole = draw(segments, opening, placement, Window(0, 0, size), **how)
    part = draw(segments, opening, placement, window, **how)
    for name in ("distance", "opening", "grain"):
        assert_array_equal(getattr(part, name), getattr(whole, name)[window.slices], err_msg=name)
    beyond = np.ones((size, size), dtype=bool)
    beyond[window.slices] = False
    assert_array_equal(whole.distance[beyond], np.float32(lengths["reach_px"]))
    assert_array_equal(whole.opening[beyond], 0)


@given(cracks())
@settings(deadline=None, max_examples=60)
@example((HOOK, HOOK_OPENING, centred(47), 47, {"cell_px": 0.4, "width_px": 3.0, "reach_px": 10.0}, 0.25, (0, 0)))
def test_distance_never_passes_the_reach_and_opening_never_the_width(crack):
    segments, opening, placement, size, lengths, roughness, offset = crack
    how = {**lengths, "roughness": roughness, "tile": roughness_tile(0), "tile_offset": offset}
    found = draw(segments, opening, placement, Window(0, 0, size), **how)
    assert found.distance.max() <= np.float32(lengths["reach_px"])
    assert found.opening.min() >= 0
    assert found.opening.max() <= np.float32(lengths["width_px"]) * (1 + 1e-6)
    for values in (found.distance, found.opening):
        assert values.dtype == np.float32
        assert np.isfinite(values).all()


@pytest.mark.parametrize("dihedral", range(8))
@pytest.mark.parametrize("cell_px", [0.0, 2.0, 10.0])
def test_a_window_that_is_only_just_large_enough_holds_the_crack(cell_px, dihedral):
    # strokes of every length, so that some fill their window to the last pixel
    tile = roughness_tile(0)
    for length in np.linspace(2, 60, 120) / 150:
        stroke = np.array([[0.5, 0.5 - length / 2, 0.5, 0.5 + length / 2]], dtype=np.float32)
        placement = centred(150, dihedral=dihedral)
        lengths = {"cell_px": cell_px, "width_px": 2.0, "reach_px": 3.0}
        window = crack_window(stroke, np.ones((1, 2), dtype=np.float32), placement, size=150, **lengths)
        whole = draw(
            stroke,
            np.ones((1, 2), dtype=np.float32),
            placement,
            Window(0, 0, 150),
            tile=tile,
            tile_offset=(int(1e4 * length), 7),
            **lengths,
        )
        y, x = np.nonzero((whole.distance < 3.0) | (whole.opening > 0))
        assert window.y <= y.min()
        assert window.x <= x.min()
        assert window.y + window.side > y.max()
        assert window.x + window.side > x.max()


def test_a_small_crack_gets_a_small_window():
    placement = Placement(center=(300.0, 200.0), side=20.0, dihedral=0, angle_deg=0.0)
    window = crack_window(HOOK, HOOK_OPENING, placement, size=512, cell_px=0.2, width_px=2.0, reach_px=10.0)
    assert window.side == 48
    assert window.y <= 280
    assert window.y + 48 >= 308


def test_a_closed_crack_changes_nothing():
    closed = np.zeros_like(HOOK_OPENING)
    window = crack_window(HOOK, closed, centred(64), size=64, cell_px=1.0, width_px=4.0, reach_px=REACH_PX)
    found = draw(HOOK, closed, centred(64), window)
    assert_array_equal(found.distance, REACH_PX)
    assert_array_equal(found.opening, 0)


def test_roughness_moves_the_lips_by_its_share_of_the_half_width():
    tile = roughness_tile(3)
    smooth, rough = (
        draw(HOOK, HOOK_OPENING, centred(96), Window(0, 0, 96), width_px=6.0, roughness=roughness, tile=tile)
        for roughness in (0.0, 0.2)
    )
    assert_array_equal(rough.opening, smooth.opening)
    moved = np.minimum(REACH_PX, smooth.distance - 0.2 * 0.5 * smooth.opening * smooth.grain)
    assert_allclose(rough.distance, moved, rtol=0, atol=1e-5)
    assert_allclose((rough.distance - smooth.distance)[smooth.distance < 0].std(), 0.2 * 2.5, rtol=0.4)


def test_the_path_wiggles_by_a_quarter_of_a_cell():
    # a straight stroke along a row; where the middle of its drawing lies, column by column
    stroke = np.array([[0.5, 0.0, 0.5, 1.0]], dtype=np.float32)
    size, cell_px = 512, 4.0
    how = {"width_px": 2.0, "tile": roughness_tile(1), "cell_px": cell_px}
    found = draw(stroke, np.ones((1, 2), dtype=np.float32), centred(size), Window(0, 0, size), **how)
    open_share = np.clip(0.5 - found.distance, 0, 1)
    middle = (open_share * (np.arange(size)[:, None] + 0.5)).sum(axis=0) / open_share.sum(axis=0) - size / 2
    assert_allclose(middle.std(), WIGGLE_PER_CELL * cell_px, rtol=0.3)
    assert np.abs(middle).max() < 5 * WIGGLE_PER_CELL * cell_px


@pytest.mark.parametrize("angle_deg", [0.0, 23.0, 140.0])
@pytest.mark.parametrize("dihedral", [0, 6])
def test_a_field_is_sampled_by_scipy_s_cubic_spline_without_its_prefilter(angle_deg, dihedral, rng):
    field, size = rng.random((24, 24)).astype(np.float32), 70
    placement = Placement((30.1, 41.3), 55.4, dihedral, angle_deg)  # no pixel exactly on the square's outline
    pixels = np.stack(np.mgrid[:size, :size] + 0.5, axis=-1) - placement.center
    at = np.linalg.solve(placement.forward(), pixels[..., None])[..., 0] + 0.5
    where = np.moveaxis(at * 24 - 0.5, -1, 0)
    expected = ndimage.map_coordinates(field, where, order=3, mode="nearest", prefilter=False)
    inside = ((at > 0) & (at < 1)).all(axis=-1)
    found = place_share(field, placement, size=size)
    assert_allclose(found, np.where(inside, expected, 0), rtol=0, atol=1e-5)
    assert 0.3 < inside.mean() < 0.9


def test_the_spline_keeps_a_constant_and_never_overshoots(rng):
    placement = Placement((40.0, 41.0), 200.0, 3, 20.0)  # the square covers the picture
    assert_allclose(place_share(np.full((24, 24), 0.7, np.float32), placement, size=80), 0.7, rtol=1e-6)
    field = (rng.random((24, 24)) < 0.5).astype(np.float32)
    found = place_share(field, placement, size=80)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", ["depth", "height", "product", "displacement_x"])
def test_lengths_scale_with_the_square_and_shares_do_not(name):
    fields = {"damage": np.full((32, 32), 0.5, np.float32), name: np.full((32, 32), 0.1, np.float32)}
    if name == "displacement_x":
        fields["displacement_y"] = np.zeros((32, 32), np.float32)
    for side in (50.0, 150.0):
        placed = place_fields(fields, centred(40, side=side), Window(0, 0, 40))
        assert_allclose(placed[name], 0.1 * side, rtol=1e-5)
        assert_allclose(placed["damage"], 0.5, rtol=1e-5)


@pytest.mark.parametrize("dihedral", range(8))
@pytest.mark.parametrize("angle_deg", [0.0, 33.0])
def test_vectors_turn_with_the_square(dihedral, angle_deg):
    vector = np.array([0.03, 0.05])
    fields = {
        name: np.full((32, 32), value, np.float32)
        for name, value in zip(("displacement_y", "displacement_x"), vector, strict=True)
    }
    placement = centred(20, side=80.0, dihedral=dihedral, angle_deg=angle_deg)
    placed = place_fields(fields, placement, Window(0, 0, 20))
    x = -vector[1] if dihedral >= 4 else vector[1]
    turn = np.deg2rad(angle_deg + 90 * (dihedral % 4))
    expected = 80 * np.array([vector[0] * np.cos(turn) - x * np.sin(turn), vector[0] * np.sin(turn) + x * np.cos(turn)])
    assert_allclose(placed["displacement_y"], expected[0], atol=1e-4)
    assert_allclose(placed["displacement_x"], expected[1], atol=1e-4)


def hump(n: int) -> NDArray[np.float32]:
    """A lopsided hump that fades well inside the square."""
    y, x = (np.mgrid[:n, :n] + 0.5) / n
    return (np.exp(-(((y - 0.45) / 0.06) ** 2) - ((x - 0.55) / 0.1) ** 2) * (1 + x)).astype(np.float32)


@pytest.mark.parametrize("wiggle_px", [0.0, 0.8])
def test_a_window_of_fields_is_the_crop_of_the_whole_picture(wiggle_px):
    size, tile = 256, roughness_tile(2)
    placement = Placement((100.0, 140.0), 150.0, 5, 17.0)
    window = field_window({"depth": hump(64)}, placement, size=size, reach_px=6.0)
    how = {"wiggle_px": wiggle_px, "tile": tile, "tile_offset": (17, 400)}
    part = place_fields({"depth": hump(64)}, placement, window, **how)["depth"]
    whole = place_fields({"depth": hump(64)}, placement, Window(0, 0, size), **how)["depth"]
    assert window.side < size
    assert_allclose(part, whole[window.slices], rtol=0, atol=1e-4 * whole.max())
    beyond = np.ones((size, size), dtype=bool)
    beyond[window.slices] = False
    assert whole[beyond].max() < 0.02 * whole.max()
    grain = place_grain(tile, (17, 400), window)
    assert_array_equal(grain, place_grain(tile, (17, 400), Window(0, 0, size))[window.slices])


def test_without_a_wiggle_the_tile_is_of_no_account():
    placement = centred(64)
    plain = place_fields({"depth": hump(32)}, placement, Window(0, 0, 64))
    still = place_fields({"depth": hump(32)}, placement, Window(0, 0, 64), wiggle_px=0.0, tile=roughness_tile(2))
    moved = place_fields({"depth": hump(32)}, placement, Window(0, 0, 64), wiggle_px=1.0, tile=roughness_tile(2))
    assert_array_equal(plain["depth"], still["depth"])
    assert np.abs(plain["depth"] - moved["depth"]).max() > 0.01 * plain["depth"].max()


def test_an_inner_window_holds_the_flags_and_what_is_near_them():
    there = np.zeros((256, 256), dtype=bool)
    there[100:120, 200:230] = True
    within = Window(30, 40, 256)
    inner = inner_window(there, within, reach_px=10.0)
    rows, columns = within.part(inner)
    assert inner.side == 64 < within.side
    assert there[rows, columns].sum() == there.sum()
    assert rows.start <= 90
    assert rows.stop >= 130
    assert columns.start <= 190
    assert columns.stop >= 240
    assert_array_equal(np.arange(600)[within.slices[0]][rows], np.arange(600)[inner.slices[0]])


def test_an_inner_window_never_leaves_the_outer_one():
    there = np.zeros((128, 128), dtype=bool)
    there[:3, 125:] = True
    within = Window(7, 9, 128)
    rows, columns = within.part(inner_window(there, within, reach_px=6.0))
    assert (rows.start, columns.stop) == (0, 128)
    assert inner_window(np.ones_like(there), within, reach_px=6.0) == within
    assert inner_window(np.zeros_like(there), within, reach_px=6.0) == within


def test_a_field_of_nothing_gets_the_smallest_window():
    assert field_window({"depth": np.zeros((32, 32), np.float32)}, centred(256), size=256, reach_px=5.0).side == 48


def test_a_field_and_a_crack_of_the_same_square_lie_on_each_other():
    # a ridge of the field along the stroke that the crack follows
    n, size = 64, 200
    rows = (np.arange(n) + 0.5) / n
    field = np.exp(-np.abs(rows[:, None] - 0.4) * n * np.ones(n)).astype(np.float32)
    stroke = np.array([[0.4, 0.0, 0.4, 1.0]], dtype=np.float32)
    placement = Placement((90.0, 110.0), 150.0, 6, 31.0)
    ridge = place_share(field, placement, size=size)
    found = draw(stroke, np.ones((1, 2), dtype=np.float32), placement, Window(0, 0, size), width_px=1.0)
    assert ridge[found.distance < 0].mean() > 0.8 * ridge.max()
    assert ridge[found.distance > 8].max() < 0.1


def test_the_tile_has_mean_0_and_variance_1_and_no_long_waves():
    tile = roughness_tile(5)
    assert tile.shape == (3, 512, 512)
    assert tile.dtype == np.float32
    assert not tile.flags.writeable
    assert_allclose(tile.mean(axis=(1, 2)), 0, atol=1e-5)
    assert_allclose(tile.std(axis=(1, 2)), 1, atol=1e-5)
    power = np.abs(np.fft.fft2(tile.astype(np.float64))) ** 2
    k = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.fftfreq(512))
    assert power[:, k < 1 / 24.5].sum() < 1e-9 * power.sum()
    assert power[:, (k > 1 / 24) & (k < 1 / 12)].sum() > 0.3 * power.sum()
    assert_allclose(np.corrcoef(tile.reshape(3, -1)), np.eye(3), atol=0.05)


def test_the_tile_has_no_seam():
    tile = roughness_tile(5).astype(np.float64)
    for axis in (1, 2):
        steps = np.diff(tile, axis=axis, append=np.take(tile, [0], axis=axis))
        seam = np.take(steps, -1, axis=axis)
        assert_allclose(seam.std(), steps.std(), rtol=0.15)
    window = Window(0, 0, 64)
    first, again = (
        draw(HOOK, HOOK_OPENING, centred(64), window, tile=roughness_tile(5), tile_offset=offset)
        for offset in ((500, 480), (500 + 3 * 512, 480 + 7 * 512))
    )
    assert_array_equal(first.grain, again.grain)


def test_the_tile_is_its_seed_s_own():
    roughness_tile.cache_clear()
    first = roughness_tile(0).copy()
    roughness_tile.cache_clear()
    assert_array_equal(roughness_tile(0), first)
    assert np.abs(np.corrcoef(roughness_tile(1).ravel(), first.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("dihedral", range(8))
def test_beyond_a_free_edge_the_fields_go_on_as_they_end(dihedral):
    ramp = np.linspace(0.3, 0.0, 32, dtype=np.float32) * np.ones((32, 1), np.float32)
    placement = Placement((60.0, 60.0), 60.0, dihedral, 0.0)
    closed = place_fields({"height": ramp}, placement, Window(0, 0, 120))["height"]
    opened = place_fields({"height": ramp}, placement, Window(0, 0, 120), open_left=True)["height"]
    added = (opened != 0) & (closed == 0)
    assert_allclose(opened[added], 0.3 * 60, rtol=1e-3)
    assert added.sum() == pytest.approx(0.15 * 60 * 60, rel=0.05)
    assert_array_equal(opened[closed != 0], closed[closed != 0])
    window = field_window({"height": ramp}, placement, size=400, reach_px=0.0, open_left=True)
    rows, columns = np.nonzero(added)
    assert window.y <= rows.min()
    assert window.x <= columns.min()
    assert window.y + window.side > rows.max()
    assert window.x + window.side > columns.max()
