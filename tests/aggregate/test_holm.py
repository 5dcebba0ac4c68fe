import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from sweeper.aggregate.holm import holm, with_holm


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04; never falling: 0.06.
    np.testing.assert_allclose(
        holm(np.array([0.04, 0.01, 0.03, 0.02])), [0.06, 0.04, 0.06, 0.06], rtol=1e-12
    )
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert holm(np.array([0.03])).tolist() == [0.03]
    assert holm(np.zeros(0)).tolist() == []


@pytest.mark.parametrize("number", [2, 17, 500])
def test_holm_is_that_of_statsmodels(number):
    rng = np.random.default_rng(number)
    p = rng.beta(0.3, 1, number)
    p[: number // 3] = p[0]  # ties
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12)


def test_families_do_not_count_each_other_and_nan_is_no_test():
    rng = np.random.default_rng(1)
    p, families = rng.beta(0.3, 1, 300), rng.integers(0, 7, 300)
    p[rng.random(300) < 0.2] = np.nan
    adjusted = holm(p, families)
    assert np.array_equal(np.isnan(adjusted), np.isnan(p))
    for family in range(7):
        mine = (families == family) & ~np.isnan(p)
        np.testing.assert_allclose(adjusted[mine], multipletests(p[mine], method="holm")[1])


def test_family_wise_error_is_kept():
    # 20 true nulls, correlated: some rejected in at most 5 % of 4,000 studies (error 0.35 %).
    rng = np.random.default_rng(2)
    from scipy import stats

    z = rng.normal(size=(4000, 1)) + rng.normal(size=(4000, 20))
    p = 2 * stats.norm.sf(np.abs(z) / np.sqrt(2))
    families = np.repeat(np.arange(4000), 20)
    rejected = (holm(p.ravel(), families) <= 0.05).reshape(4000, 20).any(axis=1)
    assert 0.01 < rejected.mean() <= 0.05 + 3 * 0.0035


def test_estimates_are_adjusted_within_model_metric_and_kind_of_group():
    rows = [
        # model, metric, group, p, expected
        ("m", "accuracy", "all", 0.01, 0.03),
        ("m", "accuracy", "all", 0.02, 0.04),
        ("m", "accuracy", "all", 0.9, 0.9),
        ("m", "accuracy", "all", np.nan, np.nan),
        ("m", "accuracy", "npi", 0.01, 0.02),
        ("m", "accuracy", "islands", 0.04, 0.04),
        ("m", "nll", "all", 0.04, 0.04),
        ("n", "accuracy", "all", 0.04, 0.04),
    ]
    frame = pd.DataFrame(rows, columns=["model", "metric", "group", "p_cluster", "expected"])
    adjusted = with_holm(frame.assign(revision="main", p_random=frame["p_cluster"]))
    np.testing.assert_allclose(adjusted["p_holm"], frame["expected"])
    np.testing.assert_allclose(adjusted["p_random_holm"], frame["expected"])
    assert adjusted["num_tests"].tolist() == [3, 3, 3, 3, 2, 2, 1, 1]
