"""Processes really killed: what was committed stays, nothing is lost for good, nothing doubles."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from rich.console import Console

import sweeper
from sweeper.errors import UserError
from sweeper.spec.job import JobSpec
from sweeper.store import Store

SEEDS = 14
PAIRS = 8
PATIENCE = 240
"""Seconds after which something hangs; no test waits for the clock otherwise."""


def many_units(build, store: Path, executor: str) -> JobSpec:
    """A unit for each cell, however fast the machine, so that a kill hits the middle."""
    cluster = {"executor": executor, "unit_seconds": 1e-3}
    return build(
        store=str(store),
        seeds=SEEDS,
        suite={"grammar": {"limit": PAIRS}},
        cluster=cluster | ({"workers": 2} if executor == "ray" else {}),
    )


@pytest.fixture
def long_job(story_job, tmp_path):
    return lambda executor: many_units(story_job, tmp_path / "store", executor)


@pytest.fixture(scope="module")
def reference(make_story_job, tmp_path_factory):
    """The results of a run that nothing happens to."""
    folder = tmp_path_factory.mktemp("reference")
    job = many_units(make_story_job(folder), folder / "store", "in_process")
    run = sweeper.run_job(job, Console(file=io.StringIO()))
    assert run.complete
    return run


def start(job: JobSpec, folder: Path) -> subprocess.Popen:
    """The command line, in a process group of its own as a terminal would start it."""
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump(json.loads(job.model_dump_json())))
    command = [sys.executable, "-m", "sweeper.cli", "run", str(file)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_for_units(job: JobSpec, process: subprocess.Popen, count: int) -> None:
    """Wait until so many units are committed."""
    commits = Path(job.store) / "commits"
    deadline = time.monotonic() + PATIENCE
    while not commits.is_dir() or len(list(commits.glob("2*.json"))) < count:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.02)


def descendants(process: subprocess.Popen, name: str = "") -> list[psutil.Process]:
    """Processes below a process whose command line begins with a name."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if " ".join(child.cmdline()).startswith(name):
                found.append(child)
        except psutil.Error:
            continue
    return found


def wait_for_workers(process: subprocess.Popen, count: int) -> list[psutil.Process]:
    """Wait until so many workers have started; none has computed anything by then."""
    deadline = time.monotonic() + PATIENCE
    while len(found := descendants(process, "ray::SweepWorker")) < count:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "no workers"
        time.sleep(0.1)
    return found


def assert_undisturbed(job: JobSpec, reference: sweeper.Run) -> None:
    """Every row is there exactly once, with the value of a run that nothing happened to."""
    place = ["cell_key", "item_id"]
    run = sweeper.open_run(job.name, job.store)
    expected = reference.table("items").set_index(place).sort_index()
    found = run.table("items").set_index(place).sort_index()
    assert found.index.equals(expected.index)
    assert len(found) == (2 + SEEDS) * (30 * PAIRS + 6)
    np.testing.assert_allclose(found["logprob"], expected["logprob"], atol=1e-3)
    cells = run.table("cells")
    assert len(cells) == 1 + 2 * (2 + SEEDS)
    assert (cells["status"] == "done").all()


def finish(process: subprocess.Popen) -> tuple[int, str]:
    output, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, output


def test_a_killed_worker_costs_the_unit_in_flight(long_job, tmp_path, reference):
    job = long_job("ray")
    process = start(job, tmp_path)
    # Known beforehand: looking for processes takes longer than many a unit.
    workers = wait_for_workers(process, 2)
    wait_for_units(job, process, 3)
    # One may be idle: a model that is soon done with is not loaded a second time.
    max(workers, key=lambda worker: worker.cpu_times().user).kill()
    code, output = finish(process)
    assert code == 0, output
    assert "died (ActorDiedError); starting it again" in " ".join(output.split())
    assert_undisturbed(job, reference)


