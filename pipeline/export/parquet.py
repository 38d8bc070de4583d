"""Parquet with pictures inside, as the Hugging Face ``datasets`` library and its viewer read it.

A picture is a PNG file in a struct of ``bytes`` and ``path``; the schema's metadata says under ``huggingface`` which
columns are pictures. Beside ``image``, ``mask`` and, where the corpus keeps them, ``instances`` there are ``split``,
``label`` (class of the first defect) and every column of the manifest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.corpus import Sample
from manifests.records import SampleRecord
from manifests.splits import DEFAULT_SHARES, Shares
from manifests.tables import arrow_schema
from pipeline.export.contract import Export, Fragment, FragmentOf, Part, samples_of
from pipeline.export.files import PartFiles
from pipeline.huggingface import PICTURE, features
from pipeline.png import png

__all__ = ["NORMALS", "SHARES", "write_index", "write_part"]

SHARES: Final[Shares] = DEFAULT_SHARES
NORMALS: Final = False
_ROWS_IN_A_GROUP = 64  # what a viewer has to fetch to show a row


def write_part(export: Export, part: Part, files: PartFiles) -> Fragment:
    """One Parquet file: ``data/<split>-<place>-of-<of>.parquet``."""
    keeps_instances = export.corpus.take(part.rows[:1])[0].keeps_instances
    schema = _schema(export.classes, keeps_instances=keeps_instances)
    name = f"data/{part.split}-{part.place:05d}-of-{part.of:05d}.parquet"
    with files.open(name) as stream, _writer(stream, schema) as writer:
        samples = samples_of(export, part)
        while rows := [_row(export, part, sample) for sample in islice(samples, _ROWS_IN_A_GROUP)]:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return {}


def _writer(stream: BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(stream, schema, compression="zstd", write_page_index=True, write_page_checksum=True)


def _row(export: Export, part: Part, sample: Sample) -> dict[str, Any]:
    record = sample.record
    pictures = {"image": sample.image, "mask": sample.mask}
    if sample.keeps_instances:
        pictures["instances"] = sample.instances
    return {
        **{name: {"bytes": png(pixels), "path": f"{record.id}.{name}.png"} for name, pixels in pictures.items()},
        "split": part.split,
        "label": export.classes.index(record.mechanism),
        **record.model_dump(mode="json"),
    }


def _schema(classes: Sequence[str], *, keeps_instances: bool) -> pa.Schema:
    pictures = [pa.field(name, PICTURE) for name in ("image", "mask", *["instances"] * keeps_instances)]
    ours = [*pictures, pa.field("split", pa.string()), pa.field("label", pa.int64())]
    schema = pa.schema([*ours, *arrow_schema(SampleRecord)])
    declared = features(schema) | {"label": {"names": list(classes), "_type": "ClassLabel"}}
    metadata = json.dumps({"info": {"features": declared}}, sort_keys=True)
    return schema.with_metadata({"huggingface": metadata})


def write_index(export: Export, parts: Sequence[Part], fragment_of: FragmentOf, files: PartFiles) -> None:
    """Nothing: the name of a file says its split."""
