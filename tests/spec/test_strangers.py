"""Job files of somebody else: they say what to compute, and can do nothing by themselves."""

import os

import pytest

from sweeper.errors import UserError
from sweeper.spec import load_job

PLAIN = """
name: mine
store: results
model: {m: {path: org/name}}
corpus: {c: {kind: topics}}
suite: {perplexity: {kind: perplexity, corpus: c}}
condition: {baseline: {operation: null}}
"""

TAGS = [
    "!!python/object/apply:os.system ['touch pwned']",
    "!!python/object/new:os.system ['touch pwned']",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object/apply:subprocess.check_output [['touch', 'pwned']]",
    "!function os.system",
]


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Function from a job's text and overrides to the job, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET_OF_MINE", "hush")

    def read(text: str, *overrides: str):
        (tmp_path / "job.yaml").write_text(text)
        return load_job("job.yaml", overrides)

    yield read
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_tags_make_no_objects(load, tmp_path, tag):
    with pytest.raises(UserError, match=r"YAML|not allowed|cannot be read") as caught:
        load(PLAIN + f"seeds: {tag}\n")
    assert "\n" not in str(caught.value)
    # An option beside the job is no other file.
    option = tmp_path / "conf" / "condition" / "evil.yaml"
    option.parent.mkdir(parents=True)
    option.write_text(f"evil: {tag}\n")
    with pytest.raises(UserError):
        load("defaults: [{condition: [evil]}, _self_]\n" + PLAIN)


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:SECRET_OF_MINE}",
        "${oc.env:NOT_THERE,other}",
        "s3://mine/${oc.env:SECRET_OF_MINE}/x",
        "${oc.decode:'[1]'}",
        "${oc.create:{a: 1}}",
        "${now:%Y}",
        "${hydra:runtime.cwd}",
        "${${name}:SECRET_OF_MINE}",
        "${ oc.env : SECRET_OF_MINE }",
        "\\\\${oc.env:SECRET_OF_MINE}",
        "${name${oc.env:SECRET_OF_MINE}}",
    ],
)
def test_interpolations_call_no_functions(load, text):
    quoted = "'" + text.replace("'", "''") + "'"
    with pytest.raises(UserError) as caught:
        load(PLAIN.replace("store: results", f"store: {quoted}"))
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_interpolations_of_keys_and_escaped_ones_go_on(load):
    job = load(PLAIN.replace("store: results", r"store: '/data/${name}/\${oc.env:X}'"))
    assert job.store == "/data/mine/${oc.env:X}"


@pytest.mark.parametrize(
    "text",
    [
        "hydra: {callbacks: {evil: {_target_: os.system, command: touch pwned}}}\n",
        "hydra: {searchpath: ['pkg://antigravity']}\n",
        "hydra: {job: {env_set: {SECRET_OF_MINE: changed}}}\n",
    ],
)
def test_what_hydra_could_do_is_not_done(load, text):
    try:
        job = load(PLAIN + text)
    except UserError:
        pass
    else:
        assert "hydra" not in job.model_dump()
    assert os.environ["SECRET_OF_MINE"] == "hush"


def test_nothing_is_instantiated(load):
    with pytest.raises(UserError, match="_target_"):
        load(PLAIN.replace("{path: org/name}", "{path: org/name, _target_: os.system}"))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("name: ../mine", "name"),
        ("name: /mine", "name"),
        ("name: 'mine\0'", "YAML|cannot be read"),
        ('name: "mine\\0"', "name"),
        ("name: .mine", "name"),
        ('name: "mi\\nne"', "name"),
    ],
)
def test_the_name_of_a_run_stays_in_the_store(load, change, key):
    with pytest.raises(UserError, match=key):
        load(PLAIN.replace("name: mine", change))


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/passwd", "..", ".x", '"a\\0"', "census"])
def test_the_names_of_tasks_and_conditions_do_too(load, name):
    for group, old in (("suite", "perplexity: "), ("condition", "baseline: "), ("model", "m: ")):
        if group != "model" or name != "census":
            with pytest.raises(UserError, match=group):
                load(PLAIN.replace(f"{{{old}", f"{{{name}: "))


def test_code_of_others_runs_only_where_the_job_says_so(load):
    job = load(PLAIN)
    assert not job.model["m"].trust_remote_code
    assert job.trusted == []
    own = "own: {kind: lm_eval, task: own.yaml, trust_task_code: true}, perplexity:"
    said = PLAIN.replace("path: org/name", "path: org/name, trust_remote_code: true")
    said = said.replace("perplexity:", own, 1)
    assert load(said).trusted == ["model.m.trust_remote_code", "suite.own.trust_task_code"]
