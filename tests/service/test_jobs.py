"""Submitting to a real cluster: token on, real jobs of the real command line."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from sweeper.errors import UserError
from sweeper.service.jobs import RemoteJobs
from sweeper.service.submission import submission
from sweeper.spec import load_job
from sweeper.store import RunFolder, Store


def named_cells(store: Path, run: str) -> set[str]:
    return set(RunFolder(Store(str(store)), run).read_manifest()["cell_key"].to_pylist())


def test_nobody_gets_in_without_the_token(cluster, call, job_file, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    code, _, err = call("submit", job_file("mine"), "--address", cluster.url)
    assert code == 2
    assert "access denied; the head asks for a token: set RAY_AUTH_TOKEN" in err
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    code, _, err = call("status", "mine", "--address", cluster.url)
    assert code == 2
    assert "access denied; the head does not know the token of RAY_AUTH_TOKEN" in err
    assert "0" * 64 not in err


def test_a_job_is_submitted_once_watched_to_its_end_and_not_run_again(
    trusted, call, job_file, tmp_path
):
    head = ("--address", trusted.url)
    file = job_file("mine")
    code, out, err = call("submit", file, *head)
    assert code == 0, err
    assert out.startswith("submitted mine as mine-")
    assert trusted.token.stat().st_mode & 0o077 == 0
    code, again, _ = call("submit", file, *head)
    assert "mine runs already as mine-" in again
    code, _, err = call("submit", file, "seeds=2", *head)
    assert code == 2
    assert f"name: another job runs as 'mine' on {trusted.url} (as mine-" in err
    code, out, _ = call("status", "mine", *head)
    assert code == 0
    assert out.splitlines()[0].split()[:2] in (["mine:", "pending"], ["mine:", "running"])
    code, out, _ = call("logs", "mine", "-f", *head)
    assert code == 0, out
    assert out.count("Running entrypoint for job mine-") == 1
    assert f"report: {tmp_path}/store/runs/mine/report/report.html" in out
    assert "succeeded" in call("status", "mine", *head)[1]
    assert "has succeeded already" in call("submit", file, *head)[1]
    assert "has succeeded as mine-" in call("stop", "mine", *head)[1]
    assert len(RemoteJobs(trusted.url).jobs()) == 1
    code, plain, _ = call("logs", "mine", *head)
    assert plain == out
    keys = named_cells(tmp_path / "store", "mine")
    assert len(keys) == 2
    assert keys <= Store(str(tmp_path / "store")).done_keys()


def test_a_run_that_nobody_submitted(trusted, call):
    code, _, err = call("logs", "other", "--address", trusted.url)
    assert code == 2
    assert f"run: 'other' was not submitted to {trusted.url}" in err


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_it_was(trusted, call, job_file, tmp_path):
    head = ("--address", trusted.url)
    changes = {
        "seeds": 200,
        "suite": {"grammar": {"kind": "minimal_pairs", "source": {"kind": "grammar"}, "limit": 2}},
        "condition": {
            "baseline": {"operation": None},
            "top": {
                "operation": "zero",
                "neurons": {"kind": "explicit", "neurons": {1: [3, 5]}},
            },
            "random": {"operation": "zero", "neurons": {"kind": "random", "match": "top"}},
        },
        "cluster": {"workers": 1, "unit_seconds": 1e-3, "gpus_per_worker": 0},
    }
    file = job_file("long", **changes)
    assert call("submit", file, *head)[0] == 0
    store = tmp_path / "store"
    deadline = time.monotonic() + 120
    while not (store.exists() and len(Store(str(store)).done_keys()) >= 3):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    code, out, err = call("stop", "long", *head)
    assert code == 0, err
    assert "long has been stopped as long-" in out
    assert "stopped" in call("status", "long", *head)[1]
    wanted = named_cells(store, "long")
    assert len(wanted) > 100
    assert wanted - Store(str(store)).done_keys()
    # Nothing of the driver is left, and its claim on the run neither.
    driving = [
        p for p in psutil.process_iter(["cmdline"]) if "job.yaml" in (p.info["cmdline"] or ())
    ]
    assert not driving
    assert not (store / "runs" / "long" / "driver.json").exists()
    code, out, _ = call("submit", file, *head)
    assert out.split("\n")[0].endswith("-2")
    assert call("logs", "long", "-f", *head)[0] == 0
    assert wanted <= Store(str(store)).done_keys()


@pytest.mark.slow
def test_two_who_submit_at_once_start_one(trusted, job_file):
    job = submission(load_job(job_file("twice")))
    found = []

    def act() -> None:
        found.append(RemoteJobs(trusted.url).submit(job))

    threads = [threading.Thread(target=act) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({remote.id for remote, _ in found}) == 1
    assert sum(new for _, new in found) == 1
    jobs = RemoteJobs(trusted.url)
    ended = jobs.follow(found[0][0], lambda _: None)
    assert ended.state == "SUCCEEDED"


@pytest.mark.slow
def test_a_failing_run_says_so(trusted, call, job_file):
    head = ("--address", trusted.url)
    file = job_file("bad", model={"stories": {"path": "/no/such/folder"}})
    assert call("submit", file, *head)[0] == 0
    code, out, _ = call("logs", "bad", "-f", *head)
    assert code == 1
    assert "error: " in out
    _, out, _ = call("status", "bad", *head)
    assert "failed" in out
    assert "exit code 2" in out


JOIN = """
import sys
from sweeper.errors import UserError
from sweeper.run import ray_executor
from sweeper.run.ray_cluster import join
import ray

try:
    join(sys.argv[1], num_cpus=0)
except UserError as error:
    sys.exit(str(error))
print(ray.cluster_resources()["CPU"])
"""


@pytest.mark.slow
def test_a_driver_joins_with_the_token_that_is_named_and_not_without(cluster, environment):
    command = [sys.executable, "-c", JOIN, cluster.gcs]
    named = {**environment, "RAY_AUTH_TOKEN_PATH": str(cluster.token)}
    done = subprocess.run(command, env=named, capture_output=True, text=True, check=True)
    assert done.stdout == "2.0\n"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"cluster.address = '{cluster.gcs}': ")
    assert last.endswith("if it asks for a token, set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH")


def test_the_head_is_gone(trusted, monkeypatch):
    jobs = RemoteJobs(trusted.url)
    monkeypatch.setattr(jobs._client, "_address", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"^--address 'http://127.*") as caught:
        jobs.jobs()
    assert "\n" not in str(caught.value)
