"""Figure of levels: every task under every condition, in the metric's own unit."""

import altair as alt
import pandas as pd

from sweeper.report.data import (
    ALL_ITEMS,
    CHECKPOINT,
    LEVEL_COLUMNS,
    ReportData,
    checkpoint_name,
    complete,
    first_checkpoints,
    of_checkpoints,
    unswept,
)
from sweeper.report.figure import Figure, side_by_side
from sweeper.report.figure_effects import LOG_ABOVE
from sweeper.report.numbers import metric_name, on_axis
from sweeper.report.theme import INK, Chart, Palette

TITLES = {"accuracy": "accuracy (%)", "nll": "perplexity", "margin": "margin (nats)"}


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Levels of every task, one panel each."""
    levels = unswept(complete(data.levels, LEVEL_COLUMNS))
    shown, note = first_checkpoints(levels)
    chart = level_chart(of_checkpoints(levels, shown), palette)
    if chart is None:
        return []
    caption = (
        f"Absolute values over all items: accuracy where a task has it, else its other metrics. "
        f"Line: cluster-robust {data.percent} interval of the value itself. Items differ far more "
        "than conditions do, so compare conditions by their paired effects, never by the overlap "
        f"of these lines. Random controls: mean over seeds. Dashed: baseline.{note}"
    )
    return [Figure(name="levels", title="Tasks under each condition", caption=caption, chart=chart)]


def level_chart(levels: pd.DataFrame, palette: Palette) -> Chart | None:
    """Value with interval by condition over all items, one panel per task.

    Args:
        levels: columns are the fields of :class:`sweeper.aggregate.levels.Level`.
        palette: of all conditions of the report.

    Returns:
        The chart; None when there is nothing to draw.
    """
    frame = complete(levels, LEVEL_COLUMNS)
    whole = frame[frame["group"] == ALL_ITEMS]
    panels = [
        _panel(_marks(rows, str(metric)), (str(task), str(metric)), palette)
        for task, of_task in whole.groupby("task", sort=False)
        for metric, rows in of_task.groupby("metric", sort=False)
        if metric == "accuracy" or "accuracy" not in set(of_task["metric"])
    ]
    if not panels:
        return None
    return side_by_side(panels)


def _marks(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    marks = rows[["condition", "is_baseline"]].copy()
    for column, source in (("value", "value"), ("low", "cluster_low"), ("high", "cluster_high")):
        marks[column] = on_axis(rows[source], metric)
    names = rows[CHECKPOINT].itertuples(index=False)
    marks["checkpoint"] = [checkpoint_name(model, revision) for model, revision in names]
    is_baseline = rows["is_baseline"].astype(bool)
    base = marks[is_baseline].groupby("checkpoint", sort=False)["value"].first()
    marks["reference"] = marks["checkpoint"].map(base).astype(float)
    return marks


def _panel(marks: pd.DataFrame, panel: tuple[str, str], palette: Palette) -> alt.FacetChart:
    task, metric = panel
    conditions = palette.order(marks["condition"])
    colour, shape = palette.scales(conditions)
    baselines = sorted(set(marks["condition"]) - set(conditions))
    order = [*baselines, *conditions]
    colour.domain, shape.domain = order, order
    colour.range = [*[INK] * len(baselines), *colour.range]
    shape.range = [*["circle"] * len(baselines), *shape.range]
    wide = metric == "nll" and marks["value"].max() > LOG_ABOVE * marks["value"].min()
    title = TITLES.get(metric, metric_name(metric)) + (", log scale" if wide else "")
    scale = alt.Scale(type="log") if wide else alt.Scale(zero=False)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", title=title, scale=scale)

    base = alt.Chart().encode(
        y=alt.Y("condition:N", sort=order, title=None, scale=alt.Scale(domain=order)),
        color=alt.Color("condition:N", scale=colour, legend=None),
    )
    layers = [
        alt.Chart().mark_rule(strokeDash=[4, 3], color="#555555").encode(x=x("mean(reference)")),
        base.mark_rule(strokeWidth=2).encode(x=x("low"), x2="high:Q"),
        base.mark_point(size=80, filled=True, opacity=1).encode(
            x=x("value"), shape=alt.Shape("condition:N", scale=shape, legend=None)
        ),
    ]
    names = list(marks["checkpoint"].unique())
    header = alt.Header(labelOrient="top", labelAnchor="start", title=None)
    return (
        alt.layer(*layers, data=marks)
        .properties(width=310, height=alt.Step(26))
        .facet(row=alt.Row("checkpoint:N", sort=names, header=header), spacing=18)
        .properties(title=f"{task}: {metric_name(metric)}")
    )
