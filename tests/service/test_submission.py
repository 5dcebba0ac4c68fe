from pathlib import Path

import pytest

from sweeper.errors import UserError
from sweeper.service.submission import ENTRYPOINT, JOB_FILE, submission
from sweeper.spec import load_job

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tiny(tmp_path):
    """Function from changes to a job with an explicit set of neurons and odd text in it."""

    def build(**changes: str):
        file = tmp_path / "tiny.yaml"
        file.write_text(
            "name: tiny\nstore: s3://bucket/prefix\n"
            "model: {m: {path: org/name}}\n"
            "corpus: {c: {kind: file, path: '/data/\\${x}: a\"b.txt'}}\n"
            "suite: {perplexity: {kind: perplexity, corpus: c}}\n"
            "condition:\n  baseline: {operation: null}\n"
            "  two: {operation: zero, neurons: {kind: explicit, neurons: {7: [1, 2]}}}\n"
            "cluster: {shared_folders: [/data]}\n"
        )
        return load_job(file, [f"{key}={value}" for key, value in changes.items()])

    return build


def read_back(job, tmp_path):
    file = tmp_path / JOB_FILE
    file.write_text(submission(job).text)
    return load_job(file)


@pytest.mark.parametrize("name", ["quickstart", "smollm2_blimp"])
def test_the_cluster_gets_the_same_job(name, tmp_path):
    job = load_job(ROOT / "jobs" / f"{name}.yaml", ["store=/shared/results"])
    assert job.cluster.address == "local"
    back = read_back(job, tmp_path)
    assert back.cluster.address == "auto"
    assert back.model_copy(update={"cluster": job.cluster}) == job


def test_neurons_and_odd_text_survive(tiny, tmp_path):
    job = tiny()
    assert job.corpus["c"].path == '/data/${x}: a"b.txt'
    back = read_back(job, tmp_path)
    assert back.corpus == job.corpus
    assert back.condition == job.condition


def test_the_identity_is_that_of_the_resolved_job(tiny):
    job = submission(tiny())
    assert job.id(1) == f"tiny-{job.hash}"
    assert job.id(2) == f"tiny-{job.hash}-2"
    assert submission(tiny()).hash == job.hash
    # Where it was submitted from does not matter, what it computes does.
    assert submission(tiny(**{"cluster.address": "auto"})).hash == job.hash
    assert submission(tiny(seeds="4")).hash != job.hash
    assert ENTRYPOINT == "exec sweeper run job.yaml"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"store": "results"}, "store: 'results' lies on this machine"),
        ({"cluster.executor": "in_process"}, "cluster.executor: in_process is not allowed"),
        ({"model.m.path": "./weights"}, "model.m.path: './weights' lies on this machine"),
        ({"model.m.path": "weights"}, "model.m.path: 'weights' lies on this machine"),
    ],
)
def test_what_the_nodes_would_look_for_elsewhere_is_refused(
    tiny, tmp_path, monkeypatch, changes, message
):
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        submission(tiny(**changes))


FILES = {
    "corpus.mine.path": "+corpus.mine={kind: file, path: FILE}",
    "suite.mine.source.path": "+suite.mine={kind: minimal_pairs, source: {kind: file, path: FILE}}",
    "suite.mine.data_files.test": "+suite.mine={kind: lm_eval, task: t, data_files: {test: FILE}}",
    "suite.mine.task": "+suite.mine={kind: lm_eval, task: FILE.yaml}",
    "suite.mine.tagger.model": (
        "+suite.mine={kind: surprisal, corpus: c, tagger: {kind: spacy, model: ./FILE}}"
    ),
}


@pytest.mark.parametrize("key", FILES)
def test_files_must_lie_where_all_nodes_have_them(tiny, tmp_path, monkeypatch, key):
    """A relative path is absolute by then: only the declared folders tell what the nodes have."""
    monkeypatch.chdir(tmp_path)
    name, _, value = FILES[key].partition("=")
    mine = str(tmp_path / "mine.csv")
    with pytest.raises(UserError) as caught:
        submission(tiny(**{name: value.replace("FILE", "mine.csv")}))
    assert str(caught.value).startswith(f"{key}: '{mine}")
    assert str(caught.value).endswith("below the folders of cluster.shared_folders (/data)")
    there = {name: value.replace("./FILE", "FILE").replace("FILE", "/data/sub/mine.csv")}
    submission(tiny(**there))


def test_a_store_that_is_a_folder_is_shared_and_what_lies_beside_is_not(tiny):
    submission(tiny(store="/results", **{"corpus.c.path": "/results/data/c.txt"}))
    for beside in ("/database/c.txt", "/data/../c.txt", "/results/c.txt"):
        with pytest.raises(UserError, match=r"corpus\.c\.path: "):
            submission(tiny(**{"corpus.c.path": beside}))


def test_a_shared_folder_is_named_by_an_absolute_path(tiny):
    with pytest.raises(UserError, match=r"cluster\.shared_folders") as caught:
        tiny(**{"cluster.shared_folders": "[data]"})
    assert "'data'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_refuses_a_file_of_this_machine_with_one_line(call, job_file, tmp_path):
    file = job_file("mine")
    code, _, err = call(
        "submit", file, "cluster.shared_folders=[]", "--address", "http://127.0.0.1:1"
    )
    assert code == 2
    assert f"corpus.text.path: '{tmp_path / 'story.txt'}' may lie on this machine only" in err
