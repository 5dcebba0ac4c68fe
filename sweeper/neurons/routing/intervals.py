"""Intervals of the consensus gradient: 95 % percentiles of resampled tokens, or documents.

The study resamples tokens, as if they were independent; those of a document are not, so documents
are resampled beside it. Neither makes a loop over resamples, nor holds a number for each token and
resample:

- counts of resampled tokens are multinomial over the cells (level, handler fires or not);
- the mean of a value over the tokens of a level that a resample draws: how many of them it draws is
  binomial. The level's extreme tokens (500, or all where there are no more) are drawn one by one;
  of the others, which none of them dominates, the sum over so many draws is taken to be normal with
  their mean and variance;
- resampled documents need sums of each document only.

For the range of the exception rate the levels count that have 50 tokens in the text itself, in
every resample that draws any of theirs. Neurons, levels and intervals come from the same tokens: an
interval does not tell how much of a range is due to the choice of the neurons.

Shapes: ``N`` tokens, ``M`` tokens of a level, ``L`` levels, ``W`` documents, ``R`` resamples.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sweeper.neurons.routing.bits import Bools
from sweeper.neurons.routing.gradient import counted_levels, gradient_range, joint_counts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ENDS = (0.025, 0.975)
EXTREMES = 500
"""Tokens of a level that are drawn one by one."""
RESAMPLES_AT_ONCE = 500
LEAST = 2
"""Tokens, or documents, without which there is no interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelTokens:
    """Every token's consensus level and what is averaged over the levels; arrays of shape (N,)."""

    levels: Ints
    num_levels: int
    handler: Bools
    values: Mapping[str, Floats]
    """Name -> value of each token."""
    documents: Ints
    """Which document each token is in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Intervals by resampled tokens and by resampled documents."""

    by_level: pd.DataFrame
    """One row per level; ``{name}_{way}_{end}`` for ``exception_rate`` and each value. ``way`` is
    ``token`` or ``document``, ``end`` is ``low`` or ``high``; NaN at levels with fewer than two
    tokens, or documents."""
    range: Mapping[str, float]
    """``range_{way}_{end}``: of the range of the exception rate; NaN where it is."""


def level_intervals(tokens: LevelTokens, resamples: int, seed: int) -> Intervals:
    """Percentile intervals of the gradient.

    Resamples that draw no token of a level do not count at that level.

    Args:
        tokens: of a layer with a quorum.
        resamples: R.
        seed: of the draws.
    """
    counts_WL2 = _by_document(tokens)
    counts_L2 = counts_WL2.sum(0)
    rng = np.random.default_rng(seed)
    enough = {
        "token": counts_L2.sum(1) >= LEAST,
        "document": (counts_WL2.sum(2) > 0).sum(0) >= LEAST,
    }
    ranges: dict[str, float] = {}
    columns: dict[str, Floats] = {}
    drawn = {"token": token_bootstrap(counts_L2, resamples, _seed(rng))}
    sums = {name: _sums_by_document(tokens, value) for name, value in tokens.values.items()}
    drawn["document"], drawn_sums = document_bootstrap(counts_WL2, sums, resamples, _seed(rng))
    for way, counts_RL2 in drawn.items():
        spread_R = gradient_range(counts_RL2, counted_levels(counts_L2) & enough[way].any())
        ranges |= _ends(f"range_{way}", *_percentiles(spread_R))
        rates_RL = _divide(counts_RL2[..., 1], counts_RL2.sum(-1))
        columns |= _columns("exception_rate", way, rates_RL, enough[way])
    for name, value in tokens.values.items():
        of_tokens_RL = _token_means(tokens, value, resamples, rng)
        columns |= _columns(name, "token", of_tokens_RL, enough["token"])
        of_documents_RL = _divide(drawn_sums[name], drawn["document"].sum(-1))
        columns |= _columns(name, "document", of_documents_RL, enough["document"])
    return Intervals(by_level=pd.DataFrame(columns), range=ranges)


def token_bootstrap(counts: Ints, resamples: int, seed: int) -> Floats:
    """Counts of resampled tokens; (R, L, 2). Drawing tokens is drawing cells by their shares."""
    rng = np.random.default_rng(seed)
    total = int(counts.sum())
    drawn: Floats = rng.multinomial(total, counts.ravel() / total, size=resamples).astype(float)
    return drawn.reshape(resamples, *counts.shape)


