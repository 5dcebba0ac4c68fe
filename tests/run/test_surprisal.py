"""A sweep over surprisal by part of speech, in this process."""

import io
import json

import pytest
from rich.console import Console

import sweeper
from sweeper.score.pos.taggers import choose
from sweeper.spec.task import HantaTagger

TASK = {
    "kind": "surprisal",
    "corpus": "text",
    "length": 64,
    "limit": 8,
    "keep_tokens": True,
    "tagger": {"kind": "hanta"},
}


def run_quietly(job) -> sweeper.Run:
    return sweeper.run_job(job, Console(file=io.StringIO()))


@pytest.fixture
def job_of(story_job, tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))

    def build(**changes):
        surprisal = {**TASK, **changes}
        perplexity = {"kind": "perplexity", "corpus": "text", "length": 64, "limit": 8}
        return story_job(suite={"pos": surprisal, "perplexity": perplexity})

    return build


def test_every_part_of_speech_has_an_effect(job_of):
    run = run_quietly(job_of())
    assert run.complete, run.failed
    estimates = run.estimates()
    nll = estimates.query("task == 'pos' and metric == 'nll' and condition == 'top'")
    of_groups = nll.set_index("group")
    assert {"all", "DET", "AUX", "PART", "PUNCT", "NOUN", "VERB", "PROPN"} <= set(of_groups.index)
    whole = estimates.query("task == 'perplexity' and condition == 'top'").iloc[0]
    for column in ("baseline", "value", "effect", "cluster_low", "cluster_high"):
        assert of_groups.loc["all", column] == pytest.approx(whole[column], rel=1e-9)
    check_shifts(estimates.query("task == 'pos' and condition == 'top'"))
    noted = {
        json.loads(text).get("tagger")
        for text in run.table("cells").query("task == 'pos'")["versions"]
    }
    assert noted == {choose(HantaTagger()).label}


def test_the_report_says_what_was_measured(job_of, tmp_path):
    page = run_quietly(job_of()).write_report(tmp_path / "report").read_text()
    assert "surprisal by part of speech over windows of 64 tokens" in page


def check_shifts(estimates) -> None:
    """A group's shift is its effect minus that of all tokens."""
    effects = estimates.pivot(index="group", columns="metric", values="effect")
    groups = effects.drop(index="all")
    expected = groups["nll"] - effects.loc["all", "nll"]
    assert groups["shifted"].to_list() == pytest.approx(expected.to_list(), rel=1e-6, abs=1e-9)


def test_tokens_can_be_asked_by_part_of_speech(job_of):
    run = run_quietly(job_of())
    by_group = run.store.sql(
        """
        select items."group", -sum(surprisal) total, count(*) num
        from tokens join items using (cell_key, item)
        group by 1
        """
    ).set_index("group")
    items = run.table("items")
    tagged = items[items["item_id"].str.contains("/") & items["cluster"].str.startswith("window")]
    sums = tagged.groupby("group")[["logprob", "num_tokens"]].sum()
    assert by_group["num"].to_dict() == sums["num_tokens"].to_dict()
    assert by_group["total"].to_dict() == pytest.approx(sums["logprob"].to_dict(), rel=1e-5)


def test_a_second_run_computes_nothing_and_another_tagger_everything(job_of, tmp_path):
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    pipeline = spacy.blank("en")
    pipeline.add_pipe("attribute_ruler").add([[{"LOWER": "the"}]], {"POS": "DET"})
    pipeline.to_disk(tmp_path / "rules")
    first = run_quietly(job_of())
    keys, count = pos_keys(first), len(first.table("cells"))
    again = run_quietly(job_of(tagger={"kind": "auto", "model": "no_such_model"}))
    assert again.complete
    assert again.folder.read_progress()["cells_reused"] == count
    assert pos_keys(again) == keys
    other = run_quietly(job_of(tagger={"kind": "spacy", "model": str(tmp_path / "rules")}))
    assert other.complete, other.failed
    assert not pos_keys(other) & keys


def pos_keys(run) -> set[str]:
    return set(run.manifest().query("task == 'pos'")["cell_key"])
