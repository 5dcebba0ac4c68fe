"""Tables over training: correlations, cohorts, and effects with their bands."""

import pandas as pd

from sweeper.report import numbers
from sweeper.report.data import (
    ALL_ITEMS,
    COHORT_COLUMNS,
    CORRELATION_COLUMNS,
    TRAJECTORY_COLUMNS,
    ReportData,
    complete,
    unswept,
)
from sweeper.report.text_table import Row, TextTable, text_table

NAMES = {"wd": "WD", "drift": "drift", "relative_drift": "drift / layer mean"}
DIGITS = 4


def dynamics_tables(data: ReportData) -> list[TextTable]:
    """Every table over training that the data can fill."""
    return [*correlation_tables(data), *_cohorts(data), *_trajectories(data)]


def correlation_tables(data: ReportData) -> list[TextTable]:
    """Correlations of cohorts' WD with levels."""
    note = (
        "Over the revisions of a model: mean WD of a set that is the same at all of them, and the "
        f"level of the model without a clamp. {data.percent} intervals take the items' clusters as "
        "random and the revisions as they are; neighbouring revisions are alike, so their number "
        "is no number of independent observations."
    )
    rows = complete(data.correlations, CORRELATION_COLUMNS)
    title = "Correlation of WD with what the model can do"
    return text_table("correlations", title, rows, _correlation_row, note)


def _correlation_row(row: Row) -> dict[str, str]:
    return {
        **{name: str(row[name]) for name in ("model", "cohort", "task")},
        "metric": numbers.metric_name(str(row["metric"])),
        "group": str(row["group"]),
        "Pearson": numbers.fixed(row["pearson"], 3),
        "Pearson interval": numbers.between(row["pearson_low"], row["pearson_high"], 3),
        "Spearman": numbers.fixed(row["spearman"], 3),
        "Spearman interval": numbers.between(row["spearman_low"], row["spearman_high"], 3),
        "revisions": numbers.count(row["num_revisions"]),
        "items": numbers.count(row["num_items"]),
        "clusters": numbers.count(row["num_clusters"]),
    }


def _cohorts(data: ReportData) -> list[TextTable]:
    note = (
        "Mean over neurons, with their quartiles in brackets. Drift is 1 - cosine of a neuron's "
        "pre-activation weights at this revision and at the one that it is compared with."
    )
    rows = complete(data.cohorts, COHORT_COLUMNS)
    place = ["model", "revision", "step", "cohort", "statistic", "previous"]
    wide = [
        dict(zip(place, names, strict=True))
        | {f"of {point['part']}": point for point in parts.to_dict("records")}
        for names, parts in rows.groupby(place, sort=False, dropna=False)
    ]
    return text_table("cohorts", "Cohorts over training", pd.DataFrame(wide), _cohort_row, note)


def _cohort_row(row: Row) -> dict[str, str]:
    return {
        **{name: str(row[name]) for name in ("model", "cohort", "revision")},
        "step": numbers.count(row["step"]),
        "statistic": NAMES[str(row["statistic"])],
        "compared with": numbers.DASH if numbers.is_missing(row["previous"]) else row["previous"],
        "mean of cohort": _spread(row["of cohort"]),
        "mean of rest": _spread(row["of rest"]),
        "neurons": numbers.count(row["of cohort"]["num_neurons"]),
    }


def _spread(point: Row) -> str:
    quartiles = numbers.between(point["first"], point["third"], DIGITS)
    return f"{numbers.fixed(point['mean'], DIGITS)} {quartiles}"


def _trajectories(data: ReportData) -> list[TextTable]:
    note = (
        f"Over all items. Interval: {data.percent}, cluster-robust, of that revision alone. Band: "
        f"{data.percent}, simultaneous over all revisions of the condition."
    )
    rows = unswept(complete(data.trajectories, TRAJECTORY_COLUMNS))
    whole = rows[rows["group"] == ALL_ITEMS]
    title = "Effects and levels over training"
    return text_table("trajectories", title, whole, _trajectory_row, note)


def _trajectory_row(row: Row) -> dict[str, str]:
    metric, is_level = str(row["metric"]), row["quantity"] == "level"
    value, interval = (
        (numbers.level, numbers.level_interval)
        if is_level
        else (numbers.effect, numbers.effect_interval)
    )
    return {
        **{name: str(row[name]) for name in ("model", "revision")},
        "step": numbers.count(row["step"]),
        "task": str(row["task"]),
        "metric": numbers.metric_name(metric),
        "condition": str(row["condition"]),
        "quantity": str(row["quantity"]),
        "value": value(metric, row["value"]),
        "interval": interval(metric, row["low"], row["high"]),
        "band": interval(metric, row["band_low"], row["band_high"]),
        "items": numbers.count(row["num_items"]),
        "clusters": numbers.count(row["num_clusters"]),
    }
