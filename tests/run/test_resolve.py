import numpy as np
import pandas as pd
import pytest
from records_factory import checkpoint

from sweeper.errors import UserError
from sweeper.plan.cells import census_cell, score_cells
from sweeper.records import Condition, TaskFacts
from sweeper.run.manifest import conditions_table, manifest_rows, manifest_table
from sweeper.run.resolve import Sets
from sweeper.spec.job import JobSpec


def job(**conditions) -> JobSpec:
    return JobSpec.model_validate(
        {
            "name": "j",
            "model": {"m": {"path": "org/m"}},
            "corpus": {"c": {"kind": "topics"}},
            "census": {"corpus": "c"},
            "firing": {"corpora": ["c"]},
            "routing": {"corpus": "c"},
            "suite": {
                "g": {"kind": "minimal_pairs", "source": {"kind": "grammar"}},
                "p": {"kind": "perplexity", "corpus": "c"},
            },
            "condition": {"base": {"operation": None}, **conditions},
            "seeds": 3,
        }
    )


def census() -> pd.DataFrame:
    """Four layers of 32 neurons; the larger the index, the larger the statistic."""
    layer, neuron = np.divmod(np.arange(128), 32)
    return pd.DataFrame({"layer": layer, "neuron": neuron, "wd": neuron / 32.0, "skew": -neuron})


def resolve_conditions(asked, model, neurons, matches=None) -> list[Condition]:
    return Sets(asked, model, neurons, matches or {}).all()


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
    asked = job(top=TOP, control=MATCHED)
    conditions = resolve_conditions(asked, checkpoint(), census())
    facts = TaskFacts(identity={"data": "sha256:1"}, positions=1.0, num_items=2, num_clusters=2)
    cells = score_cells(checkpoint(), conditions, {"g": facts})
    first = census_cell(checkpoint(), asked.census, "sha256:0")
    table = manifest_table(
        [manifest_rows(asked, checkpoint(), [first, *cells], conditions)]
    ).to_pandas()
    assert table["kind"].tolist() == ["census"] + ["score"] * 5
    assert table["is_baseline"].tolist() == [False, True] + [False] * 4
    assert table["control_of"].dropna().tolist() == ["top"] * 3
    assert table["num_neurons"].tolist() == [0, 0, 16, 16, 16, 16]
    assert table["seed"].dropna().tolist() == [0, 1, 2]
    assert table["task_kind"].tolist() == ["census"] + ["minimal_pairs"] * 5


SWEPT = {
    "operation": "zero",
    "neurons": {"kind": "top", "fraction": 0.1, "layers": {"groups": 2}},
}
AS_BAD = {
    "operation": "zero",
    "neurons": {"kind": "matched", "match": "top", "by": "perplexity", "task": "p"},
}
ALIKE = {
    "operation": "zero",
    "neurons": {"kind": "matched", "match": "top", "by": "moments", "moments": ["skew", "wd"]},
}


def test_layer_groups_of_a_condition_and_of_its_controls():
    found = resolve_conditions(job(top=SWEPT, control=MATCHED), checkpoint(), census())
    assert [(c.name, c.seed, sorted(c.neurons)) for c in found] == [
        ("base", None, []),
        ("top[0-1]", None, [0, 1]),
        ("top[2-3]", None, [2, 3]),
        *(("control[0-1]", seed, [0, 1]) for seed in range(3)),
        *(("control[2-3]", seed, [2, 3]) for seed in range(3)),
    ]
    assert [(c.family, c.layers) for c in found[:3]] == [
        ("", None),
        ("top", (0, 1)),
        ("top", (2, 3)),
    ]
    # The same neurons as without groups, layer by layer.
    whole = resolve_conditions(job(top=TOP, control=MATCHED), checkpoint(), census())
    assert {**found[1].neurons, **found[2].neurons} == whole[1].neurons
    for seed in range(3):
        assert {**found[3 + seed].neurons, **found[6 + seed].neurons} == whole[2 + seed].neurons
    # Named otherwise, it is the same condition as one with a list of layers.
    listed = {"operation": "zero", "neurons": {**TOP["neurons"], "layers": [2, 3]}}
    assert resolve_conditions(job(top=listed), checkpoint(), census())[1].key == found[2].key


def test_a_set_matched_by_perplexity_is_known_with_its_match():
    asked = job(
        top=TOP, as_bad=AS_BAD, draws={**MATCHED, "neurons": {"kind": "random", "match": "as_bad"}}
    )
    assert [c.name for c in resolve_conditions(asked, checkpoint(), census())] == ["base", "top"]
    found = resolve_conditions(asked, checkpoint(), census(), {"as_bad": 0.25})
    assert [c.name for c in found] == ["base", "top", "as_bad", "draws", "draws", "draws"]
    # 0.25 quantile of 0..31 is 7.75.
    assert found[2].neurons == dict.fromkeys(range(4), tuple(range(8)))
    assert {len(chosen) for chosen in found[3].neurons.values()} == {8}
    # The neurons of the matched condition are no part of the pool.
    everything = resolve_conditions(asked, checkpoint(), census(), {"as_bad": 1.0})
    assert everything[2].neurons == dict.fromkeys(range(4), tuple(range(28)))


