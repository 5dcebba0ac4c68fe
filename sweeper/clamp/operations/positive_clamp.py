"""Positive clamp: keep the negative half of the pre-activation, a' = min(a, 0)."""

from torch import Tensor


def positive_clamp(values: Tensor) -> Tensor:
    """Set positive pre-activations to 0; any shape, same shape back."""
    return values.clamp(max=0)
