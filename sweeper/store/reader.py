"""Reading a store: committed rows only, every cell from exactly one attempt."""

import threading
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from functools import cached_property

import pandas as pd
import pyarrow as pa

from sweeper.errors import UserError
from sweeper.store.index import NUM_THREADS, Index, Piece
from sweeper.store.marker import Marker, VanishedError, read_marker
from sweeper.store.opening import open_files
from sweeper.store.parquet import read_piece, read_table
from sweeper.store.query import run_query
from sweeper.store.schemas import TABLES
from sweeper.store.writer import Writer

ROWS_AHEAD = 4_000_000
"""Rows that ``stream`` reads before they are asked for."""
ENCODED = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A cell that has failed in every attempt so far."""

    attempt: str
    unit: str
    run: str
    failed_at: datetime
    num_attempts: int
    error_type: str | None
    error_text: str | None


class Store:
    """A store as of the last ``refresh`` (opening does the first one).

    Rows of attempts without a commit marker (killed workers) never show. Of several attempts
    at a cell one wins: done beats failed, then the earliest commit, then the attempt's name.

    Raises:
        UserError: no store there and ``create`` is not set, a store of another schema version,
            no access, or a corrupt commit marker.
    """

    def __init__(self, uri: str, create: bool = False) -> None:
        self.files = open_files(uri, create)
        self.uri = self.files.uri
        """Address of the store that holds in any working folder."""
        self.layout = self.files.layout
        self._index = Index(self.files)
        self._lock = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """See what was committed since; reads only the markers that are new."""
        self._index.refresh()

    @cached_property
    def writer(self) -> Writer:
        """A writer into this store; what it commits shows after the next ``refresh``."""
        return Writer(self.uri)

    def done_keys(self) -> set[str]:
        """Keys of the cells that are done."""
        return {key for key, attempt in self._index.winners.items() if self._done(key, attempt)}

    def keys_with(self, table: str) -> set[str]:
        """Keys of the cells that are done and whose attempt wrote rows into a table."""
        markers = self._index.markers
        return {key for key in self.done_keys() if table in markers[self.attempt_of(key)].files}

    def attempt_of(self, key: str) -> str:
        """The attempt whose rows count for a cell.

        Raises:
            KeyError: nothing was committed for the cell.
        """
        return self._index.winners[key]

    def failed(self) -> dict[str, Failure]:
        """Cells whose only commits are failures, by key; errors come from the table ``cells``."""
        winners = self._index.winners
        failed = {key: name for key, name in winners.items() if not self._done(key, name)}
        counts = Counter(key for marker in self._index.markers.values() for key in marker.cells)
        columns = ("cell_key", "error_type", "error_text")
        errors = {row["cell_key"]: row for row in self.table("cells", failed, columns).to_pylist()}
        return {
            key: self._failure(attempt, counts[key], errors.get(key, {}))
            for key, attempt in failed.items()
        }

    def table(
        self,
        name: str,
        keys: Iterable[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Committed rows of a table; opens only files that can hold a wanted cell.

        Args:
            name: One of ``schemas.TABLES``.
            keys: Cell keys; None gives all cells. Keys without a commit give no rows.
            columns: Columns in the wanted order; None gives all.

        Raises:
            UserError: unknown table or column, or a file that is missing or damaged.
        """
        schema = _pick(name, columns)
        pieces = self._index.pieces(name, None if keys is None else set(keys))
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            parts = list(pool.map(lambda piece: self._read(name, piece, schema), pieces))
        return pa.concat_tables([schema.empty_table(), *parts])

    def stream(
        self,
        name: str,
        keys: Iterable[str] | None = None,
        columns: Sequence[str] | None = None,
        encoded: Collection[str] = (),
    ) -> Iterator[pa.Table]:
        """Committed rows of a table, piece by piece: all of a cell's rows are in one piece.

        A few pieces are read ahead, at most ``ROWS_AHEAD`` rows, or one piece if that has more.

        Args:
            name: as for ``table``, as are ``keys`` and ``columns``.
            keys: see there.
            columns: see there.
            encoded: columns of text to be had as Arrow dictionaries.

        Raises:
            UserError: as for ``table``.
        """
        schema = _encode(_pick(name, columns), encoded)
        ahead: deque[tuple[int, Future[pa.Table]]] = deque()
        rows = 0
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            for piece in self._index.pieces(name, None if keys is None else set(keys)):
                while ahead and rows + piece.num_rows > ROWS_AHEAD:
                    rows -= ahead[0][0]
                    yield ahead.popleft()[1].result()
                ahead.append((piece.num_rows, pool.submit(self._read, name, piece, schema)))
                rows += piece.num_rows
            while ahead:
                yield ahead.popleft()[1].result()

    def sql(self, query: str) -> pd.DataFrame:
        """Answer a DuckDB query; every table of ``schemas.TABLES`` is a view under its name.

        Raises:
            UserError: the query is wrong, or a file is missing or damaged.
        """
        while True:
            files = dict(self._index.packed)
            try:
                return run_query(self.files, self._index, query)
            except UserError:
                self.refresh()
                if files == self._index.packed:
                    raise

    def _done(self, key: str, attempt: str) -> bool:
        return self._index.markers[attempt].cells[key] == "done"

    def _failure(self, attempt: str, count: int, error: dict[str, str | None]) -> Failure:
        marker = self._index.markers[attempt]
        return Failure(
            attempt=attempt,
            unit=marker.unit,
            run=marker.run,
            failed_at=marker.committed_at,
            num_attempts=count,
            error_type=error.get("error_type"),
            error_text=error.get("error_text"),
        )

    def _read(self, name: str, piece: Piece, schema: pa.Schema) -> pa.Table:
        """Read a piece; where it has moved into a pack meanwhile, from there."""
        try:
            return read_piece(self.files, piece, schema)
        except UserError:
            moved = self._moved(name, piece)
            if moved is None:
                raise
        return pa.concat_tables(self._read(name, part, schema) for part in moved)

    def _moved(self, name: str, piece: Piece) -> list[Piece] | None:
        with self._lock:
            self.refresh()
            if not piece.needed.keys() <= self._index.markers.keys():
                return None
            pieces = self._index.locate(name, piece.needed)
        return None if {part.path for part in pieces} == {piece.path} else pieces


