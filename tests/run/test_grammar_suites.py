"""Sweeps over BLiMP and TSE as published: effects by phenomenon and by template."""

import io

import pandas as pd
import pytest
from rich.console import Console

import sweeper

PAIRS = {"kind": "minimal_pairs", "limit": 1}
TSE_COLUMNS = {
    "good": "good",
    "bad": "bad",
    "cluster": "template",
    "group": "template",
    "id": None,
}


@pytest.fixture
def estimates(story_job, shared):
    data = shared / "data"
    suite = {
        "blimp": {
            **PAIRS,
            "source": {"kind": "file", "path": str(data / "blimp" / "blimp.parquet")},
        },
        "tse": {
            **PAIRS,
            "source": {"kind": "file", "path": str(data / "tse" / "tse.parquet")},
            "columns": TSE_COLUMNS,
            "reduce": "mean",
        },
    }
    both = story_job(suite=suite, seeds=1)
    job = both.model_copy(update={"suite": {name: both.suite[name] for name in suite}})
    run = sweeper.run_job(job, Console(file=io.StringIO()))
    assert run.complete, run.failed
    return run.estimates().query("metric == 'accuracy' and condition == 'top'")


def test_effects_by_phenomenon_and_template(estimates, shared):
    data = shared / "data"
    for task, file, group, cluster in (
        ("blimp", data / "blimp" / "blimp.parquet", "linguistics_term", "UID"),
        ("tse", data / "tse" / "tse.parquet", "template", "template"),
    ):
        rows = pd.read_parquet(file, columns=list({group, cluster}))
        expected = rows.groupby(group)[cluster].nunique().to_dict()
        found = estimates[estimates["task"] == task].set_index("group")["num_clusters"]
        assert found.drop("all").to_dict() == expected
        assert found["all"] == sum(expected.values())
    assert len(expected) == 22
