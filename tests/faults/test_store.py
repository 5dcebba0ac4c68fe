"""A store that takes nothing more: one line, nothing lost, and the next run goes on."""

import shutil
import subprocess
from io import StringIO
from pathlib import Path

import psutil
import pytest
from faults.checking import assert_undisturbed
from faults.sweeps import Driver, on_ray
from rich.console import Console
from typer.testing import CliRunner

import sweeper
from sweeper.cli import app
from sweeper.store import Store

SEEDS = 14


def refuse_writing(process: psutil.Process) -> None:
    """From now on no file of the process may be longer than nothing, as with a used-up quota."""
    process.rlimit(psutil.RLIMIT_FSIZE, (0, 0))


def assert_stopped(driver: Driver, reason: str) -> None:
    """The driver said in one line that the store cannot be written, and nothing else went wrong."""
    assert driver.wait() == 2, driver.output
    assert "error: store: cannot write" in driver.output
    assert reason in driver.output
    assert "Traceback" not in driver.output
    assert "attempt(s)" not in driver.output


def assert_went_on(run: sweeper.Run, done: int, reference: Store) -> None:
    """The next run has computed what was missing, and nothing else."""
    assert run.folder.read_progress()["cells_reused"] >= done
    assert_undisturbed(run, reference)


def test_a_driver_that_may_not_write_stops_with_a_line(job, reference, tmp_path):
    sweep = job(seeds=SEEDS)
    driver = Driver(sweep, tmp_path)
    # The census in two parts and put together, the baseline, the neuron sets, and what needs them.
    driver.committed(8)
    refuse_writing(psutil.Process(driver.process.pid))
    assert_stopped(driver, "File too large")
    done = len(sweeper.open_run(sweep.name, sweep.store).table("cells"))
    assert 0 < done < 2 * (2 + SEEDS)
    said = CliRunner().invoke(app, ["status", sweep.name, "--store", sweep.store]).output
    assert "unfinished: stories local random" in said
    # In this process: it spares the imports.
    assert_went_on(sweeper.run_job(sweep, Console(file=StringIO())), done, reference)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_workers_that_may_not_write_stop_the_run(job, reference, tmp_path):
    sweep = job(seeds=SEEDS, cluster=on_ray())
    driver = Driver(sweep, tmp_path)
    driver.committed(8)
    for worker in driver.workers():
        refuse_writing(worker)
    assert_stopped(driver, "File too large")
    done = len(sweeper.open_run(sweep.name, sweep.store).table("cells"))
    driver = Driver(sweep, tmp_path)
    assert driver.wait() == 0, driver.output
    assert_went_on(sweeper.open_run(sweep.name, sweep.store), done, reference)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_full_disk_stops_the_run_until_there_is_room(job, reference, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    # A disk of its own, that nobody else sees.
    private = ("unshare", "--mount", "--propagation", "private")
    mount = f"mount -t tmpfs -o size=SIZE tmpfs {disk}"
    if subprocess.run([*private, "sh", "-c", mount.replace("SIZE", "64k")]).returncode:
        pytest.skip("mounting a small disk needs rights that this process does not have")
    sweep = job(seeds=SEEDS, store=str(disk / "store"))
    # One shell for both runs, since the disk goes with it; the second finds more room.
    script = f"""
    {mount.replace("SIZE", "1200k")}
    "$@" ; echo "first run: $?"
    mount -o remount,size=100m {disk}
    "$@" ; code=$?
    cp -r {disk}/store {tmp_path}/kept
    exit $code
    """
    driver = Driver(sweep, tmp_path, wrapper=(*private, "sh", "-c", script, "sh"))
    assert driver.wait() == 0, driver.output
    assert "first run: 2" in driver.output
    assert "No space left on device" in driver.output
    assert "Traceback" not in driver.output
    shutil.copytree(tmp_path / "kept", Path(sweep.store))
    run = sweeper.open_run(sweep.name, sweep.store)
    assert run.folder.read_progress()["cells_reused"] > 0
    assert_undisturbed(run, reference)
