"""Proportions: Wilson's interval, and how many documents a reported standard error tells of."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sweeper.aggregate.intervals import Bounds, FloatArray

_TOLERANCE = 1e-6
"""Relative difference that is rounding: of values in full precision it is below 1e-12, of those
with four digits nearly always above."""
_WHOLE = 1e-3
"""Distance to a whole number that is no rounding, however large the number is."""
_FEW_DECIMALS = 4
"""Decimals of a standard error that was rounded: it tells no number of documents."""


def wilson(shares: FloatArray, sizes: FloatArray, confidence: float) -> Bounds:
    """Give Wilson's score interval of proportions of independent documents (Wilson 1927).

    ``(p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)``: inside of [0, 1], and
    of some width where no document or every one is right.

    Args:
        shares: proportions p, (K,).
        sizes: documents n, (K,); the ends are NaN where n is NaN or 0.
        confidence: nominal coverage.
    """
    z = float(stats.norm.ppf((1 + confidence) / 2))
    n = np.where(sizes > 0, sizes, np.nan)
    middle = (shares + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(shares * (1 - shares) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    # Rounding would put the ends of 0 of n and n of n beyond them.
    low = np.where(shares <= 0, np.where(np.isnan(n), np.nan, 0.0), middle - half)
    high = np.where(shares >= 1, np.where(np.isnan(n), np.nan, 1.0), middle + half)
    return low, high


def implied_sizes(shares: FloatArray, errors: FloatArray) -> FloatArray:
    """Find the number of documents that accuracies and their standard errors determine.

    lm-evaluation-harness gives the sample standard deviation over root n, for values of 0 and 1
    ``sqrt(p (1 - p) / (n - 1))``. The number is taken only where both it and that of the right
    documents, n p, come out whole, and the standard error has more than four decimals.

    Args:
        shares: proportions, (K,).
        errors: standard errors, (K,); NaN where none is given.

    Returns:
        Whole numbers as float64, NaN where there is none: other metrics, other standard errors,
        values that were rounded, and proportions of 0 and 1, whose standard error is 0.
    """
    spread = (
        (shares > 0) & (shares < 1) & (errors > 0) & (np.round(errors, _FEW_DECIMALS) != errors)
    )
    found = np.full(len(shares), np.nan)
    found[spread] = shares[spread] * (1 - shares[spread]) / errors[spread] ** 2 + 1
    sizes = np.round(found)
    return np.where(_whole(found) & _whole(shares * sizes) & (sizes >= 2), sizes, np.nan)


def agrees(shares: FloatArray, errors: FloatArray, sizes: FloatArray) -> NDArray[np.bool_]:
    """Whether standard errors are those of proportions of so many independent documents."""
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = np.sqrt(shares * (1 - shares) / (sizes - 1))
        return np.asarray(np.abs(errors - expected) <= _TOLERANCE * np.maximum(expected, 1e-12))


def _whole(numbers: FloatArray) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        allowed = np.minimum(_TOLERANCE * np.abs(numbers), _WHOLE)
        return np.asarray(np.abs(numbers - np.round(numbers)) <= allowed)
