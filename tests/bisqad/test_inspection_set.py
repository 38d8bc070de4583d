"""Data sets of real photographs: what each layout gives, and how pictures and masks are read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from bisqad.inspection_set import Photograph, Split, find_photographs, folder_of_images, read_image, read_mask
from manifests.errors import SourceError

ORIENTATION = 274


def picture(path: Path, *, size: tuple[int, int] = (20, 16)) -> Path:
    """A grey picture of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 90).save(path)
    return path


def mvtec(root: Path) -> Path:
    picture(root / "train" / "good" / "000.png")
    picture(root / "test" / "good" / "001.png")
    for kind in ("crack", "dent"):
        picture(root / "test" / kind / "000.png")
        picture(root / "ground_truth" / kind / "000_mask.png")
    return root


def btad(root: Path) -> Path:
    picture(root / "train" / "ok" / "0000.bmp")
    picture(root / "test" / "ok" / "0001.bmp")
    for name, suffix in (("0002", ".png"), ("0003", ".bmp")):
        picture(root / "test" / "ko" / f"{name}.bmp")
        picture(root / "ground_truth" / "ko" / f"{name}{suffix}")
    return root


def visa(root: Path, rows: list[str]) -> Path:
    """A VisA folder of this split file, with every file that its rows name and that lies inside."""
    (root / "split_csv").mkdir(parents=True)
    (root / "split_csv" / "1cls.csv").write_text("\n".join(["object,split,label,image,mask", *rows]) + "\n")
    for row in rows:
        for name in row.split(",")[3:]:
            if name and ".." not in name:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).touch()
    return root


VISA_ROWS = [
    "pcb1,train,normal,pcb1/Data/Images/Normal/0001.JPG,",
    "pcb1,test,normal,pcb1/Data/Images/Normal/0002.JPG,",
    "pcb1,test,anomaly,pcb1/Data/Images/Anomaly/000.JPG,pcb1/Data/Masks/Anomaly/000.png",
    "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png",
]


def told(photographs: tuple[Photograph, ...], root: Path) -> list[tuple[str, str, str, str, str | None]]:
    return [
        (
            p.category,
            p.split,
            p.kind,
            p.path.relative_to(root).as_posix(),
            p.mask_path and p.mask_path.relative_to(root).as_posix(),
        )
        for p in photographs
    ]


# --- layouts ---


def test_mvtec_category_is_found_at_its_root(tmp_path: Path) -> None:
    root = mvtec(tmp_path / "bottle")
    assert told(find_photographs(root), root) == [
        ("bottle", "test", "crack", "test/crack/000.png", "ground_truth/crack/000_mask.png"),
        ("bottle", "test", "dent", "test/dent/000.png", "ground_truth/dent/000_mask.png"),
        ("bottle", "test", "good", "test/good/001.png", None),
        ("bottle", "train", "good", "train/good/000.png", None),
    ]


def test_several_mvtec_categories_are_found_one_level_down(tmp_path: Path) -> None:
    mvtec(tmp_path / "zipper")
    mvtec(tmp_path / "bottle")
    picture(tmp_path / "readme_pictures" / "cover.png")
    found = find_photographs(tmp_path, split="test")
    assert [p.category for p in found] == ["bottle"] * 3 + ["zipper"] * 3


def test_category_with_defects_alone_is_found(tmp_path: Path) -> None:
    picture(tmp_path / "test" / "crack" / "1.png")
    picture(tmp_path / "ground_truth" / "crack" / "1_mask.png")
    assert [p.kind for p in find_photographs(tmp_path)] == ["crack"]


@pytest.mark.parametrize("inner", ["", "BTech_Dataset_transformed"])
def test_btad_calls_normals_ok_and_names_masks_as_pictures(tmp_path: Path, inner: str) -> None:
    btad(tmp_path / inner / "01")
    root = tmp_path / inner
    assert told(find_photographs(tmp_path), root) == [
        ("01", "test", "good", "01/test/ok/0001.bmp", None),
        ("01", "test", "ko", "01/test/ko/0002.bmp", "01/ground_truth/ko/0002.png"),
        ("01", "test", "ko", "01/test/ko/0003.bmp", "01/ground_truth/ko/0003.bmp"),
        ("01", "train", "good", "01/train/ok/0000.bmp", None),
    ]


