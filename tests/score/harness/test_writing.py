from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from harness_reference import BASELINE, BUDGET

from sweeper.clamp.operations import OPERATIONS, Operation
from sweeper.records import Condition
from sweeper.score.memory import TokenBudget
from sweeper.score.tasks import PREPARE
from sweeper.score.texts import Scores
from sweeper.spec.task import LmEvalSpec

NOTHING = Scores(logprobs=[], greedy=None, values_seen=10, values_changed=4)
CLAMP = Condition(
    name="zero", seed=None, operation="zero", neurons={layer: tuple(range(48)) for layer in (0, 1)}
)


@pytest.fixture
def sampling(tiny_task, tmp_path):
    """A task that samples three texts of each document."""
    plain = tiny_task("tiny_writing")
    config = yaml.safe_load(Path(plain.task).read_text())
    config["generation_kwargs"] |= {"do_sample": True, "temperature": 1.0}
    (tmp_path / "sampling.yaml").write_text(yaml.safe_dump({**config, "repeats": 3}))
    return LmEvalSpec(task=str(tmp_path / "sampling.yaml"), data_files=plain.data_files)


def prepared(model, spec):
    return PREPARE["lm_eval"](model.tokenizer, model.checkpoint.context, spec, None)


def test_clamps_are_in_place_while_the_model_writes(tiny_model, tiny_task):
    model = tiny_model("llama")
    task = prepared(model, tiny_task("tiny_writing"))
    assert list(task.texts.rows) == []
    plain, clamped = (task.write(model, each, NOTHING, BUDGET) for each in (BASELINE, CLAMP))
    assert plain.written != clamped.written
    assert (plain.values_seen, plain.values_changed) == (10, 4)
    assert clamped.values_seen - 10 >= clamped.values_changed - 4 > 0


@pytest.mark.parametrize("factor", [torch.inf, torch.nan])
@pytest.mark.parametrize("sampled", [False, True])
def test_nothing_is_written_from_logits_that_are_no_numbers(
    tiny_model, tiny_task, sampling, monkeypatch, factor, sampled
):
    monkeypatch.setitem(OPERATIONS, "overflow", Operation(lambda values: values * factor))
    model = tiny_model("llama")
    task = prepared(model, sampling if sampled else tiny_task("tiny_writing"))
    with pytest.raises(FloatingPointError, match="a logit is NaN or infinite"):
        task.write(model, replace(CLAMP, operation="overflow"), NOTHING, BUDGET)
    assert not model.head._forward_hooks
    assert len(task.write(model, BASELINE, NOTHING, BUDGET).written) == (15 if sampled else 5)
    assert not model.head._forward_hooks


def test_sampled_texts_are_the_same_again_and_leave_the_generator_alone(tiny_model, sampling):
    model = tiny_model("llama")
    task = prepared(model, sampling)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = task.write(model, BASELINE, NOTHING, BUDGET).written
    assert torch.rand(1) == expected
    assert task.write(model, BASELINE, NOTHING, BUDGET).written == first
    assert len(first) == 5 * 3
    assert len(set(first)) > 5
    outcomes = task.tables(replace(NOTHING, written=first))["outcomes"]
    assert outcomes["metric"].value_counts().to_dict() == {
        "exact_match,whole": 5,
        "exact_match,first": 5,
    }


def test_a_small_budget_gives_the_same_greedy_texts(tiny_model, tiny_task):
    model = tiny_model("llama")
    # Without the document behind them that has no prompt: the harness cannot go on from nothing.
    task = prepared(model, tiny_task("tiny_writing", limit=3))
    one = task.write(model, BASELINE, NOTHING, TokenBudget(1)).written
    assert one == task.write(model, BASELINE, NOTHING, TokenBudget(10_000)).written
