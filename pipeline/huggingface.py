"""Columns of a Parquet file as Hugging Face ``datasets`` declare them, in the file's metadata under ``huggingface``.

References
----------
Hugging Face, "datasets": Features, Value, Image and ClassLabel.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

__all__ = ["PICTURE", "features"]

PICTURE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])  # an encoded picture and its name


def features(schema: pa.Schema) -> dict[str, Any]:
    """Feature of every column by name; a `PICTURE` is an Image."""
    return {field.name: _feature(field.type) for field in schema}


def _feature(kind: pa.DataType) -> object:
    """A type as ``datasets`` writes it down; a list of structs in the way that all its releases read."""
    if kind == PICTURE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return [_feature(kind.value_type)]
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}
