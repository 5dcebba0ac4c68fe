import math
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sweeper.aggregate import estimate
from sweeper.aggregate.intervals import Ratio, crossed, degrees_of_freedom
from sweeper.records import Estimate

CLUSTERS = ["a", "a", "b", "b", "b"]


def _estimate(study, **options):
    return estimate(study.manifest, study.items, study.cells, **options)


def _df(sizes, num_ratios=1):
    return degrees_of_freedom([Ratio(np.zeros((len(sizes), 1)), np.array(sizes))] * num_ratios)


def _row(table, **wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def _random_study(study, seed=0, models=("m",), num_seeds=4):
    rng = np.random.default_rng(seed)
    clusters = [f"c{n // 6}" for n in range(60)]
    groups = [f"g{n // 30}" for n in range(60)]
    for model in models:
        named = {"clusters": clusters, "groups": groups, "model": model}
        for condition, cell_seed in [("baseline", None), ("top", None), ("weak", None)] + [
            ("random", n) for n in range(num_seeds)
        ]:
            margins = rng.normal(1.0, 1.0, 60).tolist()
            study.pairs(
                condition,
                [margin > 0 for margin in margins],
                margins,
                seed=cell_seed,
                control_of="top" if condition == "random" else None,
                **named,
            )
            study.windows(
                condition,
                (-rng.gamma(50, 1, 12)).tolist(),
                list(range(20, 32)),
                seed=cell_seed,
                model=model,
                task="ppl",
                control_of="top" if condition == "random" else None,
            )
    return study


def test_minimal_pairs_by_hand(study):
    study.pairs("baseline", [1, 1, 1, 0, 1], [2.0, 1.0, 3.0, -1.0, 1.0], clusters=CLUSTERS)
    study.pairs(
        "top", [0, 1, 0, 0, 1], [-1.0, 1.0, -1.0, -2.0, 1.0], clusters=CLUSTERS, num_neurons=7
    )
    table = _estimate(study)
    assert list(table.columns) == [field.name for field in fields(Estimate)]
    row = _row(table, metric="accuracy")
    # 4/5 right, then 2/5; differences -1 0 | -1 0 0; the interval as in test_intervals.
    assert (row["baseline"], row["value"], row["effect"]) == pytest.approx((0.8, 0.4, -0.4))
    assert (row["cluster_low"], row["cluster_high"]) == pytest.approx(
        (-1.437457, 0.637457), abs=1e-6
    )
    # The t test on 1 df is Cauchy's distribution: t = -0.4 / 0.0816497.
    assert row["p_cluster"] == pytest.approx(2 * stats.cauchy.sf(0.4 / 0.0816497), abs=1e-6)
    assert (row["p_holm"], row["num_tests"]) == (row["p_cluster"], 1)
    assert (row["num_items"], row["num_clusters"], row["num_neurons"]) == (5, 2, 7)
    assert (row["num_seeds"], row["num_controls"], row["p_floor"]) == (0, 0, 1.0)
    missing = ["ratio", "bootstrap_low", "bootstrap_high", "seed_low", "p_random", "noise"]
    missing += ["two_way_low", "band_low", "excess", "excess_low", "p_random_holm"]
    assert row[missing].isna().all()
    # Margins: 6/5, then -2/5; differences -3 0 | -4 -1 0.
    row = _row(table, metric="margin")
    assert (row["baseline"], row["value"], row["effect"]) == pytest.approx((1.2, -0.4, -1.6))


def test_perplexity_by_hand(study):
    # Of 60 tokens: 160 nats, then 173; more in the logic of ratios in test_intervals.
    study.windows("baseline", [-20.0, -90.0, -50.0], [10, 30, 20], noise=1e-5)
    study.windows("top", [-25.0, -96.0, -52.0], [10, 30, 20], noise=0.5)
    row = _row(_estimate(study), metric="nll")
    expected = (160 / 60, 173 / 60, 13 / 60, math.exp(13 / 60))
    assert (row["baseline"], row["value"], row["effect"], row["ratio"]) == pytest.approx(expected)
    half = stats.t.ppf(0.975, _df([10.0, 30.0, 20.0])) * 0.0712975
    assert row["cluster_low"] == pytest.approx(13 / 60 - half, abs=1e-6)
    assert row["cluster_high"] == pytest.approx(13 / 60 + half, abs=1e-6)
    assert row["noise"] == 1e-5


def test_seeds_by_hand(study):
    study.pairs("baseline", [1, 1, 1, 0], clusters=list("aabb"))
    study.pairs("top", [0, 0, 1, 0], clusters=list("aabb"))
    # Effects of the seeds: -1/4, 0, -1/2; mean -1/4.
    for seed, correct in enumerate(([1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 1, 0])):
        study.pairs("random", correct, clusters=list("aabb"), seed=seed, control_of="top")
    table = _estimate(study)
    row = _row(table, condition="random", metric="accuracy")
    assert (row["num_seeds"], row["value"], row["effect"]) == (3, 0.5, -0.25)
    expected = stats.ttest_1samp([-0.25, 0.0, -0.5], 0).confidence_interval(0.95)
    assert (row["seed_low"], row["seed_high"]) == pytest.approx((expected.low, expected.high))
    # Items' means over seeds: -1/3 -2/3 | 0 0; residuals -1/2 and 1/2: SE = sqrt(2 * 1/2) / 4.
    half = 12.7062047 / 4
    assert row["cluster_low"] == pytest.approx(-0.25 - half, abs=1e-6)
    assert row["cluster_high"] == pytest.approx(-0.25 + half, abs=1e-6)
    assert math.isnan(row["p_random"])
    # The condition's -1/2 is reached by one of three controls: (1 + 1) / 4.
    row = _row(table, condition="top", metric="accuracy")
    assert (row["p_random"], row["p_floor"], row["num_controls"]) == (0.5, 0.25, 3)


def test_seeds_without_results_are_not_counted(study):
    _random_study(study)
    items = study.items.query("cell_key != 'm/main/t/random/2'")
    table = estimate(study.manifest, items, study.cells)
    named = {"task": "t", "metric": "margin", "group": "all"}
    assert _row(table, condition="random", **named)["num_seeds"] == 3
    assert _row(table, condition="top", **named)["num_controls"] == 3
    assert _row(table, condition="top", task="ppl")["num_controls"] == 4


def test_one_seed_has_no_seed_interval(study):
    _random_study(study, num_seeds=1)
    row = _row(_estimate(study), condition="random", metric="nll")
    assert row["num_seeds"] == 1
    assert math.isnan(row["seed_low"])
    assert math.isfinite(row["cluster_low"])


def test_two_seeds_have_no_interval_with_clusters_random_too(study):
    table = _estimate(_random_study(study, num_seeds=2))
    drawn, top = (_row(table, condition=name, metric="nll") for name in ("random", "top"))
    assert np.isfinite([drawn["seed_low"], top["excess"]]).all()
    assert np.isnan([drawn["two_way_low"], top["excess_low"]]).all()


def test_every_group_condition_and_metric_has_a_row(study):
    table = _estimate(_random_study(study))
    counts = table.groupby(["task", "metric", "group"]).size()
    assert counts.to_dict() == {
        ("ppl", "nll", "all"): 3,
        ("t", "accuracy", "all"): 3,
        ("t", "accuracy", "g0"): 3,
        ("t", "accuracy", "g1"): 3,
        ("t", "margin", "all"): 3,
        ("t", "margin", "g0"): 3,
        ("t", "margin", "g1"): 3,
    }
    assert set(table["condition"]) == {"top", "weak", "random"}
    np.testing.assert_allclose(table["effect"], table["value"] - table["baseline"], atol=1e-12)


def test_order_of_rows_changes_no_bit(study):
    _random_study(study, models=("m", "n"))
    expected = _estimate(study)
    shuffled = [
        frame.sample(frac=1, random_state=3) for frame in (study.manifest, study.items, study.cells)
    ]
    pd.testing.assert_frame_equal(estimate(*shuffled), expected, check_exact=True)


def test_models_and_revisions_do_not_mix(study):
    clusters = list("aabb")
    for model, revision, correct in (
        ("m", "main", [1, 1, 1, 1]),
        ("m", "step1", [1, 1, 0, 0]),
        ("n", "main", [0, 0, 0, 0]),
    ):
        named = {"clusters": clusters, "model": model, "revision": revision}
        study.pairs("baseline", correct, **named)
        study.pairs("top", [0, 0, 0, 0], **named)
        study.pairs("random", correct, seed=0, control_of="top", **named)
    table = _estimate(study).query("metric == 'accuracy' and condition == 'top'")
    effects = table.set_index(["model", "revision"])["effect"].to_dict()
    assert effects == {("m", "main"): -1.0, ("m", "step1"): -0.5, ("n", "main"): 0.0}
    assert table["num_controls"].tolist() == [1, 1, 1]
    assert table["p_random"].tolist() == [0.5, 0.5, 1.0]


def test_adding_a_model_leaves_the_others_alone(study):
    alone = _estimate(_random_study(study, models=("m",)))
    both = _estimate(_random_study(study, seed=1, models=("n",)))
    mine = both[both["model"] == "m"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, alone, check_exact=True)


def test_two_names_of_one_cell_have_the_same_effect(study):
    study.pairs("baseline", [1, 1, 1, 0], clusters=list("aabb"))
    for condition in ("top", "explicit"):
        study.pairs(condition, [0, 1, 1, 0], clusters=list("aabb"), key="shared")
    effects = _estimate(study).query("metric == 'accuracy'").set_index("condition")["effect"]
    assert effects.to_dict() == {"top": -0.25, "explicit": -0.25}


def test_cells_of_other_runs_are_ignored(study):
    expected = _estimate(_random_study(study))
    foreign = study.items.assign(cell_key="foreign", margin=np.nan)
    items = pd.concat([study.items, foreign])
    pd.testing.assert_frame_equal(estimate(study.manifest, items, study.cells), expected)


def test_without_a_baseline_a_task_has_no_rows(study):
    _random_study(study)
    items = study.items.query("cell_key != 'm/main/t/baseline/None'")
    table = estimate(study.manifest, items, study.cells)
    assert set(table["task"]) == {"ppl"}


def test_nothing_gives_an_empty_table_of_the_same_types(study):
    full = _estimate(_random_study(study))
    empty = estimate(study.manifest, study.items.iloc[:0], study.cells)
    assert len(empty) == 0
    pd.testing.assert_series_equal(empty.dtypes, full.dtypes)


def test_unequal_items_are_an_error(study):
    study.pairs("baseline", [1, 1, 1], clusters=list("aab"))
    study.pairs("top", [1, 1], clusters=list("aa"))
    with pytest.raises(ValueError, match="different items: 1 only in the first"):
        _estimate(study)


def test_noise_is_the_baseline_s_and_of_committed_rows_alone(study):
    study.pairs("baseline", [1, 1], clusters=list("ab"), noise=2e-5)
    study.pairs("top", [1, 0], clusters=list("ab"))
    failed = pd.DataFrame([{**study.cell_rows[0], "status": "failed", "noise": 1.0}])
    table = estimate(study.manifest, study.items, pd.concat([failed, study.cells]))
    assert table["noise"].tolist() == [2e-5, 2e-5]


def test_confidence_reaches_every_interval(study):
    _random_study(study)
    wide, narrow = _estimate(study, confidence=0.95), _estimate(study, confidence=0.5)
    for name in ("cluster", "bootstrap", "seed", "two_way", "excess"):
        widths = [table[f"{name}_high"] - table[f"{name}_low"] for table in (wide, narrow)]
        known = widths[0].notna() & widths[1].notna()
        assert known.any()
        assert (widths[0] > widths[1])[known].all()


def _totals(study, metric="margin"):
    """Cell -> totals by cluster of its differences to the baseline, and the clusters' sizes."""
    items = study.items.astype({metric: float})
    wide = items.pivot(index=["cluster", "item_id"], columns="cell_key", values=metric)
    differences = wide.sub(wide["m/main/t/baseline/None"], axis=0)
    grouped = differences.groupby("cluster")
    return grouped.sum(), grouped.size().to_numpy(dtype=float)


def test_two_way_interval_and_excess_are_of_the_crossed_design(study):
    _random_study(study)
    study.item_rows = [row for row in study.item_rows if "/t/" in row["cell_key"]]
    totals, sizes = _totals(study)
    table = _estimate(study)
    draws = totals[[f"m/main/t/random/{seed}" for seed in range(4)]].to_numpy()
    row = _row(table, condition="random", metric="margin", group="all")
    expected = crossed([[Ratio(draws, sizes)]])
    assert row["effect"] == pytest.approx(expected.centre[0])
    assert (row["two_way_low"], row["two_way_high"]) == pytest.approx(
        tuple(float(end[0]) for end in expected.bounds(0.95))
    )
    row = _row(table, condition="top", metric="margin", group="all")
    target = totals[["m/main/t/top/None"]].to_numpy()
    expected = crossed([[Ratio(target - draws, sizes)]])
    found = row["excess"], row["excess_low"], row["excess_high"]
    ends = (float(end[0]) for end in expected.bounds(0.95))
    assert found == pytest.approx((expected.centre[0], *ends))
    random = _row(table, condition="random", metric="margin", group="all")["effect"]
    assert row["excess"] == pytest.approx(row["effect"] - random)
    weak = _row(table, condition="weak", metric="margin", group="all")
    assert np.isnan([weak["excess"], weak["excess_low"], weak["two_way_low"]]).all()


def test_random_sets_under_two_names_are_counted_once(study):
    plain = _estimate(_random_study(study))
    study.manifest_rows += [
        row | {"condition": "same", "family": "same"}
        for row in study.manifest_rows
        if row["condition"] == "random"
    ]
    table = _estimate(study)
    names = ["task", "metric", "group", "effect", "p_random", "p_floor", "num_controls", "excess"]
    for condition, source in (("top", "top"), ("random", "random"), ("same", "random")):
        found = table.loc[table["condition"] == condition, names].reset_index(drop=True)
        expected = plain.loc[plain["condition"] == source, names].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected)


