"""Parquet files of a store: whole tables in and out, checked against their schema."""

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweeper.errors import UserError
from sweeper.store.filesystem import Files, one_line
from sweeper.store.schemas import conform


def write_table(files: Files, path: str, table: pa.Table) -> None:
    """Write a table as zstd Parquet, atomically.

    Raises:
        UserError: the file cannot be written.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    files.write(path, sink.getvalue())


def read_table(
    files: Files,
    path: str,
    schema: pa.Schema,
    rows: int | None = None,
    keys: Collection[str] | None = None,
) -> pa.Table:
    """Read the schema's columns of a Parquet file.

    Columns that came into the schema after the file was written are null, where it allows nulls.

    Args:
        files: The store.
        path: Relative path of the file.
        schema: The columns to read; the file may hold more.
        rows: How many rows the file must hold; None takes any number.
        keys: Give only rows of these cells; None gives all.

    Raises:
        UserError: the file is missing, truncated or not what the schema and ``rows`` say.
    """
    full = files.layout.full(path)
    # The column to filter by is read even where it was not asked for.
    needed = schema.names if keys is None else list({*schema.names, "cell_key"})
    try:
        with files.filesystem.open_input_file(full) as stream, pq.ParquetFile(stream) as parquet:
            found = parquet.metadata.num_rows
            table = parquet.read(columns=needed)
    except FileNotFoundError as error:
        raise UserError(f"store: {full} is missing") from error
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"store: cannot read {full}: {one_line(error)}") from error
    if rows is not None and found != rows:
        raise UserError(f"store: {full} holds {found} rows, its commit says {rows}")
    if keys is not None:
        table = table.filter(pc.is_in(table["cell_key"], pa.array(keys, pa.string())))
        table = table.select([name for name in schema.names if name in table.column_names])
    for column in schema:
        if column.nullable and column.name not in table.column_names:
            table = table.append_column(column, pa.nulls(len(table), column.type))
    try:
        return conform(path, table, schema)
    except ValueError as error:
        raise UserError(f"store: {full} does not hold its table: {one_line(error)}") from error
