"""A sweep over training checkpoints on many GPUs, played through without any: the queue is real.

Time passes from event to event. The queue is asked for units exactly as the driver asks it. What a
unit takes, how long a load takes and which workers die is drawn at random, and the queue is told
estimates that are wrong by up to a factor of two.
"""

import heapq
import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from sweeper.plan.units import group_cells, unit_limits, workers_for
from sweeper.records import Cell, Checkpoint, Outcome, Unit
from sweeper.run.queue import UnitQueue

PYTHIA = (70e6, 160e6, 410e6, 1e9, 1.4e9, 2.8e9, 6.9e9, 12e9)
DEDUPED = (160e6, 410e6, 1.4e9, 6.9e9)

LOAD_SECONDS = (3.0, 8e-9)
"""At least, and for each parameter: 99 s for 12B, of two bytes each at 250 MB/s."""
NOISE = 0.3
"""Standard deviation of the logarithm of times."""
WRONG = 2.0
"""Estimates are wrong by up to this factor, apart from noise: half of it (as a logarithm) the same
for all of a model, half for each task of a checkpoint."""
UNIT_SECONDS = 60.0
RESTART_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """How large the sweep and the cluster are, and how often workers die."""

    workers: int = 1000
    sizes: tuple[float, ...] = (*PYTHIA, *DEDUPED)
    """Parameters of each model."""
    revisions: int = 154
    conditions: int = 13
    tasks: int = 80
    cell_seconds: float = 6e-10
    """Of one cell, for each parameter: 7 s for 12B."""
    deaths: float = 1e-3
    """Probability that a worker dies of a unit; half of the time it is preempted."""

    @property
    def num_cells(self) -> int:
        """Cells of the sweep."""
        return len(self.sizes) * self.revisions * self.conditions * self.tasks


@dataclass(slots=True, kw_only=True)
class Played:
    """What came of it."""

    units: int = 0
    work: float = 0.0
    """Seconds of one worker for all units."""
    loads_once: float = 0.0
    """Seconds to load every checkpoint once, as expected."""
    longest: float = 0.0
    """Seconds to load a checkpoint and compute its longest unit."""
    lower_bound: float = 0.0
    """In seconds: no schedule is shorter."""
    makespan: float = 0.0
    loads: int = 0
    deaths: int = 0
    handed_out: int = 0
    """Units, those that are tried again among them."""
    queue_seconds: float = 0.0
    """Time of a processor that the queue took for all of it."""

    @property
    def ratio(self) -> float:
        """Makespan over its lower bound."""
        return self.makespan / self.lower_bound

    @property
    def milliseconds(self) -> float:
        """Time of the queue for each unit."""
        return 1e3 * self.queue_seconds / self.handed_out

    @contextmanager
    def asking(self) -> Iterator[None]:
        """The queue works while this lasts."""
        begin = time.thread_time()
        yield
        self.queue_seconds += time.thread_time() - begin


class Truth:
    """What really happens, unknown to the queue."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        """Draw how wrong the estimates of each model are."""
        self.draw = random.Random(seed)
        self.wrong = [self.off() for _ in scenario.sizes]
        self._cell_seconds = scenario.cell_seconds
        self._seconds: dict[str, float] = {}

    def noise(self) -> float:
        """A factor with mean 1."""
        return math.exp(self.draw.gauss(-(NOISE**2) / 2, NOISE))

    def off(self) -> float:
        """A factor between the roots of 1 / ``WRONG`` and ``WRONG``."""
        return math.sqrt(WRONG) ** self.draw.uniform(-1, 1)

    def begin(self, name: str, parameters: float) -> None:
        """Draw the time of the cells of a task whose keys begin with a name."""
        self._seconds[name] = self._cell_seconds * parameters * self.off() * self.noise()

    def seconds(self, unit: Unit) -> float:
        """Time to compute a unit."""
        return sum(self._seconds[cell.key[:-2]] for cell in unit.cells)

    def load(self, checkpoint: Checkpoint) -> float:
        """Time of one load."""
        return usual_load(checkpoint.num_parameters) * self.noise()


def usual_load(parameters: float) -> float:
    """Expected time (s) to load a model."""
    least, each = LOAD_SECONDS
    return least + each * parameters


def play(scenario: Scenario, seed: int) -> Played:
    """Play a scenario to its end.

    Raises:
        AssertionError: the queue has lost or doubled a cell.
    """
    truth, queue, played = Truth(scenario, seed), UnitQueue(max_attempts=5), Played()
    for number, size in enumerate(scenario.sizes):
        for revision in range(scenario.revisions):
            units = list(_units(scenario, number, revision, truth))
            with played.asking():
                queue.add(units, rate=1.0)
            seconds = [truth.seconds(unit) for unit in units]
            played.units += len(units)
            played.work += sum(seconds)
            played.loads_once += usual_load(size)
            played.longest = max(played.longest, usual_load(size) + max(seconds))
    even = (played.work + played.loads_once) / scenario.workers
    played.lower_bound = max(even, played.longest)
    _Clock(scenario, truth, queue, played).run()
    return played


def _units(scenario: Scenario, number: int, revision: int, truth: Truth) -> Iterator[Unit]:
    """A checkpoint's cells, grouped as the driver would; a position is an expected second."""
    size = scenario.sizes[number]
    checkpoint = _checkpoint(number, revision, size)
    cost = scenario.cell_seconds * size * truth.wrong[number]
    part = size / sum(scenario.sizes) / scenario.revisions
    busy = workers_for(part, scenario.workers)
    limits = unit_limits(cost * scenario.conditions * scenario.tasks, 1.0, UNIT_SECONDS, busy)
    for task in range(scenario.tasks):
        name = f"{number:02}-{revision:03}-{task:03}-"
        truth.begin(name, size)
        cells = [_cell(f"{name}{i:02}", checkpoint, cost) for i in range(scenario.conditions)]
        for group in group_cells(cells, limits):
            yield _unit(group[0].key, checkpoint, group)


