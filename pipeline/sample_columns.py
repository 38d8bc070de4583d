"""What a summary needs of all samples of a corpus, as columns: a tenth of the memory that their records take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from manifests.records import SampleRecord, SampleStatus
from manifests.tables import arrow_schema

__all__ = ["FIGURES", "SampleColumns"]

FIGURES = (
    "area_fraction",
    "severity",
    "length_px",
    "relief_px",
    "contrast",
    "visibility",
    "sqe",
    "residual",
    "cycles",
    "attempts",
)
_COUNTS = ("area_px", "faint_px", "unlabelled_px", "unseen_px", "outside_px", "off_part_px", "touching_px")
_NAMES = ("dataset", "category", "status")
_OF_DEFECTS = ("area_px", "area_fraction", "severity", "width")


@dataclass(frozen=True)
class SampleColumns:
    """Columns of N samples, and of the D defects that are in their pictures.

    Attributes
    ----------
    names : pyarrow.Table
        ``dataset``, ``category`` and ``status``.
    figures : mapping
        (N,) float64 by the name of a column that is spread over samples.
    counts : mapping
        (N,) int64 by the name of a column of pixels.
    planned_first : (N,) str
        Mechanism of each sample's first defect as planned.
    present : mapping
        (D,) ``mechanism``, area, severity and width by name, and ``sample``, the row of the sample that has the defect.
    """

    names: pa.Table
    figures: Mapping[str, NDArray[np.float64]]
    counts: Mapping[str, NDArray[np.int64]]
    planned_first: NDArray[np.object_]
    present: Mapping[str, NDArray[Any]]

    @classmethod
    def of(cls, tables: Iterable[pa.Table]) -> Self:
        """Of the rows of a manifest, in pieces."""
        pieces = [(_narrow(table), _defects(table)) for table in (arrow_schema(SampleRecord).empty_table(), *tables)]
        samples = pa.concat_tables(narrow for narrow, _ in pieces).unify_dictionaries()
        first_rows = np.cumsum([0, *(len(narrow) for narrow, _ in pieces)])
        defects = pa.concat_tables(defects for _, defects in pieces)
        owners = [piece["sample"].to_numpy() + first for (_, piece), first in zip(pieces, first_rows, strict=False)]
        planned_first = defects.filter(pc.equal(defects["place"], 0))["mechanism"]
        there = pc.greater(defects["instance"], 0)
        present = {name: _array(defects.filter(there)[name]) for name in ("mechanism", *_OF_DEFECTS)}
        return cls(
            names=samples.select(_NAMES),
            figures={name: samples[name].to_numpy().astype(np.float64) for name in FIGURES},
            counts={name: samples[name].to_numpy() for name in _COUNTS},
            planned_first=_array(planned_first),
            present={**present, "sample": np.concatenate(owners)[there.to_numpy()]},
        )

    def __len__(self) -> int:
        return int(self.names.num_rows)

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """(N,) where the status is ok."""
        return np.asarray(pc.equal(self.names["status"], SampleStatus.OK.value).to_numpy())

    def count(self, *names: str) -> dict[tuple[str, ...], int]:
        """How many samples have each combination of values, in the order in which they first come."""
        grouped = self.names.group_by(list(names), use_threads=False).aggregate([([], "count_all")])
        keys = zip(*(grouped[name].to_pylist() for name in names), strict=True)
        return dict(zip(keys, grouped["count_all"].to_pylist(), strict=True))


def _narrow(table: pa.Table) -> pa.Table:
    columns = {name: table[name] for name in (*FIGURES, *_COUNTS)}
    return pa.table(columns | {name: table[name].dictionary_encode() for name in _NAMES})


def _defects(table: pa.Table) -> pa.Table:
    """All defects that were planned: ``sample`` is the row of each one's sample, ``place`` its number there."""
    lists = table["defects"].combine_chunks()
    flat = lists.flatten()
    owner = pc.list_parent_indices(lists)
    columns = {name: pc.struct_field(flat, name) for name in ("instance", *_OF_DEFECTS)}
    columns["mechanism"] = pc.struct_field(flat, "mechanism").dictionary_encode()
    number = owner.to_numpy()
    first = np.searchsorted(number, number)
    return pa.table({**columns, "sample": owner, "place": np.arange(len(number)) - first})


def _array(column: pa.ChunkedArray) -> NDArray[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    return np.asarray(column.to_numpy())
