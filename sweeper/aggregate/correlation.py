"""Correlation over revisions between a known series and a level, the level's clusters random.

Shapes: C clusters, R revisions, B resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from sweeper.aggregate.bootstrap import critical_distance, resampling_generator
from sweeper.aggregate.intervals import ROUNDING, FloatArray, Ratio
from sweeper.aggregate.summary import as_frame, beside
from sweeper.aggregate.trajectories import AtRevision, Series
from sweeper.records import Interval
from sweeper.store.dynamics import Correlation

FEWEST_REVISIONS = 4
"""Fewest revisions over which a correlation is given."""
FEWEST_CLUSTERS = 4
"""Fewest clusters for Spearman's interval: with fewer, resamples hardly reorder the levels."""
NOTHING = Interval(low=math.nan, high=math.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlated:
    """A correlation of each kind with its interval; NaN where the data carry none."""

    pearson: float
    pearson_interval: Interval
    spearman: float
    spearman_interval: Interval


def correlations(
    found: dict[Series, list[AtRevision]],
    cohorts: pd.DataFrame,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Correlate each cohort's mean WD with the baseline's level over revisions.

    Args:
        found: of ``trajectories.by_revision``.
        cohorts: rows of ``CohortPoint``.
        confidence: nominal coverage of the intervals.
        resamples: resamples of the clusters.

    Returns:
        One row per ``Correlation``: for every cohort, task, metric and group.
    """
    wanted = cohorts[(cohorts["part"] == "cohort") & (cohorts["statistic"] == "wd")]
    rows = []
    for series, parts in found.items():
        of_model = wanted[wanted["model"] == series[0]]
        for cohort, points in of_model.groupby("cohort", sort=False):
            wd = dict(zip(points["revision"], points["mean"].astype(float), strict=True))
            row = _row(series, str(cohort), wd, parts, confidence, resamples)
            rows += [row] if row is not None else []
    return as_frame(Correlation, rows)


def _row(
    series: Series,
    cohort: str,
    wd: dict[str, float],
    parts: Sequence[AtRevision],
    confidence: float,
    resamples: int,
) -> Correlation | None:
    """None without a revision that has both."""
    revisions = {revision for revision, mean in wd.items() if math.isfinite(mean)}
    known = [part for part in parts if part.place.checkpoint.revision in revisions]
    if not known:
        return None
    model, task, metric, group = series
    sums = beside([part.sums.of([0]) for part in known])
    if sums.whole is not None:  # a difference of two rates: the level of no task
        return None
    values = np.array([wd[part.place.checkpoint.revision] for part in known])
    generator = resampling_generator(task, group)
    ratio = Ratio(sums.numerators, sums.denominators)
    result = correlated(values, ratio, generator, resamples, confidence)
    return Correlation(
        model=model,
        cohort=cohort,
        task=task,
        metric=metric,
        group=group,
        num_revisions=len(known),
        num_items=sums.num_items,
        num_clusters=sums.num_clusters,
        pearson=result.pearson,
        pearson_low=result.pearson_interval.low,
        pearson_high=result.pearson_interval.high,
        spearman=result.spearman,
        spearman_low=result.spearman_interval.low,
        spearman_high=result.spearman_interval.high,
    )


def correlated(
    values: FloatArray,
    ratio: Ratio,
    generator: np.random.Generator,
    resamples: int,
    confidence: float,
) -> Correlated:
    """Correlate known values with ratios whose clusters are random, both over R revisions.

    Pearson's interval is a symmetric bootstrap-t of z = atanh(r): z plus and minus as many standard
    errors as cover the wanted share of the resamples, each in its own standard error. That is the
    cluster-robust one of z linearised in the clusters' totals: ``sqrt(C / (C - 1) * sum_c (sum_t
    dz/da_t e_ct / D)^2)`` with ``e_ct`` the residuals of the ratios ``a_t``. Spearman's interval
    is the estimate plus and minus the distance that as many resamples keep to, inside of [-1, 1]:
    percentiles would hold too little, since resampling adds noise to the ranks. There is none where
    Pearson's has none, or with fewer than four clusters: of three, 86 % would hold the true one.

    Args:
        values: the known side, (R,).
        ratio: the other side; its K estimates are the R revisions.
        generator: source of the resamples.
        resamples: B.
        confidence: nominal coverage.
    """
    levels = ratio.values()
    if len(values) < FEWEST_REVISIONS or _is_flat(values) or _is_flat(levels):
        return Correlated(
            pearson=math.nan,
            pearson_interval=NOTHING,
            spearman=math.nan,
            spearman_interval=NOTHING,
        )
    num_clusters = len(ratio.denominators)
    return Correlated(
        pearson=float(_pearson(values, levels[None])[0]),
        spearman=float(_spearman(values, levels[None])[0]),
        **_intervals(values, ratio, _draws(generator, num_clusters, resamples), confidence),
    )


def _draws(generator: np.random.Generator, num_clusters: int, resamples: int) -> FloatArray:
    """How often each cluster is drawn, (B, C)."""
    chances = np.full(num_clusters, 1 / num_clusters)
    return generator.multinomial(num_clusters, chances, size=resamples).astype(np.float64)


def _intervals(
    values: FloatArray, ratio: Ratio, counts: FloatArray, confidence: float
) -> dict[str, Interval]:
    if len(ratio.denominators) < 2:
        return {"pearson_interval": NOTHING, "spearman_interval": NOTHING}
    once = np.ones((1, counts.shape[1]))
    (centre,), (error,), _ = _transformed(values, ratio, once)
    if error == 0:  # all clusters agree, which does not say how sure the data are
        return {"pearson_interval": NOTHING, "spearman_interval": NOTHING}
    drawn, errors, levels = _transformed(values, ratio, counts)
    distances = np.full(len(drawn), np.inf)
    known = np.isfinite(drawn) & (errors > 0)
    np.divide(np.abs(drawn - centre), errors, out=distances, where=known)
    critical = float(critical_distance(distances[:, None], confidence)[0])
    if not math.isfinite(critical):  # too many resamples are without spread
        return {"pearson_interval": NOTHING, "spearman_interval": NOTHING}
    low, high = np.tanh([centre - critical * error, centre + critical * error])
    ranked = NOTHING
    if len(ratio.denominators) >= FEWEST_CLUSTERS:
        ranked = _spearman_interval(values, ratio.values(), levels, confidence)
    return {
        "pearson_interval": Interval(low=float(low), high=float(high)),
        "spearman_interval": ranked,
    }


def _spearman_interval(
    values: FloatArray, estimated: FloatArray, levels: FloatArray, confidence: float
) -> Interval:
    centre = float(_spearman(values, estimated[None])[0])
    distances = np.abs(_spearman(values, levels) - centre)
    # NaN, of a resample in which nothing changes, is far away.
    distances = np.where(np.isnan(distances), np.inf, distances)
    half = float(critical_distance(distances[:, None], confidence)[0])
    if not math.isfinite(half):
        return NOTHING
    return Interval(low=max(centre - half, -1.0), high=min(centre + half, 1.0))


def _transformed(
    values: FloatArray, ratio: Ratio, counts: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Give z = atanh(r) and its standard error, both (B,), and levels (B, R) in the resamples."""
    sizes = counts @ ratio.denominators
    levels = (counts @ ratio.numerators) / sizes[:, None]
    known, level = _standardised(values[None]), _standardised(levels)
    r = (known * level).sum(axis=1)
    r = np.where(1 - r**2 <= ROUNDING, np.nan, r)
    # dr/da = (known - r * level) / |centred levels| of standardised series; dz/dr = 1 / (1 - r^2).
    lengths = np.linalg.norm(_centred(levels), axis=1)
    scale = np.where(np.isnan(r), np.nan, lengths * (1 - r**2))
    slopes = (known - r[:, None] * level) / scale[:, None]
    influences = slopes @ ratio.numerators.T
    influences -= (slopes * levels).sum(axis=1)[:, None] * ratio.denominators
    extent = np.abs(slopes) @ np.abs(ratio.numerators).T
    influences = np.where(np.abs(influences) <= ROUNDING * extent, 0.0, influences)
    num_clusters = counts.shape[1]
    squares = (counts * influences**2).sum(axis=1) * num_clusters / (num_clusters - 1)
    return np.arctanh(r), np.sqrt(squares) / sizes, levels


