"""The consensus gradient: what happens at tokens at which so many consensus neurons fire.

Balogh (2026), sections 3 and 5: exception rate, output norm, |delta| and share of the tokens by
consensus level. Intervals are in ``intervals``, random splits in ``splits``.

The rate of a level with a handful of tokens may be anything, and would make the range of the rates
by itself. Levels with fewer than 50 tokens do not count for the range: the study's own bound of how
often a pattern of firing must be seen.

Shapes: ``N`` tokens, ``C`` consensus neurons, ``L`` = C + 1 levels.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.neurons.routing.bits import Bools
from sweeper.neurons.routing.roles import LEAST_SEEN

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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


def counted_levels(counts: NDArray[np.number]) -> Bools:
    """Whether levels have the 50 tokens that make them count; (..., L, 2) gives (..., L)."""
    enough: Bools = counts.sum(-1) >= LEAST_SEEN
    return enough


def gradient_range(counts: NDArray[np.number], counted: Bools | None = None) -> Floats:
    """Largest exception rate of a level minus the smallest; (..., L, 2) gives (...).

    Args:
        counts: ``joint_counts``.
        counted: levels that count, as far as they have tokens; ``counted_levels`` if left out.

    Returns:
        The range; NaN where fewer than two levels count, as in very short texts.
    """
    counted = counted_levels(counts) if counted is None else counted
    totals = counts.sum(-1) * counted
    rates = np.divide(counts[..., 1], totals, out=np.full(totals.shape, np.nan), where=totals > 0)
    several = (totals > 0).sum(-1) > 1
    highest = np.where(np.isnan(rates), -np.inf, rates).max(-1)
    lowest = np.where(np.isnan(rates), np.inf, rates).min(-1)
    spread: Floats = np.where(several, highest - lowest, np.nan)
    return spread
