import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM

from sweeper.aggregate.intervals import (
    Ratio,
    centre,
    cluster_robust,
    crossed,
    degrees_of_freedom,
    seed_interval,
)


def _clustered(seed=0, num_clusters=9, num_estimates=3, size=None):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 30, num_clusters) if size is None else np.full(num_clusters, size)
    clusters = np.repeat(np.arange(num_clusters), sizes)
    shift = rng.normal(size=(num_clusters, num_estimates))
    values = shift[clusters] + rng.normal(size=(len(clusters), num_estimates))
    totals = np.zeros((num_clusters, num_estimates))
    np.add.at(totals, clusters, values)
    return clusters, values, totals, np.bincount(clusters).astype(float)


def _robust(numerators, denominators, confidence=0.95):
    return cluster_robust([[Ratio(numerators, denominators)]]).bounds(confidence)


def test_robust_interval_of_a_mean_by_hand():
    # Differences -1 0 | -1 0 0: mean -0.4; cluster residuals -1 + 0.8 = -0.2, -1 + 1.2 = 0.2.
    # Variance (0.04 / (1 - 2/5) + 0.04 / (1 - 3/5)) / 25 = (1/15 + 1/10) / 25; SE 0.0816497;
    # t with 1 df = 12.7062; half width 1.037457.
    low, high = _robust(np.array([[-1.0], [-1.0]]), np.array([2.0, 3.0]))
    assert (low[0], high[0]) == pytest.approx((-1.437457, 0.637457), abs=1e-6)


def test_robust_interval_of_a_ratio_by_hand():
    # 13 nats over 60 tokens; residuals 17/6, -1/2, -7/3 with shares 1/6, 1/2, 1/3:
    # 8.027778 / (5/6) + 0.25 / (1/2) + 5.444444 / (2/3) = 18.3; SE = sqrt(18.3) / 60 = 0.0712975.
    tokens = np.array([10.0, 30.0, 20.0])
    measure = [Ratio(np.array([[5.0], [6.0], [2.0]]), tokens)]
    found = cluster_robust([measure])
    assert math.sqrt(found.variance[0]) == pytest.approx(0.0712975, abs=1e-7)
    low, high = found.bounds(0.95)
    half = stats.t.ppf(0.975, degrees_of_freedom(measure)) * 0.0712975
    assert (low[0], high[0]) == pytest.approx((13 / 60 - half, 13 / 60 + half), abs=1e-6)


@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_with_clusters_of_equal_size_it_is_that_of_statsmodels(confidence):
    clusters, values, totals, sizes = _clustered(size=7)
    low, high = _robust(totals, sizes, confidence)
    found = cluster_robust([[Ratio(totals, sizes)]])
    for place in range(values.shape[1]):
        fit = sm.OLS(values[:, place], np.ones(len(values))).fit(
            cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True
        )
        expected = fit.conf_int(alpha=1 - confidence)[0]
        assert (low[place], high[place]) == pytest.approx(tuple(expected), rel=1e-10)
        assert found.p_values()[place] == pytest.approx(fit.pvalues[0], rel=1e-9)
    assert found.df == pytest.approx(np.full(3, 8.0), rel=1e-12)


def test_with_unequal_clusters_the_error_is_hc2_of_statsmodels():
    # A mean of items is the mean of cluster means, weighted by size; so is a rate per token.
    _, _, totals, sizes = _clustered()
    found = cluster_robust([[Ratio(totals, sizes)]])
    for place in range(totals.shape[1]):
        fit = sm.WLS(totals[:, place] / sizes, np.ones(len(sizes)), weights=sizes).fit(
            cov_type="HC2"
        )
        assert found.centre[place] == pytest.approx(fit.params[0], rel=1e-10)
        assert math.sqrt(found.variance[place]) == pytest.approx(fit.bse[0], rel=1e-10)


def _sized(sizes, num_ratios=1):
    return [Ratio(np.zeros((len(sizes), 1)), np.asarray(sizes, dtype=float))] * num_ratios


@pytest.mark.parametrize(("num_ratios", "exponent"), [(1, 2), (2, 1)])
def test_degrees_of_freedom_are_those_of_the_matrices(num_ratios, exponent):
    sizes = np.random.default_rng(4).integers(1, 40, 11).astype(float)
    share = sizes / sizes.sum()
    residual_maker = np.eye(11) - np.outer(share, np.ones(11))
    scaled = residual_maker / np.sqrt(1 - share)[:, None]
    covariance = scaled @ np.diag(sizes**exponent) @ scaled.T
    expected = np.trace(covariance) ** 2 / (covariance**2).sum()
    assert degrees_of_freedom(_sized(sizes, num_ratios)) == pytest.approx(expected, rel=1e-10)
    assert expected < 10