def test_p_and_its_interval_agree_and_holm_counts_conditions_and_tasks(study):
    table = _estimate(_random_study(study, models=("m", "n")))
    outside = (table["cluster_low"] > 0) | (table["cluster_high"] < 0)
    assert (outside == (table["p_cluster"] <= 0.05)).all()
    whole = table[(table["group"] == "all") & (table["metric"] == "margin")]
    assert set(whole["num_tests"]) == {3}  # per model: three conditions, one task with margins
    groups = table[(table["group"] != "all") & (table["metric"] == "margin")]
    assert set(groups["num_tests"]) == {6}
    assert (table["p_holm"] >= table["p_cluster"]).all()


def _sweep(study, num_groups=4):
    rng = np.random.default_rng(0)
    clusters = [f"c{n // 6}" for n in range(120)]
    shared = rng.normal(0, 1, 120)
    named = {"clusters": clusters, "num_neurons": 3}
    study.pairs("baseline", [1] * 120, rng.normal(1, 1, 120).tolist(), **named)
    study.pairs("other", [1] * 120, rng.normal(1, 1, 120).tolist(), **named)
    for group in range(num_groups):
        layers = (2 * group, 2 * group + 1)
        margins = shared + rng.normal(0, 1, 120)
        name = f"top[{layers[0]}-{layers[1]}]"
        study.pairs(name, [1] * 120, margins.tolist(), family="top", layers=layers, **named)
    return study


