"""Figures of conditions that are repeated for groups of layers: heat map and lines."""

import altair as alt
import pandas as pd

from sweeper.report.data import (
    ALL_ITEMS,
    ESTIMATE_COLUMNS,
    ReportData,
    checkpoint_name,
    complete,
    first_checkpoints,
    layers_name,
    of_checkpoints,
    swept,
    with_family,
)
from sweeper.report.figure import Figure
from sweeper.report.figure_effects import effect_title
from sweeper.report.numbers import metric_name, on_axis
from sweeper.report.theme import DIVERGING, INK, Chart, Palette

MAX_TEXT_COLUMNS = 16
"""Most groups of layers whose cells have their number written in."""
SINGLE, CUMULATIVE = "single groups", "cumulative"


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Heat map and lines of each of the first checkpoints that has a sweep over layers."""
    estimates = layer_rows(data.estimates)
    shown, note = first_checkpoints(estimates)
    found = []
    for number, pair in enumerate(shown):
        rows, name = of_checkpoints(estimates, [pair]), checkpoint_name(*pair)
        heat = heat_chart(rows, palette)
        if heat is not None:
            caption = (
                "Effect on accuracy in percentage points against the baseline, for each group of "
                f"layers alone and for the first groups together. Framed: the {data.percent} band, "
                "simultaneous over the layer groups of that phenomenon and condition, leaves out "
                f"0. Random controls are left out.{note}"
            )
            title = f"Effect by layers and phenomenon: {name}"
            stem = f"layers_phenomena_{number + 1}"
            found.append(Figure(name=stem, title=title, caption=caption, chart=heat))
        caption = (
            f"Effect over all items against the baseline. Shaded: {data.percent} band, "
            "simultaneous over the layer groups of a condition. Grey: random controls. Dashed: no "
            f"effect.{note}"
        )
        title = f"Effect by layers: {name}"
        chart = line_chart(rows, palette)
        if chart is not None:
            stem = f"layers_{number + 1}"
            found.append(Figure(name=stem, title=title, caption=caption, chart=chart))
    return found


def layer_rows(estimates: pd.DataFrame) -> pd.DataFrame:
    """Effects of groups of layers with ``layers`` (their name) and ``sweep`` (single, cumulative).

    A family is cumulative when it has several groups and all begin with the first layer.
    """
    rows = with_family(swept(complete(estimates, ESTIMATE_COLUMNS)))
    rows = rows.astype({"first_layer": "int64", "last_layer": "int64"})
    rows["layers"] = [
        layers_name(first, last)
        for first, last in rows[["first_layer", "last_layer"]].itertuples(index=False)
    ]
    family = rows.groupby(["model", "revision", "family"])
    several = family["layers"].transform("nunique") > 1
    together = several & (family["first_layer"].transform("nunique") == 1)
    rows["sweep"] = together.map({True: CUMULATIVE, False: SINGLE})
    return rows.sort_values(["last_layer", "first_layer"], kind="stable")


def heat_chart(rows: pd.DataFrame, palette: Palette) -> Chart | None:
    """Groups of layers x phenomena, one panel for each task and family.

    Args:
        rows: of one checkpoint, of :func:`layer_rows`.
        palette: of all conditions of the report.

    Returns:
        The chart; None without accuracy of a target.
    """
    cells = rows[(rows["metric"] == "accuracy") & ~rows["family"].isin(list(palette.random))]
    # A task without phenomena has nothing to be a row.
    grouped = set(cells.loc[cells["group"] != ALL_ITEMS, "task"])
    cells = cells[cells["task"].isin(grouped)].assign(points=_points)
    if cells.empty:
        return None
    bands = cells[["band_low", "band_high"]].astype(float)
    cells["beyond"] = (bands["band_low"] > 0) | (bands["band_high"] < 0)
    reach = float(cells["points"].abs().max()) or 1.0
    colour = alt.Scale(domain=[-reach, -reach / 2, 0, reach / 2, reach], range=list(DIVERGING))
    panels = [
        _heat_panel(cells[(cells["task"] == task) & (cells["family"] == family)], colour)
        for task in dict.fromkeys(cells["task"])
        for family in palette.order(cells.loc[cells["task"] == task, "family"])
    ]
    return alt.concat(*panels, columns=2, spacing={"row": 30, "column": 30})


def _points(cells: pd.DataFrame) -> pd.Series:
    """Effects in percentage points, as they are written in: nothing reads −0.0."""
    return (100 * cells["effect"].astype(float)).round(1) + 0.0


def _heat_panel(cells: pd.DataFrame, colour: alt.Scale) -> Chart:
    first = cells.iloc[0]
    groups = sorted(set(cells["group"]) - {ALL_ITEMS})
    columns = list(dict.fromkeys(cells["layers"]))
    columns_names = ["task", "family", "layers", "group", "points", "beyond"]
    base = alt.Chart(cells[columns_names]).encode(
        x=alt.X("layers:N", sort=columns, title="layers", axis=alt.Axis(labelAngle=-45)),
        y=alt.Y("group:N", sort=[ALL_ITEMS, *groups], title=None),
    )
    legend = alt.Legend(title="effect (percentage points)", gradientLength=220, format="+.3~g")
    tint = alt.Color("points:Q", scale=colour, legend=legend)
    frame = base.transform_filter("datum.beyond").mark_rect(filled=False, stroke=INK, strokeWidth=2)
    layers = [base.mark_rect(stroke="#FFFFFF", strokeWidth=1).encode(color=tint), frame]
    if len(columns) <= MAX_TEXT_COLUMNS:
        dark = alt.expr.abs(alt.datum.points) > 0.8 * float(colour.domain[-1])
        words = base.mark_text(fontSize=10).encode(
            text=alt.Text("points:Q", format="+.1f"),
            color=alt.condition(dark, alt.value("#FFFFFF"), alt.value(INK)),
        )
        layers.append(words)
    step = 40 if len(columns) <= MAX_TEXT_COLUMNS else max(560 / len(columns), 6)
    title = f"{first['task']}: {first['family']}, {first['sweep']}"
    size = {"width": alt.Step(step), "height": alt.Step(20)}
    return alt.layer(*layers).properties(**size, title=title)


def line_chart(rows: pd.DataFrame, palette: Palette) -> Chart | None:
    """Effect over all items by group of layers with its band, one panel per task and metric.

    Args:
        rows: of one checkpoint, of :func:`layer_rows`.
        palette: of all conditions of the report.

    Returns:
        The chart; None without rows over all items.
    """
    whole = rows[(rows["group"] == ALL_ITEMS) & (rows["metric"] != "margin")]
    names = palette.order(whole["family"])
    panels = [
        _line_panel(of_panel, (str(task), str(metric), str(sweep)), names, palette)
        for (task, metric, sweep), of_panel in whole.groupby(
            ["task", "metric", "sweep"], sort=False
        )
    ]
    return alt.concat(*panels, columns=2, spacing={"row": 30, "column": 30}) if panels else None


def _line_panel(
    rows: pd.DataFrame, panel: tuple[str, str, str], names: list[str], palette: Palette
) -> Chart:
    task, metric, sweep = panel
    marks = rows[["family", "layers"]].copy()
    for column in ("effect", "band_low", "band_high"):
        marks[column] = on_axis(rows[column], metric)
    marks["reference"] = 1.0 if metric == "nll" else 0.0
    colour, shape = palette.scales(names)
    columns = list(dict.fromkeys(marks["layers"]))
    legend = alt.Legend(title=None, columns=3, symbolOpacity=1)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title=_broken(effect_title(metric)), scale=alt.Scale(zero=False))

    base = alt.Chart(marks).encode(
        x=alt.X(
            "layers:N",
            sort=columns,
            title="layers",
            axis=alt.Axis(labelAngle=-45, labelOverlap=True),
        ),
    )
    tint = alt.Color("family:N", scale=colour, legend=legend)
    zero = alt.Chart(marks).mark_rule(strokeDash=[4, 3], color="#555555")
    return alt.layer(
        zero.encode(y=y("mean(reference)")),
        base.mark_area(opacity=0.18).encode(y=y("band_low"), y2="band_high:Q", color=tint),
        base.mark_line(strokeWidth=1.8).encode(y=y("effect"), color=tint),
        base.mark_point(size=50, filled=True, opacity=1).encode(
            y=y("effect"), color=tint, shape=alt.Shape("family:N", scale=shape, legend=legend)
        ),
    ).properties(width=400, height=240, title=f"{task}: {metric_name(metric)}, {sweep}")


def _broken(title: str) -> list[str]:
    """A title in two lines: what it is, and its unit."""
    words, bracket, unit = title.partition(" (")
    return [words, f"({unit}"] if bracket else [words]
