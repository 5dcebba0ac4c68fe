"""From requests of the harness to texts for the engine, and from its scores to answers.

The rules are the harness's own: ``Recorder`` is its Hugging Face model, without a model.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM

from sweeper.errors import UserError
from sweeper.score.tasks.base import total
from sweeper.score.texts import Scores, Texts
from sweeper.score.tokens import Row

Answer = tuple[float, bool] | float
"""Log-likelihood (nats), for ``loglikelihood`` requests with whether the text is the greedy one."""


class Recorder(HFLM):  # type: ignore[misc]
    """Tokenises requests as the harness's Hugging Face model does, and notes what it would score.

    Of its attributes those exist that tokenising needs.
    """

    def __init__(
        self,
        tokenizer: Any,
        context: int,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
    ) -> None:
        """Make a recorder.

        Args:
            tokenizer: of transformers.
            context: longest input of the model in tokens.
            add_bos_token: as the harness takes it; None does as the tokenizer does.
            prefix_token_id: stands before texts without context; None for BOS, or EOS.
        """
        TemplateLM.__init__(self)
        self.tokenizer = tokenizer
        self.add_bos_token = add_bos_token
        self.custom_prefix_token_id = prefix_token_id
        self.enable_thinking = None
        self.batch_size_per_gpu = 1
        self._max_length = context
        self._noted: list[tuple[list[int], list[int]]] = []

    def pairs(self, request: Instance) -> list[tuple[list[int], list[int]]]:
        """Tokens of (context, continuation); several for a text that is longer than the context."""
        self._noted = []
        getattr(self, request.request_type)([request], disable_tqdm=True)
        return self._noted

    def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
        self._noted += [(context, continuation) for _, context, continuation in requests]
        return [(0.0, False)] * len(requests)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Requests as texts."""

    texts: Texts
    places: Sequence[Sequence[int]]
    """Texts of each request; empty for requests to write."""

    def answers(self, requests: Sequence[Instance], scores: Scores) -> list[Answer | None]:
        """Answers to the requests in their order; None for requests to write."""
        pairs = zip(requests, self.places, strict=True)
        return [self._answer(request, places, scores) for request, places in pairs]

    def _answer(self, request: Instance, places: Sequence[int], scores: Scores) -> Answer | None:
        if request.request_type == "generate_until":
            return None
        logprob = sum((total(scores.logprobs[place]) for place in places), 0.0)
        if request.request_type == "loglikelihood_rolling":
            return logprob
        known = scores.greedy
        return logprob, known is not None and all(bool(known[place].all()) for place in places)

    def num_tokens(self, scores: Scores) -> list[int]:
        """Scored tokens of each request."""
        return [sum(len(scores.logprobs[place]) for place in places) for places in self.places]


def encode(requests: Sequence[Instance], recorder: Recorder, greedy: bool) -> Encoded:
    """Tokenise requests; what does not fit into the context is cut on the left.

    Args:
        requests: of any kind.
        recorder: for the model's tokenizer and context.
        greedy: whether it matters if a text is the greedy one.

    Raises:
        UserError: a continuation is empty, or longer than the context.
    """
    rows: list[Row] = []
    starts: list[int] = []
    places: dict[int, list[int]] = defaultdict(list)
    for index, request in enumerate(requests):
        if request.request_type == "generate_until":
            continue
        for context, continuation in recorder.pairs(request):
            if not 1 <= len(continuation) <= recorder.max_length:
                raise UserError(
                    f"task {request.task_name!r}, document {request.doc_id}: a continuation of "
                    f"{len(continuation)} tokens; allowed are 1 to {recorder.max_length}"
                )
            # One more than the context, since the last token is not an input.
            row = (context + continuation)[-(recorder.max_length + 1) :]
            places[index].append(len(rows))
            rows.append(row)
            starts.append(len(row) - len(continuation))
    texts = Texts(rows=rows, starts=starts, greedy=greedy)
    return Encoded(texts, [places[index] for index in range(len(requests))])


def needs_greedy(task: Any) -> bool:
    """Whether a task's metrics may look at whether an answer is the greedy one."""
    if not isinstance(task, ConfigurableTask) or task.config.process_results is not None:
        return True
    used = {"loglikelihood": {"acc"}, "multiple_choice": {"exact_match"}}
    return bool(used.get(task.OUTPUT_TYPE, set()) & task.aggregation().keys())
