"""Drift: how far each neuron's input weights have turned from one revision to a later one.

Shapes: F neurons of a layer, D inputs.
"""

import pandas as pd
import torch
from torch import Tensor

from sweeper.models.neuron_weights import Rows


def drift(before: Rows, after: Rows, num_layers: int) -> pd.DataFrame:
    """Compare the weights of all neurons at two revisions, layer by layer.

    Args:
        before: weights of the earlier revision.
        after: weights of the later one.
        num_layers: layers of both.

    Returns:
        One row per neuron: layer, neuron, ``dissimilarity`` (1 - cosine, 0 to 2), and ``relative``
        to the layer's mean (Kong et al. 2026). NaN where a neuron has no weights but 0, and
        ``relative`` also where no neuron of the layer has turned.

    Raises:
        ValueError: the revisions differ in a layer's shape.
    """
    parts = []
    for layer in range(num_layers):
        values_F = dissimilarity(before(layer), after(layer))
        mean = values_F.nanmean()
        relative_F = values_F / mean if mean > 0 else torch.full_like(values_F, torch.nan)
        part = pd.DataFrame({"neuron": range(len(values_F)), "dissimilarity": values_F.numpy()})
        parts.append(part.assign(layer=layer, relative=relative_F.numpy()))
    return pd.concat(parts, ignore_index=True)[["layer", "neuron", "dissimilarity", "relative"]]


def dissimilarity(before_FD: Tensor, after_FD: Tensor) -> Tensor:
    """1 - cosine of the rows of two matrices in float64, (F,); NaN for a row of zeros.

    Computed as half the squared distance of the rows at unit length, which is the same number
    without the rounding of a difference of two ones.

    Raises:
        ValueError: the shapes differ.
    """
    if before_FD.shape != after_FD.shape:
        shapes = tuple(before_FD.shape), tuple(after_FD.shape)
        raise ValueError(f"weights of shapes {shapes[0]} and {shapes[1]} cannot be compared")
    return (_unit(before_FD) - _unit(after_FD)).square().sum(dim=1) / 2


def _unit(rows_FD: Tensor) -> Tensor:
    exact_FD = rows_FD.double()
    unit_FD: Tensor = exact_FD / exact_FD.norm(dim=1, keepdim=True)
    return unit_FD
