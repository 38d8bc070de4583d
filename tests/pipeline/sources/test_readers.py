"""Readers: what is taken from each layout, and that no test image ever becomes a source."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from manifests.config import SourceSpec
from manifests.errors import SourceError
from manifests.hashing import sha256_bytes, sha256_file
from manifests.records import SourceStatus
from pipeline.sources.readers import Category, LoadedSource, list_categories, read_source

HEADER = "object,split,label,image,mask\n"


class Painter:
    """Writes small pictures, each with contents of its own."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def __call__(self, path: Path, shape: tuple[int, ...] = (20, 24, 3)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {".jpg": "JPEG", ".bmp": "BMP"}.get(path.suffix.lower(), "PNG")
        Image.fromarray(self._rng.integers(0, 256, shape, dtype=np.uint8)).save(path, kind)
        return path


@pytest.fixture
def paint(rng: np.random.Generator) -> Painter:
    return Painter(rng)


def read(category: Category, file: str, **options: object) -> LoadedSource:
    settings = {"size": 32, "fit_policy": "crop", "max_pixels": 100_000} | options
    return read_source(category, file, **settings)  # type: ignore[arg-type]


def one_line(caught: pytest.ExceptionInfo[SourceError]) -> str:
    text = str(caught.value)
    assert "\n" not in text
    return text


def refused(**spec: object) -> str:
    with pytest.raises(SourceError) as caught:
        list_categories(SourceSpec.model_validate(spec))
    return one_line(caught)


def hashes(categories: list[Category]) -> set[str]:
    return {read(category, file).sha256 for category in categories for file in category.files}


# ---------------------------------------------------------------- layouts


def make_mvtec(root: Path, paint: Painter) -> set[str]:
    """Two categories; returns the hashes of what must never become a source."""
    banned = []
    for name in ("bolt", "carpet"):
        for k in range(3):
            paint(root / name / "train" / "good" / f"{k:03d}.png")
        for part in ("test/good", "test/crack", "ground_truth/crack"):
            banned += [paint(root / name / part / f"{k:03d}.png") for k in range(2)]
    return {sha256_file(path) for path in banned}


def make_btad(root: Path, paint: Painter) -> set[str]:
    banned = []
    for name, suffix in (("01", "bmp"), ("02", "png"), ("03", "bmp")):
        for k in range(2):
            paint(root / name / "train" / "ok" / f"{k:04d}.{suffix}")
        banned += [paint(root / name / part / f"0000.{suffix}") for part in ("test/ok", "test/ko", "ground_truth/ko")]
    return {sha256_file(path) for path in banned}


def make_visa(root: Path, paint: Painter) -> set[str]:
    rows, banned = [], []
    for name in ("candle", "pcb1"):
        folder = f"{name}/Data/Images"
        for k in range(5):
            paint(root / folder / "Normal" / f"{k:04d}.JPG")
            rows.append(f"{name},{'train' if k < 3 else 'test'},normal,{folder}/Normal/{k:04d}.JPG,")
        banned += [root / folder / "Normal" / f"{k:04d}.JPG" for k in (3, 4)]
        banned.append(paint(root / folder / "Anomaly" / "000.JPG"))
        rows.append(f"{name},test,anomaly,{folder}/Anomaly/000.JPG,{name}/Data/Masks/Anomaly/000.png")
    split = root / "split_csv" / "1cls.csv"
    split.parent.mkdir(parents=True)
    split.write_text(HEADER + "\n".join(rows) + "\n")
    return {sha256_file(path) for path in banned}


