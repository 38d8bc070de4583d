"""The finished picture: the union of its defects, in 8 bits as in 16, with a record that says what is there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from manifests.corpus import read_array
from manifests.hashing import sha256_bytes
from manifests.layout import DATA
from manifests.records import PlanRow, SampleStatus, SourceRecord
from manifests.tables import from_table, read_table
from pipeline.composition import compose, taken_place
from pipeline.invariants import PictureCounts, count_picture, visible_change
from pipeline.store import ArraySpec, create_array, place_shard, read_identity, stage_shard
from pipeline.synthesis import MadeSample, SampleSpec, create_sample_arrays, make_samples, store_samples


def one_shard(out: Path) -> SampleSpec:
    """All samples of bricks with up to four defects in a picture, in one shard."""
    plan = from_table(read_table(out / "plan.parquet"), PlanRow)
    inventory = from_table(read_table(out / "inventory.parquet"), SourceRecord)
    rows = tuple(row.model_copy(update={"shard": 0}) for row in plan if row.category == "brick")
    return SampleSpec(out, read_identity(out).recipe, rows, {s.index: s for s in inventory if s.category == "brick"})


@pytest.fixture(scope="module")
def spec(several: Path) -> SampleSpec:
    return one_shard(several)


@pytest.fixture(scope="module")
def deep(spec: SampleSpec, tmp_path_factory: pytest.TempPathFactory) -> SampleSpec:
    """The same of photographs with 16 bits, whose lower 8 are noise."""
    out = tmp_path_factory.mktemp("deep")
    shutil.copytree(spec.out / "bank", out / "bank")
    shutil.copytree(spec.out / DATA / spec.key / "foreground", out / DATA / spec.key / "foreground")
    shallow = photographs(spec)
    noise = np.random.default_rng(7).integers(0, 256, shallow.shape)
    pictures = (shallow.astype(np.int64) * 256 + noise).astype(np.uint16)
    create_array(out, DATA, spec.key, ArraySpec("source", pictures.shape, "uint16", len(pictures), ()), zstd_level=1)
    place_shard(out, stage_shard(out, DATA, spec.key, {"source": pictures}, shard=0))
    return replace(spec, out=out, recipe=spec.recipe.model_copy(update={"bit_depth": 16}))


def photographs(spec: SampleSpec) -> NDArray[Any]:
    return read_array(spec.out, DATA, spec.key, "source", 0, len(spec.sources))


def parts(spec: SampleSpec) -> NDArray[np.bool_]:
    return np.asarray(read_array(spec.out, DATA, spec.key, "foreground", 0, len(spec.sources)) > 0)


def make(spec: SampleSpec) -> list[MadeSample]:
    return list(make_samples([spec]))


def recount(spec: SampleSpec, made: MadeSample) -> PictureCounts:
    windows = [
        (slice(d.window_y, d.window_y + d.window_side), slice(d.window_x, d.window_x + d.window_side))
        for d in made.record.defects
        if d.instance
    ]
    return count_picture(
        made.image,
        made.instance,
        source=photographs(spec)[made.record.source],
        foreground=parts(spec)[made.record.source],
        windows=windows,
        threshold=spec.recipe.label.visible_threshold,
    )


@pytest.mark.parametrize("depth", ["spec", "deep"])
def test_record_counts_what_the_finished_pixels_say(depth: str, request: pytest.FixtureRequest) -> None:
    spec: SampleSpec = request.getfixturevalue(depth)
    several = 0
    for made in make(spec):
        found = recount(spec, made)
        assert found == PictureCounts(found.faint_px, 0, 0, 0, 0, 0)
        assert found.faint_px == made.record.faint_px
        source = photographs(spec)[made.record.source]
        change, visible = visible_change(made.image, source, spec.recipe.label.visible_threshold)
        assert change[visible & made.mask].mean() == pytest.approx(made.record.contrast, rel=1e-9)
        assert made.record.image_sha256 == sha256_bytes(np.ascontiguousarray(made.image).data)
        several += sum(defect.instance > 0 for defect in made.record.defects) > 1
    assert several >= 6


def test_picture_of_16_bits_keeps_the_lower_ones_of_its_photograph(deep: SampleSpec) -> None:
    for made in make(deep):
        source = photographs(deep)[made.record.source]
        assert made.image.dtype == source.dtype == np.uint16
        unchanged = (made.image == source).all(axis=2)
        assert unchanged.mean() > 0.3
        assert (made.image % 257 != 0).mean() > 0.9, "no 8-bit picture was stretched"
        assert {picture.dtype for picture in made.stages.values()} == {np.dtype(np.uint16)}


def test_shard_of_16_bits_is_stored_with_all_of_them(deep: SampleSpec) -> None:
    count = len(deep.rows)
    create_sample_arrays(deep.out, deep.recipe, deep.key, count=count, per_shard=count)
    store_samples([deep])
    made = make(deep)
    for name, expected in (("image", [m.image for m in made]), ("stage_npcf", [m.stages["npcf"] for m in made])):
        stored = read_array(deep.out, DATA, deep.key, name, 0, count)
        np.testing.assert_array_equal(stored, np.stack(expected), strict=True)
    np.testing.assert_array_equal(
        read_array(deep.out, DATA, deep.key, "instance", 0, count), np.stack([m.instance for m in made]), strict=True
    )


def test_16_bits_give_the_mask_of_8_but_for_single_pixels(spec: SampleSpec, deep: SampleSpec) -> None:
    """The same threshold of visibility, on a scale 257 times as fine."""
    shares = []
    for one, other in zip(make(spec), make(deep), strict=True):
        if one.record.defects[0].status is other.record.defects[0].status is SampleStatus.OK:
            mine, theirs = one.instance == 1, other.instance == 1
            if one.record.defects[0].attempts == other.record.defects[0].attempts:
                shares.append((mine & theirs).sum() / (mine | theirs).sum())
    assert len(shares) >= 8
    assert np.median(shares) > 0.8
    assert np.median([made.record.contrast for made in make(deep)]) < 255


def test_nothing_is_taken_where_no_defect_was_accepted(spec: SampleSpec) -> None:
    label = spec.recipe.label.model_copy(update={"min_area": 0.5, "max_area": 0.6, "attempts": 1})
    strict = replace(spec, recipe=spec.recipe.model_copy(update={"label": label}))
    for made, row in zip(make(strict), strict.rows, strict=True):
        assert made.record.status is made.record.defects[0].status is not SampleStatus.OK
        assert len(made.record.defects) == len(row.planned())
        assert not any(defect.status is SampleStatus.CROWDED for defect in made.record.defects), (
            "nothing was in the way"
        )
        np.testing.assert_array_equal(made.image, photographs(spec)[row.source])


def test_place_is_taken_two_pixels_around_all_that_was_changed(
    spec: SampleSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watching(results: Any) -> tuple[NDArray[np.bool_], int]:
        found = taken_place(results)
        made = compose(spec.recipe, results)
        changed = (made.image != results[0].placed.ingredients.source).any(axis=2) | made.mask
        expected = np.zeros_like(changed)
        for y, x in np.argwhere(changed):
            expected[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3] = True
        np.testing.assert_array_equal(found[0], expected)
        assert found[1] == made.mask.sum()
        seen.append(expected.any())
        return found

    monkeypatch.setattr("pipeline.synthesis.taken_place", watching)
    make(spec)
    assert sum(seen) > 10