def test_bands_are_over_the_layer_groups_of_a_family(study):
    table = _estimate(_sweep(study)).query("metric == 'margin'")
    swept = table[table["family"] == "top"]
    assert swept["first_layer"].tolist() == [0, 2, 4, 6]
    assert swept["last_layer"].tolist() == [1, 3, 5, 7]
    assert (swept["band_low"] < swept["bootstrap_low"]).all()
    assert (swept["band_high"] > swept["bootstrap_high"]).all()
    # One critical value for all: band and bootstrap differ by the same factor of standard errors.
    errors = (swept["cluster_high"] - swept["cluster_low"]) / 2
    ratio = (swept["band_high"] - swept["band_low"]) / errors
    np.testing.assert_allclose(ratio, ratio.iloc[0], rtol=1e-9)
    alone = _row(table, condition="other")
    assert alone["family"] == "other"
    assert np.isnan([alone["band_low"], alone["band_high"]]).all()
    assert alone["first_layer"] is pd.NA


def test_a_band_does_not_depend_on_conditions_of_other_families(study):
    expected = _estimate(_sweep(study)).query("family == 'top' and metric == 'margin'")
    study.manifest_rows = [row for row in study.manifest_rows if row["condition"] != "other"]
    alone = _estimate(study).query("family == 'top' and metric == 'margin'")
    for name in ("band_low", "band_high"):
        np.testing.assert_allclose(alone[name], expected[name], rtol=1e-9)


