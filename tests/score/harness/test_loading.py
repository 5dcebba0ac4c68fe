import json
import os
import subprocess
import sys
from functools import partial

import pandas as pd
import pytest
import yaml

from sweeper.errors import UserError
from sweeper.score.harness.identity import fingerprint
from sweeper.score.harness.loading import check, load
from sweeper.score.tasks import FACTS, PREPARE, parse_task
from sweeper.spec.task import LmEvalSpec

DOCUMENTS = [{"q": f"the {n} dogs", "a": f"see {n}", "label": n % 2} for n in range(1, 7)]
SHOTS = [{"q": f"a cat and {n}", "a": f"feeds {n}", "label": 0} for n in range(8)]


@pytest.fixture
def own(tmp_path):
    """Function from changes of a task's configuration to the written file; data as JSONL."""
    for split, rows in {"train": SHOTS, "test": DOCUMENTS}.items():
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def write(name="own", **changes):
        files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}
        config = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files, "cache_dir": str(tmp_path / "cache")},
            "output_type": "multiple_choice",
            "training_split": "train",
            "test_split": "test",
            "doc_to_text": "{{q}}",
            "doc_to_target": 0,
            "doc_to_choice": "{{[a, q]}}",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump({**config, **changes}))
        return file

    return write


def spec(task, **changes):
    return LmEvalSpec.model_validate({"task": str(task), **changes})


@pytest.mark.parametrize("shots", [None, 0, 3])
def test_requests_are_those_of_the_harness(own, tiny_model, shots):
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    file = own(num_fewshot=1)
    model = tiny_model("llama")
    loaded = load(spec(file, num_fewshot=shots, limit=4))
    expected = lm_eval.simple_evaluate(
        HFLM(pretrained=model.model, tokenizer=model.tokenizer),
        tasks=[yaml.safe_load(file.read_text())],
        num_fewshot=shots,
        limit=4,
        bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False),
    )
    samples = expected["samples"]["own"]
    asked = [arguments for sample in samples for arguments in sample["arguments"]]
    assert [request.args for request in loaded.requests()] == asked
    assert len(samples) == 4
    assert asked[0][0].count("a cat and") == (1 if shots is None else shots)


def test_a_task_that_wants_no_examples_gets_none(own):
    loaded = load(spec(own(num_fewshot=0), num_fewshot=3))
    assert all("a cat" not in request.args[0] for request in loaded.requests())


def test_files_stand_in_for_the_dataset(own, tmp_path):
    file = own(dataset_path="nobody/has-this")
    csv = tmp_path / "test.csv"
    pd.DataFrame(DOCUMENTS).to_csv(csv, index=False)
    given = load(spec(file, data_files={"test": str(tmp_path / "test.jsonl")}))
    assert [r.args for r in given.requests()] == [r.args for r in load(spec(own())).requests()]
    as_csv = load(spec(file, data_files={"test": str(csv)}))
    assert [r.args for r in as_csv.requests()] == [r.args for r in given.requests()]


