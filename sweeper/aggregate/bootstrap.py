"""The cluster bootstrap: intervals of single estimates, and bands over families of them.

Shapes: R resamples, C clusters, K estimates that share their resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from sweeper.aggregate.intervals import ROUNDING, Bounds, FloatArray, Measure, Strata, centre
from sweeper.records import content_hash

_CHUNK = 2_000_000
"""Entries of one block of resampling counts: 16 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Resampled:
    """K estimates with their distances in R resamples."""

    centre: FloatArray
    error: FloatArray
    """Cluster-robust standard errors, (K,); NaN without spread."""
    distances: FloatArray
    """|resample's estimate - estimate| in the resample's own standard errors, (R, K)."""

    def bounds(self, confidence: float) -> Bounds:
        """Give the ends of each estimate's own interval."""
        return self._around(critical_distance(self.distances, confidence))

    def band(self, columns: Sequence[int], confidence: float) -> Bounds:
        """Give the ends of a band that holds all true values of some estimates at once.

        The critical value is that of the largest distance over the estimates. An estimate that has
        no interval of its own gets no end and widens nobody else's.
        """
        places = np.asarray(columns)
        distances = self.distances[:, places]
        own = critical_distance(distances, confidence)
        alone = np.isfinite(own) & np.isfinite(self.error[places])
        critical = np.full(len(self.centre), np.nan)
        if alone.any():
            largest = distances[:, alone].max(axis=1, keepdims=True)
            critical[places[alone]] = critical_distance(largest, confidence)
        low, high = self._around(critical)
        return low[places], high[places]

    def _around(self, critical: FloatArray) -> Bounds:
        half = np.where(np.isfinite(critical), critical, np.nan) * self.error
        return self.centre - half, self.centre + half


def cluster_bootstrap(
    strata: Strata, generators: Sequence[np.random.Generator], resamples: int
) -> Resampled:
    """Resample whole clusters with replacement, each stratum by itself: a symmetric bootstrap-t.

    The interval is the estimate plus and minus ``z`` cluster-robust standard errors, ``z`` being
    the ``ceil(confidence * (R + 1))``-th smallest of the resamples' ``|estimate* - estimate| /
    standard error*`` (Hall 1988; Cameron, Gelbach and Miller 2008, section III). Standard errors
    are ``sqrt(C / (C - 1) * sum_c e_c^2) / sum(denominators)`` (Liang and Zeger 1986) in the sample
    and in the resamples. The percentile interval covers too rarely with few clusters, also when
    expanded (Hesterberg 2015); see ``tests/aggregate/COVERAGE.md``.

    A resample without spread (one cluster drawn C times, or only clusters without any effect) has
    no standard error and counts as infinitely far. Where such resamples reach ``z`` the data say
    too little, and the interval is NaN: always with three clusters, and about where fewer than
    four clusters differ from the rest.

    Args:
        strata: what is estimated.
        generators: source of each stratum's resamples, shared by all K estimates.
        resamples: R, at least ``confidence / (1 - confidence)`` for the confidence asked for later.
    """
    middle = centre(strata)
    shape = (resamples, len(middle))
    if any(len(measure[0].denominators) < 2 for measure in strata):
        nothing = np.full(len(middle), np.nan)
        return Resampled(centre=middle, error=nothing, distances=np.full(shape, np.inf))
    shifts, variances = np.zeros(shape), np.zeros(shape)
    variance = np.zeros(len(middle))
    for measure, generator in zip(strata, generators, strict=True):
        ones = np.ones((1, len(measure[0].denominators)))
        variance += _Clusters(measure).moments(ones)[1][0]
        _resample(measure, generator, shifts, variances)
    distances = np.full(shape, np.inf)
    np.divide(np.abs(shifts), np.sqrt(variances), out=distances, where=variances > 0)
    error = np.sqrt(np.where(variance > 0, variance, np.nan))
    return Resampled(centre=middle, error=error, distances=distances)


