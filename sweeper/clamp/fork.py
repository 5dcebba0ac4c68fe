"""The forked forward pass: conditions share every layer up to the first at which they differ.

Conditions are sequences of what they do in each layer. A batch is computed once for all that agree
so far; where they part, a copy for each goes on, and copies pass the next layers together, each
with its own clamps. Several random draws of the same control are such copies.

Shapes: ``G`` copies, ``B`` rows, ``T`` places, ``N`` places of all rows, ``D`` hidden size, ``F``
outputs of a module, ``K`` changed values of a place.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.clamp.action import Action, actions
from sweeper.models.layerwise import Layerwise
from sweeper.models.loading import LoadedModel
from sweeper.records import Condition


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
            ValueError: as ``actions`` does.
        """
        self._model = model
        self._num = len(conditions)
        # Equal actions are one object, so that comparing is cheap.
        self._actions: list[list[Action | None]] = [[None] * self._num for _ in model.sites]
        known: dict[object, Action] = {}
        for member, condition in enumerate(conditions):
            for action in actions(model, condition):
                action = known.setdefault(action.key, action)
                self._actions[action.site.layer][member] = action
        self._numbers = {action: number for number, action in enumerate(known.values(), start=1)}
        self._slots: Sequence[tuple[Action | None, tuple[int, ...]]] = ()
        self._counted: Tensor | None = None
        self._changed: dict[int, list[Tensor]] = {}

    def order(self) -> list[int]:
        """Conditions in an order in which those that share most layers are neighbours."""

        def path(member: int) -> list[int]:
            return [self._numbers[action] if action else 0 for action in self._of(member)]

        return sorted(range(self._num), key=path)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Put the hooks on; they are gone on the way out, whatever happened inside."""
        handles: list[Any] = []
        try:
            chosen = [action for layer in self._actions for action in layer if action]
            for module in dict.fromkeys(action.module for action in chosen):
                handles.append(module.register_forward_hook(self._clamp))
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
        """Values of one place that a condition clamps, over all layers."""
        return sum(action.num_values for action in self._of(member) if action)

    def num_layer_passes(self, members: Sequence[int]) -> int:
        """How many copies of layers a batch passes; without sharing, members x layers."""
        parted: list[tuple[int, ...]] = [tuple(members)]
        total = 0
        for layer in self._actions:
            parted = [part for group in parted for _, part in _by_action(layer, group)]
            total += len(parted)
        return total

    def _of(self, member: int) -> list[Action | None]:
        return [layer[member] for layer in self._actions]

    def _part(self, branch: Branch, layer: int) -> list[tuple[Action | None, Branch]]:
        parts = _by_action(self._actions[layer], branch.members)
        return [(action, Branch(group, branch.hidden_BTD)) for action, group in parts]

    def _layer(
        self, batch: Layerwise, layer: int, parted: Sequence[tuple[Action | None, Branch]]
    ) -> list[Branch]:
        self._slots = [(action, branch.members) for action, branch in parted]
        inputs = [branch.hidden_BTD for _, branch in parted]
        hidden = batch.layer(layer, inputs[0] if len(inputs) == 1 else torch.cat(inputs))
        outputs = hidden.chunk(len(parted))
        return [
            Branch(branch.members, output)
            for (_, branch), output in zip(parted, outputs, strict=True)
        ]

    def _clamp(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Change the copies that have an action on this module; a forward hook."""
        num = len(self._slots)
        inputs_GNF = inputs[0].reshape(num, -1, inputs[0].shape[-1])
        outputs_GNF = output.view(num, -1, output.shape[-1])
        slots = zip(self._slots, inputs_GNF, outputs_GNF, strict=True)
        for (action, members), inputs_NF, outputs_NF in slots:
            if action is not None and action.module is module:
                self._count(members, action.apply(inputs_NF, outputs_NF))

    def _count(self, members: Sequence[int], differs_NK: Tensor) -> None:
        assert self._counted is not None
        changed = (differs_NK.sum(-1) * self._counted.to(differs_NK.device)).sum()
        for member in members:
            self._changed.setdefault(member, []).append(changed)


def _by_action(
    layer: Sequence[Action | None], members: Sequence[int]
) -> list[tuple[Action | None, tuple[int, ...]]]:
    """Members by what they do in a layer, in the order in which they come."""
    groups: dict[Action | None, list[int]] = {}
    for member in members:
        groups.setdefault(layer[member], []).append(member)
    return [(action, tuple(group)) for action, group in groups.items()]
