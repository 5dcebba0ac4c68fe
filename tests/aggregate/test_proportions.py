import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from sweeper.aggregate.proportions import agrees, implied_sizes, wilson


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("right", "size"), [(0, 20), (1, 20), (13, 20), (20, 20), (817, 1000)])
def test_wilson_by_statsmodels_and_scipy(right, size, confidence):
    low, high = wilson(np.array([right / size]), np.array([float(size)]), confidence)
    expected = proportion_confint(right, size, alpha=1 - confidence, method="wilson")
    assert (low[0], high[0]) == pytest.approx(expected, abs=1e-12)
    other = stats.binomtest(right, size).proportion_ci(confidence, method="wilson")
    assert (low[0], high[0]) == pytest.approx((other.low, other.high), abs=1e-12)


def test_wilson_by_hand():
    # p = 0.5, n = 4, z = 1.959964: z^2 = 3.841459; (0.5 + 0.480182) / 1.960365 = 0.5;
    # half = 1.959964 * sqrt(0.0625 + 0.060023) / 1.960365 = 0.349962
    low, high = wilson(np.array([0.5]), np.array([4.0]), 0.95)
    assert (low[0], high[0]) == pytest.approx((0.150038, 0.849962), abs=1e-5)


def test_wilson_needs_a_size():
    low, high = wilson(np.array([0.0, 0.5, 1.0]), np.array([np.nan, 0.0, np.nan]), 0.95)
    assert np.isnan([low, high]).all()


def harness_stderr(right: int, size: int) -> float:
    from lm_eval.api.metrics import mean_stderr

    return float(mean_stderr([1.0] * right + [0.0] * (size - right)))


@given(st.integers(2, 20_000).flatmap(lambda n: st.tuples(st.integers(1, n - 1), st.just(n))))
def test_the_size_comes_back_from_the_standard_error(drawn):
    right, size = drawn
    share = right / size
    error = (share * (1 - share) / (size - 1)) ** 0.5
    assume(round(error, 4) != error)
    assert implied_sizes(np.array([share]), np.array([error])).tolist() == [size]
    assert agrees(np.array([share]), np.array([error]), np.array([float(size)])).all()


@pytest.mark.parametrize(("right", "size"), [(1, 3), (3, 10), (700, 1000), (1, 1319)])
def test_the_size_comes_back_from_the_harness(right, size):
    error = harness_stderr(right, size)
    assert implied_sizes(np.array([right / size]), np.array([error])).tolist() == [size]


@pytest.mark.parametrize(
    ("share", "error"),
    [
        (0.0, 0.0),
        (1.0, 0.0),
        (0.7, np.nan),
        (0.703, round(harness_stderr(703, 1000), 4)),
        (0.5, 0.1),  # 13 of 26 right, or rounded
        (0.3712345, 0.000499999),  # about 933,684 and 346,612.4 right ones
        (20.5, 1.5),
        (0.7, 0.3),
    ],
)
def test_other_standard_errors_tell_no_size(share, error):
    assert np.isnan(implied_sizes(np.array([share]), np.array([error]))).all()


def test_standard_errors_that_are_of_something_else():
    shares, sizes = np.array([0.7, 0.7, 0.7]), np.array([1000.0, 1000.0, np.nan])
    errors = np.array([harness_stderr(700, 1000), 0.02, 0.02])
    assert agrees(shares, errors, sizes).tolist() == [True, False, False]
