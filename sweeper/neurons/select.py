"""Which neurons: by a statistic of the census, at random, or named. No torch here."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.records import content_hash

LayerNeurons = dict[int, tuple[int, ...]]
"""Layer -> sorted neurons; layers without any are left out."""


def by_statistic(
    neurons: pd.DataFrame, statistic: str, kind: str, fraction: float, layers: Sequence[int]
) -> LayerNeurons:
    """Neurons of each layer beyond a percentile of a statistic in that layer.

    ``top``: strictly above the (1 - fraction) quantile; ``bottom``: strictly below the fraction
    quantile (linear interpolation; Kong et al. 2026). Neurons without the statistic (NaN) count
    neither for the quantile nor as members.

    Args:
        neurons: the census: columns layer, neuron and the statistic.
        statistic: name of the column.
        kind: "top" or "bottom".
        fraction: share, above 0 and at most 1.
        layers: the layers to choose from.
    """
    chosen: LayerNeurons = {}
    for layer in layers:
        rows = neurons[neurons["layer"] == layer]
        values = rows[statistic].to_numpy(np.float64)
        if np.isnan(values).all():
            continue
        if kind == "top":
            member = values > np.nanquantile(values, 1 - fraction)
        else:
            member = values < np.nanquantile(values, fraction)
        if member.any():
            chosen[layer] = tuple(sorted(rows["neuron"].to_numpy()[member].tolist()))
    return chosen


def random_set(
    counts: Mapping[int, int], num_neurons: int, fingerprint: str, seed: int
) -> LayerNeurons:
    """Draw neurons without replacement from whole layers.

    The draw depends on the model's fingerprint, the layer and the seed alone: the same on any
    machine, in any order, and a smaller count takes a part of a larger one.

    Args:
        counts: neurons to draw in each layer.
        num_neurons: neurons that each layer has.
        fingerprint: the model's fingerprint.
        seed: number of the draw.
    """
    return {
        layer: tuple(sorted(_shuffled(num_neurons, fingerprint, layer, seed)[:count].tolist()))
        for layer, count in sorted(counts.items())
        if count
    }


def _shuffled(size: int, fingerprint: str, layer: int, seed: int) -> NDArray[np.int64]:
    key = content_hash({"draw": "neurons", "model": fingerprint, "layer": layer, "seed": seed})
    # Raw output is the part of numpy.random that is promised to stay the same across versions.
    raw = np.random.PCG64(int(key, 16)).random_raw(size)
    return np.argsort(raw, kind="stable")
