"""The forked forward pass: conditions share every layer up to the first at which they differ.

Conditions are sequences of what they do in each layer. A batch is computed once for all that agree
so far; where they part, a copy for each goes on, and copies pass the next layers together, each
with its own clamps. Several random draws of the same control are such copies.

Shapes: ``G`` copies, ``B`` rows, ``T`` places, ``D`` hidden size, ``F`` outputs of a site, ``K``
clamped neurons.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.clamp.hooks import targets
from sweeper.clamp.operations import OPERATIONS, Operation
from sweeper.models.layerwise import Layerwise
from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.records import Condition


@dataclass(frozen=True, slots=True, eq=False)
class _Action:
    """What is done in one layer; equal ones are the same object, so that comparing is cheap."""

    number: int
    operation: Operation
    neurons: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """What the conditions ``members`` agree on so far."""

    members: tuple[int, ...]
    """Indices of conditions."""
    hidden_BTD: Tensor


class Fork:
    """The clamps of several conditions, installed on a model until the ``with`` block is left."""

    def __init__(self, model: LoadedModel, conditions: Sequence[Condition]) -> None:
        """Check and compare the conditions.

        Raises:
            ValueError: an unknown operation, or a layer or neuron that the model lacks.
        """
        self._model = model
        self._num = len(conditions)
        self._actions: list[list[_Action | None]] = [[None] * self._num for _ in model.sites]
        known: dict[tuple[str | None, tuple[int, ...]], _Action] = {}
        for member, condition in enumerate(conditions):
            for site, chosen in targets(model, condition):
                name, neurons = str(condition.operation), tuple(chosen)
                action = _Action(len(known) + 1, OPERATIONS[name], neurons)
                action = known.setdefault((name, neurons), action)
                self._actions[site.layer][member] = action
        self._indices: dict[tuple[int, _Action, torch.device], Tensor] = {}
        self._slots: Sequence[tuple[_Action | None, tuple[int, ...]]] = ()
        self._counted: Tensor | None = None
        self._changed: dict[int, list[Tensor]] = {}

    def order(self) -> list[int]:
        """Conditions in an order in which those that share most layers are neighbours."""

        def path(member: int) -> list[int]:
            return [action.number if action else 0 for action in self._of(member)]

        return sorted(range(self._num), key=path)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Put the hooks on; they are gone on the way out, whatever happened inside."""
        handles: list[Any] = []
        try:
            for site in self._model.sites:
                if any(self._actions[site.layer]):
                    module = site.pre_activation
                    handles.append(module.register_forward_hook(self._hook(site)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def forward(
        self, batch: Layerwise, members: Sequence[int], counted_BT: Tensor, max_copies: int
    ) -> list[Branch]:
        """The last layer's outputs, once for each set of members that are the same throughout.

        Args:
            batch: on its way through the decoder.
            members: conditions that take part.
            counted_BT: places at which changed values are counted.
            max_copies: most copies in one call of a layer.
        """
        self._counted, self._changed = counted_BT.flatten(), {}
        branches = [Branch(tuple(members), batch.embedded_BTD)]
        for layer in range(len(self._model.sites)):
            parted = [part for branch in branches for part in self._part(branch, layer)]
            branches = []
            for begin in range(0, len(parted), max_copies):
                branches += self._layer(batch, layer, parted[begin : begin + max_copies])
        return branches

    def changed(self) -> dict[int, int]:
        """Values that the last forward pass changed, by condition."""
        return {member: int(sum(counts)) for member, counts in self._changed.items()}

    def num_clamped(self, member: int) -> int:
        """Neurons that a condition clamps, over all layers."""
        return sum(len(action.neurons) for action in self._of(member) if action)

    def num_layer_passes(self, members: Sequence[int]) -> int:
        """How many copies of layers a batch passes; without sharing, members x layers."""
        parted: list[tuple[int, ...]] = [tuple(members)]
        total = 0
        for layer in self._actions:
            parted = [part for group in parted for _, part in _by_action(layer, group)]
            total += len(parted)
        return total

    def _of(self, member: int) -> list[_Action | None]:
        return [layer[member] for layer in self._actions]

    def _part(self, branch: Branch, layer: int) -> list[tuple[_Action | None, Branch]]:
        parts = _by_action(self._actions[layer], branch.members)
        return [(action, Branch(group, branch.hidden_BTD)) for action, group in parts]

    def _layer(
        self, batch: Layerwise, layer: int, parted: Sequence[tuple[_Action | None, Branch]]
    ) -> list[Branch]:
        self._slots = [(action, branch.members) for action, branch in parted]
        inputs = [branch.hidden_BTD for _, branch in parted]
        hidden = batch.layer(layer, inputs[0] if len(inputs) == 1 else torch.cat(inputs))
        outputs = hidden.chunk(len(parted))
        return [
            Branch(branch.members, output)
            for (_, branch), output in zip(parted, outputs, strict=True)
        ]

    def _hook(self, site: MlpSite) -> Any:
        def clamp(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            copies = output.view(len(self._slots), -1, output.shape[-1])
            for (action, members), values_NF in zip(self._slots, copies, strict=True):
                if action is not None:
                    self._clamp(site, action, members, values_NF)

        return clamp

    def _clamp(
        self, site: MlpSite, action: _Action, members: Sequence[int], values_NF: Tensor
    ) -> None:
        # In place: the projection's output is fresh, and nobody else holds it.
        index_K = self._index(site, action, values_NF.device)
        before_NK = values_NF.index_select(-1, index_K)
        after_NK = action.operation(before_NK)
        values_NF.index_copy_(-1, index_K, after_NK)
        assert self._counted is not None
        differs = (before_NK != after_NK).sum(-1)
        changed = (differs * self._counted.to(differs.device)).sum()
        for member in members:
            self._changed.setdefault(member, []).append(changed)

    def _index(self, site: MlpSite, action: _Action, device: torch.device) -> Tensor:
        key = (site.layer, action, device)
        if key not in self._indices:
            # A fused site holds other things behind the pre-activations.
            self._indices[key] = torch.tensor(action.neurons, device=device) + site.start
        return self._indices[key]


def _by_action(
    layer: Sequence[_Action | None], members: Sequence[int]
) -> list[tuple[_Action | None, tuple[int, ...]]]:
    """Members by what they do in a layer, in the order in which they come."""
    groups: dict[_Action | None, list[int]] = {}
    for member in members:
        groups.setdefault(layer[member], []).append(member)
    return [(action, tuple(group)) for action, group in groups.items()]
