"""What a sweep tells while it runs: a live display in a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from sweeper.records import Unit
from sweeper.store.runs import RunFolder

WRITE_SECONDS = 2.0
"""How often the state is written for ``sweeper status``."""

LINE_SECONDS = 15.0
"""How often a line is printed where there is no terminal."""

DOING: Mapping[str, str] = {
    "census_part": "part of the census over",
    "census": "census over",
    "profile": "profiles of neurons over",
    "drift": "drift of weights since",
    "firing_part": "part of the firing over",
    "firing": "firing over",
    "ngrams_part": "part of the n-grams of",
    "ngrams": "n-grams of",
    "routing": "routing over",
    "removal": "removal of MLPs over",
}
"""Kinds of cells beside matches and scored ones, as they stand before what their task names."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts of a running sweep."""

    cells_expected: int
    cells_done: int = 0
    cells_reused: int = 0
    cells_failed: int = 0
    seconds_left: float | None = None
    """Expected time to the end; None before anything is known."""
    workers: dict[str, str] = field(default_factory=dict)
    """Worker -> what it does."""


def duration(seconds: float) -> str:
    """Seconds as ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def describe(unit: Unit) -> str:
    """A unit in a few words."""
    if not unit.cells:
        return f"{unit.checkpoint.model} {unit.checkpoint.revision}: loading"
    first = unit.cells[0]
    if first.kind == "match":
        return f"{first.model} {first.revision}: match for {first.condition} on {first.task}"
    if first.kind in DOING:
        return f"{first.model} {first.revision}: {DOING[first.kind]} {first.task}"
    more = f" and {len(unit.cells) - 1} more" if len(unit.cells) > 1 else ""
    seed = "" if first.seed is None else f" seed {first.seed}"
    return f"{first.model} {first.revision}: {first.task}, {first.condition}{seed}{more}"


class SweepProgress:
    """Shows a tally and writes it to the run's folder."""

    def __init__(self, folder: RunFolder, tally: Tally, console: Console) -> None:
        """Show on the console what the driver writes into the tally."""
        self.tally = tally
        self._folder = folder
        self._console = console
        self._begin = time.monotonic()
        self._written = self._printed = 0.0
        self._state = "running"
        self._bar = Progress(
            TextColumn("cells"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rest]}"),
            console=console,
        )
        self._task = self._bar.add_task("cells", total=tally.cells_expected, rest="")
        self._live = Live(console=console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the display and leave the last state in the run's folder."""
        self._live.stop()
        # Kept, since a heartbeat may come after this.
        self._state = "finished" if error is None else "stopped"
        self.tally.workers = {}
        self.write()

    def state(self) -> dict[str, Any]:
        """The tally as plain data."""
        return {
            "state": self._state,
            "cells_expected": self.tally.cells_expected,
            "cells_done": self.tally.cells_done,
            "cells_reused": self.tally.cells_reused,
            "cells_failed": self.tally.cells_failed,
            "elapsed_seconds": time.monotonic() - self._begin,
            "eta_seconds": self.tally.seconds_left,
            "workers": dict(self.tally.workers),
            "updated_at": time.time(),
        }

    def say(self, text: str) -> None:
        """Print a line, above the display where there is one."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def write(self) -> None:
        """Leave the tally in the run's folder, for ``sweeper status``."""
        self._folder.write_progress(self.state())

    def update(self) -> None:
        """Show and write the tally as it is now."""
        now = time.monotonic()
        if now - self._written >= WRITE_SECONDS:
            self._written = now
            self.write()
        if self._console.is_terminal:
            self._live.update(self._display())
        elif now - self._printed >= LINE_SECONDS:
            self._printed = now
            self._console.print(self._line(), highlight=False, markup=False, soft_wrap=True)

    def _rest(self) -> str:
        failed = f", {self.tally.cells_failed} failed" if self.tally.cells_failed else ""
        left = self.tally.seconds_left
        eta = "" if left is None else f", ETA {duration(left)}"
        return f"{duration(time.monotonic() - self._begin)}{eta}{failed}"

    def _line(self) -> str:
        done = self.tally.cells_done
        workers = "; ".join(f"{name} {doing}" for name, doing in self.tally.workers.items())
        return f"{done}/{self.tally.cells_expected} cells, {self._rest()} | {workers}"

    def _display(self) -> Group:
        self._bar.update(
            self._task,
            completed=self.tally.cells_done,
            total=self.tally.cells_expected,
            rest=self._rest(),
        )
        return Group(_workers_table(self.tally.workers), self._bar)


def _workers_table(workers: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, doing in workers.items():
        table.add_row(name, doing)
    return table
