"""Files that lm-evaluation-harness has written itself, about a model that it has run itself."""

import copy
import json
from collections.abc import Callable
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from sweeper.api import ImportedRun, open_run
from sweeper.ingest import Request, import_results

WORDS = ("cat", "dog", "man", "house", "river", "town")
MEAN = {"aggregation": "mean", "higher_is_better": True}


def write_tasks(folder: Path) -> None:
    """Two parts of a group that weighs them by size, and a task that measures perplexity."""
    for name, size in (("tiny_one", 13), ("tiny_two", 24)):
        rows = [
            {"q": f"{one} sees", "a": f" the {two}", "b": f" the {other}"}
            for one, two, other in islice(permutations(WORDS, 3), 0, 5 * size, 5)
        ]
        metrics = [{"metric": metric, **MEAN} for metric in ("acc", "acc_norm")]
        task = {
            "output_type": "multiple_choice",
            "doc_to_text": "{{q}}",
            "doc_to_target": 0,
            "doc_to_choice": "{{[a, b]}}",
            "metric_list": metrics,
        }
        write_task(folder, name, task, rows)
    task = {
        "output_type": "loglikelihood",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}",
        "metric_list": [
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
            {"metric": "acc", **MEAN},
        ],
    }
    rows = [{"q": f"the {word} near", "a": " the river"} for word in WORDS]
    write_task(folder, "tiny_last", task, rows)
    group = {
        "group": "tiny",
        "task": ["tiny_one", "tiny_two"],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(group))


def write_task(folder: Path, name: str, task: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **source, **task}))


@pytest.fixture(scope="module")
def written(
    tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]]]:
    """Folder that the harness has written, and its results at two steps."""
    import torch
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tasks, output = tmp_path_factory.mktemp("tasks"), tmp_path_factory.mktemp("output")
    write_tasks(tasks)
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    loaded, told = tiny_model("gpt_neox"), []
    network = copy.deepcopy(loaded.model)
    for step in (1, 1000):
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(step)
            for parameter in network.parameters():
                parameter += 0.2 * torch.randn(parameter.shape)
        model = HFLM(pretrained=network, tokenizer=copy.deepcopy(loaded.tokenizer), batch_size=4)
        tracker = EvaluationTracker(output_path=str(output))
        told.append(evaluate(model, step, manager, tracker))
    return output, told


def evaluate(model: Any, step: int, manager: Any, tracker: Any) -> dict[str, Any]:
    """Evaluate and save as the harness's command line does with --log_samples."""
    import lm_eval

    with pytest.MonkeyPatch.context() as patch:
        # It would run a dozen programs to describe the machine.
        patch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: "")
        results = lm_eval.simple_evaluate(
            model,
            model_args=f"pretrained=tiny/neox,revision=step{step}",
            tasks=["tiny", "tiny_last"],
            task_manager=manager,
            bootstrap_iters=100,
            log_samples=True,
            evaluation_tracker=tracker,
        )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for name in results["configs"]:
        tracker.save_results_samples(task_name=name, samples=samples[name])
    return {"results": results["results"], "samples": samples}


@pytest.fixture(scope="module")
def run(written: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> ImportedRun:
    store = str(tmp_path_factory.mktemp("imported") / "store")
    done = import_results(Request(paths=(written[0],), store=store, name="mine"))
    # Two results, each with three logs; the group has a row of its own and no log.
    assert (done.files, done.new, done.groups) == (8, 8, {"tiny": 2})
    assert done.passed_over == ()
    again = import_results(Request(paths=(written[0],), store=store, name="mine"))
    assert again.new == 0
    opened = open_run("mine", store)
    assert isinstance(opened, ImportedRun)
    return opened


def test_every_number_is_the_harness_own(run, written):
    levels = run.step_levels()
    assert levels["model"].unique().tolist() == ["tiny/neox"]
    for step, told in zip((1, 1000), written[1], strict=True):
        here = levels[levels["step"] == step]
        found = {
            (row["task"] if row["group"] == "all" else row["group"], row["metric"]): row["value"]
            for row in here.to_dict("records")
        }
        for task, row in told["results"].items():
            for metric, ours in (
                ("acc", "accuracy"),
                ("acc_norm", "acc_norm"),
                ("perplexity",) * 2,
            ):
                if f"{metric},none" in row and (task, ours) != ("tiny", "acc_norm"):
                    assert found[task, ours] == pytest.approx(row[f"{metric},none"]), (task, ours)


def test_documents_are_those_of_the_logs(run, written):
    items = run.table("items").merge(run.manifest(), on="cell_key")
    assert len(items) == 2 * (13 + 24 + 6)
    for step, told in zip((1, 1000), written[1], strict=True):
        here = items[items["revision"] == f"step{step}"]
        for task in ("tiny_one", "tiny_two"):
            of_task = here[here["task"] == task].sort_values("item")
            samples = sorted(told["samples"][task], key=lambda sample: sample["doc_id"])
            assert of_task["correct"].tolist() == [bool(sample["acc"]) for sample in samples]
            margins = [
                float(sample["filtered_resps"][0][0]) - float(sample["filtered_resps"][1][0])
                for sample in samples
            ]
            assert of_task["margin"].tolist() == pytest.approx(margins)
    outcomes = run.table("outcomes")
    averaged = outcomes.groupby("metric")["averaged"].unique().apply(list).to_dict()
    assert averaged == {"acc": [True], "acc_norm": [True], "perplexity": [False]}


def test_intervals(run, written):
    levels = run.step_levels()
    row = levels.query("group == 'tiny_two' and metric == 'accuracy' and step == 1000").iloc[0]
    told = written[1][1]["results"]["tiny_two"]["acc,none"]
    assert (row["low"], row["high"]) == pytest.approx(
        proportion_confint(round(24 * told), 24, method="wilson")
    )
    whole = levels.query("task == 'tiny' and group == 'all' and metric == 'accuracy'")
    # The harness weighs by size here, which equal weights would not give.
    assert whole["num_items"].tolist() == [37, 37]
    assert whole["interval"].tolist() == ["clusters", "clusters"]


def test_changes_are_paired_by_document(run, written):
    changes = run.step_changes().set_index(["group", "metric"])
    one, two = (
        pd.Series({s["doc_id"]: s["acc"] for s in told["samples"]["tiny_two"]})
        for told in written[1]
    )
    row = changes.loc[("tiny_two", "accuracy")]
    assert row["change"] == pytest.approx((two - one).mean())
    assert row["p"] == pytest.approx(stats.ttest_rel(two, one).pvalue, nan_ok=True)
    assert (row["num_pairs"], row["paired_by"]) == (24, "documents")
    assert changes.query("task == 'tiny'").loc[("all", "margin"), "paired_by"] == "parts"
