"""Levels of imported results: from values with standard errors, and from logs of documents."""

import logging
from dataclasses import asdict

import numpy as np
import pandas as pd
from scipy import stats

from sweeper.aggregate.contrasts import ALL
from sweeper.aggregate.intervals import FloatArray
from sweeper.aggregate.part_means import Groups, group_levels
from sweeper.aggregate.proportions import agrees, implied_sizes, wilson
from sweeper.aggregate.step_levels import COLUMNS, Steps, in_order
from sweeper.records import NO_FILTER

_PROPORTIONS = ("accuracy", "acc_norm")
"""Metrics that are proportions where no standard error tells."""
_NAMED = 5
"""Cells that a message names."""
_log = logging.getLogger("sweeper")


def imported_levels(
    manifest: pd.DataFrame,
    cells: pd.DataFrame,
    aggregates: pd.DataFrame,
    documents: pd.DataFrame,
    steps: Steps,
    groups: Groups,
    *,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Give every imported metric at every checkpoint with an interval.

    A task by itself: Wilson's interval where it is a proportion and its documents are known, the t
    interval of the documents' mean where they were logged, else value and standard error. A task
    made of others, such as BLiMP: the mean of its parts (``part_means.group_levels``), then each
    part.

    Args:
        manifest: the cells of the run.
        cells: their rows of the table ``cells``, for ``num_items``.
        aggregates: their rows of the table ``aggregates``.
        documents: single documents, of ``document_values``; may be empty.
        steps: training steps of the checkpoints.
        groups: tasks that are made of others, with all their parts.
        confidence: nominal coverage of all intervals.

    Returns:
        Columns are the fields of ``StepLevel``.
    """
    names = manifest[["cell_key", "model", "revision", "task"]]
    sizes = cells.drop_duplicates("cell_key").set_index("cell_key")["num_items"]
    singles = pd.concat([_logged(documents), _reported(aggregates, sizes)], ignore_index=True)
    # What the documents say goes before what was made of them.
    singles = singles.drop_duplicates(["cell_key", "metric"], keep="first")
    singles = names.merge(singles, on="cell_key")
    singles = _with_intervals(singles.reset_index(drop=True), confidence)
    places = zip(singles["model"], singles["revision"], strict=True)
    singles["step"] = [steps.get((str(model), str(revision))) for model, revision in places]
    parts = _placed(singles, groups)
    wholes = group_levels(singles, groups, confidence)
    frame = pd.DataFrame([asdict(row) for row in wholes], columns=COLUMNS)
    return in_order(pd.concat([frame, parts]) if len(frame) else parts)


def document_values(items: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Give the metrics of single documents whose mean is the task's: one row for each.

    Args:
        items: rows of the table ``items``, for the margin.
        outcomes: rows of the table ``outcomes``.

    Returns:
        cell_key, item_id, metric, value.
    """
    averaged = outcomes[outcomes["averaged"].astype(bool)]
    metrics = averaged["metric"].astype(str).replace({"acc": "accuracy"})
    columns = ["cell_key", "item_id", "metric", "value"]
    found = averaged.assign(metric=metrics)[columns]
    # Only where every document of the cell has one.
    has = items["margin"].notna().groupby(items["cell_key"]).transform("all")
    margins = items[has.astype(bool)].assign(metric="margin")
    margins = margins.rename(columns={"margin": "value"})[columns]
    return pd.concat([found, margins.astype({"value": "float64"})], ignore_index=True)


def _logged(documents: pd.DataFrame) -> pd.DataFrame:
    """Means over documents, with their standard errors; NaN where a document's value is."""
    values = documents["value"].astype("float64")
    broken = ~np.isfinite(values)
    if broken.any():
        cells = sorted(documents.loc[broken, "cell_key"].unique())
        shown = ", ".join(cells[:_NAMED]) + (", ..." if cells[_NAMED:] else "")
        _log.warning("%d values of documents are not finite, in the cells %s", broken.sum(), shown)
    grouped = values.where(~broken).groupby([documents["cell_key"], documents["metric"]], sort=True)
    found = grouped.agg(["mean", "std", "size", "min", "max"]).reset_index()
    binary = (
        documents["value"]
        .isin([0.0, 1.0])
        .groupby([documents["cell_key"], documents["metric"]], sort=True)
    )
    sizes = found["size"].astype("float64")
    return pd.DataFrame(
        {
            "cell_key": found["cell_key"].astype(str),
            "metric": found["metric"].astype(str),
            "value": found["mean"].astype("float64").where(grouped.count().to_numpy() == sizes),
            "stderr": found["std"].astype("float64") / np.sqrt(sizes),
            "num_items": sizes,
            "is_share": binary.all().to_numpy(dtype=bool),
            "source": "samples",
        }
    )


def _reported(aggregates: pd.DataFrame, sizes: pd.Series) -> pd.DataFrame:
    """Values and standard errors of the harness, with the documents that they tell of."""
    metrics = aggregates["metric"].astype(str).replace({"acc": "accuracy"})
    plain = aggregates["filter"].astype(str) == NO_FILTER
    names = metrics.where(plain, metrics + "," + aggregates["filter"].astype(str))
    value = aggregates["value"].to_numpy(dtype=np.float64)
    stderr = aggregates["stderr"].to_numpy(dtype=np.float64, na_value=np.nan)
    told = aggregates["cell_key"].map(sizes).to_numpy(dtype=np.float64, na_value=np.nan)
    told = np.where(told > 0, told, np.nan)
    implied = implied_sizes(value, stderr)
    # A proportion of 0 or 1 has no spread to tell by; its task has as many documents elsewhere.
    shared = _shared(aggregates["task"], names, implied)
    known = np.where(np.isnan(told), np.where(np.isnan(implied), shared, implied), told)
    flat = np.isin(value, [0.0, 1.0]) & ~(stderr > 0) & ~np.isnan(shared)
    by_name = np.isnan(stderr) & names.isin(_PROPORTIONS).to_numpy()
    is_share = agrees(value, stderr, known) & (stderr > 0) | flat | by_name
    return pd.DataFrame(
        {
            "cell_key": aggregates["cell_key"].astype(str).to_numpy(),
            "metric": names.to_numpy(),
            "value": value,
            "stderr": stderr,
            "num_items": np.where(is_share | ~np.isnan(told), known, np.nan),
            "is_share": is_share & (value >= 0) & (value <= 1),
            "source": "aggregates",
        }
    )


def _shared(tasks: pd.Series, metrics: pd.Series, sizes: FloatArray) -> FloatArray:
    """The one number of documents that all rows of a task and metric tell, if they tell one."""
    frame = pd.DataFrame({"task": tasks.to_numpy(), "metric": metrics.to_numpy(), "n": sizes})
    grouped = frame.groupby(["task", "metric"])["n"]
    least, most = grouped.transform("min").to_numpy(), grouped.transform("max").to_numpy()
    return np.where(least == most, least, np.nan)


def _with_intervals(rows: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Add ``low``, ``high``, ``interval`` and what else a level of a single task has."""
    value, stderr = rows["value"].to_numpy(), rows["stderr"].to_numpy()
    sizes = rows["num_items"].to_numpy()
    shares = rows["is_share"].to_numpy(dtype=bool) & ~np.isnan(sizes)
    logged = (rows["source"] == "samples").to_numpy()
    df = np.where(logged & (sizes > 1), sizes - 1, np.inf)
    half = stats.t.ppf((1 + confidence) / 2, df) * np.where(stderr > 0, stderr, np.nan)
    low, high = wilson(np.where(shares, value, np.nan), sizes, confidence)
    low, high = np.where(shares, low, value - half), np.where(shares, high, value + half)
    kind = np.where(shares, "wilson", np.where(logged, "t", "normal"))
    return rows.assign(
        low=low,
        high=high,
        interval=np.where(np.isfinite(low), kind, ""),
        num_clusters=np.nan_to_num(sizes).astype(int),
    )


def _placed(singles: pd.DataFrame, groups: Groups) -> pd.DataFrame:
    """Rows of single tasks: parts under the smallest group that has them, others by themselves.

    The harness's own rows of groups that have parts here are left to ``group_levels``.
    """
    present = set(singles["task"])
    inside = {name: set(parts) & present for name, parts in groups.items()}
    owner: dict[str, str] = {}
    for name in sorted(inside, key=lambda name: (-len(inside[name]), name)):
        owner.update(dict.fromkeys(inside[name], name))
    own = {name for name, parts in inside.items() if parts}
    rows = singles[~singles["task"].isin(own)]
    placed = rows["task"].map(owner)
    return rows.assign(
        group=rows["task"].where(placed.notna(), ALL),
        task=placed.where(placed.notna(), rows["task"]),
        weights="",
    )