@pytest.mark.parametrize("number", [2, 5, 400])
@pytest.mark.parametrize("num_ratios", [1, 2])
def test_equal_clusters_have_one_degree_of_freedom_less_than_clusters(number, num_ratios):
    for sizes in (np.full(number, 7.0), np.concatenate([np.zeros(3), np.full(number, 7.0)])):
        found = degrees_of_freedom(_sized(sizes, num_ratios))
        assert found == pytest.approx(number - 1, rel=1e-9)


def test_linearised_error_agrees_with_simulated_ratios():
    # Spread of sum(num) / sum(den) over 20,000 fresh samples of 400 clusters; the standard
    # deviation of the spread itself is 1 / sqrt(2 * 20,000) = 0.5 %.
    rng = np.random.default_rng(7)
    tokens = rng.gamma(4, 25, (20_000, 400))
    nats = tokens * rng.normal(3, 0.5, tokens.shape)
    spread = (nats.sum(axis=1) / tokens.sum(axis=1)).std()
    errors = [
        math.sqrt(cluster_robust([[Ratio(nats[place][:, None], tokens[place])]]).variance[0])
        for place in range(50)
    ]
    assert np.mean(errors) == pytest.approx(spread, rel=0.03)


def _shift(seed=0, num_clusters=40):
    """A part of speech and all tokens of the same windows; one window has none of the former."""
    rng = np.random.default_rng(seed)
    rest = rng.integers(100, 400, num_clusters).astype(float)
    mine = rng.integers(0, 40, num_clusters).astype(float)
    mine[3] = 0.0
    nats = mine * rng.normal(0.3, 0.2, num_clusters)
    others = rest * rng.normal(0.1, 0.1, num_clusters)
    return nats, mine, nats + others, mine + rest


def _difference(nats, mine, all_nats, tokens):
    return [
        [Ratio(nats[:, None], mine), Ratio(all_nats[:, None], tokens, weight=-1.0)],
    ]


def test_difference_of_ratios_by_the_delta_method():
    nats, mine, all_nats, tokens = _shift()
    found = cluster_robust(_difference(nats, mine, all_nats, tokens))
    assert found.centre[0] == nats.sum() / mine.sum() - all_nats.sum() / tokens.sum()
    # Gradient of a/b - c/d at the means, and the sample covariance of the four totals.
    means = np.array([column.mean() for column in (nats, mine, all_nats, tokens)])
    gradient = [
        1 / means[1],
        -means[0] / means[1] ** 2,
        -1 / means[3],
        means[2] / means[3] ** 2,
    ]
    covariance = np.cov([nats, mine, all_nats, tokens], ddof=1) / len(nats)
    assert found.variance[0] == pytest.approx(gradient @ covariance @ gradient, rel=0.03)


def test_difference_of_ratios_agrees_with_the_jackknife():
    columns = _shift(seed=2, num_clusters=120)
    found = cluster_robust(_difference(*columns))
    keep = ~np.eye(120, dtype=bool)
    left_out = [_difference(*(column[mask] for column in columns)) for mask in keep]
    values = np.array([float(centre(strata)[0]) for strata in left_out])
    jackknife = 119 / 120 * ((values - values.mean()) ** 2).sum()
    assert found.variance[0] == pytest.approx(jackknife, rel=0.02)


def test_variances_of_independent_tasks_add_up():
    _, _, one, sizes = _clustered(seed=1)
    _, _, two, others = _clustered(seed=2, num_clusters=5)
    strata = [[Ratio(one, sizes, weight=0.5)], [Ratio(two, others, weight=-0.5)]]
    found = cluster_robust(strata)
    parts = [cluster_robust([[Ratio(one, sizes)]]), cluster_robust([[Ratio(two, others)]])]
    np.testing.assert_allclose(found.centre, (parts[0].centre - parts[1].centre) / 2)
    variances = [part.variance / 4 for part in parts]
    np.testing.assert_allclose(found.variance, sum(variances))
    welch = sum(variances) ** 2 / sum(
        variance**2 / part.df for variance, part in zip(variances, parts, strict=True)
    )
    np.testing.assert_allclose(found.df, welch)


