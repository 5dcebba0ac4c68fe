"""The grid of a neuron's histogram: fine around a centre, wider and wider outwards.

With t = (x - centre) / scale, a value x goes to u = t / (1 + |t|), which lies in (-1, 1), where
bins are equally wide. Whatever x is, it has a bin, and a bin at t is about
2 scale (1 + |t|)^2 / bins wide. So the mean width over the values, which the error of a Wasserstein
distance depends on, is 2 scale (1 + 2 E|t| + E t^2) / bins. As (E|t|)^2 <= E t^2, that is at most
8 sd / bins for every distribution, however heavy its tails, where centre and scale are its mean and
standard deviation (sd), and at most 9 sd / bins where the scale is wrong by a factor of 2.

Shapes: ``N`` values, ``K`` neurons, ``B`` bins.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDING = 2.0**-20
"""Float32 may put a value that is nearer to an edge than this share of the whole range of u into
the next bin."""

_SMALLEST = 2.0**-40


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the bins of K neurons lie."""

    centre: Tensor
    """Float32, shape K."""
    scale: Tensor
    """Float32 powers of 2, shape K: dividing by them rounds nothing."""

    def index(self, values_NK: Tensor, bins: int) -> Tensor:
        """The bin of each value, int32; values are float32.

        Every step is a single rounded operation, so that a value's bin depends on the value
        alone and never on what is computed beside it.
        """
        t_NK = (values_NK - self.centre).mul_(1 / self.scale)
        u_NK = t_NK.div_(t_NK.abs().add_(1)).add_(1).mul_(bins // 2)
        return u_NK.to(torch.int32).clamp_(0, bins - 1)

    def edges(self, bins: int, lowest: Tensor, highest: Tensor) -> Tensor:
        """Edges of all bins, cut to each neuron's lowest and highest value: float64, (K, B + 1)."""
        u = torch.arange(bins + 1, dtype=torch.float64, device=self.centre.device)
        u = u.div_(bins // 2).sub_(1)
        t = u / (1 - u.abs())
        edges_KE = self.centre.double()[:, None] + self.scale.double()[:, None] * t
        return edges_KE.clamp_(lowest.double()[:, None], highest.double()[:, None])

    def __getitem__(self, chosen: slice | Tensor) -> "Grid":
        """The grids of some of the neurons."""
        return Grid(self.centre[chosen], self.scale[chosen])


def grid_for(values_NK: Tensor) -> Grid:
    """Lay out grids by a first look at the neurons' values.

    Centre and scale are rounded, the scale to a power of 2 and the centre to an eighth of it, so
    that machines whose last digits differ nearly always agree on them.
    """
    x_NK = values_NK.double()
    mean, sd = x_NK.mean(0), x_NK.std(0, correction=0)
    # A constant neuron has no spread to go by; its bins need a width all the same.
    spread = sd.maximum(mean.abs() * ROUNDING).clamp(min=_SMALLEST)
    scale = spread.log2().round().exp2()
    centre = (mean / scale * 8).round() / 8 * scale
    return Grid(centre.float(), scale.float())


def count_into(counts_KB: Tensor, index_NK: Tensor) -> None:
    """Add bin indices (int32) to the histograms of K neurons."""
    num_neurons, bins = counts_KB.shape
    first = torch.arange(num_neurons, dtype=torch.int32, device=index_NK.device) * bins
    flat = index_NK.add_(first).view(-1)
    if len(index_NK) < bins // 2:
        # Few values for so many bins: go to each value's bin instead of through all bins.
        one = torch.ones(1, dtype=counts_KB.dtype, device=counts_KB.device)
        counts_KB.view(-1).index_add_(0, flat.long(), one.expand(len(flat)))
    else:
        counts_KB += torch.bincount(flat, minlength=counts_KB.numel()).view_as(counts_KB)
