import math

import numpy as np
import pytest
from records_factory import checkpoint
from scipy import stats

from sweeper.aggregate import by_revision, estimate, levels, trajectories
from sweeper.aggregate.bootstrap import resampling_generator
from sweeper.aggregate.trajectories import places_of

STEPS = (0, 10, 100, 1000)
PLACE = ["revision", "task", "metric", "group", "condition"]


def places(*steps, model="m"):
    return [checkpoint(model=model, revision=f"step{step}", step=step) for step in steps]


def make(study, steps=STEPS, num_clusters=12, seeds=2, model="m", seed=0):
    """Pairs at several steps: the clamp's effect grows, the same clusters are hard at all."""
    rng = np.random.default_rng(seed)
    clusters = [f"c{n % num_clusters}" for n in range(num_clusters * 8)]
    groups = ["ab"[n % 2] for n in range(len(clusters))]
    hard = np.repeat(rng.beta(4, 1, num_clusters)[None], 8, axis=0).ravel()
    for index, step in enumerate(steps):
        named = {"revision": f"step{step}", "model": model}
        right = rng.random(len(clusters)) < hard * (index + 1) / len(steps)
        study.pairs("baseline", right.tolist(), clusters=clusters, groups=groups, **named)
        arms = [("cohort", None, 0.1 * index), *(("random", s, 0.02) for s in range(seeds))]
        for name, draw, lost in arms:
            left = right & (rng.random(len(right)) >= lost)
            control = {"control_of": "cohort"} if name == "random" else {}
            study.pairs(
                name, left.tolist(), clusters=clusters, groups=groups, seed=draw, **named, **control
            )
    return study


def points_of(study, checkpoints, **options):
    found = by_revision(study.manifest, study.items, checkpoints)
    return trajectories(found, **{"resamples": 399, **options})


def test_values_and_intervals_are_those_of_each_revision_alone(study):
    make(study)
    points = points_of(study, places(*STEPS)).set_index([*PLACE, "quantity"])
    estimates = estimate(study.manifest, study.items, study.cells, resamples=399).set_index(PLACE)
    effects = points.xs("effect", level="quantity")
    assert len(effects) == len(estimates) == 4 * 2 * 2 * 3
    wanted = estimates.loc[effects.index]
    for one, two in (("value", "effect"), ("low", "cluster_low"), ("high", "cluster_high")):
        np.testing.assert_allclose(effects[one], wanted[two], atol=1e-12)
    for column in ("num_seeds", "num_items", "num_clusters", "num_neurons"):
        assert effects[column].tolist() == wanted[column].tolist()
    base = points.xs("level", level="quantity")
    whole = levels(study.manifest, study.items, resamples=399).set_index(PLACE).loc[base.index]
    assert base.index.get_level_values("condition").unique().tolist() == ["baseline"]
    for one, two in (("value", "value"), ("low", "cluster_low"), ("high", "cluster_high")):
        np.testing.assert_allclose(base[one], whole[two], atol=1e-12)


def totals(study, condition, group=None):
    """Lost items of each cluster (C, R), and items (C,): by plain loops over the rows."""
    items = study.items[study.items["group"] == group] if group else study.items
    by_cell = items.set_index(["cell_key", "item_id"])["correct"].astype(float)
    rows = study.manifest[study.manifest["condition"] == condition]
    columns = []
    for step in STEPS:
        base = by_cell.loc[f"m/step{step}/t/baseline/None"]
        cells = rows[rows["revision"] == f"step{step}"]["cell_key"]
        columns.append(sum(by_cell.loc[key] - base for key in cells) / len(cells))
    cluster = items.drop_duplicates("item_id").set_index("item_id")["cluster"]
    sums = [column.groupby(cluster).sum() for column in columns]
    return np.array(sums).T, cluster.value_counts().loc[sums[0].index].to_numpy(float)


