from pathlib import Path

import pandas as pd
import pytest
from ingest_files import DATE, answers, new_file, old_file, samples_file, stderr_of

from sweeper.errors import UserError
from sweeper.ingest.naming import Naming, read_pattern
from sweeper.ingest.reading import read_all
from sweeper.ingest.table import Choice

NOTHING = Choice({})
ROW = {"acc,none": 0.75, "acc_stderr,none": stderr_of(0.75, 4)}
LINES = answers([1, 1, 0, 1])


def read(*paths: Path, naming: Naming | None = None, choice: Choice = NOTHING):
    return read_all(paths, naming or Naming(), choice)


def test_a_folder_of_everything(tmp_path):
    new_file(tmp_path / "new" / "org__m", {"piqa": ROW}, sizes={"piqa": 4})
    old_file(tmp_path / "old" / "x.json", {"arc": {"acc": 0.5}}, model_args="pretrained=n")
    table = [{"model": "t", "task": "a", "metric": "acc", "value": 0.5}]
    pd.DataFrame(table).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "notes.csv").write_text("a\n1\n")
    (tmp_path / "data.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "read.me").write_text("?")
    found = read(tmp_path, tmp_path / "t.csv")
    assert found.problems == []
    assert {result.origin.model for result in found.results} == {"EleutherAI/pythia-70m", "n", "t"}
    assert len(found.results) == len(found.sources) == 3
    names = [Path(name).name for name in found.passed_over]
    assert sorted(names) == ["config.json", "data.jsonl", "notes.csv"]


def test_a_log_goes_to_its_evaluation(tmp_path):
    new_file(tmp_path, {"piqa": ROW, "arc": ROW}, sizes={"piqa": 4})
    samples_file(tmp_path, "piqa", LINES)
    later = "2025-01-01T00-00-00.5"
    new_file(tmp_path, {"piqa": ROW}, date=later, model_args="pretrained=gpt2")
    samples_file(tmp_path, "piqa", answers([1, 0, 1, 1]), date=later)
    found = read(tmp_path)
    assert found.problems == []
    logged = {
        result.origin.model: result.samples.path.stem
        for result in found.results
        if result.samples is not None
    }
    assert logged == {
        "EleutherAI/pythia-70m": f"samples_piqa_{DATE}",
        "gpt2": f"samples_piqa_{later}",
    }
    assert len(found.results) == 3


def test_a_log_alone_looks_beside_itself(tmp_path):
    new_file(tmp_path, {"piqa": ROW, "arc": ROW}, groups={"both": ["piqa", "arc"]})
    found = read(samples_file(tmp_path, "piqa", LINES))
    (result,) = found.results
    assert (result.task, result.origin.step, result.num_items) == ("piqa", 1000, 4)
    assert found.groups == {"both": ("piqa", "arc")}


def test_a_log_without_an_evaluation_needs_a_pattern(tmp_path):
    log = samples_file(tmp_path / "m" / "step5", "piqa", LINES)
    (problem,) = read(log).problems
    assert problem == f"{log}: no results_*.json beside it says whose it is; give --model-pattern"
    naming = read_pattern(r"(?P<model>\w+)/(?P<revision>step\d+)/samples")
    (result,) = read(log, naming=naming).results
    assert (result.origin.model, result.origin.step) == ("m", 5)
    assert result.metrics == ()


def test_logs_of_the_first_version(tmp_path):
    old_file(tmp_path / "results.json", {"arc_easy": {"acc,none": 0.75}, "easy": {"acc,none": 1}})
    log = tmp_path / "pretrained__gpt2_arc_easy.jsonl"
    samples_file(tmp_path, "x", LINES).rename(log)
    found = read(tmp_path)
    assert found.problems == []
    assert {one.task: one.samples is not None for one in found.results} == {
        "arc_easy": True,
        "easy": False,
    }


@pytest.mark.parametrize(
    ("size", "accuracy", "reason"),
    [
        (5, 0.75, "it holds 4 documents, .* counts 5"),
        (4, 0.5, "the mean of its acc is 0.75, .* says 0.5"),
    ],
)
def test_a_log_that_contradicts_its_evaluation(tmp_path, size, accuracy, reason):
    new_file(tmp_path, {"piqa": {"acc,none": accuracy}}, sizes={"piqa": size})
    log = samples_file(tmp_path, "piqa", LINES)
    found = read(tmp_path)
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"{log}: ")
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found.problems[0])


def test_every_bad_file_has_a_line(tmp_path):
    good = new_file(tmp_path, {"piqa": ROW})
    (tmp_path / "results_bad.json").write_text("{")
    (tmp_path / "results_other.json").write_text('{"rows": 3}')
    (tmp_path / "t.parquet").write_text("?")
    (tmp_path / "samples_arc_2024-01-01T00-00-00.jsonl").write_text("{}\n")
    found = read(tmp_path)
    assert list(found.sources) == [good.as_posix()]
    assert [Path(line.split(":")[0]).name for line in found.problems] == [
        "results_bad.json",
        "results_other.json",
        "t.parquet",
        "samples_arc_2024-01-01T00-00-00.jsonl",
    ]


def test_named_files_must_be_results(tmp_path):
    other = tmp_path / "config.json"
    other.write_text("{}")
    lines = tmp_path / "data.jsonl"
    lines.write_text('{"text": "a"}\n')
    assert len(read(other, lines).problems) == 2


def test_what_is_asked_for(tmp_path):
    new_file(tmp_path, {"piqa": ROW, "arc_easy": ROW})
    found = read(tmp_path, choice=Choice({"task": ["arc_*"]}))
    assert [result.task for result in found.results] == ["arc_easy"]
    assert read(tmp_path, choice=Choice({"step": ["7"]})).results == []
    (problem,) = read(tmp_path, choice=Choice({"suite": ["v0"]})).problems
    assert "a harness file has no column 'suite'" in problem


def test_paths_that_are_wrong(tmp_path):
    with pytest.raises(UserError, match="RESULTS: there is no file or folder"):
        read(tmp_path / "none")
    other = tmp_path / "a.txt"
    other.write_text("")
    with pytest.raises(UserError, match=r"unknown kind; allowed are \.json"):
        read(other)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"config": {}, "results": {"a": {"acc": 1' + "0" * 400 + '}}, "model_name": "m"}',
        '{"config": {}, "results": {"a": {"acc": 1}}, "model_name": "\\ud800"}',
        '{"config": {}, "results": {"a": 3}, "model_name": "m"}',
    ],
)
def test_strange_json_is_a_line_too(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    found = read(path)
    assert found.results == []
    assert found.problems[0].startswith(f"{path}: ")
    assert len(found.problems) == 1


def test_strange_facts_beside_good_numbers(tmp_path):
    facts = {"date": 1e300, "total_evaluation_time_seconds": "nan", "n-shot": {"piqa": 1e999}}
    path = new_file(tmp_path, {"piqa": ROW | {"sample_len": float("inf")}}, **facts)
    (result,) = read(path).results
    assert result.date < 4e9
    assert (result.seconds, result.num_fewshot, result.num_items) == (0.0, 0, None)


@pytest.mark.parametrize(
    "line", ['{"doc_id": 1e999, "acc": 1}', '{"doc_id": 1, "acc\\ud800": 1}', "[" * 100_000]
)
def test_strange_logs(tmp_path, line):
    new_file(tmp_path, {"piqa": ROW})
    log = samples_file(tmp_path, "piqa", [])
    log.write_text(line)
    (problem,) = read(tmp_path).problems
    assert problem.startswith(f"{log}: ")
