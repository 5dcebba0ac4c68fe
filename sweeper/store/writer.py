"""Writing results: data files first, then one marker that makes them count."""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from sweeper.layout import check_name
from sweeper.records import SCHEMA_VERSION, CellStatus
from sweeper.store.marker import Marker
from sweeper.store.opening import open_files
from sweeper.store.parquet import write_table
from sweeper.store.schemas import TABLES, conform


def new_attempt_name(unit_id: str) -> str:
    """Name one attempt at a unit: UTC time, unit, 48 random bits.

    Names sort by time and are unique across machines without any agreement between them.
    """
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    # Cut, because a name has at most 100 characters; the random part keeps it unique.
    return f"{now}-{check_name('unit', unit_id)[:60]}-{secrets.token_hex(6)}"


class Writer:
    """Commits results to an existing store; reads nothing but the store's version."""

    def __init__(self, uri: str) -> None:
        self._files = open_files(uri)

    def commit(
        self,
        attempt: str,
        unit: str,
        run: str,
        tables: Mapping[str, pa.Table],
        status: Mapping[str, CellStatus],
    ) -> None:
        """Write an attempt's tables, then the marker that shows them to readers.

        Args:
            attempt: A fresh name of ``new_attempt_name``.
            unit: The unit that was attempted.
            run: The run that it was attempted for.
            tables: Table name -> rows, without the column ``attempt``.
            status: Status of every cell of the attempt.

        Raises:
            ValueError: the attempt is committed already, a table does not fit its schema, or a
                row belongs to no cell of ``status`` (to no done cell, outside of ``cells``).
            UserError: the store cannot be written.
        """
        layout = self._files.layout
        if not status:
            raise ValueError(f"attempt {attempt!r} commits no cell")
        if self._files.exists(layout.marker(attempt)):
            raise ValueError(f"attempt {attempt!r} is committed already")
        checked = {name: _check(name, table, attempt, status) for name, table in tables.items()}
        filled = {name: table for name, table in checked.items() if table.num_rows}
        for name, table in filled.items():
            write_table(self._files, layout.data_file(name, attempt), table)
        marker = Marker(
            attempt=attempt,
            unit=unit,
            run=run,
            schema_version=SCHEMA_VERSION,
            committed_at=datetime.now(UTC),
            cells=dict(status),
            files={name: table.num_rows for name, table in filled.items()},
        )
        self._files.write(layout.marker(attempt), marker.model_dump_json().encode())


def _check(name: str, table: pa.Table, attempt: str, status: Mapping[str, CellStatus]) -> pa.Table:
    if name not in TABLES:
        raise ValueError(f"unknown table {name!r}; there are {sorted(TABLES)}")
    if "attempt" in table.column_names:
        raise ValueError(f"table {name!r}: the column 'attempt' is the writer's to fill")
    column = pa.repeat(pa.scalar(attempt, pa.string()), table.num_rows)
    table = conform(name, table.append_column("attempt", column), TABLES[name])
    # A failed cell has a row that tells the error, but no results that could be taken for any.
    allowed = {key for key, state in status.items() if name == "cells" or state == "done"}
    stray = set(pc.unique(table["cell_key"]).to_pylist()) - allowed
    if stray:
        raise ValueError(f"table {name!r} has rows of cells that are not done: {sorted(stray)}")
    return table
