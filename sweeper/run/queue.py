"""The queue of units: who does what next. Knows nothing of Ray, files or models.

A worker keeps the model that it has loaded as long as there is work for it. An idle worker takes
a model that nobody has loaded; where there is none, it helps with the one that is furthest from
its end, unless those who hold it will be done before the helper has loaded. ``run.backlog`` says
which one that is.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from sweeper.records import Cell, CellError, Checkpoint, Outcome, Unit, content_hash
from sweeper.run.backlog import AGAIN, FIRST, PLANNED, Backlog, ModelKey, Room, model_of

SHORTEST = 5.0
"""Seconds of a part that a unit may be divided into."""

MOST_EXCUSED = 10
"""How often a unit may lose its worker through nobody's fault; what kills its node is at fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """A cell that has failed too often."""

    unit: Unit
    cell: Cell
    error: CellError
    attempts: int


class UnitQueue:
    """Pending and running units, attempts and failures."""

    def __init__(self, max_attempts: int) -> None:
        """Make an empty queue.

        Args:
            max_attempts: how often a cell is tried. After twice as many failures to load a model
                (or deaths of its workers) one after the other, its other units are given up too.
        """
        self._max_attempts = max_attempts
        self._backlog = Backlog()
        self._running: dict[str, Unit] = {}
        self._holds: dict[str, ModelKey] = {}
        self._next: dict[str, ModelKey] = {}
        self._rooms: dict[str, Room] = {}
        self._attempts: Counter[str] = Counter()
        self._excused: Counter[str] = Counter()
        self._keys: set[str] = set()
        self._commits: Counter[str] = Counter()

    def add(self, units: Iterable[Unit], rate: float | None = None, *, first: bool = False) -> None:
        """Add units, or put them before all others of their model.

        Args:
            units: what is to be done; the longest of a model come first, whatever their order.
            rate: expected speed in token positions per second.
            first: whether others wait for what they find; they keep their order.
        """
        units = list(units)
        self._enter(units)
        self._backlog.put(units, FIRST if first else PLANNED, rate)

    def admit(self, worker: str, room: Room) -> None:
        """Say which models a worker has room for; without this, it is all of them."""
        self._rooms[worker] = room
        self._backlog.admit(room)

    @property
    def running(self) -> Mapping[str, Unit]:
        """Worker -> unit that it computes, as it is at any time."""
        return MappingProxyType(self._running)

    @property
    def units(self) -> list[Unit]:
        """Everything that waits or runs."""
        return [*self._backlog, *self._running.values()]

    def __contains__(self, key: object) -> bool:
        """Whether a cell waits or runs."""
        return key in self._keys

    @property
    def commits(self) -> frozenset[str]:
        """Hub commits whose files waiting and running units read."""
        return frozenset(+self._commits)

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing runs; models that load now are needed no more."""
        runs = any(unit.cells for unit in self._running.values())
        return not self._backlog.num_waiting and not runs

    def take(self, worker: str) -> Unit | None:
        """Give an idle worker its next unit; None when there is nothing worth its while.

        Without cells, if the worker is only to load a model that others have loaded already: then
        it is given what is left for it.
        """
        key = self._choose(worker)
        if key is None:
            return None
        keeps = self._holds.get(worker) == key
        self._hold(worker, key)
        first = self._backlog.first(key)
        if keeps or self._backlog[key].holders == 1 or first.previous is not None:
            unit = self._share_out(self._backlog.take(key))
        else:
            # Whoever helps takes no unit away from those who could begin with it at once.
            unit = replace(first, id=f"{first.id}-load", cells=())
        self._running[worker] = unit
        return unit

    def _share_out(self, unit: Unit) -> Unit:
        """Half of a long unit, if it is one of the last and others could do the other half."""
        key = model_of(unit)
        few = len(self._backlog[key].waiting) + 1 < self._backlog[key].holders
        if not few or len(unit.cells) == 1 or self._backlog.duration(unit) < 2 * SHORTEST:
            return unit
        middle = len(unit.cells) // 2
        now, later = _part(unit, unit.cells[middle:]), _part(unit, unit.cells[:middle])
        self._backlog.put([later], PLANNED)
        self._commits.update(_commits(unit))
        return now

    def upcoming(self, worker: str) -> Checkpoint | None:
        """What a worker will have to load next, once it is soon; others take it only to help.

        Soon means: what waits for the model that it holds takes less time than loading.
        """
        own = self._holds.get(worker)
        key = self._promised(worker) or self._backlog.best(self._rooms.get(worker))
        if own is None or key is None or key == own:
            return None
        left = self._backlog.seconds(own) if self._backlog.waits(own) else 0.0
        if left > self._backlog.load_seconds(key):
            return None
        if worker not in self._next:
            self._next[worker] = key
            self._backlog.hold(key)
        return self._backlog.first(key).checkpoint

    def _choose(self, worker: str) -> ModelKey | None:
        own = self._holds.get(worker)
        if own is not None and self._backlog.waits(own):
            return own
        return self._promised(worker) or self._backlog.best(self._rooms.get(worker))

    def _promised(self, worker: str) -> ModelKey | None:
        """What the worker was told to load next, unless others have done it meanwhile."""
        key = self._next.get(worker)
        if key is not None and not self._backlog.waits(key):
            self._release(worker, self._next)
            return None
        return key

    def _hold(self, worker: str, key: ModelKey) -> None:
        """Let go of another model, and of what was to be loaded next."""
        if self._holds.get(worker) == key:
            return
        self._release(worker, self._next)
        self._release(worker, self._holds)
        self._holds[worker] = key
        self._backlog.hold(key)

    def _release(self, worker: str, held: dict[str, ModelKey]) -> None:
        key = held.pop(worker, None)
        if key is not None:
            self._backlog.release(key)

    def _enter(self, units: Iterable[Unit]) -> None:
        for unit in units:
            self._keys.update(cell.key for cell in unit.cells)
            self._commits.update(_commits(unit))

    def _leave(self, units: Iterable[Unit]) -> None:
        for unit in units:
            self._keys.difference_update(cell.key for cell in unit.cells)
            self._commits.subtract(_commits(unit))

    def finish(self, worker: str, outcome: Outcome) -> list[GivenUp]:
        """Take a worker's answer; failed cells wait again, or are given up and returned."""
        unit = self._running.pop(worker)
        self._backlog.learn(unit, outcome)
        return self._retry(unit, outcome.errors, loaded=outcome.loaded) if unit.cells else []

    def lose(
        self, worker: str, error: str, text: str, *, charged: bool, smaller: bool = False
    ) -> list[GivenUp]:
        """Take note that a worker died, with the unit that it computed, if any.

        Args:
            worker: its name; a replacement may have the same.
            error: type of the failure.
            text: what happened.
            charged: whether the attempt counts against the cells (a preempted machine's does not,
                unless it happens to them again and again).
            smaller: whether the cells are tried again in batches half as large.
        """
        self._release(worker, self._next)
        self._release(worker, self._holds)
        unit = self._running.pop(worker, None)
        if unit is None or not unit.cells:
            return []
        if not charged:
            first = unit.cells[0].key
            self._excused[first] += 1
            if self._excused[first] <= MOST_EXCUSED:
                self._backlog.put([unit], FIRST)
                return []
        if smaller:
            unit = replace(unit, batch_share=unit.batch_share / 2)
        errors = [CellError(key=cell.key, type=error, text=text) for cell in unit.cells]
        return self._retry(unit, errors, loaded=False)

    def _retry(self, unit: Unit, errors: Iterable[CellError], *, loaded: bool) -> list[GivenUp]:
        by_key = {error.key: error for error in errors}
        failed = [cell for cell in unit.cells if cell.key in by_key]
        self._attempts.update(cell.key for cell in failed)
        revision = self._backlog[model_of(unit)]
        revision.failures_in_a_row = 0 if loaded else revision.failures_in_a_row + 1
        again = [cell for cell in failed if self._attempts[cell.key] < self._max_attempts]
        given_up = [self._give_up(unit, cell, by_key[cell.key]) for cell in failed]
        # One by one: a cell that kills its worker must not take its neighbours along again.
        alone = [_alone(unit, cell) for cell in again]
        self._leave([unit])
        self._enter(alone)
        self._backlog.put(alone, AGAIN)
        kept = [item for item in given_up if item.cell not in again]
        if revision.failures_in_a_row >= self._max_attempts * 2 and by_key:
            kept += self._give_up_model(revision.key, next(iter(by_key.values())))
        return kept

    def _give_up(self, unit: Unit, cell: Cell, error: CellError) -> GivenUp:
        return GivenUp(unit=unit, cell=cell, error=error, attempts=self._attempts[cell.key])

    def _give_up_model(self, key: ModelKey, error: CellError) -> list[GivenUp]:
        """The breaker: a model that only fails is not tried with every one of its units."""
        units = self._backlog.clear(key)
        self._leave(units)
        return [
            self._give_up(unit, cell, replace(error, key=cell.key))
            for unit in units
            for cell in unit.cells
        ]


def _alone(unit: Unit, cell: Cell) -> Unit:
    """The cell as a unit of its own, to be tried again."""
    return replace(unit, id=cell.key[:16], cells=(cell,), attempt=unit.attempt + 1, saved=0.0)


def _part(unit: Unit, cells: tuple[Cell, ...]) -> Unit:
    """Some of a unit's cells; they share about as much of their work as all do."""
    return replace(unit, id=content_hash([cell.key for cell in cells])[:16], cells=cells)


def _commits(unit: Unit) -> list[str]:
    places = (unit.checkpoint, unit.previous)
    return [place.commit for place in places if place is not None and place.commit is not None]
