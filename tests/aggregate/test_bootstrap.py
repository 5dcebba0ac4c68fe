import itertools
import math

import numpy as np
import pytest
from scipy import stats

from sweeper.aggregate import bootstrap
from sweeper.aggregate.bootstrap import cluster_bootstrap, resampling_generator
from sweeper.aggregate.intervals import Ratio


def _clustered(seed=0, num_clusters=9, num_estimates=3):
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(num_clusters), rng.integers(2, 30, num_clusters))
    shift = rng.normal(size=(num_clusters, num_estimates))
    values = shift[clusters] + rng.normal(size=(len(clusters), num_estimates))
    totals = np.zeros((num_clusters, num_estimates))
    np.add.at(totals, clusters, values)
    return clusters, values, totals, np.bincount(clusters).astype(float)


def _resampled(numerators, denominators, seed=0, resamples=2000):
    strata = [[Ratio(numerators, denominators)]]
    return cluster_bootstrap(strata, [np.random.default_rng(seed)], resamples)


def _bootstrap(numerators, denominators, seed=0, resamples=2000, confidence=0.95):
    return _resampled(numerators, denominators, seed, resamples).bounds(confidence)


def _error(values, sizes):
    """Cluster-robust standard error of a ratio of totals (Liang and Zeger 1986)."""
    residuals = values - sizes * values.sum() / sizes.sum()
    number = len(values)
    return math.sqrt(number / (number - 1) * (residuals**2).sum()) / sizes.sum()


def test_it_equals_a_loop_over_resampled_items():
    clusters, values, totals, sizes = _clustered(num_clusters=6)
    counts = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=199)
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
        half = sorted(distances)[189] * _error(totals[:, place], sizes)
        low, high = _bootstrap(totals[:, [place]], sizes, resamples=199)
        expected = (column.mean() - half, column.mean() + half)
        assert (low[0], high[0]) == pytest.approx(expected, rel=1e-9)


def test_difference_of_ratios_equals_a_loop_over_resampled_windows():
    rng = np.random.default_rng(1)
    tokens, mine = rng.integers(50, 90, 7).astype(float), rng.integers(1, 20, 7).astype(float)
    mine[2] = 0.0
    nats, all_nats = mine * rng.normal(1, 0.5, 7), tokens * rng.normal(2, 0.5, 7)

    def shifted(drawn):
        rates = nats[drawn].sum() / mine[drawn].sum(), all_nats[drawn].sum() / tokens[drawn].sum()
        residuals = (nats - mine * rates[0])[drawn] / mine[drawn].sum()
        residuals = residuals - (all_nats - tokens * rates[1])[drawn] / tokens[drawn].sum()
        return rates[0] - rates[1], math.sqrt(7 / 6 * (residuals**2).sum())

    estimate, error = shifted(np.arange(7))
    counts = np.random.default_rng(0).multinomial(7, np.full(7, 1 / 7), size=199)
    distances = []
    for count in counts:
        value, spread = shifted(np.repeat(np.arange(7), count))
        distances.append(abs(value - estimate) / spread)
    measure = [Ratio(nats[:, None], mine), Ratio(all_nats[:, None], tokens, weight=-1.0)]
    found = cluster_bootstrap([measure], [np.random.default_rng(0)], 199)
    np.testing.assert_allclose(found.distances[:, 0], distances, rtol=1e-8, atol=1e-12)
    low, high = found.bounds(0.95)
    half = sorted(distances)[189] * error
    assert (low[0], high[0]) == pytest.approx((estimate - half, estimate + half), rel=1e-9)


