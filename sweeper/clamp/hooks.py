"""Clamps as a context manager: forward hooks on the modules of MLPs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.clamp.action import Action, actions
from sweeper.models.loading import LoadedModel
from sweeper.records import Condition


@dataclass(slots=True)
class ClampCount:
    """How many values a clamp saw and changed, over all layers and forward passes."""

    seen: int = 0
    _changed: dict[torch.device, Tensor] = field(default_factory=dict)

    def add(self, differs: Tensor) -> None:
        """Count what differs; stays on the device, so that nothing waits for it."""
        self.seen += differs.numel()
        changed = differs.sum()
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
        ValueError: as ``actions`` does.
    """
    count = ClampCount()
    handles: list[Any] = []
    try:
        for action in actions(model, condition):
            handles.append(action.module.register_forward_hook(_hook(action, count)))
        yield count
    finally:
        for handle in handles:
            handle.remove()


def _hook(action: Action, count: ClampCount) -> Any:
    def clamp(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        count.add(action.apply(inputs[0], output))

    return clamp
