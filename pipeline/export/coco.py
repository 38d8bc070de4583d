"""COCO instances: pictures by split, and for each split one JSON file with a run-length mask for every defect.

A mask is the part of the array ``instances`` that is the defect's own, run by run down the columns, zeros first, as
COCO counts them. An image's id is its index in the corpus plus 1, an annotation's is 256 times that plus its value in
``instances``: both stay the same whatever is selected.

References
----------
Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; its ``cocoapi``, pycocotools/mask.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from manifests.corpus import Sample
from manifests.hashing import canonical_json
from manifests.splits import DEFAULT_SHARES, Shares
from pipeline.export.contract import Export, Fragment, FragmentOf, Part, present, samples_of
from pipeline.export.files import PartFiles
from pipeline.export.sample_table import write_samples
from pipeline.png import png

__all__ = ["NORMALS", "SHARES", "run_lengths", "write_index", "write_part"]

SHARES: Final[Shares] = DEFAULT_SHARES
NORMALS: Final = False
_INSTANCES = 256  # more than a picture can hold: `instances` is uint8
_LISTS = ("images", "annotations")
_RECORD_COLUMNS = ("id", "dataset", "category", "source", "group", "mechanism", "severity", "sqe", "physical")


def write_part(export: Export, part: Part, files: PartFiles) -> Fragment:
    """Pictures, ``<split>/<id>.png``."""
    found: Fragment = {"images": [], "annotations": []}
    licences = _licences(export)
    for sample in samples_of(export, part):
        record = sample.record
        files.put(f"{part.split}/{record.id}.png", png(sample.image))
        height, width = sample.mask.shape
        found["images"].append(
            {
                "id": record.index + 1,
                "file_name": f"{record.id}.png",
                "height": height,
                "width": width,
                "license": licences[f"{record.dataset}/{record.category}"],
                "sample": {name: getattr(record, name) for name in _RECORD_COLUMNS},
            }
        )
        found["annotations"].extend(_annotations(export, sample))
    return found


def _annotations(export: Export, sample: Sample) -> Iterator[dict[str, Any]]:
    image = sample.record.index + 1
    for value, mechanism in present(sample.record).items():
        mask = sample.instances == value
        rows, columns = np.nonzero(mask)
        top, left = int(rows.min()), int(columns.min())
        yield {
            "id": _INSTANCES * image + value,
            "image_id": image,
            "category_id": export.classes.index(mechanism) + 1,
            "iscrowd": 0,
            "area": len(rows),
            "bbox": [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top],
            "segmentation": {"size": list(mask.shape), "counts": run_lengths(mask)},
        }


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of a mask (H, W) down its columns: of zeros, of ones, of zeros, ..."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(ends, prepend=0, append=flat.size).tolist()
    return [0, *lengths] if flat[0] else lengths


def _licences(export: Export) -> dict[str, int]:
    """Id of the licence of every category, from 1 in the order of `LicenceInfo`; the first of those it has."""
    found: dict[str, int] = {}
    for number, entry in enumerate(export.info.licences):
        found.setdefault(f"{entry.dataset}/{entry.category}", number + 1)
    return found


def write_index(export: Export, parts: Sequence[Part], fragment_of: FragmentOf, files: PartFiles) -> None:
    """``annotations/instances_<split>.json``, and ``samples.parquet``."""
    for split in sorted({part.split for part in parts}):
        own = [part for part in parts if part.split == split]
        with files.open(f"annotations/instances_{split}.json") as stream:
            _write_json(stream, _head(export), {key: _entries(own, fragment_of, key) for key in _LISTS})
    write_samples(
        export,
        parts,
        lambda part: {"image": [f"{part.split}/{e['file_name']}" for e in fragment_of(part)["images"]]},
        files,
    )


def _head(export: Export) -> dict[str, object]:
    return {
        "info": {"description": export.info.name, "version": export.info.code_version},
        "licenses": [
            {"id": number + 1, "name": entry.licence, "url": ""} for number, entry in enumerate(export.info.licences)
        ],
        "categories": [
            {
                "id": number + 1,
                "name": name,
                "supercategory": "simulated" if export.info.mechanisms[name].physical else "not physical",
            }
            for number, name in enumerate(export.classes)
        ],
    }


def _entries(parts: Sequence[Part], fragment_of: FragmentOf, key: str) -> Iterator[object]:
    return chain.from_iterable(fragment_of(part)[key] for part in parts)


def _write_json(stream: BinaryIO, head: dict[str, object], lists: dict[str, Iterator[object]]) -> None:
    """One object, its lists written as they come."""
    stream.write(canonical_json(head)[:-1])
    for key, entries in lists.items():
        stream.write(b',"%s":[' % key.encode())
        for number, entry in enumerate(entries):
            stream.write(b",\n" * bool(number) + canonical_json(entry))
        stream.write(b"]")
    stream.write(b"}\n")
