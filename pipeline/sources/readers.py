"""Readers: which photographs of normal parts a source holds, and each of them decoded and fitted.

Only normal *training* photographs are listed; a test image never becomes a source:

========  ==============================================  =================================
kind      layout                                          normals that are taken
========  ==============================================  =================================
builtin   embedded                                        all
folder    images, or one sub-folder per category          all; folders of a data set refused
mvtec     ``<category>/train/good`` or ``train/good``     ``train/good``
visa      split CSV (object,split,label,image,mask)       rows ``train,normal``
btad      ``01``..``03`` with ``train/ok``                ``train/ok``
========  ==============================================  =================================

Links are followed only to files that stay inside the folder of normals, so no link reaches a test image.
Hidden files and files without an image suffix are passed over.

References
----------
P. Bergmann et al., "MVTec AD", CVPR 2019. Y. Zou et al., "SPot-the-difference self-supervised pre-training
for anomaly detection and segmentation" (VisA), ECCV 2022. P. Mishra et al., "VT-ADL" (BTAD), ISIE 2021.
"""

from __future__ import annotations

import csv
import difflib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from manifests.config import BitDepth, FitPolicy, SourceKind, SourceSpec, expand_path
from manifests.errors import SourceError
from manifests.hashing import sha256_bytes
from manifests.layout import safe_join
from manifests.pictures import IMAGE_SUFFIXES, DecodeError, Pixels, decode, eight_bits
from manifests.records import SourceStatus
from pipeline.sources.builtin import BUILTIN_CATEGORIES, builtin_image, builtin_licence, builtin_size
from pipeline.sources.fitting import fit, fit_mask

__all__ = ["Category", "LoadedSource", "list_categories", "read_source"]

_SUFFIXES_SHOWN: Final = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))

_MVTEC_LICENCE: Final = "CC BY-NC-SA 4.0 (MVTec Software GmbH, MVTec AD)"
_VISA_LICENCE: Final = "CC BY 4.0 (Amazon.com, VisA)"
_BTAD_LICENCE: Final = "CC BY-NC-SA 4.0 (beanTech Anomaly Detection, BTAD); see the data set's own terms"
_NOT_STATED: Final = "not stated"
_BTAD_INNER: Final = "BTech_Dataset_transformed"
_VISA_SPLIT: Final = "split_csv/1cls.csv"
_VISA_COLUMNS: Final = ("object", "split", "label", "image", "mask")
# Folders with test images, and what lies beside them in a data set.
_BESIDE_TEST: Final = {
    "test": frozenset({"train"}),
    "ground_truth": frozenset({"train", "test"}),
    "anomaly": frozenset({"normal"}),
}
_DATASET_FOLDERS: Final = frozenset({"train", "test", "ground_truth", "anomaly", "split_csv"})


@dataclass(frozen=True)
class Category:
    """One kind of part within a data set, and the files that show it.

    Attributes
    ----------
    kind : {"builtin", "folder", "mvtec", "visa", "btad"}
        Layout it was found in.
    dataset, category : str
        Names in the corpus; ``[A-Za-z0-9._-]+`` without ``--``.
    root : Path or None
        Folder that ``files`` are relative to; None for embedded ones.
    files : tuple of str
        POSIX paths, sorted; three-digit numbers for embedded ones.
    licence : str
        Licence text kept with every source.
    masks : Path or None
        Folder with ``<stem>.png`` foreground masks for this category.
    """

    kind: SourceKind
    dataset: str
    category: str
    root: Path | None
    files: tuple[str, ...]
    licence: str
    masks: Path | None


@dataclass(frozen=True)
class LoadedSource:
    """One photograph read, usable or not.

    Attributes
    ----------
    path : str
        Relative to the data set's root; ``builtin:<category>/<k>`` for embedded ones.
    sha256 : str
        Of the file's bytes; of the pixels at their own size for embedded ones; "" if unreadable.
    bytes : int
        Size of the file, or of the pixels for embedded ones.
    width_px, height_px, channels, bit_depth : int
        Of the photograph, upright; 0 if it was not decoded.
    status : SourceStatus
        What became of it.
    detail : str
        One line: what the decoder said, or what is odd about the mask.
    image : NDArray[np.uint8] or NDArray[np.uint16] or None
        (S, S, C), of as many bits as were asked for; None if not usable.
    valid : NDArray[np.bool_] or None
        (S, S), False where padding was added; None if not usable.
    user_mask : NDArray[np.bool_] or None
        (S, S), True on the part; None if there is none.
    """

    path: str
    sha256: str
    bytes: int
    width_px: int
    height_px: int
    channels: int
    bit_depth: int
    status: SourceStatus
    detail: str
    image: Pixels | None
    valid: NDArray[np.bool_] | None
    user_mask: NDArray[np.bool_] | None


