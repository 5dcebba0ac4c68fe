"""Figure of effects over training: each revision's interval, and a band for all of them."""

import altair as alt
import pandas as pd

from sweeper.report.data import ALL_ITEMS, TRAJECTORY_COLUMNS, ReportData, complete, unswept
from sweeper.report.figure import Figure, side_by_side
from sweeper.report.figure_effects import LOG_ABOVE, effect_title
from sweeper.report.numbers import metric_name, on_axis
from sweeper.report.over_steps import (
    HEIGHT,
    MAX_PANELS,
    MAX_POINTS,
    WIDTH,
    drawn,
    note_of,
    step_axis,
)
from sweeper.report.theme import Chart, Palette

ENDS = ("low", "high", "band_low", "band_high")
LEFT_OUT = ("margin", "shifted")
"""Metrics beside another one of the same task."""


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Effect over all items by step, one panel for each model, task and metric."""
    rows = unswept(complete(data.trajectories, TRAJECTORY_COLUMNS))
    rows = rows[(rows["quantity"] == "effect") & (rows["group"] == ALL_ITEMS)]
    rows = rows[~rows["metric"].isin(LEFT_OUT) & (rows["num_revisions"].astype(float) > 1)]
    panels = list(rows.groupby(["model", "task", "metric"], sort=False))
    if not panels:
        return []
    charts = [
        steps_chart(of_panel, f"{model}: {task}, {metric_name(str(metric))}", palette)
        for (model, task, metric), of_panel in panels[:MAX_PANELS]
    ]
    caption = (
        "Effect against the baseline of the same revision, all items. Vertical lines: "
        f"{data.percent} interval of that revision alone, cluster-robust over items. Shaded: "
        f"{data.percent} band, simultaneous over all revisions of a condition: the claim that an "
        "effect is there at some step, or begins at one, needs the band. Where a clamp changes "
        "items in too few clusters there is no band. Random controls (grey) are means over seeds. "
        f"Dashed: no effect.{note_of(len(panels))}"
    )
    title = "Effect over training"
    return [Figure(name="steps", title=title, caption=caption, chart=side_by_side(charts))]


def steps_chart(rows: pd.DataFrame, title: str, palette: Palette) -> Chart:
    """Effects of all conditions on one metric of a model over steps.

    Args:
        rows: of ``TrajectoryPoint``, effects on one metric of one model and task.
        title: above the panel.
        palette: of all conditions of the report.
    """
    metric = str(rows["metric"].iloc[0])
    marks = drawn(rows, ["condition"])
    for column in ("value", *ENDS):
        marks[column] = on_axis(rows[column], metric)
    marks["reference"] = 1.0 if metric == "nll" else 0.0
    names = palette.order(marks["condition"])
    colour, shape = palette.scales(names)
    legend = alt.Legend(title=None, columns=3, symbolOpacity=1)
    tint = alt.Color("condition:N", scale=colour, legend=legend)
    scale = _scale(marks, metric)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title=effect_title(metric), scale=scale)

    base = alt.Chart(marks).encode(x=step_axis(marks))
    zero = alt.Chart(marks).mark_rule(strokeDash=[4, 3], color="#555555")
    layers = [
        zero.encode(y=y("mean(reference)")),
        base.mark_area(opacity=0.16).encode(y=y("band_low"), y2="band_high:Q", color=tint),
        base.mark_rule(strokeWidth=1.2).encode(y=y("low"), y2="high:Q", color=tint),
        base.mark_line(strokeWidth=1.8).encode(y=y("value"), color=tint),
    ]
    if marks["revision"].nunique() <= MAX_POINTS:
        points = base.mark_point(size=40, filled=True, opacity=1)
        form = alt.Shape("condition:N", scale=shape, legend=legend)
        layers.append(points.encode(y=y("value"), color=tint, shape=form))
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title)


def _scale(marks: pd.DataFrame, metric: str) -> alt.Scale:
    if metric == "nll" and (marks["value"] > LOG_ABOVE).any():
        return alt.Scale(type="log", nice=False)
    return alt.Scale(zero=False)
