"""The local variants of studies 2 and 3 on a trained model: what is taken out is what was found."""

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

import sweeper

JOBS = Path(__file__).resolve().parents[2] / "jobs"
SMALL = ["suite.perplexity.limit=2", "suite.grammar.limit=1", "seeds=2", "cluster=in_process"]


@pytest.fixture
def run_of(shared, tmp_path) -> Callable[..., sweeper.Run]:
    """Runs a job of the project on the trained model."""
    model = shared / "models" / "stories260K"

    def run(job: str, *overrides: str) -> sweeper.Run:
        local = ["model=local", f"model.local.path='{model}'", f"store='{tmp_path}'"]
        spec = sweeper.load_job(JOBS / f"{job}.yaml", [*local, *SMALL, *overrides])
        return sweeper.run_job(spec, Console(file=io.StringIO()))

    return run


def places(rows: pd.DataFrame) -> set[tuple[int, int]]:
    return set(zip(rows["layer"].tolist(), rows["neuron"].tolist(), strict=True))


def chosen(run: sweeper.Run, name: str) -> list[set[tuple[int, int]]]:
    """The neurons of a condition, once for each seed."""
    manifest = run.manifest()
    keys = manifest.loc[manifest["condition"] == name, "condition_key"].unique()
    sets = run.table("conditions").set_index("condition_key")
    return [
        {(row.layer, int(one)) for row in sets.loc[[key]].itertuples() for one in row.neurons}
        for key in keys
    ]


def counts(members: set[tuple[int, int]]) -> dict[int, int]:
    return pd.Series([layer for layer, _ in members]).value_counts().to_dict()


def test_what_the_firing_census_finds_is_taken_out(run_of):
    # So high a threshold makes many neurons dead, and many detectors.
    small = ["firing.windows=8", "firing.length=64", "firing.threshold=1.0"]
    run = run_of("dead_ngram_positional_smollm2", *small)
    firing, ngrams = run.table("firing"), run.table("ngrams")
    together = firing[firing["corpus"] == "all"].set_index(["layer", "neuron"])
    parts = firing[firing["corpus"] != "all"].groupby(["layer", "neuron"])["active"].sum()
    pd.testing.assert_series_equal(together["active"], parts, check_index=True)
    found = {
        "dead_zero": places(parts[parts == 0].reset_index()),
        "token_detectors_zero": places(ngrams.query("detector and n == 1")),
        "trigram_detectors_zero": places(ngrams.query("detector and n == 3")),
        "positional_zero": places(together[together["positional"]].reset_index()),
    }
    without = {item.condition: item.reason for item in run.unavailable}
    assert found["dead_zero"]
    assert found["token_detectors_zero"]
    for name, expected in found.items():
        if not expected:
            assert without[name].startswith("no neuron of the model is labelled ")
            assert without[f"random_{name}"] == without[name]
            continue
        assert name not in without
        assert chosen(run, name) == [expected]
        controls = chosen(run, f"random_{name}")
        assert len(controls) == 2
        assert all(counts(control) == counts(expected) for control in controls)
    assert run.complete == (not without)


def test_what_the_routing_analysis_finds_is_taken_out(run_of):
    small = ["routing.windows=16", "routing.length=128", "routing.fit_tokens=1000"]
    few = ["routing.splits=20", "routing.resamples=50", "routing.predicted_tokens=500"]
    run = run_of("binary_routing_smollm2", *small, *few, "routing.removal_windows=2")
    roles = run.table("routing_neurons")
    assert set(roles["role"]) >= {"consensus", "handler"}
    for role in ("consensus", "handler"):
        expected = places(roles[roles["role"] == role])
        assert chosen(run, f"{role}_zero") == [expected]
        for control in chosen(run, f"random_{role}_zero"):
            assert counts(control) == counts(expected)
    layers = run.table("routing_layers").set_index("layer")
    quorums = layers.index[layers["phase"] == "decision"]
    assert set(run.table("removal")["layer"]) == set(quorums)
    assert run.complete
