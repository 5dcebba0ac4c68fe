"""Distributions over the next token compared over the whole vocabulary, a few positions at a time.

Shapes: ``M`` distributions, ``N`` positions, ``D`` hidden size, ``V`` vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.models.loading import LoadedModel
from sweeper.score.logprobs import LOGITS_PER_CHUNK


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Several distributions at the same positions; the others are compared with the first."""

    logprobs: NDArray[np.float64]
    """(M, N): log-probability of the correct token, nats."""
    ranks: NDArray[np.int64]
    """(M, N): number of tokens that are more probable than the correct one."""
    divergences: NDArray[np.float64]
    """(M, N): KL divergence of the first distribution from this one, nats."""


@torch.inference_mode()
def compare(model: LoadedModel, hidden_MND: Sequence[Tensor], targets_N: Tensor) -> Compared:
    """Compare what the output head makes of hidden states.

    Args:
        model: whose output head.
        hidden_MND: what enters the head, one tensor (N, D) for each distribution.
        targets_N: the correct tokens.
    """
    # Where a model is spread over devices, the head need not be where the last layer is.
    device = next(model.head.parameters()).device
    size = max(LOGITS_PER_CHUNK // model.model.config.get_text_config().vocab_size, 1)
    pieces = []
    for begin in range(0, len(targets_N), size):
        hidden = [states_ND[begin : begin + size].to(device) for states_ND in hidden_MND]
        pieces.append(_chunk(model, hidden, targets_N[begin : begin + size].to(device)))
    logprobs, ranks, divergences = (
        torch.cat(parts, dim=1).cpu().numpy() for parts in zip(*pieces, strict=True)
    )
    return Compared(logprobs=logprobs, ranks=ranks, divergences=divergences)


@dataclass(frozen=True, slots=True)
class _Distribution:
    """Float32 logits (N, V) and their float64 log-sum-exp (N,)."""

    logits_NV: Tensor
    log_sums_N: Tensor

    @classmethod
    def after(cls, model: LoadedModel, hidden_ND: Tensor) -> "_Distribution":
        logits_NV = model.logits(hidden_ND)
        peaks_N1 = logits_NV.amax(-1, keepdim=True)
        sums_N = (logits_NV - peaks_N1).exp_().sum(-1, dtype=torch.float64)
        return cls(logits_NV, peaks_N1[:, 0].double() + sums_N.log())

    def of(self, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities and ranks of tokens."""
        wanted_N1 = self.logits_NV.gather(-1, targets_N[:, None])
        ranks_N = (self.logits_NV > wanted_N1).sum(-1)
        return wanted_N1[:, 0].double() - self.log_sums_N, ranks_N


def _chunk(
    model: LoadedModel, hidden_MND: Sequence[Tensor], targets_N: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, ranks and divergences, each (M, N)."""
    first = _Distribution.after(model, hidden_MND[0])
    shares_NV = (first.logits_NV - first.log_sums_N[:, None].float()).exp_()
    rows = [(*first.of(targets_N), torch.zeros_like(first.log_sums_N))]
    rows += [_against(first, shares_NV, model, hidden, targets_N) for hidden in hidden_MND[1:]]
    logprobs, ranks, divergences = (torch.stack(column) for column in zip(*rows, strict=True))
    return logprobs, ranks, divergences


def _against(
    first: _Distribution,
    shares_NV: Tensor,
    model: LoadedModel,
    hidden_ND: Tensor,
    targets_N: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, ranks and divergences of one distribution, each (N,).

    KL(p || q) = sum p (a - b) - log sum exp a + log sum exp b for logits a and b: differences of
    logits that are close to one another lose no digits, those of log-probabilities would.
    """
    other = _Distribution.after(model, hidden_ND)
    weighted_NV = (first.logits_NV - other.logits_NV).mul_(shares_NV)
    # The shares are rounded: they add up to 1 but for the last digits.
    means_N = weighted_NV.sum(-1, dtype=torch.float64) / shares_NV.sum(-1, dtype=torch.float64)
    return *other.of(targets_N), means_N - first.log_sums_N + other.log_sums_N
