"""What a training tells while it runs: a bar in a terminal, plain lines elsewhere."""

import time
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_SECONDS = 15.0
"""How often a line is printed where there is no terminal."""


class TrainingProgress:
    """Shows steps, loss, time and expected time to the end."""

    def __init__(self, steps: int, done: int, console: Console) -> None:
        """Begin at ``done`` of ``steps`` steps."""
        self._steps = steps
        self._first = done
        self._console = console
        self._begin = self._printed = time.monotonic()
        self._bar = Progress(
            TextColumn("steps"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("steps", total=steps, completed=done, loss="")

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the display."""
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line, above the bar where there is one."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, done: int, loss: float) -> None:
        """Show that ``done`` steps are done, the last one with this loss (nats per token)."""
        now = time.monotonic()
        if self._console.is_terminal:
            self._bar.update(self._task, completed=done, loss=f"loss {loss:.3f}")
        elif now - self._printed >= LINE_SECONDS:
            self._printed = now
            left = (now - self._begin) / (done - self._first) * (self._steps - done)
            self.say(
                f"{done}/{self._steps} steps, loss {loss:.3f}, "
                f"{_duration(now - self._begin)}, ETA {_duration(left)}"
            )


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
