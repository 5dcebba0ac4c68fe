"""Timing of several sides in turn, in one process."""

import gc
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import psutil

MEMORY_SAMPLES_PER_SECOND = 20


@dataclass(slots=True)
class Timed:
    """What the turns of one side gave."""

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    """Most memory during a turn above what the process held before it."""
    result: Any = None
    """Of the last turn."""


def in_turn(
    sides: Mapping[str, Callable[[], Any]], repeats: int, label: str = ""
) -> dict[str, Timed]:
    """Run A, B, A, B, ... so that what slows the machine for a while hits all sides."""
    timed = {name: Timed() for name in sides}
    for repeat in range(1, repeats + 1):
        for name, side in sides.items():
            _run(side, timed[name])
            seconds = timed[name].seconds[-1]
            print(f"  {label} {repeat}/{repeats}: {name} {seconds:.2f} s", file=sys.stderr)
    return timed


def _run(side: Callable[[], Any], timed: Timed) -> None:
    gc.collect()
    with _PeakMemory() as memory:
        begin = time.perf_counter()
        timed.result = side()
        timed.seconds.append(time.perf_counter() - begin)
    timed.peak_bytes = max(timed.peak_bytes, memory.peak - memory.before)


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    """Ratio of each turn: both sides were measured one right after the other."""
    return [a / b for a, b in zip(numerator, denominator, strict=True)]


def spread(values: Sequence[float]) -> float:
    """(largest - smallest) / median."""
    return (max(values) - min(values)) / median(values)


class _PeakMemory:
    """Resident memory of this process, sampled by a thread."""

    def __enter__(self) -> "_PeakMemory":
        self._process = psutil.Process()
        self.before = self.peak = self._process.memory_info().rss
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(1 / MEMORY_SAMPLES_PER_SECOND):
            self.peak = max(self.peak, self._process.memory_info().rss)
