"""The output head where it is needed, in pieces that stay in the processor's cache.

Shapes: ``H`` hidden states, ``D`` hidden size, ``V`` vocabulary, ``E`` wanted tokens.
"""

from collections.abc import Iterator
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

from sweeper.models.loading import LoadedModel
from sweeper.models.packed import is_packed, linear, packed

STATES = {"cpu": 512, "cuda": 4096}
"""Hidden states that pass the head at once, by type of device."""

WORDS = {"cpu": 2048, "cuda": 2**18}
"""Entries of the vocabulary at once. On CPU 4 MiB of logits: they are read three times more and
should still be in the cache (SmolLM2: 310 GFLOP/s so, 170 with all of the vocabulary at once)."""


def next_logprobs(
    model: LoadedModel, hidden_HD: Tensor, heads_E: Tensor, tokens_E: Tensor, *, greedy: bool
) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities of tokens after hidden states.

    Args:
        model: whose output head.
        hidden_HD: what enters the output head.
        heads_E: after which of the hidden states each token comes; never decreases.
        tokens_E: token ids.
        greedy: also compare each token with the most probable one.

    Returns:
        (E,) float32, and (E,) bool: whether the token's logit is the largest. None unless asked.
    """
    # Where a model is spread over devices, the head need not be where the last layer is.
    device = next(model.head.parameters()).device
    hidden_HD, heads_E, tokens_E = (x.to(device) for x in (hidden_HD, heads_E, tokens_E))
    logprobs, is_greedy = [], []
    size = STATES[device.type]
    bounds = range(0, len(hidden_HD), size)
    for begin in bounds:
        hidden = hidden_HD[begin : begin + size]
        first, stop = torch.searchsorted(heads_E, torch.tensor([begin, begin + size]).to(heads_E))
        heads, tokens = heads_E[first:stop] - begin, tokens_E[first:stop]
        wanted, lse, likeliest = _chunk(model, hidden, heads, tokens, greedy=greedy)
        logprobs.append(wanted - lse[heads])
        is_greedy.append(tokens == likeliest[heads])
    if not logprobs:
        return hidden_HD.new_empty(0, dtype=torch.float32), None
    return torch.cat(logprobs), torch.cat(is_greedy) if greedy else None


def relative_logprobs(
    model: LoadedModel, hidden_HD: Tensor, heads_E: Tensor, tokens_E: Tensor
) -> Tensor:
    """Log-probabilities up to a number for each hidden state: the logits, without a log-sum-exp.

    Arguments as for ``next_logprobs``; (E,) float32.
    """
    head = model.head
    if not _is_plain(head):
        return next_logprobs(model, hidden_HD, heads_E, tokens_E, greedy=False)[0]
    device = head.weight.device
    hidden_HD, heads_E, tokens_E = (x.to(device) for x in (hidden_HD, heads_E, tokens_E))
    logits_E = (hidden_HD[heads_E].float() * head.weight[tokens_E].float()).sum(-1)
    return model.capped(logits_E if head.bias is None else logits_E + head.bias[tokens_E])


def _chunk(
    model: LoadedModel, hidden_HD: Tensor, heads_E: Tensor, tokens_E: Tensor, *, greedy: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Wanted logits (E,), log-sum-exp (H,), and if asked the most probable tokens (H,).

    Of equally probable ones the first, as ``argmax`` over the whole vocabulary has it.
    """
    wanted_E = hidden_HD.new_empty(len(tokens_E), dtype=torch.float32)
    lse_H = hidden_HD.new_full((len(hidden_HD),), -torch.inf, dtype=torch.float32)
    largest_H, likeliest_H = lse_H.clone(), lse_H.new_full((len(hidden_HD),), -1).long()
    for begin, logits_HV in _blocks(model, hidden_HD):
        inside = (tokens_E >= begin) & (tokens_E < begin + logits_HV.shape[1])
        wanted_E[inside] = logits_HV[heads_E[inside], tokens_E[inside] - begin]
        peak_H = logits_HV.amax(-1)
        if greedy:
            likeliest_H = torch.where(peak_H > largest_H, logits_HV.argmax(-1) + begin, likeliest_H)
            largest_H = torch.maximum(largest_H, peak_H)
        sums_H = logits_HV.sub_(peak_H[:, None]).exp_().sum(-1)
        lse_H = torch.logaddexp(lse_H, peak_H + sums_H.log())
    return wanted_E, lse_H, likeliest_H


def _blocks(model: LoadedModel, hidden_HD: Tensor) -> Iterator[tuple[int, Tensor]]:
    """First entry and float32 logits of each block of the vocabulary."""
    head, size = model.head, WORDS[hidden_HD.device.type]
    if not _is_plain(head):
        yield 0, model.logits(hidden_HD)
        return
    for begin in range(0, head.out_features, size):
        end = min(begin + size, head.out_features)
        bias = None if head.bias is None else head.bias[begin:end]
        if is_packed(head):
            block = linear(hidden_HD, packed(head, begin, end), bias)
        else:
            block = functional.linear(hidden_HD, head.weight[begin:end], bias)
        yield begin, model.capped(block)


def _is_plain(head: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a head can be called in parts: not a quantised one, or one that hooks watch."""
    return type(head) is nn.Linear and not (head._forward_hooks or head._forward_pre_hooks)
