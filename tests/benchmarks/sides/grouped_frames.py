"""The straightforward aggregation: all rows in pandas, a groupby per cell, scipy's bootstrap."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from sweeper.store import Store

METRICS = {"accuracy": "correct", "margin": "margin"}


def effects(
    store: Store, baseline: str, keys: Sequence[str], resamples: int
) -> NDArray[np.float64]:
    """Effect and bootstrap interval of each cell against the baseline, (cells, metrics, 3)."""
    columns = ("cell_key", "item_id", "cluster", *METRICS.values())
    items = store.table("items", [baseline, *keys], columns).to_pandas()
    cells = dict(list(items.groupby("cell_key")))
    base = cells[baseline].set_index("item_id")
    return np.array([_effects(cells[key].set_index("item_id"), base, resamples) for key in keys])


def _effects(cell: pd.DataFrame, base: pd.DataFrame, resamples: int) -> list[list[float]]:
    found = []
    for column in METRICS.values():
        differences = cell[column].astype(float) - base[column].astype(float)
        means = differences.groupby(cell["cluster"]).mean().to_numpy()
        result = stats.bootstrap(
            (means,), np.mean, n_resamples=resamples, method="percentile", rng=0
        )
        ends = result.confidence_interval
        found.append([float(means.mean()), float(ends.low), float(ends.high)])
    return found
