"""Levels over training steps: what is known of a metric at every checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import pandas as pd

from sweeper.aggregate.contrasts import ALL

ALIKE, BY_DOCUMENTS = "alike", "documents"
Steps = Mapping[tuple[str, str], int | None]
"""(model, revision) -> training step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLevel:
    """A metric of a task at one checkpoint; NaN stands for "too little data"."""

    model: str
    revision: str
    step: int | None
    """Training step; None where the revision tells none."""
    task: str
    metric: str
    """``accuracy``, ``margin`` (nats), or another metric of lm-evaluation-harness."""
    group: str
    """A part of the task (a paradigm of BLiMP), or "all"."""
    value: float
    low: float
    high: float
    """The interval; not clipped to the metric's range, but for Wilson's, which never leaves it."""
    num_items: int | None
    """Documents; None where neither a file nor its standard errors tell."""
    num_clusters: int
    """What is taken as random: parts of a task, or single documents (0: unknown)."""
    interval: str
    """``wilson``, ``t``, ``normal`` (value and standard error), ``clusters`` (t over clusters), or
    empty where there is none."""
    source: str
    """``samples`` (logs of documents), ``aggregates`` (value and standard error of the harness) or
    ``parts`` (values of the parts of a task)."""
    weights: str = ""
    """How parts weigh in a task's mean: ``alike``, or by ``documents``; empty without a mean."""


COLUMNS = [field.name for field in fields(StepLevel)]


def in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Put rows into the columns, types and order of a frame of levels over steps."""
    frame = rows.reindex(columns=COLUMNS).astype({"step": "Int64", "num_items": "Int64"})
    by = ["model", "task", "metric", "is_part", "group", "step", "revision"]
    ordered = frame.assign(is_part=frame["group"] != ALL).sort_values(by, kind="stable")
    return ordered[COLUMNS].reset_index(drop=True)
