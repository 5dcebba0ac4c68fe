"""Negative clamp: keep the positive half of the pre-activation, a' = max(a, 0)."""

from torch import Tensor


def negative_clamp(values: Tensor) -> Tensor:
    """Set negative pre-activations to 0; any shape, same shape back.

    Source: Kong et al. 2026 (arXiv 2509.24198), the main intervention.
    """
    return values.clamp(min=0)
