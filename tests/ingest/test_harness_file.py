import json

import pytest
from ingest_files import new_file, old_file

from sweeper.ingest.harness_file import is_results, read_json, read_results
from sweeper.ingest.naming import Naming
from sweeper.ingest.result import Metric


def read(path):
    return read_results(read_json(path), path, Naming())


def test_the_old_layout(tmp_path):
    row = {"acc": 0.5, "acc_stderr": 0.1, "acc_norm": 0.6, "acc_norm_stderr": 0.2}
    results = {"arc_easy": row, "lambada": {"ppl": 20.5, "ppl_stderr": 1.5}, "wikitext": {"wp": 9}}
    arguments = "pretrained=EleutherAI/pythia-1b,revision=step3000"
    file = old_file(tmp_path / "f.json", results, model_args=arguments, num_fewshot=5)
    found = {result.task: result for result in read(file).results}
    assert list(found) == ["arc_easy", "lambada", "wikitext"]
    assert found["arc_easy"].metrics == (
        Metric(name="acc", filter="none", value=0.5, stderr=0.1),
        Metric(name="acc_norm", filter="none", value=0.6, stderr=0.2),
    )
    assert found["wikitext"].metrics[0].stderr is None
    assert found["arc_easy"].place == ("EleutherAI/pythia-1b", "step3000", "arc_easy (5-shot)")
    assert found["arc_easy"].num_items is None


def test_the_new_layout(tmp_path):
    row = {"acc,none": 0.25, "acc_stderr,none": 0.01, "exact_match,strict-match": 0.5}
    extra = {"exact_match_stderr,strict-match": "N/A", "sample_len": 40, "name": "piqa"}
    file = new_file(
        tmp_path,
        {"piqa": row | extra, "header": {"alias": " - header"}},
        sizes={"piqa": 40},
        shots={"piqa": 2},
        date="2024-03-01T10-20-30.5",
        total_evaluation_time_seconds="12.5",
    )
    (found,) = read(file).results
    assert found.metrics == (
        Metric(name="acc", filter="none", value=0.25, stderr=0.01),
        Metric(name="exact_match", filter="strict-match", value=0.5, stderr=None),
    )
    assert (found.num_items, found.num_fewshot, found.seconds) == (40, 2, 12.5)
    assert found.versions == {"lm_eval": "0.4.9"}
    assert found.name == "piqa (2-shot)"


def test_groups_go_down_to_tasks(tmp_path):
    groups = {"all": ["stem", "law"], "stem": ["maths", "physics"], "law": ["rights"], "piqa": []}
    file = new_file(tmp_path, {"maths": {"acc,none": 1.0}}, groups=groups)
    assert read(file).groups == {
        "all": ("maths", "physics", "rights"),
        "stem": ("maths", "physics"),
        "law": ("rights",),
    }


def test_groups_that_share_others_or_go_deep_or_in_circles(tmp_path):
    twice = {f"g{n}": [f"g{n + 1}", f"g{n + 1}"] for n in range(60)} | {"g60": ["one", "two"]}
    row = {"one": {"acc,none": 1.0}}
    found = read(new_file(tmp_path / "a", row, groups=twice)).groups
    assert set(found.values()) == {("one", "two")}
    deep = {f"g{n}": [f"g{n + 1}"] for n in range(1200)}
    assert read(new_file(tmp_path / "b", row, groups=deep)).groups["g0"] == ("g1200",)
    circle = {"g": ["one", "h"], "h": ["g", "two"]}
    assert read(new_file(tmp_path / "c", row, groups=circle)).groups == {
        "g": ("one", "two"),
        "h": ("one", "two"),
    }


def test_the_later_evaluation_has_the_later_date(tmp_path):
    one = new_file(tmp_path, {"piqa": {"acc,none": 1.0}}, date="2024-03-01T10-20-30.5")
    two = new_file(tmp_path, {"piqa": {"acc,none": 1.0}}, date="2024-03-01T10-20-31")
    told = new_file(tmp_path / "b", {"piqa": {"acc,none": 1.0}}, **{"date": "2020-01-01T00-00-00"})
    content = json.loads(told.read_text()) | {"date": 2e9}
    told.write_text(json.dumps(content))
    dates = [read(file).results[0].date for file in (one, two, told)]
    assert dates[0] < dates[1] < dates[2] == 2e9


def test_the_key_is_of_the_content(tmp_path):
    row = {"acc,none": 0.25, "acc_stderr,none": 0.01}
    first = read(new_file(tmp_path / "a", {"piqa": row})).results[0]
    moved = read(new_file(tmp_path / "b", {"piqa": row}, date="2025-01-01T00-00-00")).results[0]
    assert first.key == moved.key
    for other in (
        new_file(tmp_path / "c", {"piqa": row | {"acc,none": 0.26}}),
        new_file(tmp_path / "d", {"piqa": row}, model_args="pretrained=x"),
        new_file(tmp_path / "e", {"piqa": row}, sizes={"piqa": 9}),
        new_file(tmp_path / "f", {"piqa": row}, shots={"piqa": 1}),
    ):
        assert read(other).results[0].key != first.key
    assert read(new_file(tmp_path / "g", {"piqa": {"ppl,none": float("nan")}})).results[0].key


def test_what_is_no_result(tmp_path):
    for content in ([], {"results": []}, {"results": {}}, {"config": {}}):
        assert not is_results(content)
    empty = new_file(tmp_path, {"piqa": {}})
    with pytest.raises(ValueError, match="holds no metric"):
        read(empty)
    broken = tmp_path / "broken.json"
    broken.write_text('{"results": {')
    with pytest.raises(ValueError, match=r"not valid JSON \(line 1"):
        read_json(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_json(broken)
