"""Changes between successive checkpoints, paired over what both of them were measured on."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from sweeper.aggregate.contrasts import ALL
from sweeper.aggregate.intervals import FloatArray, Ratio, cluster_robust
from sweeper.aggregate.part_means import Groups, part_sizes
from sweeper.aggregate.step_levels import BY_DOCUMENTS
from sweeper.aggregate.summary import as_frame


@dataclass(frozen=True, slots=True, kw_only=True)
class StepChange:
    """How a metric of a task changes from one checkpoint to the next; NaN: too little data."""

    model: str
    task: str
    metric: str
    group: str
    from_revision: str
    from_step: int
    revision: str
    step: int
    change: float
    """Later minus earlier, in the metric's unit."""
    low: float
    high: float
    """t interval of the paired change."""
    p: float
    """Two-sided t test of no change."""
    num_pairs: int
    """Parts or documents, the same at both checkpoints: where they differ there is no row."""
    paired_by: str
    """``parts`` of the task, or ``documents``."""


def step_changes(
    levels: pd.DataFrame,
    documents: pd.DataFrame,
    manifest: pd.DataFrame,
    groups: Groups,
    *,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Give the change from every checkpoint to the next one of the same model.

    A task made of others is paired over its parts, which are the random unit and weigh as in its
    level. A task by itself, or a part, is paired over its documents where both checkpoints have
    logs of exactly the same ones. Values with standard errors alone cannot be paired, and have no
    row: their difference would need the correlation between the checkpoints.

    Args:
        levels: of ``imported_levels``.
        documents: of ``document_values``.
        manifest: the cells of the run.
        groups: tasks that are made of others.
        confidence: nominal coverage of the intervals.
    """
    known = levels[levels["step"].notna() & np.isfinite(levels["value"].astype("float64"))]
    places = manifest[["cell_key", "model", "revision", "task"]]
    logs = _logs(documents, places)
    parts = levels[levels["group"] != ALL]
    rows = [
        *_over_parts(known, parts, groups, confidence),
        *_over_documents(known, logs, confidence),
    ]
    return as_frame(StepChange, rows)


def _over_parts(
    levels: pd.DataFrame, parts: pd.DataFrame, groups: Groups, confidence: float
) -> Iterator[StepChange]:
    wholes = levels[(levels["source"] == "parts") & (levels["group"] == ALL)]
    # A part stands under its smallest group alone, and belongs to all of them.
    by_metric = dict(list(parts.groupby(["model", "metric"], sort=False)))
    for (model, task, metric), of_model in wholes.groupby(["model", "task", "metric"], sort=False):
        mine = by_metric.get((model, metric), parts.iloc[:0])
        mine = mine[mine["group"].isin(groups.get(str(task), ()))]
        table = mine.pivot(index="group", columns="revision", values="value")
        sizes = part_sizes(mine, ["group"])
        for earlier, later in _successive(of_model):
            both = table.reindex(columns=[earlier["revision"], later["revision"]]).dropna()
            if not len(both) == earlier["num_clusters"] == later["num_clusters"]:
                continue
            by_size = later["weights"] == BY_DOCUMENTS
            weights = sizes[both.index].to_numpy() if by_size else np.ones(len(both))
            yield _change(earlier, later, both, "parts", weights, confidence)


def _over_documents(
    levels: pd.DataFrame, logs: Mapping[tuple[str, str, str, str], pd.Series], confidence: float
) -> Iterator[StepChange]:
    if not logs:
        return
    logged = levels[levels["source"] == "samples"]
    for _, rows in logged.groupby(["model", "task", "metric", "group"], sort=False):
        for earlier, later in _successive(rows):
            one, two = (logs.get(_name(level)) for level in (earlier, later))
            if one is None or two is None or not one.index.equals(two.index):
                continue
            both = pd.DataFrame({earlier["revision"]: one, later["revision"]: two})
            yield _change(earlier, later, both, "documents", np.ones(len(both)), confidence)


def _logs(
    documents: pd.DataFrame, places: pd.DataFrame
) -> dict[tuple[str, str, str, str], pd.Series]:
    """(model, revision, task, metric) -> values by document, sorted."""
    named = documents.merge(places, on="cell_key")
    return {
        (str(model), str(revision), str(task), str(metric)): rows.set_index("item_id")[
            "value"
        ].sort_index()
        for (model, revision, task, metric), rows in named.groupby(
            ["model", "revision", "task", "metric"], sort=False
        )
    }


def _name(level: pd.Series) -> tuple[str, str, str, str]:
    task = level["task"] if level["group"] == ALL else level["group"]
    return str(level["model"]), str(level["revision"]), str(task), str(level["metric"])


def _successive(rows: pd.DataFrame) -> Iterator[tuple[pd.Series, pd.Series]]:
    ordered = rows.sort_values("step", kind="stable")
    for (_, earlier), (_, later) in pairwise(ordered.iterrows()):
        if earlier["step"] < later["step"]:
            yield earlier, later


def _change(
    earlier: pd.Series,
    later: pd.Series,
    both: pd.DataFrame,
    paired_by: str,
    weights: FloatArray,
    confidence: float,
) -> StepChange:
    differences = (both.iloc[:, 1] - both.iloc[:, 0]).to_numpy(dtype=np.float64)
    change = low = high = p = math.nan
    if len(differences):
        measure = [Ratio((weights * differences)[:, None], weights)]
        estimated = cluster_robust([measure])
        change, p = float(estimated.centre[0]), float(estimated.p_values()[0])
        low, high = (float(end[0]) for end in estimated.bounds(confidence))
    return StepChange(
        model=str(later["model"]),
        task=str(later["task"]),
        metric=str(later["metric"]),
        group=str(later["group"]),
        from_revision=str(earlier["revision"]),
        from_step=int(earlier["step"]),
        revision=str(later["revision"]),
        step=int(later["step"]),
        change=change,
        low=low,
        high=high,
        p=p,
        num_pairs=len(differences),
        paired_by=paired_by,
    )
