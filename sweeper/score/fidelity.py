"""Does the engine say what plain Hugging Face says, and how large is rounding?"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sweeper.clamp.hooks import clamped
from sweeper.models.loading import LoadedModel
from sweeper.records import Condition
from sweeper.score.logprobs import TokenBudget, token_logprobs
from sweeper.score.tokens import Row

BOUND = {"float32": 1e-4, "bfloat16": 0.2, "float16": 0.03}
"""Largest accepted difference of a row's log-probability from plain Hugging Face, in nats per
scored token. Half precision rounds by what other rows stand beside a row; an engine that computes
something else is off by whole nats."""

_BASELINE = Condition(name="fidelity check", seed=None, operation=None)


class FidelityError(RuntimeError):
    """The engine and plain Hugging Face disagree on the loaded model."""


@torch.inference_mode()
def plain_logprob(model: LoadedModel, row: Row) -> float:
    """Sum of a row's token log-probabilities (nats) by the model's own full logits."""
    tokens = torch.tensor([row], device=model.input_device)
    logits_TV = model.model(input_ids=tokens, use_cache=False).logits[0, :-1].float()
    targets = tokens[0, 1:, None].to(logits_TV.device)
    return float(logits_TV.log_softmax(-1).gather(-1, targets).sum(dtype=torch.float64))


def check_fidelity(model: LoadedModel) -> float:
    """Compare the engine with plain Hugging Face on short rows of random tokens.

    Returns:
        The largest difference of a row's log-probability, in nats per scored token.

    Raises:
        FidelityError: the difference exceeds ``BOUND``, or an empty clamp changes a bit.
    """
    vocabulary = model.model.config.get_text_config().vocab_size
    rng = np.random.default_rng(0)
    lengths = [min(length, model.checkpoint.context) for length in (5, 17, 17)]
    rows = [rng.integers(vocabulary, size=length).tolist() for length in lengths]
    scored = token_logprobs(model, rows, TokenBudget(64))
    with clamped(model, _BASELINE):
        again = token_logprobs(model, rows, TokenBudget(64))
    if any((a != b).any() for a, b in zip(scored, again, strict=True)):
        raise FidelityError("an empty clamp changes the log-probabilities")
    worst = max(
        abs(plain_logprob(model, row) - float(values.sum(dtype=np.float64))) / len(values)
        for row, values in zip(rows, scored, strict=True)
    )
    bound = BOUND[model.checkpoint.dtype]
    if not worst <= bound:
        raise FidelityError(f"{worst:.3g} nats a token from plain Hugging Face; bound {bound}")
    return worst


def noise_floor(
    model: LoadedModel,
    rows: Sequence[Row],
    logprobs: Sequence[NDArray[np.float32]],
    budget: TokenBudget,
    sample: int = 32,
) -> float:
    """Largest change of a row's log-probability (nats) under another packing.

    Scores an evenly spaced sample of the rows a second time, each in the company of two copies of
    itself, which is no packing that the rows were in before, however long they are.
    """
    step = max(len(rows) // sample, 1)
    chosen = range(0, len(rows), step)
    return max(_change(model, rows[index], logprobs[index], budget) for index in chosen)


def _change(
    model: LoadedModel, row: Row, logprobs: NDArray[np.float32], budget: TokenBudget
) -> float:
    company = TokenBudget(min(budget.positions, 3 * (len(row) - 1)))
    again = token_logprobs(model, [row] * 3, company)
    return max(abs(float((logprobs - values).sum(dtype=np.float64))) for values in again)