def test_visa_is_read_from_its_split_file(tmp_path: Path) -> None:
    found = told(find_photographs(visa(tmp_path, VISA_ROWS)), tmp_path)
    assert [row[:3] for row in found] == [
        ("candle", "test", "anomaly"),
        ("pcb1", "test", "anomaly"),
        ("pcb1", "test", "good"),
        ("pcb1", "train", "good"),
    ]
    assert found[0][3:] == ("candle/Data/Images/Anomaly/000.JPG", "candle/Data/Masks/Anomaly/000.png")
    assert found[2][4] is None


def test_official_visa_split_is_read_whole(tmp_path: Path, real_photographs: Path) -> None:
    rows = (real_photographs / "visa_1cls.csv").read_text().splitlines()[1:]
    found = find_photographs(visa(tmp_path, rows), split="test")
    assert Counter(p.kind for p in found) == {"good": 962, "anomaly": 1200}
    assert len({p.category for p in found}) == 12
    assert all((p.mask_path is None) == (p.kind == "good") for p in found)


@pytest.mark.parametrize(("split", "count"), [("train", 1), ("test", 3), (None, 4)])
def test_split_chooses_the_part(tmp_path: Path, split: Split | None, count: int) -> None:
    assert len(find_photographs(mvtec(tmp_path), split=split)) == count


def test_hidden_files_and_others_are_passed_over(tmp_path: Path) -> None:
    mvtec(tmp_path)
    picture(tmp_path / "train" / "good" / ".hidden.png")
    (tmp_path / "train" / "good" / "Thumbs.db").touch()
    (tmp_path / "test" / ".cache").mkdir()
    assert len(find_photographs(tmp_path)) == 4


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("mtd", 378, {"good": 87, "blowhole": 66, "break": 45, "crack": 38, "fray": 15, "uneven": 57}),
        ("cookies", 20, {"good": 11, "broken": 32}),
        ("mvtec_bottle_256", 160, {"good": 69, "broken_large": 20, "broken_small": 22, "contamination": 21}),
    ],
)
def test_real_data_sets_hold_what_their_readme_says(
    real_photographs: Path, name: str, train: int, test: dict[str, int]
) -> None:
    root = real_photographs / name
    assert Counter(p.kind for p in find_photographs(root, split="train")) == {"good": train}
    found = find_photographs(root, split="test")
    assert Counter(p.kind for p in found) == test
    for photograph in [p for p in found if p.mask_path is not None][::10]:
        image = read_image(photograph.path)
        assert photograph.mask_path is not None
        assert read_mask(photograph.mask_path, image.shape[:2]).mean() < 0.9


def test_folder_of_images_is_all_normal(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "deeper/c.png"):
        picture(tmp_path / "parts" / name)
    found = folder_of_images(tmp_path / "parts")
    assert [p.path.name for p in found] == ["a.jpg", "b.png"]
    assert {(p.category, p.kind, p.mask_path, p.split) for p in found} == {("parts", "good", None, "train")}


# --- what is refused ---


