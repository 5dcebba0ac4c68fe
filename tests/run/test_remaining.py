import pytest
from records_factory import cell, checkpoint, unit

from sweeper.run.remaining import ALMOST, Remaining
from sweeper.run.speed import Speeds


@pytest.fixture
def speeds(tmp_path):
    known = Speeds(1, 0, tmp_path / "speeds.json")
    known.set(checkpoint(), 10.0)
    known.set(checkpoint(model="slow", num_layers=8), 1.0)
    return known


def test_work_by_model_over_all_workers(speeds):
    remaining = Remaining(speeds)
    remaining.add(checkpoint(), 500.0)
    remaining.add(checkpoint(model="slow", num_layers=8), 30.0)
    assert remaining.seconds({}, 1) == 50 + 30
    assert remaining.seconds({}, 4) == 20
    remaining.settle(checkpoint(), [cell("a", cost=100.0), cell("b", cost=200.0)])
    assert remaining.seconds({}, 1) == 20 + 30


def test_a_unit_in_flight_counts_for_what_it_has_probably_done(speeds, monkeypatch):
    clock = iter([0.0, 4.0, 1000.0])
    monkeypatch.setattr("sweeper.run.remaining.time.monotonic", lambda: next(clock))
    remaining = Remaining(speeds)
    remaining.add(checkpoint(), 100.0)
    remaining.began("w")
    running = {"w": unit("u", (cell("a", cost=100.0),))}
    assert remaining.seconds(running, 1) == pytest.approx(10 - 4)
    # Late, but never done before it says so.
    assert remaining.seconds(running, 1) == pytest.approx(10 * (1 - ALMOST))


def test_what_waits_shares_as_much_as_what_was_seen(speeds, monkeypatch):
    clock = iter([0.0, 2.0])
    monkeypatch.setattr("sweeper.run.remaining.time.monotonic", lambda: next(clock))
    slow = checkpoint(model="slow", num_layers=8)
    remaining = Remaining(speeds)
    remaining.add(checkpoint(), 500.0)
    remaining.add(slow, 30.0)
    cells = (cell("a", cost=100.0), cell("b", cost=100.0))
    remaining.began("w")
    # 100 positions in flight, 2 s ago begun; of 300 that wait half is computed; "slow" in full.
    running = {"w": unit("u", cells, saved=0.5)}
    assert remaining.seconds(running, 1) == pytest.approx(10 - 2 + 15 + 30)
    remaining.settle(checkpoint(), list(cells))
    assert remaining.seconds({}, 1) == pytest.approx(15 + 30)


@pytest.mark.parametrize("change", ["census", "second try"])
def test_units_that_cannot_share_say_nothing_of_the_others(speeds, monkeypatch, change):
    monkeypatch.setattr("sweeper.run.remaining.time.monotonic", lambda: 0.0)
    remaining = Remaining(speeds)
    remaining.add(checkpoint(), 400.0)
    pair = (cell("a", cost=50.0), cell("b", cost=50.0))
    alone = (cell("x", cost=100.0, kind="census" if change == "census" else "score"),)
    remaining.began("w")
    remaining.began("v")
    attempt = 2 if change == "second try" else 1
    running = {"w": unit("u", pair, saved=0.5), "v": unit("x", alone, attempt=attempt)}
    # In flight 50 and 100 positions, and half of the 200 that wait.
    assert remaining.seconds(running, 1) == pytest.approx((50 + 100 + 100) / 10)


def test_never_below_nothing(speeds):
    remaining = Remaining(speeds)
    remaining.settle(checkpoint(), [cell("a", cost=100.0)])
    assert remaining.seconds({}, 2) == 0
