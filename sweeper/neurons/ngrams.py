"""Which n-grams a neuron is active after: exact counts, of the neurons that few n-grams explain.

A neuron is explained by ``most`` n-grams if they make up a share ``cover`` of its activations. How
often each neuron is active must be known before (one pass over the text). In a second pass pairs of
neuron and n-gram are counted, and a neuron is given up as soon as it is certain that it cannot be
explained: no choice of ``most`` n-grams leaves fewer activations over than that of the most
frequent ones so far. So counts are exact, nothing is estimated, and a neuron that is active ``A``
times never holds more than ``most + (1 - cover) A`` n-grams between two batches.

Shapes: ``N`` tokens, ``F`` neurons of a layer, ``P`` pairs of neuron and n-gram.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Pairs = pd.Series  # of counts, by neuron and n-gram


@dataclass(frozen=True, slots=True)
class Rule:
    """What it takes for a neuron to be explained by n-grams."""

    most: int
    """Number of n-grams."""
    cover: float = 0.95
    """Share of its activations that they make up."""

    def uncovered(self, activations: Ints) -> NDArray[np.float64]:
        """How many of a neuron's activations may be left over."""
        # Rounding of 1 - cover must not give up a neuron that is explained exactly.
        left: NDArray[np.float64] = (1 - self.cover) * activations.astype(np.float64) + 1e-6
        return left


def ngram_ids(windows: Sequence[Sequence[int]], n: int, vocabulary: int) -> Ints:
    """A number for the n-gram that ends at each token: its tokens as digits; shape (N,).

    Args:
        windows: token ids, one window after the other; an n-gram lies inside one of them.
        n: 1, 2 or 3.
        vocabulary: number of different tokens.

    Returns:
        -1 where a window has not had n tokens yet.

    Raises:
        ValueError: so many different n-grams have no number of 64 bits.
    """
    if vocabulary**n >= 2**63:
        raise ValueError(f"{n}-grams of {vocabulary} tokens need more than 64 bits")
    found = []
    for window in windows:
        tokens = np.asarray(window, np.int64)
        ids = np.full(len(tokens), -1, np.int64)
        if len(tokens) >= n:
            value = np.zeros(len(tokens) - n + 1, np.int64)
            for place in range(n):
                value = value * vocabulary + tokens[place : len(tokens) - n + 1 + place]
            ids[n - 1 :] = value
        found.append(ids)
    return np.concatenate(found) if found else np.empty(0, np.int64)


def tokens_of(ngrams: Ints, n: int, vocabulary: int) -> Ints:
    """The tokens of n-grams, in their order; shape (..., n)."""
    digits = [ngrams // vocabulary ** (n - 1 - place) % vocabulary for place in range(n)]
    return np.stack(digits, axis=-1)


class NgramCounts:
    """How often each neuron of a layer was active after each n-gram, as far as it is explained."""

    def __init__(self, activations: Ints, rule: Rule) -> None:
        """Begin with no text.

        Args:
            activations: (F,), how often each neuron is active after an n-gram in the whole text.
            rule: what it takes to be kept.
        """
        self._activations, self._rule = activations, rule
        self.kept = activations > 0
        """(F,): neurons that may still be explained."""
        self._pairs: Pairs = pd.Series(
            np.empty(0, np.int64),
            index=pd.MultiIndex.from_arrays(
                [np.empty(0, np.int64), np.empty(0, np.int64)], names=["neuron", "ngram"]
            ),
            name="count",
        )

    @property
    def pairs(self) -> pd.DataFrame:
        """neuron, ngram, count: exact for every neuron that is kept, and no others."""
        return self._pairs.reset_index()

    def add(self, active_NF: NDArray[np.bool_], ngrams_N: Ints) -> None:
        """Take in tokens.

        Args:
            active_NF: whether each neuron is active at each token.
            ngrams_N: the n-gram that ends there; -1 for none.
        """
        places = np.flatnonzero(ngrams_N >= 0)
        columns = np.flatnonzero(self.kept)
        at, of = np.nonzero(active_NF[np.ix_(places, columns)])
        events = pd.DataFrame({"neuron": columns[of], "ngram": ngrams_N[places[at]]})
        self._take(events.groupby(["neuron", "ngram"]).size())

    def merged(self, other: "NgramCounts") -> "NgramCounts":
        """Of both texts; ``activations`` of both must be of the whole."""
        joined = NgramCounts(self._activations, self._rule)
        joined.kept = self.kept & other.kept
        joined._pairs = self._of_kept(self._pairs, joined.kept)
        joined._take(self._of_kept(other._pairs, joined.kept))
        return joined

    def _take(self, found: Pairs) -> None:
        both = self._pairs.add(found.rename("count"), fill_value=0)
        self._pairs = both.astype(np.int64)
        self._give_up()

    def _give_up(self) -> None:
        """Drop the neurons that no ``most`` n-grams can explain any more."""
        neurons = self._pairs.index.get_level_values("neuron").to_numpy()
        counts = self._pairs.to_numpy(np.int64)
        outside = _outside_of_top(neurons, counts, len(self.kept), self._rule.most)
        hopeless = outside > self._rule.uncovered(self._activations)
        self.kept = self.kept & ~hopeless
        self._pairs = self._of_kept(self._pairs, self.kept)

    @staticmethod
    def _of_kept(pairs: Pairs, kept: NDArray[np.bool_]) -> Pairs:
        chosen: Pairs = pairs[kept[pairs.index.get_level_values("neuron").to_numpy()]]
        return chosen


def _outside_of_top(neurons: Ints, counts: Ints, num_neurons: int, most: int) -> Ints:
    """Activations of each neuron outside of its ``most`` most frequent n-grams; shape (F,)."""
    order = np.lexsort((-counts, neurons))
    ordered = neurons[order]
    rank = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    beyond = rank >= most
    outside = np.bincount(ordered[beyond], counts[order][beyond], minlength=num_neurons)
    return outside.astype(np.int64)


def num_to_cover(pairs: pd.DataFrame, activations: Ints, cover: float) -> NDArray[np.int64]:
    """Smallest number of n-grams that make up a share of a neuron's activations; shape (F,).

    Args:
        pairs: neuron, ngram, count.
        activations: (F,).
        cover: share.

    Returns:
        0 where the pairs do not reach it: the neuron was never active, or has been given up.
    """
    ordered = pairs.sort_values(["neuron", "count"], ascending=[True, False], kind="stable")
    needed = cover * activations[ordered["neuron"]] - 1e-6
    within = ordered.groupby("neuron")["count"].cumsum().to_numpy()
    reached = ordered[within >= needed]
    rank = ordered.groupby("neuron").cumcount().loc[reached.index] + 1
    first = rank.groupby(reached["neuron"]).min()
    found = np.zeros(len(activations), np.int64)
    found[first.index.to_numpy()] = first.to_numpy()
    return found
