"""What losing workers costs the cells that they computed."""

from dataclasses import replace

from records_factory import cell, unit

from sweeper.run.queue import MOST_EXCUSED, UnitQueue

ATTEMPTS = 3


def lose(queue: UnitQueue, **options) -> list:
    """Hand out a unit and lose its worker."""
    assert queue.take("w") is not None
    return queue.lose("w", "SomeError", "text", **options)


def test_what_is_nobodys_fault_costs_no_attempt_and_keeps_the_unit_whole():
    queue, work = UnitQueue(ATTEMPTS), unit("u", (cell("a"), cell("b")))
    queue.add([work])
    for _ in range(MOST_EXCUSED):
        assert lose(queue, charged=False) == []
        assert queue.units == [work]


def test_what_goes_down_with_its_node_again_and_again_is_charged_in_the_end():
    queue = UnitQueue(ATTEMPTS)
    queue.add([unit("u", (cell("a"),)), unit("v", (cell("b"),))])
    given_up = []
    for _ in range(2 * (MOST_EXCUSED + ATTEMPTS)):
        if queue.empty:
            break
        given_up += lose(queue, charged=False)
    assert queue.empty
    assert {item.cell.key for item in given_up} == {"a", "b"}


def test_after_the_host_ran_out_of_memory_batches_are_smaller_each_time():
    queue = UnitQueue(ATTEMPTS)
    queue.add([unit("u", (cell("a"), cell("b")))])
    assert lose(queue, charged=True, smaller=True) == []
    assert {found.batch_share for found in queue.units} == {0.5}
    assert lose(queue, charged=True, smaller=True) == []
    assert sorted(found.batch_share for found in queue.units) == [0.25, 0.5]
    # Another kind of death leaves it as it is.
    assert lose(queue, charged=True) == []
    assert sorted(found.batch_share for found in queue.units) == [0.25, 0.5]


def test_a_unit_is_whole_by_default():
    assert unit("u").batch_share == 1.0
    assert replace(unit("u"), batch_share=0.5) != unit("u")
