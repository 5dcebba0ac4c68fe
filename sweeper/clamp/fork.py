"""The forked forward pass: conditions share every layer up to the first at which they differ.

Conditions are sequences of what they do in each layer. A batch is computed once for all that agree
so far; where they part, a copy for each goes on, and copies pass the next layers together, each
with its own clamps. Several random draws of the same control are such copies. The layer at which
they part is computed once where the others can be derived from it (``derived``).

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
from sweeper.clamp.derived import Derivation, can_derive
from sweeper.models.layerwise import Layerwise
from sweeper.models.loading import LoadedModel
from sweeper.records import Condition

_Groups = Sequence[tuple[Action | None, tuple[int, ...]]]
"""What is done in a layer, and the conditions that do it."""


@dataclass(frozen=True, slots=True)
class Branch:
    """What the conditions ``members`` agree on so far."""

    members: tuple[int, ...]
    """Indices of conditions."""
    hidden_BTD: Tensor


@dataclass(frozen=True, slots=True)
class _Copy:
    """A copy of a batch that passes a layer, and what is derived from it."""

    action: Action | None
    members: tuple[int, ...]
    """Conditions that have this action; none where only derived ones are wanted."""
    hidden_BTD: Tensor
    derived: tuple[tuple[Action, tuple[int, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class _Slot:
    """A copy while it passes a layer."""

    copy: _Copy
    derivations: Sequence[Derivation]
    """One for each that is derived."""


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
        self._derive = can_derive(model)
        self._slots: Sequence[_Slot] = ()
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
            off = [action for action in chosen if self._is_derivable(action)]
            for module in dict.fromkeys(action.site.output for action in off):
                handles.append(module.register_forward_hook(self._gather))
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
            copies = [copy for branch in branches for copy in self._part(branch, layer)]
            branches = []
            for begin in range(0, len(copies), max_copies):
                branches += self._layer(batch, layer, copies[begin : begin + max_copies])
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
            groups = [_by_action(layer, group) for group in parted]
            parted = [members for of_one in groups for _, members in of_one]
            total += sum(map(self._num_copies, groups))
        return total

    def _of(self, member: int) -> list[Action | None]:
        return [layer[member] for layer in self._actions]

    def _part(self, branch: Branch, layer: int) -> list[_Copy]:
        """The copies of a branch that must pass a layer."""
        groups = _by_action(self._actions[layer], branch.members)
        derived = self._derived(groups)
        kept = [group for group in groups if group[0] is None or group not in derived]
        if derived and all(action is not None for action, _ in kept):
            kept.insert(0, (None, ()))
        return [
            _Copy(action, members, branch.hidden_BTD, () if action is not None else derived)
            for action, members in kept
        ]

    def _num_copies(self, groups: _Groups) -> int:
        derived = self._derived(groups)
        kept = len(groups) - len(derived)
        return kept + bool(derived and all(action is not None for action, _ in groups))

    def _derived(self, groups: _Groups) -> tuple[tuple[Action, tuple[int, ...]], ...]:
        """Groups that cost less derived from one pass without a clamp than computed themselves."""
        found = tuple((a, members) for a, members in groups if a and self._is_derivable(a))
        has_plain = any(action is None for action, _ in groups)
        return found if has_plain or len(found) > 1 else ()

    def _is_derivable(self, action: Action) -> bool:
        return self._derive and action.operation.switches_off

    def _layer(self, batch: Layerwise, layer: int, copies: Sequence[_Copy]) -> list[Branch]:
        self._slots = [_Slot(copy, [Derivation(a) for a, _ in copy.derived]) for copy in copies]
        inputs = [copy.hidden_BTD for copy in copies]
        hidden = batch.layer(layer, inputs[0] if len(inputs) == 1 else torch.cat(inputs))
        outputs = hidden.chunk(len(copies))
        branches = []
        for slot, output_BTD in zip(self._slots, outputs, strict=True):
            if slot.copy.members:
                branches.append(Branch(slot.copy.members, output_BTD))
            for (_, members), derivation in zip(slot.copy.derived, slot.derivations, strict=True):
                branches.append(Branch(members, derivation.applied(output_BTD)))
        return branches

    def _clamp(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Change the copies that have an action on this module; a forward hook."""
        outputs_GNF = output.view(len(self._slots), -1, output.shape[-1])
        inputs_GNF = inputs[0].reshape(len(self._slots), -1, inputs[0].shape[-1])
        for slot, inputs_NF, outputs_NF in zip(self._slots, inputs_GNF, outputs_GNF, strict=True):
            action, members = slot.copy.action, slot.copy.members
            if action is not None and action.module is module:
                self._count(members, action.apply(inputs_NF, outputs_NF))
            for (action, members), derivation in zip(
                slot.copy.derived, slot.derivations, strict=True
            ):
                if action.module is module:
                    self._count(members, derivation.at_pre_activation(outputs_NF))

    def _gather(self, _module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        """Let derivations see the hidden units of their copies; a forward hook."""
        units_GNF = inputs[0].reshape(len(self._slots), -1, inputs[0].shape[-1])
        for slot, units_NF in zip(self._slots, units_GNF, strict=True):
            for derivation in slot.derivations:
                derivation.at_output(units_NF)

    def _count(self, members: Sequence[int], differs_NK: Tensor) -> None:
        assert self._counted is not None
        changed = (differs_NK.sum(-1) * self._counted.to(differs_NK.device)).sum()
        for member in members:
            self._changed.setdefault(member, []).append(changed)


def _by_action(layer: Sequence[Action | None], members: Sequence[int]) -> _Groups:
    """Members by what they do in a layer, in the order in which they come."""
    groups: dict[Action | None, list[int]] = {}
    for member in members:
        groups.setdefault(layer[member], []).append(member)
    return [(action, tuple(group)) for action, group in groups.items()]
