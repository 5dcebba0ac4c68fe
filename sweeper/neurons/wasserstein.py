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
