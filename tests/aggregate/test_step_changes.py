import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sweeper.aggregate import step_changes
from sweeper.aggregate.step_levels import COLUMNS

NAMES = {"model": "m", "task": "blimp", "metric": "accuracy", "low": np.nan, "high": np.nan}


def level(step, value, group="all", source="parts", **more):
    row = {"revision": f"step{step}", "step": step, "value": value, "group": group}
    return NAMES | row | {"source": source, "num_clusters": 3, "weights": "alike"} | more


def frame(rows):
    return pd.DataFrame(rows).reindex(columns=COLUMNS).astype({"step": "Int64"})


def documents(**values):
    """Values by document of the cells ``m STEP TASK``."""
    rows = [
        {"cell_key": key, "item_id": f"i{place}", "metric": "accuracy", "value": value}
        for key, of_cell in values.items()
        for place, value in enumerate(of_cell)
    ]
    columns = ["cell_key", "item_id", "metric", "value"]
    return pd.DataFrame(rows, columns=columns).astype({"value": "float64"})


def manifest(**revisions):
    rows = [
        {"cell_key": key, "model": "m", "revision": revision, "task": "piqa"}
        for key, revision in revisions.items()
    ]
    return pd.DataFrame(rows, columns=["cell_key", "model", "revision", "task"])


def test_parts_are_paired():
    rng = np.random.default_rng(2)
    values = {step: rng.uniform(0.4, 0.9, 12) for step in (4, 1, 2)}
    rows = [level(step, of_step.mean(), num_clusters=12) for step, of_step in values.items()]
    for step, of_step in values.items():
        rows += [level(step, v, f"p{n}", "aggregates") for n, v in enumerate(of_step)]
    parts = {"blimp": [f"p{n}" for n in range(12)]}
    found = step_changes(frame(rows), documents(), manifest(), parts, confidence=0.9)
    assert found["from_step"].tolist() == [1, 2]
    assert found["step"].tolist() == [2, 4]
    for row, (one, two) in zip(found.to_dict("records"), ((1, 2), (2, 4)), strict=True):
        expected = stats.ttest_rel(values[two], values[one])
        interval = expected.confidence_interval(0.9)
        assert row["change"] == pytest.approx((values[two] - values[one]).mean())
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
        assert row["p"] == pytest.approx(expected.pvalue)
        assert (row["num_pairs"], row["paired_by"]) == (12, "parts")


def test_documents_are_paired():
    rng = np.random.default_rng(4)
    one, two = rng.integers(0, 2, (2, 50)).astype(float)
    rows = [
        level(step, v.mean(), source="samples", task="piqa") for step, v in ((1, one), (2, two))
    ]
    found = step_changes(
        frame(rows), documents(a=one, b=two), manifest(a="step1", b="step2"), {}, confidence=0.95
    )
    expected = stats.ttest_rel(two, one)
    (row,) = found.to_dict("records")
    assert row["change"] == pytest.approx(two.mean() - one.mean())
    assert row["p"] == pytest.approx(expected.pvalue)
    assert (row["num_pairs"], row["paired_by"]) == (50, "documents")


def test_other_documents_are_not_paired():
    rows = [level(step, 0.5, source="samples", task="piqa") for step in (1, 2)]
    known = documents(a=[1, 0], b=[1, 0, 1])
    assert step_changes(frame(rows), known, manifest(a="step1", b="step2"), {}).empty


def test_documents_that_are_no_numbers_are_no_change():
    rows = [level(step, v, source="samples", task="piqa") for step, v in ((1, 0.5), (2, np.inf))]
    known = documents(a=[1, 0], b=[1, np.inf])
    assert step_changes(frame(rows), known, manifest(a="step1", b="step2"), {}).empty


def test_values_with_standard_errors_alone_cannot_be_paired():
    rows = [level(step, 0.5, source="aggregates", task="piqa") for step in (1, 2)]
    found = step_changes(frame(rows), documents(), manifest(), {})
    assert found.empty
    assert "paired_by" in found.columns


def test_checkpoints_without_a_step_or_a_value_have_no_place():
    rows = [level(1, 0.5), level(2, np.nan), level(3, 0.7), level(1, 0.9) | {"step": None}]
    rows += [level(step, 0.1 * n + 0.1 * step, f"p{n}") for step in (1, 2, 3) for n in range(3)]
    found = step_changes(frame(rows), documents(), manifest(), {"blimp": ["p0", "p1", "p2"]})
    assert found[["from_step", "step"]].to_numpy().tolist() == [[1, 3]]
    # All parts change alike, which does not say how sure the change is.
    assert np.isnan(found["low"]).all()
