"""A run's names for cells as they become known: how many are done, and the manifest of all."""

import time
from collections import Counter
from collections.abc import Callable, Iterable

import pandas as pd
import pyarrow as pa

from sweeper.records import Checkpoint
from sweeper.run.manifest import manifest_table

WRITING = 0.05
"""Part of the time that may go into writing the manifest while it grows."""


class NamedCells:
    """Names by cell key; two names for the same condition share a cell, and are done with it."""

    def __init__(self, write: Callable[[pa.Table], None]) -> None:
        """Begin without names.

        Args:
            write: keeps the manifest.
        """
        self.num_done = self.num_reused = 0
        self._write = write
        self._tables: dict[tuple[str, str], pa.Table] = {}
        self._names: Counter[str] = Counter()
        self._done: set[str] = set()
        self._reused: set[str] = set()
        self._changed = False
        self._next_write = 0.0

    def __len__(self) -> int:
        """All names that are known."""
        return sum(len(table) for table in self._tables.values())

    def of(self, key: str) -> int:
        """Names of a cell."""
        return self._names[key]

    def put(self, checkpoint: Checkpoint, rows: pd.DataFrame) -> None:
        """Give a checkpoint these rows of the manifest in place of those that it had."""
        place = checkpoint.model, checkpoint.revision
        if place in self._tables:
            self._count(self._tables[place], -1)
        self._tables[place] = manifest_table([rows])
        self._count(self._tables[place], 1)
        self._changed = True
        if time.monotonic() >= self._next_write:
            self.write()

    def settle(self, keys: Iterable[str], *, reused: bool = False) -> None:
        """Take note of cells that are done; they stay what they were first noted as."""
        for key in set(keys) - self._done:
            self._done.add(key)
            self.num_done += self._names[key]
            if reused:
                self._reused.add(key)
                self.num_reused += self._names[key]

    def write(self) -> None:
        """Write the manifest unless it is written; ``put`` does so from time to time."""
        if not self._changed:
            return
        begin = time.monotonic()
        self._write(pa.concat_tables(self._tables.values()))
        end = time.monotonic()
        self._changed, self._next_write = False, end + (end - begin) / WRITING

    def _count(self, table: pa.Table, change: int) -> None:
        for key in table["cell_key"].to_pylist():
            self._names[key] += change
            self.num_done += change * (key in self._done)
            self.num_reused += change * (key in self._reused)
