"""What a format is: a module that writes one part at a time, and at the end an index over all of them.

An export is cut into parts before anything is written. A part holds samples of one split, in the order of their ids,
which are content hashes: so a part is a fair draw of its split. A format knows neither of resuming nor of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from manifests import Corpus
from manifests.corpus import CorpusInfo, Sample
from manifests.errors import CorpusError
from manifests.hashing import sha256_bytes
from manifests.records import SampleRecord
from manifests.splits import Shares
from pipeline.export.files import PartFiles

__all__ = ["Export", "Format", "Fragment", "FragmentOf", "Normal", "Part", "present", "samples_of"]

Fragment = dict[str, list[Any]]  # what a part leaves for the index, as JSON
FragmentOf = Callable[["Part"], Fragment]


class Normal(NamedTuple):
    """A normal photograph: its category, ``<dataset>/<category>``, and its row in the array ``source``."""

    key: str
    row: int


@dataclass(frozen=True)
class Part:
    """A part: the ``place``-th of ``of`` parts of a split.

    Attributes
    ----------
    number : int
        Among all parts of the export.
    rows : tuple of int
        Samples, by their positions among the accepted ones of the corpus.
    normals : tuple of Normal
        Photographs, where the format holds normal ones too.
    """

    number: int
    split: str
    place: int
    of: int
    rows: tuple[int, ...] = ()
    normals: tuple[Normal, ...] = ()


@dataclass(frozen=True)
class Export:
    """What every part of an export shares: the accepted samples of the corpus."""

    corpus: Corpus

    @property
    def info(self) -> CorpusInfo:
        """What corpus.json says."""
        return self.corpus.info

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Mechanisms of the corpus by name, whatever was selected: class k is the k-th."""
        return tuple(sorted(self.info.mechanisms))


class Format(Protocol):
    """A module of this package that writes one format."""

    @property
    def SHARES(self) -> Shares:  # noqa: N802  (a constant of the module)
        """Of train, val and test, unless the user gives others; a split of share 0 does not exist."""

    @property
    def NORMALS(self) -> bool:  # noqa: N802
        """Normal photographs are in train and test, and samples in test alone."""

    def write_part(self, export: Export, part: Part, files: PartFiles) -> Fragment:
        """Write the files of a part; what it returns is handed to `write_index`."""

    def write_index(self, export: Export, parts: Sequence[Part], fragment_of: FragmentOf, files: PartFiles) -> None:
        """Write what describes all parts together, from their fragments."""


def samples_of(export: Export, part: Part) -> Iterator[Sample]:
    """Samples of a part one by one, each held to the hashes of its manifest row.

    Raises
    ------
    CorpusError
        A stored picture or mask is not the one that the manifest names.
    """
    view = export.corpus.take(part.rows)
    for k in range(len(view)):
        sample = view[k]
        found = sha256_bytes(sample.image.tobytes()), sha256_bytes(sample.mask.tobytes())
        if found != (sample.record.image_sha256, sample.record.mask_sha256):
            raise _not_as_named(export.corpus.folder, sample)
        yield sample


def _not_as_named(root: Path, sample: Sample) -> CorpusError:
    record = sample.record
    where = f"row {record.row} of {record.dataset}/{record.category}"
    return CorpusError(f"{root}: sample {record.id} ({where}) is not what the manifest names; run `maphc2f verify`")


def present(record: SampleRecord) -> dict[int, str]:
    """Mechanism of every defect that is in the picture, by its value in ``instances``."""
    return {defect.instance: defect.mechanism for defect in record.defects if defect.instance}
