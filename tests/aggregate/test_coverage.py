"""Simulated coverage of every 95 % interval: the source of the tables in COVERAGE.md.

Each study has a known truth and clusters of unequal size (log-normal, coefficient of variation
0.53). K studies share their clusters' sizes and are computed at once.
"""

import math

import numpy as np
import pytest
from scipy import stats

from sweeper.aggregate.bootstrap import cluster_bootstrap
from sweeper.aggregate.intervals import Ratio, cluster_robust, crossed, seed_interval

RESAMPLES = 2000


def _rng(*numbers):
    # Not the seeds that the formulas were chosen on; see COVERAGE.md.
    return np.random.default_rng([*numbers, 777001])


def _sizes(rng, num_clusters, mean=20):
    return np.maximum(1, np.round(mean * rng.lognormal(-0.125, 0.5, num_clusters)))


def _level(rng, sizes, studies):
    # Correct or not, mean 0.8; beta-distributed clusters with intraclass correlation 0.2.
    shares = rng.beta(0.8 * 4, 0.2 * 4, (len(sizes), studies))
    return rng.binomial(sizes[:, None].astype(int), shares).astype(float), sizes, 0.8


def _paired(rng, sizes, studies):
    # 15 % of the items are lost, 5 % of the rest are won: 0.85 * 0.05 - 0.15 = -0.1075.
    shape = (len(sizes), studies)
    lost = rng.binomial(sizes[:, None].astype(int), rng.beta(1.35, 7.65, shape))
    won = rng.binomial(sizes[:, None].astype(int) - lost, rng.beta(0.45, 8.55, shape))
    return (won - lost).astype(float), sizes, -0.1075


def _sparse(rng, sizes, studies):
    # A clamp that touches 30 % of the clusters, where a quarter of the items is lost.
    shape = (len(sizes), studies)
    shares = np.where(rng.random(shape) < 0.3, rng.beta(2, 6, shape), 0.0)
    return -rng.binomial(sizes[:, None].astype(int), shares).astype(float), sizes, -0.075


def _rate(rng, sizes, studies):
    # Nats per token: windows of unequal length with effects of their own.
    tokens = sizes * 10
    effects = rng.normal(0.05, 0.03, (len(sizes), studies))
    noise = np.sqrt(tokens)[:, None] * rng.standard_normal(effects.shape) / 2
    return tokens[:, None] * effects + noise, tokens, 0.05


SIMULATED = {"level": _level, "paired": _paired, "rate": _rate, "sparse": _sparse}


def _not_chosen(numerators, denominators, rng):
    """Intervals that were not chosen: CR1 with C - 1 df; percentiles, and expanded ones."""
    clusters = len(denominators)
    ratio = Ratio(numerators, denominators)
    error = np.sqrt(clusters / (clusters - 1) * (ratio.residuals() ** 2).sum(axis=0))
    half = stats.t.ppf(0.975, clusters - 1) * error / denominators.sum()
    yield ratio.values() - half, ratio.values() + half
    counts = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=RESAMPLES)
    estimates = (counts @ numerators) / (counts @ denominators)[:, None]
    wide = stats.norm.cdf(
        -np.sqrt(clusters / (clusters - 1)) * stats.t.ppf(0.975, clusters - 1),
    )
    for tail in (0.025, wide):
        yield tuple(np.quantile(estimates, [tail, 1 - tail], axis=0))


class Tally:
    """Studies covered, and studies with an interval, for each kind of interval."""

    def __init__(self):
        self.hits, self.given, self.studies = {}, {}, {}

    def add(self, kind, bounds, truth):
        low, high = (np.atleast_1d(end) for end in bounds)
        known = np.isfinite(low) & np.isfinite(high)
        covered = known & (low <= truth) & (truth <= high)
        for counts, more in ((self.hits, covered), (self.given, known), (self.studies, known >= 0)):
            counts[kind] = counts.get(kind, 0) + int(more.sum())

    def coverage(self, kind):
        return 100 * self.hits[kind] / max(1, self.given[kind])

    def share_given(self, kind):
        return 100 * self.given[kind] / self.studies[kind]


