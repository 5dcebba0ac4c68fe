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
