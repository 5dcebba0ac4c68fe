"""Passing windows of text through a model while hooks look at the MLPs.

Shapes: ``B`` windows, ``T`` tokens of each, ``N`` = B T, ``D`` model width, ``F`` neurons.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.score.logprobs import within_memory
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive windows of one length."""

    first: int
    end: int
    length: int


@torch.inference_mode()
def read(
    model: LoadedModel,
    rows: Sequence[Row],
    windows: range,
    budget: TokenBudget,
    begin: Callable[[Batch], None],
) -> None:
    """Pass some of the windows through the model.

    After memory has run out a smaller batch begins at the same window, and hooks on the lower
    layers see windows again.

    Args:
        model: the loaded model.
        rows: all windows.
        windows: which of them.
        budget: most positions in one forward pass.
        begin: told each batch before it is computed.
    """
    done = windows.start
    while done < windows.stop:
        batch = _next_batch(rows[done : windows.stop], budget)
        begin(Batch(done, done + len(batch), len(batch[0])))
        tokens_BT = torch.tensor(batch, device=model.input_device)
        num_rows, length = tokens_BT.shape
        forward = partial(model.hidden_states, tokens_BT)
        if within_memory(forward, num_rows, length, budget) is not None:
            done += len(batch)


def _next_batch(rows: Sequence[Row], budget: TokenBudget) -> list[Row]:
    """The first rows that are of one length and fit into the budget; at least one."""
    length = len(rows[0])
    most = max(budget.positions // length, 1)
    return list(takewhile(lambda row: len(row) == length, rows[:most]))


@contextmanager
def watching(
    sites: Sequence[MlpSite], look: Callable[[MlpSite, Tensor, Tensor], None]
) -> Iterator[None]:
    """Call ``look`` with every site's inputs and pre-activations, as long as the context lasts."""

    def hook_for(site: MlpSite) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            values = output[..., site.start : site.start + site.size]
            look(site, inputs[0].flatten(0, -2), values.flatten(0, -2))

        return hook

    handles = []
    try:
        for site in sites:
            handles.append(site.pre_activation.register_forward_hook(hook_for(site)))
        yield
    finally:
        for handle in handles:
            handle.remove()
