"""Padded batches, and log-probabilities out of full logits.

Shapes: ``B`` rows, ``T`` positions, ``V`` vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.items import Items
from sweeper.score.tokens import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows padded on the right to the longest of them."""

    members: Sequence[int]
    """Indices of the rows among the items."""
    input_ids_BT: Tensor
    attention_mask_BT: Tensor
    scored_BT: Tensor
    """Whether a token's log-probability counts; never at position 0."""

    def sums(self, logits_BTV: Tensor) -> NDArray[np.float64]:
        """(B,): log-probabilities of the scored tokens, by a log-softmax over everything."""
        logprobs_BTV = logits_BTV[:, :-1].float().log_softmax(-1)
        wanted_BT1 = self.input_ids_BT[:, 1:, None]
        found_BT = logprobs_BTV.gather(-1, wanted_BT1)[..., 0].double()
        values: NDArray[np.float64] = (found_BT * self.scored_BT[:, 1:]).sum(-1).numpy()
        return values


Batched = Callable[[Items], list[Batch]]
"""A way to put items into batches."""


def in_file_order(items: Items, size: int = 128) -> list[Batch]:
    """Batches of the rows as they come."""
    return _batches(items, items.file_order, size)


def by_length(items: Items, size: int = 32) -> list[Batch]:
    """Batches of rows of about the same length, the longest first: the least padding.

    On CPU nnsight and pyvene are fastest with 32 of 32, 64 and 128.
    """
    order = sorted(range(len(items.rows)), key=lambda index: -len(items.rows[index]))
    return _batches(items, order, size)


def _batches(items: Items, order: Sequence[int], size: int) -> list[Batch]:
    parts = [order[begin : begin + size] for begin in range(0, len(order), size)]
    return [_batch(items, part) for part in parts]


def _batch(items: Items, members: Sequence[int]) -> Batch:
    rows = [items.rows[index] for index in members]
    lengths = torch.tensor([len(row) for row in rows])[:, None]
    starts = torch.tensor([items.starts[index] for index in members])[:, None]
    places = torch.arange(int(lengths.max()))
    return Batch(
        members=members,
        input_ids_BT=_padded(rows, len(places)),
        attention_mask_BT=(places < lengths).long(),
        scored_BT=(places >= starts) & (places < lengths),
    )


def _padded(rows: Sequence[Row], length: int) -> Tensor:
    return torch.tensor([[*row, *[0] * (length - len(row))] for row in rows])
