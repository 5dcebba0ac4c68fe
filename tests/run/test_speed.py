from dataclasses import replace

import pytest
from records_factory import cell, checkpoint, unit

from sweeper.plan.cost import guessed_rate
from sweeper.records import Outcome
from sweeper.run.speed import Speeds


def outcome(seconds: float, load: float = 0.0, **changes) -> Outcome:
    plain = Outcome(
        unit="u",
        attempt="a",
        done=("x",),
        errors=(),
        num_tokens=1,
        seconds=seconds,
        load_seconds=load,
    )
    return replace(plain, **changes)


def test_a_guess_gives_way_to_what_is_measured_and_is_remembered(tmp_path):
    file = tmp_path / "cache" / "speeds.json"
    speeds = Speeds(1, 0, file)
    assert speeds.measured(checkpoint()) is None
    assert speeds.rate(checkpoint()) == guessed_rate(checkpoint(), 1, 0)
    speeds.learn(unit("u", (cell("x", cost=300.0),)), outcome(12.0, load=2.0))
    assert speeds.rate(checkpoint()) == pytest.approx(30.0)
    speeds.learn(unit("u", (cell("x", cost=100.0),)), outcome(1.0))
    assert speeds.rate(checkpoint()) == pytest.approx(30 + 0.3 * 70)
    speeds.save()
    assert Speeds(1, 0, file).rate(checkpoint()) == speeds.rate(checkpoint())
    assert Speeds(2, 0, file).measured(checkpoint()) is None
    assert Speeds(1, 0, file).measured(checkpoint(fingerprint="hub:other")) is None


def test_failures_and_censuses_teach_nothing(tmp_path):
    speeds = Speeds(1, 0, tmp_path / "speeds.json")
    speeds.learn(unit("u", (cell("x", kind="census"),)), outcome(1.0))
    speeds.learn(unit("u"), outcome(1.0, done=()))
    speeds.learn(unit("u"), outcome(1.0, load=1.0))
    assert speeds.measured(checkpoint()) is None


@pytest.mark.parametrize("content", ["", "[]", '{"a": "fast", "b": -1.0}', "{"])
def test_a_damaged_memory_is_forgotten(tmp_path, content):
    file = tmp_path / "speeds.json"
    file.write_text(content)
    assert Speeds(1, 0, file).measured(checkpoint()) is None
