"""What a streaming census keeps of a layer: as much for a thousand tokens as for a billion.

Summaries add up: those of two parts of a text, merged, are the summary of the whole. Histograms are
the same in any order to the last count, sums of powers up to the rounding of float64 additions.

Shapes: ``N`` tokens, ``F`` neurons of a layer, ``K`` neurons of a chunk, ``B`` bins.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from sweeper.neurons.grid import ROUNDING, Grid, count_into, grid_for
from sweeper.neurons.mapping import PairSummary
from sweeper.neurons.statistics import is_flat
from sweeper.neurons.threads import in_threads
from sweeper.neurons.wasserstein import binned_wasserstein

MOST_ROWS = 2**12
CHUNK_VALUES = {"cpu": 2**18, "cuda": 2**24}
"""Values handled at once, by device: on CPU, what they are turned into stays in the cache."""

CHUNK_BINS = 2**17
"""Bins handled at once when statistics are computed."""


@dataclass(slots=True)
class Summary:
    """Histograms and sums of one layer's neurons."""

    grid: Grid
    counts: Tensor
    """Int32, (F, B)."""
    sums: Tensor
    """Sums of (x - centre)^p for p = 1 to 4: float64, (4, F)."""
    magnitude: Tensor
    """Sum of |x|: float64, shape F."""
    negative: Tensor
    """How many values are below 0: int64, shape F."""
    lowest: Tensor
    """Float32, shape F."""
    highest: Tensor
    slack: Tensor
    """How far values were moved, in all, when histograms on other grids were taken in: float64,
    shape F."""
    num_tokens: int
    pairs: PairSummary

    @classmethod
    def empty(cls, grid: Grid, bins: int) -> "Summary":
        """A summary of no tokens."""
        size, device = len(grid.centre), grid.centre.device
        zeros = torch.zeros(size, dtype=torch.float64, device=device)
        return cls(
            grid=grid,
            counts=torch.zeros((size, bins), dtype=torch.int32, device=device),
            sums=zeros.repeat(4, 1),
            magnitude=zeros.clone(),
            negative=torch.zeros(size, dtype=torch.int64, device=device),
            lowest=torch.full((size,), torch.inf, device=device),
            highest=torch.full((size,), -torch.inf, device=device),
            slack=zeros,
            num_tokens=0,
            pairs=PairSummary.empty(size, bins // 4, device),
        )

    @classmethod
    def laid_out(cls, values_NF: Tensor, bins: int) -> "Summary":
        """A summary of no tokens, its grid laid out by a first look at values.

        Raises:
            FloatingPointError: a value is NaN or infinite.
        """
        _check_finite(values_NF.amin(0), values_NF.amax(0))
        return cls.empty(grid_for(values_NF), bins)

    def add(self, values_NF: Tensor) -> None:
        """Take in values of any floating format.

        Raises:
            FloatingPointError: a value is NaN or infinite.
        """
        for rows_NF in torch.split(values_NF, MOST_ROWS):
            add = partial(self._add_chunk, rows_NF)
            chunks = self._chunks(CHUNK_VALUES[values_NF.device.type] // len(rows_NF))
            in_threads(add, chunks)
        self.num_tokens += len(values_NF)

    def _add_chunk(self, rows_NF: Tensor, chosen: slice) -> None:
        values_NK = rows_NF[:, chosen].float()
        lowest, highest = values_NK.amin(0), values_NK.amax(0)
        _check_finite(lowest, highest)
        self.lowest[chosen] = lowest.minimum(self.lowest[chosen])
        self.highest[chosen] = highest.maximum(self.highest[chosen])
        grid = self.grid[chosen]
        count_into(self.counts[chosen], grid.index(values_NK, self.counts.shape[1]))
        below_NK = torch.empty_like(values_NK)
        self.negative[chosen] += torch.lt(values_NK, 0, out=below_NK).sum(0).long()
        x_NK = values_NK.double()
        self.magnitude[chosen] += x_NK.abs().sum(0)
        x_NK.sub_(grid.centre.double())
        squared_NK = x_NK.square()
        self.sums[0, chosen] += x_NK.sum(0)
        self.sums[1, chosen] += squared_NK.sum(0)
        self.sums[2, chosen] += x_NK.mul_(squared_NK).sum(0)
        self.sums[3, chosen] += squared_NK.square_().sum(0)

    def merged(self, other: "Summary") -> "Summary":
        """The summary of both texts, on this one's grid.

        Where the grids agree, nothing is lost. Where machines have disagreed about a neuron's
        grid, the other's bins are moved into this one's, and what that may change is added to the
        error bound.
        """
        if not other.num_tokens:
            return self
        other = other._on(self.grid)
        mine, theirs = self.pairs, other.pairs
        return Summary(
            grid=self.grid,
            counts=self.counts + other.counts,
            sums=self.sums + other.sums,
            magnitude=self.magnitude + other.magnitude,
            negative=self.negative + other.negative,
            lowest=self.lowest.minimum(other.lowest),
            highest=self.highest.maximum(other.highest),
            slack=self.slack + other.slack,
            num_tokens=self.num_tokens + other.num_tokens,
            pairs=PairSummary(
                counts=mine.counts + theirs.counts,
                ratios=mine.ratios + theirs.ratios,
                num_pairs=mine.num_pairs + theirs.num_pairs,
                widest=max(mine.widest, theirs.widest),
            ),
        )

    def _on(self, grid: Grid) -> "Summary":
        """The same on another grid."""
        same = (self.grid.centre == grid.centre) & (self.grid.scale == grid.scale)
        if bool(same.all()):
            return self
        moved = (~same).nonzero()[:, 0]
        return replace(
            self,
            grid=grid,
            counts=self.counts.index_copy(0, moved, self._moved_counts(grid, moved)),
            sums=self._shifted_sums(grid),
            slack=self.slack.index_add(0, moved, self._half_widths(moved)),
            pairs=replace(self.pairs, counts=self._moved_pairs(grid, moved)),
        )

    def _edges(self, chosen: Tensor | slice) -> Tensor:
        bins = self.counts.shape[1]
        return self.grid[chosen].edges(bins, self.lowest[chosen], self.highest[chosen])

    def _half_widths(self, moved: Tensor) -> Tensor:
        return (self._edges(moved).diff() * self.counts[moved]).sum(-1) / 2

    def _moved_counts(self, grid: Grid, moved: Tensor) -> Tensor:
        counts_KB, edges_KE = self.counts[moved], self._edges(moved)
        return _recounted(counts_KB, edges_KE, grid[moved], counts_KB.shape[1])

    def _moved_pairs(self, grid: Grid, moved: Tensor) -> Tensor:
        counts_KB = self.pairs.counts[moved]
        bins = counts_KB.shape[1]
        zero = torch.zeros_like(self.grid.centre[moved])
        most = self.highest[moved] - self.lowest[moved]
        edges_KE = Grid(zero, self.grid.scale[moved]).edges(2 * bins, zero, most)[:, bins:]
        both = _recounted(counts_KB, edges_KE, Grid(zero, grid.scale[moved]), 2 * bins)
        return self.pairs.counts.index_copy(0, moved, both[:, bins:])

    def _shifted_sums(self, grid: Grid) -> Tensor:
        """Sums of powers around other centres: (d + h)^p multiplied out."""
        h, n = self.grid.centre.double() - grid.centre.double(), self.num_tokens
        s1, s2, s3, s4 = self.sums
        return torch.stack(
            [
                s1 + n * h,
                s2 + 2 * h * s1 + n * h**2,
                s3 + 3 * h * s2 + 3 * h**2 * s1 + n * h**3,
                s4 + 4 * h * s3 + 6 * h**2 * s2 + 4 * h**3 * s1 + n * h**4,
            ]
        )

    def statistics(self) -> dict[str, Tensor]:
        """The census' columns: float64 tensors of shape F.

        A neuron that never varies has no shape: its skew, kurtosis, WD and MD are NaN.
        """
        n = self.num_tokens
        shift, m2, m3, m4 = self.sums / n
        mean = self.grid.centre.double() + shift
        sd = (m2 - shift**2).clamp(min=0).sqrt()
        spread = torch.where(is_flat(mean, sd), torch.nan, sd)
        third = m3 - 3 * shift * m2 + 2 * shift**3
        fourth = m4 - 4 * shift * m3 + 6 * shift**2 * m2 - 3 * shift**4
        wd, bound = self._distances(mean, spread)
        md = self.pairs.difficulty(self.grid, self.highest - self.lowest)
        return {
            "mean": mean,
            "sd": sd,
            "skew": third / spread**3,
            "kurtosis": fourth / spread**4 - 3,
            "share_negative": self.negative.double() / n,
            "mean_abs": self.magnitude / n,
            "wd": wd,
            "wd_bound": bound,
            "md": md.masked_fill(spread.isnan(), torch.nan),
        }

    def _distances(self, mean: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        """WD and its error bound."""
        distances = partial(self._chunk_distances, mean, spread)
        found = in_threads(distances, self._chunks(CHUNK_BINS // self.counts.shape[1]))
        distance, bound = (torch.cat(parts) for parts in zip(*found, strict=True))
        moved = self.slack / self.num_tokens / spread
        return distance, bound * (1 + ROUNDING * self.counts.shape[1]) + moved

    def _chunks(self, size: int) -> Iterator[slice]:
        """The neurons in chunks of so many, at least one."""
        step = max(size, 1)
        for first in range(0, len(self.counts), step):
            yield slice(first, first + step)

    def _chunk_distances(
        self, mean: Tensor, spread: Tensor, chosen: slice
    ) -> tuple[Tensor, Tensor]:
        edges_KE = self._edges(chosen).sub_(mean[chosen, None]).div_(spread[chosen, None])
        return binned_wasserstein(edges_KE, self.counts[chosen].double().div_(self.num_tokens))


def _recounted(counts_KB: Tensor, edges_KE: Tensor, grid: Grid, bins: int) -> Tensor:
    """Histograms with the whole of each bin moved to where its middle lies on another grid."""
    middles_KB = ((edges_KE[:, :-1] + edges_KE[:, 1:]) / 2).float()
    index_KB = grid.index(middles_KB.T.contiguous(), bins).T.long()
    empty = counts_KB.new_zeros((len(counts_KB), bins))
    return empty.scatter_add(1, index_KB, counts_KB)


def _check_finite(lowest: Tensor, highest: Tensor) -> None:
    if not bool((torch.isfinite(lowest) & torch.isfinite(highest)).all()):
        raise FloatingPointError("a pre-activation is NaN or infinite")
