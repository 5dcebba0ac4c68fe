"""The registry of operations on pre-activations: one small file and one line here for each."""

from collections.abc import Callable

from torch import Tensor

from sweeper.clamp.operations.negative_clamp import negative_clamp
from sweeper.clamp.operations.positive_clamp import positive_clamp
from sweeper.clamp.operations.zero import zero

Operation = Callable[[Tensor], Tensor]
"""Chosen pre-activations in, new values of the same shape out; must not change its argument."""

OPERATIONS: dict[str, Operation] = {
    "negative_clamp": negative_clamp,
    "positive_clamp": positive_clamp,
    "zero": zero,
}
