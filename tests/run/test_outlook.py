from records_factory import cell, checkpoint, unit

from sweeper.records import Outcome, Unit
from sweeper.run.outlook import with_outlook
from sweeper.run.queue import UnitQueue
from sweeper.spec.job import JobSpec


def job(**cluster) -> JobSpec:
    return JobSpec.model_validate(
        {
            "name": "n",
            "model": {"m": {"path": "org/pythia", "revisions": "step*"}},
            "corpus": {"text": {"kind": "topics"}},
            "suite": {"p": {"kind": "perplexity", "corpus": "text"}},
            "condition": {"baseline": {"operation": None}},
            "cluster": cluster,
        }
    )


def at(step: int):
    return checkpoint(revision=f"step{step}", commit=f"commit{step}", fingerprint=f"hub:{step}")


def of_step(step: int, name: str, **changes) -> Unit:
    members = (cell(f"{name}-cell", revision=f"step{step}", cost=100.0),)
    return unit(name, members, checkpoint=at(step), **changes)


def answer(done: Unit) -> Outcome:
    return Outcome(
        unit=done.id,
        attempt="a",
        done=tuple(cell.key for cell in done.cells),
        errors=(),
        num_tokens=1,
        seconds=100.0,
        load_seconds=0.0,
    )


def test_the_last_unit_of_a_checkpoint_tells_of_the_next_one():
    queue = UnitQueue(3)
    queue.add([of_step(0, "a"), of_step(0, "b"), of_step(1, "c")], rate=1.0)
    told = []
    while (taken := queue.take("w")) is not None:
        outlook = with_outlook(taken, queue, [], "w", job()).outlook
        told.append(outlook.next_checkpoint)
        if outlook.next_checkpoint is not None:
            assert outlook.next_model == job().model["m"].model_dump()
        queue.finish("w", answer(taken))
    # A hundred seconds of work lie before the next load as long as "b" waits.
    assert told == [None, at(1), None]


def test_workers_are_told_of_different_checkpoints():
    queue = UnitQueue(3)
    queue.add([of_step(step, f"u{step}") for step in range(4)], rate=1.0)
    taken = [(worker, queue.take(worker)) for worker in "vw"]
    told = [with_outlook(unit, queue, [], name, job()).outlook for name, unit in taken]
    busy = {unit.checkpoint for _, unit in taken}
    following = {outlook.next_checkpoint for outlook in told}
    assert len(busy | following) == 4
    for name, busy_with in taken:
        queue.finish(name, answer(busy_with))
    assert {queue.take(name).checkpoint for name, _ in taken} == following


def test_what_is_ahead_is_told_only_where_disk_space_is_limited():
    queue = UnitQueue(3)
    queue.add([of_step(0, "a"), of_step(1, "b"), of_step(3, "d", previous=at(2))])
    taken = queue.take("w")
    plain = with_outlook(taken, queue, [], "w", job()).outlook
    assert (plain.ahead, plain.cache_gb) == (frozenset(), None)
    limited = with_outlook(taken, queue, [], "w", job(cache_gb=2.5)).outlook
    assert limited.cache_gb == 2.5
    assert limited.ahead == {"commit0", "commit1", "commit2", "commit3"}
    queue.finish("w", answer(taken))
    gone = taken.checkpoint.commit
    after = with_outlook(queue.take("w"), queue, [], "w", job(cache_gb=2.5)).outlook
    assert gone not in after.ahead


def test_what_waits_for_another_checkpoint_outside_the_queue_is_ahead_as_well():
    queue = UnitQueue(3)
    queue.add([of_step(0, "a")])
    held = [at(1), at(2), checkpoint(revision="step3", commit=None)]
    taken = queue.take("w")
    assert with_outlook(taken, queue, held, "w", job()).outlook.ahead == frozenset()
    outlook = with_outlook(taken, queue, held, "w", job(cache_gb=2.5)).outlook
    assert outlook.ahead == {"commit0", "commit1", "commit2"}