def _table(capsys, heads, rows):
    with capsys.disabled():
        print("\n\n| " + " | ".join(heads) + " |\n|" + " --- |" * len(heads))
        for row in rows:
            cells = [f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row]
            print("| " + " | ".join(cells) + " |")


def _clusters(simulate, num_clusters, blocks=24, studies=250):
    tally = Tally()
    for block in range(blocks):
        rng = _rng(block, num_clusters)
        numerators, denominators, truth = simulate(rng, _sizes(rng, num_clusters), studies)
        strata = [[Ratio(numerators, denominators)]]
        tally.add("robust", cluster_robust(strata).bounds(0.95), truth)
        bootstrap = cluster_bootstrap(strata, [rng], RESAMPLES)
        tally.add("bootstrap", bootstrap.bounds(0.95), truth)
        others = _not_chosen(numerators, denominators, rng)
        for kind, bounds in zip(("CR1", "percentile", "expanded"), others, strict=True):
            tally.add(kind, bounds, truth)
    return tally


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_cluster_intervals(capsys):
    kinds = ("robust", "bootstrap", "CR1", "percentile", "expanded")
    found = {
        (name, clusters): _clusters(simulate, clusters)
        for name, simulate in SIMULATED.items()
        for clusters in (5, 12, 30, 67)
    }
    rows = [
        (*place, *map(tally.coverage, kinds), tally.share_given("bootstrap"))
        for place, tally in found.items()
    ]
    _table(capsys, ("data", "clusters", *kinds, "bootstrap given"), rows)
    for (name, clusters), tally in found.items():
        if name != "sparse" and clusters >= 12:
            assert 93 <= tally.coverage("robust") <= 97
            assert 93 <= tally.coverage("bootstrap") <= 97


def _crossed_study(rng, num_clusters, num_seeds, sds):
    """Totals (C, S) of a random condition whose true mean is -0.05."""
    sizes = _sizes(rng, num_clusters)
    seed_sd, cluster_sd, both_sd = sds
    means = (
        -0.05
        + seed_sd * rng.standard_normal(num_seeds)
        + cluster_sd * rng.standard_normal((num_clusters, 1))
        + both_sd * rng.standard_normal((num_clusters, num_seeds))
    )
    noise = 0.4 * rng.standard_normal(means.shape) / np.sqrt(sizes)[:, None]
    return sizes[:, None] * (means + noise), sizes


CROSSED = {
    "seeds and clusters": (0.03, 0.10, 0.05),
    "clusters alone": (0.0, 0.10, 0.05),
    "seeds above all": (0.10, 0.05, 0.05),
    "interaction alone": (0.0, 0.0, 0.10),
}
COMPARABLE = {
    f"seeds {share:g} of clusters": (0.2 * share, 0.20, 0.05) for share in (1, 0.5, 0.3, 0.2)
}
"""With few seeds, of whose variance little is known, where it matters as much as the clusters'."""


def _two_way(sds, num_seeds, num_clusters):
    tally = Tally()
    for study in range(2000):
        rng = _rng(study, num_seeds, num_clusters)
        totals, sizes = _crossed_study(rng, num_clusters, num_seeds, sds)
        both = [[Ratio(totals, sizes)]]
        tally.add("two-way", crossed(both).bounds(0.95), -0.05)
        mean = [[Ratio(totals.mean(axis=1, keepdims=True), sizes)]]
        tally.add("clusters", cluster_robust(mean).bounds(0.95), -0.05)
        target = 0.1 * sizes * rng.standard_normal(num_clusters)
        excess = [[Ratio(target[:, None] - totals, sizes)]]
        tally.add("excess", crossed(excess).bounds(0.95), 0.05)
        over = seed_interval(both[0][0].values())
        tally.add("seeds", (over.low, over.high), -0.05)
    return tally


