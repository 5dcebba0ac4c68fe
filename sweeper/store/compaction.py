"""Compaction: many small files of attempts become a few large ones, beside whoever reads or writes.

A pack takes over the rows of some attempts: one file for each table, then one marker that names the
attempts. Attempts stay what they are, cells, failures and all; only where their rows are read from
changes, for all of them at once with that marker. What they wrote themselves is deleted later, once
no reader that opened the store before can still be at it: first the rows, then the marker, which
until then says that something is left to delete. Killed at any moment this loses and doubles
nothing; at most files lie around that no marker names.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq

from sweeper.records import SCHEMA_VERSION
from sweeper.store.filesystem import Files
from sweeper.store.index import NUM_THREADS, Index
from sweeper.store.marker import Pack
from sweeper.store.opening import open_files
from sweeper.store.parquet import COMPRESSION, check_rows, read_piece
from sweeper.store.schemas import TABLES
from sweeper.store.writer import new_attempt_name

GRACE = timedelta(hours=1)
"""Readers that opened the store longer ago than this are taken to be done, or to look again."""
PACK_BYTES = 256 * 2**20
"""Most bytes of a pack's files, unless one attempt has more; they stand in memory once."""
ROW_GROUP_ROWS = 250_000
"""A reader of few attempts reads at least so many rows."""

Tell = Callable[[int, int], None]
"""Called with how many attempts are packed and how many will be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What a compaction did."""

    attempts: int
    """Attempts that are now in new packs."""
    packs: int
    """New packs."""
    deleted: int
    """Attempts and packs whose own files were deleted."""
    kept: int
    """Attempts and packs that have been taken over too recently for that."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Something whose files can be merged with others': an attempt, or a small pack."""

    attempts: tuple[str, ...]
    size: int


def compact(
    uri: str, *, grace: timedelta = GRACE, pack_bytes: int = PACK_BYTES, tell: Tell | None = None
) -> Compacted:
    """Put the committed attempts of a store into packs, and delete what packs have taken over.

    Safe beside workers, drivers, readers and other compactions of the store. With a grace shorter
    than another compaction takes, that one may miss a file and end with an error.

    Args:
        uri: the store.
        grace: age from which on a pack's attempts lose their own files; by the clocks of the
            machine that made the pack and of this one.
        pack_bytes: most bytes of a pack's files.
        tell: where progress goes.

    Raises:
        UserError: no store there, a damaged file, or a file that cannot be written or deleted.
    """
    files = open_files(uri)
    index = Index(files)
    index.refresh()
    groups = _groups(_sources(files, index), pack_bytes)
    total = sum(map(len, groups))
    done = 0
    for group in groups:
        _pack(files, index, group)
        done += len(group)
        if tell is not None:
            tell(done, total)
    index.refresh()
    deleted, kept = _clean(files, index, datetime.now(UTC) - grace)
    return Compacted(attempts=total, packs=len(groups), deleted=deleted, kept=kept)


def _sources(files: Files, index: Index) -> list[_Source]:
    """Attempts on their own, and packs of which every attempt is read from them; by name."""
    sizes = {table: files.sizes(files.layout.table(table)) for table in TABLES}

    def size(name: str, tables: dict[str, int]) -> int:
        return sum(sizes[table].get(f"{name}.parquet", 0) for table in tables)

    # Tables that this version does not know stay as they are.
    found = {
        name: _Source((name,), size(name, marker.files))
        for name, marker in index.markers.items()
        if name not in index.packed and marker.files.keys() <= TABLES.keys()
    }
    for name, pack in index.packs.items():
        members = tuple(marker.attempt for marker in pack.attempts)
        known = pack.files.keys() <= TABLES.keys()
        if known and all(index.packed[member] == name for member in members):
            found[name] = _Source(members, size(name, pack.files))
    return [found[name] for name in sorted(found)]


