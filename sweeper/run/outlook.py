"""What a worker is told about the time after a unit: what to have ready, and what to keep."""

from collections.abc import Iterable
from dataclasses import replace

from sweeper.records import Checkpoint, Outlook, Unit
from sweeper.run.queue import UnitQueue
from sweeper.spec.job import JobSpec


def with_outlook(
    unit: Unit, queue: UnitQueue, held: Iterable[Checkpoint], worker: str, job: JobSpec
) -> Unit:
    """A unit that a worker has just got from the queue, with what comes after it.

    Args:
        unit: what the worker does now.
        queue: where it is from.
        held: checkpoints whose units are not in the queue yet.
        worker: its name.
        job: what all this is for.
    """
    upcoming, limit = queue.upcoming(worker), job.cluster.cache_gb
    later = {checkpoint.commit for checkpoint in held if checkpoint.commit is not None}
    outlook = Outlook(
        next_checkpoint=upcoming,
        next_model=None if upcoming is None else job.model[upcoming.model].model_dump(),
        ahead=frozenset() if limit is None else queue.commits | later,
        cache_gb=limit,
    )
    return replace(unit, outlook=outlook)
