import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from sweeper.aggregate.power import (
    PlannedTask,
    minimal_detectable_contrast,
    minimal_detectable_effect,
    paired_accuracy_sd,
)


def test_minimal_detectable_effect_by_hand():
    # 200 items in 5 clusters of 40: design effect 1 + 39 * 0.1 = 4.9; SE = 0.5 * sqrt(4.9 / 200)
    # = 0.0782624; t(0.975, 4) + t(0.8, 4) = 2.776445 + 0.940965; product 0.290934.
    assert minimal_detectable_effect(200, 5, 0.5, 0.1) == pytest.approx(0.290934, abs=1e-6)


def test_without_clustering_it_is_that_of_the_paired_t_test():
    exact = TTestPower().solve_power(nobs=60, alpha=0.05, power=0.8, alternative="two-sided")
    assert minimal_detectable_effect(60, 60, 2.0, 0.3) == pytest.approx(2.0 * exact, rel=0.01)


def test_power_is_as_stated_in_simulated_studies():
    # Twelve clusters of 20 items with icc 0.2: rejection rate 0.8 of 20,000 studies; the formula
    # is known to be a little conservative with few clusters.
    effect = minimal_detectable_effect(240, 12, 1.0, 0.2)
    rng = np.random.default_rng(2)
    means = effect + rng.normal(0, math.sqrt(0.2 + 0.8 / 20), (20_000, 12))
    rejected = stats.ttest_1samp(means, 0, axis=1).pvalue < 0.05
    assert rejected.mean() == pytest.approx(0.8, abs=0.02)


def test_one_cluster_detects_nothing():
    assert math.isnan(minimal_detectable_effect(100, 1, 0.5, 0.1))
    assert math.isnan(minimal_detectable_effect(0, 0, 0.5, 0.1))


def test_default_sd_is_the_root_of_the_discordant_share():
    assert paired_accuracy_sd() == math.sqrt(0.2)
    # Differences -1 x 2, 1 x 1, 0 x 7: share 0.3, variance 0.3 - 0.1^2 = 0.29.
    differences = np.array([-1, -1, 1, *[0] * 7])
    assert differences.std() == pytest.approx(math.sqrt(0.29))
    assert paired_accuracy_sd(0.3) >= differences.std()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((5, 10, 0.5, 0.1), "num_clusters"),
        ((10, 5, -0.5, 0.1), "sd"),
        ((10, 5, math.nan, 0.1), "sd"),
        ((10, 5, 0.5, 1.1), "icc"),
        ((10, 5, 0.5, 0.1, 95), "confidence"),
        ((10, 5, 0.5, 0.1, 0.95, 1.0), "power"),
    ],
)
def test_impossible_studies_are_errors(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} = "):
        minimal_detectable_effect(*arguments)


def test_impossible_discordance_is_an_error():
    with pytest.raises(ValueError, match=r"discordance = 1\.5"):
        paired_accuracy_sd(1.5)


def _task(num_items, num_clusters, sd=1.0, icc=0.0):
    return PlannedTask(num_items=num_items, num_clusters=num_clusters, sd=sd, icc=icc)


def test_contrast_by_hand():
    # 200 items in 5 clusters: SE^2 = 0.25 * 4.9 / 200 = 0.006125 on 4 df; 100 in 100: 0.0025 on 99.
    # Weights 1 and -1: 0.008625 on 0.008625^2 / (0.006125^2 / 4 + 0.0025^2 / 99) = 7.8793 df.
    tasks = [_task(200, 5, 0.5, 0.1), _task(100, 100, 0.5, 0.1)]
    quantiles = stats.t.ppf(0.975, 7.8793) + stats.t.ppf(0.8, 7.8793)
    expected = quantiles * math.sqrt(0.008625)
    assert minimal_detectable_contrast(tasks, [1, -1]) == pytest.approx(expected, rel=1e-4)
    halved = minimal_detectable_contrast(tasks, [0.5, -0.5])
    assert halved == pytest.approx(expected / 2, rel=1e-4)


def test_one_task_of_weight_one_is_the_plain_effect():
    expected = minimal_detectable_effect(200, 5, 0.5, 0.1)
    assert minimal_detectable_contrast([_task(200, 5, 0.5, 0.1)], [1.0]) == expected


def test_many_seeds_without_spread_change_nothing_and_few_with_spread_do():
    tasks = [_task(240, 12, 0.5, 0.2)]
    plain = minimal_detectable_contrast(tasks, [1.0])
    assert minimal_detectable_contrast(tasks, [1.0], num_seeds=10) == pytest.approx(plain)
    few = minimal_detectable_contrast(tasks, [1.0], num_seeds=3, seed_sd=0.1)
    more = minimal_detectable_contrast(tasks, [1.0], num_seeds=30, seed_sd=0.1)
    assert few > more > plain
    for too_few in (1, 2):
        assert math.isnan(minimal_detectable_contrast(tasks, [1.0], num_seeds=too_few, seed_sd=0.1))


def test_power_of_a_contrast_with_random_controls_is_as_stated():
    # Two tasks of 12 and 20 clusters, ten controls: rejection rate 0.8 of 20,000 studies.
    tasks = [_task(240, 12, 1.0, 0.2), _task(100, 20, 1.0, 0.1)]
    effect = minimal_detectable_contrast(tasks, [1, -1], num_seeds=10, seed_sd=0.2)
    rng = np.random.default_rng(3)
    one = rng.normal(0, math.sqrt(0.2 + 0.8 / 20), (20_000, 12))
    two = rng.normal(0, math.sqrt(0.1 + 0.9 / 5), (20_000, 20))
    seeds = rng.normal(0, 0.2, (20_000, 10))
    parts = [(x.var(axis=1, ddof=1) / x.shape[1], x.shape[1] - 1) for x in (one, two, seeds)]
    total = sum(variance for variance, _ in parts)
    df = total**2 / sum(variance**2 / df for variance, df in parts)
    found = effect + one.mean(axis=1) - two.mean(axis=1) - seeds.mean(axis=1)
    rejected = 2 * stats.t.sf(np.abs(found) / np.sqrt(total), df) < 0.05
    assert rejected.mean() == pytest.approx(0.8, abs=0.02)


def test_a_contrast_with_a_task_of_one_cluster_detects_nothing():
    assert math.isnan(minimal_detectable_contrast([_task(50, 10), _task(50, 1)], [1, -1]))
    with pytest.raises(ValueError, match=r"seed_sd = -1"):
        minimal_detectable_contrast([_task(50, 10)], [1], num_seeds=3, seed_sd=-1)
