"""Confidence intervals and tests of means, ratios and sums of them, for many conditions at once.

Shapes: C clusters, K estimates that share their clusters, S seeds. Everything starts from totals
by cluster: a mean of items has the number of items as denominator, a rate per token the number of
tokens, so both are the ratio ``sum(numerators) / sum(denominators)``. The simulated coverage of
every interval, and of the ones that were not chosen, is in ``tests/aggregate/COVERAGE.md``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sweeper.records import Interval

FloatArray = NDArray[np.float64]
Bounds = tuple[FloatArray, FloatArray]
"""Lower and upper ends, each of shape (K,)."""

FEWEST_SEEDS = 3
"""Fewest random draws for an interval in which both draws and clusters are random."""
ROUNDING = 1e-12
"""Relative size below which a difference of sums in float64 is rounding, not spread."""


@dataclass(frozen=True, slots=True, eq=False)
class Ratio:
    """Totals by cluster whose ratio is a mean or a rate.

    Raises:
        ValueError: shapes that do not fit, totals that are not finite, or something in a numerator
            of nothing in the denominator.
    """

    numerators: FloatArray
    """(C, K)."""
    denominators: FloatArray
    """(C,), 0 for clusters that have no part in it."""
    weight: float = 1.0
    """What the ratio is multiplied by where several are added up."""

    def __post_init__(self) -> None:
        numerators, denominators = self.numerators, self.denominators
        if numerators.ndim != 2 or denominators.shape != numerators.shape[:1]:
            raise ValueError(
                f"totals of shapes {numerators.shape} and {denominators.shape} are not (C, K) "
                "and (C,)"
            )
        empty = numerators[denominators <= 0]
        if not np.isfinite(numerators).all() or (denominators < 0).any() or empty.any():
            raise ValueError("totals by cluster must be finite, with positive denominators")

    def values(self) -> FloatArray:
        """Give ``sum(numerators) / sum(denominators)``, (K,)."""
        values: FloatArray = self.numerators.sum(axis=0) / self.denominators.sum()
        return values

    def residuals(self) -> FloatArray:
        """Deviations of the clusters' totals from the common ratio, (C, K); rounding becomes 0."""
        residuals = self.numerators - self.denominators[:, None] * self.values()
        scale = np.abs(self.numerators).max(axis=0)
        return np.where(np.abs(residuals) <= ROUNDING * scale, 0.0, residuals)

    def leverages(self) -> FloatArray:
        """Share of each cluster in the denominators, (C,)."""
        leverages: FloatArray = self.denominators / self.denominators.sum()
        return leverages


Measure = Sequence[Ratio]
"""Ratios of the same clusters that are added up: one, or a group's minus that of the whole."""
Strata = Sequence[Measure]
"""Measures of different clusters that are added up: one, or one for each task of a contrast."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimated:
    """K estimates, each with a variance and its degrees of freedom.

    NaN in the variance: too little data, or no spread, which does not say how sure the data are.
    """

    centre: FloatArray
    variance: FloatArray
    df: FloatArray

    def bounds(self, confidence: float) -> Bounds:
        """Give the ends of the t interval; not clipped to the metric's range."""
        if not 0 < confidence < 1:
            raise ValueError(f"confidence = {confidence} lies outside of (0, 1)")
        half = stats.t.ppf((1 + confidence) / 2, self.df) * np.sqrt(self.variance)
        return self.centre - half, self.centre + half

    def p_values(self) -> FloatArray:
        """Give the two-sided p of the t test that the true value is 0, (K,)."""
        return np.asarray(2 * stats.t.sf(np.abs(self._distances()), self.df), dtype=np.float64)

    def p_below(self) -> FloatArray:
        """Give the one-sided p of the t test that the true value is 0 or more, (K,)."""
        return np.asarray(stats.t.cdf(self._distances(), self.df), dtype=np.float64)

    def _distances(self) -> FloatArray:
        distances: FloatArray = self.centre / np.sqrt(self.variance)
        return distances


def centre(strata: Strata) -> FloatArray:
    """Add up the ratios with their weights, (K,)."""
    parts = [ratio.weight * ratio.values() for measure in strata for ratio in measure]
    total: FloatArray = np.sum(parts, axis=0)
    return total


def cluster_robust(strata: Strata) -> Estimated:
    """Estimate with the clusters as the random unit.

    With ``e_c = numerator_c - ratio * denominator_c`` and ``h_c`` the cluster's share of the
    denominators, the variance is ``sum_c e_c^2 / (1 - h_c) / sum(denominators)^2``: the
    bias-reduced linearisation of Bell and McCaffrey (2002), for clusters of equal size statsmodels'
    ``cov_type="cluster"``, for a weighted mean of cluster means its ``HC2``. The degrees of freedom
    are theirs too: C - 1 for equal sizes, fewer for unequal ones. Ratios are linearised (Cochran
    1977, section 6.3); the residuals of ratios that share clusters are added before they are
    squared, with the degrees of freedom of the first. Variances of independent strata are added,
    with degrees of freedom by Welch and Satterthwaite.

    Returns:
        Estimates whose variance is NaN where a stratum has fewer than two clusters, and where all
        clusters agree.
    """
    variances = np.stack([(_influences(measure) ** 2).sum(axis=0) for measure in strata])
    dfs = np.array([degrees_of_freedom(measure) for measure in strata])
    return _estimated(centre(strata), variances, dfs[:, None])