def resampling_generator(task: str, group: str) -> np.random.Generator:
    """Make the generator of a task's group: the same on any machine and in any order.

    Conditions, models and revisions are left out, so that they share their resamples.
    """
    content = content_hash({"purpose": "cluster bootstrap", "task": task, "group": group})
    return np.random.default_rng(int(content, 16))


def _resample(
    measure: Measure, generator: np.random.Generator, shifts: FloatArray, variances: FloatArray
) -> None:
    """Add a stratum's part to the resamples' shifts and variances, both (R, K)."""
    num_clusters = len(measure[0].denominators)
    chances = np.full(num_clusters, 1 / num_clusters)
    clusters = _Clusters(measure)
    step = max(1, _CHUNK // num_clusters)
    for start in range(0, len(shifts), step):
        part = slice(start, min(start + step, len(shifts)))
        counts = generator.multinomial(num_clusters, chances, size=part.stop - part.start)
        shift, variance = clusters.moments(counts.astype(np.float64))
        shifts[part] += shift
        variances[part] += variance


class _Clusters:
    """The clusters of one measure, ready to be drawn."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._residuals = [ratio.residuals() for ratio in measure]

    def moments(self, counts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Shift and cluster-robust variance where clusters are drawn ``counts`` (R, C) times.

        The variance is ``C / (C - 1) * sum_c count_c * (sum_l weight_l / size_l * (residual_lc -
        shift_l * denominator_lc))^2`` over the ratios l, multiplied out so that no array has both
        R and C K entries; 0 where that is rounding, NaN where none of a ratio's clusters is drawn.
        """
        sizes = [(counts @ ratio.denominators)[:, None] for ratio in self._measure]
        drawn = np.all([size > 0 for size in sizes], axis=0)
        scales = [
            ratio.weight / np.where(size > 0, size, 1.0)
            for ratio, size in zip(self._measure, sizes, strict=True)
        ]
        totals = [counts @ part for part in self._residuals]
        parts = [scale * total for scale, total in zip(scales, totals, strict=True)]
        shifts = [part / ratio.weight for part, ratio in zip(parts, self._measure, strict=True)]
        spread = np.zeros_like(totals[0])
        extent = np.zeros_like(spread)
        for one, two in combinations_with_replacement(range(len(shifts)), 2):
            product, size = self._product(counts, one, two, shifts)
            scale = scales[one] * scales[two] * (1 if one == two else 2)
            spread += scale * product
            extent += np.abs(scale) * size
        spread[spread <= ROUNDING * extent] = 0.0
        num_clusters = counts.shape[1]
        variance = np.where(drawn, num_clusters / (num_clusters - 1) * spread, np.nan)
        return np.sum(parts, axis=0), variance

    def _product(
        self, counts: FloatArray, one: int, two: int, shifts: Sequence[FloatArray]
    ) -> tuple[FloatArray, FloatArray]:
        """Sum of products of two ratios' residuals in the resamples, and the size of its terms."""
        first, second = self._residuals[one], self._residuals[two]
        weights, others = self._measure[one].denominators, self._measure[two].denominators
        squares = counts @ (first * second)
        sizes = (counts @ (weights * others))[:, None] * shifts[one] * shifts[two]
        cross = shifts[two] * (counts @ (first * others[:, None]))
        cross += cross if one == two else shifts[one] * (counts @ (second * weights[:, None]))
        return squares - cross + sizes, np.abs(squares) + np.abs(sizes)


def critical_distance(distances: FloatArray, confidence: float) -> FloatArray:
    """The distance that covers the wanted share of the resamples, (K,)."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence} lies outside of (0, 1)")
    resamples = len(distances)
    rank = math.ceil(round(confidence * (resamples + 1), 9))
    if rank > resamples:
        raise ValueError(f"resamples = {resamples} are too few for confidence = {confidence}")
    critical: FloatArray = np.partition(distances, rank - 1, axis=0)[rank - 1]
    return critical