def test_tasks_are_resampled_by_themselves():
    _, _, one, sizes = _clustered(seed=1, num_estimates=1)
    _, _, two, others = _clustered(seed=2, num_clusters=5, num_estimates=1)
    strata = [[Ratio(one, sizes, weight=0.5)], [Ratio(two, others, weight=-0.5)]]
    generators = [np.random.default_rng(seed) for seed in (3, 4)]
    found = cluster_bootstrap(strata, generators, 199)
    counts = [
        np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=199)
        for seed, number in ((3, 9), (4, 5))
    ]
    estimate = (one.sum() / sizes.sum() - two.sum() / others.sum()) / 2
    for row, (first, second) in enumerate(zip(*counts, strict=True)):
        parts = [
            (
                totals[np.repeat(np.arange(len(count)), count), 0],
                weights[np.repeat(np.arange(len(count)), count)],
            )
            for totals, weights, count in ((one, sizes, first), (two, others, second))
        ]
        means = [totals.sum() / weights.sum() for totals, weights in parts]
        error = math.hypot(*(_error(*part) / 2 for part in parts))
        distance = abs((means[0] - means[1]) / 2 - estimate) / error
        assert found.distances[row, 0] == pytest.approx(distance, rel=1e-8)


def test_it_agrees_with_all_resamples_that_there_are():
    _, _, totals, sizes = _clustered(seed=5, num_clusters=7, num_estimates=1)
    low, high = _bootstrap(totals, sizes, resamples=20_000)
    critical = (high - low)[0] / 2 / _error(totals[:, 0], sizes)
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


def test_it_does_not_depend_on_the_chunk(monkeypatch):
    _, _, totals, sizes = _clustered()
    whole = _bootstrap(totals, sizes)
    monkeypatch.setattr(bootstrap, "_CHUNK", 1000)
    np.testing.assert_allclose(_bootstrap(totals, sizes), whole, rtol=1e-12)


def test_one_estimate_does_not_depend_on_the_others():
    _, _, totals, sizes = _clustered()
    together = np.array(_bootstrap(totals, sizes))
    alone = np.array(_bootstrap(totals[:, [1]], sizes))
    np.testing.assert_allclose(alone[:, 0], together[:, 1], rtol=1e-12)


def test_it_has_the_units_of_the_data():
    _, _, totals, sizes = _clustered()
    scaled = np.array(_bootstrap(1e-6 * totals, sizes))
    np.testing.assert_allclose(scaled, 1e-6 * np.array(_bootstrap(totals, sizes)), rtol=1e-9)
    moved = np.array(_bootstrap(totals + 1000 * sizes[:, None], sizes))
    np.testing.assert_allclose(moved - 1000, _bootstrap(totals, sizes), atol=1e-8)


def test_a_weight_is_a_factor():
    _, _, totals, sizes = _clustered()
    found = cluster_bootstrap(
        [[Ratio(totals, sizes, weight=-0.25)]], [np.random.default_rng(0)], 2000
    ).bounds(0.95)
    low, high = _bootstrap(totals, sizes)
    np.testing.assert_allclose(found, (-high / 4, -low / 4), rtol=1e-9)


def test_a_band_is_the_largest_distance_over_its_members():
    _, _, totals, sizes = _clustered(num_estimates=5, num_clusters=15)
    found = _resampled(totals, sizes, resamples=999)
    low, high = found.band([0, 2, 3], 0.95)
    largest = found.distances[:, [0, 2, 3]].max(axis=1)
    critical = np.sort(largest)[949]  # ceil(0.95 * 1000) = 950
    errors = np.array([_error(totals[:, place], sizes) for place in (0, 2, 3)])
    np.testing.assert_allclose((high - low) / 2, critical * errors, rtol=1e-9)
    own = [end[[0, 2, 3]] for end in found.bounds(0.95)]
    assert (low < own[0]).all()
    assert (high > own[1]).all()
    # 95 % of the resamples are inside of the band at all of its members at once.
    assert (largest <= critical).mean() == pytest.approx(0.95, abs=0.002)


