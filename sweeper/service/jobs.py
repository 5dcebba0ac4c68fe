"""Runs on a cluster by their names: submitted once, watched, stopped."""

import asyncio
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import aiohttp

from sweeper.errors import UserError
from sweeper.service.head import connect, errors_of
from sweeper.service.submission import (
    ENTRYPOINT,
    HASH_KEY,
    JOB_FILE,
    RUN_KEY,
    STORE_KEY,
    Submission,
)

AGENT_SECONDS = 60.0
"""How long a head that has just started may take before it can start jobs."""

STOP_SECONDS = 60.0
"""How long a stopped job may take to end."""

POLL_SECONDS = 0.5

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
"""States of Ray that a job never leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteJob:
    """One attempt at a run on a cluster, as its head tells."""

    id: str
    run: str
    hash: str
    store: str
    state: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    message: str
    started: float
    """Seconds since the epoch."""
    ended: float | None

    @property
    def live(self) -> bool:
        """Whether it may still compute."""
        return self.state not in ENDED


class RemoteJobs:
    """The jobs of this project on one cluster.

    Raises:
        UserError: from everything, where the head does not answer or denies access.
    """

    def __init__(self, address: str) -> None:
        """Connect to a head.

        Args:
            address: of its dashboard, ``http://host:8265``.
        """
        self.address = address.rstrip("/")
        self._client = connect(address)

    def jobs(self) -> list[RemoteJob]:
        """All that the cluster remembers, the oldest first."""
        with errors_of(self.address):
            found = self._client.list_jobs()
        jobs = [_remote(details) for details in found if RUN_KEY in (details.metadata or {})]
        return sorted(jobs, key=lambda job: (job.started, job.id))

    def find(self, run: str) -> RemoteJob:
        """The attempt at a run that lives, or the last one.

        Raises:
            UserError: the cluster knows no such run.
        """
        jobs = self.jobs()
        named = [job for job in jobs if job.run == run]
        if not named:
            names = sorted({job.run for job in jobs})
            near = get_close_matches(run, names, n=1, cutoff=0.0)
            hint = f"; did you mean {near[0]!r}?" if near else "; it knows none"
            raise UserError(f"run: {run!r} was not submitted to {self.address}{hint}")
        return next((job for job in reversed(named) if job.live), named[-1])

    def submit(self, job: Submission, *, again: bool = False) -> tuple[RemoteJob, bool]:
        """Start a job, or join it where it runs, or where it has succeeded.

        Args:
            job: what to run.
            again: start it once more although it has succeeded.

        Returns:
            The attempt, and whether this call has started it.

        Raises:
            UserError: another job of the same name runs there.
        """
        known = [other for other in self.jobs() if other.run == job.run]
        for other in known:
            if other.live and other.hash != job.hash:
                raise UserError(
                    f"name: another job runs as {job.run!r} on {self.address} (as {other.id}); "
                    "stop it or choose another name"
                )
        same = [other for other in known if other.hash == job.hash]
        kept = ("SUCCEEDED",) if not again else ()
        joined = [other for other in same if other.live or other.state in kept]
        if joined:
            return joined[-1], False
        return self._start(job, job.id(_unused(job, same)))

    def _start(self, job: Submission, name: str) -> tuple[RemoteJob, bool]:
        with tempfile.TemporaryDirectory() as folder, errors_of(self.address):
            (Path(folder) / JOB_FILE).write_text(job.text, encoding="utf-8")
            new = self._send(job, name, folder)
        return self.get(name), new

    def _send(self, job: Submission, name: str, folder: str) -> bool:
        """Hand a job over; False where somebody else was quicker in the same moment."""
        deadline = time.monotonic() + AGENT_SECONDS
        while True:
            try:
                self._client.submit_job(
                    entrypoint=ENTRYPOINT,
                    submission_id=name,
                    runtime_env={"working_dir": folder},
                    metadata=job.metadata,
                )
            except RuntimeError as error:
                if "already exists" in str(error):
                    return False
                late = time.monotonic() > deadline
                if late or "No available agent" not in str(error):
                    raise
            else:
                return True

    def get(self, name: str) -> RemoteJob:
        """An attempt by its own name."""
        with errors_of(self.address):
            return _remote(self._client.get_job_info(name))

    def logs(self, job: RemoteJob) -> str:
        """All that a job has printed."""
        with errors_of(self.address):
            return str(self._client.get_job_logs(job.id))

    def follow(self, job: RemoteJob, show: Callable[[str], Any]) -> RemoteJob:
        """Show what a job prints until it ends; a lost connection is taken up again.

        Returns:
            The job at its end.
        """
        seen = 0
        while True:
            seen = asyncio.run(self._tail(job.id, seen, show))
            current = self.get(job.id)
            if not current.live:
                rest = self.logs(job)[seen:]
                if rest:
                    show(rest)
                return current
            time.sleep(POLL_SECONDS)

    async def _tail(self, name: str, seen: int, show: Callable[[str], Any]) -> int:
        """Show what comes after the first so many characters, and count all of them."""
        position = 0
        # The connection may break; whether the head is gone shows at the next question.
        with suppress(OSError, RuntimeError, aiohttp.ClientError), warnings.catch_warnings():
            # Ray's client calls aiohttp in a way that will have to change.
            warnings.filterwarnings("ignore", "ssl=None is deprecated", DeprecationWarning)
            async for text in self._client.tail_job_logs(name):
                new = text[max(seen - position, 0) :]
                position += len(text)
                if new:
                    show(new)
        return max(position, seen)

    def stop(self, job: RemoteJob) -> RemoteJob:
        """Stop a job and wait for its end; what it has committed stays in its store.

        Raises:
            UserError: it does not end.
        """
        if not job.live:
            return job
        with errors_of(self.address):
            self._client.stop_job(job.id)
        deadline = time.monotonic() + STOP_SECONDS
        while (current := self.get(job.id)).live:
            if time.monotonic() > deadline:
                raise UserError(
                    f"run: {job.run!r} ({job.id}) was told to stop {STOP_SECONDS:g} s ago and is "
                    f"still {current.state}"
                )
            time.sleep(POLL_SECONDS)
        return current


def _unused(job: Submission, same: Iterable[RemoteJob]) -> int:
    """The first attempt of a job that the cluster has not seen."""
    taken = {other.id for other in same}
    attempt = 1
    while job.id(attempt) in taken:
        attempt += 1
    return attempt


def _remote(details: Any) -> RemoteJob:
    metadata = details.metadata or {}
    message = " ".join((details.message or "").split("\n", 1)[0].split())
    return RemoteJob(
        id=details.submission_id,
        run=metadata.get(RUN_KEY, ""),
        hash=metadata.get(HASH_KEY, ""),
        store=metadata.get(STORE_KEY, ""),
        state=str(details.status),
        message=message,
        started=(details.start_time or 0) / 1000,
        ended=None if details.end_time is None else details.end_time / 1000,
    )
