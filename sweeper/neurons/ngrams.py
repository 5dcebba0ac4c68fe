"""Which n-grams a neuron is active after: exact counts, of the neurons that few n-grams explain.

A neuron is explained by ``most`` n-grams if they make up a share ``cover`` of its activations. How
often each neuron is active must be known before (one pass over the text, ``neurons.firing``, which
also tells of most neurons that they cannot be explained). In a second pass pairs of neuron and
n-gram are counted for the others, and a neuron is given up as soon as it is certain that it cannot
be explained: no choice of ``most`` n-grams leaves fewer activations over than that of the most
frequent ones so far. So counts are exact, nothing is estimated, and a neuron that is active ``A``
times never holds more than ``most + (1 - cover) A`` n-grams, but for the activations since they
were last put together (as many as there are pairs, or ``RECENT``, and those of one batch).

N-grams lie inside of a window, and one that holds a special token (BOS and the like) is none.

Shapes: ``N`` tokens, ``F`` neurons of a layer, ``P`` pairs of neuron and n-gram.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

LONGEST = 3
"""n of the longest n-grams."""

SLACK = 1e-6
"""Of an activation: rounding of a share must not give up a neuron that is explained exactly."""

RECENT = 2**16
"""Activations that may wait to be put together."""

NO_TOKENS = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Rule:
    """What it takes for a neuron to be explained by n-grams."""

    most: int
    """Number of n-grams."""
    cover: float = 0.95
    """Share of its activations that they make up."""

    def uncovered(self, activations: Ints) -> NDArray[np.float64]:
        """How many of a neuron's activations may be left over."""
        left: NDArray[np.float64] = (1 - self.cover) * activations.astype(np.float64) + SLACK
        return left


def ends_none(tokens: Ints, n: int, special: Ints = NO_TOKENS) -> Bools:
    """Whether no n-gram ends at a token: its window has not had n tokens, or one is special.

    Args:
        tokens: windows of one length; shape (..., T), as of the result.
        n: length of the n-grams.
        special: tokens that are part of none.
    """
    is_special = np.isin(tokens, special)
    none = is_special.copy()
    none[..., : n - 1] = True
    for back in range(1, min(n, tokens.shape[-1])):
        none[..., back:] |= is_special[..., :-back]
    return none


def ngram_ids(
    windows: Sequence[Sequence[int]], n: int, vocabulary: int, special: Ints = NO_TOKENS
) -> Ints:
    """A number for the n-gram that ends at each token: its tokens as digits; shape (N,).

    Args:
        windows: token ids, one window after the other; an n-gram lies inside one of them.
        n: 1, 2 or 3.
        vocabulary: number of different tokens.
        special: tokens that are part of no n-gram.

    Returns:
        -1 where no n-gram ends.

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
        ids[ends_none(tokens, n, special)] = -1
        found.append(ids)
    return np.concatenate(found) if found else np.empty(0, np.int64)


def tokens_of(ngrams: Ints, n: int, vocabulary: int) -> Ints:
    """The tokens of n-grams, in their order; shape (..., n)."""
    digits = [ngrams // vocabulary ** (n - 1 - place) % vocabulary for place in range(n)]
    return np.stack(digits, axis=-1)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of neuron and n-gram, and how often the neuron was active after it; shape (P,) each."""

    neurons: Ints
    ngrams: Ints
    counts: Ints
    factors: Floats | None = None
    """Sums over these activations of what multiplies them, in gated MLPs; None where not asked."""

    def __len__(self) -> int:
        return len(self.neurons)

    def of(self, chosen: Bools) -> "Pairs":
        """Those of chosen neurons, shape (F,)."""
        which = chosen[self.neurons]
        factors = None if self.factors is None else self.factors[which]
        return Pairs(self.neurons[which], self.ngrams[which], self.counts[which], factors)

    @staticmethod
    def together(several: Sequence["Pairs"]) -> "Pairs":
        """All of them, each pair once, sorted by neuron and n-gram; factors of all or of none."""
        several = [pairs for pairs in several if len(pairs)] or several[:1]
        neurons = np.concatenate([pairs.neurons for pairs in several])
        ngrams = np.concatenate([pairs.ngrams for pairs in several])
        counts = np.concatenate([pairs.counts for pairs in several])
        order = np.lexsort((ngrams, neurons))
        neurons, ngrams = neurons[order], ngrams[order]
        is_first = np.ones(len(order), bool)
        is_first[1:] = (np.diff(neurons) != 0) | (np.diff(ngrams) != 0)
        starts = np.flatnonzero(is_first)
        # Without a pair there is nothing to begin a sum at.
        sums = np.add.reduceat(counts[order], starts) if len(starts) else counts
        given = [pairs.factors for pairs in several if pairs.factors is not None]
        if not given:
            return Pairs(neurons[starts], ngrams[starts], sums)
        factors = np.concatenate(given)[order]
        of_pairs = np.add.reduceat(factors, starts) if len(starts) else factors
        return Pairs(neurons[starts], ngrams[starts], sums, of_pairs)


