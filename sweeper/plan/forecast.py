"""What a job will do, before it does it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.plan.units import unit_limits
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
    """Scored cells, the census and the matches."""
    done: int
    """Cells that the store holds already."""
    units: int
    """Expected units of the cells that are left."""
    positions: float
    """Expected token positions that are left, every cell counted in full."""
    seconds: float
    """Expected time of that on all workers, without loading the model."""


def forecast(
    job: JobSpec, checkpoint: Checkpoint, work: Sequence[Work], *, rate: float, workers: int
) -> Forecast:
    """Expected work of a checkpoint.

    Args:
        job: the job.
        checkpoint: the checkpoint.
        work: all its cells.
        rate: token positions per second of one worker.
        workers: number of workers.
    """
    positions = sum(part.left for part in work)
    limits = unit_limits(positions, rate, job.cluster.unit_seconds, workers)
    # What cells share is not known before their neurons are.
    limit = min(limits.cost, limits.unshared)
    return Forecast(
        checkpoint=checkpoint,
        cells=sum(part.cells for part in work),
        done=sum(part.done for part in work),
        units=sum(_num_units(part, limit) for part in work),
        positions=positions,
        seconds=positions / rate / workers,
    )


def _num_units(work: Work, limit: float) -> int:
    per_unit = max(int(limit // work.cost), 1) if work.cost else 1
    return math.ceil((work.cells - work.done) / per_unit)
