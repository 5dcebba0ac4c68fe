"""Who drives a run now: a courtesy against starting the same run twice by mistake."""

import os
import secrets
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import psutil
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from sweeper.errors import UserError
from sweeper.store.filesystem import Files

STALE_SECONDS = 30.0
"""A driver on another host whose last beat is older counts as gone."""

_SAME_START_SECONDS = 2.0
"""Start times of one process, asked for twice, may differ by the clock's corrections."""


class _Claim(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    host: str
    pid: int
    process_started: float | None
    """Seconds since the epoch; tells a process from a later one with the same pid."""
    started_at: AwareDatetime
    beat_at: AwareDatetime
    token: str
    """Tells two claims of one process apart."""

    def is_live(self) -> bool:
        if self.host == socket.gethostname():
            return self._process_lives()
        return (datetime.now(UTC) - self.beat_at).total_seconds() < STALE_SECONDS

    def _process_lives(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            started: float = process.create_time()
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True
        known = self.process_started
        return known is None or abs(started - known) < _SAME_START_SECONDS


class DriverClaim:
    """The claim of one driver on one run, kept in the run's ``driver.json``.

    Scope: it stops a second ``sweeper run`` of the same run that is started by mistake. It is
    no lock. Two drivers that claim within the same moment may both believe in their claim
    until the next ``beat``; clocks of machines that differ by more than 30 s defeat it; and
    containers that share a host name but not their process numbers look dead to each other. On
    object stores it is the same file, written without conditions, which not every server knows.
    Exactly-once does not depend on it: readers take each cell from one attempt, so two drivers
    waste work but double nothing.
    """

    def __init__(self, files: Files, run: str) -> None:
        self._files = files
        self._run = run
        self._path = files.layout.driver(run)
        self._mine: _Claim | None = None

    def claim(self, owner: Mapping[str, Any] | None = None) -> None:
        """Take the run for this process, or say who has it.

        Args:
            owner: More facts about the driver (JSON types); ``host``, ``pid`` and
                ``process_started`` are this process' unless given.

        Raises:
            UserError: another driver has the run: its process lives on this host, or it is on
                another host and beat within 30 s.
        """
        holder = self._read()
        if holder is not None and not self._is_mine(holder) and holder.is_live():
            raise self._taken(holder)
        now = datetime.now(UTC)
        here = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_started": psutil.Process().create_time(),
        }
        times = {"started_at": now, "beat_at": now, "token": secrets.token_hex(8)}
        self._write(_Claim.model_validate({**here, **(owner or {}), **times}))
        self._check()

    def is_held(self) -> bool:
        """Whether a driver that lives has the run, this one included."""
        holder = self._read()
        return holder is not None and holder.is_live()

    def beat(self) -> None:
        """Say that this driver is alive; to be called every few seconds.

        Raises:
            UserError: another driver took the run over meanwhile.
            RuntimeError: the run was not claimed.
        """
        if self._mine is None:
            raise RuntimeError(f"run {self._run!r} was not claimed")
        self._check()
        self._write(self._mine.model_copy(update={"beat_at": datetime.now(UTC)}))

    def release(self) -> None:
        """Give the run back; nothing happens if it is not this driver's."""
        holder = self._read()
        if holder is not None and self._is_mine(holder):
            self._files.delete(self._path)
        self._mine = None

    def _check(self) -> None:
        holder = self._read()
        if holder is not None and not self._is_mine(holder):
            raise self._taken(holder)

    def _is_mine(self, holder: _Claim) -> bool:
        return self._mine is not None and holder.token == self._mine.token

    def _taken(self, holder: _Claim) -> UserError:
        return UserError(
            f"run: {self._run!r} is driven by process {holder.pid} on {holder.host} since "
            f"{holder.started_at:%Y-%m-%d %H:%M:%S} UTC; stop that one or wait for it"
        )

    def _write(self, claim: _Claim) -> None:
        self._files.write(self._path, claim.model_dump_json().encode())
        self._mine = claim

    def _read(self) -> _Claim | None:
        content = self._files.read(self._path)
        if content is None:
            return None
        try:
            return _Claim.model_validate_json(content.to_pybytes())
        except ValidationError as error:
            path = self._files.layout.full(self._path)
            raise UserError(f"run: {path} is damaged; delete it if nobody runs it") from error