def test_a_band_over_one_is_the_interval_and_over_copies_too():
    _, _, totals, sizes = _clustered(num_estimates=1)
    found = _resampled(np.repeat(totals, 4, axis=1), sizes)
    expected = np.repeat(_bootstrap(totals, sizes), 4, axis=1)
    np.testing.assert_allclose(found.band([1], 0.95), expected[:, :1])
    np.testing.assert_allclose(found.band(range(4), 0.95), expected)


def test_an_estimate_without_interval_has_no_band_and_widens_none():
    _, _, totals, sizes = _clustered(num_estimates=3, num_clusters=20)
    totals[2:, 1] = 0.0  # two of twenty clusters differ: too little for a bootstrap
    found = _resampled(totals, sizes)
    low, high = found.band([0, 1, 2], 0.95)
    assert np.isnan([low[1], high[1]]).all()
    np.testing.assert_allclose((low[[0, 2]], high[[0, 2]]), found.band([0, 2], 0.95))
    assert np.isnan(found.band([1], 0.95)).all()


def test_one_cluster_has_no_interval():
    assert np.isnan(_bootstrap(np.array([[3.0, 0.0]]), np.array([10.0]))).all()


@pytest.mark.parametrize("num_clusters", [2, 3])
def test_few_clusters_have_no_interval(num_clusters):
    # All clusters drawn are the same one in 2 / 4 and in 3 / 27 of the resamples: more than 5 %.
    totals = np.arange(1.0, num_clusters + 1)[:, None]
    assert np.isnan(_bootstrap(totals, np.full(num_clusters, 10.0))).all()


def test_effects_in_two_of_twenty_clusters_have_no_interval():
    # (18/20)^20 = 12 % of the resamples hold neither: no spread, no standard error.
    totals = np.zeros((20, 1))
    totals[:2] = -1.0
    assert np.isnan(_bootstrap(totals, np.full(20, 10.0))).all()


def test_a_part_of_speech_in_two_of_twenty_windows_has_no_interval():
    tokens, mine = np.full(20, 50.0), np.zeros(20)
    mine[:2] = 5.0
    rng = np.random.default_rng(0)
    nats, all_nats = mine * rng.normal(2, 1, 20), tokens * rng.normal(2, 1, 20)
    measure = [Ratio(nats[:, None], mine), Ratio(all_nats[:, None], tokens, weight=-1.0)]
    found = cluster_bootstrap([measure], [rng], 999)
    assert np.isinf(found.distances).mean() > 0.05
    assert np.isnan(found.bounds(0.95)).all()


@pytest.mark.parametrize("constant", [0.0, -1.0, 0.1])
@pytest.mark.parametrize("num_clusters", [2, 12])
def test_without_any_spread_there_is_no_interval(constant, num_clusters):
    sizes = np.arange(3.0, 3.0 + num_clusters)
    assert np.isnan(_bootstrap(constant * sizes[:, None], sizes)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"confidence": 95}, "confidence = 95"), ({"resamples": 18}, "resamples = 18")],
)
def test_impossible_options_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        _bootstrap(np.array([[1.0], [2.0]]), np.array([1.0, 1.0]), **options)


def test_nineteen_resamples_are_the_fewest_for_95_percent():
    _, _, totals, sizes = _clustered()
    assert np.isfinite(_bootstrap(totals, sizes, resamples=19)).all()


def test_the_interval_is_near_the_t_interval_of_many_clusters():
    _, _, totals, sizes = _clustered(num_clusters=400, num_estimates=1)
    low, high = _bootstrap(totals, sizes)
    half = stats.norm.ppf(0.975) * _error(totals[:, 0], sizes)
    assert (high - low)[0] / 2 == pytest.approx(half, rel=0.06)


def test_generator_comes_from_task_and_group():
    draws = [resampling_generator(*names).random() for names in (("t", "g"), ("t", "g"))]
    assert draws[0] == draws[1]
    others = [resampling_generator(*names).random() for names in (("t", "h"), ("u", "g"))]
    assert len({draws[0], *others}) == 3
