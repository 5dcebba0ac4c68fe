"""The options of ``conf/suite``, taken into a job by their names."""

import logging
from pathlib import Path

import pandas as pd
import pytest
import yaml

from sweeper.errors import UserError
from sweeper.score.pairs import check, fingerprint, load_pairs
from sweeper.score.tasks import PREPARE
from sweeper.score.texts import Scores
from sweeper.spec import LmEvalSpec, MinimalPairsSpec, SurprisalSpec, load_job

SUITE = Path(__file__).resolve().parents[2] / "conf" / "suite"
EIGHT = {
    *("arc_challenge", "arc_easy", "boolq", "hellaswag"),
    *("openbookqa", "piqa", "social_iqa", "winogrande"),
}
TRIPLES = pd.DataFrame(
    {
        "good": ["no cat has ever run", "the cat runs", "None", "no dog has ever run"],
        "intrusive": ["the cat has ever run", None, "None", "None"],
        "bad": ["most cats have ever run", "the cat run", "the dog run", "most dogs have ever run"],
        "template": ["npi", "agreement", "agreement", "npi"],
    }
)


def suite_of(folder, *overrides, options="blimp, tse, nongrammatical"):
    job = folder / "job.yaml"
    job.write_text(
        f"""
defaults:
  - model: smollm2-135m
  - corpus: [wikitext2_validation]
  - suite: [{options}]
  - condition: [baseline]
  - _self_
name: options
"""
    )
    return load_job(job, overrides).suite


@pytest.mark.parametrize("option", sorted(file.stem for file in SUITE.glob("*.yaml")))
def test_every_option_is_valid(option, tmp_path):
    path = ["suite.tse.source.path=tse.csv"] if option == "tse" else []
    found = suite_of(tmp_path, *path, options=option)
    assert set(found) == (EIGHT if option == "nongrammatical" else {option})


def test_one_option_adds_the_eight_tasks(tmp_path):
    suite = suite_of(tmp_path, "suite.tse.source.path=tse.csv", "suite.piqa.limit=100")
    assert set(suite) == {"blimp", "tse"} | EIGHT
    for name in EIGHT:
        assert suite[name] == LmEvalSpec(
            task=name, num_fewshot=0, limit=100 if name == "piqa" else None
        )


def test_an_option_of_its_own_is_the_same_task_as_in_the_group():
    group = yaml.safe_load((SUITE / "nongrammatical.yaml").read_text())
    for name in EIGHT:
        alone = yaml.safe_load((SUITE / f"{name}.yaml").read_text())[name]
        assert {**alone, "num_fewshot": 0} == group[name]


def test_the_eight_leave_with_their_option(tmp_path):
    assert set(suite_of(tmp_path, "suite=[blimp]")) == {"blimp"}


def test_surprisal_reads_the_corpus_that_it_is_told(tmp_path):
    suite = suite_of(tmp_path, "suite.surprisal.tagger.kind=hanta", options="surprisal")
    assert isinstance(suite["surprisal"], SurprisalSpec)
    assert suite["surprisal"].tagger.model_dump() == {"kind": "hanta"}
    with pytest.raises(UserError, match=r"^suite\.surprisal\.corpus: no corpus is named 'text'"):
        suite_of(tmp_path, "suite.surprisal.corpus=text", options="surprisal")
    with pytest.raises(UserError, match=r"^suite\.surprisal\.tagger\.kind.*did you mean spacy\?"):
        suite_of(tmp_path, "suite.surprisal.tagger.kind=spacey", options="surprisal")


def tse(folder, file, *overrides) -> MinimalPairsSpec:
    task = suite_of(folder, f"suite.tse.source.path={file}", *overrides, options="tse")["tse"]
    assert isinstance(task, MinimalPairsSpec)
    return task


def test_tse_without_a_file_says_so(tmp_path):
    with pytest.raises(UserError, match=r"suite\.tse\.source\.path"):
        suite_of(tmp_path, options="tse")


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_tse_takes_the_first_and_the_last_of_triples(tmp_path, caplog, ending):
    file = tmp_path / f"tse{ending}"
    if ending == ".csv":
        TRIPLES.to_csv(file, index=False)
    elif ending == ".jsonl":
        TRIPLES.to_json(file, orient="records", lines=True)
    else:
        TRIPLES.to_parquet(file)
    task = tse(tmp_path, file)
    check(task, "suite.tse")
    with caplog.at_level(logging.INFO):
        pairs = load_pairs(task, "suite.tse")
    assert caplog.messages == ['suite.tse: 1 of 4 pairs are dropped: "None"']
    assert pairs["good"].tolist() == [TRIPLES["good"][row] for row in (0, 1, 3)]
    assert pairs["bad"].tolist() == [TRIPLES["bad"][row] for row in (0, 1, 3)]
    assert pairs["cluster"].tolist() == pairs["group"].tolist() == ["npi", "agreement", "npi"]
    assert pairs["item_id"].tolist() == ["npi/0", "agreement/0", "npi/1"]


def test_what_is_dropped_is_part_of_the_fingerprint(tmp_path):
    file = tmp_path / "tse.csv"
    TRIPLES.to_csv(file, index=False)
    before = fingerprint(load_pairs(tse(tmp_path, file)))
    TRIPLES.replace("None", "the dog runs").to_csv(file, index=False)
    assert fingerprint(load_pairs(tse(tmp_path, file))) != before


def test_a_pickle_is_refused(tmp_path):
    file = tmp_path / "simple_agrmt.pickle"
    file.write_bytes(b"")
    with pytest.raises(UserError, match=r"path: .* has the unknown extension '.pickle'; allowed"):
        check(tse(tmp_path, file), "suite.tse")


def test_tse_as_it_was_published(shared, stories, tmp_path):
    file = shared / "data" / "tse" / "tse.parquet"
    task = tse(tmp_path, file, "suite.tse.limit=2")
    pairs = load_pairs(task)
    rows = pd.read_parquet(file).groupby("template", sort=False).head(2)
    assert pairs["good"].tolist() == rows["good"].tolist()
    assert pairs["bad"].tolist() == rows["bad"].tolist()
    assert pairs["cluster"].tolist() == rows["template"].tolist()
    prepared = PREPARE["minimal_pairs"](stories.tokenizer, 512, task, None)
    # Made-up scores: every token of a sentence has minus its number of tokens.
    logprobs = [
        -0.25 * len(row) + 0 * pd.Series(row[1:]).to_numpy("f4") for row in prepared.texts.rows
    ]
    scores = Scores(logprobs=logprobs, greedy=None, values_seen=0, values_changed=0)
    items = prepared.items(scores)
    lengths = [len(row) for row in prepared.texts.rows]
    good, bad = lengths[: len(pairs)], lengths[len(pairs) :]
    assert items["margin"].tolist() == [-0.25 * (g - b) for g, b in zip(good, bad, strict=True)]
    assert items["cluster"].nunique() == 22
