"""Which neurons: by a statistic of the census, at random, or named. No torch here."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.errors import UserError
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

    Raises:
        UserError: the census lacks the statistic.
    """
    require_statistic(neurons, statistic)
    chosen: LayerNeurons = {}
    for layer in layers:
        rows = neurons[neurons["layer"] == layer]
        values = values_of(rows, statistic)
        if np.isnan(values).all():
            continue
        if kind == "top":
            member = values > np.nanquantile(values, 1 - fraction)
        else:
            member = values < np.nanquantile(values, fraction)
        if member.any():
            chosen[layer] = tuple(sorted(rows["neuron"].to_numpy()[member].tolist()))
    return chosen


def most_extreme(neurons: pd.DataFrame, statistic: str, count: int) -> LayerNeurons:
    """The neurons of the whole model with the largest values of a statistic.

    Of equal ones those of lower layers, then lower indices, come first; a neuron without the
    statistic (NaN) is never among them.

    Args:
        neurons: the census: columns layer, neuron and the statistic.
        statistic: name of the column.
        count: how many; fewer where fewer have the statistic.

    Raises:
        UserError: no neuron has the statistic.
    """
    require_statistic(neurons, statistic)
    values, places = values_of(neurons, statistic), neurons[["layer", "neuron"]].to_numpy()
    order = np.lexsort((places[:, 1], places[:, 0], -values))
    best = [index for index in order if not np.isnan(values[index])][:count]
    chosen: dict[int, list[int]] = {}
    for layer, neuron in sorted(places[best].tolist()):
        chosen.setdefault(layer, []).append(neuron)
    return {layer: tuple(members) for layer, members in chosen.items()}


def values_of(neurons: pd.DataFrame, statistic: str) -> NDArray[np.float64]:
    """A statistic of the census in float64, NaN where it is undefined.

    Raises:
        UserError: the census lacks the statistic.
    """
    if statistic not in neurons:
        raise _lacking(statistic)
    values: NDArray[np.float64] = neurons[statistic].to_numpy(np.float64, na_value=np.nan)
    return values


def require_statistic(neurons: pd.DataFrame, statistic: str) -> None:
    """Check that the census has a statistic: columns that came later are null in an older one.

    Raises:
        UserError: no neuron has it.
    """
    if np.isnan(values_of(neurons, statistic)).all():
        raise _lacking(statistic)


def _lacking(statistic: str) -> UserError:
    return UserError(
        f"no neuron of the census in the store has the statistic {statistic}; where an older "
        "version made that census, another store or other census.windows make a new one"
    )


def bottom_of_others(
    neurons: pd.DataFrame, statistic: str, fraction: float, target: LayerNeurons
) -> LayerNeurons:
    """The bottom of each layer of a set, the set itself left out; a larger share holds a smaller.

    Args:
        neurons: the census.
        statistic: name of the column.
        fraction: share of the whole layer; 0 gives nothing.
        target: the set, in whose layers others are chosen.
    """
    if not fraction:
        return {}
    bottom = by_statistic(neurons, statistic, "bottom", fraction, sorted(target))
    members = {layer: set(chosen) for layer, chosen in target.items()}
    others = {
        layer: tuple(neuron for neuron in chosen if neuron not in members[layer])
        for layer, chosen in bottom.items()
    }
    return {layer: chosen for layer, chosen in others.items() if chosen}


def put_in(
    operation: str | None, value: float | None, neurons: pd.DataFrame | None, chosen: LayerNeurons
) -> dict[int, tuple[float, ...]]:
    """What an operation puts into each neuron; nothing for operations that put in no number.

    Args:
        operation: ``mean`` and ``set`` put in a number.
        value: the number of ``set``.
        neurons: the census, whose means ``mean`` takes.
        chosen: the neurons.
    """
    if operation == "set" and value is not None:
        return {layer: (float(value),) * len(members) for layer, members in chosen.items()}
    if operation == "mean" and neurons is not None:
        means = neurons.set_index(["layer", "neuron"])["mean"]
        return {
            layer: tuple(float(mean) for mean in means.loc[layer].loc[list(members)])
            for layer, members in chosen.items()
        }
    return {}


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
