"""Records as Arrow tables and Parquet files: one column a field, the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Generic, Literal, TypeVar, get_args, get_origin, overload

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from manifests.durable import write_atomic, written_whole
from manifests.errors import CorpusError
from manifests.object_store import Place

__all__ = [
    "Rows",
    "TableWriter",
    "arrow_schema",
    "arrow_type",
    "completed",
    "from_table",
    "parse_table",
    "read_or_refuse",
    "read_table",
    "to_table",
    "write_table",
    "written_table",
]

RecordT = TypeVar("RecordT", bound=BaseModel)
_AT_ONCE = 1024  # records that are objects at a time, where a table is gone through
_GROUP_ROWS = 8192  # of a table that is written piece by piece


def arrow_schema(model: type[BaseModel]) -> pa.Schema:
    """Arrow schema of a record: int64, float64, bool, string (closed vocabularies too), lists of float64 or records."""
    return pa.schema(_arrow_fields(model))


def _arrow_fields(model: type[BaseModel]) -> list[pa.Field]:
    return [pa.field(name, arrow_type(info.annotation), nullable=False) for name, info in model.model_fields.items()]


def arrow_type(annotation: object) -> pa.DataType:
    """Arrow type of one column.

    Raises
    ------
    TypeError
        There is none for it.
    """
    plain = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
    if isinstance(annotation, type) and annotation in plain:
        return plain[annotation]
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return pa.string()
    if get_origin(annotation) is Literal and all(isinstance(value, str) for value in get_args(annotation)):
        return pa.string()
    if get_origin(annotation) is tuple and get_args(annotation)[1:] == (...,):
        item = get_args(annotation)[0]
        if item is float:
            return pa.list_(pa.float64())
        if isinstance(item, type) and issubclass(item, BaseModel):
            return pa.list_(pa.struct(_arrow_fields(item)))
    raise TypeError(f"no Arrow type for {annotation!r}: add one here")


def to_table(rows: Sequence[RecordT], model: type[RecordT]) -> pa.Table:
    """Records as a table, in the order given."""
    return pa.Table.from_pylist([row.model_dump(mode="json") for row in rows], schema=arrow_schema(model))


def completed(table: pa.Table, model: type[BaseModel]) -> pa.Table:
    """The table, with the columns that its corpus is too old to have; each with its default."""
    for name, info in model.model_fields.items():
        if name not in table.column_names and _is_added(info):
            values = pa.array([info.default] * len(table), arrow_type(info.annotation))
            table = table.append_column(pa.field(name, values.type, nullable=False), values)
    return table


def _is_added(info: FieldInfo) -> bool:
    return isinstance(info.json_schema_extra, dict) and bool(info.json_schema_extra.get("added"))


def from_table(table: pa.Table, model: type[RecordT]) -> list[RecordT]:
    """Records of a table.

    Raises
    ------
    CorpusError
        A column is missing, unknown, or holds a value that is not allowed.
    """
    try:
        table = completed(table, model)
        _check_columns(table.column_names, model)
        return [model.model_validate(row) for row in table.to_pylist()]
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise CorpusError(f"table of {model.__name__}: column {where}: {problem['msg']}") from None
    except UnicodeDecodeError as error:  # Parquet has no checksum, and Arrow looks at text when it is asked for
        raise CorpusError(f"table of {model.__name__}: a text is damaged ({error}); run generate again") from None


def _check_columns(names: list[str], model: type[BaseModel]) -> None:
    """Each field is a column, though it have a default and the table no row."""
    wanted = list(model.model_fields)
    if sorted(names) != sorted(wanted):
        odd = sorted(set(names) ^ set(wanted))
        what = (
            f"column {odd[0]} is {'missing' if odd[0] in wanted else 'unknown'}" if odd else "a column is there twice"
        )
        raise CorpusError(f"table of {model.__name__}: {what}; expected {', '.join(wanted)}")


class Rows(Sequence[RecordT], Generic[RecordT]):
    """Records in a table, which takes a fraction of their memory; each becomes an object when it is asked for.

    To another process they travel as the table does, and no more of it than they are.

    Parameters
    ----------
    table : pyarrow.Table
        As `to_table` makes it.
    model : type
        Of the records.

    Raises
    ------
    CorpusError
        On looking at a record: it holds a value that is not allowed.
    """

    def __init__(self, table: pa.Table, model: type[RecordT]) -> None:
        self.table = table
        self._model = model

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> RecordT: ...

    @overload
    def __getitem__(self, index: slice) -> Rows[RecordT]: ...

    def __getitem__(self, index: int | slice) -> RecordT | Rows[RecordT]:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError(f"a step of {step}: expected 1")
            return Rows(self.table.slice(start, max(0, stop - start)), self._model)
        start = range(len(self))[index]
        return from_table(self.table.slice(start, 1), self._model)[0]

    def __iter__(self) -> Iterator[RecordT]:
        for start in range(0, len(self), _AT_ONCE):
            yield from from_table(self.table.slice(start, _AT_ONCE), self._model)

    def __eq__(self, other: object) -> bool:
        return self.table.equals(other.table) if isinstance(other, Rows) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as a list

    def __reduce__(self) -> tuple[Any, ...]:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as stream:
            stream.write_table(self.table)
        return _received, (sink.getvalue().to_pybytes(), self._model)

    def column(self, name: str) -> list[Any]:
        """One field of all records."""
        return list(self.table[name].to_pylist())

    def validate(self) -> None:
        """Make every record once.

        Raises
        ------
        CorpusError
            A column is missing, unknown, or holds a value that is not allowed.
        """
        from_table(self.table.slice(0, 0), self._model)
        for _ in self:
            pass


def _received(data: bytes, model: type[RecordT]) -> Rows[RecordT]:
    return Rows(pa.ipc.open_stream(data).read_all(), model)


def write_table(path: Path, table: pa.Table) -> None:
    """Write Parquet, zstd-compressed, whole or not at all.

    Raises
    ------
    OSError
        The system refused.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", store_schema=False)
    write_atomic(path, sink.getvalue().to_pybytes())


