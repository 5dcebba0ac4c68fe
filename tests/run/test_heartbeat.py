import threading

import pytest

from sweeper.errors import UserError
from sweeper.run.heartbeat import PATIENCE, Heartbeat

SECONDS = 60


def test_it_beats_beside_the_work_and_stops_with_it():
    beats = threading.Semaphore(0)
    with Heartbeat(beats.release, seconds=0.001) as heartbeat:
        for _ in range(3):
            assert beats.acquire(timeout=SECONDS)
        heartbeat.check()
    while beats.acquire(blocking=False):
        pass
    assert not beats.acquire(timeout=0.05)


def test_what_a_beat_raises_reaches_the_driver():
    beats = threading.Semaphore(0)

    def taken() -> None:
        beats.release()
        raise UserError("run: 'r' is driven by somebody else")

    with Heartbeat(taken, seconds=0.001) as heartbeat:
        # One more than may fail: the last one counted is known to be over.
        for _ in range(PATIENCE + 1):
            assert beats.acquire(timeout=SECONDS)
        with pytest.raises(UserError, match="somebody else"):
            heartbeat.check()


def test_a_hiccup_is_forgotten():
    beats, fails = threading.Semaphore(0), iter([True] * (PATIENCE - 1))

    def hiccup() -> None:
        beats.release()
        if next(fails, False):
            raise OSError("busy")

    with Heartbeat(hiccup, seconds=0.001) as heartbeat:
        for _ in range(PATIENCE + 3):
            assert beats.acquire(timeout=SECONDS)
            heartbeat.check()


def test_more_can_beat_along():
    one, two = threading.Semaphore(0), threading.Semaphore(0)
    with Heartbeat(one.release, seconds=0.001) as heartbeat:
        heartbeat.also(two.release)
        assert two.acquire(timeout=SECONDS)
