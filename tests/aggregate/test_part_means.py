import logging

import numpy as np
import pandas as pd
import pytest
from imported_tables import Imported
from scipy import stats

from sweeper.aggregate import step_changes
from sweeper.aggregate.part_means import part_sizes

SIZES = {"a": 100, "b": 200, "c": 300, "d": 400}
PARTS = sorted(SIZES)


@pytest.fixture
def data() -> Imported:
    return Imported()


def shares(data, revision="step1", only=PARTS, seed=0, **more):
    """Shares of the parts at a checkpoint, (C,)."""
    rng = np.random.default_rng([seed, int(revision.removeprefix("step"))])
    right = {name: int(rng.integers(1, size)) for name, size in SIZES.items()}
    data.parts({name: (right[name], SIZES[name]) for name in only}, revision, **more)
    return np.array([right[name] / SIZES[name] for name in only])


def wholes(data, groups=None):
    levels = data.levels(groups or {"g": PARTS})
    return levels[levels["group"] == "all"].reset_index(drop=True)


def pooled(values):
    return float(np.average(values, weights=list(SIZES.values())))


def test_the_harness_shows_that_parts_weigh_by_their_documents(data):
    values = shares(data)
    data.value(data.cell("g"), pooled(values), 0.01)
    row = wholes(data).iloc[0]
    assert row["value"] == pytest.approx(pooled(values))
    assert (row["weights"], row["source"], row["interval"]) == ("documents", "parts", "clusters")
    # Linearised in the parts' totals, as a ratio of two sums.
    sizes = np.array(list(SIZES.values()))
    residuals = sizes * (values - pooled(values))
    assert row["low"] < row["value"] < row["high"]
    assert abs(residuals.sum()) < 1e-9


def test_parts_weigh_alike_where_nothing_is_told(data):
    values = shares(data)
    row = wholes(data).iloc[0]
    assert row["value"] == pytest.approx(values.mean())
    assert row["weights"] == "alike"


def test_weights_are_the_same_at_checkpoints_where_the_harness_tells_nothing(data, caplog):
    values = {step: shares(data, f"step{step}") for step in (1, 2, 3)}
    for step in (1, 3):
        data.value(data.cell("g", f"step{step}"), pooled(values[step]), 0.01)
    rows = wholes(data)
    assert rows["value"].tolist() == pytest.approx([pooled(values[step]) for step in (1, 2, 3)])
    assert set(rows["weights"]) == {"documents"}
    assert caplog.messages == []


def test_rounded_values_still_show_how_parts_weigh(data, caplog):
    values = shares(data)
    for name, value in zip(PARTS, values, strict=True):
        data.aggregates[PARTS.index(name)]["value"] = round(value, 4)
    data.value(data.cell("g"), round(pooled(values), 4), 0.01)
    row = wholes(data).iloc[0]
    assert (row["weights"], row["source"]) == ("documents", "parts")
    assert row["value"] == pytest.approx(pooled(values), abs=1e-4)
    assert caplog.messages == []


def test_changes_are_those_of_the_levels(data):
    """Weighted by documents, nested, and fully nested."""
    for step in (1, 2, 3):
        values = shares(data, f"step{step}")
        data.value(data.cell("outer", f"step{step}"), pooled(values), 0.01)
    groups = {"outer": PARTS, "same": PARTS, "inner": ["a", "b"]}
    levels = data.levels(groups)
    none = pd.DataFrame({"cell_key": [], "item_id": [], "metric": [], "value": []})
    manifest = pd.DataFrame(data.manifest)
    changes = step_changes(levels, none.astype({"cell_key": "str"}), manifest, groups)
    assert changes.groupby("task")["num_pairs"].agg(["size", "max"]).to_dict("index") == {
        "inner": {"size": 2, "max": 2},
        "outer": {"size": 2, "max": 4},
        "same": {"size": 2, "max": 4},
    }
    of = levels[levels["group"] == "all"].set_index(["task", "step"])["value"]
    for row in changes.to_dict("records"):
        expected = of[row["task"], row["step"]] - of[row["task"], row["from_step"]]
        assert row["change"] == pytest.approx(expected)
        assert row["low"] < row["change"] < row["high"]
    alike = changes[changes["task"] == "same"].iloc[0]
    values = [shares(Imported(), f"step{step}") for step in (1, 2)]
    interval = stats.ttest_rel(values[1], values[0]).confidence_interval(0.95)
    assert (alike["low"], alike["high"]) == pytest.approx((interval.low, interval.high))


