"""Whole sweeps with the store in an object store, on a real model."""

import io

import pandas as pd
from rich.console import Console

import sweeper
from sweeper.store import Store, compact


def test_a_sweep_its_resumption_and_all_that_can_be_asked(s3, story_job, call, tmp_path):
    uri = s3.uri("bucket", "sweeps/one")
    quiet = Console(file=io.StringIO())
    run = sweeper.run_job(story_job(store=uri), quiet)
    assert run.complete
    here = sweeper.run_job(story_job(), quiet)
    pd.testing.assert_frame_equal(run.estimates(), here.estimates())
    pd.testing.assert_frame_equal(run.levels(), here.levels())
    # A unit is lost, and the store compacted: the same job computes what is missing, once.
    store = Store(uri)
    lost = next(key for key, row in cells(store).items() if row == ("random", "grammar"))
    store.files.delete(store.layout.marker(store.attempt_of(lost)))
    compact(uri)
    again = sweeper.run_job(story_job(store=uri), quiet)
    assert again.complete
    progress = again.folder.read_progress()
    assert 0 < progress["cells_done"] - progress["cells_reused"] < 11
    assert not again.table("items").duplicated(["cell_key", "item_id"]).any()
    pd.testing.assert_frame_equal(again.estimates(), here.estimates())

    code, out, _ = call("status", "story", "--store", uri)
    assert (code, "finished, 11 of 11 cells" in out) == (0, True)
    assert "11 of 11" in call("ls", "--store", uri)[1]
    code, out, _ = call("aggregate", "story", "--store", uri, "--csv", tmp_path / "e.csv")
    assert code == 0
    assert len(pd.read_csv(tmp_path / "e.csv")) == len(here.estimates())
    code, out, _ = call("compact", "--store", uri, "--grace", "0")
    assert code == 0
    assert "attempts in 1 new packs" in out
    code, out, _ = call("report", "story", "--store", uri)
    assert out.strip() == "s3://bucket/sweeps/one/runs/story/report/report.html"
    page = store.files.read("runs/story/report/report.html").to_pybytes().decode()
    assert page.startswith("<!doctype html>")
    code, out, _ = call("report", "story", "--store", uri, "--output", tmp_path / "page")
    assert (tmp_path / "page" / "report.html").read_text().startswith("<!doctype html>")


def cells(store):
    rows = store.table("cells", columns=("cell_key", "condition", "task")).to_pylist()
    return {row["cell_key"]: (row["condition"], row["task"]) for row in rows}