READY, DIED = "ready", "died"


@dataclass(slots=True)
class _Clock:
    """Passes the time."""

    scenario: Scenario
    truth: Truth
    queue: UnitQueue
    played: Played
    now: float = 0.0
    events: list[tuple[float, int, str, str | Outcome]] = field(default_factory=list)
    number: Iterator[int] = field(default_factory=count)
    idle: dict[str, None] = field(default_factory=dict)
    loaded: dict[str, Checkpoint] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def run(self) -> None:
        self.idle = dict.fromkeys(f"worker-{index}" for index in range(self.scenario.workers))
        while not self.queue.empty:
            self._dispatch()
            self.now, _, worker, what = heapq.heappop(self.events)
            self._handle(worker, what)
        self.played.makespan = self.now
        assert len(self.done) == self.scenario.num_cells

    def _later(self, seconds: float, worker: str, what: str | Outcome) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.number), worker, what))

    def _dispatch(self) -> None:
        for worker in list(self.idle):
            with self.played.asking():
                unit = self.queue.take(worker)
            if unit is not None:
                with self.played.asking():
                    self.queue.upcoming(worker)
                del self.idle[worker]
                self.played.handed_out += 1
                self._begin(worker, unit)

    def _begin(self, worker: str, unit: Unit) -> None:
        load, seconds = 0.0, self.truth.seconds(unit)
        if self.loaded.get(worker) != unit.checkpoint:
            load = self.truth.load(unit.checkpoint)
            self.loaded[worker] = unit.checkpoint
            self.played.loads += 1
        if unit.cells and self.truth.draw.random() < self.scenario.deaths:
            self._later(self.truth.draw.random() * (load + seconds), worker, DIED)
        else:
            self._later(load + seconds, worker, _outcome(unit, load + seconds, load))

    def _handle(self, worker: str, what: str | Outcome) -> None:
        if isinstance(what, Outcome):
            assert self.done.isdisjoint(what.done)
            self.done.update(what.done)
            with self.played.asking():
                given_up = self.queue.finish(worker, what)
            assert not given_up
            self.idle[worker] = None
        elif what == DIED:
            charged = self.truth.draw.random() < 0.5
            with self.played.asking():
                given_up = self.queue.lose(worker, "ActorDiedError", "", charged=charged)
            assert not given_up
            self.loaded.pop(worker)
            self.played.deaths += 1
            self._later(RESTART_SECONDS, worker, READY)
        else:
            self.idle[worker] = None


def _outcome(unit: Unit, seconds: float, load_seconds: float) -> Outcome:
    return Outcome(
        unit=unit.id,
        attempt="",
        done=tuple(cell.key for cell in unit.cells),
        errors=(),
        num_tokens=0,
        seconds=seconds,
        load_seconds=load_seconds,
    )


def _checkpoint(number: int, revision: int, parameters: float) -> Checkpoint:
    return Checkpoint(
        model=f"model-{number}",
        revision=f"step{revision}",
        location="",
        commit=f"{number}-{revision}",
        fingerprint=f"hub:{number}-{revision}",
        origin="",
        model_type="gpt_neox",
        num_layers=1,
        num_neurons=1,
        context=2048,
        dtype="bfloat16",
        attention="sdpa",
        device="cuda",
        num_parameters=int(parameters),
    )


def _cell(key: str, checkpoint: Checkpoint, cost: float) -> Cell:
    return Cell(
        key=key,
        kind="score",
        model=checkpoint.model,
        revision=checkpoint.revision,
        condition="",
        seed=None,
        condition_key=None,
        task=key[:-2],
        cost=cost,
    )


def _unit(name: str, checkpoint: Checkpoint, cells: tuple[Cell, ...]) -> Unit:
    return Unit(
        id=name,
        checkpoint=checkpoint,
        cells=cells,
        model={},
        task={},
        corpus=None,
        data_fingerprint="",
        operations={},
        allow_unchanged=frozenset(),
        conditions_attempt=None,
    )
