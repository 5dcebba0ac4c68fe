"""Sums over documents and consensus levels, and the rows and intervals that they come to.

Shapes: ``W`` windows (documents), ``B`` of a batch, ``P`` places of each that have a next token,
``N`` = B P, ``L`` levels.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from sweeper.score.divergence import Compared

Floats = NDArray[np.float64]

CONFIDENCE = 0.95

_COLUMNS = (
    *("layer", "intervention", "level", "tokens", "num_documents", "nll", "change", "low", "high"),
    *("kl", "probability_ratio", "rank_change"),
)


def table_of(of_interventions: "Iterable[Sums]") -> pd.DataFrame:
    """The rows of all interventions; ``level`` is missing in those over all tokens."""
    rows = [row for sums in of_interventions for row in sums.rows()]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype({"level": "Int32"})


class Sums:
    """Sums over the tokens of each document and level under one intervention."""

    def __init__(self, layer: int, intervention: str, num_levels: int, num_windows: int) -> None:
        self.layer, self.intervention = layer, intervention
        names = ("tokens", "nll", "change", "kl", "before", "after", "rank_change")
        self._sums = {name: np.zeros((num_windows, num_levels)) for name in names}

    def add(self, first: int, levels_WP: NDArray[np.int64], found: Compared, member: int) -> None:
        """Take in a batch.

        Args:
            first: its first window.
            levels_WP: consensus levels of all windows.
            found: at the batch's places.
            member: which of the conditions this is.
        """
        plain_N, logprobs_N = found.logprobs[0], found.logprobs[member]
        values = {
            "tokens": np.ones(len(plain_N)),
            "nll": -plain_N,
            "change": plain_N - logprobs_N,
            "kl": found.divergences[member],
            "before": np.exp(plain_N),
            "after": np.exp(logprobs_N),
            "rank_change": (found.ranks[member] - found.ranks[0]).astype(np.float64),
        }
        if not all(np.isfinite(values[name]).all() for name in ("nll", "change", "kl")):
            what = f"{self.intervention} in layer {self.layer}"
            raise FloatingPointError(f"{what}: a loss or a divergence is NaN or infinite")
        num_windows, num_levels = len(plain_N) // levels_WP.shape[1], self._sums["nll"].shape[1]
        end = first + num_windows
        cells_BP = levels_WP[first:end] + num_levels * np.arange(num_windows)[:, None]
        for name, values_N in values.items():
            summed = np.bincount(cells_BP.ravel(), values_N, minlength=num_windows * num_levels)
            self._sums[name][first:end] = summed.reshape(num_windows, num_levels)

    def rows(self) -> Iterator[dict[str, object]]:
        """A row per level, and one over all tokens."""
        num_levels = self._sums["tokens"].shape[1]
        for level in range(num_levels):
            yield self._row(level, {name: sums[:, level] for name, sums in self._sums.items()})
        yield self._row(None, {name: sums.sum(1) for name, sums in self._sums.items()})

    def _row(self, level: int | None, sums_W: Mapping[str, Floats]) -> dict[str, object]:
        tokens_W = sums_W["tokens"]
        change, low, high = clustered(sums_W["change"], tokens_W)
        total = tokens_W.sum()
        return {
            "layer": self.layer,
            "intervention": self.intervention,
            "level": pd.NA if level is None else level,
            "tokens": int(total),
            "num_documents": int((tokens_W > 0).sum()),
            "nll": _ratio(sums_W["nll"].sum(), total),
            "change": change,
            "low": low,
            "high": high,
            "kl": _ratio(sums_W["kl"].sum(), total),
            "probability_ratio": _ratio(sums_W["after"].sum(), sums_W["before"].sum()),
            "rank_change": _ratio(sums_W["rank_change"].sum(), total),
        }


def clustered(sums_W: Floats, tokens_W: Floats) -> tuple[float, float, float]:
    """Mean over tokens and its 95 % cluster-robust t interval, documents being the clusters.

    With C documents that have tokens, their residuals e_c = sum_c - mean tokens_c, and N tokens,
    the variance is C / (C - 1) sum_c e_c^2 / N^2 (the ratio of two sums, linearised: Cochran 1977,
    section 6.3), with C - 1 degrees of freedom.

    Args:
        sums_W: of each document's tokens.
        tokens_W: their number.

    Returns:
        Mean, lower and upper end; NaN without tokens, for the ends with fewer than two documents or
        no spread.
    """
    total, number = tokens_W.sum(), int((tokens_W > 0).sum())
    mean = _ratio(sums_W.sum(), total)
    if number < 2:
        return mean, float("nan"), float("nan")
    residuals_W = sums_W - mean * tokens_W
    error = float(np.sqrt(number / (number - 1) * (residuals_W**2).sum()) / total)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, number - 1)) * error if error else float("nan")
    return mean, mean - half, mean + half


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else float("nan")
