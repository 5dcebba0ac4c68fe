"""What a row found: one line for people, one record for ``bench.json``."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.timing import Timed, spread

NAME_WIDTH = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row of the table."""

    name: str
    goal: float
    ratios: Sequence[float] = ()
    """One for each repeat; none if the row was skipped."""
    at_most: bool = False
    """The goal is a bound from above."""
    skipped: str | None = None
    """Why the row could not be measured."""
    sides: Mapping[str, Timed] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    """Counts, differences and whatever else is worth keeping."""
    notes: Sequence[str] = ()
    """Lines of information under the row."""
    agree: bool = True
    """Whether all sides have said the same; fast and different reaches no goal."""

    @property
    def ratio(self) -> float | None:
        """Median over the repeats."""
        return median(self.ratios) if self.ratios else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None if nothing was measured."""
        if self.ratio is None:
            return None
        if not self.agree:
            return False
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal

    def lines(self) -> list[str]:
        """Name, ratio, goal, spread and verdict; then the information."""
        if self.ratio is None:
            return [f"{self.name:<{NAME_WIDTH}}  skipped: {self.skipped}"]
        verdict = "met" if self.met else "MISSED" if self.agree else "THE SIDES DISAGREE"
        bound = "<=" if self.at_most else ">="
        numbers = f"{self.ratio:7.3f}  {bound} {self.goal:6.3f}  {spread(self.ratios):6.3f}"
        return [
            f"{self.name:<{NAME_WIDTH}}  {numbers}  {verdict}",
            *(f"    {note}" for note in self.notes),
        ]

    def record(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "goal": self.goal,
            "goal_is": "at most" if self.at_most else "at least",
            "ratio": self.ratio,
            "spread": spread(self.ratios) if self.ratios else None,
            "met": self.met,
            "agree": self.agree,
            "skipped": self.skipped,
            "ratios": list(self.ratios),
            "seconds": {name: timed.seconds for name, timed in self.sides.items()},
            "peak_bytes": {name: timed.peak_bytes for name, timed in self.sides.items()},
            **self.details,
        }


def heading() -> str:
    """The line above the rows."""
    return f"{'name':<{NAME_WIDTH}}  {'ratio':>7}  {'goal':>9}  {'spread':>6}"


def write(file: Path, record: Mapping[str, Any]) -> None:
    """Put a record into the file, in the place of the one with its name if there is one."""
    known: list[dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else []
    kept = {entry["name"]: entry for entry in known}
    kept[record["name"]] = dict(record)
    aside = file.with_suffix(".partial")
    aside.write_text(json.dumps(list(kept.values()), indent=1) + "\n")
    os.replace(aside, file)
