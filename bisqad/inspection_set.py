"""Photographs of normal and defective parts with their masks: which a data set holds, and their pixels.

The layout is told by the folders:

========  =====================================================  ====================================================
layout    photographs                                            masks of defects
========  =====================================================  ====================================================
MVTec AD  ``test/<defect>/*``, ``test/good``, ``train/good``     ``ground_truth/<defect>/<stem>_mask.*``
BTAD      ``test/ko``, ``test/ok``, ``train/ok``                 ``ground_truth/ko/<stem>.*``
VisA      ``split_csv/1cls.csv`` (object,split,label,image,mask) that file's column ``mask``
========  =====================================================  ====================================================

The first two lie in the root itself or in one sub-folder for each category; of both, a mask may be named either way.
A mask marks a defect wherever it is above 0: VisA numbers the types of defect in it. Hidden files and files without an
image suffix are passed over. How files are decoded, and what is refused, is told in `manifests.pictures`.

References
----------
P. Bergmann et al., "MVTec AD", CVPR 2019. P. Mishra et al., "VT-ADL" (BTAD), ISIE 2021. Y. Zou et al.,
"SPot-the-difference self-supervised pre-training for anomaly detection and segmentation" (VisA), ECCV 2022.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from manifests.config import BitDepth
from manifests.errors import SourceError
from manifests.layout import safe_join
from manifests.pictures import IMAGE_SUFFIXES, DecodeError, Pixels, decode, eight_bits

__all__ = [
    "GOOD",
    "Photograph",
    "Split",
    "find_photographs",
    "folder_of_images",
    "read_image",
    "read_mask",
    "read_photograph",
]

Split = Literal["train", "test"]

GOOD: Final = "good"  # kind of a photograph of a normal part
MAX_PIXELS: Final = 100_000_000  # largest picture that is decoded

_SPLITS: Final[tuple[Split, Split]] = ("train", "test")
_NORMALS: Final = frozenset({"good", "ok"})  # names of the folders of normals
_VISA_SPLIT: Final = "split_csv/1cls.csv"
_VISA_COLUMNS: Final = ("object", "split", "label", "image", "mask")
_VISA_LABELS: Final = {"normal": GOOD, "anomaly": "anomaly"}
_BTAD_INNER: Final = "BTech_Dataset_transformed"
_SUFFIXES_SHOWN: Final = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
_LAYOUTS_SHOWN: Final = f"train/good, test/good, train/ok, test/ok or {_VISA_SPLIT}, in it or in its sub-folders"


@dataclass(frozen=True)
class Photograph:
    """One photograph of a data set.

    Attributes
    ----------
    path : Path
        File.
    category : str
        Kind of part.
    kind : str
        "good", or the type of defect.
    mask_path : Path or None
        File that marks the defect; None for a normal part.
    split : {"train", "test"}
        Part of the data set.
    """

    path: Path
    category: str
    kind: str
    mask_path: Path | None
    split: Split


# ---------------------------------------------------------------- listing


def find_photographs(root: Path, split: Split | None = None) -> tuple[Photograph, ...]:
    """Photographs of a data set in the layout of MVTec AD, BTAD or VisA.

    Parameters
    ----------
    root : Path
        Folder of the data set, or of one category.
    split : {"train", "test"} or None
        Part that is asked for; None for both.

    Returns
    -------
    tuple of Photograph
        At least one, sorted by category, split, kind and path.

    Raises
    ------
    SourceError
        The folder is missing or in no known layout, holds no photograph of that part, or a defect has no mask.
    """
    wanted = _SPLITS if split is None else (split,)
    try:
        found = sorted(_listed(_existing_folder(root), wanted), key=lambda p: (p.category, p.split, p.kind, p.path))
    except OSError as error:
        where = error.filename or root
        raise SourceError(f"data set {root}: {where} cannot be read ({error.strerror}); check it") from None
    if not found:
        raise SourceError(
            f"data set {root}: no image ({_SUFFIXES_SHOWN}) for {' or '.join(wanted)} in it; check that it is complete"
        )
    return tuple(found)


def folder_of_images(path: Path) -> tuple[Photograph, ...]:
    """Photographs of normal parts that lie in a plain folder, sorted.

    Parameters
    ----------
    path : Path
        Folder; its name becomes the category. What lies in its sub-folders is not taken.

    Returns
    -------
    tuple of Photograph
        At least one, of kind "good" and split "train".

    Raises
    ------
    SourceError
        The folder is missing, cannot be read, or holds no image.
    """
    folder = _existing_folder(path)
    try:
        images = _images(folder)
    except OSError as error:
        raise SourceError(f"folder {path}: cannot be read ({error.strerror}); check its permissions") from None
    if not images:
        raise SourceError(
            f"folder {path}: no image ({_SUFFIXES_SHOWN}) directly in it; give the folder that holds the photographs"
        )
    return tuple(Photograph(image, _name(folder), GOOD, None, "train") for image in images)


def _listed(root: Path, splits: Sequence[Split]) -> Iterator[Photograph]:
    if (root / _VISA_SPLIT).is_file():
        yield from _listed_visa(root, root / _VISA_SPLIT, splits)
        return
    inner = root / _BTAD_INNER if (root / _BTAD_INNER).is_dir() else root
    categories = [inner] if _is_category(inner) else [folder for folder in _folders(inner) if _is_category(folder)]
    if not categories:
        raise SourceError(f"data set {root}: expected {_LAYOUTS_SHOWN}, and found none; give the data set's root")
    for category in categories:
        for split in splits:
            for folder in _folders(category / split):
                yield from _listed_folder(category, split, folder)


def _listed_folder(category: Path, split: Split, folder: Path) -> Iterator[Photograph]:
    """Photographs of one folder of normals or of one type of defect, in the layout of MVTec AD or BTAD."""
    if folder.name in _NORMALS:
        yield from (Photograph(image, _name(category), GOOD, None, split) for image in _images(folder))
        return
    where = category / "ground_truth" / folder.name
    masks: dict[str, list[Path]] = {}
    for mask in _images(where) if where.is_dir() else ():
        masks.setdefault(mask.stem, []).append(mask)
    for image in _images(folder):
        named = masks.get(f"{image.stem}_mask") or masks.get(image.stem) or []
        if len(named) != 1:
            expected = where / f"{image.stem}_mask.png"
            got = f"{len(named)} ({', '.join(mask.name for mask in named)})" if named else "none"
            raise SourceError(
                f"defect picture {image}: expected one mask {expected}, got {got}; add it or remove what is too much"
            )
        yield Photograph(image, _name(category), folder.name, named[0], split)


def _listed_visa(root: Path, table: Path, splits: Sequence[Split]) -> Iterator[Photograph]:
    for line, row in _visa_rows(table):
        where = f"split file {table}, line {line}"
        split = next((known for known in _SPLITS if known == row["split"]), None)
        kind = _VISA_LABELS.get(row["label"])
        if split is None or kind is None:
            raise SourceError(
                f"{where}: expected split train or test and label normal or anomaly, "
                f"got {row['split']!r} and {row['label']!r}; give the official 1cls.csv"
            )
        if split not in splits:
            continue
        image = _inside(root, row["image"], where)
        if not image.is_file():
            raise SourceError(f"{where}: {image} does not exist; copy the data set again")
        mask = None if kind == GOOD else _visa_mask(root, row, where)
        yield Photograph(image, row["object"], kind, mask, split)


def _visa_rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of VisA's split file with their line numbers, columns checked."""
    try:
        reader = csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines())
    except UnicodeDecodeError:
        raise SourceError(f"split file {table}: not UTF-8 text; give the official 1cls.csv") from None
    if missing := [column for column in _VISA_COLUMNS if column not in (reader.fieldnames or ())]:
        raise SourceError(
            f"split file {table}: expected columns {','.join(_VISA_COLUMNS)}, without {','.join(missing)} in it; "
            "give the official 1cls.csv"
        )
    for row in reader:
        if any(not isinstance(row[column], str) for column in _VISA_COLUMNS) or not row["image"] or not row["object"]:
            raise SourceError(f"split file {table}, line {reader.line_num}: incomplete row; give the official 1cls.csv")
        yield reader.line_num, row