def test_sets_matched_by_moments_and_how_like_they_are():
    sets = Sets(job(top=TOP, alike=ALIKE), checkpoint(), census())
    found = sets.condition("alike")
    # Along a line the nearest others are the next ones.
    assert found.neurons == dict.fromkeys(range(4), (24, 25, 26, 27))
    table = sets.balances(["base", "alike", "top", "alike"])
    assert table["statistic"].tolist() == ["skew", "wd"]
    assert set(table["condition_key"]) == {found.key} == set(table["cell_key"])
    assert set(table["target_key"]) == {sets.condition("top").key}
    sd = np.arange(32).std()
    assert table["after"].tolist() == pytest.approx([4 / sd, 4 / sd])
    assert table["difference"].tolist() == pytest.approx([4 / sd, -4 / sd])
    assert sets.balances(["top"]).empty


def test_an_error_of_a_control_names_the_condition():
    half = {"operation": "zero", "neurons": {"kind": "top", "fraction": 0.8}}
    with pytest.raises(
        UserError, match=r"^condition\.alike\.neurons: layer 0 has 7 other neurons, 25 are needed"
    ):
        resolve_conditions(job(top=half, alike=ALIKE), checkpoint(), census())
    lacking = {"operation": "zero", "neurons": {**TOP["neurons"], "statistic": "md"}}
    draws = {"operation": "zero", "neurons": {"kind": "random", "match": "top"}}
    with pytest.raises(
        UserError, match=r"^condition\.top\.neurons: no neuron of the census in the store"
    ):
        resolve_conditions(job(draws=draws, top=lacking), checkpoint(), census())


def test_whole_layers_and_numbers_put_in():
    every = {"kind": "all", "layers": [1, 3]}
    named = {"kind": "explicit", "neurons": {2: [5, 3]}}
    asked = job(
        out={"operation": "remove_mlp", "neurons": every},
        put={"operation": "set", "value": -1, "neurons": named},
        mean={"operation": "mean", "neurons": named},
        draws={"operation": "mean", "neurons": {"kind": "random", "match": "mean"}},
    )
    before = resolve_conditions(asked, checkpoint(), None)
    assert [c.name for c in before] == ["base", "out", "put"]
    assert before[1].neurons == {1: tuple(range(32)), 3: tuple(range(32))}
    assert (before[1].values, before[2].values) == ({}, {2: (-1.0, -1.0)})
    means = census().assign(mean=lambda frame: frame["neuron"] / 8)
    found = {(c.name, c.seed): c for c in resolve_conditions(asked, checkpoint(), means)}
    assert found["mean", None].values == {2: (3 / 8, 5 / 8)}
    for seed in range(3):
        control = found["draws", seed]
        assert control.values == {2: tuple(neuron / 8 for neuron in control.neurons[2])}


def test_the_manifest_tells_groups_and_what_is_matched():
    asked = job(top=SWEPT, alike=ALIKE, control=MATCHED)
    conditions = resolve_conditions(asked, checkpoint(), census())
    facts = TaskFacts(identity={"data": "sha256:1"}, positions=1.0, num_items=2, num_clusters=2)
    cells = score_cells(checkpoint(), conditions, {"g": facts})
    rows = manifest_rows(asked, checkpoint(), cells, conditions)
    table = manifest_table([rows]).to_pandas().set_index("condition")
    assert table.loc["alike[2-3]", "matched_to"] == "top[2-3]"
    assert (table.loc["control[0-1]", "control_of"] == "top[0-1]").all()
    assert set(table.loc["control[0-1]", "family"]) == {"control"}
    assert table.loc["top[2-3]", ["first_layer", "last_layer"]].tolist() == [2, 3]
    assert table["first_layer"].isna().tolist() == [True] + [False] * (len(table) - 1)
    assert table.loc["base", "family"] == "base"


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


DEAD = {"operation": "zero", "neurons": {"kind": "labelled", "label": "dead"}}
HANDLER = {"operation": "zero", "neurons": {"kind": "labelled", "label": "handler"}}
LABELS = {"dead": {0: (3, 5), 2: (1, 8, 30)}, "handler": {3: (7,)}}


def matching(name: str) -> dict:
    return {"operation": "zero", "neurons": {"kind": "random", "match": name}}


def labelled_sets(asked, labels, neurons=None) -> Sets:
    return Sets(asked, checkpoint(), neurons, labels=labels)


