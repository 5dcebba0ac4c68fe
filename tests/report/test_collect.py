"""From a real run of a tiny model to what its report is made from."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from sweeper.api import Run, run_job
from sweeper.report.collect import collect
from sweeper.report.collect_examples import NUM_EXAMPLES
from sweeper.report.data import ReportData
from sweeper.score import grammar
from sweeper.spec.job import JobSpec

TOP = {"kind": "top", "statistic": "wd", "fraction": 0.05}


@pytest.fixture(scope="module")
def run(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    text = folder / "story.txt"
    text.write_text("One day a girl saw a big red ball and wanted to play with it. " * 40)
    pairs = {"kind": "minimal_pairs", "source": {"kind": "grammar"}, "limit": 4}
    clamp = "negative_clamp"
    job = {
        "name": "story",
        "store": str(folder / "store"),
        "model": {"stories": {"path": str(shared / "models" / "stories260K")}},
        "corpus": {"text": {"kind": "file", "path": str(text)}},
        "census": {"corpus": "text", "length": 64, "windows": 8},
        "suite": {
            "grammar": {**pairs, "keep_tokens": True},
            "few": {**pairs, "limit": 1},
            "text": {"kind": "perplexity", "corpus": "text", "length": 64},
        },
        "condition": {
            "baseline": {"operation": None},
            "top": {"operation": clamp, "neurons": TOP},
            "alike": {
                "operation": clamp,
                "neurons": {"kind": "matched", "match": "top", "by": "moments"},
            },
            "as_bad": {
                "operation": clamp,
                "neurons": {"kind": "matched", "match": "top", "by": "perplexity", "task": "text"},
            },
            "by_layers": {"operation": clamp, "neurons": {**TOP, "layers": {"groups": 2}}},
            "random": {"operation": clamp, "neurons": {"kind": "random", "match": "top"}},
        },
        "seeds": 2,
        "statistics": {"resamples": 200},
        "cluster": {"executor": "in_process"},
    }
    return run_job(JobSpec.model_validate(job), Console(file=io.StringIO()))


@pytest.fixture(scope="module")
def data(run: Run) -> ReportData:
    nothing = pd.DataFrame()
    return collect(run.store, run.folder, nothing, nothing, nothing)


def test_examples_are_the_pairs_that_lose_most(run: Run, data: ReportData) -> None:
    assert {"top", "alike"} <= set(data.examples["condition"]) <= {"top", "alike", "as_bad"}
    shown = data.examples[(data.examples["task"] == "grammar")]
    for condition in ("top", "alike"):
        rows = shown[shown["condition"] == condition]
        margins = margins_of(run, condition) - margins_of(run, "baseline")
        lowest = margins[margins < 0].nsmallest(NUM_EXAMPLES)
        assert rows["change"].tolist() == pytest.approx(lowest.tolist())
        assert rows["item"].tolist() == lowest.index.tolist()
        assert len(rows) == NUM_EXAMPLES


def margins_of(run: Run, condition: str) -> "pd.Series[float]":
    manifest = run.manifest()
    keys = manifest[(manifest["condition"] == condition) & (manifest["task"] == "grammar")]
    items = run.table("items")
    return items[items["cell_key"].isin(keys["cell_key"])].set_index("item")["margin"]


def test_texts_are_those_of_the_source(data: ReportData) -> None:
    source = grammar.generate()
    known = set(zip(source["sentence_good"], source["sentence_bad"], strict=True))
    assert set(zip(data.examples["text"], data.examples["text_bad"], strict=True)) <= known


def test_texts_are_kept_once_for_a_task(run: Run) -> None:
    texts = run.table("texts")
    manifest = run.manifest()
    scored = manifest[manifest["kind"] == "score"].drop_duplicates("cell_key")
    baselines = scored[scored["is_baseline"] & (scored["task_kind"] == "minimal_pairs")]["cell_key"]
    assert set(texts["cell_key"]) == set(baselines)
    assert not texts.duplicated(["cell_key", "item"]).any()


def test_tokens_of_examples_sum_to_their_margins(data: ReportData) -> None:
    tokens = data.example_tokens
    assert set(tokens["task"]) == {"grammar"}
    sums = tokens.groupby(["condition", "item", "text"])[["baseline_surprisal", "surprisal"]].sum()
    rows = data.examples[data.examples["task"] == "grammar"].set_index(["condition", "item"])
    for column, margin in (("baseline_surprisal", "baseline_margin"), ("surprisal", "margin")):
        sides = sums[column].unstack("text")
        found = (sides[1] - sides[0]).loc[rows.index]
        assert np.allclose(found, rows[margin], atol=1e-3)


def test_shapes_and_balance(run: Run, data: ReportData) -> None:
    (checkpoint,) = run.folder.read_checkpoints()
    row = data.checkpoints.iloc[0]
    assert (row["num_layers"], row["num_neurons"]) == (
        checkpoint.num_layers,
        checkpoint.num_neurons,
    )
    assert set(data.balance["condition"]) == {"alike"}
    assert set(data.balance["matched_to"]) == {"top"}
    assert data.neuron_pairs.empty
    # Sets of single groups of layers would only repeat neurons of the whole one.
    assert {"top", "alike"} <= set(data.selected["condition"]) <= {"top", "alike", "as_bad"}


def test_the_search_for_a_match_is_named(data: ReportData) -> None:
    named = data.matches[["model", "condition", "matched_to"]].drop_duplicates()
    assert named.to_numpy().tolist() == [["stories", "as_bad", "top"]]
    assert data.matches["chosen"].sum() == 1


def test_the_report_of_the_run(run: Run, tmp_path: Path) -> None:
    page = run.write_report(tmp_path).read_text(encoding="utf-8")
    assert "Controls matched by moments" in page
    assert "Controls matched by perplexity" in page
    assert "grammar, top — stories @ local" in page
    assert 'class="up' in page
    assert "by_layers[0-1]" in page
    names = {path.name for path in (tmp_path / "tables").iterdir()}
    assert {"balance.tex", "examples.md", "effects_by_layers.tex"} <= names
