"""The choice of a revision, against looking at all of them."""

import random

import pytest
from records_factory import cell, checkpoint, unit

from sweeper.records import Outcome, Unit
from sweeper.run.backlog import AGAIN, FIRST, PLANNED, Backlog, ModelKey, Room


def of(model: str, revision: str, name: str, cost: float) -> Unit:
    place = checkpoint(model=model, revision=revision)
    return unit(name, (cell(name, model=model, revision=revision, cost=cost),), checkpoint=place)


class Plain:
    """The same state in plain dictionaries, and the choice by going through all of it."""

    def __init__(self) -> None:
        self.waiting: dict[ModelKey, list[float]] = {}
        self.holders: dict[ModelKey, int] = {}
        self.rates = {"a": 2.0, "b": 0.5, "c": 1.0}

    def value(self, key: ModelKey) -> tuple[bool, float] | None:
        """How good a choice a revision is; None where it is none."""
        seconds, held = sum(self.waiting[key]) / self.rates[key[0]], self.holders.get(key, 0)
        if not self.waiting[key]:
            return None
        if not held:
            return True, seconds + 10.0
        return (False, seconds / held - 10.0) if seconds / held > 10.0 else None

    def best(self, room: Room, rooms: list[Room]) -> tuple[int, bool, float] | None:
        """The value of the best choice, with how many kinds of workers have room for it."""
        values = [
            (-sum(other is None or key[0] in other for other in rooms), *found)
            for key in self.waiting
            if (room is None or key[0] in room) and (found := self.value(key)) is not None
        ]
        return max(values, default=None)


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_is_that_of_looking_at_everything(seed):
    draw, backlog, plain = random.Random(seed), Backlog(), Plain()
    rooms: list[Room] = [None, frozenset("ab"), frozenset("c")][: 1 + seed % 3]
    for room in rooms:
        backlog.admit(room)
    number = 0
    for _ in range(300):
        key = (draw.choice("abc"), f"step{draw.randrange(6)}")
        what = draw.random()
        if what < 0.35 or key not in plain.waiting:
            costs = [draw.randint(1, 60) * 1.0 for _ in range(draw.randint(1, 4))]
            units = [of(*key, f"u{number + i}", cost) for i, cost in enumerate(costs)]
            number += len(units)
            backlog.put(units, draw.choice((FIRST, PLANNED, AGAIN)), plain.rates[key[0]])
            plain.waiting.setdefault(key, []).extend(costs)
        elif what < 0.6 and plain.waiting[key]:
            assert backlog.waits(key)
            plain.waiting[key].remove(backlog.take(key).cost)
        elif what < 0.8:
            backlog.hold(key)
            plain.holders[key] = plain.holders.get(key, 0) + 1
        elif plain.holders.get(key, 0):
            backlog.release(key)
            plain.holders[key] -= 1
        elif what > 0.95:
            assert len(backlog.clear(key)) == len(plain.waiting[key])
            plain.waiting[key].clear()
        room = draw.choice(rooms)
        found, expected = backlog.best(room), plain.best(room, rooms)
        if expected is None:
            assert found is None
        else:
            assert found is not None
            assert plain.value(found) == pytest.approx(expected[1:])
            assert -sum(r is None or found[0] in r for r in rooms) == expected[0]
        assert backlog.num_waiting == sum(map(len, plain.waiting.values()))


def test_order_within_a_revision():
    backlog = Backlog()
    backlog.put([of("m", "r", name, cost) for name, cost in [("a", 1), ("b", 3)]], PLANNED)
    backlog.put([of("m", "r", "again", 9)], AGAIN)
    backlog.put([of("m", "r", "later", 5)], FIRST)
    backlog.put([of("m", "r", "one", 1), of("m", "r", "two", 2)], FIRST)
    names = [found.id for found in backlog.clear(("m", "r"))]
    assert names == ["one", "two", "later", "b", "a", "again"]


def test_what_is_measured_counts_for_all_revisions():
    backlog = Backlog()
    backlog.put([of("m", f"step{i}", f"u{i}", 100) for i in range(2)], PLANNED, rate=1.0)
    assert backlog.seconds(("m", "step1")) == 100
    done = Outcome(
        unit="u0",
        attempt="a",
        done=("u0",),
        errors=(),
        num_tokens=1,
        seconds=25.0,
        load_seconds=5.0,
    )
    backlog.learn(backlog.take(("m", "step0")), done)
    assert backlog.seconds(("m", "step1")) == pytest.approx(100 / (100 / 20))
    assert backlog.load_seconds(("m", "step1")) == 5.0
    # What was guessed says nothing against it.
    backlog.put([of("m", "step2", "u2", 100)], PLANNED, rate=1.0)
    assert backlog.seconds(("m", "step2")) == pytest.approx(20)
