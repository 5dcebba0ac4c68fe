"""Whether each neuron of a layer fires at each token: one bit for each pair.

Shapes: ``F`` neurons, ``N`` tokens, ``K`` chosen neurons.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


class FiringBits:
    """Bits of a text, neuron by neuron; F N / 8 bytes."""

    def __init__(self, size: int, num_tokens: int) -> None:
        """Make room for ``size`` neurons and ``num_tokens`` tokens."""
        self.num_tokens = num_tokens
        self._packed = np.zeros((size, (num_tokens + 7) // 8), np.uint8)

    @property
    def size(self) -> int:
        """Number of neurons."""
        return len(self._packed)

    def put(self, first: int, fires_NF: Bools) -> None:
        """Take in consecutive tokens from ``first`` on; each token once."""
        begin, shift = divmod(first, 8)
        lead = np.zeros((shift, fires_NF.shape[1]), bool)
        packed = np.packbits(np.concatenate([lead, fires_NF]), axis=0).T
        self._packed[:, begin : begin + packed.shape[1]] |= packed

    def of(self, neurons: Sequence[int]) -> Bools:
        """Whether each of some neurons fires at each token; shape (K, N)."""
        return self._unpacked(self._packed[list(neurons)])

    def rates(self, chosen_N: Bools | None = None) -> NDArray[np.float64]:
        """Share of the tokens, or of the chosen ones, at which each neuron fires; shape (F,)."""
        if chosen_N is None:
            counts, total = self._counts(self._packed), self.num_tokens
        else:
            mask = np.packbits(chosen_N)
            counts, total = self._counts(self._packed & mask), int(chosen_N.sum())
        return counts / total if total else np.full(self.size, np.nan)

    @staticmethod
    def _counts(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
        counts: NDArray[np.int64] = np.bitwise_count(packed).sum(1, dtype=np.int64)
        return counts

    def _unpacked(self, packed: NDArray[np.uint8]) -> Bools:
        return np.unpackbits(packed, axis=1, count=self.num_tokens).view(bool)
