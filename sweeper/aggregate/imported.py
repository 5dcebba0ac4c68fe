"""Levels of imported results: from values with standard errors, and from logs of documents."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sweeper.aggregate.contrasts import ALL
from sweeper.aggregate.intervals import FloatArray, Ratio, cluster_robust
from sweeper.aggregate.proportions import agrees, implied_sizes, wilson
from sweeper.aggregate.step_levels import COLUMNS, StepLevel, Steps, in_order

Groups = Mapping[str, Sequence[str]]
"""Task that is made of others -> its parts."""

NO_FILTER = "none"
_CHECKPOINT = ["model", "revision"]
_PROPORTIONS = ("accuracy", "acc_norm")
"""Metrics that are proportions where no standard error tells."""
_EQUAL = 1e-9
"""Difference between the harness's value of a group and a mean of its parts that is rounding."""
_NAMED = 5
"""Checkpoints that a message names."""
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
    made of others, such as BLiMP: the mean of its parts with the parts as clusters
    (``intervals.cluster_robust``), then each part. All parts weigh the same, unless the harness's
    own value of the group shows that it weighs them by their documents.

    Args:
        manifest: the cells of the run.
        cells: their rows of the table ``cells``, for ``num_items``.
        aggregates: their rows of the table ``aggregates``.
        documents: single documents, of ``document_values``; may be empty.
        steps: training steps of the checkpoints.
        groups: tasks that are made of others.
        confidence: nominal coverage of all intervals.

    Returns:
        Columns are the fields of ``StepLevel``. Where a checkpoint lacks some of a group's parts,
        the group's value there is NaN, and ``num_clusters`` says how many there are.
    """
    names = manifest[["cell_key", *_CHECKPOINT, "task"]]
    sizes = cells.drop_duplicates("cell_key").set_index("cell_key")["num_items"]
    singles = pd.concat([_logged(documents), _reported(aggregates, sizes)], ignore_index=True)
    # What the documents say goes before what was made of them.
    singles = singles.drop_duplicates(["cell_key", "metric"], keep="first")
    singles = names.merge(singles, on="cell_key")
    singles = _with_intervals(singles.reset_index(drop=True), confidence)
    places = zip(singles["model"], singles["revision"], strict=True)
    singles["step"] = [steps.get((str(model), str(revision))) for model, revision in places]
    parts = _placed(singles, groups)
    wholes = _wholes(singles, groups, confidence)
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
    """Means over documents, with their standard errors."""
    grouped = documents.groupby(["cell_key", "metric"], sort=True)["value"]
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
            "value": found["mean"].astype("float64"),
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

    The harness's own rows of groups are left out where the parts are there.
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
    )


def _wholes(singles: pd.DataFrame, groups: Groups, confidence: float) -> Iterator[StepLevel]:
    by_task = dict(list(singles.groupby("task", sort=False)))
    for name, parts in groups.items():
        found = [by_task[part] for part in parts if part in by_task]
        if not found:
            continue
        rows, reported = pd.concat(found), by_task.get(name)
        for metric, of_metric in rows.groupby("metric", sort=True):
            expected = of_metric["task"].nunique()
            lacking: list[str] = []
            for place, here in of_metric.groupby(_CHECKPOINT, sort=True):
                told = _told(reported, str(metric), place)
                yield _whole(name, here.sort_values("task"), expected, told, confidence)
                if len(here) < expected:
                    lacking.append(f"{' '.join(map(str, place))} ({len(here)} of {expected})")
            if lacking:
                _warn(f"{name}: {metric}", lacking)


def _warn(what: str, lacking: Sequence[str]) -> None:
    more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
    shown = ", ".join(lacking[:_NAMED])
    _log.warning("%s has no mean where parts are missing: %s%s", what, shown, more)


def _told(reported: pd.DataFrame | None, metric: str, place: Any) -> float:
    """The harness's own value of a group; NaN where there is none."""
    if reported is None:
        return float("nan")
    model, revision = place
    rows = reported[
        (reported["metric"] == metric)
        & (reported["model"] == model)
        & (reported["revision"] == revision)
    ]
    return float(rows["value"].iloc[0]) if len(rows) else float("nan")


def _whole(
    name: str, parts: pd.DataFrame, expected: int, told: float, confidence: float
) -> StepLevel:
    """The mean of a task's parts at one checkpoint and metric."""
    values = parts["value"].to_numpy(dtype=np.float64)
    sizes = parts["num_items"].to_numpy(dtype=np.float64)
    weights = part_weights(values, sizes, told)
    is_complete = len(parts) == expected and bool(np.isfinite(values).all())
    low = high = value = float("nan")
    if is_complete:
        estimated = cluster_robust([[Ratio((weights * values)[:, None], weights)]])
        value = float(estimated.centre[0])
        low, high = (float(end[0]) for end in estimated.bounds(confidence))
    first = parts.iloc[0]
    return StepLevel(
        model=str(first["model"]),
        revision=str(first["revision"]),
        step=None if pd.isna(first["step"]) else int(first["step"]),
        task=name,
        metric=str(first["metric"]),
        group=ALL,
        value=value,
        low=low,
        high=high,
        num_items=None if np.isnan(sizes).any() else int(sizes.sum()),
        num_clusters=len(parts),
        interval="clusters" if np.isfinite(low) else "",
        source="parts",
    )


def part_weights(values: FloatArray, sizes: FloatArray, told: float) -> FloatArray:
    """Weights of a group's parts: all alike, or their sizes where the harness weighs by size.

    Args:
        values: of the parts, (C,).
        sizes: documents of the parts, (C,), NaN where they are not known.
        told: the harness's own value of the group, NaN where there is none.
    """
    alike = np.ones_like(values)
    if np.isnan(told) or np.isnan(sizes).any() or not np.isfinite(values).all():
        return alike
    by_size = float(sizes @ values / sizes.sum())
    is_alike = abs(float(values.mean()) - told) <= _EQUAL
    return sizes if abs(by_size - told) <= _EQUAL and not is_alike else alike
