import json

import numpy as np
import pytest
from ingest_files import answers, sample, samples_file

from sweeper.ingest.samples import read_samples

ALL = {"acc,none": True}


def test_rows_of_a_log(tmp_path):
    lines = answers([1, 0, 1], [2.0, 0.5, 1.5])
    log = read_samples(samples_file(tmp_path, "piqa", lines), "piqa")
    assert log.num_items == 3
    assert log.means == {"acc,none": pytest.approx(2 / 3)}
    tables = log.tables(ALL)
    items, outcomes = tables["items"], tables["outcomes"]
    assert items["margin"].tolist() == [2.0, -0.5, 1.5]
    assert items["logprob"].tolist() == [-5.0] * 3
    assert items["correct"].tolist() == [True, False, True]
    assert items["group"].unique().tolist() == ["piqa"]
    assert items["item_id"].tolist() == [f"piqa/{n}/{n:08x}" for n in range(3)]
    assert outcomes["value"].tolist() == [1.0, 0.0, 1.0]
    assert outcomes["averaged"].all()
    assert outcomes["metric"].unique().tolist() == ["acc"]


def test_filters_are_metrics_of_their_own(tmp_path):
    lines = [
        sample(doc, value, filter=name, metrics=["exact_match"], exact_match=value)
        for name, values in (("strict", (0.0, 1.0)), ("flexible", (1.0, 1.0)))
        for doc, value in enumerate(values)
    ]
    log = read_samples(samples_file(tmp_path, "gsm8k", lines), "gsm8k")
    assert log.num_items == 2
    assert log.means == {"exact_match,strict": 0.5, "exact_match,flexible": 1.0}
    outcomes = log.tables({"exact_match,strict": True})["outcomes"]
    assert set(outcomes["metric"]) == {"exact_match,strict", "exact_match,flexible"}
    assert outcomes.groupby("metric")["averaged"].all().to_dict() == {
        "exact_match,strict": True,
        "exact_match,flexible": False,
    }


def test_versions_that_list_no_metrics(tmp_path):
    lines = [
        {"doc_id": 0, "doc": {}, "target": 1, "filtered_resps": [[-3.0, False], [-2.0, True]],
         "resps": [], "arguments": [], "acc": 1.0, "acc_norm": 0.0, "words": [3, 4]},
    ]  # fmt: skip
    log = read_samples(samples_file(tmp_path, "old", lines), "old")
    assert log.means == {"acc,none": 1.0, "acc_norm,none": 0.0}
    items = log.tables({})["items"]
    assert items["margin"].tolist() == [1.0]
    assert items["item_id"].tolist() == ["old/0"]


def test_an_array_in_place_of_lines(tmp_path):
    path = samples_file(tmp_path, "piqa", [])
    path.write_text(json.dumps(answers([1, 0]), indent=2))
    assert read_samples(path, "piqa").num_items == 2


def test_margins_go_where_the_accuracy_says_otherwise(tmp_path):
    lines = answers([1, 0, 1])
    lines[2]["acc"] = 0.0
    log = read_samples(samples_file(tmp_path, "piqa", lines), "piqa")
    assert log.tables(ALL)["items"]["margin"].isna().all()
    ties = [sample(0, 1.0, (-2.0, -2.0)), sample(1, 0.0, (-2.0, -2.0))]
    log = read_samples(samples_file(tmp_path, "ties", ties), "ties")
    assert log.tables(ALL)["items"]["margin"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "line",
    [
        sample(0, 1.0, (-2.0, -3.0), target="five"),
        sample(0, 1.0, (-2.0, -3.0), target="7"),
        sample(0, 1.0, (-2.0, -3.0), acc_mutual_info=1.0),
        sample(0, 1.0, (-2.0,)),
        sample(0, 1.0, filtered_resps=["the answer", "another"]),
        sample(0, 1.0, (float("-inf"), -3.0)),
        sample(0, 0.5, (-2.0, -3.0)),
    ],
)
def test_no_margin_where_the_line_does_not_tell_one(tmp_path, line):
    log = read_samples(samples_file(tmp_path, "piqa", [line]), "piqa")
    assert log.tables(ALL)["items"]["margin"].isna().all()


def test_the_digest_is_of_what_is_kept(tmp_path):
    lines = answers([1, 0, 1])
    first = read_samples(samples_file(tmp_path / "a", "piqa", lines), "piqa")
    shuffled = [line | {"doc": "other words"} for line in lines[::-1]]
    second = read_samples(samples_file(tmp_path / "b", "piqa", shuffled), "piqa")
    assert first.digest == second.digest
    lines[0]["filtered_resps"][1][0] = "-6.5"
    third = read_samples(samples_file(tmp_path / "c", "piqa", lines), "piqa")
    assert third.digest != first.digest
    assert np.isclose(third.means["acc,none"], first.means["acc,none"])


def test_a_log_that_changes_between_the_two_readings(tmp_path):
    path = samples_file(tmp_path, "piqa", answers([1, 0, 1]))
    log = read_samples(path, "piqa")
    samples_file(tmp_path, "piqa", answers([1, 0, 0]))
    with pytest.raises(ValueError, match="has changed since"):
        log.tables(ALL)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it holds no document"),
        ('{"doc_id": 0, "acc": 1}\n{"doc_id": 1, "ac', r"line 2 is not valid JSON .*cut off\?"),
        ("3\n", "line 1 is not an object"),
        ("[3]", "an entry is not an object"),
        ("[{]", "not valid JSON"),
        ('{"acc": 1}\n', "line 1: 'doc_id' is missing"),
        ('{"doc_id": "x", "acc": 1}\n', "line 1: invalid literal"),
        ('{"doc_id": 7, "acc": NaN}\n', "line 1: document 7: acc is nan, not a finite number"),
        ('{"doc_id": 7, "ppl": -Infinity}\n', "line 1: document 7: ppl is -inf, not a finite"),
        ('{"doc_id": 0, "acc": 1}\n' * 2, r"line 2: document 0 stands twice \(filter none\)"),
    ],
)
def test_bad_logs(tmp_path, text, reason):
    path = tmp_path / "samples_piqa.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_samples(path, "piqa")
