"""``lm_eval --model sweeper``: the harness evaluates, our engine answers."""

import json
import subprocess
import sys

import pytest
import yaml
from harness_reference import BASELINE, by_harness
from records_factory import checkpoint

from sweeper.clamp.operations import OPERATIONS, Operation
from sweeper.errors import UserError
from sweeper.records import Condition
from sweeper.score.harness.__main__ import register
from sweeper.score.harness.condition import read_condition
from sweeper.score.harness.loading import load

SAID = {"operation": "zero", "neurons": {"0": [2, 1, 3], "2": list(range(0, 40, 2))}}
CLAMP = Condition(
    name="condition",
    seed=None,
    operation="zero",
    neurons={0: (1, 2, 3), 2: tuple(range(0, 40, 2))},
)


def evaluate(folder, spec, **arguments):
    """The harness's own evaluation with the model made by its registered name."""
    import lm_eval
    from lm_eval.api.registry import get_model

    register()
    model = get_model("sweeper").create_from_arg_obj(
        {"pretrained": str(folder), **arguments}, {"device": "cpu", "batch_size": 3}
    )
    loaded = load(spec)
    tasks = {"tasks": dict(loaded.tasks), "groups": dict(loaded.groups)}
    return lm_eval.evaluate(model, tasks, bootstrap_iters=0)


@pytest.mark.parametrize("condition", [BASELINE, CLAMP], ids=lambda condition: condition.name)
@pytest.mark.parametrize("task", ["tiny_choice", "tiny_target", "tiny_rolling", "tiny_writing"])
def test_answers_are_those_of_the_harness(tiny_model, tiny_folder, tiny_task, task, condition):
    said = None if condition is BASELINE else SAID
    found = evaluate(tiny_folder("llama"), tiny_task(task), condition=said)
    expected = by_harness(tiny_model("llama"), tiny_task(task), condition)
    pairs = zip(found["samples"][task], expected["samples"][task], strict=True)
    for mine, theirs in pairs:
        assert mine["arguments"] == theirs["arguments"]
        for answers, others in zip(mine["resps"], theirs["resps"], strict=True):
            if task == "tiny_rolling":
                assert answers == pytest.approx(others, abs=1e-3)
            elif task == "tiny_writing":
                assert answers == others
            else:
                assert answers[0][0] == pytest.approx(others[0][0], abs=1e-3)
                assert answers[0][1] == others[0][1]


def test_special_tokens_are_the_harness_arguments(tiny_model, tiny_folder, tiny_task):
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    arguments = {"add_bos_token": True, "prefix_token_id": 7, "max_length": 40}
    spec = tiny_task("tiny_choice")
    found = evaluate(tiny_folder("llama"), spec, **arguments)
    model = tiny_model("llama")
    harness = HFLM(pretrained=model.model, tokenizer=model.tokenizer, **arguments)
    loaded = load(spec)
    expected = lm_eval.evaluate(harness, {"tasks": dict(loaded.tasks)}, bootstrap_iters=0)
    plain = evaluate(tiny_folder("llama"), spec)
    answers = [
        [answer[0][0] for sample in results["samples"]["tiny_choice"] for answer in sample["resps"]]
        for results in (found, expected, plain)
    ]
    assert answers[0] == pytest.approx(answers[1], abs=1e-3)
    assert answers[0] != pytest.approx(answers[2], abs=1e-3)


@pytest.mark.parametrize("written", ["file.yaml", "file.json", "inline", "as in a job"])
def test_a_condition_can_be_said_in_four_ways(tmp_path, written):
    if written == "inline":
        said = json.dumps(SAID)
    elif written == "as in a job":
        said = {**SAID, "neurons": {"kind": "explicit", "neurons": SAID["neurons"]}}
    else:
        file = tmp_path / written
        dump = yaml.safe_dump if written.endswith("yaml") else json.dumps
        file.write_text(dump(SAID))
        said = str(file)
    assert read_condition(said, checkpoint()) == CLAMP
    assert read_condition(None, checkpoint()).operation is None


