"""What a layer with a quorum does for the next token: it is taken out, its handler switched.

Balogh (2026) groups the loss at a token by how many consensus neurons of the layer fire there.
Interventions on all layers go through one forked forward pass; distributions are compared a few
positions at a time, so that no logits of a whole window are ever kept.

Shapes: ``W`` windows (documents), ``B`` of a batch, ``T`` tokens of each, ``P`` = T - 1 places with
a next token, ``N`` tokens, ``K`` neurons, ``L`` levels.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.clamp.fork import Fork
from sweeper.models.fused import fused_elementwise
from sweeper.models.layerwise import Layerwise
from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.models.packed import packed_linears
from sweeper.neurons.firing import cutoffs
from sweeper.neurons.passes import Unseen, read
from sweeper.neurons.routing.passes import Fires, watching_mlps
from sweeper.neurons.routing.removal_sums import Sums, table_of
from sweeper.neurons.routing.roles import Quorum
from sweeper.records import Condition
from sweeper.score.allocator import freed_memory_kept
from sweeper.score.divergence import Compared, compare
from sweeper.score.engine import KEPT_PER_POSITION, LAYER_POSITIONS
from sweeper.score.logprobs import within_memory
from sweeper.score.memory import TokenBudget
from sweeper.score.tokens import Row

_log = logging.getLogger("sweeper")


def removal(
    model: LoadedModel,
    rows: Sequence[Row],
    quorums: Mapping[int, Quorum],
    budget: TokenBudget,
    *,
    threshold: float = 0.1,
    fires: Fires = "activation",
) -> pd.DataFrame:
    """Losses and distributions with and without each layer's MLP, and with its handler switched.

    One layer at a time: ``remove_mlp`` sets the MLP's output to 0, ``handler_zero`` the handler's
    pre-activation. ``handler_on`` clamps that pre-activation to its mean over the tokens of this
    text at which the handler fires in the unclamped model; where it never fires, the layer has no
    such rows. Consensus levels are those of the unclamped model.

    Args:
        model: the loaded model, without clamps.
        rows: token windows of one length, each a document; the last token is only predicted.
        quorums: handler and consensus neurons by layer.
        budget: most positions in one forward pass.
        threshold: a neuron fires where its value exceeds it.
        fires: which value that is (``routing.passes``).

    Returns:
        The table ``removal``: for each layer and intervention a row per level and one over all
        tokens (``level`` is missing). NaN at levels without tokens; intervals are NaN with fewer
        than two documents, and where all documents agree, which does not say how sure they are.

    Raises:
        ValueError: there are no windows, or they differ in length or have fewer than 2 tokens.
        FloatingPointError: a loss or a divergence is NaN or infinite.
        RuntimeError: an intervention changed no value at all.
    """
    if not quorums:
        return table_of([])
    lengths = set(map(len, rows))
    if len(lengths) != 1 or min(lengths) < 2:
        raise ValueError("removal needs windows of one length, of at least 2 tokens")
    unclamped = _Unclamped(model, quorums, len(rows) * (lengths.pop() - 1), threshold, fires)
    unclamped.pass_over([row[:-1] for row in rows], budget)
    conditions = _interventions(model, quorums, unclamped.on_values())
    tables = [
        Sums(layer, condition.name, len(quorums[layer].consensus) + 1, len(rows))
        for layer, condition in conditions
    ]
    forked = _Forked(model, [_condition("baseline"), *(one for _, one in conditions)], budget)
    _fill(tables, forked, rows, unclamped.levels)
    return table_of(tables)


def _fill(
    tables: Sequence[Sums],
    forked: "_Forked",
    rows: Sequence[Row],
    levels: Mapping[int, NDArray[np.int64]],
) -> None:
    """Take in all windows; conditions after the baseline are in the order of the tables."""
    with forked.installed():
        for first, compared in forked.batches(rows):
            for member, sums in enumerate(tables, start=1):
                levels_WP = levels[sums.layer].reshape(len(rows), -1)
                sums.add(first, levels_WP, compared, member)
    forked.require_changes([(sums.layer, sums.intervention) for sums in tables])


def _interventions(
    model: LoadedModel, quorums: Mapping[int, Quorum], on_values: Mapping[int, float]
) -> list[tuple[int, Condition]]:
    """Layers, and conditions that are named as the interventions are."""
    found = []
    for layer, quorum in sorted(quorums.items()):
        handler = {layer: (quorum.handler,)}
        whole = {layer: tuple(range(model.sites[layer].size))}
        found.append((layer, _condition("remove_mlp", "remove_mlp", whole)))
        found.append((layer, _condition("handler_zero", "zero", handler)))
        if layer in on_values:
            value = {layer: (on_values[layer],)}
            found.append((layer, _condition("handler_on", "set", handler, value)))
    return found


def _condition(
    name: str,
    operation: str | None = None,
    neurons: Mapping[int, tuple[int, ...]] = MappingProxyType({}),
    values: Mapping[int, tuple[float, ...]] = MappingProxyType({}),
) -> Condition:
    return Condition(name=name, seed=None, operation=operation, neurons=neurons, values=values)


class _Unclamped(Unseen):
    """Consensus levels, and the handlers' pre-activations where they fire."""

    def __init__(
        self,
        model: LoadedModel,
        quorums: Mapping[int, Quorum],
        num_tokens: int,
        threshold: float,
        fires: Fires,
    ) -> None:
        super().__init__(len(model.sites))
        self._model, self._quorums = model, quorums
        self._threshold, self._fires = threshold, fires
        self._cutoffs = cutoffs(model, threshold)
        self._done = Counter[int]()
        self._on = {layer: (0.0, 0) for layer in quorums}
        self.levels = {layer: np.empty(num_tokens, np.int64) for layer in quorums}
        """(N,) by layer: consensus neurons that fire."""

    def pass_over(self, rows: Sequence[Row], budget: TokenBudget) -> None:
        """Pass the text through the model."""
        sites = [self._model.sites[layer] for layer in self._quorums]
        with watching_mlps(sites, self._look):
            read(self._model, rows, range(len(rows)), budget, self.begin)
        for layer, levels_N in self.levels.items():
            if self._done[layer] != len(levels_N):
                seen = f"{self._done[layer]} of {len(levels_N)} tokens seen"
                raise RuntimeError(f"layer {layer}: {seen}")

    def on_values(self) -> dict[int, float]:
        """Mean pre-activation of each handler where it fires, by layer."""
        for layer, (_, count) in self._on.items():
            if not count:
                _log.warning("layer %d: the handler never fires in this text", layer)
        return {layer: total / count for layer, (total, count) in self._on.items() if count}

    def _look(
        self, site: MlpSite, _inputs: Tensor, pre_NF: Tensor, units_NF: Tensor, _outputs: Tensor
    ) -> None:
        layer, (total, count) = site.layer, self._on[site.layer]
        with self.new_places(layer) as places:
            if places is None:
                return
            chosen = [*self._quorums[layer].consensus, self._quorums[layer].handler]
            pre_NK = pre_NF[places][:, chosen]
            if self._fires == "activation":
                fires_NK = pre_NK >= self._cutoffs[layer]
            else:
                fires_NK = units_NF[places][:, chosen].float() > self._threshold
            levels_N = fires_NK[:, :-1].sum(1).cpu().numpy()
            on_N = pre_NK[:, -1][fires_NK[:, -1]].double()
            on_values = (total + float(on_N.sum()), count + len(on_N))
            to = slice(self._done[layer], self._done[layer] + len(levels_N))
            self.levels[layer][to] = levels_N
            self._done[layer], self._on[layer] = to.stop, on_values


