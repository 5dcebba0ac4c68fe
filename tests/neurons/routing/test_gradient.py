import numpy as np
import pandas as pd
import pytest

from sweeper.neurons.routing.gradient import (
    gradient,
    gradient_range,
    is_monotonic,
    joint_counts,
    levels,
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


def test_levels_with_few_tokens_do_not_count_for_the_range():
    counts = np.array([[0, 49], [30, 20], [0, 0], [40, 60], [400, 0], [49, 0]])
    assert gradient_range(counts) == pytest.approx(0.6)
    assert np.isnan(gradient_range(counts[:3]))
    assert gradient_range(np.stack([counts, counts[::-1]])).tolist() == [0.6, 0.6]
    given = np.array([True, False, True, True, False, False])
    assert gradient_range(counts, given) == pytest.approx(0.4)
    assert np.isnan(gradient_range(counts, np.array([True, False, True, False, False, False])))
