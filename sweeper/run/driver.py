"""The driver: keeps workers busy until every cell of a sweep is in the store.

The store is the truth. The queue is rebuilt from its commit markers at every start, so a killed
driver or worker loses the units in flight and nothing else.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from sweeper.plan.cells import score_cells
from sweeper.plan.units import unit_limits
from sweeper.records import Cell, Checkpoint
from sweeper.run.build import preparing_unit, score_units
from sweeper.run.executor import Event, Executor, Finished, Lost
from sweeper.run.expected import expected_cells, expected_cost
from sweeper.run.heartbeat import Heartbeat
from sweeper.run.manifest import manifest_rows, manifest_table
from sweeper.run.progress import SweepProgress, describe
from sweeper.run.queue import GivenUp, UnitQueue
from sweeper.run.remaining import Remaining
from sweeper.run.rows import Rows
from sweeper.run.speed import Speeds
from sweeper.run.stages import Known, Unavailable, known_of
from sweeper.run.sweep import Sweep
from sweeper.store import Store, new_attempt_name
from sweeper.store.runs import RunFolder

POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended."""

    computed: int
    """Cells computed now."""
    reused: int
    """Cells that the store had already."""
    failed: tuple[GivenUp, ...]
    blocked: int
    """Cells that were never known, since what they need has failed."""
    unavailable: tuple[Unavailable, ...] = ()
    """Conditions that a model does not have."""

    @property
    def complete(self) -> bool:
        """Whether the store now holds every cell of the job."""
        return not self.failed and not self.blocked and not self.unavailable