def _visa_mask(root: Path, row: dict[str, str], where: str) -> Path:
    mask = _inside(root, row["mask"], where) if row["mask"] else None
    if mask is None or not mask.is_file():
        got = "none in column mask" if mask is None else f"{mask}, which does not exist"
        raise SourceError(f"{where}: defect picture {root / row['image']}: expected a mask, got {got}; add it")
    return mask


def _inside(root: Path, relative: str, where: str) -> Path:
    """A file that the split file names; none outside the root."""
    try:
        safe_join(root, relative)
    except ValueError as error:
        raise SourceError(f"{where}: {error}; correct the file") from None
    return root / relative


def _existing_folder(path: Path) -> Path:
    if not path.exists():
        raise SourceError(f"folder {path} does not exist; check the path")
    if not path.is_dir():
        raise SourceError(f"{path} is not a folder; give the folder that holds the photographs")
    return path


def _is_category(folder: Path) -> bool:
    marked = (folder / "test").is_dir() and (folder / "ground_truth").is_dir()
    return marked or any((folder / split / normals).is_dir() for split in _SPLITS for normals in _NORMALS)


def _name(folder: Path) -> str:
    return folder.name if folder.name not in {"", ".."} else folder.resolve().name


def _folders(folder: Path) -> list[Path]:
    """Visible sub-folders, in order; none of a folder that is not there."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    """Image files directly in a folder, in order."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


