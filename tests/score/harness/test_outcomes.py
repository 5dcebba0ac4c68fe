"""The same answers, metrics and aggregates as the harness's own Hugging Face model."""

import math

import numpy as np
import pytest
from harness_reference import BASELINE, by_harness, by_sweeper

from sweeper.records import Condition

CLAMP = Condition(
    name="zero", seed=None, operation="zero", neurons={0: tuple(range(0, 40, 3)), 2: (1, 5)}
)


def check(model, spec, condition, tables) -> None:
    """Every document's metrics, every log-likelihood that we keep, every aggregate."""
    expected = by_harness(model, spec, condition)
    items = tables["items"].set_index("item_id")
    outcomes = tables["outcomes"].set_index(["item_id", "metric"])["value"]
    found = 0
    for name, samples in expected["samples"].items():
        for sample in samples:
            item_id = f"{name}/{sample['doc_id']}"
            check_item(items.loc[item_id], sample)
            for metric in sample["metrics"]:
                if np.isscalar(sample[metric]):
                    suffix = "" if sample["filter"] == "none" else f",{sample['filter']}"
                    value = outcomes[item_id, metric + suffix]
                    assert value == pytest.approx(sample[metric], abs=1e-3)
                    found += 1
    assert found == len(outcomes)
    check_aggregates(tables["aggregates"], expected["results"])


def check_item(item, sample) -> None:
    if "acc" in sample["metrics"]:
        assert item["correct"] == bool(sample["acc"])
    answers = [answers[0] for answers in sample["resps"]]
    if isinstance(answers[0], str):
        assert item[["logprob", "margin", "correct"]].isna().all()
    elif len(answers) == 1:
        logprob = answers[0][0] if isinstance(answers[0], tuple) else answers[0]
        assert item["logprob"] == pytest.approx(logprob, abs=1e-3)
    else:
        gold = sample["doc"]["label"]
        right, wrong = answers[gold][0], max(a[0] for a in answers[:gold] + answers[gold + 1 :])
        assert item["logprob"] == pytest.approx(right, abs=1e-3)
        assert item["logprob_bad"] == pytest.approx(wrong, abs=1e-3)
        assert item["margin"] == pytest.approx(right - wrong, abs=2e-3)


def check_aggregates(aggregates, results) -> None:
    rows = {(row.task, f"{row.metric},{row.filter}"): row for row in aggregates.itertuples()}
    expected = {
        (task, key): value
        for task, metrics in results.items()
        for key, value in metrics.items()
        if "," in key and "_stderr," not in key
    }
    assert rows.keys() == expected.keys()
    for (task, key), value in expected.items():
        row = rows[task, key]
        assert row.value == pytest.approx(value, rel=1e-5)
        stderr = results[task].get(key.replace(",", "_stderr,"))
        if row.metric in ("acc", "acc_norm", "exact_match"):
            assert row.stderr == pytest.approx(stderr, rel=1e-9)
        else:
            assert row.stderr is None or math.isnan(row.stderr)


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
@pytest.mark.parametrize(
    "task", ["tiny_choice", "tiny_gap", "tiny_target", "tiny_rolling", "tiny_writing"]
)
def test_equals_the_harness(tiny_model, tiny_task, family, task):
    model, spec = tiny_model(family), tiny_task(task)
    conditions = [BASELINE, CLAMP]
    plain, changed = by_sweeper(model, spec, conditions)
    check(model, spec, BASELINE, plain)
    check(model, spec, CLAMP, changed)
    if task != "tiny_writing":
        assert (plain["items"]["logprob"] - changed["items"]["logprob"]).abs().max() > 0.01