def test_with_clusters_of_one_item_two_tasks_are_welch_s_test():
    rng = np.random.default_rng(8)
    one, two = rng.normal(0.3, 1.0, 30), rng.normal(0.0, 3.0, 12)
    strata = [
        [Ratio(one[:, None], np.ones(30))],
        [Ratio(two[:, None], np.ones(12), weight=-1.0)],
    ]
    expected = stats.ttest_ind(one, two, equal_var=False)
    found = cluster_robust(strata)
    assert found.df[0] == pytest.approx(expected.df, rel=1e-10)
    assert found.p_values()[0] == pytest.approx(expected.pvalue, rel=1e-10)
    below = stats.ttest_ind(one, two, equal_var=False, alternative="less").pvalue
    assert found.p_below()[0] == pytest.approx(below, rel=1e-10)


def test_p_value_and_interval_agree():
    _, _, totals, sizes = _clustered(num_estimates=200)
    found = cluster_robust([[Ratio(totals, sizes)]])
    low, high = found.bounds(0.95)
    np.testing.assert_array_equal(found.p_values() <= 0.05, (low >= 0) | (high <= 0))
    assert 0 < (found.p_values() <= 0.05).sum() < 200


def _two_way(num_clusters=8, num_seeds=5, seed=0):
    rng = np.random.default_rng(seed)
    effects = (
        rng.normal(0, 0.3, num_seeds)
        + rng.normal(0, 1, (num_clusters, 1))
        + rng.normal(0, 0.5, (num_clusters, num_seeds))
    )
    return effects, np.full(num_clusters, 10.0)


def test_two_way_variance_by_the_mean_squares():
    # Clusters of equal size are a two-way table with one entry each: with the mean squares of the
    # analysis of variance it is (MS_seeds + MS_clusters - MS_residual) / (S C).
    effects, sizes = _two_way()
    found = crossed([[Ratio(10 * effects, sizes)]])
    num_clusters, num_seeds = effects.shape
    rows, columns = effects.mean(axis=1), effects.mean(axis=0)
    residuals = effects - rows[:, None] - columns + effects.mean()
    of_clusters = num_seeds * rows.var(ddof=1)
    of_seeds = num_clusters * columns.var(ddof=1)
    within = (residuals**2).sum() / (num_clusters - 1) / (num_seeds - 1)
    expected = (of_clusters + of_seeds - within) / effects.size
    assert found.centre[0] == pytest.approx(effects.mean(), rel=1e-12)
    assert found.variance[0] == pytest.approx(expected, rel=1e-10)
    # Each way's degrees of freedom by its share of the variance, the residual taken from the 7.
    df = expected * effects.size / ((of_clusters - within) / 7 + of_seeds / 4)
    assert found.df[0] == pytest.approx(df, rel=1e-9)
    assert 4 < df < 7


