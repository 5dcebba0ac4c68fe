"""Contrasts between conditions, against the definition written out task by task."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from contrast_study import (
    CONTRAST,
    EFFECTS,
    GRAMMAR,
    OTHER,
    SIZES,
    cluster_totals,
    contrast_of,
    dissociation,
    fill,
    mean_of,
    part_of,
)
from scipy import stats

from sweeper.aggregate import Comparison, contrast
from sweeper.aggregate.intervals import Ratio, cluster_robust
from sweeper.records import ContrastEstimate


def test_parts_are_what_they_are_called(study):
    table = contrast_of(fill(study, EFFECTS))
    assert list(table.columns) == [field.name for field in fields(ContrastEstimate)]
    ratios = cluster_totals(study)
    value = table.set_index("part")["estimate"]
    assert list(value.index) == [
        "interaction",
        "target_minus_control_on_grammar",
        "target_minus_control_on_other",
        "target_on_grammar",
        "target_on_other",
        "control_on_grammar",
        "control_on_other",
    ]
    for side, tasks in (("grammar", GRAMMAR), ("other", OTHER)):
        # Equal weight for each task, whatever its number of items.
        for name, cell in (("target", "top/None"), ("control", "matched/None")):
            expected = np.mean([mean_of(ratios, task, cell) for task in tasks])
            assert value[f"{name}_on_{side}"] == pytest.approx(expected)
        difference = value[f"target_on_{side}"] - value[f"control_on_{side}"]
        assert value[f"target_minus_control_on_{side}"] == pytest.approx(difference)
    assert value["interaction"] == pytest.approx(dissociation(ratios, "top/None"))
    row = part_of(table, "interaction")
    assert (row["tasks"], row["num_tasks"]) == ("blimp,tse,piqa,arc", 4)
    assert row["num_clusters"] == sum(SIZES.values())
    assert part_of(table, "target_on_grammar")["num_clusters"] == SIZES["blimp"] + SIZES["tse"]


def test_interval_adds_the_tasks_variances(study):
    table = contrast_of(fill(study, EFFECTS))
    ratios = cluster_totals(study)
    variances, dfs = [], []
    for task in SIZES:
        one, sizes = ratios[task, "top/None"]
        two, _ = ratios[task, "matched/None"]
        # Paired on items: the variance is that of the differences.
        found = cluster_robust([[Ratio((one - two)[:, None], sizes)]])
        variances.append(float(found.variance[0]) / 4)
        dfs.append(float(found.df[0]))
    row = part_of(table, "interaction")
    error, df = np.sqrt(sum(variances)), sum(variances) ** 2 / np.sum(np.square(variances) / dfs)
    assert row["df"] == pytest.approx(df)
    half = stats.t.ppf(0.975, df) * error
    ends = row["estimate"] - half, row["estimate"] + half
    assert (row["low"], row["high"]) == pytest.approx(ends)
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(row["estimate"]) / error, df))
    width = row["bootstrap_high"] - row["bootstrap_low"]
    assert width == pytest.approx(2 * half, rel=0.2)


def test_a_double_dissociation_is_two_directed_tests_after_holm(study):
    table = contrast_of(fill(study, EFFECTS))
    claims = table[table["p_directed"].notna()]
    assert claims["part"].tolist() == [
        "target_minus_control_on_grammar",
        "target_minus_control_on_other",
    ]
    for part, worse in zip(claims.to_dict("records"), (-1, 1), strict=True):
        # The side that is claimed has half of the two-sided p.
        assert np.sign(part["estimate"]) == worse
        assert part["p_directed"] == pytest.approx(part["p"] / 2)
    low, high = sorted(claims["p_directed"])
    assert sorted(claims["p_holm"]) == pytest.approx([2 * low, max(2 * low, high)])
    assert (claims["p_holm"] <= 0.05).all()
    others = table[table["p_directed"].isna()]
    assert others["p_holm"].isna().all()


def test_a_claim_without_a_p_counts_in_holm_all_the_same(study):
    fill(study, EFFECTS)
    study.item_rows = [
        row | {"margin": 1.0} if any(f"/{task}/" in row["cell_key"] for task in OTHER) else row
        for row in study.item_rows
    ]
    claims = contrast_of(study).dropna(subset="p_holm")
    assert claims["part"].tolist() == ["target_minus_control_on_grammar"]
    np.testing.assert_allclose(claims["p_holm"], 2 * claims["p_directed"])


def test_a_target_that_is_worse_everywhere_dissociates_once(study):
    table = contrast_of(fill(study, {"top": (-1.0, -0.8), "matched": (-0.2, -0.3)}))
    claims = table[table["p_directed"].notna()].set_index("part")["p_holm"]
    assert claims["target_minus_control_on_grammar"] <= 0.05
    assert claims["target_minus_control_on_other"] > 0.9


def test_higher_nll_is_worse(study):
    for task, change in (("one", 0.5), ("two", -0.5)):
        tokens = [10] * 8
        noise = np.random.default_rng(0).normal(0, 0.05, (2, 8))
        study.windows("baseline", [-30.0] * 8, tokens, task=task)
        study.windows("top", (-30 - 10 * (change + noise[0])).tolist(), tokens, task=task)
        study.windows("matched", (-30 - 10 * noise[1]).tolist(), tokens, task=task)
    nll = Comparison(
        name="n", target="top", control="matched", metric="nll", tasks=("one",), others=("two",)
    )
    table = contrast_of(study, nll)
    assert part_of(table, "target_minus_control_on_grammar")["estimate"] > 0
    assert (table["p_holm"].dropna() < 0.01).all()


def test_a_difference_is_one_for_each_task(study):
    fill(study, EFFECTS)
    plain = Comparison(name="plain", target="top", control="matched", metric="margin")
    table = contrast_of(study, plain)
    assert table["part"].tolist() == ["difference", "target", "control"] * 4
    assert table["tasks"].unique().tolist() == sorted(SIZES)
    ratios = cluster_totals(study)
    for task in SIZES:
        row = part_of(table, "difference", tasks=task)
        one, sizes = ratios[task, "top/None"]
        two, _ = ratios[task, "matched/None"]
        expected = cluster_robust([[Ratio((one - two)[:, None], sizes)]])
        ends = tuple(float(end[0]) for end in expected.bounds(0.95))
        assert (row["low"], row["high"]) == pytest.approx(ends)
    tests = table[table["part"] == "difference"]
    ranked = tests.sort_values("p")
    steps = np.maximum.accumulate(ranked["p"].to_numpy() * [4, 3, 2, 1]).clip(max=1)
    np.testing.assert_allclose(ranked["p_holm"], steps)
    one_task = Comparison(
        name="one", target="top", control="matched", metric="margin", tasks=("tse",)
    )
    assert contrast_of(study, one_task)["tasks"].unique().tolist() == ["tse"]


def test_a_swept_target_is_compared_group_by_group(study):
    for name, family, layers in (
        ("baseline", None, (None, None)),
        ("top[2-3]", "top", (2, 3)),
        ("top[0-1]", "top", (0, 1)),
        ("matched[0-1]", "matched", (0, 1)),
        ("matched[2-3]", "matched", (2, 3)),
        ("one", "one", (None, None)),
    ):
        values = np.random.default_rng(len(name) + (layers[0] or 0)).normal(size=12)
        named = {"clusters": [f"c{n % 4}" for n in range(12)], "layers": layers, "family": family}
        study.pairs(name, [1] * 12, values.tolist(), **named)
    table = contrast_of(
        study, Comparison(name="s", target="top", control="matched", metric="margin")
    ).query("part == 'difference'")
    assert table["target"].tolist() == ["top[0-1]", "top[2-3]"]
    assert table["control"].tolist() == ["matched[0-1]", "matched[2-3]"]
    assert table["first_layer"].tolist() == [0, 2]
    table = contrast_of(study, Comparison(name="s", target="top", control="one", metric="margin"))
    assert table["control"].unique().tolist() == ["one"]
    assert table["target"].nunique() == 2


def test_what_cannot_be_compared_is_said(study, caplog):
    fill(study, EFFECTS)
    nobody = Comparison(name="x", target="top", control="nobody", metric="margin")
    assert contrast_of(study, nobody).empty
    assert caplog.messages == [
        "contrast x: top is compared with nothing: 0 conditions are called nobody"
    ]


def test_without_results_in_all_tasks_a_part_is_nan(study):
    fill(study, EFFECTS)
    items = study.items.query("cell_key != 'm/main/tse/matched/None'")
    table = contrast(study.manifest, items, [CONTRAST])
    for part in ("interaction", "target_on_grammar"):
        row = part_of(table, part)
        assert np.isnan([row["estimate"], row["low"], row["p"]]).all()
    assert part_of(table, "interaction")["num_tasks"] == 3
    assert np.isfinite(part_of(table, "target_on_other")["estimate"])


def test_checkpoints_are_contrasted_by_themselves(study):
    fill(study, EFFECTS, revision="step1")
    alone = contrast_of(study)
    fill(study, {"top": (0.0, 0.0), "matched": (0.0, 0.0)}, seed=1, revision="step0")
    both = contrast_of(study)
    assert both["revision"].unique().tolist() == ["step0", "step1"]
    mine = both[both["revision"] == "step1"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, alone, check_exact=True)


def test_nothing_asked_gives_an_empty_table_of_the_same_types(study):
    fill(study, EFFECTS)
    full, empty = contrast_of(study), contrast(study.manifest, study.items, [])
    assert empty.empty
    pd.testing.assert_series_equal(empty.dtypes, full.dtypes)


def test_order_of_rows_changes_no_bit(study):
    fill(study, EFFECTS)
    manifest, items = (x.sample(frac=1, random_state=1) for x in (study.manifest, study.items))
    found = contrast(manifest, items, [CONTRAST])
    pd.testing.assert_frame_equal(found, contrast_of(study), check_exact=True)


def test_a_true_null_is_rarely_called_a_double_dissociation():
    # 200 studies without any effect: one of two one-sided tests after Holm is a double at most in
    # 5 %; both at once in far fewer. The interaction's interval leaves out 0 in about 5 %.
    rng = np.random.default_rng(9)
    doubles = outside = 0
    for _ in range(400):
        strata = [
            [Ratio(rng.normal(0, 1, (number, 1)), np.ones(number), weight=weight)]
            for number, weight in ((12, 0.5), (8, 0.5), (20, -0.5), (15, -0.5))
        ]
        low, high = cluster_robust(strata).bounds(0.95)
        outside += int(low[0] > 0 or high[0] < 0)
        one, two = cluster_robust(strata[:2]), cluster_robust(strata[2:])
        below = float(one.p_below()[0]), float(two.p_below()[0])
        doubles += int(max(below) <= 0.05)
    assert outside / 400 == pytest.approx(0.05, abs=3 * 0.011)
    assert doubles / 400 <= 0.02
