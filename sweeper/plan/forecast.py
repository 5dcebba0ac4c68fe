"""What a job will do, before it does it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.plan.units import unit_limits, workers_for
from sweeper.records import Checkpoint
from sweeper.spec.job import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Cells that cost the same: of one task, or of one stage that prepares them."""

    cells: int
    done: int
    """Those that the store holds already."""
    cost: float
    """Token positions of one, counted in full."""

    @property
    def left(self) -> float:
        """Token positions that are left."""
        return (self.cells - self.done) * self.cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Expected work of one checkpoint."""

    checkpoint: Checkpoint
    cells: int
    """Scored cells, and those beside them."""
    done: int
    """Cells that the store holds already."""
    units: int
    """Expected units of the cells that are left."""
    positions: float
    """Expected token positions that are left, every cell counted in full."""
    seconds: float
    """Expected time of that on all workers, without loading the model."""


def forecast(
    job: JobSpec,
    checkpoint: Checkpoint,
    work: Sequence[Work],
    *,
    rate: float,
    workers: int,
    part: float = 1.0,
) -> Forecast:
    """Expected work of a checkpoint.

    Args:
        job: the job.
        checkpoint: the checkpoint.
        work: all its cells.
        rate: token positions per second of one worker.
        workers: number of workers.
        part: of the whole job's work, 0 to 1, that the checkpoint is.
    """
    positions = sum(item.left for item in work)
    busy = workers_for(part, workers)
    limits = unit_limits(positions, rate, job.cluster.unit_seconds, busy)
    # What cells share is not known before their neurons are.
    limit = min(limits.cost, limits.unshared)
    return Forecast(
        checkpoint=checkpoint,
        cells=sum(item.cells for item in work),
        done=sum(item.done for item in work),
        units=sum(_num_units(item, limit) for item in work),
        positions=positions,
        seconds=positions / rate / workers,
    )


def _num_units(work: Work, limit: float) -> int:
    per_unit = max(int(limit // work.cost), 1) if work.cost else 1
    return math.ceil((work.cells - work.done) / per_unit)
