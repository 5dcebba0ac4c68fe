"""What lm-evaluation-harness says with its own Hugging Face model."""

import copy
from typing import Any

import pandas as pd

from sweeper.clamp.hooks import clamped
from sweeper.models.loading import LoadedModel
from sweeper.records import Condition
from sweeper.score.engine import score_texts
from sweeper.score.harness.loading import load
from sweeper.score.memory import TokenBudget
from sweeper.score.tasks import PREPARE
from sweeper.spec.task import LmEvalSpec

BASELINE = Condition(name="baseline", seed=None, operation=None)
BUDGET = TokenBudget(512)


def by_harness(
    model: LoadedModel, spec: LmEvalSpec, condition: Condition, batch_size: int = 3
) -> Any:
    """Results of ``lm_eval.evaluate``, samples included, with the model clamped by our hooks."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    tokenizer = copy.deepcopy(model.tokenizer)
    harness = HFLM(pretrained=model.model, tokenizer=tokenizer, batch_size=batch_size)
    assert harness.max_length == model.checkpoint.context
    loaded = load(spec)
    tasks = {"tasks": dict(loaded.tasks), "groups": dict(loaded.groups)}
    with clamped(model, condition):
        return lm_eval.evaluate(harness, tasks, limit=spec.limit, bootstrap_iters=2)


def by_sweeper(
    model: LoadedModel, spec: LmEvalSpec, conditions: list[Condition]
) -> list[dict[str, pd.DataFrame]]:
    """Our tables under each condition."""
    context = model.checkpoint.context
    task = PREPARE["lm_eval"](model.tokenizer, context, spec, None)
    tables = []
    for condition, scores in zip(
        conditions, score_texts(model, task.texts, conditions, BUDGET), strict=True
    ):
        done = task.write(model, condition, scores, BUDGET)
        tables.append({"items": task.items(done), **task.tables(done)})
    return tables
