"""SQL over the committed rows of a store, through DuckDB."""

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from sweeper.errors import UserError, first_line
from sweeper.store.filesystem import Files
from sweeper.store.index import Index
from sweeper.store.object_stores import asked_again
from sweeper.store.schemas import TABLES

# A query sees the store alone: nothing is fetched, and no Python variable of ours is a table.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "enable_external_access": "false",
    "lock_configuration": "true",
    "python_enable_replacements": "false",
    "TimeZone": "UTC",
}


_FILE = "_file"
_WINNERS = pa.schema([("cell_key", pa.string()), ("attempt", pa.string()), (_FILE, pa.int32())])


@asked_again
def run_query(files: Files, index: Index, query: str) -> pd.DataFrame:
    """Answer a query over views of all tables.

    Raises:
        UserError: the query is wrong, or a file is missing or damaged.
    """
    with duckdb.connect(config=_CONFIG) as connection:
        numbers = _number(index)
        winners = {
            "cell_key": list(index.winners),
            "attempt": list(index.winners.values()),
            _FILE: [numbers[index.file_of(attempt)] for attempt in index.winners.values()],
        }
        connection.register("_winners", pa.table(winners, schema=_WINNERS))
        for name in TABLES:
            _add_view(connection, files, index, name, numbers)
        try:
            # By way of Arrow: DuckDB's own way to pandas warns of deprecated calls.
            answer = connection.sql(query)
            if answer is None:
                raise UserError("sql: the query gives no rows; write a SELECT")
            frame: pd.DataFrame = answer.to_arrow_table().to_pandas()
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise UserError(f"sql: {first_line(error)}") from error
    return frame


def _number(index: Index) -> dict[str, int]:
    """Files that rows of winners are read from, numbered."""
    names = {index.file_of(attempt) for attempt in index.winners.values()}
    return {name: number for number, name in enumerate(sorted(names))}


def _add_view(
    connection: duckdb.DuckDBPyConnection,
    files: Files,
    index: Index,
    name: str,
    numbers: dict[str, int],
) -> None:
    found = sorted({index.file_of(attempt) for attempt in index.attempts(name, None)})
    paths = [files.layout.full(files.layout.data_file(name, file)) for file in found]
    # Not ds.dataset(), which passes over missing objects in silence.
    rows = ds.FileSystemDataset.from_paths(
        paths,
        schema=TABLES[name].append(pa.field(_FILE, pa.int32())),
        format=ds.ParquetFileFormat(),
        filesystem=files.filesystem,
        partitions=[ds.field(_FILE) == pa.scalar(numbers[file], pa.int32()) for file in found],
    )
    connection.register(f"_{name}", rows)
    # A file may hold cells that another attempt has won, and two packs the same attempt.
    connection.execute(
        f"CREATE VIEW {name} AS SELECT * EXCLUDE ({_FILE}) FROM _{name} "
        f"SEMI JOIN _winners USING (cell_key, attempt, {_FILE})"
    )
