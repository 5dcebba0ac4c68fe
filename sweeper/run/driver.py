"""The driver: keeps workers busy until every cell of a sweep is in the store.

The store is the truth. The queue is rebuilt from its commit markers at every start, so a killed
driver or worker loses the units in flight and nothing else.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from sweeper.plan.cells import num_score_cells, score_cells
from sweeper.plan.units import unit_limits
from sweeper.records import Cell, Checkpoint, Condition
from sweeper.run.build import census_unit, score_units
from sweeper.run.executor import Event, Executor, Finished, Lost
from sweeper.run.heartbeat import Heartbeat
from sweeper.run.manifest import manifest_rows, manifest_table
from sweeper.run.progress import SweepProgress, describe
from sweeper.run.queue import GivenUp, UnitQueue
from sweeper.run.remaining import Remaining
from sweeper.run.resolve import resolve_conditions
from sweeper.run.rows import Rows
from sweeper.run.speed import Speeds
from sweeper.run.sweep import Sweep, expected_cost
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
    """Cells that were never known, since the census that they need has failed."""

    @property
    def complete(self) -> bool:
        """Whether the store now holds every cell of the job."""
        return not self.failed and not self.blocked


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
        self._manifest: dict[tuple[str, str], list[pd.DataFrame]] = {}
        self._census_of: dict[str, list[Checkpoint]] = {}
        self._failed: list[GivenUp] = []
        self._names: Counter[str] = Counter()
        self._computed: set[str] = set()
        self._reused: set[str] = set()
        self._workers: list[str] = []
        self._num_workers = sweep.num_workers

    def run(self) -> RunResult:
        """Compute everything that the store lacks; workers start only if that is anything.

        Raises:
            UserError: a condition turns out to choose no neuron, the store cannot be written, or
                the workers cannot be started.
        """
        for checkpoint in self._sweep.checkpoints:
            self._remaining.add(checkpoint, expected_cost(self._sweep, checkpoint))
            self._begin(checkpoint)
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
        )

    def _begin(self, checkpoint: Checkpoint) -> None:
        """Queue what can be known of a checkpoint: everything, or what needs no census."""
        census = self._sweep.census_cell(checkpoint)
        if census is None:
            self._extend(checkpoint, None, [])
        elif census.key in self._store.done_keys():
            self._reuse(checkpoint, [census])
            self._extend(
                checkpoint, self._store.table("neurons", [census.key]).to_pandas(), [census]
            )
        else:
            # First in the queue: most conditions wait for it.
            if census.key not in self._census_of:
                unit = census_unit(self._sweep, checkpoint, census)
                self._queue.add([unit], self._speeds.rate(checkpoint))
            # Two names for the same weights share the census.
            self._census_of.setdefault(census.key, []).append(checkpoint)
            self._extend(checkpoint, None, [census])

    def _extend(
        self, checkpoint: Checkpoint, neurons: pd.DataFrame | None, census: list[Cell]
    ) -> None:
        """Resolve the checkpoint's conditions, note its cells, and queue those not yet done."""
        conditions = resolve_conditions(self._sweep.job, checkpoint, neurons)
        cells = score_cells(checkpoint, conditions, self._sweep.tasks)
        self._note(checkpoint, manifest_rows(self._sweep.job, [*census, *cells], conditions))
        stored, known = self._store.done_keys(), self._known_keys()
        self._reuse(checkpoint, [cell for cell in cells if cell.key in stored])
        pending = [cell for cell in cells if cell.key not in known]
        if pending:
            self._enqueue(checkpoint, pending, conditions)

    def _reuse(self, checkpoint: Checkpoint, cells: list[Cell]) -> None:
        """Take note of cells that the store held before this run."""
        new = [c for c in cells if c.key not in self._reused and c.key not in self._computed]
        self._reused |= {cell.key for cell in new}
        self._remaining.settle(checkpoint, new)

    def _known_keys(self) -> set[str]:
        """Cells that are done, given up, waiting or running."""
        queued = {cell.key for unit in self._queue.units for cell in unit.cells}
        failed = {item.cell.key for item in self._failed}
        return self._store.done_keys() | self._computed | queued | failed

    def _note(self, checkpoint: Checkpoint, rows: pd.DataFrame) -> None:
        place = (checkpoint.model, checkpoint.revision)
        # The census row stays; conditions resolved later replace the ones known without it.
        census = [part[part["kind"] == "census"] for part in self._manifest.get(place, [])]
        self._manifest[place] = [*census, rows] if rows["kind"].ne("census").all() else [rows]
        parts = [part for kept in self._manifest.values() for part in kept]
        self._names = Counter(key for part in parts for key in part["cell_key"])
        self._folder.write_manifest(manifest_table(parts))

    def _enqueue(
        self, checkpoint: Checkpoint, pending: list[Cell], conditions: list[Condition]
    ) -> None:
        rate = self._speeds.rate(checkpoint)
        cluster = self._sweep.job.cluster
        # Two names for the same condition are one cell.
        total = sum({cell.key: cell.cost for cell in pending}.values())
        limits = unit_limits(total, rate, cluster.unit_seconds, self._num_workers)
        units = score_units(self._sweep, checkpoint, pending, conditions, self._store, limits)
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
                self._remaining.settle(unit.checkpoint, done)
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
            self._remaining.settle(item.unit.checkpoint, [item.cell])
        if isinstance(event, Finished):
            self._follow_census(event.outcome.done)

    def _follow_census(self, done: Sequence[str]) -> None:
        """A new census makes the conditions known that wait for it."""
        for key in done:
            for checkpoint in self._census_of.pop(key, []):
                self._store.refresh()
                self._extend(checkpoint, self._store.table("neurons", [key]).to_pandas(), [])

    def _give_up(self, item: GivenUp) -> None:
        self._failed.append(item)
        attempt = new_attempt_name(item.cell.key[:16])
        rows = Rows(unit=item.unit, attempt=attempt, run=self._sweep.job.name, worker="driver")
        rows.fail(item.error, item.attempts)
        rows.commit(self._store.writer)

    def _blocked(self) -> int:
        """Named cells that never became known; the names of a census are not among these."""
        parts = [part for kept in self._manifest.values() for part in kept]
        known = sum(int((part["kind"] == "score").sum()) for part in parts)
        return num_score_cells(self._sweep.job) * len(self._sweep.checkpoints) - known

    def _show(self) -> None:
        tally = self._progress.tally
        # Two names for the same condition share a cell, and both are done with it.
        tally.cells_done = sum(self._names[key] for key in self._computed | self._reused)
        tally.cells_reused = sum(self._names[key] for key in self._reused)
        tally.cells_failed = sum(self._names[item.cell.key] for item in self._failed)
        running = self._queue.running
        tally.seconds_left = self._remaining.seconds(running, max(len(self._workers), 1))
        tally.workers = {
            worker: describe(running[worker]) if worker in running else "idle"
            for worker in self._workers
        }
        self._progress.update()
