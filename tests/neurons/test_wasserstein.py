import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from sweeper.neurons.wasserstein import binned_wasserstein, wasserstein_to_gaussian


def exact(sample: np.ndarray) -> float:
    """W1 to N(0, 1) as the area between the distribution functions, by adaptive quadrature."""
    ordered = np.sort(sample)
    edges = [-np.inf, *ordered, np.inf]
    total = 0.0
    for index in range(len(edges) - 1):
        height = index / len(ordered)
        kinks = [edges[index], edges[index + 1]]
        crossing = stats.norm.ppf(height)
        if kinks[0] < crossing < kinks[1]:
            kinks.insert(1, crossing)
        for low, high in itertools.pairwise(kinks):
            area, _ = integrate.quad(
                lambda x, h=height: abs(h - stats.norm.cdf(x)), low, high, epsabs=1e-12
            )
            total += area
    return total


def distance(sample: np.ndarray) -> float:
    return float(wasserstein_to_gaussian(torch.from_numpy(np.sort(sample))[None])[0])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40])
def test_equals_adaptive_quadrature(size):
    rng = np.random.default_rng(size)
    for sample in (
        rng.normal(size=size),
        rng.exponential(size=size) - 3,
        rng.normal(size=size) * 9,
    ):
        assert distance(sample) == pytest.approx(exact(sample), abs=1e-8)


def test_worked_numbers():
    # One point at 0: E|Z| = sqrt(2 / pi).
    assert distance(np.zeros(1)) == pytest.approx(math.sqrt(2 / math.pi))
    # A point far out: E|Z - 10| = 10.
    assert distance(np.array([10.0])) == pytest.approx(10.0)
    # Points at -1 and 1: 2 E[|Z - 1|; Z > 0] = 2 (2 phi(1) - phi(0)) + 2 (2 Phi(1) - 1.5) ... as
    # numbers: phi(0) = 0.398942, phi(1) = 0.241971, Phi(1) = 0.841345.
    expected = 2 * (2 * 0.24197072 - 0.39894228) + 2 * (2 * 0.84134475 - 1.5)
    assert distance(np.array([-1.0, 1.0])) == pytest.approx(expected, abs=1e-7)


def test_agrees_with_scipy_against_a_large_normal_sample():
    rng = np.random.default_rng(0)
    reference = stats.norm.ppf((np.arange(400_000) + 0.5) / 400_000)
    for sample in (rng.normal(size=3000), rng.gamma(2.0, size=3000), rng.uniform(size=3000)):
        z = (sample - sample.mean()) / sample.std()
        assert distance(z) == pytest.approx(stats.wasserstein_distance(z, reference), abs=2e-5)


def test_ties_and_float32_input():
    z = np.repeat([-1.0, 0.0, 2.0], 500)
    single = wasserstein_to_gaussian(torch.from_numpy(z).float()[None])
    assert float(single[0]) == pytest.approx(distance(z), rel=1e-6)
    assert single.dtype == torch.float64


def test_nan_in_nan_out():
    assert math.isnan(float(wasserstein_to_gaussian(torch.full((1, 4), torch.nan))[0]))


def evenly_spread(edges: np.ndarray, shares: np.ndarray) -> float:
    """W1 to N(0, 1) of bins whose mass is spread evenly over them, by adaptive quadrature."""
    heights = np.concatenate([[0], np.cumsum(shares)])

    def apart(x: float) -> float:
        return abs(np.interp(x, edges, heights) - stats.norm.cdf(x))

    pieces = itertools.pairwise([-30, *edges, 30])
    return sum(integrate.quad(apart, *piece, epsabs=1e-10, limit=200)[0] for piece in pieces)


@pytest.mark.parametrize("bins", [8, 40])
def test_binned_equals_adaptive_quadrature(bins):
    rng = np.random.default_rng(bins)
    for _ in range(4):
        edges = np.sort(rng.normal(size=bins + 1) * 2)
        edges[3] = edges[2]  # an empty bin of no width, as beyond a neuron's lowest value
        shares = rng.dirichlet(np.ones(bins)) * (np.diff(edges) > 0)
        shares /= shares.sum()
        found, bound = binned_wasserstein(torch.tensor(edges[None]), torch.tensor(shares[None]))
        bent = float(bound) - (np.diff(edges) * shares).sum() / 2
        assert bent >= 0
        assert abs(float(found) - evenly_spread(edges, shares)) <= bent + 1e-8


def test_finer_bins_come_nearer():
    sample = np.sort(np.random.default_rng(3).gamma(2.0, size=50_000))
    z = (sample - sample.mean()) / sample.std()
    exactly, errors, bounds = distance(z), [], []
    for bins in (50, 500, 5000):
        edges = np.linspace(z[0], z[-1], bins + 1)
        shares = np.histogram(z, edges)[0] / len(z)
        found, bound = binned_wasserstein(torch.tensor(edges[None]), torch.tensor(shares[None]))
        errors.append(abs(float(found) - exactly))
        bounds.append(float(bound))
    assert errors[2] < errors[1] < errors[0]
    assert bounds[0] / bounds[2] == pytest.approx(100, rel=0.1)
    assert all(error < bound / 10 for error, bound in zip(errors, bounds, strict=True))
