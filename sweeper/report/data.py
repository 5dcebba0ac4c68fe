"""What a report is made from: frames of the store and of the aggregation, and the job."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from sweeper.aggregate.levels import Level
from sweeper.records import Estimate

CHECKPOINT = ["model", "revision"]
ESTIMATE_COLUMNS = [item.name for item in fields(Estimate)]
LEVEL_COLUMNS = [item.name for item in fields(Level)]
SEED_COLUMNS = [*CHECKPOINT, "task", "metric", "group", "condition", "seed", "effect"]
ALL_ITEMS = "all"
"""Name of the group that holds every item of a task."""


def complete(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Give a frame without rows the columns that readers of it name."""
    return frame.reindex(columns=columns) if frame.empty else frame


def checkpoint_name(model: str, revision: str) -> str:
    """A model at a revision, for people."""
    return f"{model} @ {revision}"


def random_conditions(estimates: pd.DataFrame) -> list[str]:
    """Conditions whose neurons are drawn at random, in order of appearance."""
    drawn = estimates[estimates["num_seeds"].astype(float) > 0]
    return [str(name) for name in drawn["condition"].unique()]


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that a report shows; any frame may be empty."""

    estimates: pd.DataFrame
    """Columns are the fields of :class:`sweeper.records.Estimate`."""
    levels: pd.DataFrame
    """Columns are the fields of :class:`sweeper.aggregate.levels.Level`."""
    neurons: pd.DataFrame
    """Census with ``model`` and ``revision``: layer, neuron, wd."""
    selected: pd.DataFrame
    """model, revision, condition, seed, layer, neuron of every set that is not random."""
    cells: pd.DataFrame
    """One row per committed or failed cell."""
    manifest: pd.DataFrame
    """The cells that the run consists of, under the job's names."""
    job: Mapping[str, Any]
    """The validated job as JSON types."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Model -> where its weights came from."""
    seed_effects: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Effect of every single seed of the random conditions (``SEED_COLUMNS``)."""
    written_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def confidence(self) -> float:
        """Confidence of all intervals."""
        return float(self.job.get("statistics", {}).get("confidence", 0.95))