LAYOUTS: dict[str, tuple[Callable[[Path, Painter], set[str]], dict[str, int]]] = {
    "mvtec": (make_mvtec, {"bolt": 3, "carpet": 3}),
    "btad": (make_btad, {"01": 2, "02": 2, "03": 2}),
    "visa": (make_visa, {"candle": 3, "pcb1": 3}),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_test_image_never_becomes_a_source(kind: str, tmp_path: Path, paint: Painter) -> None:
    make, expected = LAYOUTS[kind]
    banned = make(tmp_path, paint)
    categories = list_categories(SourceSpec.model_validate({"kind": kind, "path": str(tmp_path)}))
    assert {c.category: len(c.files) for c in categories} == expected
    found = hashes(categories)
    assert len(found) == sum(expected.values())
    assert banned
    assert found.isdisjoint(banned)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_folder_refuses_every_data_set_and_its_test_parts(kind: str, tmp_path: Path, paint: Painter) -> None:
    make, expected = LAYOUTS[kind]
    banned = make(tmp_path, paint)
    places = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    for place in places:
        with contextlib.suppress(SourceError):
            categories = list_categories(SourceSpec(kind="folder", path=str(place)))
            assert hashes(categories).isdisjoint(banned), f"{place} leaks test images"
    assert f"kind {kind}" in refused(kind="folder", path=str(tmp_path))
    assert f"kind {kind}" in refused(kind="folder", path=str(tmp_path / next(iter(expected))))


@pytest.mark.parametrize(("kind", "normals"), [("mvtec", "bolt/train/good"), ("btad", "01/train/ok")])
def test_link_to_a_test_image_is_passed_over(kind: str, normals: str, tmp_path: Path, paint: Painter) -> None:
    make, expected = LAYOUTS[kind]
    banned = make(tmp_path, paint)
    target = next((tmp_path / normals).parent.parent.glob("test/*/*"))
    (tmp_path / normals / f"zzz{target.suffix}").symlink_to(target)
    categories = list_categories(SourceSpec.model_validate({"kind": kind, "path": str(tmp_path)}))
    assert {c.category: len(c.files) for c in categories} == expected
    assert hashes(categories).isdisjoint(banned)


def test_mvtec_category_folder_is_one_category_named_after_it(tmp_path: Path, paint: Painter) -> None:
    make_mvtec(tmp_path, paint)
    (category,) = list_categories(SourceSpec(kind="mvtec", path=str(tmp_path / "carpet"), name="line-4"))
    assert (category.dataset, category.category) == ("line-4", "carpet")
    assert category.files == ("train/good/000.png", "train/good/001.png", "train/good/002.png")
    assert category.root == tmp_path / "carpet"


def test_btad_is_found_in_its_inner_folder(tmp_path: Path, paint: Painter) -> None:
    make_btad(tmp_path / "BTech_Dataset_transformed", paint)
    categories = list_categories(SourceSpec(kind="btad", path=str(tmp_path)))
    assert [c.category for c in categories] == ["01", "02", "03"]
    assert categories[0].files == ("01/train/ok/0000.bmp", "01/train/ok/0001.bmp")


def test_folder_of_images_is_one_category_and_sub_folders_are_several(tmp_path: Path, paint: Painter) -> None:
    for path in ("gear/1.png", "gear/left/2.PNG", "shaft/3.jpg"):
        paint(tmp_path / path)
    (tmp_path / "gear" / ".hidden.png").write_bytes(b"")
    (tmp_path / "gear" / "notes.txt").write_text("taken on Monday")
    (tmp_path / ".cache").mkdir()
    paint(tmp_path / ".cache" / "4.png")
    gear, shaft = list_categories(SourceSpec(kind="folder", path=str(tmp_path)))
    assert (gear.category, gear.files) == ("gear", ("gear/1.png", "gear/left/2.PNG"))
    assert (shaft.category, shaft.files, shaft.licence) == ("shaft", ("shaft/3.jpg",), "not stated")
    (alone,) = list_categories(SourceSpec(kind="folder", path=str(tmp_path / "shaft"), licence="ours"))
    assert (alone.category, alone.files, alone.licence) == ("shaft", ("3.jpg",), "ours")


def test_folder_with_images_beside_sub_folders_is_refused(tmp_path: Path, paint: Painter) -> None:
    paint(tmp_path / "1.png")
    paint(tmp_path / "gear" / "2.png")
    assert "both directly and in 'gear'" in refused(kind="folder", path=str(tmp_path))


def test_files_and_folders_that_lead_out_of_the_root_are_passed_over(tmp_path: Path, paint: Painter) -> None:
    outside = paint(tmp_path / "outside" / "1.png")
    paint(tmp_path / "root" / "gear" / "2.png")
    (tmp_path / "root" / "gear" / "3.png").symlink_to(outside)
    (tmp_path / "root" / "elsewhere").symlink_to(outside.parent, target_is_directory=True)
    (category,) = list_categories(SourceSpec(kind="folder", path=str(tmp_path / "root")))
    assert category.files == ("gear/2.png",)


def test_order_does_not_depend_on_the_file_system(
    tmp_path: Path, paint: Painter, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_mvtec(tmp_path, paint)
    spec = SourceSpec(kind="mvtec", path=str(tmp_path))
    forwards = list_categories(spec)
    listing = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: reversed(list(listing(self))))
    assert list_categories(spec) == forwards


# ---------------------------------------------------------------- split file of VisA


def visa_refused(tmp_path: Path, text: str) -> str:
    split = tmp_path / "split.csv"
    split.write_text(text)
    return refused(kind="visa", path=str(tmp_path), split_file=str(split))


def test_visa_without_a_column_is_refused(tmp_path: Path) -> None:
    text = visa_refused(tmp_path, "object,split,label,path\ncandle,train,normal,a.JPG\n")
    assert "object,split,label,image,mask" in text
    assert "object,split,label,path" in text


@pytest.mark.parametrize("image", ["../a.JPG", "/etc/a.JPG", "candle/../../a.JPG"])
def test_visa_path_that_leaves_the_root_is_refused(tmp_path: Path, image: str) -> None:
    assert "leaves" in visa_refused(tmp_path, f"{HEADER}candle,train,normal,{image},\n")


def test_visa_image_that_is_also_a_test_row_is_refused(tmp_path: Path) -> None:
    rows = "candle,train,normal,candle/1.JPG,\ncandle,test,normal,candle/x/../1.JPG,\n"
    assert "candle/1.JPG" in visa_refused(tmp_path, HEADER + rows)


def test_visa_normal_that_is_a_link_to_a_test_image_is_refused(tmp_path: Path, paint: Painter) -> None:
    make_visa(tmp_path, paint)
    images = tmp_path / "candle" / "Data" / "Images"
    (images / "Normal" / "0000.JPG").unlink()
    (images / "Normal" / "0000.JPG").symlink_to(images / "Anomaly" / "000.JPG")
    assert "Normal/0000.JPG" in refused(kind="visa", path=str(tmp_path))


@pytest.mark.parametrize("text", ["", HEADER, HEADER + "candle,train\n", HEADER + "candle,test,normal,a.JPG,\n"])
def test_visa_split_without_training_normals_is_refused(tmp_path: Path, text: str) -> None:
    assert "split.csv" in visa_refused(tmp_path, text)


def test_visa_without_its_split_file_is_refused(tmp_path: Path) -> None:
    assert "1cls.csv" in refused(kind="visa", path=str(tmp_path))


def test_visa_file_missing_on_disk_is_listed_and_recorded_as_unreadable(tmp_path: Path, paint: Painter) -> None:
    make_visa(tmp_path, paint)
    (tmp_path / "candle/Data/Images/Normal/0001.JPG").unlink()
    candle, _ = list_categories(SourceSpec(kind="visa", path=str(tmp_path)))
    assert len(candle.files) == 3
    loaded = read(candle, "candle/Data/Images/Normal/0001.JPG")
    assert (loaded.status, loaded.sha256, loaded.image) == (SourceStatus.UNREADABLE, "", None)
    assert loaded.detail == "No such file or directory"


def test_official_visa_split_has_12_categories_and_8659_training_normals(
    real_photographs: Path, tmp_path: Path
) -> None:
    split = real_photographs / "visa_1cls.csv"
    categories = list_categories(SourceSpec(kind="visa", path=str(tmp_path), split_file=str(split)))
    assert len(categories) == 12
    assert sum(len(c.files) for c in categories) == 8659
    lines = split.read_text().splitlines()[1:]
    banned = {line.split(",")[3] for line in lines if ",train,normal," not in line}
    assert len(banned) == 10_821 - 8659
    assert banned.isdisjoint(file for c in categories for file in c.files)


def test_real_magnetic_tiles_give_378_normals_and_no_test_image(real_photographs: Path) -> None:
    (category,) = list_categories(SourceSpec(kind="mvtec", path=str(real_photographs / "mtd")))
    assert (category.category, len(category.files), category.licence) == ("mtd", 378, "not stated")
    banned = {sha256_file(path) for path in (real_photographs / "mtd" / "test").rglob("*.*")}
    assert category.root is not None
    assert banned.isdisjoint(sha256_file(category.root / file) for file in category.files)


def test_exif_rotated_real_photographs_are_read_upright(real_photographs: Path) -> None:
    (category,) = list_categories(SourceSpec(kind="mvtec", path=str(real_photographs / "cookies")))
    sizes = set()
    for file in category.files:
        loaded = read(category, file, max_pixels=10_000_000)
        sizes.add((loaded.width_px, loaded.height_px))
        assert loaded.status is SourceStatus.OK
        assert loaded.channels == 3
    assert sizes <= {(576, 768), (768, 576)}


# ---------------------------------------------------------------- names, choice, licence


def test_chosen_categories_are_taken_in_order_of_name(tmp_path: Path, paint: Painter) -> None:
    make_btad(tmp_path, paint)
    categories = list_categories(SourceSpec(kind="btad", path=str(tmp_path), categories=("03", "01")))
    assert [c.category for c in categories] == ["01", "03"]


def test_unknown_category_is_refused_with_the_nearest_name(tmp_path: Path, paint: Painter) -> None:
    make_mvtec(tmp_path, paint)
    text = refused(kind="mvtec", path=str(tmp_path), categories=["carpett"])
    assert "'carpett'" in text
    assert "carpet" in text.partition("nearest known")[2]
    assert "brick" in refused(kind="builtin", categories=["bricks"]).partition("nearest known")[2]


@pytest.mark.parametrize(
    ("folder", "name"), [("hex nut", "hex_nut"), ("a--b", "a-b"), ("x---(2)", "x-_2_"), ("-v", "v"), ("Größe", "Gr__e")]
)
def test_category_names_are_made_safe(tmp_path: Path, paint: Painter, folder: str, name: str) -> None:
    paint(tmp_path / folder / "1.png")
    (category,) = list_categories(SourceSpec(kind="folder", path=str(tmp_path)))
    assert (category.category, category.files) == (name, (f"{folder}/1.png",))
    assert read(category, category.files[0]).status is SourceStatus.OK


def test_two_folders_with_one_safe_name_are_refused(tmp_path: Path, paint: Painter) -> None:
    for folder in ("nut 1", "nut_1"):
        paint(tmp_path / folder / "1.png")
    assert "'nut_1'" in refused(kind="folder", path=str(tmp_path))


def test_mvtec_licence_is_stated_only_where_its_own_files_lie(tmp_path: Path, paint: Painter) -> None:
    make_mvtec(tmp_path, paint)
    spec = SourceSpec(kind="mvtec", path=str(tmp_path))
    assert {c.licence for c in list_categories(spec)} == {"not stated"}
    (tmp_path / "carpet" / "readme.txt").write_text("Copyright 2019 MVTec Software GmbH")
    assert [c.licence.startswith("CC BY-NC-SA 4.0") for c in list_categories(spec)] == [False, True]
    own = SourceSpec(kind="mvtec", path=str(tmp_path), licence="ours")
    assert {c.licence for c in list_categories(own)} == {"ours"}


def test_visa_and_btad_carry_their_licences(tmp_path: Path, paint: Painter) -> None:
    make_visa(tmp_path / "visa", paint)
    make_btad(tmp_path / "btad", paint)
    assert list_categories(SourceSpec(kind="visa", path=str(tmp_path / "visa")))[0].licence.startswith("CC BY 4.0")
    assert "BTAD" in list_categories(SourceSpec(kind="btad", path=str(tmp_path / "btad")))[0].licence


# ---------------------------------------------------------------- paths that do not hold what was declared


@pytest.mark.parametrize("kind", ["folder", "mvtec", "visa", "btad"])
def test_missing_path_file_and_empty_folder_are_refused(kind: str, tmp_path: Path) -> None:
    assert "does not exist" in refused(kind=kind, path=str(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("")
    assert "not a folder" in refused(kind=kind, path=str(tmp_path / "file"))
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refused(kind=kind, path=str(tmp_path / "empty"))


def test_category_without_any_image_is_refused(tmp_path: Path, paint: Painter) -> None:
    make_mvtec(tmp_path, paint)
    for path in (tmp_path / "bolt" / "train" / "good").iterdir():
        path.unlink()
    assert "'bolt'" in refused(kind="mvtec", path=str(tmp_path))
    (carpet,) = list_categories(SourceSpec(kind="mvtec", path=str(tmp_path), categories=("carpet",)))
    assert len(carpet.files) == 3


def test_message_points_at_the_place_one_level_away(tmp_path: Path, paint: Painter) -> None:
    make_mvtec(tmp_path / "mvtec_ad", paint)
    assert f"{tmp_path / 'mvtec_ad'} looks like one" in refused(kind="mvtec", path=str(tmp_path))
    inside = tmp_path / "mvtec_ad" / "bolt" / "train" / "good"
    assert f"{tmp_path / 'mvtec_ad' / 'bolt'} looks like one" in refused(kind="mvtec", path=str(inside))


def test_category_that_is_a_link_out_of_the_root_is_named(tmp_path: Path, paint: Painter) -> None:
    make_mvtec(tmp_path / "far", paint)
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "bolt").symlink_to(tmp_path / "far" / "bolt", target_is_directory=True)
    assert "'bolt' is a link out of it" in refused(kind="mvtec", path=str(tmp_path / "near"))


# ---------------------------------------------------------------- reading


def folder_of(tmp_path: Path) -> Category:
    (category,) = list_categories(SourceSpec(kind="folder", path=str(tmp_path)))
    return category


def test_source_that_is_fine_is_described_and_fitted(tmp_path: Path, paint: Painter) -> None:
    path = paint(tmp_path / "1.png", (40, 60, 3))
    loaded = read(folder_of(tmp_path), "1.png", size=48, fit_policy="pad")
    assert loaded.status is SourceStatus.OK
    assert (loaded.path, loaded.sha256, loaded.bytes) == ("1.png", sha256_file(path), path.stat().st_size)
    assert (loaded.width_px, loaded.height_px, loaded.channels, loaded.bit_depth, loaded.detail) == (60, 40, 3, 8, "")
    assert loaded.image is not None
    assert loaded.valid is not None
    assert (loaded.image.shape, loaded.valid.shape, loaded.valid.sum()) == ((48, 48, 3), (48, 48), 32 * 48)
    assert loaded.user_mask is None


def test_bad_files_are_recorded_with_their_status(tmp_path: Path, paint: Painter) -> None:
    whole = paint(tmp_path / "whole.jpg", (64, 64, 3)).read_bytes()
    big = io.BytesIO()
    Image.new("1", (2000, 2000)).save(big, "PNG")
    bad = {
        "cut.jpg": (whole[: len(whole) // 2], SourceStatus.CORRUPT),
        "empty.png": (b"", SourceStatus.EMPTY),
        "text.png": (b"this is a text", SourceStatus.NOT_AN_IMAGE),
        "big.png": (big.getvalue(), SourceStatus.TOO_LARGE),
    }
    for name, (data, _) in bad.items():
        (tmp_path / name).write_bytes(data)
    paint(tmp_path / "small.png", (1, 1))
    category = folder_of(tmp_path)
    assert set(category.files) == {*bad, "small.png", "whole.jpg"}
    for name, (data, status) in bad.items():
        loaded = read(category, name)
        assert loaded.status is status
        assert (loaded.image, loaded.valid, loaded.user_mask, loaded.channels) == (None, None, None, 0)
        assert (loaded.sha256, loaded.bytes) == (sha256_bytes(data), len(data))
        assert loaded.detail
        assert str(tmp_path) not in loaded.detail
    assert read(category, "small.png").status is SourceStatus.TOO_SMALL
    assert read(category, "whole.jpg").status is SourceStatus.OK


def test_file_that_the_system_refuses_is_unreadable(tmp_path: Path, paint: Painter) -> None:
    paint(tmp_path / "1.png")
    category = folder_of(tmp_path)
    (tmp_path / "1.png").unlink()
    (tmp_path / "1.png").mkdir()
    loaded = read(category, "1.png")
    assert (loaded.status, loaded.bytes, loaded.detail) == (SourceStatus.UNREADABLE, 0, "Is a directory")


def test_file_outside_the_root_is_never_read(tmp_path: Path, paint: Painter) -> None:
    paint(tmp_path / "root" / "1.png")
    paint(tmp_path / "2.png")
    loaded = read(folder_of(tmp_path / "root"), "../2.png")
    assert (loaded.status, loaded.image) == (SourceStatus.UNREADABLE, None)


# ---------------------------------------------------------------- masks


def write_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(path)


@pytest.fixture
def disc() -> np.ndarray:
    y, x = np.mgrid[:32, :32]
    return (y - 15) ** 2 + (x - 12) ** 2 < 80


@pytest.mark.parametrize("place", ["masks/gear/1.png", "masks/1.png"])
def test_user_mask_is_read_and_fitted(place: str, tmp_path: Path, paint: Painter, disc: np.ndarray) -> None:
    paint(tmp_path / "gear" / "1.jpg", (32, 32, 3))
    write_mask(tmp_path / place, disc)
    spec = SourceSpec(kind="folder", path=str(tmp_path / "gear"), masks=str(tmp_path / "masks"))
    (category,) = list_categories(spec)
    loaded = read(category, "1.jpg")
    assert loaded.user_mask is not None
    assert_array_equal(loaded.user_mask, disc)
    assert (loaded.status, loaded.detail) == (SourceStatus.OK, "")


def test_missing_mask_leaves_the_source_usable_and_says_so(tmp_path: Path, paint: Painter) -> None:
    paint(tmp_path / "gear" / "1.png")
    (tmp_path / "masks").mkdir()
    spec = SourceSpec(kind="folder", path=str(tmp_path / "gear"), masks=str(tmp_path / "masks"))
    loaded = read(list_categories(spec)[0], "1.png")
    assert (loaded.status, loaded.user_mask) == (SourceStatus.OK, None)
    assert loaded.detail == "no mask 1.png: No such file or directory"


@pytest.mark.parametrize("damage", ["size", "text"])
def test_unfit_mask_is_not_used_and_said(damage: str, tmp_path: Path, paint: Painter, disc: np.ndarray) -> None:
    paint(tmp_path / "gear" / "1.png", (32, 40))
    write_mask(tmp_path / "masks" / "1.png", disc)
    if damage == "text":
        (tmp_path / "masks" / "1.png").write_text("no mask")
    spec = SourceSpec(kind="folder", path=str(tmp_path / "gear"), masks=str(tmp_path / "masks"))
    loaded = read(list_categories(spec)[0], "1.png")
    assert (loaded.status, loaded.user_mask) == (SourceStatus.OK, None)
    assert loaded.detail.startswith("mask 1.png is not used: ")


def test_masks_of_one_category_are_not_taken_for_another(tmp_path: Path, paint: Painter, disc: np.ndarray) -> None:
    for name in ("gear", "shaft"):
        paint(tmp_path / "parts" / name / "1.png", (32, 32))
    write_mask(tmp_path / "masks" / "1.png", disc)
    write_mask(tmp_path / "masks" / "gear" / "1.png", ~disc)
    spec = SourceSpec(kind="folder", path=str(tmp_path / "parts"), masks=str(tmp_path / "masks"))
    gear, shaft = (read(category, category.files[0]) for category in list_categories(spec))
    assert gear.user_mask is not None
    assert_array_equal(gear.user_mask, ~disc)
    assert shaft.user_mask is None


def test_masks_kept_among_the_parts_are_no_category(tmp_path: Path, paint: Painter, disc: np.ndarray) -> None:
    paint(tmp_path / "gear" / "1.png", (32, 32))
    write_mask(tmp_path / "masks" / "gear" / "1.png", disc)
    spec = SourceSpec(kind="folder", path=str(tmp_path), masks=str(tmp_path / "masks"))
    assert [c.category for c in list_categories(spec)] == ["gear"]


def test_two_images_that_claim_one_mask_are_refused(tmp_path: Path, paint: Painter) -> None:
    paint(tmp_path / "gear" / "1.png")
    paint(tmp_path / "gear" / "1.jpg")
    (tmp_path / "masks").mkdir()
    assert "'1'" in refused(kind="folder", path=str(tmp_path / "gear"), masks=str(tmp_path / "masks"))


def test_missing_masks_folder_is_refused(tmp_path: Path, paint: Painter) -> None:
    paint(tmp_path / "gear" / "1.png")
    assert "masks" in refused(kind="folder", path=str(tmp_path / "gear"), masks=str(tmp_path / "nowhere"))


# ---------------------------------------------------------------- embedded


def test_embedded_source_names_itself_and_hashes_its_own_pixels() -> None:
    brick = next(c for c in list_categories(SourceSpec(kind="builtin")) if c.category == "brick")
    assert brick.root is None
    small, large = read(brick, "003", size=64), read(brick, "003", size=256)
    assert small.path == "builtin:brick/003"
    assert small.sha256 == large.sha256
    assert small.image is not None
    assert small.image.shape == (64, 64, 1)
    assert small.bytes == small.width_px * small.height_px * small.channels


def test_environment_variables_in_paths_are_read(
    tmp_path: Path, paint: Painter, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_btad(tmp_path, paint)
    monkeypatch.setenv("PARTS_ROOT", os.fspath(tmp_path))
    assert len(list_categories(SourceSpec(kind="btad", path="${PARTS_ROOT}"))) == 3
