"""Taking photographs in: a record of every file, arrays of the usable ones, an identity that notices a mended file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from manifests import Corpus
from manifests.errors import SourceError
from manifests.records import SourceStatus
from pipeline.generate import generate
from pipeline.inspection import draw_inspection
from pipeline.inventory import SourcesSpec, find_categories, inspect_category, scan_category, store_sources
from pipeline.recipe import Recipe, load_recipe
from pipeline.store import read_rows
from pipeline.verification import verify_corpus
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


# --- pictures of 16 bits ---


def wide_surface(seed: int, shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """A plain surface whose low bytes say something too."""
    low = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint16)
    return surface(seed, shape).astype(np.uint16) * 256 + low


def write_wide(folder: Path, *, channels: int) -> dict[str, NDArray[np.uint16]]:
    """Photographs of 16 bits as PNG and TIFF, and one of 8 bits; their values by file name."""
    folder.mkdir()
    wide = {f"part{k}": wide_surface(k, (64, 64, channels)) for k in range(4)}
    if channels == 1:
        Image.fromarray(wide["part0"][..., 0]).save(folder / "part0.png")
        Image.fromarray(wide["part1"][..., 0]).save(folder / "part1.tif")
    else:
        tifffile.imwrite(folder / "part0.tif", wide["part0"], photometric="rgb", compression="zlib")
        tifffile.imwrite(folder / "part1.tif", wide["part1"], photometric="rgb", byteorder=">")
    tifffile.imwrite(folder / "part2.tif", wide["part2"], photometric="rgb" if channels == 3 else "minisblack")
    narrow = surface(3, (64, 64, channels))
    Image.fromarray(narrow if channels == 3 else narrow[..., 0]).save(folder / "part3.png")
    return wide | {"part3": narrow.astype(np.uint16) * 257}


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_photographs_keep_their_values_through_to_the_corpus(channels: int, tmp_path: Path) -> None:
    values = write_wide(tmp_path / "parts", channels=channels)
    recipe = recipe_for(
        tmp_path / "parts",
        count=8,
        bit_depth=16,
        mechanisms={"fracture": {"grid": 32, "snapshots": 4}},
        bank={"trajectories": 10},
        store={"stages": ["npcf"], "shard_images": 3},
    )
    generate(tmp_path / "out", recipe, workers=1)
    assert verify_corpus(tmp_path / "out").problems == ()
    corpus = Corpus(tmp_path / "out", statuses=None)
    paths = {row.index: row.path for row in scan_category(recipe, find_categories(recipe)[0]).records}
    assert {sample.record.source for sample in corpus} == set(paths) == {0, 1, 2, 3}
    for sample in corpus:
        assert sample.source.dtype == sample.image.dtype == sample.stages["npcf"].dtype == np.uint16
        np.testing.assert_array_equal(sample.source, values[Path(paths[sample.record.source]).stem])
        same = (sample.image == sample.source).all(axis=2)
        assert same.any()
        assert sample.record.status != "ok" or not same.all()


@pytest.mark.parametrize("channels", [1, 3])
def test_part_and_light_of_16_bit_photographs_are_those_of_8_bits(channels: int, tmp_path: Path) -> None:
    write_wide(tmp_path / "parts", channels=channels)
    scans = []
    for bits in (8, 16):
        recipe = recipe_for(tmp_path / "parts", bit_depth=bits, foreground={"mode": "auto"})
        scans.append(scan_category(recipe, find_categories(recipe)[0]))
    narrow, wide = scans
    assert (narrow.images.dtype, wide.images.dtype) == (np.uint8, np.uint16)
    assert [row.bit_depth for row in wide.records] == [row.bit_depth for row in narrow.records] == [16, 16, 16, 8]
    np.testing.assert_array_equal(wide.foreground.masks, narrow.foreground.masks)
    for a, b in zip(narrow.records, wide.records, strict=True):
        np.testing.assert_allclose(b.brightest, a.brightest, atol=1 / 255)
        assert (b.channels, b.sha256, b.status) == (a.channels, a.sha256, a.status)


def test_embedded_photographs_are_stored_with_16_bits_on_demand(tmp_path: Path) -> None:
    stored = []
    for bits in (8, 16):
        sources = [{"kind": "builtin", "categories": ["brick"]}]
        recipe = load_recipe(None, overrides={"size": 224, "sources": sources, "bit_depth": bits})  # of their own size
        scan = scan_category(recipe, find_categories(recipe)[0], limit=3)
        stored.append((scan.images, [row.sha256 for row in scan.records]))
    (narrow, names), (wide, same_names) = stored
    np.testing.assert_array_equal(wide, narrow.astype(np.uint16) * 257)
    assert same_names == names


def test_quick_look_at_16_bit_photographs_shows_8_bits(tmp_path: Path) -> None:
    write_wide(tmp_path / "parts", channels=3)
    recipe = recipe_for(tmp_path / "parts", bit_depth=16)
    looked = inspect_category(recipe, find_categories(recipe)[0])
    assert looked.images.dtype == np.uint8
    assert draw_inspection([looked]).mode == "RGB"