# ---------------------------------------------------------------- pixels


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Pixels of a photograph, upright, as colour of 8 bits.

    Parameters
    ----------
    path : Path
        PNG, JPEG, BMP, TIFF or WebP file.
    max_pixels : int
        Largest width x height that is decoded, judged from the header.

    Returns
    -------
    NDArray[np.uint8]
        (H, W, 3) RGB; grey in three equal channels, 16 bits divided by 257.

    Raises
    ------
    SourceError
        The file cannot be read, is no picture, damaged, or outside the bounds.
    """
    pixels = eight_bits(_pixels(path, max_pixels, bit_depth=8))
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def read_mask(path: Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask of a photograph: True where it marks a defect.

    Parameters
    ----------
    path : Path
        Picture that is 0 where the part is normal and above 0 on the defect.
    shape : tuple of int
        (H, W) of the photograph, upright.

    Returns
    -------
    NDArray[np.bool_]
        (H, W).

    Raises
    ------
    SourceError
        The file cannot be read, or is not of the photograph's size.
    """
    pixels = _pixels(path, MAX_PIXELS, bit_depth=16)  # read to 8 bits, faint values of 16 would round to 0
    if pixels.shape[:2] != shape:
        got, expected = f"{pixels.shape[1]}x{pixels.shape[0]}", f"{shape[1]}x{shape[0]}"
        raise SourceError(
            f"mask {path}: expected {expected} pixels, as its photograph, got {got}; give the one made for it"
        )
    return np.asarray(pixels.any(axis=2), dtype=np.bool_)


def read_photograph(photograph: Photograph) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Pixels (H, W, 3) uint8 and mask (H, W), empty for a normal part; errors as `read_image` and `read_mask`."""
    image = read_image(photograph.path)
    shape = (image.shape[0], image.shape[1])
    if photograph.mask_path is None:
        return image, np.zeros(shape, dtype=np.bool_)
    return image, read_mask(photograph.mask_path, shape)


def _pixels(path: Path, max_pixels: int, *, bit_depth: BitDepth) -> Pixels:
    try:
        return decode(path.read_bytes(), max_pixels=max_pixels, bit_depth=bit_depth).pixels
    except OSError as error:
        raise SourceError(f"picture {path}: cannot be read ({error.strerror}); check the file") from None
    except DecodeError as error:
        raise SourceError(
            f"picture {path}: expected a photograph that can be decoded, got {error.status}: {error.detail}; "
            "replace the file"
        ) from None
