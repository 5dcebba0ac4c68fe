"""Stores of somebody else: what is in them is data, and stays where it is."""

import json
import shutil
from contextlib import suppress
from datetime import timedelta

import pytest

from sweeper.errors import UserError
from sweeper.store import RunFolder, Store
from sweeper.store.compaction import compact
from sweeper.store.filesystem import Files


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.json").write_text('{"secret": "hush"}')
    return folder


def test_links_lead_nowhere_else(tmp_path, outside):
    root = tmp_path / "store"
    files = Files(str(root))
    files.write("runs/r/job.json", b"mine")
    (root / "runs" / "linked").symlink_to(outside)
    (root / "runs" / "r" / "progress.json").symlink_to(outside / "secret.json")
    (root / "tables").symlink_to(outside, target_is_directory=True)
    for path in ("runs/linked/secret.json", "runs/r/progress.json", "tables/items/a.parquet"):
        for act in (
            lambda path=path: files.read(path),
            lambda path=path: files.write(path, b"x"),
            lambda path=path: files.delete(path),
        ):
            with pytest.raises(UserError, match="symbolic link that leads out") as caught:
                act()
            assert "hush" not in str(caught.value)
    assert [file.name for file in outside.iterdir()] == ["secret.json"]
    assert files.read("runs/r/job.json").to_pybytes() == b"mine"


def test_links_that_stay_inside_and_a_linked_root_are_fine(tmp_path):
    real = tmp_path / "disk"
    real.mkdir()
    (tmp_path / "store").symlink_to(real)
    files = Files(str(tmp_path / "store"))
    files.write("runs/r/job.json", b"mine")
    (real / "runs" / "s").symlink_to(real / "runs" / "r")
    assert files.read("runs/s/job.json").to_pybytes() == b"mine"


def test_a_report_is_not_written_elsewhere(tmp_path, outside):
    store = Store(str(tmp_path / "store"), create=True)
    folder = RunFolder(store, "r")
    folder.write_job("{}")
    (tmp_path / "store" / "runs" / "r" / "report").symlink_to(outside)
    with pytest.raises(UserError, match="symbolic link"):
        folder.report_folder()


@pytest.mark.parametrize("name", ["../r", "..", "/etc", "a/b", "r\0", ".r", "", "r\n", "~"])
def test_no_run_is_looked_for_outside(tmp_path, name):
    store = Store(str(tmp_path / "store"), create=True)
    with pytest.raises(UserError, match="no valid name"):
        RunFolder(store, name).read_job()


def marker(version: str, changes: dict) -> bytes:
    content = {
        "attempt": "a",
        "unit": "u",
        "run": "r",
        "schema_version": json.loads(version)["schema_version"],
        "committed_at": "2026-01-01T00:00:00Z",
        "cells": {"k": "done"},
        "files": {"items": 1},
        **changes,
    }
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "changes",
    [{"attempt": "../../outside/a"}, {"files": {"../../outside": 1}}, {"files": {"items/../x": 1}}],
)
def test_markers_name_no_files_outside(tmp_path, outside, changes):
    """Not to readers, and not to those who merge and delete what was merged."""
    (outside / "a.parquet").write_text("kept")
    root = tmp_path / "store"
    Store(str(root), create=True)
    version = (root / "store.json").read_text()
    (root / "commits").mkdir(exist_ok=True)
    (root / "commits" / "a.json").write_bytes(marker(version, changes))

    for act in (
        lambda: len(Store(str(root)).table("items")),
        lambda: len(Store(str(root)).sql("select * from items")),
        lambda: compact(str(root), grace=timedelta(0)).deleted,
    ):
        with suppress(UserError):
            assert act() == 0
    assert (outside / "a.parquet").read_text() == "kept"


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('{file}')",
        "select * from read_text('{file}')",
        "select * from '{file}'",
        "copy (select 1) to '{file}.copy'",
        "attach '{file}.db' as other",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "select * from glob('{folder}/*')",
    ],
)
def test_queries_see_the_store_alone(tmp_path, outside, query):
    store = Store(str(tmp_path / "store"), create=True)
    text = query.format(file=outside / "secret.json", folder=outside)
    with pytest.raises(UserError, match=r"^sql: "):
        store.sql(text)
    assert [file.name for file in outside.iterdir()] == ["secret.json"]


def test_names_from_a_store_are_values_not_queries(store, cells):
    evil = "k'; drop view items; --"
    store.writer.commit("a", evil[:1], "r", {"cells": cells({evil: "done"})}, {evil: "done"})
    store.refresh()
    assert store.done_keys() == {evil}
    assert len(store.table("cells", [evil])) == 1
    assert store.sql("select cell_key from cells")["cell_key"].tolist() == [evil]
    assert len(store.sql("select * from items")) == 0


def test_stores_are_united_by_copying_rows_before_markers(tmp_path, cells):
    """What the operations page says of backups and moves; a copy that stops early is whole too."""
    stores = [Store(str(tmp_path / name), create=True) for name in ("one", "two")]
    for number, store in enumerate(stores):
        for key in ("both", f"only-{number}"):
            store.writer.commit(
                f"a{number}-{key}", "u", "r", {"cells": cells({key: "done"})}, {key: "done"}
            )
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "one" / "tables", copy / "tables")
    shutil.copy(tmp_path / "one" / "store.json", copy)
    assert Store(str(copy)).done_keys() == set()
    shutil.copytree(tmp_path / "one" / "commits", copy / "commits")
    assert Store(str(copy)).done_keys() == {"both", "only-0"}
    for folder in ("tables", "commits"):
        shutil.copytree(tmp_path / "two" / folder, copy / folder, dirs_exist_ok=True)
    united = Store(str(copy))
    assert sorted(united.table("cells")["cell_key"].to_pylist()) == ["both", "only-0", "only-1"]
