"""What a job will do, before it does it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sweeper.plan.cells import num_score_cells
from sweeper.plan.units import unit_limits
from sweeper.records import Checkpoint, TaskFacts
from sweeper.spec.job import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Expected work of one checkpoint."""

    checkpoint: Checkpoint
    cells: int
    """Scored cells and the census."""
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
    tasks: Mapping[str, TaskFacts],
    *,
    census_cost: float | None,
    done: Mapping[str, int],
    rate: float,
    workers: int,
) -> Forecast:
    """Expected work of a checkpoint.

    Args:
        job: the job.
        checkpoint: the checkpoint.
        tasks: facts of every task.
        census_cost: token positions of its census; None without one.
        done: task -> number of its cells in the store; the census under "census".
        rate: token positions per second of one worker.
        workers: number of workers.
    """
    per_task = num_score_cells(job) // len(tasks)
    left = {name: (per_task - done.get(name, 0), facts.positions) for name, facts in tasks.items()}
    if census_cost is not None:
        left["census"] = (1 - done.get("census", 0), census_cost)
    positions = sum(count * cost for count, cost in left.values())
    return Forecast(
        checkpoint=checkpoint,
        cells=num_score_cells(job) + (census_cost is not None),
        done=sum(done.values()),
        units=_num_units(job, left, positions, rate, workers),
        positions=positions,
        seconds=positions / rate / workers,
    )


def _num_units(
    job: JobSpec,
    left: Mapping[str, tuple[int, float]],
    positions: float,
    rate: float,
    workers: int,
) -> int:
    limits = unit_limits(positions, rate, job.cluster.unit_seconds, workers)
    # What cells share is not known before their neurons are.
    limit = min(limits.cost, limits.unshared)
    per_unit = {name: max(int(limit // cost), 1) for name, (_, cost) in left.items() if cost}
    return sum(math.ceil(count / per_unit.get(name, 1)) for name, (count, _) in left.items())