def test_a_killed_driver_loses_only_what_was_in_flight(long_job, tmp_path, reference):
    job = long_job("ray")
    process = start(job, tmp_path)
    workers = wait_for_workers(process, 2)
    below = descendants(process)
    wait_for_units(job, process, 3)
    process.kill()
    process.wait()
    process.stdout.close()
    assert psutil.wait_procs(workers, timeout=PATIENCE)[1] == []  # they end with their driver
    for helper in below:  # Ray's own agents take a minute; they compute nothing
        with suppress(psutil.NoSuchProcess):
            helper.kill()
    done = len(sweeper.open_run(job.name, job.store).table("cells"))
    assert 0 < done < 1 + 2 * (2 + SEEDS)
    code, output = finish(start(job, tmp_path))
    assert code == 0, output
    progress = json.loads((Path(job.store) / "runs" / job.name / "progress.json").read_text())
    assert progress["cells_reused"] >= done
    assert_undisturbed(job, reference)


def test_a_driver_killed_while_it_matches_goes_on_from_the_census(story_job, tmp_path):
    matched = {"kind": "matched", "match": "top", "by": "perplexity", "task": "perplexity"}
    conditions = {
        "top": {"operation": "zero"},
        "random": {"operation": "zero"},
        "as_bad": {"operation": "zero", "neurons": matched | {"tolerance": 0.15}},
    }
    job = story_job(condition=conditions, suite={"grammar": {"limit": 1}})
    process = start(job, tmp_path)
    deadline = time.monotonic() + PATIENCE
    while not kinds(job).get("census"):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "no census"
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=PATIENCE)
    code, output = finish(start(job, tmp_path))
    assert code == 0, output
    assert kinds(job) == {"census": 1, "match": 1, "score": 2 * 6}


def kinds(job: JobSpec) -> dict[str, int]:
    """Committed cells of a job by their kind."""
    try:
        cells = Store(job.store).table("cells").to_pandas()
    except UserError:
        return {}
    counts: dict[str, int] = cells["kind"].value_counts().to_dict()
    return counts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_cleanly_and_a_rerun_resumes(long_job, tmp_path, reference, number):
    job = long_job("in_process")
    process = start(job, tmp_path)
    wait_for_units(job, process, 5)
    os.kill(process.pid, number)
    code, output = finish(process)
    assert code == 130, output
    assert "the same command goes on from there" in output
    assert "Traceback" not in output
    code, output = finish(start(job, tmp_path))
    assert code == 0, output
    assert_undisturbed(job, reference)


def test_ctrl_c_ends_the_workers_of_an_embedded_ray(long_job, tmp_path):
    job = long_job("ray")
    process = start(job, tmp_path)
    wait_for_workers(process, 2)
    below = descendants(process)
    wait_for_units(job, process, 3)
    # A terminal sends Ctrl-C to the whole group.
    os.killpg(process.pid, signal.SIGINT)
    code, output = finish(process)
    assert code == 130, output
    assert "Traceback" not in output
    _, alive = psutil.wait_procs(below, timeout=PATIENCE)
    assert alive == []
    assert len(sweeper.open_run(job.name, job.store).table("cells")) >= 1


def test_a_second_driver_of_the_same_run_is_refused(long_job, tmp_path):
    job = long_job("in_process")
    first = start(job, tmp_path)
    wait_for_units(job, first, 3)
    # Held in the middle, so that it cannot be done before the second one asks.
    os.kill(first.pid, signal.SIGSTOP)
    try:
        code, output = finish(start(job, tmp_path))
    finally:
        os.kill(first.pid, signal.SIGCONT)
    first_code, _ = finish(first)
    assert code == 2, output
    assert f"run: 'story' is driven by process {first.pid}" in output
    assert first_code == 0


def test_two_runs_on_one_store_double_nothing(long_job, tmp_path, reference):
    job = long_job("in_process")
    other = job.model_copy(update={"name": "other"})
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    both = [start(job, folders[0]), start(other, folders[1])]
    assert [finish(process)[0] for process in both] == [0, 0]
    for name in (job, other):
        assert_undisturbed(name, reference)
