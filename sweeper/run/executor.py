"""Places to run units: what the driver asks of one."""

from dataclasses import dataclass
from typing import Protocol

from sweeper.records import Outcome, Unit


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
    text: str
    charged: bool
    """False where the cells cannot be at fault (a preempted machine)."""
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
