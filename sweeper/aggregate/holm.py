"""Holm's correction for many tests, within families of them."""

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.aggregate.contrasts import ALL
from sweeper.aggregate.intervals import FloatArray


def holm(p_values: FloatArray, families: NDArray[np.integer[Any]] | None = None) -> FloatArray:
    """Adjust p-values for the other tests of their family (Holm 1979, step-down).

    In a family of m tests the i-th smallest p becomes ``max over j <= i of (m - j + 1) * p_j``, at
    most 1. A test whose adjusted p is at most a is rejected with a family-wise error of at most a,
    however the tests depend on each other. NaN is no test: it stays, and is not counted.

    Args:
        p_values: (N,).
        families: number of each test's family, (N,); one family when absent.
    """
    codes = np.zeros(len(p_values), dtype=np.int64) if families is None else families
    adjusted = np.full(len(p_values), math.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.lexsort((p_values[known], codes[known]))]
    sorted_codes = pd.Series(codes[order])
    tests = sorted_codes.groupby(sorted_codes)
    left = tests.transform("size") - tests.cumcount()
    steps = (left * p_values[order]).groupby(sorted_codes).cummax()
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def with_holm(estimates: pd.DataFrame) -> pd.DataFrame:
    """Fill ``p_holm``, ``p_random_holm`` and ``num_tests`` in rows of ``records.Estimate``.

    One family is all conditions and tasks of a model, revision and metric over all items; another
    is all its conditions, tasks and groups of items.
    """
    if estimates.empty:
        return estimates
    place = [estimates[name] for name in ("model", "revision", "metric")]
    families = estimates.groupby([*place, estimates["group"] == ALL]).ngroup()
    codes = families.to_numpy()
    known = estimates["p_cluster"].notna()
    return estimates.assign(
        p_holm=holm(estimates["p_cluster"].to_numpy(), codes),
        p_random_holm=holm(estimates["p_random"].to_numpy(), codes),
        num_tests=known.groupby(families).transform("sum").astype("int64"),
    )
