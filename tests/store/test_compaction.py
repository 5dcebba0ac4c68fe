import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from object_stores import environment

from sweeper.errors import StoreError, UserError
from sweeper.store import Store, compact, compaction, index, read_attempt

COMPACTOR = Path(__file__).with_name("compactor.py")
NOW = timedelta(0)
WRITES, DELETIONS = 3, 4 * 3
"""Of a compaction of ``fill``: two tables and the marker; three for each attempt."""


def fill(store, items, cells, attempts=range(4)):
    """Attempts at cells of their own, one failure and its repetition, and a cell done twice."""
    for number in attempts:
        status = {f"k{number}": "done", "twice": "done", "late": "done" if number else "failed"}
        done = [key for key, state in status.items() if state == "done"]
        rows = items([(key, item, number + item / 10) for key in done for item in range(3)])
        tables = {"items": rows, "cells": cells(status)}
        store.writer.commit(f"a{number}", f"u{number}", "r", tables, status)


def content(uri):
    """All that a reader can ask for."""
    store = Store(uri)
    tables = {name: sorted(map(repr, store.table(name).to_pylist())) for name in ("items", "cells")}
    views = {
        name: sorted(map(repr, store.sql(f"SELECT * FROM {name}").to_dict("records")))
        for name in tables
    }
    owners = {key: store.attempt_of(key) for key in store.done_keys()}
    # By name, whoever won the cells.
    own = [read_attempt(uri, "items", f"a{number}").to_pylist() for number in range(4)]
    return tables, views, owners, store.failed(), own


def files(uri):
    return sorted(str(path.relative_to(uri)) for path in Path(uri).rglob("*") if path.is_file())


def test_one_file_per_table_and_one_marker_say_the_same(store, items, cells):
    fill(store, items, cells)
    before = content(store.uri)
    told = []
    found = compact(store.uri, tell=lambda *counts: told.append(counts))
    assert (found.attempts, found.packs, found.deleted, found.kept) == (4, 1, 0, 4)
    assert told == [(4, 4)]
    # Both the small files and the pack are there now, and nothing shows twice.
    assert content(store.uri) == before
    again = compact(store.uri, grace=NOW)
    assert (again.attempts, again.packs, again.deleted, again.kept) == (0, 0, 4, 0)
    assert content(store.uri) == before
    left = files(store.uri)
    assert len(left) == 4
    assert sum(name.endswith(".pack.json") for name in left) == 1
    assert compact(store.uri, grace=NOW).deleted == 0


def test_an_open_reader_goes_on_where_the_rows_have_gone(store, items, cells):
    fill(store, items, cells)
    readers = [Store(store.uri) for _ in range(3)]
    expected = content(store.uri)
    compact(store.uri, grace=NOW)
    # None of them has looked since; the files that they know of are gone.
    assert sorted(map(repr, readers[0].table("items").to_pylist())) == expected[0]["items"]
    frame = readers[1].sql("SELECT * FROM items")
    assert sorted(map(repr, frame.to_dict("records"))) == expected[1]["items"]
    parts = readers[2].stream("items", ["k1", "twice"], ("cell_key", "logprob"))
    rows = [row for part in parts for row in part.to_pylist()]
    wanted = Store(store.uri).table("items", ["k1", "twice"], ("cell_key", "logprob")).to_pylist()
    assert sorted(map(repr, rows)) == sorted(map(repr, wanted))
    assert len(rows) == 6


def test_what_comes_later_is_packed_with_small_packs(store, items, cells):
    fill(store, items, cells)
    compact(store.uri, grace=NOW)
    tables = {"items": items([("new", 0, 9.0)]), "cells": cells({"new": "done"})}
    store.writer.commit("b1", "u", "r", tables, {"new": "done"})
    before = content(store.uri)
    found = compact(store.uri, grace=NOW)
    # The four of the first pack and the new one; the first pack's own files go, too.
    assert (found.attempts, found.packs, found.deleted) == (5, 1, 2)
    assert content(store.uri) == before
    assert len(files(store.uri)) == 4


def test_packs_end_where_they_are_full_and_large_files_stay(store, items):
    for number in range(8):
        rows = items([(f"k{number}", item, 0.1 * item) for item in range(1, 1000)])
        store.writer.commit(f"a{number}", "u", "r", {"items": rows}, {f"k{number}": "done"})
    size = os.path.getsize(f"{store.uri}/tables/items/a0.parquet")
    assert compact(store.uri, pack_bytes=size).packs == 0
    assert compact(store.uri, pack_bytes=4 * size).packs == 2
    assert len(Store(store.uri).table("items")) == 8 * 999


