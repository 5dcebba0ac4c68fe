import random
from dataclasses import replace

import pytest
from records_factory import cell, checkpoint, unit

from sweeper.records import CellError, Outcome, Unit
from sweeper.run.queue import UnitQueue


def of_model(model: str, name: str, cost: float = 10.0, cells: int = 1) -> Unit:
    members = tuple(cell(f"{name}-{i}", model=model, cost=cost / cells) for i in range(cells))
    return unit(name, members, checkpoint=checkpoint(model=model))


def answer(done: Unit, failed: tuple[str, ...] = (), seconds: float = 1.0, load: float = 0.0):
    return Outcome(
        unit=done.id,
        attempt="a",
        done=tuple(c.key for c in done.cells if c.key not in failed),
        errors=tuple(CellError(key=key, type="ValueError", text="no") for key in failed),
        num_tokens=10,
        seconds=seconds,
        load_seconds=load,
    )


def test_what_others_wait_for_comes_first_and_in_order():
    queue = UnitQueue(3)
    queue.add([of_model("a", "later")])
    queue.add([of_model("a", "one"), of_model("a", "two")], rate=1.0, first=True)
    taken = []
    while (found := queue.take("w")) is not None:
        taken.append(found.id)
        queue.finish("w", answer(found))
    assert taken == ["one", "two", "later"]


def test_a_worker_keeps_its_model():
    queue = UnitQueue(3)
    queue.add([of_model(m, f"{m}{i}") for i in range(3) for m in "ab"], rate=1.0)
    first = queue.take("w")
    model = first.checkpoint.model
    for _ in range(2):
        queue.finish("w", answer(first))
        first = queue.take("w")
        assert first.checkpoint.model == model
    queue.finish("w", answer(first))
    assert queue.take("w").checkpoint.model != model


def test_the_longest_unit_of_a_model_comes_first_and_second_tries_last():
    queue = UnitQueue(3)
    queue.add([of_model("m", f"u{cost}", cost=cost, cells=2) for cost in (10, 30, 20)])
    queue.finish("w", answer(queue.take("w"), ("u30-0",)))
    rest = []
    while (found := queue.take("w")) is not None:
        rest.append((found.id, found.cost))
        queue.finish("w", answer(found))
    assert rest == [("u20", 20), ("u10", 10), ("u30-0", 15)]


def test_idle_workers_take_what_nobody_has_and_then_the_model_with_most_work_per_worker():
    queue = UnitQueue(3)
    queue.add([of_model("big", f"b{i}", cost=100) for i in range(4)], rate=1.0)
    queue.add([of_model("small", f"s{i}", cost=50) for i in range(3)], rate=1.0)
    taken = [queue.take(f"w{i}").checkpoint.model for i in range(3)]
    # Nobody has the small one; then 300 s of the big one wait for one worker, 100 s of the small.
    assert taken == ["big", "small", "big"]


def test_loading_a_model_that_others_will_have_finished_is_not_worth_it():
    queue = UnitQueue(3)
    queue.add([of_model("m", "m0", cost=5), of_model("m", "m1", cost=5)], rate=1.0)
    assert queue.take("w0") is not None
    assert queue.take("w1") is None  # 5 s are left, loading is expected to take 10 s
    queue.add([of_model("m", f"more{i}", cost=5) for i in range(5)], rate=1.0)
    assert queue.take("w1") is not None


def test_without_a_holder_even_short_work_is_taken():
    queue = UnitQueue(3)
    queue.add([of_model("m", "m0", cost=0.001)], rate=1.0)
    assert queue.take("w1") is not None


def test_a_failed_cell_is_tried_alone_and_given_up_at_the_cap():
    queue = UnitQueue(3)
    queue.add([of_model("m", "u", cells=3)])
    given_up = []
    sizes = []
    while (taken := queue.take("w")) is not None:
        sizes.append((len(taken.cells), taken.attempt))
        failed = tuple(c.key for c in taken.cells if c.key == "u-1")
        given_up += queue.finish("w", answer(taken, failed))
    assert sizes == [(3, 1), (1, 2), (1, 3)]
    assert [(item.cell.key, item.attempts, item.error.text) for item in given_up] == [
        ("u-1", 3, "no")
    ]
    assert queue.empty


@pytest.mark.parametrize("saved", [0.0, 0.5])
def test_shared_work_makes_no_worker_faster(saved):
    queue = UnitQueue(3)
    first = replace(of_model("m", "m0", cost=400), saved=saved)
    queue.add([first, of_model("m", "m1", cost=130), of_model("m", "m2", cost=120)], rate=10.0)
    queue.take("w")
    queue.finish("w", answer(first, seconds=400 * (1 - saved) / 10))
    queue.take("w")
    # Still 10 positions per second: 12 s are left, more than the 10 s of loading.
    assert queue.take("v").checkpoint == first.checkpoint