def test_a_column_chooses_the_rows_of_a_task(own, tmp_path):
    pd.DataFrame(DOCUMENTS).assign(part=list("xxyyyx")).to_parquet(tmp_path / "all.parquet")
    pd.DataFrame(DOCUMENTS).assign(part=list("xxyyyx")).to_csv(tmp_path / "all.csv")
    for name in ("all.parquet", "all.csv"):
        files = {"test": str(tmp_path / name)}
        task = own(dataset_name="x")
        chosen = load(spec(task, data_files=files, data_column="part")).requests()
        assert [request.doc["q"] for request in chosen[::2]] == [
            "the 1 dogs",
            "the 2 dogs",
            "the 6 dogs",
        ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_files": {"train": "train.jsonl"}}, "is evaluated on split 'test'; given: train"),
        (
            {"data_files": {"test": "test.jsonl"}, "num_fewshot": 2},
            "takes its examples from split 'train'; given: test",
        ),
        ({"data_files": {"test": "tset.jsonl"}}, "is not a file; did you mean test.jsonl?"),
        (
            {"data_files": {"test": "test.jsonl"}, "data_column": "labl"},
            "has no column 'labl'; allowed: q, a, label; did you mean label?",
        ),
        (
            {"data_files": {"test": "test.jsonl"}, "data_column": "q"},
            "holds no rows with q = 'nothing'",
        ),
    ],
)
def test_wrong_files_are_said_in_one_line(own, tmp_path, changes, message):
    file = own(dataset_name="nothing")
    files = {split: str(tmp_path / name) for split, name in changes["data_files"].items()}
    with pytest.raises(UserError, match=r"suite\.mine\.data") as caught:
        load(spec(file, **{**changes, "data_files": files}), "suite.mine")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_key_of_the_job_a_message_names_the_task(own, tmp_path):
    file = own()
    task = parse_task(
        {
            "kind": "lm_eval",
            "task": str(file),
            "data_files": {"train": str(tmp_path / "train.jsonl")},
        }
    )
    for call in (partial(FACTS["lm_eval"], task), partial(PREPARE["lm_eval"], None, 64, task)):
        with pytest.raises(UserError) as caught:
            call(None)
        assert str(caught.value).startswith(f"lm_eval task {str(file)!r}.data_files: task 'own'")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unsafe_code": True}, "runs code that the model writes"),
        ({"doc_to_text": "{{q"}, "cannot be loaded (TemplateSyntaxError"),
        ({"test_split": "tset"}, "cannot be loaded (KeyError"),
        ({"doc_to_image": "q"}, "needs images or sound"),
    ],
)
def test_a_task_that_cannot_be_run_is_said_in_one_line(own, changes, message):
    with pytest.raises(UserError) as caught:
        load(spec(own(**changes)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_group_names_the_tasks_beside_it(own, tmp_path):
    pd.DataFrame(DOCUMENTS).assign(part=list("xxyyyx")).to_parquet(tmp_path / "all.parquet")
    for name, part in {"one": "x", "two": "y"}.items():
        own(name, dataset_name=part)
    means = [{"metric": "acc", "aggregation": "mean", "weight_by_size": True}]
    content = {"group": "both", "task": ["one", "two"], "aggregate_metric_list": means}
    group = tmp_path / "both.yaml"
    group.write_text(yaml.safe_dump(content))
    files = {"test": str(tmp_path / "all.parquet")}
    loaded = load(spec(group, data_files=files, data_column="part"))
    assert list(loaded.groups) == ["both"]
    sizes = {name: len(task.instances) // 2 for name, task in loaded.tasks.items()}
    assert sizes == {"one": 3, "two": 3}


def test_files_cannot_be_given_to_a_task_inside_a_group(own, tmp_path):
    inner = yaml.safe_load(own("inner").read_text())
    (tmp_path / "inner.yaml").unlink()
    group = tmp_path / "both.yaml"
    group.write_text(yaml.safe_dump({"group": "both", "task": [inner]}))
    assert len(load(spec(group)).requests()) == 2 * len(DOCUMENTS)
    with pytest.raises(UserError, match="'both::inner' is written out inside its group"):
        load(spec(group, data_files={"test": str(tmp_path / "test.jsonl")}))


def test_names_are_checked_before_anything_is_read(tmp_path):
    with pytest.raises(UserError, match=r"suite.p.task: .* no task 'piqua'; did you mean piqa\?"):
        check(spec("piqua"), "suite.p")
    with pytest.raises(UserError, match=r"suite.p.task: .*none.yaml' is not a file"):
        check(spec(tmp_path / "none.yaml"), "suite.p")


def test_a_dataset_that_cannot_be_had_is_said_in_one_line_and_at_once(own):
    file = own(dataset_path="nobody/has-this")
    code = f"from sweeper.cli import main; import sys; sys.argv = ['x']; {_load(file)}"
    offline = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=offline)
    assert "the dataset 'nobody/has-this' of 'own' cannot be had from the hub" in done.stderr
    assert "data_files" in done.stderr


def _load(file) -> str:
    return (
        "from sweeper.score.tasks import FACTS, parse_task;"
        f"FACTS['lm_eval'](parse_task({{'kind': 'lm_eval', 'task': {str(file)!r}}}), None)"
    )


def test_facts_need_no_torch(own):
    code = f"{_load(own())}; import sys; print([n for n in ('torch', 'ray') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_facts_count_documents_and_tokens_to_write(own):
    task = parse_task({"kind": "lm_eval", "task": str(own()), "limit": 5})
    facts = FACTS["lm_eval"](task, None)
    assert (facts.num_items, facts.num_clusters, facts.has_accuracy) == (5, 5, True)
    options = {"until": ["."], "max_gen_toks": 1000}
    writing = own(
        output_type="generate_until",
        generation_kwargs=options,
        doc_to_choice=None,
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    )
    found = FACTS["lm_eval"](parse_task({"kind": "lm_eval", "task": str(writing)}), None)
    assert found.positions == pytest.approx(6 * 1000, rel=0.01)
    assert not found.has_accuracy


def test_the_fingerprint_covers_what_is_asked_and_how_it_is_judged(own, tmp_path):
    def of(file, **changes):
        return fingerprint(load(spec(file, **changes)))

    plain = of(own())
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "own.yaml").write_text(own().read_text())
    assert of(moved / "own.yaml") == plain
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}
    assert of(own(dataset_path="nobody/has-this"), data_files=files) == plain
    metric = {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True}
    others = [
        of(own(), limit=5),
        of(own(), num_fewshot=1),
        of(own(doc_to_text="{{q}}:")),
        of(own(metric_list=[metric])),
        of(own(doc_to_target=1)),
    ]
    judge = tmp_path / "judge.py"
    for body in ("{'acc': 1.0}", "{'acc': 0.0}"):
        judge.write_text(f"def judge(document, answers):\n    return {body}\n")
        os.utime(judge, (len(others), len(others)))
        file = own()
        file.write_text(file.read_text() + "process_results: !function judge.judge\n")
        others.append(of(file, trust_task_code=True))
    assert len({plain, *others}) == len(others) + 1


