"""Confidence intervals of means and ratios, for many conditions at once.

Shapes: C clusters, K estimates that share their clusters, R resamples. Everything starts from
totals by cluster: a mean of items has the number of items as denominator, a rate per token the
number of tokens, so both are the ratio ``sum(numerators) / sum(denominators)``.

Coverage of nominal 95 % intervals in percent, over 10,000 simulated studies per line (Monte Carlo
error 0.2) with clusters of unequal size (log-normal, coefficient of variation 0.53), 2,000
resamples. ``tests/aggregate/test_coverage.py`` measures the table again.

    data    clusters  robust t  bootstrap-t  percentile  expanded  given
    level          5      88.4         94.2        80.5      88.8   91.2
    level         12      90.7         93.8        88.8      92.5  100.0
    level         67      94.1         95.0        93.9      94.4  100.0
    paired         5      92.9         96.8        82.3      91.0   94.6
    paired        12      93.7         95.2        89.9      93.8  100.0
    paired        67      94.6         95.0        93.7      94.3  100.0
    rate           5      93.5         96.4        83.2      91.9  100.0
    rate          12      93.7         95.3        90.5      94.4  100.0
    rate          67      94.7         95.1        94.2      94.7  100.0
    sparse         5      71.7         98.3        69.0      74.4   12.8
    sparse        12      83.5         98.8        83.4      87.1   66.8
    sparse        67      92.5         95.1        92.7      93.3  100.0

level: items right or wrong; paired: their differences to a baseline; rate: nats per token; sparse:
differences in 30 % of the clusters alone. "given" is the share of studies that get a bootstrap-t
interval, its coverage is among those. Where an effect sits in few of few clusters (sparse, 5) the
robust interval covers too rarely, and the bootstrap mostly says that there is too little data.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sweeper.records import Interval, content_hash

FloatArray = NDArray[np.float64]
Bounds = tuple[FloatArray, FloatArray]
"""Lower and upper ends, each of shape (K,)."""

_ROUNDING = 1e-12
"""Relative size below which a difference of sums in float64 is rounding, not spread."""
_CHUNK = 2_000_000
"""Entries of one block of resampling counts: 16 MB."""


def ratios(numerators: FloatArray, denominators: FloatArray) -> FloatArray:
    """Give ``sum(numerators) / sum(denominators)`` over clusters: (C, K) and (C,) to (K,)."""
    estimates: FloatArray = numerators.sum(axis=0) / denominators.sum()
    return estimates


def cluster_robust(
    numerators: FloatArray, denominators: FloatArray, *, confidence: float = 0.95
) -> Bounds:
    """Cluster-robust t interval with C - 1 degrees of freedom.

    With ``r`` the ratio and ``e_c = numerator_c - r * denominator_c``, the standard error is
    ``sqrt(C / (C - 1) * sum_c e_c^2) / sum(denominators)``: for a mean the one of Liang and Zeger
    (1986) with the small-sample factor of statsmodels' ``cov_type="cluster"``, for a ratio its
    linearisation (Cochran 1977, section 6.3). The ends are not clipped to the metric's range.

    Args:
        numerators: totals by cluster, (C, K).
        denominators: positive totals by cluster, (C,).
        confidence: nominal coverage.

    Returns:
        Ends of shape (K,): NaN with fewer than two clusters, and where all clusters agree: without
        any spread the data do not say how sure they are.
    """
    _check(numerators, denominators, confidence)
    num_clusters = len(denominators)
    if num_clusters < 2:
        return _nothing(numerators)
    quantile = float(stats.t.ppf((1 + confidence) / 2, num_clusters - 1))
    error = _standard_error(_residuals(numerators, denominators), denominators)
    half = quantile * np.where(error > 0, error, np.nan)
    centre = ratios(numerators, denominators)
    return centre - half, centre + half


def cluster_bootstrap(
    numerators: FloatArray,
    denominators: FloatArray,
    *,
    generator: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Bounds:
    """Symmetric cluster bootstrap-t interval: whole clusters are drawn with replacement.

    The interval is the estimate plus and minus ``z`` cluster-robust standard errors, ``z`` being
    the ``ceil(confidence * (R + 1))``-th smallest of the resamples' ``|estimate* - estimate| /
    standard error*`` (Hall 1988; Cameron, Gelbach and Miller 2008, section III). The module's
    table says why: the percentile interval covers too rarely with few clusters, also when
    expanded (Hesterberg 2015).

    A resample without spread (one cluster drawn C times, or only clusters without any effect) has
    no standard error and counts as infinitely far. Where such resamples reach ``z`` the data say
    too little, and the interval is NaN: always with three clusters, and about where fewer than
    four clusters differ from the rest.

    Args:
        numerators: totals by cluster, (C, K).
        denominators: positive totals by cluster, (C,).
        generator: source of the resamples, shared by all K estimates.
        resamples: R, at least ``confidence / (1 - confidence)``.
        confidence: nominal coverage.

    Returns:
        Ends of shape (K,): NaN with too little data, and where all clusters agree.

    Raises:
        ValueError: too few resamples for the confidence, or malformed totals.
    """
    _check(numerators, denominators, confidence)
    rank = math.ceil(round(confidence * (resamples + 1), 9))
    if rank > resamples:
        raise ValueError(f"resamples = {resamples} are too few for confidence = {confidence}")
    if len(denominators) < 2:
        return _nothing(numerators)
    residuals = _residuals(numerators, denominators)
    distances = _studentised(residuals, denominators, generator, resamples)
    critical = np.partition(distances, rank - 1, axis=0)[rank - 1]
    error = _standard_error(residuals, denominators)
    finite = np.isfinite(critical)
    half = np.where(finite & (error > 0), critical, np.nan) * error
    centre = ratios(numerators, denominators)
    return centre - half, centre + half


def seed_interval(effects: FloatArray, *, confidence: float = 0.95) -> Interval:
    """Give the t interval of the mean of (S,) effects over seeds.

    NaN with fewer than two seeds, and where all seeds agree.
    """
    if len(effects) < 2 or np.ptp(effects) == 0:
        return Interval(low=math.nan, high=math.nan)
    quantile = float(stats.t.ppf((1 + confidence) / 2, len(effects) - 1))
    half = quantile * float(np.std(effects, ddof=1)) / math.sqrt(len(effects))
    centre = float(np.mean(effects))
    return Interval(low=centre - half, high=centre + half)


def resampling_generator(task: str, group: str) -> np.random.Generator:
    """Make the generator of a task's group: the same on any machine and in any order.

    Conditions, models and revisions are left out, so that they share their resamples.
    """
    content = content_hash({"purpose": "cluster bootstrap", "task": task, "group": group})
    return np.random.default_rng(int(content, 16))


def _studentised(
    residuals: FloatArray,
    denominators: FloatArray,
    generator: np.random.Generator,
    resamples: int,
) -> FloatArray:
    """Distances of the resamples from the estimate in their own standard errors, (R, K)."""
    num_clusters = len(denominators)
    shares = np.full(num_clusters, 1 / num_clusters)
    cross = residuals * denominators[:, None]
    distances = np.empty((resamples, residuals.shape[1]))
    step = max(1, _CHUNK // num_clusters)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        counts = generator.multinomial(num_clusters, shares, size=stop - start).astype(np.float64)
        size = (counts @ denominators)[:, None]
        shift = (counts @ residuals) / size
        # sum_c count_c * (residual_c - shift * denominator_c)^2, multiplied out
        squares = counts @ residuals**2
        sizes = (counts @ denominators**2)[:, None] * shift**2
        spread = squares - 2 * shift * (counts @ cross) + sizes
        spread[spread <= _ROUNDING * (squares + sizes)] = 0.0
        error = np.sqrt(num_clusters / (num_clusters - 1) * spread) / size
        block = distances[start:stop]
        block.fill(np.inf)
        np.divide(np.abs(shift), error, out=block, where=error > 0)
    return distances


def _residuals(numerators: FloatArray, denominators: FloatArray) -> FloatArray:
    """Deviations of the clusters' totals from the common ratio, (C, K); rounding becomes 0."""
    residuals = numerators - denominators[:, None] * ratios(numerators, denominators)
    scale = np.abs(numerators).max(axis=0)
    return np.where(np.abs(residuals) <= _ROUNDING * scale, 0.0, residuals)


def _standard_error(residuals: FloatArray, denominators: FloatArray) -> FloatArray:
    num_clusters = len(denominators)
    variance = num_clusters / (num_clusters - 1) * (residuals**2).sum(axis=0)
    error: FloatArray = np.sqrt(variance) / denominators.sum()
    return error


def _nothing(numerators: FloatArray) -> Bounds:
    missing = np.full(numerators.shape[1], np.nan)
    return missing, missing.copy()


def _check(numerators: FloatArray, denominators: FloatArray, confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence} lies outside of (0, 1)")
    if numerators.ndim != 2 or denominators.shape != numerators.shape[:1]:
        raise ValueError(
            f"totals of shapes {numerators.shape} and {denominators.shape} are not (C, K) and (C,)"
        )
    if not np.isfinite(numerators).all() or not (denominators > 0).all():
        raise ValueError("totals by cluster must be finite, with positive denominators")
