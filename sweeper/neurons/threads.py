"""Threads that share out a layer's neurons, each with torch operations of one core.

Torch itself shares out every single operation and waits for the slowest core after each one, and
counts on one core alone; here a core keeps its neurons through all operations.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results of ``work`` on all items, in order, on as many threads as torch has.

    What an item changes must be its own. The first exception is raised once all threads rest.
    """
    count = torch.get_num_threads()
    if count == 1:
        return [work(item) for item in items]
    inference = torch.is_inference_mode_enabled()

    def in_mode(item: Item) -> Result:
        with torch.inference_mode(inference):  # each thread has a mode of its own
            return work(item)

    futures = [_pool(count).submit(in_mode, item) for item in items]
    errors = [error for error in (future.exception() for future in futures) if error]
    if errors:
        raise errors[0]
    return [future.result() for future in futures]


@lru_cache(maxsize=1)
def _pool(count: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(count, thread_name_prefix="census")
    everyone = Barrier(count)

    def settle() -> None:
        torch.set_num_threads(1)
        # Its first operation would give a thread as many cores as were set last, by any thread.
        torch.ones(2**16).add_(1)
        everyone.wait()

    for future in [pool.submit(settle) for _ in range(count)]:
        future.result()
    torch.set_num_threads(count)
    return pool
