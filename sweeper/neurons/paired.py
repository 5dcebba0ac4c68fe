"""Mean of paired differences with its t interval over clusters."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean with the ends of its interval."""

    value: float
    low: float
    """NaN where one cluster, or none that differs from the others, says nothing of the spread."""
    high: float


def paired_mean(differences: NDArray[np.float64], counts: NDArray[np.float64]) -> Mean:
    """Mean difference with its cluster-robust t interval (confidence ``CONFIDENCE``).

    With ``r`` the ratio of the sums and ``e_c = differences_c - r * counts_c``, the standard error
    of C clusters is ``sqrt(C / (C - 1) * sum_c e_c^2) / sum(counts)`` (Cochran 1977, section 6.3).

    Args:
        differences: sum of the differences in each cluster.
        counts: how many differences each sum has.
    """
    num_clusters, total = len(counts), float(counts.sum())
    ratio = float(differences.sum()) / total
    if num_clusters < 2:
        return Mean(value=ratio, low=math.nan, high=math.nan)
    rest = differences - ratio * counts
    error = math.sqrt(num_clusters / (num_clusters - 1) * float((rest**2).sum())) / total
    # Clusters that agree to the last digit do not say how sure they are.
    half = stats.t.ppf((1 + CONFIDENCE) / 2, num_clusters - 1) * (error if error > 0 else math.nan)
    return Mean(value=ratio, low=ratio - half, high=ratio + half)