def _groups(sources: Sequence[_Source], pack_bytes: int) -> list[list[str]]:
    """Attempts of each new pack: neighbours in time, of files that are less than half full."""
    groups: list[list[_Source]] = [[]]
    size = 0
    for source in sources:
        if 2 * source.size > pack_bytes:
            continue
        if size + source.size > pack_bytes:
            groups.append([])
            size = 0
        groups[-1].append(source)
        size += source.size
    return [
        sorted({attempt for source in group for attempt in source.attempts})
        for group in groups
        if len(group) > 1
    ]


def _pack(files: Files, index: Index, attempts: Sequence[str]) -> None:
    name = new_attempt_name("pack")
    rows: dict[str, int] = {}
    for table in TABLES:
        holders = [one for one in attempts if table in index.markers[one].files]
        if holders:
            rows[table] = sum(index.markers[one].files[table] for one in holders)
            content = _merged(files, index, table, holders)
            files.write(files.layout.data_file(table, name), content)
    pack = Pack(
        pack=name,
        schema_version=SCHEMA_VERSION,
        committed_at=datetime.now(UTC),
        attempts=tuple(index.markers[one] for one in attempts),
        files=rows,
    )
    files.write(files.layout.pack(name), pack.model_dump_json().encode())


def _merged(files: Files, index: Index, table: str, attempts: Sequence[str]) -> pa.Buffer:
    """One Parquet file of all rows of the attempts, in their order."""
    schema = TABLES[table]

    def read(attempt: str) -> pa.Table:
        (piece,) = index.locate(table, {attempt: None})
        return read_piece(files, piece, schema, all_columns=True)

    sink = pa.BufferOutputStream()
    with (
        pq.ParquetWriter(sink, schema, compression=COMPRESSION) as writer,
        ThreadPoolExecutor(NUM_THREADS) as pool,
    ):
        for part in _row_groups(index, table, attempts):
            rows = pa.concat_tables(pool.map(read, part))
            writer.write_table(rows, row_group_size=len(rows))
    return sink.getvalue()


def _row_groups(index: Index, table: str, attempts: Sequence[str]) -> Iterator[list[str]]:
    """Attempts whose rows are read and written together; none is cut."""
    part: list[str] = []
    rows = 0
    for attempt in attempts:
        part.append(attempt)
        rows += index.markers[attempt].files[table]
        if rows >= ROW_GROUP_ROWS:
            yield part
            part, rows = [], 0
    if part:
        yield part


def _clean(files: Files, index: Index, before: datetime) -> tuple[int, int]:
    """Delete what packs of before that time have taken over; how many, and how many of later."""
    listed = set(files.names(files.layout.commits))
    old = {name for name, pack in index.packs.items() if pack.committed_at <= before}
    superseded: list[tuple[str, str, dict[str, int]]] = []
    needed: set[str] = set()
    kept = 0
    for name, holders, tables in _taken_over(index):
        path = files.layout.pack(name) if name in index.packs else files.layout.marker(name)
        if path.rpartition("/")[2] in listed:
            if holders <= old:
                superseded.append((path, name, tables))
                needed |= holders
            else:
                kept += 1
    for name in sorted(needed):
        for table, rows in index.packs[name].files.items():
            check_rows(files, files.layout.data_file(table, name), rows)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        list(pool.map(lambda item: _delete(files, *item), superseded))
    return len(superseded), kept


def _taken_over(index: Index) -> Iterator[tuple[str, set[str], dict[str, int]]]:
    """Attempts and packs that nothing is read from any more, with the packs that are read."""
    for attempt, pack in index.packed.items():
        yield attempt, {pack}, index.markers[attempt].files
    for name, content in index.packs.items():
        holders = {index.packed[marker.attempt] for marker in content.attempts}
        if name not in holders:
            yield name, holders, content.files


def _delete(files: Files, marker: str, name: str, tables: dict[str, int]) -> None:
    for table in tables:
        files.delete(files.layout.data_file(table, name))
    files.delete(marker)
