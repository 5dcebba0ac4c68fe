"""Wasserstein distance between a sample and the Gaussian, exact in the Gaussian.

For the empirical distribution of a sorted standardised sample x_1 <= ... <= x_n,

    W1 = integral over u in (0, 1) of |F_n^-1(u) - Phi^-1(u)|
       = sum over i of the integral over ((i - 1) / n, i / n) of |x_i - Phi^-1(u)|,

and each term is closed: the antiderivative of Phi^-1(u) is -phi(Phi^-1(u)). With u_i* the point
where Phi^-1 crosses x_i, cut to the cell, the sum is

    sum over i of x_i (2 u_i* - u_(i-1) - u_i) + 2 phi(Phi^-1(u_i*)) - phi at both edges.

Kong et al. 2026
(arXiv 2509.24198) compare with a sampled normal instead, which adds sampling noise.

Shapes: ``K`` neurons, ``N`` tokens.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor


def wasserstein_to_gaussian(sorted_KN: Tensor) -> Tensor:
    """W1 distance of each row to N(0, 1).

    Args:
        sorted_KN: standardised samples, ascending along the last axis, float64 or float32.

    Returns:
        Float64 tensor of shape K, in standard deviations.
    """
    edges, z, constant = _gaussian_grid(sorted_KN.shape[-1], sorted_KN.device)
    x_KN = sorted_KN.double()
    # The quantile function crosses x_i at u = Phi(x_i); a crossing outside of the cell is moved to
    # the cell's edge, where one of the two sides of the integral becomes empty.
    crossing_KN = torch.clamp(x_KN, z[:-1], z[1:])
    sides_KN = torch.special.ndtr(crossing_KN).mul_(2).sub_(edges[:-1] + edges[1:]).mul_(x_KN)
    density_KN = crossing_KN.square_().mul_(-0.5).exp_().mul_(2 / math.sqrt(2 * math.pi))
    distance: Tensor = sides_KN.add_(density_KN).sum(-1) - constant
    return distance


@lru_cache(maxsize=4)
def _gaussian_grid(n: int, device: torch.device) -> tuple[Tensor, Tensor, float]:
    """Cell edges u_i = i / n, their quantiles, and the sum over cells of phi at both edges."""
    edges = torch.arange(n + 1, dtype=torch.float64, device=device) / n
    z = torch.special.ndtri(edges)
    density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return edges, z, float(density[:-1].sum() + density[1:].sum())


def binned_wasserstein(edges_KE: Tensor, shares_KB: Tensor) -> tuple[Tensor, Tensor]:
    """W1 distance of binned distributions to N(0, 1), and how far it may be from the true one.

    The mass of a bin is spread evenly over it. Wherever in the bin it really lies, that moves it by
    half the bin's width on average at most, so the distance is wrong by no more than half the mean
    width. The distribution function of the Gaussian is taken as straight inside a bin; the area
    between it and its chord is added to the bound.

    Args:
        edges_KE: edges of the bins in standardised units, ascending; all values lie within.
        shares_KB: share of the values in each bin.

    Returns:
        Distance and bound, float64 tensors of shape K.
    """
    width_KB = edges_KE.diff()
    gaussian_KE = torch.erf(edges_KE / math.sqrt(2)).add_(1).div_(2)
    integral_KE = _below(edges_KE, gaussian_KE)
    first = torch.zeros_like(shares_KB[:, :1])
    between_KE = torch.cat([first, shares_KB.cumsum(-1)], -1).sub_(gaussian_KE)
    area_KB = _areas(between_KE[:, :-1], between_KE[:, 1:], width_KB)
    # Beyond the values: the integrals of Phi up to the lowest, of 1 - Phi from the highest.
    outside = integral_KE[:, 0] + integral_KE[:, -1] - edges_KE[:, -1]
    chord_KB = (gaussian_KE[:, :-1] + gaussian_KE[:, 1:]).mul_(width_KB).div_(2)
    bent_KB = integral_KE.diff().sub_(chord_KB).abs_()
    # Phi turns at 0, where the areas on both sides of its chord cancel: |phi'| <= 0.242 there.
    turning_KB = (edges_KE[:, :-1] < 0) & (edges_KE[:, 1:] > 0)
    at_most_KB = torch.minimum(width_KB**3 * (0.242 / 12), gaussian_KE.diff() * width_KB / 2)
    bent_KB = torch.where(turning_KB, at_most_KB, bent_KB)
    distance = area_KB.sum(-1) + outside
    return distance, (width_KB * shares_KB).sum(-1) / 2 + bent_KB.sum(-1)


def _areas(left_KB: Tensor, right_KB: Tensor, width_KB: Tensor) -> Tensor:
    """Areas under |g|, with g straight from ``left`` to ``right``."""
    sum_KB = left_KB.abs() + right_KB.abs()
    squares_KB = left_KB.square() + right_KB.square()
    crosses_KB = left_KB * right_KB < 0
    return torch.where(crosses_KB, squares_KB / sum_KB, sum_KB).mul_(width_KB).div_(2)


def _below(z: Tensor, gaussian: Tensor) -> Tensor:
    """Integral of Phi from minus infinity to z: z Phi(z) + phi(z)."""
    return (z * gaussian).add_(torch.exp(z.square() / -2), alpha=1 / math.sqrt(2 * math.pi))
