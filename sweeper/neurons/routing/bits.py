"""Whether each neuron of a layer fires at each token: one bit for each pair.

Shapes: ``F`` neurons, ``N`` tokens, ``K`` chosen neurons, ``W`` words of 64 bits.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Words = NDArray[np.uint64]

WORD = 64
ROWS_AT_ONCE = 256
"""Neurons counted at once: what is put aside for that stays small."""


class FiringBits:
    """Bits of a text, neuron by neuron; F N / 8 bytes."""

    def __init__(self, size: int, num_tokens: int) -> None:
        """Make room for ``size`` neurons and ``num_tokens`` tokens."""
        self.num_tokens = num_tokens
        # Whole words; what is beyond the last token stays 0.
        self._packed = np.zeros((size, (num_tokens + WORD - 1) // WORD * 8), np.uint8)

    @staticmethod
    def memory(size: int, num_tokens: int) -> int:
        """Bytes that they take."""
        return size * ((num_tokens + WORD - 1) // WORD) * 8

    @property
    def size(self) -> int:
        """Number of neurons."""
        return len(self._packed)

    def put(self, first: int, fires_NF: Bools) -> None:
        """Take in consecutive tokens from ``first`` on, in place of what was known of them.

        Fast where the tokens of a neuron lie side by side in memory.
        """
        begin, shift = divmod(first, 8)
        fires_FN = fires_NF.T
        if shift:
            lead = np.zeros((len(fires_FN), shift), bool)
            fires_FN = np.concatenate([lead, fires_FN], axis=1)
        packed = np.packbits(fires_FN, axis=1)
        own = np.packbits(np.arange(fires_FN.shape[1]) >= shift)
        into = self._packed[:, begin : begin + len(own)]
        into &= ~own
        into |= packed

    def of(self, neurons: Sequence[int]) -> Bools:
        """Whether each of some neurons fires at each token; shape (K, N)."""
        packed = self._packed[list(neurons)]
        return np.unpackbits(packed, axis=1, count=self.num_tokens).view(bool)

    @property
    def words(self) -> Words:
        """All bits, for counting; shape (F, W). Bits beyond the last token are 0."""
        return self._packed.view(np.uint64)

    def rates(self, chosen_N: Bools | None = None) -> NDArray[np.float64]:
        """Share of the tokens, or of the chosen ones, at which each neuron fires; shape (F,)."""
        chosen_N = np.ones(self.num_tokens, bool) if chosen_N is None else chosen_N
        mask = np.zeros(self._packed.shape[1], np.uint8)
        packed = np.packbits(chosen_N)
        mask[: len(packed)] = packed
        mask_W, total = mask.view(np.uint64), int(chosen_N.sum())
        blocks = range(0, self.size, ROWS_AT_ONCE)
        counts = [popcount(self.words[row : row + ROWS_AT_ONCE] & mask_W) for row in blocks]
        return np.concatenate(counts) / total if total else np.full(self.size, np.nan)


def popcount(words: Words) -> NDArray[np.int64]:
    """Number of bits that are set; (..., W) gives (...)."""
    counts: NDArray[np.int64] = np.bitwise_count(words).sum(-1, dtype=np.int64)
    return counts
