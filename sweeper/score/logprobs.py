"""Log-probabilities by plain batches: what the engine's packing is compared with.

The noise floor is the difference between the two, so this shares no packing, mask or head with the
engine. Rows of equal length are packed into one batch, so nothing is padded and nothing is masked.
The last token of a row is never an input. The output embedding runs on chunks of positions and
only the log-sum-exp and the wanted entry are kept; no [rows, positions, vocabulary] tensor exists.

Shapes: ``B`` rows, ``T`` input positions, ``D`` model width, ``N`` positions of a chunk,
``V`` vocabulary.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.models.loading import LoadedModel
from sweeper.score.memory import TokenBudget
from sweeper.score.texts import Texts
from sweeper.score.tokens import Row

LOGITS_PER_CHUNK = 2**24
"""Entries of the largest tensor of logits (64 MiB in float32)."""

Result = TypeVar("Result")


def token_logprobs(
    model: LoadedModel, rows: Sequence[Row], budget: TokenBudget
) -> list[NDArray[np.float32]]:
    """Log-probabilities (nats) of each row's second to last token given the ones before.

    Args:
        model: the loaded model, with or without clamps installed.
        rows: token ids; each row has at least 2 and fits into the model's context.
        budget: most positions at once; lowered in place when memory runs out. A row longer than
            the budget is computed alone.

    Returns:
        One array of ``len(row) - 1`` values for each row, in the order of ``rows``.

    Raises:
        ValueError: a row is too short or too long.
        FloatingPointError: a log-probability is NaN or infinite.
    """
    Texts(rows=rows).check(model.checkpoint.context)
    result: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(rows)
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_length[len(row)].append(index)
    for length, members in sorted(by_length.items(), reverse=True):
        done = 0
        while done < len(members):
            chosen = members[done : done + max(budget.positions // (length - 1), 1)]
            batch = torch.tensor([rows[index] for index in chosen])
            score = partial(_score_batch, model, batch)
            scored = within_memory(score, len(chosen), length - 1, budget)
            if scored is not None:
                for index, values in zip(chosen, scored, strict=True):
                    result[index] = values
                done += len(chosen)
    return result


def within_memory(
    compute: Callable[[], Result], num_rows: int, length: int, budget: TokenBudget
) -> Result | None:
    """Compute a batch; None after memory ran out and the budget was halved.

    Args:
        compute: the forward pass over the batch.
        num_rows: rows of the batch; a single one cannot be made smaller, its error is raised.
        length: input positions of a row.
        budget: lowered in place to less than the batch.
    """
    try:
        return compute()
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error) or num_rows == 1:
            raise
        budget.positions = min(budget.positions, num_rows * length)
        budget.halve()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _is_out_of_memory(error: Exception) -> bool:
    # The CPU allocator raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@torch.inference_mode()
def _score_batch(model: LoadedModel, tokens: Tensor) -> NDArray[np.float32]:
    tokens = tokens.to(model.input_device)
    hidden_BTD = model.hidden_states(tokens[:, :-1])
    targets = tokens[:, 1:].reshape(-1).to(hidden_BTD.device)
    scored = head_logprobs(model, hidden_BTD.flatten(0, 1), targets)
    if not bool(torch.isfinite(scored).all()):
        raise FloatingPointError("a log-probability is NaN or infinite")
    values: NDArray[np.float32] = scored.view(len(tokens), -1).cpu().numpy()
    return values


def head_logprobs(model: LoadedModel, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
    """Log-probability of ``targets_N`` (token ids) after each hidden state; float32, shape N."""
    size = max(LOGITS_PER_CHUNK // model.model.config.get_text_config().vocab_size, 1)
    pairs = zip(torch.split(hidden_ND, size), torch.split(targets_N, size), strict=True)
    return torch.cat([_chunk_logprobs(model, hidden, targets) for hidden, targets in pairs])


def _chunk_logprobs(model: LoadedModel, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
    logits_NV = model.logits(hidden_ND)
    wanted_N1 = logits_NV.gather(-1, targets_N[:, None].to(logits_NV.device))
    return wanted_N1[:, 0] - logits_NV.logsumexp(-1)