class Driver:
    """Runs one sweep to its end with one executor."""

    def __init__(
        self,
        sweep: Sweep,
        store: Store,
        folder: RunFolder,
        executor: Executor,
        progress: SweepProgress,
        speeds: Speeds,
        heartbeat: Heartbeat,
    ) -> None:
        """Bring the parts together; nothing starts yet."""
        self._sweep, self._store, self._folder = sweep, store, folder
        self._executor, self._progress, self._speeds = executor, progress, speeds
        self._heartbeat = heartbeat
        self._remaining = Remaining(speeds)
        self._queue = UnitQueue(sweep.job.cluster.max_attempts)
        self._manifest: dict[tuple[str, str], pd.DataFrame] = {}
        self._unavailable: dict[tuple[str, str], tuple[Unavailable, ...]] = {}
        self._waiting: dict[str, list[Checkpoint]] = {}
        self._failed: list[GivenUp] = []
        self._names: Counter[str] = Counter()
        self._computed: set[str] = set()
        self._reused: set[str] = set()
        self._workers: list[str] = []
        self._num_workers = sweep.num_workers

    def run(self) -> RunResult:
        """Compute everything that the store lacks; workers start only if that is anything.

        Raises:
            UserError: a condition's neurons cannot be chosen, the store cannot be written, or
                the workers cannot be started.
        """
        for checkpoint in self._sweep.checkpoints:
            self._remaining.add(checkpoint, expected_cost(self._sweep, checkpoint))
            self._advance(checkpoint)
        if not self._queue.empty:
            self._progress.say("starting workers")
            self._workers = self._executor.start()
            self._num_workers = len(self._workers)
        while not self._queue.empty:
            self._dispatch()
            self._show()
            for event in self._executor.poll(POLL_SECONDS):
                self._handle(event)
            self._heartbeat.check()
        self._show()
        self._speeds.save()
        return RunResult(
            computed=len(self._computed),
            reused=len(self._reused),
            failed=tuple(self._failed),
            blocked=self._blocked(),
            unavailable=self._all_unavailable(),
        )

    def _advance(self, checkpoint: Checkpoint) -> None:
        """Queue all of a checkpoint that the store makes known and that is not queued yet."""
        known = known_of(self._sweep, self._store, checkpoint)
        scored = score_cells(checkpoint, known.conditions, self._sweep.tasks)
        cells = [*known.named, *scored]
        self._note(checkpoint, manifest_rows(self._sweep.job, checkpoint, cells, known.conditions))
        self._leave_out(checkpoint, known.unavailable)
        stored = self._store.done_keys()
        found = [cell for cell in cells if cell.key in stored]
        self._reuse(checkpoint, [*known.parts, *found])
        self._prepare(checkpoint, known)
        taken = self._known_keys()
        pending = [cell for cell in scored if cell.key not in taken]
        if pending:
            self._enqueue(checkpoint, pending, known)

    def _leave_out(self, checkpoint: Checkpoint, found: tuple[Unavailable, ...]) -> None:
        """Take note of conditions that cannot be had, and expect no work of them."""
        place, tasks = (checkpoint.model, checkpoint.revision), self._sweep.tasks.values()
        new = [item for item in found if item not in self._unavailable.get(place, ())]
        draws = sum(item.num_cells for item in new) / len(tasks)
        self._remaining.add(checkpoint, -draws * sum(facts.positions for facts in tasks))
        self._unavailable[place] = found

    def _prepare(self, checkpoint: Checkpoint, known: Known) -> None:
        """Queue what others wait for before everything else."""
        taken = self._known_keys()
        for item in known.ready:
            # Two names for the same weights share it.
            waiting = self._waiting.setdefault(item.cell.key, [])
            if checkpoint not in waiting:
                waiting.append(checkpoint)
        units = [
            preparing_unit(self._sweep, checkpoint, item, self._store)
            for item in {item.cell.key: item for item in known.ready}.values()
            if item.cell.key not in taken
        ]
        self._queue.add(units, self._speeds.rate(checkpoint), first=True)

    def _reuse(self, checkpoint: Checkpoint, cells: list[Cell]) -> None:
        """Take note of cells that the store held before this run."""
        new = [c for c in cells if c.key not in self._reused and c.key not in self._computed]
        self._reused |= {cell.key for cell in new}
        self._settle(checkpoint, new)

    def _settle(self, checkpoint: Checkpoint, cells: list[Cell]) -> None:
        """Expect no more work of cells; two names for the same weights share them."""
        for other in self._sweep.checkpoints:
            if other.identity() == checkpoint.identity():
                self._remaining.settle(other, cells)

    def _known_keys(self) -> set[str]:
        """Cells that are done, given up, waiting or running."""
        queued = {cell.key for unit in self._queue.units for cell in unit.cells}
        failed = {item.cell.key for item in self._failed}
        return self._store.done_keys() | self._computed | queued | failed

    def _note(self, checkpoint: Checkpoint, rows: pd.DataFrame) -> None:
        self._manifest[checkpoint.model, checkpoint.revision] = rows
        parts = self._manifest.values()
        self._names = Counter(key for part in parts for key in part["cell_key"])
        self._folder.write_manifest(manifest_table(parts))

    def _enqueue(self, checkpoint: Checkpoint, pending: list[Cell], known: Known) -> None:
        rate = self._speeds.rate(checkpoint)
        cluster = self._sweep.job.cluster
        # Two names for the same condition are one cell.
        total = sum({cell.key: cell.cost for cell in pending}.values())
        limits = unit_limits(total, rate, cluster.unit_seconds, self._num_workers)
        balance = known.sets.balances([cell.condition for cell in pending])
        units = score_units(
            self._sweep, checkpoint, pending, known.conditions, self._store, limits, balance
        )
        self._queue.add(units, rate)

    def _dispatch(self) -> None:
        for worker in self._workers:
            if worker not in self._queue.running:
                unit = self._queue.take(worker)
                if unit is not None:
                    self._executor.submit(worker, unit)
                    self._remaining.began(worker)

    def _handle(self, event: Event) -> None:
        unit = self._queue.running.get(event.worker)
        if isinstance(event, Finished):
            given_up = self._queue.finish(event.worker, event.outcome)
            self._computed |= set(event.outcome.done)
            if unit is not None:
                self._speeds.learn(unit, event.outcome)
                done = [cell for cell in unit.cells if cell.key in event.outcome.done]
                self._settle(unit.checkpoint, done)
        elif isinstance(event, Lost):
            if not event.usable:
                self._workers.remove(event.worker)
            given_up = self._queue.lose(
                event.worker, event.error, event.text, charged=event.charged
            )
        else:
            self._workers.append(event.worker)
            return
        for item in given_up:
            self._give_up(item)
            self._settle(item.unit.checkpoint, [item.cell])
        if isinstance(event, Finished):
            self._follow(event.outcome.done)

    def _follow(self, done: Sequence[str]) -> None:
        """What is done makes more known of the checkpoints that wait for it."""
        waiting = [checkpoint for key in done for checkpoint in self._waiting.pop(key, [])]
        if waiting:
            self._store.refresh()
        for checkpoint in dict.fromkeys(waiting):
            self._advance(checkpoint)

    def _give_up(self, item: GivenUp) -> None:
        self._failed.append(item)
        attempt = new_attempt_name(item.cell.key[:16])
        rows = Rows(unit=item.unit, attempt=attempt, run=self._sweep.job.name, worker="driver")
        rows.fail(item.error, item.attempts)
        rows.commit(self._store.writer)

    def _blocked(self) -> int:
        """Named cells that never became known, apart from those of unavailable conditions."""
        known = sum(len(rows) for rows in self._manifest.values())
        unavailable = sum(item.num_cells for item in self._all_unavailable())
        return expected_cells(self._sweep) - known - unavailable

    def _all_unavailable(self) -> tuple[Unavailable, ...]:
        return tuple(item for found in self._unavailable.values() for item in found)

    def _show(self) -> None:
        tally = self._progress.tally
        # Two names for the same condition share a cell, and both are done with it.
        tally.cells_done = sum(self._names[key] for key in self._computed | self._reused)
        tally.cells_reused = sum(self._names[key] for key in self._reused)
        # Parts of a census have no name.
        tally.cells_failed = sum(max(self._names[item.cell.key], 1) for item in self._failed)
        running = self._queue.running
        tally.seconds_left = self._remaining.seconds(running, max(len(self._workers), 1))
        tally.workers = {
            worker: describe(running[worker]) if worker in running else "idle"
            for worker in self._workers
        }
        self._progress.update()
