"""Statistics of pre-activations over tokens.

Shapes: ``K`` neurons, ``N`` tokens.
"""

import numpy as np
import torch
from torch import Tensor

from sweeper.neurons.wasserstein import wasserstein_to_gaussian

FLAT = 1e-6
"""A neuron whose sd is at most this part of its mean never varies: rounding alone leaves a
constant one a tiny sd, and nothing standardised by it means anything."""


def neuron_statistics(values_KN: Tensor) -> dict[str, Tensor]:
    """Mean, population sd, skew, excess kurtosis, share below 0, mean |x|, and WD to the Gaussian.

    A neuron that never varies has no shape: its skew, kurtosis and WD are NaN.

    Args:
        values_KN: pre-activations of K neurons at N tokens.

    Returns:
        Statistic name -> float64 tensor of shape K. WD is in standard deviations, after
        standardising to mean 0 and population sd 1.
    """
    # Sorted first, before the numbers get wider: the order matters to WD alone, and standardising
    # does not change it.
    x = _sorted(values_KN).double()
    mean = x.mean(-1)
    centred = x - mean[:, None]
    sd = centred.square().mean(-1).sqrt()
    z = centred / torch.where(is_flat(mean, sd), torch.nan, sd)[:, None]
    squared = z.square()
    return {
        "mean": mean,
        "sd": sd,
        "skew": (squared * z).mean(-1),
        "kurtosis": squared.square().mean(-1) - 3,
        "share_negative": (x < 0).double().mean(-1),
        "mean_abs": x.abs().mean(-1),
        "wd": wasserstein_to_gaussian(z),
    }


def is_flat(mean: Tensor, sd: Tensor) -> Tensor:
    """Which neurons never vary."""
    return sd <= mean.abs() * FLAT


def _sorted(values_KN: Tensor) -> Tensor:
    if values_KN.device.type == "cpu":
        # NumPy sorts with vector instructions, several times faster than torch on CPU; a chunk
        # arrives as a transposed view, slow to sort unless copied.
        return torch.from_numpy(np.sort(values_KN.contiguous().numpy(), axis=-1))
    return values_KN.sort(-1).values
