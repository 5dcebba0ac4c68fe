import json
import re
from datetime import datetime, timedelta

import pyarrow.parquet as pq
import pytest

from sweeper.errors import UserError
from sweeper.store import Store, Writer, new_attempt_name
from sweeper.store.schemas import TABLES


def test_commit_writes_data_and_a_marker(store, items, tmp_path):
    tables = {"items": items([("k", 0, -1.0)]), "neurons": _empty("neurons")}
    store.writer.commit("a1", "u1", "r1", tables, {"k": "done"})
    marker = json.loads((tmp_path / "store/commits/a1.json").read_text())
    when = datetime.fromisoformat(marker.pop("committed_at"))
    assert when.utcoffset() == timedelta(0)
    assert marker == {
        "attempt": "a1",
        "unit": "u1",
        "run": "r1",
        "schema_version": 1,
        "cells": {"k": "done"},
        "files": {"items": 1},
    }
    column = pq.ParquetFile(tmp_path / "store/tables/items/a1.parquet").metadata.row_group(0)
    assert column.column(0).compression == "ZSTD"


def _empty(name):
    schema = TABLES[name]
    return schema.remove(schema.get_field_index("attempt")).empty_table()


def test_attempt_twice_raises_and_keeps_the_first(store, items):
    store.writer.commit("a1", "u", "r", {"items": items([("k", 0, -1.0)])}, {"k": "done"})
    with pytest.raises(ValueError, match="committed already"):
        store.writer.commit("a1", "u", "r", {"items": items([("k", 0, -2.0)])}, {"k": "done"})
    store.refresh()
    assert store.table("items")["logprob"].to_pylist() == [-1.0]


def test_faulty_commits_leave_nothing(store, items, tmp_path):
    good, done = items([("k", 0, -1.0)]), {"k": "done"}
    faulty = [
        ({"itms": good}, done, "unknown table"),
        ({"items": good.drop_columns(["margin"])}, done, "margin"),
        ({"items": good.append_column("attempt", [["a"]])}, done, "writer's to fill"),
        ({"items": good}, {"other": "done"}, r"not done: \['k'\]"),
        ({"items": good}, {"k": "failed"}, r"not done: \['k'\]"),
        ({}, {}, "no cell"),
    ]
    for tables, status, text in faulty:
        with pytest.raises(ValueError, match=text):
            store.writer.commit("a1", "u", "r", tables, status)
    with pytest.raises(UserError, match="no valid name"):
        store.writer.commit("../a1", "u", "r", {"items": good}, done)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["store.json"]


def test_writer_needs_a_store(tmp_path):
    with pytest.raises(UserError, match="no store at"):
        Writer(str(tmp_path / "none"))


def test_attempt_names_are_unique_sortable_and_valid(store):
    names = [new_attempt_name("u" * 100) for _ in range(500)]
    assert len(set(names)) == 500
    stamps = [name.split("-")[0] for name in names]
    assert stamps == sorted(stamps)
    assert re.fullmatch(r"\d{8}T\d{12}Z-u{60}-[0-9a-f]{12}", names[0])
    assert store.layout.marker(names[0])
    with pytest.raises(UserError, match="unit"):
        new_attempt_name("../u")


def test_a_missing_store_is_made_only_on_demand(tmp_path):
    with pytest.raises(UserError, match="no store at"):
        Store(str(tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []
    Store(str(tmp_path / "new"), create=True)
    assert Store(str(tmp_path / "new")).done_keys() == set()
