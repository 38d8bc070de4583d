"""Cells of samples and photographs: which are drawn, what the cache gives back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from bisqad.cells import (
    NormalPicture,
    SampleCells,
    draw_cells,
    eight_bit_colour,
    normal_cells,
    normals_of,
    sample_cells,
    stage_picture,
)
from bisqad.config import CellsConfig, TrainConfig
from bisqad.features import FeatureExtractor
from manifests import Corpus
from manifests.errors import CorpusError

FEW = CellsConfig(defect=5, ring=3, far=4)
MASKS = st.tuples(st.integers(1, 41), st.integers(1, 41)).flatmap(
    lambda shape: st.one_of(
        arrays(np.bool_, shape),
        st.just(np.zeros(shape, np.bool_)),
        st.just(np.ones(shape, np.bool_)),
        st.tuples(st.integers(0, shape[0] - 1), st.integers(0, shape[1] - 1)).map(lambda at: _one_pixel(shape, at)),
    )
)


def _one_pixel(shape: tuple[int, int], at: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    mask[at] = True
    return mask


def _cover(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    rows, columns = (-(-n // 4) for n in mask.shape)
    return np.array([[mask[4 * r : 4 * r + 4, 4 * c : 4 * c + 4].mean() for c in range(columns)] for r in range(rows)])


@given(mask=MASKS, seed=st.integers(0, 99))
def test_as_many_cells_are_drawn_whatever_the_mask(mask: NDArray[np.bool_], seed: int) -> None:
    cells, labels = draw_cells(mask, FEW, np.random.default_rng(seed))
    assert cells.shape == (12, 2)
    assert labels.shape == (12,)
    assert (cells >= 0).all()
    assert (cells < np.array([-(-n // 4) for n in mask.shape])).all()


@given(mask=MASKS, seed=st.integers(0, 99))
def test_labels_are_one_exactly_where_the_mask_covers_a_quarter_of_a_cell(mask: NDArray[np.bool_], seed: int) -> None:
    cells, labels = draw_cells(mask, FEW, np.random.default_rng(seed))
    cover = _cover(mask)
    # of a defect smaller than that everywhere, the cell that it covers most
    on = cover >= min(0.25, cover.max()) if mask.any() else np.zeros(cover.shape, np.bool_)
    assert_array_equal(labels, on[cells[:, 0], cells[:, 1]])


def test_cells_beside_the_defect_touch_none_of_it_and_lie_within_two_cells() -> None:
    mask = np.zeros((128, 128), np.bool_)
    mask[59:69, 41:80] = True  # of its corners' cells it covers less than a quarter
    config = CellsConfig(defect=10, ring=60, far=40)
    cells, labels = draw_cells(mask, config, np.random.default_rng(1))
    on = np.argwhere(_cover(mask) > 0)
    apart = np.abs(cells[:, None] - on[None]).max(axis=2).min(axis=1)
    assert_array_equal(labels, np.repeat([1, 0, 0], [10, 60, 40]))
    assert set(apart[10:70].tolist()) == {1, 2}
    assert apart[70:].min() > 2


def test_pictures_of_16_bits_and_grey_ones_become_eight_bit_colour() -> None:
    grey = np.array([[[0], [257], [65535]], [[128], [129], [32896]]], np.uint16)
    found = eight_bit_colour(grey)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert_array_equal(found[..., 0], [[0, 1, 255], [0, 1, 128]])
    assert_array_equal(found[..., 1], found[..., 0])
    colour = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert_array_equal(eight_bit_colour(colour), colour)


def test_each_photograph_of_a_corpus_is_one_normal(corpus_path: Path) -> None:
    corpus = Corpus(corpus_path)
    normals = normals_of(corpus)
    wanted = {(s.record.source_sha256, f"{s.record.dataset}/{s.record.category}") for s in corpus}
    assert {(n.name, n.key) for n in normals} == wanted
    assert len(normals) == len(wanted)
    sample = corpus[5]
    of_sample = next(n for n in normals if n.name == sample.record.source_sha256)
    assert_array_equal(of_sample.read(), eight_bit_colour(sample.source))


@pytest.fixture(scope="module")
def config(quick: TrainConfig) -> TrainConfig:
    return quick.model_copy(update={"detector": quick.detector.model_copy(update={"fit": "crop"})})


@pytest.fixture(scope="module")
def some(corpus_path: Path) -> Corpus:
    """One shard's worth of samples."""
    return Corpus(corpus_path)[:6]