@pytest.mark.parametrize(
    ("condition", "group"), [("cohort", None), ("random", None), ("cohort", "a")]
)
def test_the_band_is_the_largest_distance_over_the_steps(study, condition, group):
    make(study, num_clusters=15)
    points = points_of(study, places(*STEPS))
    mine = points[(points["condition"] == condition) & (points["metric"] == "accuracy")]
    mine = mine[mine["group"] == (group or "all")].sort_values("place")
    numerators, sizes = totals(study, condition, group)
    number = len(sizes)
    counts = resampling_generator("t", group or "all").multinomial(
        number, np.full(number, 1 / number), size=399
    )

    def error(drawn):
        size = sizes[drawn].sum()
        means = numerators[drawn].sum(axis=0) / size
        residuals = numerators[drawn] - sizes[drawn][:, None] * means
        return means, np.sqrt(number / (number - 1) * (residuals**2).sum(axis=0)) / size

    centre, plain = error(np.arange(number))
    distances = []
    for count in counts:
        means, errors = error(np.repeat(np.arange(number), count))
        with np.errstate(all="ignore"):
            distances.append(np.where(errors > 1e-12, np.abs(means - centre) / errors, np.inf))
    rank = 379  # ceil(0.95 * 400) = 380
    # Steps at which the clamp does next to nothing have no interval, and widen no other's.
    known = (plain > 1e-12) & np.isfinite(np.sort(distances, axis=0)[rank])
    half = np.sort(np.array(distances)[:, known].max(axis=1))[rank] * plain[known]
    np.testing.assert_allclose(mine["value"], centre, atol=1e-12)
    np.testing.assert_allclose(mine["band_low"][known], centre[known] - half, rtol=1e-7)
    np.testing.assert_allclose(mine["band_high"][known], centre[known] + half, rtol=1e-7)
    assert mine["band_low"][~known].isna().all()
    assert known.tolist() == [False, True, True, True]


def test_a_band_holds_more_than_each_step(study):
    make(study, num_clusters=40)
    points = points_of(study, places(*STEPS), resamples=1999).dropna(subset=["band_low"])
    wide = points["band_high"] - points["band_low"]
    narrow = points["high"] - points["low"]
    assert (wide > narrow).all()


def test_levels_over_steps_share_one_band(study):
    make(study)
    points = points_of(study, places(*STEPS))
    base = points[(points["quantity"] == "level") & (points["group"] == "all")]
    base = base[base["metric"] == "accuracy"].sort_values("place")
    assert base["num_revisions"].tolist() == [4] * 4
    assert base["place"].tolist() == [0, 1, 2, 3]
    assert base["step"].tolist() == list(STEPS)
    assert (base["band_low"] < base["value"]).all()
    # Bands, unlike intervals, are as many of the revision's own standard errors wide everywhere.
    widths = (base["band_high"] - base["value"]) / (base["high"] - base["value"])
    assert widths.to_numpy() == pytest.approx(widths.iloc[0], rel=1e-6)


def test_revisions_come_in_the_jobs_order_and_not_in_that_of_names(study):
    make(study)
    backwards = places(*reversed(STEPS))
    points = points_of(study, backwards)
    first = points.drop_duplicates("place").sort_values("place")
    assert first["step"].tolist() == list(reversed(STEPS))


def test_models_with_one_revision_have_none(study):
    make(study)
    make(study, steps=(5,), model="n", seed=1)
    points = points_of(study, [*places(*STEPS), *places(5, model="n")])
    assert set(points["model"]) == {"m"}
    assert places_of(places(5, model="n")) == {}
    nothing = points_of(study, places(5, model="n"))
    assert nothing.empty
    assert list(nothing) == list(points)


def test_two_models_have_bands_of_their_own(study):
    make(study)
    alone = points_of(study, places(*STEPS))
    make(study, model="n", seed=7)
    both = points_of(study, [*places(*STEPS), *places(*STEPS, model="n")])
    mine = both[both["model"] == "m"].reset_index(drop=True)
    assert mine.equals(alone)