def _two_way_table(capsys, found):
    kinds = ("two-way", "excess", "clusters", "seeds")
    rows = [(*place, *map(tally.coverage, kinds)) for place, tally in found.items()]
    _table(capsys, ("what varies", "seeds", "clusters", *kinds), rows)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_way_and_seed_intervals(capsys):
    found = {
        (name, *shape): _two_way(sds, *shape)
        for name, sds in CROSSED.items()
        for shape in ((3, 12), (10, 5), (10, 12), (10, 67))
    }
    _two_way_table(capsys, found)
    for (_, seeds, clusters), tally in found.items():
        if seeds >= 10 and clusters >= 12:
            assert 93 <= tally.coverage("two-way") <= 97.5
            assert 93 <= tally.coverage("excess") <= 97.5


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_way_intervals_of_few_seeds(capsys):
    found = {
        (name, *shape): _two_way(sds, *shape)
        for name, sds in COMPARABLE.items()
        for shape in ((3, 30), (3, 67), (5, 30), (5, 67))
    }
    _two_way_table(capsys, found)
    for tally in found.values():
        assert 93 <= tally.coverage("two-way") <= 97.5
        assert 93 <= tally.coverage("excess") <= 97.5


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_seed_intervals_for_given_items(capsys):
    # The items are given: what is covered is the mean over all sets that could be drawn.
    # Sets' effects of 0.05 with standard deviation 0.016, or 0.035 and a long tail (skew 1.2).
    kinds = {"even": (9, 171), "long tail": (2, 38)}
    rows = []
    for num_seeds in (3, 5, 10):
        tally = Tally()
        for study in range(4000):
            rng = _rng(study, num_seeds)
            for name, shape in kinds.items():
                lost = rng.binomial(1000, rng.beta(*shape, num_seeds))
                interval = seed_interval(-lost / 1000)
                tally.add(name, (interval.low, interval.high), -0.05)
        rows.append((num_seeds, *map(tally.coverage, kinds)))
    _table(capsys, ("seeds", *kinds), rows)
    for _, even, tail in rows:
        assert 93 <= even <= 97
        assert tail >= 90


