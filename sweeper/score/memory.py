"""How many token positions fit into memory at once: the budget that the engine keeps to."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeper.models.shape import Shape, shape
from sweeper.spec.model import ModelSpec

if TYPE_CHECKING:  # planning reads this file and needs no torch
    from sweeper.models.loading import LoadedModel

MOST_POSITIONS = 2**15
"""Budget where a job names none and memory sets no limit: more make no device any faster."""

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Size of a number."""

LONGEST_ROW = 2048
"""Row length that eager attention is expected to meet: the longest default window."""

_log = logging.getLogger("sweeper")


@dataclass(slots=True)
class TokenBudget:
    """Most token positions in one forward pass; halved for good when memory runs out."""

    positions: int

    def halve(self) -> None:
        """Halve the budget.

        Raises:
            MemoryError: a single position does not fit.
        """
        if self.positions <= 1:
            raise MemoryError("a forward pass over one token position does not fit into memory")
        self.positions //= 2
        _log.warning("out of memory: going on with %d token positions at once", self.positions)


def first_budget(model: "LoadedModel", spec: ModelSpec) -> int:
    """Token positions to begin with: the job's bound, on CPU within its memory for activations."""
    checkpoint = model.checkpoint
    most = MOST_POSITIONS if spec.max_batch_tokens == "auto" else spec.max_batch_tokens
    if checkpoint.device != "cpu":
        return most
    sizes = shape(model.family, model.model.config.get_text_config().to_dict())
    longest = min(checkpoint.context, LONGEST_ROW) if checkpoint.attention == "eager" else None
    room = spec.batch_memory_gb * 1e9 / position_bytes(sizes, checkpoint.dtype, longest)
    return max(min(most, int(room)), 1)


def position_bytes(sizes: Shape, dtype: str, eager_length: int | None = None) -> float:
    """Memory (bytes) for the activations of one token position, at the widest moment of a layer.

    One layer is alive at a time. D: hidden size, F: MLP units, A and K: widths of queries and
    keys, H: heads, T: row length. In numbers of the model's dtype:

    - 5 D: the residual stream, its norm and their temporaries;
    - the larger of 5 F (pre-activation, a clamped copy, the activation written out or times the
      up projection) and 4 A + 4 K (projections, rotated and repeated heads, and the result);
    - 8 D: hidden states of other conditions that wait (``engine.KEPT_PER_POSITION``).

    Eager attention also holds scores (8 bytes and one number for each head and place: softmax is
    in float32). Measured over all families, this is 1 to 3 times what one pass takes.

    Args:
        sizes: the model's.
        dtype: of weights and activations.
        eager_length: T where attention is eager; None where no scores are kept.
    """
    number = BYTES[dtype]
    mlp = 5 * sizes.neurons * number
    attention = 4 * (sizes.queries + sizes.keys) * number
    if eager_length is not None:
        attention += sizes.heads * eager_length * (8 + number)
    return 13 * sizes.hidden * number + max(mlp, attention)
