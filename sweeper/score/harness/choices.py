"""Which answer of a document is the right one, by the harness's own reading of its targets."""

from collections.abc import Sequence
from typing import Any

from lm_eval.api.task import ConfigurableTask

Sides = tuple[int | None, int | None]


def sides(task: Any, document: Any, logprobs: Sequence[float | None]) -> Sides:
    """Requests of the right answer and of the most probable wrong one.

    A document with a single text to score has no wrong one. None where the task does not tell.

    Args:
        task: the document's task.
        document: as the task reads it.
        logprobs: log-likelihood (nats) of every request of the document; None for written text.
    """
    known = [value for value in logprobs if value is not None]
    if len(known) < len(logprobs):
        return None, None
    if task.OUTPUT_TYPE in ("loglikelihood", "loglikelihood_rolling") and len(known) == 1:
        return 0, None
    if task.OUTPUT_TYPE != "multiple_choice" or not isinstance(task, ConfigurableTask):
        return None, None
    choices = task.doc_to_choice(document)
    gold = _gold(task, document, choices)
    # Behind the choices there may be others for normalising.
    wrong = [place for place in range(len(choices)) if place not in gold]
    if not gold or not wrong or len(known) < len(choices):
        return None, None
    best = [max(places, key=lambda place: known[place]) for places in (gold, wrong)]
    return best[0], best[1]


def _gold(task: ConfigurableTask, document: Any, choices: Sequence[str]) -> list[int]:
    """Right choices; none where the target names no choice."""
    # Where the choices stand in the context, the harness has its text and target swapped.
    target = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
    named = target if isinstance(target, list) else [target]
    places = [
        choices.index(name) if isinstance(name, str) and name in choices else name for name in named
    ]
    return [place for place in places if isinstance(place, int) and 0 <= place < len(choices)]