def test_two_way_variance_is_that_of_a_fitted_crossed_model():
    # In a balanced table with positive components REML gives the analysis of variance's estimates:
    # the variance of the grand mean is sigma_s^2 / S + sigma_c^2 / C + sigma_e^2 / (S C).
    effects, sizes = _two_way(num_clusters=10, num_seeds=6, seed=3)
    clusters, seeds = np.indices(effects.shape)
    components = {
        "clusters": np.eye(10)[clusters.ravel()],
        "seeds": np.eye(6)[seeds.ravel()],
    }
    names = [[f"{name}{n}" for n in range(matrix.shape[1])] for name, matrix in components.items()]
    design = sm.regression.mixed_linear_model.VCSpec(
        list(components), [[names[0]], [names[1]]], [[m] for m in components.values()]
    )
    model = MixedLM(effects.ravel(), np.ones((60, 1)), groups=np.zeros(60), exog_vc=design)
    fit = model.fit(reml=True)
    of_clusters, of_seeds = fit.vcomp
    expected = of_clusters / 10 + of_seeds / 6 + fit.scale / 60
    found = crossed([[Ratio(10 * effects, sizes)]])
    assert found.variance[0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("num_seeds", [3, 10])
def test_two_way_variance_is_right_on_average(num_seeds):
    # Over 3,000 tables with fresh seeds and clusters, of unequal size, the mean of the variance is
    # the spread of the means. Monte Carlo error of the spread: 2.6 %.
    rng = np.random.default_rng(5)
    sizes = rng.integers(5, 40, 15).astype(float)
    means, variances = [], []
    for _ in range(3000):
        effects = (
            rng.normal(0, 0.2, num_seeds)
            + rng.normal(0, 0.4, (15, 1))
            + rng.normal(0, 0.3, (15, num_seeds))
        )
        found = crossed([[Ratio(sizes[:, None] * effects, sizes)]])
        means.append(found.centre[0])
        variances.append(found.variance[0])
    assert np.mean(variances) == pytest.approx(np.var(means), rel=0.1)


def test_two_way_variance_is_never_less_than_either_way_alone():
    rng = np.random.default_rng(6)
    for _ in range(200):
        # Nothing but interaction: the mean squares often subtract to less than one of the ways.
        totals, sizes = rng.normal(size=(6, 4)), np.ones(6)
        found = crossed([[Ratio(totals, sizes)]])
        mean = cluster_robust([[Ratio(totals.mean(axis=1, keepdims=True), sizes)]])
        seeds = totals.mean(axis=0).var(ddof=1) / 4
        assert found.variance[0] >= max(mean.variance[0], seeds) * (1 - 1e-12)
        assert found.df[0] >= 3 * (1 - 1e-12)


@pytest.mark.parametrize("num_clusters", [30, 67])
def test_three_seeds_cover_where_they_vary_as_much_as_clusters(num_clusters):
    # 4,000 studies, Monte Carlo error 0.35 %: with Satterthwaite's degrees of freedom 93.5, 92.1 %.
    rng = np.random.default_rng(5)
    sizes, inside = np.ones(num_clusters), 0
    for _ in range(4000):
        effects = (
            rng.normal(0, 0.4, 3)
            + rng.normal(0, 1, (num_clusters, 1))
            + rng.normal(0, 0.5, (num_clusters, 3))
        )
        low, high = crossed([[Ratio(effects, sizes)]]).bounds(0.95)
        inside += int(low[0] <= 0 <= high[0])
    assert 0.94 <= inside / 4000 <= 0.975


def test_without_spread_between_seeds_the_two_way_interval_is_the_clusters():
    _, _, totals, sizes = _clustered(num_estimates=1)
    repeated = crossed([[Ratio(np.repeat(totals, 4, axis=1), sizes)]])
    alone = cluster_robust([[Ratio(totals, sizes)]])
    np.testing.assert_allclose(repeated.bounds(0.95), alone.bounds(0.95), rtol=1e-9)


def test_two_seeds_or_one_cluster_have_no_two_way_interval():
    one_seed, two_seeds = _two_way(num_seeds=1)[0], _two_way(num_seeds=2)[0]
    for totals in (one_seed, two_seeds, np.arange(4.0)[None]):
        found = crossed([[Ratio(totals, np.ones(len(totals)))]])
        assert np.isnan(found.bounds(0.95)).all()
        assert found.centre[0] == pytest.approx(totals.mean())


def test_one_cluster_has_no_interval():
    assert np.isnan(_robust(np.array([[3.0, 0.0]]), np.array([10.0]))).all()
    # The second cluster has no part in the ratio.
    assert np.isnan(_robust(np.array([[3.0], [0.0]]), np.array([10.0, 0.0]))).all()


@pytest.mark.parametrize("constant", [0.0, -1.0, 0.1])
@pytest.mark.parametrize("num_clusters", [2, 12])
def test_without_any_spread_there_is_no_interval(constant, num_clusters):
    sizes = np.arange(3.0, 3.0 + num_clusters)
    found = cluster_robust([[Ratio(constant * sizes[:, None], sizes)]])
    assert np.isnan(found.bounds(0.95)).all()
    assert np.isnan(found.p_values()).all()


@pytest.mark.parametrize(
    ("numerators", "denominators", "confidence", "message"),
    [
        ([[1.0], [2.0]], [1.0, 0.0], 0.95, "positive denominators"),
        ([[1.0], [2.0]], [1.0, -1.0], 0.95, "positive denominators"),
        ([[1.0], [math.nan]], [1.0, 1.0], 0.95, "finite"),
        ([[1.0], [2.0]], [1.0, 1.0, 1.0], 0.95, "shapes"),
        ([[1.0], [2.0]], [1.0, 1.0], 95, "confidence = 95"),
    ],
)
def test_malformed_input_is_an_error(numerators, denominators, confidence, message):
    with pytest.raises(ValueError, match=message):
        _robust(np.array(numerators), np.array(denominators), confidence)


def test_seed_interval_is_that_of_scipy():
    effects = np.array([0.02, -0.01, 0.005, 0.03])
    expected = stats.ttest_1samp(effects, 0).confidence_interval(0.9)
    interval = seed_interval(effects, confidence=0.9)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_seed_interval_by_hand():
    # Mean 0.02, sd 0.0141421, SE 0.01, t with 1 df = 12.7062.
    interval = seed_interval(np.array([0.01, 0.03]))
    assert (interval.low, interval.high) == pytest.approx((-0.107062, 0.147062), abs=1e-6)


@pytest.mark.parametrize("effects", [[], [0.1], [0.1, 0.1]])
def test_fewer_than_two_different_seeds_have_no_interval(effects):
    interval = seed_interval(np.array(effects))
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
