import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sweeper.neurons.paired import paired_mean


@given(st.integers(2, 30), st.integers(0, 10_000))
def test_the_interval_is_that_of_statsmodels_with_clusters(num_clusters, seed):
    """A mean over tokens is a regression on a constant; its clusters are the windows."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 9, num_clusters)
    clusters = np.repeat(np.arange(num_clusters), sizes)
    values = random.normal(0.3, 1, sizes.sum()) + random.normal(0, 1, num_clusters)[clusters]
    found = paired_mean(np.bincount(clusters, values), sizes.astype(float))
    groups = {"groups": clusters}
    fit = sm.OLS(values, np.ones_like(values)).fit(cov_type="cluster", cov_kwds=groups)
    half = stats.t.ppf(0.975, num_clusters - 1) * fit.bse[0]
    assert found.value == pytest.approx(values.mean(), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))


def test_too_little_data_gives_no_interval():
    alone = paired_mean(np.array([3.0]), np.array([10.0]))
    assert alone.value == 0.3
    assert np.isnan([alone.low, alone.high]).all()
    agreed = paired_mean(np.array([3.0, 6.0]), np.array([10.0, 20.0]))
    assert agreed.value == pytest.approx(0.3)
    assert np.isnan([agreed.low, agreed.high]).all()