# ---------------------------------------------------------------- listing


def list_categories(spec: SourceSpec) -> list[Category]:
    """Categories of a source with their normal training photographs, sorted by name.

    Parameters
    ----------
    spec : SourceSpec
        Kind, path, and which categories to take.

    Returns
    -------
    list of Category
        At least one, each with at least one file. A file listed may still prove unusable when read.

    Raises
    ------
    SourceError
        A path is missing or laid out differently, a category is unknown or has no file, a name is ambiguous.
    ConfigError
        The path names an environment variable that is not set.
    """
    if spec.kind == "builtin":
        found = _list_builtin(spec)
    else:
        root = _existing_folder(expand_path(spec.path or ""), f"source {spec.kind}")
        try:
            found = _LISTERS[spec.kind](spec, root)
        except OSError as error:
            where = error.filename or root
            raise SourceError(f"source {spec.kind}: {where} cannot be read ({error.strerror}); check it") from None
    chosen = _selected(_safely_named(found), spec)
    for category in chosen:
        if not category.files:
            raise SourceError(
                f"source {spec.kind}, category {category.category!r}: no image ({_SUFFIXES_SHOWN}) "
                f"among its normals under {category.root}; add some or leave it out"
            )
    return _with_masks(chosen, spec)


def _list_builtin(spec: SourceSpec) -> list[Category]:
    return [
        Category(
            kind="builtin",
            dataset=spec.dataset,
            category=name,
            root=None,
            files=tuple(f"{k:03d}" for k in range(builtin_size(name))),
            licence=spec.licence or builtin_licence(name),
            masks=None,
        )
        for name in BUILTIN_CATEGORIES
    ]


def _list_folder(spec: SourceSpec, root: Path) -> list[Category]:
    masks = expand_path(spec.masks).resolve() if spec.masks else None
    _refuse_data_set(root)
    direct = _images(root, under=root)
    below = [d for d in _subfolders(root) if d.resolve() != masks and any(_walk_images(d, skip=masks))]
    if direct and below:
        raise SourceError(
            f"source folder {root}: holds images both directly and in {below[0].name!r}; expected either; "
            "move the images into a sub-folder or give the sub-folders one by one"
        )
    if not direct and not below:
        raise SourceError(
            f"source folder {root}: no image ({_SUFFIXES_SHOWN}) in it{_links_out(root)}; give a folder of images"
        )
    if direct:
        return [_category(spec, _folder_name(root), root, direct, spec.licence or _NOT_STATED)]
    return [
        _category(spec, folder.name, root, list(_walk_images(folder, skip=masks)), spec.licence or _NOT_STATED)
        for folder in below
    ]


def _list_mvtec(spec: SourceSpec, root: Path) -> list[Category]:
    """Categories with ``train/good``. The licence is MVTec's only where its licence file says so."""
    return _list_by_normals(spec, root, "train/good", lambda folder: _mvtec_licence(folder, root))


def _list_btad(spec: SourceSpec, root: Path) -> list[Category]:
    inner = root / _BTAD_INNER
    return _list_by_normals(spec, inner if inner.is_dir() else root, "train/ok", lambda _: _BTAD_LICENCE)


def _list_by_normals(spec: SourceSpec, root: Path, normals: str, licence: Callable[[Path], str]) -> list[Category]:
    """Categories are the sub-folders of ``root`` that hold the folder of normals, or ``root`` itself."""
    if (root / normals).is_dir():
        named = [(_folder_name(root), root)]
    else:
        named = [(folder.name, folder) for folder in _subfolders(root) if (folder / normals).is_dir()]
    if not named:
        raise SourceError(
            f"source {spec.kind} {root}: expected sub-folders with {normals}, or {normals} itself, and found neither"
            f"{_links_out(root)}; give the data set's root{_where_else(root, normals)}"
        )
    found = []
    for name, folder in named:
        good = folder / normals
        if not good.resolve().is_relative_to(root.resolve()):
            raise SourceError(
                f"source {spec.kind} {root}: {name}/{normals} is a link out of it; give that folder itself"
            )
        found.append(_category(spec, name, root, _images(good, under=good), spec.licence or licence(folder)))
    return found


