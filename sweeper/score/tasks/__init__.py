"""The registry of tasks: one small file and one line in each table here for a new one."""

from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter

from sweeper.records import TaskFacts
from sweeper.score.tasks import lm_eval, minimal_pairs, perplexity, surprisal
from sweeper.score.tasks.base import (
    PreparedTask,
    WithSentences,
    WithTables,
    WithVersions,
    Writes,
)
from sweeper.spec.corpus import CorpusSpec
from sweeper.spec.task import TaskSpec

__all__ = [
    "FACTS",
    "PREPARE",
    "PreparedTask",
    "WithSentences",
    "WithTables",
    "WithVersions",
    "Writes",
    "parse_corpus",
    "parse_task",
]

FACTS: dict[str, Callable[[Any, CorpusSpec | None], TaskFacts]] = {
    "perplexity": perplexity.facts,
    "surprisal": surprisal.facts,
    "minimal_pairs": minimal_pairs.facts,
    "lm_eval": lm_eval.facts,
}
"""Kind of task -> what is known of it before a model is loaded."""

PREPARE: dict[str, Callable[[Any, int, Any, CorpusSpec | None], PreparedTask]] = {
    "perplexity": perplexity.prepare,
    "surprisal": surprisal.prepare,
    "minimal_pairs": minimal_pairs.prepare,
    "lm_eval": lm_eval.prepare,
}
"""Kind of task -> the task tokenised for a model: (tokenizer, context, spec, corpus)."""

_TASK: TypeAdapter[TaskSpec] = TypeAdapter(TaskSpec)
_CORPUS: TypeAdapter[CorpusSpec] = TypeAdapter(CorpusSpec)


def parse_task(data: Any) -> TaskSpec:
    """A task's specification from the plain data of a unit."""
    return _TASK.validate_python(data)


def parse_corpus(data: Any) -> CorpusSpec | None:
    """A corpus' specification from the plain data of a unit; None stays None."""
    return None if data is None else _CORPUS.validate_python(data)
