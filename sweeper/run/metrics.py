"""What a sweep tells about itself in numbers, for the metrics of the cluster that it runs on.

By sweep and by model, never by cell: a series of each would stay for ever.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from sweeper.records import Outcome, Unit
from sweeper.run.progress import Tally

BY_SWEEP = ("sweep",)
BY_MODEL = ("sweep", "model")

UNIT_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 90.0, 120.0, 300.0, 600.0)
"""Upper bounds of the histogram's buckets; a unit aims at ``cluster.unit_seconds``."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A number with a name."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    tags: tuple[str, ...]
    description: str

    @property
    def exported(self) -> tuple[str, ...]:
        """Its names as Prometheus reads them from a node of Ray."""
        if self.kind == "histogram":
            return tuple(f"ray_{self.name}_{part}" for part in ("bucket", "count", "sum"))
        return (f"ray_{self.name}_total" if self.kind == "counter" else f"ray_{self.name}",)


EXPECTED = Metric("sweeper_cells_expected", "gauge", BY_SWEEP, "Cells of the job.")
DONE = Metric("sweeper_cells_done", "gauge", BY_SWEEP, "Cells done, those of earlier runs too.")
REUSED = Metric("sweeper_cells_reused", "gauge", BY_SWEEP, "Cells that the store had already.")
FAILED = Metric("sweeper_cells_failed", "gauge", BY_SWEEP, "Cells given up.")
COMPUTED = Metric("sweeper_cells_computed", "counter", BY_MODEL, "Cells computed.")
ERRORS = Metric("sweeper_cell_errors", "counter", BY_MODEL, "Attempts at cells that failed.")
TOKENS = Metric("sweeper_tokens", "counter", BY_MODEL, "Token positions computed.")
IN_FLIGHT = Metric("sweeper_units_in_flight", "gauge", BY_MODEL, "Units being computed.")
SECONDS = Metric("sweeper_unit_seconds", "histogram", BY_MODEL, "Seconds of a unit, load included.")
WORKERS = Metric("sweeper_workers", "gauge", BY_SWEEP, "Workers that can take units.")
LOST = Metric("sweeper_workers_lost", "counter", BY_SWEEP, "Workers that died or hung.")
LEFT = Metric("sweeper_seconds_left", "gauge", BY_SWEEP, "Expected seconds to the end.")

METRICS = (
    *(EXPECTED, DONE, REUSED, FAILED, COMPUTED, ERRORS),
    *(TOKENS, IN_FLIGHT, SECONDS, WORKERS, LOST, LEFT),
)


class Observer(Protocol):
    """Someone whom the driver tells what happens; must neither fail nor take time."""

    def finished(self, unit: Unit, outcome: Outcome) -> None:
        """A worker has answered."""
        ...

    def lost(self) -> None:
        """A worker is gone."""
        ...

    def stands(self, tally: Tally, running: Mapping[str, Unit]) -> None:
        """Counts, and what each worker computes, every half a second or so."""
        ...


class Unobserved:
    """An observer that nothing follows from, for runs without Ray."""

    def finished(self, unit: Unit, outcome: Outcome) -> None:
        """Pass over an answer."""

    def lost(self) -> None:
        """Pass over a loss."""

    def stands(self, tally: Tally, running: Mapping[str, Unit]) -> None:
        """Pass over the counts."""


Record = Callable[[float, dict[str, str]], None]
"""Adds to a counter, sets a gauge, or puts a value into a histogram, under tags."""


class SweepMetrics:
    """An observer that records metrics."""

    def __init__(self, sweep: str, make: Callable[[Metric], Record]) -> None:
        """Record under the name of a sweep.

        Args:
            sweep: name of the run.
            make: makes a metric; called when the first workers are up.
        """
        self._sweep, self._make = sweep, make
        self._records: dict[str, Record] = {}
        self._models: set[str] = set()
        """Models that have ever had a unit in flight; their gauges fall to zero."""

    def finished(self, unit: Unit, outcome: Outcome) -> None:
        """Count an answer's cells and tokens."""
        model = unit.checkpoint.model
        self._count(COMPUTED, len(outcome.done), model)
        self._count(ERRORS, len(outcome.errors), model)
        self._count(TOKENS, outcome.num_tokens, model)
        self._record(SECONDS, outcome.seconds, model)

    def lost(self) -> None:
        """Count a worker that is gone."""
        self._count(LOST, 1)

    def stands(self, tally: Tally, running: Mapping[str, Unit]) -> None:
        """Set all gauges; nothing before the first worker, since Ray is not up then."""
        if not tally.workers and not self._records:
            return
        self._record(EXPECTED, tally.cells_expected)
        self._record(DONE, tally.cells_done)
        self._record(REUSED, tally.cells_reused)
        self._record(FAILED, tally.cells_failed)
        self._record(WORKERS, len(tally.workers))
        if tally.seconds_left is not None:
            self._record(LEFT, tally.seconds_left)
        in_flight = Counter(unit.checkpoint.model for unit in running.values())
        self._models |= in_flight.keys()
        for model in self._models:
            self._record(IN_FLIGHT, in_flight[model], model)

    def _count(self, metric: Metric, number: float, model: str | None = None) -> None:
        if number > 0:  # a counter takes nothing else
            self._record(metric, number, model)

    def _record(self, metric: Metric, value: float, model: str | None = None) -> None:
        if metric.name not in self._records:
            self._records[metric.name] = self._make(metric)
        tags = {"sweep": self._sweep} | ({} if model is None else {"model": model})
        self._records[metric.name](float(value), tags)
