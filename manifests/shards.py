"""Rows of a shard read straight from its file, only the bytes of those that are asked for; and a shard's bytes.

A shard is a file of zstd frames, one a row, with an index of (offset, length) pairs at its end that a CRC-32C closes;
see "sharding" in the Zarr specification, and docs/format.md. Reading or writing one row through Zarr costs an event
loop and the index each time, which is several times what coding it takes. Every frame carries a checksum of its
content, so a flipped bit in it is an error, as one in the index is.

No thread and no open file outlives a call: forked and spawned processes read alike.
"""

from __future__ import annotations

import importlib.util
import math
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

__all__ = ["ShardLayout", "encode_shard", "layout_of", "read_shard_rows", "threads_are_safe"]

_PAIR_BYTES, _CRC_BYTES = 16, 4
_DTYPES = frozenset({"uint8", "uint16", "float16", "float32", "float64"})
_ABSENT = 2**64 - 1  # offset and length of a row that was never written
_IMPORTED_BY = os.getpid()  # a child of os.fork() inherits it, and has another number
_INDEX_CODECS = ({"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"})


@dataclass(frozen=True)
class ShardLayout:
    """``rows`` of a shard, each of this shape and type, and how hard zstd tries."""

    rows: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    zstd_level: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row when decoded."""
        return math.prod(self.shape) * self.dtype.itemsize


def layout_of(metadata: Mapping[str, Any]) -> ShardLayout | None:
    """Layout of the shards of an array from its zarr.json; None if it is not the one that is read and written here."""
    outer = metadata.get("chunk_grid", {}).get("configuration", {}).get("chunk_shape", [])
    codecs, shape, dtype = metadata.get("codecs", []), metadata.get("shape", []), metadata.get("data_type")
    if not outer or [codec.get("name") for codec in codecs] != ["sharding_indexed"]:
        return None
    inner = codecs[0]["configuration"]
    packed = inner.get("codecs", [])
    plain = (
        [codec.get("name") for codec in packed] == ["bytes", "zstd"]
        and packed[0].get("configuration", {}).get("endian", "little") == "little"
        and bool(packed[1].get("configuration", {}).get("checksum"))
        and tuple(inner.get("index_codecs", ())) == _INDEX_CODECS
        and inner.get("index_location", "end") == "end"
        and [1, *shape[1:]] == list(inner.get("chunk_shape", ()))
        and list(outer[1:]) == list(shape[1:])
        and dtype in _DTYPES
    )
    if not plain:
        return None
    level = int(packed[1]["configuration"].get("level", 0))  # what zstd takes for its own default
    return ShardLayout(int(outer[0]), tuple(shape[1:]), np.dtype(dtype).newbyteorder("<"), level)


def encode_shard(layout: ShardLayout, values: NDArray[Any]) -> bytes:
    """The file of a shard, byte for byte as Zarr writes it.

    Parameters
    ----------
    layout : ShardLayout
        Of the array.
    values : (R, ...) array
        Its first rows, of the layout's shape and type; rows that are left over hold zeros.

    Raises
    ------
    ValueError
        There are more rows than the shard holds.
    """
    if len(values) > layout.rows:
        raise ValueError(f"a shard holds {layout.rows} rows, got {len(values)}")
    codec = Zstd(level=layout.zstd_level, checksum=True)
    frames = [codec.encode(row) for row in np.ascontiguousarray(values, dtype=layout.dtype)]
    left_over = layout.rows - len(frames)
    if left_over:
        frames += [codec.encode(np.zeros(layout.shape, layout.dtype))] * left_over
    lengths = np.array([len(frame) for frame in frames], dtype="<u8")
    index = np.stack([np.cumsum(lengths) - lengths, lengths], axis=1).astype("<u8").tobytes()
    return b"".join([*frames, index, google_crc32c.value(index).to_bytes(_CRC_BYTES, "little")])


def read_shard_rows(path: Path, layout: ShardLayout, rows: Sequence[int], out: NDArray[Any]) -> None:
    """Read rows of one shard into ``out`` (R, ...), in the order asked for.

    Parameters
    ----------
    path : Path
        The shard's file.
    layout : ShardLayout
        As `layout_of` found it.
    rows : sequence of int
        Rows within the shard.
    out : (R, ...) array
        Of the layout's shape and type.

    Raises
    ------
    ValueError
        The index or a frame is damaged, or a row was never written.
    OSError
        The system refused.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        about = os.fstat(descriptor)
        index = _index_as_of(path, about.st_ino, about.st_mtime_ns, about.st_size, layout.rows)
        for row, target in zip(rows, out, strict=True):
            offset, length = index[row].tolist()
            if offset == _ABSENT:
                raise ValueError(f"row {row} of the shard was never written")
            if offset + length > about.st_size:
                raise ValueError(f"row {row} of the shard lies beyond its end")
            _decode(os.pread(descriptor, length, offset), layout, target)
    finally:
        os.close(descriptor)


def _decode(frame: bytes, layout: ShardLayout, target: NDArray[Any]) -> None:
    decoded = pa.Codec("zstd").decompress(frame, decompressed_size=layout.row_bytes)
    values = np.frombuffer(decoded, dtype=layout.dtype)
    if values.nbytes != layout.row_bytes:
        raise ValueError(f"a row decodes to {values.nbytes} bytes, expected {layout.row_bytes}")
    target[...] = values.reshape(layout.shape)


@lru_cache(maxsize=4096)
def _index_as_of(path: Path, inode: int, changed_ns: int, size: int, rows: int) -> NDArray[np.uint64]:
    """Offset and length of each row, (R, 2); read once, and again when the file was made anew."""
    tail = rows * _PAIR_BYTES + _CRC_BYTES
    if size < tail:
        raise ValueError(f"the file is shorter than its index of {tail} bytes")
    with path.open("rb") as stream:
        stream.seek(size - tail)
        raw = stream.read(tail)
    pairs, crc = raw[:-_CRC_BYTES], int.from_bytes(raw[-_CRC_BYTES:], "little")
    if google_crc32c.value(pairs) != crc:
        raise ValueError("the index at the end of the shard does not fit its checksum")
    return np.frombuffer(pairs, "<u8").reshape(-1, 2)


@cache
def _zarrs_is_installed() -> bool:
    return importlib.util.find_spec("zarrs") is not None


def threads_are_safe() -> bool:
    """Whether long runs may be read through the library `zarrs`, which decodes on threads of its own.

    Not in a child process: a forked one inherits the threads' locks without the threads and would wait for ever, and
    a loader's workers are as many as the machine has cores already.
    """
    return _zarrs_is_installed() and multiprocessing.parent_process() is None and os.getpid() == _IMPORTED_BY
