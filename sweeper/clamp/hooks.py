"""Clamps as a context manager: forward hooks on the pre-activation sites.

Shapes: ``B`` rows, ``T`` positions, ``F`` outputs of the site's module, ``K`` chosen neurons.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.clamp.operations import OPERATIONS, Operation
from sweeper.models.loading import LoadedModel, MlpSite
from sweeper.records import Condition


@dataclass(slots=True)
class ClampCount:
    """How many pre-activations a clamp saw and changed, over all layers and forward passes."""

    seen: int = 0
    _changed: dict[torch.device, Tensor] = field(default_factory=dict)

    def add(self, before: Tensor, after: Tensor) -> None:
        """Count the entries that differ; stays on the device, so that nothing waits for it."""
        self.seen += before.numel()
        changed = (before != after).sum()
        total = self._changed.get(changed.device)
        self._changed[changed.device] = changed if total is None else total + changed

    @property
    def changed(self) -> int:
        """Number of changed values so far."""
        return sum(int(total) for total in self._changed.values())


@contextmanager
def clamped(model: LoadedModel, condition: Condition) -> Iterator[ClampCount]:
    """Clamp the condition's neurons in every forward pass inside the ``with`` block.

    The hooks are removed on the way out, whatever happened inside. Layers without chosen neurons
    get no hook. A condition without an operation changes nothing.

    Raises:
        ValueError: an unknown operation, or a layer or neuron that the model lacks.
    """
    count = ClampCount()
    handles: list[Any] = []
    try:
        for site, chosen in targets(model, condition):
            hook = _hook(OPERATIONS[str(condition.operation)], site, chosen, count)
            handles.append(site.pre_activation.register_forward_hook(hook))
        yield count
    finally:
        for handle in handles:
            handle.remove()


def targets(model: LoadedModel, condition: Condition) -> list[tuple[MlpSite, Sequence[int]]]:
    """The sites that a condition clamps, with the neurons of each; none for a baseline.

    Raises:
        ValueError: an unknown operation, or a layer or neuron that the model lacks.
    """
    if condition.operation is None:
        return []
    if condition.operation not in OPERATIONS:
        raise ValueError(f"unknown operation {condition.operation!r}; known: {list(OPERATIONS)}")
    targets: list[tuple[MlpSite, Sequence[int]]] = []
    for layer, chosen in sorted(condition.neurons.items()):
        if not 0 <= layer < len(model.sites):
            raise ValueError(f"layer {layer} is not one of the model's {len(model.sites)} layers")
        size = model.sites[layer].size
        if chosen and not 0 <= min(chosen) <= max(chosen) < size:
            raise ValueError(f"layer {layer} has neurons 0 to {size - 1}, not all of {chosen}")
        if chosen:
            targets.append((model.sites[layer], chosen))
    return targets


def _hook(operation: Operation, site: MlpSite, chosen: Sequence[int], count: ClampCount) -> Any:
    # A fused site holds other things behind the pre-activations (Phi-3: the up projection).
    index_K = torch.tensor(chosen, dtype=torch.long) + site.start

    def clamp(_module: nn.Module, _inputs: Any, output_BTF: Tensor) -> Tensor:
        nonlocal index_K
        index_K = index_K.to(output_BTF.device)
        before_BTK = output_BTF.index_select(-1, index_K)
        after_BTK = operation(before_BTK)
        count.add(before_BTK, after_BTK)
        # In place: the projection's output is fresh, nobody else holds it, and a copy of all F
        # columns would cost more than the clamp itself.
        return output_BTF.index_copy_(-1, index_K, after_BTK)

    return clamp