@dataclass(slots=True)
class _Forked:
    """The forked pass over all windows; condition 0 is the baseline."""

    model: LoadedModel
    conditions: Sequence[Condition]
    budget: TokenBudget
    fork: Fork = field(init=False)
    changed: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.fork = Fork(self.model, self.conditions)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The clamps, and what makes computing faster, until the ``with`` block is left."""
        with ExitStack() as stack:
            stack.enter_context(self.fork.installed())
            stack.enter_context(packed_linears(self.model.layers, self.model.head))
            if self.model.input_device.type == "cpu":
                stack.enter_context(fused_elementwise(self.model.model))
                stack.enter_context(freed_memory_kept())
            yield

    def batches(self, rows: Sequence[Row]) -> Iterator[tuple[int, Compared]]:
        """First window of each batch, and what was found at its B P places."""
        done = 0
        while done < len(rows):
            size = self._num_rows(len(rows[0]) - 1)
            batch = rows[done : done + size]
            places = len(batch) * (len(rows[0]) - 1)
            copies, alive = self._copies(places), self._alive(places)
            # One window under one condition cannot be made smaller: its error is raised.
            alone = len(batch) == copies == alive == 1
            forward = partial(self._batch, batch, copies, alive)
            compared = within_memory(forward, 1 if alone else places * copies, 1, self.budget)
            if compared is not None:
                yield done, compared
                done += len(batch)

    def require_changes(self, named: Sequence[tuple[int, str]]) -> None:
        """Refuse results of an intervention that has changed nothing."""
        for member, (layer, name) in enumerate(named, start=1):
            if not self.changed[member]:
                raise RuntimeError(f"{name} changed not a single value of layer {layer}")

    def _layer_positions(self) -> int:
        return min(self.budget.positions, LAYER_POSITIONS[self.model.input_device.type])

    def _num_rows(self, length: int) -> int:
        """Windows of a batch: small enough for its copies to pass the layers together."""
        together = min(len(self.conditions), KEPT_PER_POSITION)
        return max(self._layer_positions() // together // length, 1)

    def _copies(self, places: int) -> int:
        """Most copies of a batch in one call of a layer."""
        return min(max(self._layer_positions() // places, 1), len(self.conditions))

    def _alive(self, places: int) -> int:
        """Conditions that are kept apart at once."""
        most = max(KEPT_PER_POSITION * self.budget.positions // places, 1)
        return min(most, len(self.conditions))

    @torch.inference_mode()
    def _batch(self, rows: Sequence[Row], copies: int, alive: int) -> Compared:
        tokens_BT = torch.tensor(rows, device=self.model.input_device)
        targets_N = tokens_BT[:, 1:].flatten()
        through = Layerwise(self.model, tokens_BT[:, :-1])
        shape = (len(self.conditions), len(targets_N))
        found = Compared(
            logprobs=np.empty(shape), ranks=np.empty(shape, np.int64), divergences=np.empty(shape)
        )
        order = self.fork.order()  # the baseline comes first: it does nothing in any layer
        plain: dict[int, Tensor] = {}
        for begin in range(0, len(order), alive):
            states = plain | self._states(through, order[begin : begin + alive], copies)
            members, plain = sorted(states), {0: states[0]}
            compared = compare(self.model, [states[member] for member in members], targets_N)
            found.logprobs[members] = compared.logprobs
            found.ranks[members] = compared.ranks
            found.divergences[members] = compared.divergences
        return found

    def _states(self, through: Layerwise, members: Sequence[int], copies: int) -> dict[int, Tensor]:
        """What enters the output head under each condition; (N, D)."""
        counted_BP = torch.ones(through.embedded_BTD.shape[:2], dtype=torch.bool)
        branches = self.fork.forward(through, members, counted_BP, copies)
        self.changed.update(self.fork.changed())
        return {
            member: through.final(branch.hidden_BTD).flatten(0, 1)
            for branch in branches
            for member in branch.members
        }