def crossed(strata: Strata) -> Estimated:
    """Estimate the mean of S seeds, seeds and clusters both being random: one estimate, K = 1.

    The columns of the ratios are the seeds, the same ones in every stratum. Clusters and seeds are
    crossed: the variance is that of the clusters (of the means over seeds, as in
    ``cluster_robust``), plus that of the seeds, minus what both of them hold, their interaction
    (Cameron, Gelbach and Miller 2011, with the interaction's mean square in place of the plain
    squares, so that no part is counted twice or missed), and never less than either alone. The
    degrees of freedom of both ways enter in proportion to their variances, and those of a way with
    no more variance than the interaction not at all.

    Returns:
        An estimate whose variance is NaN with fewer than three seeds or two clusters. Two seeds
        often agree by chance, and the interval would then be too short.
    """
    by_seed = centre(strata)
    num_seeds = len(by_seed)
    middle = by_seed.mean(keepdims=True)
    if num_seeds < FEWEST_SEEDS:
        return Estimated(centre=middle, variance=middle * np.nan, df=middle * np.nan)
    influences = [_influences(measure) for measure in strata]
    means = [part.mean(axis=1, keepdims=True) for part in influences]
    within = [((part - mean) ** 2).sum() for part, mean in zip(influences, means, strict=True)]
    joint = float(np.sum(within)) / num_seeds / (num_seeds - 1)
    dfs = np.array([degrees_of_freedom(measure) for measure in strata])
    clusters = _estimated(middle, np.array([[(m**2).sum()] for m in means]), dfs[:, None])
    seeds = float(np.var(by_seed, ddof=1)) / num_seeds
    of_clusters, df = float(clusters.variance[0]), float(clusters.df[0])
    variance = max(of_clusters + seeds - joint, of_clusters, seeds)
    df = _crossed_df(variance, (of_clusters, df), (seeds, num_seeds - 1.0), joint)
    return Estimated(centre=middle, variance=np.array([variance]), df=np.array([df]))


def _crossed_df(
    variance: float, clusters: tuple[float, float], seeds: tuple[float, float], joint: float
) -> float:
    """Degrees of freedom from the variances of both ways with their own.

    ``1 / df`` is the mean of both, weighted by the variances, with what both hold taken from the
    way with more degrees of freedom. Satterthwaite's squared weights need the true variances: three
    seeds often show too little of theirs, and then claim the clusters' degrees of freedom. How
    often either covers is in ``COVERAGE.md``.
    """
    (of_clusters, cluster_df), (of_seeds, seed_df) = clusters, seeds
    both_df = cluster_df * seed_df
    if max(of_clusters, of_seeds) <= joint:
        return both_df
    if of_seeds <= joint:
        return cluster_df
    if of_clusters <= joint:
        return seed_df
    both_ways = of_clusters / cluster_df + of_seeds / seed_df
    return variance / (both_ways - joint / max(cluster_df, seed_df))


def degrees_of_freedom(measure: Measure) -> float:
    """Satterthwaite's degrees of freedom of the cluster-robust variance, under a working model.

    With ``O`` the covariance of the residuals ``e_c / sqrt(1 - h_c)`` where the clusters' totals
    are independent, it is ``trace(O)^2 / sum(O^2)``, here without the (C, C) matrix. The totals'
    standard deviations are taken as proportional to their denominators: clusters as a whole differ.
    Where the whole is subtracted, what clusters have in common is gone: variances are then
    proportional to the denominators, as for independent items. Between 1 and C - 1; NaN with fewer
    than two clusters.
    """
    sizes = measure[0].denominators
    sizes = sizes[sizes > 0]
    if len(sizes) < 2:
        return math.nan
    share = sizes / sizes.sum()
    spread, factor = share ** (2 if len(measure) == 1 else 1), 1 / (1 - share)
    # Off the diagonal O is sqrt(factor_c * factor_d) * joint_cd; on it spread_c comes on top.
    total, joint = spread.sum(), spread.sum() * share**2 - 2 * share * spread
    ends, both, fourth = ((factor * one).sum() for one in (share**2, share * spread, spread**2))
    squares = total**2 * ends**2 + 2 * ends * fourth - 4 * total * ends * both + 2 * both**2
    squares += (factor**2 * (spread**2 + 2 * spread * joint)).sum()
    return float((factor * (spread + joint)).sum() ** 2 / squares)


def seed_interval(effects: FloatArray, *, confidence: float = 0.95) -> Interval:
    """Give the t interval of the mean of (S,) effects over seeds, for these items.

    NaN with fewer than two seeds, and where all seeds agree.
    """
    if len(effects) < 2 or np.ptp(effects) == 0:
        return Interval(low=math.nan, high=math.nan)
    quantile = float(stats.t.ppf((1 + confidence) / 2, len(effects) - 1))
    half = quantile * float(np.std(effects, ddof=1)) / math.sqrt(len(effects))
    middle = float(np.mean(effects))
    return Interval(low=middle - half, high=middle + half)


def _influences(measure: Measure) -> FloatArray:
    """What each cluster adds to the estimate's deviation, (C, K); NaN where one cluster is all."""
    total = np.zeros_like(measure[0].numerators)
    for ratio in measure:
        free = 1 - ratio.leverages()
        free[free <= ROUNDING] = np.nan
        scale = ratio.weight / np.sqrt(free) / ratio.denominators.sum()
        total += ratio.residuals() * scale[:, None]
    return total


def _estimated(middle: FloatArray, variances: FloatArray, dfs: FloatArray) -> Estimated:
    """Add up independent variances, (parts, K)."""
    variance = variances.sum(axis=0)
    variance = np.where(variance > 0, variance, np.nan)
    return Estimated(
        centre=middle, variance=variance, df=variance**2 / (variances**2 / dfs).sum(axis=0)
    )
