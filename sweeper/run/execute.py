"""One call that runs a job: executor, driver, progress and the run's folder together."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console

from sweeper.errors import UserError
from sweeper.run.driver import Driver, RunResult
from sweeper.run.executor import Executor
from sweeper.run.expected import expected_cells
from sweeper.run.heartbeat import Heartbeat
from sweeper.run.in_process import InProcessExecutor
from sweeper.run.metrics import Observer, SweepMetrics, Unobserved
from sweeper.run.needs import needs_of
from sweeper.run.placement import Asked
from sweeper.run.progress import SweepProgress, Tally
from sweeper.run.speed import Speeds
from sweeper.run.sweep import Sweep, prepare
from sweeper.spec.job import JobSpec
from sweeper.store import RunFolder, Store


def execute(job: JobSpec, console: Console) -> RunResult:
    """Run a job to its end; what the store already holds is not computed again.

    Args:
        job: the validated job.
        console: where progress is shown.

    Raises:
        UserError: something that the job names does not exist or cannot be used.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM; what was committed stays.
    """
    store = Store(job.store, create=True)
    folder = RunFolder(store, job.name)
    if folder.exists() and folder.is_imported():
        raise UserError(f"name: {job.name!r} is a run of imported results; choose another name")
    folder.claim()
    with terminated_like_ctrl_c(), _released(folder), Heartbeat(folder.beat) as heartbeat:
        for key in job.trusted:
            console.print(f"{key}: runs Python code of others, as the job says", markup=False)
        sweep = prepare(job, lambda text: console.print(text, highlight=False, markup=False))
        folder.write_job(job.model_dump_json(indent=1))
        folder.write_checkpoints(sweep.checkpoints)
        return _drive(sweep, store, folder, heartbeat, console)


@contextmanager
def _released(folder: RunFolder) -> Iterator[None]:
    """Give the run back at the end, after the heartbeat has stopped."""
    try:
        yield
    finally:
        folder.release()


def _drive(
    sweep: Sweep, store: Store, folder: RunFolder, heartbeat: Heartbeat, console: Console
) -> RunResult:
    executor = make_executor(sweep, store.uri)
    tally = Tally(cells_expected=expected_cells(sweep))
    speeds = speeds_of(sweep)
    try:
        with SweepProgress(folder, tally, console) as progress:
            heartbeat.also(progress.write)
            driver = Driver(
                sweep, store, folder, executor, progress, speeds, heartbeat, make_observer(sweep)
            )
            return driver.run()
    finally:
        executor.stop()


def speeds_of(sweep: Sweep) -> Speeds:
    """The speeds of the sweep's workers."""
    # Where it depends on the model how many GPUs a worker has, its speed is that of the model.
    return Speeds(sweep.job.cluster.cpus_per_worker, 1.0 if sweep.gpus is None else sweep.gpus)


def make_observer(sweep: Sweep) -> Observer:
    """Who is told how the sweep goes: the metrics of Ray, where it runs there."""
    if sweep.job.cluster.executor == "in_process":
        return Unobserved()
    from sweeper.run.ray_cluster import recorder

    return SweepMetrics(sweep.job.name, recorder)


def make_executor(sweep: Sweep, store: str) -> Executor:
    """The executor that the job names, not yet started."""
    job, cluster = sweep.job, sweep.job.cluster
    if cluster.executor == "in_process":
        return InProcessExecutor(store, job.name, cluster.cpus_per_worker)
    # Here: Ray takes a second to import, and an in-process run does without it.
    from sweeper.run.ray_executor import RayExecutor

    # Ray knows its nodes' cores and GPUs; how many models this machine's memory holds, we know.
    as_fit = cluster.workers == "auto" and (cluster.address != "local" or sweep.gpus != 0)
    asked = Asked(
        needs=needs_of(job, sweep.checkpoints) if sweep.gpus is None else (),
        cpus=cluster.cpus_per_worker,
        gpus=sweep.gpus,
        workers=None if as_fit else sweep.num_workers,
        labels=cluster.labels,
        wait_seconds=cluster.wait_seconds,
    )
    return RayExecutor(
        store,
        job.name,
        address=cluster.address,
        asked=asked,
        hang_seconds=cluster.hang_seconds,
    )


@contextmanager
def terminated_like_ctrl_c() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, where this thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> Any:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)
