import io
import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeper.errors import UserError
from sweeper.store import Store, read_attempt
from sweeper.store.schemas import TABLES

KEYS = "abcde"
COMMITS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["done", "failed"]), min_size=1),
        st.booleans(),
    ),
    max_size=8,
)


def attempt_rows(attempt, status):
    """Rows (key, item, value) of an attempt; the value tells the attempt."""
    done = [key for key, state in status.items() if state == "done"]
    return [(key, item, float(attempt)) for key in done for item in range(2)]


def model_winners(commits):
    """The attempt that each cell should come from, by the rule in plain words."""
    winners = {}
    for attempt, (status, committed) in enumerate(commits):
        for key, state in status.items() if committed else ():
            held = winners.get(key)
            if held is None or (state == "done" and held[1] == "failed"):
                winners[key] = (attempt, state)
    return winners


def write_commits(store, commits, items, cells):
    for attempt, (status, committed) in enumerate(commits):
        tables = {"items": items(attempt_rows(attempt, status)), "cells": cells(status)}
        store.writer.commit(f"a{attempt}", f"u{attempt}", "r", tables, status)
        if not committed:
            # What a worker leaves that is killed before its marker.
            os.unlink(store.layout.full(store.layout.marker(f"a{attempt}")))
            store.files.write(f"tables/items/half{attempt}.parquet", b"PAR1 cut off")


@given(commits=COMMITS, keys=st.sets(st.sampled_from(KEYS + "z")))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_each_cell_comes_from_its_winner(tmp_path, items, cells, commits, keys):
    shutil.rmtree(tmp_path)
    store = Store(str(tmp_path), create=True)
    write_commits(store, commits, items, cells)
    store.refresh()
    winners = model_winners(commits)
    expected = sorted(
        row
        for attempt, (status, _) in enumerate(commits)
        for row in attempt_rows(attempt, status)
        if winners.get(row[0]) == (attempt, "done")
    )
    assert rows(store.table("items")) == expected
    assert rows(store.table("items", keys)) == [row for row in expected if row[0] in keys]
    view = store.sql("SELECT cell_key, item, logprob FROM items ORDER BY ALL")
    assert list(view.itertuples(index=False, name=None)) == expected
    assert store.done_keys() == {key for key, (_, state) in winners.items() if state == "done"}
    failed = {key: f"a{held[0]}" for key, held in winners.items() if held[1] == "failed"}
    assert {key: info.attempt for key, info in store.failed().items()} == failed
    assert len(store.table("cells")) == len(winners)


def rows(table):
    columns = [table[name].to_pylist() for name in ("cell_key", "item", "logprob")]
    return sorted(zip(*columns, strict=True))


def test_failure_then_success(store, items, cells):
    for attempt in ("a1", "a2"):
        store.writer.commit(attempt, "u", "r", {"cells": cells({"k": "failed"})}, {"k": "failed"})
    store.refresh()
    failure = store.failed()["k"]
    assert (failure.attempt, failure.num_attempts, failure.error_type) == ("a1", 2, "Boom")
    tables = {"items": items([("k", 0, -1.0)]), "cells": cells({"k": "done"})}
    store.writer.commit("a3", "u", "r", tables, {"k": "done"})
    store.refresh()
    assert store.failed() == {}
    assert store.table("cells")["status"].to_pylist() == ["done"]


def test_only_files_that_can_hold_a_key_are_opened(store, items):
    for key in "ab":
        store.writer.commit(f"a-{key}", "u", "r", {"items": items([(key, 0, 1.0)])}, {key: "done"})
    store.refresh()
    store.files.write("tables/items/a-b.parquet", b"ruined")
    assert rows(store.table("items", ["a", "unknown"])) == [("a", 0, 1.0)]
    with pytest.raises(UserError, match=r"tables/items/a-b\.parquet"):
        store.table("items", ["b"])


def test_columns_in_the_wanted_order_also_without_the_key(store, items):
    status = {"a": "done", "b": "done"}
    store.writer.commit("a1", "u", "r", {"items": items([("a", 0, 1.0), ("b", 1, 2.0)])}, status)
    store.refresh()
    table = store.table("items", ["b"], columns=["logprob", "item"])
    assert table.to_pydict() == {"logprob": [2.0], "item": [1]}
    with pytest.raises(UserError, match="did you mean 'logprob'"):
        store.table("items", columns=["log_prob"])
    with pytest.raises(UserError, match="did you mean 'items'"):
        store.table("item")


def test_refresh_reads_new_markers_only(store, items):
    store.writer.commit("a1", "u", "r", {"items": items([("a", 0, 1.0)])}, {"a": "done"})
    store.refresh()
    # A marker never changes, so a known one is not looked at again: ruin it to see that.
    store.files.write("commits/a1.json", b"{")
    store.writer.commit("a2", "u", "r", {"items": items([("b", 0, 1.0)])}, {"b": "done"})
    store.refresh()
    assert store.done_keys() == {"a", "b"}


def test_a_deleted_commit_is_forgotten(store, items):
    for attempt, value in (("a1", 1.0), ("a2", 2.0)):
        tables = {"items": items([("k", 0, value)])}
        store.writer.commit(attempt, "u", "r", tables, {"k": "done"})
    store.refresh()
    assert rows(store.table("items")) == [("k", 0, 1.0)]
    store.files.delete("commits/a1.json")
    store.refresh()
    assert rows(store.table("items")) == [("k", 0, 2.0)]


