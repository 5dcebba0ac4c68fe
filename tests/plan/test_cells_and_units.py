from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records_factory import cell, checkpoint, condition, unit

from sweeper.plan.cells import needs_census, num_score_cells, score_cells, seeds_of
from sweeper.plan.cost import guessed_rate
from sweeper.plan.forecast import forecast
from sweeper.plan.sharing import layers_shared, neighbours
from sweeper.plan.units import UnitLimits, group_cells, make_units, unit_limits
from sweeper.records import TaskFacts
from sweeper.spec.job import JobSpec

TASKS = {
    "a": TaskFacts(identity={"data": "sha256:a"}, positions=100.0, num_items=9, num_clusters=3),
    "b": TaskFacts(identity={"data": "sha256:b"}, positions=40.0, num_items=9, num_clusters=3),
}


def job(**changes: Any) -> JobSpec:
    top = {"kind": "top", "fraction": 0.1}
    plain = {
        "name": "j",
        "model": {"m": {"path": "org/m"}},
        "corpus": {"c": {"kind": "topics"}},
        "census": {"corpus": "c"},
        "suite": {
            "a": {"kind": "minimal_pairs", "source": {"kind": "grammar"}},
            "b": {"kind": "perplexity", "corpus": "c"},
        },
        "condition": {
            "base": {"operation": None},
            "top": {"operation": "zero", "neurons": top},
            "control": {"operation": "zero", "neurons": {"kind": "random", "match": "top"}},
            "free": {"operation": "zero", "neurons": {"kind": "random", "fraction": 0.5}},
            "named": {"operation": "zero", "neurons": {"kind": "explicit", "neurons": {0: [1]}}},
        },
        "seeds": 4,
    }
    return JobSpec.model_validate({**plain, **changes})


def test_only_random_sets_have_seeds():
    seeds = {name: list(seeds_of(spec, 4)) for name, spec in job().condition.items()}
    draws = [0, 1, 2, 3]
    assert seeds == {
        "base": [None],
        "top": [None],
        "control": draws,
        "free": draws,
        "named": [None],
    }
    assert num_score_cells(job()) == (1 + 1 + 4 + 4 + 1) * 2


def test_a_control_waits_for_the_census_that_its_condition_needs():
    waits = {name for name in job().condition if needs_census(job(), name)}
    assert waits == {"top", "control"}


def test_one_cell_for_each_task_and_condition():
    conditions = [condition(name="base", operation=None, neurons={}), condition()]
    cells = score_cells(checkpoint(), conditions, TASKS)
    assert [(c.task, c.condition, c.cost) for c in cells] == [
        ("a", "base", 100.0),
        ("a", "top", 100.0),
        ("b", "base", 40.0),
        ("b", "top", 40.0),
    ]
    assert len({c.key for c in cells}) == 4


@given(
    st.lists(
        st.tuples(
            st.integers(0, 30), st.sampled_from("ab"), st.sampled_from("mn"), st.integers(1, 50)
        )
    ),
    st.integers(1, 200),
)
def test_units_hold_every_cell_once_and_never_mix(rows, max_cost):
    cells = [
        cell(f"{key}{task}{model}", task=task, model=model, cost=float(cost))
        for key, task, model, cost in rows
    ]
    groups = list(group_cells(cells, UnitLimits(cost=max_cost, sharing=max_cost)))
    assert sorted(c.key for group in groups for c in group) == sorted({c.key for c in cells})
    for group in groups:
        assert len({(c.task, c.model, c.revision, c.kind) for c in group}) == 1
        assert len(group) == 1 or sum(c.cost for c in group) <= max_cost


def test_units_are_named_after_their_cells():
    cells = [cell("x"), cell("y"), cell("z")]
    limits = UnitLimits(cost=20, sharing=20)
    first = make_units(cells, limits, lambda name, group: unit(name, group))
    assert [len(u.cells) for u in first] == [2, 1]
    assert [u.id for u in make_units(cells, limits, unit)] == [u.id for u in first]
    assert first[0].cost == 20


def test_units_are_as_long_as_wanted_but_enough_for_all_workers():
    assert unit_limits(1e6, 100, 60, 2) == UnitLimits(cost=6000, sharing=48_000)
    assert unit_limits(100_000, 100, 60, 2) == UnitLimits(cost=6000, sharing=12_500)
    assert unit_limits(1000, 100, 60, 2) == UnitLimits(cost=125, sharing=125)


def test_cells_that_share_layers_stay_together():
    sets = {"low": {0: (1,)}, "high": {9: (1,)}, "both": {0: (1,), 9: (2,)}, "other": {0: (7,)}}
    conditions = {
        c.key: c for c in (condition(name=name, neurons=chosen) for name, chosen in sets.items())
    }
    names = {c.key: c.name for c in conditions.values()}
    cells = [cell(name, condition_key=key, cost=100.0) for key, name in names.items()]

    def shared(first, second):
        pair = conditions[first.condition_key], conditions[second.condition_key]
        return layers_shared(*pair, 10) / 10

    ordered = neighbours(cells, conditions, 10)
    found = [
        {names[c.condition_key] for c in group}
        for group in group_cells(ordered, UnitLimits(cost=150, sharing=300), shared)
    ]
    # "low" and "both" differ in the last of ten layers only; the others share nothing.
    assert sorted(map(sorted, found)) == [["both", "low"], ["high"], ["other"]]


def test_layers_are_shared_up_to_the_first_difference():
    base = condition(name="base", operation=None, neurons={})
    low, high = condition(neurons={0: (1,)}), condition(neurons={2: (1,)})
    assert layers_shared(base, low, 4) == 0
    assert layers_shared(base, high, 4) == 2
    assert layers_shared(high, condition(name="twin", neurons={2: (1,)}), 4) == 4
    assert layers_shared(high, condition(neurons={2: (1,), 3: (0,)}), 4) == 3


def test_forecast_counts_what_is_left():
    row = forecast(
        job(),
        checkpoint(),
        TASKS,
        census_cost=500.0,
        done={"a": 10, "b": 0, "census": 1},
        rate=10.0,
        workers=2,
    )
    assert (row.cells, row.done) == (23, 11)
    assert row.positions == 1 * 100 + 11 * 40
    assert row.seconds == pytest.approx(540 / 20)
    # At most 540 / 8 = 67.5 positions a unit: one cell of a, one of b in each.
    assert row.units == 1 + 11


def test_the_guess_grows_with_the_machine_and_shrinks_with_the_model():
    small, large = checkpoint(), checkpoint(num_neurons=64)
    assert guessed_rate(small, 2, 0) == 2 * guessed_rate(small, 1, 0)
    assert guessed_rate(small, 1, 0) == 4 * guessed_rate(large, 1, 0)
