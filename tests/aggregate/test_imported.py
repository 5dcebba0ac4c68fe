from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from imported_tables import Imported
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from sweeper.aggregate import StepLevel, document_values


@pytest.fixture
def data() -> Imported:
    return Imported()


def test_columns_and_types(data):
    data.share(data.cell("piqa"), 3, 4)
    data.share(data.cell("piqa", "main"), 3, 4)
    levels = data.levels()
    assert list(levels.columns) == [field.name for field in fields(StepLevel)]
    assert levels["step"].tolist() == [1, pd.NA]
    assert levels["metric"].unique().tolist() == ["accuracy"]


def test_a_proportion_with_its_size_implied(data):
    data.share(data.cell("piqa"), 37, 50)
    row = data.levels().iloc[0]
    assert (row["interval"], row["source"], row["num_items"]) == ("wilson", "aggregates", 50)
    assert (row["low"], row["high"]) == pytest.approx(proportion_confint(37, 50, method="wilson"))


def test_none_right_has_the_size_of_the_other_checkpoints(data):
    data.share(data.cell("wsc", "step1"), 0, 104)
    data.share(data.cell("wsc", "step2"), 40, 104)
    data.share(data.cell("wsc", "step3"), 104, 104)
    levels = data.levels()
    assert levels["num_items"].tolist() == [104] * 3
    assert levels.loc[0, "high"] == pytest.approx(proportion_confint(0, 104, method="wilson")[1])
    assert levels.loc[2, "low"] == pytest.approx(proportion_confint(104, 104, method="wilson")[0])


def test_none_right_and_nothing_known_has_no_interval(data):
    data.share(data.cell("wsc"), 0, 104)
    row = data.levels().iloc[0]
    assert np.isnan([row["low"], row["high"]]).all()
    assert row["interval"] == ""
    assert pd.isna(row["num_items"])


def test_a_value_with_a_standard_error_that_is_of_something_else(data):
    data.value(data.cell("lambada"), 20.5, 1.5, metric="ppl")
    data.value(data.cell("clustered", size=1000), 0.7, 0.05)
    levels = data.levels().set_index("task")
    z = stats.norm.ppf(0.975)
    assert levels.loc["lambada", "low"] == pytest.approx(20.5 - 1.5 * z)
    assert levels.loc["clustered", "high"] == pytest.approx(0.7 + 0.05 * z)
    assert set(levels["interval"]) == {"normal"}
    assert levels.loc["clustered", "num_items"] == 1000


def test_no_standard_error(data):
    data.value(data.cell("wikitext"), 30.0, metric="word_perplexity")
    data.value(data.cell("small", size=40), 0.25)
    levels = data.levels().set_index("task")
    assert np.isnan(levels.loc["wikitext", "low"])
    assert (levels.loc["small", "low"], levels.loc["small", "high"]) == pytest.approx(
        proportion_confint(10, 40, method="wilson")
    )


def test_values_that_are_no_numbers(data):
    data.value(data.cell("lambada"), float("inf"), float("nan"), metric="ppl")
    row = data.levels().iloc[0]
    assert np.isnan(row["low"])


def test_a_document_that_is_no_number_leaves_no_level(data, caplog):
    data.logged(data.cell("a", "step1"), [0.2, 0.4, float("nan")])
    data.logged(data.cell("a", "step2"), [0.2, 0.4, float("inf")])
    data.logged(data.cell("b"), [0.2, 0.4])
    levels = data.levels()
    assert levels["value"].isna().tolist() == [True, True, False]
    assert levels["low"].isna().tolist() == [True, True, False]
    assert "2 values of documents are not finite, in the cells m step1 a, m step2 a" in caplog.text


def test_filters_keep_their_names(data):
    key = data.cell("gsm8k")
    data.value(key, 0.5, 0.1, metric="exact_match", filter="strict-match")
    data.value(key, 0.6, 0.1, metric="exact_match")
    assert data.levels()["metric"].tolist() == ["exact_match", "exact_match,strict-match"]


def test_documents_give_what_their_values_give(data):
    rng = np.random.default_rng(3)
    right, margins = rng.integers(0, 2, 60).astype(float), rng.normal(size=60)
    key = data.cell("piqa", size=60)
    data.logged(key, right)
    data.logged(key, margins, "margin")
    data.value(key, float(right.mean()), 0.9)
    levels = data.levels().set_index("metric")
    accuracy, margin = levels.loc["accuracy"], levels.loc["margin"]
    expected = proportion_confint(int(right.sum()), 60, method="wilson")
    assert (accuracy["low"], accuracy["high"]) == pytest.approx(expected)
    assert accuracy["source"] == "samples"
    t = stats.ttest_1samp(margins, 0).confidence_interval(0.95)
    assert (margin["low"], margin["high"]) == pytest.approx((t.low, t.high))
    assert (margin["interval"], margin["num_items"]) == ("t", 60)