def _family(rng, sizes, members, studies):
    """Effects of layer groups on the same items: correlated 0.5 between groups of a study."""
    shape = (len(sizes), studies, 1)
    shared = rng.standard_normal(shape) + rng.standard_normal(shape) / np.sqrt(sizes)[:, None, None]
    own = rng.standard_normal((len(sizes), studies, members))
    effects = 0.02 * np.arange(members) + 0.1 * (shared + own)
    return (sizes[:, None, None] * effects).reshape(len(sizes), -1), 0.02 * np.arange(members)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_bands(capsys):
    rows = []
    for members in (5, 12, 30):
        for clusters in (12, 30, 67):
            tally, studies = Tally(), 1500 // members
            for block in range(1500 // studies):
                rng = _rng(block, members, clusters)
                sizes = _sizes(rng, clusters)
                totals, truth = _family(rng, sizes, members, studies)
                resampled = cluster_bootstrap([[Ratio(totals, sizes)]], [rng], RESAMPLES)
                single = resampled.bounds(0.95)
                for study in range(studies):
                    columns = range(study * members, (study + 1) * members)
                    low, high = resampled.band(columns, 0.95)
                    inside = (low <= truth) & (truth <= high)
                    tally.add("band", (1 - int(inside.all()), 1), 0)
                    inside = (single[0][columns] <= truth) & (truth <= single[1][columns])
                    tally.add("single", (1 - int(inside.all()), 1), 0)
            rows.append((members, clusters, tally))
    _table(
        capsys,
        ("layer groups", "clusters", "band holds all", "single intervals hold all"),
        [(*place, tally.coverage("band"), tally.coverage("single")) for *place, tally in rows],
    )
    for _, clusters, tally in rows:
        # Of 1,500 studies: Monte Carlo error 0.5. With few clusters the band is too wide.
        assert tally.coverage("band") >= 93
        if clusters >= 30:
            assert tally.coverage("band") <= 97.5


def _contrast(rng, shape, columns, shared):
    """Target minus control on two grammar tasks, minus that on two others: strata and truth.

    Columns are studies, or seeds: what the clusters have in common is then ``shared``.
    """
    strata = []
    for place, clusters in enumerate(shape):
        sign, truth = (0.5, -0.1) if place < 2 else (-0.5, 0.05)
        sizes = _sizes(rng, clusters) if clusters < 100 else np.ones(clusters)
        means = truth + shared * rng.standard_normal((clusters, 1))
        means = means + math.sqrt(0.01 - shared**2) * rng.standard_normal((clusters, columns))
        noise = 0.5 * rng.standard_normal(means.shape) / np.sqrt(sizes)[:, None]
        strata.append([Ratio(sizes[:, None] * (means + noise), sizes, weight=sign)])
    return strata, -0.1 - 0.05


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_contrasts(capsys):
    shapes = {
        "67, 30; 100, 100": (67, 30, 100, 100),
        "12, 12; 100, 100": (12, 12, 100, 100),
        "12, 5; 12, 12": (12, 5, 12, 12),
        "5, 5; 5, 5": (5, 5, 5, 5),
    }
    rows = []
    for name, shape in shapes.items():
        tally = Tally()
        for block in range(24):
            rng = _rng(block, *shape)
            strata, truth = _contrast(rng, shape, 250, 0.0)
            tally.add("robust", cluster_robust(strata).bounds(0.95), truth)
            resampled = cluster_bootstrap(strata, [rng] * 4, RESAMPLES)
            tally.add("bootstrap", resampled.bounds(0.95), truth)
        for study in range(2000):
            rng = _rng(study, *shape)
            draws = 0.03 * rng.standard_normal(10)
            strata, truth = _contrast(rng, shape, 10, 0.08)
            # Sets that hurt grammar more than they hurt the rest, each by its own amount.
            strata[0][0].numerators[:] += strata[0][0].denominators[:, None] * draws
            tally.add("two-way", crossed(strata).bounds(0.95), truth)
        rows.append((name, tally))
    kinds = ("robust", "bootstrap", "two-way")
    heads = ("clusters of the tasks", "robust", "bootstrap", "two-way (10 drawn controls)")
    _table(capsys, heads, [(name, *map(tally.coverage, kinds)) for name, tally in rows])
    for name, tally in rows[:-1]:
        for kind in kinds:
            assert 93 <= tally.coverage(kind) <= 97, name


def _surprisal(rng, clusters, share, spread, studies):
    """Nats and tokens of a part of speech and of all tokens, by window."""
    tokens = np.round(_sizes(rng, clusters, 400)) + 1
    chances = rng.beta(share * spread, (1 - share) * spread, clusters)
    mine = rng.binomial(tokens.astype(int), chances).astype(float)
    shape = (clusters, studies)
    window = rng.normal(0.10, 0.05, shape)
    extra = window + rng.normal(0.07, 0.05, shape)

    def nats(rate, number):
        return number[:, None] * rate + 0.5 * np.sqrt(number)[:, None] * rng.standard_normal(shape)

    group, rest = nats(extra, mine), nats(window, tokens - mine)
    measure = [Ratio(group, mine), Ratio(group + rest, tokens, weight=-1.0)]
    return measure, 0.07 * (1 - share)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_shifted(capsys):
    kinds = {"20 % of the tokens": (0.2, 50), "2 %": (0.02, 50), "0.3 %, in bursts": (0.003, 5)}
    rows = []
    for name, (share, spread) in kinds.items():
        for clusters in (12, 30, 67):
            tally = Tally()
            for block in range(40):
                rng = _rng(block, clusters)
                measure, truth = _surprisal(rng, clusters, share, spread, 100)
                if not measure[0].denominators.any():
                    continue
                tally.add("robust", cluster_robust([measure]).bounds(0.95), truth)
                resampled = cluster_bootstrap([measure], [rng], RESAMPLES)
                tally.add("bootstrap", resampled.bounds(0.95), truth)
            given = (tally.share_given("robust"), tally.share_given("bootstrap"))
            rows.append((name, clusters, tally, *given))
    heads = ("group", "clusters", "robust", "bootstrap", "robust given", "bootstrap given")
    table = [
        (name, number, tally.coverage("robust"), tally.coverage("bootstrap"), *given)
        for name, number, tally, *given in rows
    ]
    _table(capsys, heads, table)
    for name, _, tally, *_ in rows:
        if "bursts" not in name:
            assert 93 <= tally.coverage("robust") <= 97
            assert 93 <= tally.coverage("bootstrap") <= 97
