"""Contrasts of a whole run, from the job to the files."""

import io

import pandas as pd
import pytest
from rich.console import Console

import sweeper

CONTRASTS = {
    "against_random": {
        "kind": "difference",
        "target": "top",
        "control": "random",
        "metric": "margin",
    },
    "double": {
        "kind": "dissociation",
        "target": "top",
        "control": "random",
        "metric": "nll",
        "grammar": ["perplexity"],
        "other": ["perplexity_again"],
    },
}


def test_contrasts_of_a_run(story_job):
    again = {"kind": "perplexity", "corpus": "text", "length": 32, "limit": 9}
    job = story_job(contrasts=CONTRASTS, suite={"perplexity_again": again})
    run = sweeper.run_job(job, Console(file=io.StringIO()))
    contrasts = run.contrasts()
    assert contrasts["contrast"].value_counts().to_dict() == {"double": 7, "against_random": 3}
    # Target minus its random controls is what the estimates call excess.
    estimates = run.estimates().query("metric == 'margin' and group == 'all'")
    mine = contrasts.query("part == 'difference'").iloc[0]
    top = estimates.query("condition == 'top'").iloc[0]
    expected = (top["excess"], top["excess_low"], top["excess_high"])
    assert (mine["estimate"], mine["low"], mine["high"]) == pytest.approx(expected)
    parts = contrasts.query("contrast == 'double'").set_index("part")["estimate"]
    sides = [parts[f"target_minus_control_on_{side}"] for side in ("grammar", "other")]
    assert parts["interaction"] == pytest.approx(sides[0] - sides[1])
    run.write_report()
    stored = run.folder.read_contrasts()
    pd.testing.assert_frame_equal(stored, contrasts, check_dtype=False)
