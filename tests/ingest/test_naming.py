import pytest

from sweeper.errors import UserError
from sweeper.ingest.naming import Naming, at_step, read_pattern
from sweeper.ingest.result import Origin


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            "pretrained=EleutherAI/pythia-70m,revision=step1000,dtype=float16",
            ("EleutherAI/pythia-70m", "step1000", 1000),
        ),
        ({"pretrained": "gpt2"}, ("gpt2", "main", None)),
        ("pretrained=/runs/mine/step64", ("mine", "step64", 64)),
        ("pretrained=./runs/mine/checkpoint-500/,dtype=float32", ("mine", "checkpoint-500", 500)),
        ("pretrained=/models/llama", ("llama", "main", None)),
        ("pretrained=base,peft=org/adapter", ("org/adapter", "main", None)),
        ("pretrained=org/step64", ("org", "step64", 64)),
        ("pretrained=org/m,revision=main", ("org/m", "main", None)),
    ],
)
def test_checkpoint_of_model_arguments(arguments, expected):
    found = Naming().of_arguments("results.json", {"model_args": arguments}, None)
    assert (found.model, found.revision, found.step) == expected


def test_other_places_name_the_model():
    revision = {"model": "hf", "model_args": "pretrained=org/m", "model_revision": "step8"}
    assert Naming().of_arguments("x.json", revision, None).step == 8
    assert Naming().of_arguments("x.json", {}, "org/named").model == "org/named"
    assert Naming().of_arguments("x.json", {"model": "gpt3"}, None).model == "gpt3"
    with pytest.raises(ValueError, match="name no model; give --model-pattern"):
        Naming().of_arguments("x.json", {}, None)


def test_a_pattern_is_looked_for_in_the_path_first():
    naming = read_pattern(r"(?P<model>[\w.]+)-step(?P<step>\d+)")
    found = naming.of_arguments("evals/tiny-step12_eval.json", {"model_args": "x"}, None)
    assert found == Origin(model="tiny", revision="step12", step=12)
    config = {"model_args": "pretrained=/ckpt/other-step7"}
    assert naming.of_arguments("evals/file.json", config, None).model == "other"
    with pytest.raises(ValueError, match=r"is found in none of evals/file\.json"):
        naming.of_arguments("evals/file.json", {}, None)


def test_a_pattern_of_the_step_alone_keeps_the_model():
    naming = read_pattern(r"_(?P<step>\d+)\.json")
    config = {"model_args": "pretrained=org/m"}
    found = naming.of_arguments("results_40.json", config, None)
    assert found == Origin(model="org/m", revision="step40", step=40)
    assert read_pattern("at-(?P<revision>[a-z]+)").of_words("t.csv", "m-at-end", None, None) == (
        Origin(model="m-at-end", revision="end", step=None)
    )


def test_rows_of_tables():
    naming = Naming()
    assert naming.of_words("t.csv", "m", None, 30) == at_step("m", 30)
    assert naming.of_words("t.csv", "m", None, -1) == at_step("m", None)
    assert naming.of_words("t.csv", "m", "step30", None).step == 30
    assert naming.of_words("t.csv", "m", "final", 30).step == 30


def test_bad_patterns():
    with pytest.raises(UserError, match=r"--model-pattern: '\(' is no regular expression"):
        read_pattern("(")
    with pytest.raises(UserError, match=r"named groups \['name'\]; allowed are"):
        read_pattern("(?P<name>x)")
    with pytest.raises(ValueError, match="the step that it finds is 'x', not a number"):
        read_pattern("(?P<model>m)(?P<step>x)").of_path("mx")
    with pytest.raises(ValueError, match="finds no model here"):
        read_pattern("(?P<step>1)").of_path("1")
