import threading

import pytest
import torch

from sweeper.neurons import threads
from sweeper.neurons.summary import Summary
from sweeper.neurons.threads import in_threads


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    threads._pool(3).shutdown()
    threads._pool.cache_clear()
    torch.set_num_threads(before)


def test_results_are_in_order(three_threads):
    assert in_threads(lambda item: item * 2, range(50)) == list(range(0, 100, 2))
    assert torch.get_num_threads() == 3


def test_each_thread_has_one_core(three_threads):
    in_threads(lambda item: item, range(3))
    gate = threading.Barrier(3)

    def look(_item: int) -> tuple[str, int]:
        gate.wait(20)
        return threading.current_thread().name, torch.get_num_threads()

    found = in_threads(look, range(3))
    assert {cores for _, cores in found} == {1}
    assert len({name for name, _ in found}) == 3


def test_one_thread_is_the_caller():
    name = threading.current_thread().name
    if torch.get_num_threads() == 1:
        assert in_threads(lambda _: threading.current_thread().name, [1, 2]) == [name, name]


def test_an_exception_is_the_callers(three_threads):
    done = []

    def work(item: int) -> None:
        if item == 3:
            raise FloatingPointError("no number")
        done.append(item)

    with pytest.raises(FloatingPointError, match="no number"):
        in_threads(work, range(10))
    assert len(done) == 9


@pytest.mark.parametrize("inference", [True, False])
def test_the_callers_mode_holds(three_threads, inference):
    with torch.inference_mode(inference):
        found = in_threads(lambda _: torch.ones(1).is_inference(), range(4))
    assert found == [inference] * 4


def test_a_summary_is_the_same_on_three_threads(three_threads, monkeypatch):
    monkeypatch.setitem(Summary.add.__globals__["CHUNK_VALUES"], "cpu", 2000)
    values = torch.randn(500, 37)
    several = Summary.laid_out(values, 64)
    several.add(values)
    torch.set_num_threads(1)
    single = Summary.laid_out(values, 64)
    single.add(values)
    torch.set_num_threads(3)
    for mine, theirs in zip(
        several.statistics().values(), single.statistics().values(), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)
