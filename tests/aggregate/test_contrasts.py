import numpy as np
import pandas as pd
import pytest

from sweeper.aggregate.contrasts import ItemTable, with_outcomes

CLUSTERS = ["a", "a", "b", "c"]


def _panel(study, keys, kind="minimal_pairs", metric="accuracy"):
    return ItemTable(study.items, study.manifest["cell_key"]).panels(keys, kind)[metric]


def test_differences_are_paired_by_item_and_not_by_row(study):
    ids = ["1", "2", "3", "4"]
    base = study.pairs("baseline", [1, 0, 1, 1], clusters=CLUSTERS, ids=ids)
    other = study.pairs("c", [0, 0, 0, 1], clusters=["c", "b", "a", "a"], ids=ids[::-1])
    # By item: 1: 1-1, 2: 0-0, 3: 0-1, 4: 0-1; clusters a 0, b -1, c -1.
    (sums,) = _panel(study, [base, other]).minus(0).sums()
    assert sums.numerators.tolist() == [[0, 0], [0, -1], [0, -1]]
    assert sums.denominators.tolist() == [2, 1, 1]
    assert sums.num_items == 4


def test_groups_are_added_up_apart_and_together(study):
    groups = ["x", "y", "y", "y"]
    base = study.pairs("baseline", [1, 1, 0, 1], clusters=CLUSTERS, groups=groups)
    parts = _panel(study, [base]).sums()
    assert [part.group for part in parts] == ["all", "x", "y"]
    # Cluster a reaches over both groups: whole in "all", cut in the groups.
    assert [part.numerators[:, 0].tolist() for part in parts] == [[2, 0, 1], [1], [1, 0, 1]]
    assert [part.denominators.tolist() for part in parts] == [[2, 1, 1], [1], [1, 1, 1]]
    assert [part.num_items for part in parts] == [4, 1, 3]


def test_same_id_in_two_clusters_is_two_items(study):
    base = study.pairs("baseline", [1, 0], clusters=["a", "b"], ids=["0", "0"])
    other = study.pairs("c", [1, 1], clusters=["b", "a"], ids=["0", "0"])
    (sums,) = _panel(study, [base, other]).sums()
    assert sums.numerators.tolist() == [[1, 1], [0, 1]]


def test_rates_are_weighted_by_tokens(study):
    base = study.windows("baseline", [-20.0, -90.0], [10, 30])
    (sums,) = _panel(study, [base], "perplexity", "nll").sums()
    assert sums.values().tolist() == [110 / 40]


@pytest.mark.parametrize(
    ("clusters", "ids", "message"),
    [
        (["a", "a", "b"], ["1", "2", "3"], "1 only in the first, 0 only in the second"),
        (CLUSTERS, ["1", "2", "3", "5"], "1 only in the first, 1 only in the second"),
        (["a", "b", "b", "c"], ["1", "2", "3", "4"], "different items"),
        ([*CLUSTERS, "c"], ["1", "2", "3", "4", "5"], "0 only in the first, 1 only in the second"),
        ([*CLUSTERS, "c"], ["1", "2", "3", "4", "4"], "1 rows repeat an item"),
        (["a", "a", "b", "b"], ["1", "2", "3", "3"], "1 rows repeat an item"),
    ],
)
def test_cells_with_other_items_are_an_error(study, clusters, ids, message):
    base = study.pairs("baseline", [1] * 4, clusters=CLUSTERS, ids=["1", "2", "3", "4"])
    other = study.pairs("c", [1] * len(ids), clusters=clusters, ids=ids)
    with pytest.raises(ValueError, match=message):
        _panel(study, [base, other])


def test_a_doubled_item_of_the_first_cell_is_an_error(study):
    key = study.pairs("baseline", [1, 1], clusters=["a", "a"], ids=["1", "1"])
    with pytest.raises(ValueError, match="1 rows repeat an item"):
        _panel(study, [key])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_an_error(study, bad):
    key = study.pairs("baseline", [1, 1], [0.5, bad], clusters=["a", "b"])
    with pytest.raises(ValueError, match=r"items\.margin of cell m/main/t/baseline/None"):
        _panel(study, [key])
    key = study.windows("baseline", [-1.0, bad], [3, 3], task="ppl")
    with pytest.raises(ValueError, match=r"items\.logprob of cell"):
        _panel(study, [key], "perplexity", "nll")


