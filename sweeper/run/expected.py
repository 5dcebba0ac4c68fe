"""What a sweep amounts to, known before any neuron is chosen."""

from collections import Counter
from collections.abc import Mapping

from sweeper.plan.cells import EXPECTED_TRIALS, matched_by_perplexity, num_draws, score_cells
from sweeper.plan.forecast import Work
from sweeper.plan.layers import concrete_conditions
from sweeper.plan.revisions import chosen_here
from sweeper.records import Checkpoint
from sweeper.run.stages import known_of
from sweeper.run.sweep import Sweep
from sweeper.store import Store

Done = Mapping[tuple[str, str], int]
"""(kind of cell, its task) -> how many a store holds."""


def expected_work(sweep: Sweep, checkpoint: Checkpoint, done: Done | None = None) -> list[Work]:
    """All named cells of a checkpoint: the census, the matches, profile, drift, then each task's.

    Args:
        sweep: the sweep.
        checkpoint: the checkpoint.
        done: what the store holds already; nothing when absent.
    """
    stored = Counter(done or {})
    conditions = concrete_conditions(sweep.job, checkpoint)
    census = sweep.census_cell(checkpoint)
    matches = Counter(
        str(found.task)
        for name, found in matched_by_perplexity(conditions).items()
        if chosen_here(conditions, sweep.checkpoints, checkpoint, name)
    )
    draws = num_draws(sweep.job, conditions)
    work = []
    if census is not None:
        work.append(Work(cells=1, done=stored["census", census.task], cost=census.cost))
    for task, count in matches.items():
        cost = sweep.tasks[task].positions * EXPECTED_TRIALS
        work.append(Work(cells=count, done=stored["match", task], cost=cost))
    profile = sweep.profile_cell(checkpoint, {})
    if profile is not None:
        done_profiles = stored["profile", profile.task]
        work.append(Work(cells=1, done=done_profiles, cost=profile.cost))
    drift = sweep.drift_cell(checkpoint)
    if drift is not None:
        done_drifts = stored["drift", drift.task]
        work.append(Work(cells=1, done=done_drifts, cost=drift.cost))
    for task, facts in sweep.tasks.items():
        work.append(Work(cells=draws, done=stored["score", task], cost=facts.positions))
    return work


def done_work(sweep: Sweep, checkpoint: Checkpoint, store: Store) -> Done:
    """How many of a checkpoint's named cells a store holds.

    Raises:
        UserError: a condition's neurons cannot be chosen.
    """
    known, stored = known_of(sweep, store, checkpoint), store.done_keys()
    cells = [*known.named, *score_cells(checkpoint, known.conditions, sweep.tasks)]
    return Counter((cell.kind, cell.task) for cell in cells if cell.key in stored)


def expected_cost(sweep: Sweep, checkpoint: Checkpoint) -> float:
    """Work of the whole job on a checkpoint, in token positions."""
    return sum(work.left for work in expected_work(sweep, checkpoint))


def expected_cells(sweep: Sweep) -> int:
    """Number of named cells of the whole job."""
    every = (expected_work(sweep, checkpoint) for checkpoint in sweep.checkpoints)
    return sum(work.cells for of_one in every for work in of_one)