def test_the_fingerprint_covers_the_groups(own, tmp_path):
    for name in ("one", "two", "three"):
        own(name)
    group = tmp_path / "both.yaml"

    def of(tasks=("one", "two"), name="both", **changes):
        mean = {"metric": "acc", "aggregation": "mean", "weight_by_size": True, **changes}
        content = {"group": name, "task": list(tasks), "aggregate_metric_list": [mean]}
        group.write_text(yaml.safe_dump(content))
        return fingerprint(load(spec(group)))

    found = [
        of(),
        of(name="all_of_them"),
        of(weight_by_size=False),
        of(metric="acc_norm"),
        of(filter_list=["none"]),
        of(tasks=("one", "three")),
    ]
    assert len(set(found)) == len(found)
    assert of() == found[0]


def test_groups_with_the_same_tasks_but_other_members_differ(own, tmp_path):
    for name in ("one", "two"):
        own(name)
    group = tmp_path / "both.yaml"

    def of(inner):
        parts = ["one", "two", {"group": "part", "task": inner}]
        group.write_text(yaml.safe_dump({"group": "both", "task": parts}))
        return fingerprint(load(spec(group)))

    assert of(["one"]) != of(["two"])


def test_the_fingerprint_covers_what_functions_import(own, tmp_path):
    """The helper of a function beside the task, and of one that stands in a folder below."""

    def of(helper, content):
        helper.write_text(content)
        file = own()
        file.write_text(file.read_text() + "process_results: !function below.judge.judge\n")
        return fingerprint(load(spec(file, trust_task_code=True)))

    (tmp_path / "below").mkdir()
    judge = "def judge(document, answers):\n    from helper import acc\n    return {'acc': acc}\n"
    (tmp_path / "below" / "judge.py").write_text(judge)
    for folder in (tmp_path, tmp_path / "below"):
        helper = folder / "helper.py"
        found = [of(helper, content) for content in ("acc = 1.0\n", "acc = 0.0\n")]
        assert found[0] != found[1]
        assert of(helper, "acc = 1.0\n") == found[0]


def test_random_numbers_of_the_process_are_left_alone(own):
    import random

    import numpy as np

    random.seed(5)
    np.random.seed(5)
    expected = random.Random(5).random(), np.random.RandomState(5).rand()
    load(spec(own()))
    assert (random.random(), np.random.rand()) == expected