def _list_visa(spec: SourceSpec, root: Path) -> list[Category]:
    split = expand_path(spec.split_file) if spec.split_file else root / _VISA_SPLIT
    normals: dict[str, set[str]] = {}
    training: dict[Path, str] = {}
    others: set[Path] = set()
    for line, row in _split_rows(split):
        try:
            real = safe_join(root, row["image"])
        except ValueError as error:
            raise SourceError(f"source visa, split file {split}, line {line}: {error}; correct the file") from None
        if row["split"] == "train" and row["label"] == "normal":
            normals.setdefault(row["object"], set()).add(os.path.normpath(row["image"]))
            training[real] = row["image"]
        else:
            others.add(real)
    if shared := sorted(training[real] for real in others & training.keys()):
        raise SourceError(
            f"source visa, split file {split}: {shared[0]} is both a training normal and in another row, or a link to "
            "one that is; a test image cannot be a source; correct the file"
        )
    if not normals:
        raise SourceError(
            f"source visa, split file {split}: no row with split 'train' and label 'normal'; give the official one"
        )
    licence = spec.licence or _VISA_LICENCE
    return [
        _category(spec, name, root, [root / image for image in images], licence) for name, images in normals.items()
    ]


def _split_rows(split: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a split CSV with their line numbers, columns checked."""
    hint = "give the official 1cls.csv as split_file"
    try:
        text = split.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SourceError(f"source visa, split file {split}: cannot be read ({reason}); {hint}") from None
    reader = csv.DictReader(text.splitlines())
    missing = [column for column in _VISA_COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        got = ",".join(reader.fieldnames or ()) or "an empty file"
        raise SourceError(
            f"source visa, split file {split}: expected columns {','.join(_VISA_COLUMNS)}, got {got}; {hint}"
        )
    for row in reader:
        if any(not isinstance(row[column], str) for column in _VISA_COLUMNS) or not row["image"] or not row["object"]:
            raise SourceError(f"source visa, split file {split}, line {reader.line_num}: incomplete row; {hint}")
        yield reader.line_num, row


_LISTERS: Final[dict[SourceKind, Callable[[SourceSpec, Path], list[Category]]]] = {
    "folder": _list_folder,
    "mvtec": _list_mvtec,
    "visa": _list_visa,
    "btad": _list_btad,
}


def _category(spec: SourceSpec, name: str, root: Path, images: list[Path], licence: str) -> Category:
    files = tuple(sorted({path.relative_to(root).as_posix() for path in images}))
    for file in files:
        if not file.isprintable():  # line breaks, and bytes that are not UTF-8: no record could hold the name
            raise SourceError(f"source {spec.kind} {root}: the file name {file!a} is not plain text; rename the file")
    return Category(spec.kind, spec.dataset, name, root, files, licence, None)


def _selected(found: list[Category], spec: SourceSpec) -> list[Category]:
    known = {category.category: category for category in found}
    for name in spec.categories:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)[:20]
            raise SourceError(f"source {spec.kind}: unknown category {name!r}; nearest known: {', '.join(close)}")
    return [known[name] for name in sorted(known) if not spec.categories or name in spec.categories]


def _safely_named(found: list[Category]) -> list[Category]:
    """Categories under names that are safe in paths, keys and file names of the corpus."""
    named: dict[str, Category] = {}
    for category in found:
        safe = re.sub(r"-{2,}", "-", re.sub(r"[^A-Za-z0-9._-]", "_", category.category)).lstrip(".-") or "_"
        if safe in named:
            raise SourceError(
                f"source {category.kind}: folders {named[safe].category!r} and {category.category!r} would both be "
                f"category {safe!r}; rename one of them"
            )
        named[safe] = category
    return [replace(category, category=safe) for safe, category in named.items()]


def _with_masks(chosen: list[Category], spec: SourceSpec) -> list[Category]:
    """Each category with its folder of masks: ``<masks>/<category>``, or ``<masks>`` for a single category."""
    if spec.masks is None:
        return chosen
    folder = _existing_folder(expand_path(spec.masks), f"source {spec.kind}, masks")
    found = []
    for category in chosen:
        own = folder / category.category
        stems = [PurePosixPath(file).stem for file in category.files]
        if len(set(stems)) < len(stems):
            twice = next(stem for stem in sorted(stems) if stems.count(stem) > 1)
            raise SourceError(
                f"source {spec.kind}, category {category.category!r}: two images are named {twice!r}, so mask "
                f"{twice}.png is ambiguous; rename one"
            )
        alone = len(chosen) == 1 and not own.is_dir()
        found.append(replace(category, masks=folder if alone else own))
    return found


def _mvtec_licence(folder: Path, root: Path) -> str:
    """MVTec's licence where the data set carries MVTec's own licence or readme file, else not stated.

    The layout is used by many other data sets, so the layout alone proves nothing.
    """
    for place in dict.fromkeys((folder, root)):
        for name in ("license.txt", "readme.txt"):
            path = place / name
            if path.is_file() and b"MVTec Software GmbH" in path.read_bytes()[:100_000]:
                return _MVTEC_LICENCE
    return _NOT_STATED


# ---------------------------------------------------------------- folders


def _existing_folder(path: Path, what: str) -> Path:
    if not path.exists():
        raise SourceError(f"{what}: {path} does not exist; check the path")
    if not path.is_dir():
        raise SourceError(f"{what}: {path} is not a folder; give the folder that holds the images")
    try:
        next(path.iterdir(), None)
    except OSError as error:
        raise SourceError(f"{what}: {path} cannot be read ({error.strerror}); check its permissions") from None
    return path


def _folder_name(root: Path) -> str:
    return root.name if root.name not in {"", ".."} else root.resolve().name


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _images(folder: Path, *, under: Path) -> list[Path]:
    """Image files directly in a folder that really lie under another."""
    inside = under.resolve()
    return [p for p in folder.iterdir() if _is_image(p) and p.is_file() and p.resolve().is_relative_to(inside)]


def _walk_images(folder: Path, *, skip: Path | None) -> Iterator[Path]:
    """Image files anywhere in a folder that really lie in it; hidden and linked folders are passed over."""
    for place, names, _ in os.walk(folder):
        names[:] = [n for n in names if not n.startswith(".") and (Path(place) / n).resolve() != skip]
        yield from _images(Path(place), under=folder)


def _subfolders(root: Path) -> list[Path]:
    """Visible folders of a root, in order, that do not lead out of it."""
    inside = root.resolve()
    return sorted(
        p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".") and p.resolve().is_relative_to(inside)
    )


def _links_out(root: Path) -> str:
    """Remark for a message, if sub-folders were passed over because they lead out of the root."""
    inside = root.resolve()
    out = sorted(
        p.name for p in root.iterdir() if p.is_symlink() and p.is_dir() and not p.resolve().is_relative_to(inside)
    )
    return f" ({out[0]!r} is a link out of it, which is not followed)" if out else ""


def _where_else(root: Path, normals: str) -> str:
    """Hint at a place one level down, or up, that has the layout."""
    for folder in [*_subfolders(root), root.resolve().parent, root.resolve().parent.parent]:
        if (folder / normals).is_dir() or any((below / normals).is_dir() for below in _subfolders_or_none(folder)):
            return f"; {folder} looks like one"
    return ""


def _subfolders_or_none(folder: Path) -> list[Path]:
    try:
        return _subfolders(folder)
    except OSError:
        return []


def _refuse_data_set(root: Path) -> None:
    """Refuse a folder that holds, or belongs to, the test part of a data set."""
    resolved = root.resolve()
    for place in (resolved, resolved.parent):
        beside = {name.lower() for name in _names(place.parent)} - {place.name.lower()}
        visa = place.parts[-3:] == ("Data", "Images", "Normal")  # holds the normals of the test part too
        if visa or beside & _BESIDE_TEST.get(place.name.lower(), frozenset()):
            raise SourceError(
                f"source folder {root}: {place} holds test images of the data set {place.parent}, which must not "
                f"become sources; give the whole data set as {_layout_of(place.parent)}"
            )
    for path, names, _ in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in names:
            if name.lower() in _DATASET_FOLDERS:
                raise SourceError(
                    f"source folder {root}: {Path(path, name).relative_to(root)} shows that it is a data set with test "
                    f"images, which must not become sources; give it as {_layout_of(Path(path))}"
                )


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _layout_of(folder: Path) -> str:
    """Kind of a data set, by the folders it has."""
    if (folder / "train" / "good").is_dir():
        return "kind mvtec"
    if (folder / "train" / "ok").is_dir():
        return "kind btad"
    names = {name.lower() for name in _names(folder)}
    return "kind visa" if names & {"anomaly", "split_csv"} else "kind mvtec, visa or btad"


# ---------------------------------------------------------------- reading


def read_source(
    category: Category, file: str, *, size: int, fit_policy: FitPolicy, max_pixels: int, bit_depth: BitDepth = 8
) -> LoadedSource:
    """Read, decode and fit one photograph of a category.

    A bad file never raises: its status and detail say what is wrong.

    Parameters
    ----------
    category : Category
        As listed.
    file : str
        One of ``category.files``.
    size : int
        Side S of the corpus's pictures, pixels.
    fit_policy : {"crop", "pad", "stretch"}
        For photographs that are not square.
    max_pixels : int
        Largest photograph that is decoded.
    bit_depth : {8, 16}
        Bits of each channel of the picture; 8-bit photographs are multiplied by 257 for 16.

    Returns
    -------
    LoadedSource
        With arrays if its status is ``ok``.
    """
    if category.root is None:
        return _read_builtin(category, file, size=size, fit_policy=fit_policy, bit_depth=bit_depth)
    try:
        data = safe_join(category.root, file).read_bytes()
    except OSError as error:
        return _unusable(file, b"", SourceStatus.UNREADABLE, error.strerror or type(error).__name__)
    except ValueError as error:
        return _unusable(file, b"", SourceStatus.UNREADABLE, str(error))
    try:
        photograph = decode(data, max_pixels=max_pixels, bit_depth=bit_depth)
    except DecodeError as error:
        return _unusable(file, data, error.status, error.detail)
    loaded = _usable(category, file, photograph.pixels, photograph.bit_depth, size=size, fit_policy=fit_policy)
    return replace(loaded, sha256=sha256_bytes(data), bytes=len(data))


def _read_builtin(
    category: Category, file: str, *, size: int, fit_policy: FitPolicy, bit_depth: BitDepth
) -> LoadedSource:
    path = f"builtin:{category.category}/{file}"
    try:
        pixels = builtin_image(category.category, int(file))
    except OSError as error:
        return _unusable(path, b"", SourceStatus.UNREADABLE, f"{error}; install scikit-image again")
    asked = pixels if bit_depth == 8 else pixels.astype(np.uint16) * np.uint16(257)
    loaded = _usable(category, file, asked, 8, size=size, fit_policy=fit_policy)
    return replace(loaded, path=path, sha256=sha256_bytes(pixels.tobytes()), bytes=pixels.nbytes)


def _usable(
    category: Category, file: str, pixels: Pixels, bit_depth: int, *, size: int, fit_policy: FitPolicy
) -> LoadedSource:
    image, valid = fit(pixels, size=size, policy=fit_policy)
    mask, detail = _user_mask(category, file, pixels.shape[:2])
    return LoadedSource(
        path=file,
        sha256="",
        bytes=0,
        width_px=pixels.shape[1],
        height_px=pixels.shape[0],
        channels=pixels.shape[2],
        bit_depth=bit_depth,
        status=SourceStatus.OK,
        detail=detail,
        image=image,
        valid=valid,
        user_mask=None if mask is None else fit_mask(mask, size=size, policy=fit_policy),
    )


def _unusable(path: str, data: bytes, status: SourceStatus, detail: str) -> LoadedSource:
    sha256 = "" if status is SourceStatus.UNREADABLE else sha256_bytes(data)
    return LoadedSource(path, sha256, len(data), 0, 0, 0, 0, status, detail, None, None, None)


def _user_mask(category: Category, file: str, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_] | None, str]:
    """The user's foreground mask (H, W) of a photograph of that shape, or None and why there is none."""
    if category.masks is None:
        return None, ""
    name = f"{PurePosixPath(file).stem}.png"
    try:
        data = safe_join(category.masks, name).read_bytes()
        mask = eight_bits(decode(data, max_pixels=shape[0] * shape[1]).pixels)
    except OSError as error:
        return None, f"no mask {name}: {error.strerror or type(error).__name__}"
    except ValueError:
        return None, f"no mask {name}: it is a link out of its folder"
    except DecodeError as error:
        return None, f"mask {name} is not used: {error.detail}"
    if mask.shape[:2] != shape:
        got, expected = f"{mask.shape[1]}x{mask.shape[0]}", f"{shape[1]}x{shape[0]}"
        return None, f"mask {name} is not used: it is {got}, its photograph {expected}"
    return mask.max(axis=2) >= 128, ""