def document_bootstrap(
    counts_of: Ints, sums_of: Mapping[str, Floats], resamples: int, seed: int
) -> tuple[Floats, dict[str, Floats]]:
    """Counts and sums of values over resampled documents; (R, L, 2) and, by name, (R, L).

    Args:
        counts_of: counts of each document, (W, L, 2).
        sums_of: name -> sums of each document's values by level, (W, L).
        resamples: R.
        seed: of the draws.
    """
    number, *shape = counts_of.shape
    rng = np.random.default_rng(seed)
    flat = [counts_of.reshape(number, -1).astype(np.float64), *sums_of.values()]
    parts: list[Floats] = []
    for first in range(0, resamples, RESAMPLES_AT_ONCE):
        size = min(RESAMPLES_AT_ONCE, resamples - first)
        times = rng.multinomial(number, np.full(number, 1 / number), size=size).astype(float)
        parts.append(times @ np.concatenate(flat, axis=1))
    edges = np.cumsum([part.shape[1] for part in flat])[:-1]
    both: list[Floats] = np.split(np.concatenate(parts), edges, axis=1)
    counts, *sums = both
    return counts.reshape(resamples, *shape), dict(zip(sums_of, sums, strict=True))


def resampled_means(
    values_M: Floats, num_tokens: int, resamples: int, rng: np.random.Generator
) -> Floats:
    """Means of a level's values over resamples of all tokens; NaN where none is drawn; (R,).

    Args:
        values_M: of the level's tokens.
        num_tokens: N, of all levels.
        resamples: R.
        rng: of the draws.
    """
    order = np.argsort(-np.abs(values_M - values_M.mean()), kind="stable")
    extremes, others = values_M[order[:EXTREMES]], values_M[order[EXTREMES:]]
    drawn_R = rng.binomial(num_tokens, len(values_M) / num_tokens, size=resamples)
    singly_R = rng.binomial(drawn_R, len(extremes) / len(values_M))
    sums_R = _sums_of_draws(extremes, singly_R, rng)
    if len(others):
        together_R = drawn_R - singly_R
        noise_R = rng.standard_normal(resamples) * np.sqrt(together_R * others.var())
        sums_R += together_R * others.mean() + noise_R
    return _divide(sums_R, drawn_R)


def _sums_of_draws(values_M: Floats, times_R: Ints, rng: np.random.Generator) -> Floats:
    """Sum of so many draws, for each resample."""
    parts = []
    for first in range(0, len(times_R), RESAMPLES_AT_ONCE):
        times = times_R[first : first + RESAMPLES_AT_ONCE]
        drawn = values_M[rng.integers(len(values_M), size=int(times.sum()))]
        owners = np.repeat(np.arange(len(times)), times)
        parts.append(np.bincount(owners, drawn, minlength=len(times)))
    return np.concatenate(parts)


def _token_means(
    tokens: LevelTokens, value_N: Floats, resamples: int, rng: np.random.Generator
) -> Floats:
    means_RL = np.full((resamples, tokens.num_levels), np.nan)
    for level, members in enumerate(_split_by_level(tokens, value_N)):
        if len(members) >= LEAST:
            means_RL[:, level] = resampled_means(members, len(value_N), resamples, rng)
    return means_RL


def _split_by_level(tokens: LevelTokens, value_N: Floats) -> Iterator[Floats]:
    order = np.argsort(tokens.levels, kind="stable")
    edges = np.cumsum(np.bincount(tokens.levels, minlength=tokens.num_levels))[:-1]
    yield from np.split(value_N[order], edges)


def _by_document(tokens: LevelTokens) -> Ints:
    number = int(tokens.documents.max()) + 1
    places = tokens.documents * tokens.num_levels + tokens.levels
    counts = joint_counts(places, number * tokens.num_levels, tokens.handler)
    return counts.reshape(number, tokens.num_levels, 2)


def _sums_by_document(tokens: LevelTokens, value_N: Floats) -> Floats:
    number = int(tokens.documents.max()) + 1
    places = tokens.documents * tokens.num_levels + tokens.levels
    sums = np.bincount(places, value_N, minlength=number * tokens.num_levels)
    return sums.astype(np.float64).reshape(number, tokens.num_levels)


def _columns(name: str, way: str, drawn_RL: Floats, enough_L: Bools) -> dict[str, Floats]:
    ends = np.array([_percentiles(drawn_R) for drawn_R in drawn_RL.T])
    low, high = np.where(enough_L[:, None], ends, np.nan).T
    return {f"{name}_{way}_low": low, f"{name}_{way}_high": high}


def _ends(name: str, low: float, high: float) -> dict[str, float]:
    return {f"{name}_low": low, f"{name}_high": high}


def _percentiles(drawn_R: Floats) -> tuple[float, float]:
    known = drawn_R[~np.isnan(drawn_R)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.quantile(known, ENDS)
    return float(low), float(high)


def _divide(sums: Floats, numbers: NDArray[np.number]) -> Floats:
    means: Floats = np.divide(sums, numbers, out=np.full(sums.shape, np.nan), where=numbers > 0)
    return means


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**32))
