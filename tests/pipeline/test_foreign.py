"""Foreign material: whence it is taken, and a corpus of reference generators mixed with physics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from manifests import Corpus
from manifests.fields import ForeignKind
from manifests.records import PlanRow, SampleStatus, SourceRecord
from manifests.tables import from_table, read_table
from physics.placement import Window
from physics.registry import MECHANISMS
from pipeline.foreign import Donor, covered, draw_material
from pipeline.generate import generate
from pipeline.recipe import Recipe
from pipeline.store import read_identity
from pipeline.synthesis import MadeSample, SampleSpec, make_samples
from pipeline.verification import verify_corpus
from tests.pipeline.conftest import RECIPE, CommandLine, digest

SIZE = 80
WINDOW = Window(16, 24, 48)
REFERENCES = [name for name, known in MECHANISMS.items() if not known.physical]


def donor(pixel: type = np.uint8, channels: int = 3) -> Donor:
    """A photograph of which every pixel is another, on a part that is its lower right quarter and a bit."""
    white = np.iinfo(pixel).max
    ramp = np.arange(SIZE * SIZE * channels) % white
    part = np.zeros((SIZE, SIZE), dtype=bool)
    part[30:, 20:] = True
    return Donor(ramp.reshape(SIZE, SIZE, channels).astype(pixel), part)


def cover_of(top: int, left: int, height: int, width: int) -> NDArray[np.float32]:
    cover = np.zeros((WINDOW.side, WINDOW.side), dtype=np.float32)
    cover[top : top + height, left : left + width] = 1
    return cover


@pytest.mark.parametrize("pixel", [np.uint8, np.uint16], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("channels", [1, 3], ids=["grey", "colour"])
@pytest.mark.parametrize("sides", [(12, 20), (1, 1), (1, 30)], ids=str)
def test_patch_is_a_place_of_the_photograph_on_the_part_and_beside_its_own(
    sides: tuple[int, int], channels: int, pixel: type
) -> None:
    given, cover = donor(pixel, channels), cover_of(10, 12, *sides)
    for seed in range(10):
        found = draw_material("patch", np.random.default_rng(seed), cover, WINDOW, given, channels=channels)
        box = found.pixels[10 : 10 + sides[0], 12 : 12 + sides[1]]
        places = np.argwhere(given.foreground)
        values = given.photograph / np.float32(np.iinfo(pixel).max)
        where = [
            (y, x)
            for y, x in places.tolist()
            if np.array_equal(values[y : y + sides[0], x : x + sides[1]], box)
            and given.foreground[y : y + sides[0], x : x + sides[1]].all()
            and (2 * abs(y - 26) >= sides[0] or 2 * abs(x - 36) >= sides[1])
        ]
        assert where, "cut out as it is there"
        assert all(0.9 <= factor <= 1.1 for factor in found.jitter)


def test_clone_is_a_place_of_the_donor_up_to_1_4_times_as_fine_or_coarse() -> None:
    """On a ramp, where the step from pixel to pixel tells the size."""
    y, x = np.mgrid[:SIZE, :SIZE]
    given = Donor((1000 + 300 * y + 400 * x)[..., None].astype(np.uint16), np.ones((SIZE, SIZE), dtype=bool))
    cover, sizes = cover_of(10, 12, 8, 9), []
    for seed in range(40):
        pixels = draw_material("clone", np.random.default_rng(seed), cover, WINDOW, given, channels=1).pixels
        box = 65535 * pixels[9:19, 11:22, 0].astype(np.float64)
        down, right = np.diff(box, axis=0), np.diff(box, axis=1)
        assert_allclose(down, down[0, 0], rtol=0.01)
        assert_allclose(right / 400, down[0, 0] / 300, rtol=0.01)
        sizes.append(300 / down[0, 0])
    assert 0.69 < min(sizes) < 0.8
    assert 1.2 < max(sizes) < 1.31


def test_clone_larger_than_its_donor_is_taken_from_all_of_it() -> None:
    cover = cover_of(0, 0, 48, 48)
    small = Donor(np.full((32, 32, 1), 77, dtype=np.uint8), np.ones((32, 32), dtype=bool))
    pixels = draw_material("clone", np.random.default_rng(0), cover, WINDOW, small, channels=1).pixels
    assert_allclose(pixels, 77 / 255, rtol=1e-6)


@pytest.mark.parametrize("kind", ["patch", "clone", "blend"])
def test_same_stream_gives_the_same_material_and_an_empty_cover_gives_some(kind: ForeignKind) -> None:
    given = None if kind == "blend" else donor()
    for cover in (cover_of(10, 12, 9, 9), cover_of(0, 0, 0, 0)):
        one, again = (draw_material(kind, np.random.default_rng(1), cover, WINDOW, given, channels=3) for _ in range(2))
        assert_array_equal(one.pixels, again.pixels)
        assert one.pixels.shape == (WINDOW.side, WINDOW.side, 3)
        assert one.pixels.dtype == np.float32
        assert 0 <= one.pixels.min() <= one.pixels.max() <= 1


def test_cover_is_all_or_nothing_unless_the_texture_shines_through() -> None:
    soft = {"cover": np.array([[0.0, 0.3], [0.5, 0.9]], dtype=np.float32)}
    assert_array_equal(covered("blend", soft)["cover"], soft["cover"])
    for kind in ("patch", "clone"):
        assert_array_equal(covered(kind, soft)["cover"], [[0, 0], [1, 1]])


# ---------------------------------------------------------------- a hybrid corpus


SMALL = {"grid": 32, "snapshots": 4, "area": {"kind": "loguniform", "low": 0.01, "high": 0.06}}
HYBRID = {
    "name": "hybrid",
    "count": 36,
    "mechanisms": {"pitting": SMALL, **dict.fromkeys(REFERENCES, SMALL)},
    "placement": {"defects": [1, 2]},
    "store": {"shard_images": 5, "stages": ["paste", "render", "npcf"]},
}


def hybrid_recipe() -> Recipe:
    return Recipe.model_validate(yaml.safe_load(RECIPE) | HYBRID)


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hybrid") / "corpus"
    generate(out, hybrid_recipe(), workers=1)
    return out


@pytest.fixture(scope="module")
def spec(hybrid: Path) -> SampleSpec:
    """All samples of bricks as one shard."""
    plan = from_table(read_table(hybrid / "plan.parquet"), PlanRow)
    inventory = from_table(read_table(hybrid / "inventory.parquet"), SourceRecord)
    rows = tuple(row for row in plan if row.category == "brick")
    return SampleSpec(
        hybrid, read_identity(hybrid).recipe, rows, {s.index: s for s in inventory if s.category == "brick"}
    )


def make(spec: SampleSpec) -> list[MadeSample]:
    return list(make_samples([spec]))


def test_hybrid_corpus_verifies_and_all_its_mechanisms_are_there(hybrid: Path) -> None:
    assert verify_corpus(hybrid).problems == ()
    present = {d.mechanism for sample in Corpus(hybrid) for d in sample.record.defects if d.instance}
    assert present == set(hybrid_recipe().mechanism_weights())


def test_what_is_not_physical_is_marked_in_every_record(hybrid: Path) -> None:
    corpus = Corpus(hybrid)
    for sample in corpus:
        record = sample.record
        for defect in record.defects:
            assert defect.physical == (defect.mechanism == "pitting")
        there = [defect for defect in record.defects if defect.instance]
        assert record.physical == all(defect.physical for defect in there)
    assert 0 < len(corpus.where(physical=True)) < len(corpus)
    assert {name: told.physical for name, told in corpus.info.mechanisms.items()} == {
        name: known.physical for name, known in MECHANISMS.items() if name in corpus.info.mechanisms
    }


def test_info_counts_what_is_not_physical(hybrid: Path, maphc2f: CommandLine) -> None:
    done = maphc2f.run("info", hybrid)
    counts = Corpus(hybrid).info.counts.defects
    mix = ", ".join(f"{name} {counts[name]}" for name in sorted(REFERENCES))
    assert f"not physical: {mix} (column physical)" in " ".join(done.stdout.split())


def test_no_photograph_gives_material_to_another_group(hybrid: Path) -> None:
    donors = set()
    for sample in Corpus(hybrid, statuses=None):
        for defect in sample.record.defects:
            if defect.donor >= 0:
                assert defect.donor % 10 == sample.record.source % 10 == sample.record.group
                donors.add((defect.mechanism, defect.donor == sample.record.source))
    assert ("poisson", False) in donors
    assert ("cutpaste", False) not in donors


def test_only_a_clone_is_solved_for_and_only_its_stages_differ(hybrid: Path) -> None:
    solved = set()
    for sample in Corpus(hybrid):
        kinds = {d.mechanism for d in sample.record.defects if d.instance}
        if len(kinds) == 1 and not sample.record.physical:
            (kind,) = kinds
            assert (sample.record.cycles > 0) <= (kind == "poisson")
            differs = bool((sample.stages["npcf"] != sample.stages["render"]).any())
            assert differs <= (kind == "poisson")
            assert_array_equal(sample.stages["render"], sample.stages["paste"])
            solved.add((kind, differs))
            assert sample.fields["cover"].values.max() > 0
            assert not ((sample.image != sample.source).any(axis=-1) & (sample.fields["cover"].values == 0)).any()
    assert solved == {("cutpaste", False), ("poisson", True), ("perlin", False)}


def test_samples_alone_and_in_another_order_are_those_of_the_batch(spec: SampleSpec) -> None:
    expected = {sample.record.index: sample for sample in make(spec)}
    for again in (*make(replace(spec, rows=spec.rows[::-1])), *make(replace(spec, rows=spec.rows[3:4]))):
        assert again.record == expected[again.record.index].record
        assert_array_equal(again.image, expected[again.record.index].image)


def test_two_workers_write_the_same_bytes(hybrid: Path, tmp_path: Path) -> None:
    generate(tmp_path / "two", hybrid_recipe(), workers=2)
    assert digest(tmp_path / "two") == digest(hybrid)


def test_another_donor_is_another_shard(spec: SampleSpec) -> None:
    row = next(row for row in spec.rows if any(d.donor not in (-1, row.source) for d in row.planned()))
    one = replace(spec, rows=(row,), sources={k: spec.sources[k] for k in row.photographs()})
    (other,) = set(row.photographs()) - {row.source}
    mended = one.sources[other].model_copy(update={"sha256": "other"})
    assert replace(one, sources={**one.sources, other: mended}).inputs_sha256 != one.inputs_sha256


def test_drawn_again_the_donor_stays_and_the_place_moves(spec: SampleSpec) -> None:
    strict = spec.recipe.model_copy(update={"label": spec.recipe.label.model_copy(update={"least_visibility": 4.0})})
    made = make(replace(spec, recipe=strict, rows=tuple(row for row in spec.rows if row.mechanism == "poisson")[:3]))
    for sample, row in zip(made, (row for row in spec.rows if row.mechanism == "poisson"), strict=False):
        first = sample.record.defects[0]
        assert first.status is SampleStatus.HIDDEN
        assert first.attempts == strict.label.attempts
        assert first.donor == row.donor
        assert (first.anchor_y, first.anchor_x) != (row.anchor_y, row.anchor_x)
