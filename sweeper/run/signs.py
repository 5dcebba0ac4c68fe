"""Signs that a worker gets on, and when their absence means that it hangs.

That a process lives says little: one that waits for ever lives too. What counts is the layers that
it computes. Other computing counts for less, since what spins in vain computes as well; and a
worker that loads may wait for a download, its own or another worker's, so all that it must show is
that it lives.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

PULSES = 5
"""Signs that a worker gives, and the driver looks for, within the time after which it hangs."""

LONGEST_PULSE = 30.0
"""Seconds between signs at most."""

LONGER = 10
"""How many times longer a worker may go without a layer while it loads or computes other things."""

BUSY = 0.05
"""Part of one core that counts as computing: less than a process gets on a crowded machine, more
than one that only waits uses."""


def pulse_seconds(hang_seconds: float) -> float:
    """Time between signs for a time (s) after which a worker hangs."""
    return min(hang_seconds / PULSES, LONGEST_PULSE)


@dataclass(frozen=True, slots=True)
class Sign:
    """What a worker has done so far: numbers that only grow."""

    beats: int = 0
    """Signs that it gave."""
    layers: int = 0
    """Layers that it computed."""
    busy: int = 0
    """Times between two signs in which it computed anything."""
    loading: bool = False

    def dump(self) -> bytes:
        """As a short text, for sending."""
        numbers = (self.beats, self.layers, self.busy, int(self.loading))
        return " ".join(map(str, numbers)).encode()

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """What ``dump`` wrote."""
        beats, layers, busy, loading = map(int, text.split())
        return cls(beats, layers, busy, bool(loading))


class Signs:
    """What a worker shows of itself; read by a thread beside the one that computes."""

    def __init__(self) -> None:
        """Begin with nothing done."""
        self.loading = False
        """Whether the worker fetches or loads a model now."""
        self._layers = self._beats = self._busy = 0
        self._seen = time.monotonic()
        self._used = time.process_time()

    def layer_computed(self, *_: Any) -> None:
        """Count a layer; a forward hook of torch."""
        self._layers += 1

    def read(self) -> Sign:
        """The next sign."""
        now, used = time.monotonic(), time.process_time()
        self._beats += 1
        if used - self._used > BUSY * (now - self._seen):
            self._busy += 1
        self._seen, self._used = now, used
        return Sign(self._beats, self._layers, self._busy, self.loading)


def show(signs: Signs, send: Callable[[Sign], Any], seconds: float) -> None:
    """Send a sign every so many seconds, from a thread that lasts as long as the process."""

    def beat() -> None:
        while True:
            # One that does not arrive is missed where it is waited for.
            with suppress(Exception):
                send(signs.read())
            time.sleep(seconds)

    threading.Thread(target=beat, name="signs", daemon=True).start()


@dataclass(slots=True)
class _Seen:
    """When a worker last showed what; seconds of one clock."""

    sign: Sign | None
    alive: float
    computed: float


@dataclass(slots=True)
class Watch:
    """Decides by the signs of workers which of them hang. Knows no clock and no process."""

    hang_seconds: float
    """Time without any sign after which a worker that computes hangs."""
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def begin(self, worker: str, now: float) -> None:
        """A worker begins a unit: what it did before says nothing about this one."""
        earlier = self._seen.get(worker)
        self._seen[worker] = _Seen(earlier.sign if earlier else None, now, now)

    def see(self, worker: str, sign: Sign, now: float) -> None:
        """Take note of the last sign of a worker that has begun a unit."""
        seen = self._seen[worker]
        before, seen.sign = seen.sign, sign
        if before is None or sign.layers != before.layers:
            seen.computed = seen.alive = now
        elif sign.busy != before.busy or (sign.loading and sign.beats != before.beats):
            seen.alive = now

    def hangs(self, worker: str, now: float) -> str | None:
        """Why a worker that has begun a unit is taken to hang; None where it is not."""
        seen = self._seen[worker]
        if now - seen.alive > self.hang_seconds:
            return f"no sign of progress for {now - seen.alive:.0f} s"
        if now - seen.computed > self.hang_seconds * LONGER:
            return f"no layer computed for {now - seen.computed:.0f} s"
        return None

    def forget(self, worker: str) -> None:
        """A worker is gone; another process may get its name."""
        self._seen.pop(worker, None)
