import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow.fs as pafs
import pytest
from object_stores import environment, s3_server

from sweeper.errors import UserError
from sweeper.store import RunFolder, Store, compact, list_runs, open_filesystem, read_attempt
from sweeper.store.filesystem import Files

COMPACTOR = Path(__file__).with_name("compactor.py")
NOW = timedelta(0)


@pytest.fixture(params=["s3", "gs"])
def uri(request, tmp_path):
    """A store's address that no other test has, at either kind of server."""
    return request.getfixturevalue(request.param).uri("bucket", f"stores/{tmp_path.name}")


@pytest.fixture
def s3_uri(s3, tmp_path):
    """A store's address at the S3 server."""
    return s3.uri("bucket", f"stores/{tmp_path.name}")


def fill(store, items, cells, attempts=4):
    for number in range(attempts):
        status = {f"k{number}": "done", "twice": "done", "late": "done" if number else "failed"}
        done = [key for key, state in status.items() if state == "done"]
        rows = items([(key, item, number + item / 10) for key in done for item in range(3)])
        tables = {"items": rows, "cells": cells(status)}
        store.writer.commit(f"a{number}", f"u{number}", "r", tables, status)


def content(address):
    store = Store(address)
    tables = [sorted(map(repr, store.table(name).to_pylist())) for name in ("items", "cells")]
    view = sorted(map(repr, store.sql("SELECT * FROM items").to_dict("records")))
    return tables, view, store.done_keys(), store.failed()


def test_the_same_commits_say_the_same_on_disk_and_in_an_object_store(uri, tmp_path, items, cells):
    stores = [Store(address, create=True) for address in (uri, str(tmp_path))]
    for store in stores:
        fill(store, items, cells)
        store.refresh()
    there, here = (content(store.uri) for store in stores)
    assert there == here
    assert Store(uri).uri == uri
    assert read_attempt(uri, "items", "a1") == read_attempt(str(tmp_path), "items", "a1")
    query = "SELECT task, avg(logprob) AS m FROM items JOIN cells USING (cell_key) GROUP BY ALL"
    pd.testing.assert_frame_equal(stores[0].sql(query), stores[1].sql(query))
    for store in stores:
        compact(store.uri, grace=NOW)
        assert content(store.uri) == here
    names = [sorted(store.files.names("commits")) for store in stores]
    assert [len(name) for name in names] == [1, 1]


def test_files_are_replaced_deleted_and_listed(uri):
    files = Files(uri)
    assert files.read("runs/r/job.json") is None
    assert files.names("runs") == []
    files.write("runs/r/job.json", b"old")
    files.write("runs/r/job.json", b"new")
    assert files.read("runs/r/job.json").to_pybytes() == b"new"
    assert files.names("runs") == []
    assert files.tree("runs") == ["r/job.json"]
    assert files.tree("none") == []
    assert files.sizes("runs/r") == {"job.json": 3}
    assert files.exists("runs/r/job.json")
    assert not files.exists("runs/r")
    # Larger than the ten megabytes of a part of an upload.
    large = os.urandom(23 * 2**20)
    files.write("runs/r/large", large)
    assert files.read("runs/r/large").to_pybytes() == large
    for _ in range(2):
        files.delete("runs/r/job.json")
    assert files.read("runs/r/job.json") is None


def test_looking_again_costs_one_listing_and_each_new_marker_once(
    s3_uri, items, cells, monkeypatch
):
    store = Store(s3_uri, create=True)
    asked = []
    for name in ("read", "_info"):
        original = getattr(Files, name)
        monkeypatch.setattr(
            Files,
            name,
            lambda self, where, name=name, original=original: (
                asked.append(name) or original(self, where)
            ),
        )

    def refreshed():
        asked.clear()
        store.refresh()
        return asked.count("_info"), asked.count("read")

    assert refreshed() == (1, 0)
    fill(store, items, cells)
    assert refreshed() == (1, 4)
    assert refreshed() == (1, 0)
    compact(s3_uri, grace=NOW)
    assert refreshed() == (1, 1)
    assert refreshed() == (1, 0)


def test_a_run_folder_its_claim_and_its_report(uri, tmp_path):
    store = Store(uri, create=True)
    first, second = RunFolder(store, "r1"), RunFolder(Store(uri), "r1")
    first.claim()
    first.write_job("{}")
    first.write_progress({"state": "running"})
    assert list_runs(Store(uri)) == ["r1"]
    assert second.read_progress() == {"state": "running"}
    with pytest.raises(UserError, match="is driven by process"):
        second.claim()
    first.beat()
    first.release()
    second.claim()
    second.release()
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/a.svg").write_text("<svg/>")
    address = first.keep_report(tmp_path)
    assert address.startswith(uri.partition("?")[0])
    assert address.endswith("/runs/r1/report")
    assert store.files.read("runs/r1/report/figures/a.svg").to_pybytes() == b"<svg/>"


