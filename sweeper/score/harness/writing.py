"""Text that a clamped model writes, by the harness's own rules."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs
from torch import Tensor, nn

from sweeper.clamp.hooks import clamped
from sweeper.models.loading import LoadedModel
from sweeper.records import Condition
from sweeper.score.harness.loading import quiet
from sweeper.score.logprobs import within_memory
from sweeper.score.memory import TokenBudget
from sweeper.score.texts import Scores

SEED = 1234
"""Of torch, as the harness sets it when it starts: tasks may sample."""


def write(
    model: LoadedModel,
    requests: Sequence[Instance],
    condition: Condition,
    scores: Scores,
    budget: TokenBudget,
) -> Scores:
    """Let the model answer ``generate_until`` requests under a condition.

    Stop sequences, the cut on the left, greedy or sampled: all as the harness's Hugging Face model
    does it. The same call gives the same texts.

    Args:
        model: the model.
        requests: all of them ``generate_until``.
        condition: what is clamped meanwhile.
        scores: what the condition says otherwise.
        budget: most token positions of one batch.

    Returns:
        The scores with the texts in ``written`` (one after the other where a task asks for several
        of a request) and with the values clamped meanwhile.

    Raises:
        FloatingPointError: a logit is NaN or infinite.
    """
    repeated = [request for request in requests for _ in range(request.repeats or 1)]
    written = None
    with quiet():
        harness = HFLM(
            pretrained=model.model,
            # The harness gives it a padding token, which other tasks must not see.
            tokenizer=copy.deepcopy(model.tokenizer),
            max_length=model.checkpoint.context,
        )
        longest = _longest(harness, requests)
        while written is None:
            size = max(budget.positions // longest, 1)
            harness.batch_size_per_gpu = size
            with _seeded(), finite_logits(model), clamped(model, condition) as count:
                written = within_memory(
                    lambda: harness.generate_until(repeated, disable_tqdm=True),
                    size,
                    longest,
                    budget,
                )
    return replace(
        scores,
        written=written,
        values_seen=scores.values_seen + count.seen,
        values_changed=scores.values_changed + count.changed,
    )


@contextmanager
def finite_logits(model: LoadedModel) -> Iterator[None]:
    """Refuse to write from logits that are no numbers: their argmax is a token like any other.

    Looks at the last position alone, where the next token is chosen, and at once: sampling from
    NaN ends in other errors, on GPU in a broken process. The check is removed on the way out.

    Raises:
        FloatingPointError: a logit is NaN or infinite.
    """

    def check(_module: nn.Module, _inputs: Any, output_BTV: Tensor) -> None:
        if not bool(torch.isfinite(model.capped(output_BTV[:, -1])).all()):
            raise FloatingPointError("a logit is NaN or infinite while the model writes")

    handle = model.head.register_forward_hook(check)
    try:
        yield
    finally:
        handle.remove()


def _longest(harness: HFLM, requests: Sequence[Instance]) -> int:
    """Tokens of the longest prompt and what may be written behind it."""
    lengths = [
        len(harness.tok_encode(context)) + normalize_gen_kwargs(options)["max_gen_toks"]
        for context, options in (request.args[:2] for request in requests)
    ]
    longest: int = min(max(lengths), harness.max_length)
    return longest


@contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        yield
