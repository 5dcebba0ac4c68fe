from dataclasses import fields

import pandas as pd
import pytest

from sweeper.aggregate import Level, levels


def _study(study):
    study.pairs("baseline", [1, 1, 1, 0, 1], clusters=["a", "a", "b", "b", "b"])
    for seed, correct in enumerate(([1, 1, 0, 0, 1], [0, 1, 0, 0, 1])):
        study.pairs("random", correct, clusters=["a", "a", "b", "b", "b"], seed=seed)
    study.windows("baseline", [-20.0, -90.0, -50.0], [10, 30, 20], task="ppl")
    return study


def test_levels_hold_the_baseline_and_the_conditions(study):
    _study(study)
    table = levels(study.manifest, study.items)
    assert list(table.columns) == [field.name for field in fields(Level)]
    found = table.set_index(["metric", "condition"])["value"].to_dict()
    assert found["accuracy", "baseline"] == 0.8
    assert found["accuracy", "random"] == pytest.approx(0.5)
    assert found["nll", "baseline"] == pytest.approx(160 / 60)
    assert table["is_baseline"].tolist() == [True, True, False, True, False]
    assert table["num_seeds"].tolist() == [0, 0, 2, 0, 2]


def test_interval_of_a_level_by_hand(study):
    # Right 2 of 2 and 2 of 3: residuals 2 - 1.6 = 0.4 and -0.4; variance
    # (0.16 / (3/5) + 0.16 / (2/5)) / 25 = 0.0266667; SE 0.1632993.
    table = levels(_study(study).manifest, study.items)
    row = table.query("metric == 'accuracy' and condition == 'baseline'").iloc[0]
    half = 12.7062047 * 0.1632993
    assert row["cluster_low"] == pytest.approx(0.8 - half, abs=1e-6)
    assert row["cluster_high"] == pytest.approx(0.8 + half, abs=1e-6)


def test_levels_need_no_baseline(study):
    _study(study)
    items = study.items[~study.items["cell_key"].str.contains("baseline")]
    assert set(levels(study.manifest, items)["condition"]) == {"random"}


def test_order_of_rows_changes_no_bit(study):
    _study(study)
    expected = levels(study.manifest, study.items)
    manifest, items = (x.sample(frac=1, random_state=1) for x in (study.manifest, study.items))
    pd.testing.assert_frame_equal(levels(manifest, items), expected, check_exact=True)
