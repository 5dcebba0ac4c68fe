"""Parquet files of a store: tables in and out, whole or in part, checked against their schema."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweeper.errors import StoreError, UserError, first_line
from sweeper.store.filesystem import Files
from sweeper.store.index import Piece, Span
from sweeper.store.object_stores import asked_again
from sweeper.store.schemas import conform

COMPRESSION = "zstd"


def write_table(files: Files, path: str, table: pa.Table) -> None:
    """Write a table as zstd Parquet, atomically.

    Raises:
        UserError: the file cannot be written.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=COMPRESSION)
    files.write(path, sink.getvalue())


@asked_again
def read_table(files: Files, path: str, schema: pa.Schema, rows: int | None = None) -> pa.Table:
    """Read the schema's columns of a Parquet file.

    Columns that came into the schema after the file was written are null, where it allows nulls;
    those that the schema has as dictionaries are read as such.

    Args:
        files: The store.
        path: Relative path of the file.
        schema: The columns to read; the file may hold more.
        rows: How many rows the file must hold; None takes any number.

    Raises:
        UserError: the file is missing, truncated or not what the schema and ``rows`` say.
    """
    with _opened(files, path, schema, rows) as parquet:
        table = parquet.read(columns=schema.names)
    return _conform(files, path, table, schema)


@asked_again
def read_piece(
    files: Files, piece: Piece, schema: pa.Schema, *, all_columns: bool = False
) -> pa.Table:
    """Read the schema's columns of the wanted rows of a file.

    Raises:
        UserError: as for ``read_table``, or with ``all_columns`` the schema lacks one of the file.
    """
    # The column to filter by is read even where it was not asked for.
    filtered = any(span.keys is not None for span in piece.spans)
    columns = list({*schema.names, "cell_key"}) if filtered else schema.names
    with _opened(files, piece.path, schema, piece.total) as parquet:
        unknown = sorted(set(parquet.schema_arrow.names) - set(schema.names))
        if all_columns and unknown:
            raise UserError(
                f"store: {files.layout.full(piece.path)} has the columns {unknown}, which this "
                "version does not know; use the one that wrote them"
            )
        first, groups = _row_groups(parquet, piece)
        table = parquet.read_row_groups(groups, columns=columns)
    table = pa.concat_tables(_wanted(table, span, first) for span in piece.spans)
    table = table.select([name for name in schema.names if name in table.column_names])
    return _conform(files, piece.path, table, schema)


@asked_again
def check_rows(files: Files, path: str, rows: int) -> None:
    """Make sure that a Parquet file is there with its rows; reads its footer only.

    Raises:
        UserError: it is not.
    """
    with _opened(files, path, pa.schema([]), rows):
        pass


@contextmanager
def _opened(
    files: Files, path: str, schema: pa.Schema, rows: int | None
) -> Iterator[pq.ParquetFile]:
    full = files.place(path)
    encoded = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    try:
        with (
            files.filesystem.open_input_file(full) as stream,
            pq.ParquetFile(stream, read_dictionary=encoded) as parquet,
        ):
            found = parquet.metadata.num_rows
            if rows is not None and found != rows:
                raise UserError(f"store: {full} holds {found} rows, its commit says {rows}")
            yield parquet
    except FileNotFoundError as error:
        raise UserError(f"store: {full} is missing") from error
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"store: cannot read {full}: {first_line(error)}") from error


def _row_groups(parquet: pq.ParquetFile, piece: Piece) -> tuple[int, list[int]]:
    """Row groups that hold the piece, and the place of the first one's first row."""
    begin, end = piece.spans[0].start, piece.spans[-1].stop
    groups: list[int] = []
    first = start = 0
    for group in range(parquet.metadata.num_row_groups):
        stop = start + parquet.metadata.row_group(group).num_rows
        if start < end and stop > begin:
            if not groups:
                first = start
            groups.append(group)
        start = stop
    return first, groups


def _wanted(table: pa.Table, span: Span, first: int) -> pa.Table:
    rows = table.slice(span.start - first, span.stop - span.start)
    if span.keys is None:
        return rows
    keys = rows["cell_key"]
    if pa.types.is_dictionary(keys.type):
        keys = keys.cast(pa.string())
    return rows.filter(pc.is_in(keys, pa.array(span.keys, pa.string())))


def _conform(files: Files, path: str, table: pa.Table, schema: pa.Schema) -> pa.Table:
    for column in schema:
        if column.nullable and column.name not in table.column_names:
            table = table.append_column(column, pa.nulls(len(table), column.type))
    try:
        return conform(path, table, schema)
    except ValueError as error:
        full = files.layout.full(path)
        raise UserError(f"store: {full} does not hold its table: {first_line(error)}") from error
