"""Columns of the manifest that the gallery filters and sorts by, as small typed arrays in base64.

A chunk holds up to `CHUNK` samples in order of index; numbers are little-endian::

    category   uint16   number of "<dataset>/<category>" in the vocabulary
    mechanisms uint16   bit k: a defect of mechanism k is in the picture (of the first planned, where none is)
    status     uint8    number of the status in the vocabulary
    severity   uint16   0..10000: severity of the picture's first defect x 10000
    sqe        uint16   0..10000: quality x 10000
    area       float32  share of the picture
    id         8 bytes, in a script of its own that only a search by id needs
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from manifests.corpus import CorpusInfo
from manifests.records import SampleStatus

__all__ = ["CHUNK", "STEPS", "Columns", "read_columns"]

CHUNK = 16384
STEPS = 10_000  # of a share stored as a whole number


@dataclass(frozen=True)
class Columns:
    """What is known of every sample, (N,) each, and the names that the numbers stand for."""

    categories: tuple[str, ...]
    mechanisms: tuple[str, ...]
    statuses: tuple[str, ...]
    category: NDArray[np.uint16]
    present: NDArray[np.uint16]
    status: NDArray[np.uint8]
    severity: NDArray[np.float64]
    sqe: NDArray[np.float64]
    area: NDArray[np.float64]
    identity: NDArray[np.void]

    def __len__(self) -> int:
        return len(self.category)

    def chunk(self, number: int) -> dict[str, object]:
        """The chunk as the gallery reads it."""
        part = slice(number * CHUNK, (number + 1) * CHUNK)
        return {
            "count": len(self.category[part]),
            "category": _base64(self.category[part].astype("<u2")),
            "mechanisms": _base64(self.present[part].astype("<u2")),
            "status": _base64(self.status[part]),
            "severity": _base64(np.rint(STEPS * self.severity[part]).astype("<u2")),
            "sqe": _base64(np.rint(STEPS * self.sqe[part]).astype("<u2")),
            "area": _base64(self.area[part].astype("<f4")),
        }

    def identities(self) -> str:
        """Ids of all samples, 8 bytes each."""
        return _base64(self.identity)


def _base64(values: NDArray[np.generic]) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")


def read_columns(table: pa.Table, info: CorpusInfo) -> Columns:
    """Columns of a manifest, all statuses included."""
    key = pc.binary_join_element_wise(table["dataset"], table["category"], "/")
    categories = tuple(sorted(set(key.unique().to_pylist())))
    mechanisms = tuple(info.mechanisms)
    statuses = tuple(s.value for s in SampleStatus)
    names = table["id"].to_pylist()
    return Columns(
        categories=categories,
        mechanisms=mechanisms,
        statuses=statuses,
        category=_numbers(key, categories).astype(np.uint16),
        present=_present(table, mechanisms),
        status=_numbers(table["status"], statuses).astype(np.uint8),
        severity=np.clip(np.asarray(table["severity"].to_numpy(), dtype=np.float64), 0, 1),
        sqe=np.clip(np.asarray(table["sqe"].to_numpy(), dtype=np.float64), 0, 1),
        area=np.asarray(table["area_fraction"].to_numpy(), dtype=np.float64),
        identity=np.frombuffer(bytes.fromhex("".join(names)), dtype="V8"),
    )


def _numbers(column: pa.ChunkedArray, names: tuple[str, ...]) -> NDArray[np.int64]:
    return np.asarray(pc.index_in(column, pa.array(names, pa.string())).to_numpy(zero_copy_only=False))


def _present(table: pa.Table, mechanisms: tuple[str, ...]) -> NDArray[np.uint16]:
    """Bits of the mechanisms whose defects are in the pictures."""
    lists = table["defects"].combine_chunks()
    defects = lists.flatten()
    row = np.asarray(pc.list_parent_indices(lists).to_numpy(zero_copy_only=False))
    bit = np.left_shift(1, _numbers(defects.field("mechanism"), mechanisms))
    is_there = np.asarray(defects.field("instance").to_numpy(zero_copy_only=False)) > 0
    found = np.zeros(len(table), dtype=np.uint16)
    np.bitwise_or.at(found, row[is_there], bit[is_there].astype(np.uint16))
    first = np.left_shift(1, _numbers(table["mechanism"], mechanisms)).astype(np.uint16)
    return np.asarray(np.where(found == 0, first, found))
