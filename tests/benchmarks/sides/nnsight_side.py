"""nnsight 0.8: the clamps as writes to module outputs inside a trace."""

from collections.abc import Sequence

import nnsight
import numpy as np
import torch

from benchmarks.items import Items, Sums
from benchmarks.sides.batches import Batch, by_length
from sweeper.clamp.operations import OPERATIONS
from sweeper.models.loading import LoadedModel
from sweeper.records import Condition

BATCH_SIZE = 32
"""On CPU the fastest of 32, 64 and 128."""


class NnsightSide:
    """A model wrapped by nnsight, which changes its modules for good: give it its own copy."""

    def __init__(self, model: LoadedModel) -> None:
        self._family = model.family
        self._traced = nnsight.NNsight(model.model)

    def score(
        self, items: Items, conditions: Sequence[Condition], batch_size: int = BATCH_SIZE
    ) -> Sums:
        """Sums over the scored tokens, one traced pass per condition over sorted batches."""
        batches = by_length(items, batch_size)
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
                values[..., neurons] = OPERATIONS[str(operation)](values[..., neurons])
            logits = nnsight.save(traced.output.logits)
        return batch.sums(logits)
