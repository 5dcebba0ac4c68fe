"""Figures of levels over training: what each model can do at every checkpoint."""

import re
from collections.abc import Callable

import altair as alt
import numpy as np
import pandas as pd

from sweeper.aggregate.step_levels import COLUMNS
from sweeper.report.data import ALL_ITEMS, TRAJECTORY_COLUMNS, ReportData, complete
from sweeper.report.figure import Figure, side_by_side
from sweeper.report.figure_conditions import TITLES
from sweeper.report.figure_effects import LOG_ABOVE
from sweeper.report.numbers import metric_name, on_axis
from sweeper.report.over_steps import HEIGHT, MAX_PANELS, MAX_POINTS, WIDTH, note_of, step_axis
from sweeper.report.step_tables import main_metrics
from sweeper.report.theme import RANDOM_COLOURS, TARGET_COLOURS, TARGET_SHAPES, Chart, Palette

MAX_MODELS = len(TARGET_COLOURS)
"""Most models in one panel; more have a panel each."""
MAX_TASKS = 4
"""Most tasks with a figure of their own, one panel for each model."""
LEFT_OUT = ("margin", "acc_norm", "shifted")
"""Metrics beside another one of the same task."""
SMALL = {"width": 170, "height": 130}
MODELS_IN_A_ROW = 4
PLACE = ["model", "revision", "step", "task", "metric"]
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kmb])(?![a-z])", re.IGNORECASE)
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9}
INTERVALS = (
    "Shaded: {percent} interval of each checkpoint alone, over the parts of a task (BLiMP's "
    "paradigms) or over documents. Checkpoints share their documents, so a change may be certain "
    "where intervals overlap; tables of changes pair them."
)


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Levels by step: a panel for each task, or for each model where they are many."""
    del palette  # colours tell models here, not conditions
    rows = level_rows(data)
    tasks = list(rows.groupby(["task", "metric"], sort=False))
    if not tasks:
        return []
    caption = INTERVALS.format(percent=data.percent)
    models = sorted(rows["model"].unique(), key=by_size)
    if len(models) <= MAX_MODELS:
        charts = [task_chart(of_task, models) for _, of_task in tasks[:MAX_PANELS]]
        note = note_of(len(tasks))
        title = "Levels over training"
        chart = side_by_side(charts)
        return [Figure(name="levels_over_steps", title=title, caption=caption + note, chart=chart)]
    note = ""
    if len(tasks) > MAX_TASKS:
        note = f" The first {MAX_TASKS} of {len(tasks)} tasks are drawn; the tables have all."
    return [
        Figure(
            name=f"levels_over_steps_{number + 1}",
            title=f"Levels over training: {task}, {metric_name(str(metric))}",
            caption=f"{caption} Grey: the other models.{note}",
            chart=models_chart(of_task),
        )
        for number, ((task, metric), of_task) in enumerate(tasks[:MAX_TASKS])
    ]


def level_rows(data: ReportData) -> pd.DataFrame:
    """Levels of whole tasks at checkpoints that tell their step, of models that have several.

    Of imported results, and of the baseline in runs over several revisions. Tasks that are made of
    others come first; a task with accuracy shows that, another one all its metrics.
    """
    native = complete(data.trajectories, TRAJECTORY_COLUMNS)
    native = native[native["quantity"] == "level"]
    imported = complete(data.step_levels, COLUMNS)
    kept = [*PLACE, "group", "value", "low", "high"]
    frames = [frame for frame in (imported, native) if not frame.empty]
    rows = pd.concat([frame[kept] for frame in frames]) if frames else imported[kept]
    rows = rows[(rows["group"] == ALL_ITEMS) & rows["step"].notna() & rows["value"].notna()]
    rows = main_metrics(rows)
    alone = rows.groupby("task")["metric"].transform("nunique") == 1
    rows = rows[alone | ~rows["metric"].isin(LEFT_OUT)]
    several = rows.groupby(["model", "task", "metric"])["step"].transform("nunique") > 1
    rows = rows[several]
    made = imported.loc[imported["source"] == "parts", "task"]
    order = (~rows["task"].isin(made)).rename("alone")
    return rows.assign(alone=order).sort_values(["alone", "task", "metric", "step"], kind="stable")


def task_chart(rows: pd.DataFrame, models: list[str]) -> Chart:
    """Levels of all models on one metric of a task over steps.

    Args:
        rows: of :func:`level_rows`, of one task and metric.
        models: all of the figure, for the same colours in all panels.
    """
    metric, marks = str(rows["metric"].iloc[0]), _marks(rows)
    legend = alt.Legend(title=None, columns=2, symbolOpacity=1)
    scale = alt.Scale(domain=models, range=list(TARGET_COLOURS[: len(models)]))
    shapes = [TARGET_SHAPES[place % len(TARGET_SHAPES)] for place in range(len(models))]
    tint = alt.Color("model:N", scale=scale, legend=legend)
    form = alt.Shape("model:N", scale=alt.Scale(domain=models, range=shapes), legend=legend)
    base = alt.Chart(marks).encode(x=step_axis(marks))
    y = _axis(marks, metric)
    layers = [
        base.mark_area(opacity=0.16).encode(y=y("low"), y2="high:Q", color=tint),
        base.mark_line(strokeWidth=1.8).encode(y=y("value"), color=tint),
    ]
    if marks["revision"].nunique() <= MAX_POINTS:
        points = base.mark_point(size=40, filled=True, opacity=1)
        layers.append(points.encode(y=y("value"), color=tint, shape=form))
    title = f"{rows['task'].iloc[0]}: {metric_name(metric)}"
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title)


def models_chart(rows: pd.DataFrame) -> Chart:
    """Levels of many models on one metric of a task: a panel for each, the others in grey.

    Args:
        rows: of :func:`level_rows`, of one task and metric.
    """
    metric, marks = str(rows["metric"].iloc[0]), _marks(rows)
    y, x = _axis(marks, metric), step_axis(marks)
    every = alt.Chart(marks).mark_line(strokeWidth=0.8, opacity=0.55, color=RANDOM_COLOURS[1])
    context = every.encode(x=x, y=y("value"), detail="model:N")
    tint = alt.value(TARGET_COLOURS[0])
    panels = []
    for model in sorted(marks["model"].unique(), key=by_size):
        base = alt.Chart(marks[marks["model"] == model]).encode(x=x, color=tint)
        layers = [
            context,
            base.mark_area(opacity=0.22).encode(y=y("low"), y2="high:Q"),
            base.mark_line(strokeWidth=1.8).encode(y=y("value")),
            base.mark_point(size=22, filled=True, opacity=1).encode(y=y("value")),
        ]
        panels.append(alt.layer(*layers).properties(**SMALL, title=model))
    spacing = {"row": 16, "column": 16}
    joined: Chart = alt.concat(*panels, columns=MODELS_IN_A_ROW, spacing=spacing)
    return joined


def by_size(model: str) -> tuple[float, str]:
    """Order of models: by the number of parameters that a name tells, then by the name."""
    found = _SIZE.search(model)
    return (float(found[1]) * _UNITS[found[2].lower()] if found else 0.0), model


def _marks(rows: pd.DataFrame) -> pd.DataFrame:
    """What is drawn, in the unit of the axis."""
    marks = rows[["model", "revision"]].copy()
    marks["step"] = rows["step"].astype(float)
    for column in ("value", "low", "high"):
        marks[column] = on_axis(rows[column], str(rows["metric"].iloc[0]))
    return marks


def _axis(marks: pd.DataFrame, metric: str) -> Callable[[str], alt.Y]:
    """The vertical axis, the same in every panel that has these marks."""
    numbers = marks[["value", "low", "high"]].to_numpy(dtype=np.float64)
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    title = TITLES.get(metric, metric_name(metric))
    scale = alt.Scale(zero=False, domain=[low, high])
    is_wide = marks["value"].max() > LOG_ABOVE * marks["value"].min()
    if low > 0 and is_wide and ("perplexity" in metric or metric in ("nll", "ppl")):
        title, scale = f"{title}, log scale", alt.Scale(type="log", domain=[low, high])
    return lambda field: alt.Y(f"{field}:Q", title=title, scale=scale)
