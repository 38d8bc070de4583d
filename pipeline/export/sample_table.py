"""``samples.parquet``: for formats of loose files, the manifest row of every sample beside the paths of its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.export.contract import Export, Part
from pipeline.export.files import PartFiles

__all__ = ["SAMPLES", "write_samples"]

SAMPLES = "samples.parquet"


def write_samples(
    export: Export, parts: Sequence[Part], paths_of: Callable[[Part], Mapping[str, Sequence[str]]], files: PartFiles
) -> None:
    """Write the table, part by part.

    Parameters
    ----------
    export : Export
        The samples.
    parts : sequence of Part
        In order.
    paths_of : callable
        Of a part: columns of paths relative to the export, one a sample.
    files : PartFiles
        Where it is written.
    """
    with files.open(SAMPLES) as stream:
        writer: pq.ParquetWriter | None = None
        for part in parts:
            table = _rows(export, part, paths_of(part))
            if writer is None:
                writer = pq.ParquetWriter(stream, table.schema, compression="zstd", store_schema=False)
            writer.write_table(table)
        if writer is not None:
            writer.close()


def _rows(export: Export, part: Part, columns: Mapping[str, Sequence[str]]) -> pa.Table:
    added = {**columns, "split": [part.split] * len(part.rows)}
    table = export.corpus.take(part.rows).table
    for place, (name, values) in enumerate(added.items()):
        table = table.add_column(place, name, pa.array(values, pa.string()))
    return table
