"""Units that wait, by model and revision, and which revision an idle worker should load.

A choice looks at each model of the job once, at few of its revisions and at no units: revisions
lie in heaps, and their places there are put right when they come up.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace
from itertools import count

from sweeper.records import Outcome, Unit

ModelKey = tuple[str, str]
"""Name of the model and of the revision."""

Room = frozenset[str] | None
"""Names of the models that a worker has room for; None for all."""

SMOOTHING = 0.2
"""Weight of the newest measurement; units differ in how well they pack."""

LOAD_GUESS = (10.0, 4e-9)
"""Seconds to load a model before it was measured: at least, and for each parameter (two bytes at
500 MB/s)."""

FIRST, PLANNED, AGAIN = range(3)
"""Order of a revision's units: before all that wait, the longest of the rest, second tries."""


def model_of(unit: Unit) -> ModelKey:
    """What a worker must have loaded for the unit."""
    return unit.checkpoint.model, unit.checkpoint.revision


@dataclass(slots=True)
class Revision:
    """Waiting units of one revision of a model."""

    key: ModelKey
    waiting: list[tuple[tuple[int, float, int], Unit]] = field(default_factory=list)
    """A heap; no two places in it are equal."""
    cost: float = 0.0
    """Of the waiting units, in token positions."""
    holders: int = 0
    """Workers that have the revision loaded, are loading it, or will load it next."""
    failures_in_a_row: int = 0
    stamp: int = -1
    """Tells its valid place among the model's revisions from older ones."""

    @property
    def share(self) -> float:
        """Waiting work of each holder, or of the one that would be the first."""
        return self.cost / max(self.holders, 1)


Places = list[tuple[float, int, Revision]]
"""A heap of (-share of work when it was put there, stamp, revision)."""


@dataclass(slots=True)
class _Model:
    """What the revisions of a model have in common, and those with waiting units."""

    load_seconds: float
    rate: float = 1.0
    """Token positions per second of one worker."""
    rate_measured: bool = False
    load_measured: bool = False
    free: Places = field(default_factory=list)
    """Of revisions that no worker holds."""
    held: Places = field(default_factory=list)


