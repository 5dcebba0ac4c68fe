"""What a sweep amounts to, known before any neuron is chosen."""

from collections import Counter
from dataclasses import dataclass, field

from sweeper.plan.cells import EXPECTED_TRIALS, matched_by_perplexity, num_draws, score_cells
from sweeper.plan.forecast import Work
from sweeper.plan.layers import concrete_conditions
from sweeper.plan.revisions import chosen_here
from sweeper.records import Cell, Checkpoint
from sweeper.run.stages import known_of
from sweeper.run.sweep import Sweep
from sweeper.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a store is with the named cells of a checkpoint, by (kind of cell, its task)."""

    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Those that it holds."""
    lacking: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Those of conditions that cannot be had, as it tells."""


def expected_work(
    sweep: Sweep, checkpoint: Checkpoint, standing: Standing | None = None
) -> list[Work]:
    """All named cells of a checkpoint: what is beside the tasks first, then each task's.

    Args:
        sweep: the sweep.
        checkpoint: the checkpoint.
        standing: what a store knows already; nothing when absent.
    """
    known = standing or Standing()

    def work(kind: str, task: str, cells: int, cost: float) -> Work:
        place = (kind, task)
        return Work(cells=cells - known.lacking[place], done=known.done[place], cost=cost)

    conditions = concrete_conditions(sweep.job, checkpoint)
    matches = Counter(
        str(found.task)
        for name, found in matched_by_perplexity(conditions).items()
        if chosen_here(conditions, sweep.checkpoints, checkpoint, name)
    )
    before, after = _single_cells(sweep, checkpoint)
    draws = num_draws(sweep.job, conditions)
    return [
        *(work(cell.kind, cell.task, 1, cell.cost) for cell in before),
        *(
            work("match", task, count, sweep.tasks[task].positions * EXPECTED_TRIALS)
            for task, count in matches.items()
        ),
        *(work(cell.kind, cell.task, 1, cell.cost) for cell in after),
        *(work("score", task, draws, facts.positions) for task, facts in sweep.tasks.items()),
    ]


def _single_cells(sweep: Sweep, checkpoint: Checkpoint) -> tuple[list[Cell], list[Cell]]:
    """Cells of which a checkpoint has one of a kind at most: before the matches, and after."""
    after = (
        sweep.profile_cell(checkpoint, {}),
        sweep.drift_cell(checkpoint),
        sweep.firing_cell(checkpoint),
        sweep.ngrams_cell(checkpoint),
        sweep.routing_cell(checkpoint),
        sweep.removal_cell(checkpoint),
    )
    census = sweep.census_cell(checkpoint)
    return [census] if census else [], [cell for cell in after if cell is not None]


def done_work(sweep: Sweep, checkpoint: Checkpoint, store: Store) -> Standing:
    """What a store knows of a checkpoint's named cells.

    Raises:
        UserError: a condition's neurons cannot be chosen.
    """
    known, stored = known_of(sweep, store, checkpoint), store.done_keys()
    cells = [*known.named, *score_cells(checkpoint, known.conditions, sweep.tasks)]
    lacking = Counter[tuple[str, str]]()
    for item in known.unavailable:
        lacking.update(item.cells)
    return Standing(
        done=Counter((cell.kind, cell.task) for cell in cells if cell.key in stored),
        lacking=lacking,
    )


def expected_cost(sweep: Sweep, checkpoint: Checkpoint) -> float:
    """Work of the whole job on a checkpoint, in token positions."""
    return sum(work.left for work in expected_work(sweep, checkpoint))


def expected_cells(sweep: Sweep) -> int:
    """Number of named cells of the whole job."""
    every = (expected_work(sweep, checkpoint) for checkpoint in sweep.checkpoints)
    return sum(work.cells for of_one in every for work in of_one)