def same(first: SampleCells, second: SampleCells) -> None:
    assert_array_equal(first.features.numpy(), second.features.numpy())
    assert_array_equal(first.labels.numpy(), second.labels.numpy())
    assert_array_equal(first.description.numpy(), second.description.numpy())
    assert first.records == second.records


def test_cells_from_the_cache_are_those_made_fresh(
    some: Corpus, config: TrainConfig, small_extractor: FeatureExtractor, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    fresh = sample_cells(some, config, small_extractor, cache=tmp_path, advance=lambda *done: told.append(done))
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    same(fresh, sample_cells(some, config, small_extractor, cache=tmp_path))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    assert told[-1] == (6, 6)
    assert fresh.features.shape == (6, 56, small_extractor.channels)
    assert fresh.features.dtype == torch.float16
    assert [r.id for r in fresh.records] == [s.record.id for s in some]


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "another"])
def test_a_damaged_cache_is_made_anew(
    some: Corpus, config: TrainConfig, small_extractor: FeatureExtractor, tmp_path: Path, damage: str
) -> None:
    two = some[:2]
    fresh = sample_cells(two, config, small_extractor, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    other = b"\x02\0\0\0\0\0\0\0{}"  # a sound file, but without a tensor
    file.write_bytes({"empty": b"", "cut": whole[:-100], "garbage": b"\xff" * 300, "another": other}[damage])
    same(fresh, sample_cells(two, config, small_extractor, cache=tmp_path))
    assert file.read_bytes() == whole


def test_another_stage_gives_other_features_of_the_same_cells(
    some: Corpus, config: TrainConfig, small_extractor: FeatureExtractor, tmp_path: Path
) -> None:
    final = sample_cells(some, config, small_extractor, cache=tmp_path)
    pasted = sample_cells(some, config.model_copy(update={"stage": "paste"}), small_extractor, cache=tmp_path)
    assert_array_equal(pasted.labels.numpy(), final.labels.numpy())
    assert not torch.equal(pasted.features, final.features)
    assert not torch.equal(pasted.description, final.description)


def test_a_stage_that_is_not_kept_is_refused(brick_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"'render' is not kept.*store\.stages"):
        stage_picture(Corpus(brick_path)[0], "render")


def test_a_view_without_samples_is_refused(
    some: Corpus, config: TrainConfig, small_extractor: FeatureExtractor, tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match="no accepted sample"):
        sample_cells(some[:0], config, small_extractor, cache=tmp_path)


def test_taken_samples_keep_their_cells_and_records_together(
    some: Corpus, config: TrainConfig, small_extractor: FeatureExtractor, tmp_path: Path
) -> None:
    cells = sample_cells(some, config, small_extractor, cache=tmp_path)
    taken = cells.take([4, 1])
    assert taken.records == (cells.records[4], cells.records[1])
    assert_array_equal(taken.features.numpy(), cells.features[[4, 1]].numpy())
    assert_array_equal(taken.mechanisms, cells.mechanisms[[4, 1]])


def test_normals_larger_and_smaller_than_the_working_size_give_as_many_cells(
    config: TrainConfig, small_extractor: FeatureExtractor, rng: np.random.Generator, tmp_path: Path
) -> None:
    images = [rng.integers(0, 255, (*shape, 3), dtype=np.uint8) for shape in ((40, 30), (200, 150), (128, 128))]
    pictures = [NormalPicture(str(k), "a/b", lambda image=image: image) for k, image in enumerate(images)]
    fresh = normal_cells(pictures, config, small_extractor, cache=tmp_path)
    again = normal_cells(pictures, config, small_extractor, cache=tmp_path)
    assert fresh.features.shape == (3, 64, small_extractor.channels)
    assert_array_equal(again.features.numpy(), fresh.features.numpy())
    assert fresh.take(np.array([True, False, True])).names == ("0", "2")
