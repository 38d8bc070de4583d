"""WebDataset: tar files, read from first to last, in which the files of a sample stand together under one key.

A sample is ``<id>.png``, ``<id>.mask.png``, ``<id>.instances.png`` where the corpus keeps instances, ``<id>.cls``
(class of its first defect) and ``<id>.json`` (its manifest row). The tar is ustar, without times and owners.

References
----------
Aizman, Maltby, Breuel, "High Performance I/O For Large Scale Deep Learning", IEEE Big Data 2019.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from typing import Final

from manifests.corpus import Sample
from manifests.hashing import canonical_json
from manifests.splits import DEFAULT_SHARES, Shares
from pipeline.export.contract import Export, Fragment, FragmentOf, Part, samples_of
from pipeline.export.files import PartFiles
from pipeline.png import png

__all__ = ["NORMALS", "SHARES", "write_index", "write_part"]

SHARES: Final[Shares] = DEFAULT_SHARES
NORMALS: Final = False


def write_part(export: Export, part: Part, files: PartFiles) -> Fragment:
    """One tar: ``<split>-<place>.tar``."""
    name = f"{part.split}-{part.place:06d}.tar"
    with files.open(name) as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples_of(export, part):
            for suffix, data in _members(export, part, sample):
                entry = tarfile.TarInfo(f"{sample.record.id}.{suffix}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return {}


def _members(export: Export, part: Part, sample: Sample) -> Iterator[tuple[str, bytes]]:
    yield "png", png(sample.image)
    yield "mask.png", png(sample.mask)
    if sample.keeps_instances:
        yield "instances.png", png(sample.instances)
    yield "cls", str(export.classes.index(sample.record.mechanism)).encode()
    yield "json", canonical_json({**sample.record.model_dump(mode="json"), "split": part.split})


def write_index(export: Export, parts: Sequence[Part], fragment_of: FragmentOf, files: PartFiles) -> None:
    """Nothing: a tar needs no index."""