def _words(study):
    groups = ["NOUN", "DET", "NOUN", "DET", "NOUN", "PUNCT"]
    clusters = ["w0", "w0", "w1", "w1", "w2", "w2"]
    tokens = [30, 10, 20, 20, 35, 5]
    named = {"groups": groups, "clusters": clusters}
    study.words("baseline", [-60, -10, -40, -22, -70, -4], tokens, **named)
    study.words("top", [-66, -30, -44, -50, -70, -4], tokens, **named)
    return study


def test_shifted_surprisal_by_hand(study):
    table = _estimate(_words(study))
    assert table.groupby("metric")["group"].agg(list).to_dict() == {
        "nll": ["all", "DET", "NOUN", "PUNCT"],
        "shifted": ["DET", "NOUN", "PUNCT"],
    }
    # All: 6 + 20 + 4 + 28 = 58 nats more over 120 tokens. DET: 48 over 30. NOUN: 10 over 85.
    found = table[table["metric"] == "shifted"].set_index("group")
    assert found["effect"].to_dict() == pytest.approx(
        {"DET": 48 / 30 - 58 / 120, "NOUN": 10 / 85 - 58 / 120, "PUNCT": -58 / 120}
    )
    assert found["baseline"]["DET"] == pytest.approx(32 / 30 - 206 / 120)
    assert found["value"]["DET"] == pytest.approx(80 / 30 - 264 / 120)
    assert found["ratio"].isna().all()
    assert found["num_clusters"].to_dict() == {"DET": 2, "NOUN": 3, "PUNCT": 1}
    assert found["num_items"].to_dict() == {"DET": 2, "NOUN": 3, "PUNCT": 1}
    # NOUN: residuals of the group 6, 4, 0 minus 10/85 times 30, 20, 35, over 85 tokens and the
    # root of one minus the window's share; minus the same of 26, 32, 0 over 120 tokens.
    group = np.array([6, 4, 0]) - 10 / 85 * np.array([30, 20, 35])
    whole = np.array([26, 32, 0]) - 58 / 120 * np.array([40, 40, 40])
    influence = group / 85 / np.sqrt(1 - np.array([30, 20, 35]) / 85)
    influence -= whole / 120 / np.sqrt(1 - 1 / 3)
    half = math.sqrt((influence**2).sum()) * stats.t.ppf(0.975, _df([30.0, 20.0, 35.0], 2))
    assert found["cluster_high"]["NOUN"] - found["effect"]["NOUN"] == pytest.approx(half)
    assert np.isnan(found["cluster_low"]["PUNCT"])


def test_nothing_to_shift_by_without_other_groups(study):
    study.words("baseline", [-60, -40], [30, 20], groups=["NOUN"] * 2, clusters=["w0", "w1"])
    study.words("top", [-66, -44], [30, 20], groups=["NOUN"] * 2, clusters=["w0", "w1"])
    assert set(_estimate(study)["metric"]) == {"nll"}


def test_a_shift_that_is_the_same_for_all_is_none(study):
    tokens = [30, 10, 20, 20]
    named = {"groups": ["NOUN", "DET"] * 2, "clusters": ["w0", "w0", "w1", "w1"]}
    base = [-60.0, -10.0, -40.0, -22.0]
    study.words("baseline", base, tokens, **named)
    study.words("top", [x - 0.5 * t for x, t in zip(base, tokens, strict=True)], tokens, **named)
    shifted = _estimate(study).query("metric == 'shifted'")
    np.testing.assert_allclose(shifted["effect"], 0.0, atol=1e-12)
    assert shifted[["cluster_low", "bootstrap_low", "p_cluster"]].isna().all(axis=None)
