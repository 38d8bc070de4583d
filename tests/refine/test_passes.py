"""All passes together: from photograph and fields to picture and mask, the same for a sample whatever its batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import ndimage

from manifests.config import LabelConfig, NpcfConfig, NpcfppConfig
from refine.passes import CrackArrays, DefectInputs, RefinedBatch, measure_optics, refine_defects

SIDE = 51  # no multiple of any vector's length
NPCF, NPCFPP = NpcfConfig(), NpcfppConfig()
LABEL = LabelConfig()
STAGES = ("paste", "render", "npcf")
REACH_PX = NPCF.support_px + 4.0


def fields_of(start: tuple[float, float], end: tuple[float, float], width: float) -> NDArray[np.float32]:
    """Distance and opening, (2, SIDE, SIDE), of a straight piece that tapers to a third of its width."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    dy, dx = end[0] - start[0], end[1] - start[1]
    t = np.clip(((y - start[0]) * dy + (x - start[1]) * dx) / (dy * dy + dx * dx), 0, 1)
    opening = width * (1 - 0.67 * t)
    distance = np.hypot(y - start[0] - t * dy, x - start[1] - t * dx) - opening / 2
    return np.stack([np.minimum(distance, REACH_PX), np.where(distance < REACH_PX, opening, 0)]).astype(np.float32)


def textured(rng: np.random.Generator, channels: int) -> NDArray[np.uint8]:
    grain = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE, channels)), (1.0, 1.0, 0.0))
    return np.clip(140 + 60 * grain, 0, 255).astype(np.uint8)


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def inputs(request: pytest.FixtureRequest, rng: np.random.Generator) -> DefectInputs:
    """Six samples of very different extent: across the picture, short, a hairline, off the part, none at all, wide."""
    cracks = [
        fields_of((-5, 3), (60, 44), 2.0),
        fields_of((25, 25), (28, 27), 1.5),
        fields_of((10, 40), (44, 12), 0.4),
        fields_of((40, 40), (48, 50), 3.0),
        np.stack([np.full((SIDE, SIDE), REACH_PX), np.zeros((SIDE, SIDE))]).astype(np.float32),
        fields_of((20, -4), (24, 60), 7.0),
    ]
    batch = len(cracks)
    part = np.ones((batch, SIDE, SIDE), dtype=bool)
    part[3, 20:] = False
    part[5, :, 38:] = False
    source = np.stack([textured(rng, request.param) for _ in range(batch)])
    return DefectInputs(
        source=source,
        foreground=part,
        grain=rng.standard_normal((batch, SIDE, SIDE)).astype(np.float32),
        noise=rng.standard_normal((batch, 3, SIDE, SIDE)).astype(np.float32),
        optics=measure_optics(source, part),
        crack=CrackArrays(
            distance=np.stack([crack[0] for crack in cracks]),
            opening=np.stack([crack[1] for crack in cracks]),
            depth_to_width=rng.uniform(2, 6, batch).astype(np.float32),
            lip_slope=rng.uniform(0, 0.35, batch).astype(np.float32),
            debris=rng.uniform(0, 0.3, batch).astype(np.float32),
            glint=rng.uniform(0, 0.35, batch).astype(np.float32),
        ),
    )


def refine(
    inputs: DefectInputs, device: torch.device, *, npcf: NpcfConfig = NPCF, least_visibility: float = 0.0
) -> RefinedBatch:
    return refine_defects(
        inputs,
        npcf=npcf,
        npcfpp=NPCFPP,
        label=LABEL,
        stages=STAGES,
        least_visibility=least_visibility,
        device=str(device),
    )


def visible_as_the_first(inputs: DefectInputs, device: torch.device) -> float:
    """A least visibility that the first sample has as rendered, and small ones have not."""
    return float(refine(inputs, device, least_visibility=10.0).visibility[0])


def chosen(inputs: DefectInputs, order: list[int]) -> DefectInputs:
    """The batch made of these samples, in this order."""

    def part(arrays):
        return replace(arrays, **{f.name: getattr(arrays, f.name)[order] for f in fields(arrays)})

    return DefectInputs(
        source=inputs.source[order],
        foreground=inputs.foreground[order],
        grain=inputs.grain[order],
        noise=inputs.noise[order],
        optics=part(inputs.optics),
        crack=part(inputs.crack),
    )


