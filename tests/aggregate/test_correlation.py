import math

import numpy as np
import pandas as pd
import pytest
from records_factory import checkpoint
from scipy import stats

from sweeper.aggregate import by_revision, correlations
from sweeper.aggregate.correlation import correlated
from sweeper.aggregate.intervals import Ratio


def example(num_revisions=9, num_clusters=14, seed=0, noise=1.0):
    """A known series, and a level that follows it, in clusters of unequal size."""
    rng = np.random.default_rng(seed)
    values = np.sort(rng.gamma(2, 1, num_revisions))
    sizes = rng.integers(5, 40, num_clusters).astype(float)
    shift = rng.normal(size=(num_clusters, 1)) + 0.3 * rng.normal(
        size=(num_clusters, num_revisions)
    )
    means = 0.2 * values + noise * shift
    return values, Ratio(sizes[:, None] * means, sizes)


def of(values, ratio, resamples=999, confidence=0.95, seed=0):
    return correlated(values, ratio, np.random.default_rng(seed), resamples, confidence)


def test_estimates_are_scipys():
    values, ratio = example()
    found, levels = of(values, ratio), ratio.numerators.sum(0) / ratio.denominators.sum()
    assert found.pearson == pytest.approx(stats.pearsonr(values, levels).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(values, levels).statistic)


def test_ties_are_ranked_as_scipy_does():
    values, ratio = example()
    values = np.round(values)
    levels = ratio.values()
    assert of(values, ratio).spearman == pytest.approx(stats.spearmanr(values, levels).statistic)


def z_of(values, numerators, sizes):
    return math.atanh(np.corrcoef(values, numerators.sum(0) / sizes.sum())[0, 1])


def error_of(values, numerators, sizes):
    """Standard error of z by numerical derivatives in the clusters' weights."""
    number, step = len(sizes), 1e-5
    slopes = []
    for cluster in range(number):
        ends = []
        for sign in (1, -1):
            weights = np.ones(number)
            weights[cluster] += sign * step
            ends.append(z_of(values, weights[:, None] * numerators, weights * sizes))
        slopes.append((ends[0] - ends[1]) / (2 * step))
    return math.sqrt(number / (number - 1) * np.square(slopes).sum())


def test_pearsons_interval_equals_a_loop_over_resampled_clusters():
    values, ratio = example(num_revisions=6, num_clusters=8)
    numerators, sizes = ratio.numerators, ratio.denominators
    centre = z_of(values, numerators, sizes)
    counts = np.random.default_rng(0).multinomial(8, np.full(8, 1 / 8), size=199)
    distances = []
    for count in counts:
        drawn = np.repeat(np.arange(8), count)
        z = z_of(values, numerators[drawn], sizes[drawn])
        distances.append(abs(z - centre) / error_of(values, numerators[drawn], sizes[drawn]))
    half = sorted(distances)[189] * error_of(values, numerators, sizes)  # ceil(0.95 * 200) = 190
    found = of(values, ratio, resamples=199).pearson_interval
    expected = np.tanh([centre - half, centre + half])
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-5)


def test_spearmans_interval_is_what_the_resamples_keep_to():
    values, ratio = example(num_revisions=6, num_clusters=8)
    counts = np.random.default_rng(0).multinomial(8, np.full(8, 1 / 8), size=199)
    drawn = [
        stats.spearmanr(values, count @ ratio.numerators / (count @ ratio.denominators)).statistic
        for count in counts
    ]
    found = of(values, ratio, resamples=199)
    half = sorted(np.abs(np.array(drawn) - found.spearman))[189]
    ends = max(found.spearman - half, -1), min(found.spearman + half, 1)
    interval = found.spearman_interval
    assert (interval.low, interval.high) == pytest.approx(ends)
    assert half > 0


def test_what_all_clusters_share_does_not_count():
    """Hard clusters are hard at every step, which shifts the level and no correlation."""
    values, ratio = example(seed=3)
    shift = np.random.default_rng(9).normal(0, 50, (14, 1)) * ratio.denominators[:, None]
    moved = Ratio(ratio.numerators + shift, np.full(14, 10.0))
    plain = Ratio(ratio.numerators, np.full(14, 10.0))
    one, two = of(values, moved), of(values, plain)
    assert one.pearson == pytest.approx(two.pearson)
    found, wanted = one.pearson_interval, two.pearson_interval
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-6)


@pytest.mark.parametrize("num_revisions", [1, 2, 3])
def test_fewer_than_four_revisions_have_no_correlation(num_revisions):
    found = of(*example(num_revisions=num_revisions))
    assert math.isnan(found.pearson)
    assert math.isnan(found.spearman)
    assert math.isnan(found.pearson_interval.low)
    assert math.isnan(found.spearman_interval.high)


def test_four_have():
    assert math.isfinite(of(*example(num_revisions=4)).pearson)