def good_marker(**changes):
    return {
        "attempt": "x",
        "unit": "u",
        "run": "r",
        "schema_version": 1,
        "committed_at": "2026-01-01T00:00:00+00:00",
        "cells": {"k": "done"},
        "files": {},
        **changes,
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"attempt": "x"',
        "[]",
        json.dumps(good_marker(committed_at="2026-01-01T00:00:00")),
        json.dumps(good_marker(attempt="../../x")),
        json.dumps(good_marker(cells={"k": "perhaps"})),
        json.dumps(good_marker(schema_version=7)),
    ],
)
def test_a_strangers_marker_is_named(store, text):
    store.files.write("commits/x.json", text.encode())
    with pytest.raises(UserError, match=r"commits/x\.json") as caught:
        Store(store.uri)
    assert "\n" not in str(caught.value)


def test_temporary_and_foreign_files_among_the_markers_are_passed_over(store, tmp_path):
    (tmp_path / "store/commits").mkdir()
    (tmp_path / "store/commits/.a.json.12ab.tmp").write_text("{")
    (tmp_path / "store/commits/README").write_text("hello")
    (tmp_path / "store/commits/.DS_Store.json").write_text("{")
    store.refresh()
    assert store.done_keys() == set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"schema_version": 99}', "schema version 99, this program needs 1"),
        ("{}", "does not say"),
        ("[", "does not say"),
    ],
)
def test_other_schema_versions_are_refused(store, text, expected):
    store.files.write("store.json", text.encode())
    for create in (False, True):
        with pytest.raises(UserError, match=expected):
            Store(store.uri, create=create)


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.95, None])
def test_truncated_or_missing_parquet_is_named(store, items, tmp_path, kept):
    table = items([("k", item, item / 7) for item in range(1000)])
    store.writer.commit("a1", "u", "r", {"items": table}, {"k": "done"})
    store.refresh()
    path = tmp_path / "store/tables/items/a1.parquet"
    size = path.stat().st_size
    if kept is None:
        path.unlink()
    else:
        os.truncate(path, int(kept * size) if isinstance(kept, float) else kept)
    for read in (lambda: store.table("items"), lambda: store.sql("SELECT * FROM items")):
        with pytest.raises(UserError, match=r"tables/items/a1\.parquet") as caught:
            read()
        assert "\n" not in str(caught.value)


def test_a_file_of_another_attempt_is_refused(store, items):
    for attempt, num in (("a1", 1), ("a2", 2)):
        table = items([(attempt, item, 0.0) for item in range(num)])
        store.writer.commit(attempt, "u", "r", {"items": table}, {attempt: "done"})
    store.refresh()
    store.files.write("tables/items/a1.parquet", store.files.read("tables/items/a2.parquet"))
    with pytest.raises(UserError, match="holds 2 rows, its commit says 1"):
        store.table("items")


def test_a_column_that_came_later_is_null_in_older_files(store):
    row = {"cell_key": "c", "attempt": "a1", "condition_key": "c", "layer": 0, "neurons": [1]}
    table = pa.Table.from_pylist([{**row, "values": None}], schema=TABLES["conditions"])
    store.writer.commit(
        "a1", "u", "r", {"conditions": table.drop_columns("attempt")}, {"c": "done"}
    )
    older = io.BytesIO()
    pq.write_table(table.drop_columns("values"), older)
    store.files.write("tables/conditions/a1.parquet", older.getvalue())
    store.refresh()
    expected = [{**row, "values": None}]
    assert store.table("conditions").to_pylist() == expected
    assert read_attempt(store.uri, "conditions", "a1").to_pylist() == expected
    assert store.sql("SELECT values FROM conditions")["values"].isna().all()
    # What may not be null is missed.
    pq.write_table(table.drop_columns("neurons"), older := io.BytesIO())
    store.files.write("tables/conditions/a1.parquet", older.getvalue())
    with pytest.raises(UserError, match=r"missing columns \['neurons'\]"):
        store.table("conditions")


def test_sql_joins_tables_and_reports_mistakes_in_one_line(store, items, cells):
    status = {"k": "done"}
    tables = {"items": items([("k", 0, -1.5), ("k", 1, -0.5)]), "cells": cells(status)}
    store.writer.commit("a1", "u", "r", tables, status)
    store.refresh()
    query = "SELECT model, avg(logprob) AS m FROM items JOIN cells USING (cell_key) GROUP BY ALL"
    assert store.sql(query).to_dict("records") == [{"model": "x", "m": -1.0}]
    assert len(store.sql("SELECT finished_at, seed FROM cells")) == 1
    assert len(store.sql("SELECT * FROM neurons")) == 0
    for wrong in ("SELEC 1", "SELECT nothing FROM items", "SELECT * FROM store", ""):
        with pytest.raises(UserError, match="sql: ") as caught:
            store.sql(wrong)
        assert "\n" not in str(caught.value)


def test_read_attempt_gives_its_own_rows_also_where_another_won(store, items):
    for attempt, value in (("a1", 1.0), ("a2", 2.0)):
        tables = {"items": items([("k", 0, value)])}
        store.writer.commit(attempt, "u", "r", tables, {"k": "done"})
    assert rows(read_attempt(store.uri, "items", "a2")) == [("k", 0, 2.0)]
    with pytest.raises(UserError, match="wrote no rows"):
        read_attempt(store.uri, "neurons", "a2")
    store.files.delete("commits/a2.json")
    with pytest.raises(UserError, match="'a2' is not committed"):
        read_attempt(store.uri, "items", "a2")
