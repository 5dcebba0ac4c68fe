import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sweeper.neurons.routing.gradient import gradient_range, joint_counts
from sweeper.neurons.routing.intervals import (
    LevelTokens,
    document_bootstrap,
    level_intervals,
    resampled_means,
    token_bootstrap,
)

DOCUMENTS, LENGTH = 30, 60


def draw(seed=0):
    """Documents that differ, and a value with heavy tails whose mean falls with the level."""
    rng = np.random.default_rng(seed)
    documents = np.repeat(np.arange(DOCUMENTS), LENGTH)
    ease = rng.normal(size=DOCUMENTS)[documents] + rng.normal(size=len(documents))
    levels = np.clip(np.round(1.5 + ease), 0, 3).astype(np.int64)
    handler = rng.random(len(documents)) < 1 / (1 + np.exp(levels + ease))
    norms = np.exp(rng.normal(size=len(documents)) - 0.3 * levels + 0.4 * ease)
    return LevelTokens(
        levels=levels,
        num_levels=4,
        handler=handler,
        values={"output_norm": norms, "residual": norms**2},
        documents=documents,
    )


def naive(tokens, picks):
    """Ends of percentile intervals, one resample at a time; ``picks`` gives token indices."""
    frame = pd.DataFrame(
        {"level": tokens.levels, "exception_rate": tokens.handler.astype(float), **tokens.values}
    )
    values, levels = frame.to_numpy(), tokens.levels
    means, ranges = [], []
    for pick in picks:
        counts = np.bincount(levels[pick], minlength=4)
        sums = [np.bincount(levels[pick], values[pick, c], minlength=4) for c in range(1, 4)]
        means.append(np.array(sums) / counts)
        ranges.append(np.ptp(means[-1][0]))
    return np.quantile(means, [0.025, 0.975], axis=0), np.quantile(ranges, [0.025, 0.975])


def picks_of(tokens, way, resamples, rng):
    size = len(tokens.levels)
    for _ in range(resamples):
        if way == "token":
            yield rng.integers(size, size=size)
        else:
            chosen = rng.integers(DOCUMENTS, size=DOCUMENTS)
            yield (chosen[:, None] * LENGTH + np.arange(LENGTH)).ravel()


@pytest.mark.parametrize("way", ["token", "document"])
def test_intervals_equal_the_naive_bootstrap(way):
    tokens = draw()
    found = level_intervals(tokens, 10_000, seed=1)
    picks = picks_of(tokens, way, 4000, np.random.default_rng(2))
    ends, of_range = naive(tokens, picks)
    for place, name in enumerate(("exception_rate", "output_norm", "residual")):
        low, high = ends[0, place], ends[1, place]
        np.testing.assert_allclose(
            found.by_level[f"{name}_{way}_low"], low, atol=0.06 * (high - low).max()
        )
        width = found.by_level[f"{name}_{way}_high"] - found.by_level[f"{name}_{way}_low"]
        np.testing.assert_allclose(width, high - low, rtol=0.08)
    low, high = of_range
    assert found.range[f"range_{way}_low"] == pytest.approx(low, abs=0.06 * (high - low))
    assert found.range[f"range_{way}_high"] == pytest.approx(high, abs=0.06 * (high - low))


OUTLIER = np.append(np.random.default_rng(5).normal(size=2999), 1000.0)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).exponential(size=40),
        np.random.default_rng(1).normal(size=3000),
        np.random.default_rng(2).lognormal(sigma=2, size=3000),
        OUTLIER,
        np.full(700, 3.0),
    ],
    ids=["few", "normal", "skewed", "outlier", "constant"],
)
def test_resampled_means_have_the_bootstraps_distribution(values):
    total = 2 * len(values)
    found = resampled_means(values, total, 20_000, np.random.default_rng(3))
    rng = np.random.default_rng(4)
    number = rng.binomial(total, 0.5, size=4000)
    expected = np.array([values[rng.integers(len(values), size=n)].mean() for n in number])
    if values.std() == 0:
        np.testing.assert_allclose(found, 3.0)
        return
    assert found.mean() == pytest.approx(values.mean(), abs=0.05 * expected.std())
    assert found.std() == pytest.approx(expected.std(), rel=0.05)
    assert stats.ks_2samp(found, expected).statistic < 0.03
    shares = [0.025, 0.16, 0.84, 0.975]
    np.testing.assert_allclose(
        np.quantile(found, shares), np.quantile(expected, shares), atol=0.15 * expected.std()
    )


def test_too_little_data_has_no_interval():
    one = LevelTokens(
        levels=np.array([0, 0, 0, 2]),
        num_levels=4,
        handler=np.array([True, False, True, False]),
        values={"output_norm": np.array([1.0, 2.0, 3.0, 4.0])},
        documents=np.zeros(4, np.int64),
    )
    found = level_intervals(one, 200, seed=0)
    assert found.by_level["output_norm_token_low"].isna().tolist() == [False, True, True, True]
    assert found.by_level["exception_rate_token_high"].isna().tolist() == [False, True, True, True]
    assert found.by_level.filter(like="document").isna().all(axis=None)
    assert np.isnan(found.range["range_document_low"])
    assert np.isnan(found.range["range_token_low"])  # no level has 50 tokens


def test_levels_with_few_tokens_do_not_count_for_the_range():
    """The level of 49 tokens has the highest rate, that of 50 the lowest."""
    levels = np.repeat([0, 1, 2, 3], [49, 50, 400, 301])
    handler = np.concatenate([np.ones(49), np.zeros(50), np.arange(400) < 80, np.arange(301) < 90])
    tokens = LevelTokens(
        levels=levels,
        num_levels=4,
        handler=handler.astype(bool),
        values={},
        documents=np.arange(len(levels)) % 40,
    )
    counts = joint_counts(tokens.levels, 4, tokens.handler)
    assert gradient_range(counts) == pytest.approx(90 / 301)
    found = level_intervals(tokens, 1000, seed=0).range
    for way in ("token", "document"):
        low, high = found[f"range_{way}_low"], found[f"range_{way}_high"]
        assert 0.2 < low < 90 / 301 < high < 0.4
    # A level that counts does so in every resample, even if fewer than 50 are drawn: the lowest
    # rate is always 0, and the range the highest rate of the others.
    drawn = token_bootstrap(counts, 1000, seed=0)
    rates = drawn[..., 1] / drawn.sum(-1)
    spread = gradient_range(drawn, np.array([False, True, True, True]))
    np.testing.assert_allclose(spread, rates[:, 1:].max(1) - rates[:, 1:].min(1))


def test_the_seed_alone_decides():
    tokens = draw()
    first, again, other = (level_intervals(tokens, 300, seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first.by_level, again.by_level)
    assert not first.by_level.equals(other.by_level)


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
    drawn = gradient_range(document_bootstrap(counts, {}, 3000, seed=1)[0])

    def statistic(index):
        return float(gradient_range(counts[index].sum(0)))

    expected = stats.bootstrap(
        (np.arange(40),), statistic, n_resamples=3000, vectorized=False, rng=2, method="percentile"
    )
    assert drawn.std() == pytest.approx(expected.standard_error, rel=0.07)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert low == pytest.approx(expected.confidence_interval.low, abs=0.01)
    assert high == pytest.approx(expected.confidence_interval.high, abs=0.01)
