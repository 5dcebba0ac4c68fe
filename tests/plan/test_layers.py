import pytest
from records_factory import checkpoint

from sweeper.errors import UserError
from sweeper.plan.cells import num_draws
from sweeper.plan.layers import concrete_conditions
from sweeper.spec.base import EntryName
from sweeper.spec.job import JobSpec


def job(layers, **conditions) -> JobSpec:
    top = {"operation": "zero", "neurons": {"kind": "top", "fraction": 0.1, "layers": layers}}
    plain = {
        "name": "j",
        "model": {"m": {"path": "org/m"}},
        "corpus": {"c": {"kind": "topics"}},
        "census": {"corpus": "c"},
        "suite": {"p": {"kind": "perplexity", "corpus": "c"}},
        "condition": {"base": {"operation": None}, "top": top, **conditions},
        "seeds": 2,
    }
    return JobSpec.model_validate(plain)


CASES = [
    ("each", 3, [[0], [1], [2]]),
    ({"groups": 1}, 3, [[0], [1], [2]]),
    ({"groups": 2}, 5, [[0, 1], [2, 3], [4]]),
    ({"groups": 4}, 4, [[0, 1, 2, 3]]),
    ({"cumulative": 2}, 5, [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]]),
    ({"cumulative": 3}, 3, [[0, 1, 2]]),
    ({"cumulative": 1}, 2, [[0], [0, 1]]),
]


@pytest.mark.parametrize(("layers", "num_layers", "groups"), CASES)
def test_a_condition_stands_once_for_each_group(layers, num_layers, groups):
    found = concrete_conditions(job(layers), checkpoint(num_layers=num_layers))
    names = [f"top[{group[0]}-{group[-1]}]" for group in groups]
    assert list(found) == ["base", *names]
    for name, group in zip(names, groups, strict=True):
        assert found[name].spec.neurons.layers == group
        assert (found[name].family, found[name].layers) == ("top", (group[0], group[-1]))
        assert found[name].spec.operation == "zero"
    assert (found["base"].family, found["base"].layers) == ("base", None)


@pytest.mark.parametrize("layers", ["all", [0, 2]])
def test_a_condition_on_a_list_of_layers_stays_one(layers):
    found = concrete_conditions(job(layers), checkpoint())
    assert found["top"].spec.neurons.layers == layers
    assert found["top"].layers is None


def test_controls_are_repeated_for_the_groups_of_what_they_control():
    matched = {"kind": "matched", "match": "top", "by": "perplexity", "task": "p"}
    found = concrete_conditions(
        job(
            {"groups": 2},
            like={"operation": "zero", "neurons": matched},
            draws={"operation": "zero", "neurons": {"kind": "random", "match": "top"}},
            # A control of a control goes the same way.
            likewise={"operation": "zero", "neurons": {"kind": "random", "match": "like"}},
            free={"operation": "zero", "neurons": {"kind": "random", "fraction": 0.1}},
        ),
        checkpoint(),
    )
    groups = ["[0-1]", "[2-3]"]
    for name, match in (("like", "top"), ("draws", "top"), ("likewise", "like")):
        for group in groups:
            assert found[name + group].spec.neurons.match == match + group
            assert found[name + group].family == name
    assert found["free"].layers is None
    assert len(found) == 1 + 4 * 2 + 1


def test_cells_are_counted_by_the_layers_of_the_model():
    swept = job("each", draws={"operation": "zero", "neurons": {"kind": "random", "match": "top"}})
    for num_layers in (1, 4, 30):
        model = checkpoint(num_layers=num_layers)
        assert num_draws(swept, concrete_conditions(swept, model)) == 1 + num_layers * (1 + 2)


@pytest.mark.parametrize("kind", ["groups", "cumulative"])
def test_groups_larger_than_the_model_are_one_line(kind):
    with pytest.raises(
        UserError,
        match=rf"^condition\.top\.neurons\.layers\.{kind} = 5: model 'm' has 4 layers; "
        r"allowed is 1 to 4$",
    ):
        concrete_conditions(job({kind: 5}), checkpoint())


def test_no_name_of_a_job_can_be_that_of_a_group():
    from pydantic import TypeAdapter, ValidationError

    with pytest.raises(ValidationError):
        TypeAdapter(EntryName).validate_python("top[0-1]")