def test_requests_that_fail_are_made_again(items, cells, tmp_path):
    with s3_server(fail_every=10) as server:
        uri = server.uri("bucket", "store")
        store = Store(uri, create=True)
        local = Store(str(tmp_path), create=True)
        for each in (store, local):
            fill(each, items, cells, attempts=3)
        assert content(uri) == content(local.uri)
        once = server.uri("bucket", "store", max_attempts=1)

        def open_often():
            for _ in range(10):
                Store(once)

        # Without a second attempt the first error is the user's.
        with pytest.raises(UserError) as caught:
            open_often()
        assert "\n" not in str(caught.value)


def test_an_endpoint_and_a_region_from_the_environment(s3, s3_uri, monkeypatch):
    Store(s3_uri, create=True)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3.port}")
    plain = s3_uri.partition("?")[0]
    assert Store(plain).done_keys() == set()
    assert Store(f"{plain}/").uri == f"{plain}/"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1")
    with pytest.raises(UserError, match="AWS_ENDPOINT_URL is '127"):
        Store(plain)


def test_a_bucket_or_a_store_that_is_not_there_is_one_line(uri):
    scheme, query = uri.partition("://")[0], uri.partition("?")[2]
    with pytest.raises(UserError, match="no store at"):
        Store(uri)
    with pytest.raises(UserError, match="cannot write") as caught:
        Store(f"{scheme}://nobucket/x?{query}", create=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("s3://", "is no address"),
        ("s3://bucket/../x", "is no address"),
        ("s3://bucket/x#y", "is no address"),
        ("s3://key:secret@bucket/x", "put them into the environment"),
        ("s3://bucket/x?regoin=eu", "did you mean region"),
        ("s3://bucket/x?project_id=p", "has the option 'project_id'; allowed are anonymous"),
        ("s3://bucket/x?secret_key=secret", "has the option 'secret_key'; allowed are"),
        ("s3://bucket/x?region", r"\?option=value"),
        ("s3://bucket/x?region=a&region=b", "each option once"),
        ("s3://bucket/x?scheme=ftp&region=a", "scheme=ftp; allowed are https and http"),
        ("s3://bucket/x?anonymous=yes&region=a", "anonymous=yes; allowed are true and false"),
        ("gs://bucket/x?retry_limit_seconds=0", "retry_limit_seconds=0; allowed is a whole"),
        ("gs://bucket/x?endpoint=a", "did you mean endpoint_override"),
    ],
)
def test_unusable_addresses_are_one_line_without_secrets(uri, text):
    with pytest.raises(UserError, match=text) as caught:
        open_filesystem(uri)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value).replace("'secret_key'", "")


def test_both_kinds_of_address_are_the_same_to_the_store():
    filesystem, root = open_filesystem("s3://bucket/a//b/?region=eu-west-1&anonymous=true")
    assert isinstance(filesystem, pafs.S3FileSystem)
    assert (filesystem.region, root) == ("eu-west-1", "bucket/a/b")
    filesystem, root = open_filesystem("gs://bucket/a?anonymous=true&scheme=http")
    assert isinstance(filesystem, pafs.GcsFileSystem)
    assert root == "bucket/a"


@pytest.mark.parametrize(
    ("stage", "moment"), [(1, "after"), (3, "before"), (3, "after"), (8, "after")]
)
def test_a_killed_compaction_loses_and_doubles_nothing(s3_uri, items, cells, stage, moment):
    """After a file, before the marker, after it, and among the deletions."""
    fill(Store(s3_uri, create=True), items, cells)
    before = content(s3_uri)
    command = [sys.executable, str(COMPACTOR), s3_uri, str(stage), moment]
    died = subprocess.run(command, env=environment(), check=False)
    assert died.returncode == -signal.SIGKILL
    assert content(s3_uri) == before
    compact(s3_uri, grace=NOW)
    assert content(s3_uri) == before
    assert len(Store(s3_uri).files.names("commits")) == 1


def test_writers_and_a_compaction_at_once(uri, items, cells):
    store = Store(uri, create=True)

    def write(name):
        for number in range(5):
            key = f"{name}{number}"
            tables = {"items": items([(key, 0, 1.0)]), "cells": cells({key: "done"})}
            Store(uri).writer.commit(key, "u", "r", tables, {key: "done"})

    writers = [threading.Thread(target=write, args=(name,)) for name in "xy"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        compact(uri, grace=NOW)
        fresh = Store(uri)
        assert len(fresh.table("items")) == len(fresh.done_keys())
    for writer in writers:
        writer.join()
    store.refresh()
    assert len(store.table("items")) == 10