def test_rows_are_read_from_a_part_of_the_pack_only(store, items, cells, monkeypatch):
    monkeypatch.setattr(compaction, "ROW_GROUP_ROWS", 4)
    fill(store, items, cells)
    whole = Store(store.uri).table("items")
    compact(store.uri, grace=NOW)
    (path,) = Path(store.uri, "tables/items").glob("*.parquet")
    groups = pq.ParquetFile(path).metadata
    # Six rows of a0, nine of each other: a group ends with the attempt that fills it.
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [6, 9, 9, 9]
    monkeypatch.setattr(index, "PIECE_ROWS", 7)
    reader = Store(store.uri)
    pieces = reader._index.pieces("items", None)
    assert [(piece.spans[0].start, piece.spans[-1].stop) for piece in pieces] == [
        (0, 6),
        (6, 15),
        (15, 24),
        (24, 33),
    ]
    assert reader.table("items").sort_by("logprob") == whole.sort_by("logprob")
    # What another attempt has won is left out of the same span.
    assert reader.table("items", ["k3"])["logprob"].to_pylist() == [3.0, 3.1, 3.2]


def test_two_compactions_at_once_double_nothing(store, items, cells):
    fill(store, items, cells)
    before = content(store.uri)
    stale = index.Index(store.files)
    stale.refresh()
    compact(store.uri)
    # Another compaction that has looked before packs some of the same, and one more.
    store.writer.commit("b1", "u", "r", {"items": items([("b", 0, 9.0)])}, {"b": "done"})
    stale._add(index.read_marker(store.files, "b1"))
    compaction._pack(store.files, stale, ["a2", "a3", "b1"])
    after = content(store.uri)
    assert len(after[0]["items"]) == len(before[0]["items"]) + 1
    assert after[1] == {**after[1], "cells": before[1]["cells"]}
    assert len(after[1]["items"]) == len(before[1]["items"]) + 1
    # Neither pack has all of the other's attempts: none of them may go.
    compact(store.uri, grace=NOW)
    assert content(store.uri) == after


def test_nothing_is_deleted_for_a_pack_that_is_not_whole(store, items, cells):
    fill(store, items, cells)
    compact(store.uri)
    (pack,) = Path(store.uri, "tables/items").glob("*pack*.parquet")
    os.truncate(pack, pack.stat().st_size - 5)
    with pytest.raises(UserError, match="pack"):
        compact(store.uri, grace=NOW)
    assert sum("/a" in name for name in files(store.uri)) == 12