def test_missing_judgement_is_an_error(study):
    key = study.pairs("baseline", [True, None], [0.5, 0.5], clusters=["a", "b"])
    with pytest.raises(ValueError, match=r"items\.correct"):
        _panel(study, [key])


@pytest.mark.parametrize("tokens", [[3, 4], [0, 3]])
def test_windows_must_have_the_same_tokens_in_all_cells(study, tokens):
    base = study.windows("baseline", [-1.0, -2.0], [0, 3] if tokens[0] == 0 else [3, 3])
    other = study.windows("c", [-1.0, -2.0], tokens)
    with pytest.raises(ValueError, match="num_tokens"):
        _panel(study, [base, other], "perplexity", "nll")


@pytest.mark.parametrize("column", ["cluster", "group", "item_id"])
def test_missing_names_are_an_error(study, column):
    key = study.pairs("baseline", [1, 1], clusters=["a", "b"])
    items = study.items
    items.loc[0, column] = None
    with pytest.raises(ValueError, match=f"items.{column} holds missing values"):
        ItemTable(items, [key])


def test_a_group_may_not_be_called_all_beside_others(study):
    key = study.pairs("baseline", [1, 1], clusters=["a", "b"], groups=["all", "x"])
    with pytest.raises(ValueError, match="reserved"):
        _panel(study, [key]).sums()


def harness_items(**columns):
    """Two cells with two documents of a harness task; the second cell's values are one higher."""
    rows = []
    for shift, cell in enumerate(("base", "other")):
        for number in range(2):
            values = {name: None if v is None else v[number] + shift for name, v in columns.items()}
            place = {"item_id": f"t/{number}", "group": "t", "cluster": f"t/{number}"}
            absent = dict.fromkeys(("correct", "margin", "logprob"))
            rows.append({"cell_key": cell, **place, **absent, "num_tokens": 4, **values})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"correct": [0, 0], "margin": [0.5, 1.5], "logprob": [-3, -4]}, {"accuracy", "margin"}),
        ({"correct": [0, 0], "logprob": [-3, -4]}, {"accuracy", "nll"}),
        ({"logprob": [-3, -4]}, {"nll"}),
        ({"correct": [0, 0], "margin": [0.5, np.nan], "logprob": [-3, -4]}, {"accuracy", "nll"}),
        ({}, set()),
    ],
)
def test_a_harness_task_has_the_metrics_that_all_its_documents_have(columns, expected):
    table = ItemTable(harness_items(**columns), ["base", "other"])
    assert table.panels(["base", "other"], "lm_eval").keys() == expected


@pytest.mark.parametrize(
    ("column", "metric", "left"),
    [
        ("correct", "accuracy", ["margin", "acc_norm"]),
        ("margin", "margin", ["accuracy", "acc_norm"]),
        ("outcome acc_norm", "acc_norm", ["accuracy", "margin"]),
    ],
)
def test_a_value_that_only_some_cells_lack_is_said(caplog, column, metric, left):
    scores = {"correct": [0, 0], "margin": [0.5, 1.5], "logprob": [-3, -4]}
    items = harness_items(**scores, **{"outcome acc_norm": [1, 1]}).astype({column: float})
    cells = ["base", "other"]
    assert metric in ItemTable(items, cells).panels(cells, "lm_eval")
    assert caplog.messages == []
    items.loc[3, column] = np.nan
    assert list(ItemTable(items, cells).panels(cells, "lm_eval")) == left
    (said,) = caplog.messages
    assert said == (
        f"task t: metric {metric} is left out for all conditions: 1 values are missing in other"
    )
    items.loc[1, column] = np.nan  # the same document in the other cell
    caplog.clear()
    assert metric not in ItemTable(items, cells).panels(cells, "lm_eval")
    assert caplog.messages == []


def test_means_of_the_harness_become_metrics():
    items = harness_items(correct=[0, 0])
    values = [("acc", 0.0, True), ("acc_norm", 1.0, True), ("perplexity", -3.0, False)]
    outcomes = pd.DataFrame(
        [
            {**row, "metric": metric, "value": value + number, "averaged": averaged}
            for number, row in enumerate(items[["cell_key", "item_id"]].to_dict("records"))
            for metric, value, averaged in values
        ]
    )
    table = ItemTable(with_outcomes(items, outcomes), ["base", "other"])
    panels = table.panels(["base", "other"], "lm_eval")
    assert list(panels) == ["accuracy", "acc_norm"]
    assert panels["acc_norm"].values.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert with_outcomes(items, outcomes[:0]).equals(items)