VALUES = {"b_1": (30, 50), "b_2": (45, 50), "b_3": (20, 50), "b_4": (35, 50), "b_5": (41, 50)}


def test_a_group_is_the_mean_of_its_parts_with_clusters(data):
    data.parts(VALUES)
    levels = data.levels({"b": sorted(VALUES)}, confidence=0.9)
    row = levels[levels["group"] == "all"].iloc[0]
    means = np.array([right / size for right, size in VALUES.values()])
    fit = sm.OLS(means, np.ones(5)).fit()
    low, high = fit.conf_int(alpha=0.1)[0]
    assert row["value"] == pytest.approx(means.mean())
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert (row["interval"], row["source"]) == ("clusters", "parts")
    assert (row["num_items"], row["num_clusters"]) == (250, 5)
    assert levels.loc[levels["group"] != "all", "task"].unique().tolist() == ["b"]
    assert levels.loc[levels["group"] != "all", "group"].tolist() == sorted(VALUES)


def test_the_same_as_clustered_items(data):
    """With documents behind the parts: statsmodels' cluster-robust mean of all of them."""
    rng = np.random.default_rng(5)
    means, frames = rng.uniform(0.3, 0.9, 8), []
    for place, mean in enumerate(means):
        values = (rng.uniform(size=40) < mean).astype(float)
        key = data.cell(f"p{place}", size=40)
        data.logged(key, values)
        frames.append(pd.DataFrame({"value": values, "cluster": place}))
    items = pd.concat(frames)
    fit = sm.OLS(items["value"], np.ones(len(items))).fit(
        cov_type="cluster", cov_kwds={"groups": items["cluster"], "use_correction": True}
    )
    # The correction of statsmodels is C / (C - 1) * (N - 1) / (N - 1): that of equal clusters.
    half = stats.t.ppf(0.975, 7) * float(fit.bse.iloc[0])
    row = data.levels({"all_p": [f"p{n}" for n in range(8)]}).query("group == 'all'").iloc[0]
    assert row["value"] == pytest.approx(items["value"].mean())
    assert (row["low"], row["high"]) == pytest.approx((row["value"] - half, row["value"] + half))


def test_a_group_without_parts_is_a_task_by_itself(data):
    data.value(data.cell("mmlu"), 0.3, 0.01)
    row = data.levels({"mmlu": ["law", "physics"]}).iloc[0]
    assert (row["task"], row["group"], row["interval"]) == ("mmlu", "all", "normal")


def test_parts_stand_under_the_smallest_group(data):
    data.parts({"law": (5, 10), "maths": (6, 10), "physics": (8, 10)})
    groups = {"mmlu": ["law", "maths", "physics"], "stem": ["maths", "physics"]}
    levels = data.levels(groups)
    assert levels[["task", "group"]].to_records(index=False).tolist() == [
        ("mmlu", "all"),
        ("mmlu", "law"),
        ("stem", "all"),
        ("stem", "maths"),
        ("stem", "physics"),
    ]


def test_the_order_of_rows_changes_nothing(data):
    data.parts(VALUES)
    data.parts(VALUES, "step10", "n")
    data.parts(VALUES, "step2", "n")
    first = data.levels({"b": sorted(VALUES)})
    data.manifest.reverse()
    data.aggregates.reverse()
    pd.testing.assert_frame_equal(data.levels({"b": sorted(VALUES)}), first, check_exact=True)
    assert first.query("group == 'all'")["step"].tolist() == [1, 2, 10]


def test_values_of_documents():
    items = pd.DataFrame(
        {"cell_key": ["c", "c", "d"], "item_id": ["1", "2", "1"], "margin": [0.5, -1.0, None]}
    )
    outcomes = pd.DataFrame(
        {
            "cell_key": ["c", "c", "d"],
            "item_id": ["1", "2", "1"],
            "metric": ["acc", "acc", "perplexity"],
            "value": [1.0, 0.0, -7.5],
            "averaged": [True, True, False],
        }
    )
    found = document_values(items, outcomes)
    assert found.groupby(["cell_key", "metric"])["value"].apply(list).to_dict() == {
        ("c", "accuracy"): [1.0, 0.0],
        ("c", "margin"): [0.5, -1.0],
    }
