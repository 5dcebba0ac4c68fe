"""SQL over the committed rows of a store, through DuckDB."""

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from sweeper.errors import UserError
from sweeper.store.filesystem import Files, one_line
from sweeper.store.index import Index
from sweeper.store.schemas import TABLES

# A query sees the store alone: nothing is fetched, and no Python variable of ours is a table.
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "python_enable_replacements": "false",
    "TimeZone": "UTC",
}


def run_query(files: Files, index: Index, query: str) -> pd.DataFrame:
    """Answer a query over views of all tables.

    Raises:
        UserError: the query is wrong, or a file is missing or damaged.
    """
    with duckdb.connect(config=_CONFIG) as connection:
        pairs = list(index.winners.items())
        winners = {"cell_key": [key for key, _ in pairs], "attempt": [name for _, name in pairs]}
        schema = pa.schema([("cell_key", pa.string()), ("attempt", pa.string())])
        connection.register("_winners", pa.table(winners, schema=schema))
        for name in TABLES:
            _add_view(connection, files, index, name)
        try:
            # By way of Arrow: DuckDB's own way to pandas warns of deprecated calls.
            answer = connection.sql(query)
            if answer is None:
                raise UserError("sql: the query gives no rows; write a SELECT")
            frame: pd.DataFrame = answer.to_arrow_table().to_pandas()
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise UserError(f"sql: {one_line(error)}") from error
    return frame


def _add_view(connection: duckdb.DuckDBPyConnection, files: Files, index: Index, name: str) -> None:
    paths = [files.layout.data_file(name, attempt) for attempt in index.attempts(name, None)]
    # Not ds.dataset(), which passes over missing objects in silence.
    rows = ds.FileSystemDataset.from_paths(
        [files.layout.full(path) for path in paths],
        schema=TABLES[name],
        format=ds.ParquetFileFormat(),
        filesystem=files.filesystem,
    )
    connection.register(f"_{name}", rows)
    # A file may hold cells that another attempt has won.
    connection.execute(
        f"CREATE VIEW {name} AS SELECT * FROM _{name} SEMI JOIN _winners USING (cell_key, attempt)"
    )