def refused(root: Path, split: Split | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        find_photographs(root, split=split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_mask_is_refused_with_both_names(tmp_path: Path) -> None:
    mvtec(tmp_path)
    (tmp_path / "ground_truth" / "crack" / "000_mask.png").unlink()
    message = refused(tmp_path)
    assert str(tmp_path / "test" / "crack" / "000.png") in message
    assert str(tmp_path / "ground_truth" / "crack" / "000_mask.png") in message


def test_missing_folder_of_masks_is_refused(tmp_path: Path) -> None:
    mvtec(tmp_path)
    picture(tmp_path / "test" / "scratch" / "007.png")
    assert "ground_truth/scratch/007_mask.png" in refused(tmp_path)


def test_two_masks_of_one_picture_are_refused(tmp_path: Path) -> None:
    mvtec(tmp_path)
    picture(tmp_path / "ground_truth" / "crack" / "000_mask.bmp")
    assert "got 2 (000_mask.bmp, 000_mask.png)" in refused(tmp_path)


@pytest.mark.parametrize("relative", ["../secret.png", "pcb1/../../secret.png", "/etc/passwd"])
@pytest.mark.parametrize("column", ["image", "mask"])
def test_visa_paths_never_leave_the_root(tmp_path: Path, relative: str, column: str) -> None:
    picture(tmp_path / "secret.png")
    image, mask = (relative, "m.png") if column == "image" else ("i.png", relative)
    root = visa(tmp_path / "visa", [])
    (root / "split_csv" / "1cls.csv").write_text(f"object,split,label,image,mask\npcb1,test,anomaly,{image},{mask}\n")
    for name in ("i.png", "m.png"):
        (root / name).touch()
    assert f"{relative!r} leaves" in refused(root)


def test_visa_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "secret.png")
    root = visa(tmp_path / "visa", ["pcb1,test,normal,pcb1/a.png,"])
    (root / "pcb1" / "a.png").unlink()
    (root / "pcb1" / "a.png").symlink_to(tmp_path / "secret.png")
    assert "leaves" in refused(root)


def test_visa_files_that_are_not_there_are_refused_by_name(tmp_path: Path) -> None:
    root = visa(tmp_path, VISA_ROWS)
    (root / "pcb1/Data/Masks/Anomaly/000.png").unlink()
    message = refused(root)
    assert "pcb1/Data/Images/Anomaly/000.JPG" in message
    assert "pcb1/Data/Masks/Anomaly/000.png" in message
    (root / "pcb1/Data/Images/Normal/0001.JPG").unlink()
    assert "line 2" in refused(root, "train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "expected columns"),
        ("", "expected columns"),
        ("object,split,label,image,mask\npcb1,test\n", "line 2: incomplete row"),
        ("object,split,label,image,mask\npcb1,validation,normal,a.png,\n", "'validation'"),
        ("object,split,label,image,mask\npcb1,test,odd,a.png,\n", "'odd'"),
        ("object,split,label,image,mask\npcb1,test,anomaly,a.png,\n", "none in column mask"),
        (b"\xff\xfe\xff", "not UTF-8"),
    ],
)
def test_odd_visa_split_files_are_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    root = visa(tmp_path, [])
    (root / "a.png").touch()
    (root / "split_csv" / "1cls.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    assert message in refused(root)


def test_folders_that_are_no_data_set_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "absent")
    assert "not a folder" in refused(picture(tmp_path / "flat" / "a.png"))
    assert "expected train/good" in refused(tmp_path / "flat")
    (tmp_path / "hollow" / "train" / "good").mkdir(parents=True)
    assert "no image" in refused(tmp_path / "hollow")
    with pytest.raises(SourceError, match="no image"):
        folder_of_images(tmp_path / "hollow")


# --- pixels ---


def test_grey_picture_becomes_three_equal_channels(tmp_path: Path, rng: np.random.Generator) -> None:
    grey = rng.integers(0, 256, (16, 20), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.uint8
    assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))


def test_16_bit_picture_is_read_to_8_bits(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 20), 200 * 257, np.uint16)).save(tmp_path / "a.png")
    assert_array_equal(read_image(tmp_path / "a.png"), np.full((16, 20, 3), 200))


def test_picture_and_mask_are_turned_upright(tmp_path: Path, rng: np.random.Generator) -> None:
    colour = rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(colour).save(tmp_path / "a.png", exif=exif)
    assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(colour, -1))
    assert read_mask(tmp_path / "a.png", (20, 16)).shape == (20, 16)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_mask_value_above_0_is_defect(tmp_path: Path, dtype: type) -> None:
    values = np.zeros((16, 20), dtype)
    values[0, :4] = [1, 2, 7, 255]
    Image.fromarray(values).save(tmp_path / "m.png")
    assert_array_equal(read_mask(tmp_path / "m.png", (16, 20)), values > 0)


def test_mask_of_one_bit_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    mask: NDArray[np.bool_] = rng.random((16, 20)) > 0.5
    Image.fromarray(mask).save(tmp_path / "m.png")
    assert_array_equal(read_mask(tmp_path / "m.png", (16, 20)), mask)


def test_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"expected 20x24 pixels.* got 20x16"):
        read_mask(picture(tmp_path / "m.png"), (24, 20))


def test_files_that_are_no_picture_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(SourceError, match="not_an_image"):
        read_image(tmp_path / "a.png")
    with pytest.raises(SourceError, match=r"b\.png: cannot be read"):
        read_image(tmp_path / "b.png")
    with pytest.raises(SourceError, match="too_large"):
        read_image(picture(tmp_path / "c.png"), max_pixels=100)
