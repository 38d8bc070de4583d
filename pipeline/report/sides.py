"""One side of a comparison: a corpus, or a folder of real defects in the layout of MVTec AD, as groups of masks.

A corpus is grouped by mechanism; samples with defects of several are a group of their own. A folder is grouped by
type of defect: ``test/<type>/<stem>.*`` with ``ground_truth/<type>/<stem>_mask.png``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manifests import layout
from manifests.corpus import Corpus
from manifests.errors import CorpusError, SourceError
from manifests.pictures import IMAGE_SUFFIXES, DecodeError, decode
from pipeline.contact_sheet import as_rgb

__all__ = ["Group", "Pair", "Side", "read_side"]

_MIXED = "several mechanisms"
_NORMALS = frozenset({"good", "ok"})
_MAX_PIXELS = 100_000_000

Pair = tuple[NDArray[np.uint8], NDArray[np.bool_]]


@dataclass(frozen=True)
class Group:
    """Samples of one mechanism or type of defect: how many there are, and how to read the chosen ones."""

    name: str
    total: int
    read: tuple[Callable[[], Pair], ...]  # each a picture (h, w, 3) and its mask (h, w)


@dataclass(frozen=True)
class Side:
    """A corpus, or a folder of real defects."""

    name: str
    kind: str  # "corpus" or "real"
    side_px: str  # of its pictures, in words
    normals: int
    groups: tuple[Group, ...]

    @property
    def total(self) -> int:
        """Pictures with a defect."""
        return sum(group.total for group in self.groups)


def read_side(path: Path, *, count: int) -> Side:
    """What lies at a path, with up to ``count`` samples of each group chosen evenly.

    Raises
    ------
    SourceError
        It is neither a corpus nor a folder of defects, or a picture has no mask.
    CorpusError
        The corpus is not finished, damaged, or without a defect.
    """
    if not path.is_dir():
        raise SourceError(f"{path}: does not exist, or is no folder; give a corpus or a folder of real defects")
    if any((path / name).is_file() for name in (layout.CORPUS, layout.CONFIG)):
        return _corpus_side(path, count)
    if (path / "test").is_dir() and (path / "ground_truth").is_dir():
        return _real_side(path, count)
    raise SourceError(
        f"{path}: expected a corpus, or test/<type> and ground_truth/<type> as in MVTec AD, and found neither; "
        "of a data set of several categories give the folder of one"
    )


def _evenly(total: int, count: int) -> list[int]:
    return sorted(set(np.linspace(0, total - 1, min(count, total)).astype(int).tolist())) if total else []


def _corpus_side(path: Path, count: int) -> Side:
    corpus = Corpus(path)
    positions: dict[str, list[int]] = {name: [] for name in (*corpus.info.mechanisms, _MIXED)}
    for position, defects in enumerate(corpus.table["defects"].to_pylist()):
        names = {defect["mechanism"] for defect in defects if defect["instance"]}
        positions[names.pop() if len(names) == 1 else _MIXED].append(position)
    groups = tuple(
        Group(name, len(rows), tuple(_sample_reader(corpus, rows[k]) for k in _evenly(len(rows), count)))
        for name, rows in positions.items()
        if rows
    )
    if not groups:
        raise CorpusError(f"{path}: no sample of it has a defect; look at `maphc2f info`")
    return Side(corpus.info.name, "corpus", f"{corpus.info.config['size']} px", 0, groups)


def _sample_reader(corpus: Corpus, position: int) -> Callable[[], Pair]:
    def read() -> Pair:
        sample = corpus[position]
        return as_rgb(sample.image), sample.mask > 0

    return read


def _real_side(path: Path, count: int) -> Side:
    groups = []
    normals = 0
    for folder in sorted(p for p in (path / "test").iterdir() if p.is_dir() and not p.name.startswith(".")):
        pictures = _images(folder)
        if folder.name in _NORMALS:
            normals += len(pictures)
            continue
        pairs = [(picture, _mask_of(path / "ground_truth" / folder.name, picture)) for picture in pictures]
        readers = tuple(_file_reader(*pairs[k]) for k in _evenly(len(pairs), count))
        if pairs:
            groups.append(Group(folder.name, len(pairs), readers))
    if not groups:
        raise SourceError(f"{path}: no picture in test/<type>; give a folder of real defects in the layout of MVTec AD")
    return Side(path.resolve().name, "real", "as photographed", normals, tuple(groups))


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


def _mask_of(folder: Path, picture: Path) -> Path:
    for name in (f"{picture.stem}_mask.png", f"{picture.stem}.png"):
        if (folder / name).is_file():
            return folder / name
    raise SourceError(f"{picture}: expected its mask {folder / f'{picture.stem}_mask.png'}, which is not there; add it")


def _file_reader(picture: Path, mask: Path) -> Callable[[], Pair]:
    def read() -> Pair:
        pixels, marked = _pixels(picture), _pixels(mask)
        if pixels.shape[:2] != marked.shape[:2]:
            sizes: Sequence[str] = [f"{a.shape[1]} x {a.shape[0]}" for a in (pixels, marked)]
            raise SourceError(f"{mask}: expected {sizes[0]} pixels, as its picture has, got {sizes[1]}; replace it")
        return pixels, marked.max(axis=2) > 127

    return read


def _pixels(path: Path) -> NDArray[np.uint8]:
    try:
        return as_rgb(decode(path.read_bytes(), max_pixels=_MAX_PIXELS).pixels)
    except (OSError, DecodeError) as error:
        raise SourceError(f"{path}: cannot be read ({error}); copy the file again, or take it out") from None
