"""Matching by moments: for each neuron of a set another one of its layer that is like it.

Shapes: ``F`` neurons of a layer, ``T`` of them in the set, ``C`` candidates, ``S`` statistics.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sweeper.errors import UserError
from sweeper.neurons.paired import paired_mean
from sweeper.neurons.select import LayerNeurons, require_statistic, values_of

FloatArray = NDArray[np.float64]


def nearest_by_moments(
    neurons: pd.DataFrame, target: LayerNeurons, statistics: Sequence[str]
) -> LayerNeurons:
    """Other neurons that are nearest to a set's, as many in each layer.

    Statistics are in units of their standard deviation over the layer, distances Euclidean. Each
    neuron is taken once, none of the set itself; the pairs are those with the smallest sum of
    distances.

    Args:
        neurons: the census.
        target: the set.
        statistics: names of the columns to compare.

    Raises:
        UserError: a neuron of the set lacks a statistic, or a layer has too few others that have
            them all.
    """
    for statistic in statistics:
        require_statistic(neurons, statistic)
    chosen: LayerNeurons = {}
    for layer, members in target.items():
        values_FS = _standardised(neurons, layer, statistics)
        defined: NDArray[np.bool_] = np.all(np.isfinite(values_FS), axis=1)
        lacking = [neuron for neuron in members if not defined[neuron]]
        if lacking:
            raise UserError(
                f"neuron {lacking[0]} of layer {layer} lacks one of {', '.join(statistics)}: its "
                "pre-activations are constant, nothing can be matched to it"
            )
        candidates = np.setdiff1d(np.flatnonzero(defined), members)
        if len(candidates) < len(members):
            raise UserError(
                f"layer {layer} has {len(candidates)} other neurons, {len(members)} are needed; "
                "match a smaller set"
            )
        _, columns = _pairs(values_FS[list(members)], values_FS[candidates])
        chosen[layer] = tuple(sorted(candidates[columns].tolist()))
    return chosen


def balance(
    neurons: pd.DataFrame, target: LayerNeurons, control: LayerNeurons, statistics: Sequence[str]
) -> pd.DataFrame:
    """How like a set its matched one is: one row per statistic.

    Returns:
        statistic, num_pairs, ``before`` (mean distance of a neuron of the set from one outside
        it, drawn at random in its layer), ``after`` (from its match), and ``difference``, match
        minus set, signed, with its t interval over layers; all in standard deviations of the layer.
    """
    before = np.zeros(len(statistics))
    signed, absolute, counts = [], [], []
    for layer, members in target.items():
        values_FS = _standardised(neurons, layer, statistics)
        target_TS, control_TS = values_FS[list(members)], values_FS[list(control[layer])]
        rows, columns = _pairs(target_TS, control_TS)
        differences_TS = control_TS[columns] - target_TS[rows]
        signed.append(differences_TS.sum(axis=0))
        absolute.append(np.abs(differences_TS).sum(axis=0))
        counts.append(len(members))
        others = np.setdiff1d(np.arange(len(values_FS)), members)
        columns_S = zip(target_TS.T, values_FS[others].T, strict=True)
        before += [_mean_distances(own_T, other_C).sum() for own_T, other_C in columns_S]
    sizes = np.array(counts, np.float64)
    means = [paired_mean(sums, sizes) for sums in np.array(signed).T]
    return pd.DataFrame(
        {
            "statistic": list(statistics),
            "num_pairs": int(sizes.sum()),
            "before": before / sizes.sum(),
            "after": np.sum(absolute, axis=0) / sizes.sum(),
            "difference": [mean.value for mean in means],
            "difference_low": [mean.low for mean in means],
            "difference_high": [mean.high for mean in means],
        }
    )


def _standardised(neurons: pd.DataFrame, layer: int, statistics: Sequence[str]) -> FloatArray:
    """Statistics of a layer's neurons in units of their spread, shape (F, S)."""
    rows = neurons[neurons["layer"] == layer].sort_values("neuron")
    columns = [values_of(rows, statistic) for statistic in statistics]
    return np.stack([column / _spread(column) for column in columns], axis=1)


def _spread(values: FloatArray) -> float:
    """Standard deviation; infinite where all agree, since that tells none from another."""
    defined = values[np.isfinite(values)]
    spread = float(defined.std()) if defined.size else 0.0
    return spread or np.inf


def _mean_distances(own_T: FloatArray, others_C: FloatArray) -> FloatArray:
    """Mean absolute distance of each number from all others that are defined, shape (T,)."""
    ordered = np.sort(others_C[np.isfinite(others_C)])
    below = np.searchsorted(ordered, own_T)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    distances: FloatArray = own_T * (2 * below - len(ordered)) - 2 * sums[below] + sums[-1]
    return distances / len(ordered)


def _pairs(
    first_TS: FloatArray, second_CS: FloatArray
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the assignment with the smallest sum of distances."""
    squares_TC = np.zeros((len(first_TS), len(second_CS)))
    for first_T, second_C in zip(first_TS.T, second_CS.T, strict=True):
        squares_TC += (first_T[:, None] - second_C) ** 2
    rows, columns = linear_sum_assignment(np.sqrt(squares_TC))
    return rows, columns
