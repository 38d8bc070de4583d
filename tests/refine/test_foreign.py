"""Foreign material: each of its kinds against a known answer, on grey and coloured pictures, down to one pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.peers.nsa import poisson_clone
from manifests.config import LabelConfig, NpcfConfig, NpcfppConfig
from manifests.fields import ForeignKind
from refine.foreign import Foreign, Inserted, insert
from refine.passes import DefectInputs, ForeignArrays, RefinedBatch, measure_optics, refine_defects

SIDE = 45
KINDS: tuple[ForeignKind, ...] = ("patch", "clone", "blend")
BOXES = ((9, 30, 12, 20), (1, 44, 1, 44), (20, 21, 7, 8))  # rows and columns; large, all but the border, one pixel


def picture(seed: int, channels: int = 3) -> NDArray[np.float64]:
    """A picture (SIDE, SIDE, C), 0..1, without a step that another has too."""
    grain = np.random.default_rng(seed).standard_normal((SIDE, SIDE, channels))
    return np.clip(0.5 + 0.6 * ndimage.gaussian_filter(grain, (1.5, 1.5, 0.0)), 0.02, 0.98)


def inside_of(box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    inside = np.zeros((SIDE, SIDE), dtype=bool)
    inside[box[0] : box[1], box[2] : box[3]] = True
    return inside


def tensor(values: NDArray[np.float64], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(device, dtype)


def inserted(
    kind: ForeignKind,
    source: NDArray[np.float64],
    donor: NDArray[np.float64],
    cover: NDArray[np.float64],
    device: torch.device,
    dtype: torch.dtype,
    *,
    part: NDArray[np.bool_] | None = None,
    jitter: tuple[float, float, float] = (1.0, 1.0, 1.0),
    tolerance: float = 1e-3,
) -> Inserted:
    """One picture (H, W, C) with a donor under a cover (H, W)."""
    pictures, donors = (tensor(x.transpose(2, 0, 1)[None], device, dtype) for x in (source, donor))
    foreign = Foreign(kind, tensor(cover[None], device, dtype), donors, tensor(np.array([jitter]), device, dtype))
    where = np.ones((SIDE, SIDE), dtype=bool) if part is None else part
    there = torch.from_numpy(where[None]).to(device)
    return insert(pictures, there, foreign, tolerance=tolerance, max_cycles=50)


def image_of(made: Inserted) -> NDArray[np.float64]:
    return made.image[0].permute(1, 2, 0).double().cpu().numpy()


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
@pytest.mark.parametrize("box", BOXES, ids=["box", "all but the border", "one pixel"])
def test_clone_is_the_direct_solution(channels, box, device, dtype, tolerance):
    source, donor = picture(1, channels), picture(2, channels)
    if dtype == torch.float32:  # both sides choose between the same differences
        source, donor = (x.astype(np.float32).astype(np.float64) for x in (source, donor))
    inside = inside_of(box)
    made = inserted("clone", source, donor, inside.astype(float), device, dtype, tolerance=tolerance.solver)
    expected = poisson_clone(source, donor, inside)
    assert_allclose(image_of(made), expected, atol=tolerance.solution)
    assert made.residual[0] <= tolerance.solver
    assert made.cycles[0] >= 1


def test_clone_at_the_usual_tolerance_is_within_a_fifth_of_a_grey_level(device):
    source, donor, inside = picture(1), picture(2), inside_of(BOXES[1])
    source, donor = (x.astype(np.float32).astype(np.float64) for x in (source, donor))
    made = inserted(
        "clone", source, donor, inside.astype(float), device, torch.float32, tolerance=NpcfConfig().tolerance
    )
    assert_allclose(255 * image_of(made), 255 * poisson_clone(source, donor, inside), atol=0.2)


def test_clone_of_the_picture_itself_made_brighter_changes_nothing(device, dtype, tolerance):
    source = picture(3)
    made = inserted(
        "clone", source, source + 0.2, inside_of(BOXES[0]).astype(float), device, dtype, tolerance=tolerance.solver
    )
    assert_allclose(image_of(made), source, atol=tolerance.solution)


def test_patch_without_jitter_is_the_donor(device, dtype, tolerance):
    source, donor, inside = picture(1), picture(2), inside_of(BOXES[0])
    made = inserted("patch", source, donor, inside.astype(float), device, dtype)
    assert_allclose(image_of(made), np.where(inside[..., None], donor, source), atol=tolerance.rounding)


@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_patch_is_jittered_about_its_own_mean_and_its_own_grey(channels, device, dtype, tolerance):
    source, donor, inside = picture(1, channels), 0.2 + 0.5 * picture(2, channels), inside_of(BOXES[0])
    brightness, contrast, saturation = 1.08, 0.93, 1.05
    made = inserted(
        "patch", source, donor, inside.astype(float), device, dtype, jitter=(brightness, contrast, saturation)
    )
    bright = donor[inside] * brightness
    spread = bright.mean() + contrast * (bright - bright.mean())
    grey = spread.mean(axis=-1, keepdims=True)
    # the mean is taken of whole numbers of 1 / 65536
    assert_allclose(image_of(made)[inside], grey + saturation * (spread - grey), atol=1e-5)


@pytest.mark.parametrize("opacity", [0.2, 0.7, 1.0])
def test_blend_shows_so_much_of_the_texture_as_it_is_opaque(opacity, device, dtype, tolerance):
    source, donor, inside = picture(1), picture(2), inside_of(BOXES[0])
    made = inserted("blend", source, donor, opacity * inside, device, dtype)
    expected = source + opacity * inside[..., None] * (donor - source)
    assert_allclose(image_of(made), expected, atol=tolerance.rounding)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_beside_the_cover_or_off_the_part(kind, device, dtype):
    source, donor, inside = picture(1), picture(2), inside_of(BOXES[0])
    part = np.ones((SIDE, SIDE), dtype=bool)
    part[:, 16:] = False
    made = inserted(
        kind, source, donor, 0.6 * inside if kind == "blend" else inside.astype(float), device, dtype, part=part
    )
    assert_array_equal(made.support[0].cpu().numpy(), inside & part)
    changed = (made.image[0].permute(1, 2, 0) != tensor(source, device, dtype)).any(dim=-1).cpu().numpy()
    assert not (changed & ~(inside & part)).any()
    assert changed.any()


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_cover_the_picture_stays_as_it_is(kind, device, dtype):
    source = picture(1)
    made = inserted(kind, source, picture(2), np.zeros((SIDE, SIDE)), device, dtype, jitter=(1.1, 0.9, 1.1))
    assert torch.equal(made.image[0].permute(1, 2, 0), tensor(source, device, dtype))
    assert not made.support.any()


@pytest.mark.parametrize("kind", ["patch", "blend"])
def test_what_needs_no_solver_tells_of_none(kind, device):
    made = inserted(kind, picture(1), picture(2), inside_of(BOXES[0]).astype(float), device, torch.float32)
    assert (float(made.residual[0]), int(made.cycles[0])) == (0.0, 0)
    assert torch.equal(made.laid, made.image)


# ---------------------------------------------------------------- with the label


def inputs_of(kind: ForeignKind, pixel: type, channels: int) -> DefectInputs:
    """Four samples: a box, one at the border, one pixel, one half off the part."""
    covers = np.stack([inside_of(box) for box in ((8, 25, 8, 30), (0, 12, 0, 45), (20, 21, 7, 8), (10, 30, 25, 40))])
    part = np.ones(covers.shape, dtype=bool)
    part[3, :, 32:] = False
    white = np.iinfo(pixel).max
    source = np.stack([np.round(white * picture(k, channels)).astype(pixel) for k in range(4)])
    rng = np.random.default_rng(5)
    return DefectInputs(
        source=source,
        foreground=part,
        grain=np.zeros(covers.shape, dtype=np.float32),
        noise=np.zeros((4, 3, SIDE, SIDE), dtype=np.float32),
        optics=measure_optics(source, part),
        foreign=ForeignArrays(
            kind=kind,
            cover=(covers * (0.8 if kind == "blend" else 1.0)).astype(np.float32),
            donor=np.stack([picture(10 + k, channels) for k in range(4)]).astype(np.float32),
            jitter=rng.uniform(0.9, 1.1, (4, 3)).astype(np.float32),
        ),
    )


def refined(inputs: DefectInputs, device: torch.device) -> RefinedBatch:
    return refine_defects(
        inputs,
        npcf=NpcfConfig(),
        npcfpp=NpcfppConfig(),
        label=LabelConfig(),
        stages=("paste", "render", "npcf"),
        device=str(device),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pixel", [np.uint8, np.uint16], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
def test_label_and_support_are_as_for_any_defect(kind, pixel, channels, device):
    inputs = inputs_of(kind, pixel, channels)
    made = refined(inputs, device)
    assert inputs.foreign is not None
    allowed = (inputs.foreign.cover > 0) & inputs.foreground
    assert made.image.dtype == pixel
    for picture_of_stage in (made.image, *made.stages.values()):
        assert not ((picture_of_stage != inputs.source).any(axis=-1) & ~allowed).any()
    assert not (made.mask & ~allowed).any()
    assert made.mask[[0, 1, 3]].any(axis=(1, 2)).all()
    for counted in (made.unlabelled_px, made.unseen_px, made.outside_px):
        assert_array_equal(counted, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_is_the_same_alone(kind, device):
    inputs = inputs_of(kind, np.uint8, 3)
    assert inputs.foreign is not None
    together = refined(inputs, device)
    for k in range(4):
        one = slice(k, k + 1)
        foreign = ForeignArrays(kind, inputs.foreign.cover[one], inputs.foreign.donor[one], inputs.foreign.jitter[one])
        optics = measure_optics(inputs.source[one], inputs.foreground[one])
        alone = refined(
            DefectInputs(
                inputs.source[one],
                inputs.foreground[one],
                inputs.grain[one],
                inputs.noise[one],
                optics,
                foreign=foreign,
            ),
            device,
        )
        if device.type == "cpu":
            assert_array_equal(alone.image[0], together.image[k])
            assert_array_equal(alone.residual[0], together.residual[k])
            assert_array_equal(alone.cycles[0], together.cycles[k])


def test_a_clones_stages_are_the_patch_as_laid_and_the_solution(device):
    inputs = inputs_of("clone", np.uint8, 3)
    made = refined(inputs, device)
    assert inputs.foreign is not None
    inside = inputs.foreign.cover[0] > 0
    assert_array_equal(made.stages["paste"], made.stages["render"])
    laid = np.round(255 * inputs.foreign.donor[0][inside])
    assert np.abs(made.stages["paste"][0][inside] - laid).max() <= 1
    assert (made.stages["npcf"] != made.stages["paste"]).any()
    assert made.residual.max() <= NpcfConfig().tolerance
    assert made.cycles.max() >= 1
