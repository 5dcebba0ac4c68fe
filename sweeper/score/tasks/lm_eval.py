"""Tasks of lm-evaluation-harness: its documents, prompts, filters and metrics; our scores."""

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pandas as pd

from sweeper.records import Condition, TaskFacts
from sweeper.score.tasks.base import CHARACTERS_PER_TOKEN
from sweeper.score.texts import Scores, Texts
from sweeper.spec.corpus import CorpusSpec
from sweeper.spec.task import LmEvalSpec

if TYPE_CHECKING:  # the harness takes seconds to import, torch too
    from sweeper.models.loading import LoadedModel
    from sweeper.score.harness.encoding import Encoded
    from sweeper.score.harness.loading import Loaded
    from sweeper.score.memory import TokenBudget

RULES = 1
"""Part of every cell key of this task: a change of how answers become rows raises it."""


@dataclass(slots=True)
class PreparedHarness:
    """Requests of the harness, tokenised. The same requests take the answers of every condition."""

    loaded: "Loaded"
    encoded: "Encoded"
    _last: tuple[Scores, dict[str, pd.DataFrame]] | None = field(default=None, init=False)

    @property
    def texts(self) -> Texts:
        """All texts to score, of all tasks."""
        return self.encoded.texts

    def items(self, scores: Scores) -> pd.DataFrame:
        """One row per document.

        ``group`` is its task. The log-probabilities are those of the right and of the best wrong
        answer, or of the text where there is nothing to choose; ``correct`` is the task's ``acc``.
        """
        return self._tables(scores)["items"]

    def tables(self, scores: Scores) -> dict[str, pd.DataFrame]:
        """What the harness says: ``outcomes`` of documents, ``aggregates`` of tasks and groups."""
        return {name: rows for name, rows in self._tables(scores).items() if name != "items"}

    def write(
        self, model: "LoadedModel", condition: Condition, scores: Scores, budget: "TokenBudget"
    ) -> Scores:
        """Let the model write where a task asks for it."""
        from sweeper.score.harness.writing import write

        requests = [r for r in self.loaded.requests() if r.request_type == "generate_until"]
        return write(model, requests, condition, scores, budget) if requests else scores

    def _tables(self, scores: Scores) -> dict[str, pd.DataFrame]:
        from sweeper.score.harness.outcomes import tables

        if self._last is None or self._last[0] is not scores:
            self._last = (scores, tables(self.loaded, self.encoded, scores))
        return self._last[1]


def facts(spec: LmEvalSpec, corpus: CorpusSpec | None) -> TaskFacts:
    """Fingerprint, rules and size of a harness task; needs no torch.

    Raises:
        UserError: no such task, or no data for it.
    """
    from sweeper.score.harness.identity import fingerprint, num_characters
    from sweeper.score.harness.loading import load

    del corpus  # the documents carry their own text
    loaded = load(spec)
    requests = loaded.requests()
    documents = {(request.task_name, request.doc_id) for request in requests}
    characters = sum(num_characters(request, CHARACTERS_PER_TOKEN) for request in requests)
    return TaskFacts(
        identity={
            "kind": spec.kind,
            "rules": RULES,
            "data": fingerprint(loaded),
            "harness": version("lm_eval"),
            "num_fewshot": spec.num_fewshot,
            "limit": spec.limit,
        },
        positions=characters / CHARACTERS_PER_TOKEN,
        num_items=len(documents),
        num_clusters=len(documents),
        has_accuracy=all("acc" in task.aggregation() for task in loaded.tasks.values()),
    )


def prepare(
    tokenizer: Any, context: int, spec: LmEvalSpec, corpus: CorpusSpec | None
) -> PreparedHarness:
    """Build the task's requests and tokenise them by the harness's rules.

    Raises:
        UserError: no such task, no data for it, or an answer that is longer than the context.
    """
    from sweeper.score.harness.encoding import Recorder, encode, needs_greedy
    from sweeper.score.harness.loading import load

    del corpus
    loaded = load(spec)
    greedy = any(needs_greedy(task) for task in loaded.tasks.values())
    recorder = Recorder(tokenizer, context)
    return PreparedHarness(loaded, encode(loaded.requests(), recorder, greedy))
