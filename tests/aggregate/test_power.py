import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from sweeper.aggregate.power import minimal_detectable_effect, paired_accuracy_sd


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
