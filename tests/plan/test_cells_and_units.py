from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records_factory import cell, checkpoint, condition, unit

from sweeper.plan.cells import (
    matched_by_perplexity,
    needs_census,
    needs_match,
    num_draws,
    score_cells,
    seeds_of,
)
from sweeper.plan.cost import guessed_rate
from sweeper.plan.forecast import Work, forecast
from sweeper.plan.layers import concrete_conditions
from sweeper.plan.sharing import layers_shared, neighbours
from sweeper.plan.units import (
    UNITS_PER_WORKER,
    UnitLimits,
    group_cells,
    make_units,
    saved_part,
    unit_limits,
)
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
    assert num_draws(job(), concrete_conditions(job(), checkpoint())) == 1 + 1 + 4 + 4 + 1


def test_a_control_waits_for_the_census_that_its_condition_needs():
    conditions = concrete_conditions(job(), checkpoint())
    assert {name for name in conditions if needs_census(conditions, name)} == {"top", "control"}
    assert not any(needs_match(conditions, name) for name in conditions)


def test_what_waits_for_a_census_or_a_match():
    matched = {"kind": "matched", "match": "top"}
    perplexity = matched | {"by": "perplexity", "task": "b"}
    named = {"kind": "explicit", "neurons": {0: [1]}}
    conditions = concrete_conditions(
        job(
            condition={
                "base": {"operation": None},
                "top": {"operation": "mean", "neurons": named},
                "like": {"operation": "mean", "neurons": matched | {"by": "moments"}},
                "as_bad": {"operation": "mean", "neurons": perplexity},
                "control": {"operation": "mean", "neurons": {"kind": "random", "match": "as_bad"}},
                "all": {"operation": "remove_mlp", "neurons": {"kind": "all"}},
            }
        ),
        checkpoint(),
    )
    waits = {name for name in conditions if needs_census(conditions, name)}
    assert waits == {"top", "like", "as_bad", "control"}
    assert {name: needs_match(conditions, name) for name in conditions} == {
        **dict.fromkeys(("base", "top", "like", "all")),
        **dict.fromkeys(("as_bad", "control"), "as_bad"),
    }
    assert list(matched_by_perplexity(conditions)) == ["as_bad"]


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
    limits = UnitLimits(cost=max_cost, sharing=max_cost, unshared=max_cost)
    groups = list(group_cells(cells, limits))
    assert sorted(c.key for group in groups for c in group) == sorted({c.key for c in cells})
    for group in groups:
        assert len({(c.task, c.model, c.revision, c.kind) for c in group}) == 1
        assert len(group) == 1 or sum(c.cost for c in group) <= max_cost


def test_units_are_named_after_their_cells():
    cells = [cell("x"), cell("y"), cell("z")]
    limits = UnitLimits(cost=20, sharing=20, unshared=20)
    first = make_units(cells, limits, lambda name, group: unit(name, group))
    assert [len(u.cells) for u in first] == [2, 1]
    assert [u.id for u in make_units(cells, limits, unit)] == [u.id for u in first]
    assert first[0].cost == 20


def test_units_are_as_long_as_wanted_but_enough_for_all_workers():
    wanted = {"cost": 6000, "sharing": 48_000}
    assert unit_limits(1e6, 100, 60, 2) == UnitLimits(**wanted, unshared=125_000)
    assert unit_limits(1000, 100, 60, 2) == UnitLimits(**wanted, unshared=125)


@given(
    costs=st.lists(st.integers(1, 50), min_size=1, max_size=200),
    part=st.floats(0, 1),
    workers=st.integers(1, 8),
)
def test_small_cells_make_enough_units_for_all_workers_whatever_they_share(costs, part, workers):
    cells = [cell(str(i), cost=float(cost)) for i, cost in enumerate(costs)]
    limits = unit_limits(sum(costs), 1e9, 60, workers)
    groups = list(group_cells(cells, limits, lambda _first, _second: part))
    for group in groups:
        assert len(group) == 1 or sum(c.cost for c in group) <= limits.unshared
    if max(costs) <= limits.unshared:
        assert len(groups) >= UNITS_PER_WORKER * workers


def test_cells_that_share_nearly_everything_keep_all_workers_busy():
    cells = [cell(f"{i:03}", cost=100.0) for i in range(100)]
    limits = unit_limits(10_000, 1e9, 60, 4)
    groups = list(group_cells(cells, limits, lambda _first, _second: 31 / 32))
    assert [len(group) for group in groups] == [6] * 16 + [4]


def test_what_is_shared_is_saved_for_all_but_the_first():
    cells = [cell(name, cost=100.0) for name in "abcd"]
    assert saved_part(cells, lambda _first, _second: 0.5) == 0.375
    assert saved_part(cells, lambda _first, _second: 0.0) == 0
    assert saved_part(cells[:1], lambda _first, _second: 0.5) == 0
    assert saved_part([cell("free", cost=0.0)], lambda _first, _second: 0.5) == 0
    parts = {("a", "b"): 0.4, ("b", "c"): 0.0, ("c", "d"): 0.8}
    assert saved_part(cells, lambda first, second: parts[first.key, second.key]) == 0.3


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
    limits = UnitLimits(cost=150, sharing=300, unshared=300)
    found = [
        {names[c.condition_key] for c in group} for group in group_cells(ordered, limits, shared)
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
    one, other = (condition(operation="set", neurons={2: (1,)}, values={2: (v,)}) for v in (1, 2))
    assert layers_shared(one, other, 4) == 2
    assert layers_shared(one, one, 4) == 4


def test_forecast_counts_what_is_left():
    work = [
        Work(cells=1, done=1, cost=500.0),
        Work(cells=11, done=10, cost=100.0),
        Work(cells=11, done=0, cost=40.0),
    ]
    row = forecast(job(), checkpoint(), work, rate=10.0, workers=2)
    assert (row.cells, row.done) == (23, 11)
    assert row.positions == 1 * 100 + 11 * 40
    assert row.seconds == pytest.approx(540 / 20)
    # At most 540 / 8 = 67.5 positions a unit: one cell of a, one of b in each.
    assert row.units == 1 + 11


@pytest.mark.parametrize(("seconds", "units"), [(60, 1 + 4), (8, 1 + 6)])
def test_forecast_knows_both_limits_of_a_unit(seconds, units):
    work = [Work(cells=11, done=10, cost=100.0), Work(cells=11, done=0, cost=40.0)]
    limited = job(cluster={"unit_seconds": seconds})
    row = forecast(limited, checkpoint(), work, rate=10.0, workers=1)
    # Cells of 40 positions: at most 540 / 4 = 135 for enough units, or 80 in eight seconds.
    assert row.units == units


def test_a_checkpoint_s_units_are_many_enough_for_the_workers_that_it_keeps_busy():
    work = [Work(cells=8, done=0, cost=10.0)]
    counts = {
        part: forecast(job(), checkpoint(), work, rate=10.0, workers=4, part=part).units
        for part in (1.0, 0.3, 0.01)
    }
    # 80 positions: 5, 10 or 20 of them a unit at most, for four workers, two or one.
    assert counts == {1.0: 8, 0.3: 8, 0.01: 4}


def test_the_guess_grows_with_the_machine_and_shrinks_with_the_model():
    small, large = checkpoint(), checkpoint(num_neurons=64)
    assert guessed_rate(small, 2, 0) == 2 * guessed_rate(small, 1, 0)
    assert guessed_rate(small, 1, 0) == 4 * guessed_rate(large, 1, 0)
