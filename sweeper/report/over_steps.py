"""What figures over training share: the axis of steps, and panels of a cohort and the rest."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from sweeper.report.data import COHORT_COLUMNS, ReportData, complete
from sweeper.report.theme import RANDOM_COLOURS, TARGET_COLOURS, Chart

TICKS = (0, *(10**power for power in range(9)))
"""Steps that the axis names."""
TICK_WORDS = (
    "datum.value < 1000 ? format(datum.value, 'd') : "
    "datum.value < 1e6 ? format(datum.value / 1e3, '~r') + 'k' : "
    "format(datum.value / 1e6, '~r') + 'M'"
)
"""How an axis or a legend writes a step; Vega's own short form has one unit for all of them."""
MAX_POINTS = 40
"""Most revisions that are marked one by one."""
MAX_PANELS = 12
"""Most panels of a figure; the tables have everything."""
WIDTH, HEIGHT = 400, 230
PARTS = {"cohort": "cohort", "rest": "rest of its layers"}


def has_steps(rows: pd.DataFrame) -> bool:
    """Whether every revision tells its training step."""
    return bool(rows["step"].notna().all())


def step_axis(rows: pd.DataFrame) -> alt.X:
    """The horizontal axis: log(1 + step), which shows step 0; without steps the revisions in order.

    Args:
        rows: step, revision and place; all that the panel draws.
    """
    if not has_steps(rows):
        order = rows.sort_values("place", kind="stable")["revision"].drop_duplicates().tolist()
        axis = alt.Axis(labelAngle=-45, labelOverlap=True)
        return alt.X("revision:N", sort=order, title="revision", axis=axis)
    first, last = int(rows["step"].min()), int(rows["step"].max())
    values = [tick for tick in TICKS if first <= tick <= last]
    values = values or [first, last]
    # With fewer in mind Vega leaves out labels of logarithmic axes.
    axis = alt.Axis(values=values, tickCount=len(values), labelExpr=TICK_WORDS, grid=False)
    scale = alt.Scale(type="symlog", constant=1, domain=[first, last], nice=False, padding=8)
    return alt.X("step:Q", title="training step, log(1 + step)", axis=axis, scale=scale)


def drawn(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The columns of a chart, with plain numbers in place of those that may be missing."""
    named = rows[[*columns, "revision", "place", "step"]]
    return named.assign(step=named["step"].astype("Float64").astype(float))


def cohort_panels(data: ReportData, statistic: str) -> list[tuple[str, pd.DataFrame]]:
    """Title and rows of each model and cohort that has a statistic at two revisions or more."""
    rows = complete(data.cohorts, COHORT_COLUMNS)
    rows = rows[(rows["statistic"] == statistic) & rows["mean"].notna()]
    return [
        (f"{model}: {cohort}", of_panel)
        for (model, cohort), of_panel in rows.groupby(["model", "cohort"], sort=False)
        if of_panel["revision"].nunique() > 1
    ]


def note_of(num_panels: int) -> str:
    """What a figure of so many panels leaves out."""
    if num_panels <= MAX_PANELS:
        return ""
    return f" The first {MAX_PANELS} of {num_panels} panels are drawn; the tables have all of them."


def cohort_chart(
    rows: pd.DataFrame, title: str, y_title: str, *, zero: bool, reference: float | None = None
) -> Chart:
    """Mean and quartiles of a cohort and of the rest of its layers over steps.

    Args:
        rows: of ``CohortPoint``, of one model, cohort and statistic.
        title: above the panel.
        y_title: of the vertical axis.
        zero: whether that begins at 0.
        reference: a value that is marked by a dashed line.
    """
    marks = drawn(rows, ["part", "mean", "first", "third"])
    marks = marks.assign(part=marks["part"].map(PARTS), reference=reference)
    names = list(PARTS.values())
    legend = alt.Legend(title=None, symbolOpacity=1)
    scale = alt.Scale(domain=names, range=[TARGET_COLOURS[1], RANDOM_COLOURS[0]])
    shapes = alt.Scale(domain=names, range=["circle", "triangle-down"])
    tint = alt.Color("part:N", scale=scale, legend=legend)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title=y_title, scale=alt.Scale(zero=zero))

    base = alt.Chart(marks).encode(x=step_axis(marks))
    layers = [
        base.mark_area(opacity=0.18).encode(y=y("first"), y2="third:Q", color=tint),
        base.mark_line(strokeWidth=1.8).encode(y=y("mean"), color=tint),
    ]
    if marks["revision"].nunique() <= MAX_POINTS:
        points = base.mark_point(size=40, filled=True, opacity=1)
        form = alt.Shape("part:N", scale=shapes, legend=legend)
        layers.append(points.encode(y=y("mean"), color=tint, shape=form))
    if reference is not None:
        line = alt.Chart(marks).mark_rule(strokeDash=[4, 3], color="#555555")
        layers.insert(0, line.encode(y=y("mean(reference)")))
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title)