def test_a_labelled_set_and_its_controls_are_known_with_the_label():
    asked = job(dead=DEAD, drawn=matching("dead"), handler=HANDLER)
    sets = labelled_sets(asked, {})
    assert [c.name for c in sets.all()] == ["base"]
    assert not any(map(sets.known, ("dead", "drawn", "handler")))
    assert sets.unlabelled() == []
    sets.labels["dead"] = LABELS["dead"]
    assert [c.name for c in sets.all()] == ["base", "dead", "drawn", "drawn", "drawn"]
    sets.labels["handler"] = LABELS["handler"]
    found = {(c.name, c.seed): dict(c.neurons) for c in sets.all()}
    assert found["dead", None] == LABELS["dead"]
    assert found["handler", None] == LABELS["handler"]
    draws = [found["drawn", seed] for seed in range(3)]
    assert len({tuple(sorted(draw.items())) for draw in draws}) == 3
    for draw in draws:
        assert {layer: len(members) for layer, members in draw.items()} == {0: 2, 2: 3}
    # The same neurons named one by one are the same condition.
    named = {
        "operation": "zero",
        "neurons": {"kind": "explicit", "neurons": {0: [3, 5], 2: [1, 8, 30]}},
    }
    same = Sets(job(x=named), checkpoint(), None).condition("x")
    assert same.key == sets.condition("dead").key


def test_labels_within_layers_and_groups_of_layers():
    within = {"operation": "zero", "neurons": {**DEAD["neurons"], "layers": [2, 1]}}
    (only,) = labelled_sets(job(dead=within), LABELS).all()[1:]
    assert only.neurons == {2: LABELS["dead"][2]}
    grouped = {"operation": "zero", "neurons": {**DEAD["neurons"], "layers": {"cumulative": 2}}}
    sets = labelled_sets(job(dead=grouped, drawn=matching("dead")), LABELS)
    found = {(c.name, c.seed): dict(c.neurons) for c in sets.all()}
    assert found["dead[0-1]", None] == {0: (3, 5)}
    assert found["dead[0-3]", None] == LABELS["dead"]
    assert {layer: len(n) for layer, n in found["drawn[0-3]", 1].items()} == {0: 2, 2: 3}
    each = {"operation": "zero", "neurons": {**DEAD["neurons"], "layers": "each"}}
    sets = labelled_sets(job(dead=each, drawn=matching("dead")), LABELS)
    names = [c.name for c in sets.all()]
    assert names[:3] == ["base", "dead[0-0]", "dead[2-2]"]
    assert names[3:] == ["drawn[0-0]"] * 3 + ["drawn[2-2]"] * 3
    missing = "no neuron of layer {} is labelled dead by firing"
    assert sets.unlabelled() == [
        (f"{name}[{layer}-{layer}]", missing.format(layer))
        for name in ("dead", "drawn")
        for layer in (1, 3)
    ]


def test_conditions_whose_label_nobody_has():
    few = {"operation": "zero", "neurons": {**HANDLER["neurons"], "layers": [0, 1, 2]}}
    gaps = {"operation": "zero", "neurons": {**HANDLER["neurons"], "layers": [0, 2]}}
    alike = {"operation": "zero", "neurons": {**ALIKE["neurons"], "match": "dead"}}
    asked = job(
        dead=DEAD, drawn=matching("dead"), few=few, gaps=gaps, alike=alike, more=matching("alike")
    )
    sets = labelled_sets(asked, {**LABELS, "dead": {}})
    nobody = "no neuron of the model is labelled dead by firing"
    assert sets.unlabelled() == [
        ("dead", nobody),
        ("drawn", nobody),
        ("few", "no neuron of layers 0-2 is labelled handler by routing"),
        ("gaps", "no neuron of layers 0, 2 is labelled handler by routing"),
        ("alike", nobody),
        ("more", nobody),
    ]
    assert sets.known("dead")
    assert [c.name for c in sets.all()] == ["base"]
    # With a census, too.
    assert [c.name for c in labelled_sets(asked, {**LABELS, "dead": {}}, census()).all()] == [
        "base"
    ]


def test_other_controls_of_a_labelled_set():
    mean = {**DEAD, "operation": "mean"}
    drawn = {**matching("dead"), "operation": "mean"}
    means = census().assign(mean=lambda frame: frame["neuron"] / 8)
    asked = job(dead=mean, drawn=drawn)
    assert not labelled_sets(asked, LABELS).known("dead")
    assert not labelled_sets(asked, {}, means).known("dead")
    found = {(c.name, c.seed): c for c in labelled_sets(asked, LABELS, means).all()}
    assert found["dead", None].values == {0: (3 / 8, 5 / 8), 2: (1 / 8, 1.0, 30 / 8)}
    as_bad = {"operation": "zero", "neurons": {**AS_BAD["neurons"], "match": "dead"}}
    alike = {"operation": "zero", "neurons": {**ALIKE["neurons"], "match": "dead"}}
    asked = job(dead=DEAD, as_bad=as_bad, alike=alike)
    assert [c.name for c in labelled_sets(asked, {}, census()).all()] == ["base"]
    sets = labelled_sets(asked, LABELS, census())
    assert [c.name for c in sets.all()] == ["base", "dead", "alike"]
    sets.matches["as_bad"] = 0.25
    found = {c.name: dict(c.neurons) for c in sets.all()}
    # 0.25 quantile of 0..31 is 7.75; the labelled ones are left out.
    assert found["as_bad"] == {0: (0, 1, 2, 4, 6, 7), 2: (0, 2, 3, 4, 5, 6, 7)}
    assert {layer: len(n) for layer, n in found["alike"].items()} == {0: 2, 2: 3}
