"""What a worker is told about the time after a unit: what to have ready, and what to keep."""

from dataclasses import replace

from sweeper.records import Outlook, Unit
from sweeper.run.queue import UnitQueue
from sweeper.spec.job import JobSpec


def with_outlook(unit: Unit, queue: UnitQueue, worker: str, job: JobSpec) -> Unit:
    """A unit that a worker has just got from the queue, with what comes after it."""
    upcoming, limit = queue.upcoming(worker), job.cluster.cache_gb
    outlook = Outlook(
        next_checkpoint=upcoming,
        next_model=None if upcoming is None else job.model[upcoming.model].model_dump(),
        ahead=frozenset() if limit is None else queue.commits,
        cache_gb=limit,
    )
    return replace(unit, outlook=outlook)