class TableWriter:
    """Rows of a Parquet file, written as they come in row groups of one size, whatever the pieces they came in.

    Parameters
    ----------
    stream : binary file
        Open for writing.
    schema : pyarrow.Schema
        Of every piece.
    """

    def __init__(self, stream: BinaryIO, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(stream, schema, compression="zstd", store_schema=False)
        self._waiting = schema.empty_table()
        self._written = False

    def add(self, table: pa.Table) -> pa.Table:
        """Append rows, and hand them back."""
        self._waiting = pa.concat_tables([self._waiting, table])
        while len(self._waiting) > _GROUP_ROWS:
            self._write(self._waiting.slice(0, _GROUP_ROWS))
            self._waiting = self._waiting.slice(_GROUP_ROWS)
        return table

    def close(self) -> None:
        """Write what is left, and the file's end."""
        if len(self._waiting) or not self._written:
            self._write(self._waiting)
        self._writer.close()

    def _write(self, table: pa.Table) -> None:
        self._writer.write_table(table.combine_chunks())
        self._written = True


@contextmanager
def written_table(path: Path, model: type[BaseModel]) -> Iterator[TableWriter]:
    """A table to write piece by piece, as `write_table` writes it: it appears when the block ends without an error.

    Raises
    ------
    OSError
        The system refused; no temporary file is left behind.
    """
    with written_whole(path) as stream, closing(TableWriter(stream, arrow_schema(model))) as writer:
        yield writer


def read_table(path: Place) -> pa.Table:
    """Read Parquet.

    Raises
    ------
    CorpusError
        The file is missing or not whole.
    """
    return parse_table(path, read_or_refuse(path))


def read_or_refuse(path: Place) -> bytes:
    """The bytes of a table's file.

    Raises
    ------
    CorpusError
        The file is missing, or the system refuses.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def parse_table(path: Place, data: bytes) -> pa.Table:
    """The table in bytes that were read from ``path``.

    Raises
    ------
    CorpusError
        They are not whole.
    """
    try:
        return pq.read_table(pa.BufferReader(data))
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Place, error: Exception) -> CorpusError:
    return CorpusError(f"{path}: cannot be read ({str(error).splitlines()[0]}); run generate again")
