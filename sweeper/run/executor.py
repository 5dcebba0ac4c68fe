"""Places to run units: what the driver asks of one."""

from dataclasses import dataclass
from typing import Protocol

from sweeper.records import Outcome, Unit
from sweeper.run.backlog import Room


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A worker has answered."""

    worker: str
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A worker has died, or has raised outside of a cell."""

    worker: str
    error: str
    """Type of the failure; ``StoreError`` where the store could not be read or written."""
    text: str
    charged: bool
    """False where the cells cannot be at fault (a preempted machine, a full disk)."""
    usable: bool = True
    """Whether the worker can take another unit now; if not, ``Ready`` says when it can again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A worker that was started again can take units."""

    worker: str


Event = Finished | Lost | Ready


class Executor(Protocol):
    """Workers somewhere; each computes one unit at a time."""

    def start(self) -> list[str]:
        """Start the workers and return their names.

        Raises:
            UserError: the cluster cannot be reached or lacks what the job asks for.
        """
        ...

    def room(self, worker: str) -> Room:
        """Names of the models that a worker has room for; None for all."""
        ...

    def submit(self, worker: str, unit: Unit) -> None:
        """Hand a unit to an idle worker; returns at once."""
        ...

    def poll(self, seconds: float) -> list[Event]:
        """Wait for answers, at most about ``seconds`` (in-process: for the unit itself).

        Raises:
            UserError: no worker is left, and none could be started again.
        """
        ...

    def stop(self) -> None:
        """End the workers now; units in flight are lost."""
        ...