def read_attempt(uri: str, table: str, attempt: str) -> pa.Table:
    """Rows that one committed attempt wrote into a table.

    Reads no other marker, unless the attempt has moved into a pack.

    Raises:
        UserError: no store there, the attempt is not committed or wrote no such rows, or a file
            is damaged.
    """
    schema = _pick(table, None)
    files = open_files(uri)
    try:
        rows = _rows_of(read_marker(files, attempt), table)
        return read_table(files, files.layout.data_file(table, attempt), schema, rows=rows)
    except UserError as error:
        index = Index(files)
        index.refresh()
        if attempt not in index.packed:
            if isinstance(error, VanishedError):
                raise UserError(
                    f"store: attempt {attempt!r} is not committed in {files.uri!r}"
                ) from error
            raise
    _rows_of(index.markers[attempt], table)
    (piece,) = index.locate(table, {attempt: None})
    return read_piece(files, piece, schema)


def _rows_of(marker: Marker, table: str) -> int:
    rows = marker.files.get(table)
    if rows is None:
        raise UserError(f"store: attempt {marker.attempt!r} wrote no rows into {table!r}")
    return rows


def _pick(name: str, columns: Sequence[str] | None) -> pa.Schema:
    if name not in TABLES:
        raise _unknown("table", name, list(TABLES))
    schema = TABLES[name]
    for column in columns or ():
        if column not in schema.names:
            raise _unknown(f"column of {name}", column, schema.names)
    return schema if columns is None else pa.schema([schema.field(column) for column in columns])


def _encode(schema: pa.Schema, names: Collection[str]) -> pa.Schema:
    return pa.schema(
        [field.with_type(ENCODED) if field.name in names else field for field in schema]
    )


def _unknown(kind: str, name: str, allowed: Sequence[str]) -> UserError:
    near = get_close_matches(name, allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UserError(f"{kind}: {name!r} does not exist; there are {', '.join(allowed)}{hint}")
