"""The estimator of sample quality: its description of a sample, its file, and what comes with the program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from safetensors.torch import load, save

from manifests.errors import InputError
from refine.scoring import Scorer
from refine.sqe import DESCRIPTION_SIZE, NAMES, SQE, describe, load_sqe, save_sqe

SIDE = 96
MASKS = ("empty", "whole", "pixel", "corner", "row", "noise", "disc")


def mask_of(kind: str, side: int) -> NDArray[np.bool_]:
    mask = np.zeros((side, side), dtype=bool)
    if kind == "whole":
        mask[:] = True
    elif kind == "pixel":
        mask[side // 3, side // 2] = True
    elif kind == "corner":
        mask[-1, -1] = True
    elif kind == "row":
        mask[side // 2] = True
    elif kind == "noise":
        mask = np.random.default_rng(1).random((side, side)) < 0.2
    elif kind == "disc":
        y, x = np.mgrid[:side, :side] - side / 2
        mask = np.hypot(y, x) < side / 5
    return mask


def samples(count: int, *, side: int = SIDE, channels: int = 3) -> tuple[NDArray[Any], ...]:
    """Images, masks and sources: dark discs of several sizes and places on grain."""
    rng = np.random.default_rng(4)
    sources = np.clip(140 + rng.normal(0, 6, (count, side, side, channels)), 0, 255)
    y, x = np.mgrid[:side, :side]
    places = rng.uniform(0.2, 0.8, (count, 2)) * side
    sizes = np.linspace(3, 0.3 * side, count)
    masks = np.stack([np.hypot(y - a, x - b) < r for (a, b), r in zip(places, sizes, strict=True)])
    images = np.clip(sources - 40 * masks[..., None], 0, 255)
    return images.astype(np.uint8), masks, sources.astype(np.uint8)


def column(described: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    return described[:, NAMES.index(name)]


def test_every_column_has_a_name_of_its_own() -> None:
    assert len(set(NAMES)) == len(NAMES) == DESCRIPTION_SIZE
    assert describe(*samples(1)).shape == (1, DESCRIPTION_SIZE)


def test_a_sample_is_described_the_same_in_any_batch_and_on_any_number_of_threads() -> None:
    images, masks, sources = samples(7)
    together = describe(images, masks, sources)
    order = np.array([3, 6, 0, 5, 2, 1, 4])
    assert_array_equal(describe(images[order], masks[order], sources[order]), together[order])
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            alone = [describe(images[k : k + 1], masks[k : k + 1], sources[k : k + 1])[0] for k in range(7)]
            assert_array_equal(np.stack(alone), together)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_the_quality_is_the_same_bit_for_bit_without_the_network() -> None:
    images, masks, sources = samples(6)
    parts = np.ones_like(masks)
    scorer = Scorer()
    quality, _ = scorer.score(images, masks, sources, parts)
    assert_array_equal(scorer.quality(images, masks, sources, parts), quality)
    assert len(set(quality)) == 6


@settings(max_examples=30)
@given(
    kind=st.sampled_from(MASKS),
    side=st.sampled_from([8, 17, 64, 90]),
    change=st.sampled_from(["none", "noise", "saturated"]),
    channels=st.sampled_from([1, 3]),
    deep=st.booleans(),
)
def test_every_description_is_finite(kind: str, side: int, change: str, channels: int, deep: bool) -> None:
    top, dtype = (65535, np.uint16) if deep else (255, np.uint8)
    rng = np.random.default_rng(2)
    source = rng.integers(0, top + 1, (1, side, side, channels)).astype(dtype)
    image = {"none": source, "noise": source[:, ::-1], "saturated": np.full_like(source, top)}[change]
    described = describe(np.ascontiguousarray(image), mask_of(kind, side)[None], source)
    assert np.isfinite(described).all()


def test_a_large_picture_is_described_as_its_reduction_is() -> None:
    images, masks, sources = samples(1, side=256)
    large = [
        np.kron(a[0], np.ones((4, 4, 1) if a.ndim == 4 else (4, 4))).astype(a.dtype)[None]
        for a in (images, masks, sources)
    ]
    small, big = describe(images, masks, sources), describe(large[0], large[1].astype(bool), large[2])
    for name in ("log_area", "fill", "change_median", "sign", "recall_8", "separation"):
        assert_allclose(column(big, name), column(small, name), atol=0.05, err_msg=name)


def test_grey_is_described_as_colour_with_equal_channels() -> None:
    images, masks, sources = samples(3, channels=1)
    colour = describe(images.repeat(3, axis=3), masks, sources.repeat(3, axis=3))
    assert_allclose(describe(images, masks, sources), colour, atol=1e-4)


def test_sixteen_bits_are_described_as_eight() -> None:
    images, masks, sources = samples(3)
    deep = describe(images.astype(np.uint16) * 257, masks, sources.astype(np.uint16) * 257)
    assert_allclose(deep, describe(images, masks, sources), atol=2e-3)


def test_a_mask_that_is_beside_its_change_is_told_by_shift_and_recall() -> None:
    images, masks, sources = samples(1)
    moved = np.roll(masks, 9, axis=2)
    right, wrong = describe(images, masks, sources), describe(images, moved, sources)
    assert column(right, "shift") == 0
    assert column(wrong, "shift") > 0.3
    assert column(wrong, "recall_8") < column(right, "recall_8") == 1


def test_what_lies_off_the_part_is_counted() -> None:
    images, masks, sources = samples(1)
    rows = np.flatnonzero(masks[0].any(axis=1))
    part = np.ones_like(masks)
    part[:, : (rows[0] + rows[-1] + 1) // 2] = False
    described = describe(images, masks, sources, part)
    assert_allclose(column(described, "off_part"), 0.5, atol=0.1)
    assert column(describe(images, masks, sources), "off_part") == 0


def test_a_brighter_and_a_darker_change_have_opposite_signs() -> None:
    images, masks, sources = samples(1)
    brighter = np.clip(2 * sources.astype(np.int16) - images, 0, 255).astype(np.uint8)
    assert column(describe(images, masks, sources), "sign") < -0.9
    assert column(describe(brighter, masks, sources), "sign") > 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((2, 9, 10, 3), np.uint8)}, "images: expected"),
        ({"images": np.zeros((2, 16, 16, 3), np.float32)}, "both uint8"),
        ({"sources": np.zeros((2, 16, 16, 1), np.uint8)}, "same shape"),
        ({"masks": np.zeros((2, 16, 16), np.uint8)}, "masks: expected bool"),
        ({"foregrounds": np.ones((1, 16, 16), bool)}, "foregrounds: expected bool"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    given_arrays: dict[str, Any] = {
        "images": np.zeros((2, 16, 16, 3), np.uint8),
        "masks": np.zeros((2, 16, 16), bool),
        "sources": np.zeros((2, 16, 16, 3), np.uint8),
    }
    with pytest.raises(ValueError, match=message):
        describe(**(given_arrays | change))


# ---------------------------------------------------------------- the estimator


def test_a_new_estimator_is_small_and_weighs_all_samples_the_same() -> None:
    model = SQE().eval()
    assert sum(parameter.numel() for parameter in model.parameters()) <= 200_000
    logits = model.weight_logits(torch.from_numpy(describe(*samples(3))))
    assert_array_equal(logits.detach().numpy(), np.zeros(3))


def test_learning_a_weight_leaves_the_quality_as_it_was() -> None:
    model, description = load_sqe(), torch.from_numpy(describe(*samples(6)))
    before = model.quality(description).detach()
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(5):
        optimiser.zero_grad()
        (model.weight_logits(description) - torch.linspace(-2, 2, 6)).square().mean().backward()
        optimiser.step()
    assert float(model.weight_logits(description).detach().std()) > 0.1
    assert_array_equal(model.quality(description).detach().numpy(), before.numpy())


def test_an_estimator_is_read_as_it_was_written(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = SQE(["ghost", "off_part"]).eval()
    save_sqe(model, tmp_path / "a.safetensors")
    read = load_sqe(tmp_path / "a.safetensors")
    assert read.kinds == ("ghost", "off_part")
    assert read.sha256 == model.sha256
    save_sqe(read, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    description = torch.from_numpy(describe(*samples(2)))
    assert_array_equal(read.quality(description).detach().numpy(), model.quality(description).detach().numpy())


def test_the_estimator_that_comes_with_the_program_tells_a_defect_from_a_wrong_mask() -> None:
    model = load_sqe()
    images, masks, sources = samples(4)
    with torch.inference_mode():
        right, wrong = (
            model.quality(torch.from_numpy(describe(images, m, sources))) for m in (masks, np.roll(masks, 30, axis=1))
        )
        assert_array_equal(model.weight_logits(torch.from_numpy(describe(images, masks, sources))).numpy(), np.zeros(4))
    assert ((right > 0) & (right < 1) & (wrong > 0) & (wrong < 1)).all()
    assert float(wrong.max()) < 0.2
    assert len(model.kinds) == 10


def test_a_file_that_is_no_estimator_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sqe.safetensors"
    with pytest.raises(InputError, match="cannot be read"):
        load_sqe(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(InputError, match="cannot be read"):
        load_sqe(path)
    path.write_bytes(save({"weight": torch.zeros(2)}))
    with pytest.raises(InputError, match="not an estimator"):
        load_sqe(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('\\"description_version\\": 1', '\\"description_version\\": 9', "description_version is 9, expected 1"),
        ('\\"format_version\\": 1', '\\"format_version\\": 9', "format_version is 9"),
    ],
)
def test_an_estimator_of_another_version_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "sqe.safetensors"
    save_sqe(SQE(), path)
    data = path.read_bytes()
    assert data.count(old.encode()) == 1
    path.write_bytes(data.replace(old.encode(), new.encode()))
    with pytest.raises(InputError, match=message):
        load_sqe(path)


@pytest.mark.parametrize("damage", ["missing", "infinite"])
def test_an_estimator_with_damaged_tensors_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "sqe.safetensors"
    model = SQE()
    if damage == "infinite":
        model.spread[3] = torch.inf
    save_sqe(model, path)
    if damage == "missing":
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        meta = json.loads(data[8 : 8 + size])["__metadata__"]
        tensors = load(data)
        del tensors["spread"]
        path.write_bytes(save(tensors, metadata=meta))
    with pytest.raises(InputError, match=r"tensors are not those|not finite"):
        load_sqe(path)