def _pearson(values: FloatArray, others: FloatArray) -> FloatArray:
    """Correlation of (R,) values with each row of (B, R) others; NaN where one does not change."""
    products: FloatArray = (_standardised(values[None]) * _standardised(others)).sum(axis=1)
    return np.where(1 - np.abs(products) <= ROUNDING, np.sign(products), products)


def _spearman(values: FloatArray, others: FloatArray) -> FloatArray:
    """Rank correlation of (R,) values with each row of (B, R) others; NaN as for ``_pearson``.

    In whole numbers, R times twice the ranks from their mean, so that 1 is 1.
    """
    (one,), many = _whole_ranks(values[None]), _whole_ranks(others)
    with np.errstate(invalid="ignore"):
        found: FloatArray = many @ one / np.sqrt((one @ one) * (many**2).sum(axis=1))
    return found


def _whole_ranks(rows: FloatArray) -> FloatArray:
    """Ranks inside each row, centred and scaled to whole numbers."""
    ranks: FloatArray = 2 * stats.rankdata(rows, axis=1)
    whole: FloatArray = rows.shape[1] * ranks - ranks.sum(axis=1, keepdims=True)
    return whole


def _standardised(rows: FloatArray) -> FloatArray:
    """Rows with mean 0 and length 1; NaN where a row does not change."""
    centred = _centred(rows)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    scale = np.abs(rows).max(axis=1, keepdims=True)
    lengths = np.where(lengths > ROUNDING * scale, lengths, np.nan)
    return centred / lengths


def _centred(rows: FloatArray) -> FloatArray:
    centred: FloatArray = rows - rows.mean(axis=1, keepdims=True)
    return centred


def _is_flat(values: FloatArray) -> bool:
    return bool(np.isnan(_standardised(values[None])).any())
