"""nnsight 0.8: the clamps as writes to module outputs inside a trace."""

from collections.abc import Sequence

import nnsight
import numpy as np
import torch

from benchmarks.items import Items, Sums
from benchmarks.sides.batches import Batch, Batched, in_file_order
from sweeper.clamp.operations import OPERATIONS
from sweeper.models.loading import LoadedModel
from sweeper.records import Condition


class NnsightSide:
    """A model wrapped by nnsight, which changes its modules for good: give it its own copy."""

    def __init__(self, model: LoadedModel) -> None:
        self._family = model.family
        self._traced = nnsight.NNsight(model.model)

    def score(
        self, items: Items, conditions: Sequence[Condition], batched: Batched = in_file_order
    ) -> Sums:
        """Sums over the scored tokens, one traced pass per condition over the batches."""
        batches = batched(items)
        sums = np.zeros((len(conditions), len(items.rows)))
        for place, condition in enumerate(conditions):
            chosen = [
                (f"{self._family.layers}.{layer}.{self._family.pre_activation}", list(neurons))
                for layer, neurons in sorted(condition.neurons.items())
            ]
            for batch in batches:
                sums[place, batch.members] = self._score(batch, condition.operation, chosen)
        return sums

    @torch.inference_mode()
    def _score(
        self, batch: Batch, operation: str | None, chosen: Sequence[tuple[str, list[int]]]
    ) -> Sums:
        traced = self._traced
        with traced.trace(
            input_ids=batch.input_ids_BT,
            attention_mask=batch.attention_mask_BT,
            use_cache=False,
        ):
            for path, neurons in chosen:
                values = traced.get(path).output
                values[..., neurons] = OPERATIONS[str(operation)].change(values[..., neurons])
            logits = nnsight.save(traced.output.logits)
        return batch.sums(logits)
