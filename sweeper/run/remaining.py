"""How much work is left, and how long it will take."""

import time

from sweeper.records import Cell, Checkpoint, Unit
from sweeper.run.speed import Speeds

ALMOST = 0.95
"""A unit in flight never counts for more than this share of its work."""


class Remaining:
    """Work left by checkpoint, with the part of the units in flight that is probably done."""

    def __init__(self, speeds: Speeds) -> None:
        """Begin with nothing left."""
        self._speeds = speeds
        self._left: dict[Checkpoint, float] = {}
        self._began: dict[str, float] = {}

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
        left = {cp: positions / self._speeds.rate(cp) for cp, positions in self._left.items()}
        for worker, unit in running.items():
            full = unit.cost / self._speeds.rate(unit.checkpoint)
            spent = time.monotonic() - self._began[worker]
            left[unit.checkpoint] -= min(spent, ALMOST * full)
        return max(sum(left.values()), 0.0) / workers
