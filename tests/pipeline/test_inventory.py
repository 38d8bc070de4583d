"""Taking photographs in: a record of every file, arrays of the usable ones, an identity that notices a mended file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manifests.errors import SourceError
from manifests.records import SourceStatus
from pipeline.inventory import SourcesSpec, find_categories, inspect_category, scan_category, store_sources
from pipeline.recipe import Recipe, load_recipe
from pipeline.store import read_rows
from tests.pipeline.conftest import surface


def recipe_for(folder: Path, **settings: object) -> Recipe:
    source = {"kind": "folder", "path": str(folder)}
    return load_recipe(None, overrides={"size": 64, "sources": [source], "store": {"shard_images": 3}, **settings})


def spec_for(folder: Path, out: Path, **settings: object) -> SourcesSpec:
    recipe = recipe_for(folder, **settings)
    (category,) = find_categories(recipe)
    return SourcesSpec(out, recipe, category)


def test_every_file_has_a_record_and_the_usable_ones_a_row(photographs: Path, tmp_path: Path) -> None:
    (photographs / "part1.png").write_bytes(b"")
    (photographs / "part2.png").write_text("no picture")
    spec = spec_for(photographs, tmp_path / "out")
    record = store_sources(spec)
    assert [row.status.value for row in record.rows] == ["ok", "empty", "not_an_image", "ok"]
    assert [row.index for row in record.rows] == [0, -1, -1, 1]
    stored = read_rows(tmp_path / "out", "data", spec.key, "source", 0, 2)
    for row, name in ((0, "part0.png"), (1, "part3.png")):
        with Image.open(photographs / name) as picture:
            np.testing.assert_array_equal(stored[row, :, :, 0], np.asarray(picture))


def test_record_identifies_its_file(photographs: Path) -> None:
    recipe = recipe_for(photographs)
    scan = scan_category(recipe, find_categories(recipe)[0])
    for row in scan.records:
        content = (photographs / row.path).read_bytes()
        assert row.sha256 == hashlib.sha256(content).hexdigest()
        assert row.bytes == len(content)
        assert (row.width_px, row.height_px, row.channels, row.bit_depth) == (64, 64, 1, 8)
        assert row.foreground_fraction > 0.5
        assert np.hypot(row.light_y, row.light_x) == pytest.approx(1.0, abs=1e-5)


def test_files_may_fill_several_shards(photographs: Path, tmp_path: Path) -> None:
    record = store_sources(spec_for(photographs, tmp_path / "out"))
    assert sorted(Path(file.path).parts[3] for file in record.files) == ["foreground"] * 2 + ["source"] * 2


@pytest.mark.parametrize(("colour", "channels"), [(False, 1), (True, 3)])
def test_one_colour_picture_makes_the_category_coloured(colour: bool, channels: int, photographs: Path) -> None:
    grey = surface(9, (64, 64))
    pixels = surface(9, (64, 64, 3)) if colour else np.repeat(grey[..., None], 3, axis=2)
    Image.fromarray(pixels).save(photographs / "part9.png")
    recipe = recipe_for(photographs)
    assert scan_category(recipe, find_categories(recipe)[0]).images.shape == (5, 64, 64, channels)


def test_category_without_a_usable_photograph_says_which_file_and_why(photographs: Path) -> None:
    for path in photographs.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    recipe = recipe_for(photographs)
    with pytest.raises(SourceError, match=r"none of its 4 files is a usable photograph \(first: part0\.png: corrupt, "):
        scan_category(recipe, find_categories(recipe)[0])


def test_two_sources_of_one_name_are_refused(photographs: Path) -> None:
    source = {"kind": "folder", "path": str(photographs)}
    with pytest.raises(SourceError, match="comes from two sources; give one of them another `name`"):
        find_categories(recipe_for(photographs, sources=[source, source]))
    named = recipe_for(photographs, sources=[source, {**source, "name": "again"}])
    assert [category.dataset for category in find_categories(named)] == ["folder", "again"]


def test_identity_notices_files_that_came_went_or_were_mended(photographs: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    source = {"kind": "folder", "path": str(photographs), "masks": str(masks)}

    def identity() -> str:
        return spec_for(photographs, tmp_path / "out", sources=[source]).inputs_sha256

    (masks / "photographs").mkdir(parents=True)
    seen = [identity()]
    assert identity() == seen[0]
    (photographs / "part1.png").write_bytes((photographs / "part1.png").read_bytes() + b"more")
    seen.append(identity())
    (photographs / "part1.png").unlink()
    seen.append(identity())
    Image.new("L", (64, 64), 255).save(masks / "photographs" / "part0.png")
    seen.append(identity())
    assert len(set(seen)) == 4


def test_quick_look_reads_64_files_at_most_and_names_the_unusable(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for k in range(70):
        Image.fromarray(surface(k, (32, 32))).save(folder / f"{k:02d}.png")
    (folder / "00.png").write_bytes(b"")
    recipe = recipe_for(folder, size=32)
    looked = inspect_category(recipe, find_categories(recipe)[0])
    assert looked.found == 64
    assert len(looked.images) == 63
    assert [path for path, _ in looked.unusable] == ["00.png"]
    assert SourceStatus.EMPTY.value in looked.unusable[0][1]


def test_override_of_a_category_beats_the_mode_of_all(photographs: Path) -> None:
    foreground = {"mode": "object", "overrides": {"photographs": "texture"}}
    recipe = recipe_for(photographs, foreground=foreground)
    scan = scan_category(recipe, find_categories(recipe)[0])
    assert scan.foreground.mode == "texture"
    assert scan.foreground.masks.all()
