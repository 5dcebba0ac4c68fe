import itertools
import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from sweeper.aggregate import intervals
from sweeper.aggregate.intervals import (
    cluster_bootstrap,
    cluster_robust,
    resampling_generator,
    seed_interval,
)


def _clustered(seed=0, num_clusters=9, num_estimates=3):
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(num_clusters), rng.integers(2, 30, num_clusters))
    shift = rng.normal(size=(num_clusters, num_estimates))
    values = shift[clusters] + rng.normal(size=(len(clusters), num_estimates))
    totals = np.zeros((num_clusters, num_estimates))
    np.add.at(totals, clusters, values)
    return clusters, values, totals, np.bincount(clusters).astype(float)


def _bootstrap(numerators, denominators, seed=0, **options):
    generator = np.random.default_rng(seed)
    return cluster_bootstrap(numerators, denominators, generator=generator, **options)


def test_robust_interval_of_a_mean_by_hand():
    # Differences -1 0 | -1 0 0: mean -0.4; cluster residuals -1 + 0.8 = -0.2, -1 + 1.2 = 0.2.
    # SE = sqrt(2/1 * (0.04 + 0.04)) / 5 = 0.08; t with 1 df = 12.7062; half width 1.016496.
    low, high = cluster_robust(np.array([[-1.0], [-1.0]]), np.array([2.0, 3.0]))
    assert (low[0], high[0]) == pytest.approx((-1.416496, 0.616496), abs=1e-6)


def test_robust_interval_of_a_ratio_by_hand():
    # 13 nats over 60 tokens; residuals 17/6, -1/2, -7/3 with sum of squares 13.72222;
    # SE = sqrt(3/2 * 13.72222) / 60 = 0.0756148; t with 2 df = 4.302653; half width 0.325344.
    low, high = cluster_robust(np.array([[5.0], [6.0], [2.0]]), np.array([10.0, 30.0, 20.0]))
    assert (low[0], high[0]) == pytest.approx((13 / 60 - 0.325344, 13 / 60 + 0.325344), abs=1e-6)


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_robust_interval_of_a_mean_is_that_of_statsmodels(confidence):
    clusters, values, totals, sizes = _clustered()
    low, high = cluster_robust(totals, sizes, confidence=confidence)
    for place in range(values.shape[1]):
        fit = sm.OLS(values[:, place], np.ones(len(values))).fit(
            cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True
        )
        expected = fit.conf_int(alpha=1 - confidence)[0]
        assert (low[place], high[place]) == pytest.approx(tuple(expected), rel=1e-10)


def test_robust_interval_of_a_ratio_is_that_of_weighted_least_squares():
    # A rate per token is the weighted mean of the windows' rates with tokens as weights.
    rng = np.random.default_rng(3)
    tokens = rng.integers(50, 500, 40).astype(float)
    nats = tokens * rng.normal(3, 0.2, 40)
    documents = np.arange(40) % 8
    totals = np.bincount(documents, nats)[:, None]
    low, high = cluster_robust(totals, np.bincount(documents, tokens))
    fit = sm.WLS(nats / tokens, np.ones(40), weights=tokens).fit(
        cov_type="cluster", cov_kwds={"groups": documents}, use_t=True
    )
    assert (low[0], high[0]) == pytest.approx(tuple(fit.conf_int()[0]), rel=1e-10)


def test_linearised_error_agrees_with_simulated_ratios():
    # Spread of sum(num) / sum(den) over 20,000 fresh samples of 400 clusters; the standard
    # deviation of the spread itself is 1 / sqrt(2 * 20,000) = 0.5 %.
    rng = np.random.default_rng(7)
    tokens = rng.gamma(4, 25, (20_000, 400))
    nats = tokens * rng.normal(3, 0.5, tokens.shape)
    spread = (nats.sum(axis=1) / tokens.sum(axis=1)).std()
    quantile = stats.t.ppf(0.975, 399)
    errors = []
    for sample in range(50):
        low, high = cluster_robust(nats[sample][:, None], tokens[sample])
        errors.append((high[0] - low[0]) / 2 / quantile)
    assert np.mean(errors) == pytest.approx(spread, rel=0.03)


def test_bootstrap_equals_a_loop_over_resampled_items():
    clusters, values, totals, sizes = _clustered(num_clusters=6)
    counts = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=199)
    quantile = stats.t.ppf(0.975, 5)
    for place in range(values.shape[1]):
        column, distances = values[:, place], []
        for count in counts:
            # Each drawn cluster comes in as often as drawn, every copy as a cluster of its own.
            drawn = np.repeat(np.arange(6), count)
            parts = [column[clusters == cluster] for cluster in drawn]
            mean = np.concatenate(parts).mean()
            sums = np.array([(part - mean).sum() for part in parts])
            error = math.sqrt(6 / 5 * (sums**2).sum()) / sum(map(len, parts))
            distances.append(abs(mean - column.mean()) / error)
        # ceil(0.95 * 200) = 190
        critical = sorted(distances)[189]
        low, high = cluster_robust(totals[:, [place]], sizes)
        half = (high[0] - low[0]) / 2 / quantile * critical
        low, high = _bootstrap(totals[:, [place]], sizes, resamples=199)
        expected = (column.mean() - half, column.mean() + half)
        assert (low[0], high[0]) == pytest.approx(expected, rel=1e-9)


