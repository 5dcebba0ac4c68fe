"""Figure of a cohort's WD against what the model can do, revision by revision."""

import altair as alt
import pandas as pd

from sweeper.report import numbers
from sweeper.report.data import (
    ALL_ITEMS,
    COHORT_COLUMNS,
    CORRELATION_COLUMNS,
    TRAJECTORY_COLUMNS,
    ReportData,
    complete,
)
from sweeper.report.figure import Figure
from sweeper.report.figure_steps import LEFT_OUT
from sweeper.report.numbers import metric_name, on_axis
from sweeper.report.over_steps import (
    HEIGHT,
    MAX_PANELS,
    TICK_WORDS,
    TICKS,
    drawn,
    has_steps,
    note_of,
)
from sweeper.report.theme import GRID, Chart, Palette

PANEL = ["model", "cohort", "task", "metric"]
EARLY_LATE = ["#BBD0E6", "#0B3C6B"]
"""Colours of the first and the last step."""
WIDTH = 300


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Mean WD of every cohort against the baseline's level of every task."""
    del palette  # colours tell steps here, not conditions
    rows = joined(data)
    panels = [
        (names, of_panel)
        for names, of_panel in rows.groupby(PANEL, sort=False)
        if len(of_panel) > 1
    ]
    if not panels:
        return []
    found = complete(data.correlations, CORRELATION_COLUMNS)
    whole = found[found["group"] == ALL_ITEMS]
    charts = [
        _panel(of_panel, (str(model), str(cohort), str(task), str(metric)), whole)
        for (model, cohort, task, metric), of_panel in panels[:MAX_PANELS]
    ]
    caption = (
        "Each point is a revision: the mean Wasserstein distance of a set that is the same at all "
        "revisions, and the level of the model without a clamp with its cluster-robust "
        f"{data.percent} interval. The line follows training. r: Pearson's correlation over the "
        "revisions (of a perplexity, with its logarithm); its "
        f"{data.percent} interval takes the items' clusters as random and the "
        "revisions as they are. Two series that both grow in training correlate whatever their "
        f"cause.{note_of(len(panels))}"
    )
    joint = alt.concat(*charts, columns=2, spacing={"row": 30, "column": 30})
    chart = joint.resolve_scale(color="independent")
    title = "Wasserstein distance of a cohort and what the model can do"
    return [Figure(name="wd_accuracy", title=title, caption=caption, chart=chart)]


def joined(data: ReportData) -> pd.DataFrame:
    """One row per cohort, task, metric and revision: ``wd`` and the level with its interval."""
    cohorts = complete(data.cohorts, COHORT_COLUMNS)
    wd = cohorts[(cohorts["statistic"] == "wd") & (cohorts["part"] == "cohort")]
    wd = wd.rename(columns={"mean": "wd"})[["model", "revision", "cohort", "wd"]]
    points = complete(data.trajectories, TRAJECTORY_COLUMNS)
    levels = points[(points["quantity"] == "level") & (points["group"] == ALL_ITEMS)]
    levels = levels[~levels["metric"].isin(LEFT_OUT)]
    both = levels.merge(wd, on=["model", "revision"]).dropna(subset=["wd", "value"])
    return both.sort_values("place", kind="stable")


def _panel(rows: pd.DataFrame, names: tuple[str, str, str, str], found: pd.DataFrame) -> Chart:
    model, cohort, task, metric = names
    marks = drawn(rows, ["wd"])
    for column in ("value", "low", "high"):
        marks[column] = on_axis(rows[column], metric)
    unit = {"accuracy": " (%)", "nll": ", log scale"}.get(metric, "")
    scale = alt.Scale(type="log", nice=False) if metric == "nll" else alt.Scale(zero=False)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title=f"{metric_name(metric)}{unit}", scale=scale)

    x = alt.X("wd:Q", title=f"mean WD of {cohort}", scale=alt.Scale(zero=False))
    base = alt.Chart(marks).encode(x=x)
    path = base.mark_line(color="#999999", strokeWidth=1).encode(y=y("value"), order="place:Q")
    bars = base.mark_rule(color="#999999").encode(y=y("low"), y2="high:Q")
    points = base.mark_point(size=55, filled=True, opacity=1, stroke=GRID, strokeWidth=0.5)
    chart = alt.layer(path, bars, points.encode(y=y("value"), color=_colour(marks)))
    keep = (found[PANEL] == list(names)).all(axis=1)
    title = alt.Title(f"{model}: {task}", subtitle=_words(found[keep]), subtitleFontSize=12)
    return chart.properties(width=WIDTH, height=HEIGHT, title=title)


def _colour(marks: pd.DataFrame) -> alt.Color:
    if not has_steps(marks):
        return alt.Color("place:Q", title="revision", scale=alt.Scale(range=EARLY_LATE))
    last = marks["step"].max()
    legend = alt.Legend(
        title="step",
        labelExpr=TICK_WORDS,
        values=[tick for tick in TICKS if tick <= last],
        gradientLength=220,
    )
    scale = alt.Scale(type="symlog", constant=1, range=EARLY_LATE)
    return alt.Color("step:Q", scale=scale, legend=legend)


def _words(found: pd.DataFrame) -> str:
    """The correlation in a few words."""
    if found.empty or numbers.is_missing(found["pearson"].iloc[0]):
        return "too few revisions for a correlation, or no change"
    row = found.iloc[0]
    r = numbers.fixed(row["pearson"], 2)
    interval = numbers.between(row["pearson_low"], row["pearson_high"], 2)
    return f"r = {r} {interval}, {numbers.count(row['num_revisions'])} revisions"