def test_a_side_that_does_not_change_has_no_correlation():
    values, ratio = example()
    assert math.isnan(of(np.full(9, 0.1), ratio).pearson)
    flat = Ratio(np.repeat(ratio.numerators[:, :1], 9, axis=1), ratio.denominators)
    assert math.isnan(of(values, flat).spearman)


def test_one_cluster_has_no_interval():
    values, ratio = example(num_clusters=1)
    found = of(values, ratio)
    assert math.isfinite(found.pearson)
    assert math.isnan(found.pearson_interval.low)
    assert math.isnan(found.spearman_interval.low)


def test_clusters_that_all_agree_have_no_interval():
    values, ratio = example(num_clusters=1)
    alike = Ratio(np.repeat(ratio.numerators, 6, axis=0), np.repeat(ratio.denominators, 6))
    found = of(values, alike)
    assert math.isfinite(found.pearson)
    assert math.isnan(found.pearson_interval.low)
    assert math.isnan(found.spearman_interval.high)


def test_a_perfect_line_has_no_interval():
    values, _ = example()
    sizes = np.arange(3.0, 9.0)
    found = of(values, Ratio(sizes[:, None] * (1 + 2 * values), sizes))
    assert found.pearson == pytest.approx(1.0)
    assert math.isnan(found.pearson_interval.low)


@pytest.mark.parametrize("num_clusters", [2, 3])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_spearman_has_no_interval_with_two_or_three_clusters(num_clusters, confidence):
    values, ratio = example(num_clusters=num_clusters, noise=0.1)
    found = of(values, ratio, confidence=confidence)
    assert math.isfinite(found.spearman)
    assert math.isnan(found.spearman_interval.low)
    assert math.isnan(found.spearman_interval.high)


def test_spearman_has_no_interval_where_pearson_has_none():
    """Two clusters of five differ from the rest: many resamples are without any spread."""
    values, ratio = example(num_clusters=5, noise=0.1)
    alike = np.repeat(ratio.numerators[:1], 5, axis=0)
    alike[4] = ratio.numerators[4]
    found = of(values, Ratio(alike, np.full(5, ratio.denominators[0])))
    assert math.isnan(found.pearson_interval.low)
    assert math.isnan(found.spearman_interval.low)


@pytest.mark.parametrize("num_revisions", range(4, 40))
def test_a_perfect_order_is_exactly_one(num_revisions):
    values = np.arange(num_revisions) * 0.1 + 0.3
    for sign in (1, -1):
        found = of(values, Ratio(np.outer([1.0, 2.0], sign * values), np.array([1.0, 3.0])))
        assert (found.spearman, found.pearson) == (sign, sign)


def test_every_cohort_and_group_over_the_revisions_that_have_both(study):
    rng = np.random.default_rng(1)
    clusters = [f"c{n % 10}" for n in range(200)]
    groups = ["ab"[n % 2] for n in range(200)]
    checkpoints, shares = [], []
    for step in range(7):
        right = rng.random(200) < 0.3 + 0.1 * step
        named = {"clusters": clusters, "groups": groups, "revision": f"step{step}"}
        study.pairs("baseline", right.tolist(), **named)
        study.pairs("cohort", right.tolist(), **named)
        checkpoints.append(checkpoint(revision=f"step{step}", step=step))
        shares.append(right)
    wd = rng.gamma(2, 1, 7)
    points = [
        {
            "model": "m",
            "revision": f"step{step}",
            "cohort": name,
            "part": part,
            "statistic": statistic,
            "mean": math.nan if step == 3 and name == "one" else sign * wd[step],
        }
        for step in range(7)
        for name, sign in (("one", 1), ("two", -1))
        for part in ("cohort", "rest")
        for statistic in ("wd", "drift")
    ]
    found = by_revision(study.manifest, study.items, checkpoints)
    table = correlations(found, pd.DataFrame(points), resamples=199)
    assert len(table) == 2 * 2 * 3  # cohorts, metrics, groups
    rows = table[table["metric"] == "accuracy"].set_index(["cohort", "group"])
    keep = [0, 1, 2, 4, 5, 6]
    means = np.array([right.mean() for right in shares])
    one = rows.loc[("one", "all")]
    assert one["num_revisions"] == 6
    assert one["pearson"] == pytest.approx(stats.pearsonr(wd[keep], means[keep]).statistic)
    assert one["pearson_low"] < one["pearson"] < one["pearson_high"]
    odd = np.array([right[1::2].mean() for right in shares])
    two = rows.loc[("two", "b")]
    assert (two["num_revisions"], two["num_items"]) == (7, 100)
    assert two["spearman"] == pytest.approx(stats.spearmanr(-wd, odd).statistic)
    assert correlations(found, pd.DataFrame(points).iloc[:0]).empty
