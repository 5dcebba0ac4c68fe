"""Random splits of a layer's neurons into consensus neurons and a handler, as a control.

Balogh (2026), section 5: how steep a gradient of the exception rate do neurons show that were drawn
by their firing rates alone? The study draws seven and one, as many as its quorum has; with fewer
neurons there are fewer levels and a smaller range, so that a split has as many as the quorum that
it is compared with. Levels are counted on packed bits, 64 tokens at a time.

Shapes: ``S`` splits, ``C`` consensus neurons, at most 7, ``W`` words of 64 tokens, ``L`` = C + 1
levels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweeper.neurons.routing.bits import FiringBits, Words, popcount
from sweeper.neurons.routing.gradient import gradient_range
from sweeper.neurons.routing.roles import MOST_CONSENSUS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SPLIT_RATE = 0.5
HANDLER_RATES = (0.01, 0.10)
WORDS_AT_ONCE = 2**18
"""Words of all neurons of the splits that are counted at once: 2 MiB, which a cache holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """What random splits give."""

    ranges: Floats
    """(S,): range of the exception rate over the levels of each; NaN where fewer than two have the
    50 tokens that make them count."""

    def num_reaching(self, observed: float) -> int:
        """Splits whose range is at least the observed one."""
        return int((self.ranges >= observed).sum())


def random_splits(fires: FiringBits, num_consensus: int, number: int, seed: int) -> Splits | None:
    """Ranges of the exception rate of random splits.

    A split takes neurons that fire at more than half of the tokens, and one that fires at 1 to 10 %
    of them. None where a layer has too few such neurons.

    Args:
        fires: of the layer.
        num_consensus: neurons of the first kind, 1 to 7.
        number: of splits.
        seed: of the draws.

    Raises:
        ValueError: ``num_consensus`` is out of range.
    """
    if not 1 <= num_consensus <= MOST_CONSENSUS:
        raise ValueError(f"a split has 1 to {MOST_CONSENSUS} consensus neurons: {num_consensus}")
    rates = fires.rates()
    usual = np.flatnonzero(rates > SPLIT_RATE)
    rare = np.flatnonzero((rates >= HANDLER_RATES[0]) & (rates <= HANDLER_RATES[1]))
    if len(usual) < num_consensus or not len(rare):
        return None
    rng = np.random.default_rng(seed)
    drawn = [
        [*rng.choice(usual, num_consensus, replace=False), rng.choice(rare)] for _ in range(number)
    ]
    chosen = np.array(drawn, np.int64).reshape(number, num_consensus + 1)
    words = fires.words
    size = max(WORDS_AT_ONCE // (words.shape[1] * (num_consensus + 1)), 1)
    parts = [
        level_counts(words[chosen[first : first + size]], fires.num_tokens)
        for first in range(0, number, size)
    ]
    return Splits(ranges=np.concatenate([gradient_range(part) for part in parts] or [np.empty(0)]))


def level_counts(chosen_SLW: Words, num_tokens: int) -> Ints:
    """Tokens by level, at which the handler is silent and at which it fires; shape (S, L, 2).

    Args:
        chosen_SLW: bits of the consensus neurons and, last, of the handler.
        num_tokens: bits beyond are 0.
    """
    num_levels, handler_SW = chosen_SLW.shape[1], chosen_SLW[:, -1]
    counts = np.empty((len(chosen_SLW), num_levels, 2), np.int64)
    for level, members_SW in enumerate(_members(_sum_bits(chosen_SLW[:, :-1]), num_levels)):
        counts[:, level, 1] = popcount(members_SW & handler_SW)
        counts[:, level, 0] = popcount(members_SW) - counts[:, level, 1]
    # The bits beyond the last token are at level 0.
    counts[:, 0, 0] -= chosen_SLW.shape[-1] * 64 - num_tokens
    return counts


def _sum_bits(summands_SCW: Words) -> tuple[Words, Words, Words]:
    """Ones, twos and fours of the sum of at most seven bits, all tokens of a word at once."""
    ones, twos, fours = (np.zeros_like(summands_SCW[:, 0]) for _ in range(3))
    for summand_SW in np.moveaxis(summands_SCW, 1, 0):
        carried = ones & summand_SW
        ones ^= summand_SW
        fours ^= twos & carried
        twos ^= carried
    return ones, twos, fours


def _members(planes: tuple[Words, Words, Words], num_levels: int) -> Iterator[Words]:
    """Which tokens are at each level, from level 0 on."""
    ones, twos, fours = planes
    for level in range(num_levels):
        yield (
            (ones if level & 1 else ~ones)
            & (twos if level & 2 else ~twos)
            & (fours if level & 4 else ~fours)
        )
