"""YOLO segmentation: pictures and text files of outlines by split, and ``data.yaml``.

A line is ``class x1 y1 x2 y2 ...``, relative to the width and the height. `pipeline.export.outlines` says how a mask
becomes outlines: every part of a defect that is connected has a line of its own, with its holes cut in.

References
----------
Ultralytics, "Instance Segmentation Datasets Overview": the label format and ``data.yaml``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import yaml

from manifests.corpus import Sample
from manifests.splits import DEFAULT_SHARES, Shares
from pipeline.export.contract import Export, Fragment, FragmentOf, Part, present, samples_of
from pipeline.export.files import PartFiles
from pipeline.export.outlines import outlines
from pipeline.export.sample_table import write_samples
from pipeline.png import png

__all__ = ["NORMALS", "SHARES", "write_index", "write_part"]

SHARES: Final[Shares] = DEFAULT_SHARES
NORMALS: Final = False


def write_part(export: Export, part: Part, files: PartFiles) -> Fragment:
    """Pictures, ``images/<split>/<id>.png``, and outlines, ``labels/<split>/<id>.txt``."""
    paths: Fragment = {"image": [], "label": []}
    for sample in samples_of(export, part):
        paths["image"].append(f"images/{part.split}/{sample.record.id}.png")
        paths["label"].append(f"labels/{part.split}/{sample.record.id}.txt")
        files.put(paths["image"][-1], png(sample.image))
        files.put(paths["label"][-1], "".join(_lines(export, sample)).encode())
    return paths


def _lines(export: Export, sample: Sample) -> Iterator[str]:
    height, width = sample.mask.shape
    for value, mechanism in present(sample.record).items():
        for outline in outlines(sample.instances == value):
            points = " ".join(f"{x / width:.6f} {y / height:.6f}" for y, x in outline.tolist())
            yield f"{export.classes.index(mechanism)} {points}\n"


def write_index(export: Export, parts: Sequence[Part], fragment_of: FragmentOf, files: PartFiles) -> None:
    """``data.yaml``, whose own folder is the root of its paths, and ``samples.parquet``."""
    splits = [split for split in ("train", "val", "test") if any(part.split == split for part in parts)]
    about = {
        **{split: f"images/{split}" for split in splits},
        "names": dict(enumerate(export.classes)),
        "physical": {k: export.info.mechanisms[name].physical for k, name in enumerate(export.classes)},
    }
    files.put("data.yaml", yaml.safe_dump(about, sort_keys=False).encode())
    write_samples(export, parts, fragment_of, files)
