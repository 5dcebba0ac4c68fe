import numpy as np
import pandas as pd
import pytest
from records_factory import checkpoint

from sweeper.errors import UserError
from sweeper.run.manifest import conditions_table, manifest_rows, manifest_table
from sweeper.run.resolve import resolve_conditions
from sweeper.spec.job import JobSpec


def job(**conditions) -> JobSpec:
    return JobSpec.model_validate(
        {
            "name": "j",
            "model": {"m": {"path": "org/m"}},
            "corpus": {"c": {"kind": "topics"}},
            "census": {"corpus": "c"},
            "suite": {"g": {"kind": "minimal_pairs", "source": {"kind": "grammar"}}},
            "condition": {"base": {"operation": None}, **conditions},
            "seeds": 3,
        }
    )


def census() -> pd.DataFrame:
    """Four layers of 32 neurons; the larger the index, the larger the statistic."""
    layer, neuron = np.divmod(np.arange(128), 32)
    return pd.DataFrame({"layer": layer, "neuron": neuron, "wd": neuron / 32.0, "skew": -neuron})


TOP = {"operation": "zero", "neurons": {"kind": "top", "fraction": 0.1}}
MATCHED = {"operation": "zero", "neurons": {"kind": "random", "match": "top"}}


def test_sets_by_statistic_and_their_controls():
    found = resolve_conditions(job(top=TOP, control=MATCHED), checkpoint(), census())
    assert [(c.name, c.seed) for c in found] == [
        ("base", None),
        ("top", None),
        ("control", 0),
        ("control", 1),
        ("control", 2),
    ]
    # 0.9 quantile of 0..31 is 27.9: neurons 28 to 31.
    assert found[1].neurons == dict.fromkeys(range(4), (28, 29, 30, 31))
    for control in found[2:]:
        assert {layer: len(chosen) for layer, chosen in control.neurons.items()} == dict.fromkeys(
            range(4), 4
        )
    assert len({c.key for c in found}) == 5


def test_without_a_census_only_what_needs_none():
    free = {"operation": "zero", "neurons": {"kind": "random", "fraction": 0.25, "layers": [1]}}
    named = {"operation": "zero", "neurons": {"kind": "explicit", "neurons": {2: [5, 3]}}}
    asked = job(top=TOP, control=MATCHED, free=free, named=named)
    found = resolve_conditions(asked, checkpoint(), None)
    assert [c.name for c in found] == ["base", "free", "free", "free", "named"]
    assert {layer: len(n) for layer, n in found[1].neurons.items()} == {1: 8}
    assert found[-1].neurons == {2: (3, 5)}
    # What needs no census is the same with one.
    with_census = resolve_conditions(asked, checkpoint(), census())
    assert [c for c in with_census if c.name not in ("top", "control")] == found


def test_layers_restrict_the_set_and_its_control():
    some = {"operation": "zero", "neurons": {"kind": "top", "fraction": 0.1, "layers": [3, 0]}}
    found = resolve_conditions(job(top=some, control=MATCHED), checkpoint(), census())
    assert [sorted(c.neurons) for c in found] == [[], [0, 3], [0, 3], [0, 3], [0, 3]]


def test_an_empty_set_is_an_error_that_says_what_to_do():
    flat = census().assign(wd=1.0)
    with pytest.raises(UserError, match=r"^condition\.top\.neurons: no neuron of model 'm'"):
        resolve_conditions(job(top=TOP), checkpoint(), flat)


def test_manifest_rows_tell_controls_and_baseline():
    from sweeper.plan.cells import census_cell, score_cells
    from sweeper.records import TaskFacts

    asked = job(top=TOP, control=MATCHED)
    conditions = resolve_conditions(asked, checkpoint(), census())
    facts = TaskFacts(identity={"data": "sha256:1"}, positions=1.0, num_items=2, num_clusters=2)
    cells = score_cells(checkpoint(), conditions, {"g": facts})
    first = census_cell(checkpoint(), asked.census, "sha256:0")
    table = manifest_table([manifest_rows(asked, [first, *cells], conditions)]).to_pandas()
    assert table["kind"].tolist() == ["census"] + ["score"] * 5
    assert table["is_baseline"].tolist() == [False, True] + [False] * 4
    assert table["control_of"].dropna().tolist() == ["top"] * 3
    assert table["num_neurons"].tolist() == [0, 0, 16, 16, 16, 16]
    assert table["seed"].dropna().tolist() == [0, 1, 2]
    assert table["task_kind"].tolist() == ["census"] + ["minimal_pairs"] * 5


def test_the_sets_table_has_a_row_for_each_condition_and_layer():
    conditions = resolve_conditions(job(top=TOP, control=MATCHED), checkpoint(), census())
    table = conditions_table(conditions)
    assert len(table) == 4 * 4  # the baseline has none
    assert (table["cell_key"] == table["condition_key"]).all()
    rebuilt = {
        key: {row.layer: tuple(row.neurons) for row in rows.itertuples()}
        for key, rows in table.groupby("condition_key")
    }
    assert rebuilt == {c.key: dict(c.neurons) for c in conditions if c.neurons}
    assert conditions_table([]).empty
