"""Positive ReLU: linear where the pre-activation is positive, h' = a where a > 0, else act(a)."""

import torch
from torch import Tensor


def positive_relu(activations: Tensor, pre_activations: Tensor) -> Tensor:
    """Replace the positive half of the activation function by that of a ReLU.

    Any shape, the same for both, same shape back. In gated MLPs the activation is that of the
    gate, before its product with the up projection. Source: Kong et al. 2026 (arXiv 2509.24198),
    the counterpart of the negative clamp: all that a ReLU changes is the negative half.
    """
    return torch.where(pre_activations > 0, pre_activations, activations)
