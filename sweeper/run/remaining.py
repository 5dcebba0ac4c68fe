"""How much work is left, and how long it will take."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from sweeper.records import Cell, Checkpoint, Unit
from sweeper.run.speed import Speeds

ALMOST = 0.95
"""A unit in flight never counts for more than this share of its work."""


@dataclass(slots=True)
class _Seen:
    """Units of a checkpoint that were in flight at any time."""

    ids: set[str] = field(default_factory=set)
    cost: float = 0.0
    unshared: float = 0.0


class Remaining:
    """Work left by checkpoint, with the part of the units in flight that is probably done.

    Cells are counted in full, since what they share is known only once they are in units. What
    is not yet in flight is expected to share as much as the checkpoint's units did so far.
    """

    def __init__(self, speeds: Speeds) -> None:
        """Begin with nothing left."""
        self._speeds = speeds
        self._left: dict[Checkpoint, float] = {}
        self._began: dict[str, float] = {}
        self._seen: dict[Checkpoint, _Seen] = {}
        self._sizes: dict[str, tuple[Unit, float, float]] = {}

    def add(self, checkpoint: Checkpoint, positions: float) -> None:
        """Expect work, in token positions."""
        self._left[checkpoint] = self._left.get(checkpoint, 0.0) + positions

    def settle(self, checkpoint: Checkpoint, cells: list[Cell]) -> None:
        """Take off cells that need no more work: done, found in the store, or given up."""
        self.add(checkpoint, -sum(cell.cost for cell in cells))

    def began(self, worker: str) -> None:
        """Note that a worker begins a unit now."""
        self._began[worker] = time.monotonic()

    def seconds(self, running: Mapping[str, Unit], workers: int) -> float:
        """Expected time until all is done, on so many workers."""
        waiting = dict(self._left)
        in_flight = 0.0
        for worker, unit in running.items():
            cost, unshared = self._size(worker, unit)
            waiting[unit.checkpoint] -= unshared
            full = cost / self._speeds.rate(unit.checkpoint)
            spent = time.monotonic() - self._began[worker]
            in_flight += full - min(spent, ALMOST * full)
        later = sum(
            positions * self._computed_part(cp) / self._speeds.rate(cp)
            for cp, positions in waiting.items()
            if positions
        )
        return max(in_flight + later, 0.0) / workers

    def _size(self, worker: str, unit: Unit) -> tuple[float, float]:
        """Work of a unit in flight, shared work counted once and counted in full."""
        if worker not in self._sizes or self._sizes[worker][0] is not unit:
            self._sizes[worker] = (unit, unit.cost, unit.unshared_cost)
            self._see(*self._sizes[worker])
        return self._sizes[worker][1:]

    def _see(self, unit: Unit, cost: float, unshared: float) -> None:
        """Remember units as planned: what prepares others, and second tries, share nothing."""
        seen = self._seen.setdefault(unit.checkpoint, _Seen())
        scored = bool(unit.cells) and unit.cells[0].kind == "score"
        if unit.attempt == 1 and scored and unit.id not in seen.ids:
            seen.ids.add(unit.id)
            seen.cost += cost
            seen.unshared += unshared

    def _computed_part(self, checkpoint: Checkpoint) -> float:
        """Part of a checkpoint's work, 0 to 1, that is left when shared work counts once."""
        seen = self._seen.get(checkpoint)
        return seen.cost / seen.unshared if seen is not None and seen.unshared else 1.0
