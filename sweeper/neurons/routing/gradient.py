"""The consensus gradient: what happens at tokens at which so many consensus neurons fire.

Balogh (2026), sections 3 and 5: exception rate, output norm, |delta| and share of the tokens by
consensus level; random splits of neurons as a control; intervals by resampling tokens, as the study
does, and documents, since the tokens of one are not independent.

Shapes: ``N`` tokens, ``C`` consensus neurons, ``L`` = C + 1 levels, ``R`` resamples, ``S`` splits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.neurons.routing.bits import Bools, FiringBits

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SPLIT_CONSENSUS, SPLIT_RATE = 7, 0.5
HANDLER_RATES = (0.01, 0.10)
RESAMPLES_AT_ONCE = 500


def levels(consensus_CN: Bools) -> Ints:
    """How many of the consensus neurons fire at each token; shape (N,)."""
    number: Ints = consensus_CN.sum(0, dtype=np.int64)
    return number


def gradient(
    levels_N: Ints, num_levels: int, handler_N: Bools, output_norms_N: Floats, residuals_N: Floats
) -> pd.DataFrame:
    """Means by consensus level.

    Args:
        levels_N: of each token.
        num_levels: L.
        handler_N: whether the exception handler fires.
        output_norms_N: |MLP output|.
        residuals_N: |delta|.

    Returns:
        One row per level: ``level``, ``tokens``, ``share`` (of all tokens), ``exception_rate``,
        ``output_norm``, ``residual``; NaN at levels without tokens.
    """
    tokens = np.bincount(levels_N, minlength=num_levels)

    def mean(values: NDArray[np.float64] | Bools) -> Floats:
        sums = np.bincount(levels_N, np.asarray(values, np.float64), minlength=num_levels)
        with np.errstate(invalid="ignore"):
            means: Floats = sums / tokens
        return means

    return pd.DataFrame(
        {
            "level": np.arange(num_levels),
            "tokens": tokens,
            "share": tokens / max(len(levels_N), 1),
            "exception_rate": mean(handler_N),
            "output_norm": mean(output_norms_N),
            "residual": mean(residuals_N),
        }
    )


def is_monotonic(means: Sequence[float]) -> bool:
    """Whether the means of the levels that have tokens never rise, or never fall."""
    seen = np.asarray(means, np.float64)
    steps = np.diff(seen[~np.isnan(seen)])
    return bool((steps <= 0).all() or (steps >= 0).all())


def joint_counts(levels_N: Ints, num_levels: int, handler_N: Bools) -> Ints:
    """Tokens by level, at which the handler is silent and at which it fires; shape (L, 2)."""
    return np.bincount(2 * levels_N + handler_N, minlength=2 * num_levels).reshape(-1, 2)


def gradient_range(counts: NDArray[np.number]) -> Floats:
    """Largest exception rate of a level minus the smallest; (..., L, 2) gives (...).

    Levels without tokens are left out; NaN if there are fewer than two others.
    """
    totals = counts.sum(-1)
    rates = np.divide(counts[..., 1], totals, out=np.full(totals.shape, np.nan), where=totals > 0)
    several = (totals > 0).sum(-1) > 1
    highest = np.where(np.isnan(rates), -np.inf, rates).max(-1)
    lowest = np.where(np.isnan(rates), np.inf, rates).min(-1)
    spread: Floats = np.where(several, highest - lowest, np.nan)
    return spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Random splits of a layer's neurons into seven of consensus and one handler."""

    ranges: Floats
    """(S,): range of the exception rate over the levels of each."""

    def num_reaching(self, observed: float) -> int:
        """Splits whose range is at least the observed one."""
        return int((self.ranges >= observed).sum())


def random_splits(fires: FiringBits, number: int, seed: int) -> Splits | None:
    """Ranges of the exception rate of random splits.

    A split takes seven neurons that fire at more than half of the tokens, and one that fires at 1
    to 10 % of them. None where a layer has too few such neurons.

    Args:
        fires: of the layer.
        number: of splits.
        seed: of the draws.
    """
    rates = fires.rates()
    usual = np.flatnonzero(rates > SPLIT_RATE)
    rare = np.flatnonzero((rates >= HANDLER_RATES[0]) & (rates <= HANDLER_RATES[1]))
    if len(usual) < SPLIT_CONSENSUS or not len(rare):
        return None
    rng = np.random.default_rng(seed)
    found = np.empty(number)
    for split in range(number):
        chosen = [*rng.choice(usual, SPLIT_CONSENSUS, replace=False), rng.choice(rare)]
        *consensus, handler = fires.of(chosen).view(np.uint8)
        cells = np.add.reduce(consensus, dtype=np.uint8)
        cells = 2 * cells + handler
        counts = np.bincount(cells, minlength=2 * (SPLIT_CONSENSUS + 1)).reshape(-1, 2)
        found[split] = gradient_range(counts)
    return Splits(ranges=found)


def token_bootstrap(counts: Ints, resamples: int, seed: int) -> Floats:
    """Counts of resampled tokens; (R, L, 2). Drawing tokens is drawing cells by their shares."""
    rng = np.random.default_rng(seed)
    total = int(counts.sum())
    drawn: Floats = rng.multinomial(total, counts.ravel() / total, size=resamples).astype(float)
    return drawn.reshape(resamples, *counts.shape)


def document_bootstrap(counts_of: NDArray[np.int64], resamples: int, seed: int) -> Floats:
    """Counts of resampled documents; (R, L, 2).

    Args:
        counts_of: counts of each document, (documents, L, 2).
        resamples: R.
        seed: of the draws.
    """
    number, *shape = counts_of.shape
    rng = np.random.default_rng(seed)
    flat = counts_of.reshape(number, -1).astype(np.float64)
    parts = []
    for first in range(0, resamples, RESAMPLES_AT_ONCE):
        size = min(RESAMPLES_AT_ONCE, resamples - first)
        times = rng.multinomial(number, np.full(number, 1 / number), size=size)
        parts.append(times @ flat)
    return np.concatenate(parts).reshape(resamples, *shape)