class Backlog:
    """Waiting units; each revision's long ones come before its short ones."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.num_waiting = 0
        self._revisions: dict[ModelKey, Revision] = {}
        self._models: dict[str, _Model] = {}
        self._rooms: set[Room] = set()
        self._count = count()

    def __getitem__(self, key: ModelKey) -> Revision:
        """A revision that has, or had, units."""
        return self._revisions[key]

    def __iter__(self) -> Iterator[Unit]:
        """All waiting units, in no order."""
        for revision in self._revisions.values():
            for _, unit in revision.waiting:
                yield unit

    def put(self, units: Iterable[Unit], order: int, rate: float | None = None) -> None:
        """Add units.

        Args:
            units: the units.
            order: ``FIRST``, ``PLANNED`` or ``AGAIN``.
            rate: expected speed in token positions per second; a measured one counts more.
        """
        changed = {}
        for unit in reversed(list(units)) if order == FIRST else units:
            key, number = model_of(unit), next(self._count)
            revision = changed[key] = self._revisions.setdefault(key, Revision(key))
            model = self._model_of(unit)
            if rate is not None and not model.rate_measured:
                model.rate = rate
            place = {FIRST: (0.0, -number), PLANNED: (-unit.cost, number), AGAIN: (0.0, number)}
            heappush(revision.waiting, ((order, *place[order]), unit))
            revision.cost += unit.cost
            self.num_waiting += 1
        for revision in changed.values():
            self._place(revision)

    def _model_of(self, unit: Unit) -> _Model:
        name = unit.checkpoint.model
        if name not in self._models:
            least, each = LOAD_GUESS
            load_seconds = least + each * unit.checkpoint.num_parameters
            self._models[name] = _Model(load_seconds=load_seconds)
        return self._models[name]

    def take(self, key: ModelKey) -> Unit:
        """Take the next unit of a revision that has one."""
        revision = self._revisions[key]
        _, unit = heappop(revision.waiting)
        revision.cost = revision.cost - unit.cost if revision.waiting else 0.0
        self.num_waiting -= 1
        return unit

    def clear(self, key: ModelKey) -> list[Unit]:
        """Take all units of a revision, in order."""
        return [self.take(key) for _ in range(len(self._revisions[key].waiting))]

    def waits(self, key: ModelKey) -> bool:
        """Whether a revision has units."""
        return bool(self._revisions[key].waiting)

    def first(self, key: ModelKey) -> Unit:
        """The next unit of a revision that has one."""
        return self._revisions[key].waiting[0][1]

    def hold(self, key: ModelKey) -> None:
        """Count one more worker of a revision."""
        revision = self._revisions[key]
        revision.holders += 1
        if revision.holders == 1:
            self._place(revision)

    def release(self, key: ModelKey) -> None:
        """Count one worker less."""
        revision = self._revisions[key]
        revision.holders -= 1
        self._place(revision)

    def admit(self, room: Room) -> None:
        """Take note of a kind of worker."""
        self._rooms.add(room)

    def best(self, room: Room) -> ModelKey | None:
        """The revision that an idle worker should load; None where nothing is worth loading.

        Models for which fewer kinds of workers have room come first. Then revisions that nobody
        holds, those that take longest before others; then those that are furthest from their end,
        if the worker would still find work there after loading.
        """
        names = self._models if room is None else room & self._models.keys()
        options = (option for name in names for option in self._options(name))
        found = max(options, default=None)
        return None if found is None else found[-1]

    def seconds(self, key: ModelKey) -> float:
        """Expected time until the holders of a revision have done what waits."""
        return self._revisions[key].share / self._models[key[0]].rate

    def duration(self, unit: Unit) -> float:
        """Expected time of a unit."""
        return unit.cost / self._models[unit.checkpoint.model].rate

    def load_seconds(self, key: ModelKey) -> float:
        """Expected time to load a revision."""
        return self._models[key[0]].load_seconds

    def learn(self, unit: Unit, outcome: Outcome) -> None:
        """Measure speed and loading by a worker's answer; what prepares others has its own pace."""
        model = self._models[unit.checkpoint.model]
        if outcome.load_seconds > 0.5:
            weight = SMOOTHING if model.load_measured else 1.0
            model.load_seconds += weight * (outcome.load_seconds - model.load_seconds)
            model.load_measured = True
        busy = outcome.seconds - outcome.load_seconds
        if outcome.done and busy > 0 and unit.cells[0].kind == "score":
            keys = set(outcome.done)
            done = sum(cell.cost for cell in unit.cells if cell.key in keys) * (1 - unit.saved)
            weight = SMOOTHING if model.rate_measured else 1.0
            model.rate += weight * (max(done / busy, 1e-9) - model.rate)
            model.rate_measured = True

    def _options(self, name: str) -> Iterator[tuple[int, bool, float, ModelKey]]:
        """The best revisions of a model, as ``best`` compares them."""
        model = self._models[name]
        few = -sum(room is None or name in room for room in self._rooms)
        free, held = _top(model.free, held=False), _top(model.held, held=True)
        if free is not None:
            yield few, True, free.share / model.rate + model.load_seconds, free.key
        if held is not None and held.share / model.rate > model.load_seconds:
            yield few, False, held.share / model.rate - model.load_seconds, held.key

    def _place(self, revision: Revision) -> None:
        """Give a revision its place; any older one is void."""
        if revision.waiting:
            revision.stamp = next(self._count)
            model = self._models[revision.key[0]]
            places = model.held if revision.holders else model.free
            heappush(places, (-revision.share, revision.stamp, revision))


def _top(places: Places, *, held: bool) -> Revision | None:
    """The revision with the largest share of work.

    A share that has fallen since is corrected when its place comes up; one that has grown has a
    new place.
    """
    while places:
        least, stamp, revision = places[0]
        moved = bool(revision.holders) != held or stamp != revision.stamp
        if moved or not revision.waiting:
            heappop(places)
        elif revision.share < -least:
            heapreplace(places, (-revision.share, stamp, revision))
        else:
            return revision
    return None