@pytest.mark.parametrize(
    ("said", "neurons", "values"),
    [
        (
            {"operation": "set", "value": -1, "neurons": {2: [4, 3], 0: [1]}},
            {0: (1,), 2: (3, 4)},
            {0: (-1.0,), 2: (-1.0, -1.0)},
        ),
        (
            {"operation": "remove_mlp", "neurons": {"kind": "all", "layers": [1, 3]}},
            {1: tuple(range(32)), 3: tuple(range(32))},
            {},
        ),
        (
            {"operation": "sign_flip", "neurons": {"kind": "all"}},
            {layer: tuple(range(32)) for layer in range(4)},
            {},
        ),
    ],
    ids=["set", "remove_mlp", "sign_flip"],
)
def test_values_and_whole_layers_are_resolved(said, neurons, values):
    found = read_condition(said, checkpoint())
    assert (found.operation, found.neurons, found.values) == (said["operation"], neurons, values)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("nowhere.yaml", "condition: 'nowhere.yaml' cannot be read (No such file or directory)"),
        ("zero", "condition: 'zero' is neither a file nor {operation: NAME"),
        ("{a: [", "is not valid YAML"),
        ({"operation": "zeroo", "neurons": {0: [1]}}, "condition.operation: 'zeroo'"),
        ({"operation": "zero", "neurons": {0: [1, 1]}}, "1 is listed twice"),
        (
            {"operation": "zero", "neurons": {"kind": "top", "fraction": 0.1}},
            "only named neurons (kind: explicit) and whole layers (kind: all; all layers or a",
        ),
        (
            {"operation": "remove_mlp", "neurons": {"kind": "all", "layers": "each"}},
            "only named neurons (kind: explicit) and whole layers (kind: all; all layers or a",
        ),
        (
            {"operation": "mean", "neurons": {0: [1]}},
            "condition.operation: 'mean' is not allowed here; it needs a census",
        ),
        (
            {"operation": "set", "neurons": {0: [1]}},
            "condition.value: missing; operation set needs a number",
        ),
        (
            {"operation": "zero", "value": 0.5, "neurons": {0: [1]}},
            "condition.value: 0.5 is given, but operation zero takes no value; only set does",
        ),
        ({"operation": "set", "value": float("inf"), "neurons": {0: [1]}}, "condition.value: inf"),
    ],
)
def test_a_wrong_condition_is_said_in_one_line(said, message):
    with pytest.raises(UserError) as caught:
        read_condition(said, checkpoint())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_some_neurons_of_an_mlp_cannot_be_removed(tiny_folder, tiny_task):
    said = {"operation": "remove_mlp", "neurons": {1: [1, 2]}}
    message = "condition.neurons: operation 'remove_mlp' is on whole layers; layer 1 has 48 neurons"
    with pytest.raises(UserError, match=message):
        evaluate(tiny_folder("llama"), tiny_task("tiny_choice"), condition=said)


def test_a_neuron_that_the_model_lacks_is_an_error(tiny_folder, tiny_task):
    said = {"operation": "zero", "neurons": {9: [1]}}
    with pytest.raises(UserError, match="layer 9 is not one of the model's 3 layers"):
        evaluate(tiny_folder("llama"), tiny_task("tiny_choice"), condition=said)


@pytest.mark.parametrize("name", ["tiny_choice", "tiny_writing"])
def test_logits_that_are_no_numbers_are_an_error(tiny_folder, tiny_task, monkeypatch, name):
    from sweeper.score.harness.model import SweeperLM

    model = SweeperLM(str(tiny_folder("llama")), SAID, device="cpu")
    monkeypatch.setitem(OPERATIONS, "zero", Operation(lambda values: values * float("inf")))
    requests = load(tiny_task(name)).requests()
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        getattr(model, requests[0].request_type)(requests)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "dtype=float33",
            "dtype: 'float33' is not allowed; allowed is one of auto, float32, bfloat16, float16; "
            "did you mean float32?",
        ),
        ("max_batch_tokens=abc", "max_batch_tokens: 'abc' is not allowed; allowed is auto or a"),
        ("max_batch_tokens=0", "max_batch_tokens: 0 is not allowed; allowed is auto or a whole"),
        ("foo=1", "foo: unknown argument (value 1); allowed: pretrained, condition, revision,"),
        ("max_lenght=9", "prefix_token_id; did you mean max_length?"),
        ("max_length=65", "max_length: 65 is not allowed; allowed is a whole number of at least 1"),
        ("max_length=0", "and at most 64, the model's context"),
        ("max_length=abc", "max_length: 'abc' is not allowed"),
    ],
)
def test_wrong_arguments_are_said_in_one_line(tiny_folder, arguments, message):
    from sweeper.score.harness.model import SweeperLM

    said = f"pretrained={tiny_folder('llama')},{arguments}"
    with pytest.raises(UserError) as caught:
        SweeperLM.create_from_arg_string(said, {"device": "cpu"})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_without_a_name_is_said_in_one_line():
    from sweeper.score.harness.model import SweeperLM

    with pytest.raises(UserError, match=r"^pretrained: missing; a model's name, repository"):
        SweeperLM.create_from_arg_string("batch_size=1")


def test_the_command_line_of_the_harness_knows_the_model(tiny_folder, tmp_path):
    rows = [{"q": "the cat sees", "a": "the dogs", "b": "dogs the"}] * 3
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = tmp_path / "own.yaml"
    config = {
        "task": "own",
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(tmp_path / "rows.jsonl")},
            "cache_dir": str(tmp_path / "cache"),
        },
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{q}}",
        "doc_to_target": 0,
        "doc_to_choice": "{{[a, b]}}",
    }
    task.write_text(yaml.safe_dump(config))
    arguments = {"pretrained": str(tiny_folder("llama")), "condition": SAID}
    command = [
        sys.executable,
        "-m",
        "sweeper.cli",
        "lm-eval",
        "--model",
        "sweeper",
        "--tasks",
        str(task),
    ]
    done = subprocess.run(
        [*command, "--model_args", json.dumps(arguments), "--output_path", str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "out").rglob("results_*.json")
    results = json.loads(file.read_text())
    assert results["config"]["condition_key"] == CLAMP.key
    assert results["n-samples"]["own"]["effective"] == 3
