"""How much work is left, and how long it will take."""

import time
from collections.abc import Iterable

from sweeper.records import Cell, Checkpoint, Unit
from sweeper.run.speed import Speeds

ALMOST = 0.95
"""A unit in flight never counts for more than this share of its work."""


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
        self._seen: dict[Checkpoint, dict[str, Unit]] = {}

    def add(self, checkpoint: Checkpoint, positions: float) -> None:
        """Expect work, in token positions."""
        self._left[checkpoint] = self._left.get(checkpoint, 0.0) + positions

    def settle(self, checkpoint: Checkpoint, cells: list[Cell]) -> None:
        """Take off cells that need no more work: done, found in the store, or given up."""
        self.add(checkpoint, -sum(cell.cost for cell in cells))

    def began(self, worker: str) -> None:
        """Note that a worker begins a unit now."""
        self._began[worker] = time.monotonic()

    def seconds(self, running: dict[str, Unit], workers: int) -> float:
        """Expected time until all is done, on so many workers."""
        self._see(running.values())
        waiting = dict(self._left)
        in_flight = 0.0
        for worker, unit in running.items():
            waiting[unit.checkpoint] -= unit.unshared_cost
            full = unit.cost / self._speeds.rate(unit.checkpoint)
            spent = time.monotonic() - self._began[worker]
            in_flight += full - min(spent, ALMOST * full)
        later = sum(
            positions * self._computed_part(cp) / self._speeds.rate(cp)
            for cp, positions in waiting.items()
        )
        return max(in_flight + later, 0.0) / workers

    def _see(self, units: Iterable[Unit]) -> None:
        """Remember units as planned: what prepares others, and second tries, share nothing."""
        for unit in units:
            if unit.attempt == 1 and unit.cells[0].kind == "score":
                self._seen.setdefault(unit.checkpoint, {})[unit.id] = unit

    def _computed_part(self, checkpoint: Checkpoint) -> float:
        """Part of a checkpoint's work, 0 to 1, that is left when shared work counts once."""
        units = self._seen.get(checkpoint, {}).values()
        unshared = sum(unit.unshared_cost for unit in units)
        return sum(unit.cost for unit in units) / unshared if unshared else 1.0