def test_a_revision_without_results_is_left_out(study):
    make(study)
    gone = study.manifest["revision"] == "step100"
    keys = study.manifest[gone]["cell_key"]
    items = study.items[~study.items["cell_key"].isin(keys)]
    found = by_revision(study.manifest, items, places(*STEPS))
    points = trajectories(found, resamples=99)
    assert set(points["step"]) == {0, 10, 1000}
    assert set(points["place"]) == {0, 1, 3}
    assert set(points["num_revisions"]) == {3}


@pytest.mark.parametrize(
    "other", [["c9", "c0", "c1"], ["d0", "d0", "d1"]], ids=["sizes of clusters", "their names"]
)
def test_what_revisions_measure_on_other_clusters_is_left_out(study, caplog, other):
    for step, clusters in ((0, ["c0", "c0", "c1"]), (10, other)):
        study.pairs("baseline", [True] * 3, clusters=clusters, revision=f"step{step}")
        study.pairs("baseline", [True] * 2, clusters=["x", "y"], revision=f"step{step}", task="u")
    points = points_of(study, places(0, 10))
    assert set(points["task"]) == {"u"}
    words = "left out over revisions: cells have different items in group all"
    assert caplog.messages == [f"m t {metric} all: {words}" for metric in ("accuracy", "margin")]


def test_shifted_surprisal_has_bands_too(study):
    rng = np.random.default_rng(3)
    clusters = [f"w{n // 4}" for n in range(80)]
    groups = [("DET", "NOUN", "VERB", "DET")[n % 4] for n in range(80)]
    tokens = rng.integers(3, 9, 80).tolist()
    for step in STEPS:
        nats = -rng.gamma(4, 1, 80)
        for name, more in (("baseline", 0.0), ("cohort", 1.0)):
            values = (nats - more * rng.gamma(2, 1, 80)).tolist()
            named = {"groups": groups, "clusters": clusters, "revision": f"step{step}"}
            study.words(name, values, tokens, **named)
    points = points_of(study, places(*STEPS))
    shifted = points[(points["metric"] == "shifted") & (points["quantity"] == "effect")]
    assert set(shifted["group"]) == {"DET", "NOUN", "VERB"}
    wanted = estimate(study.manifest, study.items, study.cells, resamples=399).set_index(PLACE)
    mine = shifted.set_index(PLACE)
    np.testing.assert_allclose(mine["value"], wanted.loc[mine.index]["effect"], atol=1e-12)
    assert (mine["band_high"] - mine["band_low"] > 0).all()


def test_one_cluster_has_no_band(study):
    for step in (0, 10):
        study.pairs("baseline", [True] * 6, clusters=["c"] * 6, revision=f"step{step}")
        study.pairs("cohort", [True, False] * 3, clusters=["c"] * 6, revision=f"step{step}")
    points = points_of(study, places(0, 10))
    assert points[["low", "high", "band_low", "band_high"]].isna().all(axis=None)
    assert points["value"].notna().all()


def test_many_independent_steps_need_the_sidak_quantile(study):
    """With steps that share no noise, the band is about that of as many independent tests."""
    rng = np.random.default_rng(5)
    steps = tuple(range(8))
    clusters = [f"c{n}" for n in range(300)]
    for step in steps:
        named = {"clusters": clusters, "revision": f"step{step}"}
        study.pairs("baseline", [True] * 300, **named)
        study.pairs("cohort", (rng.random(300) < 0.7).tolist(), **named)
    points = points_of(study, places(*steps), resamples=1999)
    mine = points[(points["condition"] == "cohort") & (points["metric"] == "accuracy")]
    ratio = (mine["band_high"] - mine["band_low"]) / (mine["high"] - mine["low"])
    sidak = stats.norm.ppf((1 + 0.95 ** (1 / 8)) / 2) / stats.t.ppf(0.975, 299)
    assert ratio.to_numpy() == pytest.approx(sidak, rel=0.06)
    assert not math.isnan(sidak)
