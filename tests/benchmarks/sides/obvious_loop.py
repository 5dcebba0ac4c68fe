"""The obvious loop: padded batches in file order, full logits, full log-softmax.

What studies usually run. The clamps are forward hooks, one pass over all texts per condition.
"""

from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.items import Items, Sums
from benchmarks.sides.batches import Batch, in_file_order
from sweeper.clamp.hooks import clamped
from sweeper.models.loading import LoadedModel
from sweeper.records import Condition

BATCH_SIZE = 128


def score(
    model: LoadedModel,
    items: Items,
    conditions: Sequence[Condition],
    batch_size: int = BATCH_SIZE,
) -> Sums:
    """Sums over the scored tokens, one padded pass per condition."""
    batches = in_file_order(items, batch_size)
    sums = np.zeros((len(conditions), len(items.rows)))
    for place, condition in enumerate(conditions):
        with clamped(model, condition):
            for batch in batches:
                sums[place, batch.members] = _score(model, batch)
    return sums


def padded_positions(items: Items, batch_size: int = BATCH_SIZE) -> int:
    """Positions that one pass computes."""
    return sum(batch.input_ids_BT.numel() for batch in in_file_order(items, batch_size))


@torch.inference_mode()
def _score(model: LoadedModel, batch: Batch) -> Sums:
    output = model.model(
        input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT, use_cache=False
    )
    return batch.sums(output.logits)
