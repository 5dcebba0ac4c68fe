"""Passing windows of text through a model while hooks look at the MLPs.

Shapes: ``B`` windows, ``T`` tokens of each, ``N`` = B T, ``D`` model width, ``F`` neurons.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby, takewhile
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.models.layer_major import pass_layers
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


class Unseen:
    """Which windows of a batch each layer has not seen yet.

    After memory has run out in a higher layer, lower ones see windows a second time.
    """

    def __init__(self, num_layers: int, first: int = 0) -> None:
        """Begin with window ``first``."""
        self._next = [first] * num_layers
        self._batch = Batch(first, first, 0)

    @property
    def length(self) -> int:
        """Tokens of each window of the batch."""
        return self._batch.length

    def begin(self, batch: Batch) -> None:
        """Be told the next batch."""
        self._batch = batch

    def places(self, layer: int) -> slice | None:
        """Places of the windows that are new to a layer, which has then seen them; None without."""
        start = max(self._next[layer], self._batch.first)
        self._next[layer] = max(self._next[layer], self._batch.end)
        if start >= self._batch.end:
            return None
        return slice((start - self._batch.first) * self._batch.length, None)

    @contextmanager
    def new_places(self, layer: int) -> Iterator[slice | None]:
        """As ``places``, but they count as seen only if the context ends without an exception."""
        before = self._next[layer]
        try:
            yield self.places(layer)
        except BaseException:
            self._next[layer] = before
            raise


@torch.inference_mode()
def read(
    model: LoadedModel,
    rows: Sequence[Row],
    windows: range,
    budget: TokenBudget,
    begin: Callable[[Batch], None],
) -> None:
    """Pass some of the windows through the model.

    After memory has run out a smaller batch begins at the same window (where layers are kept apart:
    at the first one), and hooks on the lower layers see windows again.

    Args:
        model: the loaded model. Where its layers are kept apart, all windows pass a layer before
            the next one is read.
        rows: all windows.
        windows: which of them.
        budget: most positions in one forward pass.
        begin: told each batch before it is computed; of a model kept apart, before every layer.
    """
    if model.is_apart:
        _read_by_layers(model, rows, windows, budget, begin)
        return
    done = windows.start
    while done < windows.stop:
        batch = _next_batch(rows[done : windows.stop], budget)
        begin(Batch(done, done + len(batch), len(batch[0])))
        tokens_BT = torch.tensor(batch, device=model.input_device)
        num_rows, length = tokens_BT.shape
        forward = partial(model.hidden_states, tokens_BT)
        if within_memory(forward, num_rows, length, budget) is not None:
            done += len(batch)


def _read_by_layers(
    model: LoadedModel,
    rows: Sequence[Row],
    windows: range,
    budget: TokenBudget,
    begin: Callable[[Batch], None],
) -> None:
    for length, group in groupby(windows, lambda window: len(rows[window])):
        members = list(group)
        first = members[0]

        def told(start: int, end: int, first: int = first, length: int = length) -> None:
            begin(Batch(first + start, first + end, length))

        done = None
        while done is None:
            size = min(max(budget.positions // length, 1), len(members))
            forward = partial(pass_layers, model, [rows[w] for w in members], size, told)
            done = within_memory(forward, size, length, budget)


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


@contextmanager
def watching_factors(
    sites: Sequence[MlpSite], look: Callable[[MlpSite, Tensor, Tensor | None], None]
) -> Iterator[None]:
    """Call ``look`` with every site's pre-activations and what multiplies their activations.

    The latter is None where an MLP is not gated. Gates are computed before their factors.
    """
    waiting: dict[int, Tensor] = {}

    def gate_for(site: MlpSite) -> Any:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            waiting[site.layer] = output[..., site.start : site.start + site.size].flatten(0, -2)
            if site.factor is None:
                look(site, waiting.pop(site.layer), None)

        return hook

    def factor_for(site: MlpSite) -> Any:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            factors = output[..., site.factor_start : site.factor_start + site.size]
            look(site, waiting.pop(site.layer), factors.flatten(0, -2))

        return hook

    handles = []
    try:
        for site in sites:
            handles.append(site.pre_activation.register_forward_hook(gate_for(site)))
            if site.factor is not None:
                handles.append(site.factor.register_forward_hook(factor_for(site)))
        yield
    finally:
        for handle in handles:
            handle.remove()
