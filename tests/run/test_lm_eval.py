"""Sweeps over tasks of lm-evaluation-harness, in this process."""

import io

import numpy as np
import pytest
from harness_tasks import write_tasks
from rich.console import Console

import sweeper
from sweeper.spec.job import JobSpec

TASKS = ("tiny_choice", "tiny_target", "tiny_rolling", "tiny_writing")


@pytest.fixture
def job(tiny_folder, tmp_path):
    """A job over local tasks of every kind."""
    spec_of = write_tasks(tmp_path)
    some = {0: list(range(0, 40, 3)), 2: [1, 5]}
    return JobSpec.model_validate(
        {
            "name": "harness",
            "store": str(tmp_path / "store"),
            "model": {"tiny": {"path": str(tiny_folder("llama"))}},
            "corpus": {},
            "suite": {name: spec_of(name).model_dump() for name in TASKS},
            "condition": {
                "baseline": {"operation": None},
                "some": {
                    "operation": "zero",
                    "neurons": {"kind": "explicit", "neurons": some},
                },
                "random": {
                    "operation": "zero",
                    "neurons": {"kind": "random", "match": "some"},
                },
            },
            "seeds": 2,
            "statistics": {"resamples": 100},
            "cluster": {"executor": "in_process"},
        }
    )


def run_quietly(job) -> sweeper.Run:
    return sweeper.run_job(job, Console(file=io.StringIO()))


def test_a_sweep_over_tasks_of_every_kind(job, tmp_path):
    run = run_quietly(job)
    assert run.complete, run.failed
    cells = run.table("cells")
    assert len(cells) == 4 * 4
    clamped = cells[cells["condition"] != "baseline"]
    assert (clamped["values_changed"] > 0).all()
    items = run.table("items")
    assert items.groupby("cell_key").size().isin([5, 3]).all()
    metrics = run.estimates().groupby("task")["metric"].unique().map(set).to_dict()
    assert metrics == {
        "tiny_choice": {"accuracy", "margin", "acc_norm", "exact_match"},
        "tiny_target": {"accuracy", "nll"},
        "tiny_rolling": {"nll"},
        "tiny_writing": {"exact_match,first", "exact_match,whole"},
    }
    check_aggregates(run)
    page = run.write_report(tmp_path / "report").read_text()
    assert "acc_norm" in page
    assert "lm-evaluation-harness task" in page


def check_aggregates(run) -> None:
    """The harness's own mean is the level of the same metric."""
    keys = run.manifest().set_index("cell_key")[["task", "condition"]]
    aggregates = run.table("aggregates").drop(columns="task").join(keys, on="cell_key")
    levels = run.levels().set_index(["task", "condition", "metric"])["value"]
    names = {"acc": "accuracy", "acc_norm": "acc_norm"}
    shown = aggregates[aggregates["metric"].isin(names) & (aggregates["condition"] != "random")]
    assert len(shown) == 2 * 2 + 2
    for row in shown.itertuples():
        assert row.value == pytest.approx(levels[row.task, row.condition, names[row.metric]])
    rolling = aggregates.query("task == 'tiny_rolling' and metric == 'bits_per_byte'")
    assert len(rolling) == 4
    assert np.isfinite(rolling["value"]).all()


def test_a_second_run_computes_nothing(job):
    first = run_quietly(job)
    commits = sorted(first.store.files.names("commits"))
    again = run_quietly(job)
    assert sorted(again.store.files.names("commits")) == commits
    assert again.folder.read_progress()["cells_reused"] == 16


def test_the_same_condition_writes_the_same_text_again(job, tmp_path):
    runs = [run_quietly(job.model_copy(update={"store": str(tmp_path / name)})) for name in "ab"]
    columns = ["cell_key", "item_id", "metric"]
    one, two = (run.table("outcomes").set_index(columns)["value"].sort_index() for run in runs)
    assert one.equals(two)