@pytest.mark.parametrize("change", [{"files": {"items": 26}}, {"pack": "other"}, {"more": 1}])
def test_a_damaged_pack_marker_is_named(store, items, cells, change):
    fill(store, items, cells)
    compact(store.uri)
    (path,) = Path(store.uri, "commits").glob("*.pack.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=r"pack\.json is no valid commit marker") as caught:
        Store(store.uri)
    assert "\n" not in str(caught.value)


class Compactors:
    """Processes that compact, one after the other; see compactor.py."""

    def __init__(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [sys.executable, str(COMPACTOR)]
        self.parent = subprocess.Popen(command, text=True, env=environment(), **pipes)

    def run(self, uri, stage, moment):
        self.parent.stdin.write(json.dumps([str(uri), stage, moment]) + "\n")
        self.parent.stdin.flush()
        return int(self.parent.stdout.readline())


@pytest.fixture(scope="module")
def compactors():
    found = Compactors()
    yield found
    found.parent.communicate()


@pytest.mark.parametrize(("moment", "stages"), [("before", WRITES + DELETIONS), ("inside", WRITES)])
def test_a_kill_at_any_stage_loses_and_doubles_nothing(
    store, items, cells, compactors, tmp_path, moment, stages
):
    fill(store, items, cells)
    before = content(store.uri)
    for stage in range(1, stages + 1):
        copy = tmp_path / f"copy{stage}"
        shutil.copytree(store.uri, copy)
        assert compactors.run(copy, stage, moment) == -signal.SIGKILL
        assert content(str(copy)) == before
        # The next compaction finishes what this one began.
        compact(str(copy), grace=NOW)
        assert content(str(copy)) == before
        names = [name for name in files(str(copy)) if not name.endswith(".tmp")]
        assert sum(name.startswith("commits/") for name in names) == 1
        assert not any("/a" in name for name in names)
        shutil.rmtree(copy)
    # So many stages there are.
    assert compactors.run(store.uri, WRITES + DELETIONS + 1, moment) == 0


def test_beside_a_writer_and_readers(store, items, cells):
    """A process compacts and deletes all the time; whoever reads sees each commit once."""
    fill(store, items, cells)
    command = [sys.executable, str(COMPACTOR), store.uri, "-1", ""]
    process = subprocess.Popen(command, env=environment())
    try:
        old = Store(store.uri)
        rows = len(old.table("items"))
        for number in range(12):
            key = f"more{number}"
            tables = {"items": items([(key, 0, 1.0)]), "cells": cells({key: "done"})}
            store.writer.commit(f"b{number}", "u", "r", tables, {key: "done"})
            fresh = Store(store.uri)
            assert len(fresh.table("items")) == rows + number + 1
            query = "SELECT count(*) AS n, count(DISTINCT (cell_key, item)) AS u FROM items"
            counts = fresh.sql(query).to_dict("records")
            assert counts == [{"n": rows + number + 1, "u": rows + number + 1}]
            assert len(old.table("items", [f"k{item}" for item in range(4)])) == 12
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    compact(store.uri, grace=NOW)
    assert len(list(Path(store.uri, "commits").iterdir())) == 1
    assert len(Store(store.uri).table("items")) == rows + 12


def test_what_this_version_does_not_know_is_not_dropped(store, items, cells):
    fill(store, items, cells)
    path = Path(store.uri, "tables/items/a2.parquet")
    table = pq.read_table(path)
    pq.write_table(table.append_column("later", table["margin"]), path)
    with pytest.raises(UserError, match=r"a2\.parquet has the columns \['later'\]"):
        compact(store.uri, grace=NOW)
    pq.write_table(table, path)
    marker = Path(store.uri, "commits/a2.json")
    known = json.loads(marker.read_text())
    marker.write_text(json.dumps({**known, "files": {**known["files"], "future": 7}}))
    assert compact(store.uri, grace=NOW).attempts == 3
    assert len(Store(store.uri).table("items", ["k2"])) == 3
    assert {path.stem for path in Path(store.uri, "tables/items").iterdir()} >= {"a2"}


def test_a_reader_reads_only_the_pack_that_replaces_another(store, items, cells, monkeypatch):
    reader = superseded(store, items, cells)
    packs, markers = [], []
    monkeypatch.setattr(index, "read_pack", noting(packs, index.read_pack))
    monkeypatch.setattr(index, "read_marker", noting(markers, index.read_marker))
    reader.refresh()
    assert (len(packs), markers) == (1, [])
    assert reader.done_keys() == Store(store.uri).done_keys()
    assert reader.table("items", ["k0", "k5"]).num_rows == 6


def test_a_reader_knows_what_it_knew_where_a_refresh_fails(store, items, cells, monkeypatch):
    reader = superseded(store, items, cells)
    known = reader.done_keys()
    assert len(known) == 7

    def out_of_reach(*_):
        raise StoreError("store: cannot be read: 503")

    with monkeypatch.context() as patch:
        patch.setattr(index, "read_pack", out_of_reach)
        with pytest.raises(StoreError, match="503"):
            reader.refresh()
    assert reader.done_keys() == known
    reader.refresh()
    assert reader.done_keys() == {*known, "k4", "k5"}


def test_what_only_a_deleted_pack_held_is_forgotten(store, items, cells):
    reader = superseded(store, items, cells)
    reader.refresh()
    (pack,) = Path(store.uri, "commits").glob("*.pack.json")
    pack.unlink()
    reader.refresh()
    assert reader.done_keys() == {"large"}


def superseded(store, items, cells):
    """A reader that knows a large commit, and a pack which a later one has replaced."""
    rows = items([("large", item, 1 / (1 + item)) for item in range(30_000)])
    store.writer.commit("large", "u", "r", {"items": rows}, {"large": "done"})
    size = os.path.getsize(f"{store.uri}/tables/items/large.parquet")
    fill(store, items, cells)
    compact(store.uri, grace=NOW, pack_bytes=size)
    reader, commits = Store(store.uri), Path(store.uri, "commits")
    first = set(commits.glob("*.pack.json"))
    fill(store, items, cells, range(4, 6))
    for _ in range(2):  # the second one deletes what the first one has replaced
        compact(store.uri, grace=NOW, pack_bytes=size)
    second = set(commits.glob("*.pack.json"))
    assert (len(first), len(second), first & second) == (1, 1, set())
    assert {path.name for path in set(commits.iterdir()) - second} == {"large.json"}
    return reader


def noting(names, read):
    def note(files, name):
        names.append(name)
        return read(files, name)

    return note
