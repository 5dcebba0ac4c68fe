"""Coverage of the intervals in simulated studies: the source of the table in `intervals`."""

import numpy as np
import pytest
from scipy import stats

from sweeper.aggregate.intervals import cluster_bootstrap, cluster_robust

BLOCKS, STUDIES = 40, 250


def _sizes(rng, num_clusters):
    return np.maximum(1, np.round(20 * rng.lognormal(-0.125, 0.5, num_clusters)))


def _level(rng, sizes):
    # Correct or not, mean 0.8; beta-distributed clusters with intraclass correlation 0.2.
    shares = rng.beta(0.8 * 4, 0.2 * 4, (len(sizes), STUDIES))
    return rng.binomial(sizes[:, None].astype(int), shares).astype(float), sizes, 0.8


def _paired(rng, sizes):
    # 15 % of the items are lost, 5 % of the rest are won: 0.85 * 0.05 - 0.15 = -0.1075.
    shape = (len(sizes), STUDIES)
    lost = rng.binomial(sizes[:, None].astype(int), rng.beta(1.35, 7.65, shape))
    won = rng.binomial(sizes[:, None].astype(int) - lost, rng.beta(0.45, 8.55, shape))
    return (won - lost).astype(float), sizes, -0.1075


def _sparse(rng, sizes):
    # A clamp that touches 30 % of the clusters, where a quarter of the items is lost.
    shape = (len(sizes), STUDIES)
    shares = np.where(rng.random(shape) < 0.3, rng.beta(2, 6, shape), 0.0)
    return -rng.binomial(sizes[:, None].astype(int), shares).astype(float), sizes, -0.075


def _rate(rng, sizes):
    # Nats per token: windows of unequal length with effects of their own.
    tokens = sizes * 10
    effects = rng.normal(0.05, 0.03, (len(sizes), STUDIES))
    noise = np.sqrt(tokens)[:, None] * rng.standard_normal(effects.shape) / 2
    return tokens[:, None] * effects + noise, tokens, 0.05


def _percentiles(numerators, denominators, rng):
    """The percentile intervals that were not chosen: plain, and expanded (Hesterberg 2015)."""
    clusters = len(denominators)
    counts = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=2000).astype(float)
    estimates = (counts @ numerators) / (counts @ denominators)[:, None]
    wide = stats.norm.cdf(
        -np.sqrt(clusters / (clusters - 1)) * stats.t.ppf(0.975, clusters - 1),
    )
    return [np.quantile(estimates, [tail, 1 - tail], axis=0) for tail in (0.025, wide)]


def _coverage(simulate, num_clusters):
    """Percent covered by robust, bootstrap and percentile intervals; percent with a bootstrap."""
    hits, given = np.zeros(4), 0
    for block in range(BLOCKS):
        rng = np.random.default_rng([block, num_clusters])
        numerators, denominators, truth = simulate(rng, _sizes(rng, num_clusters))
        bootstrap = cluster_bootstrap(numerators, denominators, generator=rng)
        intervals = [
            cluster_robust(numerators, denominators),
            bootstrap,
            *_percentiles(numerators, denominators, rng),
        ]
        given += np.isfinite(bootstrap[0]).sum()
        hits += [((low <= truth) & (truth <= high)).sum() for low, high in intervals]
    totals = np.array([BLOCKS * STUDIES, given, BLOCKS * STUDIES, BLOCKS * STUDIES])
    return [*(100 * hits / totals), 100 * given / totals[0]]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_intervals_cover_what_they_promise(capsys):
    kinds = {"level": _level, "paired": _paired, "rate": _rate, "sparse": _sparse}
    rows = {
        (name, clusters): _coverage(simulate, clusters)
        for name, simulate in kinds.items()
        for clusters in (5, 12, 67)
    }
    with capsys.disabled():
        print("\n    data    clusters  robust t  bootstrap-t  percentile  expanded  given")
        for (name, clusters), (robust, bootstrap, plain, expanded, given) in rows.items():
            line = f"    {name:8}{clusters:8d}{robust:10.1f}{bootstrap:13.1f}"
            print(f"{line}{plain:12.1f}{expanded:10.1f}{given:7.1f}")
    for (name, clusters), (_, bootstrap, *_) in rows.items():
        if clusters >= 12 and name != "sparse":
            assert 93 <= bootstrap <= 97