@dataclass(frozen=True, slots=True)
class Kept:
    """What counting has come to: which neurons may still be explained, (F,), and their pairs."""

    neurons: Bools
    pairs: Pairs


class NgramCounts:
    """How often each neuron of a layer was active after each n-gram, as far as it is explained."""

    def __init__(self, activations: Ints, rule: Rule, least: Ints | None = None) -> None:
        """Begin with no text.

        Args:
            activations: (F,), how often each neuron is active after an n-gram in the whole text.
            rule: what it takes to be kept.
            least: (F,), n-grams that it takes at least to explain each neuron, where known.
        """
        self._activations, self._rule = activations, rule
        self._kept = activations > 0
        if least is not None:
            self._kept &= least <= rule.most
        none = np.empty(0, np.int64)
        self._held = Pairs(none, none, none)
        self._recent: list[Pairs] = []
        self._num_recent = 0

    @property
    def candidates(self) -> Bools:
        """(F,): neurons not given up so far, some of which may be as soon as all is counted."""
        return self._kept

    @property
    def kept(self) -> Bools:
        """(F,): neurons that may still be explained."""
        self._put_together()
        return self._kept

    @property
    def pairs(self) -> pd.DataFrame:
        """neuron, ngram, count: exact for every neuron that is kept, and no others.

        With ``factors``, their sums over these activations, where they were taken in.
        """
        self._put_together()
        held = self._held
        named = {"neuron": held.neurons, "ngram": held.ngrams, "count": held.counts}
        return pd.DataFrame(named if held.factors is None else {**named, "factors": held.factors})

    @property
    def state(self) -> Kept:
        """What is kept, to be joined with that of other text."""
        self._put_together()
        return Kept(self._kept, self._held)

    def take(self, neurons_P: Ints, ngrams_P: Ints, factors_P: Floats | None = None) -> None:
        """Take in activations: neurons with the n-grams that they were active after; -1 for none.

        Activations of neurons that are given up are ignored. ``factors_P`` multiply the others,
        always or never.
        """
        which = (ngrams_P >= 0) & self._kept[neurons_P]
        factors = None if factors_P is None else factors_P[which]
        ones = np.ones(which.sum(), np.int64)
        self._add(Pairs(neurons_P[which], ngrams_P[which], ones, factors))

    def join(self, other: Kept) -> None:
        """Take in what was counted on other text, by the same activations and the same rule."""
        self._kept = self._kept & other.neurons
        self._add(other.pairs.of(self._kept))

    def _add(self, pairs: Pairs) -> None:
        self._recent.append(pairs)
        self._num_recent += len(pairs)
        if self._num_recent > max(RECENT, len(self._held)):
            self._put_together()

    def _put_together(self) -> None:
        """Count what is recent, and give up the neurons that cannot be explained any more."""
        if not self._recent:
            return
        held = Pairs.together([pairs.of(self._kept) for pairs in (self._held, *self._recent)])
        self._recent, self._num_recent = [], 0
        outside = _outside_of_top(held, len(self._kept), self._rule.most)
        self._kept = self._kept & (outside <= self._rule.uncovered(self._activations))
        self._held = held.of(self._kept)


def _outside_of_top(pairs: Pairs, num_neurons: int, most: int) -> Ints:
    """Activations of each neuron outside of its ``most`` most frequent n-grams; shape (F,)."""
    order = np.lexsort((-pairs.counts, pairs.neurons))
    ordered = pairs.neurons[order]
    rank = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    beyond = rank >= most
    outside = np.bincount(ordered[beyond], pairs.counts[order][beyond], minlength=num_neurons)
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
    needed = cover * activations[ordered["neuron"]] - SLACK
    within = ordered.groupby("neuron")["count"].cumsum().to_numpy()
    reached = ordered[within >= needed]
    rank = ordered.groupby("neuron").cumcount().loc[reached.index] + 1
    first = rank.groupby(reached["neuron"]).min()
    found = np.zeros(len(activations), np.int64)
    found[first.index.to_numpy()] = first.to_numpy()
    return found