def test_bootstrap_agrees_with_all_resamples_that_there_are():
    _, _, totals, sizes = _clustered(seed=5, num_clusters=7, num_estimates=1)
    num_resamples = 20_000
    low, high = _bootstrap(totals, sizes, resamples=num_resamples)
    robust = cluster_robust(totals, sizes)
    critical = (high - low)[0] / (robust[1] - robust[0])[0] * stats.t.ppf(0.975, 6)
    estimate = totals.sum() / sizes.sum()
    within = 0.0
    for drawn in itertools.combinations_with_replacement(range(7), 7):
        count = np.bincount(drawn, minlength=7)
        share = math.factorial(7) / math.prod(map(math.factorial, count.tolist())) / 7**7
        mean = count @ totals[:, 0] / (count @ sizes)
        spread = count @ (totals[:, 0] - mean * sizes) ** 2
        if spread > 1e-9:
            error = math.sqrt(7 / 6 * spread) / (count @ sizes)
            within += share * (abs(mean - estimate) / error <= critical)
    # One resample weighs up to 7!/7^7 = 0.6 %; Monte Carlo error sqrt(0.95 * 0.05 / R) = 0.15 %.
    assert within == pytest.approx(0.95, abs=0.0062 + 4 * 0.00154)


def test_bootstrap_does_not_depend_on_the_chunk(monkeypatch):
    _, _, totals, sizes = _clustered()
    whole = _bootstrap(totals, sizes)
    monkeypatch.setattr(intervals, "_CHUNK", 1000)
    np.testing.assert_allclose(_bootstrap(totals, sizes), whole, rtol=1e-12)


def test_bootstrap_of_one_estimate_does_not_depend_on_the_others():
    _, _, totals, sizes = _clustered()
    together = np.array(_bootstrap(totals, sizes))
    alone = np.array(_bootstrap(totals[:, [1]], sizes))
    np.testing.assert_allclose(alone[:, 0], together[:, 1], rtol=1e-12)


def test_bootstrap_has_the_units_of_the_data():
    _, _, totals, sizes = _clustered()
    scaled = np.array(_bootstrap(1e-6 * totals, sizes))
    np.testing.assert_allclose(scaled, 1e-6 * np.array(_bootstrap(totals, sizes)), rtol=1e-9)
    moved = np.array(_bootstrap(totals + 1000 * sizes[:, None], sizes))
    np.testing.assert_allclose(moved - 1000, _bootstrap(totals, sizes), atol=1e-8)


@pytest.mark.parametrize("make", [cluster_robust, _bootstrap])
def test_one_cluster_has_no_interval(make):
    low, high = make(np.array([[3.0, 0.0]]), np.array([10.0]))
    assert np.isnan([low, high]).all()


@pytest.mark.parametrize("num_clusters", [2, 3])
def test_few_clusters_have_no_bootstrap_interval(num_clusters):
    # All clusters drawn are the same one in 2 / 4 and in 3 / 27 of the resamples: more than 5 %.
    totals = np.arange(1.0, num_clusters + 1)[:, None]
    assert np.isnan(_bootstrap(totals, np.full(num_clusters, 10.0))).all()


def test_effects_in_two_of_twenty_clusters_have_no_bootstrap_interval():
    # (18/20)^20 = 12 % of the resamples hold neither: no spread, no standard error.
    totals = np.zeros((20, 1))
    totals[:2] = -1.0
    assert np.isnan(_bootstrap(totals, np.full(20, 10.0))).all()
    assert np.isfinite(cluster_robust(totals, np.full(20, 10.0))).all()


@pytest.mark.parametrize("make", [cluster_robust, _bootstrap])
@pytest.mark.parametrize("constant", [0.0, -1.0, 0.1])
@pytest.mark.parametrize("num_clusters", [2, 12])
def test_without_any_spread_there_is_no_interval(make, constant, num_clusters):
    sizes = np.arange(3.0, 3.0 + num_clusters)
    low, high = make(constant * sizes[:, None], sizes)
    assert np.isnan([low[0], high[0]]).all()


@pytest.mark.parametrize(
    ("numerators", "denominators", "options", "message"),
    [
        ([[1.0], [2.0]], [1.0, 0.0], {}, "positive denominators"),
        ([[1.0], [math.nan]], [1.0, 1.0], {}, "finite"),
        ([[1.0], [2.0]], [1.0, 1.0, 1.0], {}, "shapes"),
        ([[1.0], [2.0]], [1.0, 1.0], {"confidence": 95}, "confidence = 95"),
        ([[1.0], [2.0]], [1.0, 1.0], {"resamples": 18}, "resamples = 18"),
    ],
)
def test_malformed_input_is_an_error(numerators, denominators, options, message):
    with pytest.raises(ValueError, match=message):
        _bootstrap(np.array(numerators), np.array(denominators), **options)


def test_nineteen_resamples_are_the_fewest_for_95_percent():
    _, _, totals, sizes = _clustered()
    assert np.isfinite(_bootstrap(totals, sizes, resamples=19)).all()


def test_generator_comes_from_task_and_group():
    draws = [resampling_generator(*names).random() for names in (("t", "g"), ("t", "g"))]
    assert draws[0] == draws[1]
    others = [resampling_generator(*names).random() for names in (("t", "h"), ("u", "g"))]
    assert len({draws[0], *others}) == 3


def test_seed_interval_is_that_of_scipy():
    effects = np.array([0.02, -0.01, 0.005, 0.03])
    expected = stats.ttest_1samp(effects, 0).confidence_interval(0.9)
    interval = seed_interval(effects, confidence=0.9)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_seed_interval_by_hand():
    # Mean 0.02, sd 0.0141421, SE 0.01, t with 1 df = 12.7062.
    interval = seed_interval(np.array([0.01, 0.03]))
    assert (interval.low, interval.high) == pytest.approx((-0.107062, 0.147062), abs=1e-6)


@pytest.mark.parametrize("effects", [[], [0.1]])
def test_fewer_than_two_seeds_have_no_interval(effects):
    interval = seed_interval(np.array(effects))
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
