"""The folders of MVTec AD: normal photographs to train on; held-out ones and defects, with masks, to test on.

::

    <category>/train/good/00003.png                     photographs of the groups in train
    <category>/test/good/00007.png                      photographs of the groups in test
    <category>/test/<mechanism>/<id>.png                samples of the groups in test
    <category>/ground_truth/<mechanism>/<id>_mask.png   255 where it is defective

A photograph is named by its row in the corpus, and no group is in both halves: samples of the groups in train have no
place here. A sample with defects of several mechanisms is ``combined``, as MVTec calls it.

References
----------
Bergmann, Batzner, Fauser, Sattlegger, Steger, "The MVTec Anomaly Detection Dataset", IJCV 129 (2021), table 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from manifests import layout
from manifests.corpus import read_array
from manifests.records import SampleRecord
from manifests.splits import Shares
from pipeline.export.contract import Export, Fragment, FragmentOf, Part, present, samples_of
from pipeline.export.files import PartFiles
from pipeline.export.sample_table import write_samples
from pipeline.png import png

__all__ = ["NORMALS", "SHARES", "write_index", "write_part"]

SHARES: Final[Shares] = (0.5, 0.0, 0.5)
NORMALS: Final = True
_COMBINED = "combined"


def write_part(export: Export, part: Part, files: PartFiles) -> Fragment:
    """Pictures, and masks of the defects."""
    folders = _folders(export)
    for normal in part.normals:
        pixels = read_array(export.corpus.path, layout.DATA, normal.key, "source", normal.row, normal.row + 1)[0]
        files.put(f"{folders[normal.key]}/{part.split}/good/{normal.row:05d}.png", png(np.asarray(pixels)))
    paths: Fragment = {"image": [], "mask": []}
    for sample in samples_of(export, part):
        record = sample.record
        folder, label = folders[f"{record.dataset}/{record.category}"], _label(record)
        paths["image"].append(f"{folder}/test/{label}/{record.id}.png")
        paths["mask"].append(f"{folder}/ground_truth/{label}/{record.id}_mask.png")
        files.put(paths["image"][-1], png(sample.image))
        files.put(paths["mask"][-1], png(sample.mask))
    return paths


def _label(record: SampleRecord) -> str:
    mechanisms = set(present(record).values())
    return mechanisms.pop() if len(mechanisms) == 1 else _COMBINED


def _folders(export: Export) -> dict[str, str]:
    """Folder of every category: its name, with the data set's before it where two share one."""
    keys = list(export.info.counts.by_category)
    shared = Counter(key.split("/")[1] for key in keys)
    return {key: key.split("/")[1] if shared[key.split("/")[1]] == 1 else key.replace("/", "_") for key in keys}


def write_index(export: Export, parts: Sequence[Part], fragment_of: FragmentOf, files: PartFiles) -> None:
    """``samples.parquet``; the folders say all else."""
    write_samples(export, parts, fragment_of, files)
