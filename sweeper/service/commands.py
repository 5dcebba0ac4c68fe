"""What the commands print that ask a cluster instead of a store."""

import time
from datetime import UTC, datetime

from rich.console import Console

from sweeper.run.progress import duration
from sweeper.service.jobs import RemoteJob, RemoteJobs
from sweeper.service.submission import submission
from sweeper.spec.job import JobSpec


def submit(job: JobSpec, address: str, again: bool, out: Console) -> None:
    """Start a job on a cluster, or join it, and say how to watch it."""
    ready = submission(job)
    jobs = RemoteJobs(address)
    found, new = jobs.submit(ready, again=again)
    if new:
        _say(out, f"submitted {found.run} as {found.id}")
    elif found.live:
        _say(out, f"{found.run} runs already as {found.id}; nothing new was started")
    else:
        _say(out, f"{found.run} has succeeded already as {found.id}; --again starts it once more")
    _say(out, f"watch it: sweeper logs {found.run} -f --address {jobs.address}")


def status(run: str, address: str, out: Console) -> None:
    """Print what a cluster says of a run."""
    job = RemoteJobs(address).find(run)
    begin = datetime.fromtimestamp(job.started, UTC)
    spent = (job.ended or time.time()) - job.started
    _say(out, f"{job.run}: {job.state.lower()} as {job.id}")
    _say(out, f"since {begin:%Y-%m-%d %H:%M:%S} UTC, {duration(max(spent, 0.0))}")
    if job.state == "FAILED" and job.message:
        _say(out, f"message: {job.message}")
    _say(out, f"cells: sweeper status {job.run} --store {job.store}")


def logs(run: str, address: str, follow: bool, out: Console, err: Console) -> bool:
    """Print what a run has printed; False where it is known to have ended without success.

    Raises:
        KeyboardInterrupt: whoever watches has seen enough; the run goes on.
    """
    jobs = RemoteJobs(address)
    job = jobs.find(run)
    if not follow:
        _show(out, jobs.logs(job))
        return True
    try:
        ended = jobs.follow(job, lambda text: _show(out, text))
    except KeyboardInterrupt:
        _say(err, f"no longer watching; {run} goes on, sweeper stop {run} would stop it")
        raise
    return ended.state == "SUCCEEDED"


def stop(run: str, address: str, out: Console) -> None:
    """Stop a run; what it has finished stays in its store."""
    jobs = RemoteJobs(address)
    job = jobs.find(run)
    if not job.live:
        _say(out, f"{job.run} does not run: it has {_ended(job)} as {job.id}")
        return
    ended = jobs.stop(job)
    _say(out, f"{ended.run} has {_ended(ended)} as {ended.id}; what was finished is kept")


def _ended(job: RemoteJob) -> str:
    words = {"SUCCEEDED": "succeeded", "FAILED": "failed", "STOPPED": "been stopped"}
    return words[job.state]


def _say(out: Console, text: str) -> None:
    out.print(text, markup=False, soft_wrap=True)


def _show(out: Console, text: str) -> None:
    """Logs as they are: no markup, no wrapping, no line of our own between them."""
    out.file.write(text)
    out.file.flush()