def test_a_cell_that_is_tried_alone_shares_nothing():
    queue = UnitQueue(3)
    shares = replace(of_model("m", "u", cost=30, cells=3), saved=0.5)
    assert shares.cost == 15
    queue.add([shares])
    queue.finish("w", answer(queue.take("w"), ("u-1",)))
    assert [(u.saved, u.cost) for u in queue.units] == [(0.0, 10.0)]


def test_a_dead_workers_unit_comes_back_cell_by_cell():
    queue = UnitQueue(3)
    queue.add([of_model("m", "u", cells=2)])
    queue.take("w")
    assert queue.lose("w", "ActorDiedError", "died", charged=True) == []
    assert {len(u.cells) for u in queue.units} == {1}
    assert sorted(c.key for u in queue.units for c in u.cells) == ["u-0", "u-1"]


def test_preemption_is_not_charged():
    queue = UnitQueue(1)
    queue.add([of_model("m", "u", cells=2)])
    for _ in range(5):
        taken = queue.take("w")
        assert len(taken.cells) == 2
        assert queue.lose("w", "ActorDiedError", "preempted", charged=False) == []
    assert not queue.empty


def test_an_idle_workers_death_costs_nothing():
    queue = UnitQueue(1)
    assert queue.lose("w", "ActorDiedError", "died", charged=True) == []
    assert queue.empty


def test_a_model_that_cannot_be_loaded_is_given_up_as_a_whole():
    queue = UnitQueue(2)
    queue.add([of_model("broken", f"u{i}") for i in range(50)])
    given_up, tries = [], 0
    while (taken := queue.take("w")) is not None:
        tries += 1
        failed = answer(taken, tuple(c.key for c in taken.cells))
        given_up += queue.finish("w", replace(failed, loaded=False))
    assert len({item.cell.key for item in given_up}) == 50
    assert len(given_up) == 50
    assert tries == 4


def test_failing_cells_never_give_up_the_rest_of_their_model():
    queue = UnitQueue(2)
    queue.add([of_model("m", f"u{i}") for i in range(50)])
    given_up, done = [], []
    while (taken := queue.take("w")) is not None:
        bad = tuple(c.key for c in taken.cells if not c.key.startswith("u49"))
        result = answer(taken, bad)
        done += result.done
        given_up += queue.finish("w", result)
    assert done == ["u49-0"]
    assert {item.attempts for item in given_up} == {2}
    assert len(given_up) == 49


def test_a_worker_gets_only_models_that_it_has_room_for():
    queue = UnitQueue(3)
    queue.admit("small", frozenset({"s"}))
    queue.admit("large", None)
    queue.add([of_model("s", f"s{i}", cost=500) for i in range(3)], rate=1.0)
    queue.add([of_model("l", f"l{i}", cost=100) for i in range(2)], rate=1.0)
    # Less of it waits, but nobody else can do it.
    assert queue.take("large").id == "l0"
    assert queue.take("small").id == "s0"
    queue.finish("large", answer(queue.running["large"]))
    assert queue.take("large").id == "l1"
    queue.finish("large", answer(queue.running["large"]))
    # With nothing else left, it helps.
    assert queue.take("large").cells == ()
    queue.finish("large", answer(queue.running["large"], load=1.0))
    assert queue.take("large").id == "s1"
    queue.lose("large", "Died", "", charged=True)
    queue.finish("small", answer(queue.running["small"]))
    assert [queue.take("small").id, queue.empty] == ["s2", False]
    queue.finish("small", answer(queue.running["small"]))
    queue.add([of_model("l", "l3")])
    assert queue.take("small").id == "s1-0"
    queue.finish("small", answer(queue.running["small"]))
    assert queue.take("small") is None
    assert not queue.empty


def test_whoever_helps_loads_first_and_is_given_what_is_left_then():
    queue = UnitQueue(3)
    queue.add([of_model("m", f"u{i}", cost=100 - i) for i in range(4)], rate=1.0)
    assert queue.take("w").id == "u0"
    load = queue.take("v")
    assert (load.cells, load.checkpoint) == ((), checkpoint(model="m"))
    queue.finish("w", answer(queue.running["w"], seconds=100.0))
    assert queue.take("w").id == "u1"
    # It has died while it loaded, and so has the next one: no cell has to do with that.
    assert queue.lose("v", "Died", "", charged=True) == []
    assert queue.take("v").cells == ()
    assert queue.lose("v", "Died", "", charged=False) == []
    assert queue.take("v").cells == ()
    assert queue.finish("v", replace(answer(queue.running["v"]), loaded=False)) == []
    assert queue.take("v").id == "u2"
    queue.finish("v", answer(queue.running["v"], seconds=98.0, load=60.0))
    assert queue.take("v").id == "u3"
    for worker in "vw":
        queue.finish(worker, answer(queue.running[worker]))
    assert queue.empty


