from dataclasses import replace

import pytest
from records_factory import cell, checkpoint, unit

from sweeper.plan.cells import score_cells
from sweeper.plan.cost import guessed_rate
from sweeper.plan.units import UnitLimits
from sweeper.records import Outcome
from sweeper.run.build import score_units
from sweeper.run.resolve import Sets
from sweeper.run.speed import Speeds
from sweeper.run.sweep import prepare
from sweeper.spec.job import JobSpec
from sweeper.store import Store


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
    for other in ({"num_layers": 5}, {"dtype": "bfloat16"}, {"model_type": "gpt2"}):
        assert Speeds(1, 0, file).measured(checkpoint(**other)) is None
    revision = checkpoint(revision="step2", fingerprint="hub:other")
    assert Speeds(1, 0, file).measured(revision) == speeds.rate(checkpoint())


def test_shared_work_makes_no_speed(tmp_path):
    cells = (cell("x", cost=300.0), cell("y", cost=300.0))
    learned = []
    for saved in (0.0, 0.5):
        speeds = Speeds(1, 0, tmp_path / f"{saved}.json")
        # The true speed is 30 positions per second.
        speeds.learn(unit("u", cells, saved=saved), outcome(20.0 * (1 - saved)))
        learned.append(speeds.rate(checkpoint()))
    assert learned == [30.0, 30.0]


def test_units_know_what_their_cells_share(story_job):
    def at(layer):
        chosen = {"kind": "explicit", "neurons": {layer: [1]}}
        return {"operation": "negative_clamp", "neurons": chosen}

    base = story_job().model_dump(mode="json")
    clamps = {"first": at(0), "third": at(2), "last": at(4)}
    chosen = {"census": None, "condition": {"base": {"operation": None}, **clamps}}
    sweep = prepare(JobSpec.model_validate({**base, **chosen}))
    (place,) = sweep.checkpoints
    assert place.num_layers == 5
    conditions = Sets(sweep.job, place, None).all()
    cells = [c for c in score_cells(place, conditions, sweep.tasks) if c.task == "grammar"]
    limits = UnitLimits(cost=1e9, sharing=1e9, unshared=1e9)
    store = Store(sweep.job.store, create=True)
    (found,) = score_units(sweep, place, cells, conditions, store, limits)
    # Of five layers each "base" and "last" share four, "last" and "third" two, "first" none.
    assert found.saved == pytest.approx((4 + 2) / (4 * 5))
    assert found.cost == pytest.approx(sum(c.cost for c in cells) * 0.7)


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
