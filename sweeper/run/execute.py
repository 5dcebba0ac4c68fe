"""One call that runs a job: executor, driver, progress and the run's folder together."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console

from sweeper.run.driver import Driver, RunResult
from sweeper.run.executor import Executor
from sweeper.run.expected import expected_cells
from sweeper.run.heartbeat import Heartbeat
from sweeper.run.in_process import InProcessExecutor
from sweeper.run.progress import SweepProgress, Tally
from sweeper.run.speed import Speeds
from sweeper.run.sweep import Sweep, gpus_per_worker, prepare
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
    folder.claim()
    with _terminated_like_ctrl_c(), _released(folder), Heartbeat(folder.beat) as heartbeat:
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
    cluster, gpus = sweep.job.cluster, gpus_per_worker(sweep.job)
    executor = make_executor(sweep, store.uri)
    tally = Tally(cells_expected=expected_cells(sweep))
    speeds = Speeds(cluster.cpus_per_worker, gpus)
    try:
        with SweepProgress(folder, tally, console) as progress:
            heartbeat.also(progress.write)
            driver = Driver(sweep, store, folder, executor, progress, speeds, heartbeat)
            return driver.run()
    finally:
        executor.stop()


def make_executor(sweep: Sweep, store: str) -> Executor:
    """The executor that the job names, not yet started."""
    job, cluster = sweep.job, sweep.job.cluster
    if cluster.executor == "in_process":
        return InProcessExecutor(store, job.name, cluster.cpus_per_worker)
    # Here: Ray takes a second to import, and an in-process run does without it.
    from sweeper.run.ray_executor import RayExecutor

    gpus = gpus_per_worker(job)
    # Ray knows its nodes' cores and GPUs; how many models this machine's memory holds, we know.
    as_fit = cluster.workers == "auto" and (cluster.address != "local" or gpus > 0)
    return RayExecutor(
        store,
        job.name,
        address=cluster.address,
        workers=None if as_fit else sweep.num_workers,
        cpus=cluster.cpus_per_worker,
        gpus=gpus,
    )


@contextmanager
def _terminated_like_ctrl_c() -> Iterator[None]:
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