def test_a_model_that_loads_for_nothing_keeps_nobody_waiting():
    queue = UnitQueue(3)
    queue.add([of_model("m", f"u{i}", cost=100) for i in range(2)], rate=1.0)
    queue.take("w")
    assert queue.take("v").cells == ()
    for _ in range(2):
        assert not queue.empty
        queue.finish("w", answer(queue.running["w"], seconds=100.0))
        queue.take("w")
    assert "v" in queue.running
    assert queue.empty


def test_the_last_units_are_divided_among_the_workers_that_hold_their_model():
    queue = UnitQueue(3)
    queue.add([of_model("m", f"u{i}", cost=24, cells=8) for i in range(4)], rate=1.0)
    assert len(queue.take("w").cells) == 8
    for worker in "xy":
        assert queue.take(worker).cells == ()
        queue.finish(worker, answer(queue.running[worker], load=1.0))
    # Three units wait for three workers that have the model, then two, and their parts.
    sizes, done = [], [cell.key for cell in queue.running["w"].cells]
    queue.finish("w", answer(queue.running["w"], seconds=24.0))
    while not queue.empty:
        for worker in "xyw":
            if (found := queue.take(worker)) is not None:
                assert {cell.key for cell in found.cells}.isdisjoint(done)
                done += [cell.key for cell in found.cells]
                sizes.append(len(found.cells))
        for worker, found in dict(queue.running).items():
            queue.finish(worker, answer(found, seconds=found.cost))
    assert sizes[:3] == [8, 4, 4]
    assert sorted(done) == sorted(f"u{i}-{j}" for i in range(4) for j in range(8))
    # What takes less than ten seconds is not divided: two cells take six.
    assert min(sizes) == 2


def test_what_is_told_to_come_next_stays_with_the_worker():
    queue = UnitQueue(3)
    queue.add([of_model("a", f"a{i}", cost=100) for i in range(3)], rate=1.0)
    queue.add([of_model("b", "b0", cost=8), of_model("c", "c0", cost=5)], rate=1.0)
    assert queue.take("w").id == "a0"
    assert queue.upcoming("w") is None  # 200 s of its own model wait
    for _ in range(2):
        queue.finish("w", answer(queue.running["w"], seconds=100.0))
        queue.take("w")
    assert queue.upcoming("w").model == "b"
    assert queue.upcoming("w").model == "b"
    assert queue.take("v").id == "c0"
    assert queue.upcoming("v") is None
    queue.lose("w", "Died", "", charged=False)
    assert queue.upcoming("v").model == "a"
    queue.finish("v", answer(queue.running["v"], seconds=10.0))
    assert queue.take("v").id == "a2"
    assert queue.take("w").id == "b0"


def test_what_is_known_of_cells_and_commits_follows_the_units():
    queue = UnitQueue(2)
    queue.add([of_model("m", "u", cells=2), of_model("n", "v", cost=5)])
    assert {"u-0", "u-1", "v-0"} == {key for key in ("u-0", "u-1", "v-0", "x") if key in queue}
    assert queue.commits == {"abc"}
    first = queue.take("w")
    assert (first.id, "u-0" in queue) == ("u", True)
    queue.finish("w", answer(first, ("u-1",)))
    assert ("u-0" in queue, "u-1" in queue) == (False, True)
    alone = queue.take("w")
    assert len(queue.finish("w", answer(alone, ("u-1",)))) == 1
    assert "u-1" not in queue
    queue.finish("w", answer(queue.take("w")))
    assert ("v-0" in queue, queue.commits, queue.empty) == (False, frozenset(), True)


def test_random_histories_lose_and_double_nothing():
    for seed in range(60):
        rng = random.Random(seed)
        queue = UnitQueue(4)
        units = [of_model(rng.choice("abc"), f"u{i}", cells=rng.randint(1, 4)) for i in range(30)]
        wanted = {c.key for u in units for c in u.cells}
        queue.add(units[:10], rate=1.0)
        rest = units[10:]
        done, lost = [], []
        while not queue.empty or rest:
            if rest:
                queue.add([rest.pop()], rate=1.0)
            for worker in "xyz":
                if worker not in queue.running:
                    queue.take(worker)
            if not queue.running:
                continue
            worker, busy = rng.choice(sorted(queue.running.items()))
            if rng.random() < 0.2:
                lost += queue.lose(worker, "Died", "", charged=rng.random() < 0.5)
                continue
            failed = tuple(c.key for c in busy.cells if rng.random() < 0.1)
            result = answer(busy, failed, load=rng.choice((0.0, 3.0)))
            done += result.done
            lost += queue.finish(worker, replace(result, seconds=5.0))
        assert len(done) == len(set(done))
        assert sorted([*done, *(item.cell.key for item in lost)]) == sorted(wanted)
