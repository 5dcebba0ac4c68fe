"""When a neuron is active: its activation exceeds a threshold.

Activation functions rise for positive arguments and are at most 0 for negative ones, so that the
question can be put to the pre-activation: it must reach a cutoff.
"""

import torch
from torch import nn

HIGHEST = 1e4
"""A pre-activation at which every activation function has exceeded every threshold of a job."""


def cutoff(activation: nn.Module, threshold: float) -> float:
    """Smallest pre-activation (float32) whose activation exceeds the threshold.

    Args:
        activation: ReLU, GELU, SiLU, or any other function of single values that rises above 0.
        threshold: at least 0.

    Raises:
        ValueError: the threshold is negative, or never exceeded.
    """
    if threshold < 0:
        raise ValueError(f"threshold is {threshold}, but a neuron at rest has activation 0")
    if not _exceeds(activation, HIGHEST, threshold):
        raise ValueError(f"no activation exceeds the threshold {threshold}")
    # Positive numbers are in the order of their bits, so that bisection ends at neighbours.
    below, above = 0, _bits(HIGHEST)
    while above - below > 1:
        middle = (below + above) // 2
        if _exceeds(activation, _number(middle), threshold):
            above = middle
        else:
            below = middle
    return _number(above)


def rounded_up(number: float, dtype: torch.dtype) -> float:
    """The smallest number of a type that is not below a positive one of float32."""
    rounded = torch.tensor(number, dtype=torch.float32).to(dtype)
    if float(rounded) < number:  # the next one has the next higher bits
        rounded = (rounded.view(torch.int16) + 1).view(dtype)
    return float(rounded)


@torch.inference_mode()
def _exceeds(activation: nn.Module, value: float, threshold: float) -> bool:
    return bool(activation(torch.tensor([value], dtype=torch.float32)) > threshold)


def _bits(number: float) -> int:
    return int(torch.tensor(number, dtype=torch.float32).view(torch.int32))


def _number(bits: int) -> float:
    return float(torch.tensor(bits, dtype=torch.int32).view(torch.float32))
