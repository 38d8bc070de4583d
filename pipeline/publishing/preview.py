"""The preview: thumbnails of all accepted samples in Parquet, as viewers of data repositories show them.

One row a sample: picture, mask and photograph, each at most `THUMB_PX` a side, with the sample's plain columns and its
split. Pictures are structs of encoded bytes and a name, the Image feature of Hugging Face datasets, as the files' own
metadata declare. A mask's pixel is white where any of the pixels it stands for is.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from manifests.corpus import Corpus, Picture, Sample
from manifests.durable import written_whole
from manifests.pictures import eight_bits
from manifests.records import SampleRecord
from manifests.tables import arrow_schema
from pipeline.huggingface import PICTURE, features

__all__ = ["PICTURES", "PREVIEW", "THUMB_PX", "plain_columns", "preview_files", "write_preview"]

PREVIEW = "preview"
THUMB_PX = 160
PICTURES = {
    "image": "the picture with its defects, reduced; JPEG",
    "mask": "255 where any pixel that this one stands for is labelled a defect, else 0; PNG",
    "normal": "the normal photograph that the picture was made from, reduced; JPEG",
}
_ROWS_PER_FILE = 4096
_ROWS_PER_GROUP = 128  # what is held in memory at once, and what a viewer reads at once
_JPEG_QUALITY = 92


def plain_columns() -> list[pa.Field]:
    """Columns of the manifest that are single values."""
    return [field for field in arrow_schema(SampleRecord) if not pa.types.is_nested(field.type)]


def preview_files(samples: Mapping[str, int]) -> dict[str, list[str]]:
    """Files of each split that has samples, relative to the publication."""
    found = {}
    for split, number in samples.items():
        parts = -(-number // _ROWS_PER_FILE)
        names = [f"{PREVIEW}/{split}-{k:05d}-of-{parts:05d}.parquet" for k in range(parts)]
        if names:
            found[split] = names
    return found


def write_preview(
    dest: Path, corpus: Corpus, groups: Mapping[str, Sequence[int]], *, advance: Callable[[int, int], None]
) -> None:
    """Write the thumbnails of a corpus, by split; files that are there already are kept.

    Parameters
    ----------
    dest : Path
        The publication.
    corpus : Corpus
        Its accepted samples.
    groups : mapping of str to sequence of int
        The groups of each split.
    advance : callable
        Told (samples done, of how many).
    """
    schema = _schema()
    done = 0
    for split, members in groups.items():
        part = corpus.where(group=list(members))
        for number, name in enumerate(preview_files({split: len(part)}).get(split, [])):
            rows = part[number * _ROWS_PER_FILE : (number + 1) * _ROWS_PER_FILE]
            if not (dest / name).is_file():
                (dest / PREVIEW).mkdir(parents=True, exist_ok=True)
                with written_whole(dest / name) as stream, _writer(stream, schema) as writer:
                    writer.add_key_value_metadata({"huggingface": json.dumps({"info": {"features": features(schema)}})})
                    for number_in_file, batch in enumerate(_batches(rows, split, schema)):
                        writer.write_batch(batch)
                        advance(done + number_in_file * _ROWS_PER_GROUP + len(batch), len(corpus))
            done += len(rows)
            advance(done, len(corpus))


def _writer(stream: Any, schema: pa.Schema) -> pq.ParquetWriter:
    # JPEG and PNG bytes do not shrink further; the plain columns do
    return pq.ParquetWriter(stream, schema, compression="zstd", store_schema=False, write_page_index=True)


def _schema() -> pa.Schema:
    columns = [pa.field(name, PICTURE) for name in PICTURES]
    return pa.schema([*columns, pa.field("split", pa.string(), nullable=False), *plain_columns()])


def _batches(rows: Corpus, split: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(rows), _ROWS_PER_GROUP):
        few = rows[start : start + _ROWS_PER_GROUP]
        found = [_row(sample, split) for _, samples in few.iter_shards() for sample in samples]
        yield pa.RecordBatch.from_pylist(found, schema=schema)


def _row(sample: Sample, split: str) -> dict[str, object]:
    record = sample.record
    plain = record.model_dump(mode="json", include={field.name for field in plain_columns()})
    pictures = {
        "image": {"bytes": _jpeg(sample.image), "path": f"{record.id}.jpg"},
        "mask": {"bytes": _mask_png(sample.mask), "path": f"{record.id}-mask.png"},
        "normal": {"bytes": _jpeg(sample.source), "path": f"{record.id}-normal.jpg"},
    }
    return {**pictures, "split": split, **plain}


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    height, width = shape[:2]
    shrink = min(1.0, THUMB_PX / max(height, width))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def _jpeg(picture: Picture) -> bytes:
    pixels = eight_bits(picture)
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if _size(pixels.shape) != image.size:
        image = image.resize(_size(pixels.shape), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return sink.getvalue()


def _mask_png(mask: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(mask.astype(np.float32))
    if _size(mask.shape) != image.size:
        image = image.resize(_size(mask.shape), Image.Resampling.BOX)
    sink = io.BytesIO()
    Image.fromarray(np.where(np.asarray(image) > 0, 255, 0).astype(np.uint8)).save(sink, "PNG")
    return sink.getvalue()
