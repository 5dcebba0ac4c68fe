"""The queue of units: who does what next. Knows nothing of Ray, files or models.

A worker keeps the model that it has loaded as long as there is work for it. An idle worker takes
the model with the most remaining work per worker, unless those who hold it will be done before it
has loaded.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sweeper.records import Cell, CellError, Outcome, Unit

ModelKey = tuple[str, str]
"""Name of the model and of the revision."""


def model_of(unit: Unit) -> ModelKey:
    """What a worker must have loaded for the unit."""
    return unit.checkpoint.model, unit.checkpoint.revision


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """A cell that has failed too often."""

    unit: Unit
    cell: Cell
    error: CellError
    attempts: int


@dataclass(slots=True)
class _ModelQueue:
    waiting: deque[Unit] = field(default_factory=deque)
    rate: float = 1.0
    """Token positions per second of one worker."""
    load_seconds: float = 10.0
    failures_in_a_row: int = 0

    @property
    def seconds(self) -> float:
        return sum(unit.cost for unit in self.waiting) / self.rate


class UnitQueue:
    """Pending and running units, attempts and failures."""

    def __init__(self, max_attempts: int) -> None:
        """Make an empty queue.

        Args:
            max_attempts: how often a cell is tried. After twice as many failures to load a model
                (or deaths of its workers) one after the other, its other units are given up too.
        """
        self._max_attempts = max_attempts
        self._models: dict[ModelKey, _ModelQueue] = {}
        self._running: dict[str, Unit] = {}
        self._holds: dict[str, ModelKey] = {}
        self._attempts: Counter[str] = Counter()

    def add(self, units: Iterable[Unit], rate: float | None = None, *, first: bool = False) -> None:
        """Append units, or put them before all others of their model.

        Args:
            units: what is to be done.
            rate: expected speed in token positions per second.
            first: whether others wait for what they find.
        """
        for unit in reversed(list(units)) if first else units:
            queue = self._models.setdefault(model_of(unit), _ModelQueue())
            (queue.waiting.appendleft if first else queue.waiting.append)(unit)
            queue.rate = rate or queue.rate

    @property
    def running(self) -> dict[str, Unit]:
        """Worker -> unit that it computes."""
        return dict(self._running)

    @property
    def units(self) -> list[Unit]:
        """Everything that waits or runs."""
        waiting = [unit for queue in self._models.values() for unit in queue.waiting]
        return [*waiting, *self._running.values()]

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self.units

    def take(self, worker: str) -> Unit | None:
        """Give an idle worker its next unit; None when there is nothing worth its while."""
        model = self._choose(worker)
        if model is None:
            return None
        unit = self._models[model].waiting.popleft()
        self._running[worker] = unit
        self._holds[worker] = model
        return unit

    def _choose(self, worker: str) -> ModelKey | None:
        own = self._holds.get(worker)
        if own is not None and self._models[own].waiting:
            return own
        holders = Counter(model for other, model in self._holds.items() if other != worker)
        worth = [
            (queue.seconds / (holders[model] + 1), model)
            for model, queue in self._models.items()
            if queue.waiting and self._worth_loading(queue, holders[model])
        ]
        return max(worth)[1] if worth else None

    @staticmethod
    def _worth_loading(queue: _ModelQueue, holders: int) -> bool:
        return holders == 0 or queue.seconds / holders > queue.load_seconds

    def finish(self, worker: str, outcome: Outcome) -> list[GivenUp]:
        """Take a worker's answer; failed cells wait again, or are given up and returned."""
        unit = self._running.pop(worker)
        queue = self._models[model_of(unit)]
        if outcome.load_seconds > 0.5:
            queue.load_seconds = outcome.load_seconds
        busy = outcome.seconds - outcome.load_seconds
        if outcome.done and busy > 0:
            keys = set(outcome.done)
            done = sum(cell.cost for cell in unit.cells if cell.key in keys) * (1 - unit.saved)
            # Smoothed: units differ in how well they pack.
            queue.rate += 0.5 * (max(done / busy, 1e-9) - queue.rate)
        return self._retry(unit, queue, outcome.errors, loaded=outcome.loaded)

    def lose(self, worker: str, error: str, text: str, *, charged: bool) -> list[GivenUp]:
        """Take note that a worker died, with the unit that it computed, if any.

        Args:
            worker: its name; a replacement may have the same.
            error: type of the failure.
            text: what happened.
            charged: whether the attempt counts against the cells (a preempted machine's does not).
        """
        self._holds.pop(worker, None)
        unit = self._running.pop(worker, None)
        if unit is None:
            return []
        queue = self._models[model_of(unit)]
        if not charged:
            queue.waiting.appendleft(unit)
            return []
        errors = [CellError(key=cell.key, type=error, text=text) for cell in unit.cells]
        return self._retry(unit, queue, errors, loaded=False)

    def _retry(
        self, unit: Unit, queue: _ModelQueue, errors: Iterable[CellError], *, loaded: bool
    ) -> list[GivenUp]:
        by_key = {error.key: error for error in errors}
        failed = [cell for cell in unit.cells if cell.key in by_key]
        self._attempts.update(cell.key for cell in failed)
        queue.failures_in_a_row = 0 if loaded else queue.failures_in_a_row + 1
        again = [cell for cell in failed if self._attempts[cell.key] < self._max_attempts]
        given_up = [self._give_up(unit, cell, by_key[cell.key]) for cell in failed]
        # One by one: a cell that kills its worker must not take its neighbours along again.
        queue.waiting.extend(_alone(unit, cell) for cell in again)
        kept = [item for item in given_up if item.cell not in again]
        if queue.failures_in_a_row >= self._max_attempts * 2 and by_key:
            kept += self._give_up_model(queue, next(iter(by_key.values())))
        return kept

    def _give_up(self, unit: Unit, cell: Cell, error: CellError) -> GivenUp:
        return GivenUp(unit=unit, cell=cell, error=error, attempts=self._attempts[cell.key])

    def _give_up_model(self, queue: _ModelQueue, error: CellError) -> list[GivenUp]:
        """The breaker: a model that only fails is not tried with every one of its units."""
        units = list(queue.waiting)
        queue.waiting.clear()
        return [
            self._give_up(unit, cell, replace(error, key=cell.key))
            for unit in units
            for cell in unit.cells
        ]


def _alone(unit: Unit, cell: Cell) -> Unit:
    """The cell as a unit of its own, to be tried again."""
    return replace(unit, id=cell.key[:16], cells=(cell,), attempt=unit.attempt + 1, saved=0.0)
