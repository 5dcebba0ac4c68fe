"""The driver: keeps workers busy until every cell of a sweep is in the store.

The store is the truth. The queue is rebuilt from its commit markers at every start, so a killed
driver or worker loses the units in flight and nothing else.
"""

import math
import time
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from sweeper.errors import StoreError
from sweeper.plan.cells import score_cells
from sweeper.plan.units import unit_limits, workers_for
from sweeper.records import Cell, Checkpoint
from sweeper.run.build import preparing_unit, score_units
from sweeper.run.executor import Event, Executor, Finished, Lost
from sweeper.run.expected import expected_cells, expected_cost
from sweeper.run.heartbeat import Heartbeat
from sweeper.run.manifest import manifest_rows
from sweeper.run.metrics import Observer, Unobserved
from sweeper.run.named import NamedCells
from sweeper.run.outlook import with_outlook
from sweeper.run.preparation import Unavailable
from sweeper.run.progress import SweepProgress, describe
from sweeper.run.queue import GivenUp, UnitQueue
from sweeper.run.remaining import Remaining
from sweeper.run.rows import Rows
from sweeper.run.speed import Speeds
from sweeper.run.stages import Known, known_of
from sweeper.run.sweep import Sweep
from sweeper.store import Store, new_attempt_name
from sweeper.store.runs import RunFolder

POLL_SECONDS = 0.5

SHOW_SECONDS = 0.5
"""How often the state of all workers is gathered; events come far more often on a cluster."""

OUT_OF_MEMORY = "OutOfMemoryError"
"""What a worker is lost with when its host runs out of memory."""

