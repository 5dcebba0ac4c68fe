import pytest
from records_factory import cell, checkpoint, unit

from sweeper.run.remaining import ALMOST, Remaining
from sweeper.run.speed import Speeds


@pytest.fixture
def speeds(tmp_path):
    known = Speeds(1, 0, tmp_path / "speeds.json")
    known.set(checkpoint(), 10.0)
    known.set(checkpoint(model="slow", fingerprint="hub:slow"), 1.0)
    return known


def test_work_by_model_over_all_workers(speeds):
    remaining = Remaining(speeds)
    remaining.add(checkpoint(), 500.0)
    remaining.add(checkpoint(model="slow", fingerprint="hub:slow"), 30.0)
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


def test_never_below_nothing(speeds):
    remaining = Remaining(speeds)
    remaining.settle(checkpoint(), [cell("a", cost=100.0)])
    assert remaining.seconds({}, 2) == 0
