"""What a condition does in one layer: an operation on the values of chosen neurons.

Shapes: ``N`` places (any number of dimensions), ``F`` outputs of the module, ``K`` chosen neurons.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sweeper.clamp.operations import OPERATIONS, Operation
from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.records import Condition

_Kind = tuple[torch.device, torch.dtype]


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """An operation in one layer; compared by identity, which is cheap (``key`` says the rest)."""

    name: str
    operation: Operation
    site: MlpSite
    neurons: tuple[int, ...]
    values: tuple[float, ...]
    """One for each neuron where the operation takes them, empty elsewhere."""
    _tensors: dict[_Kind, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _written: dict[_Kind, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[int, str, tuple[int, ...], tuple[float, ...]]:
        """Actions of one model with the same key do the same."""
        return self.site.layer, self.name, self.neurons, self.values

    @property
    def module(self) -> nn.Module:
        """Whose outputs are changed."""
        module: nn.Module = getattr(self.site, self.operation.place)
        return module

    @property
    def num_values(self) -> int:
        """Values at one place that it may change."""
        return self.site.hidden if self.operation.whole else len(self.neurons)

    def apply(self, inputs_NF: Tensor, outputs_NF: Tensor) -> Tensor:
        """Change what the module has put out, in place.

        The outputs of projections and activation functions are fresh, nobody else holds them, and
        a copy of all F columns would cost more than the operation itself.

        Args:
            inputs_NF: what has entered the module.
            outputs_NF: what it has put out.

        Returns:
            Which values are different now, shape (N, ``num_values``).
        """
        if self.operation.whole:
            changed_NF = self.operation.change(outputs_NF)
            differs = outputs_NF != changed_NF
            outputs_NF.copy_(changed_NF)
            return differs
        index_K, values_K = self._on(outputs_NF)
        before_NK = outputs_NF.index_select(-1, index_K)
        further: tuple[Tensor, ...] = ()
        if self.operation.takes == "values":
            further = (values_K,)
        elif self.operation.takes == "inputs":
            further = (inputs_NF.index_select(-1, index_K),)
        after_NK = self.operation.change(before_NK, *further)
        outputs_NF.index_copy_(-1, index_K, after_NK)
        return before_NK != after_NK

    def switched_off(self, outputs_NF: Tensor) -> Tensor:
        """Which neurons an operation that ``switches_off`` would switch off; (N, K)."""
        index_K, _ = self._on(outputs_NF)
        before_NK = outputs_NF.index_select(-1, index_K)
        return before_NK != self.operation.change(before_NK)

    def written(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The neurons as columns of the hidden units, and what each writes, (K, D)."""
        key = (like.device, like.dtype)
        if key not in self._written:
            index_K = torch.tensor(self.neurons, device=like.device)
            self._written[key] = (index_K, self.site.output_rows(index_K).contiguous())
        return self._written[key]

    def _on(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Columns of the neurons, and their values, where and as what ``like`` is."""
        key = (like.device, like.dtype)
        if key not in self._tensors:
            # A fused site holds other things beside the pre-activations (Phi-3: the up projection).
            start = self.site.start if self.operation.place == "pre_activation" else 0
            index_K = torch.tensor(self.neurons, device=like.device) + start
            self._tensors[key] = (index_K, like.new_tensor(self.values))
        return self._tensors[key]


def actions(model: LoadedModel, condition: Condition) -> list[Action]:
    """What a condition does, layer by layer; nothing for a baseline and for layers left alone.

    Raises:
        ValueError: an unknown operation, a layer or neuron that the model lacks, values that do
            not belong to the neurons, or some neurons where only whole layers will do.
    """
    if condition.operation is None:
        return []
    if condition.operation not in OPERATIONS:
        raise ValueError(f"unknown operation {condition.operation!r}; known: {list(OPERATIONS)}")
    found: list[Action] = []
    for layer, chosen in sorted(condition.neurons.items()):
        if not 0 <= layer < len(model.sites):
            raise ValueError(f"layer {layer} is not one of the model's {len(model.sites)} layers")
        values = condition.values.get(layer, ())
        operation = OPERATIONS[condition.operation]
        _check(condition.operation, operation, model.sites[layer], chosen, values)
        if chosen:
            site = model.sites[layer]
            found.append(Action(condition.operation, operation, site, tuple(chosen), tuple(values)))
    return found


def _check(
    name: str, operation: Operation, site: MlpSite, chosen: Sequence[int], values: Sequence[float]
) -> None:
    layer, size = site.layer, site.size
    if chosen and not 0 <= min(chosen) <= max(chosen) < size:
        raise ValueError(f"layer {layer} has neurons 0 to {size - 1}, not all of {chosen}")
    if operation.whole and len(set(chosen)) not in (0, size):
        raise ValueError(
            f"operation {name!r} is on whole layers; layer {layer} has {size} neurons, "
            f"{len(set(chosen))} of them are chosen"
        )
    if len(values) != (len(chosen) if operation.takes == "values" else 0):
        needed = "one value for each neuron" if operation.takes == "values" else "no values"
        raise ValueError(
            f"operation {name!r} takes {needed}; layer {layer} has {len(chosen)} chosen neurons "
            f"and {len(values)} values"
        )
