from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sweeper.errors import UserError
from sweeper.records import Checkpoint, Estimate
from sweeper.store import RunFolder, list_runs
from sweeper.store.parquet import write_table
from sweeper.store.schemas import ESTIMATES, MANIFEST


def estimate(**changes):
    texts = {field.name: "x" for field in fields(Estimate)}
    numbers = {name: 1.5 for name in ESTIMATES.names if ESTIMATES.field(name).type == pa.float64()}
    counts = {name: 2 for name in ESTIMATES.names if ESTIMATES.field(name).type == pa.int64()}
    return Estimate(**{**texts, **numbers, **counts, **changes})


def test_everything_comes_back(store):
    folder = RunFolder(store, "r1")
    assert not folder.exists()
    folder.write_job('{"name": "ü"}')
    folder.write_progress({"done": 3, "workers": ["a"]})
    manifest = pa.table({name: pa.array([], MANIFEST.field(name).type) for name in MANIFEST.names})
    folder.write_manifest(manifest)
    assert folder.exists()
    assert folder.read_job() == '{"name": "ü"}'
    assert folder.read_progress() == {"done": 3, "workers": ["a"]}
    assert folder.read_manifest().schema.equals(MANIFEST)
    assert list_runs(store) == ["r1"]


def test_a_manifest_of_an_older_version_knows_no_groups(store):
    folder = RunFolder(store, "r1")
    folder.write_job("{}")
    row = {"cell_key": "k", "kind": "score", "model": "m", "revision": "main", "condition": "top"}
    row |= {"seed": 1, "num_neurons": 3, "is_baseline": False, "task": "t", "task_kind": "x"}
    later = {"matched_to", "family", "first_layer", "last_layer"}
    old = pa.schema([field for field in MANIFEST if field.name not in later])
    table = pa.Table.from_pylist([row], schema=old)
    write_table(store.files, store.layout.manifest("r1"), table)
    found = folder.read_manifest()
    assert found.schema.equals(MANIFEST)
    (read,) = found.to_pylist()
    assert read["family"] == "top"
    assert (read["matched_to"], read["first_layer"], read["last_layer"]) == (None, None, None)
    assert {name: read[name] for name in row} == row


def test_estimates_keep_nan_and_counts(store):
    rows = [estimate(operation=None, effect=np.nan), estimate(ratio=np.nan)]
    folder = RunFolder(store, "r1")
    folder.write_job("{}")
    folder.write_estimates(pd.DataFrame([asdict(row) for row in rows]))
    back = folder.read_estimates()
    assert list(back.columns) == ESTIMATES.names
    assert np.isnan(back["effect"][0])
    assert back["effect"][1] == 1.5
    assert pd.isna(back["operation"][0])
    assert back["num_seeds"].dtype == np.int64
    folder.write_estimates(pd.DataFrame(columns=ESTIMATES.names))
    assert len(folder.read_estimates()) == 0
    with pytest.raises(ValueError, match="effekt"):
        folder.write_estimates(back.rename(columns={"effect": "effekt"}))


def test_unknown_run_names_the_nearest(store):
    with pytest.raises(UserError, match="holds no runs"):
        RunFolder(store, "quickstart").read_job()
    for run in ("quickstart", "blimp"):
        RunFolder(store, run).write_job("{}")
    misspelt = RunFolder(store, "quikstart")
    for read in (misspelt.read_job, misspelt.read_progress, misspelt.read_manifest):
        with pytest.raises(UserError, match="did you mean 'quickstart'"):
            read()


def test_known_run_names_the_missing_part(store):
    folder = RunFolder(store, "r1")
    folder.write_job("{}")
    with pytest.raises(UserError, match="'r1' has no estimates yet"):
        folder.read_estimates()


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_progress_is_named(store, text):
    folder = RunFolder(store, "r1")
    store.files.write("runs/r1/progress.json", text.encode())
    with pytest.raises(UserError, match=r"runs/r1/progress\.json is damaged"):
        folder.read_progress()


def test_damaged_tables_are_named(store):
    folder = RunFolder(store, "r1")
    store.files.write("runs/r1/manifest.parquet", b"PAR1")
    with pytest.raises(UserError, match=r"runs/r1/manifest\.parquet"):
        folder.read_manifest()


@pytest.mark.parametrize("run", ["../r", "a/b", "..", ""])
def test_names_that_leave_the_store_are_refused(store, run):
    with pytest.raises(UserError, match="no valid name"):
        RunFolder(store, run)


def test_report_folder_is_made(store):
    folder = RunFolder(store, "r1").report_folder()
    assert folder == Path(store.uri, "runs/r1/report")
    assert folder.is_dir()
    folder.rmdir()
    folder.write_text("in the way")
    with pytest.raises(UserError, match="cannot make"):
        RunFolder(store, "r1").report_folder()


def test_checkpoints_come_back(store):
    checkpoint = Checkpoint(
        model="m",
        revision="main",
        location="owner/m",
        commit=None,
        fingerprint="hub:1",
        origin="hub owner/m",
        model_type="llama",
        num_layers=2,
        num_neurons=8,
        context=64,
        dtype="float32",
        attention="sdpa",
        device="cpu",
    )
    folder = RunFolder(store, "r1")
    folder.write_checkpoints([checkpoint])
    assert folder.read_checkpoints() == (checkpoint,)
    store.files.write("runs/r1/checkpoints.json", b"[{}]")
    with pytest.raises(UserError, match=r"checkpoints\.json is damaged"):
        folder.read_checkpoints()
