"""Mapping difficulty MD: how far a neuron sends inputs apart that are near to each other.

For pairs of tokens (i, j), with dx the Euclidean distance of the MLP's inputs (what enters the
linear layer whose outputs are the pre-activations) and dy = |y_i - y_j|,

    MD = mean((dy / median dy) / (dx / max dx))

(Kong et al. 2026, arXiv 2509.24198, who draw disjoint pairs from all tokens). Here both tokens of a
pair come from one window, so that a pair is complete as soon as its window has passed. Tokens of a
window share their text. Measured on 5 layers of SmolLM2-135M (8,192 tokens, 4,096 pairs), MD within
windows is 3 % lower to 6 % higher than MD of pairs from everywhere, a factor that the neurons of a
layer share, and correlated with it (r = 0.74 to 0.97 in a layer) as two draws from everywhere are
with each other (0.75 to 0.98).

Pairs with dx = 0 (the same input twice) say nothing of a mapping and are left out.

Shapes: ``P`` pairs, ``N`` tokens, ``D`` model width, ``K`` neurons, ``B`` bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.neurons.grid import Grid, count_into
from sweeper.records import content_hash

Pairs = NDArray[np.int64]
"""(P, 2): positions in a window."""


def draw_pairs(num_pairs: int, lengths: Sequence[int], fingerprint: str) -> list[Pairs]:
    """Disjoint pairs of positions for each window, ``num_pairs`` in all or as many as there are.

    The draw depends on the text's fingerprint and the window's place alone: it is the same for all
    models with the same tokenizer, in any order, on any machine.

    Args:
        num_pairs: shared out evenly over the windows.
        lengths: tokens of every window of the census.
        fingerprint: of the text.
    """
    each, more = divmod(num_pairs, max(len(lengths), 1))
    return [
        _positions(length, min(each + (window < more), length // 2), fingerprint, window)
        for window, length in enumerate(lengths)
    ]


def _positions(length: int, num_pairs: int, fingerprint: str, window: int) -> Pairs:
    key = content_hash({"draw": "pairs", "corpus": fingerprint, "window": window})
    # Raw output is the part of numpy.random that is promised to stay the same across versions.
    raw = np.random.PCG64(int(key, 16)).random_raw(length)
    return np.argsort(raw, kind="stable")[: 2 * num_pairs].reshape(-1, 2)


def distances(inputs_ND: Tensor, pairs_P2: Tensor) -> Tensor:
    """Euclidean distances dx of the pairs' inputs, float64."""
    apart_PD = inputs_ND[pairs_P2[:, 0]].double() - inputs_ND[pairs_P2[:, 1]].double()
    return apart_PD.square().sum(-1).sqrt()


def gaps(values_NK: Tensor, pairs_P2: Tensor) -> Tensor:
    """Distances dy of the pairs' values, in the values' own format."""
    return (values_NK[pairs_P2[:, 0]] - values_NK[pairs_P2[:, 1]]).abs()


def exact_difficulty(gaps_PK: Tensor, dx_P: Tensor) -> Tensor:
    """MD of kept pairs: float64, shape K; NaN without pairs or where most of them do not differ."""
    apart = dx_P > 0
    if not bool(apart.any()):
        return torch.full((gaps_PK.shape[1],), torch.nan, dtype=torch.float64)
    dy_PK, dx_P = gaps_PK[apart].double(), dx_P[apart]
    # Of an even number, torch's own median is the lower one of the two in the middle.
    median = torch.quantile(dy_PK, 0.5, dim=0)
    return _difficulty((dy_PK / dx_P[:, None]).mean(0), median, float(dx_P.max()))


def _difficulty(mean_ratio: Tensor, median: Tensor, widest: float) -> Tensor:
    return mean_ratio * widest / torch.where(median > 0, median, torch.nan)


@dataclass(slots=True)
class PairSummary:
    """What is kept of the pairs of a layer: their number does not change its size."""

    counts: Tensor
    """Histogram of dy in bins of the right half of a grid around 0: int32, (K, B). A dy of v
    scales lies in a bin of (1 + v)^2 / B scales."""
    ratios: Tensor
    """Sum of dy / dx: float64, shape K."""
    num_pairs: int
    widest: float
    """Largest dx."""

    @classmethod
    def empty(cls, num_neurons: int, bins: int, device: torch.device) -> "PairSummary":
        """A summary of no pairs."""
        return cls(
            counts=torch.zeros((num_neurons, bins), dtype=torch.int32, device=device),
            ratios=torch.zeros(num_neurons, dtype=torch.float64, device=device),
            num_pairs=0,
            widest=0.0,
        )

    def add(self, grid: Grid, inputs_ND: Tensor, values_NK: Tensor, pairs_P2: Tensor) -> None:
        """Take in the pairs of some windows."""
        dx_P = distances(inputs_ND, pairs_P2)
        apart = dx_P > 0
        if not bool(apart.any()):
            return
        dx_P, pairs_P2 = dx_P[apart], pairs_P2[apart]
        dy_PK = gaps(values_NK.float(), pairs_P2)
        bins = self.counts.shape[1]
        count_into(self.counts, _around_zero(grid).index(dy_PK, 2 * bins).sub_(bins))
        self.ratios += (1 / dx_P) @ dy_PK.double()
        self.num_pairs += len(dx_P)
        self.widest = max(self.widest, float(dx_P.max()))

    def difficulty(self, grid: Grid, most: Tensor) -> Tensor:
        """MD: float64, shape K. The median of dy is known to the width of its bin.

        Args:
            grid: the grid that the pairs were counted on.
            most: no dy is larger than this, shape K.
        """
        if not self.num_pairs:
            return torch.full_like(self.ratios, torch.nan)
        bins = self.counts.shape[1]
        edges_KE = _around_zero(grid).edges(2 * bins, torch.zeros_like(most), most)[:, bins:]
        middle = ((self.num_pairs + 1) // 2, self.num_pairs // 2 + 1)
        lower, upper = (_ranked(self.counts, edges_KE, rank) for rank in middle)
        return _difficulty(self.ratios / self.num_pairs, (lower + upper) / 2, self.widest)


def _ranked(counts_KB: Tensor, edges_KE: Tensor, rank: int) -> Tensor:
    """The value of a rank, from 1 on, if those in a bin are evenly spread over it: shape K."""
    upto_KB = counts_KB.cumsum(-1)
    bin_K1 = (upto_KB < rank).sum(-1, keepdim=True)
    count_K1 = counts_KB.gather(-1, bin_K1)
    share_K1 = (rank - 0.5 - (upto_KB.gather(-1, bin_K1) - count_K1)) / count_K1
    low_K1, high_K1 = edges_KE.gather(-1, bin_K1), edges_KE.gather(-1, bin_K1 + 1)
    return (low_K1 + (high_K1 - low_K1) * share_K1)[:, 0]


def _around_zero(grid: Grid) -> Grid:
    return Grid(torch.zeros_like(grid.centre), grid.scale)
