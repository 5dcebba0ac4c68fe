"""pyvene 0.1: the clamps as an intervention of our own on module outputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyvene
import torch
from torch import Tensor

from benchmarks.items import Items, Sums
from benchmarks.sides.batches import Batch, Batched, in_file_order
from sweeper.clamp.operations import OPERATIONS, Operation
from sweeper.models.loading import LoadedModel
from sweeper.records import Condition


class _Clamp(pyvene.ConstantSourceIntervention, pyvene.LocalistRepresentationIntervention):
    """An operation on some neurons; needs no source, and gets a copy of the output."""

    def __init__(self, operation: Operation, neurons: Sequence[int]) -> None:
        super().__init__()
        self._operation = operation
        self._neurons = list(neurons)

    def forward(self, base: Tensor, source: Any = None, subspaces: Any = None) -> Tensor:
        base[..., self._neurons] = self._operation.change(base[..., self._neurons])
        return base


class PyveneSide:
    """A model for pyvene, which freezes its parameters: give it its own copy."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    def score(
        self, items: Items, conditions: Sequence[Condition], batched: Batched = in_file_order
    ) -> Sums:
        """Sums over the scored tokens, one pass per condition over the batches."""
        batches = batched(items)
        sums = np.zeros((len(conditions), len(items.rows)))
        for place, condition in enumerate(conditions):
            intervenable = self._intervenable(condition)
            for batch in batches:
                sums[place, batch.members] = _score(intervenable, batch)
        return sums

    def _intervenable(self, condition: Condition) -> Any:
        family = self._model.family
        places = [
            {
                "component": f"{family.layers}[{layer}].{family.pre_activation}.output",
                "intervention": _Clamp(OPERATIONS[str(condition.operation)], neurons),
            }
            for layer, neurons in sorted(condition.neurons.items())
        ]
        return pyvene.IntervenableModel(places, model=self._model.model)


@torch.inference_mode()
def _score(intervenable: Any, batch: Batch) -> Sums:
    inputs = {
        "input_ids": batch.input_ids_BT,
        "attention_mask": batch.attention_mask_BT,
        "use_cache": False,
    }
    # Without any intervention pyvene gives the plain output first, otherwise second.
    plain, intervened = intervenable(base=inputs)
    return batch.sums((intervened or plain).logits)