UNWRITTEN = 3
"""Answers in a row, or as many as there are workers, that may be lost to a store that hiccups."""


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
        observer: Observer | None = None,
    ) -> None:
        """Bring the parts together; nothing starts yet."""
        self._sweep, self._store, self._folder = sweep, store, folder
        self._executor, self._progress, self._speeds = executor, progress, speeds
        self._heartbeat = heartbeat
        self._observer = observer or Unobserved()
        self._remaining = Remaining(speeds)
        self._queue = UnitQueue(sweep.job.cluster.max_attempts)
        self._named = NamedCells(folder.write_manifest)
        self._twins = _by_identity(sweep.checkpoints)
        self._expected: dict[Checkpoint, float] = {}
        self._unavailable: dict[tuple[str, str], tuple[Unavailable, ...]] = {}
        self._waiting: dict[str, list[Checkpoint]] = {}
        self._held: dict[Checkpoint, None] = {}
        self._holds_back = True
        self._failed: list[GivenUp] = []
        self._failed_keys: set[str] = set()
        self._computed: set[str] = set()
        self._reused: set[str] = set()
        self._workers: list[str] = []
        self._idle: dict[str, None] = {}
        self._shown = -math.inf
        self._unwritten = 0
        self._num_workers = sweep.num_workers

    def run(self) -> RunResult:
        """Compute everything that the store lacks; workers start only if that is anything.

        Raises:
            UserError: a condition's neurons cannot be chosen, the store cannot be written, or
                the workers cannot be started.
        """
        for checkpoint in self._sweep.checkpoints:
            cost = expected_cost(self._sweep, checkpoint)
            self._remaining.add(checkpoint, cost)
            self._expected[checkpoint] = cost / self._speeds.rate(checkpoint)
        try:
            self._run()
        finally:
            self._named.write()
        self._show()
        self._speeds.save()
        return RunResult(
            computed=len(self._computed),
            reused=len(self._reused),
            failed=tuple(self._failed),
            blocked=self._blocked(),
            unavailable=self._all_unavailable(),
        )

    def _run(self) -> None:
        for checkpoint in self._sweep.checkpoints:
            self._advance(checkpoint)
        if self._has_work():
            self._named.write()
            self._progress.say("starting workers")
            self._workers = self._executor.start()
            self._num_workers = len(self._workers)
            for worker in self._workers:
                self._welcome(worker)
        while self._has_work():
            self._dispatch()
            if time.monotonic() >= self._shown + SHOW_SECONDS:
                self._show()
            for event in self._executor.poll(POLL_SECONDS):
                self._handle(event)
            self._heartbeat.check()

    def _welcome(self, worker: str) -> None:
        self._queue.admit(worker, self._executor.room(worker))
        self._idle[worker] = None

    def _advance(self, checkpoint: Checkpoint) -> None:
        """Queue all of a checkpoint that the store makes known and that is not queued yet."""
        known = known_of(self._sweep, self._store, checkpoint)
        scored = score_cells(checkpoint, known.conditions, self._sweep.tasks)
        cells = [*known.named, *scored]
        rows = manifest_rows(self._sweep.job, checkpoint, cells, known.conditions)
        self._named.put(checkpoint, rows)
        self._leave_out(checkpoint, known.unavailable)
        stored = self._store.done_keys()
        found = [cell for cell in cells if cell.key in stored]
        self._reuse(checkpoint, [*known.parts, *found])
        if self._hold_back(checkpoint, known):
            return
        self._prepare(checkpoint, known)
        pending = self._new(scored)
        if pending:
            self._enqueue(checkpoint, pending, known)

    def _hold_back(self, checkpoint: Checkpoint, known: Known) -> bool:
        """Whether to wait for another revision first, so that this one is loaded only once."""
        for key in known.awaited:
            self._wait(key, checkpoint)
        if known.awaited and self._holds_back:
            self._held[checkpoint] = None
            return True
        self._held.pop(checkpoint, None)
        return False

    def _has_work(self) -> bool:
        """Whether anything waits or runs; at last also of what waits for others in vain."""
        if self._queue.empty and self._held:
            self._holds_back = False
            for checkpoint in list(self._held):
                self._advance(checkpoint)
        return not self._queue.empty

    def _wait(self, key: str, checkpoint: Checkpoint) -> None:
        """Let a checkpoint go on when a cell is done; two names for the same weights share it."""
        waiting = self._waiting.setdefault(key, [])
        if checkpoint not in waiting:
            waiting.append(checkpoint)

    def _leave_out(self, checkpoint: Checkpoint, found: tuple[Unavailable, ...]) -> None:
        """Take note of conditions that cannot be had, and expect no work of them."""
        place = (checkpoint.model, checkpoint.revision)
        new = [item for item in found if item not in self._unavailable.get(place, ())]
        self._remaining.add(checkpoint, -sum(item.cost for item in new))
        self._unavailable[place] = found

    def _prepare(self, checkpoint: Checkpoint, known: Known) -> None:
        """Queue what others wait for before everything else."""
        for item in known.ready:
            if item.is_awaited:
                self._wait(item.cell.key, checkpoint)
        new = {cell.key for cell in self._new(item.cell for item in known.ready)}
        units = [
            preparing_unit(self._sweep, checkpoint, item, self._store)
            for item in {item.cell.key: item for item in known.ready}.values()
            if item.cell.key in new
        ]
        self._queue.add(units, self._speeds.rate(checkpoint), first=True)

    def _reuse(self, checkpoint: Checkpoint, cells: list[Cell]) -> None:
        """Take note of cells that the store held before this run."""
        new = [c for c in cells if c.key not in self._reused and c.key not in self._computed]
        self._reused |= {cell.key for cell in new}
        self._named.settle((cell.key for cell in new), reused=True)
        self._settle(checkpoint, new)

    def _settle(self, checkpoint: Checkpoint, cells: list[Cell]) -> None:
        """Expect no more work of cells; two names for the same weights share them."""
        for other in self._twins[_identity(checkpoint)]:
            self._remaining.settle(other, cells)

    def _new(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those that are not done, given up, waiting or running."""
        stored = self._store.done_keys()
        known: tuple[Container[str], ...] = (stored, self._computed, self._queue, self._failed_keys)
        return [cell for cell in cells if not any(cell.key in place for place in known)]

    def _enqueue(self, checkpoint: Checkpoint, pending: list[Cell], known: Known) -> None:
        rate = self._speeds.rate(checkpoint)
        cluster = self._sweep.job.cluster
        # Two names for the same condition are one cell.
        total = sum({cell.key: cell.cost for cell in pending}.values())
        limits = unit_limits(total, rate, cluster.unit_seconds, self._busy_with(checkpoint))
        balance = known.sets.balances([cell.condition for cell in pending])
        units = score_units(
            self._sweep, checkpoint, pending, known.conditions, self._store, limits, balance
        )
        self._queue.add(units, rate)

    def _busy_with(self, checkpoint: Checkpoint) -> int:
        """Workers that the checkpoint's part of all work keeps busy."""
        part = self._expected[checkpoint] / max(sum(self._expected.values()), 1e-9)
        return workers_for(part, self._num_workers)

    def _dispatch(self) -> None:
        for worker in list(self._idle):
            unit = self._queue.take(worker)
            if unit is not None:
                del self._idle[worker]
                ahead = with_outlook(unit, self._queue, self._held, worker, self._sweep.job)
                self._executor.submit(worker, ahead)
                self._remaining.began(worker)

    def _handle(self, event: Event) -> None:
        unit = self._queue.running.get(event.worker)
        if isinstance(event, Finished):
            given_up = self._queue.finish(event.worker, event.outcome)
            self._idle[event.worker] = None
            self._computed |= set(event.outcome.done)
            self._named.settle(event.outcome.done)
            if unit is not None:
                self._observer.finished(unit, event.outcome)
                self._speeds.learn(unit, event.outcome)
                done = [cell for cell in unit.cells if cell.key in event.outcome.done]
                self._settle(unit.checkpoint, done)
            if event.outcome.done:
                self._unwritten = 0
        elif isinstance(event, Lost):
            given_up = self._lose(event)
        else:
            self._workers.append(event.worker)
            self._welcome(event.worker)
            return
        for item in given_up:
            self._give_up(item)
            self._settle(item.unit.checkpoint, [item.cell])
        if isinstance(event, Finished):
            self._follow(event.outcome.done)

    def _lose(self, event: Lost) -> list[GivenUp]:
        self._observer.lost()
        self._idle[event.worker] = None
        if not event.usable:
            self._workers.remove(event.worker)
            del self._idle[event.worker]
        if event.error == StoreError.__name__:
            self._check_store(event.text)
        smaller = event.error == OUT_OF_MEMORY
        return self._queue.lose(
            event.worker, event.error, event.text, charged=event.charged, smaller=smaller
        )

    def _check_store(self, text: str) -> None:
        """Stop where the store takes nothing more: cells must not pay for a full disk.

        Raises:
            StoreError: the driver cannot write either, or no worker can.
        """
        self._unwritten += 1
        self._folder.beat()
        if self._unwritten > max(len(self._workers), UNWRITTEN):
            raise StoreError(text)

    def _follow(self, done: Sequence[str]) -> None:
        """What is done makes more known of the checkpoints that wait for it."""
        waiting = [checkpoint for key in done for checkpoint in self._waiting.pop(key, [])]
        if waiting:
            self._store.refresh()
        for checkpoint in dict.fromkeys(waiting):
            self._advance(checkpoint)

    def _give_up(self, item: GivenUp) -> None:
        self._failed.append(item)
        self._failed_keys.add(item.cell.key)
        attempt = new_attempt_name(item.cell.key[:16])
        rows = Rows(unit=item.unit, attempt=attempt, run=self._sweep.job.name, worker="driver")
        rows.fail(item.error, item.attempts)
        rows.commit(self._store.writer)

    def _blocked(self) -> int:
        """Named cells that never became known, apart from those of unavailable conditions."""
        unavailable = sum(item.num_cells for item in self._all_unavailable())
        return expected_cells(self._sweep) - len(self._named) - unavailable

    def _all_unavailable(self) -> tuple[Unavailable, ...]:
        return tuple(item for found in self._unavailable.values() for item in found)

    def _show(self) -> None:
        self._shown, tally = time.monotonic(), self._progress.tally
        tally.cells_done, tally.cells_reused = self._named.num_done, self._named.num_reused
        # Parts have no name.
        tally.cells_failed = sum(max(self._named.of(item.cell.key), 1) for item in self._failed)
        running = self._queue.running
        tally.seconds_left = self._remaining.seconds(running, max(len(self._workers), 1))
        tally.workers = {
            worker: describe(running[worker]) if worker in running else "idle"
            for worker in self._workers
        }
        self._progress.update()
        self._observer.stands(tally, running)


def _identity(checkpoint: Checkpoint) -> tuple[object, ...]:
    return tuple(checkpoint.identity().values())


def _by_identity(checkpoints: Iterable[Checkpoint]) -> dict[tuple[object, ...], list[Checkpoint]]:
    """Checkpoints that give the same numbers, two names for the same weights."""
    found: dict[tuple[object, ...], list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        found.setdefault(_identity(checkpoint), []).append(checkpoint)
    return found
