"""Tables of imported results: levels at every checkpoint, changes between them, and a summary."""

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sweeper.aggregate.step_changes import StepChange
from sweeper.aggregate.step_levels import COLUMNS
from sweeper.aggregate.summary import as_frame
from sweeper.report import numbers
from sweeper.report.data import ALL_ITEMS, ReportData, complete
from sweeper.report.text_table import Row, TextTable, text_table

MAX_TABLES = 12
"""Most tasks that the terminal shows."""
CHANGE_COLUMNS = list(as_frame(StepChange, []).columns)


def step_tables(data: ReportData) -> list[TextTable]:
    """Levels and changes of whole tasks over steps; those of single parts are in the CSV file."""
    levels = complete(data.step_levels, COLUMNS)
    changes = complete(data.step_changes, CHANGE_COLUMNS)
    return [
        *text_table(
            "levels_over_steps",
            "Levels at every checkpoint",
            levels[levels["group"] == ALL_ITEMS],
            _level_row,
            f"{data.percent} intervals. clusters: t over the parts of a task; wilson: a proportion "
            "of documents; t: the mean of logged documents; normal: value and standard error of "
            "the harness. A dash means too little data.",
        ),
        *text_table(
            "changes_over_steps",
            "Changes from checkpoint to checkpoint",
            changes[changes["group"] == ALL_ITEMS],
            _change_row,
            f"Later minus earlier, paired over what both checkpoints were measured on, with "
            f"{data.percent} t intervals. Each p is of one change; there are many of them.",
        ),
    ]


def _level_row(row: Row) -> dict[str, str]:
    metric = str(row["metric"])
    return {
        **{name: str(row[name]) for name in ("model", "task")},
        "metric": numbers.metric_name(metric),
        "revision": str(row["revision"]),
        "value": numbers.level(metric, row["value"]),
        "interval": numbers.level_interval(metric, row["low"], row["high"]),
        "kind": str(row["interval"]) or numbers.DASH,
        "items": numbers.count(row["num_items"]),
        "clusters": numbers.count(row["num_clusters"] or None),
    }


def _change_row(row: Row) -> dict[str, str]:
    metric = str(row["metric"])
    return {
        **{name: str(row[name]) for name in ("model", "task")},
        "metric": numbers.metric_name(metric),
        "revision": f"{row['from_revision']} to {row['revision']}",
        "change": numbers.effect(metric, row["change"]),
        "interval": numbers.effect_interval(metric, row["low"], row["high"]),
        "p": numbers.probability(row["p"]),
        "pairs": f"{numbers.count(row['num_pairs'])} {row['paired_by']}",
    }


def main_metrics(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of accuracy where a task has it, else of all its metrics."""
    has_accuracy = (rows["metric"] == "accuracy").groupby(rows["task"]).transform("any")
    return rows[(rows["metric"] == "accuracy") | ~has_accuracy.astype(bool)]


def step_summary(levels: pd.DataFrame, confidence: float) -> RenderableType:
    """The first and the last checkpoint of every model for the terminal, one table per task.

    Args:
        levels: columns are the fields of :class:`sweeper.aggregate.step_levels.StepLevel`.
        confidence: of the intervals, for the heading.
    """
    whole = main_metrics(levels[levels["group"] == ALL_ITEMS])
    # Tasks that are made of others first: they say most in one number.
    made = (whole["source"] == "parts").groupby(whole["task"]).transform("any").astype(bool)
    ordered = pd.concat([whole[made], whole[~made]])
    panels = list(ordered.groupby(["task", "metric"], sort=False))
    shown: list[RenderableType] = [
        _summary_table(str(task), str(metric), rows, confidence)
        for (task, metric), rows in panels[:MAX_TABLES]
    ]
    left = len(levels) - sum(len(rows) for _, rows in panels[:MAX_TABLES])
    if left:
        shown.append(Text(f"All {len(levels)} levels: --csv FILE.", "dim"))
    return Group(*shown) if shown else Text("No results yet.")


def _summary_table(task: str, metric: str, rows: pd.DataFrame, confidence: float) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD,
        title=Text(f"\n{task}: {numbers.metric_name(metric)}", style="bold"),
        title_justify="left",
        caption_justify="left",
        pad_edge=False,
    )
    table.add_column("model", overflow="fold", min_width=12)
    for name in ("first", "last"):
        table.add_column(name, no_wrap=True)
        table.add_column(f"value and {100 * confidence:g} % interval", no_wrap=True)
    for model, of_model in rows.groupby("model", sort=False):
        ends = of_model.iloc[[0, -1]].to_dict("records")
        table.add_row(Text(str(model)), *(cell for end in ends for cell in _end(end)))
    table.caption = Text(_basis(rows))
    return table


def _end(row: Row) -> tuple[Text, Text]:
    metric = str(row["metric"])
    interval = numbers.level_interval(metric, row["low"], row["high"])
    return Text(str(row["revision"])), Text(f"{numbers.level(metric, row['value'])} {interval}")


def _basis(rows: pd.DataFrame) -> str:
    """What the intervals of a table rest on, and how many checkpoints there are."""
    counts = sorted(rows.groupby("model")["revision"].nunique().unique())
    span = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    checkpoints = f"; {span} checkpoints of each model"
    last = rows.iloc[-1]
    if last["source"] == "parts":
        parts = numbers.count(last["num_clusters"])
        return f"mean of {parts} parts, which are the clusters{checkpoints}"
    items = numbers.count(last["num_items"])
    basis = "value and standard error" if items == numbers.DASH else f"{items} documents"
    return f"{basis}{checkpoints}"