def assert_same_sample(found: RefinedBatch, place: int, expected: RefinedBatch, k: int, device: torch.device) -> None:
    if device.type == "cpu":
        for name in ("image", "mask", "contrast", "residual", "cycles"):
            assert_array_equal(getattr(found, name)[place], getattr(expected, name)[k], err_msg=name)
    else:  # sums on a GPU may be taken in another order: a grey level, on few pixels
        apart = found.image[place].astype(int) - expected.image[k].astype(int)
        assert np.abs(apart).max() <= 1
        assert (apart != 0).mean() < 1e-3


@pytest.fixture
def one_thread_after() -> Iterator[None]:
    """Puts torch's number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_pictures_come_out_as_they_went_in_and_masks_as_flags(inputs, device):
    found = refine(inputs, device)
    assert found.image.dtype == np.uint8
    assert found.image.shape == inputs.source.shape
    assert found.mask.dtype == bool
    assert found.mask.shape == inputs.foreground.shape
    for values in (found.contrast, found.residual, found.cycles):
        assert values.shape == (len(inputs.source),)
    assert set(found.seconds) == {"paste", "render", "npcf", "npcf++", "label", "visibility"}


def test_a_crack_is_seen_labelled_and_solved_for(inputs, device):
    found = refine(inputs, device)
    for k in (0, 5):  # those that cross the picture
        darker = inputs.source[k].astype(int) - found.image[k]
        slot = (inputs.crack.distance[k] < -0.5) & inputs.foreground[k]
        assert darker[slot].mean() > 20
        assert found.mask[k][slot].mean() > 0.9
        assert found.contrast[k] > LABEL.visible_threshold
        assert found.cycles[k] >= 1
    assert np.all(found.residual <= NPCF.tolerance)


def test_the_label_is_the_visible_change(inputs, device):
    found = refine(inputs, device)
    change = np.abs(found.image.astype(int) - inputs.source.astype(int)).max(axis=-1) >= LABEL.visible_threshold
    assert not np.any(change & ~found.mask)
    for k in range(len(change)):
        assert not np.any(found.mask[k] & ~ndimage.binary_dilation(change[k], np.ones((3, 3))))


def test_nothing_changes_off_the_part_or_beyond_the_support(inputs, device):
    found = refine(inputs, device)
    allowed = inputs.foreground & (inputs.crack.distance < NPCF.support_px)
    assert_array_equal(found.image[~allowed], inputs.source[~allowed])
    assert not found.mask[~allowed].any()


def test_no_crack_is_no_change(inputs, device):
    found = refine(inputs, device)
    assert_array_equal(found.image[4], inputs.source[4])
    assert not found.mask[4].any()
    assert found.contrast[4] == found.residual[4] == found.cycles[4] == 0


def test_what_the_rendering_hides_goes_no_further_and_the_others_are_as_without_it(inputs, device):
    everything = refine(inputs, device)
    least = visible_as_the_first(inputs, device)
    found = refine(inputs, device, least_visibility=least)
    assert_array_equal(everything.finished, np.ones(6, dtype=bool))
    assert_array_equal(found.finished[[0, 4, 5]], [True, False, True])
    assert np.any(~found.finished & (found.visibility > 0)), "or nothing was hidden"
    for k in np.flatnonzero(found.finished):
        assert_same_sample(found, k, everything, k, device)
        assert found.visibility[k] == pytest.approx(everything.visibility[k], rel=1e-3)
    for k in np.flatnonzero(~found.finished):
        assert everything.visibility[k] < least
        assert found.visibility[k] < least
        assert_array_equal(found.image[k], inputs.source[k])
        for stage in STAGES:
            assert_array_equal(found.stages[stage][k], inputs.source[k])
        assert not found.mask[k].any()
        assert found.contrast[k] == found.residual[k] == found.cycles[k] == found.outside_px[k] == 0


def test_sixteen_bits_are_hidden_as_eight_are(inputs, device):
    deep = replace(inputs, source=inputs.source.astype(np.uint16) * 257)
    least = visible_as_the_first(inputs, device)
    eight, sixteen = (refine(some, device, least_visibility=least) for some in (inputs, deep))
    assert_array_equal(sixteen.finished, eight.finished)
    assert_allclose(sixteen.visibility, eight.visibility, rtol=0.05)  # eight bits round up to the threshold
    assert sixteen.image.dtype == np.uint16
    hidden = ~sixteen.finished
    assert_array_equal(sixteen.image[hidden], deep.source[hidden])


def test_where_nothing_is_visible_enough_every_photograph_is_left_as_it_is(inputs, device):
    found = refine(inputs, device, least_visibility=10.0)
    assert not found.finished.any()
    assert_array_equal(found.image, inputs.source)
    assert not found.mask.any()
    assert found.visibility[0] > 0
    assert "npcf" not in found.seconds


def test_the_same_inputs_give_the_same_bytes(inputs, device):
    first, second = refine(inputs, device), refine(inputs, device)
    for k in range(len(inputs.source)):
        assert_same_sample(second, k, first, k, device)


@pytest.mark.parametrize("order", [[0], [1], [2], [3], [4], [5], [5, 1], [2, 0, 4], [3, 3, 1, 0, 5, 2, 4]])
def test_a_sample_is_the_same_in_any_batch(order, inputs, device):
    whole, part = refine(inputs, device), refine(chosen(inputs, order), device)
    for place, k in enumerate(order):
        assert_same_sample(part, place, whole, k, device)
    least = visible_as_the_first(inputs, device)
    whole, part = (refine(some, device, least_visibility=least) for some in (inputs, chosen(inputs, order)))
    assert_array_equal(whole.finished, [True, False, False, False, False, True])
    for place, k in enumerate(order):
        assert part.finished[place] == whole.finished[k]
        assert_same_sample(part, place, whole, k, device)


def test_a_sample_is_the_same_with_any_number_of_threads(inputs, one_thread_after):
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(refine(inputs, torch.device("cpu")))
    for k in range(len(inputs.source)):
        assert_same_sample(results[1], k, results[0], k, torch.device("cpu"))
        assert_same_sample(results[2], k, results[0], k, torch.device("cpu"))


def test_inputs_are_left_as_they_were(inputs, device):
    parts = (inputs, inputs.crack, inputs.optics)
    arrays = [v for part in parts for v in vars(part).values() if isinstance(v, np.ndarray)]
    before = [values.copy() for values in arrays]
    refine(inputs, device)
    for values, copy in zip(arrays, before, strict=True):
        assert_array_equal(values, copy)


def test_an_unfinished_solution_is_told_by_its_residual(inputs, device):
    found = refine(inputs, device, npcf=NPCF.model_copy(update={"max_cycles": 1, "tolerance": 1e-6}))
    assert np.all(found.residual[[0, 5]] > 1e-6)
    assert np.all(found.cycles <= 1)


def test_optics_are_measured_one_photograph_at_a_time(inputs):
    optics = measure_optics(inputs.source, inputs.foreground)
    batch, channels = len(inputs.source), inputs.source.shape[-1]
    shapes = dict.fromkeys(("directional", "gloss", "blur_px", "noise"), (batch,))
    shapes |= {"light": (batch, 2), "brightest": (batch, channels)}
    for name, shape in shapes.items():
        values = getattr(optics, name)
        assert values.dtype == np.float32
        assert values.shape == shape
        alone = [measure_optics(inputs.source[k : k + 1], inputs.foreground[k : k + 1]) for k in range(batch)]
        assert_array_equal(values, np.concatenate([getattr(one, name) for one in alone]))
    assert_allclose(np.hypot(*optics.light.T), 1, atol=1e-6)
    assert np.all((optics.directional >= 0) & (optics.directional <= 1))
    assert np.all((optics.brightest > 0.3) & (optics.brightest <= 1))


def test_optics_of_another_photograph_change_the_picture(inputs, device):
    turned = replace(inputs, optics=replace(inputs.optics, light=-inputs.optics.light))
    assert np.any(refine(turned, device).image[0] != refine(inputs, device).image[0])
