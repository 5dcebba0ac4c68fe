import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sweeper.neurons.routing.bits import FiringBits
from sweeper.neurons.routing.gradient import (
    document_bootstrap,
    gradient,
    gradient_range,
    is_monotonic,
    joint_counts,
    levels,
    random_splits,
    token_bootstrap,
)

TOKENS = 4000


def circuit(seed=0):
    """Three neurons that agree, and a handler that fires where they do not."""
    rng = np.random.default_rng(seed)
    hard = rng.random(TOKENS)
    consensus = rng.random((3, TOKENS)) > hard
    handler = rng.random(TOKENS) < hard**3
    return consensus, handler, hard


def test_gradient_equals_groupby():
    consensus, handler, hard = circuit()
    found = gradient(levels(consensus), 4, handler, 10 * hard, hard)
    frame = pd.DataFrame({"level": consensus.sum(0), "handler": handler, "hard": hard})
    expected = frame.groupby("level").agg(
        tokens=("hard", "size"), rate=("handler", "mean"), hard=("hard", "mean")
    )
    assert found["tokens"].tolist() == expected["tokens"].tolist()
    np.testing.assert_allclose(found["exception_rate"], expected["rate"])
    np.testing.assert_allclose(found["residual"], expected["hard"])
    np.testing.assert_allclose(found["output_norm"], 10 * expected["hard"])
    assert found["share"].sum() == pytest.approx(1)
    assert is_monotonic(found["exception_rate"])
    counts = joint_counts(levels(consensus), 4, handler)
    spread = expected["rate"].max() - expected["rate"].min()
    assert gradient_range(counts) == pytest.approx(spread)


def test_levels_without_tokens():
    found = gradient(np.array([0, 3]), 4, np.array([True, False]), np.ones(2), np.ones(2))
    assert found["exception_rate"].isna().tolist() == [False, True, True, False]
    assert is_monotonic(found["exception_rate"])
    assert not is_monotonic([0.1, 0.5, np.nan, 0.2])
    assert gradient_range(np.array([[1, 1], [0, 0], [4, 0]])) == pytest.approx(0.5)
    assert np.isnan(gradient_range(np.array([[1, 1], [0, 0]])))


def test_random_splits_are_what_they_say():
    rng = np.random.default_rng(1)
    chance = np.concatenate([np.full(9, 0.7), np.full(4, 0.05), np.full(5, 0.3)])
    fires = rng.random((3000, 18)) < chance
    bits = FiringBits(18, 3000)
    bits.put(0, fires)
    found = random_splits(bits, 200, seed=3)
    again = np.random.default_rng(3)
    usual, rare = np.arange(9), np.arange(9, 13)
    for value in found.ranges[:50]:
        consensus, handler = again.choice(usual, 7, replace=False), again.choice(rare)
        frame = pd.DataFrame({"level": fires[:, consensus].sum(1), "fires": fires[:, handler]})
        rates = frame.groupby("level")["fires"].mean()
        assert value == pytest.approx(rates.max() - rates.min())
    assert found.num_reaching(2.0) == 0
    assert found.num_reaching(found.ranges.min()) == 200
    assert random_splits(FiringBits(18, 10), 5, seed=0) is None


def test_token_bootstrap_has_the_spread_of_a_proportion():
    counts = np.array([[900, 100], [200, 800]])
    drawn = token_bootstrap(counts, 4000, seed=0)
    rates = drawn[..., 1] / drawn.sum(-1)
    for level, (silent, fires) in enumerate(counts):
        p, n = fires / (silent + fires), silent + fires
        assert rates[:, level].mean() == pytest.approx(p, abs=0.003)
        assert rates[:, level].std() == pytest.approx(np.sqrt(p * (1 - p) / n), rel=0.05)


def test_document_bootstrap_equals_scipy_in_distribution():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 30, size=(40, 2, 2)) * rng.integers(1, 4, size=(40, 1, 1))
    drawn = gradient_range(document_bootstrap(counts, 3000, seed=1))

    def statistic(index):
        return float(gradient_range(counts[index].sum(0)))

    expected = stats.bootstrap(
        (np.arange(40),), statistic, n_resamples=3000, vectorized=False, rng=2, method="percentile"
    )
    assert drawn.std() == pytest.approx(expected.standard_error, rel=0.07)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert low == pytest.approx(expected.confidence_interval.low, abs=0.01)
    assert high == pytest.approx(expected.confidence_interval.high, abs=0.01)