def test_a_checkpoint_that_lacks_a_part_has_no_mean(data, caplog):
    shares(data)
    shares(data, "step2", only=["a", "b", "c"])
    with caplog.at_level(logging.WARNING, "sweeper"):
        rows = wholes(data).set_index("revision")
    assert rows.loc["step1", "value"] > 0
    assert np.isnan(rows.loc["step2", ["value", "low", "high"]].astype(float)).all()
    assert rows.loc["step2", "num_clusters"] == 3
    assert caplog.messages == ["g: accuracy has no mean over parts: m step2 (3 of 4 parts)"]


def test_a_part_that_is_missing_everywhere_leaves_the_harness_s_own_value(data, caplog):
    shares(data, only=["a", "b", "c"])
    shares(data, "step2", only=["a", "b", "c"])
    data.value(data.cell("g"), 0.45, 0.01)
    rows = wholes(data)
    assert rows["value"].tolist() == pytest.approx([0.45, np.nan], nan_ok=True)
    assert rows["source"].tolist() == ["aggregates", "parts"]
    half = 0.01 * stats.norm.ppf(0.975)
    assert (rows.loc[0, "low"], rows.loc[0, "high"]) == pytest.approx((0.45 - half, 0.45 + half))
    assert caplog.messages == [
        "g: accuracy is the harness's own value, not the mean over parts: m step1 (3 of 4 parts)",
        "g: accuracy has no mean over parts: m step2 (3 of 4 parts)",
    ]


def test_a_value_of_the_harness_that_is_no_mean_of_the_parts(data, caplog):
    values = shares(data)
    shares(data, "step2")
    data.value(data.cell("g"), float(values.mean()) + 0.01, 0.01)
    rows = wholes(data)
    assert rows["value"].tolist() == pytest.approx([values.mean() + 0.01, np.nan], nan_ok=True)
    assert "m step1 (not the mean of its parts)" in caplog.messages[0]
    assert "m step2 (not the mean of its parts elsewhere)" in caplog.messages[1]


def test_parts_of_unknown_size_cannot_weigh_by_it(data, caplog):
    shares(data)
    for row in data.aggregates:
        row["stderr"] = 0.0123456
    values = np.array([row["value"] for row in data.aggregates])
    data.value(data.cell("g"), pooled(values), 0.01)
    row = wholes(data).iloc[0]
    assert (row["value"], row["source"]) == (pytest.approx(pooled(values)), "aggregates")
    assert "not the mean of its parts" in caplog.text


def test_a_part_that_is_here_without_the_metric_is_left_out(data, caplog):
    values = shares(data)
    for name in ("a", "b"):
        data.value(f"m step1 {name}", 3.5, 0.1, metric="ppl")
    rows = wholes(data).set_index("metric")
    assert rows.loc["accuracy", "value"] == pytest.approx(values.mean())
    assert rows.loc["ppl", "value"] == 3.5
    assert rows["num_clusters"].to_dict() == {"accuracy": 4, "ppl": 2}
    assert caplog.messages == []


def test_sizes_that_checkpoints_agree_on():
    rows = pd.DataFrame({"task": list("aabbc"), "num_items": [5, np.nan, 5, 6, np.nan]})
    found = part_sizes(rows, ["task"]).to_dict()
    assert found["a"] == 5
    assert np.isnan([found["b"], found["c"]]).all()
